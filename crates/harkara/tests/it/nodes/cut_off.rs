//! A node whose wire to the database is held still: nothing is refused and nothing ends, there is only
//! no answer.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex};

use super::*;
use crate::wire::Wire;

/// How long ago a node's last beat may be for it to begin an attempt.
const CUT_OFF: Duration = Duration::from_secs(8);

/// Until others take a silent node for dead.
const SILENCE: Duration = Duration::from_secs(12);

/// Lets messages pass, or holds them up.
#[derive(Default)]
struct Valve {
    shut: Mutex<bool>,
    moved: Condvar,
}

impl Valve {
    fn set_shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.moved.notify_all();
    }

    fn pass(&self) -> ControlFlow<()> {
        let shut = self.shut.lock().unwrap();
        drop(self.moved.wait_while(shut, |shut| *shut).unwrap());
        ControlFlow::Continue(())
    }
}

/// What it has claimed lies in its memory, two attempts a second, and it could go on for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_reach_the_database_begins_no_attempt_and_goes_on_as_another() {
    const EVENTS: u64 = 60;
    let Some(world) = World::new().await else {
        return;
    };
    let valve = Arc::new(Valve::default());
    let wire = {
        let valve = valve.clone();
        Wire::new(world.store.expose(), move |_, _| valve.pass())
    };
    let cut_off = world.start_with(0, &[("HARKARA_STORE", wire.url().to_owned())]);
    let nodes = "select string_agg(node::text, ' ' order by node) from nodes";
    let nodes = async || world.ask(nodes).await;
    // Number 1 was the start that made the keys.
    asked_until(&nodes, |nodes| nodes == "2").await;
    let shop = world.shop(&cut_off.address);
    let limited = json!({ "rate_per_second": 2 });
    world.patch_endpoint(&shop, &limited).await;
    let publish = async |n: u64, shop: &Merchant| {
        let Server {
            address,
            platform_key,
        } = &shop.server;
        let request = publishing(n, &format!("o-{n}"), platform_key);
        send(address, request).await.ok();
    };
    for n in 0..EVENTS {
        publish(n, &shop).await;
    }
    let begun = world.receiver.until(|all| all.len() > 3, PATIENCE).await;
    valve.set_shut(true);
    let (at, begun) = (Clock::system().now(), begun.unwrap().len());
    // That nothing happens cannot be awaited. The others may not strike it out before.
    tokio::time::sleep(SILENCE - Duration::from_millis(500)).await;
    let arrivals = world.receiver.arrivals();
    let since = arrivals[begun..].iter().map(|arrival| arrival.at.since(at));
    let since: Vec<Duration> = since.collect();
    // The last beat may have been under way, and an attempt takes a moment.
    let (last, slack) = (*since.last().unwrap(), Duration::from_millis(500));
    assert!(since.len() >= 8, "it had more to send: {since:?}");
    assert!(last < CUT_OFF + slack, "an attempt began after {last:?}");

    let other = world.start(1);
    let there = world.shop(&other.address);
    asked_until(&nodes, |nodes| nodes == "3").await;
    let unlimited = json!({ "rate_per_second": null });
    world.patch_endpoint(&there, &unlimited).await;
    let all_there = |all: &[Arrival]| first_arrivals(all).len() as u64 == EVENTS;
    world.receiver.until(all_there, PATIENCE).await.unwrap();
    valve.set_shut(false);
    asked_until(&nodes, |nodes| nodes == "3 4").await;
    publish(EVENTS, &shop).await;
    let one_more = |all: &[Arrival]| first_arrivals(all).len() as u64 == EVENTS + 1;
    world.receiver.until(one_more, PATIENCE).await.unwrap();
    // What it had sent and could not settle was sent again, and nothing else.
    let repeats = world.receiver.repeats();
    assert!(
        repeats <= since.len() + 4,
        "{repeats} repeats of {}",
        since.len()
    );
    println!(
        "cut off, it began {} attempts, the last after {last:?}; {repeats} events came twice",
        since.len()
    );
}
