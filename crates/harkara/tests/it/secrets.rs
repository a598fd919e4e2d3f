//! Secrets stay where they belong: not in the log at its most talkative, not in any answer but the
//! one that makes them, not in the data folder in plain bytes.

use std::fs::File;
use std::path::Path;

use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer, Reply};
use harkara_webhook::{BasicCredentials, EventName, Receiver};
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;

use crate::app::{SHOP, Server, store_at};
use crate::process::{ServerProcess, key_of};

const PASSWORD: &str = "canary-password-4711";
/// The base64 of `canary-signing-secret-42`, which no file may hold either.
const SIGNING_SECRET: &str = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LTQy";
const SIGNING_BYTES: &str = "canary-signing-secret-42";
const CARD_NUMBER: &str = "4111111111111111";
const CARD_CODE: &str = "canary-code-0815";

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.display().to_string(), std::fs::read(&path).unwrap())],
    };
    entries.flat_map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_shown_again_or_stored_in_plain_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(BasicCredentials::new("shop", PASSWORD));
    // A failed attempt is what the log has most to say about.
    let script = |arrival: &Arrival| {
        arrival
            .is(EventName::TxnCreated)
            .then(|| Reply::status(StatusCode::BAD_GATEWAY))
    };
    let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), script)
        .await
        .unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
    let log = folder.path().join("log");
    let settings = [
        (
            "HARKARA_DESTINATIONS__CA_FILE",
            ca_file.display().to_string(),
        ),
        ("HARKARA_LOG__LEVEL", "trace".to_owned()),
    ];
    let file = File::create(&log).unwrap();
    let process = ServerProcess::start_logging(folder.path(), &settings, file.into());
    let platform_key = key_of(folder.path(), "platform.key");
    let server = Server {
        address: process.address.clone(),
        platform_key: platform_key.clone(),
    };
    let shop = server.merchant("ms", json!({})).await;

    let endpoint = json!({
        "url": receiver.url("/hooks"),
        "username": "shop",
        "password": PASSWORD,
    });
    let made = shop
        .json(Method::POST, "/endpoints", &endpoint.to_string())
        .await;
    assert!(
        made.status.is_success() && !holds(&made.body, PASSWORD),
        "{}",
        made.json()
    );
    let endpoint_id = made.json()["endpoint_id"].as_str().unwrap().to_owned();
    let secret = json!({ "secret": SIGNING_SECRET }).to_string();
    let added = shop
        .json(
            Method::POST,
            &format!("/endpoints/{endpoint_id}/signing"),
            &secret,
        )
        .await;
    assert!(
        added.status.is_success() && !holds(&added.body, SIGNING_SECRET),
        "{}",
        added.json()
    );
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "CARD"),
        ("card_number", CARD_NUMBER),
        ("card_security_code", CARD_CODE),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    shop.post(
        "/txns",
        &[
            ("order_id", "1"),
            ("payment_method_type", "CARD"),
            ("card_number", "4111111111111112"),
        ],
    )
    .await
    .refusal();
    let paid = |arrivals: &[Arrival]| arrivals.iter().any(|a| a.is(EventName::OrderSucceeded));
    let arrivals = receiver.until(paid, Duration::from_secs(20)).await.unwrap();
    assert!(arrivals[0].headers.contains_key("webhook-signature"));
    let secrets = [
        PASSWORD,
        SIGNING_SECRET,
        SIGNING_BYTES,
        CARD_NUMBER,
        CARD_CODE,
        &shop.key,
        &platform_key,
    ];
    for path in ["/endpoints", "/orders/1", "/events?bodies=true"] {
        let answer = shop.get(path).await;
        for secret in secrets {
            assert!(!holds(&answer.body, secret), "{path} shows {secret}");
        }
    }
    drop(process);

    let key_files = ["platform.key", "sandbox-merchant.key"];
    let mut looked_at = 0;
    for (path, bytes) in files(folder.path()) {
        if key_files.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        looked_at += 1;
        for secret in secrets {
            assert!(!holds(&bytes, secret), "{path} holds {secret}");
        }
    }
    // In Postgres the same rows lie elsewhere, and fewer files here.
    let (expected, which) = match store_at(folder.path()) {
        None => (
            4,
            "the store, its log, the key ring and the log of the process",
        ),
        Some(_) => (2, "the key ring and the log of the process"),
    };
    assert!(looked_at >= expected, "{which}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(
        logged.contains("HTTP_502"),
        "it logged the failed attempt: {logged}"
    );
}

#[test]
fn files_with_keys_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let process = ServerProcess::start(folder.path(), &[]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    for name in ["platform.key", "sandbox-merchant.key", "vault.keys"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_of_a_request_are_shown_as_they_were_sent_but_for_what_is_secret() {
    let receiver = crate::app::receiver(|_| None).await;
    let app = crate::app::TestApp::start_calling(&receiver).await;
    let shop = app.merchant("ms", json!({})).await;
    let endpoint = json!({
        "url": receiver.url("/hooks"),
        "username": "shop",
        "password": "pass",
        "headers": { "X-Token": "canary-header-99" },
    });
    let made = shop
        .json(Method::POST, "/endpoints", &endpoint.to_string())
        .await
        .ok();
    let path = format!("/endpoints/{}", made["endpoint_id"].as_str().unwrap());
    let signing = json!({ "secret": SIGNING_SECRET }).to_string();
    shop.json(Method::POST, &format!("{path}/signing"), &signing)
        .await
        .ok();
    let test = shop
        .json(Method::POST, &format!("{path}/test"), "{}")
        .await
        .ok();
    let arrival = receiver.arrival(0).await;

    let delivery = test["delivery_id"].as_str().unwrap();
    let attempts = format!("/deliveries/{delivery}/attempts");
    let mut shown = shop.get(&attempts).await.ok();
    while shown["state"] == "pending" {
        tokio::task::yield_now().await;
        shown = shop.get(&attempts).await.ok();
    }
    let headers = shown["attempts"][0]["request"]["headers"]
        .as_array()
        .unwrap();
    let mut differ = String::new();
    for header in headers {
        let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
        let sent = arrival.headers[name].to_str().unwrap();
        if sent != value {
            differ += &format!("{name}: {value}\n");
        }
    }
    insta::assert_snapshot!(differ, @r"
    authorization: Basic ••••••••
    webhook-signature: v1,••••••••
    x-token: ••••••••
    ");
    // Its length says nothing that the body does not.
    assert_eq!(headers.len() + 1, arrival.headers.len(), "{headers:?}");
    assert!(arrival.headers.contains_key("content-length"));
}
