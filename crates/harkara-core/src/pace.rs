//! How many attempts an endpoint may have in flight, learned from how it answers.
//!
//! Additive increase, halving when it fails or slows down, as networks do it; and whether it is so
//! slow that it belongs in the slow lane. Plain values without a clock; the dispatcher keeps one for
//! each endpoint it calls and loses them at a restart.

use std::time::Duration;

use crate::delivery::Outcome;
use crate::health::Sign;

/// What an endpoint begins with.
const START: usize = 8;

/// Below this, an answer time that doubles says more of the network than of the receiver.
const FAST: Duration = Duration::from_millis(100);

/// A median above this is slow.
const SLOW: Duration = Duration::from_secs(5);

/// Answers that the median is taken of.
const REMEMBERED: usize = 9;

/// An endpoint's limit and what it was learned from.
#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    ceiling: usize,
    /// Successes with all permits in use since the limit last changed.
    grown: usize,
    /// The limit is not halved again for attempts that were begun before this one.
    cut_from: u64,
    /// What answers take, lately and usually.
    lately: Option<Duration>,
    usually: Option<Duration>,
    recent: Vec<Duration>,
    next: usize,
}

/// An attempt as its pace sees it.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// Its number among the attempts of the endpoint.
    pub serial: u64,
    /// The number that the next one will have.
    pub next_serial: u64,
    pub took: Duration,
    pub strain: Strain,
    /// Every permit was in use, so that another would have been.
    pub full: bool,
}

/// Whether an outcome says that the receiver has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    Eased,
    Overloaded,
    /// Neither: it refused this one event, or the fault was ours.
    Unknown,
}

/// What an outcome says about the receiver's load. Most answers of 4xx are about the event: many
/// receivers refuse the events that they do not know, and are none the slower for it.
pub fn strain(outcome: &Outcome, sign: Sign) -> Strain {
    match (sign, outcome) {
        (Sign::Well, _) => Strain::Eased,
        (Sign::None, _) => Strain::Unknown,
        (
            Sign::Ill,
            Outcome::Answered {
                status: 408 | 425 | 429,
                ..
            },
        ) => Strain::Overloaded,
        (
            Sign::Ill,
            Outcome::Answered {
                status: 400..=499, ..
            },
        ) => Strain::Unknown,
        (Sign::Ill, Outcome::Answered { .. } | Outcome::Failed(_)) => Strain::Overloaded,
    }
}

impl Pace {
    /// A pace that knows nothing yet.
    pub fn new(ceiling: usize) -> Self {
        Self {
            limit: START.min(ceiling),
            ceiling,
            grown: 0,
            cut_from: 0,
            lately: None,
            usually: None,
            recent: Vec::new(),
            next: 0,
        }
    }

    /// Begins again, for an endpoint whose breaker has opened: its way back is the breaker's ramp.
    pub fn restart(&mut self, next_serial: u64) {
        self.limit = START.min(self.ceiling);
        self.grown = 0;
        self.cut_from = next_serial;
    }

    /// How many attempts may be in flight: at least one.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the median of the last answers is over five seconds.
    pub fn is_slow(&self) -> bool {
        let mut sorted = self.recent.clone();
        sorted.sort_unstable();
        sorted
            .get(sorted.len() / 2)
            .is_some_and(|median| *median > SLOW)
    }

    /// Takes note of an attempt that has ended.
    pub fn note(&mut self, paced: &Paced) {
        self.remember(paced.took);
        let slower = self.slows_down(paced.took);
        // Those begun before the limit was halved tell nothing new.
        let is_news = paced.serial >= self.cut_from;
        match paced.strain {
            Strain::Overloaded if is_news => self.halve(paced.next_serial),
            Strain::Eased if slower && is_news => {
                self.usually = Some(paced.took);
                self.halve(paced.next_serial);
            }
            Strain::Eased if paced.full => {
                self.grown += 1;
                if self.grown >= self.limit {
                    self.grown = 0;
                    self.limit = (self.limit + 1).min(self.ceiling);
                }
            }
            Strain::Eased | Strain::Overloaded | Strain::Unknown => {}
        }
    }

    fn halve(&mut self, next_serial: u64) {
        self.limit = (self.limit / 2).max(1);
        self.grown = 0;
        self.cut_from = next_serial;
    }

    fn remember(&mut self, took: Duration) {
        if self.recent.len() < REMEMBERED {
            self.recent.push(took);
        } else {
            self.recent[self.next] = took;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Updates both averages; true when what answers take lately is twice what they usually take.
    fn slows_down(&mut self, took: Duration) -> bool {
        let lately = average(self.lately, took, 4);
        let usually = average(self.usually, took, 64);
        self.lately = Some(lately);
        self.usually = Some(usually);
        lately >= FAST && lately >= usually * 2
    }
}

/// A moving average in which the newest weighs one `weight`th.
fn average(before: Option<Duration>, newest: Duration, weight: u32) -> Duration {
    before.map_or(newest, |before| (before * (weight - 1) + newest) / weight)
}

#[cfg(test)]
mod tests;
