//! Typed JSON bodies of the platform's and the webhooks' half of the API, and their answers.
//!
//! `input.rs` reads the lenient forms of the public SDKs; here a body is JSON, has a fixed shape, and
//! a field that is unknown is refused by name. Handlers call it; no shape lives here.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;
use serde_json::value::RawValue;

use super::{Api, body_bytes, json, json_bytes};
use crate::error::ApiError;

/// The JSON body of a request; no body at all reads as `{}`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let bytes = body_bytes(request, api.config.api.body_limit_bytes).await?;
        let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
        read(bytes, api.config.api.json_depth).map(Self)
    }
}

/// Reads a JSON object of a known shape; the error names the field.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], depth: usize) -> Result<T, ApiError> {
    shape(json::check(bytes, depth)?)
}

/// The same of a text that was checked, or is checked later.
pub(super) fn shape<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    // Serde would read a list as an object without names.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(ApiError::invalid(
            "invalid_json",
            "the body must be a JSON object",
        ));
    }
    serde_json::from_str(text).map_err(|error| refusal(text, &error))
}

/// An answer that is written out as JSON.
pub(super) fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(value).expect("answers print as JSON");
    (status, json_bytes(bytes)).into_response()
}

/// What serde says of a value that does not fit, turned into an error about a field.
fn refusal(text: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let reason = message
        .rsplit_once(" at line ")
        .map_or(&*message, |(reason, _)| reason);
    if let Some(name) = quoted_after(reason, "missing field `") {
        return ApiError::missing(name);
    }
    if let Some(name) = quoted_after(reason, "unknown field `") {
        let known = reason
            .split_once(", ")
            .map_or("", |(_, known)| known)
            .replace('`', "");
        return ApiError::field(name, format!("is unknown here; {known}"));
    }
    match member_at(text, error) {
        Some(name) => ApiError::field(&name, reason),
        None => ApiError::invalid("invalid_json", format!("the body does not fit: {reason}")),
    }
}

fn quoted_after<'t>(text: &'t str, start: &str) -> Option<&'t str> {
    Some(text.strip_prefix(start)?.split_once('`')?.0)
}

/// The member that was being read when an error struck: the last one that begins before the place.
fn member_at(text: &str, error: &serde_json::Error) -> Option<String> {
    let lines = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    let place = lines.map(str::len).sum::<usize>() + error.column();
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let start = |value: &RawValue| value.get().as_ptr() as usize - text.as_ptr() as usize;
    let begun = members
        .into_iter()
        .filter(|(_, value)| start(value) <= place);
    begun
        .max_by_key(|(_, value)| start(value))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[expect(dead_code, reason = "only whether it can be read is asked")]
        url: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only whether it can be read is asked")]
        steps: Vec<u32>,
    }

    #[test]
    fn a_body_that_does_not_fit_is_refused_by_field() {
        let bodies = [
            r#"{"url":"u"}"#,
            r#"{"steps":[1]}"#,
            r#"{"url":"u","urls":[]}"#,
            r#"{"steps":[1],"url":7}"#,
            "{\n \"url\": \"u\",\n \"steps\": [1, \"x\"]\n}",
            r#"{"url":"u","steps":{"a":1}}"#,
            r#"{"url":"u","url":"v"}"#,
            "[]",
        ];
        let table: String = bodies
            .iter()
            .map(|body| match read::<Shape>(body.as_bytes(), 8) {
                Ok(_) => format!("{body}\n    fits\n"),
                Err(error) => format!("{body}\n    {}\n", error.message),
            })
            .collect();
        insta::assert_snapshot!(table, @r#"
        {"url":"u"}
            fits
        {"steps":[1]}
            the mandatory parameter 'url' is missing
        {"url":"u","urls":[]}
            urls: is unknown here; expected url or steps
        {"steps":[1],"url":7}
            url: invalid type: integer `7`, expected a string
        {
         "url": "u",
         "steps": [1, "x"]
        }
            steps: invalid type: string "x", expected u32
        {"url":"u","steps":{"a":1}}
            steps: invalid type: map, expected a sequence
        {"url":"u","url":"v"}
            the body is no good JSON: the key 'url' stands twice in one object at line 1 column 16
        []
            the body must be a JSON object
        "#);
    }
}
