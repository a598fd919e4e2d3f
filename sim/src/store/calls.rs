//! The hot calls of the model: commit, claim, settle, release, pull in, sweep.
//!
//! Each does what its namesake in `crates/harkara/src/store/sqlite/` does, step for step. How rows are
//! kept and found is `store.rs`'s business. `disk.rs` and `equivalence.rs` call them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use harkara::store::{
    AttemptVerdict, ClaimAsk, Claimed, Commit, Committed, CommittedEvent, DueEndpoint, HealthWrite,
    Lease, NewEvent, Pick, Settle, Settled, Sweep,
};
use harkara_core::delivery::{DeliveryKind, DeliveryState, NewDelivery, Verdict};
use harkara_core::endpoint::{EndpointState, OrderMode};
use harkara_core::health::Health;
use harkara_core::id::DeliveryId;
use harkara_core::retry::{LONGEST_WAIT, pulled_in};
use harkara_core::time::Timestamp;

use super::{Born, Called, Due, Kept, Key, Model, Place, Recorded, Row, RowKey, Stale};
use crate::planted::Fault;

/// The last test of a unit in each line; they are strict if there is more than one.
type Tests = BTreeMap<(Key, String), DeliveryId>;

/// How long a delivery that nobody has sent yet goes before the backlog.
const FRESH_US: i64 = 60_000_000;

impl Model {
    pub(crate) fn commit(&mut self, unit: &Commit) -> Result<Committed, Stale> {
        let merchant = &unit.merchant_id;
        let key = unit
            .idempotency
            .as_ref()
            .map(|new| (merchant.clone(), new.key.clone()));
        if key
            .as_ref()
            .is_some_and(|key| self.idempotency_keys.contains(key))
        {
            return Err(Stale);
        }
        for NewEvent {
            event, deliveries, ..
        } in &unit.events
        {
            if self.event(merchant, &event.id).is_some() {
                return Err(Stale);
            }
            for delivery in deliveries {
                self.check_new(delivery)?;
            }
        }
        self.idempotency_keys.extend(key);
        let (mut committed, mut tests) = (Committed::default(), Tests::new());
        for NewEvent {
            event, deliveries, ..
        } in &unit.events
        {
            let subject = event.subject.key();
            let last = self
                .last_sequences
                .entry((merchant.clone(), subject.clone()));
            let last = last.or_default();
            *last += 1;
            self.position += 1;
            let born = Arc::new(Born {
                position: self.position,
                sequence: *last,
                name: event.name.as_str().to_owned(),
                subject,
                body: event.body.clone(),
            });
            self.events
                .insert((merchant.clone(), event.id.clone()), born.clone());
            for delivery in deliveries {
                let times = (unit.now, unit.lease_until);
                let claimed = self.insert(&mut tests, &born, delivery, times);
                committed.claimed.extend(claimed);
            }
            committed.events.push(CommittedEvent {
                event_id: event.id.clone(),
                position: born.position,
                sequence: born.sequence,
            });
        }
        Ok(committed)
    }

    pub(crate) fn insert_replay(
        &mut self,
        delivery: &NewDelivery,
        now: Timestamp,
        lease_until: Option<Timestamp>,
    ) -> Result<Option<Claimed>, Stale> {
        let event = self.event(&delivery.merchant_id, &delivery.event_id);
        let born = event.cloned().ok_or(Stale)?;
        self.check_new(delivery)?;
        Ok(self.insert(&mut Tests::new(), &born, delivery, (now, lease_until)))
    }

    fn check_new(&self, new: &NewDelivery) -> Result<(), Stale> {
        let key = (new.merchant_id.clone(), new.endpoint_id.clone());
        let exists = self
            .endpoint(&key)
            .is_some_and(|kept| kept.state != Called::Deleted);
        match exists && self.row(&new.merchant_id, &new.id).is_none() {
            true => Ok(()),
            false => Err(Stale),
        }
    }

