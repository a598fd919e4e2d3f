//! Names of things: one newtype per kind of id, and the hashes that ids are made of.
//!
//! No dice live here. An id is either chosen by a caller (`OrderId`) or a hash of what it names
//! (`EventId`), so the same transition can never be given two ids. Everyone uses these types.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

// Copies share their text: an id goes with its delivery from room to room, and so do many copies of it.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps text that is known to name such a thing.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The id as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A merchant, as the platform names it.
    MerchantId;
    /// An order, as its merchant names it.
    OrderId;
    /// A transaction as shown: `{merchant_id}-{order_id}-{n}`.
    TxnId;
    /// A transaction in URLs: 19 letters and digits, `moz…`.
    TxnUuid;
    /// A refund: the caller's `unique_request_id`.
    RefundId;
    /// A mandate: 22 letters and digits.
    MandateId;
    /// A pre-debit notification: the caller's `object_reference_id`.
    NotificationRef;
    /// An event: `evt_V2_` and 32 hex digits, or whatever a foreign ledger calls it.
    EventId;
    /// An endpoint: `ep_` and 16 letters and digits.
    EndpointId;
    /// A delivery: `dlv_` and 32 hex digits.
    DeliveryId;
    /// A replay job: `rpl_` and 32 hex digits.
    ReplayJobId;
}

impl MerchantId {
    /// What stands for the platform where a merchant could stand, as whose a key or a member is.
    pub fn platform() -> Self {
        Self(Arc::default())
    }

    /// Whether it stands for the platform.
    pub fn is_platform(&self) -> bool {
        self.0.is_empty()
    }
}

impl OrderId {
    /// Whether both name one order: its merchant may write it in upper or lower case.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

/// What a run of events is about; `sequence` counts, and order is kept, per subject.
///
/// Order and transaction contents belong to the order, mandate and notification contents to the
/// mandate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The order with this id.
    Order(OrderId),
    /// The mandate with this id.
    Mandate(MandateId),
}

impl Subject {
    /// The form that is stored and logged: `order/…` or `mandate/…`.
    ///
    /// Order ids are compared without case, so the key is in lower case.
    pub fn key(&self) -> String {
        match self {
            Self::Order(id) => format!("order/{}", id.as_str().to_lowercase()),
            Self::Mandate(id) => format!("mandate/{id}"),
        }
    }
}

/// Hashes parts so that no two lists of parts give the same input: each is preceded by its length.
pub fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The first eight bytes of [`digest`] as a number.
pub fn digest_u64(parts: &[&str]) -> u64 {
    let hash = digest(parts);
    u64::from_be_bytes(hash[..8].try_into().expect("eight of 32 bytes"))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// `length` letters and digits out of a hash; at most 42 of them carry its full strength.
pub fn base62(hash: &[u8; 32], length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = *hash;
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        // Long division of the 256-bit number by 62; the remainder is the next digit.
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("the remainder is below 62, so this fits");
            remainder = value % 62;
        }
        text.push(char::from(DIGITS[remainder as usize]));
    }
    text
}

/// 48 bits of time in milliseconds and 80 bits of hash, in hex: such ids sort by age, which keeps
/// the store's newest pages together (random keys double its writes).
pub fn time_ordered(now: Timestamp, parts: &[&str]) -> String {
    time_prefix(now) + &hex(&digest(parts)[..10])
}

/// What all [`time_ordered`] ids of one millisecond begin with.
pub fn time_prefix(now: Timestamp) -> String {
    let millis = u64::try_from(now.as_micros() / 1000)
        .unwrap_or(0)
        .to_be_bytes();
    hex(&millis[2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_ordered_ids_sort_by_age_and_repeat() {
        let older = time_ordered(Timestamp::from_micros(1_700_000_000_000_000), &["ms", "a"]);
        let newer = time_ordered(Timestamp::from_micros(1_700_000_000_001_000), &["ms", "a"]);
        assert!(older < newer);
        assert_eq!(older.len(), 32);
        let again = time_ordered(Timestamp::from_micros(1_700_000_000_000_000), &["ms", "a"]);
        assert_eq!(older, again);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }

    #[test]
    fn base62_has_the_asked_length_and_alphabet() {
        let text = base62(&digest(&["mandate"]), 22);
        assert_eq!(text.len(), 22);
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
