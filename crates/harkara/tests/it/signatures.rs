//! Signatures, judged by other people's libraries: what we sign they take, what was changed they
//! refuse.
//!
//! The Rust library is asked in every run. Those of npm and `PyPI` are programs beside the test, which
//! `cargo xtask test` installs and says the place of in `TEST_ORACLES`; a plain `cargo test` leaves
//! them out and lists them as ignored.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harkara::clock::Clock;
use harkara::deliver::sign::{self, Secret};
use harkara::receiver::Arrival;
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use http::{HeaderMap, HeaderName, Method};
use serde::Serialize;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::app::{Merchant, TestApp, receiver};

const PATIENCE: Duration = Duration::from_secs(20);
const BODY: &str = r#"{"id":"evt_1","content":{"order":{"amount":8.50}}}"#;

/// What a receiver has in its hands, and whether it must take it.
#[derive(Clone, Serialize)]
struct Case {
    #[serde(skip)]
    what: String,
    secret: String,
    headers: HashMap<String, String>,
    body: String,
    #[serde(skip)]
    taken: bool,
}

/// A secret whose bytes are all the same.
fn secret(byte: u8, length: usize) -> Secret {
    Secret::from_bytes(vec![byte; length].into())
}

/// A body as it is sent under these secrets, to a receiver that has one of them.
fn signed(body: &str, secrets: &[Secret], known: &Secret, at: Timestamp) -> Case {
    let mut headers = HashMap::from([("webhook-id".to_owned(), "evt_1".to_owned())]);
    headers.extend(sign::headers("evt_1", at, body.as_bytes(), secrets));
    Case {
        what: String::new(),
        secret: known.text().to_string(),
        headers,
        body: body.to_owned(),
        taken: true,
    }
}

impl Case {
    fn called(self, what: &str) -> Self {
        let what = what.to_owned();
        Self { what, ..self }
    }

    /// The same with something wrong.
    fn refused(&self, what: &str, change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self {
            taken: false,
            ..self.clone().called(what)
        };
        change(&mut case);
        case
    }
}

fn cases() -> Vec<Case> {
    let now = Clock::system().now();
    let mut cases = Vec::new();
    let large = json!({ "id": "x".repeat(256 * 1024) }).to_string();
    for (what, body) in [
        ("an event", BODY),
        ("a body of no members", "{}"),
        (
            "a body beyond ASCII",
            r#"{"name":"नमस्ते ₹ 👋","e":"\u00e9"}"#,
        ),
        ("a body with space around", " {\r\n\t\"a\" : 1 }\n\n"),
        ("a large body", &large),
    ] {
        for length in [24, 32, 64] {
            let secret = secret(7, length);
            let case = signed(body, std::slice::from_ref(&secret), &secret, now);
            cases.push(case.called(&format!("{what}, a secret of {length} bytes")));
        }
    }

    let made = [Secret::generate()];
    let good = signed(BODY, &made, &made[0], now).called("a secret that we made up");
    let older = Timestamp::from_seconds(now.as_seconds() - 3600);
    let earlier = Timestamp::from_seconds(now.as_seconds() - 1).epoch_seconds();
    cases.extend([
        good.refused("another secret", |case| {
            case.secret = secret(7, 32).text().to_string();
        }),
        good.refused("a changed body", |case| {
            case.body = case.body.replace("8.50", "9.50");
        }),
        good.refused("a body with one more byte", |case| case.body.push(' ')),
        good.refused("a changed timestamp", |case| {
            case.headers.insert("webhook-timestamp".to_owned(), earlier);
        }),
        good.refused("another event's id", |case| {
            case.headers
                .insert("webhook-id".to_owned(), "evt_2".to_owned());
        }),
        good.refused("no signature", |case| {
            case.headers.remove("webhook-signature");
        }),
        signed(BODY, &made, &made[0], older).refused("a signature of an hour ago", |_| {}),
        good,
    ]);

    let pair = [secret(2, 32), secret(1, 32)];
    let [newer, older] = &pair;
    let changing = signed(BODY, &pair, newer, now).called("changing over, the newer secret");
    cases.extend([
        changing.refused("changing over, a third secret", |case| {
            case.secret = secret(3, 32).text().to_string();
        }),
        changing.refused("changing over, a changed body", |case| case.body.push(' ')),
        signed(BODY, &pair, older, now).called("changing over, the older secret"),
        changing,
    ]);
    cases
}

/// Compares what a library says of the cases with what it must say.
fn judge(cases: &[Case], said: &[bool]) {
    assert_eq!(cases.len(), said.len());
    let wrong = cases
        .iter()
        .zip(said)
        .filter(|(case, said)| case.taken != **said);
    let wrong: Vec<&str> = wrong.map(|(case, _)| case.what.as_str()).collect();
    assert!(wrong.is_empty(), "judged the other way: {wrong:?}");
}

/// Asks a program with a library of its own about all cases.
fn ask(program: &mut Command, cases: &[Case]) -> Vec<bool> {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = program
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}; run `cargo xtask test`"));
    let question = serde_json::to_vec(cases).unwrap();
    running.stdin.take().unwrap().write_all(&question).unwrap();
    let answer = running.wait_with_output().unwrap();
    assert!(answer.status.success(), "{program:?}: {}", answer.status);
    serde_json::from_slice(&answer.stdout).unwrap()
}

fn oracles() -> PathBuf {
    let folder = std::env::var_os("TEST_ORACLES");
    folder.expect("`cargo xtask test` sets TEST_ORACLES").into()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/signatures")
        .join(name)
}

