//! Moments: microseconds since the epoch, and the three ways the wire writes them.
//!
//! There is no clock here: `now` is always an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// 9999-12-30T21:59:59.999999Z: the wire's years have four digits, and the date library stops a day
/// early so that every time zone fits.
const LATEST_MICROS: i64 = 253_402_207_199_999_999;

impl Timestamp {
    /// No moment is before it.
    pub const OLDEST: Self = Self(0);

    /// No moment is after it.
    pub const NEWEST: Self = Self(LATEST_MICROS);

    /// A moment from microseconds since the epoch, held within the years 1970 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(0, LATEST_MICROS))
    }

    /// A moment from whole seconds since the epoch.
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub fn as_seconds(self) -> i64 {
        self.0 / 1_000_000
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero when it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2023-08-10T07:00:48Z`: how orders, transactions, refunds, mandates and events are dated
    /// (no fraction, always UTC).
    pub fn iso(self) -> String {
        let moment = jiff::Timestamp::from_microsecond(self.0).expect("held within range");
        moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2023-08-10T07:00:48.123456Z`, for logs and pages.
    pub fn iso_micros(self) -> String {
        let moment = jiff::Timestamp::from_microsecond(self.0).expect("held within range");
        moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }

    /// `"1691664489"`: how notifications and a mandate's start and end are dated.
    pub fn epoch_seconds(self) -> String {
        self.as_seconds().to_string()
    }

    /// Reads RFC 3339 text, with or without a fraction.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let moment: jiff::Timestamp = text.parse().ok()?;
        Some(Self::from_micros(moment.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_formats() {
        let moment = Timestamp::from_micros(1_691_650_848_987_654);
        assert_eq!(moment.iso(), "2023-08-10T07:00:48Z");
        assert_eq!(moment.iso_micros(), "2023-08-10T07:00:48.987654Z");
        assert_eq!(moment.epoch_seconds(), "1691650848");
        assert_eq!(
            Timestamp::parse_iso("2023-08-10T07:00:48.987654Z"),
            Some(moment)
        );
    }

    #[test]
    fn a_moment_stays_within_four_digit_years() {
        let end = Timestamp::from_micros(i64::MAX).plus(Duration::from_secs(u64::MAX));
        assert_eq!(end.iso(), "9999-12-30T21:59:59Z");
        assert_eq!(Timestamp::from_micros(-5).iso(), "1970-01-01T00:00:00Z");
    }
}
