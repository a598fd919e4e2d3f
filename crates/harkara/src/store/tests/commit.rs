//! Units land whole or not at all, and only while what they were decided on still holds.

use harkara_core::delivery::{DeliveryState, Withheld};
use harkara_core::endpoint::EndpointState;
use harkara_core::id::NotificationRef;

use super::*;

fn writes(rows: Vec<Write>) -> Commit {
    Commit {
        writes: rows,
        ..Commit::new(ms(), at(0))
    }
}

fn snapshot(kind: SnapshotKind, id: &str) -> Write {
    let (id, status) = (id.to_owned(), "CHARGED".to_owned());
    Write::Snapshot(SnapshotRow {
        kind,
        id,
        status,
        customer_id: None,
        now: at(1),
    })
}

#[tokio::test]
async fn a_stale_guard_leaves_nothing_of_its_unit_and_all_of_the_others() {
    let world = World::new().await;
    world
        .store
        .commit(writes(vec![Write::Order(order("o-1", 1))]))
        .await
        .unwrap();

    let mut stale = writes(vec![
        Write::Order(order("o-2", 1)),
        // Whichever of the three comes first.
        Write::Order(order("o-1", 4)),
    ]);
    stale.events.push(event("lost", "o-2"));
    stale.idempotency = Some(NewIdempotencyKey {
        key: "k".to_owned(),
        request_hash: "h".to_owned(),
        response: "r".to_owned(),
    });
    let mut before = writes(Vec::new());
    before.events.push(event("before", "o-0"));
    let mut good = writes(vec![Write::Order(order("o-1", 2))]);
    good.events.push(event("kept", "o-1"));
    let store = &world.store;
    let (before, stale, good) = tokio::join!(
        store.commit(before),
        store.commit(stale),
        store.commit(good)
    );

    let cause = std::error::Error::source(&stale.unwrap_err())
        .unwrap()
        .to_string();
    assert_eq!(cause, "order o-1 is not at version 3 any more");
    let (before, good) = (before.unwrap(), good.unwrap());
    for (rows, left) in [
        (
            "select key || ' v' || version from orders join subjects using (subject)",
            "order/o-1 v2",
        ),
        (
            "select event_id from events order by event_id",
            "evt_before,evt_kept",
        ),
        ("select count(*) from event_bodies", "Int(2)"),
        (
            "select delivery_id from deliveries order by delivery_id",
            "before,kept",
        ),
        ("select count(*) from idempotency_keys", "Int(0)"),
    ] {
        assert_eq!(world.list(rows).await, left, "{rows}");
    }
    if world.place.is_file() {
        // The position that the failed unit took is given to the next.
        assert_eq!(before.events[0].position, 1);
        assert_eq!(good.events[0].position, 2);
    }
}

