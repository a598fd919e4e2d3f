//! Who waits for whom in the line of one endpoint and order, as scripts and what they lead to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use harkara_core::delivery::DeliveryState;

use super::*;

/// Plays a script and shows the line after each step. Steps are `a hold` (a delivery is born in
/// that mode), `a 500`, `a gives up`, `a 200`; a `!` marks those that are overtaking.
async fn play(script: &[&str]) -> String {
    let world = World::new().await;
    let mut claims: BTreeMap<String, Claimed> = BTreeMap::new();
    let mut shown = String::new();
    for (second, step) in (0..).zip(script) {
        let now = at(second);
        let (name, what) = step.split_once(' ').unwrap();
        let verdict = match what {
            "500" => Some(Verdict::RetryAt(now)),
            "200" => Some(Verdict::Delivered),
            "gives up" => Some(Verdict::Exhausted),
            _ => None,
        };
        if let Some(verdict) = verdict {
            let due = world.claim(now, 100).await;
            claims.extend(due.into_iter().map(|c| (c.delivery_id.to_string(), c)));
            let claimed = claims.remove(name).expect("what is attempted was due");
            world
                .store
                .settle(settle(&claimed, verdict, now))
                .await
                .unwrap();
        } else {
            let mut unit = Commit::new(ms(), now);
            let mut new = event(name, "o-1");
            new.deliveries[0].order = mode(what);
            unit.events.push(new);
            world.store.commit(unit).await.unwrap();
        }
        writeln!(shown, "{step:<12} {}", line(&world).await).unwrap();
    }
    shown
}

fn mode(word: &str) -> OrderMode {
    match word {
        "hold" => OrderMode::Hold,
        "strict" => OrderMode::Strict,
        "none" => OrderMode::None,
        _ => panic!("{word} is no order mode"),
    }
}

pub(super) async fn line(world: &World) -> String {
    let mut ask = everything();
    ask.filter.subject = Some(Subject::Order(OrderId::new("o-1")));
    let mut line = Vec::new();
    for (event, _) in world.store.feed(&ms(), ask).await.unwrap().events {
        for d in world
            .store
            .deliveries_of_event(&ms(), &event.event_id)
            .await
            .unwrap()
        {
            let state = match (d.state, d.waiting_on) {
                (DeliveryState::Waiting, Some(before)) => format!("waits for {before}"),
                (state, _) => state.to_string(),
            };
            let mark = if d.overtaking { "!" } else { "" };
            line.push(format!("{}{mark} {state}", d.delivery_id));
        }
    }
    line.join(", ")
}

#[tokio::test]
async fn hold_waits_for_the_first_outcome() {
    let healthy = play(&["a hold", "b hold", "c hold", "a 200", "b 200", "c 200"]).await;
    insta::assert_snapshot!(healthy, @r"
    a hold       a pending
    b hold       a pending, b waits for a
    c hold       a pending, b waits for a, c waits for b
    a 200        a delivered, b pending, c waits for b
    b 200        a delivered, b delivered, c pending
    c 200        a delivered, b delivered, c delivered
    ");
    let refusing = play(&[
        "a hold", "b hold", "c hold", "a 500", "b 200", "a 500", "c 200",
    ])
    .await;
    insta::assert_snapshot!(refusing, @r"
    a hold       a pending
    b hold       a pending, b waits for a
    c hold       a pending, b waits for a, c waits for b
    a 500        a pending, b! pending, c waits for b
    b 200        a pending, b! delivered, c! pending
    a 500        a pending, b! delivered, c! pending
    c 200        a pending, b! delivered, c! delivered
    ");
    let born_late = play(&["a hold", "a 500", "b hold", "b 500", "a 200", "c hold"]).await;
    insta::assert_snapshot!(born_late, @r"
    a hold       a pending
    a 500        a pending
    b hold       a pending, b! pending
    b 500        a pending, b! pending
    a 200        a delivered, b! pending
    c hold       a delivered, b! pending, c! pending
    ");
}

#[tokio::test]
async fn strict_waits_until_settled() {
    let retried = play(&["a strict", "b strict", "a 500", "a 500", "a 200", "b 200"]).await;
    insta::assert_snapshot!(retried, @r"
    a strict     a pending
    b strict     a pending, b waits for a
    a 500        a pending, b waits for a
    a 500        a pending, b waits for a
    a 200        a delivered, b pending
    b 200        a delivered, b delivered
    ");
    let given_up = play(&[
        "a strict",
        "b strict",
        "c strict",
        "a gives up",
        "b gives up",
    ])
    .await;
    insta::assert_snapshot!(given_up, @r"
    a strict     a pending
    b strict     a pending, b waits for a
    c strict     a pending, b waits for a, c waits for b
    a gives up   a exhausted, b pending, c waits for b
    b gives up   a exhausted, b exhausted, c pending
    ");
}

#[tokio::test]
async fn none_never_waits() {
    let shown = play(&["a none", "b none", "a 500", "b 200", "c none"]).await;
    insta::assert_snapshot!(shown, @r"
    a none       a pending
    b none       a pending, b! pending
    a 500        a pending, b! pending
    b 200        a pending, b! delivered
    c none       a pending, b! delivered, c! pending
    ");
}

#[tokio::test]
async fn an_endpoint_that_turns_strict_is_strict_from_there_on() {
    let shown = play(&[
        "a hold", "a 500", "b hold", "c strict", "b 200", "a 200", "c 200",
    ])
    .await;
    insta::assert_snapshot!(shown, @r"
    a hold       a pending
    a 500        a pending
    b hold       a pending, b! pending
    c strict     a pending, b! pending, c waits for b
    b 200        a pending, b! delivered, c waits for a
    a 200        a delivered, b! delivered, c pending
    c 200        a delivered, b! delivered, c delivered
    ");
}

#[tokio::test]
async fn other_orders_never_wait() {
    let world = World::new().await;
    world.born("a", "o-1", None).await;
    world.born("b", "O-1", None).await;
    world.born("c", "o-2", None).await;
    assert_eq!(names(&world.claim(at(1), 10).await), "a c");
}

#[tokio::test]
async fn a_late_200_lets_the_next_go() {
    let world = World::new().await;
    let stale = world.born("a", "o-1", Some(at(5))).await.claimed.remove(0);
    world.born("b", "o-1", None).await;
    assert_eq!(names(&world.claim(at(6), 10).await), "a");
    let settled = world
        .store
        .settle(settle(&stale, Verdict::Delivered, at(7)))
        .await
        .unwrap();
    assert_eq!(
        settled,
        Settled {
            released: 1,
            ..Settled::default()
        }
    );
    assert_eq!(names(&world.claim(at(7), 10).await), "b");
}

#[tokio::test]
async fn replays_stand_in_no_line() {
    let world = World::new().await;
    world.born("a", "o-1", None).await;
    let mut replay = delivery("again", &EventId::new("evt_a"));
    replay.kind = DeliveryKind::Replay;
    let claimed = world
        .store
        .insert_replay(replay.clone(), at(1), Some(at(9)))
        .await
        .unwrap();
    let claimed = claimed.unwrap();
    assert_eq!(&claimed.body[..], b"body of a");
    assert_eq!((claimed.sequence, claimed.fence), (1, 1));
    replay.event_id = EventId::new("evt_none");
    assert_eq!(
        kind(world.store.insert_replay(replay, at(1), None).await),
        DbErrorKind::Stale
    );
}
