use std::time::Duration;

use super::*;
use crate::testing::World;

const OLD: &str =
    r#"{"url":"https://shop.example.com/hook","username":"shop","webhook_version":"2016-10-27"}"#;

async fn endpoint(world: &World) -> String {
    let made = world.merchant("POST /endpoints", OLD).await.json();
    made["endpoint_id"].as_str().unwrap().to_owned()
}

/// So many events, a second apart, the endpoint's version too old for all of them.
async fn withheld(world: &World, count: usize) {
    for n in 1..=count {
        world.api.clock.advance(Duration::from_secs(1));
        let content = json!({ "txn": { "order_id": format!("o{n}") } });
        let event = json!({
            "merchant_id": "ms", "id": format!("e{n}"), "event_name": "TXN_CHARGED",
            "content": content,
        });
        let stored = world.platform("POST /events", &event.to_string()).await;
        assert_eq!(stored.status, 201, "{}", stored.text);
    }
}

/// What was asked for, with the endpoint.
fn asking(endpoint_id: &str, mut asked: Value) -> String {
    asked["endpoint_id"] = endpoint_id.into();
    asked.to_string()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 1).await;
    let gone = endpoint(&world).await;
    world
        .merchant(&format!("DELETE /endpoints/{gone}"), "")
        .await;
    let bodies = [
        "{}".to_owned(),
        asking("ep_none", json!({})),
        asking("ep_none", json!({ "to_endpoint_id": id })),
        asking(&id, json!({ "to_endpoint_id": "ep_none" })),
        asking(&gone, json!({})),
        asking(&id, json!({ "to_endpoint_id": gone })),
        asking(&id, json!({ "url": "https://elsewhere.example" })),
        asking(&id, json!({ "event_names": ["ORDER_EATEN"] })),
        asking(&id, json!({ "states": ["waiting"] })),
        asking(&id, json!({ "states": [] })),
        asking(&id, json!({ "rate": 0 })),
        asking(&id, json!({ "rate": 1_001 })),
        asking(&id, json!({ "rate": 0.5 })),
        asking(&id, json!({ "from": "yesterday" })),
        asking(
            &id,
            json!({ "from": "2023-08-10T07:00:00Z", "to": "2023-08-10T07:00:00Z" }),
        ),
        asking(&id, json!({ "states": ["delivered"] })),
        asking(&id, json!({ "from": "2033-08-10T07:00:00Z" })),
    ];
    let mut table = String::new();
    for body in &bodies {
        let preview = world
            .merchant("POST /replays/preview", body)
            .await
            .refusal();
        assert_eq!(
            preview,
            world.merchant("POST /replays", body).await.refusal()
        );
        let shown = preview.replace(&id, "ep_own").replace(&gone, "ep_gone");
        table += &format!("{shown}\n");
    }
    insta::assert_snapshot!(table, @r#"
    400 "invalid_request": "the mandatory parameter 'endpoint_id' is missing"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    404 "endpoint.not_found": "there is no endpoint 'ep_gone'"
    404 "endpoint.not_found": "there is no endpoint 'ep_gone'"
    400 "invalid_request": "url: is unknown here; expected one of endpoint_id, to_endpoint_id, event_names, states, from, to, rate"
    400 "invalid_request": "event_names: read event name \"ORDER_EATEN\": expected one of ORDER_SUCCEEDED, ORDER_REFUNDED, ORDER_FAILED, ORDER_REFUND_FAILED, TXN_CREATED, REFUND_MANUAL_REVIEW_NEEDED, REFUND_INITIATED, AUTO_REFUND_SUCCEEDED, AUTO_REFUND_FAILED, MANDATE_CREATED, MANDATE_ACTIVATED, MANDATE_FAILED, MANDATE_REVOKED, NOTIFICATION_FAILED, NOTIFICATION_SUCCEEDED, ORDER_AUTHORIZED, TXN_CHARGED, TXN_FAILED, ORDER_CREATED"
    400 "invalid_request": "states: unknown variant `waiting`, expected one of `exhausted`, `withdrawn`, `withheld`, `pending`, `delivered`"
    400 "invalid_request": "states: is empty; leave it out for what was never delivered, or name a state"
    400 "invalid_request": "rate: must be 1 to 1000 events per second"
    400 "invalid_request": "rate: must be 1 to 1000 events per second"
    400 "invalid_request": "rate: invalid type: floating point `0.5`, expected u32"
    400 "invalid_request": "from: is no moment; write it as 2023-08-10T07:00:48Z"
    400 "invalid_request": "to: must be later than from"
    422 "replay.nothing": "no event of this endpoint fits; widen event_names, states, or the time between from and to"
    422 "replay.nothing": "no event of this endpoint fits; widen event_names, states, or the time between from and to"
    "#);
    let none = world.merchant("GET /replays", "").await.json();
    assert_eq!(none, json!({ "replays": [] }));
}

