use harkara_core::time::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::read::read;
use crate::api::json;
use crate::testing::World;

const ORDER: &str = r#"{ "order_id":"o-1" ,"status":"CHARGED","amount":1.50, "metadata":{"b":1}}"#;

fn event(extra: &str, name: &str, content: &str) -> String {
    format!(r#"{{"merchant_id":"ms","event_name":"{name}","content":{content}{extra}}}"#)
}

fn order_event(extra: &str) -> String {
    event(extra, "ORDER_SUCCEEDED", &format!(r#"{{"order":{ORDER}}}"#))
}

#[tokio::test]
async fn an_order_goes_in_and_comes_out_byte_for_byte() {
    let world = World::new().await;
    let body = order_event(r#","id":"evt_1","date_created":"2023-08-10T07:00:00Z""#);
    let stored = world.platform("POST /events", &body).await;
    insta::assert_snapshot!(stored.text, @r#"{"event_id":"evt_1","sequence":1,"cursor":"c1","deliveries":0}"#);

    let read = world.merchant("GET /events/evt_1", "").await;
    let head =
        r#"{"id":"evt_1","date_created":"2023-08-10T07:00:00Z","event_name":"ORDER_SUCCEEDED""#;
    let envelope = format!(r#"{head},"content":{{"order":{ORDER}}}}}"#);
    assert!(
        read.text.ends_with(&format!(r#""body":{envelope}}}"#)),
        "{}",
        read.text
    );
    let status = world.merchant("GET /orders/O-1", "").await;
    assert_eq!(status.text, ORDER);
}

#[tokio::test]
async fn the_same_request_is_stored_once() {
    let world = World::new().await;
    let first = world
        .platform("POST /events", &order_event(r#","id":"evt_1""#))
        .await;
    let again = world
        .platform("POST /events", &order_event(r#","id":"evt_1""#))
        .await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(again.headers["idempotent-replayed"], "true");

    let keyed = world
        .platform_once("POST /events", &order_event(""), "k")
        .await;
    assert_eq!(keyed.json()["sequence"], 2);
    world.api.clock.advance(std::time::Duration::from_secs(1));
    let again = world
        .platform_once("POST /events", &order_event(""), "k")
        .await;
    assert_eq!(keyed.text, again.text);

    let other = order_event(r#","id":"evt_1","date_created":"2023-08-10T07:00:00Z""#);
    let other_key = world
        .platform_once("POST /events", &order_event(r#","id":"evt_1""#), "l")
        .await;
    let refusals = [
        world.platform("POST /events", &other).await.refusal(),
        world
            .platform_once("POST /events", &other, "k")
            .await
            .refusal(),
        other_key.refusal(),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    422 "idempotency.mismatch": "this id or Idempotency-Key was used for another request; take a new one"
    422 "idempotency.mismatch": "this id or Idempotency-Key was used for another request; take a new one"
    409 "event.exists": "there is an event 'evt_1' already, from another request"
    "#);
}

#[tokio::test]
async fn an_id_is_answered_alike_whatever_was_sent_since() {
    let world = World::new().await;
    for (host, version) in [("new", ""), ("old", "2016-10-27")] {
        let endpoint = format!(
            r#"{{"url":"https://{host}.example.com","username":"u","webhook_version":"{version}"}}"#
        );
        world.merchant("POST /endpoints", &endpoint).await;
    }
    let txn = event(
        r#","id":"e1""#,
        "TXN_CHARGED",
        r#"{"txn":{"order_id":"a"}}"#,
    );
    let first = world.platform("POST /events", &txn).await;
    let resent = world.merchant("POST /events/e1/resend", "").await.json();
    assert_eq!(resent["deliveries"].as_array().unwrap().len(), 2);
    let again = world.platform("POST /events", &txn).await;
    assert_eq!(again.text, first.text);
    insta::assert_snapshot!(again.text, @r#"{"event_id":"e1","sequence":1,"cursor":"c1","deliveries":1}"#);
}

#[tokio::test]
async fn an_id_that_came_with_a_key_is_known_by_the_key_alone() {
    let world = World::new().await;
    let body = order_event(r#","id":"evt_1""#);
    let keyed = world.platform_once("POST /events", &body, "k").await;
    let again = world.platform_once("POST /events", &body, "k").await;
    assert_eq!(again.text, keyed.text);
    let refusal = world.platform("POST /events", &body).await.refusal();
    insta::assert_snapshot!(refusal, @r#"409 "event.exists": "there is an event 'evt_1' already, from another request""#);
}

#[tokio::test]
async fn two_with_the_same_key_at_once_are_one() {
    let world = World::new().await;
    let body = order_event("");
    let (one, two) = tokio::join!(
        world.platform_once("POST /events", &body, "k"),
        world.platform_once("POST /events", &body, "k"),
    );
    assert_eq!(one.text, two.text);
    let feed = world.merchant("GET /events", "").await;
    assert_eq!(feed.json()["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_refused() {
    let world = World::new().await;
    let order = |content: &str| event("", "ORDER_SUCCEEDED", content);
    let url = r#"{"order":{"order_id":"1","metadata":{"webhook_url":"http://10.0.0.1/x"}}}"#;
    let bodies = [
        "[]".to_owned(),
        r#"{"event_name":"ORDER_SUCCEEDED","content":{}}"#.to_owned(),
        event("", "ORDER_LOST", "{}"),
        event(r#","extra":1"#, "ORDER_SUCCEEDED", "{}"),
        event(
            r#","id":"a b""#,
            "ORDER_SUCCEEDED",
            r#"{"order":{"order_id":"1"}}"#,
        ),
        event(
            r#","date_created":"today""#,
            "ORDER_SUCCEEDED",
            r#"{"order":{"order_id":"1"}}"#,
        ),
        order("[]"),
        order(r#"{"txn":{"order_id":"1"}}"#),
        order(r#"{"order":{"order_id":"1"},"txn":{"order_id":"1"}}"#),
        order(r#"{"order":{"order_id":"1"},"orders":1}"#),
        order(r#"{"order":["ms","1"]}"#),
        order(r#"{"order":{}}"#),
        order(r#"{"order":{"order_id":7}}"#),
        order(r#"{"order":{"order_id":"1","status":21}}"#),
        order(r#"{"order":{"order_id":"1","merchant_id":"other"}}"#),
        order(url),
        order(r#"{"order":{"order_id":"1","a":1,"a":2}}"#),
        order(r#"{"order":{"order_id":"1","card":{"card_brand":"VISA","cvv":""}}}"#),
        order(r#"{"order":{"order_id":"1","card":{"card_number":"4111111111111111"}}}"#),
        event(
            "",
            "TXN_CHARGED",
            r#"{"txn":{"order_id":"1","card":{"pin":null,"card_security_code":"1"}}}"#,
        ),
        event("", "TXN_CHARGED", r#"{"txn":{"txn_id":"1"}}"#),
        event(
            "",
            "NOTIFICATION_FAILED",
            r#"{"notification":{"object_reference_id":"n"}}"#,
        ),
    ];
    let mut table = String::new();
    for body in bodies {
        table += &world.platform("POST /events", &body).await.refusal();
        table.push('\n');
    }
    let nobody = order(r#"{"order":{"order_id":"1"}}"#).replace("\"ms\"", "\"nobody\"");
    table += &world.platform("POST /events", &nobody).await.refusal();
    insta::assert_snapshot!(table, @r#"
    400 "invalid_json": "the body must be a JSON object"
    400 "invalid_request": "the mandatory parameter 'merchant_id' is missing"
    400 "invalid_request": "event_name: read event name \"ORDER_LOST\": expected one of ORDER_SUCCEEDED, ORDER_REFUNDED, ORDER_FAILED, ORDER_REFUND_FAILED, TXN_CREATED, REFUND_MANUAL_REVIEW_NEEDED, REFUND_INITIATED, AUTO_REFUND_SUCCEEDED, AUTO_REFUND_FAILED, MANDATE_CREATED, MANDATE_ACTIVATED, MANDATE_FAILED, MANDATE_REVOKED, NOTIFICATION_FAILED, NOTIFICATION_SUCCEEDED, ORDER_AUTHORIZED, TXN_CHARGED, TXN_FAILED, ORDER_CREATED"
    400 "invalid_request": "extra: is unknown here; expected one of merchant_id, event_name, content, id, date_created"
    400 "invalid_request": "id: must be 1 to 128 visible ASCII characters"
    400 "invalid_request": "date_created: must be a moment such as 2023-08-10T07:00:48Z"
    400 "invalid_request": "content: invalid type: sequence, expected a JSON object"
    400 "invalid_request": "the mandatory parameter 'content.order' is missing"
    400 "invalid_request": "content: must have no other key than 'order' for this event"
    400 "invalid_request": "content: must have no other key than 'order' for this event"
    400 "invalid_request": "content.order: is not a JSON object"
    400 "invalid_request": "the mandatory parameter 'content.order.order_id' is missing"
    400 "invalid_request": "content.order.order_id: must be text"
    400 "invalid_request": "content.order.status: must be text"
    400 "invalid_request": "content.order.merchant_id: is 'other', and merchant_id 'ms'"
    422 "invalid.url": "content.order.metadata.webhook_url: the URL must begin with https://; what is sent must be encrypted"
    400 "invalid_json": "the body is no good JSON: the key 'a' stands twice in one object at line 1 column 95"
    400 "invalid_request": "content.order.card.cvv: must not be stored or sent; leave it out"
    400 "invalid_request": "content.order.card.card_number: must not be stored or sent; leave it out"
    400 "invalid_request": "content.txn.card.card_security_code: must not be stored or sent; leave it out"
    400 "invalid_request": "the mandatory parameter 'content.txn.order_id' is missing"
    400 "invalid_request": "the mandatory parameter 'content.notification.mandate.mandate_id' is missing"
    404 "merchant.not_found": "there is no merchant 'nobody'"
    "#);
}

/// Pieces that make JSON bad, or good in another way.
const PIECES: [&[u8]; 20] = [
    b"",
    b" ",
    b",",
    b":",
    b"{",
    b"}",
    b"[]",
    b"\"",
    b"\\",
    b"\\u0061",
    b"\\ud800",
    b"\x01",
    b"\xff",
    b"0",
    b"1e400",
    b"null",
    b"\"a\":1,",
    b"\"order\":{},",
    b"{\"a\":{\"a\":[[{}]]}}",
    b"\"merchant_id\":\"ms\",",
];

/// A request in which some spans are replaced by pieces.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let content =
        r#"{"order":{"order_id":"o","a":[1,{"a":1.5}],"metadata":{"a":"\u00e9"},"card":null}}"#;
    let whole = event(r#","id":"e""#, "ORDER_SUCCEEDED", content).into_bytes();
    let damage = (0..whole.len(), 0..3_usize, 0..PIECES.len());
    prop::collection::vec(damage, 0..3).prop_map(move |damages| {
        let mut body = whole.clone();
        for (at, length, piece) in damages {
            let at = at.min(body.len());
            let end = (at + length).min(body.len());
            body.splice(at..end, PIECES[piece].iter().copied());
        }
        body
    })
}

#[tokio::test]
async fn whatever_is_read_is_good_json_that_nests_no_deeper_than_it_may() {
    let world = World::new().await;
    let mut taken = 0;
    let (mut runner, cases) = (TestRunner::default(), damaged());
    let depth = world.api.config.api.json_depth;
    for _ in 0..4_000 {
        let body = cases.new_tree(&mut runner).unwrap().current();
        let is_good = json::check(&body, depth).is_ok();
        let is_read = read(&world.api, &body, None, Timestamp::default()).is_ok();
        assert!(is_good || !is_read, "{}", String::from_utf8_lossy(&body));
        taken += usize::from(is_read);
    }
    assert!(taken > 400, "only {taken} were good enough to tell");
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        let order = format!(r#"{{"order":{{"order_id":"o","a":{open}{close}}}}}"#);
        let body = event("", "ORDER_SUCCEEDED", &order);
        read(&world.api, body.as_bytes(), None, Timestamp::default()).is_ok()
    };
    assert!(nested(depth - 3));
    assert!(!nested(depth - 2));
}

#[tokio::test]
async fn what_our_own_rules_keep_is_not_overwritten() {
    let world = World::new().await;
    let created = world
        .merchant("POST /orders", "order_id=own-1&amount=1")
        .await;
    assert_eq!(created.status, 200, "{}", created.text);
    let order = event("", "ORDER_SUCCEEDED", r#"{"order":{"order_id":"OWN-1"}}"#);
    let txn = event("", "TXN_CHARGED", r#"{"txn":{"order_id":"own-1"}}"#);
    let refusals = [
        world.platform("POST /events", &order).await.refusal(),
        world.platform("POST /events", &txn).await.refusal(),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    409 "order.own": "'OWN-1' is kept by this service; report its outcome on /outcomes instead"
    409 "order.own": "'own-1' is kept by this service; report its outcome on /outcomes instead"
    "#);
}

#[tokio::test]
async fn a_batch_answers_line_by_line_and_keeps_a_subjects_order() {
    let world = World::new().await;
    let line = |id: &str, order_id: &str| {
        let content = format!(r#"{{"order":{{"order_id":"{order_id}"}}}}"#);
        event(&format!(r#","id":"{id}""#), "ORDER_SUCCEEDED", &content)
    };
    let lines = [
        line("e1", "a"),
        line("e2", "b"),
        "{".to_owned(),
        line("e3", "A"),
        line("e1", "a"),
    ];
    let batch = world
        .platform("POST /events/batch", &lines.join("\n"))
        .await;
    assert_eq!(batch.headers["content-type"], "application/x-ndjson");
    let table: String = batch
        .text
        .lines()
        .map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let (number, status) = (&json["line"], &json["status"]);
            let code = json["error"]["error_code"].as_str().unwrap_or_default();
            let (id, sequence, replayed) =
                (&json["event_id"], &json["sequence"], &json["replayed"]);
            format!("{number} {status} {id} {sequence} {replayed} {code}\n")
        })
        .collect();
    insta::assert_snapshot!(table, @r#"
    1 201 "e1" 1 false 
    2 201 "e2" 1 false 
    3 400 null null null invalid_json
    4 201 "e3" 2 false 
    5 201 "e1" 1 true
    "#);
}
