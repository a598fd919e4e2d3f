//! `explain`: why an event was, or was not, sent to each of a merchant's endpoints.
//!
//! The facts are the core's; here the store's rows are put before it, endpoint by endpoint.

use axum::extract::State;
use axum::response::Response;
use harkara_core::delivery::{DeliveryState, ExplainInput, ExplainedAttempt, explain as facts};
use harkara_core::id::{EndpointId, EventId, ReplayJobId};
use harkara_core::time::Timestamp;
use serde_json::json;

use super::{history, is_real, is_test, job_of, outcome};
use crate::api::auth::ForMerchant;
use crate::api::parameters::Path;
use crate::api::{Api, json_answer};
use crate::error::ApiError;
use crate::store::{DeliveryHistory, EndpointRow, EventHistory, EventView};

/// `GET /events/{event_id}/explain`: the facts for each delivery, and for each endpoint without one.
pub(in crate::api) async fn explain(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
) -> Result<Response, ApiError> {
    let merchant_id = &merchant.merchant_id;
    let EventHistory { event, deliveries } =
        history(&api, merchant_id, &EventId::new(event_id)).await?;
    let mut explained = Vec::new();
    for row in &deliveries {
        let delivery = &row.delivery;
        let endpoint_id = &delivery.endpoint_id;
        let Some(endpoint) = api.store.endpoint(merchant_id, endpoint_id).await? else {
            continue;
        };
        let job = job_of(&api, merchant_id, delivery).await?;
        let input = explain_input(&event, row, endpoint, job, api.clock.now())?;
        explained.push(json!({
            "endpoint_id": endpoint_id,
            "delivery_id": delivery.delivery_id,
            "kind": delivery.kind.as_str(),
            "notified": has_event(&deliveries, endpoint_id),
            "facts": facts(&input),
        }));
    }
    for endpoint in api.store.endpoints(merchant_id).await?.iter() {
        if deliveries
            .iter()
            .all(|row| row.delivery.endpoint_id != endpoint.endpoint_id)
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

fn explain_input(
    event: &EventView,
    row: &DeliveryHistory,
    EndpointRow {
        endpoint, health, ..
    }: EndpointRow,
    replay_job_id: Option<ReplayJobId>,
    now: Timestamp,
) -> Result<ExplainInput, ApiError> {
    let delivery = &row.delivery;
    let attempts = row.attempts.iter().map(|view| {
        let (code, sentence) = outcome(&view.attempt, endpoint.success);
        ExplainedAttempt {
            n: u32::try_from(view.n).unwrap_or(u32::MAX),
            at: view.attempt.started_at,
            code,
            sentence,
            overtaking: view.attempt.evidence.overtaking,
        }
    });
    Ok(ExplainInput {
        event_name: event.name.parse().map_err(ApiError::internal)?,
        transition: event.transition.clone(),
        created_at: event.created_at,
        replay_job_id,
        state: delivery.state,
        reason: delivery.reason.clone(),
        endpoint_version: endpoint.version,
        endpoint_state: endpoint.state,
        endpoint_health: health.unwrap_or_default(),
        waiting_on_sequence: row.waiting_on_sequence,
        attempts: attempts.collect(),
        due_at: delivery.due_at,
        settled_at: delivery.settled_at,
        now,
    })
}

fn without_delivery(event: &EventView, endpoint_created_at: Timestamp) -> String {
    if is_test(event) {
        return "this is a test of another endpoint".to_owned();
    }
    let at = endpoint_created_at.iso();
    format!(
        "planned before this endpoint existed; it was made at {at}, and a resend to it is possible"
    )
}

fn has_event(rows: &[DeliveryHistory], endpoint_id: &EndpointId) -> bool {
    rows.iter().map(|row| &row.delivery).any(|delivery| {
        is_real(delivery)
            && &delivery.endpoint_id == endpoint_id
            && delivery.state == DeliveryState::Delivered
    })
}
