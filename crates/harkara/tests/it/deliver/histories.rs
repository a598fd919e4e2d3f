//! Order over random histories: what must hold for any of them, whatever the receiver answers.
//!
//! A history is a few orders with several events each, over half an hour, and a script of answers for
//! each event. All share one endpoint, as a merchant's orders do, so a history has fewer failures than
//! open a breaker: an open one holds every order back, and rightly.

use std::collections::HashMap;
use std::time::Duration;

use harkara_core::endpoint::OrderMode;
use harkara_core::health::OPENS_AFTER;
use harkara_core::id::EventId;
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use proptest::prelude::*;

use super::world::{World, header};

const FOR_EVER: Duration = Duration::from_secs(60 * 86_400);

/// Two retries, so that a script of three failures exhausts its delivery.
const LADDER: [u32; 2] = [60, 300];

/// An event of a history: how long after the one before, of which order, and the answers that come
/// before a 200.
#[derive(Clone, Debug)]
struct Step {
    after: Duration,
    order: usize,
    failures: Vec<&'static str>,
}

fn step() -> impl Strategy<Value = Step> {
    let failure = prop::sample::select(vec!["500", "timeout", "404", "429 retry-after=400"]);
    let failures = prop::collection::vec(failure, 0..=LADDER.len() + 1);
    // Half of all events arrive at once, as with most receivers.
    let failures = prop_oneof![Just(Vec::new()), failures];
    let after = prop::sample::select(vec![0, 0, 7, 60, 200]).prop_map(Duration::from_secs);
    (after, 0..3_usize, failures).prop_map(|(after, order, failures)| Step {
        after,
        order,
        failures,
    })
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 4..14).prop_map(|mut steps| {
        let mut left = usize::try_from(OPENS_AFTER).unwrap() - 1;
        for step in &mut steps {
            step.failures.truncate(left);
            left -= step.failures.len();
        }
        steps
    })
}

/// A request as its receiver saw it, and how it is recorded.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    order: usize,
    sequence: u64,
    attempt: u64,
    at: Timestamp,
    overtaking: bool,
}

/// Lives a history through; says what the receiver saw, in its order.
async fn play(mode: OrderMode, steps: &[Step]) -> Vec<Seen> {
    let mut world = World::new();
    let change = |endpoint: &mut harkara_core::endpoint::Endpoint| {
        endpoint.order = mode;
        endpoint.ladder = Ladder::custom(LADDER.to_vec()).unwrap();
    };
    world.endpoint("ep_1", change).await;
    let mut orders = HashMap::new();
    for step in steps {
        let comes_at = world.clock.now().plus(step.after);
        world.run(step.after).await;
        world.clock.set(comes_at);
        let (order, script) = (step.order.to_string(), step.failures.join(","));
        let id = world.event(&order, EventName::TxnCreated, &script).await;
        orders.insert(id.to_string(), step.order);
    }
    world.run(FOR_EVER).await;
    let counts = world.store.counts(None).await.unwrap();
    assert_eq!((counts.pending, counts.waiting), (0, 0));
    let mut recorded = HashMap::new();
    for id in orders.keys() {
        recorded.extend(attempts(&world, id).await);
    }
    let sent = world.sent();
    assert_eq!(sent.len(), recorded.len());
    let seen = sent.iter().map(|request| {
        let id = header(request, "webhook-id");
        let number = |name| header(request, name).parse::<u64>().unwrap();
        let attempt = number("harkara-attempt");
        let (at, overtaking) = recorded[&(id.clone(), attempt)];
        Seen {
            order: orders[&id],
            sequence: number("harkara-sequence"),
            attempt,
            at,
            overtaking,
        }
    });
    seen.collect()
}

