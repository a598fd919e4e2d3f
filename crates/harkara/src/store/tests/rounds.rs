//! Units that meet in one batch, about the same or about different things: what holds for each alone
//! holds for all of them together.
//!
//! On Postgres what they ask and write is carried out for many at once, in rounds; on a file they run
//! one after another. Batches are made by holding up the writers until all units wait for them.

use std::sync::mpsc;

use harkara_core::delivery::DeliveryState;
use proptest::prelude::*;

use super::interleavings::{ORPHANS, finish};
use super::*;

/// Keeps all writers of a store busy until it is dropped.
struct Held {
    gates: Vec<mpsc::Sender<()>>,
    writes: Vec<tokio::task::JoinHandle<()>>,
}

impl Held {
    async fn new(store: &Store) -> Self {
        let (mut gates, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..store.shared.committers.len() {
            let (gate, opened) = mpsc::channel();
            let (began, begun) = tokio::sync::oneshot::channel();
            let mut began = Some(began);
            let store = store.clone();
            writes.push(tokio::spawn(async move {
                let held = store.write(move |_| {
                    if let Some(began) = began.take() {
                        began.send(()).unwrap();
                    }
                    // It is closed when the test lets go.
                    let _ = opened.recv();
                    Ok(())
                });
                held.await.unwrap();
            }));
            begun.await.unwrap();
            gates.push(gate);
        }
        Self { gates, writes }
    }

    async fn let_go(self) {
        drop(self.gates);
        for write in self.writes {
            write.await.unwrap();
        }
    }
}

/// Runs calls that all wait for the writers together.
async fn at_once<F>(store: &Store, calls: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let held = Held::new(store).await;
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    // Each of them gets as far as the queue.
    tokio::task::yield_now().await;
    held.let_go().await;
    let mut results = Vec::with_capacity(calls.len());
    for call in calls {
        results.push(call.await.unwrap());
    }
    results
}

#[derive(Clone, Debug)]
enum Call {
    /// So many events about one order.
    Born(u8, OrderMode, u8),
    /// So many tests about one order, each after the one before.
    Flow(u8, u8),
    /// Settles the nth claims that were ever made, taken over or not.
    Settle(Vec<usize>, Verdict),
    Claim,
}

fn call() -> impl Strategy<Value = Call> {
    let mode = prop_oneof![
        4 => Just(OrderMode::Hold),
        3 => Just(OrderMode::Strict),
        1 => Just(OrderMode::None),
    ];
    let verdict = prop_oneof![
        Just(Verdict::RetryAt(at(0))),
        Just(Verdict::Exhausted),
        Just(Verdict::Delivered)
    ];
    let some = prop::collection::vec(0..100_usize, 1..5);
    prop_oneof![
        4 => (0..4_u8, mode, 1..4_u8).prop_map(|(order, mode, count)| Call::Born(order, mode, count)),
        1 => (0..4_u8, 1..4_u8).prop_map(|(order, count)| Call::Flow(order, count)),
        4 => (some, verdict).prop_map(|(some, verdict)| Call::Settle(some, verdict)),
        1 => Just(Call::Claim),
    ]
}

fn births(name: &str, order: u8, mode: OrderMode, count: u8, now: Timestamp) -> Commit {
    let mut unit = Commit::new(ms(), now);
    unit.lease_until = Some(now.plus(Duration::from_secs(30)));
    for nth in 0..count {
        let mut new = event(&format!("{name}-{nth}"), &format!("o-{order}"));
        new.deliveries[0].order = mode;
        unit.events.push(new);
    }
    unit
}

fn flow(name: &str, order: u8, count: u8, now: Timestamp) -> Commit {
    let mut unit = births(name, order, OrderMode::Strict, count, now);
    for new in &mut unit.events {
        new.deliveries[0].kind = DeliveryKind::Test;
    }
    unit
}

enum Unit {
    Commit(Commit),
    Settles(Vec<Settle>),
}

/// How many events were born, and what was claimed.
async fn carry_out(store: Store, unit: Unit) -> (usize, Vec<Claimed>) {
    match unit {
        Unit::Commit(unit) => {
            let committed = store.commit(unit).await.unwrap();
            (committed.events.len(), committed.claimed)
        }
        Unit::Settles(settles) => {
            let settled = store.settle_all(settles.into()).await.unwrap();
            let claimed = settled.into_iter().flat_map(|one| one.unwrap().claimed);
            (0, claimed.collect())
        }
    }
}

async fn run(batches: Vec<Vec<Call>>) {
    let world = World::new().await;
    let (mut claims, mut born): (Vec<Claimed>, usize) = (Vec::new(), 0);
    for (n, batch) in batches.iter().enumerate() {
        let now = at(i64::try_from(n).unwrap() * 60);
        let mut calls = Vec::new();
        for (which, call) in batch.iter().enumerate() {
            match call {
                Call::Born(order, mode, count) => {
                    let name = format!("d{n}-{which}");
                    let unit = births(&name, *order, *mode, *count, now);
                    calls.push(Unit::Commit(unit));
                }
                Call::Flow(order, count) => {
                    let unit = flow(&format!("d{n}-{which}"), *order, *count, now);
                    calls.push(Unit::Commit(unit));
                }
                Call::Settle(some, verdict) if !claims.is_empty() => {
                    let some = some.iter().map(|nth| &claims[nth % claims.len()]);
                    let verdict = match verdict {
                        Verdict::RetryAt(_) => Verdict::RetryAt(now),
                        other => *other,
                    };
                    let settles = some.map(|claimed| Settle {
                        lease_until: Some(now.plus(Duration::from_secs(30))),
                        ..settle(claimed, verdict, now)
                    });
                    calls.push(Unit::Settles(settles.collect()));
                }
                Call::Settle(..) => {}
                Call::Claim => claims.extend(world.claim(now, 100).await),
            }
        }
        let calls = calls.into_iter();
        let calls = calls.map(|call| carry_out(world.store.clone(), call));
        for (events, claimed) in at_once(&world.store, calls).await {
            born += events;
            claims.extend(claimed);
        }
        assert_eq!(world.list(ORPHANS).await, "", "after {:?}", &batches[..=n]);
    }
    assert_eq!(world.list(OUT_OF_ORDER).await, "");
    assert_eq!(world.list(COUNT).await, format!("Int({born})"));
    finish(&world, at(1_000_000)).await;
}

const COUNT: &str = "select count(*) from deliveries";

/// Events whose number in their subject is not one more than that of the one before, by position.
const OUT_OF_ORDER: &str = "
    select e.event_id from events e
    where e.sequence <> 1 + (
        select count(*) from events b where b.subject = e.subject and b.position < e.position)";

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_meets_in_a_batch_keeps_its_lines(
        batches in prop::collection::vec(prop::collection::vec(call(), 1..24), 1..8)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(batches));
    }
}

