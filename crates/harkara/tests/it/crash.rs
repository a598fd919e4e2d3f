//! SIGKILL to the real binary at each row of ARCHITECTURE.md's crash table, and at random: nothing
//! that was acknowledged is lost, nothing stays half written.
//!
//! The row about a settle whose claim was taken over needs two claimers, which one process is not;
//! `store/tests/claims.rs` has it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer};
use harkara_webhook::{BasicCredentials, EventName, Receiver};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::app::{Merchant, SHOP, Server, try_send};
use crate::process::{ServerProcess, key_of};

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that outlives its servers, with a merchant and a receiver for it.
struct World {
    folder: TempDir,
    receiver: MerchantServer,
    ca_file: String,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
        let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), |_| None)
            .await
            .unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
        let ca_file = ca_file.display().to_string();
        Self {
            folder,
            receiver,
            ca_file,
        }
    }

    fn start(&self) -> (ServerProcess, Server) {
        let settings = [("HARKARA_DESTINATIONS__CA_FILE", self.ca_file.clone())];
        let process = ServerProcess::start(self.folder.path(), &settings);
        let platform_key = key_of(self.folder.path(), "platform.key");
        let server = Server {
            address: process.address.clone(),
            platform_key,
        };
        (process, server)
    }

    /// The merchant of the first start, as it is found after a later one.
    fn shop(&self, server: &Server) -> Merchant {
        shop_of(self.folder.path(), server)
    }
}

fn shop_of(folder: &Path, server: &Server) -> Merchant {
    let key = key_of(folder, "sandbox-merchant.key");
    Merchant {
        server: server.clone(),
        merchant_id: "sandbox".to_owned(),
        key,
    }
}

async fn endpoint(shop: &Merchant, url: &str) -> String {
    let body = json!({ "url": url, "username": "shop", "password": "secret" });
    let answer = shop
        .json(Method::POST, "/endpoints", &body.to_string())
        .await
        .ok();
    answer["endpoint_id"].as_str().unwrap().to_owned()
}

async fn deliveries(shop: &Merchant, event: &Value) -> Vec<Value> {
    let path = format!("/events/{}/deliveries", event["id"].as_str().unwrap());
    shop.get(&path).await.ok()["deliveries"]
        .as_array()
        .unwrap()
        .clone()
}

