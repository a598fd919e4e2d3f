//! Holds the model of the store against the real one: the same calls, the same answers, the same rows.
//!
//! Each case draws calls, and makes each of them on a SQLite store in a folder of its own and on the
//! [`Model`]; the first difference ends it. The tests run some cases, `--equivalence` as many as asked
//! for.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harkara::store::{
    AttemptRow, ClaimAsk, Claimed, Commit, DbError, DbErrorKind, DeliveryView, Evidence,
    HealthWrite, NewEvent, NewIdempotencyKey, Pick, Settle, Store,
};
use harkara_core::delivery::{self, DeliveryKind, Event, NewDelivery, Verdict, Withheld};
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode, Sealed, SuccessRule};
use harkara_core::health::Health;
use harkara_core::id::{DeliveryId, EndpointId, EventId, MerchantId, OrderId, Subject};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, WebhookVersion};

use crate::dice::Dice;
use crate::plan::{beginning, key_of};
use crate::planted::Fault;
use crate::store::{Called, Key, Model, Row, Stale};

/// Calls of one case.
const CALLS: u64 = 60;

/// Runs so many cases and says which of them shows a difference to the model, or to one with a fault.
pub(crate) fn run(first: u64, cases: u64, fault: Option<Fault>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for seed in first..first + cases {
        let case = runtime.block_on(run_case(seed, fault));
        case.with_context(|| format!("failed to find the model alike in case {seed}"))?;
    }
    Ok(())
}

async fn run_case(seed: u64, fault: Option<Fault>) -> Result<()> {
    // Nothing here is about the disk, so that one in memory does where there is one.
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    let mut pair = Pair::open(folder.path(), seed).await?;
    pair.model.fault = fault;
    for n in 0..CALLS {
        pair.call(n).await.with_context(|| format!("call {n}"))?;
    }
    pair.compare_rows().await?;
    pair.store.close().await;
    Ok(())
}

/// Both stores, and what a caller of them remembers.
struct Pair<'a> {
    folder: &'a Path,
    store: Store,
    model: Model,
    dice: Dice,
    now: Timestamp,
    endpoints: Vec<Endpoint>,
    events: Vec<Event>,
    claims: Vec<Claimed>,
}

impl<'a> Pair<'a> {
    async fn open(folder: &'a Path, seed: u64) -> Result<Self> {
        let (store, mut model) = (Store::open(folder)?, Model::default());
        model.open();
        let mut endpoints = Vec::new();
        for (merchant, name) in [("ms1", "ep_1"), ("ms1", "ep_2"), ("ms2", "ep_1")] {
            let endpoint = endpoint(merchant, name);
            store.put_endpoint(&endpoint, 0).await?;
            model.put_endpoint(&endpoint, Called::Active);
            endpoints.push(endpoint);
        }
        Ok(Self {
            folder,
            store,
            model,
            dice: Dice::new(seed),
            now: beginning(),
            endpoints,
            events: Vec::new(),
            claims: Vec::new(),
        })
    }

    /// Makes one call of both and compares what they answer.
    async fn call(&mut self, n: u64) -> Result<()> {
        self.pass_time();
        match self.dice.between(0, 99) {
            0..=25 => self.commit(n).await,
            26..=29 => self.flow(n).await,
            30..=35 => self.replay(n).await,
            36..=51 => self.claim().await,
            52..=76 => self.settle().await,
            77..=80 => self.release().await,
            81..=83 => self.pull_in().await,
            84..=91 => self.sweep().await,
            92..=97 => self.operate().await,
            _ => self.reopen().await,
        }
    }

    fn pass_time(&mut self) {
        let seconds = self.dice.magnitude(1, 100);
        let micros = i64::try_from(seconds * 1_000_000).expect("a minute or two");
        let jump = match self.dice.between(0, 29) {
            0 => -4_000_000_000,
            1 => 4_000_000_000,
            2 => -31_536_000_000_000,
            _ => 0,
        };
        self.now = Timestamp::from_micros(self.now.as_micros() + micros + jump);
    }

    fn some_endpoint(&mut self) -> Endpoint {
        self.dice.pick(&self.endpoints).clone()
    }

    fn some_lease(&mut self) -> Option<Timestamp> {
        let lease = self.now.plus(Duration::from_secs(60));
        (!self.dice.one_in(3)).then_some(lease)
    }

