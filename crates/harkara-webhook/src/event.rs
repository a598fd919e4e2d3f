//! Events as they arrive: the envelope around a content.
//!
//! A reader is lenient: only a body without an id or a name is refused, and what it does not know
//! it keeps. Whether the sender is who they claim to be is asked in `receive.rs`. The server writes
//! its envelopes with [`envelope`], around bytes that it never reads again.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::catalog::{ContentKind, EventName};
use crate::content::{Mandate, Notification, Order, Txn};
use crate::field::{Field, Json, Wire};
use crate::receive::ReceiveError;

/// The record of something that happened to an order, a transaction, a mandate or a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The same on every attempt and in every copy, so it is what to recognise repeats by.
    pub id: String,
    /// What happened.
    pub event_name: Name,
    /// When it happened, as `2023-08-10T07:00:48Z`.
    pub date_created: Field<String>,
    /// What it happened to, as it was at that moment.
    pub content: Content,
}

/// The name of an event, which may be younger than this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A name in the catalogue.
    Known(EventName),
    /// Any other name.
    Unknown(String),
}

/// What an event is about, by the key under `content`.
///
/// It is written as it stands there: `{"order": …}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// The complete order.
    Order(Box<Order>),
    /// One transaction.
    Txn(Box<Txn>),
    /// One mandate.
    Mandate(Box<Mandate>),
    /// One pre-debit notification.
    Notification(Box<Notification>),
    /// All of `content`, where none of the above is in it; `null` where there is none.
    #[serde(untagged)]
    Other(Json),
}

impl Event {
    /// Reads an event, without asking who sent it.
    ///
    /// # Errors
    /// If the body is not a JSON object with text under `id` and `event_name`.
    pub fn parse(body: &[u8]) -> Result<Self, ReceiveError> {
        let whole: &RawValue = serde_json::from_slice(body).map_err(ReceiveError::NotJson)?;
        let keys = keys(whole).ok_or(ReceiveError::NotAnObject)?;
        let text = |key: &str| {
            keys.get(key)
                .and_then(|json| String::read(json.get()))
                .filter(|text| !text.is_empty())
        };
        Ok(Self {
            id: text("id").ok_or(ReceiveError::MissingId)?,
            event_name: text("event_name")
                .ok_or(ReceiveError::MissingEventName)?
                .into(),
            date_created: keys
                .get("date_created")
                .map_or(Field::Absent, |json| Field::read(json)),
            content: Content::read(keys.get("content").copied()),
        })
    }

    /// The order, if the event carries one.
    pub fn order(&self) -> Option<&Order> {
        if let Content::Order(order) = &self.content {
            Some(order)
        } else {
            None
        }
    }

    /// The transaction, if the event carries one by itself.
    pub fn txn(&self) -> Option<&Txn> {
        if let Content::Txn(txn) = &self.content {
            Some(txn)
        } else {
            None
        }
    }

    /// The mandate, if the event carries one by itself.
    pub fn mandate(&self) -> Option<&Mandate> {
        if let Content::Mandate(mandate) = &self.content {
            Some(mandate)
        } else {
            None
        }
    }

    /// The notification, if the event carries one.
    pub fn notification(&self) -> Option<&Notification> {
        if let Content::Notification(notification) = &self.content {
            Some(notification)
        } else {
            None
        }
    }
}

impl Content {
    fn read(content: Option<&RawValue>) -> Self {
        let content = content.unwrap_or(RawValue::NULL);
        let keys = keys(content).unwrap_or_default();
        let part = |kind: ContentKind| keys.get(kind.key()).map(|json| json.get());
        if let Some(order) = part(ContentKind::Order).and_then(Order::read) {
            Self::Order(Box::new(order))
        } else if let Some(txn) = part(ContentKind::Txn).and_then(Txn::read) {
            Self::Txn(Box::new(txn))
        } else if let Some(mandate) = part(ContentKind::Mandate).and_then(Mandate::read) {
            Self::Mandate(Box::new(mandate))
        } else if let Some(notice) = part(ContentKind::Notification).and_then(Notification::read) {
            Self::Notification(Box::new(notice))
        } else {
            Self::Other(Json::from(content))
        }
    }
}

/// The values of an object by key; of a key that comes twice, the last.
fn keys(json: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json.get()).ok()
}

impl Name {
    /// The name as it came.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name.as_str(),
            Self::Unknown(name) => name,
        }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Unknown(text), Self::Known)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Lets a handler write `event.event_name == EventName::OrderSucceeded`.
impl PartialEq<EventName> for Name {
    fn eq(&self, other: &EventName) -> bool {
        *self == Self::Known(*other)
    }
}

