//! Whether foreign JSON may come in: one walk that refuses what would surprise somebody later.
//!
//! Depth, repeated keys, numbers beyond what a number can be, text that is not UTF-8. What passes is
//! kept as text; a walk may hand back the names and texts of the outer levels, so that nobody has to
//! read the same bytes again for them. Every JSON body is walked over before it is believed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// How many members of an object are compared one by one: up to about here that is faster than
/// hashing their names, and few objects have more.
const FEW: usize = 64;
/// Members that there is room for at first.
const ROOM: usize = 16;

/// The text of JSON; refuses what is malformed, nests deeper than `depth`, or repeats a key in an
/// object.
pub(super) fn check(bytes: &[u8], depth: usize) -> Result<&str, ApiError> {
    let strict = Strict { depth, kept: 0 };
    // Asked once, of all of it: serde_json would ask for each string, which takes longer.
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => strict
            .walk(serde_json::Deserializer::from_str(text))
            .map(|_| text),
        // It says where.
        Err(error) => strict
            .walk(serde_json::Deserializer::from_slice(bytes))
            .and_then(|_| Err(Error::custom(error))),
    };
    read.map_err(|error| {
        ApiError::invalid("invalid_json", format!("the body is no good JSON: {error}"))
    })
}

/// Checks a text as [`check`] does and says what is in it: with `levels` of 1 only what it is itself,
/// with one more the members of an object as well, and so on inwards.
pub(super) fn look(text: &str, depth: usize, levels: u8) -> serde_json::Result<Seen<'_>> {
    let strict = Strict {
        depth,
        kept: levels,
    };
    strict.walk(serde_json::Deserializer::from_str(text))
}

/// What a look has kept of a value.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Null,
    Text(Cow<'a, str>),
    Object(Members<'a>),
    /// Anything else, or an object further in than was looked.
    Other,
}

/// The members of an object, none of which has the name of another.
pub(super) struct Members<'a> {
    all: Vec<(Cow<'a, str>, Seen<'a>)>,
    /// The names of those past the first few, hashed with a secret, so that nobody can choose names
    /// that make it slow.
    more: HashSet<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    fn new() -> Self {
        Self {
            all: Vec::with_capacity(ROOM),
            more: HashSet::new(),
        }
    }

    /// The value under a name.
    pub(super) fn get(&self, name: &str) -> Option<&Seen<'a>> {
        let found = self.all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// Whether a name is there already; if not, it will be.
    fn repeats(&mut self, name: Cow<'a, str>) -> bool {
        let mut few = self.all.iter().take(FEW);
        few.any(|(known, _)| *known == name) || self.all.len() >= FEW && !self.more.insert(name)
    }
}

impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.all.iter().map(|(name, value)| (name, value));
        f.debug_map().entries(members).finish()
    }
}

/// The members of an object in their order, each with its text as it came. Names may repeat.
pub(crate) struct Listed<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Listed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Listed<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Listed(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// A member's name: a piece of the body, unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a value.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
    /// The levels of which something is kept: 0 for nothing.
    kept: u8,
}

impl Strict {
    fn walk<'a, R: Read<'a>>(
        self,
        mut reader: serde_json::Deserializer<R>,
    ) -> serde_json::Result<Seen<'a>> {
        // Our own limit is lower than serde_json's and names itself in the message.
        let seen = self.deserialize(&mut reader)?;
        reader.end()?;
        Ok(seen)
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("it nests too deeply"))?;
        Ok(Self {
            depth,
            kept: self.kept.saturating_sub(1),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Seen<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Seen<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Seen<'de>, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Seen<'de>, E> {
        Ok(Seen::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seen<'de>, E> {
        Ok(match self.kept {
            0 => Seen::Other,
            _ => Seen::Text(Cow::Owned(text.to_owned())),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen<'de>, A::Error> {
        let item = Self {
            kept: 0,
            ..self.deeper()?
        };
        while items.next_element_seed(item)?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Seen<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut members = Members::new();
        while let Some(Key(name)) = entries.next_key::<Key<'de>>()? {
            if members.repeats(name.clone()) {
                return Err(A::Error::custom(format!(
                    "the key '{name}' stands twice in one object"
                )));
            }
            let value = entries.next_value_seed(inner)?;
            members.all.push((name, value));
        }
        Ok(match self.kept {
            0 | 1 => Seen::Other,
            _ => Seen::Object(members),
        })
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

    #[test]
    fn a_look_keeps_names_and_texts_of_the_outer_levels() {
        let text = r#"{"a":"x","b\n":"y\t","c":null,"d":7,"e":{"f":"z","g":{"h":"i"}},"j":["k"]}"#;
        let seen = |levels| format!("{:?}", look(text, 64, levels).unwrap());
        assert_eq!(seen(0), "Other");
        assert_eq!(seen(1), "Other");
        insta::assert_snapshot!(seen(2), @r#"Object({"a": Text("x"), "b\n": Text("y\t"), "c": Null, "d": Other, "e": Other, "j": Other})"#);
        insta::assert_snapshot!(seen(3), @r#"Object({"a": Text("x"), "b\n": Text("y\t"), "c": Null, "d": Other, "e": Object({"f": Text("z"), "g": Other}), "j": Other})"#);
        for bad in [r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[[[]]]}"#, "{} {}"] {
            assert!(look(bad, 3, 2).is_err(), "{bad}");
        }
    }
}
