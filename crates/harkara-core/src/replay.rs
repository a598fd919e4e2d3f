//! Replay jobs: which events one sends again, how fast, and what a person may do to it.
//!
//! A job goes through a merchant's events in the order of their commits, as they stood when it was
//! made, so that its items are fixed from the first moment. Pure: the runner (`replay.rs` in the
//! body) brings events and the time and carries a [`Step`] out; the API surveys and shows. What is
//! sent, and how often it is tried, is `delivery.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use harkara_webhook::EventName;
use serde::{Deserialize, Serialize};

use crate::delivery::{DeliveryState, NewDelivery, Withheld, replay, replay_id};
use crate::endpoint::Endpoint;
use crate::id::{DeliveryId, EndpointId, EventId, MerchantId, ReplayJobId};
use crate::time::Timestamp;

/// A job is refused when it has this many items.
pub const ITEMS_MAX: u32 = 100_000;
/// Events per second when nobody asks for a rate.
pub const RATE: u32 = 50;
/// The highest rate, in events per second.
pub const RATE_MAX: u32 = 1_000;
/// Jobs of one merchant that may run at the same time.
pub const RUNNING_MAX: u32 = 3;

const SECOND_US: u64 = 1_000_000;

/// How a delivery stood when the job was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Exhausted,
    Withdrawn,
    Withheld,
    /// Unsettled: due at some time, or waiting for the one before it.
    Pending,
    Delivered,
}

impl Standing {
    /// What a merchant never got, however long one waits.
    pub const LOST: [Self; 3] = [Self::Exhausted, Self::Withdrawn, Self::Withheld];
}

/// What a person asks a job to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Whose deliveries are looked at.
    pub endpoint_id: EndpointId,
    /// Where the events are sent.
    pub to_endpoint_id: EndpointId,
    /// All names when there is none.
    pub event_names: BTreeSet<EventName>,
    pub states: BTreeSet<Standing>,
    /// Events that happened then or later.
    pub from: Option<Timestamp>,
    /// Events that happened before then.
    pub to: Option<Timestamp>,
    /// Events per second.
    pub rate: u32,
}

/// Whether a job goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Paused,
    /// For good, by a person or because its endpoint is gone.
    Cancelled,
    /// For good: every item has been dealt with.
    Finished,
}

/// What a person may want of a job that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Pause,
    Resume,
    Cancel,
}

/// Nothing brings a job back that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job has ended and stays as it is; make a new one to replay again")]
pub struct Ended;

impl JobState {
    /// The state that a wish leads to. A wish that has come true already changes nothing.
    pub fn after(self, wish: Wish) -> Result<Self, Ended> {
        match (self, wish) {
            (Self::Running | Self::Paused, Wish::Pause) => Ok(Self::Paused),
            (Self::Running | Self::Paused, Wish::Resume) => Ok(Self::Running),
            (Self::Running | Self::Paused | Self::Cancelled, Wish::Cancel) => Ok(Self::Cancelled),
            (Self::Cancelled, Wish::Pause | Wish::Resume) | (Self::Finished, _) => Err(Ended),
        }
    }
}

/// How many items were dealt with, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Made a delivery of.
    pub replayed: u32,
    /// Not for the endpoint they go to, by its version.
    pub below_version: u32,
    /// Not for the endpoint they go to, by its switches.
    pub switched_off: u32,
    /// Unsettled when the job was made, and delivered before their turn came.
    pub delivered: u32,
    /// Kept without their bodies by then, so that there is nothing to send.
    pub without_body: u32,
}

impl Done {
    /// All items that were dealt with.
    pub fn items(self) -> u32 {
        self.replayed + self.below_version + self.switched_off + self.delivered + self.without_body
    }

    fn withhold(&mut self, why: Withheld) {
        match why {
            Withheld::Version { .. } => self.below_version += 1,
            Withheld::SwitchedOff | Withheld::NotSubscribed => self.switched_off += 1,
        }
    }
}

/// A job with all that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub merchant_id: MerchantId,
    pub id: ReplayJobId,
    pub definition: Definition,
    pub created_at: Timestamp,
    /// Items at that moment.
    pub matched: u32,
    /// The newest event of that moment; what was born later is not looked at.
    pub last_position: i64,
    /// The last event that was looked at.
    pub cursor: i64,
    pub done: Done,
    pub state: JobState,
    /// Why it was cancelled, if that was not a person's wish.
    pub reason: Option<String>,
    /// When its state changed last.
    pub changed_at: Timestamp,
}

impl Job {
    /// The delivery that this job makes of an event: always the same, so that it can be made once.
    pub fn delivery_id(&self, event_id: &EventId) -> DeliveryId {
        let to = &self.definition.to_endpoint_id;
        let which = self.id.as_str();
        replay_id((&self.merchant_id, event_id), to, which, self.created_at)
    }

    /// How long it still takes at its rate.
    pub fn remaining_seconds(&self) -> u32 {
        let left = self.matched.saturating_sub(self.done.items());
        seconds(left, self.definition.rate)
    }
}

/// How long so many items take.
pub fn seconds(items: u32, rate: u32) -> u32 {
    items.div_ceil(rate)
}

/// An event and its delivery to the endpoint that a job looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub position: i64,
    pub event_id: EventId,
    pub name: EventName,
    pub created_at: Timestamp,
    pub state: DeliveryState,
    pub settled_at: Option<Timestamp>,
    pub url_override: Option<String>,
    /// Whether what would be sent is still kept.
    pub has_body: bool,
}

/// Candidates in the order of their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub candidates: Vec<Candidate>,
    /// The position up to which there are no others.
    pub looked_to: i64,
}

