//! From the bytes of a request to an event that can be stored: what must be right, and what is kept.
//!
//! The content itself is never taken apart: its text is cut out of the request and put into the
//! webhook's body. No store is asked here; `ingest.rs` and `batch.rs` call it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use harkara_core::delivery::Event;
use harkara_core::id::{self, EventId, MandateId, MerchantId, OrderId, Subject, time_ordered};
use harkara_core::time::Timestamp;
use harkara_webhook::{ContentKind, EventName, catalog, event};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use crate::api::endpoints::url_refused;
use crate::api::input::is_visible;
use crate::api::{Api, body};
use crate::deliver::guard;
use crate::error::ApiError;
use crate::store::{REPORTED, SnapshotKind, SnapshotRow};

const ID_MAX: usize = 128;
/// The whole number of a card, and what proves that somebody holds it.
const CARD_SECRETS: [&str; 4] = ["card_number", "card_security_code", "cvv", "pin"];
const WEBHOOK_URL: &str = "content.order.metadata.webhook_url";

/// One request, or one line of a batch, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow)]
    merchant_id: Cow<'a, str>,
    event_name: EventName,
    #[serde(borrow, deserialize_with = "members")]
    content: BTreeMap<String, &'a RawValue>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    date_created: Option<Cow<'a, str>>,
}

/// What is read of the object; everything else in it is passed over.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    merchant_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    mandate_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object_reference_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    mandate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    customer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    card: Option<&'a RawValue>,
}

/// An event that is ready to be stored, whoever its merchant's endpoints are by then.
pub(super) struct Incoming {
    pub(super) event: Event,
    pub(super) snapshot: Option<SnapshotRow>,
    pub(super) url_override: Option<String>,
    pub(super) known_by: KnownBy,
}

/// What tells that a request was sent before.
pub(super) enum KnownBy {
    /// The caller's `Idempotency-Key`, whether or not the event has an id of its own.
    Key { key: String, request_hash: String },
    /// The event's own id.
    Id { request_hash: String },
    /// The event's id, which is made of its content and the moment.
    Content,
}

/// Reads and checks everything that needs no look into the store.
pub(super) fn read(
    api: &Api,
    bytes: &[u8],
    key: Option<&str>,
    now: Timestamp,
) -> Result<Incoming, ApiError> {
    let sent: Sent<'_> = body::read(bytes, api.config.api.json_depth)?;
    let text = std::str::from_utf8(bytes).expect("what was read as JSON is UTF-8");
    let kind = catalog::content_kind(sent.event_name);
    let json = object_of(&sent.content, kind)?;
    let object: Object<'_> = body::part(json, &format!("content.{}", kind.key()))?;
    let merchant_id = MerchantId::new(sent.merchant_id.as_ref());
    check_merchant(kind, &object, &merchant_id)?;
    refuse_card_data(kind, &object)?;
    let (subject, snapshot_id) = place(kind, &object)?;
    let (created_at, date_created) = date(sent.date_created, now)?;
    let event_id = match &sent.id {
        Some(id) => given_id(id)?,
        None => {
            let hash = key.is_none().then(|| digest(json.get()));
            let told_apart = key.or(hash.as_deref()).unwrap_or_default();
            let (subject, name) = (subject.key(), sent.event_name.as_str());
            let parts = [merchant_id.as_str(), &subject, name, told_apart];
            EventId::new(format!("evt_V2_{}", time_ordered(now, &parts)))
        }
    };
    let content = json.get().as_bytes();
    let body = event::envelope(
        event_id.as_str(),
        &date_created,
        sent.event_name,
        kind,
        content,
    );
    let known_by = match (key, &sent.id) {
        (Some(key), _) => KnownBy::Key {
            key: format!("event/key/{key}"),
            request_hash: digest(text),
        },
        (None, Some(_)) => KnownBy::Id {
            request_hash: digest(text),
        },
        (None, None) => KnownBy::Content,
    };
    Ok(Incoming {
        snapshot: snapshot(kind, &object, snapshot_id, now)?,
        url_override: webhook_url(api, kind, &object)?,
        known_by,
        event: Event {
            merchant_id,
            id: event_id,
            name: sent.event_name,
            subject,
            transition: REPORTED.to_owned(),
            created_at,
            body: Bytes::from(body),
        },
    })
}

fn digest(text: &str) -> String {
    id::hex(&id::digest(&[text]))
}

fn members<'a, D: Deserializer<'a>>(object: D) -> Result<BTreeMap<String, &'a RawValue>, D::Error> {
    BTreeMap::deserialize(object).map_err(|_| D::Error::custom("is not a JSON object"))
}

/// The object under the key that goes with the event, which must be the only one.
fn object_of<'a>(
    content: &BTreeMap<String, &'a RawValue>,
    kind: ContentKind,
) -> Result<&'a RawValue, ApiError> {
    let key = kind.key();
    match content.get(key) {
        Some(object) if content.len() == 1 => Ok(object),
        Some(_) => {
            let reason = format!("must have no other key than '{key}' for this event");
            Err(ApiError::field("content", reason))
        }
        None => Err(ApiError::missing(&format!("content.{key}"))),
    }
}

/// Text that has to be there and to say something.
fn required(value: Option<&RawValue>, kind: ContentKind, name: &str) -> Result<String, ApiError> {
    let text = optional(value, kind, name)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| ApiError::missing(&field(kind, name)))
}

fn optional(
    value: Option<&RawValue>,
    kind: ContentKind,
    name: &str,
) -> Result<Option<String>, ApiError> {
    let refused = |_| ApiError::field(&field(kind, name), "must be text");
    let read = |value: &RawValue| serde_json::from_str(value.get()).map_err(refused);
    value.map(read).transpose()
}

