//! A server that stops while clients and merchants are slow, and the folder that it starts on.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use harkara::app::App;
use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer, Reply};
use harkara_webhook::{BasicCredentials, Receiver};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::app::{SHOP, Server, config};

const SHUTDOWN: Duration = Duration::from_secs(4);

/// A body that never ends takes half of the time at most; the answer that comes after that is still
/// waited for, and written down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_does_not_cost_a_delivery() {
    let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
    let answer = Reply::status(StatusCode::OK).after(SHUTDOWN * 5 / 8);
    let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), move |_| {
        Some(answer.clone())
    });
    let receiver = receiver.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
    let mut settings = config(&folder);
    settings.destinations.ca_file = Some(ca_file);
    settings.shutdown = SHUTDOWN;
    let app = App::start(settings.clone(), Clock::system()).await.unwrap();
    let first = app.first_start.as_ref().unwrap();
    let server = Server {
        address: app.address.to_string(),
        platform_key: first.platform_key.expose().to_owned(),
    };
    let mut shop = server.merchant("ms", json!({})).await;
    let endpoint = json!({
        "url": receiver.url("/hooks"),
        "username": "shop",
        "password": "secret",
        "events": { "ORDER_CREATED": true },
    });
    shop.json(Method::POST, "/endpoints", &endpoint.to_string())
        .await
        .ok();
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nauthorization: {}\r\n\r\nord",
        shop.authorization()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let event = shop.event("ORDER_CREATED").await;
    let one = |arrivals: &[Arrival]| arrivals.len() == 1;
    receiver.until(one, SHUTDOWN).await.unwrap();

    let stopped = tokio::time::timeout(SHUTDOWN, app.stop()).await;
    assert!(
        stopped.is_ok(),
        "nobody waits for the slow client to the end"
    );
    let again = App::start(settings, Clock::system()).await.unwrap();
    shop.server.address = again.address.to_string();
    let path = format!("/events/{}", event["id"].as_str().unwrap());
    assert_eq!(shop.get(&path).await.ok()["notified"], true);
    assert_eq!(receiver.arrivals().len(), 1);
    again.stop().await;
}

#[tokio::test]
async fn a_data_folder_is_made_for_its_owner_alone_and_never_changed() {
    let mode = |path: &std::path::Path| {
        let found = std::fs::metadata(path).unwrap();
        found.permissions().mode() & 0o777
    };
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(&folder);
    let made = folder.path().join("a/b");
    settings.data_dir.clone_from(&made);
    let app = App::start(settings.clone(), Clock::system()).await.unwrap();
    app.stop().await;
    assert_eq!(mode(&made), 0o700);

    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    settings.data_dir.clone_from(&shared);
    let refused = App::start(settings, Clock::system()).await.err().unwrap();
    let refused = refused
        .to_string()
        .replace(shared.to_str().unwrap(), "<folder>");
    insta::assert_snapshot!(refused, @r"
    use the data folder <folder>: others than its owner can look into it, and the keys are kept there; run `chmod 700 <folder>`, or set `data_dir` to a folder that does not exist
    ");
    assert_eq!(mode(&shared), 0o755);
    assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_whose_key_ring_is_gone_is_not_opened_with_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config(&folder);
    let app = App::start(settings.clone(), Clock::system()).await.unwrap();
    app.stop().await;
    let ring = settings.data_dir.join("vault.keys");
    std::fs::remove_file(&ring).unwrap();
    let refused = App::start(settings, Clock::system()).await.err().unwrap();
    assert!(
        refused.to_string().starts_with("find the key ring"),
        "{refused}"
    );
    assert!(!ring.exists());
}
