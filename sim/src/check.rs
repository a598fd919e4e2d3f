//! The oracle: what must hold at every step and at the end, named as in the list of invariants.
//!
//! It watches from outside: what was acknowledged, what left for a receiver, what came back, what was
//! flushed. It never asks the dispatcher what it thinks. `world.rs` and `carry.rs` tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use harkara::deliver::dispatcher::Limits;
use harkara::store::{Claimed, Settle};
use harkara_core::delivery::{DeliveryKind, DeliveryState, Event, NewDelivery, Outcome, Verdict};
use harkara_core::endpoint::{Endpoint, OrderMode, SuccessRule};
use harkara_core::id::{DeliveryId, EventId, MerchantId};
use harkara_core::time::Timestamp;

use crate::marks::{Mark, Marks};
use crate::store::{Called, Key, Model, Row};

/// A promise that was broken, and how.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

pub(crate) type Checked = Result<(), Violation>;

/// The promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    NoLoss,
    Prompt,
    TruthfulFlag,
    NothingForgotten,
    AllAttemptsUsed,
    TenantPurity,
    Order,
    VersionGate,
    SameBytes,
    BoundedDuplicates,
    SingleAttempt,
    Permits,
    Clock,
    Drain,
    PausedIsLeftAlone,
    Liveness,
    NoPanic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoLoss => "I1 no loss",
            Self::Prompt => "I2 eventual attempt",
            Self::TruthfulFlag => "I3 truthful flag",
            Self::NothingForgotten => "I4 nothing forgotten",
            Self::AllAttemptsUsed => "I5 all attempts used",
            Self::TenantPurity => "I6 tenant purity",
            Self::Order => "I7 order",
            Self::VersionGate => "I9 version gate",
            Self::SameBytes => "I10 same bytes, same id",
            Self::BoundedDuplicates => "I11 bounded duplicates",
            Self::SingleAttempt => "I13 single attempt in flight",
            Self::Permits => "I14 permits",
            Self::Clock => "I18 clock",
            Self::Drain => "I26 drain",
            Self::PausedIsLeftAlone => "paused is left alone",
            Self::Liveness => "liveness",
            Self::NoPanic => "no panic",
        })
    }
}

/// Fails with the promise's name unless it holds.
macro_rules! hold {
    ($holds:expr, $invariant:ident, $($what:tt)+) => {
        if !$holds {
            return Err($crate::check::Violation {
                invariant: $crate::check::Invariant::$invariant,
                what: format!($($what)+),
            });
        }
    };
}
pub(crate) use hold;

/// Why a delivery whose 200 has been received may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    Crash,
    SettleRefused,
    TaskDied,
    TakenOver,
}

/// An event that was given to the API.
struct Published {
    event: Event,
    /// What the flushed commit planned.
    planned: Vec<NewDelivery>,
    acked: bool,
    /// Whoever sends it does not ask again when there is no answer.
    is_test: bool,
    /// The delivery that was to be settled before any attempt of this test.
    after: Option<DeliveryId>,
}

/// What is known of a delivery from outside.
#[derive(Default)]
struct Known {
    said_200: bool,
    received_200: bool,
    excuse: Option<Excuse>,
    /// It was to wait until then, if the clock stays steady.
    not_before: Option<u64>,
}

/// An attempt that has been handed over and has not ended.
struct Flying {
    process: u64,
    key: Key,
    subject: String,
    delivery_id: DeliveryId,
}

#[derive(Default)]
pub(crate) struct Oracle {
    published: BTreeMap<EventId, Published>,
    acked: Vec<EventId>,
    known: BTreeMap<DeliveryId, Known>,
    flying: BTreeMap<u64, Flying>,
    /// Received 200s whose settle has not been answered, by the process that owes it.
    owed: BTreeSet<(u64, DeliveryId)>,
    /// When a process last began an attempt to an endpoint, by a clock that has not jumped since.
    began: BTreeMap<(u64, Key), u64>,
}

