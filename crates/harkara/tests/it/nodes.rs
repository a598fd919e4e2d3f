//! Several nodes on one Postgres: real processes, killed while publishers and a receiver go on.
//!
//! Run when the tests are run on Postgres; a file has one node, and these say nothing about it.
//! `NODE_KILLS` asks for more kills than the test command takes time for. A standby that is promoted is
//! in `failover`, a node that the database cannot be reached from in `cut_off`, what nodes share in
//! `limits`, and what happens while one version replaces another in `upgrades`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harkara::clock::Clock;
use harkara::config::StoreUrl;
use harkara::receiver::{Arrival, MerchantServer, Reply as Answer};
use harkara::store::Store;
use harkara_core::id::digest;
use harkara_core::time::Timestamp;
use harkara_webhook::{BasicCredentials, EventName, Receiver};
use http::{Method, Request};
use http_body_util::Full;
use postgres::{Client, NoTls};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::app::{Merchant, SHOP, Server, json_request, send, store_at, try_send};
use crate::process::{ServerProcess, key_of};
use crate::server::Postgres;

mod cut_off;
mod failover;
mod limits;
mod upgrades;

const NODES: usize = 3;
const PUBLISHERS: u64 = 6;
/// Events that arrive between two faults.
const MEANWHILE: usize = 100;

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
        Self::with(|_| None).await
    }

    /// The same with a receiver that answers as scripted.
    async fn with(
        script: impl Fn(&Arrival) -> Option<Answer> + Send + Sync + 'static,
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let store = store_at(folder.path())?;
        Some(Self::storing(folder, store, script).await)
    }

    /// On a store that is ready to be used.
    async fn storing(
        folder: TempDir,
        store: StoreUrl,
        script: impl Fn(&Arrival) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
        let receiver = MerchantServer::start(SHOP, receiver, Clock::system(), script)
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
        world
    }

    fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("{node}/data"))
    }

    fn start(&self, node: usize) -> ServerProcess {
        self.start_with(node, &[])
    }

    /// The same with further settings, which win.
    fn start_with(&self, node: usize, more: &[(&'static str, String)]) -> ServerProcess {
        let ca_file = self.folder.path().join("ca.pem").display().to_string();
        let mut settings = vec![
            ("HARKARA_STORE", self.store.expose().to_owned()),
            ("HARKARA_DESTINATIONS__CA_FILE", ca_file),
        ];
        settings.extend_from_slice(more);
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

    /// Changes the one endpoint.
    async fn patch_endpoint(&self, shop: &Merchant, changes: &Value) {
        let path = format!("/endpoints/{}", endpoint_id(shop).await);
        let changes = changes.to_string();
        shop.json(Method::PATCH, &path, &changes).await.ok();
    }

    /// Waits until so many more events have arrived.
    async fn go_on(&self, more: usize) {
        let enough = self.receiver.arrivals().len() + more;
        let arrived = self.receiver.until(|all| all.len() >= enough, PATIENCE);
        arrived.await.unwrap();
    }

    /// What a query of the store finds, one text.
    async fn ask(&self, sql: &str) -> String {
        ask(self.store.expose(), sql).await
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

async fn endpoint_id(shop: &Merchant) -> String {
    let listed = shop.get("/endpoints").await.ok();
    let id = listed["endpoints"][0]["endpoint_id"].as_str();
    id.unwrap().to_owned()
}

/// What a query finds, one text. The client blocks, so it lives on a thread of its own.
async fn ask(url: &str, sql: &str) -> String {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    let query = move || {
        let mut client = Client::connect(&url, NoTls).unwrap();
        client.query_one(&sql, &[]).unwrap().get(0)
    };
    tokio::task::spawn_blocking(query).await.unwrap()
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

/// The request that publishes an event about an order.
fn publishing(n: u64, order_id: &str, platform_key: &str) -> Request<Full<Bytes>> {
    let body = json!({
        "merchant_id": "sandbox",
        "event_name": "ORDER_SUCCEEDED",
        "id": event_id(n),
        "date_created": "2026-01-01T00:00:00Z",
        "content": { "order": { "order_id": order_id, "status": "CHARGED" } },
    });
    let bearer = format!("Bearer {platform_key}");
    json_request(Method::POST, "/events", &bearer, &body.to_string())
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
        let order_id = format!("o-{publisher}-{}", count / 3);
        loop {
            tries += 1;
            let address = {
                let nodes = nodes.lock().unwrap();
                nodes[usize::try_from(tries).unwrap() % nodes.len()].clone()
            };
            let request = publishing(n, &order_id, &platform_key);
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

/// Nodes at work, and publishers who turn to all of them.
struct Cluster {
    nodes: Vec<ServerProcess>,
    addresses: Addresses,
    stop: Arc<AtomicBool>,
    publishers: JoinSet<BTreeMap<u64, Timestamp>>,
}

impl Cluster {
    fn start(world: &World) -> Self {
        let nodes: Vec<ServerProcess> = (0..NODES).map(|node| world.start(node)).collect();
        let told = nodes.iter().map(|node| node.address.clone()).collect();
        let addresses: Addresses = Arc::new(std::sync::Mutex::new(told));
        let platform_key = key_of(&world.folder.path().join("0"), "platform.key");
        let stop = Arc::new(AtomicBool::new(false));
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let to = (addresses.clone(), platform_key.clone());
            publishers.spawn(publish(publisher, to, stop.clone()));
        }
        Self {
            nodes,
            addresses,
            stop,
            publishers,
        }
    }

    /// Puts a new process in the place of one that has ended.
    fn replace(&mut self, node: usize, process: ServerProcess) -> ServerProcess {
        self.addresses.lock().unwrap()[node].clone_from(&process.address);
        std::mem::replace(&mut self.nodes[node], process)
    }

    /// Ends publishing, waits until all that was acknowledged has arrived, and checks its order. Gives
    /// how many those were, how many came twice, and how long the longest took.
    async fn finish(&mut self, world: &World) -> (usize, usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let publishers = std::mem::take(&mut self.publishers);
        let each = publishers.join_all().await.into_iter().flatten();
        let acknowledged: BTreeMap<u64, Timestamp> = each.collect();
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
        check_order(&there, 3);
        let delays = acknowledged.iter().map(|(n, at)| there[n].1.since(*at));
        let longest = delays.max().unwrap();
        (acknowledged.len(), world.receiver.repeats(), longest)
    }
}

/// Each order's events, so many, came one after another.
fn check_order(there: &BTreeMap<u64, (usize, Timestamp)>, of_order: u64) {
    for (n, (place, _)) in there {
        let (count, publisher) = (n / PUBLISHERS, n % PUBLISHERS);
        if count % of_order > 0 {
            let before = (count - 1) * PUBLISHERS + publisher;
            assert!(there[&before].0 < *place, "event {n} came before {before}");
        }
    }
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
    let mut cluster = Cluster::start(&world);
    let kills = kills();
    for kill in 0..kills {
        let dice = digest(&["kill", &kill.to_string()]);
        let wait = Duration::from_millis(20 + u64::from(dice[0]) * 2);
        tokio::time::sleep(wait).await;
        let victim = usize::from(dice[1]) % NODES;
        // Killed first, for a folder is one process's at a time.
        cluster.nodes[victim].child.kill().unwrap();
        cluster.nodes[victim].child.wait().unwrap();
        cluster.replace(victim, world.start(victim));
    }
    let (acknowledged, repeats, longest) = cluster.finish(&world).await;
    // A death is noticed within 7 seconds; whoever takes over may be the next to die.
    assert!(longest < PATIENCE, "one came after {longest:?}");
    // What a node has in flight is bounded by its part of the permits at this endpoint.
    let in_flight = 64_u64.div_ceil(NODES as u64);
    assert!(repeats as u64 <= kills * in_flight, "{repeats} repeats");
    println!(
        "{kills} kills of {NODES} nodes: {acknowledged} acknowledged, all arrived in order, {repeats} \
         twice; the longest came {longest:?} after its acknowledgement"
    );
}

/// A Postgres that is killed takes back nothing that was acknowledged, and the nodes find it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_again_and_again_loses_nothing() {
    const KILLS: usize = 5;
    let Some(postgres) = postgres_of_its_own() else {
        return;
    };
    let url = postgres.url();
    let migrate = move || Store::migrate(&url, false).unwrap();
    tokio::task::spawn_blocking(migrate).await.unwrap();
    let store = StoreUrl::parse(&postgres.url()).unwrap();
    let world = World::storing(tempfile::tempdir().unwrap(), store, |_| None).await;
    let mut cluster = Cluster::start(&world);
    for _ in 0..KILLS {
        world.go_on(MEANWHILE).await;
        postgres.kill().unwrap();
        postgres.go_on().unwrap();
    }
    let (acknowledged, repeats, longest) = cluster.finish(&world).await;
    println!(
        "Postgres killed {KILLS} times: {acknowledged} acknowledged, all arrived in order, {repeats} \
         twice; the longest came {longest:?} after its acknowledgement"
    );
}

/// `None` unless the tests are run on Postgres.
fn postgres_of_its_own() -> Option<Postgres> {
    Some(Postgres::start(programs()?, "").unwrap())
}

fn programs() -> Option<PathBuf> {
    std::env::var_os("TEST_POSTGRES_PROGRAMS").map(PathBuf::from)
}

#[tokio::test]
async fn the_connection_is_encrypted_and_the_server_shown_to_be_itself() {
    let Some(programs) = programs() else {
        return;
    };
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    // Free a moment ago; Postgres cannot be told to pick one.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let settings = format!(
        "listen_addresses = 'localhost'\nport = {port}\nssl = on\nssl_cert_file = 'tls.pem'\n\
         ssl_key_file = 'tls.key'"
    );
    let files = [("tls.pem", certificate.as_str()), ("tls.key", key.as_str())];
    let _postgres = Postgres::start_with(programs, &settings, &files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    fs::write(&authority, &certificate).unwrap();
    let url = format!("postgres://harkara@localhost:{port}/postgres?sslmode=require");
    let known = format!("{url}&sslrootcert={}", authority.display());
    let tried = tokio::task::spawn_blocking(move || {
        let stranger = Store::migrate(&url, false).unwrap_err();
        Store::migrate(&known, false).unwrap();
        (stranger, Store::connect(&known).unwrap())
    });
    let (stranger, store) = tried.await.unwrap();
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&*stranger.source);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let causes = causes.join(": ");
    assert!(causes.contains("certificate"), "{causes}");
    let durability = store.durability();
    assert!(durability.ends_with("encrypted connection"), "{durability}");
}

/// A node that stands still is taken for dead. What it then says of what others have done meanwhile
/// changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_cannot_undo_what_others_did() {
    let calls = AtomicU64::new(0);
    // The first call is taken and never answered.
    let script = move |_: &Arrival| {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(Answer::silence)
    };
    let Some(world) = World::with(script).await else {
        return;
    };
    let stale = world.start(0);
    let shop = world.shop(&stale.address);
    let changes = json!({ "events": { "ORDER_CREATED": true }, "timeout_seconds": 5 });
    world.patch_endpoint(&shop, &changes).await;
    let fields = [("order_id", "1"), ("amount", "8")];
    shop.post("/orders", &fields).await.ok();
    world
        .receiver
        .until(|all| all.len() == 1, PATIENCE)
        .await
        .unwrap();
    stale.signal("STOP");

    let other = world.start(1);
    let there = world.shop(&other.address);
    world
        .receiver
        .until(|all| all.len() == 2, PATIENCE)
        .await
        .unwrap();
    let event = there.event("ORDER_CREATED").await;
    let path = format!("/events/{}/deliveries", event["id"].as_str().unwrap());
    let delivery = async || there.get(&path).await.ok()["deliveries"][0].clone();
    let delivered = asked_until(&delivery, |delivery| delivery["state"] == "delivered").await;
    let attempts = format!(
        "/deliveries/{}/attempts",
        delivered["delivery_id"].as_str().unwrap()
    );
    let attempts = async || there.get(&attempts).await.ok()["attempts"].clone();
    stale.signal("CONT");
    // Its own attempt has long run out of time, and it says so.
    let all = asked_until(&attempts, |all| all.as_array().unwrap().len() == 2).await;
    let late: Vec<(&Value, &Value)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (&attempt["verdict"], &attempt["late"]))
        .collect();
    assert_eq!(
        late,
        [
            (&json!("delivered"), &json!(false)),
            (&json!("retry"), &json!(true))
        ]
    );
    let after = delivery().await;
    assert_eq!(after["state"], "delivered");
    assert_eq!(world.receiver.arrivals().len(), 2);
    let path = format!("/events/{}", event["id"].as_str().unwrap());
    assert_eq!(there.get(&path).await.ok()["notified"], true);
}

/// Asks again and again until the answer is as it is to be.
async fn asked_until<A: std::fmt::Debug>(
    ask: &impl AsyncFn() -> A,
    is_so: impl Fn(&A) -> bool,
) -> A {
    let again = async {
        loop {
            let answer = ask().await;
            if is_so(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap()
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
    let order = async |id: &str| {
        let fields = [("order_id", id), ("amount", "8")];
        there.post("/orders", &fields).await.ok();
    };
    // The other has its own copy from here on.
    order("before").await;
    let changes = json!({ "events": { "ORDER_CREATED": true } });
    world.patch_endpoint(&here, &changes).await;
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
