//! What is deleted when it is old, what stays for all that, and what is still known afterwards.

use harkara_core::delivery::Withheld;
use harkara_core::id::{MandateId, NotificationRef, ReplayJobId};
use harkara_core::replay::{Definition, Done, Job, JobState, Standing};
use harkara_core::retention::{Bounds, Retention, cut};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Deletes all that may go, however old it is.
async fn forget(store: &Store, kept: Kept) -> usize {
    let page = store.old(kept, (0, i64::MAX), 100).await.unwrap();
    store.forget(kept, cut(&page, 100).runs).await.unwrap()
}

/// Deletes all bodies and events that may go.
async fn forget_all(store: &Store) {
    forget(store, Kept::Bodies).await;
    forget(store, Kept::Events).await;
}

/// An event about `order`, whose delivery is settled.
async fn settled(world: &World, name: &str, order: &str, verdict: Verdict) {
    let claimed = world.born(name, order, Some(at(10))).await.claimed;
    let settle = settle(&claimed[0], verdict, at(1));
    world.store.settle(settle).await.unwrap();
}

/// The rows of the tables that grow with each event.
async fn rows(world: &World) -> String {
    let count = |what| format!("select cast(count(*) as text) from {what}");
    let mut rows = Vec::new();
    for what in ["events", "event_bodies", "deliveries", "attempts"] {
        let sql = count(what).leak();
        rows.push(format!("{what} {}", world.text(sql).await));
    }
    rows.join(", ")
}

#[tokio::test]
async fn a_body_stays_while_anything_would_send_it() {
    let world = World::new().await;
    settled(&world, "delivered", "o-1", Verdict::Delivered).await;
    settled(&world, "exhausted", "o-2", Verdict::Exhausted).await;
    settled(&world, "fails", "o-3", Verdict::RetryAt(at(9_000))).await;
    world.born("fresh", "o-4", None).await;
    world.born("waits", "o-4", None).await;
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("withheld", "o-5"));
    unit.events[0].deliveries[0].withheld = Some(Withheld::SwitchedOff);
    unit.events.push(event("nobodys", "o-6"));
    unit.events[1].deliveries.clear();
    world.store.commit(unit).await.unwrap();

    let old = world.store.old(Kept::Bodies, (0, i64::MAX), 100).await;
    let needed = old.unwrap().into_iter().filter(|old| old.is_needed);
    assert_eq!(needed.map(|old| old.number).collect::<Vec<_>>(), [3, 4, 5]);
    // Whatever has become of them since a reader looked.
    let dropped = world.store.forget(Kept::Bodies, vec![1..=7]).await;
    assert_eq!(dropped.unwrap(), 4);
    let left = "select cast(position as text) from event_bodies order by position";
    assert_eq!(world.list(left).await, "3,4,5");
    // An event with a body stays, and so does the newest.
    assert_eq!(forget(&world.store, Kept::Events).await, 3);
    let left = "select cast(position as text) from events order by position";
    assert_eq!(world.list(left).await, "3,4,5,7");

    for claimed in world.claim(at(9_000), 9).await {
        let name = claimed.delivery_id.to_string();
        assert_eq!(claimed.body, format!("body of {name}"));
        let settle = settle(&claimed, Verdict::Delivered, at(9_000));
        world.store.settle(settle).await.unwrap();
    }
    assert_eq!(names(&world.claim(at(9_000), 9).await), "waits");
    assert_eq!(forget(&world.store, Kept::Bodies).await, 2);
}

