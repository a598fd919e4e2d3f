//! A lane: what the dispatcher remembers of one endpoint, and what that endpoint does next.
//!
//! Holds the deliveries that lie in memory, what is in flight, how fast the endpoint may be called
//! and whether it is well. All of it may be lost: the store knows what is due and who is ill. Only
//! the dispatcher calls it, which counts the permits over all lanes.

use std::collections::VecDeque;
use std::time::Duration;

use foldhash::HashMap;
use harkara_core::delivery::{DeliveryKind, Outcome};
use harkara_core::endpoint::Endpoint;
use harkara_core::health::{self, Breaker, Health, News, Sign};
use harkara_core::id::DeliveryId;
use harkara_core::pace::{self, Pace, Paced};
use harkara_core::planted::{Bug, planted};
use harkara_core::time::Timestamp;

use super::inbox::Held;
use super::permits::{Class, Gate};
use crate::store::{Claimed, HealthWrite, Pick};

/// Deliveries of one endpoint that may lie in memory; more are given back to the store, so that a
/// dead endpoint cannot fill the inbox.
const READY_MAX: usize = 512;

/// How long nothing is sent after an address had no room.
const CROWDED: Duration = Duration::from_millis(100);

/// A rate is kept over spans of this length, for timers are no finer than a millisecond.
const RATE_SLACK: Duration = Duration::from_millis(10);

/// What a lane does next.
pub(super) enum Step {
    Send(Box<Held>),
    Claim(usize, Pick),
    /// It could go on, had it a permit.
    Wait(Gate),
    /// Nothing before then.
    Sleep(Timestamp),
    Nothing,
}

/// Where a lane stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it has nothing to start.
    Out,
    /// In the dispatcher's turns.
    Turn,
    /// In line for a permit.
    Line,
}

/// An attempt under way, or one whose settle is.
#[derive(Clone, Debug)]
struct Flight {
    serial: u64,
    delivery_id: DeliveryId,
    fence: i64,
    /// The attempt has ended.
    settling: bool,
}

/// One endpoint's deliveries in memory, and what was learned of it.
pub(super) struct Lane {
    ready: VecDeque<Held>,
    /// Subjects with an attempt that is not settled: two deliveries of one are never in flight.
    busy: HashMap<String, Flight>,
    pub(super) in_flight: usize,
    /// The store may hold due deliveries of this endpoint.
    pub(super) backlog: bool,
    /// What a claim under way may bring at most, and of which deliveries; none when there is none.
    asked: Option<(usize, Pick)>,
    /// Permits of this lane: for what is in flight, claimed, or asked for.
    pub(super) held: usize,
    pub(super) place: Place,
    pub(super) timer: Option<Timestamp>,
    pub(super) used_at: Timestamp,
    class: Class,
    pace: Pace,
    health: Health,
    /// What the store knows of the health; `None` after a write whose end nobody knows.
    stored: Option<Option<Health>>,
    /// No outcome has been seen yet, so that what the store knows is news.
    is_new: bool,
    next_serial: u64,
    /// Attempts begun before the breaker last opened say nothing about it any more.
    stray_before: u64,
    /// How many nodes share what the endpoint may be sent.
    pub(super) nodes: u32,
    ceiling: usize,
    rate_per_second: Option<u32>,
    /// When the next attempt may start, by the rate.
    rate_at: Timestamp,
    crowded_until: Option<Timestamp>,
}

/// What an outcome taught.
pub(super) struct Lesson {
    /// Of the newest claim of the delivery.
    pub(super) fence: i64,
    pub(super) class: (Class, Class),
    pub(super) health: HealthWrite,
    pub(super) news: Option<News>,
    /// Deliveries that are to be given back because the breaker has opened.
    pub(super) returned: Vec<Held>,
}

impl Lane {
    pub(super) fn new(ceiling: usize, now: Timestamp) -> Self {
        Self {
            ready: VecDeque::new(),
            busy: HashMap::default(),
            in_flight: 0,
            backlog: false,
            asked: None,
            held: 0,
            place: Place::Out,
            timer: None,
            used_at: now,
            class: Class::Newcomer,
            pace: Pace::new(ceiling),
            health: Health::default(),
            stored: Some(None),
            is_new: true,
            next_serial: 1,
            stray_before: 0,
            nodes: 1,
            ceiling,
            rate_per_second: None,
            rate_at: now,
            crowded_until: None,
        }
    }