    async fn commit(&mut self, n: u64) -> Result<()> {
        let merchant_id = self.some_endpoint().merchant_id;
        let mut unit = Commit::new(merchant_id.clone(), self.now);
        unit.lease_until = self.some_lease();
        if self.dice.one_in(2) {
            unit.idempotency = Some(NewIdempotencyKey {
                key: format!("key {}", self.dice.between(0, n)),
                request_hash: String::new(),
                response: String::new(),
            });
        }
        for of_unit in 0..self.dice.between(1, 2) {
            // Now and then an id that was used before.
            let id = if self.dice.one_in(15) { n / 2 } else { n };
            let event = self.event(&merchant_id, format!("evt_{id}_{of_unit}"));
            let deliveries = self.deliveries(&event, n);
            unit.events.push(NewEvent {
                event,
                deliveries,
                request_hash: None,
            });
        }
        self.commit_to_both(unit).await
    }

    /// Tests of one endpoint that wait for each other.
    async fn flow(&mut self, n: u64) -> Result<()> {
        let endpoint = self.some_endpoint();
        let mut unit = Commit::new(endpoint.merchant_id.clone(), self.now);
        unit.lease_until = self.some_lease();
        let mut about = None;
        for of_unit in 0..self.dice.between(1, 3) {
            let mut event = self.event(&endpoint.merchant_id, format!("evt_{n}_test_{of_unit}"));
            event.subject = about.get_or_insert(event.subject).clone();
            let test = (&*n.to_string(), OrderMode::Strict);
            let deliveries = vec![delivery::test(&event, &endpoint, test, self.now)];
            unit.events.push(NewEvent {
                event,
                deliveries,
                request_hash: None,
            });
        }
        self.commit_to_both(unit).await
    }

    async fn commit_to_both(&mut self, unit: Commit) -> Result<()> {
        let real = self.store.commit(unit.clone()).await;
        let committed = same(stale(real)?, self.model.commit(&unit))?;
        if let Ok(committed) = committed {
            self.claims.extend(committed.claimed);
            self.events
                .extend(unit.events.into_iter().map(|new| new.event));
        }
        Ok(())
    }

    fn event(&mut self, merchant_id: &MerchantId, id: String) -> Event {
        let subject = OrderId::new(format!("o{}", self.dice.between(1, 2)));
        Event {
            merchant_id: merchant_id.clone(),
            body: Bytes::from(format!("body of {id}")),
            id: EventId::new(id),
            name: EventName::OrderSucceeded,
            subject: Subject::Order(subject),
            transition: "drawn".to_owned(),
            created_at: self.now,
        }
    }

    fn deliveries(&mut self, event: &Event, n: u64) -> Vec<NewDelivery> {
        let of = |endpoint: &&Endpoint| endpoint.merchant_id == event.merchant_id;
        let ids: Vec<EndpointId> = self
            .endpoints
            .iter()
            .filter(of)
            .map(|it| it.endpoint_id.clone())
            .collect();
        let new = |id: EndpointId| NewDelivery {
            id: DeliveryId::new(format!("dlv_{n}_{}_{id}", event.id)),
            merchant_id: event.merchant_id.clone(),
            event_id: event.id.clone(),
            endpoint_id: id,
            kind: DeliveryKind::Event,
            order: *self
                .dice
                .pick(&[OrderMode::Hold, OrderMode::Strict, OrderMode::None]),
            url_override: None,
            withheld: self.dice.one_in(8).then_some(Withheld::SwitchedOff),
        };
        ids.into_iter().map(new).collect()
    }

    async fn replay(&mut self, n: u64) -> Result<()> {
        let Some(event) = (!self.events.is_empty()).then(|| self.dice.pick(&self.events).clone())
        else {
            return Ok(());
        };
        let mut deliveries = self.deliveries(&event, n);
        let Some(mut delivery) = deliveries.pop() else {
            return Ok(());
        };
        let again = self.dice.between(n / 2, n);
        delivery.id = DeliveryId::new(format!("rpl_{again}_{}", event.merchant_id));
        delivery.kind = *self.dice.pick(&[DeliveryKind::Replay, DeliveryKind::Test]);
        let (now, lease) = (self.now, self.some_lease());
        let real = self.store.insert_replay(delivery.clone(), now, lease).await;
        let claimed = same(
            stale(real)?,
            self.model.insert_replay(&delivery, now, lease),
        )?;
        self.claims.extend(claimed.ok().flatten());
        Ok(())
    }

