//! Amounts of money: whole hundredths of the currency's unit.
//!
//! On the wire an amount is a JSON number, `1` or `1.5`, with at most two decimals and never an
//! exponent. No arithmetic on floating-point numbers happens here: a number that a parser hands
//! over as a float is first turned into its shortest decimal text. Contents and the server's
//! ledger both use it; currencies are somebody else's business.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{self, Serialize, Serializer};
use serde_json::value::RawValue;

/// A sum of money in minor units, that is hundredths of the currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// The largest amount that can be read: a hundred billion units, far inside what a float holds
/// exactly with two decimals.
const LARGEST_MINOR: i64 = 10_000_000_000_000;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// There is nothing to read.
    #[error("read an amount from nothing: write a decimal number such as 1 or 1.50")]
    Empty,
    /// Something else than digits with one point between them.
    #[error("read an amount: it is not a plain decimal number such as 1 or 1.50")]
    NotANumber,
    /// Finer than a hundredth of the unit.
    #[error("read an amount: it has more than two decimals")]
    TooManyDecimals,
    /// Below zero.
    #[error("read an amount: it has a minus sign, and amounts are never negative")]
    Negative,
    /// Above a hundred billion units.
    #[error("read an amount: it is larger than 100000000000")]
    TooLarge,
}

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// An amount from minor units: `from_minor(150)` is 1.5.
    pub const fn from_minor(minor: i64) -> Self {
        Self(minor)
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.0
    }

    /// The sum, unless it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(minor) => Some(Self(minor)),
            None => None,
        }
    }

    /// What is left after taking `other` away, unless that is less than nothing.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(minor) if minor >= 0 => Some(Self(minor)),
            Some(_) | None => None,
        }
    }

    /// Reads decimal text: digits, and after a point at most two more.
    ///
    /// # Errors
    /// Says which of the rules the text breaks.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() {
            return Err(AmountError::Empty);
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, decimals) = match digits.split_once('.') {
            Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
            Some(_) => return Err(AmountError::NotANumber),
            None => (digits, ""),
        };
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(decimals) {
            return Err(AmountError::NotANumber);
        }
        if digits.len() < text.len() {
            return Err(AmountError::Negative);
        }
        if decimals.len() > 2 {
            return Err(AmountError::TooManyDecimals);
        }
        let minor: i64 = format!("{whole}{decimals:0<2}")
            .parse()
            .map_err(|_| AmountError::TooLarge)?;
        if minor > LARGEST_MINOR {
            return Err(AmountError::TooLarge);
        }
        Ok(Self(minor))
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::parse(text)
    }
}

/// Without zeros at the end: `1`, `1.5`, `1.05`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, hundredths) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        let text = match (hundredths, hundredths % 10) {
            (0, _) => format!("{sign}{units}"),
            (_, 0) => format!("{sign}{units}.{}", hundredths / 10),
            (_, _) => format!("{sign}{units}.{hundredths:02}"),
        };
        f.pad(&text)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 100 == 0 {
            return serializer.serialize_i64(self.0 / 100);
        }
        RawValue::from_string(self.to_string())
            .map_err(ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount with at most two decimals")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        Amount::parse(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    /// A float's shortest text has the digits that were written, as long as there are at most 15.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_read() {
        let read = |text: &str| match Amount::parse(text) {
            Ok(amount) => format!("{text:>16} | {} minor, shown as {amount}\n", amount.minor()),
            Err(error) => format!("{text:>16} | {error:?}\n"),
        };
        let table: String = [
            "1",
            "1.5",
            "1.05",
            "1.50",
            "0",
            "0.01",
            "007",
            "100000000000",
            "100000000000.01",
            "99999999999999999999",
            "1.005",
            "1.000",
            "-1",
            "-0.5",
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "1e2",
            " 1",
            "1,50",
            "1.2.3",
            "١",
        ]
        .into_iter()
        .map(read)
        .collect();
        insta::assert_snapshot!(table, @r"
                       1 | 100 minor, shown as 1
                     1.5 | 150 minor, shown as 1.5
                    1.05 | 105 minor, shown as 1.05
                    1.50 | 150 minor, shown as 1.5
                       0 | 0 minor, shown as 0
                    0.01 | 1 minor, shown as 0.01
                     007 | 700 minor, shown as 7
            100000000000 | 10000000000000 minor, shown as 100000000000
         100000000000.01 | TooLarge
        99999999999999999999 | TooLarge
                   1.005 | TooManyDecimals
                   1.000 | TooManyDecimals
                      -1 | Negative
                    -0.5 | Negative
                         | Empty
                       - | NotANumber
                       . | NotANumber
                      1. | NotANumber
                      .5 | NotANumber
                      +1 | NotANumber
                     1e2 | NotANumber
                       1 | NotANumber
                    1,50 | NotANumber
                   1.2.3 | NotANumber
                       ١ | NotANumber
        ");
    }

    #[test]
    fn json_carries_the_exact_digits() {
        let written = |minor| serde_json::to_string(&Amount::from_minor(minor)).unwrap();
        assert_eq!(written(100), "1");
        assert_eq!(written(150), "1.5");
        assert_eq!(written(105), "1.05");
        assert_eq!(written(999_999_999_999_999), "9999999999999.99");

        let read = |json| serde_json::from_str::<Amount>(json).map(Amount::minor).ok();
        assert_eq!(read("1551.35"), Some(155_135));
        assert_eq!(read(r#""1551""#), Some(155_100));
        assert_eq!(read("1.0"), Some(100));
        assert_eq!(read("1e2"), Some(10_000));
        assert_eq!(read("1.005"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("1e300"), None);
        assert_eq!(read("null"), None);
    }

    #[test]
    fn subtraction_stops_at_zero() {
        let (one, two) = (Amount::from_minor(100), Amount::from_minor(200));
        assert_eq!(two.checked_sub(one), Some(one));
        assert_eq!(one.checked_sub(two), None);
        assert_eq!(Amount::from_minor(i64::MAX).checked_add(one), None);
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Inner {
        amount: Amount,
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text_its_json_and_a_flattened_struct(
            minor in 0..=LARGEST_MINOR,
        ) {
            let amount = Amount::from_minor(minor);
            prop_assert_eq!(Amount::parse(&amount.to_string()), Ok(amount));

            let outer = Outer { inner: Inner { amount } };
            let json = serde_json::to_string(&outer).unwrap();
            prop_assert_eq!(&json, &format!(r#"{{"amount":{amount}}}"#));
            prop_assert_eq!(serde_json::from_str::<Outer>(&json).unwrap(), outer);
        }
    }
}