/// The name of a member of the object, in full.
fn field(kind: ContentKind, name: &str) -> String {
    format!("content.{}.{name}", kind.key())
}

fn check_merchant(
    kind: ContentKind,
    object: &Object<'_>,
    merchant_id: &MerchantId,
) -> Result<(), ApiError> {
    match optional(object.merchant_id, kind, "merchant_id")? {
        Some(named) if named != merchant_id.as_str() => Err(ApiError::field(
            &field(kind, "merchant_id"),
            format!("is '{named}', and merchant_id '{merchant_id}'"),
        )),
        _ => Ok(()),
    }
}

/// Refuses what nobody may store of a card, and no webhook may carry. A card is a mask here and
/// there, so what is no object is left alone.
fn refuse_card_data(kind: ContentKind, object: &Object<'_>) -> Result<(), ApiError> {
    let Some(card) = object.card else {
        return Ok(());
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(card.get()).unwrap_or_default();
    let forbidden = CARD_SECRETS
        .iter()
        .find(|name| members.contains_key(**name));
    match forbidden {
        Some(name) => Err(ApiError::field(
            &field(kind, &format!("card.{name}")),
            "must not be stored or sent; leave it out",
        )),
        None => Ok(()),
    }
}

/// What the event is about, and the id under which its content is kept.
fn place(kind: ContentKind, object: &Object<'_>) -> Result<(Subject, String), ApiError> {
    #[derive(Deserialize)]
    struct OfNotification<'a> {
        #[serde(borrow, default)]
        mandate_id: Option<&'a RawValue>,
    }
    match kind {
        ContentKind::Order | ContentKind::Txn => {
            let order_id = required(object.order_id, kind, "order_id")?;
            Ok((Subject::Order(OrderId::new(order_id.as_str())), order_id))
        }
        ContentKind::Mandate => {
            let mandate_id = required(object.mandate_id, kind, "mandate_id")?;
            Ok((
                Subject::Mandate(MandateId::new(mandate_id.as_str())),
                mandate_id,
            ))
        }
        ContentKind::Notification => {
            let reference = required(object.object_reference_id, kind, "object_reference_id")?;
            let name = "mandate.mandate_id";
            let missing = || ApiError::missing(&field(kind, name));
            let mandate = object.mandate.ok_or_else(missing)?;
            let mandate: OfNotification<'_> = body::part(mandate, &field(kind, "mandate"))?;
            let mandate_id = required(mandate.mandate_id, kind, name)?;
            Ok((Subject::Mandate(MandateId::new(mandate_id)), reference))
        }
    }
}

/// When it happened: as a moment, and as the caller wrote it.
fn date(given: Option<Cow<'_, str>>, now: Timestamp) -> Result<(Timestamp, String), ApiError> {
    let Some(text) = given else {
        return Ok((now, now.iso()));
    };
    let moment = Timestamp::parse_iso(&text).ok_or_else(|| {
        ApiError::field(
            "date_created",
            "must be a moment such as 2023-08-10T07:00:48Z",
        )
    })?;
    Ok((moment, text.into_owned()))
}

/// The id goes out as a header, too, so it has to fit into one.
fn given_id(id: &str) -> Result<EventId, ApiError> {
    if is_visible(id, ID_MAX) {
        return Ok(EventId::new(id));
    }
    Err(ApiError::field(
        "id",
        format!("must be 1 to {ID_MAX} visible ASCII characters"),
    ))
}

/// The row that the status calls answer with; a transaction alone is nobody's status.
fn snapshot(
    kind: ContentKind,
    object: &Object<'_>,
    id: String,
    now: Timestamp,
) -> Result<Option<SnapshotRow>, ApiError> {
    let status = optional(object.status, kind, "status")?.unwrap_or_default();
    let stored = match kind {
        ContentKind::Order => SnapshotKind::Order,
        ContentKind::Mandate => SnapshotKind::Mandate,
        ContentKind::Notification => SnapshotKind::Notification,
        ContentKind::Txn => return Ok(None),
    };
    let customer_id = optional(object.customer_id, kind, "customer_id")?;
    Ok(Some(SnapshotRow {
        kind: stored,
        id,
        status,
        customer_id,
        now,
    }))
}

/// The order's own URL for its webhooks, if it has one, checked like an endpoint's.
fn webhook_url(
    api: &Api,
    kind: ContentKind,
    object: &Object<'_>,
) -> Result<Option<String>, ApiError> {
    let named = match kind {
        ContentKind::Order => object.metadata.and_then(url_in_metadata),
        ContentKind::Txn | ContentKind::Mandate | ContentKind::Notification => None,
    };
    let Some(url) = named else { return Ok(None) };
    match guard::admit(&url, &api.policy) {
        Ok(admitted) => Ok(Some(admitted.url)),
        Err(why) => Err(url_refused(WEBHOOK_URL, &why.to_string())),
    }
}

/// Metadata is the merchant's own, so what is no text here simply names no URL.
fn url_in_metadata(metadata: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        webhook_url: &'a RawValue,
    }
    let metadata: Metadata<'_> = serde_json::from_str(metadata.get()).ok()?;
    serde_json::from_str(metadata.webhook_url.get()).ok()
}

/// The URL that a foreign order's latest content wants its webhooks at. It was checked when it came
/// in, and is again when it is called.
pub(super) fn url_of_order(doc: &str) -> Option<String> {
    let object: Object<'_> = serde_json::from_str(doc).ok()?;
    object.metadata.and_then(url_in_metadata)
}