    fn insert(
        &mut self,
        tests: &mut Tests,
        event: &Arc<Born>,
        new: &NewDelivery,
        (now, lease_until): (Timestamp, Option<Timestamp>),
    ) -> Option<Claimed> {
        let key = (new.merchant_id.clone(), new.endpoint_id.clone());
        let Kept {
            endpoint,
            state,
            health,
        } = &self.endpoints[&key];
        let is_open = health.as_ref().is_some_and(Health::is_open);
        let called = *state == Called::Active && !is_open;
        let rate = endpoint.rate_per_second;
        let mut row = Row {
            key,
            id: new.id.clone(),
            event_id: new.event_id.clone(),
            event: event.clone(),
            kind: new.kind,
            order: new.order,
            state: DeliveryState::Pending,
            has_reason: new.withheld.is_some(),
            waiting_on: None,
            overtaking: false,
            attempts: 0,
            due_at: Some(now),
            fence: 0,
            epoch: 0,
            lease_until: Timestamp::default(),
            settled_at: None,
            calls: Vec::new(),
        };
        match new.kind {
            DeliveryKind::Event if new.withheld.is_none() => {
                let place = self.place(&row);
                row.waiting_on = place.waiting_on;
                row.overtaking = place.overtaking;
            }
            DeliveryKind::Test => {
                let line = (row.key.clone(), row.subject().to_owned());
                row.waiting_on = tests.insert(line, row.id.clone());
            }
            DeliveryKind::Event | DeliveryKind::Replay => {}
        }
        if new.withheld.is_some() {
            row.state = DeliveryState::Withheld;
            row.settled_at = Some(now);
        } else if row.waiting_on.is_some() {
            row.state = DeliveryState::Waiting;
        }
        let due = row.state == DeliveryState::Pending;
        row.due_at = row.due_at.filter(|_| due);
        let lease = lease_until.filter(|_| due && (called || new.kind == DeliveryKind::Test));
        if let Some(lease) = lease {
            row.fence = 1;
            row.epoch = self.epoch;
            row.lease_until = lease;
        }
        let claimed = lease.map(|_| claimed(&row, rate));
        self.list(&row);
        self.rows.insert((row.key.0.clone(), row.id.clone()), row);
        claimed
    }

    fn place(&self, row: &Row) -> Place {
        let mut place = Place::default();
        for before in self.unsettled_before(row) {
            if self.fault == Some(Fault::PlaceIgnoresWaiting)
                && before.state == DeliveryState::Waiting
            {
                continue;
            }
            place.overtaking = true;
            let waits = match row.order {
                OrderMode::Hold => before.state == DeliveryState::Waiting || before.attempts == 0,
                OrderMode::Strict => true,
                OrderMode::None => break,
            };
            if waits {
                return Place {
                    waiting_on: Some(before.id.clone()),
                    overtaking: false,
                };
            }
        }
        place
    }

    pub(crate) fn claim(&mut self, ask: &ClaimAsk) -> Vec<Claimed> {
        let key = (ask.merchant_id.clone(), ask.endpoint_id.clone());
        let active = |kept: &&Kept| kept.state == Called::Active;
        let Some(kept) = self.endpoint(&key).filter(active) else {
            return Vec::new();
        };
        let rate = kept.endpoint.rate_per_second;
        let now = ask.now.as_micros();
        let fresh_from = match ask.pick {
            Pick::FreshFirst => now - FRESH_US,
            Pick::LongestDue => i64::MAX,
        };
        let mut picked = self.free(&key, ask, (0, fresh_from, i64::MAX), ask.limit);
        let room = ask.limit - picked.len();
        let mut rest = self.free(&key, ask, (0, i64::MIN, fresh_from), room);
        rest.extend(self.free(&key, ask, (1, i64::MIN, now), room));
        rest.sort_by_key(|due| due.0);
        picked.extend(rest.into_iter().take(room));
        let taken = picked
            .into_iter()
            .map(|due| self.take(&(key.0.clone(), due.2), ask, rate));
        taken.collect()
    }

    /// What is in nobody's hands among the fresh (0) or the retried (1), due after `from` and until
    /// `to`.
    fn free(
        &self,
        key: &Key,
        ask: &ClaimAsk,
        (retried, from, to): (usize, i64, i64),
        limit: usize,
    ) -> Vec<Due> {
        let due = self.due.get(key).map(|due| &due[retried]);
        let after = Timestamp::from_micros(from.saturating_add(1));
        let first = (after, i64::MIN, DeliveryId::new(""));
        let within = due.into_iter().flat_map(|due| due.range(first.clone()..));
        let within = within.take_while(|due| due.0.as_micros() <= to);
        let free = within.filter(|due| {
            let row = &self.rows[&(key.0.clone(), due.2.clone())];
            row.is_free(ask.now, self.epoch) || self.fault == Some(Fault::ClaimIgnoresLease)
        });
        free.take(limit).cloned().collect()
    }