    /// Whether nothing is sent but probes and tests.
    pub(super) fn is_open(&self) -> bool {
        self.health.is_open()
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// What the store remembers, told to a lane that has seen nothing itself; among several nodes to any,
    /// for what differs from what we wrote was written by another. Told once: a probe that a clock ahead
    /// of ours has set would be put off by every sweep.
    pub(super) fn learn(&mut self, stored: Option<Health>, now: Timestamp) {
        let may_be_news = self.is_new || self.nodes > 1;
        if may_be_news && self.stored.as_ref() != Some(&stored) {
            self.health = stored.clone().unwrap_or_default();
            self.health.pull_in(now);
            self.stored = Some(stored);
        }
    }

    /// Forgets what was learned: a person says that the endpoint is to be called again.
    pub(super) fn forgive(&mut self) {
        self.health = Health::default();
        self.stored = Some(None);
        self.stray_before = self.next_serial;
        self.backlog = true;
    }

    /// Nobody knows whether the store took the last write.
    pub(super) fn doubt(&mut self) {
        self.stored = None;
    }

    /// A claim is being made.
    pub(super) fn ask(&mut self, wanted: usize, pick: Pick) {
        self.asked = Some((wanted, pick));
        self.backlog = false;
    }

    /// A claim came back. Says how many permits it has no use for, and gives back what was asked for
    /// before the breaker opened. A delivery that is in flight comes again when the clock jumped over
    /// its lease: its attempt goes on under the new claim.
    pub(super) fn answered(&mut self, claimed: Vec<Claimed>) -> (usize, Vec<Held>) {
        let (wanted, pick) = self.asked.take().expect("a claim is answered once");
        let mut unused = wanted - claimed.len().min(wanted);
        // An empty claim says that there was no more when it was made; a hint that has come since
        // then stands.
        self.backlog |= !claimed.is_empty();
        let shut = self.health.is_open() && pick == Pick::FreshFirst;
        let mut returned = Vec::new();
        for held in claimed.into_iter().map(Held::free) {
            self.rate_per_second = held.claimed.rate_per_second;
            if self.adopts(&held.claimed) {
                unused += 1;
                continue;
            }
            unused += self.supersede(&held.claimed);
            if shut {
                returned.push(held);
            } else {
                self.ready.push_back(held);
            }
        }
        (unused, returned)
    }

    fn adopts(&mut self, claimed: &Claimed) -> bool {
        let flight = self.busy.get_mut(&claimed.subject);
        let same =
            flight.filter(|flight| flight.delivery_id == claimed.delivery_id && !flight.settling);
        same.map(|flight| flight.fence = claimed.fence).is_some()
    }

    /// A delivery that still lies here comes again in the same way; only the newer claim is good. Says
    /// how many permits the older one had.
    fn supersede(&mut self, newer: &Claimed) -> usize {
        let same = |held: &Held| held.claimed.delivery_id == newer.delivery_id;
        let older = self.ready.iter().position(same);
        let older = older.and_then(|at| self.ready.remove(at));
        usize::from(older.is_some_and(|held| held.is_claimed()))
    }

    /// Takes in a delivery that was born claimed, or gives it back when it cannot be sent soon.
    pub(super) fn take_in(&mut self, held: Held) -> Option<Held> {
        self.rate_per_second = held.claimed.rate_per_second;
        let shut = self.health.is_open() && held.claimed.kind != DeliveryKind::Test;
        if shut || self.ready.len() >= READY_MAX {
            self.backlog = true;
            return Some(held);
        }
        self.ready.push_back(held);
        None
    }

    /// Puts a delivery that could not be sent back at the front, to be tried again in a moment.
    pub(super) fn put_back(&mut self, mut claimed: Claimed, now: Timestamp) {
        claimed.fence = self.land(&claimed.subject).unwrap_or(claimed.fence);
        self.ready.push_front(Held::free(claimed));
        self.crowded_until = Some(now.plus(CROWDED));
    }

    /// Everything that lies here unsent.
    pub(super) fn empty(&mut self) -> Vec<Held> {
        self.backlog = true;
        self.ready.drain(..).collect()
    }

    /// What is next, given the room that the permits leave. What has no time left to be sent is put
    /// among the `expired`, to be given back and claimed anew.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        needed_until: Timestamp,
        room: Result<usize, Gate>,
        expired: &mut Vec<Held>,
    ) -> Step {
        if let Some(until) = self.crowded_until.filter(|until| *until > now) {
            return Step::Sleep(until);
        }
        let window = self.health.window(self.limit());
        if let Some(at) = self.next_sendable(needed_until, window, expired) {
            if let Some(start_at) = self.rate_start(now) {
                return Step::Sleep(start_at);
            }
            let at = match room {
                Ok(_) => at,
                Err(gate) => match self.next_claimed(at, needed_until, expired) {
                    Some(at) => at,
                    None => return Step::Wait(gate),
                },
            };
            let held = self.ready.remove(at);
            return held.map_or(Step::Nothing, |held| Step::Send(Box::new(held)));
        }
        if !self.backlog || self.asked.is_some() {
            return Step::Nothing;
        }
        let (wanted, pick) = match self.health.probe_at() {
            Some(_) if self.in_flight > 0 || !self.ready.is_empty() => return Step::Nothing,
            Some(probe_at) if probe_at > now => return Step::Sleep(probe_at),
            Some(_) => (1, Pick::LongestDue),
            None => {
                let free = window.saturating_sub(self.in_flight + self.ready.len());
                (self.within_rate(free), Pick::FreshFirst)
            }
        };
        match room {
            _ if wanted == 0 => Step::Nothing,
            Err(gate) => Step::Wait(gate),
            Ok(room) => Step::Claim(wanted.min(room), pick),
        }
    }

