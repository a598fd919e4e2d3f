//! An endpoint that fails: what its merchant sees of it, what a restart knows, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harkara::app::App;
use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer, Reply};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{Merchant, Server, config, receiver};

/// A probe that a slow machine misses is followed by another after 15 seconds, and one after a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A merchant with one endpoint, whose receiver answers 500 until it is told to be well.
struct World {
    shop: Merchant,
    receiver: MerchantServer,
    is_well: Arc<AtomicBool>,
    app: App,
    config: harkara::config::Config,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(broken: StatusCode) -> Self {
        let is_well = Arc::new(AtomicBool::new(false));
        let told = is_well.clone();
        let receiver = receiver(move |_| {
            let broken = || Reply::status(broken);
            (!told.load(Ordering::Relaxed)).then(broken)
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
        config.destinations.ca_file = Some(ca_file);
        let app = App::start(config.clone(), Clock::system()).await.unwrap();
        let server = Server {
            address: app.address.to_string(),
            platform_key: app
                .first_start
                .as_ref()
                .unwrap()
                .platform_key
                .expose()
                .to_owned(),
        };
        let shop = server.merchant("ms", json!({})).await;
        let endpoint = json!({
            "url": receiver.url("/hooks"),
            "username": "shop",
            "password": "pass",
            "events": { "ORDER_CREATED": true },
        });
        let made = shop
            .json(Method::POST, "/endpoints", &endpoint.to_string())
            .await
            .ok();
        let endpoint = made["endpoint_id"].as_str().unwrap();
        let endpoint = format!("/endpoints/{endpoint}");
        Self {
            shop,
            receiver,
            is_well,
            app,
            config,
            endpoint,
            _folder: folder,
        }
    }

    async fn orders(&self, ids: std::ops::Range<u32>) {
        for id in ids {
            let order = [("order_id", id.to_string()), ("amount", "8".to_owned())];
            let fields = order
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            self.shop.post("/orders", &fields).await.ok();
        }
    }

    async fn arrivals(&self, count: usize) {
        let enough = |arrivals: &[Arrival]| arrivals.len() >= count;
        self.receiver.until(enough, PATIENCE).await.unwrap();
    }

    /// The endpoint, once it is as `wanted` says; what an attempt changes is seen when it is settled.
    async fn endpoint(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut endpoint = Value::Null;
        let asked = async {
            while !wanted(&endpoint) {
                endpoint = self.shop.get(&self.endpoint).await.ok();
            }
        };
        let became = tokio::time::timeout(PATIENCE, asked).await;
        assert!(became.is_ok(), "it did not become so: {endpoint:#}");
        endpoint
    }
}

fn breaker_is(state: &str) -> impl Fn(&Value) -> bool {
    move |endpoint| endpoint["health"]["breaker"] == state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_failures_open_a_breaker_that_outlives_the_process_until_a_probe_succeeds() {
    let mut world = World::new(StatusCode::INTERNAL_SERVER_ERROR).await;
    world.orders(0..10).await;
    world.arrivals(10).await;
    let endpoint = world.endpoint(breaker_is("open")).await;
    assert_eq!(endpoint["health"]["failures_in_a_row"], 10);

    world.orders(10..30).await;
    let event = world.shop.event("ORDER_CREATED").await;
    let path = format!("/events/{}/explain", event["id"].as_str().unwrap());
    let explained = world.shop.get(&path).await.ok();
    let facts = explained["endpoints"][0]["facts"].to_string();
    assert!(
        facts.contains("it is sent one delivery at a time"),
        "{facts}"
    );

    world.app.stop().await;
    let again = App::start(world.config.clone(), Clock::system())
        .await
        .unwrap();
    world.shop.server.address = again.address.to_string();
    world.app = again;
    assert!(breaker_is("open")(
        &world.shop.get(&world.endpoint).await.ok()
    ));
    assert!(
        world.receiver.arrivals().len() < 13,
        "nothing but probes was sent"
    );

    world.is_well.store(true, Ordering::Relaxed);
    let probes = world.receiver.arrivals().len();
    world.arrivals(probes + 1).await;
    world.endpoint(breaker_is("closed")).await;
    // The ten are due again in a minute; the twenty that waited were never tried.
    let of_the_waiting = |arrivals: &[Arrival]| {
        let late = arrivals.iter().filter(|arrival| arrival.attempt() == 1);
        late.count() >= 30
    };
    world
        .receiver
        .until(of_the_waiting, PATIENCE)
        .await
        .unwrap();
    world.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_pauses_its_endpoint_and_its_merchant_is_told() {
    let world = World::new(StatusCode::GONE).await;
    world.orders(0..1).await;
    world.arrivals(1).await;
    let paused = world
        .endpoint(|endpoint| endpoint["state"] == "paused")
        .await;
    let told = world.shop.get("/operational-events").await.ok();
    let events = told["operational_events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["kind"], "endpoint_paused");
    assert_eq!(events[0]["endpoint_id"], paused["endpoint_id"]);
    let next = format!(
        "/operational-events?after={}",
        told["cursor"].as_str().unwrap()
    );
    let next = world.shop.get(&next).await.ok();
    assert_eq!(next["operational_events"], json!([]));

    world.orders(1..3).await;
    world.is_well.store(true, Ordering::Relaxed);
    let resume = format!("{}/resume", world.endpoint);
    let refused = world
        .shop
        .json(Method::POST, &resume, r#"{"waiting":"eat"}"#)
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let withdraw = r#"{"waiting":"withdraw"}"#;
    world.shop.json(Method::POST, &resume, withdraw).await.ok();
    world.orders(3..4).await;
    world.arrivals(2).await;
    let about: Vec<String> = world
        .receiver
        .arrivals()
        .iter()
        .map(|arrival| arrival.about().to_owned())
        .collect();
    assert_eq!(about.len(), 2, "what waited was withdrawn: {about:?}");
    world.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_and_can_be_taken_away() {
    let world = World::new(StatusCode::OK).await;
    let patch = |body: &'static str| world.shop.json(Method::PATCH, &world.endpoint, body);
    let refused = patch(r#"{"rate_per_second":0}"#).await;
    assert_eq!(
        refused.refusal(),
        "400 invalid_request: rate_per_second: the rate must be 1 to 10000 attempts a second, and is 0"
    );
    assert_eq!(
        patch(r#"{"rate_per_second":20}"#).await.ok()["rate_per_second"],
        20
    );
    world.orders(0..12).await;
    world.arrivals(12).await;
    let arrivals = world.receiver.arrivals();
    let took = arrivals[11].at.since(arrivals[0].at);
    assert!(
        took >= Duration::from_millis(500),
        "eleven twentieths of a second, and not {took:?}"
    );
    assert_eq!(
        patch(r#"{"rate_per_second":null}"#).await.ok()["rate_per_second"],
        Value::Null
    );
    world.app.stop().await;
}