    fn take(&mut self, key: &RowKey, ask: &ClaimAsk, rate: Option<u32>) -> Claimed {
        let (epoch, fault) = (self.epoch, self.fault);
        let row = &self.rows[key];
        let had_lease = row.lease_until > Timestamp::default() && row.epoch == epoch;
        if had_lease && row.is_free(ask.now, epoch) {
            self.taken_over.push(row.id.clone());
        }
        self.change(key, |row| {
            if fault != Some(Fault::ClaimKeepsFence) {
                row.fence += 1;
            }
            row.epoch = epoch;
            row.lease_until = ask.lease_until;
        });
        claimed(&self.rows[key], rate)
    }

    pub(crate) fn release(&mut self, leases: &[Lease]) {
        for lease in leases {
            let key = (lease.merchant_id.clone(), lease.delivery_id.clone());
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            if row.fence == lease.fence && row.state == DeliveryState::Pending {
                row.lease_until = Timestamp::default();
            }
        }
    }

    /// Moves due times nearer that lie further away than the wait they were set for.
    pub(crate) fn pull_in(&mut self, now: Timestamp) -> usize {
        let keys = self
            .due
            .iter()
            .flat_map(|(key, due)| due[1].iter().map(move |due| (key, due)));
        let far = keys.filter_map(|(key, due)| {
            let row = &self.rows[&(key.0.clone(), due.2.clone())];
            let nearer = pulled_in(due.0, now, row.wait());
            (due.0 > now && nearer < due.0).then(|| ((key.0.clone(), due.2.clone()), nearer))
        });
        let far: Vec<(RowKey, Timestamp)> = far.collect();
        for (key, nearer) in &far {
            self.change(key, |row| row.due_at = Some(*nearer));
        }
        far.len()
    }

    pub(crate) fn settle(&mut self, settle: &Settle) -> Result<Settled, Stale> {
        let key = (settle.merchant_id.clone(), settle.delivery_id.clone());
        let row = self
            .rows
            .get_mut(&key)
            .filter(|row| row.key.1 == settle.endpoint_id);
        let row = row.ok_or(Stale)?;
        let fits = row.fence == settle.fence && row.state == DeliveryState::Pending;
        let held = fits || self.fault == Some(Fault::SettleIgnoresFence);
        let attempt = &settle.attempt;
        let (verdict, retry_at) = match settle.verdict {
            Verdict::Delivered => (AttemptVerdict::Delivered, None),
            Verdict::RetryAt(at) => (AttemptVerdict::Retry, Some(at)),
            Verdict::Exhausted => (AttemptVerdict::Exhausted, None),
        };
        let ended_at = attempt.started_at.as_micros() + attempt.duration_us;
        let wait_us = retry_at.map_or(0, |at| at.as_micros() - ended_at);
        row.calls.push(Recorded {
            verdict,
            retry_at,
            late: !held,
            wait: Duration::from_micros(u64::try_from(wait_us).unwrap_or(0)),
        });
        let late_news = settle.verdict == Verdict::Delivered
            && row.state != DeliveryState::Delivered
            && self.fault != Some(Fault::LateSuccessDropped);
        if !held && !late_news {
            return Ok(Settled::default());
        }
        self.change(&key, |row| {
            (row.state, row.due_at, row.settled_at) = match settle.verdict {
                Verdict::Delivered => (DeliveryState::Delivered, None, Some(settle.now)),
                Verdict::RetryAt(at) => (DeliveryState::Pending, Some(at), None),
                Verdict::Exhausted => (DeliveryState::Exhausted, None, Some(settle.now)),
            };
            row.has_reason = false;
            row.attempts += 1;
            row.epoch = 0;
            row.lease_until = Timestamp::default();
        });
        let endpoint = (settle.merchant_id.clone(), settle.endpoint_id.clone());
        let stopped = held && self.learn(&endpoint, settle);
        let (released, claimed) = self.release_waiting(&key, settle);
        Ok(Settled {
            held,
            released,
            claimed,
            stopped,
        })
    }