#[tokio::test]
async fn tests_that_meet_wait_for_those_of_their_own_unit_alone() {
    let world = World::new().await;
    let units = (0..40).map(|n| match n % 2 {
        0 => flow(&format!("n{n}"), 1, 3, at(0)),
        _ => births(&format!("n{n}"), 1, OrderMode::None, 1, at(0)),
    });
    let calls = units.map(|unit| carry_out(world.store.clone(), Unit::Commit(unit)));
    for (n, (_, claimed)) in at_once(&world.store, calls).await.into_iter().enumerate() {
        assert_eq!(names(&claimed), format!("n{n}-0"));
    }
    for n in (0..40).step_by(2) {
        for nth in 1..3 {
            let delivery = world.delivery(&format!("n{n}-{nth}")).await;
            let before = DeliveryId::new(format!("n{n}-{}", nth - 1));
            assert_eq!(delivery.waiting_on, Some(before));
        }
    }
    assert_eq!(world.list(OUT_OF_ORDER).await, "");
    assert_eq!(world.list(ORPHANS).await, "");
}

/// One event with the key of its request.
fn keyed(name: &str, key: &str) -> Commit {
    let mut unit = births(name, 1, OrderMode::Hold, 1, at(0));
    unit.idempotency = Some(NewIdempotencyKey {
        key: key.to_owned(),
        request_hash: "h".to_owned(),
        response: "r".to_owned(),
    });
    unit
}

#[tokio::test]
async fn one_that_is_refused_is_refused_alone() {
    let world = World::new().await;
    // More than there are writers, so that some of them meet in a batch.
    let units = (0..40).map(|n| keyed(&format!("n{n}"), &format!("key-{}", n / 2)));
    let calls = units.map(|unit| {
        let store = world.store.clone();
        async move { store.commit(unit).await }
    });
    let results = at_once(&world.store, calls).await;
    let refused = results.iter().filter_map(|result| result.as_ref().err());
    let refused: Vec<_> = refused.map(|error| error.kind).collect();
    assert_eq!(refused, [DbErrorKind::Stale; 20]);
    assert_eq!(world.list(COUNT).await, "Int(20)");
    assert_eq!(world.list(OUT_OF_ORDER).await, "");
    assert_eq!(world.list(ORPHANS).await, "");
}

#[tokio::test]
async fn endpoints_whose_outcomes_meet_are_as_the_last_says() {
    let world = World::new().await;
    let mut claims = Vec::new();
    for n in 0..20 {
        let until = Some(at(30));
        claims.extend(
            world
                .born(&format!("d{n}"), &format!("o-{n}"), until)
                .await
                .claimed,
        );
    }
    let stop = EndpointState::Paused {
        reason: "as the test wishes".to_owned(),
        at: at(1),
    };
    let settles = claims.iter().map(|claimed| Settle {
        stop: Some(stop.clone()),
        health: HealthWrite::Well,
        ..settle(claimed, Verdict::Delivered, at(1))
    });
    let calls = settles.map(|settle| {
        let store = world.store.clone();
        async move { store.settle_all([settle].into()).await }
    });
    let results = at_once(&world.store, calls).await;
    let stopped = results.into_iter().flat_map(Result::unwrap);
    let stopped = stopped.filter(|one| one.as_ref().unwrap().stopped).count();
    assert_eq!(stopped, 1);
    for n in 0..20 {
        let delivery = world.delivery(&format!("d{n}")).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
    }
}
