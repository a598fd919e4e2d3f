//! Why a webhook did not count, or was not sent: in the same words wherever one asks.

use std::time::Duration;

use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer, Reply};
use harkara_webhook::{BasicCredentials, Receiver};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::{Merchant, SHOP, TestApp};

/// Answers with the status that the order is called after; `silent` gets none.
fn by_order(arrival: &Arrival) -> Option<Reply> {
    let word = arrival.about();
    if word == "silent" {
        return Some(Reply::silence());
    }
    let status: u16 = word.strip_prefix("answer-")?.parse().ok()?;
    let reply = Reply::status(StatusCode::from_u16(status).ok()?);
    Some(match status {
        301 => reply.header("location", "https://shop.merchant.example/elsewhere"),
        _ => reply,
    })
}

async fn start() -> (TestApp, MerchantServer) {
    let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
    let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), by_order)
        .await
        .unwrap();
    let ca_pem = receiver.ca_pem().to_owned();
    let app = TestApp::start_with(|config, folder| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, ca_pem).unwrap();
        config.destinations.ca_file = Some(file);
    })
    .await;
    (app, receiver)
}

async fn endpoint(shop: &Merchant, url: &str, more: Value) -> String {
    let mut body = json!({ "url": url, "username": "shop", "password": "secret" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = shop
        .json(Method::POST, "/endpoints", &body.to_string())
        .await
        .ok();
    answer["endpoint_id"].as_str().unwrap().to_owned()
}

/// The facts about an event's delivery, with its moments taken out, once one of them says `needle`.
async fn facts(shop: &Merchant, event: &Value, needle: &str) -> String {
    let path = format!("/events/{}/explain", event["id"].as_str().unwrap());
    for _ in 0..500 {
        let answer = shop.get(&path).await.ok();
        let facts = answer["endpoints"][0]["facts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if facts
            .iter()
            .any(|fact| fact.as_str().unwrap().contains(needle))
        {
            assert_eq!(answer["endpoints"][0]["notified"], false);
            let lines = facts
                .iter()
                .map(|fact| without_moments(fact.as_str().unwrap()));
            return lines.collect::<Vec<_>>().join("\n");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} never said '{needle}'");
}

/// `2023-08-10T07:00:48Z` becomes `<moment>`.
fn without_moments(fact: &str) -> String {
    let words = fact.split(' ').map(|word| {
        let digits = word.trim_end_matches([',', ';', '.', ':']);
        let is_moment = digits.len() == 20 && digits.ends_with('Z') && digits.contains('T');
        if is_moment {
            word.replace(digits, "<moment>")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_do_not_count_are_explained() {
    let (app, receiver) = start().await;
    let shop = app.merchant("ms", json!({})).await;
    let more = json!({ "events": { "ORDER_CREATED": true }, "timeout_seconds": 1 });
    endpoint(&shop, &receiver.url("/hooks"), more).await;
    let orders = [
        "answer-201",
        "answer-204",
        "answer-301",
        "answer-404",
        "answer-500",
        "silent",
    ];
    let mut page = String::new();
    for order in orders {
        shop.post("/orders", &[("order_id", order), ("amount", "8")])
            .await
            .ok();
        let event = shop.event("ORDER_CREATED").await;
        assert_eq!(event["content"]["order"]["order_id"], order);
        page += &format!("{}\n\n", facts(&shop, &event, "attempt 1").await);
        assert_eq!(
            shop.get(&format!("/orders/{order}")).await.ok()["status"],
            "NEW"
        );
        let path = format!("/events/{}", event["id"].as_str().unwrap());
        assert_eq!(shop.get(&path).await.ok()["notified"], false);
    }
    insta::assert_snapshot!(page, @r"
    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: HTTP_201, the receiver answered 201; only 200 counts
    next attempt at <moment>

    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: HTTP_204, the receiver answered 204; only 200 counts
    next attempt at <moment>

    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: HTTP_301, the receiver answered 301; only 200 counts
    next attempt at <moment>

    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: HTTP_404, the receiver answered 404; only 200 counts
    next attempt at <moment>

    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: HTTP_500, the receiver answered 500; only 200 counts
    next attempt at <moment>

    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: ATTEMPT_TIMEOUT, the attempt took longer than the endpoint's timeout; answer first, work later
    next attempt at <moment>
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_not_there_is_explained() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    // A port that was free a moment ago, and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let opted_in = json!({ "events": { "ORDER_CREATED": true } });
    endpoint(&shop, &format!("https://{SHOP}:{port}/"), opted_in).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let event = shop.event("ORDER_CREATED").await;
    insta::assert_snapshot!(facts(&shop, &event, "attempt 1").await, @r"
    ORDER_CREATED was derived from order created at <moment>
    ORDER_CREATED is in every version, endpoint has latest
    attempt 1 at <moment>: CONNECT_REFUSED, the receiver refused the connection; check that it listens on the URL's port
    next attempt at <moment>
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withheld_is_explained_and_can_be_resent_after_an_upgrade() {
    let (app, receiver) = start().await;
    let shop = app.merchant("ms", json!({})).await;
    let old = json!({ "webhook_version": "2016-10-27" });
    let endpoint_id = endpoint(&shop, &receiver.url("/hooks"), old).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    let event = shop.event("TXN_CHARGED").await;
    insta::assert_snapshot!(facts(&shop, &event, "withheld").await, @r"
    TXN_CHARGED was derived from txn ms-1-1 charged at <moment>
    withheld: TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2016-10-27
    ");

    let newer = json!({ "webhook_version": "2020-10-31" }).to_string();
    shop.json(Method::PATCH, &format!("/endpoints/{endpoint_id}"), &newer)
        .await
        .ok();
    let path = format!("/events/{}", event["id"].as_str().unwrap());
    let resent = shop
        .json(Method::POST, &format!("{path}/resend"), "{}")
        .await;
    assert_eq!(resent.status, StatusCode::ACCEPTED, "{}", resent.json());
    let patience = Duration::from_secs(20);
    let came = |arrivals: &[Arrival]| {
        arrivals
            .iter()
            .any(|arrival| arrival.is(harkara_webhook::EventName::TxnCharged))
    };
    let arrivals = receiver.until(came, patience).await.unwrap();
    let arrival = arrivals
        .iter()
        .find(|a| a.is(harkara_webhook::EventName::TxnCharged))
        .unwrap();
    assert_eq!(arrival.headers["webhook-id"], event["id"].as_str().unwrap());
}

/// An order that names a URL of its own is told of there, with the endpoint's credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_may_have_a_url_of_its_own() {
    let (app, receiver) = start().await;
    let shop = app.merchant("ms", json!({})).await;
    let opted_in = json!({ "events": { "ORDER_CREATED": true } });
    endpoint(&shop, &receiver.url("/hooks"), opted_in).await;
    let own = receiver.url("/own");
    let dotted = [
        ("order_id", "1"),
        ("amount", "8"),
        ("metadata.webhook_url", own.as_str()),
    ];
    shop.post("/orders", &dotted).await.ok();
    let nested = json!({ "order_id": "2", "amount": 8, "metadata": { "webhook_url": own } });
    shop.json(Method::POST, "/orders", &nested.to_string())
        .await
        .ok();
    shop.post("/orders", &[("order_id", "3"), ("amount", "8")])
        .await
        .ok();
    let three = |arrivals: &[Arrival]| arrivals.len() == 3;
    let arrivals = receiver
        .until(three, Duration::from_secs(20))
        .await
        .unwrap();
    let mut paths: Vec<String> = arrivals
        .iter()
        .map(|arrival| format!("{} {}", arrival.about(), arrival.path))
        .collect();
    paths.sort();
    assert_eq!(paths, ["1 /own", "2 /own", "3 /hooks"]);
    assert!(
        arrivals.iter().all(|arrival| arrival.event.is_some()),
        "the sender was recognised"
    );
}

/// The test button makes a real event and a real call, and no news of a payment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_arrives_and_is_left_out_of_the_feed() {
    let (app, receiver) = start().await;
    let shop = app.merchant("ms", json!({})).await;
    let endpoint_id = endpoint(&shop, &receiver.url("/hooks"), json!({})).await;
    let path = format!("/endpoints/{endpoint_id}/test");
    let pressed = shop.json(Method::POST, &path, "{}").await.ok();
    let arrival = receiver.arrival(0).await;
    assert_eq!(
        arrival.headers["webhook-id"],
        pressed["event_id"].as_str().unwrap()
    );
    assert!(
        arrival.event.is_some(),
        "with the endpoint's own credentials"
    );
    assert!(shop.events().await.is_empty());
    let asked = shop.get("/events?order_id=harkara-test").await.ok();
    assert_eq!(asked["events"].as_array().unwrap().len(), 1);
}
