//! What a merchant's client sent, whether as a form or as JSON: dotted names and their texts.
//!
//! The public SDKs send forms with dotted keys (`metadata.webhook_url`), newer clients JSON with
//! nested objects; both read the same here. Parsing into final types starts here and ends in the
//! handlers; nothing is stored unless all of it succeeded.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use harkara_core::json::Json;
use harkara_core::money::{Amount, Currency};
use harkara_core::time::Timestamp;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::{Api, body_bytes, json};
use crate::error::ApiError;

/// The parameters of a request: query, then form or JSON body.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    /// Texts by dotted name; numbers and booleans as they are written.
    texts: BTreeMap<String, String>,
    /// JSON objects and lists by dotted name, byte for byte.
    raws: BTreeMap<String, String>,
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
            let text = std::str::from_utf8(&bytes).map_err(|_| not_utf8())?;
            input.add_json(text)?;
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
            let (name, value) = (decode(name)?, decode(value)?);
            if self.texts.contains_key(&name) {
                return Err(ApiError::field(&name, "is given twice"));
            }
            self.texts.insert(name, value);
        }
        Ok(())
    }

    /// Reads a JSON object that `json::check` let pass.
    pub(super) fn add_json(&mut self, text: &str) -> Result<(), ApiError> {
        let not_an_object = |_| ApiError::invalid("invalid_json", "the body must be a JSON object");
        self.add_object("", text).map_err(not_an_object)
    }

    fn add_object(&mut self, prefix: &str, text: &str) -> Result<(), serde_json::Error> {
        let object: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
        for (key, value) in object {
            let name = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            };
            let value = value.get();
            match value.as_bytes().first() {
                Some(b'"') => {
                    self.texts.insert(name, serde_json::from_str(value)?);
                }
                Some(b'{') => {
                    self.add_object(&name, value)?;
                    self.raws.insert(name, value.to_owned());
                }
                Some(b'[') => {
                    self.raws.insert(name, value.to_owned());
                }
                _ if value == "null" => {}
                _ => {
                    self.texts.insert(name, value.to_owned());
                }
            }
        }
        Ok(())
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
            return Json::parse(raw.clone()).map(Some).map_err(malformed);
        }
        if let Some(text) = self.text(name) {
            // Some clients put JSON into a form field.
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

    /// The parameters under `prefix.`, as if they had been given without it.
    #[must_use]
    pub(super) fn under(&self, prefix: &str) -> Self {
        let prefix = format!("{prefix}.");
        let strip = |map: &BTreeMap<String, String>| {
            map.iter()
                .filter_map(|(name, text)| {
                    Some((name.strip_prefix(&prefix)?.to_owned(), text.clone()))
                })
                .collect()
        };
        Self {
            texts: strip(&self.texts),
            raws: strip(&self.raws),
        }
    }
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

    #[test]
    fn forms_and_json_read_the_same() {
        let form = form("amount=1.5&metadata.webhook_url=https%3A%2F%2Fa.example%2Fb+c").unwrap();
        let mut json = Input::default();
        json.add_json(r#"{"amount":1.5,"metadata":{"webhook_url":"https://a.example/b c"}}"#)
            .unwrap();
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
        let mut input = Input::default();
        input
            .add_json(r#"{"metadata":{ "b":1.0,"a" : [1e3] }}"#)
            .unwrap();
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
}