#[tokio::test]
async fn guards_as_a_table() {
    let world = World::new().await;
    let mut report = String::new();
    let mut check = async |what: &str, unit: Commit| {
        let answer = match world.store.commit(unit).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{:?}", error.kind),
        };
        report.push_str(&format!("{what:<36} {answer}\n"));
    };
    let order_at = |id: &str, version| writes(vec![Write::Order(order(id, version))]);
    check("order v1", order_at("A-1", 1)).await;
    check("order v1 again", order_at("A-1", 1)).await;
    check("order v1 in other case", order_at("a-1", 1)).await;
    check("order v2 in other case", order_at("a-1", 2)).await;
    check("order v2 again", order_at("A-1", 2)).await;
    check("order v4 on v2", order_at("A-1", 4)).await;
    let named = |id: &str, version, kind, name: &str| {
        let refs = vec![(kind, name.to_owned())];
        let row = order(id, version);
        writes(vec![Write::Order(OrderRow { refs, ..row })])
    };
    let refund = RefKind::Refund;
    check("order v3 with a refund", named("A-1", 3, refund, "r-1")).await;
    check("order v4 with it again", named("a-1", 4, refund, "r-1")).await;
    check(
        "other order with that refund",
        named("B-1", 1, refund, "r-1"),
    )
    .await;
    check("other order with another", named("B-1", 1, refund, "r-2")).await;
    check("its v2 with the first", named("B-1", 2, refund, "r-1")).await;
    let uuid = RefKind::TxnUuid;
    check(
        "its v2 with a txn of that name",
        named("B-1", 2, uuid, "r-1"),
    )
    .await;
    let shot = |kind, id: &str| writes(vec![snapshot(kind, id)]);
    check("snapshot of an own order", shot(SnapshotKind::Order, "a-1")).await;
    check(
        "snapshot of a foreign order",
        shot(SnapshotKind::Order, "F-1"),
    )
    .await;
    check("snapshot of it again", shot(SnapshotKind::Order, "f-1")).await;
    check("own order in its place", order_at("f-1", 1)).await;
    check("own v3 on its v2", order_at("f-1", 3)).await;
    check(
        "snapshot of a foreign mandate",
        shot(SnapshotKind::Mandate, "m-1"),
    )
    .await;
    let with_event = |name: &str| Commit {
        events: vec![event(name, "A-1")],
        ..Commit::new(ms(), at(0))
    };
    check("event", with_event("e")).await;
    check("the same event", with_event("e")).await;
    let mut elsewhere = with_event("x");
    elsewhere.events[0].deliveries[0].endpoint_id = ep("ep_gone");
    check("delivery to no endpoint", elsewhere).await;
    let scheduled = |id: &str| ScheduledOutcome {
        merchant_id: ms(),
        id: id.to_owned(),
        due_at: at(5),
        doc: "{}".to_owned(),
    };
    let schedule = Commit {
        schedule: vec![scheduled("s-1")],
        ..Commit::new(ms(), at(0))
    };
    check("schedule", schedule.clone()).await;
    check("schedule it again", schedule).await;
    let finish = Commit {
        finished: Some("s-1".to_owned()),
        ..Commit::new(ms(), at(5))
    };
    check("finish", finish.clone()).await;
    check("finish it again", finish).await;
    insta::assert_snapshot!(report, @r"
    order v1                             ok
    order v1 again                       Stale
    order v1 in other case               Stale
    order v2 in other case               ok
    order v2 again                       Stale
    order v4 on v2                       Stale
    order v3 with a refund               ok
    order v4 with it again               ok
    other order with that refund         Stale
    other order with another             ok
    its v2 with the first                Stale
    its v2 with a txn of that name       ok
    snapshot of an own order             Stale
    snapshot of a foreign order          ok
    snapshot of it again                 ok
    own order in its place               Stale
    own v3 on its v2                     Stale
    snapshot of a foreign mandate        ok
    event                                ok
    the same event                       Stale
    delivery to no endpoint              Stale
    schedule                             ok
    schedule it again                    Stale
    finish                               ok
    finish it again                      Stale
    ");
}

