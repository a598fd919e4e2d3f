//! The store as a model: the hot calls of `harkara::store` on ordered maps, with nothing to flush.
//!
//! What it answers must be what the SQLite store answers; `equivalence.rs` compares the two call by
//! call. It holds what is flushed and nothing else: what is only written waits in `disk.rs`, which is
//! its caller. Rows and what they are found by are here, the calls that change them in `calls.rs`.
//! A planted [`Fault`] makes it wrong in one known way.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harkara::store::AttemptVerdict;
use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::endpoint::{Endpoint, OrderMode};
use harkara_core::health::Health;
use harkara_core::id::{DeliveryId, EndpointId, EventId, MerchantId};
use harkara_core::time::Timestamp;

use crate::planted::Fault;

/// An endpoint of a merchant.
pub(crate) type Key = (MerchantId, EndpointId);
/// A delivery of a merchant.
pub(crate) type RowKey = (MerchantId, DeliveryId);

/// A pending delivery by its due time and its event's position.
type Due = (Timestamp, i64, DeliveryId);

/// What the caller decided on has changed: `DbErrorKind::Stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// No lease ends further away than this, unless the clock went back.
const FURTHEST_LEASE_US: i64 = 3_600_000_000;
/// Everything that is flushed.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) fault: Option<Fault>,
    epoch: i64,
    position: i64,
    endpoints: BTreeMap<Key, Kept>,
    events: BTreeMap<(MerchantId, EventId), Arc<Born>>,
    last_sequences: BTreeMap<(MerchantId, String), i64>,
    idempotency_keys: BTreeSet<(MerchantId, String)>,
    rows: BTreeMap<RowKey, Row>,
    /// Pending deliveries of an endpoint, the fresh and the retried, by due time and position.
    due: BTreeMap<Key, [BTreeSet<Due>; 2]>,
    /// Unsettled deliveries of kind event by sequence.
    lines: BTreeMap<(Key, String), BTreeMap<i64, DeliveryId>>,
    waiting: BTreeMap<RowKey, BTreeMap<i64, DeliveryId>>,
    /// Claims of this epoch that ran out and were taken over, for the oracle.
    pub(crate) taken_over: Vec<DeliveryId>,
}

/// An endpoint and how it is.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) state: Called,
    /// `None` for one that is well.
    pub(crate) health: Option<Health>,
}

/// Whether an endpoint is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Active,
    Paused,
    Disabled,
    Deleted,
}

/// An event that has its place.
pub(crate) struct Born {
    position: i64,
    sequence: i64,
    name: String,
    subject: String,
    body: Bytes,
}

/// A delivery's row.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) id: DeliveryId,
    pub(crate) event_id: EventId,
    pub(crate) event: Arc<Born>,
    pub(crate) kind: DeliveryKind,
    pub(crate) order: OrderMode,
    pub(crate) state: DeliveryState,
    pub(crate) has_reason: bool,
    pub(crate) waiting_on: Option<DeliveryId>,
    pub(crate) overtaking: bool,
    pub(crate) attempts: i64,
    pub(crate) due_at: Option<Timestamp>,
    fence: i64,
    epoch: i64,
    pub(crate) lease_until: Timestamp,
    pub(crate) settled_at: Option<Timestamp>,
    pub(crate) calls: Vec<Recorded>,
}

/// A recorded attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) verdict: AttemptVerdict,
    pub(crate) retry_at: Option<Timestamp>,
    /// Its claim was over.
    pub(crate) late: bool,
    /// What it added to the time at which it ended.
    pub(crate) wait: Duration,
}

impl Row {
    pub(crate) fn subject(&self) -> &str {
        &self.event.subject
    }

    pub(crate) fn sequence(&self) -> i64 {
        self.event.sequence
    }

    fn is_unsettled(&self) -> bool {
        matches!(self.state, DeliveryState::Pending | DeliveryState::Waiting)
    }

    fn is_free(&self, now: Timestamp, epoch: i64) -> bool {
        let until = self.lease_until.as_micros();
        let far = now.as_micros() + FURTHEST_LEASE_US;
        self.lease_until <= now || until > far || self.epoch != epoch
    }
}

/// Where a delivery stands in its line.
#[derive(Default)]
struct Place {
    waiting_on: Option<DeliveryId>,
    overtaking: bool,
}

impl Model {
    /// Counts one start further, which frees the claims of the one before.
    pub(crate) fn open(&mut self) {
        self.epoch += 1;
    }

    pub(crate) fn event(&self, merchant: &MerchantId, id: &EventId) -> Option<&Arc<Born>> {
        self.events.get(&(merchant.clone(), id.clone()))
    }

