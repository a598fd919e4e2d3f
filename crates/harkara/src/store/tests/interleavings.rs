//! What holds for one order whatever is born and settled in whatever order: every waiting delivery
//! names an unsettled one, so nothing waits for ever.

use harkara_core::delivery::DeliveryState;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Born(OrderMode),
    /// Settles the nth claim that was ever made, taken over or not.
    Settle(usize, Outcome),
    /// Lets leases run out and claims anew.
    Claim,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Fails,
    GivesUp,
    Arrives,
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        4 => Just(OrderMode::Hold),
        3 => Just(OrderMode::Strict),
        1 => Just(OrderMode::None),
    ];
    let outcome = prop_oneof![
        Just(Outcome::Fails),
        Just(Outcome::GivesUp),
        Just(Outcome::Arrives)
    ];
    prop_oneof![
        2 => mode.prop_map(Step::Born),
        3 => (0..100_usize, outcome).prop_map(|(nth, outcome)| Step::Settle(nth, outcome)),
        1 => Just(Step::Claim),
    ]
}

pub(super) const ORPHANS: &str = "
    select d.delivery_id from deliveries d
    where (d.state = 'waiting') <> (d.waiting_on is not null)
       or (d.state = 'pending') <> (d.due_at is not null)
       or d.state = 'waiting' and not exists (
           select 1 from deliveries p
           where p.delivery = d.waiting_on
             and p.sequence < d.sequence and p.state in ('pending', 'waiting'))
    order by d.delivery_id";

async fn run(steps: Vec<Step>) {
    let world = World::new().await;
    let mut claims = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        // Longer apart than a lease, so that each claim may be taken over by the next.
        let now = at(i64::try_from(n).unwrap() * 60);
        match *step {
            Step::Born(mode) => {
                let mut unit = Commit::new(ms(), now);
                unit.lease_until = Some(now.plus(Duration::from_secs(30)));
                let mut new = event(&format!("d{n}"), "o-1");
                new.deliveries[0].order = mode;
                unit.events.push(new);
                claims.extend(world.store.commit(unit).await.unwrap().claimed);
            }
            Step::Settle(nth, outcome) => {
                let Some(claimed) = claims.get(nth % claims.len().max(1)) else {
                    continue;
                };
                let verdict = match outcome {
                    Outcome::Fails => Verdict::RetryAt(now),
                    Outcome::GivesUp => Verdict::Exhausted,
                    Outcome::Arrives => Verdict::Delivered,
                };
                world
                    .store
                    .settle(settle(claimed, verdict, now))
                    .await
                    .unwrap();
            }
            Step::Claim => claims.extend(world.claim(now, 100).await),
        }
        assert_eq!(world.list(ORPHANS).await, "", "after {:?}", &steps[..=n]);
    }
    finish(&world, at(1_000_000)).await;
}

/// However it stands, claiming and delivering empties the line.
pub(super) async fn finish(world: &World, mut now: Timestamp) {
    loop {
        now = now.plus(Duration::from_secs(60));
        let claimed = world.claim(now, 100).await;
        if claimed.is_empty() {
            break;
        }
        for claimed in claimed {
            world
                .store
                .settle(settle(&claimed, Verdict::Delivered, now))
                .await
                .unwrap();
        }
    }
    let left = world.store.counts(None).await.unwrap();
    assert_eq!((left.pending, left.waiting), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_waits_for_what_is_settled(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[test]
fn the_checker_sees_an_orphan() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        world.born("a", "o-1", None).await;
        world.born("b", "o-1", None).await;
        assert_eq!(world.delivery("b").await.state, DeliveryState::Waiting);
        let sql = "update deliveries set state = 'delivered' where delivery_id = ?1";
        world
            .store
            .write(move |pen| pen.execute(sql, params![b"a".to_vec()]))
            .await
            .unwrap();
        assert_eq!(world.list(ORPHANS).await, "a,b");
    });
}
