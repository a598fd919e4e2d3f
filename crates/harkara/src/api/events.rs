//! Events as merchants see them: the feed, one with its body, where it went, why, and once more.
//!
//! Bodies are handed out as they were sent, byte for byte. The sentences of attempts and of
//! `explain` are the core's; what a delivery did is the store's.

mod explain;
pub(crate) mod resend;
#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use harkara_core::delivery::{DeliveryKind, Failure, Outcome};
use harkara_core::endpoint::{Endpoint, SuccessRule};
use harkara_core::id::{DeliveryId, EventId, MandateId, MerchantId, OrderId, ReplayJobId, Subject};
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::auth::ForMerchant;
use super::body::answer;
use super::input::Input;
use super::parameters::Path;
use super::{Api, json_answer};
use crate::config::days;
use crate::deliver::shown::request_headers;
use crate::error::ApiError;
use crate::store::{
    AttemptRow, AttemptVerdict, AttemptView, DeliveryHistory, DeliveryView, EventFilter,
    EventHistory, EventView, FeedAsk,
};

pub(super) use self::explain::explain;
pub(crate) use self::explain::{Explained, ExplainedEndpoint, explained};

/// Events that one page of the feed has.
const PAGE: i64 = 100;
const PAGE_MAX: i64 = 500;

const FEED_PARAMETERS: &[&str] = &[
    "after",
    "limit",
    "event_name",
    "order_id",
    "mandate_id",
    "notified",
    "bodies",
    "merchant_id",
];

/// An event as it is shown; the body is the webhook's own text.
#[derive(Serialize)]
struct Shown {
    event_id: EventId,
    event_name: String,
    date_created: String,
    subject: String,
    sequence: i64,
    notified: bool,
    transition: String,
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// It was asked for and is kept no longer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    body_gone: bool,
}

/// `GET /events`: a merchant's events in commit order, after a cursor. Nothing is ever put in before
/// a cursor that was handed out, and what came after it and is gone is told, not passed over.
pub(super) async fn feed(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    refuse_unknown(&input, FEED_PARAMETERS)?;
    let after = input.text("after").map(read_cursor).transpose()?;
    let limit = input.integer("limit")?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let limit = usize::try_from(limit).expect("clamped to small numbers");
    let filter = EventFilter {
        name: input
            .word::<EventName>("event_name")?
            .map(|name| name.to_string()),
        subject: subject(&input)?,
        notified: input.flag("notified")?,
    };
    let by_subject = filter.subject.is_some();
    let bodies = input.flag("bodies")?.unwrap_or(false);
    let ask = FeedAsk {
        after,
        filter,
        limit,
        bodies,
    };
    let page = api.store.feed(&merchant.merchant_id, ask).await?;
    if page.has_gap {
        return Err(too_old(&api));
    }
    let mut events = Vec::with_capacity(page.events.len());
    // Tests are shown to who asks for them, by event or by their order; they are no news of a payment.
    let news = page
        .events
        .into_iter()
        .filter(|(view, _)| by_subject || !is_test(view));
    for (view, body) in news {
        events.push(match bodies {
            true => show_with_body(view, body)?,
            false => show(view),
        });
    }
    let cursor = cursor(page.next);
    Ok(answer(StatusCode::OK, &Page { events, cursor }))
}

#[derive(Serialize)]
struct Page {
    /// Fewer than were asked for, or none, when much was passed over or the bodies are large.
    events: Vec<Shown>,
    /// What to ask for next, whether or not there is more yet.
    cursor: String,
}

/// `GET /events/{event_id}`.
pub(super) async fn read(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
) -> Result<Response, ApiError> {
    let (view, body) = find(&api, &merchant.merchant_id, &EventId::new(event_id)).await?;
    Ok(answer(StatusCode::OK, &show_with_body(view, body)?))
}

/// `GET /events/{event_id}/deliveries`.
pub(super) async fn deliveries(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(event_id): Path<String>,
) -> Result<Response, ApiError> {
    let history = history(&api, &merchant.merchant_id, &EventId::new(event_id)).await?;
    let mut shown = Vec::new();
    for row in &history.deliveries {
        let job = job_of(&api, &merchant.merchant_id, &row.delivery).await?;
        shown.push(show_delivery(&row.delivery, job));
    }
    Ok(json_answer(
        &json!({ "event_id": history.event.event_id, "deliveries": shown }),
    ))
}

