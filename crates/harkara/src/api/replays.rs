//! Replay jobs: asked for, looked at before they are made, paused, resumed and cancelled.
//!
//! What a job is about and what may be done to it is the core's rule; `crate::replay` lets it go on.
//! The handlers are thin: the dashboard calls what they call.
//! One event, or one order's, is sent again in `events/resend.rs`.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::id::{EndpointId, MerchantId, ReplayJobId, digest, hex, time_ordered};
use harkara_core::replay::{
    Definition, Done, ITEMS_MAX, Job, JobState, RATE, RATE_MAX, RUNNING_MAX, Standing, Survey,
    Wish, seconds,
};
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::ForMerchant;
use super::body::{JsonBody, answer};
use super::endpoints::{find as find_endpoint, unique};
use super::input::idempotency_key;
use super::parameters::{Path, Query};
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::replay::{Look, survey};
use crate::store::{DbErrorKind, NewIdempotencyKey};

/// Jobs that one page of the list has.
const PAGE: usize = 100;

/// What somebody wants replayed, before it is looked at.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) endpoint_id: String,
    pub(crate) to_endpoint_id: Option<String>,
    #[serde(default)]
    pub(crate) event_names: BTreeSet<EventName>,
    /// What was never delivered, unless told otherwise.
    pub(crate) states: Option<BTreeSet<Standing>>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) rate: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    before: Option<String>,
}

/// A definition that makes sense, with where its events go.
struct Defined {
    definition: Definition,
    to: Arc<Endpoint>,
}

/// What a job would find and do.
pub(crate) struct Preview {
    pub(crate) definition: Definition,
    pub(crate) survey: Survey,
    pub(crate) estimated_seconds: u32,
    /// What whoever asks should know about where the events go.
    pub(crate) notes: Vec<String>,
}

