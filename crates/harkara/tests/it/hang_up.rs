//! Clients that hang up while the server is at their request: what was committed is sent at once, and
//! not when some lease has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer};
use harkara_webhook::{BasicCredentials, Receiver};
use http::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::app::{SHOP, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_for_a_client_that_hung_up_is_sent_at_once() {
    let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
    let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), |_| None)
        .await
        .unwrap();
    let ca_pem = receiver.ca_pem().to_owned();
    let app = TestApp::start_with(|config, folder| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, ca_pem).unwrap();
        config.destinations.ca_file = Some(file);
    })
    .await;
    let shop = app.merchant("ms", json!({})).await;
    let endpoint = json!({
        "url": receiver.url("/hooks"),
        "username": "shop",
        "password": "secret",
        "events": { "ORDER_CREATED": true },
    });
    shop.json(Method::POST, "/endpoints", &endpoint.to_string())
        .await
        .ok();
    for n in 0..100 {
        let body = format!("order_id=o{n}&amount=8");
        let request = format!(
            "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\nauthorization: {}\r\n\r\n{body}",
            body.len(),
            shop.authorization()
        );
        let mut stream = TcpStream::connect(app.app.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    // An order that is asked for after all others says that they have been taken or dropped.
    shop.post("/orders", &[("order_id", "last"), ("amount", "8")])
        .await
        .ok();
    let created: BTreeSet<String> = ids(&shop.get("/events?limit=500").await.ok()["events"]);
    let all_there = |arrivals: &[Arrival]| {
        let there: BTreeSet<String> = arrivals
            .iter()
            .filter_map(|arrival| Some(arrival.event.as_ref()?.id.clone()))
            .collect();
        created.is_subset(&there)
    };
    // Far less than a lease.
    receiver
        .until(all_there, Duration::from_secs(10))
        .await
        .unwrap();
}

fn ids(events: &serde_json::Value) -> BTreeSet<String> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect()
}
