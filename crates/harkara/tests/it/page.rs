//! The way of a customer's browser: to the hosted payment page, and back to the shop.

use std::time::Duration;

use bytes::Bytes;
use harkara::clock::Clock;
use harkara_core::time::Timestamp;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use serde_json::json;

use crate::app::{Merchant, Reply, TestApp, form};

const SHOP_URL: (&str, &str) = ("return_url", "https://shop.example.com/done?cart=7");

/// Asks as a browser: for a page, or with a button pressed.
async fn browse(app: &TestApp, url: &str, pressed: Option<&str>) -> Reply {
    let path = url.split_once("://").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    let request = match pressed {
        None => Request::get(path).body(Full::default()),
        Some(outcome) => Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form(&[("outcome", outcome)]))),
    };
    app.send(request.unwrap()).await
}

/// Starts a payment as a shop without `format=json` does; gives where the browser is sent.
async fn pay(shop: &Merchant, order_id: &str, amount: &str, more: &[(&str, &str)]) -> String {
    let fields = [("order_id", order_id), ("amount", amount), SHOP_URL];
    shop.post("/orders", &fields).await.ok();
    let mut fields = vec![("order_id", order_id), ("payment_method_type", "NB")];
    fields.extend(more);
    let sent = shop.post("/txns", &fields).await;
    assert_eq!((sent.status.as_u16(), &sent.body), (302, &Bytes::new()));
    sent.location().to_owned()
}

#[tokio::test]
async fn a_customer_is_sent_to_the_page_and_back_to_the_shop() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let url = pay(&shop, "a", "8", &[("dummy_outcome", "PENDING")]).await;
    let page = browse(&app, &url, None).await;
    let text = String::from_utf8_lossy(&page.body);
    for shown in ["Pay for order a", "INR 8.00", "Outcome of payment ms-a-1"] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    let names = ["TXN_CHARGED", "ORDER_SUCCEEDED"];
    assert!(
        shop.events()
            .await
            .iter()
            .all(|event| event["event_name"] != names[0])
    );

    let back = browse(&app, &url, Some("CHARGED")).await;
    assert_eq!(
        back.status, 303,
        "what was posted is not to be posted again"
    );
    insta::assert_snapshot!(back.location(), @r"https://shop.example.com/done?cart=7&order_id=a&status=CHARGED&status_id=21");
    // The browser is on its way, and so is the webhook.
    let events = shop.events().await;
    for name in names {
        assert!(
            events.iter().any(|event| event["event_name"] == name),
            "{name}"
        );
    }
}

#[tokio::test]
async fn whoever_comes_to_a_decided_payment_is_sent_on() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let url = pay(
        &shop,
        "a",
        "8",
        &[("dummy_outcome", "AUTHENTICATION_FAILED")],
    )
    .await;
    shop.order_becomes("a", "AUTHENTICATION_FAILED").await;
    let late = browse(&app, &url, None).await;
    assert_eq!(late.status, 302);
    insta::assert_snapshot!(late.location(), @r"https://shop.example.com/done?cart=7&order_id=a&status=AUTHENTICATION_FAILED&status_id=26");
    let pressed = browse(&app, &url, Some("CHARGED")).await;
    assert_eq!(pressed.status, 409);
    let text = String::from_utf8_lossy(&pressed.body);
    let link = format!("<a href=\"{}\">", late.location().replace('&', "&amp;"));
    assert!(text.contains(&link), "{link} in {text}");
}

#[tokio::test]
async fn without_a_shop_to_go_back_to_the_page_says_so() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order.order_id", "a"),
        ("order.amount", "8"),
        ("payment_method_type", "NB"),
    ];
    let sent = shop.post("/txns", &fields).await;
    assert_eq!(sent.status, 302);
    shop.order_becomes("a", "CHARGED").await;
    let page = browse(&app, sent.location(), None).await;
    assert_eq!(page.status, 200);
    let text = String::from_utf8_lossy(&page.body);
    assert!(
        text.contains("This payment is decided already.") && !text.contains("<a "),
        "{text}"
    );
}

#[tokio::test]
async fn a_mandate_is_registered_on_the_page_and_debited_without_one() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order.order_id", "a"),
        ("order.amount", "1"),
        ("order.customer_id", "cst_1"),
        ("order.options.create_mandate", "REQUIRED"),
        ("order.mandate.max_amount", "100"),
        ("payment_method_type", "UPI"),
    ];
    let sent = shop.post("/txns", &fields).await;
    assert_eq!(sent.status, 302);
    let order = shop.order_becomes("a", "CHARGED").await;
    let fields = [
        ("order.order_id", "b"),
        ("order.amount", "10"),
        (
            "mandate_id",
            order["mandate"]["mandate_id"].as_str().unwrap(),
        ),
    ];
    let debited = shop.post("/txns", &fields).await;
    assert_eq!(debited.status, 200);
    assert_eq!(debited.ok()["order_id"], "b");
}

/// The gateway would have charged it five seconds later.
#[tokio::test]
async fn what_is_decided_on_the_page_stays_decided() {
    let clock = Clock::manual(Timestamp::parse_iso("2023-08-10T07:00:48Z").unwrap());
    let slowly = Duration::from_secs(5);
    let app = TestApp::start_at(clock.clone(), |config, _| {
        config.gateway.dummy_pending = slowly;
    })
    .await;
    let shop = app.merchant("ms", json!({})).await;
    let url = pay(&shop, "a", "700", &[]).await;
    let untouched = pay(&shop, "b", "700", &[]).await;
    assert_ne!(url, untouched);
    browse(&app, &url, Some("AUTHORIZATION_FAILED")).await;
    clock.advance(slowly);
    shop.order_becomes("b", "CHARGED").await;
    // Played after all that was due with it.
    pay(&shop, "c", "1", &[]).await;
    shop.order_becomes("c", "CHARGED").await;
    let order = shop.get("/orders/a").await.ok();
    assert_eq!(order["status"], "AUTHORIZATION_FAILED");
    assert_eq!(order["txn_detail"]["error_message"], "Not sufficient funds");
}