/// Writes an event around a content that is JSON already; its bytes are copied as they are.
pub fn envelope(
    id: &str,
    date_created: &str,
    name: EventName,
    kind: ContentKind,
    content_json: &[u8],
) -> Vec<u8> {
    let (id, date_created) = (quoted(id), quoted(date_created));
    let head = format!(
        r#"{{"id":{id},"date_created":{date_created},"event_name":"{name}","content":{{"{}":"#,
        kind.key()
    );
    [head.as_bytes(), content_json, b"}}"].concat()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("every text can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_read_back_and_holds_the_content_byte_for_byte() {
        let content = br#"{ "order_id":"o-1" , "metadata":{"b":1, "a":1.50} }"#;
        let body = envelope(
            r#"evt_"1""#,
            "2023-08-10T07:00:48Z",
            EventName::OrderSucceeded,
            ContentKind::Order,
            content,
        );
        insta::assert_snapshot!(
            String::from_utf8(body.clone()).unwrap(),
            @r#"{"id":"evt_\"1\"","date_created":"2023-08-10T07:00:48Z","event_name":"ORDER_SUCCEEDED","content":{"order":{ "order_id":"o-1" , "metadata":{"b":1, "a":1.50} }}}"#
        );
        let event = Event::parse(&body).unwrap();
        assert_eq!(event.id, r#"evt_"1""#);
        assert_eq!(event.event_name, EventName::OrderSucceeded);
        assert_eq!(event.order().and_then(Order::order_id), Some("o-1"));
    }

    #[test]
    fn what_is_refused_and_what_is_kept() {
        let read = |body: &str| match Event::parse(body.as_bytes()) {
            Ok(event) => format!(
                "{body}\n    {} {} {}\n",
                event.id,
                event.event_name,
                serde_json::to_string(&event.content).unwrap(),
            ),
            Err(error) => format!("{body}\n    failed to {error}\n"),
        };
        let table: String = [
            "null",
            "id=evt_1",
            "[]",
            r#"{"event_name":"ORDER_SUCCEEDED"}"#,
            r#"{"id":7,"event_name":"ORDER_SUCCEEDED"}"#,
            r#"{"id":"evt_1"}"#,
            r#"{"id":"evt_1","event_name":"ORDER_SUCCEEDED"}"#,
            r#"{"id":"evt_1","event_name":"ORDER_LOST","content":{"parcel":{"n":1.0}}}"#,
            r#"{"id":"evt_1","event_name":"ORDER_SUCCEEDED","content":{"order":"FILTERED"}}"#,
            r#"{"id":"evt_1","event_name":"TXN_CHARGED","content":{"txn":{"txn_id":"ms-o-1"}}}"#,
            r#"{"id":"evt_1","id":"evt_2","event_name":"MANDATE_PAUSED","content":[]}"#,
        ]
        .into_iter()
        .map(read)
        .collect();
        insta::assert_snapshot!(table, @r#"
        null
            failed to receive an event: the body is not a JSON object
        id=evt_1
            failed to receive an event: the body is not JSON
        []
            failed to receive an event: the body is not a JSON object
        {"event_name":"ORDER_SUCCEEDED"}
            failed to receive an event: the body has no text under `id`
        {"id":7,"event_name":"ORDER_SUCCEEDED"}
            failed to receive an event: the body has no text under `id`
        {"id":"evt_1"}
            failed to receive an event: the body has no text under `event_name`
        {"id":"evt_1","event_name":"ORDER_SUCCEEDED"}
            evt_1 ORDER_SUCCEEDED null
        {"id":"evt_1","event_name":"ORDER_LOST","content":{"parcel":{"n":1.0}}}
            evt_1 ORDER_LOST {"parcel":{"n":1.0}}
        {"id":"evt_1","event_name":"ORDER_SUCCEEDED","content":{"order":"FILTERED"}}
            evt_1 ORDER_SUCCEEDED {"order":"FILTERED"}
        {"id":"evt_1","event_name":"TXN_CHARGED","content":{"txn":{"txn_id":"ms-o-1"}}}
            evt_1 TXN_CHARGED {"txn":{"txn_id":"ms-o-1"}}
        {"id":"evt_1","id":"evt_2","event_name":"MANDATE_PAUSED","content":[]}
            evt_2 MANDATE_PAUSED []
        "#);
    }

    #[test]
    fn deep_nesting_is_kept_without_being_entered() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for key in ["metadata", "amount", "parcel"] {
            let content = format!(r#"{{"order":{{"{key}":{deep}}}}}"#);
            let body = format!(r#"{{"id":"evt_1","event_name":"ORDER_LOST","content":{content}}}"#);
            let event = Event::parse(body.as_bytes()).unwrap();
            assert!(
                serde_json::to_string(&event.content).unwrap() == content,
                "{key}"
            );
        }
    }
}
