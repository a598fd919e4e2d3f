use bytes::Bytes;
use harkara_core::delivery::{self, Event};
use harkara_core::id::{EventId, MerchantId, OrderId, Subject};
use harkara_webhook::EventName;
use serde_json::Value;

use super::*;
use crate::store::{Commit, NewEvent};
use crate::testing;

const DAY: Duration = Duration::from_secs(86_400);

const RETENTION: Retention = Retention {
    bodies: DAY,
    events: Duration::from_secs(2 * 86_400),
};

/// A merchant without endpoints, whose events are therefore settled from their birth.
struct World {
    api: testing::World,
    keeper: Keeper,
}

impl World {
    async fn new() -> Self {
        let api = testing::World::new().await;
        let keeper = Keeper::new(api.api.store.clone(), RETENTION);
        Self { api, keeper }
    }

    fn now(&self) -> Timestamp {
        self.api.api.clock.now()
    }

    /// Commits events `{prefix}1`, `{prefix}2`…
    async fn born(&self, prefix: &str, count: usize) {
        let merchant_id = MerchantId::new("ms");
        let endpoints = self.api.api.store.endpoints(&merchant_id).await.unwrap();
        let mut commit = Commit::new(merchant_id.clone(), self.now());
        for n in 1..=count {
            let event = Event {
                merchant_id: merchant_id.clone(),
                id: EventId::new(format!("{prefix}{n}")),
                name: EventName::OrderSucceeded,
                subject: Subject::Order(OrderId::new(format!("{prefix}{n}"))),
                transition: "txn charged".to_owned(),
                created_at: self.now(),
                body: Bytes::from_static(b"{}"),
            };
            commit.events.push(NewEvent {
                deliveries: delivery::plan(&event, &endpoints, None),
                event,
                request_hash: None,
            });
        }
        self.api.api.store.commit(commit).await.unwrap();
    }

    /// Lets so many hours pass, each with all that the keeper does in it.
    async fn pass(&mut self, hours: u32) {
        for _ in 0..hours {
            self.api.api.clock.advance(ROUND);
            self.keep().await;
        }
    }

    /// Lets the keeper do what it has to by now, and counts its turns.
    async fn keep(&mut self) -> usize {
        let mut turns = 1;
        while self.keeper.turn(self.now()).await == PAUSE {
            turns += 1;
        }
        turns
    }

    /// How an event is shown.
    async fn shown(&self, event_id: &str) -> &'static str {
        let reply = self
            .api
            .merchant(&format!("GET /events/{event_id}"), "")
            .await;
        let shown = reply.json();
        match (reply.status.as_u16(), &shown["body"], &shown["body_gone"]) {
            (404, _, _) => "no such event",
            (200, Value::Null, Value::Bool(true)) => "without its body",
            (200, Value::Object(_), Value::Null) => "whole",
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bodies_go_after_their_days_and_events_after_theirs() {
    let mut world = World::new().await;
    world.keep().await;
    world.born("a", 1).await;
    world.pass(24).await;
    world.born("b", 1).await;
    world.born("newest", 1).await;
    let mut table = String::new();
    for (hours, now) in [
        (0, 24),
        (1, 25),
        (22, 47),
        (1, 48),
        (1, 49),
        (23, 72),
        (1, 73),
    ] {
        world.pass(hours).await;
        let (a, b) = (world.shown("a1").await, world.shown("b1").await);
        table += &format!("after {now} hours: {a}, {b}\n");
    }
    insta::assert_snapshot!(table, @r"
    after 24 hours: whole, whole
    after 25 hours: without its body, whole
    after 47 hours: without its body, whole
    after 48 hours: without its body, whole
    after 49 hours: no such event, without its body
    after 72 hours: no such event, without its body
    after 73 hours: no such event, no such event
    ");
}

#[tokio::test]
async fn many_are_deleted_in_short_steps_and_a_new_keeper_goes_on() {
    let mut world = World::new().await;
    world.born("a", 3 * STEP + 1).await;
    world.born("newest", 1).await;
    world.keep().await;
    world.pass(23).await;
    world.api.api.clock.advance(ROUND);
    for _ in 0..2 {
        assert_eq!(world.keeper.turn(world.now()).await, PAUSE);
    }
    let gone = async |world: &World, n: usize| world.shown(&format!("a{n}")).await;
    assert_eq!(gone(&world, STEP).await, "without its body");
    assert_eq!(gone(&world, STEP + 1).await, "whole");
    world.keeper = Keeper::new(world.api.api.store.clone(), RETENTION);
    // One begins, three drop bodies, and one looks at what merchants were told.
    assert_eq!(world.keep().await, 5);
    assert_eq!(gone(&world, 3 * STEP + 1).await, "without its body");
    world.pass(24).await;
    assert_eq!(gone(&world, 3 * STEP + 1).await, "no such event");
    assert_eq!(world.shown("newest1").await, "without its body");
}

#[tokio::test]
async fn what_had_to_stay_is_looked_at_again() {
    let mut world = World::new().await;
    let new = r#"{"url":"https://shop.example.com/hook","username":"shop"}"#;
    let endpoint = world.api.merchant("POST /endpoints", new).await.json();
    let endpoint_id = endpoint["endpoint_id"].as_str().unwrap();
    world.born("a", 2).await;
    world.keep().await;
    world.pass(60).await;
    assert_eq!(world.shown("a1").await, "whole");
    let path = format!("DELETE /endpoints/{endpoint_id}");
    assert_eq!(world.api.merchant(&path, "").await.status, 200);
    world.pass(1).await;
    assert_eq!(world.shown("a1").await, "no such event");
}