impl Oracle {
    pub(crate) fn offered(&mut self, event: &Event) {
        let published = || Published {
            event: event.clone(),
            planned: Vec::new(),
            acked: false,
            is_test: false,
            after: None,
        };
        self.published
            .entry(event.id.clone())
            .or_insert_with(published);
    }

    /// A test that follows the one of this delivery, if any.
    pub(crate) fn offered_in_flow(&mut self, event: &Event, after: Option<DeliveryId>) {
        self.offered(event);
        let published = self.published.get_mut(&event.id).expect("it was offered");
        (published.is_test, published.after) = (true, after);
    }

    /// A commit is flushed, whoever hears of it.
    pub(crate) fn stored(&mut self, event: &EventId, planned: &[NewDelivery]) {
        let published = self.published.get_mut(event).expect("it was offered first");
        published.planned = planned.to_vec();
    }

    pub(crate) fn acked(&mut self, model: &Model, id: &EventId) -> Checked {
        let published = self.published.get_mut(id).expect("it was offered first");
        if !published.acked {
            published.acked = true;
            self.acked.push(id.clone());
        }
        self.is_there(model, id)
    }

    /// An event that was given to the API.
    pub(crate) fn event(&self, id: &EventId) -> &Event {
        &self.published[id].event
    }

    /// Some event that was acknowledged.
    pub(crate) fn some_acked(&self, merchant: &MerchantId, nth: usize) -> Option<Event> {
        let of = self.acked.iter().map(|id| &self.published[id].event);
        let of: Vec<&Event> = of.filter(|event| event.merchant_id == *merchant).collect();
        of.get(nth % of.len().max(1)).map(|event| (*event).clone())
    }

    fn is_there(&self, model: &Model, id: &EventId) -> Checked {
        let Published { event, planned, .. } = &self.published[id];
        let merchant = &event.merchant_id;
        hold!(
            model.event(merchant, id).is_some(),
            NoLoss,
            "acknowledged event {id} is gone"
        );
        for delivery in planned {
            let row = model.row(merchant, &delivery.id);
            hold!(
                row.is_some(),
                NoLoss,
                "event {id} lost its delivery {}",
                delivery.id
            );
        }
        Ok(())
    }

    /// Everything acknowledged is there: asked after each start and at the end.
    pub(crate) fn nothing_lost(&self, model: &Model) -> Checked {
        self.acked
            .iter()
            .try_for_each(|id| self.is_there(model, id))
    }

    /// An attempt was handed over.
    pub(crate) fn sent(
        &mut self,
        (flight, process): (u64, u64),
        claimed: &Claimed,
        limits: Limits,
        marks: &mut Marks,
    ) -> Checked {
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let same_process = self.flying.values().filter(|it| it.process == process);
        let (mut in_all, mut of_merchant, mut of_endpoint) = (1, 1, 1);
        for other in same_process {
            in_all += 1;
            of_merchant += usize::from(other.key.0 == key.0);
            of_endpoint += usize::from(other.key == key);
            let id = &claimed.delivery_id;
            hold!(
                other.delivery_id != *id,
                SingleAttempt,
                "{id} is in flight twice"
            );
            hold!(
                other.key != key || other.subject != claimed.subject,
                Order,
                "{id} and {} of one subject are in flight together",
                other.delivery_id
            );
        }
        hold!(
            in_all <= limits.permits,
            Permits,
            "{in_all} attempts are in flight"
        );
        hold!(
            of_merchant <= limits.permits_per_merchant,
            Permits,
            "{of_merchant} attempts are in flight for {}",
            key.0
        );
        hold!(
            of_endpoint <= limits.permits_per_endpoint,
            Permits,
            "{of_endpoint} attempts are in flight to {key:?}"
        );
        if in_all == limits.permits {
            marks.mark(Mark::PermitsOut);
        }
        if of_endpoint == limits.permits_per_endpoint {
            marks.mark(Mark::EndpointPermitsOut);
        }
        let flying = Flying {
            process,
            key,
            subject: claimed.subject.clone(),
            delivery_id: claimed.delivery_id.clone(),
        };
        self.flying.insert(flight, flying);
        Ok(())
    }