#[test]
fn more_than_a_job_may_have_is_refused() {
    let found = |matched| Survey {
        matched,
        ..Survey::default()
    };
    assert!(fitting(found(99_999)).is_ok());
    insta::assert_snapshot!(fitting(found(100_000)).unwrap_err().message, @r"
    100000 events or more fit, and one job takes fewer; narrow event_names, states, or the time between from and to, and make several jobs
    ");
}

#[tokio::test]
async fn a_preview_says_what_a_job_would_do() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 3).await;
    let body = asking(&id, json!({ "rate": 2, "to": "2023-08-10T07:00:51Z" }));
    let ask = async || {
        let text = world.merchant("POST /replays/preview", &body).await.text;
        text.replace(&id, "ep_own")
    };
    insta::assert_snapshot!(ask().await, @r#"
    {"endpoint_id":"ep_own","estimated_seconds":0,"event_names":[],"from":null,"matched":2,"newest_at":"2023-08-10T07:00:50Z","notes":[],"oldest_at":"2023-08-10T07:00:49Z","rate":2,"skipped":{"delivered":0,"switch":0,"version":2,"without_body":0},"states":["exhausted","withdrawn","withheld"],"to":"2023-08-10T07:00:51Z","to_endpoint_id":"ep_own"}
    "#);
    let path = format!("/endpoints/{id}");
    world
        .merchant(&format!("PATCH {path}"), r#"{"webhook_version":""}"#)
        .await;
    world
        .merchant(
            &format!("POST {path}/pause"),
            r#"{"reason":"we move house"}"#,
        )
        .await;
    insta::assert_snapshot!(ask().await, @r#"
    {"endpoint_id":"ep_own","estimated_seconds":1,"event_names":[],"from":null,"matched":2,"newest_at":"2023-08-10T07:00:50Z","notes":["the endpoint is paused: we move house; what is replayed waits until it is resumed"],"oldest_at":"2023-08-10T07:00:49Z","rate":2,"skipped":{"delivered":0,"switch":0,"version":0,"without_body":0},"states":["exhausted","withdrawn","withheld"],"to":"2023-08-10T07:00:51Z","to_endpoint_id":"ep_own"}
    "#);
    let none = world.merchant("GET /replays", "").await.json();
    assert_eq!(none, json!({ "replays": [] }));
}

#[tokio::test]
async fn a_job_is_made_shown_and_changed() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 3).await;
    let made = world
        .merchant("POST /replays", &asking(&id, json!({})))
        .await;
    assert_eq!(made.status, 201);
    let job = made.json()["job_id"].as_str().unwrap().to_owned();
    let shown = |text: &str| text.replace(&id, "ep_own").replace(&job, "rpl_1");
    insta::assert_snapshot!(shown(&made.text), @r#"
    {"changed_at":"2023-08-10T07:00:51Z","created_at":"2023-08-10T07:00:51Z","endpoint_id":"ep_own","event_names":[],"from":null,"job_id":"rpl_1","matched":3,"rate":50,"reason":null,"remaining_seconds":1,"replayed":0,"skipped":{"delivered":0,"switch":0,"version":0,"without_body":0},"state":"running","states":["exhausted","withdrawn","withheld"],"to":null,"to_endpoint_id":"ep_own"}
    "#);
    let path = format!("/replays/{job}");
    let mut table = String::new();
    for wish in [
        "resume", "pause", "pause", "resume", "cancel", "cancel", "pause", "resume",
    ] {
        let answer = world.merchant(&format!("POST {path}/{wish}"), "").await;
        let line = match answer.status.is_success() {
            true => answer.json()["state"].to_string(),
            false => answer.refusal(),
        };
        table += &format!("{wish:<6} {line}\n");
    }
    insta::assert_snapshot!(table, @r#"
    resume "running"
    pause  "paused"
    pause  "paused"
    resume "running"
    cancel "cancelled"
    cancel "cancelled"
    pause  422 "replay.ended": "the job has ended and stays as it is; make a new one to replay again"
    resume 422 "replay.ended": "the job has ended and stays as it is; make a new one to replay again"
    "#);
    let read = world.merchant(&format!("GET {path}"), "").await.json();
    assert_eq!(
        (&read["state"], &read["delivered"]),
        (&json!("cancelled"), &json!(0))
    );
}

#[tokio::test]
async fn only_three_run_at_a_time_and_the_list_keeps_all() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 1).await;
    let make = async || {
        world.api.clock.advance(Duration::from_millis(1));
        world
            .merchant("POST /replays", &asking(&id, json!({})))
            .await
    };
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(make().await.json()["job_id"].as_str().unwrap().to_owned());
    }
    let refused = make().await.refusal();
    world
        .merchant(&format!("POST /replays/{}/pause", jobs[0]), "")
        .await;
    let fourth = make().await;
    assert_eq!(fourth.status, 201, "{}", fourth.text);
    jobs.push(fourth.json()["job_id"].as_str().unwrap().to_owned());
    let resumed = world
        .merchant(&format!("POST /replays/{}/resume", jobs[0]), "")
        .await;
    assert_eq!(resumed.refusal(), refused);
    insta::assert_snapshot!(refused, @r#"
    422 "replay.limit": "3 replays of this merchant run already; wait until one has finished, or pause or cancel one"
    "#);

    let ids = async |path: &str| -> Vec<String> {
        let page = world.merchant(path, "").await.json();
        let rows = page["replays"].as_array().unwrap().iter();
        rows.map(|row| row["job_id"].as_str().unwrap().to_owned())
            .collect()
    };
    jobs.reverse();
    assert_eq!(ids("GET /replays").await, jobs);
    assert_eq!(
        ids(&format!("GET /replays?before={}", jobs[1])).await,
        jobs[2..]
    );
}