#[tokio::test]
async fn an_event_goes_with_all_that_was_done_about_it() {
    let world = World::new().await;
    settled(&world, "a", "o-1", Verdict::Delivered).await;
    settled(&world, "b", "o-2", Verdict::Exhausted).await;
    settled(&world, "c", "o-3", Verdict::Delivered).await;
    let mut again = delivery("again", &EventId::new("evt_b"));
    again.kind = DeliveryKind::Replay;
    let again = world.store.insert_replay(again, at(2), Some(at(9))).await;
    let again = settle(&again.unwrap().unwrap(), Verdict::Delivered, at(3));
    world.store.settle(again).await.unwrap();
    let mut table = rows(&world).await;
    forget(&world.store, Kept::Bodies).await;
    table += &format!("\n{}", rows(&world).await);
    forget(&world.store, Kept::Events).await;
    table += &format!("\n{}", rows(&world).await);
    insta::assert_snapshot!(table, @r"
    events 3, event_bodies 3, deliveries 4, attempts 4
    events 3, event_bodies 0, deliveries 4, attempts 4
    events 1, event_bodies 0, deliveries 1, attempts 1
    ");
}

#[tokio::test]
async fn numbers_go_on_after_those_that_are_forgotten() {
    let world = World::new().await;
    world.born("held", "o-1", None).await;
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("nobodys", "o-1"));
    unit.events[0].deliveries.clear();
    world.store.commit(unit).await.unwrap();
    settled(&world, "only", "o-2", Verdict::Delivered).await;
    settled(&world, "newest", "o-3", Verdict::Delivered).await;
    forget_all(&world.store).await;
    let left = "select cast(position as text) from events order by position";
    assert_eq!(world.list(left).await, "1,4");

    let world = world.reopen().await;
    let mut born = Vec::new();
    for (name, order) in [("x", "o-1"), ("y", "o-2"), ("z", "o-4")] {
        let committed = world.born(name, order, None).await;
        born.push((committed.events[0].position, committed.events[0].sequence));
    }
    assert_eq!(born, [(5, 3), (6, 2), (7, 1)]);
    // Those of one subject stand in one line, as ever.
    assert_eq!(names(&world.claim(at(1), 9).await), "held y z");
}

#[tokio::test]
async fn an_order_is_as_notified_as_it_was() {
    let world = World::new().await;
    for (name, verdict) in [
        ("told", Verdict::Delivered),
        ("lost", Verdict::Exhausted),
        ("both", Verdict::Delivered),
    ] {
        let mut unit = Commit::new(ms(), at(0));
        unit.writes.push(Write::Order(order(name, 1)));
        world.store.commit(unit).await.unwrap();
        settled(&world, name, name, verdict).await;
    }
    let notified = async || {
        let mut notified = Vec::new();
        for id in ["told", "lost", "both"] {
            let order = world.store.order(&ms(), &OrderId::new(id)).await;
            notified.push(order.unwrap().unwrap().notified);
        }
        notified
    };
    settled(&world, "newest", "o-9", Verdict::Delivered).await;
    assert_eq!(notified().await, [true, false, true]);
    forget_all(&world.store).await;
    assert_eq!(notified().await, [true, false, true]);
    settled(&world, "late", "both", Verdict::Exhausted).await;
    settled(&world, "later", "lost", Verdict::Delivered).await;
    assert_eq!(notified().await, [true, false, false]);
    forget_all(&world.store).await;
    assert_eq!(notified().await, [true, false, false]);
}

