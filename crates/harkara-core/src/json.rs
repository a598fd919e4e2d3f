//! JSON that belongs to somebody else: kept and given back byte for byte.
//!
//! The type is the contract's; here is the little that the rules look up in it.

pub use harkara_webhook::Json;
use serde_json::{Map, Value};

/// The text of a value of ours.
pub fn from_value(value: &Value) -> Json {
    Json::parse(value.to_string()).expect("a value prints as JSON")
}

/// The text under `key`, if `json` is an object that has some there. Numbers and booleans are given
/// as they are written, since forms cannot tell them from strings.
pub fn text(json: &Json, key: &str) -> Option<String> {
    let object: Map<String, Value> = serde_json::from_str(json.as_str()).ok()?;
    match object.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
