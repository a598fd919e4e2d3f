//! Endpoints: a merchant's URLs with their credentials, versions, switches and habits.
//!
//! What an endpoint may be set to is the core's rule, where it may point the guard's; here both are
//! asked. A secret comes in, is sealed, and is shown again only in the answer that made it up. The
//! handlers are thin: the dashboard calls what they call.

mod settings;
mod show;
mod signing;
#[cfg(test)]
mod tests;
mod trial;

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::Response;
use harkara_core::endpoint::{DEFAULT_OVERLAP, Endpoint, EndpointState};
use harkara_core::id::{EndpointId, MerchantId, base62, digest};
use harkara_core::time::Timestamp;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::auth::ForMerchant;
use super::body::{JsonBody, answer};
use super::parameters::Path;
use super::{Api, json_answer};
use crate::deliver::sign::Secret;
use crate::error::ApiError;
use crate::keys;
use crate::store::{DbError, DbErrorKind, EndpointRow};
use crate::vault::Context;

use self::settings::{apply, blank};
use self::show::{show, show_row};

pub(crate) use self::settings::Settings;
pub(super) use self::settings::url_refused;
pub(crate) use self::signing::{New as NewSecret, add_secret, remove_secrets};
pub(super) use self::signing::{add as add_signing_secret, remove as remove_signing_secrets};
pub(super) use self::trial::test;
pub(crate) use self::trial::{tell_flow, try_out};

const ENDPOINTS_MAX: usize = 30;
const REASON_MAX: usize = 200;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pause {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resume {
    waiting: Waiting,
}

/// What becomes of the deliveries that wait for an endpoint when it is resumed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Waiting {
    #[default]
    Send,
    /// They can be replayed later.
    Withdraw,
}

/// `POST /endpoints`. Without a password one is made up, and so is a signing secret for `"signing":
/// true`; they are shown in this answer alone.
pub(super) async fn create(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    JsonBody(settings): JsonBody<Settings>,
) -> Result<Response, ApiError> {
    let made = make(&api, &merchant.merchant_id, settings).await?;
    let mut shown = show(&made.endpoint, None, api.clock.now());
    shown["warnings"] = made.warnings.into();
    if let Some(password) = made.password {
        shown["password"] = password.as_str().into();
    }
    if let Some(secret) = made.signing_secret {
        shown["signing_secret"] = secret.as_str().into();
    }
    Ok(answer(StatusCode::CREATED, &shown))
}

/// A new endpoint, and what was made up for it, which nobody can ask for again.
pub(crate) struct Made {
    pub(crate) endpoint: Endpoint,
    pub(crate) warnings: Vec<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) signing_secret: Option<Zeroizing<String>>,
}

/// Makes an endpoint.
async fn make(api: &Api, merchant_id: &MerchantId, settings: Settings) -> Result<Made, ApiError> {
    let made = draft(api, merchant_id, settings).await?;
    put(api, &made.endpoint).await?;
    Ok(made)
}

/// Stores a new endpoint.
pub(crate) async fn put(api: &Api, new: &Endpoint) -> Result<EndpointRow, ApiError> {
    Ok(EndpointRow {
        endpoint: new.clone(),
        version: api.store.put_endpoint(new, 0).await?,
        deleted_at: None,
        health: None,
    })
}

