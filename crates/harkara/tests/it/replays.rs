//! Replays as a merchant sees them: over real HTTPS, in the order in which things happened.

use std::time::Duration;

use harkara::receiver::Arrival;
use http::Method;
use serde_json::json;

use crate::app::{TestApp, receiver};

const PATIENCE: Duration = Duration::from_secs(30);

fn told(arrivals: &[Arrival]) -> Vec<String> {
    let lines = arrivals.iter().map(|arrival| {
        let event = arrival.event.as_ref().unwrap();
        let sequence = arrival.headers["harkara-sequence"].to_str().unwrap();
        format!("{sequence} {} {}", event.event_name.as_str(), event.id)
    });
    lines.collect()
}

/// By hand, and then by a job: the same events, bytes and order each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_told_again_in_its_sequence() {
    let receiver = receiver(|_| None).await;
    let app = TestApp::start_calling(&receiver).await;
    let shop = app.merchant("shop", json!({})).await;
    shop.listen(&receiver).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    let so_many = |count: usize| move |arrivals: &[Arrival]| arrivals.len() >= count;
    let first = receiver.until(so_many(3), PATIENCE).await.unwrap();
    let names: Vec<&str> = first
        .iter()
        .map(|arrival| arrival.event.as_ref().unwrap().event_name.as_str())
        .collect();
    assert_eq!(names, ["TXN_CREATED", "TXN_CHARGED", "ORDER_SUCCEEDED"]);

    shop.json(Method::POST, "/orders/1/resend", "").await.ok();
    let second = receiver.until(so_many(6), PATIENCE).await.unwrap();
    assert_eq!(told(&second[3..]), told(&first));

    // The last of the deliveries may have arrived and not be settled yet.
    let event = shop.event("ORDER_SUCCEEDED").await;
    let path = format!("/events/{}", event["id"].as_str().unwrap());
    for _ in 0..500 {
        if shop.get(&path).await.ok()["notified"] == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let endpoints = shop.get("/endpoints").await.ok();
    let asked = json!({
        "endpoint_id": endpoints["endpoints"][0]["endpoint_id"],
        "states": ["delivered"],
        "rate": 1_000,
    });
    let job = shop
        .json(Method::POST, "/replays", &asked.to_string())
        .await
        .ok();
    assert_eq!(job["matched"], 3);
    let third = receiver.until(so_many(9), PATIENCE).await.unwrap();
    assert_eq!(told(&third[6..]), told(&first));
    assert_eq!(
        third
            .iter()
            .map(|arrival| &arrival.body)
            .collect::<Vec<_>>(),
        first
            .iter()
            .map(|arrival| &arrival.body)
            .cycle()
            .take(9)
            .collect::<Vec<_>>()
    );
}
