//! Flows as the API sends them; the pages' are the dashboard's tests, and that they wait for each other
//! the store's.

use super::*;
use crate::testing::World;

/// An endpoint of this version, by its path.
async fn made(world: &World, version: &str) -> String {
    let body = format!(
        r#"{{"url":"https://shop.example.com/hook","username":"shop","webhook_version":"{version}"}}"#
    );
    let created = world.merchant("POST /endpoints", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    format!(
        "/endpoints/{}",
        created.json()["endpoint_id"].as_str().unwrap()
    )
}

/// The answer with each id that is made up replaced by what it is.
fn without_ids(mut told: Value) -> String {
    let order_id = told["order_id"].as_str().unwrap().to_owned();
    let (_, drawn) = order_id.split_once(samples::ORDER_ID).unwrap();
    assert_eq!(drawn.len(), 9, "{order_id}");
    told["order_id"] = json!(format!("{}-…", samples::ORDER_ID));
    for test in told["tests"].as_array_mut().unwrap() {
        let delivery_id = test["delivery_id"].as_str().unwrap().to_owned();
        assert!(test["event_id"].as_str().unwrap().starts_with("evt_V2_"));
        test["event_id"] = json!("evt_V2_…");
        test["delivery_id"] = json!("…");
        let attempts = test["attempts"].as_str().unwrap();
        test["attempts"] = json!(attempts.replace(&delivery_id, "…"));
    }
    serde_json::to_string_pretty(&told).unwrap()
}

#[tokio::test]
async fn a_flow_is_told_in_its_order_and_says_what_is_withheld() {
    let world = World::new().await;
    let path = made(&world, "2016-10-27").await;
    let flow = r#"{"flow":"payment"}"#;
    let told = world.merchant(&format!("POST {path}/test"), flow).await;
    assert_eq!(told.status, 202, "{}", told.text);
    let told = told.json();
    insta::assert_snapshot!(without_ids(told.clone()), @r#"
    {
      "flow": "payment",
      "order_id": "harkara-test-…",
      "tests": [
        {
          "attempts": "https://pay.example/deliveries/…/attempts",
          "delivery_id": "…",
          "event_id": "evt_V2_…",
          "event_name": "TXN_CREATED"
        },
        {
          "attempts": "https://pay.example/deliveries/…/attempts",
          "delivery_id": "…",
          "event_id": "evt_V2_…",
          "event_name": "ORDER_SUCCEEDED"
        }
      ],
      "withheld": [
        {
          "event_name": "ORDER_CREATED",
          "reason": "is sent only to endpoints that ask for it, and this one does not"
        },
        {
          "event_name": "TXN_CHARGED",
          "reason": "needs ≥ 2020-10-31, endpoint has 2016-10-27"
        }
      ]
    }
    "#);

    let mut states = Vec::new();
    for test in told["tests"].as_array().unwrap() {
        let attempts = test["attempts"].as_str().unwrap();
        let attempts = attempts.strip_prefix("https://pay.example").unwrap();
        let shown = world.merchant(&format!("GET {attempts}"), "").await.json();
        states.push(format!("{} {}", shown["kind"], shown["state"]));
    }
    assert_eq!(states, [r#""test" "pending""#, r#""test" "waiting""#]);
    let again = world.merchant(&format!("POST {path}/test"), flow).await;
    assert_ne!(
        again.json()["order_id"],
        told["order_id"],
        "each is about an order of its own"
    );
}

#[tokio::test]
async fn what_cannot_be_told_as_a_flow() {
    let world = World::new().await;
    let path = made(&world, "2016-10-27").await;
    let id = path.trim_start_matches("/endpoints/");
    let mut table = String::new();
    let mut ask = async |body: &str| {
        let refused = world.merchant(&format!("POST {path}/test"), body).await;
        let refusal = refused.refusal().replace(id, "ep_…");
        table += &(refusal + "\n");
    };
    ask(r#"{"flow":"eaten"}"#).await;
    ask(r#"{"flow":"payment","event_name":"ORDER_SUCCEEDED"}"#).await;
    let off = r#"{"events":{"MANDATE_CREATED":false,"MANDATE_ACTIVATED":false}}"#;
    world.merchant(&format!("PATCH {path}"), off).await;
    ask(r#"{"flow":"mandate"}"#).await;
    world.merchant(&format!("POST {path}/pause"), "").await;
    ask(r#"{"flow":"payment"}"#).await;
    world.merchant(&format!("DELETE {path}"), "").await;
    ask(r#"{"flow":"payment"}"#).await;
    insta::assert_snapshot!(table, @r#"
    400 "invalid_request": "flow: unknown variant `eaten`, expected one of `payment`, `failure`, `preauth`, `refund`, `refund-failed`, `auto-refund`, `mandate`, `mandate-revoked`, `notification-failed`"
    400 "invalid_request": "flow: is told by its own events; leave event_name out"
    422 "endpoint.hears_nothing": "the endpoint hears of no event of the flow 'mandate'; switch one on, or choose a later webhook version"
    422 "endpoint.not_active": "the endpoint is not active, so that nothing would follow the first event; resume it, or send single events, which it is sent all the same"
    404 "endpoint.not_found": "there is no endpoint 'ep_…'"
    "#);
}