    /// The first delivery whose subject has nothing in flight and which the breaker lets through.
    fn next_sendable(
        &mut self,
        needed_until: Timestamp,
        window: usize,
        expired: &mut Vec<Held>,
    ) -> Option<usize> {
        let open = self.health.is_open();
        let full = self.in_flight >= if open { self.limit() } else { window };
        let full = full && !planted(Bug::PermitsIgnored);
        (!full)
            .then(|| self.next_ready(0, needed_until, expired, |_| true))
            .flatten()
    }

    /// The first sendable delivery from here on that has a permit already. Those that were born
    /// claimed have none, and must not keep it waiting: the permit they wait for may be its own.
    fn next_claimed(
        &mut self,
        from: usize,
        needed_until: Timestamp,
        expired: &mut Vec<Held>,
    ) -> Option<usize> {
        self.has_claimed()
            .then(|| self.next_ready(from, needed_until, expired, Held::is_claimed))
            .flatten()
    }

    /// The first delivery from here on that is meant and whose subject has nothing in flight.
    fn next_ready(
        &mut self,
        from: usize,
        needed_until: Timestamp,
        expired: &mut Vec<Held>,
        is_meant: impl Fn(&Held) -> bool,
    ) -> Option<usize> {
        let mut at = from;
        while let Some(held) = self.ready.get(at) {
            let is_busy = self.busy.contains_key(&held.claimed.subject);
            if held.claimed.lease_until < needed_until {
                expired.extend(self.ready.remove(at));
                self.backlog = true;
            } else if is_meant(held) && (!is_busy || planted(Bug::TwoOfOneSubject)) {
                return Some(at);
            } else {
                at += 1;
            }
        }
        None
    }

    /// Whether something that has a permit lies here.
    pub(super) fn has_claimed(&self) -> bool {
        self.held > self.in_flight + self.asked.map_or(0, |(wanted, _)| wanted)
    }

    /// How many attempts may be in flight from here: what the endpoint has shown that it takes, within
    /// this node's part of what any endpoint may have.
    fn limit(&self) -> usize {
        let nodes = usize::try_from(self.nodes).unwrap_or(usize::MAX);
        self.pace.limit().min((self.ceiling / nodes).max(1))
    }

    /// The time between two attempts from here, if the endpoint has a rate.
    fn interval(&self) -> Option<Duration> {
        let rate = self.rate_per_second?.max(1);
        Some(Duration::from_secs(1) * self.nodes / rate)
    }

    /// No more than may start within a second lies here waiting for the rate.
    fn within_rate(&self, free: usize) -> usize {
        let rate = self.rate_per_second.map(|rate| rate / self.nodes);
        let rate = rate.and_then(|rate| usize::try_from(rate).ok());
        rate.map_or(free, |rate| {
            free.min(rate.saturating_sub(self.ready.len()).max(1))
        })
    }

    /// When the rate lets the next attempt start, if that is not now.
    fn rate_start(&self, now: Timestamp) -> Option<Timestamp> {
        self.rate_per_second?;
        (self.rate_at > now.plus(RATE_SLACK))
            .then(|| now.plus(self.rate_at.since(now.plus(RATE_SLACK))))
    }

