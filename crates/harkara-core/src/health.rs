//! An endpoint's health: what its breaker lets through, and since when it does nothing but fail.
//!
//! A small state machine of plain values: an attempt's outcome goes in, what has changed comes out.
//! The dispatcher keeps one for each endpoint it calls, the store keeps those that are not well, so
//! that a restart and other nodes know of them. How many attempts a well endpoint may have in flight
//! is `pace.rs`'s business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{Failure, Outcome, accepted};
use crate::endpoint::SuccessRule;
use crate::time::Timestamp;

/// Failures in a row that open a breaker.
pub const OPENS_AFTER: u32 = 10;

/// How long an open breaker waits for its next probe; the last step is repeated.
const PROBE_STEPS: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// The time between two failures counts as failing up to this much, so that a clock that jumps ahead
/// disables nobody. No step of the presets, and no `Retry-After`, is longer.
const LONGEST_GAP: Duration = Duration::from_secs(24 * 3600);

/// When the merchant is warned, after so long of nothing but failures.
const WARNINGS: [Duration; 3] = [
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(3 * 24 * 3600),
];

/// A failure streak shorter than this is not worth a row in the store.
const WORTH_STORING: Duration = Duration::from_secs(60);

/// How an endpoint is doing. The default is a well one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub breaker: Breaker,
    /// Failures since the last success.
    pub failures: u32,
    /// The first of them.
    pub failing_since: Option<Timestamp>,
    /// The last of them.
    pub failed_at: Option<Timestamp>,
    /// For how long there was nothing but failures, whatever the clock did meanwhile.
    pub failing_us: u64,
    /// How many of the warnings were given.
    pub warned: usize,
}

/// What may be sent to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Breaker {
    /// As much as its permits allow.
    #[default]
    Closed,
    /// One probe at a time, the next of them then; everything else waits in the store.
    Open { probes: u32, probe_at: Timestamp },
    /// At most `window` attempts in flight, twice as many after as many successes.
    HalfOpen {
        window: usize,
        succeeded: usize,
        probes: u32,
    },
}

/// What an outcome says about the endpoint that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Well,
    Ill,
    /// Nothing: the fault was on our own side.
    None,
}

/// Something that the merchant and the operator are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing but failures for so long.
    Failing { since: Timestamp },
    /// Too long: the endpoint is to be disabled.
    GivenUp { since: Timestamp },
    /// A success after at least one warning.
    Recovered { since: Timestamp },
}

/// What an outcome is a sign of.
pub fn sign(outcome: &Outcome, rule: SuccessRule) -> Sign {
    match outcome {
        Outcome::Answered { status, .. } if accepted(rule, *status) => Sign::Well,
        Outcome::Answered { .. } => Sign::Ill,
        Outcome::Failed(Failure::Internal) => Sign::None,
        Outcome::Failed(_) => Sign::Ill,
    }
}

impl Health {
    /// Takes note of a success. `ceiling` is what the permits allow, at which a breaker that was
    /// half open is closed.
    pub fn succeeded(&mut self, ceiling: usize) -> Option<News> {
        let breaker = match self.breaker {
            Breaker::Closed => Breaker::Closed,
            Breaker::Open { probes, .. } => half_open(1, probes, ceiling),
            Breaker::HalfOpen {
                window,
                succeeded,
                probes,
            } if succeeded + 1 >= window => half_open(window.saturating_mul(2), probes, ceiling),
            Breaker::HalfOpen {
                window,
                succeeded,
                probes,
            } => Breaker::HalfOpen {
                window,
                succeeded: succeeded + 1,
                probes,
            },
        };
        let before = std::mem::replace(
            self,
            Self {
                breaker,
                ..Self::default()
            },
        );
        let since = before.failing_since.filter(|_| before.warned > 0)?;
        Some(News::Recovered { since })
    }

