//! Receivers: how merchants' servers answer, drawn per endpoint, from healthy to dead.
//!
//! A receiver answers one request at a time from its habit and the moment. What it got and what it
//! said is the oracle's business. `carry.rs` asks it.

use std::time::Duration;

use harkara_core::delivery::{Failure, Outcome};

use crate::dice::Dice;
use crate::plan::{MINUTE, MS, SECOND};

/// How an endpoint's server behaves until it is healed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    Healthy,
    Slow,
    Failing,
    /// Well for a period, then failing for one.
    Flapping {
        period_us: u64,
    },
    DeadUntil(u64),
    /// Says 410 now and then.
    Gone,
    /// Asks for patience.
    Limited {
        retry_after: Duration,
    },
    /// Takes a request and never answers.
    Poison,
    /// Answers in the neighbourhood of 200.
    Almost,
    /// Does its work, and loses some of its answers.
    Lossy,
}

/// What comes of a request.
#[derive(Debug)]
pub(crate) struct Reply {
    /// When the sender knows, after the request; `None` is never.
    pub(crate) after_us: Option<u64>,
    pub(crate) outcome: Outcome,
    /// The server did its work and said 200, whatever the sender heard.
    pub(crate) said_200: bool,
}

impl Habit {
    pub(crate) fn draw(dice: &mut Dice, safety_us: u64) -> Self {
        match dice.between(0, 12) {
            0..=2 => Self::Healthy,
            3 => Self::Slow,
            4 => Self::Failing,
            5 => Self::Flapping {
                period_us: dice.magnitude(SECOND, 10 * MINUTE),
            },
            6 => Self::DeadUntil(dice.between(0, safety_us)),
            7 => Self::Gone,
            8 => Self::Limited {
                retry_after: Duration::from_secs(*dice.pick(&[1, 10, 120, 3600, 100_000])),
            },
            9 => Self::Poison,
            10 => Self::Almost,
            _ => Self::Lossy,
        }
    }

    pub(crate) fn reply(self, t: u64, dice: &mut Dice) -> Reply {
        let soon = dice.magnitude(MS, 100 * MS);
        match self {
            Self::Healthy => answer(soon, 200, None),
            Self::Slow => answer(dice.magnitude(SECOND, 20 * SECOND), 200, None),
            Self::Failing => answer(soon, 500, None),
            Self::Flapping { period_us } => match (t / period_us).is_multiple_of(2) {
                true => answer(soon, 200, None),
                false => answer(soon, 503, None),
            },
            Self::DeadUntil(until) if t < until => fail(soon, Failure::ConnectRefused),
            Self::DeadUntil(_) => answer(soon, 200, None),
            Self::Gone => answer(soon, if dice.one_in(4) { 410 } else { 200 }, None),
            Self::Limited { retry_after } => match dice.one_in(2) {
                true => answer(soon, 429, Some(retry_after)),
                false => answer(soon, 200, None),
            },
            Self::Poison => Reply {
                after_us: None,
                outcome: Outcome::Failed(Failure::AttemptTimeout),
                said_200: false,
            },
            Self::Almost => answer(soon, *dice.pick(&[200, 201, 204, 302]), None),
            Self::Lossy if dice.one_in(3) => Reply {
                said_200: true,
                ..fail(soon, Failure::ConnectionClosed)
            },
            Self::Lossy => answer(soon, 200, None),
        }
    }
}

fn answer(after_us: u64, status: u16, retry_after: Option<Duration>) -> Reply {
    Reply {
        after_us: Some(after_us),
        outcome: Outcome::Answered {
            status,
            retry_after,
        },
        said_200: status == 200,
    }
}

fn fail(after_us: u64, failure: Failure) -> Reply {
    Reply {
        after_us: Some(after_us),
        outcome: Outcome::Failed(failure),
        said_200: false,
    }
}
