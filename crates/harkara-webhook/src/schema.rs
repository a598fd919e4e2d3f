//! JSON Schemas of the events, for tools that check a body or make types of it.
//!
//! They come from the same lists of fields as the types in `content/`, so they cannot say anything
//! else. A key may be missing, null, or one that is not listed: the platform adds keys without asking.

use serde_json::{Map, Value, json};

use crate::catalog::{self, ContentKind, EventName};
use crate::content::{Mandate, Notification, Order, Txn};
use crate::field::Wire;

/// The dialect that the schemas are written in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the whole body of an event of this name.
///
/// ```
/// use harkara_webhook::{EventName, schema};
///
/// let schema = schema::event(EventName::TxnCharged);
/// let content = &schema["properties"]["content"]["properties"];
/// assert!(content["txn"]["properties"]["txn_uuid"].is_object());
/// ```
pub fn event(name: EventName) -> Value {
    let kind = catalog::content_kind(name);
    let content = match kind {
        ContentKind::Order => Order::schema(),
        ContentKind::Txn => Txn::schema(),
        ContentKind::Mandate => Mandate::schema(),
        ContentKind::Notification => Notification::schema(),
    };
    json!({
        "$schema": DIALECT,
        "title": name.as_str(),
        "description": catalog::description(name),
        "type": "object",
        "required": ["id", "date_created", "event_name", "content"],
        "properties": {
            "id": {
                "type": "string",
                "description": "The same on every attempt, so it is what to recognise repeats by.",
            },
            "date_created": {
                "type": "string",
                "description": "When it happened, as 2023-08-10T07:00:48Z.",
            },
            "event_name": { "const": name.as_str(), "description": catalog::description(name) },
            "content": {
                "type": "object",
                "description": "What it happened to, as it was at that moment.",
                "required": [kind.key()],
                "properties": { (kind.key()): content },
            },
        },
    })
}

/// The schema of an object with these fields: key, description and schema of each.
pub(crate) fn object(
    fields: impl IntoIterator<Item = (&'static str, &'static str, Value)>,
) -> Value {
    let described = fields.into_iter().map(|(key, says, mut schema)| {
        schema["description"] = plain(says).into();
        (key.to_owned(), schema)
    });
    let properties: Map<String, Value> = described.collect();
    json!({ "type": ["object", "null"], "properties": properties })
}

/// The schema of a value of this JSON type, or null.
pub(crate) fn nullable(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

/// A description without what is for readers of the code alone.
fn plain(says: &str) -> String {
    let says = says.split("; see [").next().unwrap_or(says).trim();
    let says = says.replace("[`", "").replace("`]", "");
    if says.ends_with('.') {
        says
    } else {
        says + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_names_what_there_is_and_says_what_it_means() {
        let schema = event(EventName::OrderRefunded);
        let order = &schema["properties"]["content"]["properties"]["order"];
        let refund = &order["properties"]["refunds"]["items"]["properties"];
        let status = &order["properties"]["status"];
        let shown = format!("{status}\n{}\n{}", refund["ref"], refund["amount"]);
        insta::assert_snapshot!(shown, @r#"
        {"description":"A word of OrderStatus.","type":["string","null"]}
        {"description":"The reference that the customer's bank knows; null until there is one.","type":["string","null"]}
        {"description":"What goes back.","type":["number","null"]}
        "#);
    }
}