    async fn claim(&mut self) -> Result<()> {
        let (merchant_id, endpoint_id) = key_of(&self.some_endpoint());
        let ask = ClaimAsk {
            merchant_id,
            endpoint_id,
            limit: self.dice.index(6),
            pick: *self.dice.pick(&[Pick::FreshFirst, Pick::LongestDue]),
            now: self.now,
            lease_until: self.now.plus(Duration::from_secs(60)),
        };
        let real = self.store.claim(ask.clone()).await?;
        self.claims.extend(same(real, self.model.claim(&ask))?);
        Ok(())
    }

    /// An attempt of some claim ends, held or long taken over.
    async fn settle(&mut self) -> Result<()> {
        let Some(claimed) = self.some_claim() else {
            return Ok(());
        };
        let far = Duration::from_secs(*self.dice.pick(&[1, 60, 3600, 200_000]));
        let verdict = *self.dice.pick(&[
            Verdict::Delivered,
            Verdict::RetryAt(self.now.plus(far)),
            Verdict::RetryAt(self.now.plus(far)),
            Verdict::Exhausted,
        ]);
        let settle = Settle {
            merchant_id: claimed.merchant_id,
            delivery_id: claimed.delivery_id,
            endpoint_id: claimed.endpoint_id,
            subject: claimed.subject,
            fence: claimed.fence,
            attempt: AttemptRow {
                started_at: self.now,
                duration_us: 1,
                status: Some(500),
                failure: None,
                evidence: Evidence::default(),
            },
            verdict,
            health: self.some_health(),
            stop: self.some_stop(),
            told: None,
            now: self.now,
            lease_until: self.some_lease(),
            is_again: false,
        };
        let real = self.store.settle(settle.clone()).await;
        let settled = same(stale(real)?, self.model.settle(&settle))?;
        self.claims
            .extend(settled.into_iter().flat_map(|settled| settled.claimed));
        Ok(())
    }

    /// Mostly one of the latest.
    fn some_claim(&mut self) -> Option<Claimed> {
        let count = self.claims.len();
        let latest = if self.dice.one_in(4) {
            0
        } else {
            count.saturating_sub(6)
        };
        (count > 0).then(|| self.dice.pick(&self.claims[latest..]).clone())
    }

    async fn release(&mut self) -> Result<()> {
        let leases: Vec<_> = (0..2)
            .filter_map(|_| Some(self.some_claim()?.lease()))
            .collect();
        self.store.release(leases.clone()).await?;
        self.model.release(&leases);
        Ok(())
    }

    async fn pull_in(&mut self) -> Result<()> {
        self.store.pull_in(self.now).await?;
        self.model.pull_in(self.now);
        Ok(())
    }

    fn some_health(&mut self) -> HealthWrite {
        let mut health = Health::default();
        match self.dice.between(0, 5) {
            0 => HealthWrite::Well,
            1 => {
                for _ in 0..self.dice.between(1, 12) {
                    health.failed(self.now, Duration::from_secs(86_400));
                }
                HealthWrite::Ill(Box::new(health))
            }
            _ => HealthWrite::Keep,
        }
    }

    fn some_stop(&mut self) -> Option<EndpointState> {
        let (reason, at) = ("drawn".to_owned(), self.now);
        match self.dice.between(0, 23) {
            0 => Some(EndpointState::Paused { reason, at }),
            1 => Some(EndpointState::Disabled { reason, at }),
            _ => None,
        }
    }

    async fn sweep(&mut self) -> Result<()> {
        let real = self.store.sweep(self.now).await?;
        same(real, self.model.sweep(self.now))?;
        Ok(())
    }