/// `GET /deliveries/{delivery_id}/attempts`.
pub(super) async fn attempts(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(delivery_id): Path<String>,
) -> Result<Response, ApiError> {
    let merchant_id = &merchant.merchant_id;
    let delivery_id = DeliveryId::new(delivery_id);
    let history = api
        .store
        .history_of_delivery(merchant_id, &delivery_id)
        .await?;
    let history = history.ok_or_else(|| {
        let message = format!("there is no delivery '{delivery_id}'");
        ApiError::not_found("delivery.not_found", message)
    })?;
    let delivery = &history.delivery;
    let endpoint = api
        .store
        .endpoint(merchant_id, &delivery.endpoint_id)
        .await?;
    let endpoint = endpoint.map(|row| row.endpoint);
    let rows = history.attempts.iter();
    let attempts = rows.map(|row| show_attempt(row, &history, endpoint.as_ref()));
    let attempts: Vec<Value> = attempts.collect();
    let job = job_of(&api, merchant_id, delivery).await?;
    let mut shown = show_delivery(delivery, job);
    shown["event_id"] = delivery.event_id.as_str().into();
    shown["attempts"] = attempts.into();
    Ok(json_answer(&shown))
}

/// An event of this merchant with its body, if that is kept.
pub(crate) async fn find(
    api: &Api,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<(EventView, Option<Bytes>), ApiError> {
    let found = api.store.event(merchant_id, event_id).await?;
    found.ok_or_else(|| unknown(api, event_id))
}

/// An event of this merchant with what became of it.
async fn history(
    api: &Api,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<EventHistory, ApiError> {
    api.store
        .history_of_event(merchant_id, event_id)
        .await?
        .ok_or_else(|| unknown(api, event_id))
}

fn unknown(api: &Api, event_id: &EventId) -> ApiError {
    let days = days(api.config.retention.events);
    let message = format!("there is no event '{event_id}'; events are kept for {days} days");
    ApiError::not_found("event.not_found", message)
}

fn too_old(api: &Api) -> ApiError {
    let days = days(api.config.retention.events);
    let message = format!(
        "events that came after this cursor are gone, for they are kept for {days} days; begin \
         again without `after`, and read what became of older orders from GET /orders"
    );
    ApiError::gone("cursor.too_old", message)
}

pub(super) fn refuse_unknown(input: &Input, known: &[&str]) -> Result<(), ApiError> {
    let given = input.starting_with(&[""]);
    match given
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        None => Ok(()),
        Some((name, _)) => {
            let known = known.join(", ");
            Err(ApiError::field(
                name,
                format!("is unknown here; expected one of {known}"),
            ))
        }
    }
}

fn subject(input: &Input) -> Result<Option<Subject>, ApiError> {
    match (input.text("order_id"), input.text("mandate_id")) {
        (Some(_), Some(_)) => Err(ApiError::field(
            "mandate_id",
            "cannot be asked for together with order_id",
        )),
        (Some(id), None) => Ok(Some(Subject::Order(OrderId::new(id)))),
        (None, Some(id)) => Ok(Some(Subject::Mandate(MandateId::new(id)))),
        (None, None) => Ok(None),
    }
}

/// A place in the feed, as text that is nobody's business but ours.
pub(super) fn cursor(position: i64) -> String {
    format!("c{position:x}")
}

pub(super) fn read_cursor(text: &str) -> Result<i64, ApiError> {
    let position = text
        .strip_prefix('c')
        .and_then(|hex| i64::from_str_radix(hex, 16).ok());
    position.filter(|position| *position >= 0).ok_or_else(|| {
        ApiError::field(
            "after",
            "is no cursor; hand back the one of an earlier answer, or nothing",
        )
    })
}

fn raw(body: Bytes) -> Result<Box<RawValue>, ApiError> {
    let text = String::from_utf8(body.into()).map_err(ApiError::internal)?;
    RawValue::from_string(text).map_err(ApiError::internal)
}

fn show_with_body(view: EventView, body: Option<Bytes>) -> Result<Shown, ApiError> {
    Ok(Shown {
        body_gone: body.is_none(),
        body: body.map(raw).transpose()?,
        ..show(view)
    })
}

fn show(view: EventView) -> Shown {
    Shown {
        date_created: view.created_at.iso(),
        cursor: cursor(view.position),
        event_id: view.event_id,
        event_name: view.name,
        subject: view.subject,
        sequence: view.sequence,
        notified: view.notified,
        transition: view.transition,
        body: None,
        body_gone: false,
    }
}

/// The job that made a delivery, if it is a replay of one.
async fn job_of(
    api: &Api,
    merchant_id: &MerchantId,
    row: &DeliveryView,
) -> Result<Option<ReplayJobId>, ApiError> {
    match row.kind {
        DeliveryKind::Replay => {
            let (event_id, delivery_id) = (&row.event_id, &row.delivery_id);
            Ok(api
                .store
                .replay_job_of(merchant_id, event_id, delivery_id)
                .await?)
        }
        DeliveryKind::Event | DeliveryKind::Test => Ok(None),
    }
}

fn show_delivery(row: &DeliveryView, job: Option<ReplayJobId>) -> Value {
    json!({
        "delivery_id": row.delivery_id,
        "endpoint_id": row.endpoint_id,
        "kind": row.kind.as_str(),
        "replay_job_id": job,
        "state": row.state.as_str(),
        "reason": row.reason,
        "attempts": row.attempts,
        "due_at": iso(row.due_at),
        "settled_at": iso(row.settled_at),
        "waiting_on": row.waiting_on,
        "overtaking": row.overtaking,
        "url_override": row.url_override,
        "created_at": row.created_at.iso(),
    })
}

fn iso(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::iso)
}

