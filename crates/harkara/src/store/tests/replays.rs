//! The events that replay jobs go through.

use std::collections::BTreeSet;

use harkara_core::delivery::Withheld;
use harkara_core::replay::{Definition, Page, Standing};

use super::*;

fn definition(states: impl Into<BTreeSet<Standing>>) -> Definition {
    Definition {
        endpoint_id: ep("ep_1"),
        to_endpoint_id: ep("ep_1"),
        event_names: BTreeSet::new(),
        states: states.into(),
        from: None,
        to: None,
        rate: 50,
    }
}

fn positions(page: &Page) -> String {
    let found = page
        .candidates
        .iter()
        .map(|found| found.position.to_string());
    format!(
        "[{}] up to {}",
        found.collect::<Vec<_>>().join(" "),
        page.looked_to
    )
}

#[tokio::test]
async fn candidates_come_in_order_and_no_page_looks_far() {
    let world = World::new().await;
    for n in 1..=6 {
        let name = format!("n{n}");
        let mut new = event(&name, "o-1");
        match n {
            // Nobody was to hear of these.
            2 | 3 => new.deliveries.clear(),
            4 | 6 => new.deliveries[0].withheld = Some(Withheld::SwitchedOff),
            _ => {}
        }
        let mut unit = Commit::new(ms(), at(n));
        unit.events.push(new);
        world.store.commit(unit).await.unwrap();
    }
    let mut table = String::new();
    let any = Arc::new(definition([Standing::Pending, Standing::Withheld]));
    let lost = Arc::new(definition(Standing::LOST));
    for (what, definition) in [("any", any), ("lost", lost)] {
        for (after, last, looks) in [(0, 6, 2), (2, 6, 2), (0, 6, 9), (4, 5, 9), (6, 6, 9)] {
            let page = world
                .store
                .replay_candidates(&ms(), definition.clone(), (after, last), looks)
                .await
                .unwrap();
            let found = positions(&page);
            table += &format!("{what:<4} after {after} to {last}, {looks} looks: {found}\n");
        }
    }
    insta::assert_snapshot!(table, @r"
    any  after 0 to 6, 2 looks: [1] up to 2
    any  after 2 to 6, 2 looks: [4] up to 4
    any  after 0 to 6, 9 looks: [1 4 5 6] up to 6
    any  after 4 to 5, 9 looks: [5] up to 5
    any  after 6 to 6, 9 looks: [] up to 6
    lost after 0 to 6, 2 looks: [4 6] up to 6
    lost after 2 to 6, 2 looks: [4 6] up to 6
    lost after 0 to 6, 9 looks: [4 6] up to 6
    lost after 4 to 5, 9 looks: [] up to 5
    lost after 6 to 6, 9 looks: [] up to 6
    ");
    assert_eq!(world.store.last_position(&ms()).await.unwrap(), 6);
    let nobody = MerchantId::new("nobody");
    assert_eq!(world.store.last_position(&nobody).await.unwrap(), 0);
}