#[tokio::test]
async fn a_request_with_a_key_makes_one_job() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 1).await;
    let request = "POST /replays?merchant_id=ms";
    let body = asking(&id, json!({}));
    let first = world.platform_once(request, &body, "k1").await;
    world.api.clock.advance(Duration::from_secs(1));
    let again = world.platform_once(request, &body, "k1").await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.text, again.text);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = asking(&id, json!({ "rate": 7 }));
    insta::assert_snapshot!(world.platform_once(request, &other, "k1").await.refusal(), @r#"
    422 "idempotency.mismatch": "this Idempotency-Key was used for another request; take a new one"
    "#);
}

#[tokio::test]
async fn another_merchants_job_is_not_there() {
    let world = World::new().await;
    let id = endpoint(&world).await;
    withheld(&world, 1).await;
    let made = world
        .merchant("POST /replays", &asking(&id, json!({})))
        .await;
    let job = made.json()["job_id"].as_str().unwrap().to_owned();
    let merchant = world
        .platform("POST /merchants", r#"{"merchant_id":"other"}"#)
        .await;
    let key = merchant.json()["api_key"].as_str().unwrap().to_owned();
    let mut table = String::new();
    for (method, rest) in [
        ("GET", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/cancel"),
    ] {
        let foreign = world
            .with_key(&format!("{method} /replays/{job}{rest}"), &key)
            .await;
        let unknown = world
            .with_key(&format!("{method} /replays/rpl_none{rest}"), &key)
            .await;
        let foreign = foreign.refusal().replace(&job, "rpl_none");
        assert_eq!(foreign, unknown.refusal());
        table += &format!("{foreign}\n");
    }
    insta::assert_snapshot!(table, @r#"
    404 "replay.not_found": "there is no replay 'rpl_none'"
    404 "replay.not_found": "there is no replay 'rpl_none'"
    404 "replay.not_found": "there is no replay 'rpl_none'"
    404 "replay.not_found": "there is no replay 'rpl_none'"
    "#);
    assert_eq!(
        world.with_key("GET /replays", &key).await.json()["replays"],
        json!([])
    );
}
