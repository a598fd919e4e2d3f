//! Several nodes on one Postgres: real processes, killed while publishers and a receiver go on.
//!
//! Run when the tests are run on Postgres; a file has one node, and these say nothing about it.
//! `NODE_KILLS` asks for more kills than the test command takes time for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harkara::clock::Clock;
use harkara::config::StoreUrl;
use harkara::receiver::{Arrival, MerchantServer};
use harkara_core::id::digest;
use harkara_core::time::Timestamp;
use harkara_webhook::{BasicCredentials, EventName, Receiver};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::app::{Merchant, SHOP, Server, store_at, try_send};
use crate::process::{ServerProcess, key_of};

const NODES: usize = 3;
const PUBLISHERS: u64 = 6;

/// Longer than it takes to notice that a node is gone and to send what it had, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and folders of nodes that share it.
struct World {
    folder: TempDir,
    store: StoreUrl,
    receiver: MerchantServer,
}

impl World {
    /// `None` unless the tests are run on Postgres.
    async fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let store = store_at(folder.path())?;
        let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
        let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), |_| None)
            .await
            .unwrap();
        fs::write(folder.path().join("ca.pem"), receiver.ca_pem()).unwrap();
        let world = Self {
            folder,
            store,
            receiver,
        };
        // The first start makes the keys that the others get copies of.
        let first = world.start(0);
        world.listen(&first).await;
        for node in 1..NODES {
            let data = world.folder.path().join(format!("{node}/data"));
            fs::create_dir(data.parent().unwrap()).unwrap();
            fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
            fs::copy(world.data(0).join("vault.keys"), data.join("vault.keys")).unwrap();
        }
        Some(world)
    }

    fn data(&self, node: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("{node}/data"))
    }

    fn start(&self, node: usize) -> ServerProcess {
        let settings = [
            ("HARKARA_STORE", self.store.expose().to_owned()),
            (
                "HARKARA_DESTINATIONS__CA_FILE",
                self.folder.path().join("ca.pem").display().to_string(),
            ),
        ];
        ServerProcess::start(&self.folder.path().join(node.to_string()), &settings)
    }

    async fn listen(&self, process: &ServerProcess) {
        let url = self.receiver.url("/hooks");
        let body = json!({ "url": url, "username": "shop", "password": "secret" });
        let shop = self.shop(&process.address);
        shop.json(Method::POST, "/endpoints", &body.to_string())
            .await
            .ok();
    }

    fn shop(&self, address: &str) -> Merchant {
        let first = self.folder.path().join("0");
        Merchant {
            server: Server {
                address: address.to_owned(),
                platform_key: key_of(&first, "platform.key"),
            },
            merchant_id: "sandbox".to_owned(),
            key: key_of(&first, "sandbox-merchant.key"),
        }
    }
}

/// Where the nodes listen now.
type Addresses = Arc<std::sync::Mutex<Vec<String>>>;

/// An event by its number: each publisher's orders have three, one after another.
fn event_id(n: u64) -> String {
    format!("evt_V2_{n:032x}")
}

fn number(arrival: &Arrival) -> Option<u64> {
    u64::from_str_radix(arrival.event.as_ref()?.id.strip_prefix("evt_V2_")?, 16).ok()
}

