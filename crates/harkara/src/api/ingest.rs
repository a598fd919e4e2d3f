//! Events from a platform with a ledger of its own: checked, wrapped, stored and sent like ours.
//!
//! The content is kept byte for byte; only the few fields that place it are read. The commit is
//! tried first and questions are asked when it is refused, so that the usual case costs no read. The
//! lines of a batch are in `ingest/batch.rs`, what a request must say is in `ingest/read.rs`.

mod batch;
mod read;
#[cfg(test)]
mod tests;

use axum::extract::{Request, State};
use axum::response::Response;
use harkara_core::delivery::{self, DeliveryKind, DeliveryState};
use harkara_core::id::{EventId, MandateId, MerchantId, NotificationRef, OrderId, Subject};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::auth::PlatformCaller;
use super::events::cursor;
use super::input::idempotency_key;
use super::{Api, body, body_bytes};
use crate::error::ApiError;
use crate::store::{
    Commit, DbError, DbErrorKind, EventView, NewEvent, NewIdempotencyKey, OrderView, Origin,
    SnapshotKind, SnapshotRow, Write,
};

use self::read::{Incoming, KnownBy, read, url_of_order};

pub(super) use self::batch::batch;

/// How often an event is planned anew when its endpoints change under it.
const TRIES: usize = 3;

/// What the caller is told of a stored event.
#[derive(Debug, Serialize)]
struct Stored {
    event_id: EventId,
    sequence: i64,
    cursor: String,
    /// Planned and not withheld.
    deliveries: usize,
    #[serde(skip)]
    replayed: bool,
}

/// What is kept of an answer, for the same request to get it again; the rest is in the event.
#[derive(Deserialize, Serialize)]
struct Kept {
    event_id: EventId,
    deliveries: usize,
}

/// `POST /events`. Sent twice with the same `Idempotency-Key`, or the same `id`, it is stored once.
pub(super) async fn one(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers())?.map(str::to_owned);
    let bytes = body_bytes(request, api.config.api.body_limit_bytes).await?;
    let incoming = read(&api, &bytes, key.as_deref(), api.clock.now())?;
    let stored = store(&api, &incoming).await?;
    let mut response = body::answer(StatusCode::CREATED, &stored);
    if stored.replayed {
        let replayed = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert("idempotent-replayed", replayed);
    }
    Ok(response)
}

/// Stores an event, or finds that it is stored already.
async fn store(api: &Api, incoming: &Incoming) -> Result<Stored, ApiError> {
    let merchant_id = &incoming.event.merchant_id;
    if api.store.merchant(merchant_id).await?.is_none() {
        let message = format!("there is no merchant '{merchant_id}'");
        return Err(ApiError::not_found("merchant.not_found", message));
    }
    let url_override = match (&incoming.snapshot, &incoming.event.subject) {
        // A transaction goes where its order's webhooks go.
        (None, Subject::Order(order_id)) => of_foreign_order(api, merchant_id, order_id).await?,
        _ => incoming.url_override.clone(),
    };
    let mut tries = 1;
    loop {
        let error = match try_once(api, incoming, url_override.as_deref()).await {
            Err(error) if error.kind == DbErrorKind::Stale => error,
            result => return Ok(result?),
        };
        if let Some(stored) = earlier(api, incoming).await? {
            return Ok(stored);
        }
        refuse_own(api, incoming).await?;
        if tries == TRIES {
            return Err(error.into());
        }
        tries += 1;
    }
}

async fn try_once(
    api: &Api,
    incoming: &Incoming,
    url_override: Option<&str>,
) -> Result<Stored, DbError> {
    let event = &incoming.event;
    let endpoints = api.store.endpoints(&event.merchant_id).await?;
    let planned = delivery::plan(event, &endpoints, url_override);
    let deliveries = planned
        .iter()
        .filter(|delivery| delivery.withheld.is_none())
        .count();
    let mut commit = Commit::new(event.merchant_id.clone(), api.clock.now());
    commit.writes = incoming
        .snapshot
        .iter()
        .cloned()
        .map(Write::Snapshot)
        .collect();
    let mut new = NewEvent {
        event: event.clone(),
        deliveries: planned,
        request_hash: None,
    };
    match &incoming.known_by {
        KnownBy::Key { key, request_hash } => {
            let kept = Kept {
                event_id: event.id.clone(),
                deliveries,
            };
            commit.idempotency = Some(NewIdempotencyKey {
                key: key.clone(),
                request_hash: request_hash.clone(),
                response: serde_json::to_string(&kept)?,
            });
        }
        KnownBy::Id { request_hash } => new.request_hash = Some(request_hash.clone()),
        KnownBy::Content => {}
    }
    commit.events.push(new);
    let committed = api.submit.store_and_hand_over(commit).await?;
    let place = committed.events.first().expect("one event was committed");
    Ok(Stored {
        event_id: event.id.clone(),
        sequence: place.sequence,
        cursor: cursor(place.position),
        deliveries,
        replayed: false,
    })
}