/// A new endpoint as it may be, which is not stored yet.
pub(crate) async fn draft(
    api: &Api,
    merchant_id: &MerchantId,
    mut settings: Settings,
) -> Result<Made, ApiError> {
    let url = settings
        .url
        .as_deref()
        .ok_or_else(|| ApiError::missing("url"))?;
    if settings.username.is_none() {
        return Err(ApiError::missing("username"));
    }
    if settings.overlap_seconds.is_some() {
        let reason = "is for credentials that are replaced; a new endpoint has none";
        return Err(ApiError::field("overlap_seconds", reason));
    }
    if api.store.endpoints(merchant_id).await?.len() >= ENDPOINTS_MAX {
        let message = format!("a merchant has at most {ENDPOINTS_MAX} endpoints; delete one first");
        return Err(ApiError::unprocessable("endpoint.limit", message));
    }
    let now = api.clock.now();
    let id = digest(&[merchant_id.as_str(), url, &unique(api, now)]);
    let password = settings.password.is_none().then(keys::random_password);
    if let Some(password) = &password {
        settings.password = Some(password.to_string());
    }
    let mut endpoint = blank(
        merchant_id,
        format!("ep_{}", base62(&id, 16)),
        api.config.delivery.attempt_timeout,
        now,
    );
    let signing = settings.signing.take().unwrap_or(false);
    let secret = signing.then(Secret::generate);
    let warnings = apply(api, &mut endpoint, settings, now)?;
    if let Some(secret) = &secret {
        let context = Context::signing_secret(&endpoint.merchant_id, &endpoint.endpoint_id);
        let sealed = api.vault.seal(context, secret.as_bytes());
        endpoint.add_signing_secret(sealed, DEFAULT_OVERLAP, now);
    }
    Ok(Made {
        endpoint,
        warnings,
        password,
        signing_secret: secret.map(|secret| secret.text()),
    })
}

/// `GET /endpoints`, oldest first.
pub(super) async fn list(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    let rows = api.store.endpoint_rows(&merchant.merchant_id).await?;
    let now = api.clock.now();
    let shown: Vec<Value> = rows.iter().map(|row| show_row(row, now)).collect();
    Ok(json_answer(&json!({ "endpoints": shown })))
}

/// `GET /endpoints/{endpoint_id}`.
pub(super) async fn read(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
) -> Result<Response, ApiError> {
    let row = find(&api, &merchant.merchant_id, &EndpointId::new(endpoint_id)).await?;
    Ok(json_answer(&show_row(&row, api.clock.now())))
}

/// `PATCH /endpoints/{endpoint_id}`: any subset of what `create` takes but `signing`, and
/// `overlap_seconds` with new credentials: for so long, a receiver that refuses them is asked once
/// more with those before them. Without it those are forgotten at once.
pub(super) async fn update(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
    JsonBody(settings): JsonBody<Settings>,
) -> Result<Response, ApiError> {
    let endpoint_id = EndpointId::new(endpoint_id);
    let (row, warnings) = set(&api, &merchant.merchant_id, &endpoint_id, settings).await?;
    let mut shown = show_row(&row, api.clock.now());
    shown["warnings"] = warnings.into();
    Ok(json_answer(&shown))
}

/// Sets what is named; returns the endpoint, and what may trouble its receiver.
pub(crate) async fn set(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    settings: Settings,
) -> Result<(EndpointRow, Vec<String>), ApiError> {
    let now = api.clock.now();
    let set = |endpoint: &mut Endpoint| apply(api, endpoint, settings.clone(), now);
    change(api, merchant_id, endpoint_id, now, set).await
}

/// An endpoint as these settings would make it; nothing is stored.
pub(crate) fn would_be(
    api: &Api,
    endpoint: &Endpoint,
    settings: Settings,
) -> Result<Endpoint, ApiError> {
    let mut endpoint = endpoint.clone();
    apply(api, &mut endpoint, settings, api.clock.now())?;
    Ok(endpoint)
}

/// Changes an endpoint and stores it; returns it with what `make` says of the change.
async fn change<T>(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    now: Timestamp,
    make: impl Fn(&mut Endpoint) -> Result<T, ApiError>,
) -> Result<(EndpointRow, T), ApiError> {
    let mut tried = false;
    loop {
        let mut row = find(api, merchant_id, endpoint_id).await?;
        row.endpoint.forget_expired(now);
        let made = make(&mut row.endpoint)?;
        match api.store.put_endpoint(&row.endpoint, row.version).await {
            // Somebody else changed it between our look and our write; what they set stays set.
            Err(error) if error.kind == DbErrorKind::Stale && !tried => tried = true,
            result => {
                result?;
                return Ok((row, made));
            }
        }
    }
}

/// `POST /endpoints/{endpoint_id}/pause`: its deliveries wait.
pub(super) async fn pause(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
    JsonBody(pause): JsonBody<Pause>,
) -> Result<Response, ApiError> {
    let (merchant_id, endpoint_id) = (&merchant.merchant_id, EndpointId::new(endpoint_id));
    stop(&api, merchant_id, &endpoint_id, pause.reason).await?;
    shown(&api, merchant_id, &endpoint_id).await
}

