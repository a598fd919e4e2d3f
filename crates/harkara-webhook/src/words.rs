//! Closed lists of upper-case words, such as statuses and event names.
//!
//! `words!` writes the enum, its text and its serde form from one list, so that a word is spelled
//! in one place. `status.rs` and `catalog.rs` use it; what a word means is never decided here.

/// The text is none of the words that could stand in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read {what} {given:?}: expected one of {expected}")]
pub struct UnknownWord {
    /// The kind of word that was expected, such as `event name`.
    pub what: &'static str,
    /// The text that was given.
    pub given: String,
    /// The words that would have done, with commas between them.
    pub expected: String,
}

macro_rules! words {
    (
        $(#[$doc:meta])*
        $what:literal $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Each of them once, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err($crate::words::UnknownWord {
                        what: $what,
                        given: text.to_owned(),
                        expected: [$($text),*].join(", "),
                    }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use words;
