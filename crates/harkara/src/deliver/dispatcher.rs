//! The dispatcher: which delivery is sent next, and what is done with its outcome.
//!
//! A state machine without sockets, store or clock: inputs and the time go in, actions come out.
//! `run.rs` carries the actions out in production; tests and the simulation carry them out on a
//! clock of their own. Everything it remembers may be lost: the store knows what is due.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use harkara_core::delivery::{self, Attempted, Outcome, Verdict};
use harkara_core::endpoint::Endpoint;
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use super::inbox::Held;
use crate::store::{AttemptRow, ClaimAsk, Claimed, FarEndpoint, Lease, Settle, Settled, Sweep};

/// Deliveries of one endpoint that may lie in memory; more are given back to the store, so that a
/// dead endpoint cannot fill the inbox.
const READY_MAX: usize = 512;

/// What the dispatcher is bound by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Attempts in flight over all endpoints.
    pub permits: usize,
    /// Attempts in flight to one endpoint.
    pub permits_per_endpoint: usize,
    /// How long a claim lasts.
    pub lease: Duration,
    /// What has to be left of a lease for an attempt to be started: the longest attempt and its
    /// settle.
    pub attempt: Duration,
    /// How often the store is looked through while nothing hints at work.
    pub sweep: Duration,
}

/// Something that happened.
pub enum Input {
    /// Fresh deliveries, born claimed.
    Born(Vec<Held>),
    /// There may be due work.
    Woken,
    /// The store was looked through; `None` when that failed.
    Swept(Option<Sweep>),
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
    Send(Claimed),
    Settle {
        settle: Box<Settle>,
        key: Key,
        subject: String,
        retry_at: Option<Timestamp>,
    },
    Claim(ClaimAsk),
    Sweep,
    /// Look whether these due times are further away than any wait could have put them.
    PullIn(FarEndpoint),
    Release(Vec<Lease>),
}

/// Whose deliveries a lane holds.
pub type Key = (MerchantId, EndpointId);

/// The dispatcher's memory.
pub struct Dispatcher {
    limits: Limits,
    lanes: HashMap<Key, Lane>,
    /// Lanes that may be able to start something, each at most once; they take turns.
    turns: VecDeque<Key>,
    in_flight: usize,
    /// Deliveries that lie here because a claim brought them, and those that a claim may yet bring.
    /// With what is in flight they stay within the permits, whatever the number of endpoints.
    claimed: usize,
    sweeping: bool,
    sweep_again: bool,
    next_sweep: Timestamp,
    draining: bool,
}

/// One endpoint's deliveries in memory.
#[derive(Default)]
struct Lane {
    ready: VecDeque<Held>,
    /// Subjects with an attempt that is not settled: two deliveries of one are never in flight.
    busy: HashSet<String>,
    in_flight: usize,
    /// The store may hold due deliveries of this endpoint.
    backlog: bool,
    /// What a claim under way may bring at most; 0 when there is none.
    asked: usize,
    queued: bool,
}

