//! `harkara move` with the real binary: from a file to Postgres and back, between servers that are used.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harkara::receiver::{Arrival, MerchantServer};
use http::Method;
use serde_json::Value;

use crate::app::{Merchant, Server, receiver};
use crate::process::{ServerProcess, key_of};
use crate::schema::store_url;

/// For what comes by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops a server as an operator would, and copies its store.
fn stop_and_move(mut process: ServerProcess, from: &str, to: &str) -> String {
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let output = Command::new(env!("CARGO_BIN_EXE_harkara"))
        .args(["move", "--from", from, "--to", to])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many rows the command says that a table has.
fn rows(said: &str, table: &str) -> usize {
    let line = said.lines().find(|line| line.starts_with(table)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a merchant can see: orders, endpoints, events with their bytes, deliveries and attempts.
async fn seen(shop: &Merchant) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut paths = vec![
        "/endpoints".to_owned(),
        "/orders/sent".to_owned(),
        "/orders/kept".to_owned(),
    ];
    for event in shop.events().await {
        let id = event["id"].as_str().unwrap();
        paths.push(format!("/events/{id}"));
        let deliveries = shop.get(&format!("/events/{id}/deliveries")).await.ok();
        for delivery in deliveries["deliveries"].as_array().unwrap() {
            let id = delivery["delivery_id"].as_str().unwrap();
            paths.push(format!("/deliveries/{id}/attempts"));
        }
        seen.extend([event, deliveries]);
    }
    for path in paths {
        seen.push(shop.get(&path).await.ok());
    }
    seen
}

/// Nothing that a merchant can see has changed.
async fn check(shop: &Merchant, before: &[Value]) {
    let after = seen(shop).await;
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(before) {
        assert_eq!(after, before);
    }
}

/// An order that its merchant is told of, once it knows.
async fn order(shop: &Merchant, receiver: &MerchantServer, order_id: &str) {
    let fields = [("order_id", order_id), ("amount", "8")];
    shop.post("/orders", &fields).await.ok();
    arrived(receiver, order_id).await;
}

async fn arrived(receiver: &MerchantServer, order_id: &str) {
    let there = |all: &[Arrival]| all.iter().any(|arrival| arrival.about() == order_id);
    receiver.until(there, PATIENCE).await.unwrap();
}

/// Run when the tests are run on Postgres.
/// Waits until what arrived is known to have arrived.
async fn settled(shop: &Merchant) {
    let all = async || {
        let events = shop.get("/events?limit=100").await.ok();
        let events = events["events"].as_array().unwrap().clone();
        events.iter().all(|event| event["notified"] == true)
    };
    let again = async {
        while !all().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_moved_to_postgres_and_back_and_goes_on_each_time() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = [0, 1, 2].map(|n: usize| folders[n].path());
    let Some(url) = store_url(second) else {
        return;
    };
    let receiver = receiver(|_| None).await;
    let ca_file = first.join("ca.pem");
    fs::write(&ca_file, receiver.ca_pem()).unwrap();
    let start = |folder: &Path, store: Option<&str>| {
        let ca_file = ca_file.display().to_string();
        let mut settings = vec![
            ("HARKARA_DESTINATIONS__CA_FILE", ca_file),
            // In the links of an order, so it moves with it.
            ("HARKARA_PUBLIC_URL", "https://pay.example".to_owned()),
        ];
        settings.extend(store.map(|url| ("HARKARA_STORE", url.to_owned())));
        ServerProcess::start_storing(folder, &settings, Stdio::inherit())
    };
    let file = |folder: &Path| format!("sqlite:{}", folder.join("data").display());
    // The operator's part, which the command asks for.
    let give_keys = |folder: &Path| {
        let to = folder.join("data/vault.keys");
        fs::copy(first.join("data/vault.keys"), to).unwrap();
    };
    let shop = |process: &ServerProcess| Merchant {
        server: Server {
            address: process.address.clone(),
            platform_key: key_of(first, "platform.key"),
        },
        merchant_id: "sandbox".to_owned(),
        key: key_of(first, "sandbox-merchant.key"),
    };

    let process = start(first, None);
    let here = shop(&process);
    here.listen(&receiver).await;
    let endpoint = here.get("/endpoints").await.ok()["endpoints"][0].clone();
    let endpoint = format!("/endpoints/{}", endpoint["endpoint_id"].as_str().unwrap());
    let created = r#"{"events":{"ORDER_CREATED":true}}"#;
    here.json(Method::PATCH, &endpoint, created).await.ok();
    order(&here, &receiver, "sent").await;
    settled(&here).await;
    here.json(Method::POST, &format!("{endpoint}/pause"), "{}")
        .await
        .ok();
    here.post("/orders", &[("order_id", "kept"), ("amount", "8")])
        .await
        .ok();
    let before = seen(&here).await;
    let said = stop_and_move(process, &file(first), &url);
    assert_eq!((rows(&said, "orders"), rows(&said, "deliveries")), (2, 2));

    let data = second.join("data");
    fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
    give_keys(second);
    let process = start(second, Some(&url));
    let there = shop(&process);
    check(&there, &before).await;
    there
        .json(Method::POST, &format!("{endpoint}/resume"), "{}")
        .await
        .ok();
    arrived(&receiver, "kept").await;
    order(&there, &receiver, "there").await;
    settled(&there).await;
    let before = seen(&there).await;
    let said = stop_and_move(process, &url, &file(third));
    assert_eq!((rows(&said, "orders"), rows(&said, "deliveries")), (3, 3));

    give_keys(third);
    let process = start(third, None);
    let back = shop(&process);
    check(&back, &before).await;
    order(&back, &receiver, "back").await;
    assert_eq!(receiver.repeats(), 0);
    assert_eq!(receiver.arrivals().len(), 4);
}
