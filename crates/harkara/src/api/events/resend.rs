//! Resends: a person asks for one event again, or for all events of one order.
//!
//! The same bytes under the same event id, each as a delivery of its own. Many events at once, by
//! what became of them, are a replay job's business (`api/replays.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use harkara_core::delivery::{self, DeliveryKind};
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::id::{EndpointId, EventId, MerchantId, OrderId, Subject};
use harkara_core::refusal::Refusal;
use harkara_webhook::EventName;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PAGE_MAX, find, is_real, is_test};
use crate::api::Api;
use crate::api::auth::ForMerchant;
use crate::api::body::{JsonBody, answer};
use crate::api::endpoints::{find as find_endpoint, unique};
use crate::api::parameters::Path;
use crate::config::days;
use crate::error::ApiError;
use crate::store::{DeliveryView, EventFilter, EventView, FeedAsk};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api) struct Resend {
    endpoint_id: Option<String>,
}

/// `POST /events/{event_id}/resend`: to everyone who was meant to have the event and is active, or to
/// the endpoint that is named.
pub(in crate::api) async fn event(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
    JsonBody(resend): JsonBody<Resend>,
) -> Result<Response, ApiError> {
    let event_id = EventId::new(event_id);
    let to = resend.endpoint_id.map(EndpointId::new);
    let deliveries = one_event(&api, &merchant.merchant_id, &event_id, to.as_ref()).await?;
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({ "event_id": event_id, "deliveries": deliveries }),
    ))
}

/// Sends an event again; returns the deliveries that this makes, as they are shown.
pub(crate) async fn one_event(
    api: &Api,
    merchant_id: &MerchantId,
    event_id: &EventId,
    to: Option<&EndpointId>,
) -> Result<Vec<Value>, ApiError> {
    let (view, body) = find(api, merchant_id, event_id).await?;
    let body = body.ok_or_else(|| gone(api, "this event"))?;
    let to = named(api, merchant_id, to).await?;
    let deliveries = send(api, merchant_id, (&view, body.len()), to.as_ref()).await?;
    if deliveries.is_empty() {
        return Err(nobody("this event"));
    }
    Ok(deliveries)
}

/// `POST /orders/{order_id}/resend`: all events of an order in their sequence, each to whom it would
/// go if it were resent alone; those that are kept without their bodies go to nobody.
pub(in crate::api) async fn order(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(order_id): Path<String>,
    JsonBody(resend): JsonBody<Resend>,
) -> Result<Response, ApiError> {
    let order_id = OrderId::new(order_id);
    let to = resend.endpoint_id.map(EndpointId::new);
    let events = order_events(&api, &merchant.merchant_id, &order_id, to.as_ref()).await?;
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({ "order_id": order_id, "events": events }),
    ))
}

/// Sends all events of an order again; returns them with the deliveries that this makes.
pub(crate) async fn order_events(
    api: &Api,
    merchant_id: &MerchantId,
    order_id: &OrderId,
    to: Option<&EndpointId>,
) -> Result<Vec<Value>, ApiError> {
    let to = named(api, merchant_id, to).await?;
    let mut ask = FeedAsk {
        filter: EventFilter {
            subject: Some(Subject::Order(order_id.clone())),
            ..EventFilter::default()
        },
        limit: usize::try_from(PAGE_MAX).expect("a small number"),
        bodies: true,
        ..FeedAsk::default()
    };
    let (mut events, mut is_to_somebody, mut has_bodies) = (Vec::new(), false, false);
    loop {
        let page = api.store.feed(merchant_id, ask.clone()).await?;
        if page.events.is_empty() {
            break;
        }
        ask.after = Some(page.next);
        for (view, body) in page.events.iter().filter(|(view, _)| !is_test(view)) {
            has_bodies |= body.is_some();
            let deliveries = match body {
                Some(body) => send(api, merchant_id, (view, body.len()), to.as_ref()).await?,
                None => Vec::new(),
            };
            is_to_somebody |= !deliveries.is_empty();
            let mut shown = json!({
                "event_id": view.event_id,
                "event_name": view.name,
                "sequence": view.sequence,
                "deliveries": deliveries,
            });
            if body.is_none() {
                shown["body_gone"] = true.into();
            }
            events.push(shown);
        }
    }
    if events.is_empty() && api.store.order(merchant_id, order_id).await?.is_none() {
        return Err(Refusal::OrderUnknown.into());
    }
    if !has_bodies {
        return Err(gone(api, "each event of this order"));
    }
    if !is_to_somebody {
        return Err(nobody("any event of this order"));
    }
    Ok(events)
}

async fn named(
    api: &Api,
    merchant_id: &MerchantId,
    to: Option<&EndpointId>,
) -> Result<Option<Arc<Endpoint>>, ApiError> {
    let Some(named) = to else {
        return Ok(None);
    };
    let row = find_endpoint(api, merchant_id, named).await?;
    Ok(Some(row.endpoint.into()))
}

/// `whose` has lost its bodies.
fn gone(api: &Api, whose: &str) -> ApiError {
    let days = days(api.config.retention.bodies);
    let message = format!(
        "there is nothing to send any more: bodies are kept for {days} days, and {whose} is older"
    );
    ApiError::gone("event.body_gone", message)
}

fn nobody(what: &str) -> ApiError {
    let message = format!("no active endpoint was meant to have {what}; name one with endpoint_id");
    ApiError::unprocessable("resend.nobody", message)
}

/// Makes a delivery of an event for each endpoint that it goes to, and shows them.
async fn send(
    api: &Api,
    merchant_id: &MerchantId,
    (view, body_bytes): (&EventView, usize),
    to: Option<&Arc<Endpoint>>,
) -> Result<Vec<Value>, ApiError> {
    let rows = api
        .store
        .deliveries_of_event(merchant_id, &view.event_id)
        .await?;
    let endpoints = match to {
        Some(endpoint) => vec![endpoint.clone()],
        None => meant(api, merchant_id, &rows).await?,
    };
    let name: EventName = view.name.parse().map_err(ApiError::internal)?;
    let now = api.clock.now();
    let mut shown = Vec::new();
    for endpoint in endpoints {
        let url_override = rows
            .iter()
            .find(|row| row.endpoint_id == endpoint.endpoint_id && row.kind == DeliveryKind::Event)
            .and_then(|row| row.url_override.as_deref());
        let which = unique(api, now);
        let event = (&view.event_id, name);
        let delivery = delivery::replay(event, &endpoint, url_override, &which, now);
        shown.push(json!({
            "endpoint_id": delivery.endpoint_id,
            "delivery_id": delivery.id,
            "withheld": delivery.withheld.map(|why| format!("{name} {why}")),
        }));
        api.submit.resend(delivery, body_bytes).await?;
    }
    Ok(shown)
}

/// The active endpoints that were meant to have an event with these deliveries.
async fn meant(
    api: &Api,
    merchant_id: &MerchantId,
    rows: &[DeliveryView],
) -> Result<Vec<Arc<Endpoint>>, ApiError> {
    let meant: BTreeSet<&EndpointId> = rows
        .iter()
        .filter(|row| is_real(row))
        .map(|row| &row.endpoint_id)
        .collect();
    let all = api.store.endpoints(merchant_id).await?;
    let active = all.iter().filter(|endpoint| {
        endpoint.state == EndpointState::Active && meant.contains(&endpoint.endpoint_id)
    });
    Ok(active.cloned().collect())
}