/// Publishes the events of one order after another until told to stop, each until some node has
/// acknowledged it; gives when that was.
async fn publish(
    publisher: u64,
    (nodes, platform_key): (Addresses, String),
    stop: Arc<AtomicBool>,
) -> BTreeMap<u64, Timestamp> {
    let mut acknowledged = BTreeMap::new();
    let mut tries = publisher;
    for count in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let n = count * PUBLISHERS + publisher;
        let body = json!({
            "merchant_id": "sandbox",
            "event_name": "ORDER_SUCCEEDED",
            "id": event_id(n),
            "date_created": "2026-01-01T00:00:00Z",
            "content": { "order": {
                "order_id": format!("o-{publisher}-{}", count / 3),
                "status": "CHARGED",
            } },
        });
        loop {
            tries += 1;
            let address = {
                let nodes = nodes.lock().unwrap();
                nodes[usize::try_from(tries).unwrap() % nodes.len()].clone()
            };
            let request = Request::post("/events")
                .header(AUTHORIZATION, format!("Bearer {platform_key}"))
                .header(CONTENT_TYPE, "application/json")
                .body(Full::from(Bytes::from(body.to_string())))
                .unwrap();
            match try_send(&address, request).await {
                Some(reply) if reply.status.is_success() => break,
                // It may be stored or not; the same id asks again.
                Some(reply) if reply.status == 503 => {}
                Some(reply) => panic!("{}", reply.refusal()),
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acknowledged.insert(n, Clock::system().now());
    }
    acknowledged
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the test takes is its caller's choice, and no setting"
)]
fn kills() -> u64 {
    let asked = std::env::var("NODE_KILLS").ok();
    asked.map_or(50, |text| text.parse().expect("NODE_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_killed_at_random_lose_nothing_that_was_acknowledged() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut nodes: Vec<ServerProcess> = (0..NODES).map(|node| world.start(node)).collect();
    let addresses: Addresses = Arc::default();
    let told: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    addresses.lock().unwrap().clone_from(&told);
    let platform_key = key_of(&world.folder.path().join("0"), "platform.key");

    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let to = (addresses.clone(), platform_key.clone());
        publishers.spawn(publish(publisher, to, stop.clone()));
    }
    let kills = kills();
    for kill in 0..kills {
        let dice = digest(&["kill", &kill.to_string()]);
        let wait = Duration::from_millis(20 + u64::from(dice[0]) * 2);
        tokio::time::sleep(wait).await;
        let victim = usize::from(dice[1]) % NODES;
        nodes.remove(victim).kill();
        nodes.insert(victim, world.start(victim));
        addresses.lock().unwrap()[victim].clone_from(&nodes[victim].address);
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: BTreeMap<u64, Timestamp> =
        publishers.join_all().await.into_iter().flatten().collect();

    let left = AtomicU64::new(0);
    let all_there = |arrivals: &[Arrival]| {
        let there = first_arrivals(arrivals);
        let missing = acknowledged.keys().filter(|n| !there.contains_key(n));
        left.store(missing.count() as u64, Ordering::Relaxed);
        left.load(Ordering::Relaxed) == 0
    };
    let arrivals = world.receiver.until(all_there, PATIENCE).await;
    let arrivals =
        arrivals.unwrap_or_else(|_| panic!("{left:?} of those acknowledged are missing"));

    let there = first_arrivals(&arrivals);
    for (n, (place, _)) in &there {
        let (count, publisher) = (n / PUBLISHERS, n % PUBLISHERS);
        if count % 3 > 0 {
            let before = (count - 1) * PUBLISHERS + publisher;
            assert!(there[&before].0 < *place, "event {n} came before {before}");
        }
    }
    let delays = acknowledged.iter().map(|(n, at)| there[n].1.since(*at));
    let longest = delays.max().unwrap();
    assert!(
        longest < Duration::from_secs(30),
        "one came after {longest:?}"
    );
    let repeats = world.receiver.repeats();
    // What a node has in flight is bounded by its permits at this endpoint.
    assert!(repeats as u64 <= kills * 64, "{repeats} repeats");
    let shop = world.shop(&nodes[0].address);
    let health = shop.server.platform(Method::GET, "/health", json!({}));
    let health = health.await.ok();
    println!(
        "{kills} kills of {NODES} nodes: {} acknowledged, all arrived in order, {repeats} twice; the \
         longest came {longest:?} after its acknowledgement; {} pending",
        acknowledged.len(),
        health["deliveries"]["pending"],
    );
}

/// Where in the list each event came first, and when.
fn first_arrivals(arrivals: &[Arrival]) -> BTreeMap<u64, (usize, Timestamp)> {
    let mut first = BTreeMap::new();
    for (place, arrival) in arrivals.iter().enumerate() {
        if let Some(n) = number(arrival) {
            first.entry(n).or_insert((place, arrival.at));
        }
    }
    first
}

/// What one node changes, the others know at once: an endpoint, a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_changes_no_other_has_an_old_copy_of() {
    let Some(world) = World::new().await else {
        return;
    };
    let (one, other) = (world.start(0), world.start(1));
    let (here, there) = (world.shop(&one.address), world.shop(&other.address));
    let seen = there.get("/endpoints").await.ok()["endpoints"][0].clone();
    let order = async |id: &str| {
        let fields = [("order_id", id), ("amount", "8")];
        there.post("/orders", &fields).await.ok();
    };
    // The other has its own copy from here on.
    order("before").await;
    let path = format!("/endpoints/{}", seen["endpoint_id"].as_str().unwrap());
    let patch = json!({ "events": { "ORDER_CREATED": true } }).to_string();
    here.json(Method::PATCH, &path, &patch).await.ok();
    let mut stale = 0;
    while world.receiver.arrivals().is_empty() {
        stale += 1;
        assert!(stale < 100, "an old copy is used for ever");
        order(&format!("order-{stale}")).await;
    }
    let arrivals = world.receiver.arrivals();
    assert!(
        arrivals
            .iter()
            .all(|arrival| arrival.is(EventName::OrderCreated))
    );
    println!("{stale} orders were created until one was told of");
}
