//! What the store promises, on a file in a folder of its own.
//!
//! Each file reads one promise: units (`commit`), whatever fails in their middle (`faults`), when
//! they are answered (`flush`), lines of deliveries (`lines`), tests that wait for each other (`flows`),
//! claims (`claims`), what is shown (`views`, `recent`), to whom (`people`), what meets in one batch
//! (`rounds`), what is replayed (`replays`), what is deleted when it is old (`retention`), what is
//! copied into another store (`transfer`), what holds whatever happens (`interleavings`), and what is so
//! of a file (`file`) or of Postgres (`postgres`), also when the wire to it is cut (`wire`).

mod claims;
mod commit;
mod faults;
mod file;
mod flows;
mod flush;
mod interleavings;
mod lines;
mod people;
mod postgres;
mod recent;
mod replays;
mod retention;
mod rounds;
mod transfer;
mod views;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use harkara_core::delivery::{DeliveryKind, Event, NewDelivery, Verdict};
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode, Sealed, SuccessRule};
use harkara_core::id::{DeliveryId, EndpointId, EventId, MerchantId, OrderId, Subject};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, WebhookVersion};

use super::sql::{Row, Value, params};
use super::*;
use crate::testing::Place;

/// A store with one merchant, `ms`, who has one active endpoint, `ep_1`.
struct World {
    store: Store,
    place: Place,
}

impl World {
    async fn new() -> Self {
        Self::at(Place::new()).await
    }

    /// The same on a file, whatever the tests are run on.
    async fn on_file() -> Self {
        Self::at(Place::file()).await
    }

    async fn at(place: Place) -> Self {
        let store = place.open().await;
        store.put_endpoint(&endpoint("ep_1"), 0).await.unwrap();
        Self { store, place }
    }

    /// Stops as if by an orderly exit, and starts again.
    async fn reopen(self) -> Self {
        let Self { store, place } = self;
        drop(store);
        let store = place.open().await;
        Self { store, place }
    }

    /// An event about `order` with one delivery to `ep_1`; they are called `evt_{name}` and `name`.
    async fn born(&self, name: &str, order: &str, lease_until: Option<Timestamp>) -> Committed {
        let mut unit = Commit::new(ms(), at(0));
        unit.events.push(event(name, order));
        unit.lease_until = lease_until;
        self.store.commit(unit).await.unwrap()
    }

    async fn claim(&self, now: Timestamp, limit: usize) -> Vec<Claimed> {
        self.pick(Pick::FreshFirst, now, limit).await
    }

    async fn pick(&self, pick: Pick, now: Timestamp, limit: usize) -> Vec<Claimed> {
        let lease_until = now.plus(Duration::from_secs(30));
        let (merchant_id, endpoint_id) = (ms(), ep("ep_1"));
        let ask = ClaimAsk {
            merchant_id,
            endpoint_id,
            limit,
            pick,
            now,
            lease_until,
        };
        self.store.claim(ask).await.unwrap()
    }

    async fn delivery(&self, name: &str) -> DeliveryView {
        self.store
            .delivery(&ms(), &DeliveryId::new(name))
            .await
            .unwrap()
            .unwrap()
    }

    /// What a query finds, texts or texts in bytes, in a line.
    async fn list(&self, sql: &'static str) -> String {
        let read = |row: &Row<'_>| {
            Ok(match row.value(0.into())? {
                Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::Text(text) => text.to_owned(),
                other => format!("{other:?}"),
            })
        };
        let found = self.store.read(move |conn| conn.rows(sql, params![], read));
        found.await.unwrap().join(",")
    }

    /// Runs a query that returns one text.
    async fn text(&self, sql: &'static str) -> String {
        self.store
            .read(|conn| conn.first(sql, params![], |row| row.get(0)))
            .await
            .unwrap()
            .unwrap()
    }
}

fn ms() -> MerchantId {
    MerchantId::new("ms")
}

fn ep(id: &str) -> EndpointId {
    EndpointId::new(id)
}

/// So many seconds after the beginning of the test.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        merchant_id: ms(),
        endpoint_id: ep(id),
        url: "https://merchant.example/webhooks".to_owned(),
        username: "user".to_owned(),
        password: Sealed("sealed".to_owned()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::date(2020, 10, 31),
        switches: std::collections::BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: at(0),
    }
}

fn event(name: &str, order: &str) -> NewEvent {
    let id = EventId::new(format!("evt_{name}"));
    let event = Event {
        merchant_id: ms(),
        id: id.clone(),
        name: EventName::OrderSucceeded,
        subject: Subject::Order(OrderId::new(order)),
        transition: "txn charged".to_owned(),
        created_at: at(0),
        body: Bytes::from(format!("body of {name}")),
    };
    NewEvent {
        event,
        deliveries: vec![delivery(name, &id)],
        request_hash: None,
    }
}

fn delivery(name: &str, event_id: &EventId) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::new(name),
        merchant_id: ms(),
        event_id: event_id.clone(),
        endpoint_id: ep("ep_1"),
        kind: DeliveryKind::Event,
        order: OrderMode::Hold,
        url_override: None,
        withheld: None,
    }
}

fn order(id: &str, version: i64) -> OrderRow {
    OrderRow {
        order_id: OrderId::new(id),
        internal_id: format!("ordeh_{}", id.to_lowercase()),
        doc: format!("{{\"v\":{version}}}"),
        version,
        status: "NEW".to_owned(),
        amount_minor: 100,
        currency: "INR".to_owned(),
        customer_id: None,
        created_at: at(0),
        updated_at: at(version),
        refs: Vec::new(),
    }
}

/// How an attempt of a claimed delivery ended.
fn settle(claimed: &Claimed, verdict: Verdict, now: Timestamp) -> Settle {
    let status = if verdict == Verdict::Delivered {
        200
    } else {
        500
    };
    Settle {
        merchant_id: claimed.merchant_id.clone(),
        delivery_id: claimed.delivery_id.clone(),
        endpoint_id: claimed.endpoint_id.clone(),
        subject: claimed.subject.clone(),
        fence: claimed.fence,
        attempt: AttemptRow {
            started_at: now,
            duration_us: 1_500,
            status: Some(status),
            failure: None,
            evidence: Evidence::default(),
        },
        verdict,
        health: HealthWrite::Keep,
        stop: None,
        told: None,
        now,
        lease_until: None,
        is_again: false,
    }
}

/// The feed from its beginning.
fn everything() -> FeedAsk {
    FeedAsk {
        limit: 1000,
        ..FeedAsk::default()
    }
}

fn names(claimed: &[Claimed]) -> String {
    let names: Vec<&str> = claimed.iter().map(|c| c.delivery_id.as_str()).collect();
    names.join(" ")
}

fn kind<T: std::fmt::Debug>(result: Result<T, DbError>) -> DbErrorKind {
    result.unwrap_err().kind
}
