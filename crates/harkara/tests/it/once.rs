//! The same thing said many times happens once.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::app::TestApp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_parallel_callbacks_are_one_transition_one_event_and_one_delivery() {
    let app = TestApp::start().await;
    let shop = Arc::new(app.merchant("ms", json!({})).await);
    // Nobody listens there: the delivery stays, and can be counted.
    let endpoint = json!({ "url": "https://shop.merchant.example:1/", "username": "shop" });
    shop.json(Method::POST, "/endpoints", &endpoint.to_string())
        .await
        .ok();
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("dummy_outcome", "PENDING"),
        ("format", "json"),
    ];
    let txn = shop.post("/txns", &pay).await.ok();
    let path = format!("txns/{}", txn["txn_uuid"].as_str().unwrap());

    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (shop, path) = (shop.clone(), path.clone());
        calls.spawn(async move { shop.outcome(&path, json!({ "status": "CHARGED" })).await });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer["status"] == "CHARGED"));
    let changed = answers
        .iter()
        .filter(|answer| answer["changed"] == true)
        .count();
    assert_eq!(changed, 1);

    let events = shop.events().await;
    let succeeded: Vec<_> = events
        .iter()
        .filter(|event| event["event_name"] == "ORDER_SUCCEEDED")
        .collect();
    assert_eq!(succeeded.len(), 1);
    let id = succeeded[0]["id"].as_str().unwrap();
    let deliveries = shop.get(&format!("/events/{id}/deliveries")).await.ok();
    assert_eq!(deliveries["deliveries"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_event_that_is_put_in_twice_at_once_is_one_event() {
    let app = Arc::new(TestApp::start().await);
    let shop = app.merchant("ms", json!({})).await;
    let body = json!({
        "merchant_id": "ms",
        "event_name": "ORDER_SUCCEEDED",
        "id": "evt_V2_b737837102414514ae0e9717a9f2664d",
        "content": { "order": { "order_id": "1", "status": "CHARGED" } },
    });
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (app, body) = (app.clone(), body.clone());
        calls.spawn(async move { app.platform(Method::POST, "/events", body).await.ok() });
    }
    let answers = calls.join_all().await;
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
    assert_eq!(shop.events().await.len(), 1);

    let mut other = body;
    other["content"]["order"]["status"] = "NEW".into();
    let refused = app.platform(Method::POST, "/events", other).await;
    assert_eq!(refused.status, 422, "{}", refused.refusal());
    assert_eq!(shop.events().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_id_that_two_orders_race_for_is_one_orders() {
    let app = TestApp::start().await;
    let shop = Arc::new(app.merchant("ms", json!({})).await);
    for order_id in ["1", "2"] {
        shop.post("/orders", &[("order_id", order_id), ("amount", "8")])
            .await
            .ok();
        let pay = [
            ("order_id", order_id),
            ("payment_method_type", "UPI"),
            ("dummy_outcome", "PENDING"),
            ("format", "json"),
        ];
        let txn = shop.post("/txns", &pay).await.ok();
        let path = format!("txns/{}", txn["txn_uuid"].as_str().unwrap());
        shop.outcome(&path, json!({ "status": "CHARGED" })).await;
    }
    let mut calls = JoinSet::new();
    for n in 0..50 {
        let shop = shop.clone();
        calls.spawn(async move {
            let path = format!("/orders/{}/refunds", n % 2 + 1);
            let refund = r#"{"unique_request_id":"r1","amount":"3"}"#;
            shop.json(Method::POST, &path, refund).await.status
        });
    }
    let answers = calls.join_all().await;
    let done = answers.iter().filter(|status| **status == 200).count();
    // The winner's are all the same refund; whoever lost is told so, or to ask again.
    assert_eq!(done, 25, "{answers:?}");
    let mut back = Vec::new();
    for order_id in ["1", "2"] {
        let order = shop.get(&format!("/orders/{order_id}")).await.ok();
        back.push(order["amount_refunded"].as_i64());
    }
    back.sort();
    assert_eq!(back, [Some(0), Some(3)]);
}
