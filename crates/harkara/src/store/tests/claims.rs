//! Who may send what, until when, and what comes of it afterwards.

use harkara_core::delivery::DeliveryState;
use harkara_core::endpoint::EndpointState;
use harkara_core::health::Health;

use super::*;

#[tokio::test]
async fn fresh_before_backlog_and_then_the_oldest() {
    let world = World::new().await;
    for (name, order) in [("a", "o-1"), ("b", "o-2"), ("c", "o-3"), ("d", "o-4")] {
        world.born(name, order, None).await;
    }
    for claimed in world.claim(at(1), 2).await {
        // `a` is due again before `b`.
        let again = if claimed.delivery_id.as_str() == "a" {
            at(10)
        } else {
            at(11)
        };
        world
            .store
            .settle(settle(&claimed, Verdict::RetryAt(again), at(2)))
            .await
            .unwrap();
    }
    let claimed = world.claim(at(20), 3).await;
    assert_eq!(names(&claimed), "c d a");
    assert_eq!(claimed[2].attempts, 1);
    assert_eq!(names(&world.claim(at(20), 3).await), "b");
}

#[tokio::test]
async fn just_born_before_backlog_even_if_the_backlog_was_never_sent() {
    let world = World::new().await;
    world.born("old", "o-1", None).await;
    let claimed = world.born("retried", "o-2", Some(at(1))).await.claimed;
    let again = settle(&claimed[0], Verdict::RetryAt(at(90)), at(1));
    world.store.settle(again).await.unwrap();
    let mut unit = Commit::new(ms(), at(100));
    unit.events.push(event("new", "o-3"));
    world.store.commit(unit).await.unwrap();

    let probe = world.pick(Pick::LongestDue, at(100), 1).await;
    assert_eq!(names(&probe), "old", "a probe takes what is due longest");
    let leases = probe.iter().map(Claimed::lease).collect();
    world.store.release(leases).await.unwrap();
    assert_eq!(names(&world.claim(at(100), 9).await), "new old retried");
}

#[tokio::test]
async fn a_clock_that_went_back_keeps_nothing_that_was_never_sent_waiting() {
    let world = World::new().await;
    let mut unit = Commit::new(ms(), at(7200));
    unit.events.push(event("a", "o-1"));
    world.store.commit(unit).await.unwrap();
    let sweep = world.store.sweep(at(0)).await.unwrap();
    assert_eq!(sweep.endpoints.len(), 1);
    assert_eq!(names(&world.claim(at(0), 9).await), "a");
}

#[tokio::test]
async fn a_clock_that_went_back_delays_no_retry_beyond_its_wait() {
    let world = World::new().await;
    for n in 0..600 {
        let (name, order) = (format!("d{n}"), format!("o-{n}"));
        let born = world.born(&name, &order, Some(at(7230))).await;
        let claimed = &born.claimed[0];
        let again = settle(claimed, Verdict::RetryAt(at(7260)), at(7200));
        world.store.settle(again).await.unwrap();
    }
    world.store.pull_in(at(0)).await.unwrap();
    // Its attempt took 1.5 ms of the minute.
    let due_at = world.delivery("d599").await.due_at.unwrap();
    assert_eq!(due_at.as_micros(), at(60).as_micros() - 1_500);
    assert_eq!(world.claim(at(60), 1000).await.len(), 600);
}

#[tokio::test]
async fn a_start_knows_when_the_store_was_last_written() {
    let world = World::on_file().await;
    let next_year = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let file = std::fs::File::open(sqlite::database(world.place.folder())).unwrap();
    file.set_modified(next_year).unwrap();
    let written_at = sqlite::written_at(world.place.folder());
    assert_eq!(written_at, Some(Timestamp::from_seconds(1_900_000_000)));
}

#[tokio::test]
async fn while_a_breaker_is_open_nothing_is_born_claimed_and_a_restart_knows_why() {
    let world = World::new().await;
    let claimed = world.born("a", "o-1", Some(at(30))).await.claimed.remove(0);
    let mut health = Health::default();
    for _ in 0..harkara_core::health::OPENS_AFTER {
        health.failed(at(1), Duration::from_secs(86_400));
    }
    let mut ill = settle(&claimed, Verdict::RetryAt(at(60)), at(1));
    ill.health = HealthWrite::Ill(Box::new(health.clone()));
    world.store.settle(ill).await.unwrap();
    let born = world.born("b", "o-2", Some(at(30))).await;
    assert_eq!(names(&born.claimed), "");

    let world = world.reopen().await;
    let sweep = world.store.sweep(at(2)).await.unwrap();
    assert_eq!(sweep.endpoints[0].health, Some(health));

    let probe = world.pick(Pick::LongestDue, at(6), 1).await.remove(0);
    let mut well = settle(&probe, Verdict::Delivered, at(6));
    well.health = HealthWrite::Well;
    world.store.settle(well).await.unwrap();
    let born = world.born("c", "o-3", Some(at(30))).await;
    assert_eq!(names(&born.claimed), "c");
}