    /// An attempt begins, no sooner than the rate allows (which is kept to a hundredth of a second).
    pub(crate) fn began(&mut self, process: u64, claimed: &Claimed, t: u64) -> Checked {
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let before = self.began.insert((process, key), t);
        if let (Some(before), Some(rate)) = (before, claimed.rate_per_second) {
            let interval_us = 1_000_000 / u64::from(rate);
            hold!(
                t - before + 10_000 >= interval_us,
                Permits,
                "{} begins {} us after another, at {rate} a second",
                claimed.delivery_id,
                t - before
            );
        }
        Ok(())
    }

    pub(crate) fn landed(&mut self, flight: u64) {
        self.flying.remove(&flight);
    }

    pub(crate) fn in_flight(&self, key: Option<&Key>) -> usize {
        let to = |it: &&Flying| key.is_none_or(|key| it.key == *key);
        self.flying.values().filter(to).count()
    }

    /// The first byte is about to leave.
    pub(crate) fn requested(
        &mut self,
        model: &Model,
        (claimed, endpoint): (&Claimed, &Endpoint),
        t: u64,
        marks: &mut Marks,
    ) -> Checked {
        let id = &claimed.delivery_id;
        let Published {
            event,
            planned,
            after,
            ..
        } = &self.published[&claimed.event_id];
        hold!(
            event.merchant_id == claimed.merchant_id
                && endpoint.merchant_id == claimed.merchant_id
                && endpoint.endpoint_id == claimed.endpoint_id,
            TenantPurity,
            "{id} of {} goes to {}",
            event.merchant_id,
            endpoint.url
        );
        hold!(
            event.body == claimed.body,
            SameBytes,
            "{id} goes out as {:?}",
            claimed.body
        );
        let mut own = planned.iter().filter(|it| it.id == *id);
        let withheld = own.any(|it| it.withheld.is_some());
        hold!(!withheld, VersionGate, "{id} is withheld and goes out");
        let row = model.row(&claimed.merchant_id, id);
        if let Some(row) = row
            && row.kind == DeliveryKind::Event
        {
            in_order(model, row, claimed)?;
        }
        if let Some(before) = after
            && planned.iter().any(|it| it.id == *id)
        {
            let row = model.row(&claimed.merchant_id, before);
            let is_settled = row.is_some_and(|row| row.settled_at.is_some());
            hold!(
                is_settled,
                Order,
                "{id} goes out before {before} is settled"
            );
            marks.mark(Mark::FlowTold);
        }
        let known = self.known.entry(id.clone()).or_default();
        if known.received_200 {
            hold!(
                known.excuse.is_some(),
                BoundedDuplicates,
                "{id} goes out after its 200"
            );
            if known.excuse == Some(Excuse::Crash) {
                marks.mark(Mark::AnswerLostByCrash);
            }
        } else if known.said_200 {
            marks.mark(Mark::AnswerLost);
        }
        if let Some(not_before) = known.not_before {
            let early = not_before.saturating_sub(t);
            hold!(
                early == 0,
                Clock,
                "{id} goes out {early} us before its time"
            );
        }
        Ok(())
    }

    /// A receiver did its work and said 200, whether or not it was heard.
    pub(crate) fn said_200(&mut self, id: &DeliveryId) {
        self.known.entry(id.clone()).or_default().said_200 = true;
    }

    /// An outcome reached a process.
    pub(crate) fn heard(
        &mut self,
        process: u64,
        claimed: &Claimed,
        rule: SuccessRule,
        outcome: &Outcome,
    ) {
        let is_success = match (outcome, rule) {
            (Outcome::Answered { status, .. }, SuccessRule::Only200) => *status == 200,
            (Outcome::Answered { status, .. }, SuccessRule::Any2xx) => status / 100 == 2,
            (Outcome::Failed(_), _) => false,
        };
        if is_success {
            let id = &claimed.delivery_id;
            self.known.entry(id.clone()).or_default().received_200 = true;
            self.owed.insert((process, id.clone()));
        }
    }

    /// From here on the delivery may be sent once more.
    pub(crate) fn excuse(&mut self, id: &DeliveryId, excuse: Excuse) {
        self.known.entry(id.clone()).or_default().excuse = Some(excuse);
    }

