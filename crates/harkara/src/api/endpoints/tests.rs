use std::time::Duration;

use harkara_webhook::{EventName, WebhookVersion};

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
    let shown = show(&endpoint, None, endpoint.created_at);
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
        r#"{"url":"https://a.example.com","username":"u","signing":"yes"}"#,
        r#"{"url":"https://a.example.com","username":"u","overlap_seconds":60}"#,
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
    400 "invalid_request": "secret: is unknown here; expected one of url, username, password, signing, overlap_seconds, webhook_version, events, headers, ladder, success, order, timeout_seconds, rate_per_second, ca_pem"
    400 "invalid_request": "signing: invalid type: string \"yes\", expected a boolean"
    400 "invalid_request": "overlap_seconds: is for credentials that are replaced; a new endpoint has none"
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

/// Makes an endpoint and gives its path.
async fn made(world: &World, body: &str) -> (String, Value) {
    let created = world.merchant("POST /endpoints", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let created = created.json();
    let path = format!("/endpoints/{}", created["endpoint_id"].as_str().unwrap());
    (path, created)
}

/// A secret that a merchant could bring, from a byte.
fn brought(byte: u8) -> String {
    use base64::Engine as _;
    let encoded = base64::prelude::BASE64_STANDARD.encode([byte; 24]);
    json!({ "secret": format!("whsec_{encoded}") }).to_string()
}

#[tokio::test]
async fn a_signing_secret_is_shown_once_and_then_only_since_when_and_until_when() {
    let world = World::new().await;
    let (path, created) = made(&world, &NEW.replace('}', r#","signing":true}"#)).await;
    let first = created["signing_secret"].as_str().unwrap().to_owned();
    assert!(Secret::parse(&first).is_ok(), "{first}");
    let signing =
        async || world.merchant(&format!("GET {path}"), "").await.json()["signing"].to_string();
    insta::assert_snapshot!(signing().await, @r#"[{"since":"2023-08-10T07:00:48Z","until":null}]"#);

    world.api.clock.advance(Duration::from_secs(3600));
    let add = format!("POST {path}/signing");
    let rotated = world.merchant(&add, r#"{"overlap_seconds":600}"#).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let second = rotated.json()["signing_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(first, second);
    insta::assert_snapshot!(signing().await, @r#"
    [{"since":"2023-08-10T08:00:48Z","until":null},{"since":"2023-08-10T07:00:48Z","until":"2023-08-10T08:10:48Z"}]
    "#);
    let read = world.merchant("GET /endpoints", "").await.text;
    assert!(
        !read.contains("whsec_") && !read.contains("signing_secret"),
        "{read}"
    );

    // Its time is over, and the next change of whatever kind drops it.
    world.api.clock.advance(Duration::from_secs(600));
    insta::assert_snapshot!(signing().await, @r#"[{"since":"2023-08-10T08:00:48Z","until":null}]"#);
    world
        .merchant(&format!("PATCH {path}"), r#"{"order":"none"}"#)
        .await
        .json();
    let endpoints = world
        .api
        .store
        .endpoints(&MerchantId::new("ms"))
        .await
        .unwrap();
    assert_eq!(endpoints[0].signing_secrets.len(), 1);

    for _ in 0..2 {
        let removed = world.merchant(&format!("DELETE {path}/signing"), "").await;
        assert_eq!(
            (removed.status.as_u16(), &removed.json()["signing"]),
            (200, &json!([]))
        );
    }
}

#[tokio::test]
async fn a_secret_that_a_merchant_brings_is_never_shown_and_is_added_once() {
    let world = World::new().await;
    let (path, created) = made(&world, NEW).await;
    assert_eq!(created["signing"], json!([]));
    assert_eq!(created["signing_secret"], Value::Null);
    let add = format!("POST {path}/signing");
    for (byte, secrets) in [(1, 1), (1, 1), (2, 2), (2, 2), (3, 2)] {
        let added = world.merchant(&add, &brought(byte)).await;
        assert_eq!(added.status, 201, "{}", added.text);
        assert!(!added.text.contains("whsec_"), "{}", added.text);
        assert_eq!(
            added.json()["signing"].as_array().unwrap().len(),
            secrets,
            "{byte}"
        );
    }
    // A day, when nobody says.
    let shown = world.merchant(&format!("GET {path}"), "").await.json();
    insta::assert_snapshot!(shown["signing"], @r#"
    [{"since":"2023-08-10T07:00:48Z","until":null},{"since":"2023-08-10T07:00:48Z","until":"2023-08-11T07:00:48Z"}]
    "#);
}

#[tokio::test]
async fn what_a_signing_secret_may_not_be() {
    let world = World::new().await;
    let (path, _) = made(&world, NEW).await;
    let bodies = [
        r#"{"secret":""}"#,
        r#"{"secret":"whsec_short"}"#,
        r#"{"secret":"whsec_c2hvcnQ="}"#,
        r#"{"secret":7}"#,
        r#"{"overlap_seconds":604801}"#,
        r#"{"overlap_seconds":-1}"#,
        r#"{"until":"now"}"#,
    ];
    let mut table = String::new();
    for body in bodies {
        let refused = world.merchant(&format!("POST {path}/signing"), body).await;
        table += &format!("{}\n", refused.refusal());
    }
    let elsewhere = world.merchant("POST /endpoints/ep_none/signing", "").await;
    table += &format!("{}\n", elsewhere.refusal());
    let elsewhere = world
        .merchant("DELETE /endpoints/ep_none/signing", "")
        .await;
    table += &elsewhere.refusal();
    insta::assert_snapshot!(table, @r#"
    400 "invalid_request": "secret: the secret must begin with whsec_; put that before its base64"
    400 "invalid_request": "secret: the secret must be standard base64 with padding after whsec_; encode its bytes so"
    400 "invalid_request": "secret: the secret must have 24 to 64 bytes, and has 5; choose 32 random ones"
    400 "invalid_request": "secret: invalid type: integer `7`, expected a string"
    400 "invalid_request": "overlap_seconds: the overlap must be 0 to 604800 seconds (7 days), and is 604801"
    400 "invalid_request": "overlap_seconds: invalid value: integer `-1`, expected u64"
    400 "invalid_request": "until: is unknown here; expected secret or overlap_seconds"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    "#);
    let after = world.merchant(&format!("GET {path}"), "").await.json();
    assert_eq!(after["signing"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn credentials_that_are_replaced_stay_good_for_as_long_as_is_said() {
    let world = World::new().await;
    let (path, created) = made(&world, NEW).await;
    assert_eq!(created["previous_credentials"], Value::Null);
    let patch = async |body: &str| {
        let patched = world.merchant(&format!("PATCH {path}"), body).await;
        assert_eq!(patched.status, 200, "{}", patched.text);
        patched.json()["previous_credentials"].to_string()
    };
    let new = r#"{"username":"shop2","password":"new","overlap_seconds":3600}"#;
    insta::assert_snapshot!(patch(new).await, @r#"{"until":"2023-08-10T08:00:48Z","username":"shop"}"#);
    world.api.clock.advance(Duration::from_secs(60));
    insta::assert_snapshot!(patch(new).await, @r#"{"until":"2023-08-10T08:00:48Z","username":"shop"}"#);
    insta::assert_snapshot!(patch(r#"{"order":"none"}"#).await, @r#"{"until":"2023-08-10T08:00:48Z","username":"shop"}"#);
    world.api.clock.advance(Duration::from_secs(3540));
    insta::assert_snapshot!(patch(r#"{"order":"hold"}"#).await, @"null");

    insta::assert_snapshot!(patch(r#"{"password":"newer","overlap_seconds":60}"#).await, @r#"{"until":"2023-08-10T08:01:48Z","username":"shop2"}"#);
    insta::assert_snapshot!(patch(r#"{"password":"newest"}"#).await, @"null");
}

#[tokio::test]
async fn what_cannot_be_said_about_replaced_credentials() {
    let world = World::new().await;
    let (path, _) = made(&world, NEW).await;
    let bodies = [
        r#"{"overlap_seconds":60}"#,
        r#"{"overlap_seconds":60,"order":"none"}"#,
        r#"{"password":"new","overlap_seconds":604801}"#,
        r#"{"password":"new","signing":true}"#,
    ];
    let mut table = String::new();
    for body in bodies {
        let refused = world.merchant(&format!("PATCH {path}"), body).await;
        table += &format!("{}\n", refused.refusal());
    }
    insta::assert_snapshot!(table, @r#"
    400 "invalid_request": "overlap_seconds: is for new credentials; name a username or a password with it"
    400 "invalid_request": "overlap_seconds: is for new credentials; name a username or a password with it"
    400 "invalid_request": "overlap_seconds: the overlap must be 0 to 604800 seconds (7 days), and is 604801"
    400 "invalid_request": "signing: is for a new endpoint; POST /endpoints/{endpoint_id}/signing adds a secret"
    "#);
    let after = world.merchant(&format!("GET {path}"), "").await.json();
    assert_eq!(
        (&after["order"], &after["previous_credentials"]),
        (&json!("hold"), &Value::Null)
    );
}

#[tokio::test]
async fn an_endpoint_may_have_authorities_of_its_own() {
    let world = World::new().await;
    let body = NEW.replace('}', r#","ca_pem":"hello"}"#);
    let refused = world.merchant("POST /endpoints", &body).await.refusal();
    assert!(
        refused.contains("ca_pem: the PEM holds no certificate"),
        "{refused}"
    );

    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let body = NEW.replace('}', &format!(r#","ca_pem":{}}}"#, json!(pem)));
    let created = world.merchant("POST /endpoints", &body).await.json();
    assert_eq!(created["ca_pem"], pem);
    let path = format!("/endpoints/{}", created["endpoint_id"].as_str().unwrap());
    let patch = format!("PATCH {path}");
    let kept = world.merchant(&patch, r#"{"order":"none"}"#).await.json();
    assert_eq!(kept["ca_pem"], pem);
    let without = world.merchant(&patch, r#"{"ca_pem":null}"#).await.json();
    assert_eq!(without["ca_pem"], json!(null));
}