#[tokio::test]
async fn a_claim_lasts_for_its_lease_unless_it_is_given_back() {
    let world = World::new().await;
    let first = world.born("a", "o-1", Some(at(30))).await.claimed.remove(0);
    assert_eq!(names(&world.claim(at(29), 10).await), "");
    let second = world.claim(at(30), 10).await.remove(0);
    assert_eq!(second.fence, 2);
    world.store.release(vec![first.lease()]).await.unwrap();
    assert_eq!(
        names(&world.claim(at(31), 10).await),
        "",
        "the first no longer holds it"
    );
    world.store.release(vec![second.lease()]).await.unwrap();
    let third = world.claim(at(31), 10).await.remove(0);
    assert_eq!((third.fence, third.attempts), (3, 0));
}

#[tokio::test]
async fn the_claims_of_an_earlier_start_are_free_at_once() {
    let world = World::new().await;
    world.born("a", "o-1", Some(at(3600))).await;
    assert!(world.store.sweep(at(1)).await.unwrap().endpoints.is_empty());
    let world = world.reopen().await;
    assert_eq!(world.store.sweep(at(1)).await.unwrap().endpoints.len(), 1);
    assert_eq!(world.claim(at(1), 10).await[0].fence, 2);
}

#[tokio::test]
async fn a_claim_that_was_taken_over_changes_nothing_except_for_the_better() {
    let world = World::new().await;
    let stale = world.born("a", "o-1", Some(at(5))).await.claimed.remove(0);
    let holder = world.claim(at(6), 10).await.remove(0);
    let mut report = String::new();
    let mut check = async |what: &str, claimed: &Claimed, verdict| {
        let settled = world
            .store
            .settle(settle(claimed, verdict, at(7)))
            .await
            .unwrap();
        let row = world.delivery("a").await;
        let (held, state, attempts) = (settled.held, row.state, row.attempts);
        report.push_str(&format!(
            "{what:<20} held {held:<5}  {state}, {attempts} attempts\n"
        ));
    };
    check("late 500", &stale, Verdict::RetryAt(at(8))).await;
    check("late last 500", &stale, Verdict::Exhausted).await;
    check("late 200", &stale, Verdict::Delivered).await;
    check("the holder's 500", &holder, Verdict::RetryAt(at(9))).await;
    check("the holder's 200", &holder, Verdict::Delivered).await;
    let attempts = world
        .store
        .attempts(&ms(), &stale.delivery_id)
        .await
        .unwrap();
    for row in attempts {
        let late = if row.late { "late" } else { "" };
        report.push_str(&format!("attempt {} {:?} {late}\n", row.n, row.verdict));
    }
    insta::assert_snapshot!(report, @r"
    late 500             held false  pending, 0 attempts
    late last 500        held false  pending, 0 attempts
    late 200             held false  delivered, 1 attempts
    the holder's 500     held false  delivered, 1 attempts
    the holder's 200     held false  delivered, 1 attempts
    attempt 1 Retry late
    attempt 2 Exhausted late
    attempt 3 Delivered late
    attempt 4 Retry late
    attempt 5 Delivered late
    ");
}

#[tokio::test]
async fn settling_stops_the_endpoint_and_tells_its_merchant_in_the_same_breath() {
    let world = World::new().await;
    let claimed = world.born("a", "o-1", Some(at(5))).await.claimed.remove(0);
    let before = world
        .store
        .endpoint(&ms(), &ep("ep_1"))
        .await
        .unwrap()
        .unwrap();
    let mut gone = settle(&claimed, Verdict::RetryAt(at(60)), at(1));
    gone.stop = Some(EndpointState::Paused {
        reason: "it answered 410".to_owned(),
        at: at(1),
    });
    gone.told = Some(NewOperationalEvent {
        kind: "endpoint_paused",
        sentence: "it is paused".to_owned(),
    });
    assert!(world.store.settle(gone).await.unwrap().stopped);
    let told = world.store.operational_events(&ms(), 0, 10).await.unwrap();
    assert_eq!(
        (told[0].position, told[0].kind.as_str(), told[0].created_at),
        (1, "endpoint_paused", at(1))
    );
    let after = world
        .store
        .endpoint(&ms(), &ep("ep_1"))
        .await
        .unwrap()
        .unwrap();
    let paused = EndpointState::Paused {
        reason: "it answered 410".to_owned(),
        at: at(1),
    };
    assert_eq!(
        (after.endpoint.state, after.version),
        (paused, before.version + 1)
    );
    assert_eq!(names(&world.claim(at(60), 10).await), "");
}

/// The disk turns a bit over in the body of `a`: nobody is sent it, it is no claim for ever, and what
/// stands behind it goes on.
#[tokio::test]
async fn a_damaged_body_is_never_sent() {
    let world = World::new().await;
    for (name, order) in [("a", "o-1"), ("b", "o-1"), ("c", "o-2")] {
        world.born(name, order, None).await;
    }
    let flip = world.store.write(|pen| {
        let sql = "select body from event_bodies where position = 1";
        let mut frame: Vec<u8> = pen.find(sql, params![], |row| row.get(0))?.unwrap();
        let middle = frame.len() / 2;
        frame[middle] ^= 1;
        pen.execute(
            "update event_bodies set body = ?1 where position = 1",
            params![frame],
        )
    });
    flip.await.unwrap();
    assert_eq!(names(&world.claim(at(1), 10).await), "c");
    assert_eq!(names(&world.claim(at(2), 10).await), "b");
    let a = world.delivery("a").await;
    assert_eq!(
        (a.state, a.settled_at),
        (DeliveryState::Withdrawn, Some(at(1)))
    );
    insta::assert_snapshot!(a.reason.unwrap(), @r"
    a stored body is not what was written: Restored data doesn't match checksum
    ");
    let mut again = delivery("again", &EventId::new("evt_a"));
    again.kind = DeliveryKind::Replay;
    let replayed = world.store.insert_replay(again, at(3), Some(at(9))).await;
    assert_eq!(replayed.unwrap(), None);
    assert_eq!(
        world.delivery("again").await.state,
        DeliveryState::Withdrawn
    );
    let read = world.store.event(&ms(), &EventId::new("evt_a")).await;
    assert_eq!(kind(read), DbErrorKind::Corrupt);
}

#[tokio::test]
async fn a_deleted_endpoint_takes_its_deliveries_with_it() {
    let world = World::new().await;
    world.born("a", "o-1", None).await;
    world.born("b", "o-1", None).await;
    let id = ep("ep_1");
    assert_eq!(
        world
            .store
            .delete_endpoint(&ms(), &id, "no longer used", at(3))
            .await
            .unwrap(),
        2
    );
    for name in ["a", "b"] {
        let row = world.delivery(name).await;
        assert_eq!(
            (row.state, row.settled_at),
            (DeliveryState::Withdrawn, Some(at(3)))
        );
        assert_eq!(
            (row.reason.as_deref(), row.waiting_on),
            (Some("no longer used"), None)
        );
    }
    assert!(world.store.endpoints(&ms()).await.unwrap().is_empty());
    let kept = world.store.endpoint(&ms(), &id).await.unwrap().unwrap();
    assert_eq!(kept.deleted_at, Some(at(3)));
    assert_eq!(
        kind(world.store.put_endpoint(&endpoint("ep_1"), 2).await),
        DbErrorKind::Stale
    );
    assert_eq!(
        kind(world.store.put_endpoint(&endpoint("ep_1"), 0).await),
        DbErrorKind::Stale
    );
}

#[tokio::test]
async fn a_sweep_names_who_has_work_and_when_there_will_be_more() {
    let world = World::new().await;
    assert_eq!(world.store.sweep(at(0)).await.unwrap(), Sweep::default());
    world
        .store
        .put_endpoint(&endpoint("ep_2"), 0)
        .await
        .unwrap();
    for n in 0..20 {
        world.born(&format!("a{n}"), &format!("o-{n}"), None).await;
    }
    let mut later = Commit::new(ms(), at(0));
    later.lease_until = Some(at(5));
    later.events.push(event("later", "o-l"));
    later.events[0].deliveries[0].endpoint_id = ep("ep_2");
    let claimed = world.store.commit(later).await.unwrap().claimed.remove(0);
    world
        .store
        .settle(settle(&claimed, Verdict::RetryAt(at(60)), at(1)))
        .await
        .unwrap();

    let due = |id: &str| DueEndpoint {
        merchant_id: ms(),
        endpoint_id: ep(id),
        health: None,
    };
    let sweep = world.store.sweep(at(2)).await.unwrap();
    assert_eq!(sweep.endpoints, [due("ep_1")]);
    assert_eq!(sweep.next_due, Some(at(60)));
    let sweep = world.store.sweep(at(60)).await.unwrap();
    assert_eq!(sweep.endpoints[1], due("ep_2"));
    assert_eq!(sweep.next_due, None);
}

#[tokio::test]
async fn what_a_settle_releases_is_handed_over_claimed_where_a_lease_is_asked_for() {
    let world = World::new().await;
    let first = world.born("a", "o-1", Some(at(30))).await.claimed.remove(0);
    world.born("b", "o-1", None).await;
    let mut delivered = settle(&first, Verdict::Delivered, at(1));
    delivered.lease_until = Some(at(31));
    let settled = world.store.settle(delivered).await.unwrap();
    assert_eq!(
        (names(&settled.claimed).as_str(), settled.released),
        ("b", 0)
    );
    let next = &settled.claimed[0];
    assert_eq!(
        (next.fence, next.lease_until, &next.body[..]),
        (1, at(31), &b"body of b"[..])
    );
    assert_eq!(
        names(&world.claim(at(2), 10).await),
        "",
        "it is in our hands"
    );

    world.born("c", "o-1", None).await;
    let mut gone = settle(next, Verdict::Delivered, at(3));
    gone.lease_until = Some(at(33));
    gone.stop = Some(EndpointState::Paused {
        reason: "gone".to_owned(),
        at: at(3),
    });
    let settled = world.store.settle(gone).await.unwrap();
    assert!(settled.stopped);
    assert_eq!(
        (names(&settled.claimed).as_str(), settled.released),
        ("", 1)
    );
    world.born("d", "o-2", None).await;
    assert_eq!(
        names(&world.claim(at(4), 10).await),
        "",
        "nothing is due at a paused endpoint"
    );
}

#[tokio::test]
async fn a_turn_is_settled_at_once_and_who_is_refused_is_refused_alone() {
    let world = World::new().await;
    let first = world.born("a", "o-1", Some(at(30))).await.claimed.remove(0);
    let second = world.born("b", "o-2", Some(at(30))).await.claimed.remove(0);
    let mut nobody = settle(&first, Verdict::Delivered, at(1));
    nobody.delivery_id = DeliveryId::new("nobody");
    let turn = vec![
        settle(&first, Verdict::Delivered, at(1)),
        nobody,
        settle(&second, Verdict::RetryAt(at(9)), at(1)),
    ];
    let mut settled = world.store.settle_all(turn.into()).await.unwrap();
    assert_eq!(kind(settled.remove(1)), DbErrorKind::Stale);
    assert!(settled.into_iter().all(|one| one.unwrap().held));
    let states = (
        world.delivery("a").await.state,
        world.delivery("b").await.state,
    );
    assert_eq!(states, (DeliveryState::Delivered, DeliveryState::Pending));
}

/// The answer to a settle may be lost on its way: whoever asks again must not count the call twice.
#[tokio::test]
async fn a_settle_that_is_asked_for_again_is_made_once() {
    let world = World::new().await;
    let first = world.born("a", "o-1", Some(at(30))).await.claimed.remove(0);
    world.born("b", "o-1", None).await;
    let made = settle(&first, Verdict::RetryAt(at(9)), at(1));
    let again = Settle {
        is_again: true,
        ..made.clone()
    };
    for settle in [made, again] {
        world.store.settle(settle).await.unwrap();
        let a = world.delivery("a").await;
        assert_eq!((a.attempts, a.due_at), (1, Some(at(9))));
        let calls = world.store.attempts(&ms(), &a.delivery_id).await.unwrap();
        assert_eq!(calls.len(), 1);
    }
    // The first time was lost before it was made.
    let mut due = world.claim(at(9), 10).await;
    let a = due.iter().position(|c| c.delivery_id.as_str() == "a");
    let second = due.remove(a.unwrap());
    let lost = Settle {
        is_again: true,
        ..settle(&second, Verdict::Delivered, at(10))
    };
    world.store.settle(lost).await.unwrap();
    let (a, b) = (world.delivery("a").await, world.delivery("b").await);
    assert_eq!((a.state, a.attempts), (DeliveryState::Delivered, 1 + 1));
    assert_eq!(b.state, DeliveryState::Pending);
}
