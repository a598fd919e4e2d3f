//! How our types are written in columns: closed enums as words, moments as microseconds.
//!
//! Only `store/` sees these words. A word that is not ours is an error, never a default.

use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::endpoint::OrderMode;
use harkara_core::replay::JobState;
use harkara_core::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Result, Row};

use super::rows::{AttemptVerdict, Origin, RefKind};

/// An enum that is stored as text.
pub(super) trait Word: Sized {
    fn word(self) -> &'static str;
    fn from_word(word: &str) -> Option<Self>;
}

impl Word for DeliveryState {
    fn word(self) -> &'static str {
        self.as_str()
    }

    fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

impl Word for DeliveryKind {
    fn word(self) -> &'static str {
        self.as_str()
    }

    fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),* $(,)? })*) => {$(
        impl Word for $name {
            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

words! {
    OrderMode { Hold = "hold", Strict = "strict", None = "none" }
    JobState {
        Running = "running",
        Paused = "paused",
        Cancelled = "cancelled",
        Finished = "finished",
    }
    RefKind { TxnUuid = "txn_uuid", TxnId = "txn_id", Refund = "refund" }
    Origin { Own = "own", Foreign = "foreign" }
    AttemptVerdict { Delivered = "delivered", Retry = "retry", Exhausted = "exhausted" }
}

#[derive(Debug, thiserror::Error)]
#[error("the word {0:?} is not one that this program writes")]
struct UnknownWord(String);

/// Reading a column as one of our types.
pub(super) trait Columns {
    fn word<W: Word>(&self, column: &str) -> Result<W>;
    fn at(&self, column: &str) -> Result<Timestamp>;
    fn at_opt(&self, column: &str) -> Result<Option<Timestamp>>;
}

impl Columns for Row<'_> {
    fn word<W: Word>(&self, column: &str) -> Result<W> {
        let text: String = self.get(column)?;
        match W::from_word(&text) {
            Some(value) => Ok(value),
            None => Err(rusqlite::Error::FromSqlConversionFailure(
                self.as_ref().column_index(column)?,
                Type::Text,
                Box::new(UnknownWord(text)),
            )),
        }
    }

    fn at(&self, column: &str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_micros)
    }

    fn at_opt(&self, column: &str) -> Result<Option<Timestamp>> {
        let micros: Option<i64> = self.get(column)?;
        Ok(micros.map(Timestamp::from_micros))
    }
}

/// How a moment that may be missing is bound.
pub(super) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}
