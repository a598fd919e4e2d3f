//! How webhooks leave: from the addresses that the operator names, and through nobody's proxy.

use std::time::Duration;

use harkara::app::App;
use harkara::clock::Clock;
use harkara::config::Egress;
use http::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::app::{Server, config, receiver};
use crate::process::{ServerProcess, key_of};

#[tokio::test]
async fn a_start_without_an_address_to_send_from_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(&folder);
    settings.destinations.egress = vec![Egress {
        address: "192.0.2.1".parse().unwrap(),
        label: None,
    }];
    let data = settings.data_dir.clone();
    let refused = App::start(settings, Clock::system()).await.err().unwrap();
    insta::assert_snapshot!(refused, @"send from 192.0.2.1: this machine does not have that address; give it the address, or take it out of destinations.egress");
    assert!(!data.exists());
}

/// Proxies of the environment are for browsers and package managers: one of them would see whom we
/// call, and choose for us where that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_of_the_environment_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let shop_server = receiver(|_| None).await;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, shop_server.ca_pem()).unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ];
    let mut settings = Vec::from(names.map(|name| (name, proxy_url.clone())));
    settings.push((
        "HARKARA_DESTINATIONS__CA_FILE",
        ca_file.display().to_string(),
    ));
    settings.push(("HARKARA_DESTINATIONS__EGRESS", "127.0.0.1=here".to_owned()));
    let process = ServerProcess::start(folder.path(), &settings);
    let server = Server {
        address: process.address.clone(),
        platform_key: key_of(folder.path(), "platform.key"),
    };
    let shop = server.merchant("ms", json!({})).await;
    let endpoint = json!({
        "url": shop_server.url("/hooks"),
        "username": "shop",
        "password": "pass",
    });
    let endpoint = endpoint.to_string();
    let made = shop.json(Method::POST, "/endpoints", &endpoint).await.ok();
    let test = format!("/endpoints/{}/test", made["endpoint_id"].as_str().unwrap());
    shop.json(Method::POST, &test, "").await.ok();
    let arrived = shop_server.until(|arrivals| !arrivals.is_empty(), Duration::from_secs(20));
    arrived.await.unwrap();
    let asked = tokio::time::timeout(Duration::ZERO, proxy.accept()).await;
    assert!(asked.is_err(), "the proxy was asked");
}