    /// An attempt starts.
    pub(super) fn start(&mut self, claimed: &Claimed, now: Timestamp) {
        let flight = Flight {
            serial: self.next_serial,
            delivery_id: claimed.delivery_id.clone(),
            fence: claimed.fence,
            settling: false,
        };
        self.next_serial += 1;
        self.busy.insert(claimed.subject.clone(), flight);
        self.in_flight += 1;
        self.used_at = now;
        if let Some(interval) = self.interval() {
            self.rate_at = self.rate_at.max(now).plus(interval);
        }
    }

    /// An attempt was not made after all. Returns the fence of its newest claim.
    pub(super) fn land(&mut self, subject: &str) -> Option<i64> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.busy.remove(subject).map(|flight| flight.fence)
    }

    /// The settle of a subject's attempt is over; the next of the subject may go.
    pub(super) fn settled(&mut self, subject: &str) {
        self.busy.remove(subject);
    }

    /// Learns from an attempt that has ended. Its subject stays busy until the settle is flushed.
    pub(super) fn ended(
        &mut self,
        claimed: &Claimed,
        endpoint: &Endpoint,
        (outcome, took): (&Outcome, Duration),
        (now, disable_after): (Timestamp, Duration),
    ) -> Lesson {
        // What a breaker lets through is not what the permits allow, and teaches nothing about them.
        let full = self.health.breaker == Breaker::Closed && self.in_flight >= self.limit();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.is_new = false;
        self.used_at = now;
        let (serial, fence) = match self.busy.get_mut(&claimed.subject) {
            Some(flight) => {
                flight.settling = true;
                (flight.serial, flight.fence)
            }
            None => (0, claimed.fence),
        };
        let sign = health::sign(outcome, endpoint.success);
        self.pace.note(&Paced {
            serial,
            next_serial: self.next_serial,
            took,
            strain: pace::strain(outcome, sign),
            full,
        });
        // What an order's own URL answers says nothing about the endpoint's, and a test may be made
        // of an endpoint that is not called otherwise.
        let tells = claimed.url_override.is_none()
            && claimed.kind != DeliveryKind::Test
            && serial >= self.stray_before;
        let was_open = self.health.is_open();
        let news = match sign {
            Sign::Well if tells => self.health.succeeded(self.limit()),
            Sign::Ill if tells => self.health.failed(now, disable_after),
            Sign::Well | Sign::Ill | Sign::None => None,
        };
        let returned = if self.health.is_open() && !was_open {
            self.stray_before = self.next_serial;
            self.pace.restart(self.next_serial);
            self.empty()
        } else {
            Vec::new()
        };
        let class = (self.class, self.classify(sign));
        self.class = class.1;
        Lesson {
            fence,
            class,
            health: self.health_write(),
            news,
            returned,
        }
    }

    fn classify(&self, sign: Sign) -> Class {
        match sign {
            _ if self.pace.is_slow() => Class::Slow,
            Sign::Well => Class::Proven,
            Sign::Ill => Class::Newcomer,
            Sign::None => self.class,
        }
    }

    fn health_write(&mut self) -> HealthWrite {
        let is_news = match &self.stored {
            None => true,
            Some(stored) => self.health.is_news_to(stored.as_ref()),
        };
        if !is_news {
            return HealthWrite::Keep;
        }
        if self.health == Health::default() {
            self.stored = Some(None);
            HealthWrite::Well
        } else {
            self.stored = Some(Some(self.health.clone()));
            HealthWrite::Ill(Box::new(self.health.clone()))
        }
    }

    /// The clock went back: nothing may lie further away than it could have been put from now.
    pub(super) fn pull_in(&mut self, now: Timestamp) {
        let longest = self.interval().unwrap_or_default();
        self.rate_at = self.rate_at.min(now.plus(longest));
        self.crowded_until = self.crowded_until.map(|until| until.min(now.plus(CROWDED)));
        self.used_at = self.used_at.min(now);
        self.health.pull_in(now);
    }

    /// Whether every attempt has been settled.
    pub(super) fn is_settled(&self) -> bool {
        self.busy.is_empty()
    }

    /// Whether forgetting this lane loses nothing that the store could not tell.
    pub(super) fn is_forgettable(&self) -> bool {
        let idle = self.ready.is_empty() && self.busy.is_empty() && self.held == 0;
        let well = self.health == Health::default() && self.stored == Some(None);
        idle && well
            && !self.backlog
            && self.asked.is_none()
            && self.place == Place::Out
            && self.timer.is_none()
    }
}
