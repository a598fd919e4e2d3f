//! `explain`: why an event was, or was not, sent to each of a merchant's endpoints.
//!
//! The facts are the core's; here the store's rows are put before it, endpoint by endpoint.

use axum::extract::{Path, State};
use axum::response::Response;
use harkara_core::delivery::{DeliveryState, ExplainInput, ExplainedAttempt, explain as facts};
use harkara_core::id::{EndpointId, EventId};
use harkara_core::time::Timestamp;
use serde_json::json;

use super::{evidence, find, is_real, outcome};
use crate::api::auth::ForMerchant;
use crate::api::{Api, json_answer};
use crate::error::ApiError;
use crate::store::{DeliveryView, EndpointRow, EventView};

/// `GET /events/{event_id}/explain`: the facts for each delivery, and for each endpoint without one.
pub(in crate::api) async fn explain(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
) -> Result<Response, ApiError> {
    let merchant_id = &merchant.merchant_id;
    let (event, _) = find(&api, merchant_id, &EventId::new(event_id)).await?;
    let rows = api
        .store
        .deliveries_of_event(merchant_id, &event.event_id)
        .await?;
    let mut explained = Vec::new();
    for row in &rows {
        let Some(endpoint) = api.store.endpoint(merchant_id, &row.endpoint_id).await? else {
            continue;
        };
        let input = explain_input(&api, &event, row, &endpoint).await?;
        explained.push(json!({
            "endpoint_id": row.endpoint_id,
            "delivery_id": row.delivery_id,
            "kind": row.kind.as_str(),
            "notified": has_event(&rows, &row.endpoint_id),
            "facts": facts(&input),
        }));
    }
    for endpoint in api.store.endpoints(merchant_id).await?.iter() {
        if rows
            .iter()
            .all(|row| row.endpoint_id != endpoint.endpoint_id)
        {
            explained.push(json!({
                "endpoint_id": endpoint.endpoint_id,
                "notified": false,
                "facts": [without_delivery(&event, endpoint.created_at)],
            }));
        }
    }
    Ok(json_answer(&json!({
        "event_id": event.event_id,
        "notified": event.notified,
        "endpoints": explained,
    })))
}

async fn explain_input(
    api: &Api,
    event: &EventView,
    row: &DeliveryView,
    endpoint: &EndpointRow,
) -> Result<ExplainInput, ApiError> {
    let merchant_id = &endpoint.endpoint.merchant_id;
    let waiting_on = match &row.waiting_on {
        Some(id) => api.store.delivery(merchant_id, id).await?,
        None => None,
    };
    let attempts = api.store.attempts(merchant_id, &row.delivery_id).await?;
    let attempts = attempts.iter().map(|view| {
        let (code, sentence) = outcome(&view.attempt, endpoint.endpoint.success);
        ExplainedAttempt {
            n: u32::try_from(view.n).unwrap_or(u32::MAX),
            at: view.attempt.started_at,
            code,
            sentence,
            overtaking: evidence(&view.attempt).overtaking,
        }
    });
    Ok(ExplainInput {
        event_name: event.name.parse().map_err(ApiError::internal)?,
        transition: event.transition.clone(),
        created_at: event.created_at,
        state: row.state,
        reason: row.reason.clone(),
        endpoint_version: endpoint.endpoint.version,
        endpoint_state: endpoint.endpoint.state.clone(),
        waiting_on_sequence: waiting_on.map(|other| other.sequence),
        attempts: attempts.collect(),
        due_at: row.due_at,
        settled_at: row.settled_at,
        now: api.clock.now(),
    })
}

fn without_delivery(event: &EventView, endpoint_created_at: Timestamp) -> String {
    if event.transition.starts_with("test of endpoint") {
        return "this is a test of another endpoint".to_owned();
    }
    let at = endpoint_created_at.iso();
    format!(
        "planned before this endpoint existed; it was made at {at}, and a resend to it is possible"
    )
}

fn has_event(rows: &[DeliveryView], endpoint_id: &EndpointId) -> bool {
    rows.iter().any(|row| {
        is_real(row) && &row.endpoint_id == endpoint_id && row.state == DeliveryState::Delivered
    })
}