/// Pauses an endpoint: its deliveries wait.
pub(crate) async fn stop(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    reason: Option<String>,
) -> Result<(), ApiError> {
    let reason = reason.unwrap_or_else(|| "paused by request".to_owned());
    if reason.chars().count() > REASON_MAX {
        return Err(ApiError::field(
            "reason",
            format!("is longer than {REASON_MAX} characters"),
        ));
    }
    let state = EndpointState::Paused {
        reason,
        at: api.clock.now(),
    };
    set_state(api, merchant_id, endpoint_id, state).await
}

/// `POST /endpoints/{endpoint_id}/resume`: what waited becomes due, or is withdrawn if the merchant
/// says so. The endpoint counts as well from here on.
pub(super) async fn resume(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
    JsonBody(resume): JsonBody<Resume>,
) -> Result<Response, ApiError> {
    let (merchant_id, endpoint_id) = (&merchant.merchant_id, EndpointId::new(endpoint_id));
    go_on(&api, merchant_id, &endpoint_id, resume.waiting).await?;
    shown(&api, merchant_id, &endpoint_id).await
}

/// Resumes an endpoint, with what waited for it or without.
pub(crate) async fn go_on(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    waiting: Waiting,
) -> Result<(), ApiError> {
    if waiting == Waiting::Withdraw {
        let reason = "the endpoint was resumed without what waited for it";
        let withdrawn = api
            .store
            .withdraw(merchant_id, endpoint_id, reason, api.clock.now());
        withdrawn.await?;
    }
    set_state(api, merchant_id, endpoint_id, EndpointState::Active).await?;
    api.submit.resumed(merchant_id, endpoint_id);
    Ok(())
}

async fn set_state(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    state: EndpointState,
) -> Result<(), ApiError> {
    let set = api
        .store
        .set_endpoint_state(merchant_id, endpoint_id, &state)
        .await;
    set.map_err(|error| gone(error, endpoint_id))
}

async fn shown(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
) -> Result<Response, ApiError> {
    let row = find(api, merchant_id, endpoint_id).await?;
    Ok(json_answer(&show_row(&row, api.clock.now())))
}

/// `DELETE /endpoints/{endpoint_id}`: what it has not settled is withdrawn.
pub(super) async fn delete(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
) -> Result<Response, ApiError> {
    let endpoint_id = EndpointId::new(endpoint_id);
    let withdrawn = take_away(&api, &merchant.merchant_id, &endpoint_id).await?;
    Ok(json_answer(
        &json!({ "endpoint_id": endpoint_id, "withdrawn": withdrawn }),
    ))
}

/// Deletes an endpoint; returns how many deliveries were withdrawn with it.
pub(crate) async fn take_away(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
) -> Result<usize, ApiError> {
    let reason = "the endpoint was deleted";
    let deleted = api
        .store
        .delete_endpoint(merchant_id, endpoint_id, reason, api.clock.now());
    deleted.await.map_err(|error| gone(error, endpoint_id))
}

/// An endpoint that is there and not deleted.
pub(crate) async fn find(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
) -> Result<EndpointRow, ApiError> {
    let row = api.store.endpoint(merchant_id, endpoint_id).await?;
    row.filter(|row| row.deleted_at.is_none())
        .ok_or_else(|| unknown(endpoint_id))
}

/// Text that no other call gets, for ids of things that may be asked for twice in a microsecond.
pub(super) fn unique(api: &Api, now: Timestamp) -> String {
    format!(
        "{}-{}",
        now.as_micros(),
        api.requests.fetch_add(1, Ordering::Relaxed)
    )
}

fn unknown(endpoint_id: &EndpointId) -> ApiError {
    ApiError::not_found(
        "endpoint.not_found",
        format!("there is no endpoint '{endpoint_id}'"),
    )
}

/// Stale means here that there was no such endpoint to write to.
fn gone(error: DbError, endpoint_id: &EndpointId) -> ApiError {
    match error.kind {
        DbErrorKind::Stale => unknown(endpoint_id),
        DbErrorKind::Busy | DbErrorKind::Down | DbErrorKind::Corrupt => error.into(),
    }
}