    pub(crate) fn row(&self, merchant: &MerchantId, id: &DeliveryId) -> Option<&Row> {
        self.rows.get(&(merchant.clone(), id.clone()))
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub(crate) fn endpoint(&self, key: &Key) -> Option<&Kept> {
        self.endpoints.get(key)
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&Key, &Kept)> {
        self.endpoints.iter()
    }

    /// A merchant's endpoints that are not deleted, oldest first.
    pub(crate) fn endpoints_of(&self, merchant: &MerchantId) -> Vec<Arc<Endpoint>> {
        let of = self
            .endpoints
            .iter()
            .filter(|((owner, _), kept)| owner == merchant && kept.state != Called::Deleted);
        let mut found: Vec<_> = of.map(|(_, kept)| kept.endpoint.clone()).collect();
        found.sort_by_key(|it| (it.created_at, it.endpoint_id.clone()));
        found
    }

    /// The unsettled deliveries of a line before this one.
    pub(crate) fn unsettled_before(&self, row: &Row) -> impl Iterator<Item = &Row> {
        let line = self.lines.get(&(row.key.clone(), row.subject().to_owned()));
        let before = line
            .into_iter()
            .flat_map(|line| line.range(..row.sequence()).rev());
        before.filter_map(|(_, id)| self.row(&row.key.0, id))
    }

    /// The pending deliveries of an endpoint with their due times, leased or not.
    pub(crate) fn due_of(&self, key: &Key) -> impl Iterator<Item = (Timestamp, &DeliveryId)> {
        let due = self.due.get(key).into_iter().flatten().flatten();
        due.map(|(due_at, _, id)| (*due_at, id))
    }

    /// Whether nothing is pending or waiting.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.due.values().flatten().all(BTreeSet::is_empty)
    }

    /// Stores an endpoint, new or changed; its state is the one given.
    pub(crate) fn put_endpoint(&mut self, endpoint: &Endpoint, state: Called) {
        let key = (endpoint.merchant_id.clone(), endpoint.endpoint_id.clone());
        let health = self
            .endpoints
            .get(&key)
            .and_then(|kept| kept.health.clone());
        let kept = Kept {
            endpoint: Arc::new(endpoint.clone()),
            state,
            health,
        };
        self.endpoints.insert(key, kept);
    }

    /// Pauses or resumes; the endpoint is taken to be well from then on.
    pub(crate) fn set_endpoint_state(&mut self, key: &Key, state: Called) -> Result<(), Stale> {
        let kept = self.not_deleted(key)?;
        kept.state = state;
        kept.health = None;
        Ok(())
    }

    fn not_deleted(&mut self, key: &Key) -> Result<&mut Kept, Stale> {
        let kept = self.endpoints.get_mut(key);
        kept.filter(|kept| kept.state != Called::Deleted)
            .ok_or(Stale)
    }

    pub(crate) fn delete_endpoint(&mut self, key: &Key, now: Timestamp) -> Result<usize, Stale> {
        self.not_deleted(key)?.state = Called::Deleted;
        let of = self
            .rows
            .iter()
            .filter(|(_, row)| row.key == *key && row.is_unsettled());
        let unsettled: Vec<RowKey> = of.map(|(id, _)| id.clone()).collect();
        for id in &unsettled {
            self.change(id, |row| {
                row.state = DeliveryState::Withdrawn;
                row.has_reason = true;
                row.settled_at = Some(now);
                row.due_at = None;
                row.waiting_on = None;
                row.lease_until = Timestamp::default();
            });
        }
        Ok(unsettled.len())
    }

    /// Changes a row and what it is found by.
    fn change(&mut self, key: &RowKey, change: impl FnOnce(&mut Row)) {
        let mut row = self
            .rows
            .remove(key)
            .expect("only rows that exist are changed");
        self.unlist(&row);
        change(&mut row);
        self.list(&row);
        self.rows.insert(key.clone(), row);
    }

    fn list(&mut self, row: &Row) {
        let merchant = &row.key.0;
        if row.state == DeliveryState::Pending {
            let due_at = row.due_at.expect("what is pending is due");
            let due = self.due.entry(row.key.clone()).or_default();
            due[row.retried()].insert((due_at, row.event.position, row.id.clone()));
        }
        if let Some(on) = row.waiting_on.clone() {
            let waiting = self.waiting.entry((merchant.clone(), on)).or_default();
            waiting.insert(row.sequence(), row.id.clone());
        }
        if row.kind == DeliveryKind::Event && row.is_unsettled() {
            let line = self
                .lines
                .entry((row.key.clone(), row.subject().to_owned()))
                .or_default();
            line.insert(row.sequence(), row.id.clone());
        }
    }

    fn unlist(&mut self, row: &Row) {
        if let (Some(due), Some(due_at)) = (self.due.get_mut(&row.key), row.due_at) {
            due[row.retried()].remove(&(due_at, row.event.position, row.id.clone()));
        }
        if let Some(on) = row.waiting_on.clone() {
            let key = (row.key.0.clone(), on);
            let waiting = self.waiting.get_mut(&key).expect("it was listed");
            waiting.remove(&row.sequence());
            if waiting.is_empty() {
                self.waiting.remove(&key);
            }
        }
        if row.kind == DeliveryKind::Event
            && let Some(line) = self
                .lines
                .get_mut(&(row.key.clone(), row.subject().to_owned()))
        {
            line.remove(&row.sequence());
        }
    }
}

impl Row {
    /// What its last attempt under its own claim added to the time at which it ended.
    pub(crate) fn wait(&self) -> Duration {
        let last = self.calls.iter().rev().find(|call| !call.late);
        last.map_or(Duration::ZERO, |call| call.wait)
    }

    /// 0 before the first attempt and 1 after it.
    fn retried(&self) -> usize {
        usize::from(self.attempts > 0)
    }
}
