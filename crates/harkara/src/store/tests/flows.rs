//! Tests of an endpoint that wait for each other, in one unit: a line of their own.

use harkara_core::delivery::DeliveryState;

use super::lines::line;
use super::*;

/// Tests about one order, told one after the other.
fn flow(names: &[&str], order: &str) -> Commit {
    let mut unit = Commit::new(ms(), at(0));
    for name in names {
        let mut new = event(name, order);
        new.deliveries[0].kind = DeliveryKind::Test;
        new.deliveries[0].order = OrderMode::Strict;
        unit.events.push(new);
    }
    unit
}

impl World {
    /// Answers what is due; it is one delivery.
    async fn answer_next(&self, verdict: Verdict, seconds: i64) -> String {
        let claimed = self.claim(at(seconds), 100).await;
        assert_eq!(claimed.len(), 1, "{}", names(&claimed));
        let settled = settle(&claimed[0], verdict, at(seconds));
        self.store.settle(settled).await.unwrap();
        line(self).await
    }
}

#[tokio::test]
async fn each_test_is_told_after_the_outcome_of_the_one_before() {
    let world = World::new().await;
    let mut unit = flow(&["t1", "t2", "t3"], "o-1");
    unit.lease_until = Some(at(30));
    let claimed = world.store.commit(unit).await.unwrap().claimed;
    assert_eq!(names(&claimed), "t1", "the others are not due");
    insta::assert_snapshot!(line(&world).await, @"t1 pending, t2 waits for t1, t3 waits for t2");

    let delivered = settle(&claimed[0], Verdict::Delivered, at(1));
    world.store.settle(delivered).await.unwrap();
    let lines = [
        line(&world).await,
        world.answer_next(Verdict::Exhausted, 2).await,
        world.answer_next(Verdict::Delivered, 4).await,
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    t1 delivered, t2 pending, t3 waits for t2
    t1 delivered, t2 exhausted, t3 pending
    t1 delivered, t2 exhausted, t3 delivered
    ");
}

#[tokio::test]
async fn a_test_that_is_settled_hands_the_next_to_its_sender() {
    let world = World::new().await;
    let mut unit = flow(&["t1", "t2"], "o-1");
    unit.lease_until = Some(at(30));
    let first = world.store.commit(unit).await.unwrap().claimed.remove(0);
    let settled = Settle {
        lease_until: Some(at(30)),
        ..settle(&first, Verdict::Exhausted, at(1))
    };
    let settled = world.store.settle(settled).await.unwrap();
    assert_eq!(
        (names(&settled.claimed).as_str(), settled.released),
        ("t2", 0)
    );
}

#[tokio::test]
async fn tests_and_real_events_do_not_wait_for_each_other() {
    let world = World::new().await;
    world.born("a", "o-1", None).await;
    world.answer_next(Verdict::RetryAt(at(100)), 1).await;
    let unit = flow(&["t1", "t2", "t3"], "o-1");
    world.store.commit(unit).await.unwrap();
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("b", "o-1"));
    unit.events[0].deliveries[0].order = OrderMode::Strict;
    world.store.commit(unit).await.unwrap();
    let lines = [
        line(&world).await,
        world.answer_next(Verdict::Delivered, 2).await,
        world.answer_next(Verdict::Exhausted, 3).await,
        world.answer_next(Verdict::Delivered, 4).await,
        world.answer_next(Verdict::Delivered, 100).await,
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    a pending, t1 pending, t2 waits for t1, t3 waits for t2, b waits for a
    a pending, t1 delivered, t2 pending, t3 waits for t2, b waits for a
    a pending, t1 delivered, t2 exhausted, t3 pending, b waits for a
    a pending, t1 delivered, t2 exhausted, t3 delivered, b waits for a
    a delivered, t1 delivered, t2 exhausted, t3 delivered, b pending
    ");
}

#[tokio::test]
async fn tests_end_with_their_endpoint() {
    let world = World::new().await;
    let unit = flow(&["t1", "t2", "t3"], "o-1");
    world.store.commit(unit).await.unwrap();
    world.answer_next(Verdict::Delivered, 1).await;
    let under_way = world.claim(at(2), 100).await;
    assert_eq!(names(&under_way), "t2");
    let store = &world.store;
    let withdrawn = store
        .delete_endpoint(&ms(), &ep("ep_1"), "gone", at(3))
        .await;
    assert_eq!(withdrawn.unwrap(), 2);
    let late = settle(&under_way[0], Verdict::Delivered, at(4));
    assert_eq!(store.settle(late).await.unwrap().released, 0);
    let last = world.delivery("t3").await;
    assert_eq!(
        (last.state, last.waiting_on),
        (DeliveryState::Withdrawn, None)
    );
    let left = store.counts(None).await.unwrap();
    assert_eq!((left.pending, left.waiting), (0, 0));
}
