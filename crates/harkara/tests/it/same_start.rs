//! A payment that is started twice with the same `Idempotency-Key`: one transaction, told of twice.

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::Full;
use serde_json::json;

use crate::app::{Merchant, Reply, TestApp};

async fn start(shop: &Merchant, key: &str) -> Reply {
    let form = "order_id=1&payment_method_type=UPI&format=json&dummy_outcome=AUTHORIZATION_FAILED";
    let request = Request::post("/txns")
        .header(AUTHORIZATION, shop.authorization())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("idempotency-key", key)
        .body(Full::from(Bytes::from_static(form.as_bytes())));
    shop.server.send(request.unwrap()).await
}

#[tokio::test]
async fn a_start_with_the_same_key_finds_its_transaction() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let order = [("order_id", "1"), ("amount", "8")];
    shop.post("/orders", &order).await.ok();
    let first = start(&shop, "a").await.ok();
    let second = start(&shop, "b").await.ok();
    let again = start(&shop, "a").await.ok();
    assert_eq!(first["txn_uuid"], again["txn_uuid"]);
    assert_ne!(first["txn_uuid"], second["txn_uuid"]);
    let names = shop.events().await;
    let started = |event: &&serde_json::Value| event["event_name"] == "TXN_CREATED";
    assert_eq!(names.iter().filter(started).count(), 2);
    let long = start(&shop, &"k".repeat(256)).await.refusal();
    assert_eq!(
        long,
        "400 invalid_request: Idempotency-Key: must be 1 to 255 visible ASCII characters"
    );
}
