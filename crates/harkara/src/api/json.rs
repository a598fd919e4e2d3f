//! Whether foreign JSON may come in: one pass that refuses what would surprise somebody later.
//!
//! Depth, repeated keys, numbers beyond what a number can be, text that is not UTF-8. What passes is
//! kept as text. Called on every JSON body before anything is taken from it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;

use crate::error::ApiError;

/// How many members of an object are compared one by one: up to about here that is faster than
/// hashing their names, and few objects have more.
const FEW: usize = 64;

/// The text of JSON; refuses what is malformed, nests deeper than `depth`, or repeats a key in an
/// object.
pub(super) fn check(bytes: &[u8], depth: usize) -> Result<&str, ApiError> {
    // Asked once, of all of it: serde_json would ask for each string, which takes longer.
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => walk(serde_json::Deserializer::from_str(text), depth).map(|()| text),
        // It says where.
        Err(error) => walk(serde_json::Deserializer::from_slice(bytes), depth)
            .and_then(|()| Err(Error::custom(error))),
    };
    read.map_err(|error| {
        ApiError::invalid("invalid_json", format!("the body is no good JSON: {error}"))
    })
}

fn walk<'a, R: Read<'a>>(
    mut reader: serde_json::Deserializer<R>,
    depth: usize,
) -> serde_json::Result<()> {
    // Our own limit is lower than serde_json's and names itself in the message.
    Strict { depth }.deserialize(&mut reader)?;
    reader.end()
}

/// A member's name: a piece of the body, unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The names of an object's members.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    /// Hashed with a secret, so that nobody can choose names that make it slow.
    more: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// False if the name was there already.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() == FEW {
            return self.more.insert(name);
        }
        self.few.push(name);
        true
    }
}

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
        let mut names = Names::default();
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            if !names.insert(key.clone()) {
                return Err(A::Error::custom(format!(
                    "the key '{key}' stands twice in one object"
                )));
            }
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
        let wide = |last: &str| {
            let names = (0..2 * FEW).map(|n| format!("\"{n}\":0,"));
            format!("{{{}\"{last}\":0}}", names.collect::<String>())
        };
        let (wide, early, late) = (wide("last"), wide("3"), wide("100"));
        let rows: &[(&[u8], Option<&str>)] = &[
            (br#"{"a":{"b":[1,1.5,"x",null,true]}}"#, None),
            (br#"{"a":1,"a":2}"#, Some("the key 'a' stands twice")),
            (br#"{"a":{"b":1,"b":1}}"#, Some("the key 'b' stands twice")),
            (br#"{"a":1,"\u0061":2}"#, Some("the key 'a' stands twice")),
            (wide.as_bytes(), None),
            (early.as_bytes(), Some("the key '3' stands twice")),
            (late.as_bytes(), Some("the key '100' stands twice")),
            (br#"{"a":1e400}"#, Some("number out of range")),
            (deep.as_bytes(), Some("it nests too deeply")),
            (b"{\"a\":\"\xff\"}", Some("invalid unicode")),
            (b"\xff", Some("expected value")),
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