/// What was answered when this event was stored before; refuses a key that was used for another.
async fn earlier(api: &Api, incoming: &Incoming) -> Result<Option<Stored>, ApiError> {
    let merchant_id = &incoming.event.merchant_id;
    if let KnownBy::Key { key, request_hash } = &incoming.known_by
        && let Some(known) = api.store.idempotency(merchant_id, key).await?
    {
        refuse_other(request_hash, &known.request_hash)?;
        let kept: Kept = serde_json::from_str(&known.response).map_err(ApiError::internal)?;
        let (view, _) = api
            .store
            .event(merchant_id, &kept.event_id)
            .await?
            .ok_or_else(|| {
                let message = "the event of this request was stored once and is kept no longer";
                ApiError::not_found("event.not_found", message)
            })?;
        return Ok(Some(again(view, kept.deliveries)));
    }
    let event_id = &incoming.event.id;
    let Some((view, _)) = api.store.event(merchant_id, event_id).await? else {
        return Ok(None);
    };
    match (&incoming.known_by, &view.request_hash) {
        (KnownBy::Id { request_hash }, Some(first)) => refuse_other(request_hash, first)?,
        (KnownBy::Id { .. }, None) | (KnownBy::Key { .. }, _) => {
            let message = format!("there is an event '{event_id}' already, from another request");
            return Err(ApiError::conflict("event.exists", message));
        }
        // The same content in the same millisecond: one event, told twice.
        (KnownBy::Content, _) => {}
    }
    let rows = api.store.deliveries_of_event(merchant_id, event_id).await?;
    // What was planned then, whatever was asked for since.
    let planned = rows
        .iter()
        .filter(|row| row.kind == DeliveryKind::Event && row.state != DeliveryState::Withheld);
    Ok(Some(again(view, planned.count())))
}

fn refuse_other(request_hash: &str, first: &str) -> Result<(), ApiError> {
    if request_hash == first {
        return Ok(());
    }
    let message = "this id or Idempotency-Key was used for another request; take a new one";
    Err(ApiError::unprocessable("idempotency.mismatch", message))
}

/// The answer to a request that was sent before.
fn again(view: EventView, deliveries: usize) -> Stored {
    Stored {
        event_id: view.event_id,
        sequence: view.sequence,
        cursor: cursor(view.position),
        deliveries,
        replayed: true,
    }
}

/// Refuses to overwrite what our own rules decided.
async fn refuse_own(api: &Api, incoming: &Incoming) -> Result<(), ApiError> {
    let merchant_id = &incoming.event.merchant_id;
    let Some(SnapshotRow { kind, id, .. }) = &incoming.snapshot else {
        return Ok(());
    };
    let (code, origin) = match kind {
        SnapshotKind::Order => {
            let view = api
                .store
                .order(merchant_id, &OrderId::new(id.as_str()))
                .await?;
            ("order.own", view.map(|view| view.origin))
        }
        SnapshotKind::Mandate => {
            let view = api
                .store
                .mandate(merchant_id, &MandateId::new(id.as_str()))
                .await?;
            ("mandate.own", view.map(|view| view.origin))
        }
        SnapshotKind::Notification => {
            let reference = NotificationRef::new(id.as_str());
            let view = api.store.notification(merchant_id, &reference).await?;
            ("notification.own", view.map(|view| view.origin))
        }
    };
    match origin {
        Some(Origin::Own) => Err(own(code, id)),
        Some(Origin::Foreign) | None => Ok(()),
    }
}

fn own(code: &'static str, id: &str) -> ApiError {
    let message =
        format!("'{id}' is kept by this service; report its outcome on /outcomes instead");
    ApiError::conflict(code, message)
}

/// The URL that a foreign order wants its webhooks at; refuses an order of our own.
async fn of_foreign_order(
    api: &Api,
    merchant_id: &MerchantId,
    order_id: &OrderId,
) -> Result<Option<String>, ApiError> {
    match api.store.order(merchant_id, order_id).await? {
        Some(OrderView {
            origin: Origin::Own,
            ..
        }) => Err(own("order.own", order_id.as_str())),
        Some(OrderView {
            origin: Origin::Foreign,
            doc,
            ..
        }) => Ok(url_of_order(&doc)),
        None => Ok(None),
    }
}
