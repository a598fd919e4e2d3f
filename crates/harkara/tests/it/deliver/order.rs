//! In order, per order: what a later event of the same order waits for.

use std::time::Duration;

use harkara_core::endpoint::OrderMode;
use harkara_webhook::EventName;

use super::world::{World, header};

const FOR_EVER: Duration = Duration::from_secs(60 * 86_400);

/// Three events of one order, the first refused as scripted, beside one of another order; prints
/// who was called when.
async fn play(mode: OrderMode, first: &str) -> String {
    let mut world = World::new();
    world
        .endpoint("ep_1", |endpoint| endpoint.order = mode)
        .await;
    world.event("1", EventName::TxnCreated, first).await;
    world.event("1", EventName::TxnCharged, "").await;
    world.event("1", EventName::OrderSucceeded, "").await;
    world.event("2", EventName::OrderSucceeded, "").await;
    world.run(FOR_EVER).await;
    let sent = world.sent();
    let lines = sent.iter().map(|request| {
        let [event, attempt, sequence] =
            ["webhook-id", "harkara-attempt", "harkara-sequence"].map(|name| header(request, name));
        format!("{event} attempt {attempt} sequence {sequence}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_healthy_receiver_sees_events_in_order() {
    insta::assert_snapshot!(play(OrderMode::Hold, "200").await, @r"
    evt_1 attempt 1 sequence 1
    evt_4 attempt 1 sequence 1
    evt_2 attempt 1 sequence 2
    evt_3 attempt 1 sequence 3
    ");
}

#[tokio::test]
async fn hold_waits_for_the_first_outcome_only() {
    insta::assert_snapshot!(play(OrderMode::Hold, "404, 404, 200").await, @r"
    evt_1 attempt 1 sequence 1
    evt_4 attempt 1 sequence 1
    evt_2 attempt 1 sequence 2
    evt_3 attempt 1 sequence 3
    evt_1 attempt 2 sequence 1
    evt_1 attempt 3 sequence 1
    ");
}

#[tokio::test]
async fn strict_waits_until_the_one_before_is_settled() {
    insta::assert_snapshot!(play(OrderMode::Strict, "404, 404, 200").await, @r"
    evt_1 attempt 1 sequence 1
    evt_4 attempt 1 sequence 1
    evt_1 attempt 2 sequence 1
    evt_1 attempt 3 sequence 1
    evt_2 attempt 1 sequence 2
    evt_3 attempt 1 sequence 3
    ");
}

#[tokio::test]
async fn none_waits_for_nothing() {
    insta::assert_snapshot!(play(OrderMode::None, "404, 200").await, @r"
    evt_1 attempt 1 sequence 1
    evt_4 attempt 1 sequence 1
    evt_2 attempt 1 sequence 2
    evt_3 attempt 1 sequence 3
    evt_1 attempt 2 sequence 1
    ");
}

#[tokio::test]
async fn strict_goes_on_after_a_delivery_that_is_exhausted() {
    let script = ["500"; 17].join(",");
    let page = play(OrderMode::Strict, &script).await;
    let last: Vec<&str> = page.lines().rev().take(3).collect();
    assert_eq!(last[0], "evt_3 attempt 1 sequence 3");
    assert_eq!(last[1], "evt_2 attempt 1 sequence 2");
    assert_eq!(last[2], "evt_1 attempt 17 sequence 1");
}

#[tokio::test]
async fn an_overtaking_is_marked_in_the_attempt() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    world.event("1", EventName::TxnCharged, "404, 200").await;
    let later = world.event("1", EventName::OrderSucceeded, "").await;
    world.run(FOR_EVER).await;
    let deliveries = world
        .store
        .deliveries_of_event(&world.merchant_id, &later)
        .await
        .unwrap();
    assert!(deliveries[0].overtaking);
    let attempts = world
        .store
        .attempts(&world.merchant_id, &deliveries[0].delivery_id)
        .await
        .unwrap();
    assert!(attempts[0].attempt.evidence.overtaking, "{attempts:?}");
}
