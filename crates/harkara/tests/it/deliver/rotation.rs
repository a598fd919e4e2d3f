//! Secrets that change over while webhooks are sent: what a receiver that has not switched yet gets.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harkara::vault::Context;
use harkara_core::endpoint::PreviousCredentials;
use harkara_core::id::EndpointId;
use harkara_webhook::EventName;

use super::world::{World, header, start};

const FOR_EVER: Duration = Duration::from_secs(60 * 86_400);
const HOUR: Duration = Duration::from_secs(3600);

/// One event for an endpoint whose credentials before `shop:secret` were `older:old`, for so long:
/// the requests, what became of it, and which credentials each attempt's outcome belongs to.
async fn play(overlap: Duration, script: &str) -> String {
    let mut world = World::new();
    let endpoint_id = EndpointId::new("ep_1");
    let context = Context::endpoint_password(&world.merchant_id, &endpoint_id);
    let previous = PreviousCredentials {
        username: "older".to_owned(),
        password: world.vault().seal(context, b"old"),
        until: start().plus(overlap),
    };
    world
        .endpoint("ep_1", |endpoint| {
            endpoint.previous_credentials = Some(previous);
        })
        .await;
    let event_id = world.event("1", EventName::OrderSucceeded, script).await;
    world.run(FOR_EVER).await;

    let mut page = String::new();
    for request in world.sent() {
        let encoded = request.authorization.to_str().unwrap();
        let pair = BASE64_STANDARD.decode(encoded.strip_prefix("Basic ").unwrap());
        let pair = String::from_utf8(pair.unwrap()).unwrap();
        let n = header(&request, "harkara-attempt");
        page += &format!("attempt {n} as {pair}\n");
    }
    page += &world.timeline(&event_id).await;
    let merchant_id = &world.merchant_id;
    let deliveries = world.store.deliveries_of_event(merchant_id, &event_id);
    let delivery_id = deliveries.await.unwrap().remove(0).delivery_id;
    for view in world
        .store
        .attempts(merchant_id, &delivery_id)
        .await
        .unwrap()
    {
        page += &format!("{} {:?}\n", view.n, view.attempt.evidence.credentials);
    }
    page
}

#[tokio::test]
async fn a_receiver_that_has_switched_never_sees_the_older_pair() {
    insta::assert_snapshot!(play(HOUR, "500, 200").await, @r"
    attempt 1 as shop:secret
    attempt 2 as shop:secret
    +0s        attempt 1  500                  retry in 1m
    +1m        attempt 2  200                  delivered
    notified = true
    1 Current
    2 Current
    ");
}

#[tokio::test]
async fn a_receiver_that_has_not_switched_yet_is_asked_again_within_the_same_attempt() {
    insta::assert_snapshot!(play(HOUR, "401, 200").await, @r"
    attempt 1 as shop:secret
    attempt 1 as older:old
    +0s        attempt 1  200                  delivered
    notified = true
    1 Previous
    ");
    insta::assert_snapshot!(play(HOUR, "403, 500, 401, 200").await, @r"
    attempt 1 as shop:secret
    attempt 1 as older:old
    attempt 2 as shop:secret
    attempt 2 as older:old
    +0s        attempt 1  500                  retry in 1m
    +1m        attempt 2  200                  delivered
    notified = true
    1 Previous
    2 Previous
    ");
}

#[tokio::test]
async fn a_receiver_that_knows_neither_pair_has_refused_the_attempt() {
    insta::assert_snapshot!(play(HOUR, "401, 403, 200").await, @r"
    attempt 1 as shop:secret
    attempt 1 as older:old
    attempt 2 as shop:secret
    +0s        attempt 1  403                  retry in 1m
    +1m        attempt 2  200                  delivered
    notified = true
    1 Previous
    2 Current
    ");
}

#[tokio::test]
async fn once_the_overlap_is_over_a_refusal_is_a_refusal() {
    insta::assert_snapshot!(play(Duration::from_secs(30), "401, 401, 401, 200").await, @r"
    attempt 1 as shop:secret
    attempt 1 as older:old
    attempt 2 as shop:secret
    attempt 3 as shop:secret
    +0s        attempt 1  401                  retry in 1m
    +1m        attempt 2  401                  retry in 5m51s
    +6m51s     attempt 3  200                  delivered
    notified = true
    1 Previous
    2 Current
    3 Current
    ");
}

#[tokio::test]
async fn each_attempt_is_signed_at_its_own_time_with_the_secrets_of_that_time() {
    let mut world = World::new();
    let endpoint_id = EndpointId::new("ep_1");
    let context = Context::signing_secret(&world.merchant_id, &endpoint_id);
    let secrets = [[1; 32], [2; 32]].map(|secret| world.vault().seal(context, &secret));
    world
        .endpoint("ep_1", |endpoint| {
            for secret in secrets {
                endpoint.add_signing_secret(secret, Duration::from_secs(30), start());
            }
        })
        .await;
    world
        .event("1", EventName::OrderSucceeded, "500, 200")
        .await;
    world.run(FOR_EVER).await;
    let sent = world.sent();
    let lines = sent.iter().map(|request| {
        let [n, id, timestamp, signature] = [
            "harkara-attempt",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ]
        .map(|name| header(request, name));
        let late = timestamp.parse::<i64>().unwrap() - start().as_seconds();
        let signatures = signature.split(' ').count();
        format!(
            "attempt {n}: {id} +{} min, signatures: {signatures}",
            late / 60
        )
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    attempt 1: evt_1 +0 min, signatures: 2
    attempt 2: evt_1 +1 min, signatures: 1
    ");
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    world.event("1", EventName::OrderSucceeded, "200").await;
    world.run(FOR_EVER).await;
    insta::assert_snapshot!(format!("{:?}", world.sent()[0].headers), @r#"
    [("webhook-id", "evt_1"), ("harkara-attempt", "1"), ("harkara-sequence", "1")]
    "#);
}