impl Dispatcher {
    /// A dispatcher that knows of nothing, and will look through the store at once.
    pub fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            in_flight: 0,
            claimed: 0,
            sweeping: false,
            sweep_again: false,
            next_sweep: now,
            draining: false,
        }
    }

    /// Takes note of what happened and says what is to be done now. Calling it with nothing is
    /// harmless, and needed when `next_wake` has come.
    pub fn step(&mut self, inputs: Vec<Input>, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        for input in inputs {
            self.note(input, now, &mut actions);
        }
        if self.draining {
            return actions;
        }
        // A clock that went back must not keep the next look away for long.
        self.next_sweep = self.next_sweep.min(now.plus(self.limits.sweep));
        if !self.sweeping && (self.sweep_again || self.next_sweep <= now) {
            self.sweeping = true;
            self.sweep_again = false;
            self.next_sweep = now.plus(self.limits.sweep);
            actions.push(Action::Sweep);
        }
        self.start(now, &mut actions);
        actions
    }

    /// When to call `step` even if nothing happens.
    pub fn next_wake(&self) -> Timestamp {
        self.next_sweep
    }

    /// Starts nothing any more, and gives back what lies here unsent.
    pub fn drain(&mut self) -> Vec<Action> {
        self.draining = true;
        let waiting = self
            .lanes
            .values_mut()
            .flat_map(|lane| lane.ready.drain(..));
        let leases: Vec<Lease> = waiting.map(|held| held.claimed.lease()).collect();
        if leases.is_empty() {
            Vec::new()
        } else {
            vec![Action::Release(leases)]
        }
    }

    /// Whether every attempt has been settled.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.busy.is_empty())
    }

    fn note(&mut self, input: Input, now: Timestamp, actions: &mut Vec<Action>) {
        match input {
            Input::Born(born) => self.take_in(born, actions),
            Input::Woken => self.sweep_again = true,
            Input::Swept(sweep) => {
                self.sweeping = false;
                let Some(sweep) = sweep else { return };
                if let Some(next_due) = sweep.next_due {
                    self.next_sweep = self.next_sweep.min(next_due.max(now));
                }
                actions.extend(sweep.far.into_iter().map(Action::PullIn));
                for due in sweep.endpoints {
                    let key = (due.merchant_id, due.endpoint_id);
                    self.lanes.entry(key.clone()).or_default().backlog = true;
                    self.queue(key);
                }
            }
            Input::Claimed { key, claimed } => {
                let lane = self.lanes.entry(key.clone()).or_default();
                let claimed = claimed.unwrap_or_default();
                // What was asked for and did not come is free for others to ask for.
                self.claimed = self
                    .claimed
                    .saturating_sub(lane.asked.saturating_sub(claimed.len()));
                lane.asked = 0;
                // An empty claim says that there was no more when it was made; a hint that has come
                // since then stands.
                lane.backlog |= !claimed.is_empty();
                self.take_in(claimed.into_iter().map(Held::free).collect(), actions);
                self.queue(key);
            }
            Input::Ended(ended) => self.settle(*ended, now, actions),
            Input::Unsent(unsent) => {
                let Unsent {
                    key,
                    subject,
                    lease,
                } = *unsent;
                self.give_permit_back(&key).busy.remove(&subject);
                actions.push(Action::Release(vec![lease]));
                self.queue(key);
            }
            Input::Settled {
                key,
                subject,
                retry_at,
                settled,
            } => {
                let lane = self.lanes.entry(key.clone()).or_default();
                lane.busy.remove(&subject);
                lane.backlog |= settled.is_some_and(|settled| settled.released > 0);
                if settled.is_some_and(|settled| settled.paused) {
                    let returned: Vec<Held> = lane.ready.drain(..).collect();
                    let claimed = returned.iter().filter(|held| held.is_claimed()).count();
                    self.claimed = self.claimed.saturating_sub(claimed);
                    let leases = returned.iter().map(|held| held.claimed.lease()).collect();
                    actions.push(Action::Release(leases));
                }
                if let Some(retry_at) = retry_at {
                    self.next_sweep = self.next_sweep.min(retry_at.max(now));
                }
                self.queue(key);
            }
        }
    }

    /// Puts claimed deliveries into their lanes, or gives them back when there is no place or no
    /// time for them.
    fn take_in(&mut self, held: Vec<Held>, actions: &mut Vec<Action>) {
        let mut returned = Vec::new();
        for held in held {
            let key = (
                held.claimed.merchant_id.clone(),
                held.claimed.endpoint_id.clone(),
            );
            let lane = self.lanes.entry(key.clone()).or_default();
            if self.draining || lane.ready.len() >= READY_MAX {
                lane.backlog = true;
                self.claimed = self.claimed.saturating_sub(usize::from(held.is_claimed()));
                returned.push(held.claimed.lease());
                continue;
            }
            lane.ready.push_back(held);
            self.queue(key);
        }
        if !returned.is_empty() {
            actions.push(Action::Release(returned));
        }
    }

    fn queue(&mut self, key: Key) {
        let lane = self.lanes.entry(key.clone()).or_default();
        if !lane.queued {
            lane.queued = true;
            self.turns.push_back(key);
        }
    }

    /// Lets the lanes take turns until the permits are out or nobody can start anything.
    fn start(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let limits = self.limits;
        let mut expired = Vec::new();
        let mut starved = Vec::new();
        while let Some(key) = self.turns.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            lane.queued = false;
            if self.in_flight >= limits.permits {
                lane.queued = true;
                self.turns.push_front(key);
                break;
            }
            let expired_before = expired.len();
            let next = match lane.in_flight < limits.permits_per_endpoint {
                true => lane.next_sendable(now.plus(limits.attempt), &mut expired),
                false => None,
            };
            for held in &expired[expired_before..] {
                self.claimed = self.claimed.saturating_sub(usize::from(held.is_claimed()));
            }
            if let Some(held) = next {
                self.claimed = self.claimed.saturating_sub(usize::from(held.is_claimed()));
                lane.busy.insert(held.claimed.subject.clone());
                lane.in_flight += 1;
                self.in_flight += 1;
                actions.push(Action::Send(held.claimed));
                self.queue(key);
                continue;
            }
            let free = limits.permits_per_endpoint.saturating_sub(lane.in_flight);
            let free_in_all = limits.permits.saturating_sub(self.in_flight + self.claimed);
            let wanted = free.saturating_sub(lane.ready.len()).min(free_in_all);
            if lane.backlog && lane.asked == 0 && wanted > 0 {
                lane.asked = wanted;
                self.claimed += wanted;
                lane.backlog = false;
                let (merchant_id, endpoint_id) = key;
                let lease_until = now.plus(limits.lease);
                actions.push(Action::Claim(ClaimAsk {
                    merchant_id,
                    endpoint_id,
                    limit: wanted,
                    now,
                    lease_until,
                }));
            } else if lane.backlog && lane.asked == 0 && free > 0 {
                // Others have claimed all there is room for; this one asks again next time.
                starved.push(key);
            } else if lane.is_idle() {
                self.lanes.remove(&key);
            }
        }
        for key in starved {
            self.queue(key);
        }
        if !expired.is_empty() {
            let leases = expired.iter().map(|held| held.claimed.lease()).collect();
            actions.push(Action::Release(leases));
        }
    }

    fn give_permit_back(&mut self, key: &Key) -> &mut Lane {
        self.in_flight = self.in_flight.saturating_sub(1);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane
    }

    /// Judges an outcome. The permit is free at once, the subject only when the settle is flushed.
    fn settle(&mut self, ended: Ended, now: Timestamp, actions: &mut Vec<Action>) {
        let Ended {
            claimed,
            endpoint,
            outcome,
            attempt,
        } = ended;
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        self.give_permit_back(&key);
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
        // What an order's own URL answers says nothing about the endpoint's.
        let pauses = delivery::pauses(&outcome) && claimed.url_override.is_none();
        let pause = pauses
            .then(|| "the receiver answered 410: it says that it is gone for good".to_owned());
        let settle = Settle {
            merchant_id: claimed.merchant_id,
            delivery_id: claimed.delivery_id,
            endpoint_id: claimed.endpoint_id,
            fence: claimed.fence,
            attempt,
            verdict,
            pause,
            now,
        };
        let settle = Box::new(settle);
        actions.push(Action::Settle {
            settle,
            key: key.clone(),
            subject: claimed.subject,
            retry_at,
        });
        self.queue(key);
    }
}

