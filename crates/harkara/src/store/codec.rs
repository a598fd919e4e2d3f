//! How our types are written in columns: closed enums as words, moments as microseconds, ids of 128
//! bits as their bytes.
//!
//! Only `store/` sees what is written. A word that is not ours is an error, never a default.

use harkara_core::access::Role;
use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::endpoint::OrderMode;
use harkara_core::id::{self, DeliveryId, EventId};
use harkara_core::replay::JobState;
use harkara_core::time::Timestamp;

use super::error::{DbError, DbErrorKind};
use super::people::LinkKind;
use super::rows::{AttemptVerdict, Origin, RefKind};
use super::sql::Row;

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

impl Word for Role {
    fn word(self) -> &'static str {
        self.as_str()
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::named(word)
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
    LinkKind { First = "first", Invitation = "invitation", Reset = "reset" }
}

#[derive(Debug, thiserror::Error)]
#[error("the word {0:?} is not one that this program writes")]
struct UnknownWord(String);

/// What stands before the 32 hexadecimal digits of an id.
pub(super) mod prefix {
    pub(in crate::store) const DELIVERY: &str = "dlv_";
    pub(in crate::store) const EVENT: &str = "evt_V2_";
    pub(in crate::store) const ORDER: &str = "ordeh_";
    /// A hash has nothing before its digits.
    pub(in crate::store) const HASH: &str = "";
}

/// Before the bytes of an id. No id that a caller chose begins with it, for those are visible text.
const PACKED: u8 = 0;

/// An id that is hexadecimal behind its prefix in half the room; any other as it is. Those that begin
/// with the time are in the order of their text.
pub(super) fn pack_id(prefix: &str, id: &str) -> Vec<u8> {
    let digits = id.strip_prefix(prefix).filter(|digits| digits.len() >= 32);
    let packed = digits.and_then(packed);
    packed.unwrap_or_else(|| id.as_bytes().to_vec())
}

fn packed(digits: &str) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(1 + digits.len().div_ceil(2));
    packed.push(PACKED);
    for pair in digits.as_bytes().chunks(2) {
        match pair {
            [high, low] => packed.push(nibble(*high)? << 4 | nibble(*low)?),
            _ => return None,
        }
    }
    Some(packed)
}

/// The value of a digit that [`id::hex`] writes.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The id that [`pack_id`] was given.
pub(super) fn unpack_id(prefix: &str, stored: &[u8]) -> String {
    match stored {
        [PACKED, bytes @ ..] => format!("{prefix}{}", id::hex(bytes)),
        text => String::from_utf8_lossy(text).into_owned(),
    }
}

/// Reading a column as one of our types.
pub(super) trait Columns {
    fn id(&self, column: &str, prefix: &str) -> Result<String, DbError>;
    fn id_opt(&self, column: &str, prefix: &str) -> Result<Option<String>, DbError>;
    fn event_id(&self, column: &str) -> Result<EventId, DbError>;
    fn delivery_id(&self, column: &str) -> Result<DeliveryId, DbError>;
    fn word<W: Word>(&self, column: &str) -> Result<W, DbError>;
    fn at(&self, column: &str) -> Result<Timestamp, DbError>;
    fn at_opt(&self, column: &str) -> Result<Option<Timestamp>, DbError>;
    fn span(&self, column: &str) -> Result<Option<u64>, DbError>;
}

impl Columns for Row<'_> {
    fn id(&self, column: &str, prefix: &str) -> Result<String, DbError> {
        let stored: Vec<u8> = self.get(column)?;
        Ok(unpack_id(prefix, &stored))
    }

    fn id_opt(&self, column: &str, prefix: &str) -> Result<Option<String>, DbError> {
        let stored: Option<Vec<u8>> = self.get(column)?;
        Ok(stored.map(|stored| unpack_id(prefix, &stored)))
    }

    fn event_id(&self, column: &str) -> Result<EventId, DbError> {
        self.id(column, prefix::EVENT).map(EventId::new)
    }

    fn delivery_id(&self, column: &str) -> Result<DeliveryId, DbError> {
        self.id(column, prefix::DELIVERY).map(DeliveryId::new)
    }

    fn word<W: Word>(&self, column: &str) -> Result<W, DbError> {
        let text: String = self.get(column)?;
        match W::from_word(&text) {
            Some(value) => Ok(value),
            None => Err(DbError::caused(DbErrorKind::Corrupt, UnknownWord(text))),
        }
    }

    fn at(&self, column: &str) -> Result<Timestamp, DbError> {
        self.get(column).map(Timestamp::from_micros)
    }

    fn at_opt(&self, column: &str) -> Result<Option<Timestamp>, DbError> {
        let micros: Option<i64> = self.get(column)?;
        Ok(micros.map(Timestamp::from_micros))
    }

    fn span(&self, column: &str) -> Result<Option<u64>, DbError> {
        let us: Option<i64> = self.get(column)?;
        Ok(us.and_then(|us| u64::try_from(us).ok()))
    }
}

/// How a length of time that may be missing is bound.
pub(super) fn span(us: Option<u64>) -> Option<i64> {
    us.map(|us| i64::try_from(us).unwrap_or(i64::MAX))
}

/// How a moment that may be missing is bound.
pub(super) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        let digits = "01a20d3b431c64f79b430b6d58a42b99";
        let table = [
            (format!("dlv_{digits}"), 17),
            (format!("dlv_{digits}{digits}"), 33),
            (format!("dlv_{}", digits.to_uppercase()), 36),
            (format!("dlv_{digits}0"), 37),
            (format!("evt_V2_{digits}"), 39),
            ("dlv_".to_owned(), 4),
            ("r-7".to_owned(), 3),
            (String::new(), 0),
        ];
        for (id, size) in table {
            let stored = pack_id(prefix::DELIVERY, &id);
            assert_eq!(stored.len(), size, "{id}");
            assert_eq!(unpack_id(prefix::DELIVERY, &stored), id);
        }
    }
}
