//! Whether foreign JSON may come in: one pass that refuses what would surprise somebody later.
//!
//! Depth, repeated keys, numbers beyond what a number can be, text that is not UTF-8. What passes is
//! kept as text. Called on every JSON body before anything is taken from it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::error::ApiError;

/// Refuses JSON that is malformed, nests deeper than `depth`, or repeats a key in an object.
pub(super) fn check(bytes: &[u8], depth: usize) -> Result<(), ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // Our own limit is lower than serde_json's and names itself in the message.
    Strict { depth }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| {
            ApiError::invalid("invalid_json", format!("the body is no good JSON: {error}"))
        })
}

/// A member's name: a piece of the body, unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("it nests too deeply"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format!(
                    "the key '{key}' stands twice in one object"
                )));
            }
            seen.insert(key);
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_in() {
        let deep = "[".repeat(10_000);
        let rows: &[(&[u8], Option<&str>)] = &[
            (br#"{"a":{"b":[1,1.5,"x",null,true]}}"#, None),
            (br#"{"a":1,"a":2}"#, Some("the key 'a' stands twice")),
            (br#"{"a":{"b":1,"b":1}}"#, Some("the key 'b' stands twice")),
            (br#"{"a":1,"\u0061":2}"#, Some("the key 'a' stands twice")),
            (br#"{"a":1e400}"#, Some("number out of range")),
            (deep.as_bytes(), Some("it nests too deeply")),
            (b"{\"a\":\"\xff\"}", Some("invalid unicode")),
            (b"{\"a\":1", Some("EOF")),
            (b"{} {}", Some("trailing characters")),
            (b"", Some("EOF")),
        ];
        for (body, refused) in rows {
            let result = check(body, 64);
            match refused {
                None => assert!(result.is_ok(), "{body:?}"),
                Some(reason) => {
                    let message = result.unwrap_err().message;
                    assert!(message.contains(reason), "{message}");
                }
            }
        }
    }
}