impl Lane {
    /// The first delivery whose subject has nothing in flight. One whose lease would not last for
    /// an attempt is put among the `expired`, to be given back and claimed anew.
    fn next_sendable(&mut self, needed_until: Timestamp, expired: &mut Vec<Held>) -> Option<Held> {
        let mut at = 0;
        while let Some(held) = self.ready.get(at) {
            if held.claimed.lease_until < needed_until {
                expired.extend(self.ready.remove(at));
                self.backlog = true;
            } else if self.busy.contains(&held.claimed.subject) {
                at += 1;
            } else {
                return self.ready.remove(at);
            }
        }
        None
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.busy.is_empty() && !self.backlog && self.asked == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(actions: &[Action]) -> usize {
        actions
            .iter()
            .filter(|action| matches!(action, Action::Claim(_)))
            .count()
    }

    #[test]
    fn a_hint_that_comes_while_a_claim_is_under_way_is_kept() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let second = Duration::from_secs(1);
        let mut dispatcher = Dispatcher::new(
            Limits {
                permits: 8,
                permits_per_endpoint: 8,
                lease: second * 90,
                attempt: second * 35,
                sweep: second,
            },
            now,
        );
        let key = (MerchantId::new("ms"), EndpointId::new("ep_1"));
        let released = || Input::Settled {
            key: key.clone(),
            subject: "order/1".to_owned(),
            retry_at: None,
            settled: Some(Settled {
                held: true,
                released: 1,
                paused: false,
            }),
        };
        let nothing_due = || Input::Claimed {
            key: key.clone(),
            claimed: Some(Vec::new()),
        };

        assert_eq!(claims(&dispatcher.step(vec![released()], now)), 1);
        // The claim may have been made before this settle, and told of after it.
        assert_eq!(claims(&dispatcher.step(vec![released()], now)), 0);
        assert_eq!(claims(&dispatcher.step(vec![nothing_due()], now)), 1);
        assert_eq!(claims(&dispatcher.step(vec![nothing_due()], now)), 0);
    }
}