    /// Takes note of a failure. `disable_after` is how long nothing but failures is put up with.
    pub fn failed(&mut self, now: Timestamp, disable_after: Duration) -> Option<News> {
        let gap = self
            .failed_at
            .map_or(Duration::ZERO, |failed_at| now.since(failed_at));
        self.failing_us += micros(gap.min(LONGEST_GAP));
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        let since = *self.failing_since.get_or_insert(now);
        self.breaker = match self.breaker {
            Breaker::Closed if self.failures >= OPENS_AFTER => open(0, now),
            Breaker::Closed => Breaker::Closed,
            Breaker::Open { probes, .. } => open(probes.saturating_add(1), now),
            Breaker::HalfOpen {
                window: 1, probes, ..
            } => open(probes.saturating_add(1), now),
            // One event may be refused by a receiver that takes all others.
            Breaker::HalfOpen { window, probes, .. } => Breaker::HalfOpen {
                window: window / 2,
                succeeded: 0,
                probes,
            },
        };
        let failing = Duration::from_micros(self.failing_us);
        if failing >= disable_after {
            return Some(News::GivenUp { since });
        }
        let due = WARNINGS.iter().filter(|after| failing >= **after).count();
        if due <= self.warned {
            return None;
        }
        self.warned = due;
        Some(News::Failing { since })
    }

    /// Whether nothing is sent but probes and tests.
    pub fn is_open(&self) -> bool {
        match self.breaker {
            Breaker::Open { .. } => true,
            Breaker::Closed | Breaker::HalfOpen { .. } => false,
        }
    }

    /// When the next probe may be made, if only probes may.
    pub fn probe_at(&self) -> Option<Timestamp> {
        match self.breaker {
            Breaker::Open { probe_at, .. } => Some(probe_at),
            Breaker::Closed | Breaker::HalfOpen { .. } => None,
        }
    }

    /// Moves a probe nearer that lies further away than its step could have put it: the clock went
    /// back.
    pub fn pull_in(&mut self, now: Timestamp) {
        if let Breaker::Open { probes, probe_at } = &mut self.breaker {
            *probe_at = (*probe_at).min(now.plus(step(*probes)));
        }
    }

    /// How many attempts may be in flight, given what the permits allow; an open breaker is asked
    /// for probes instead.
    pub fn window(&self, allowed: usize) -> usize {
        match self.breaker {
            Breaker::Closed => allowed,
            Breaker::Open { .. } => 0,
            Breaker::HalfOpen { window, .. } => window.min(allowed),
        }
    }

    /// Whether the store is to be told, which knows `stored` (`None`: that the endpoint is well).
    /// Short streaks come and go without a write.
    pub fn is_news_to(&self, stored: Option<&Self>) -> bool {
        let well = Self::default();
        let stored = stored.unwrap_or(&well);
        let ends = *self == well && *stored != well;
        let longer = self.failing_us >= stored.failing_us + micros(WORTH_STORING);
        ends || longer || self.breaker != stored.breaker || self.warned != stored.warned
    }
}

impl News {
    /// The word that programs go by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "endpoint_failing",
            Self::GivenUp { .. } => "endpoint_disabled",
            Self::Recovered { .. } => "endpoint_recovered",
        }
    }

    /// The sentence that people read.
    pub fn sentence(&self) -> String {
        match self {
            Self::Failing { since } => format!(
                "every attempt since {} has failed; check the receiver, or its deliveries will run \
                 out of retries",
                since.iso()
            ),
            Self::GivenUp { since } => format!(
                "every attempt since {} has failed, so the endpoint is disabled and its deliveries \
                 wait; mend the receiver, then resume it",
                since.iso()
            ),
            Self::Recovered { since } => {
                format!(
                    "attempts succeed again; they had failed since {}",
                    since.iso()
                )
            }
        }
    }
}

fn half_open(window: usize, probes: u32, ceiling: usize) -> Breaker {
    if window >= ceiling {
        return Breaker::Closed;
    }
    Breaker::HalfOpen {
        window,
        succeeded: 0,
        probes,
    }
}

fn open(probes: u32, now: Timestamp) -> Breaker {
    let probe_at = now.plus(step(probes));
    Breaker::Open { probes, probe_at }
}

fn step(probes: u32) -> Duration {
    let last = PROBE_STEPS.len() - 1;
    PROBE_STEPS[usize::try_from(probes).unwrap_or(last).min(last)]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