    /// A settle was applied; `before` is the state that it found, and whether it held its
    /// claim. It was judged at `judged_at` by a
    /// clock that has not jumped since.
    pub(crate) fn settled(
        &mut self,
        model: &Model,
        settle: &Settle,
        (before, held): (DeliveryState, bool),
        judged_at: Option<u64>,
    ) -> Checked {
        let row = model.row(&settle.merchant_id, &settle.delivery_id);
        let row = row.expect("it was settled just now");
        let id = &row.id;
        let known = self.known.entry(id.clone()).or_default();
        hold!(
            before != DeliveryState::Delivered || row.state == DeliveryState::Delivered,
            TruthfulFlag,
            "{id} was delivered and is {} now",
            row.state
        );
        if row.state == DeliveryState::Delivered {
            hold!(
                known.received_200,
                TruthfulFlag,
                "{id} is delivered without a 200"
            );
        }
        known.not_before = match settle.verdict {
            Verdict::RetryAt(at) if held => {
                let wait_us = at.since(settle.now).as_micros();
                judged_at.map(|t| t + u64::try_from(wait_us).expect("waits are days"))
            }
            Verdict::RetryAt(_) | Verdict::Delivered | Verdict::Exhausted => None,
        };
        let key = (settle.merchant_id.clone(), settle.endpoint_id.clone());
        let endpoint = &model
            .endpoint(&key)
            .expect("endpoints are never forgotten")
            .endpoint;
        let allowed = match row.kind {
            DeliveryKind::Event | DeliveryKind::Replay => endpoint.ladder.steps().len() + 1,
            DeliveryKind::Test => 1,
        };
        let used = usize::try_from(row.attempts).expect("a count");
        if row.state == DeliveryState::Exhausted && before == DeliveryState::Pending {
            hold!(
                used == allowed,
                AllAttemptsUsed,
                "{id} gave up after {used} of {allowed}"
            );
        }
        hold!(
            row.state != DeliveryState::Pending || used < allowed,
            AllAttemptsUsed,
            "{id} is to be tried after {used} of {allowed}"
        );
        Ok(())
    }

    /// A process was told that its settle is flushed.
    pub(crate) fn told(&mut self, process: u64, model: &Model, settle: &Settle) -> Checked {
        if settle.verdict == Verdict::Delivered {
            let (merchant, id) = (&settle.merchant_id, &settle.delivery_id);
            let state = model.row(merchant, id).map(|row| row.state);
            self.owed.remove(&(process, id.clone()));
            hold!(
                state == Some(DeliveryState::Delivered),
                TruthfulFlag,
                "{id} was received and is {state:?}"
            );
        }
        Ok(())
    }

    /// A settle came to nothing, and everyone knows.
    pub(crate) fn settle_refused(&mut self, process: u64, id: &DeliveryId) {
        self.owed.remove(&(process, id.clone()));
        self.excuse(id, Excuse::SettleRefused);
    }

    /// A process has died, with what it owed and what it had in flight. Says how much that was.
    pub(crate) fn died(&mut self, process: u64) -> usize {
        let owed = self
            .owed
            .iter()
            .filter(|it| it.0 == process)
            .map(|it| it.1.clone());
        let flying = self.flying.values().filter(|it| it.process == process);
        let flying: Vec<_> = flying.map(|it| it.delivery_id.clone()).collect();
        let count = flying.len();
        for id in owed.chain(flying).collect::<Vec<_>>() {
            self.excuse(&id, Excuse::Crash);
            self.owed.remove(&(process, id));
        }
        self.flying.retain(|_, it| it.process != process);
        count
    }

    /// Those that it had in flight may be sent by others now, though it still settles them.
    pub(crate) fn given_up(&mut self, process: u64) {
        let flying = self.flying.values().filter(|it| it.process == process);
        for id in flying.map(|it| it.delivery_id.clone()).collect::<Vec<_>>() {
            self.excuse(&id, Excuse::Crash);
        }
        let owed = self
            .owed
            .iter()
            .filter(|it| it.0 == process)
            .map(|it| it.1.clone());
        for id in owed.collect::<Vec<_>>() {
            self.excuse(&id, Excuse::Crash);
        }
    }

