//! Fields of foreign JSON: absent, null, a value, or something else.
//!
//! Reading a field never fails and writing it gives back what was read, so that one odd value
//! cannot make a merchant lose an event. The contents in `content/` are made of fields; what a
//! field means is said there.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::amount::Amount;
use crate::schema::Schema;

/// One field of a content.
///
/// Absent, null and the empty text are three different things on this wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there, and holds `null`.
    Null,
    /// A value, written the way we write it.
    Value(T),
    /// Anything else, kept as it came: a masked value, or a number inside quotes.
    Other {
        /// The JSON that was read, which is also what is written.
        json: Json,
        /// The value, where the JSON is merely an unusual spelling of one.
        value: Option<T>,
    },
}

impl<T> Field<T> {
    /// The value, however it was spelled.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Other { value, .. } => value.as_ref(),
            Self::Absent | Self::Null => None,
        }
    }

    /// Whether the key is missing, which is not the same as `null`.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// A field that is always there: `None` is written as `null`.
    pub fn nullable(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Value)
    }

    /// A field that is only there when it has something to say: `None` leaves the key out.
    pub fn optional(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }
}

impl<T: Wire> Field<T> {
    /// Leaves out the key if it is null, and does the same inside the value.
    pub(crate) fn drop_nulls(&mut self) {
        match self {
            Self::Null => *self = Self::Absent,
            Self::Value(value) => value.drop_nulls(),
            Self::Absent | Self::Other { .. } => {}
        }
    }

    pub(crate) fn read(json: &RawValue) -> Self {
        if json.get() == "null" {
            return Self::Null;
        }
        match T::read(json.get()) {
            Some(value) if value.is_written_as(json.get()) => Self::Value(value),
            value => Self::Other {
                json: Json::from(json),
                value,
            },
        }
    }
}

impl<T> From<T> for Field<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Field<String> {
    fn from(text: &str) -> Self {
        Self::Value(text.to_owned())
    }
}

impl<T: Serialize> Serialize for Field<T> {
    /// An absent field has to be skipped by whoever holds it; alone it can only be `null`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_unit(),
            Self::Value(value) => value.serialize(serializer),
            Self::Other { json, .. } => json.serialize(serializer),
        }
    }
}

impl<'de, T: Wire> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self::read(&json))
    }
}

/// JSON that is nobody's business here, kept byte for byte.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Keeps a JSON text, after seeing that it is one.
    ///
    /// # Errors
    /// Tells where the text stops being JSON.
    pub fn parse(text: impl Into<String>) -> serde_json::Result<Self> {
        RawValue::from_string(text.into()).map(Self)
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<&RawValue> for Json {
    fn from(json: &RawValue) -> Self {
        Self(json.to_owned())
    }
}

/// The same bytes; `1` and `1.0` differ.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type that a field can hold; it cannot be named outside, so the list of them is closed.
pub trait Wire: Sized {
    /// Reads one JSON value, leniently.
    fn read(json: &str) -> Option<Self>;

    /// Whether writing the value gives this JSON again.
    fn is_written_as(&self, _json: &str) -> bool {
        true
    }

    /// Leaves out every key inside that is null.
    fn drop_nulls(&mut self) {}

    /// The JSON Schema of the value, or null.
    fn schema() -> Schema;
}

impl Wire for String {
    fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn schema() -> Schema {
        Schema::nullable("string")
    }
}

impl Wire for Json {
    fn read(json: &str) -> Option<Self> {
        Self::parse(json).ok()
    }

    fn schema() -> Schema {
        Schema::default()
    }
}

impl Wire for Amount {
    fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn is_written_as(&self, json: &str) -> bool {
        self.to_string() == json
    }

    fn schema() -> Schema {
        Schema::nullable("number")
    }
}

impl Wire for i64 {
    fn read(json: &str) -> Option<Self> {
        unquoted(json)?.parse().ok()
    }

    fn is_written_as(&self, json: &str) -> bool {
        self.to_string() == json
    }

    fn schema() -> Schema {
        Schema::nullable("integer")
    }
}

impl Wire for bool {
    fn read(json: &str) -> Option<Self> {
        unquoted(json)?.parse().ok()
    }

    fn is_written_as(&self, json: &str) -> bool {
        self.to_string() == json
    }

    fn schema() -> Schema {
        Schema::nullable("boolean")
    }
}

impl<T: Wire + for<'de> Deserialize<'de>> Wire for Vec<T> {
    fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn drop_nulls(&mut self) {
        self.iter_mut().for_each(T::drop_nulls);
    }

    fn schema() -> Schema {
        Schema::list(T::schema())
    }
}

/// The text inside quotes, or the JSON itself where there are none.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    if json.starts_with('"') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Sample<T: Wire> {
        #[serde(skip_serializing_if = "Field::is_absent")]
        field: Field<T>,
    }

    /// Reads the field as a `T`, shows what it is taken for, and sees that it is written back.
    fn read<T>(json: &str) -> String
    where
        T: Wire + Default + fmt::Debug + Serialize + for<'de> Deserialize<'de>,
    {
        let sample: Sample<T> = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&sample).unwrap(), json);
        format!("{json:<22} {:?}\n", sample.field)
    }

    #[test]
    fn a_field_keeps_what_it_read_and_knows_what_it_means() {
        let amounts: String = [
            "{}",
            r#"{"field":null}"#,
            r#"{"field":8}"#,
            r#"{"field":8.5}"#,
            r#"{"field":8.0}"#,
            r#"{"field":"1551"}"#,
            r#"{"field":"FILTERED"}"#,
            r#"{"field":-8}"#,
            r#"{"field":[ 8 ]}"#,
        ]
        .map(read::<Amount>)
        .concat();
        insta::assert_snapshot!(amounts, @r#"
        {}                     Absent
        {"field":null}         Null
        {"field":8}            Value(Amount(800))
        {"field":8.5}          Value(Amount(850))
        {"field":8.0}          Other { json: 8.0, value: Some(Amount(800)) }
        {"field":"1551"}       Other { json: "1551", value: Some(Amount(155100)) }
        {"field":"FILTERED"}   Other { json: "FILTERED", value: None }
        {"field":-8}           Other { json: -8, value: None }
        {"field":[ 8 ]}        Other { json: [ 8 ], value: None }
        "#);

        let others = [
            read::<i64>(r#"{"field":26}"#),
            read::<i64>(r#"{"field":"26"}"#),
            read::<i64>(r#"{"field":2.6}"#),
            read::<bool>(r#"{"field":"true"}"#),
            read::<bool>(r#"{"field":"yes"}"#),
            read::<String>(r#"{"field":""}"#),
            read::<String>(r#"{"field":5}"#),
        ];
        insta::assert_snapshot!(others.concat(), @r#"
        {"field":26}           Value(26)
        {"field":"26"}         Other { json: "26", value: Some(26) }
        {"field":2.6}          Other { json: 2.6, value: None }
        {"field":"true"}       Other { json: "true", value: Some(true) }
        {"field":"yes"}        Other { json: "yes", value: None }
        {"field":""}           Value("")
        {"field":5}            Other { json: 5, value: None }
        "#);
    }

    #[test]
    fn none_is_null_or_absent_as_the_writer_says() {
        assert_eq!(Field::<i64>::nullable(None), Field::Null);
        assert_eq!(Field::<i64>::optional(None), Field::Absent);
        assert_eq!(Field::nullable(Some(1)), Field::optional(Some(1)));
        assert_eq!(Field::from(1), Field::Value(1));
    }
}
