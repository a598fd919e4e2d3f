//! What an endpoint may be sent, and that it is not to be called at all, over two real nodes.

use super::*;

/// Two nodes that know of each other, and of no other.
async fn two(world: &World, settings: &[(&'static str, String)]) -> [ServerProcess; 2] {
    let nodes = [0, 1].map(|node| world.start_with(node, settings));
    let known = "select string_agg(node::text, ' ' order by node) from nodes";
    asked_until(&async || world.ask(known).await, |nodes| nodes == "2 3").await;
    // Number 2 counts them with each beat: one may have begun before, the next has not.
    let beat = "select seen_at::text from nodes where node = 2";
    for _ in 0..2 {
        let last = world.ask(beat).await;
        asked_until(&async || world.ask(beat).await, |seen_at| *seen_at != last).await;
    }
    nodes
}

/// Publishes events of orders of their own, by one node and the other in turn.
async fn publish(world: &World, nodes: &[&ServerProcess], numbers: std::ops::Range<u64>) {
    let platform_key = world.shop("").server.platform_key;
    let mut all = JoinSet::new();
    for n in numbers {
        let address = nodes[usize::try_from(n).unwrap() % nodes.len()]
            .address
            .clone();
        let request = publishing(n, &format!("o-{n}"), &platform_key);
        all.spawn(async move { send(&address, request).await.ok() });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permits_and_the_rate_of_an_endpoint_hold_over_two_nodes() {
    const PERMITS: usize = 6;
    const RATE: usize = 20;
    const ANSWER: Duration = Duration::from_millis(200);
    let answer = Answer::status(http::StatusCode::OK).after(ANSWER);
    let Some(world) = World::with(move |_| Some(answer.clone())).await else {
        return;
    };
    let permits = (
        "HARKARA_DELIVERY__PERMITS_PER_ENDPOINT",
        PERMITS.to_string(),
    );
    let [one, other] = two(&world, &[permits]).await;
    let times = async |count: usize| -> Vec<Timestamp> {
        let arrived = world.receiver.until(|all| all.len() >= count, PATIENCE);
        let mut times: Vec<Timestamp> = arrived.await.unwrap().iter().map(|a| a.at).collect();
        times.sort_unstable();
        times
    };
    // The most that begin within such a span, wherever it begins.
    let most_within = |times: &[Timestamp], span: Duration| {
        let from = |at: Timestamp| {
            times
                .iter()
                .filter(move |t| (at..at.plus(span)).contains(*t))
        };
        times.iter().map(|at| from(*at).count()).max().unwrap()
    };
    publish(&world, &[&one, &other], 0..90).await;
    let at_once = most_within(&times(90).await, ANSWER);
    // More than one node's part, so that both were at it.
    assert!(
        (PERMITS / 2 + 1..=PERMITS).contains(&at_once),
        "{at_once} at once"
    );

    let limited = json!({ "rate_per_second": RATE });
    world
        .patch_endpoint(&world.shop(&one.address), &limited)
        .await;
    publish(&world, &[&one, &other], 90..170).await;
    let times = times(170).await.split_off(90);
    let second = most_within(&times, Duration::from_secs(1));
    let took = times[79].since(times[0]);
    println!("{at_once} of {PERMITS} at once, {second} of {RATE} in a second; 80 took {took:?}");
    // Each may be a moment late and then in time.
    assert!(
        (RATE / 2 + 2..=RATE + 4).contains(&second),
        "{second} in a second"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_that_one_node_opened_the_other_heeds() {
    let failing = Answer::status(http::StatusCode::INTERNAL_SERVER_ERROR);
    let Some(world) = World::with(move |_| Some(failing.clone())).await else {
        return;
    };
    let [one, other] = two(&world, &[]).await;
    publish(&world, &[&one], 0..12).await;
    let there = world.shop(&other.address);
    let path = format!("/endpoints/{}", endpoint_id(&there).await);
    let breaker = async || there.get(&path).await.ok()["health"]["breaker"].clone();
    asked_until(&breaker, |breaker| *breaker == "open").await;
    // Nothing says when the other has read it; each sweep does, and there is one a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = world.receiver.arrivals().len();
    publish(&world, &[&other], 100..140).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let arrivals = world.receiver.arrivals();
    let fresh = arrivals
        .iter()
        .filter_map(number)
        .filter(|n| *n >= 100)
        .count();
    let probes = arrivals.len() - before;
    println!(
        "{before} calls opened it; then {probes} probes, {fresh} of them fresh, for 40 events"
    );
    // Each of the two sends one after 5 s at the earliest.
    assert!(
        probes <= 2 && fresh <= 2,
        "{probes} calls, {fresh} of fresh events"
    );
}