    /// The clock jumped: nothing is said any more about how long anyone waits.
    pub(crate) fn clock_jumped(&mut self) {
        for known in self.known.values_mut() {
            known.not_before = None;
        }
        self.began.clear();
    }

    /// All is quiet.
    pub(crate) fn finish(&self, model: &Model) -> Checked {
        self.nothing_lost(model)?;
        hold!(
            self.owed.is_empty(),
            TruthfulFlag,
            "received and not settled: {:?}",
            self.owed
        );
        let lost = self.published.values().find(|it| !it.acked && !it.is_test);
        hold!(lost.is_none(), Liveness, "an event was never acknowledged");
        for row in model.rows() {
            let known = self.known.get(&row.id);
            let received = known.is_some_and(|known| known.received_200);
            let forgotten = known.is_some_and(|known| known.excuse.is_some());
            hold!(
                (row.state == DeliveryState::Delivered) <= received,
                TruthfulFlag,
                "{} is delivered without a 200",
                row.id
            );
            hold!(
                row.state == DeliveryState::Delivered || !received || forgotten,
                TruthfulFlag,
                "{} was received and is {}",
                row.id,
                row.state
            );
        }
        Ok(())
    }
}

/// Those before it in line allow it to go.
fn in_order(model: &Model, row: &Row, claimed: &Claimed) -> Checked {
    let id = &row.id;
    let Some(before) = model.unsettled_before(row).next() else {
        return Ok(());
    };
    let other = &before.id;
    match row.order {
        OrderMode::Strict => hold!(false, Order, "{id} goes out before {other} is settled"),
        OrderMode::Hold | OrderMode::None => {
            hold!(claimed.overtaking, Order, "{id} overtakes {other} unmarked");
        }
    }
    let untried = model.unsettled_before(row).find(|it| it.attempts == 0);
    if let (OrderMode::Hold, Some(other)) = (row.order, untried) {
        hold!(false, Order, "{id} goes out before {} was tried", other.id);
    }
    Ok(())
}

/// What a due time may be further away than its wait: clocks are set back by a second or so unnoticed.
const SET_BACK: Duration = Duration::from_secs(5);

/// Looks through every row for one that nobody will come back to. `steady` endpoints have been called
/// by a running process and a steady clock for a while.
pub(crate) fn nothing_forgotten(
    model: &Model,
    now: Timestamp,
    steady: impl Fn(&Key) -> bool,
) -> Checked {
    for row in model.rows() {
        let id = &row.id;
        let sound = match row.state {
            DeliveryState::Pending => row.due_at.is_some() && row.waiting_on.is_none(),
            DeliveryState::Waiting => row.due_at.is_none() && row.waiting_on.is_some(),
            DeliveryState::Delivered | DeliveryState::Exhausted => row.settled_at.is_some(),
            DeliveryState::Withdrawn | DeliveryState::Withheld => row.has_reason,
        };
        hold!(
            sound,
            NothingForgotten,
            "{id} is {} and says not until when or why",
            row.state
        );
        if let Some(on) = &row.waiting_on {
            let before = model.row(&row.key.0, on);
            let ends = before.is_some_and(|before| {
                before.sequence() < row.sequence()
                    && matches!(
                        before.state,
                        DeliveryState::Pending | DeliveryState::Waiting
                    )
            });
            hold!(
                ends,
                NothingForgotten,
                "{id} waits for {on}, which is settled"
            );
        }
        let kept = model
            .endpoint(&row.key)
            .expect("endpoints are never forgotten");
        if let Some(due_at) = row.due_at
            && kept.state == Called::Active
            && steady(&row.key)
        {
            let wait = due_at.since(now);
            hold!(
                row.attempts == 0 || wait <= row.wait() + SET_BACK,
                Clock,
                "{id} is due in {wait:?}, and was to wait for {:?}",
                row.wait()
            );
        }
    }
    Ok(())
}