#[tokio::test]
async fn what_a_foreign_ledger_said_last_is_read_byte_for_byte() {
    let world = World::new().await;
    let reference = NotificationRef::new("n-1");
    let first = r#"{"amount": 1.50 , "a":null}"#;
    let second = r#"{ "content":{"notification":"}}"} }"#;
    for (version, doc) in (1..).zip([first, second]) {
        let mut unit = writes(vec![snapshot(SnapshotKind::Notification, "n-1")]);
        unit.events.push(event(&format!("{version}"), "o-1"));
        let body = format!(r#"{{"id":"e","content":{{"notification":{doc}}}}}"#);
        unit.events[0].event.body = Bytes::from(body);
        world.store.commit(unit).await.unwrap();
        let row = world.store.notification(&ms(), &reference).await.unwrap();
        let row = row.unwrap();
        assert_eq!(
            (row.doc.as_str(), row.origin, row.version),
            (doc, Origin::Foreign, version)
        );
    }
}

#[tokio::test]
async fn due_deliveries_are_born_claimed_and_carry_the_bytes_of_the_request() {
    let world = World::new().await;
    let mut unit = Commit::new(ms(), at(0));
    unit.lease_until = Some(at(30));
    unit.events = vec![
        event("first", "o-1"),
        event("second", "o-1"),
        event("other", "o-2"),
    ];
    let mut withheld = delivery("withheld", &EventId::new("evt_other"));
    withheld.withheld = Some(Withheld::SwitchedOff);
    unit.events[2].deliveries.push(withheld);
    let body = unit.events[0].event.body.clone();

    let committed = world.store.commit(unit).await.unwrap();

    // The second waits for the first; the withheld one is never sent.
    assert_eq!(names(&committed.claimed), "first other");
    let first = &committed.claimed[0];
    assert_eq!(first.body.as_ptr(), body.as_ptr());
    assert_eq!(
        (first.fence, first.attempts, first.lease_until),
        (1, 0, at(30))
    );
    assert_eq!(
        (first.event_name.as_str(), first.subject.as_str()),
        ("ORDER_SUCCEEDED", "order/o-1")
    );
    let places: Vec<(i64, i64)> = committed
        .events
        .iter()
        .map(|e| (e.position, e.sequence))
        .collect();
    assert_eq!(places, [(1, 1), (2, 2), (3, 1)]);
    assert_eq!(names(&world.claim(at(1), 10).await), "");
    let withheld = world.delivery("withheld").await;
    assert_eq!(withheld.state, DeliveryState::Withheld);
    assert_eq!(withheld.reason.unwrap(), Withheld::SwitchedOff.to_string());
}

#[tokio::test]
async fn a_paused_endpoint_is_given_deliveries_that_nobody_claims() {
    let world = World::new().await;
    let pause = EndpointState::Paused {
        reason: "410 Gone".to_owned(),
        at: at(0),
    };
    world
        .store
        .set_endpoint_state(&ms(), &ep("ep_1"), &pause)
        .await
        .unwrap();
    assert_eq!(
        names(&world.born("a", "o-1", Some(at(30))).await.claimed),
        ""
    );
    assert_eq!(names(&world.claim(at(1), 10).await), "");
    assert_eq!(world.store.sweep(at(1)).await.unwrap(), Sweep::default());
    world
        .store
        .set_endpoint_state(&ms(), &ep("ep_1"), &EndpointState::Active)
        .await
        .unwrap();
    assert_eq!(names(&world.claim(at(1), 10).await), "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_in_commit_order_under_eight_writers() {
    let world = World::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = world.store.clone();
        writers.spawn(async move {
            let mut positions = Vec::new();
            for n in 0..25 {
                let mut unit = Commit::new(ms(), at(0));
                unit.events
                    .push(event(&format!("{writer}-{n}"), &format!("o-{n}")));
                positions.push(store.commit(unit).await.unwrap().events[0].position);
            }
            positions
        });
    }
    while let Some(positions) = writers.join_next().await {
        assert!(
            positions.unwrap().is_sorted(),
            "a later commit of one writer has a later place"
        );
    }
    let feed = world.store.feed(&ms(), everything()).await.unwrap().events;
    let positions: Vec<i64> = feed.iter().map(|(e, _)| e.position).collect();
    assert_eq!(positions.len(), 200);
    assert!(positions.is_sorted());
    let sequences: Vec<i64> = feed
        .iter()
        .filter(|(e, _)| e.subject == "order/o-7")
        .map(|(e, _)| e.sequence)
        .collect();
    assert_eq!(sequences, (1..=8).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_counting_goes_on() {
    let world = World::new().await;
    world.born("a", "o-1", None).await;
    let epoch = world.store.node();
    let world = world.reopen().await;
    assert_eq!(world.store.node(), epoch + 1);
    let committed = world.born("b", "o-1", None).await;
    assert_eq!(
        (committed.events[0].position, committed.events[0].sequence),
        (2, 2)
    );
    let (event, body) = world
        .store
        .event(&ms(), &EventId::new("evt_a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((event.position, &body.unwrap()[..]), (1, &b"body of a"[..]));
}

#[tokio::test]
async fn one_store_is_open_once_and_a_closed_one_says_so() {
    let world = World::on_file().await;
    let second = Store::open(world.place.folder()).err().unwrap();
    assert_eq!(second.kind, DbErrorKind::Down);
    world.store.close().await;
    assert_eq!(
        kind(world.store.commit(Commit::new(ms(), at(0))).await),
        DbErrorKind::Down
    );
    let reopened = Store::open(world.place.folder()).unwrap();
    assert_eq!(reopened.node(), 2);
}

#[tokio::test]
async fn a_writer_that_breaks_is_reported_and_takes_nothing_more() {
    let world = World::on_file().await;
    let broken = world
        .store
        .write(|_| -> Result<(), DbError> { panic!("as the test wishes") });
    assert_eq!(kind(broken.await), DbErrorKind::Down);
    world.store.failed().await;
    assert_eq!(
        kind(world.store.commit(Commit::new(ms(), at(0))).await),
        DbErrorKind::Down
    );
}

#[tokio::test]
async fn after_a_lost_flush_nothing_is_accepted_and_nothing_is_tried_again() {
    let world = World::on_file().await;
    let lost = world.store.write(|_| -> Result<(), DbError> {
        Err(DbError::down("as if the disk had not taken a flush"))
    });
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("a", "o-1"));
    let (lost, commit) = tokio::join!(lost, world.store.commit(unit));
    assert_eq!(
        (kind(lost), kind(commit)),
        (DbErrorKind::Down, DbErrorKind::Down)
    );
    world.store.failed().await;
    let world = world.reopen().await;
    let feed = world.store.feed(&ms(), everything()).await.unwrap();
    assert_eq!(feed.events, []);
}
