//! While one version replaces another: nodes one by one under a client that asks once more, and a schema
//! that is newer than the node.

use std::process::Command;

use super::*;

/// What a client with one rule saw: ask once more, of another node, if the first refused the connection,
/// hung up or said 503.
#[derive(Debug, Default)]
struct Calls {
    all: u64,
    asked_again: u64,
    failed: u64,
}

/// Publishes until told to stop, two events about an order after each other, and reads each back.
async fn call(
    caller: u64,
    (nodes, shop): (Addresses, (String, String)),
    stop: Arc<AtomicBool>,
) -> (Calls, Vec<u64>) {
    let (platform_key, authorization) = shop;
    let (mut calls, mut acknowledged) = (Calls::default(), Vec::new());
    let mut turn = usize::try_from(caller).unwrap();
    for count in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let n = count * PUBLISHERS + caller;
        let order_id = format!("o-{caller}-{}", count / 2);
        let publish = || publishing(n, &order_id, &platform_key);
        let read = || {
            let path = format!("/events/{}", event_id(n));
            json_request(Method::GET, &path, &authorization, "")
        };
        for request in [
            &publish as &(dyn Fn() -> Request<Full<Bytes>> + Sync),
            &read,
        ] {
            calls.all += 1;
            let mut answered = None;
            for again in [false, true] {
                turn += 1;
                calls.asked_again += u64::from(again);
                let address = {
                    let nodes = nodes.lock().unwrap();
                    nodes[turn % nodes.len()].clone()
                };
                answered = try_send(&address, request()).await;
                if answered.as_ref().is_some_and(|reply| reply.status != 503) {
                    break;
                }
            }
            match answered {
                Some(reply) if reply.status.is_success() => {}
                other => {
                    let said = other.map(|reply| reply.status);
                    eprintln!("a call failed twice, the second time with {said:?}");
                    calls.failed += 1;
                }
            }
        }
        acknowledged.push(n);
    }
    (calls, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_replaced_one_by_one_fail_no_call_that_is_made_once_more() {
    let Some(world) = World::new().await else {
        return;
    };
    let mut nodes: Vec<ServerProcess> = (0..NODES).map(|node| world.start(node)).collect();
    let told = nodes.iter().map(|node| node.address.clone()).collect();
    let addresses: Addresses = Arc::new(std::sync::Mutex::new(told));
    let stop = Arc::new(AtomicBool::new(false));
    let shop = world.shop(&nodes[0].address);
    let keys = (shop.server.platform_key.clone(), shop.authorization());
    let mut callers = JoinSet::new();
    for caller in 0..PUBLISHERS {
        let to = (addresses.clone(), keys.clone());
        callers.spawn(call(caller, to, stop.clone()));
    }
    for round in 0..2 * NODES {
        world.go_on(MEANWHILE).await;
        let node = round % NODES;
        nodes[node].signal("TERM");
        assert_eq!(nodes[node].child.wait().unwrap().code(), Some(0));
        nodes[node] = world.start(node);
        addresses.lock().unwrap()[node].clone_from(&nodes[node].address);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut sum, mut acknowledged) = (Calls::default(), Vec::new());
    for (calls, each) in callers.join_all().await {
        sum.all += calls.all;
        sum.asked_again += calls.asked_again;
        sum.failed += calls.failed;
        acknowledged.extend(each);
    }
    let all_there = |arrivals: &[Arrival]| {
        let there = first_arrivals(arrivals);
        acknowledged.iter().all(|n| there.contains_key(n))
    };
    let arrivals = world.receiver.until(all_there, PATIENCE).await.unwrap();
    check_order(&first_arrivals(&arrivals), 2);
    println!(
        "{} nodes replaced: {sum:?}, {} events arrived",
        2 * NODES,
        acknowledged.len()
    );
    assert_eq!(sum.failed, 0, "{sum:?}");
    assert!(sum.asked_again > 0, "no call met a node that was stopping");
    assert_eq!(world.receiver.repeats(), 0, "what was in flight had ended");
}

/// What the next version would add is there already: tables, columns that have defaults, and a row about
/// it in the ledger.
const NEXT_VERSION: &str = "
    create table receipts (receipt bigint primary key, text text not null default '');
    alter table events add column region text not null default 'here';
    alter table deliveries add column region text;
    alter table endpoints add column region text not null default 'here';
    alter table nodes add column version text;
    insert into refinery_schema_history (version, name, applied_on, checksum)
        select version + 1, 'receipts', applied_on, '17' from refinery_schema_history
        order by version desc limit 1";

fn migrate(url: &StoreUrl, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_harkara"))
        .args(["migrate", "--store", url.expose()])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (
        output.status.code(),
        said.replace(&url.to_string(), "STORE"),
    )
}

/// So the schema can be brought up to date while nodes of the version before go on, and new ones start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_newer_by_one_is_served() {
    let Some(world) = World::new().await else {
        return;
    };
    let before = world.start(0);
    let store = world.store.expose().to_owned();
    let add = move || {
        Client::connect(&store, NoTls)
            .unwrap()
            .batch_execute(NEXT_VERSION)
    };
    tokio::task::spawn_blocking(add).await.unwrap().unwrap();
    let after = world.start(1);
    let platform_key = world.shop("").server.platform_key;
    for n in 0..20 {
        let node = if n % 2 == 0 { &before } else { &after };
        let request = publishing(n, &format!("o-{}", n / 4), &platform_key);
        send(&node.address, request).await.ok();
    }
    let all_there = |all: &[Arrival]| first_arrivals(all).len() == 20;
    world.receiver.until(all_there, PATIENCE).await.unwrap();
    assert_eq!(world.receiver.repeats(), 0);
    assert_eq!(
        migrate(&world.store, &["--dry-run"]),
        (Some(0), "STORE is up to date\n".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_is_missing_and_changes_nothing() {
    let Some(world) = World::new().await else {
        return;
    };
    let all = "select coalesce(max(version), 0)::text from refinery_schema_history";
    let latest = world.ask(all).await;
    let undo = "with gone as (delete from refinery_schema_history returning version)
        select count(*)::text from gone";
    assert_eq!(world.ask(undo).await, latest);
    for _ in 0..2 {
        let (code, said) = migrate(&world.store, &["--dry-run"]);
        let missing = "STORE would get:\n  V1__store\n  V2__owed\n  V3__customers\n";
        assert_eq!((code, said.as_str()), (Some(0), missing));
    }
}