impl Definition {
    /// Whether only what was never delivered is asked for.
    pub fn is_about_lost(&self) -> bool {
        self.states
            .iter()
            .all(|state| Standing::LOST.contains(state))
    }

    /// Whether a candidate is an item of a job that was made then.
    fn admits(&self, candidate: &Candidate, then: Timestamp) -> bool {
        let at = candidate.created_at;
        (self.event_names.is_empty() || self.event_names.contains(&candidate.name))
            && self.states.contains(&stood(candidate, then))
            && self.from.is_none_or(|from| from <= at)
            && self.to.is_none_or(|to| at < to)
    }
}

/// How a delivery stood at a moment that has passed: what was settled since was not then.
fn stood(candidate: &Candidate, then: Timestamp) -> Standing {
    let settled = candidate.settled_at.is_some_and(|at| at <= then);
    match candidate.state {
        DeliveryState::Withheld => Standing::Withheld,
        DeliveryState::Exhausted if settled => Standing::Exhausted,
        DeliveryState::Withdrawn if settled => Standing::Withdrawn,
        DeliveryState::Delivered if settled => Standing::Delivered,
        DeliveryState::Pending
        | DeliveryState::Waiting
        | DeliveryState::Exhausted
        | DeliveryState::Withdrawn
        | DeliveryState::Delivered => Standing::Pending,
    }
}

/// What a job would find, before there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub matched: u32,
    /// Those among them that would be skipped, as the endpoint they go to is now.
    pub skipped: Done,
    pub oldest_at: Option<Timestamp>,
    pub newest_at: Option<Timestamp>,
    /// It ended before everything was looked at, so that there may be more.
    pub is_partial: bool,
}

impl Survey {
    /// Counts what a job made now finds in this page.
    pub fn add(&mut self, page: &Page, definition: &Definition, to: &Endpoint, now: Timestamp) {
        let items = page.candidates.iter();
        for item in items.filter(|candidate| definition.admits(candidate, now)) {
            self.matched += 1;
            match to.wants(item.name) {
                _ if !item.has_body => self.skipped.without_body += 1,
                Err(why) => self.skipped.withhold(why),
                Ok(()) => {}
            }
            let at = Some(item.created_at);
            self.oldest_at = self.oldest_at.into_iter().chain(at).min();
            self.newest_at = self.newest_at.max(at);
        }
    }

    /// Whether there is more than one job may have.
    pub fn is_too_much(&self) -> bool {
        self.matched >= ITEMS_MAX
    }
}

/// What a job does next, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub deliveries: Vec<NewDelivery>,
    /// What is done with it.
    pub done: Done,
    pub cursor: i64,
    pub finished: bool,
}

/// Goes on with a job through a page that begins at its cursor, with at most `allowed` deliveries.
pub fn step(job: &Job, to: &Endpoint, page: &Page, allowed: u32) -> Step {
    let mut step = Step {
        deliveries: Vec::new(),
        done: job.done,
        cursor: job.cursor,
        finished: false,
    };
    let then = job.created_at;
    for candidate in &page.candidates {
        if job.definition.admits(candidate, then) && !step.take(job, to, candidate, allowed) {
            return step;
        }
        step.cursor = candidate.position;
    }
    step.cursor = page.looked_to;
    step.finished = step.cursor >= job.last_position;
    step
}

impl Step {
    /// Deals with an item; false when its turn has not come yet.
    fn take(&mut self, job: &Job, to: &Endpoint, item: &Candidate, allowed: u32) -> bool {
        let then = job.created_at;
        let is_delivered = item.state == DeliveryState::Delivered;
        if is_delivered && stood(item, then) == Standing::Pending {
            self.done.delivered += 1;
            return true;
        }
        if !item.has_body {
            self.done.without_body += 1;
            return true;
        }
        // The order's own URL took the place of this endpoint's, and takes no other's.
        let stays = job.definition.endpoint_id == job.definition.to_endpoint_id;
        let url_override = item.url_override.as_deref().filter(|_| stays);
        let event = (&item.event_id, item.name);
        let delivery = replay(event, to, url_override, job.id.as_str(), then);
        if let Some(why) = delivery.withheld {
            self.done.withhold(why);
            return true;
        }
        if self.done.replayed - job.done.replayed == allowed {
            return false;
        }
        self.done.replayed += 1;
        self.deliveries.push(delivery);
        true
    }
}

/// How many items may go by now: what a second at the job's rate has room for, at most.
///
/// Kept in memory alone. A job that begins, or goes on after a restart, starts with nothing saved up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rate: u32,
    /// Millionths of an item.
    saved: u64,
    at: Timestamp,
}

impl Pace {
    /// A pace that begins now.
    pub fn new(rate: u32, now: Timestamp) -> Self {
        Self {
            rate,
            saved: 0,
            at: now,
        }
    }

    /// Saves up the time since the last call. A clock that jumps ahead brings one second's worth,
    /// and one that jumps back brings nothing and costs nothing.
    pub fn advance(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let (rate, passed) = (u64::from(self.rate), passed.min(SECOND_US));
        self.saved = (self.saved + passed * rate).min(rate * SECOND_US);
        self.at = now;
    }

    /// Whole items that may go now.
    pub fn allowed(&self) -> u32 {
        u32::try_from(self.saved / SECOND_US).expect("at most the rate")
    }

    /// Takes back what went.
    pub fn spend(&mut self, items: u32) {
        self.saved = self.saved.saturating_sub(u64::from(items) * SECOND_US);
    }

    /// How long until an item may go.
    pub fn wait(&self) -> Duration {
        let missing = SECOND_US.saturating_sub(self.saved);
        Duration::from_micros(missing.div_ceil(u64::from(self.rate)))
    }
}

#[cfg(test)]
mod tests;
