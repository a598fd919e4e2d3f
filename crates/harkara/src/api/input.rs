//! What a merchant's client sent, whether as a form or as JSON: dotted names and their texts.
//!
//! The public SDKs send forms with dotted keys (`metadata.webhook_url`), newer clients JSON with
//! nested objects; both read the same here. Parsing into final types starts here and ends in the
//! handlers; nothing is stored unless all of it succeeded.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use harkara_core::json::Json;
use harkara_core::money::{Amount, Currency};
use harkara_core::time::Timestamp;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::{Api, body_bytes, json};
use crate::error::ApiError;

/// No parameter has a longer name. A dotted name repeats the keys that it lies under, so without a
/// limit one long key above many short ones would take thousands of times the body's memory.
const NAME_MAX_BYTES: usize = 256;

/// Several times what the largest order has, metadata included.
const PARAMETERS_MAX: usize = 1_000;

/// JSON in a form's field may nest as deeply as a body may by default.
const FIELD_DEPTH: usize = 64;

const KEY_MAX: usize = 255;

/// The parameters of a request: query, then form or JSON body.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    /// Texts by dotted name; numbers and booleans as they are written.
    texts: BTreeMap<String, String>,
    /// JSON objects and lists by dotted name, byte for byte; parts of the body, not copies.
    raws: BTreeMap<String, Bytes>,
}

impl FromRequest<Api> for Input {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let mut input = Self::default();
        if let Some(query) = request.uri().query() {
            input.add_form(query)?;
        }
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("json"));
        let bytes = body_bytes(request, api.config.api.body_limit_bytes).await?;
        if bytes.is_empty() {
            return Ok(input);
        }
        if is_json {
            json::check(&bytes, api.config.api.json_depth)?;
            input.add_json(&bytes)?;
        } else {
            input.add_form(std::str::from_utf8(&bytes).map_err(|_| not_utf8())?)?;
        }
        Ok(input)
    }
}

fn not_utf8() -> ApiError {
    ApiError::invalid("invalid_encoding", "the body is not UTF-8")
}