/// `POST /replays/preview`: what a job would find and how long it would take. Nothing is stored.
pub(super) async fn preview(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Response, ApiError> {
    let preview = look_ahead(&api, &merchant.merchant_id, asked, Look::Whole).await?;
    let survey = &preview.survey;
    let mut shown = show_definition(&preview.definition);
    shown["matched"] = survey.matched.into();
    shown["skipped"] = show_skipped(survey.skipped);
    shown["oldest_at"] = iso(survey.oldest_at).into();
    shown["newest_at"] = iso(survey.newest_at).into();
    shown["estimated_seconds"] = preview.estimated_seconds.into();
    shown["notes"] = preview.notes.into();
    Ok(json_answer(&shown))
}

/// Looks at what a job would find; refuses one that makes no sense, finds nothing, or too much.
pub(crate) async fn look_ahead(
    api: &Api,
    merchant_id: &MerchantId,
    asked: Asked,
    how_far: Look,
) -> Result<Preview, ApiError> {
    let defined = define(api, merchant_id, asked).await?;
    let now = api.clock.now();
    let last = api.store.last_position(merchant_id).await?;
    let survey = look(api, merchant_id, &defined, (last, now, how_far)).await?;
    let sent = survey.matched - survey.skipped.items();
    Ok(Preview {
        estimated_seconds: seconds(sent, defined.definition.rate),
        notes: notes(&defined.to),
        definition: defined.definition,
        survey,
    })
}

/// `POST /replays`. Sent twice with the same `Idempotency-Key`, it makes one job.
pub(super) async fn create(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let named = Named::new(&api, &merchant.merchant_id);
    let (job, is_again) = make(&api, &merchant.merchant_id, (named, asked), key).await?;
    let mut response = answer(StatusCode::CREATED, &show(&job));
    if is_again {
        let headers = response.headers_mut();
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The id of a job that may be made, and the moment that it is of: an id tells when its job began.
pub(crate) struct Named {
    pub(crate) id: ReplayJobId,
    at: Timestamp,
}

impl Named {
    pub(crate) fn new(api: &Api, merchant_id: &MerchantId) -> Self {
        let at = api.clock.now();
        let id = time_ordered(at, &[merchant_id.as_str(), &unique(api, at)]);
        Self {
            id: ReplayJobId::new(format!("rpl_{id}")),
            at,
        }
    }
}

/// Makes a job and lets it run. The same request under the same key makes one: then the job is the
/// earlier one, and the flag tells so.
pub(crate) async fn make(
    api: &Api,
    merchant_id: &MerchantId,
    (Named { id, at: now }, asked): (Named, Asked),
    key: Option<&str>,
) -> Result<(Job, bool), ApiError> {
    let defined = define(api, merchant_id, asked).await?;
    let doc = serde_json::to_string(&defined.definition).map_err(ApiError::internal)?;
    let key = key.map(|key| NewIdempotencyKey {
        key: key.to_owned(),
        request_hash: hex(&digest(&["replay", &doc])),
        response: String::new(),
    });
    if let Some(job) = earlier(api, merchant_id, key.as_ref()).await? {
        return Ok((job, true));
    }
    let last_position = api.store.last_position(merchant_id).await?;
    let survey = look(
        api,
        merchant_id,
        &defined,
        (last_position, now, Look::Whole),
    )
    .await?;
    let job = Job {
        merchant_id: merchant_id.clone(),
        id,
        definition: defined.definition,
        created_at: now,
        matched: survey.matched,
        last_position,
        cursor: 0,
        done: Done::default(),
        state: JobState::Running,
        reason: None,
        changed_at: now,
    };
    let kept = key.clone().map(|key| NewIdempotencyKey {
        response: job.id.to_string(),
        ..key
    });
    match api
        .store
        .insert_replay_job(job.clone(), kept, RUNNING_MAX)
        .await
    {
        Ok(true) => {}
        Ok(false) => return Err(too_many()),
        Err(error) if error.kind == DbErrorKind::Stale => {
            // The same request was faster on another connection.
            let job = earlier(api, merchant_id, key.as_ref()).await?;
            return job.map(|job| (job, true)).ok_or_else(|| error.into());
        }
        Err(error) => return Err(error.into()),
    }
    api.replays.notify_one();
    Ok((job, false))
}

/// `GET /replays`, newest first; `before` goes on where a page ended.
pub(super) async fn list(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Query(Listed { before }): Query<Listed>,
) -> Result<Response, ApiError> {
    let before = before.map(ReplayJobId::new);
    let jobs = api
        .store
        .replay_jobs(&merchant.merchant_id, before, PAGE)
        .await?;
    let shown: Vec<Value> = jobs.iter().map(show).collect();
    Ok(json_answer(&json!({ "replays": shown })))
}

/// `GET /replays/{job_id}`, with how many of its deliveries have arrived.
pub(super) async fn read(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    let job = find(&api, &merchant.merchant_id, &ReplayJobId::new(job_id)).await?;
    let mut shown = show(&job);
    shown["delivered"] = api.store.delivered_by_replay_job(&job).await?.into();
    Ok(json_answer(&shown))
}

/// `POST /replays/{job_id}/pause`: what it has made already is sent all the same.
pub(super) async fn pause(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    changed(&api, &merchant.merchant_id, job_id, Wish::Pause).await
}

/// `POST /replays/{job_id}/resume`: it goes on where it was.
pub(super) async fn resume(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    changed(&api, &merchant.merchant_id, job_id, Wish::Resume).await
}

/// `POST /replays/{job_id}/cancel`, for good.
pub(super) async fn cancel(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    changed(&api, &merchant.merchant_id, job_id, Wish::Cancel).await
}

async fn changed(
    api: &Api,
    merchant_id: &MerchantId,
    job_id: String,
    wish: Wish,
) -> Result<Response, ApiError> {
    let job = change(api, merchant_id, &ReplayJobId::new(job_id), wish).await?;
    Ok(json_answer(&show(&job)))
}

/// Does to a job what somebody wishes, and returns it as it is then.
pub(crate) async fn change(
    api: &Api,
    merchant_id: &MerchantId,
    job_id: &ReplayJobId,
    wish: Wish,
) -> Result<Job, ApiError> {
    let mut tried = false;
    loop {
        let job = find(api, merchant_id, job_id).await?;
        let state = job
            .state
            .after(wish)
            .map_err(|ended| ApiError::unprocessable("replay.ended", ended.to_string()))?;
        if state == job.state {
            return Ok(job);
        }
        let seen = job.state;
        let changed = Job {
            state,
            changed_at: api.clock.now(),
            ..job
        };
        match api
            .store
            .change_replay_job(seen, changed, RUNNING_MAX)
            .await
        {
            // It has finished, or somebody else has changed it, between our look and our write.
            Err(error) if error.kind == DbErrorKind::Stale && !tried => tried = true,
            Err(error) => return Err(error.into()),
            Ok(false) => return Err(too_many()),
            Ok(true) => {
                if state == JobState::Running {
                    api.replays.notify_one();
                }
                // The runner may have made a step since we looked.
                return find(api, merchant_id, job_id).await;
            }
        }
    }
}

/// Checks what is asked for; both endpoints have to be the merchant's own.
async fn define(api: &Api, merchant_id: &MerchantId, asked: Asked) -> Result<Defined, ApiError> {
    let endpoint_id = EndpointId::new(asked.endpoint_id);
    let to = match asked.to_endpoint_id {
        None => find_endpoint(api, merchant_id, &endpoint_id).await?,
        Some(to) => {
            // What a deleted endpoint never got can go to another.
            let from = api.store.endpoint(merchant_id, &endpoint_id).await?;
            if from.is_none() {
                find_endpoint(api, merchant_id, &endpoint_id).await?;
            }
            find_endpoint(api, merchant_id, &EndpointId::new(to)).await?
        }
    };
    let states = asked.states.unwrap_or_else(|| Standing::LOST.into());
    if states.is_empty() {
        let reason = "is empty; leave it out for what was never delivered, or name a state";
        return Err(ApiError::field("states", reason));
    }
    let rate = asked.rate.unwrap_or(RATE);
    if !(1..=RATE_MAX).contains(&rate) {
        let reason = format!("must be 1 to {RATE_MAX} events per second");
        return Err(ApiError::field("rate", reason));
    }
    let (from, to_time) = (moment("from", asked.from)?, moment("to", asked.to)?);
    if let (Some(from), Some(to)) = (from, to_time)
        && from >= to
    {
        return Err(ApiError::field("to", "must be later than from"));
    }
    let definition = Definition {
        endpoint_id,
        to_endpoint_id: to.endpoint.endpoint_id.clone(),
        event_names: asked.event_names,
        states,
        from,
        to: to_time,
        rate,
    };
    Ok(Defined {
        definition,
        to: to.endpoint.into(),
    })
}

fn moment(name: &str, text: Option<String>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let moment = Timestamp::parse_iso(&text);
    moment
        .map(Some)
        .ok_or_else(|| ApiError::field(name, "is no moment; write it as 2023-08-10T07:00:48Z"))
}

/// What a job of this definition would find now.
async fn look(
    api: &Api,
    merchant_id: &MerchantId,
    Defined { definition, to }: &Defined,
    moment: (i64, Timestamp, Look),
) -> Result<Survey, ApiError> {
    fitting(survey(&api.store, merchant_id, definition, to, moment).await?)
}

/// Refuses a job that would have nothing to do, or too much.
fn fitting(survey: Survey) -> Result<Survey, ApiError> {
    if survey.is_too_much() {
        let message = format!(
            "{ITEMS_MAX} events or more fit, and one job takes fewer; narrow event_names, states, \
             or the time between from and to, and make several jobs"
        );
        return Err(ApiError::unprocessable("replay.too_much", message));
    }
    if survey.matched == 0 && !survey.is_partial {
        let message = "no event of this endpoint fits; widen event_names, states, or the time \
                       between from and to";
        return Err(ApiError::unprocessable("replay.nothing", message));
    }
    Ok(survey)
}

/// The job that an earlier request with this key made; refuses a key that was used for another.
async fn earlier(
    api: &Api,
    merchant_id: &MerchantId,
    key: Option<&NewIdempotencyKey>,
) -> Result<Option<Job>, ApiError> {
    let Some(key) = key else {
        return Ok(None);
    };
    let Some(known) = api.store.idempotency(merchant_id, &key.key).await? else {
        return Ok(None);
    };
    if known.request_hash != key.request_hash {
        let message = "this Idempotency-Key was used for another request; take a new one";
        return Err(ApiError::unprocessable("idempotency.mismatch", message));
    }
    let job_id = ReplayJobId::new(known.response);
    find(api, merchant_id, &job_id).await.map(Some)
}

fn too_many() -> ApiError {
    let message = format!(
        "{RUNNING_MAX} replays of this merchant run already; wait until one has finished, or pause \
         or cancel one"
    );
    ApiError::unprocessable("replay.limit", message)
}

/// A job of the merchant's.
pub(crate) async fn find(
    api: &Api,
    merchant_id: &MerchantId,
    job_id: &ReplayJobId,
) -> Result<Job, ApiError> {
    let job = api.store.replay_job(merchant_id, job_id).await?;
    job.ok_or_else(|| {
        ApiError::not_found("replay.not_found", format!("there is no replay '{job_id}'"))
    })
}

/// What is to be known about where the events go.
fn notes(to: &Endpoint) -> Vec<String> {
    let (state, reason) = match &to.state {
        EndpointState::Active => return Vec::new(),
        EndpointState::Paused { reason, .. } => ("paused", reason),
        EndpointState::Disabled { reason, .. } => ("disabled", reason),
    };
    let waits = "what is replayed waits until it is resumed";
    vec![format!("the endpoint is {state}: {reason}; {waits}")]
}

fn show_definition(definition: &Definition) -> Value {
    json!({
        "endpoint_id": definition.endpoint_id,
        "to_endpoint_id": definition.to_endpoint_id,
        "event_names": definition.event_names,
        "states": definition.states,
        "from": iso(definition.from),
        "to": iso(definition.to),
        "rate": definition.rate,
    })
}

fn show(job: &Job) -> Value {
    let mut shown = show_definition(&job.definition);
    shown["job_id"] = job.id.as_str().into();
    shown["state"] = json!(job.state);
    shown["reason"] = job.reason.as_deref().into();
    shown["created_at"] = job.created_at.iso().into();
    shown["changed_at"] = job.changed_at.iso().into();
    shown["matched"] = job.matched.into();
    shown["replayed"] = job.done.replayed.into();
    shown["skipped"] = show_skipped(job.done);
    shown["remaining_seconds"] = match job.state {
        JobState::Running | JobState::Paused => job.remaining_seconds(),
        JobState::Cancelled | JobState::Finished => 0,
    }
    .into();
    shown
}

fn show_skipped(done: Done) -> Value {
    json!({
        "version": done.below_version,
        "switch": done.switched_off,
        "delivered": done.delivered,
        "without_body": done.without_body,
    })
}

fn iso(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::iso)
}
