//! A ledger that lives elsewhere: what it reports is kept, told and answered byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use harkara::receiver::{Arrival, MerchantServer};
use http::Request;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::{Merchant, Reply, TestApp, receiver};

const PATIENCE: Duration = Duration::from_secs(20);

/// A merchant whose webhooks arrive at a server of its own.
struct World {
    app: TestApp,
    shop: Merchant,
    receiver: MerchantServer,
}

impl World {
    async fn new() -> Self {
        let receiver = receiver(|_| None).await;
        let app = TestApp::start_calling(&receiver).await;
        let shop = app.merchant("ms", json!({})).await;
        shop.listen(&receiver).await;
        Self {
            app,
            shop,
            receiver,
        }
    }

    /// Reports to the platform's half, in these very bytes.
    async fn report(&self, path: &str, body: &str) -> Reply {
        let request = Request::post(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.app.platform_key))
            .body(Full::from(body.to_owned()));
        self.app.send(request.unwrap()).await
    }

    /// The body of the newest webhook, once there are so many.
    async fn arrived(&self, count: usize) -> Bytes {
        let enough = |arrivals: &[Arrival]| arrivals.len() >= count;
        let arrivals = self.receiver.until(enough, PATIENCE).await.unwrap();
        arrivals.last().unwrap().body.clone()
    }
}

fn event(name: &str, kind: &str, content: &str) -> String {
    format!(r#"{{"merchant_id":"ms","event_name":"{name}","content":{{"{kind}":{content}}}}}"#)
}

/// The bytes of one member of an object within a body.
fn cut<'a>(body: &'a [u8], path: &[&str]) -> &'a str {
    let mut text = std::str::from_utf8(body).unwrap();
    for key in path {
        let members: BTreeMap<String, &'a RawValue> = serde_json::from_str(text).unwrap();
        text = members[*key].get();
    }
    text
}

#[tokio::test]
async fn content_is_kept_told_and_answered_byte_for_byte() {
    let world = World::new().await;
    let order = r#"{ "status" : "CHARGED","order_id":"O-1",
  "amount":1.0, "z":1e2,"a":"caf\u00e9", "udf1":null ,"b":{"y":[ ],"x":{ }} }"#;
    let mandate =
        r#"{"status":"ACTIVE" ,"mandate_id":"mdt1", "max_amount":10.00,"customer_id":"cst_9"}"#;
    let notification = r#"{"status":"SUCCESS","object_reference_id":"notice9" ,
        "source_info":{"amount":"1.0"},  "mandate":{"mandate_id":"mdt1"}}"#;
    let rows = [
        ("ORDER_SUCCEEDED", "order", order),
        ("MANDATE_ACTIVATED", "mandate", mandate),
        ("NOTIFICATION_SUCCEEDED", "notification", notification),
    ];
    for (n, (name, kind, content)) in rows.into_iter().enumerate() {
        let stored = world.report("/events", &event(name, kind, content)).await;
        assert_eq!(stored.status, 201, "{:?}", stored.body);
        let sent = world.arrived(n + 1).await;
        assert_eq!(cut(&sent, &["content", kind]), content, "as it was sent");
        let path = format!("/events/{}", stored.json()["event_id"].as_str().unwrap());
        let shown = world.shop.get(&path).await;
        assert_eq!(
            cut(&shown.body, &["body"]).as_bytes(),
            sent,
            "as it is shown"
        );
    }
    let check = [("command", "check_status")];
    let answers = [
        (world.shop.get("/orders/o-1").await, order),
        (world.shop.post("/mandates/mdt1", &check).await, mandate),
        (world.shop.get("/notifications/notice9").await, notification),
    ];
    for (answer, content) in answers {
        assert_eq!(answer.body, content);
    }
    let listed = world.shop.get("/customers/cst_9/mandates").await;
    assert_eq!(cut(&listed.body, &["list"]), format!("[{mandate}]"));
    let listed = world.shop.get("/order/list").await;
    assert_eq!(cut(&listed.body, &["list"]), format!("[{order}]"));
}

#[tokio::test]
async fn the_latest_content_is_what_is_answered() {
    let world = World::new().await;
    for (name, status) in [
        ("TXN_CREATED", "PENDING_VBV"),
        ("ORDER_SUCCEEDED", "CHARGED"),
    ] {
        let content = format!(r#"{{"order_id":"1","status":"{status}"}}"#);
        world
            .report("/events", &event(name, "order", &content))
            .await
            .ok();
        assert_eq!(world.shop.get("/orders/1").await.body, content);
    }
}

#[tokio::test]
async fn what_another_ledger_keeps_cannot_be_changed_here() {
    let world = World::new().await;
    let order = r#"{"order_id":"1","status":"CHARGED"}"#;
    world
        .report("/events", &event("ORDER_SUCCEEDED", "order", order))
        .await
        .ok();
    let mut page = String::new();
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("/orders", &[("order_id", "1"), ("amount", "1")]),
        ("/orders/1", &[("amount", "2")]),
        ("/orders/1/refunds", &[("unique_request_id", "r1")]),
        ("/txns", &[("order_id", "1"), ("payment_method_type", "NB")]),
    ];
    for (path, fields) in rows {
        page += &format!(
            "{path}: {}\n",
            world.shop.post(path, fields).await.refusal()
        );
    }
    insta::assert_snapshot!(page, @r"
    /orders: 400 order.foreign: the order is kept by another ledger, so it can only change through POST /events
    /orders/1: 400 order.foreign: the order is kept by another ledger, so it can only change through POST /events
    /orders/1/refunds: 400 order.foreign: the order is kept by another ledger, so it can only change through POST /events
    /txns: 400 order.foreign: the order is kept by another ledger, so it can only change through POST /events
    ");
    assert_eq!(world.shop.get("/orders/1").await.body, order);
}

#[tokio::test]
async fn a_batch_is_answered_line_by_line() {
    let world = World::new().await;
    let line = |id: &str, order_id: &str| {
        let content = format!(r#"{{"order":{{"order_id":"{order_id}","status":"CHARGED"}}}}"#);
        let head = r#""merchant_id":"ms","event_name":"ORDER_SUCCEEDED""#;
        format!(r#"{{"id":"{id}",{head},"content":{content}}}"#)
    };
    let lines = [
        line("evt_1", "1"),
        line("evt_2", ""),
        String::new(),
        line("evt_1", "1"),
        line("evt_3", "2"),
        "{".to_owned(),
    ];
    let answer = world.report("/events/batch", &lines.join("\n")).await;
    assert_eq!(answer.status, 200);
    let text = String::from_utf8_lossy(&answer.body);
    let mut page = String::new();
    for answer in text.lines() {
        let answer: Value = serde_json::from_str(answer).unwrap();
        page += &match answer["status"].as_u64() {
            Some(201) => format!(
                "{} 201 {} replayed {}\n",
                answer["line"], answer["event_id"], answer["replayed"]
            ),
            _ => format!(
                "{} {} {}\n",
                answer["line"], answer["status"], answer["error"]["error_message"]
            ),
        };
    }
    insta::assert_snapshot!(page, @r#"
    1 201 "evt_1" replayed false
    2 400 "the mandatory parameter 'content.order.order_id' is missing"
    4 201 "evt_1" replayed true
    5 201 "evt_3" replayed false
    6 400 "the body is no good JSON: EOF while parsing an object at line 1 column 1"
    "#);
    world.arrived(2).await;
    assert_eq!(world.shop.events().await.len(), 2);
}