    fn release_waiting(&mut self, on: &RowKey, settle: &Settle) -> (i64, Vec<Claimed>) {
        if self.fault == Some(Fault::WaitingForgotten) {
            return (0, Vec::new());
        }
        let waiting = self.waiting.get(on).cloned().unwrap_or_default();
        let (mut released, mut claimed) = (0, Vec::new());
        for id in waiting.into_values() {
            let key = (on.0.clone(), id);
            let row = &self.rows[&key];
            let place = match row.kind {
                DeliveryKind::Event | DeliveryKind::Replay => self.place(row),
                DeliveryKind::Test => Place::default(),
            };
            let due_at = place.waiting_on.is_none().then_some(settle.now);
            self.change(&key, |row| {
                row.state = match due_at {
                    Some(_) => DeliveryState::Pending,
                    None => DeliveryState::Waiting,
                };
                row.due_at = due_at;
                row.waiting_on = place.waiting_on;
                row.overtaking = place.overtaking;
            });
            if due_at.is_some() {
                let taken = self.claim_one(&key, settle);
                released += i64::from(taken.is_none());
                claimed.extend(taken);
            }
        }
        (released, claimed)
    }

    /// Takes what a settle has released, if that was asked for and its endpoint is called.
    fn claim_one(&mut self, key: &RowKey, settle: &Settle) -> Option<Claimed> {
        let (merchant_id, endpoint_id) = self.rows[key].key.clone();
        let kept = &self.endpoints[&(merchant_id.clone(), endpoint_id.clone())];
        let rate = kept.endpoint.rate_per_second;
        let is_called = kept.state == Called::Active;
        let ask = ClaimAsk {
            merchant_id,
            endpoint_id,
            limit: 1,
            pick: Pick::FreshFirst,
            now: settle.now,
            lease_until: settle.lease_until.filter(|_| is_called)?,
        };
        Some(self.take(key, &ask, rate))
    }

    /// Remembers an endpoint's health and stops calling it if asked; says whether it was called.
    fn learn(&mut self, key: &Key, settle: &Settle) -> bool {
        let kept = self
            .endpoints
            .get_mut(key)
            .expect("its delivery is being settled");
        match &settle.health {
            HealthWrite::Keep => {}
            HealthWrite::Well => kept.health = None,
            HealthWrite::Ill(health) => kept.health = Some((**health).clone()),
        }
        let stop = match settle.stop {
            Some(EndpointState::Paused { .. }) => Called::Paused,
            Some(EndpointState::Disabled { .. }) => Called::Disabled,
            Some(EndpointState::Active) | None => return false,
        };
        let was_active = kept.state == Called::Active;
        if was_active {
            kept.state = stop;
        }
        was_active
    }

    pub(crate) fn sweep(&self, now: Timestamp) -> Sweep {
        let mut sweep = Sweep::default();
        for (key, due) in &self.due {
            let kept = &self.endpoints[key];
            if kept.state == Called::Active && due.iter().any(|set| !set.is_empty()) {
                self.look((key, kept), due, now, &mut sweep);
            }
        }
        sweep
    }

    fn look(
        &self,
        (key, kept): (&Key, &Kept),
        [fresh, retried]: &[BTreeSet<Due>; 2],
        now: Timestamp,
        sweep: &mut Sweep,
    ) {
        let is_free = |due: &Due| {
            let row = &self.rows[&(key.0.clone(), due.2.clone())];
            row.is_free(now, self.epoch)
        };
        let (merchant_id, endpoint_id) = key.clone();
        // One without an attempt is due whatever its due time says.
        if fresh.iter().any(is_free) || retried.iter().take_while(|due| due.0 <= now).any(is_free) {
            sweep.endpoints.push(DueEndpoint {
                merchant_id,
                endpoint_id,
                health: kept.health.clone(),
            });
        }
        let later = (now.plus(Duration::from_micros(1)), 0, DeliveryId::new(""));
        let next = retried.range(later..).next().map(|due| due.0);
        sweep.next_due = sweep.next_due.into_iter().chain(next).min();
        let longest = now.plus(LONGEST_WAIT);
        sweep.is_far |= retried.last().is_some_and(|last| last.0 > longest);
    }
}

fn claimed(row: &Row, rate_per_second: Option<u32>) -> Claimed {
    Claimed {
        merchant_id: row.key.0.clone(),
        delivery_id: row.id.clone(),
        endpoint_id: row.key.1.clone(),
        event_id: row.event_id.clone(),
        event_name: row.event.name.clone(),
        subject: row.subject().to_owned(),
        sequence: row.sequence(),
        attempts: row.attempts,
        fence: row.fence,
        node: row.epoch,
        lease_until: row.lease_until,
        kind: row.kind,
        url_override: None,
        overtaking: row.overtaking,
        rate_per_second,
        body: row.event.body.clone(),
    }
}
