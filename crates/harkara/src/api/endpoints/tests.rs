use std::time::Duration;

use harkara_webhook::WebhookVersion;

use super::*;
use crate::config::Config;
use crate::testing::World;

#[test]
fn an_endpoint_is_shown_with_the_reason_for_each_event_that_it_is_not_sent() {
    let mut endpoint = blank(
        &MerchantId::new("ms"),
        "ep_1".to_owned(),
        Duration::from_secs(30),
        Timestamp::from_seconds(0),
    );
    endpoint.version = WebhookVersion::date(2016, 10, 27);
    endpoint.switches.insert(EventName::OrderRefunded, false);
    let shown = show(&endpoint, None);
    assert_eq!(shown["password"], "set");
    let rows = shown["events"].as_array().unwrap().iter();
    let table: String = rows
        .filter(|row| row["sent"] == false)
        .map(|row| format!("{}: {}\n", row["name"], row["reason"]))
        .collect();
    insta::assert_snapshot!(table, @r#"
    "ORDER_REFUNDED": "is switched off for this endpoint"
    "AUTO_REFUND_SUCCEEDED": "needs ≥ 2019-11-11, endpoint has 2016-10-27"
    "AUTO_REFUND_FAILED": "needs ≥ 2019-11-11, endpoint has 2016-10-27"
    "TXN_CHARGED": "needs ≥ 2020-10-31, endpoint has 2016-10-27"
    "TXN_FAILED": "needs ≥ 2020-10-31, endpoint has 2016-10-27"
    "ORDER_CREATED": "is sent only to endpoints that ask for it, and this one does not"
    "#);
}

const NEW: &str = r#"{"url":"https://Shop.example.com/hook","username":"shop"}"#;

#[tokio::test]
async fn a_password_is_shown_once_and_never_again() {
    let world = World::new().await;
    let created = world.merchant("POST /endpoints", NEW).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let created = created.json();
    assert_eq!(created["password"].as_str().unwrap().len(), 32);
    assert_eq!(created["url"], "https://shop.example.com/hook");

    let path = format!("/endpoints/{}", created["endpoint_id"].as_str().unwrap());
    let read = world.merchant(&format!("GET {path}"), "").await;
    assert_eq!(read.json()["password"], "set");
    let patch =
        r#"{"password":"a:b","events":{"ORDER_CREATED":true},"ladder":[5,10],"order":"none"}"#;
    let updated = world.merchant(&format!("PATCH {path}"), patch).await.json();
    assert_eq!(updated["password"], "set");
    assert_eq!(updated["username"], "shop");
    assert_eq!(updated["ladder"], json!([5, 10]));
    assert_eq!(updated["warnings"].as_array().unwrap().len(), 1);
    let opted_in = &updated["events"].as_array().unwrap()[18];
    assert_eq!(
        (&opted_in["name"], &opted_in["sent"]),
        (&json!("ORDER_CREATED"), &json!(true))
    );
    let back = world
        .merchant(
            &format!("PATCH {path}"),
            r#"{"events":{"ORDER_CREATED":null}}"#,
        )
        .await;
    assert_eq!(back.json()["events"].as_array().unwrap()[18]["sent"], false);
}

#[tokio::test]
async fn one_header_has_one_value_however_its_name_is_written() {
    let world = World::new().await;
    let body = NEW.replace('}', r#","headers":{"X-Shop":"1","Y":"2","x-shop":"3"}}"#);
    let refused = world.merchant("POST /endpoints", &body).await.refusal();
    insta::assert_snapshot!(refused, @r#"400 "invalid_request": "headers: 'X-Shop' and 'x-shop' are the same header; keep one of them""#);
}

#[tokio::test]
async fn what_an_endpoint_does_not_say_is_the_servers_default() {
    let setting = (
        "HARKARA_DELIVERY__ATTEMPT_TIMEOUT_SECONDS".to_owned(),
        "9".to_owned(),
    );
    let config = Config::load(None, std::iter::once(setting)).unwrap();
    let world = World::with(config).await;
    let silent = world.merchant("POST /endpoints", NEW).await.json();
    assert_eq!(silent["timeout_seconds"], 9);
    assert_eq!(silent["success"], "only_200");
    let says = NEW.replace('}', r#","timeout_seconds":60,"success":"any_2xx"}"#);
    let says = world.merchant("POST /endpoints", &says).await.json();
    assert_eq!(says["timeout_seconds"], 60);
    assert_eq!(says["success"], "any_2xx");
}

#[tokio::test]
async fn what_an_endpoint_may_not_be() {
    let world = World::new().await;
    let bodies = [
        "{}",
        r#"{"url":"https://a.example.com"}"#,
        r#"{"url":"http://a.example.com","username":"u"}"#,
        r#"{"url":"https://10.0.0.1/","username":"u"}"#,
        r#"{"url":"https://a.example.com","username":"a.b"}"#,
        r#"{"url":"https://a.example.com","username":"u","password":""}"#,
        r#"{"url":"https://a.example.com","username":"u","webhook_version":"2016"}"#,
        r#"{"url":"https://a.example.com","username":"u","events":{"ORDER_LOST":true}}"#,
        r#"{"url":"https://a.example.com","username":"u","headers":{"Host":"x"}}"#,
        r#"{"url":"https://a.example.com","username":"u","ladder":"week"}"#,
        r#"{"url":"https://a.example.com","username":"u","success":"any"}"#,
        r#"{"url":"https://a.example.com","username":"u","timeout_seconds":61}"#,
        r#"{"url":"https://a.example.com","username":"u","secret":"x"}"#,
    ];
    let mut table = String::new();
    for body in bodies {
        table += &world.merchant("POST /endpoints", body).await.refusal();
        table.push('\n');
    }
    insta::assert_snapshot!(table, @r#"
    400 "invalid_request": "the mandatory parameter 'url' is missing"
    400 "invalid_request": "the mandatory parameter 'username' is missing"
    422 "invalid.url": "url: the URL must begin with https://; what is sent must be encrypted"
    422 "invalid.url": "url: the URL must name its host; an address such as 203.0.113.7 is not called"
    400 "invalid_request": "username: the username must not contain '.' at position 2; use letters and digits"
    400 "invalid_request": "password: the password must not be empty; choose a long random one"
    400 "invalid_request": "webhook_version: read webhook version \"2016\": write a date as YYYY-MM-DD, such as 2016-10-27, or nothing for the latest"
    400 "invalid_request": "events: read event name \"ORDER_LOST\": expected one of ORDER_SUCCEEDED, ORDER_REFUNDED, ORDER_FAILED, ORDER_REFUND_FAILED, TXN_CREATED, REFUND_MANUAL_REVIEW_NEEDED, REFUND_INITIATED, AUTO_REFUND_SUCCEEDED, AUTO_REFUND_FAILED, MANDATE_CREATED, MANDATE_ACTIVATED, MANDATE_FAILED, MANDATE_REVOKED, NOTIFICATION_FAILED, NOTIFICATION_SUCCEEDED, ORDER_AUTHORIZED, TXN_CHARGED, TXN_FAILED, ORDER_CREATED"
    400 "invalid_request": "headers: the header \"Host\" is set by the sender or frames the message; use another name"
    400 "invalid_request": "ladder: expected day, three-days, month, or a list of seconds"
    400 "invalid_request": "success: unknown variant `any`, expected `only_200` or `any_2xx`"
    400 "invalid_request": "timeout_seconds: the timeout must be 1 to 60 seconds, and is 61"
    400 "invalid_request": "secret: is unknown here; expected one of url, username, password, webhook_version, events, headers, ladder, success, order, timeout_seconds, rate_per_second"
    "#);
}

#[tokio::test]
async fn paused_tested_resumed_deleted() {
    let world = World::new().await;
    let created = world.merchant("POST /endpoints", NEW).await.json();
    let path = format!("/endpoints/{}", created["endpoint_id"].as_str().unwrap());
    let paused = world
        .merchant(&format!("POST {path}/pause"), r#"{"reason":"move"}"#)
        .await
        .json();
    assert_eq!(
        (&paused["state"], &paused["paused_reason"]),
        (&json!("paused"), &json!("move"))
    );

    let mut ids = Vec::new();
    for _ in 0..2 {
        let test = world.merchant(&format!("POST {path}/test"), "").await;
        assert_eq!(test.status, 202, "{}", test.text);
        ids.push(test.json()["delivery_id"].as_str().unwrap().to_owned());
    }
    assert_ne!(
        ids[0], ids[1],
        "two presses in one microsecond are two tests"
    );
    let attempts = world
        .merchant(&format!("GET /deliveries/{}/attempts", ids[0]), "")
        .await
        .json();
    assert_eq!(
        (&attempts["kind"], &attempts["state"]),
        (&json!("test"), &json!("pending"))
    );

    let resumed = world
        .merchant(&format!("POST {path}/resume"), "")
        .await
        .json();
    assert_eq!(resumed["state"], "active");
    let deleted = world.merchant(&format!("DELETE {path}"), "").await.json();
    assert_eq!(deleted["withdrawn"], 2);
    let gone = world.merchant(&format!("GET {path}"), "").await;
    assert_eq!(gone.status, 404);
    let gone = world.merchant(&format!("DELETE {path}"), "").await;
    assert_eq!(gone.status, 404);
}
