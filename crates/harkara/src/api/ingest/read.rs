//! From the bytes of a request to an event that can be stored: what must be right, and what is kept.
//!
//! The content itself is never taken apart: its text is cut out of the request and put into the
//! webhook's body. Each byte is read twice: once to find where the content ends, once to check and
//! look at it. No store is asked here; `ingest.rs` and `batch.rs` call it.

use std::borrow::Cow;

use bytes::Bytes;
use harkara_core::delivery::Event;
use harkara_core::id::{self, EventId, MandateId, MerchantId, OrderId, Subject, time_ordered};
use harkara_core::time::Timestamp;
use harkara_webhook::{ContentKind, EventName, catalog, event};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::endpoints::url_refused;
use crate::api::input::is_visible;
use crate::api::json::{self, Listed, Members, Seen};
use crate::api::{Api, body};
use crate::deliver::guard;
use crate::error::ApiError;
use crate::store::{REPORTED, SnapshotKind, SnapshotRow};

const ID_MAX: usize = 128;
/// The whole number of a card, and what proves that somebody holds it.
const CARD_SECRETS: [&str; 4] = ["card_number", "card_security_code", "cvv", "pin"];
const WEBHOOK_URL: &str = "content.order.metadata.webhook_url";
/// The request and its content are objects around what the event is about.
const AROUND: usize = 2;
/// What is looked at in that: its own members, and theirs.
const LEVELS: u8 = 3;

/// One request, or one line of a batch, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow)]
    merchant_id: Cow<'a, str>,
    event_name: EventName,
    #[serde(borrow)]
    content: Listed<'a>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    date_created: Option<Cow<'a, str>>,
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
    read_good(api, bytes, key, now).or_else(|refused| {
        // What is no good JSON at all is refused for that, with the place.
        json::check(bytes, api.config.api.json_depth)?;
        Err(refused)
    })
}

/// The same for what is most likely good: refuses whatever [`json::check`] would, if not always for the
/// same reason.
fn read_good(
    api: &Api,
    bytes: &[u8],
    key: Option<&str>,
    now: Timestamp,
) -> Result<Incoming, ApiError> {
    let not_utf8 = |_| ApiError::invalid("invalid_json", "the body is not UTF-8");
    let text = std::str::from_utf8(bytes).map_err(not_utf8)?;
    let sent: Sent<'_> = body::shape(text)?;
    let kind = catalog::content_kind(sent.event_name);
    let json = object_of(&sent.content, kind)?;
    let depth = api.config.api.json_depth.saturating_sub(AROUND);
    let Ok(Seen::Object(object)) = json::look(json.get(), depth, LEVELS) else {
        return Err(not_an_object(&format!("content.{}", kind.key())));
    };
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

/// The object under the key that goes with the event, which must be the only one.
fn object_of<'a>(
    Listed(content): &Listed<'a>,
    kind: ContentKind,
) -> Result<&'a RawValue, ApiError> {
    let key = kind.key();
    let found = content.iter().find(|(name, _)| name == key);
    match found {
        Some((_, object)) if content.len() == 1 => Ok(object),
        Some(_) => {
            let reason = format!("must have no other key than '{key}' for this event");
            Err(ApiError::field("content", reason))
        }
        None => Err(ApiError::missing(&format!("content.{key}"))),
    }
}

fn not_an_object(field: &str) -> ApiError {
    ApiError::field(field, "is not a JSON object")
}

/// Text that has to be there and to say something, under the last name of a path.
fn required<'o>(
    object: &'o Members<'_>,
    kind: ContentKind,
    path: &str,
) -> Result<&'o str, ApiError> {
    let text = optional(object, kind, path)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| ApiError::missing(&field(kind, path)))
}

fn optional<'o>(
    object: &'o Members<'_>,
    kind: ContentKind,
    path: &str,
) -> Result<Option<&'o str>, ApiError> {
    let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
    match object.get(name) {
        None | Some(Seen::Null) => Ok(None),
        Some(Seen::Text(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::field(&field(kind, path), "must be text")),
    }
}

/// The name of a member of the object, in full.
fn field(kind: ContentKind, name: &str) -> String {
    format!("content.{}.{name}", kind.key())
}

