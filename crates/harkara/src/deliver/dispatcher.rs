//! The dispatcher: which delivery is sent next, and what is done with its outcome.
//!
//! A state machine without sockets, store or clock: inputs and the time go in, actions come out.
//! `run.rs` carries the actions out in production; tests and the simulation carry them out on a
//! clock of their own. Everything it remembers may be lost: the store knows what is due.
//!
//! `lane.rs` says what one endpoint does next, `permits.rs` counts over all of them; here they take
//! turns.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use harkara_core::delivery::{self, Attempted, DeliveryKind, Outcome, Verdict};
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::health::News;
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use super::inbox::Held;
use super::lane::{Lane, Lesson, Place, Step};
use super::permits::{Class, Permits};
use crate::store::{
    AttemptRow, ClaimAsk, Claimed, Lease, NewOperationalEvent, Settle, Settled, Sweep,
};

/// A clock is set back by less than this all the time, which delays nothing worth a look.
const SET_BACK: Duration = Duration::from_secs(1);

/// How long an idle endpoint's lane is kept for what it has learned.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What the dispatcher is bound by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deliveries claimed or in flight over all endpoints.
    pub permits: usize,
    /// The same for one merchant's endpoints.
    pub permits_per_merchant: usize,
    /// Attempts in flight to one endpoint that answers well; it begins with fewer.
    pub permits_per_endpoint: usize,
    /// How long a claim lasts.
    pub lease: Duration,
    /// What has to be left of a lease for an attempt to be started: the longest attempt and its
    /// settle.
    pub attempt: Duration,
    /// How often the store is looked through while nothing hints at work.
    pub sweep: Duration,
    /// How long nothing but failures is put up with before an endpoint is disabled.
    pub disable_after: Duration,
}

/// Something that happened.
pub enum Input {
    /// Fresh deliveries, born claimed.
    Born(Vec<Held>),
    /// There may be due work.
    Woken,
    /// The store was looked through; `None` when that failed.
    Swept(Option<Sweep>),
    /// Due times were pulled in; false when that failed.
    PulledIn(bool),
    /// A claim came back; `None` when it failed.
    Claimed {
        key: Key,
        claimed: Option<Vec<Claimed>>,
    },
    /// An attempt has ended.
    Ended(Box<Ended>),
    /// No attempt was made, or nobody knows how it went: the endpoint is paused or gone, or could not
    /// be read, or the task ended badly. The claim goes back, and the store knows what to do with it.
    Unsent(Box<Unsent>),
    /// No attempt was made, for the receiver's address has as many as it may have.
    Crowded(Box<Claimed>),
    /// A person says that the endpoint is to be called again.
    Resumed(Key),
    /// A settle was flushed; `None` when it failed, and the lease will bring the delivery back.
    Settled {
        key: Key,
        subject: String,
        retry_at: Option<Timestamp>,
        settled: Option<Settled>,
    },
}

/// An attempt that has ended.
pub struct Ended {
    pub claimed: Claimed,
    /// As it was when the attempt was made.
    pub endpoint: Arc<Endpoint>,
    pub outcome: Outcome,
    pub attempt: AttemptRow,
}

/// A claimed delivery that was not sent.
pub struct Unsent {
    pub key: Key,
    pub subject: String,
    pub lease: Lease,
}

impl Unsent {
    /// What to say if nothing comes of this claim.
    pub fn of(claimed: &Claimed) -> Self {
        Self {
            key: (claimed.merchant_id.clone(), claimed.endpoint_id.clone()),
            subject: claimed.subject.clone(),
            lease: claimed.lease(),
        }
    }
}

/// Something to be done.
pub enum Action {
    /// Make an attempt.
    Send {
        claimed: Claimed,
        /// The last attempt at this endpoint was a success.
        is_proven: bool,
    },
    Settle {
        settle: Box<Settle>,
        key: Key,
        retry_at: Option<Timestamp>,
    },
    Claim(ClaimAsk),
    Sweep,
    /// The clock went back: look for due times that lie further away than their waits.
    PullIn,
    Release(Vec<Lease>),
}