/// The evidence (timings, address, the answer's head and body) with what it meant.
fn show_attempt(
    view: &AttemptView,
    history: &DeliveryHistory,
    endpoint: Option<&Endpoint>,
) -> Value {
    let evidence = &view.attempt.evidence;
    let rule = endpoint.map_or(SuccessRule::Only200, |endpoint| endpoint.success);
    let request = endpoint.map(|endpoint| request_headers(endpoint, history, view));
    let (code, sentence) = outcome(&view.attempt, rule);
    json!({
        "n": view.n,
        "started_at": view.attempt.started_at.iso_micros(),
        "url": evidence.url,
        "code": code,
        "sentence": sentence,
        "status": view.attempt.status,
        "timings": {
            "dns_us": evidence.dns_us,
            "connect_us": evidence.connect_us,
            "tls_us": evidence.tls_us,
            "write_us": evidence.write_us,
            "first_byte_us": evidence.first_byte_us,
            "total_us": view.attempt.duration_us,
        },
        "request": { "headers": request.unwrap_or_default() },
        "answer": { "headers": evidence.answer_headers, "body": evidence.answer_body },
        "verdict": verdict_word(view.verdict),
        "retry_at": iso(view.retry_at),
        "overtaking": evidence.overtaking,
        "credentials": evidence.credentials,
        "late": view.late,
    })
}

fn verdict_word(verdict: AttemptVerdict) -> &'static str {
    match verdict {
        AttemptVerdict::Delivered => "delivered",
        AttemptVerdict::Retry => "retry",
        AttemptVerdict::Exhausted => "exhausted",
    }
}

/// An attempt's outcome as code and sentence.
fn outcome(attempt: &AttemptRow, rule: SuccessRule) -> (String, String) {
    let outcome = match (attempt.status, attempt.failure.as_deref()) {
        (Some(status), _) => Outcome::Answered {
            status,
            retry_after: None,
        },
        (None, failure) => {
            let known = failure.and_then(|code| code.parse().ok());
            Outcome::Failed(known.unwrap_or(Failure::Internal))
        }
    };
    (outcome.code(), outcome.sentence(rule))
}

/// Whether a delivery counts for anything but a press of the test button.
fn is_real(row: &DeliveryView) -> bool {
    match row.kind {
        DeliveryKind::Event | DeliveryKind::Replay => true,
        DeliveryKind::Test => false,
    }
}

/// Whether an event was made by the test button of an endpoint.
fn is_test(view: &EventView) -> bool {
    view.transition.starts_with("test of endpoint")
}