impl Input {
    /// Reads `a=1&b.c=2`; a name that stands twice is refused, for nobody can say which one counts.
    pub(super) fn add_form(&mut self, form: &str) -> Result<(), ApiError> {
        for pair in form.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = self.new_name("", &decode(name)?)?;
            self.texts.insert(name, decode(value)?);
        }
        Ok(())
    }

    /// Reads a JSON object that `json::check` let pass.
    pub(super) fn add_json(&mut self, body: &Bytes) -> Result<(), ApiError> {
        self.add_object("", body, body)
    }

    /// Reads `object`, which lies within `body` under `prefix`.
    fn add_object(&mut self, prefix: &str, object: &[u8], body: &Bytes) -> Result<(), ApiError> {
        let not_an_object = |_| ApiError::invalid("invalid_json", "the body must be a JSON object");
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_slice(object).map_err(not_an_object)?;
        for (key, value) in members {
            let value = value.get();
            if value == "null" {
                continue;
            }
            let name = self.new_name(prefix, &key)?;
            match value.as_bytes().first() {
                Some(b'"') => {
                    let text = serde_json::from_str(value).map_err(not_an_object)?;
                    self.texts.insert(name, text);
                }
                Some(first @ (b'{' | b'[')) => {
                    let part = body.slice_ref(value.as_bytes());
                    self.raws.insert(name.clone(), part);
                    if *first == b'{' {
                        self.add_object(&name, value.as_bytes(), body)?;
                    }
                }
                _ => {
                    self.texts.insert(name, value.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The name of one more parameter, refused before it takes any memory.
    fn new_name(&self, prefix: &str, key: &str) -> Result<String, ApiError> {
        let dot = usize::from(!prefix.is_empty());
        if prefix.len() + dot + key.len() > NAME_MAX_BYTES {
            let message = format!("the name of a parameter is longer than {NAME_MAX_BYTES} bytes");
            return Err(ApiError::invalid("invalid_request", message));
        }
        if self.texts.len() + self.raws.len() >= PARAMETERS_MAX {
            let message = format!("there are more than {PARAMETERS_MAX} parameters");
            return Err(ApiError::invalid("invalid_request", message));
        }
        let name = match prefix {
            "" => key.to_owned(),
            prefix => format!("{prefix}.{key}"),
        };
        if self.texts.contains_key(&name) || self.raws.contains_key(&name) {
            return Err(ApiError::field(&name, "is given twice"));
        }
        Ok(name)
    }

    /// The text of a parameter; an empty one counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.texts
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// The text of a parameter, empty ones included.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The text of a parameter that has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::missing(name))
    }

    /// A text of at most `max` characters.
    pub(super) fn short(&self, name: &str, max: usize) -> Result<Option<String>, ApiError> {
        match self.text(name) {
            Some(text) if text.chars().count() > max => Err(ApiError::field(
                name,
                format!("is longer than {max} characters"),
            )),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// An amount of money: a number, or text with one, with at most two decimals.
    pub(super) fn amount(&self, name: &str) -> Result<Option<Amount>, ApiError> {
        let parse =
            |text| Amount::parse(text).map_err(|error| ApiError::field(name, error.to_string()));
        self.text(name).map(parse).transpose()
    }

    /// A currency; INR when nobody says.
    pub(super) fn currency(&self, name: &str) -> Result<Currency, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(Currency::INR);
        };
        Currency::parse(text)
            .ok_or_else(|| ApiError::field(name, format!("'{text}' is no currency")))
    }

    /// `true` or `false`, in any case.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::field(name, "is neither true nor false")),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| ApiError::field(name, format!("'{text}' is no whole number")))
        };
        self.text(name).map(parse).transpose()
    }

    /// A moment in seconds since the epoch.
    pub(super) fn epoch_seconds(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        Ok(self.integer(name)?.map(Timestamp::from_seconds))
    }

    /// One of a closed list of words.
    pub(super) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|error: T::Err| ApiError::field(name, error.to_string()))
        };
        self.text(name).map(parse).transpose()
    }

    /// One of these words.
    pub(super) fn one_of(&self, name: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
        match self.text(name) {
            Some(text) if !words.contains(&text) => Err(ApiError::field(
                name,
                format!("'{text}' is none of {}", words.join(", ")),
            )),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// The object under `name`: nested and byte for byte, or gathered from dotted names.
    pub(super) fn object(&self, name: &str) -> Result<Option<Json>, ApiError> {
        let malformed = |_| ApiError::field(name, "is not a JSON object");
        if let Some(raw) = self.raws.get(name) {
            let text = std::str::from_utf8(raw).map_err(|_| not_utf8())?;
            return Json::parse(text).map(Some).map_err(malformed);
        }
        if let Some(text) = self.text(name) {
            // Some clients put JSON into a form field.
            json::check(text.as_bytes(), FIELD_DEPTH)
                .map_err(|error| ApiError::field(name, error.message))?;
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
                .map_err(malformed)?;
            return Json::parse(text).map(Some).map_err(malformed);
        }
        let prefix = format!("{name}.");
        let gathered: serde_json::Map<String, serde_json::Value> = self
            .texts
            .iter()
            .filter_map(|(key, text)| {
                Some((key.strip_prefix(&prefix)?.to_owned(), text.as_str().into()))
            })
            .collect();
        if gathered.is_empty() {
            return Ok(None);
        }
        Ok(Some(harkara_core::json::from_value(&gathered.into())))
    }

    /// Everything whose name begins with one of these, as name and text.
    pub(super) fn starting_with(&self, prefixes: &[&str]) -> Vec<(String, String)> {
        let starts = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let found = self.texts.iter().filter(|(name, _)| starts(name));
        found
            .map(|(name, text)| (name.clone(), text.clone()))
            .collect()
    }

    /// Takes from `other` the texts whose names begin with one of these and that are not given here.
    pub(super) fn fill(&mut self, other: &Self, prefixes: &[&str]) {
        for (name, text) in other.starting_with(prefixes) {
            self.texts.entry(name).or_insert(text);
        }
    }

    /// The parameters under `prefix.`, as if they had been given without it.
    #[must_use]
    pub(super) fn under(&self, prefix: &str) -> Self {
        let prefix = format!("{prefix}.");
        Self {
            texts: strip(&self.texts, &prefix),
            raws: strip(&self.raws, &prefix),
        }
    }
}

fn strip<T: Clone>(map: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    map.iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

/// The `Idempotency-Key` of a request, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| is_visible(text, KEY_MAX));
    text.map(Some).ok_or_else(|| {
        let reason = format!("must be 1 to {KEY_MAX} visible ASCII characters");
        ApiError::field("Idempotency-Key", reason)
    })
}

/// Whether text can stand in a header: visible ASCII, and not too much of it.
pub(super) fn is_visible(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn decode(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text)
        .decode_utf8()
        .map_err(|_| not_utf8())?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<Input, ApiError> {
        let mut input = Input::default();
        input.add_form(text).map(|()| input)
    }

    fn json(text: &str) -> Result<Input, ApiError> {
        let mut input = Input::default();
        input
            .add_json(&Bytes::from(text.to_owned()))
            .map(|()| input)
    }

    #[test]
    fn forms_and_json_read_the_same() {
        let form = form("amount=1.5&metadata.webhook_url=https%3A%2F%2Fa.example%2Fb+c").unwrap();
        let json = json(r#"{"amount":1.5,"metadata":{"webhook_url":"https://a.example/b c"}}"#);
        let json = json.unwrap();
        for input in [&form, &json] {
            assert_eq!(
                input.amount("amount").unwrap(),
                Some(Amount::from_minor(150))
            );
            assert_eq!(
                input.text("metadata.webhook_url"),
                Some("https://a.example/b c")
            );
        }
        let metadata = form.object("metadata").unwrap().unwrap();
        assert_eq!(
            metadata.as_str(),
            r#"{"webhook_url":"https://a.example/b c"}"#
        );
    }

    #[test]
    fn nested_json_is_kept_byte_for_byte() {
        let input = json(r#"{"metadata":{ "b":1.0,"a" : [1e3] }}"#).unwrap();
        let metadata = input.object("metadata").unwrap().unwrap();
        assert_eq!(metadata.as_str(), r#"{ "b":1.0,"a" : [1e3] }"#);
    }

    #[test]
    fn what_a_form_may_not_hold() {
        assert!(form("a=%ff").is_err());
        assert_eq!(form("a=1&a=2").unwrap_err().message, "a: is given twice");
        let input = form("amount=1.234&flag=yes&n=1.5&currency=XXX").unwrap();
        assert!(input.amount("amount").is_err());
        assert!(input.flag("flag").is_err());
        assert!(input.integer("n").is_err());
        assert!(input.currency("currency").is_err());
    }

    /// A key of 128 KiB above many short ones would be repeated in front of each of them.
    #[test]
    fn names_cannot_fill_the_memory() {
        let long = "k".repeat(128 << 10);
        let short = "\"a\":1,".repeat(20_000);
        let wide: String = (0..=PARAMETERS_MAX).map(|n| format!("p{n}=1&")).collect();
        let wide_json: String = (0..PARAMETERS_MAX)
            .map(|n| format!("\"p{n}\":1,"))
            .collect();
        let nested = format!("{}1{}", "{\"abcdefgh\":".repeat(60), "}".repeat(60));
        let mut input = Input::default();
        let mut page = String::new();
        let mut check =
            |what: &str, error: ApiError| page += &format!("{what}: {}\n", error.message);
        let body = format!("{{\"{long}\":{{{short}\"z\":1}}}}");
        check(
            "a long key above",
            input.add_json(&body.into()).unwrap_err(),
        );
        check(
            "a long name",
            input.add_form(&format!("{long}=1")).unwrap_err(),
        );
        assert!(
            input.texts.is_empty() && input.raws.is_empty(),
            "nothing of it is kept"
        );
        check("keys in each other", json(&nested).unwrap_err());
        check("a wide form", form(&wide).unwrap_err());
        let body = format!("{{\"q\":{{{wide_json}\"z\":1}}}}");
        check("a wide object", json(&body).unwrap_err());
        insta::assert_snapshot!(page, @r"
        a long key above: the name of a parameter is longer than 256 bytes
        a long name: the name of a parameter is longer than 256 bytes
        keys in each other: the name of a parameter is longer than 256 bytes
        a wide form: there are more than 1000 parameters
        a wide object: there are more than 1000 parameters
        ");
    }

    #[test]
    fn what_is_given_twice_in_two_ways() {
        let both = r#"{"metadata":{"webhook_url":"a"},"metadata.webhook_url":"b"}"#;
        let twice = json(both).unwrap_err().message;
        assert_eq!(twice, "metadata.webhook_url: is given twice");
        let mut input = form("amount=1").unwrap();
        let twice = input.add_json(&Bytes::from_static(b"{\"amount\":2}"));
        assert_eq!(twice.unwrap_err().message, "amount: is given twice");
        let twice = form("metadata=%7B%22a%22%3A1%2C%22a%22%3A2%7D").unwrap();
        assert!(twice.object("metadata").is_err());
    }
}