fn check_merchant(
    kind: ContentKind,
    object: &Members<'_>,
    merchant_id: &MerchantId,
) -> Result<(), ApiError> {
    match optional(object, kind, "merchant_id")? {
        Some(named) if named != merchant_id.as_str() => Err(ApiError::field(
            &field(kind, "merchant_id"),
            format!("is '{named}', and merchant_id '{merchant_id}'"),
        )),
        _ => Ok(()),
    }
}

/// Refuses what nobody may store of a card, and no webhook may carry. A card is a mask here and
/// there, so what is no object is left alone.
fn refuse_card_data(kind: ContentKind, object: &Members<'_>) -> Result<(), ApiError> {
    let Some(Seen::Object(card)) = object.get("card") else {
        return Ok(());
    };
    let forbidden = CARD_SECRETS.iter().find(|name| card.get(name).is_some());
    match forbidden {
        Some(name) => Err(ApiError::field(
            &field(kind, &format!("card.{name}")),
            "must not be stored or sent; leave it out",
        )),
        None => Ok(()),
    }
}

/// What the event is about, and the id under which its content is kept.
fn place(kind: ContentKind, object: &Members<'_>) -> Result<(Subject, String), ApiError> {
    match kind {
        ContentKind::Order | ContentKind::Txn => {
            let order_id = required(object, kind, "order_id")?;
            let subject = Subject::Order(OrderId::new(order_id));
            Ok((subject, order_id.to_owned()))
        }
        ContentKind::Mandate => {
            let mandate_id = required(object, kind, "mandate_id")?;
            let subject = Subject::Mandate(MandateId::new(mandate_id));
            Ok((subject, mandate_id.to_owned()))
        }
        ContentKind::Notification => {
            let reference = required(object, kind, "object_reference_id")?;
            let name = "mandate.mandate_id";
            let mandate = match object.get("mandate") {
                None | Some(Seen::Null) => return Err(ApiError::missing(&field(kind, name))),
                Some(Seen::Object(mandate)) => mandate,
                Some(_) => return Err(not_an_object(&field(kind, "mandate"))),
            };
            let mandate_id = required(mandate, kind, name)?;
            let subject = Subject::Mandate(MandateId::new(mandate_id));
            Ok((subject, reference.to_owned()))
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
    object: &Members<'_>,
    id: String,
    now: Timestamp,
) -> Result<Option<SnapshotRow>, ApiError> {
    let status = optional(object, kind, "status")?.unwrap_or_default();
    let stored = match kind {
        ContentKind::Order => SnapshotKind::Order,
        ContentKind::Mandate => SnapshotKind::Mandate,
        ContentKind::Notification => SnapshotKind::Notification,
        ContentKind::Txn => return Ok(None),
    };
    let customer_id = optional(object, kind, "customer_id")?;
    Ok(Some(SnapshotRow {
        kind: stored,
        id,
        status: status.to_owned(),
        customer_id: customer_id.map(str::to_owned),
        now,
    }))
}

/// The order's own URL for its webhooks, if it has one, checked like an endpoint's.
fn webhook_url(
    api: &Api,
    kind: ContentKind,
    object: &Members<'_>,
) -> Result<Option<String>, ApiError> {
    let named = match kind {
        ContentKind::Order => url_in_metadata(object),
        ContentKind::Txn | ContentKind::Mandate | ContentKind::Notification => None,
    };
    let Some(url) = named else { return Ok(None) };
    match guard::admit(url, &api.policy) {
        Ok(admitted) => Ok(Some(admitted.url)),
        Err(why) => Err(url_refused(WEBHOOK_URL, &why.to_string())),
    }
}

/// Metadata is the merchant's own, so what is no text here simply names no URL.
fn url_in_metadata<'o>(order: &'o Members<'_>) -> Option<&'o str> {
    let Some(Seen::Object(metadata)) = order.get("metadata") else {
        return None;
    };
    match metadata.get("webhook_url") {
        Some(Seen::Text(url)) => Some(url),
        _ => None,
    }
}

/// The URL that a foreign order's latest content wants its webhooks at. It was checked when it came
/// in, and is again when it is called.
pub(super) fn url_of_order(doc: &str) -> Option<String> {
    // However deeply it was let in to nest.
    match json::look(doc, usize::MAX, LEVELS) {
        Ok(Seen::Object(order)) => url_in_metadata(&order).map(str::to_owned),
        _ => None,
    }
}