/// Whose deliveries a lane holds.
pub type Key = (MerchantId, EndpointId);

/// The dispatcher's memory.
pub struct Dispatcher {
    limits: Limits,
    lanes: HashMap<Key, Lane>,
    /// How many there are of us, on as many nodes.
    nodes: u32,
    permits: Permits,
    /// Lanes that may be able to start something, each at most once; they take turns.
    turns: VecDeque<Key>,
    /// Lanes that can go on at some time, one entry each.
    timers: BTreeSet<(Timestamp, Key)>,
    sweeping: bool,
    pull_in_failed: bool,
    sweep_again: bool,
    next_sweep: Timestamp,
    next_pruning: Timestamp,
    seen_at: Timestamp,
    draining: bool,
}

impl Dispatcher {
    /// A dispatcher that knows of nothing, and will look through the store at once.
    pub fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            limits,
            lanes: HashMap::default(),
            nodes: 1,
            permits: Permits::new(limits.permits, limits.permits_per_merchant),
            turns: VecDeque::new(),
            timers: BTreeSet::new(),
            sweeping: false,
            pull_in_failed: false,
            sweep_again: false,
            next_sweep: now,
            next_pruning: now.plus(REMEMBERED),
            seen_at: now,
            draining: false,
        }
    }

    /// Takes note of what happened and says what is to be done now. Calling it with nothing is
    /// harmless, and needed when `next_wake` has come.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        if now < self.seen_at {
            self.pull_in(now);
            if self.seen_at.since(now) > SET_BACK {
                actions.push(Action::PullIn);
            }
        }
        self.seen_at = now;
        for input in inputs {
            self.note(input, now, &mut actions);
        }
        if self.draining {
            return actions;
        }
        if !self.sweeping && (self.sweep_again || self.next_sweep <= now) {
            self.sweeping = true;
            self.sweep_again = false;
            self.next_sweep = now.plus(self.limits.sweep);
            actions.push(Action::Sweep);
        }
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.lane(&key, now).timer = None;
            self.queue(key);
        }
        self.start(now, &mut actions);
        actions
    }

    /// Keeps to its part of what an endpoint and a merchant may have over all nodes. A node of its own
    /// has its own permits for the process and for addresses.
    pub fn divide_among(&mut self, nodes: u32) {
        self.nodes = nodes.max(1);
        let part =
            self.limits.permits_per_merchant / usize::try_from(self.nodes).unwrap_or(usize::MAX);
        self.permits.set_per_merchant(part.max(1));
    }

    /// When to call `step` even if nothing happens.
    pub fn next_wake(&self) -> Timestamp {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().fold(self.next_sweep, Timestamp::min)
    }

    /// Starts nothing any more, and gives back what lies here unsent.
    pub fn drain(&mut self) -> Vec<Action> {
        self.draining = true;
        let mut actions = Vec::new();
        let mut keys: Vec<Key> = self.lanes.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            let returned = self.lanes.get_mut(&key).map(Lane::empty);
            self.give_back(&key, returned.unwrap_or_default(), &mut actions);
        }
        actions
    }

    /// Whether every attempt has been settled.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(Lane::is_settled)
    }

    fn note(&mut self, input: Input, now: Timestamp, actions: &mut Vec<Action>) {
        match input {
            Input::Born(born) => self.take_in(born, now, actions),
            Input::Woken => self.sweep_again = true,
            Input::Swept(sweep) => {
                self.sweeping = false;
                self.prune(now);
                if let Some(sweep) = sweep {
                    self.swept(sweep, now, actions);
                }
            }
            Input::PulledIn(true) => self.sweep_again = true,
            Input::PulledIn(false) => self.pull_in_failed = true,
            Input::Claimed { key, claimed } => {
                let claimed = claimed.unwrap_or_default();
                let (unused, mut returned) = self.lane(&key, now).answered(claimed);
                if self.draining {
                    returned.extend(self.lane(&key, now).empty());
                }
                // What was asked for and did not come is free for others to ask for.
                self.give_permits(&key, unused);
                self.give_back(&key, returned, actions);
                self.queue(key);
            }
            Input::Ended(ended) => self.settle(*ended, now, actions),
            Input::Unsent(unsent) => {
                let Unsent {
                    key,
                    subject,
                    mut lease,
                } = *unsent;
                let fence = self.lane(&key, now).land(&subject);
                lease.fence = fence.unwrap_or(lease.fence);
                self.give_permits(&key, 1);
                actions.push(Action::Release(vec![lease]));
                self.queue(key);
            }
            Input::Crowded(claimed) => {
                let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
                self.lane(&key, now).put_back(*claimed, now);
                if self.draining {
                    let returned = self.lane(&key, now).empty();
                    self.give_back(&key, returned, actions);
                }
                self.queue(key);
            }
            Input::Resumed(key) => {
                self.lane(&key, now).forgive();
                self.sweep_again = true;
                self.queue(key);
            }
            Input::Settled {
                key,
                subject,
                retry_at,
                settled,
            } => {
                let lane = self.lane(&key, now);
                lane.settled(&subject);
                match settled {
                    None => lane.doubt(),
                    Some(settled) => {
                        lane.backlog |= settled.released > 0;
                        if settled.stopped {
                            let returned = lane.empty();
                            self.give_back(&key, returned, actions);
                        }
                        let released = settled.claimed.into_iter().map(Held::born);
                        self.take_in(released.collect(), now, actions);
                    }
                }
                if let Some(retry_at) = retry_at {
                    self.next_sweep = self.next_sweep.min(retry_at.max(now));
                }
                self.queue(key);
            }
        }
    }

    fn swept(&mut self, sweep: Sweep, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(next_due) = sweep.next_due {
            self.next_sweep = self.next_sweep.min(next_due.max(now));
        }
        // The store answers again, so it may take this now.
        let once_more = std::mem::take(&mut self.pull_in_failed);
        if sweep.is_far || once_more {
            actions.push(Action::PullIn);
        }
        for due in sweep.endpoints {
            let key = (due.merchant_id, due.endpoint_id);
            let nodes = self.nodes;
            let lane = self.lane(&key, now);
            lane.backlog = true;
            lane.nodes = nodes;
            lane.learn(due.health, now);
            self.queue(key);
        }
    }

    /// Puts deliveries that were born claimed into their lanes.
    fn take_in(&mut self, born: Vec<Held>, now: Timestamp, actions: &mut Vec<Action>) {
        let draining = self.draining;
        let mut returned = Vec::new();
        for held in born {
            let key = (
                held.claimed.merchant_id.clone(),
                held.claimed.endpoint_id.clone(),
            );
            let lane = self.lane(&key, now);
            match draining {
                true => returned.push(held),
                false => returned.extend(lane.take_in(held)),
            }
            self.queue(key);
        }
        release(&returned, actions);
    }

    /// Gives deliveries back to the store, and the permits of those that had one.
    fn give_back(&mut self, key: &Key, returned: Vec<Held>, actions: &mut Vec<Action>) {
        let claimed = returned.iter().filter(|held| held.is_claimed()).count();
        self.give_permits(key, claimed);
        release(&returned, actions);
    }

    fn give_permits(&mut self, key: &Key, count: usize) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.held -= count;
            self.permits.give(&key.0, lane.class(), count);
            if lane.held == 0 {
                self.leave_line(key);
            }
        }
    }

    fn take_permits(&mut self, key: &Key, count: usize) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.held += count;
            self.permits.take(&key.0, lane.class(), count);
        }
    }

    fn lane(&mut self, key: &Key, now: Timestamp) -> &mut Lane {
        // Looked for first, for the key is copied only once in a lane's life.
        if !self.lanes.contains_key(key) {
            let lane = Lane::new(self.limits.permits_per_endpoint, now);
            self.lanes.insert(key.clone(), lane);
        }
        self.lanes.get_mut(key).expect("it is there by now")
    }

    fn queue(&mut self, key: Key) {
        // What has a permit does not stand in line for one.
        if let Some(lane) = self.lanes.get_mut(&key)
            && (lane.place == Place::Out || lane.place == Place::Line && lane.has_claimed())
        {
            lane.place = Place::Turn;
            self.turns.push_back(key);
        }
    }

    /// Takes a lane out of its line, for it may need no permit of that kind any more. Its entry in
    /// the line stays and is passed over.
    fn leave_line(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key)
            && lane.place == Place::Line
        {
            lane.place = Place::Out;
        }
    }

    /// Lets the lanes take turns until nobody can start anything: those whose turn it is, then
    /// those that waited for a permit, as long as there are any.
    fn start(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let needed_until = now.plus(self.limits.attempt);
        while let Some((key, place)) = self.next_turn() {
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            if lane.place != place {
                continue;
            }
            lane.place = Place::Out;
            lane.nodes = self.nodes;
            let room = self.permits.room(&key.0, lane.class(), lane.held);
            let mut expired = Vec::new();
            let step = lane.step(now, needed_until, room, &mut expired);
            self.give_back(&key, expired, actions);
            match step {
                Step::Send(held) => {
                    if !held.is_claimed() {
                        self.take_permits(&key, 1);
                    }
                    let lane = self.lane(&key, now);
                    lane.start(&held.claimed, now);
                    let is_proven = lane.class() == Class::Proven;
                    let claimed = held.claimed;
                    actions.push(Action::Send { claimed, is_proven });
                    self.queue(key);
                }
                Step::Claim(wanted, pick) => {
                    self.take_permits(&key, wanted);
                    self.lane(&key, now).ask(wanted, pick);
                    let (merchant_id, endpoint_id) = key;
                    actions.push(Action::Claim(ClaimAsk {
                        merchant_id,
                        endpoint_id,
                        limit: wanted,
                        pick,
                        now,
                        lease_until: now.plus(self.limits.lease),
                    }));
                }
                Step::Wait(gate) => {
                    self.lane(&key, now).place = Place::Line;
                    self.permits.wait(key, gate);
                }
                Step::Sleep(until) => self.sleep(key, until, now),
                Step::Nothing => {}
            }
        }
    }

    fn next_turn(&mut self) -> Option<(Key, Place)> {
        let turn = self.turns.pop_front().map(|key| (key, Place::Turn));
        turn.or_else(|| Some((self.permits.next_waiting()?, Place::Line)))
    }

    fn sleep(&mut self, key: Key, until: Timestamp, now: Timestamp) {
        let before = self.lane(&key, now).timer.replace(until);
        if before == Some(until) {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, key.clone()));
        }
        self.timers.insert((until, key));
    }

    /// The clock went back. What is to happen at some time is worked out anew by each lane, so that
    /// nothing is kept away for as long as the clock has jumped.
    fn pull_in(&mut self, now: Timestamp) {
        self.next_sweep = self.next_sweep.min(now.plus(self.limits.sweep));
        self.next_pruning = self.next_pruning.min(now.plus(REMEMBERED));
        self.timers.clear();
        let mut keys: Vec<Key> = self.lanes.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            let lane = self.lane(&key, now);
            lane.timer = None;
            lane.pull_in(now);
            self.queue(key);
        }
    }

    /// Forgets endpoints that have been idle for long and of which nothing is known but good.
    fn prune(&mut self, now: Timestamp) {
        if self.next_pruning > now {
            return;
        }
        self.next_pruning = now.plus(REMEMBERED);
        self.lanes
            .retain(|_, lane| !lane.is_forgettable() || now.since(lane.used_at) < REMEMBERED);
    }

    /// Judges an outcome. The permit is free at once, the subject only when the settle is flushed.
    fn settle(&mut self, ended: Ended, now: Timestamp, actions: &mut Vec<Action>) {
        let Ended {
            claimed,
            endpoint,
            outcome,
            mut attempt,
        } = ended;
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let took = Duration::from_micros(u64::try_from(attempt.duration_us).unwrap_or(0));
        // The store tells a wait by when the attempt ended, so that must be told by the clock that
        // the retry is, even if it jumped in between.
        let ended_at = attempt.started_at.plus(took);
        if ended_at.since(now).max(now.since(ended_at)) > SET_BACK {
            attempt.started_at = Timestamp::from_micros(now.as_micros() - attempt.duration_us);
        }
        let times = (now, self.limits.disable_after);
        let lane = self.lane(&key, now);
        let lesson = lane.ended(&claimed, &endpoint, (&outcome, took), times);
        let held = lane.held;
        let Lesson {
            fence,
            class: (from, to),
            health,
            news,
            returned,
        } = lesson;
        if from != to {
            self.permits.reclass(from, to, held);
            self.leave_line(&key);
        }
        self.give_permits(&key, 1);
        self.give_back(&key, returned, actions);

        let attempts = u32::try_from(claimed.attempts + 1).unwrap_or(u32::MAX);
        let attempted = Attempted {
            delivery_id: &claimed.delivery_id,
            kind: claimed.kind,
            attempts,
            outcome: &outcome,
        };
        let verdict = delivery::judge(&attempted, &endpoint.ladder, endpoint.success, now);
        let retry_at = match verdict {
            Verdict::RetryAt(at) => Some(at),
            Verdict::Delivered | Verdict::Exhausted => None,
        };
        // Behind a test stand tests alone, which go out whatever a breaker says.
        let is_test = claimed.kind == DeliveryKind::Test;
        let is_called = !self.draining && (is_test || !self.lane(&key, now).is_open());
        let lease_until = is_called.then(|| now.plus(self.limits.lease));
        // What an order's own URL answers says nothing about the endpoint's.
        let gone = delivery::pauses(&outcome) && claimed.url_override.is_none();
        let (stop, told) = consequences(gone, news, now);
        let settle = Settle {
            merchant_id: claimed.merchant_id,
            delivery_id: claimed.delivery_id,
            endpoint_id: claimed.endpoint_id,
            subject: claimed.subject,
            fence,
            attempt,
            verdict,
            health,
            stop,
            told,
            now,
            lease_until,
            is_again: false,
        };
        actions.push(Action::Settle {
            settle: Box::new(settle),
            key: key.clone(),
            retry_at,
        });
        self.queue(key);
    }
}

/// Whether the endpoint is to be called no more, and what its merchant is told.
fn consequences(
    gone: bool,
    news: Option<News>,
    now: Timestamp,
) -> (Option<EndpointState>, Option<NewOperationalEvent>) {
    if gone {
        let reason = "the receiver answered 410: it says that it is gone for good".to_owned();
        let told = NewOperationalEvent {
            kind: "endpoint_paused",
            sentence: format!("{reason}; the endpoint is paused and its deliveries wait"),
        };
        return (Some(EndpointState::Paused { reason, at: now }), Some(told));
    }
    let Some(news) = news else {
        return (None, None);
    };
    let told = NewOperationalEvent {
        kind: news.kind(),
        sentence: news.sentence(),
    };
    let stop = match news {
        News::GivenUp { since } => Some(EndpointState::Disabled {
            reason: format!("every attempt since {} has failed", since.iso()),
            at: now,
        }),
        News::Failing { .. } | News::Recovered { .. } => None,
    };
    (stop, Some(told))
}

fn release(returned: &[Held], actions: &mut Vec<Action>) {
    if !returned.is_empty() {
        let leases = returned.iter().map(|held| held.claimed.lease()).collect();
        actions.push(Action::Release(leases));
    }
}

#[cfg(test)]
mod tests;
