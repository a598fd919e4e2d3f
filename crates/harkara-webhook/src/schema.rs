//! JSON Schemas of the events, for tools that check a body or make types of it.
//!
//! They come from the same lists of fields as the types in `content/`, so they cannot say anything
//! else. A key may be missing, null, or one that is not listed: the platform adds keys without asking.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::catalog::{self, ContentKind, EventName};
use crate::content::{Mandate, Notification, Order, Txn};
use crate::field::Wire;
use crate::status::{MandateStatus, NotificationStatus, OrderStatus, RefundStatus};

/// The dialect that the schemas are written in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What a value may be, as JSON Schema 2020-12 says it when it is serialized.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Schema {
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(rename = "const", skip_serializing_if = "Option::is_none")]
    constant: Option<&'static str>,
    #[serde(
        rename = "type",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "one_or_some"
    )]
    kinds: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "in_order")]
    properties: Vec<(&'static str, Self)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Box<Self>>,
}

/// The schema of the whole body of an event of this name.
///
/// ```
/// use harkara_webhook::{EventName, schema};
///
/// let schema = serde_json::to_value(schema::event(EventName::TxnCharged))?;
/// let content = &schema["properties"]["content"]["properties"];
/// assert!(content["txn"]["properties"]["txn_uuid"].is_object());
/// # Ok::<_, serde_json::Error>(())
/// ```
pub fn event(name: EventName) -> Schema {
    let kind = catalog::content_kind(name);
    let content = match kind {
        ContentKind::Order => Order::schema().saying("The whole order."),
        ContentKind::Txn => Txn::schema().saying("One transaction."),
        ContentKind::Mandate => Mandate::schema().saying("One mandate."),
        ContentKind::Notification => Notification::schema().saying("One pre-debit notification."),
    };
    let text = |says: &str| Schema::of(&["string"]).saying(says);
    Schema {
        dialect: Some(DIALECT),
        title: Some(name.as_str()),
        required: vec!["id", "date_created", "event_name", "content"],
        properties: vec![
            (
                "id",
                text("The same on every attempt, so it is what to recognise repeats by."),
            ),
            (
                "date_created",
                text("When it happened, as 2023-08-10T07:00:48Z."),
            ),
            (
                "event_name",
                Schema {
                    constant: Some(name.as_str()),
                    ..Schema::default().saying(catalog::description(name))
                },
            ),
            (
                "content",
                Schema {
                    required: vec![kind.key()],
                    properties: vec![(kind.key(), content)],
                    ..Schema::of(&["object"])
                        .saying("What it happened to, as it was at that moment.")
                },
            ),
        ],
        ..Schema::of(&["object"]).saying(catalog::description(name))
    }
}

impl Schema {
    fn of(kinds: &[&'static str]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            ..Self::default()
        }
    }

    /// A value of this JSON type, or null.
    pub(crate) fn nullable(kind: &'static str) -> Self {
        Self::of(&[kind, "null"])
    }

    /// A list of such values, or null.
    pub(crate) fn list(items: Self) -> Self {
        Self {
            items: Some(Box::new(items)),
            ..Self::nullable("array")
        }
    }

    /// An object with these fields, or null: key, description and schema of each.
    pub(crate) fn object<const N: usize>(fields: [(&'static str, &str, Self); N]) -> Self {
        let described = fields.map(|(key, says, schema)| (key, schema.saying(says)));
        Self {
            properties: described.into(),
            ..Self::nullable("object")
        }
    }

    /// The same with a description. For readers of the code it names the type that has a field's words;
    /// here they are listed.
    fn saying(self, says: &str) -> Self {
        let says = says.split("; see [").next().unwrap_or(says).trim();
        let mut description = match says.strip_prefix("A word of [`") {
            Some(list) => format!("One of {}; more may come.", words(list)),
            None => says.to_owned(),
        };
        if !description.ends_with('.') {
            description.push('.');
        }
        Self {
            description,
            ..self
        }
    }

    /// What the value means.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What the value is, in a word: its JSON type, the one text that it may be, or `any`.
    pub fn kind(&self) -> String {
        match (self.constant, self.kinds.first()) {
            (Some(text), _) => format!("\"{text}\""),
            (None, Some(kind)) => (*kind).to_owned(),
            (None, None) => "any".to_owned(),
        }
    }

    /// The fields of an object in their order.
    pub fn fields(&self) -> &[(&'static str, Self)] {
        &self.properties
    }

    /// What is in a list.
    pub fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }
}

/// The words of a type, by its name in the code.
fn words(list: &str) -> String {
    fn listed<T: ToString>(all: &[T]) -> String {
        all.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
    match list.trim_end_matches(['`', ']', '.']) {
        "OrderStatus" => listed(OrderStatus::ALL),
        "RefundStatus" => listed(RefundStatus::ALL),
        "MandateStatus" => listed(MandateStatus::ALL),
        "NotificationStatus" => listed(NotificationStatus::ALL),
        other => other.to_owned(),
    }
}

fn one_or_some<S: Serializer>(kinds: &[&'static str], serializer: S) -> Result<S::Ok, S::Error> {
    match kinds {
        [kind] => kind.serialize(serializer),
        kinds => kinds.serialize(serializer),
    }
}

fn in_order<S: Serializer>(
    properties: &[(&'static str, Schema)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(properties.len()))?;
    for (key, schema) in properties {
        map.serialize_entry(key, schema)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_names_what_there_is_and_says_what_it_means() {
        let schema = serde_json::to_value(event(EventName::OrderRefunded)).unwrap();
        let order = &schema["properties"]["content"]["properties"]["order"];
        let refund = &order["properties"]["refunds"]["items"]["properties"];
        let status = &order["properties"]["status"];
        let shown = format!("{status}\n{}\n{}", refund["ref"], refund["amount"]);
        insta::assert_snapshot!(shown, @r#"
        {"description":"One of CREATED, NEW, STARTED, CHARGED, JUSPAY_DECLINED, PENDING_VBV, VBV_SUCCESSFUL, AUTHORIZED, AUTHENTICATION_FAILED, AUTHORIZATION_FAILED, AUTHORIZING, COD_INITIATED, VOIDED, VOID_INITIATED, CAPTURE_INITIATED, CAPTURE_FAILED, VOID_FAILED, AUTO_REFUNDED, PARTIAL_CHARGED; more may come.","type":["string","null"]}
        {"description":"The reference that the customer's bank knows; null until there is one.","type":["string","null"]}
        {"description":"What goes back.","type":["number","null"]}
        "#);
    }

    #[test]
    fn a_schema_has_the_order_of_the_fields() {
        let text = serde_json::to_string(&event(EventName::TxnCharged)).unwrap();
        let names = text.split(r#"":{"description""#);
        let names = names.map(|before| before.rsplit('"').next().unwrap_or_default());
        let names: Vec<_> = names.take(6).collect();
        assert_eq!(
            names,
            [
                "id",
                "date_created",
                "event_name",
                "content",
                "txn",
                "txn_id"
            ]
        );
    }
}