fn has(name: EventName) -> impl Fn(&[Arrival]) -> bool {
    move |arrivals| arrivals.iter().any(|arrival| arrival.is(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_commit_nothing_is_left() {
    let world = World::new().await;
    let (process, server) = world.start();
    let shop = world.shop(&server);
    // Half of a request: the server has begun, and can commit nothing yet.
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\
         content-type: application/x-www-form-urlencoded\r\nauthorization: {}\r\n\r\norder_id=1&am",
        shop.authorization()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    process.kill();

    let (_process, server) = world.start();
    let shop = world.shop(&server);
    assert_eq!(shop.get("/orders/1").await.status, StatusCode::NOT_FOUND);
    assert!(shop.events().await.is_empty());
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_commit_the_next_start_sends_it() {
    let world = World::new().await;
    let (process, server) = world.start();
    let shop = world.shop(&server);
    let endpoint_id = endpoint(&shop, &world.receiver.url("/hooks")).await;
    // Paused, so that the delivery is committed and nobody is at it when the process dies.
    shop.json(
        Method::POST,
        &format!("/endpoints/{endpoint_id}/pause"),
        "{}",
    )
    .await
    .ok();
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    let before = shop.event("ORDER_SUCCEEDED").await;
    process.kill();

    let (_process, server) = world.start();
    let shop = world.shop(&server);
    assert_eq!(shop.event("ORDER_SUCCEEDED").await, before);
    shop.json(
        Method::POST,
        &format!("/endpoints/{endpoint_id}/resume"),
        "{}",
    )
    .await
    .ok();
    let arrivals = world
        .receiver
        .until(has(EventName::OrderSucceeded), PATIENCE)
        .await
        .unwrap();
    let order: Vec<String> = arrivals
        .iter()
        .map(|a| a.event.as_ref().unwrap().event_name.as_str().to_owned())
        .collect();
    assert_eq!(order, ["TXN_CREATED", "TXN_CHARGED", "ORDER_SUCCEEDED"]);
    // The caller who heard nothing tries again and finds it done.
    let same = shop
        .post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    assert_eq!(same["status"], "CHARGED");
    assert_eq!(shop.events().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_claim_and_before_the_send_no_attempt_is_spent() {
    let world = World::new().await;
    let (process, server) = world.start();
    let shop = world.shop(&server);
    // A listener that never speaks TLS: the claim is held in the middle of a handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://{SHOP}:{}/hooks",
        silent.local_addr().unwrap().port()
    );
    let endpoint_id = endpoint(&shop, &url).await;
    let opted_in = json!({ "events": { "ORDER_CREATED": true }, "ladder": [1, 1, 1] }).to_string();
    shop.json(
        Method::PATCH,
        &format!("/endpoints/{endpoint_id}"),
        &opted_in,
    )
    .await
    .ok();
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let _held = silent.accept().await.unwrap();
    process.kill();

    let (_process, server) = world.start();
    let shop = world.shop(&server);
    let event = shop.event("ORDER_CREATED").await;
    assert_eq!(deliveries(&shop, &event).await[0]["attempts"], 0);
    let url = json!({ "url": world.receiver.url("/hooks") }).to_string();
    shop.json(Method::PATCH, &format!("/endpoints/{endpoint_id}"), &url)
        .await
        .ok();
    // The attempt of the second start may hang in the old handshake; its successor finds the new URL.
    drop(silent);
    let arrivals = world
        .receiver
        .until(has(EventName::OrderCreated), 3 * PATIENCE)
        .await
        .unwrap();
    assert_eq!(arrivals.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_send_and_before_the_settle_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    // The first call is taken and never answered; the second finds a merchant who answers.
    let script = move |_: &Arrival| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(harkara::receiver::Reply::silence)
    };
    let credentials = Receiver::new(BasicCredentials::new("shop", "secret"));
    let receiver = MerchantServer::start(SHOP, credentials, Clock::system(), script)
        .await
        .unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, receiver.ca_pem()).unwrap();
    let world = World {
        receiver,
        ca_file: ca_file.display().to_string(),
        folder,
    };

    let (process, server) = world.start();
    let shop = world.shop(&server);
    let endpoint_id = endpoint(&shop, &world.receiver.url("/hooks")).await;
    let opted_in = json!({ "events": { "ORDER_CREATED": true } }).to_string();
    shop.json(
        Method::PATCH,
        &format!("/endpoints/{endpoint_id}"),
        &opted_in,
    )
    .await
    .ok();
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    world
        .receiver
        .until(has(EventName::OrderCreated), PATIENCE)
        .await
        .unwrap();
    process.kill();

    let (_process, _server) = world.start();
    let twice = |arrivals: &[Arrival]| arrivals.len() == 2;
    let arrivals = world.receiver.until(twice, PATIENCE).await.unwrap();
    assert_eq!(arrivals[0].body, arrivals[1].body, "the same bytes");
    assert_eq!(
        arrivals[0].headers["webhook-id"],
        arrivals[1].headers["webhook-id"]
    );
    assert_eq!(
        arrivals[1].headers["harkara-attempt"], "1",
        "the first attempt was never settled"
    );
}

/// Publishers that hear nothing try again with the same id, as the platform's own would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_under_load_nothing_acknowledged_is_lost() {
    const ROUNDS: u64 = 12;
    const PUBLISHERS: u64 = 8;
    let world = World::new().await;
    let (process, server) = world.start();
    endpoint(&world.shop(&server), &world.receiver.url("/hooks")).await;
    process.kill();

    let next = Arc::new(AtomicU64::new(0));
    let mut acknowledged = BTreeSet::new();
    let mut open: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let (process, server) = world.start();
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let share = open
                .iter()
                .copied()
                .skip(usize::try_from(publisher).unwrap());
            let again: Vec<u64> = share
                .step_by(usize::try_from(PUBLISHERS).unwrap())
                .collect();
            publishers.spawn(publish(server.clone(), next.clone(), again));
        }
        // Spread over what a round does: from its first requests to a steady stream.
        tokio::time::sleep(Duration::from_millis(20 + round * 35)).await;
        process.kill();
        open.clear();
        for (done, unheard) in publishers.join_all().await {
            acknowledged.extend(done);
            open.extend(unheard);
        }
    }
    assert!(
        acknowledged.len() > 100,
        "only {} were acknowledged",
        acknowledged.len()
    );

    let (_process, server) = world.start();
    let shop = world.shop(&server);
    let wanted = acknowledged.clone();
    let all_there = move |arrivals: &[Arrival]| {
        let there: BTreeSet<u64> = arrivals.iter().filter_map(number).collect();
        wanted.is_subset(&there)
    };
    world.receiver.until(all_there, PATIENCE).await.unwrap();
    for n in &acknowledged {
        let event = shop.get(&format!("/events/{}", event_id(*n))).await.ok();
        assert_eq!(event["event_id"], event_id(*n));
        assert_eq!(
            deliveries(&shop, &json!({ "id": event_id(*n) }))
                .await
                .len(),
            1
        );
        let order = shop.get(&format!("/orders/o{n}")).await.ok();
        assert_eq!(order["order_id"], format!("o{n}"));
    }
    let arrivals = world.receiver.arrivals().len();
    println!(
        "{ROUNDS} kills, {} acknowledged, {} never heard of, {arrivals} arrivals",
        acknowledged.len(),
        open.len()
    );
}

fn event_id(n: u64) -> String {
    format!("evt_V2_{n:032x}")
}

fn number(arrival: &Arrival) -> Option<u64> {
    u64::from_str_radix(arrival.event.as_ref()?.id.strip_prefix("evt_V2_")?, 16).ok()
}

/// Publishes until the server is gone; gives what was acknowledged and what it never heard of.
async fn publish(server: Server, next: Arc<AtomicU64>, again: Vec<u64>) -> (Vec<u64>, Vec<u64>) {
    let (mut done, mut unheard) = (Vec::new(), Vec::new());
    let mut waiting = again.into_iter();
    loop {
        let old = waiting.next();
        let n = old.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
        let body = json!({
            "merchant_id": "sandbox",
            "event_name": "ORDER_SUCCEEDED",
            "id": event_id(n),
            "date_created": "2026-01-01T00:00:00Z",
            "content": { "order": { "order_id": format!("o{n}"), "status": "CHARGED" } },
        });
        let request = Request::post("/events")
            .header(AUTHORIZATION, format!("Bearer {}", server.platform_key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(Bytes::from(body.to_string())))
            .unwrap();
        match try_send(&server.address, request).await {
            Some(reply) if reply.status.is_success() => done.push(n),
            Some(reply) => panic!("{}", reply.refusal()),
            None => {
                unheard.push(n);
                unheard.extend(waiting);
                return (done, unheard);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_ends_what_it_began_and_exits_with_0() {
    let world = World::new().await;
    let (mut process, server) = world.start();
    let shop = world.shop(&server);
    endpoint(&shop, &world.receiver.url("/hooks")).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    world
        .receiver
        .until(has(EventName::OrderSucceeded), PATIENCE)
        .await
        .unwrap();
    process.signal("TERM");
    let status = tokio::task::spawn_blocking(move || process.child.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));

    let (_process, server) = world.start();
    let shop = world.shop(&server);
    let event = shop.event("ORDER_SUCCEEDED").await;
    assert_eq!(deliveries(&shop, &event).await[0]["state"], "delivered");
}

/// Killed twice on its way through the events, it sends all of them and makes nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_replay_job_the_next_start_goes_on() {
    const EVENTS: u64 = 120;
    let world = World::new().await;
    let (process, server) = world.start();
    let shop = world.shop(&server);
    let endpoint_id = endpoint(&shop, &world.receiver.url("/hooks")).await;
    let path = format!("/endpoints/{endpoint_id}");
    let switch = async |on: bool| {
        let settings = json!({ "events": { "ORDER_SUCCEEDED": on } }).to_string();
        shop.json(Method::PATCH, &path, &settings).await.ok();
    };
    switch(false).await;
    for n in 0..EVENTS {
        let event = json!({
            "merchant_id": "sandbox",
            "event_name": "ORDER_SUCCEEDED",
            "id": event_id(n),
            "content": { "order": { "order_id": format!("o{n}"), "status": "CHARGED" } },
        });
        server.platform(Method::POST, "/events", event).await.ok();
    }
    switch(true).await;
    let asked = json!({ "endpoint_id": endpoint_id, "rate": 60 }).to_string();
    let job = shop.json(Method::POST, "/replays", &asked).await.ok();
    assert_eq!(job["matched"], EVENTS);
    let job = format!("/replays/{}", job["job_id"].as_str().unwrap());

    let arrived = async |count: u64| {
        let enough = move |arrivals: &[Arrival]| distinct(arrivals) >= count;
        world.receiver.until(enough, PATIENCE).await.unwrap()
    };
    arrived(20).await;
    process.kill();
    let (process, server) = world.start();
    let half_way = world.shop(&server).get(&job).await.ok();
    assert_eq!(half_way["state"], "running");
    assert!(
        half_way["replayed"].as_u64().unwrap() < EVENTS,
        "{half_way}"
    );
    arrived(60).await;
    process.kill();
    let (_process, server) = world.start();
    arrived(EVENTS).await;

    let shop = world.shop(&server);
    let mut done = shop.get(&job).await.ok();
    for _ in 0..500 {
        if done["delivered"] == EVENTS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        done = shop.get(&job).await.ok();
    }
    let ends = ["state", "replayed", "delivered"].map(|key| done[key].clone());
    assert_eq!(ends, [json!("finished"), json!(EVENTS), json!(EVENTS)]);
    for n in 0..EVENTS {
        let rows = deliveries(&shop, &json!({ "id": event_id(n) })).await;
        let replays = rows.iter().filter(|row| row["kind"] == "replay");
        let states: Vec<&Value> = replays.map(|row| &row["state"]).collect();
        assert_eq!(states, ["delivered"], "event {n}");
    }
}

fn distinct(arrivals: &[Arrival]) -> u64 {
    let there: BTreeSet<u64> = arrivals.iter().filter_map(number).collect();
    there.len() as u64
}
