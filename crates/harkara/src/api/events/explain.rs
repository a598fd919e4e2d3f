//! `explain`: why an event was, or was not, sent to each of a merchant's endpoints.
//!
//! The facts are the core's; here the store's rows are put before it, endpoint by endpoint.

use axum::extract::State;
use axum::response::Response;
use harkara_core::delivery::{
    DeliveryState, ExplainInput, ExplainedAttempt, accepted, explain as facts,
};
use harkara_core::endpoint::Endpoint;
use harkara_core::id::{EndpointId, EventId, MerchantId, ReplayJobId};
use harkara_core::time::Timestamp;
use serde_json::{Value, json};

use super::{history, is_real, is_test, job_of, outcome};
use crate::api::auth::ForMerchant;
use crate::api::parameters::Path;
use crate::api::{Api, json_answer};
use crate::deliver::shown::request_headers;
use crate::error::ApiError;
use crate::store::{AttemptView, DeliveryHistory, EndpointRow, EventHistory, EventView};

/// `GET /events/{event_id}/explain`: the facts for each delivery, and for each endpoint without one.
pub(in crate::api) async fn explain(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
) -> Result<Response, ApiError> {
    let explained = explained(&api, &merchant.merchant_id, &EventId::new(event_id)).await?;
    let endpoints = explained.endpoints.iter().map(|it| match &it.history {
        Some(DeliveryHistory { delivery, .. }) => json!({
            "endpoint_id": it.endpoint_id,
            "delivery_id": delivery.delivery_id,
            "kind": delivery.kind.as_str(),
            "notified": it.notified,
            "facts": it.facts,
        }),
        None => json!({
            "endpoint_id": it.endpoint_id,
            "notified": it.notified,
            "facts": it.facts,
        }),
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let mut shown = json!({
        "event_id": explained.event.event_id,
        "notified": explained.event.notified,
        "endpoints": endpoints,
    });
    if !explained.has_body {
        shown["body_gone"] = true.into();
    }
    Ok(json_answer(&shown))
}

/// An event, and why it was or was not sent.
pub(crate) struct Explained {
    pub(crate) event: EventView,
    /// Whether there is anything that could be sent again.
    pub(crate) has_body: bool,
    /// For each delivery, and for each endpoint without one.
    pub(crate) endpoints: Vec<ExplainedEndpoint>,
}

impl Explained {
    /// Whether it was made up to test an endpoint, so that nobody is notified of anything.
    pub(crate) fn is_test(&self) -> bool {
        is_test(&self.event)
    }
}

/// What became of an event at an endpoint.
pub(crate) struct ExplainedEndpoint {
    pub(crate) endpoint_id: EndpointId,
    /// Where the event went or would go.
    pub(crate) url: String,
    /// None for an endpoint that is younger than the event.
    pub(crate) history: Option<DeliveryHistory>,
    /// Whether the endpoint has the event.
    pub(crate) notified: bool,
    pub(crate) facts: Vec<String>,
    endpoint: Endpoint,
}

impl ExplainedEndpoint {
    /// An attempt's outcome as code and sentence.
    pub(crate) fn outcome(&self, attempt: &AttemptView) -> (String, String) {
        outcome(&attempt.attempt, self.endpoint.success)
    }

    /// The headers that an attempt's request had.
    pub(crate) fn request_headers(&self, attempt: &AttemptView) -> Vec<(String, String)> {
        self.history.as_ref().map_or(Vec::new(), |history| {
            request_headers(&self.endpoint, history, attempt)
        })
    }

    /// Whether an attempt was answered with what counts as success.
    pub(crate) fn is_accepted(&self, attempt: &AttemptView) -> bool {
        let status = attempt.attempt.status;
        status.is_some_and(|status| accepted(self.endpoint.success, status))
    }

    /// Whether it still lacks the event after an attempt, or for good.
    pub(crate) fn is_troubled(&self) -> bool {
        let delivery = self.history.as_ref().map(|history| &history.delivery);
        delivery.is_some_and(|delivery| match delivery.state {
            DeliveryState::Pending | DeliveryState::Waiting => delivery.attempts > 0,
            DeliveryState::Exhausted | DeliveryState::Withdrawn => !self.notified,
            DeliveryState::Delivered | DeliveryState::Withheld => false,
        })
    }
}

/// Explains an event of this merchant.
pub(crate) async fn explained(
    api: &Api,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<Explained, ApiError> {
    let EventHistory {
        event,
        has_body,
        deliveries,
    } = history(api, merchant_id, event_id).await?;
    let mut endpoints = Vec::new();
    for row in &deliveries {
        let delivery = &row.delivery;
        let endpoint_id = &delivery.endpoint_id;
        let Some(endpoint) = api.store.endpoint(merchant_id, endpoint_id).await? else {
            continue;
        };
        let job = job_of(api, merchant_id, delivery).await?;
        let its = endpoint.endpoint.clone();
        let input = explain_input(&event, row, endpoint, job, api.clock.now())?;
        endpoints.push(ExplainedEndpoint {
            endpoint_id: endpoint_id.clone(),
            url: delivery
                .url_override
                .clone()
                .unwrap_or_else(|| its.url.clone()),
            history: Some(row.clone()),
            notified: has_event(&deliveries, endpoint_id),
            facts: facts(&input),
            endpoint: its,
        });
    }
    for endpoint in api.store.endpoints(merchant_id).await?.iter() {
        let is_its = |row: &DeliveryHistory| row.delivery.endpoint_id == endpoint.endpoint_id;
        if !deliveries.iter().any(is_its) {
            endpoints.push(ExplainedEndpoint {
                endpoint_id: endpoint.endpoint_id.clone(),
                url: endpoint.url.clone(),
                history: None,
                notified: false,
                facts: vec![without_delivery(&event, has_body, endpoint.created_at)],
                endpoint: Endpoint::clone(endpoint),
            });
        }
    }
    Ok(Explained {
        event,
        has_body,
        endpoints,
    })
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

fn without_delivery(event: &EventView, has_body: bool, endpoint_created_at: Timestamp) -> String {
    if is_test(event) {
        return "this is a test of another endpoint".to_owned();
    }
    let at = endpoint_created_at.iso();
    let resend = match has_body {
        true => "a resend to it is possible",
        false => "its body is kept no longer, so that it cannot be resent",
    };
    format!("planned before this endpoint existed; it was made at {at}, and {resend}")
}

fn has_event(rows: &[DeliveryHistory], endpoint_id: &EndpointId) -> bool {
    rows.iter().map(|row| &row.delivery).any(|delivery| {
        is_real(delivery)
            && &delivery.endpoint_id == endpoint_id
            && delivery.state == DeliveryState::Delivered
    })
}
