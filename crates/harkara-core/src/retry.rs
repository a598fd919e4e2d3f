//! When to try again: ladders, jitter by hash, `Retry-After`.
//!
//! Pure functions of plain values; `judge()` in `delivery.rs` calls them, and the transport reads
//! `Retry-After` with them. How many attempts were made, and what they mean, is not known here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, digest_u64};
use crate::planted::{Bug, planted};
use crate::time::Timestamp;

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// The longest wait that a receiver may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(DAY as u64);

const MAX_CUSTOM_STEPS: usize = 40;
const MAX_CUSTOM_STEP_SECONDS: u32 = 7 * DAY;

/// No delivery waits longer for its next attempt: the longest step with its jitter.
pub const LONGEST_WAIT: Duration = Duration::from_secs(MAX_CUSTOM_STEP_SECONDS as u64 * 6 / 5);

/// Jitter is a number of millionths of the step, from none to 20 %.
const MAX_JITTER_MILLIONTHS: u64 = 200_000;

/// 24 hours and a minute.
const DAY_STEPS: [u32; 16] = steps(&[
    (1, MINUTE),
    (2, 5 * MINUTE),
    (5, 10 * MINUTE),
    (5, HOUR),
    (3, 6 * HOUR),
]);
/// The day's ladder, whose last step is then repeated until 72 hours and a minute.
const THREE_DAYS_STEPS: [u32; 24] = steps(&[
    (1, MINUTE),
    (2, 5 * MINUTE),
    (5, 10 * MINUTE),
    (5, HOUR),
    (11, 6 * HOUR),
]);
/// The day's ladder, then once a day until 30 days and a minute.
const MONTH_STEPS: [u32; 45] = steps(&[
    (1, MINUTE),
    (2, 5 * MINUTE),
    (5, 10 * MINUTE),
    (5, HOUR),
    (3, 6 * HOUR),
    (29, DAY),
]);

/// Writes out runs of equal steps.
const fn steps<const N: usize>(runs: &[(usize, u32)]) -> [u32; N] {
    let mut all = [0; N];
    let mut filled = 0;
    let mut run = 0;
    while run < runs.len() {
        let (count, seconds) = runs[run];
        let end = filled + count;
        while filled < end {
            all[filled] = seconds;
            filled += 1;
        }
        run += 1;
    }
    assert!(filled == N, "the runs add up to the length");
    all
}

/// The waits between attempts. A ladder of n steps allows n retries after the first attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Ladder {
    /// 16 retries in 24 hours.
    #[default]
    Day,
    /// 24 retries in 72 hours.
    ThreeDays,
    /// 45 retries in 30 days.
    Month,
    /// 1 to 40 steps of one's own; made by [`Ladder::custom`].
    Custom(CustomSteps),
}

/// Steps in seconds that have passed the checks of [`Ladder::custom`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomSteps(Vec<u32>);

/// Why a list of steps is no ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    #[error("use this ladder: it has {count} steps, and needs 1 to {MAX_CUSTOM_STEPS}")]
    Length { count: usize },
    #[error(
        "use this ladder: step {position} is {seconds} s, and must be 1 to \
         {MAX_CUSTOM_STEP_SECONDS} s (7 days)"
    )]
    Step { position: usize, seconds: u32 },
}

impl Ladder {
    /// A ladder of one's own, from steps in seconds.
    pub fn custom(steps_seconds: Vec<u32>) -> Result<Self, LadderError> {
        let count = steps_seconds.len();
        if count == 0 || count > MAX_CUSTOM_STEPS {
            return Err(LadderError::Length { count });
        }
        for (step, &seconds) in steps_seconds.iter().enumerate() {
            if seconds == 0 || seconds > MAX_CUSTOM_STEP_SECONDS {
                return Err(LadderError::Step {
                    position: step + 1,
                    seconds,
                });
            }
        }
        Ok(Self::Custom(CustomSteps(steps_seconds)))
    }

    /// The steps in seconds, without jitter.
    pub fn steps_seconds(&self) -> &[u32] {
        match self {
            Self::Day => &DAY_STEPS,
            Self::ThreeDays => &THREE_DAYS_STEPS,
            Self::Month => &MONTH_STEPS,
            Self::Custom(CustomSteps(steps)) => steps,
        }
    }

    /// The steps, without jitter.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = Duration> + '_ {
        self.steps_seconds()
            .iter()
            .map(|&seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// The wait after the attempt with this number (from 1), or `None` when the ladder is used up.
    pub fn step_after(&self, attempt: u32) -> Option<Duration> {
        let step = usize::try_from(attempt).ok()?.checked_sub(1)?;
        self.steps().nth(step)
    }
}

/// How a ladder is written: a preset's name or a list of seconds.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected day, three-days, month, or a list of seconds"
)]
enum Written {
    Preset(Preset),
    Steps(Vec<u32>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    Day,
    ThreeDays,
    Month,
}

impl TryFrom<Written> for Ladder {
    type Error = LadderError;

    fn try_from(written: Written) -> Result<Self, LadderError> {
        match written {
            Written::Preset(Preset::Day) => Ok(Self::Day),
            Written::Preset(Preset::ThreeDays) => Ok(Self::ThreeDays),
            Written::Preset(Preset::Month) => Ok(Self::Month),
            Written::Steps(steps) => Self::custom(steps),
        }
    }
}

impl From<Ladder> for Written {
    fn from(ladder: Ladder) -> Self {
        match ladder {
            Ladder::Day => Self::Preset(Preset::Day),
            Ladder::ThreeDays => Self::Preset(Preset::ThreeDays),
            Ladder::Month => Self::Preset(Preset::Month),
            Ladder::Custom(CustomSteps(steps)) => Self::Steps(steps),
        }
    }
}

/// A step with its jitter: 0 to 20 % more, never less, and always the same for the same attempt.
pub fn jittered(step: Duration, delivery_id: &DeliveryId, attempt: u32) -> Duration {
    let hash = digest_u64(&["jitter", delivery_id.as_str(), &attempt.to_string()]);
    lengthened(step, hash % (MAX_JITTER_MILLIONTHS + 1))
}

fn lengthened(step: Duration, millionths: u64) -> Duration {
    let micros = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
    let extra = u128::from(micros) * u128::from(millionths) / 1_000_000;
    step.saturating_add(Duration::from_micros(
        u64::try_from(extra).unwrap_or(u64::MAX),
    ))
}

/// Reads a `Retry-After` value: seconds, or a date compared with `now`; at most 24 hours.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number too long for 64 bits is still a wish to wait very long.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        parse_http_date(value)?.since(now)
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, the one date format that HTTP still writes.
pub fn parse_http_date(value: &str) -> Option<Timestamp> {
    let moment = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    Some(Timestamp::from_micros(moment.as_microsecond()))
}

/// A due time, moved nearer when it lies further away than the wait that it was set for: the clock
/// went back since.
pub fn pulled_in(due_at: Timestamp, now: Timestamp, wait: Duration) -> Timestamp {
    if planted(Bug::DueTimeStays) {
        return due_at;
    }
    due_at.min(now.plus(wait.min(LONGEST_WAIT)))
}

#[cfg(test)]
mod tests;