#[tokio::test]
async fn what_a_foreign_ledger_said_last_outlives_its_event() {
    let world = World::new().await;
    let say = async |kind, id: &str, n: i64| {
        let mut unit = Commit::new(ms(), at(n));
        unit.writes.push(Write::Snapshot(SnapshotRow {
            kind,
            id: id.to_owned(),
            status: format!("STATUS_{n}"),
            customer_id: None,
            now: at(n),
        }));
        let mut new = event(&format!("{id}-{n}"), id);
        new.event.body = format!(r#"{{"content":{{"it":{{"n": {n}}}}}}}"#).into();
        new.deliveries.clear();
        unit.events.push(new);
        world.store.commit(unit).await.unwrap();
    };
    let said = async || {
        let store = &world.store;
        let order = store.order(&ms(), &OrderId::new("o")).await.unwrap();
        let mandate = store.mandate(&ms(), &MandateId::new("m")).await.unwrap();
        let notification = store.notification(&ms(), &NotificationRef::new("n")).await;
        let docs = [
            order.unwrap().doc,
            mandate.unwrap().doc,
            notification.unwrap().unwrap().doc,
        ];
        docs.join(" ")
    };
    let kinds = [
        (SnapshotKind::Order, "o"),
        (SnapshotKind::Mandate, "m"),
        (SnapshotKind::Notification, "n"),
    ];
    for n in 1..=2 {
        for (kind, id) in kinds {
            say(kind, id, n).await;
        }
    }
    forget_all(&world.store).await;
    assert_eq!(said().await, r#"{"n": 2} {"n": 2} {"n": 2}"#);
    for (kind, id) in kinds {
        say(kind, id, 3).await;
    }
    assert_eq!(said().await, r#"{"n": 3} {"n": 3} {"n": 3}"#);
    // Once what they said is in their row, no body is kept for it.
    forget_all(&world.store).await;
    assert_eq!(said().await, r#"{"n": 3} {"n": 3} {"n": 3}"#);
    assert!(rows(&world).await.starts_with("events 1, event_bodies 0"));
}

#[tokio::test]
async fn the_feed_tells_that_something_is_missing() {
    let world = World::new().await;
    let ask = |after| FeedAsk {
        after,
        ..everything()
    };
    let feed = async |ask: FeedAsk| {
        let page = world.store.feed(&ms(), ask).await.unwrap();
        let ids = page.events.iter().map(|(event, _)| event.position);
        (ids.collect::<Vec<_>>(), page.next, page.has_gap)
    };
    world.born("held", "o-1", None).await;
    settled(&world, "b", "o-2", Verdict::Delivered).await;
    let mut other = Commit::new(MerchantId::new("other"), at(0));
    let mut new = event("c", "o-3");
    new.event.merchant_id = MerchantId::new("other");
    new.deliveries.clear();
    other.events.push(new);
    world.store.commit(other).await.unwrap();
    assert_eq!(feed(ask(None)).await, (vec![1, 2], 2, false));
    forget_all(&world.store).await;
    // The beginning is after what is missing, so that whoever goes on from there sees all.
    assert_eq!(feed(ask(None)).await, (vec![], 2, false));
    for (after, has_gap) in [(0, true), (1, true), (2, false), (3, false)] {
        assert_eq!(feed(ask(Some(after))).await.2, has_gap, "{after}");
    }
    world.born("d", "o-2", None).await;
    assert_eq!(feed(ask(Some(2))).await, (vec![4], 4, false));
    // Those of one subject are numbered, and all that are left are shown.
    let mut of_order = ask(None);
    of_order.filter.subject = Some(Subject::Order(OrderId::new("o-1")));
    assert_eq!(feed(of_order).await, (vec![1], 1, false));
    // Somebody else's events are gone in nobody's feed but theirs.
    let page = world
        .store
        .feed(&MerchantId::new("other"), ask(Some(0)))
        .await;
    assert!(!page.unwrap().has_gap);
}

#[tokio::test]
async fn what_a_filter_has_passed_over_is_no_gap() {
    let world = World::new().await;
    let feed = async |after, name: Option<&str>, notified| {
        let filter = EventFilter {
            name: name.map(str::to_owned),
            notified,
            subject: None,
        };
        let ask = FeedAsk {
            after,
            filter,
            ..everything()
        };
        let page = world.store.feed(&ms(), ask).await.unwrap();
        (page.events.len(), page.next, page.has_gap)
    };
    world.born("held", "o-1", None).await;
    settled(&world, "b", "o-2", Verdict::Delivered).await;
    let failed = Some("ORDER_FAILED");
    assert_eq!(feed(None, failed, None).await, (0, 2, false));
    assert_eq!(feed(None, None, Some(false)).await, (1, 2, false));
    assert_eq!(feed(None, None, Some(true)).await, (1, 2, false));
    settled(&world, "c", "o-3", Verdict::Exhausted).await;
    // It may be notified yet, if it is sent again.
    assert_eq!(feed(Some(2), None, Some(true)).await, (0, 2, false));
    assert_eq!(feed(Some(2), failed, None).await, (0, 3, false));
    world.born("newest", "o-4", None).await;
    forget_all(&world.store).await;
    assert_eq!(feed(Some(3), failed, None).await, (0, 4, false));
    assert_eq!(feed(Some(2), failed, None).await, (0, 2, true));
}

#[tokio::test]
async fn an_event_without_its_body_is_shown_and_sent_to_nobody() {
    let world = World::new().await;
    settled(&world, "a", "o-1", Verdict::Exhausted).await;
    forget(&world.store, Kept::Bodies).await;
    let id = EventId::new("evt_a");
    let (event, body) = world.store.event(&ms(), &id).await.unwrap().unwrap();
    assert_eq!((event.notified, body), (false, None));
    let history = world.store.history_of_event(&ms(), &id).await;
    let history = history.unwrap().unwrap();
    assert_eq!((history.has_body, history.deliveries.len()), (false, 1));
    let mut ask = everything();
    ask.bodies = true;
    assert_eq!(
        world.store.feed(&ms(), ask).await.unwrap().events[0].1,
        None
    );

    let mut again = delivery("again", &id);
    again.kind = DeliveryKind::Replay;
    let again = world.store.insert_replay(again, at(2), None).await;
    assert_eq!(kind(again), DbErrorKind::Stale);
    for states in [
        vec![Standing::Exhausted],
        vec![Standing::Delivered, Standing::Exhausted],
    ] {
        let definition = Arc::new(definition(states));
        let page = world
            .store
            .replay_candidates(&ms(), definition, (0, 9), 10)
            .await;
        let candidates = page.unwrap().candidates;
        assert_eq!((candidates.len(), candidates[0].has_body), (1, false));
    }
}

fn definition(states: Vec<Standing>) -> Definition {
    Definition {
        endpoint_id: ep("ep_1"),
        to_endpoint_id: ep("ep_1"),
        event_names: Default::default(),
        states: states.into_iter().collect(),
        from: None,
        to: None,
        rate: 50,
    }
}

#[tokio::test]
async fn answers_to_requests_go_oldest_first() {
    let world = World::new().await;
    for n in 1..=3 {
        world.store.commit(keyed(n)).await.unwrap();
    }
    let old = world.store.old(Kept::Keys, (0, i64::MAX), 2).await.unwrap();
    let runs = cut(&old, 9).runs;
    assert_eq!(world.store.forget(Kept::Keys, runs).await.unwrap(), 2);
    assert_eq!(answers(&world).await, "k3");
}

/// Otherwise the next would be counted from the beginning, where all is taken for old.
#[tokio::test]
async fn an_answer_that_comes_after_all_have_grown_old_is_kept() {
    let world = World::new().await;
    for n in 1..=3 {
        world.store.commit(keyed(n)).await.unwrap();
    }
    let forget = async || {
        // All that was there an age ago.
        let old = world.store.old(Kept::Keys, (0, 3), 9).await.unwrap();
        let runs = cut(&old, 9).runs;
        world.store.forget(Kept::Keys, runs).await.unwrap();
    };
    forget().await;
    world.store.commit(keyed(4)).await.unwrap();
    forget().await;
    assert_eq!(answers(&world).await, "k4");
}

/// A unit with the key of its request.
fn keyed(n: i64) -> Commit {
    let mut unit = Commit::new(ms(), at(n));
    unit.idempotency = Some(NewIdempotencyKey {
        key: format!("k{n}"),
        request_hash: "h".to_owned(),
        response: "r".to_owned(),
    });
    unit
}

async fn answers(world: &World) -> String {
    world
        .list("select key from idempotency_keys order by key")
        .await
}

#[tokio::test]
async fn merchants_were_told_and_jobs_have_ended_long_ago() {
    let world = World::new().await;
    for n in 1..=3 {
        let claimed = world
            .born(&format!("e{n}"), &format!("o-{n}"), Some(at(10)))
            .await;
        let mut failed = settle(&claimed.claimed[0], Verdict::Exhausted, at(n));
        failed.told = Some(NewOperationalEvent {
            kind: "endpoint_failing",
            sentence: format!("sentence {n}"),
        });
        world.store.settle(failed).await.unwrap();
    }
    for (n, state) in [JobState::Running, JobState::Paused, JobState::Finished]
        .into_iter()
        .enumerate()
    {
        let job = Job {
            merchant_id: ms(),
            id: ReplayJobId::new(format!("rpl_{n}")),
            definition: definition(vec![Standing::Exhausted]),
            created_at: at(1),
            matched: 1,
            last_position: 3,
            cursor: 0,
            done: Done::default(),
            state,
            reason: None,
            changed_at: at(2),
        };
        assert!(world.store.insert_replay_job(job, None, 9).await.unwrap());
    }
    let told = async || {
        let told = world.store.operational_events(&ms(), 0, 9).await.unwrap();
        told.iter().map(|told| told.position).collect::<Vec<_>>()
    };
    let jobs = async || world.store.replay_jobs(&ms(), None, 9).await.unwrap().len();
    let forget_told = async |before, limit| world.store.forget_told(before, limit).await.unwrap();
    let forget_jobs = async |before| world.store.forget_jobs(before, 9).await.unwrap();
    assert_eq!(
        (forget_told(at(1), 9).await, forget_jobs(at(2)).await),
        (0, 0)
    );
    assert_eq!(
        (forget_told(at(3), 1).await, forget_jobs(at(3)).await),
        (1, 1)
    );
    assert_eq!((told().await, jobs().await), (vec![2, 3], 2));
    assert_eq!(
        (forget_told(at(9), 9).await, forget_jobs(at(9)).await),
        (1, 0)
    );
    assert_eq!(forget_told(at(9), 9).await, 0);
    assert_eq!((told().await, jobs().await), (vec![3], 2));
}

/// The days of a store, and the last body and event that are old on each.
#[tokio::test]
async fn a_row_is_as_old_as_the_hours_that_were_marked_since() {
    let world = World::new().await;
    let retention = Retention {
        bodies: DAY,
        events: 2 * DAY,
    };
    let mark = async |hours: u32| {
        let now = at(0).plus(Duration::from_secs(3_600) * hours);
        let Bounds { bodies, events, .. } = world.store.mark(retention, now).await.unwrap();
        (bodies, events)
    };
    // It says that it happened years ago, and was stored today.
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("imported", "o-1"));
    unit.events[0].event.created_at = at(-1_000_000_000);
    world.store.commit(unit).await.unwrap();
    assert_eq!(mark(0).await, (0, 0));
    world.born("b", "o-2", None).await;
    for hour in 1..=23 {
        assert_eq!(mark(hour).await, (0, 0), "{hour}");
    }
    assert_eq!(mark(24).await, (1, 0));
    // A jump of a year makes nothing a day older, and neither does the way back.
    assert_eq!(mark(9_000).await, (2, 0));
    assert_eq!(mark(25).await, (2, 0));
    for hour in 26..=46 {
        assert_eq!(mark(hour).await, (2, 0), "{hour}");
    }
    assert_eq!(mark(47).await, (2, 1));
    assert_eq!(mark(48).await, (2, 2));
    let marks = "select cast(min(lived) as text) from marks";
    let first = at(3_600).as_micros().to_string();
    assert_eq!(
        world.text(marks).await,
        first,
        "those before tell nothing any more"
    );
}
