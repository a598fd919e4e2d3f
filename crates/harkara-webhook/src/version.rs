//! Webhook versions: the date a merchant pinned, or the latest.
//!
//! Which event needs which version is the catalogue's business; this is only the date, its order
//! and its text. Endpoints hold one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The date that decides which events a merchant is sent; later dates have more of them.
///
/// The empty text is a version too: the latest, above every date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookVersion(u32);

/// The text is no webhook version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "read webhook version {given:?}: write a date as YYYY-MM-DD, such as 2016-10-27, or nothing \
     for the latest"
)]
pub struct VersionError {
    /// The text that was given.
    pub given: String,
}

impl WebhookVersion {
    /// Above every date: whatever is newest.
    pub const LATEST: Self = Self(u32::MAX);

    /// The version of a day.
    ///
    /// # Panics
    /// If the calendar has no such day; in a constant that is an error of compilation.
    pub const fn date(year: u16, month: u8, day: u8) -> Self {
        assert!(is_a_day(year, month, day), "the calendar has this day");
        Self(year as u32 * 10_000 + month as u32 * 100 + day as u32)
    }

    /// The date, or `latest`: for people, who cannot see an empty text.
    pub fn describe(self) -> String {
        if self == Self::LATEST {
            "latest".to_owned()
        } else {
            self.to_string()
        }
    }
}

const fn is_a_day(year: u16, month: u8, day: u8) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    1 <= year && year <= 9999 && 1 <= day && day <= days
}

impl FromStr for WebhookVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Ok(Self::LATEST);
        }
        parse_date(text).ok_or_else(|| VersionError {
            given: text.to_owned(),
        })
    }
}

fn parse_date(text: &str) -> Option<WebhookVersion> {
    let shape = text
        .bytes()
        .map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    if !shape.eq(*b"0000-00-00") {
        return None;
    }
    let (year, month, day) = (
        text[..4].parse().ok()?,
        text[5..7].parse().ok()?,
        text[8..].parse().ok()?,
    );
    is_a_day(year, month, day).then(|| WebhookVersion::date(year, month, day))
}

/// As the setting holds it: `2016-10-27`, and nothing for the latest.
impl fmt::Display for WebhookVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::LATEST {
            return Ok(());
        }
        let (year, month, day) = (self.0 / 10_000, self.0 / 100 % 100, self.0 % 100);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl Serialize for WebhookVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WebhookVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_days_and_nothing_are_versions() {
        for text in [
            "2016-07-19",
            "2020-02-29",
            "2000-02-29",
            "0001-01-01",
            "9999-12-31",
            "",
        ] {
            let version: WebhookVersion = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(serde_json::to_value(version).unwrap(), text);
            assert_eq!(
                serde_json::from_value::<WebhookVersion>(text.into()).unwrap(),
                version
            );
        }
        for text in [
            "2019-02-29",
            "1900-02-29",
            "2016-13-01",
            "2016-00-10",
            "2016-04-31",
            "0000-01-01",
            "2016-7-19",
            "20160719",
            "latest",
            " 2016-07-19",
            "2016-07-19T00:00:00Z",
            "२०१६-07-19",
        ] {
            assert_eq!(
                text.parse::<WebhookVersion>(),
                Err(VersionError {
                    given: text.to_owned()
                })
            );
        }
    }

    #[test]
    fn later_is_greater_and_latest_is_above_all() {
        let older = WebhookVersion::date(2016, 10, 27);
        let newer = WebhookVersion::date(2019, 11, 11);
        assert!(older < newer);
        assert!(newer < WebhookVersion::date(9999, 12, 31));
        assert!(WebhookVersion::date(9999, 12, 31) < WebhookVersion::LATEST);
    }

    #[test]
    fn people_are_told_what_was_given_and_what_is_wanted() {
        insta::assert_snapshot!(
            "2016/07/19".parse::<WebhookVersion>().unwrap_err(),
            @r#"read webhook version "2016/07/19": write a date as YYYY-MM-DD, such as 2016-10-27, or nothing for the latest"#
        );
        assert_eq!(WebhookVersion::LATEST.describe(), "latest");
        assert_eq!(WebhookVersion::date(2016, 7, 19).describe(), "2016-07-19");
    }
}