#[test]
fn the_rust_library_takes_what_we_sign_and_refuses_what_was_changed() {
    let cases = cases();
    let takes = |case: &Case| {
        let library = Webhook::new(&case.secret).unwrap();
        let headers = HeaderMap::try_from(&case.headers).unwrap();
        library.verify(case.body.as_bytes(), &headers).is_ok()
    };
    judge(&cases, &cases.iter().map(takes).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs node and its library; run `cargo xtask test`"]
fn the_npm_library_takes_what_we_sign_and_refuses_what_was_changed() {
    let cases = cases();
    let modules = oracles().join("npm/node_modules");
    let mut node = Command::new("node");
    node.arg(script("verify.js")).env("NODE_PATH", modules);
    judge(&cases, &ask(&mut node, &cases));
}

#[test]
#[ignore = "needs python and its library; run `cargo xtask test`"]
fn the_pypi_library_takes_what_we_sign_and_refuses_what_was_changed() {
    let cases = cases();
    let mut python = Command::new(oracles().join("pypi/bin/python3"));
    python.arg(script("verify.py"));
    judge(&cases, &ask(&mut python, &cases));
}

/// Which of these secrets a receiver may have to take what arrived.
fn taken_with(arrival: &Arrival, secrets: &[&str]) -> Vec<bool> {
    let verify = |secret: &&str| {
        let library = Webhook::new(secret).unwrap();
        library.verify(&arrival.body, &arrival.headers).is_ok()
    };
    secrets.iter().map(verify).collect()
}

/// Makes an order, and so an event, and gives the event's id.
async fn order(shop: &Merchant, id: &str) -> String {
    shop.post("/orders", &[("order_id", id), ("amount", "8")])
        .await
        .ok();
    let event = shop.event("ORDER_CREATED").await;
    event["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_over_https_verifies_and_goes_on_to_while_secrets_change_over() {
    let receiver = receiver(|_| None).await;
    let app = TestApp::start_calling(&receiver).await;
    let shop = app.merchant("ms", json!({})).await;
    let endpoint = json!({
        "url": receiver.url("/hooks"),
        "username": "shop",
        "password": "pass",
        "events": { "ORDER_CREATED": true },
        "signing": true,
    });
    let made = shop
        .json(Method::POST, "/endpoints", &endpoint.to_string())
        .await
        .ok();
    let path = format!(
        "/endpoints/{}/signing",
        made["endpoint_id"].as_str().unwrap()
    );
    let first = made["signing_secret"].as_str().unwrap();
    let id = order(&shop, "1").await;
    let arrivals = receiver
        .until(|all| all.len() == 1, PATIENCE)
        .await
        .unwrap();
    assert_eq!(arrivals[0].headers["webhook-id"], *id);
    assert_eq!(taken_with(&arrivals[0], &[first]), [true]);

    let changed = shop
        .json(Method::POST, &path, r#"{"overlap_seconds":3600}"#)
        .await
        .ok();
    let second = changed["signing_secret"].as_str().unwrap();
    order(&shop, "2").await;
    let arrivals = receiver
        .until(|all| all.len() == 2, PATIENCE)
        .await
        .unwrap();
    assert_eq!(taken_with(&arrivals[1], &[first, second]), [true, true]);

    let brought = secret(9, 24).text();
    let body = json!({ "secret": *brought, "overlap_seconds": 0 }).to_string();
    shop.json(Method::POST, &path, &body).await.ok();
    order(&shop, "3").await;
    let arrivals = receiver
        .until(|all| all.len() == 3, PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        taken_with(&arrivals[2], &[first, second, &brought]),
        [false, false, true]
    );

    shop.json(Method::DELETE, &path, "").await.ok();
    order(&shop, "4").await;
    let arrivals = receiver
        .until(|all| all.len() == 4, PATIENCE)
        .await
        .unwrap();
    let signed = HeaderName::from_static("webhook-signature");
    assert!(!arrivals[3].headers.contains_key(signed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_with_the_older_password_still_hears_of_everything() {
    let receiver = receiver(|_| None).await;
    let app = TestApp::start_calling(&receiver).await;
    let shop = app.merchant("ms", json!({})).await;
    shop.listen(&receiver).await;
    let endpoints = shop.get("/endpoints").await.ok();
    let id = endpoints["endpoints"][0]["endpoint_id"].as_str().unwrap();
    let new = r#"{"password":"new","overlap_seconds":3600,"events":{"ORDER_CREATED":true}}"#;
    shop.json(Method::PATCH, &format!("/endpoints/{id}"), new)
        .await
        .ok();

    let id = order(&shop, "1").await;
    let heard = |all: &[Arrival]| {
        all.iter()
            .any(|arrival| arrival.is(EventName::OrderCreated))
    };
    let arrivals = receiver.until(heard, PATIENCE).await.unwrap();
    let calls: Vec<_> = arrivals
        .iter()
        .map(|arrival| (arrival.attempt(), arrival.reply.code()))
        .collect();
    assert_eq!(calls, [(1, Some(401)), (1, Some(200))]);

    let attempts = settled_attempts(&shop, &id).await;
    let attempts: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["code"], &attempt["credentials"]))
        .collect();
    assert_eq!(attempts, [(&json!("HTTP_200"), &json!("previous"))]);
}

/// The attempts of an event's only delivery, as soon as it is settled.
async fn settled_attempts(shop: &Merchant, event_id: &str) -> Vec<serde_json::Value> {
    for _ in 0..500 {
        let deliveries = shop
            .get(&format!("/events/{event_id}/deliveries"))
            .await
            .ok();
        let delivery = &deliveries["deliveries"][0];
        if delivery["state"] == "delivered" {
            let id = delivery["delivery_id"].as_str().unwrap();
            let shown = shop.get(&format!("/deliveries/{id}/attempts")).await.ok();
            return shown["attempts"].as_array().unwrap().clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the delivery of {event_id} was not settled");
}
