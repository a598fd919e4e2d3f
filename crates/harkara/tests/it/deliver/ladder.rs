//! What a receiver answers, and when it is called again.

use std::time::Duration;

use harkara_core::endpoint::{Sealed, SuccessRule};
use harkara_core::retry::Ladder;
use harkara_webhook::EventName;

use super::world::World;

/// Long enough for any ladder.
const FOR_EVER: Duration = Duration::from_secs(60 * 86_400);

/// The timeline of one event whose receiver answers as scripted.
async fn play(script: &str) -> String {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    let event = world.event("1", EventName::OrderSucceeded, script).await;
    world.run(FOR_EVER).await;
    world.timeline(&event).await
}

#[tokio::test]
async fn a_receiver_that_recovers_is_notified() {
    insta::assert_snapshot!(play("500, timeout, 503 retry-after=120, 200").await, @r"
    +0s        attempt 1  500                  retry in 1m
    +1m        attempt 2  HEAD_TIMEOUT         retry in 5m51s
    +6m51s     attempt 3  503                  retry in 5m51s
    +12m42s    attempt 4  200                  delivered
    notified = true
    ");
}

#[tokio::test]
async fn retry_after_is_obeyed_when_it_asks_for_more_than_the_ladder() {
    insta::assert_snapshot!(play("429 retry-after=7200, 503 retry-after=1, 200").await, @r"
    +0s        attempt 1  429                  retry in 2h
    +2h        attempt 2  503                  retry in 5m51s
    +2h5m51s   attempt 3  200                  delivered
    notified = true
    ");
}

#[tokio::test]
async fn nothing_but_200_counts_and_every_failure_is_tried_again() {
    let script = "201, 204, 301, 404, 500, timeout, refused, dns, tls, blocked, 200";
    insta::assert_snapshot!(play(script).await, @r"
    +0s        attempt 1  201                  retry in 1m
    +1m        attempt 2  204                  retry in 5m51s
    +6m51s     attempt 3  301                  retry in 5m51s
    +12m42s    attempt 4  404                  retry in 11m30s
    +24m13s    attempt 5  500                  retry in 10m13s
    +34m26s    attempt 6  HEAD_TIMEOUT         retry in 11m48s
    +46m15s    attempt 7  CONNECT_REFUSED      retry in 10m18s
    +56m33s    attempt 8  DNS_FAILED           retry in 10m42s
    +1h7m16s   attempt 9  TLS_FAILED           retry in 1h3m1s
    +2h10m17s  attempt 10 BLOCKED_DESTINATION  retry in 1h8m14s
    +3h18m32s  attempt 11 200                  delivered
    notified = true
    ");
}

#[tokio::test]
async fn the_ladder_ends_by_its_attempts() {
    let script = ["500"; 20].join(",");
    insta::assert_snapshot!(play(&script).await, @r"
    +0s        attempt 1  500                  retry in 1m
    +1m        attempt 2  500                  retry in 5m51s
    +6m51s     attempt 3  500                  retry in 5m51s
    +12m42s    attempt 4  500                  retry in 11m30s
    +24m13s    attempt 5  500                  retry in 10m13s
    +34m26s    attempt 6  500                  retry in 11m48s
    +46m15s    attempt 7  500                  retry in 10m18s
    +56m33s    attempt 8  500                  retry in 10m42s
    +1h7m16s   attempt 9  500                  retry in 1h3m1s
    +2h10m17s  attempt 10 500                  retry in 1h8m14s
    +3h18m32s  attempt 11 500                  retry in 1h9m42s
    +4h28m14s  attempt 12 500                  retry in 1h1m10s
    +5h29m25s  attempt 13 500                  retry in 1h24s
    +6h29m49s  attempt 14 500                  retry in 7h6m56s
    +13h36m46s attempt 15 500                  retry in 7h11m49s
    +20h48m36s attempt 16 500                  retry in 6h36m54s
    +27h25m31s attempt 17 500                  exhausted
    exhausted, notified = false
    ");
}

#[tokio::test]
async fn an_endpoint_may_take_any_2xx_and_have_a_ladder_of_its_own() {
    let mut world = World::new();
    world
        .endpoint("ep_1", |endpoint| {
            endpoint.success = SuccessRule::Any2xx;
            endpoint.ladder = Ladder::custom(vec![10, 20]).unwrap();
        })
        .await;
    let delivered = world
        .event("1", EventName::OrderSucceeded, "301, 204")
        .await;
    let exhausted = world
        .event("2", EventName::OrderSucceeded, "500, 500, 500")
        .await;
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(world.timeline(&delivered).await, @r"
    +0s        attempt 1  301                  retry in 10s
    +10s       attempt 2  204                  delivered
    notified = true
    ");
    insta::assert_snapshot!(world.timeline(&exhausted).await, @r"
    +0s        attempt 1  500                  retry in 10s
    +10s       attempt 2  500                  retry in 22s
    +32s       attempt 3  500                  exhausted
    exhausted, notified = false
    ");
}

#[tokio::test]
async fn an_answer_of_410_pauses_the_endpoint_and_its_deliveries_wait() {
    let mut world = World::new();
    let endpoint = world.endpoint("ep_1", |_| {}).await;
    let gone = world.event("1", EventName::OrderSucceeded, "410").await;
    world.run(FOR_EVER).await;
    let later = world.event("2", EventName::OrderSucceeded, "").await;
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(world.timeline(&gone).await, @r"
    +0s        attempt 1  410                  retry in 1m
    pending, notified = false
    ");
    insta::assert_snapshot!(world.timeline(&later).await, @r"pending, notified = false");

    let active = harkara_core::endpoint::EndpointState::Active;
    world
        .store
        .set_endpoint_state(&world.merchant_id, &endpoint, &active)
        .await
        .unwrap();
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(world.timeline(&gone).await, @r"
    +0s        attempt 1  410                  retry in 1m
    +1m        attempt 2  200                  delivered
    notified = true
    ");
    insta::assert_snapshot!(world.timeline(&later).await, @r"
    +0s        attempt 1  200                  delivered
    notified = true
    ");
}

#[tokio::test]
async fn every_attempt_sends_the_same_bytes_under_the_same_id() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    world
        .event("1", EventName::OrderSucceeded, "500, 500, 200")
        .await;
    world.run(FOR_EVER).await;
    let sent: Vec<String> = world
        .sent()
        .iter()
        .map(|request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let headers: Vec<String> = request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                .collect();
            format!("{body} {}", headers.join(" "))
        })
        .collect();
    insta::assert_snapshot!(sent.join("\n"), @r#"
    {"id":"evt_1"} webhook-id=evt_1 harkara-attempt=1 harkara-sequence=1
    {"id":"evt_1"} webhook-id=evt_1 harkara-attempt=2 harkara-sequence=1
    {"id":"evt_1"} webhook-id=evt_1 harkara-attempt=3 harkara-sequence=1
    "#);
}

/// A clock that was set wrong in either direction neither loses a delivery nor ends a ladder early.
#[tokio::test]
async fn a_clock_that_jumps_cuts_no_ladder_short() {
    for jump_hours in [1_i64, -1, 24 * 365, -24 * 365] {
        let mut world = World::new();
        world.endpoint("ep_1", |_| {}).await;
        let event = world
            .event("1", EventName::OrderSucceeded, "500, 500, 500, 200")
            .await;
        world.run(Duration::from_secs(120)).await;
        let now = world.clock.now().as_micros() + jump_hours * 3_600_000_000;
        world
            .clock
            .set(harkara_core::time::Timestamp::from_micros(now));
        world.run(FOR_EVER).await;
        let page = world.timeline(&event).await;
        assert!(
            page.ends_with("notified = true\n"),
            "jump of {jump_hours} h:\n{page}"
        );
        assert_eq!(
            page.matches("attempt").count(),
            4,
            "jump of {jump_hours} h:\n{page}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_delays_a_retry_by_its_wait_at_most() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    let event = world
        .event("1", EventName::OrderSucceeded, "500, 200")
        .await;
    world.run(Duration::from_secs(30)).await;
    let now =
        harkara_core::time::Timestamp::from_micros(world.clock.now().as_micros() - 3_600_000_000);
    world.clock.set(now);
    world.run(FOR_EVER).await;
    assert_eq!(world.sent().len(), 2);
    let waited = world.clock.now().since(now);
    assert!(waited <= Duration::from_secs(72), "{waited:?}");
    assert!(world.timeline(&event).await.ends_with("notified = true\n"));
}

#[tokio::test]
async fn an_answer_of_410_at_an_orders_own_url_pauses_nobody() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    world.url_override = Some("https://own.merchant.example/".to_owned());
    let gone = world
        .event("1", EventName::OrderSucceeded, "410, 200")
        .await;
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(world.timeline(&gone).await, @r"
    +0s        attempt 1  410                  retry in 1m
    +1m        attempt 2  200                  delivered
    notified = true
    ");
}

/// The ladder goes on, so that the merchant is told once the secret is set anew.
#[tokio::test]
async fn a_password_that_does_not_open_is_a_failed_attempt() {
    let mut world = World::new();
    world
        .endpoint("ep_1", |endpoint| {
            endpoint.password = Sealed("v1.unknown.AAAA".to_owned());
            endpoint.ladder = Ladder::custom(vec![10]).unwrap();
        })
        .await;
    let event = world.event("1", EventName::OrderSucceeded, "").await;
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(world.timeline(&event).await, @r"
    +0s        attempt 1  INTERNAL             retry in 10s
    +10s       attempt 2  INTERNAL             exhausted
    exhausted, notified = false
    ");
    assert!(world.sent().is_empty());
}