    async fn operate(&mut self) -> Result<()> {
        let (merchant, id): Key = key_of(&self.some_endpoint());
        let key = (merchant.clone(), id.clone());
        let (at, now) = (self.now, self.now);
        match self.dice.between(0, 9) {
            0 => {
                let real = self
                    .store
                    .delete_endpoint(&merchant, &id, "drawn", now)
                    .await;
                same(stale(real)?, self.model.delete_endpoint(&key, now))?.ok();
            }
            1..=3 => {
                let reason = "drawn".to_owned();
                let paused = EndpointState::Paused { reason, at };
                let real = self.store.set_endpoint_state(&merchant, &id, &paused).await;
                same(
                    stale(real)?,
                    self.model.set_endpoint_state(&key, Called::Paused),
                )?
                .ok();
            }
            _ => {
                let active = EndpointState::Active;
                let real = self.store.set_endpoint_state(&merchant, &id, &active).await;
                same(
                    stale(real)?,
                    self.model.set_endpoint_state(&key, Called::Active),
                )?
                .ok();
            }
        }
        Ok(())
    }

    async fn reopen(&mut self) -> Result<()> {
        self.store.close().await;
        // The file is free when the last handle is gone.
        let folder = self.folder;
        let closed = std::mem::replace(&mut self.store, Store::open(&folder.join("unused"))?);
        drop(closed);
        self.store = Store::open(folder)?;
        self.model.open();
        Ok(())
    }

    async fn compare_rows(&self) -> Result<()> {
        for event in &self.events {
            let merchant = &event.merchant_id;
            for view in self.store.deliveries_of_event(merchant, &event.id).await? {
                let id = &view.delivery_id;
                let row = self
                    .model
                    .row(merchant, id)
                    .context("a row that the model lacks")?;
                let calls = self.store.attempts(merchant, id).await?;
                let calls = calls
                    .iter()
                    .map(|call| (call.verdict, call.retry_at, call.late));
                let own = row
                    .calls
                    .iter()
                    .map(|call| (call.verdict, call.retry_at, call.late));
                same(words_of_view(&view), words_of_row(row))?;
                same(calls.collect::<Vec<_>>(), own.collect())?;
            }
        }
        Ok(())
    }
}

fn words_of_view(view: &DeliveryView) -> String {
    let has_reason = view.reason.is_some();
    format!(
        "{} {} {:?} {:?} {} {has_reason} {:?} {} {} {:?} {:?} {:?}",
        view.delivery_id,
        view.sequence,
        view.kind,
        view.order,
        view.state,
        view.waiting_on,
        view.overtaking,
        view.attempts,
        view.due_at,
        view.lease_until,
        view.settled_at,
    )
}

fn words_of_row(row: &Row) -> String {
    format!(
        "{} {} {:?} {:?} {} {} {:?} {} {} {:?} {:?} {:?}",
        row.id,
        row.sequence(),
        row.kind,
        row.order,
        row.state,
        row.has_reason,
        row.waiting_on,
        row.overtaking,
        row.attempts,
        row.due_at,
        row.lease_until,
        row.settled_at,
    )
}

/// Both answers, which must be one.
fn same<T: PartialEq + Debug>(real: T, model: T) -> Result<T> {
    ensure!(
        real == model,
        "the store says\n  {real:?}\nand the model\n  {model:?}"
    );
    Ok(model)
}

/// An answer of the store in the model's terms.
fn stale<T>(answer: Result<T, DbError>) -> Result<Result<T, Stale>> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.kind == DbErrorKind::Stale => Ok(Err(Stale)),
        Err(error) => Err(error.into()),
    }
}

fn endpoint(merchant: &str, name: &str) -> Endpoint {
    Endpoint {
        merchant_id: MerchantId::new(merchant),
        endpoint_id: EndpointId::new(name),
        url: "https://merchant.example/webhooks".to_owned(),
        username: "user".to_owned(),
        password: Sealed("sealed".to_owned()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::LATEST,
        switches: std::collections::BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: (name == "ep_2").then_some(7),
        ca_pem: None,
        state: EndpointState::Active,
        created_at: beginning(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_answers_as_the_store_does() {
        run(0, 200, None).unwrap();
    }

    #[test]
    fn a_model_that_is_wrong_is_found_out() {
        for fault in [
            Fault::SettleIgnoresFence,
            Fault::LateSuccessDropped,
            Fault::WaitingForgotten,
            Fault::ClaimIgnoresLease,
            Fault::ClaimKeepsFence,
            Fault::PlaceIgnoresWaiting,
        ] {
            assert!(run(0, 50, Some(fault)).is_err(), "{fault:?}");
        }
    }
}