/// When an event's attempts were made, and whether they are marked as overtaking.
async fn attempts(world: &World, id: &str) -> HashMap<(String, u64), (Timestamp, bool)> {
    let (store, merchant) = (&world.store, &world.merchant_id);
    let event_id = EventId::new(id);
    let deliveries = store.deliveries_of_event(merchant, &event_id).await;
    let delivery_id = &deliveries.unwrap()[0].delivery_id;
    let views = store.attempts(merchant, delivery_id).await.unwrap();
    let of = views.into_iter().map(|view| {
        let attempt = view.attempt;
        let n = u64::try_from(view.n).unwrap();
        let what = (attempt.started_at, attempt.evidence.overtaking);
        ((id.to_owned(), n), what)
    });
    of.collect()
}

/// The requests for earlier events of the same order that came after this one: those that it overtook.
fn overtaken(seen: &[Seen], nth: usize) -> impl Iterator<Item = &Seen> {
    let later = &seen[nth];
    let after = seen[nth..].iter();
    after.filter(|it| it.order == later.order && it.sequence < later.sequence)
}

fn check_strict(seen: &[Seen]) {
    for (nth, later) in seen.iter().enumerate() {
        let earlier = overtaken(seen, nth).next();
        assert_eq!(earlier, None, "settled after {later:?} in {seen:#?}");
        assert!(!later.overtaking, "{later:?} overtakes nothing");
    }
}

fn check_hold(seen: &[Seen]) {
    for (nth, later) in seen.iter().enumerate() {
        let untried = overtaken(seen, nth).find(|it| it.attempt == 1);
        assert_eq!(untried, None, "first tried after {later:?} in {seen:#?}");
        if let Some(earlier) = overtaken(seen, nth).next() {
            assert!(later.overtaking, "{later:?} overtakes {earlier:?} unmarked");
        }
    }
}

/// A history in which one order's receiver takes everything at once moves no other order's attempts.
async fn check(mode: OrderMode, steps: Vec<Step>) {
    let seen = play(mode, &steps).await;
    match mode {
        OrderMode::Strict => check_strict(&seen),
        OrderMode::Hold => check_hold(&seen),
        OrderMode::None => unreachable!("it promises no order"),
    }
    let troubled = steps.iter().max_by_key(|step| step.failures.len());
    let healed = troubled.map(|step| step.order).unwrap();
    let mut well = steps;
    for step in well.iter_mut().filter(|step| step.order == healed) {
        step.failures.clear();
    }
    let others = |seen: Vec<Seen>| {
        let mut others: Vec<Seen> = seen.into_iter().filter(|it| it.order != healed).collect();
        // Those of one moment may change places.
        others.sort_by_key(|it| (it.order, it.sequence, it.attempt));
        others
    };
    assert_eq!(others(seen), others(play(mode, &well).await));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn order_holds_within_an_order_and_troubles_no_other(
        mode in prop::sample::select(vec![OrderMode::Strict, OrderMode::Hold]),
        steps in history(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(mode, steps));
    }
}

/// Each checker refuses what it is there for.
#[tokio::test]
async fn the_checkers_see_an_order_that_is_not_kept() {
    let step = |failures| Step {
        after: Duration::ZERO,
        order: 0,
        failures,
    };
    let steps = [step(vec!["500"]), step(Vec::new())];
    let seen = play(OrderMode::Hold, &steps).await;
    let overtakes = overtaken(&seen, 1).count();
    assert_eq!((seen.len(), overtakes), (3, 1), "{seen:#?}");
    assert!(refuses(check_strict, &seen));
    let unmarked: Vec<Seen> = seen
        .into_iter()
        .map(|it| Seen {
            overtaking: false,
            ..it
        })
        .collect();
    assert!(refuses(check_hold, &unmarked));
    let seen = play(OrderMode::None, &[step(vec!["500"]), step(Vec::new())]).await;
    let backwards: Vec<Seen> = seen.into_iter().rev().collect();
    assert!(refuses(check_hold, &backwards));
}

fn refuses(check: fn(&[Seen]), seen: &[Seen]) -> bool {
    std::panic::catch_unwind(|| check(seen)).is_err()
}
