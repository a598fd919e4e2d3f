//! Signing secrets of endpoints: added, changed over, taken away.
//!
//! A secret that we make up is shown in the answer that made it and nowhere else; one that a
//! merchant brings is never shown. Which of them sign, and until when, is the core's rule.

use axum::extract::State;
use axum::response::Response;
use harkara_core::endpoint::{DEFAULT_OVERLAP, Endpoint};
use harkara_core::id::{EndpointId, MerchantId};
use http::StatusCode;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::change;
use super::settings::overlap;
use super::show::show_row;
use crate::api::auth::ForMerchant;
use crate::api::body::{JsonBody, answer};
use crate::api::parameters::Path;
use crate::api::{Api, json_answer};
use crate::deliver::sign::Secret;
use crate::error::ApiError;
use crate::store::EndpointRow;
use crate::vault::Context;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct New {
    secret: Option<String>,
    overlap_seconds: Option<u64>,
}

/// `POST /endpoints/{endpoint_id}/signing`: the first secret, or a new one. The one before signs
/// beside it for `overlap_seconds`, a day when nobody says; what is older than that one ends. Whoever
/// brings a secret may simply ask again, and ends an overlap with the newest one and 0.
pub(in crate::api) async fn add(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<Response, ApiError> {
    let endpoint_id = EndpointId::new(endpoint_id);
    let (row, secret) = add_secret(&api, &merchant.merchant_id, &endpoint_id, new).await?;
    let mut shown = show_row(&row, api.clock.now());
    if let Some(secret) = secret {
        shown["signing_secret"] = secret.as_str().into();
    }
    Ok(answer(StatusCode::CREATED, &shown))
}

/// Adds a secret; returns it if it was made up here.
pub(crate) async fn add_secret(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    new: New,
) -> Result<(EndpointRow, Option<Zeroizing<String>>), ApiError> {
    let now = api.clock.now();
    let overlap = overlap(new.overlap_seconds)?.unwrap_or(DEFAULT_OVERLAP);
    let brought = new.secret.map(Zeroizing::new);
    let secret = match &brought {
        Some(text) => {
            Secret::parse(text).map_err(|why| ApiError::field("secret", why.to_string()))?
        }
        None => Secret::generate(),
    };
    let add = |endpoint: &mut Endpoint| {
        let context = Context::signing_secret(&endpoint.merchant_id, &endpoint.endpoint_id);
        let newest = endpoint
            .signing_secrets
            .first()
            .map(|newest| &newest.secret);
        let sealed = api.vault.seal_once(context, newest, secret.as_bytes());
        endpoint.add_signing_secret(sealed, overlap, now);
        Ok(())
    };
    let (row, ()) = change(api, merchant_id, endpoint_id, now, add).await?;
    Ok((row, brought.is_none().then(|| secret.text())))
}

/// `DELETE /endpoints/{endpoint_id}/signing`: nothing is signed any more; again is no mistake.
pub(in crate::api) async fn remove(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    Path(endpoint_id): Path<String>,
) -> Result<Response, ApiError> {
    let endpoint_id = EndpointId::new(endpoint_id);
    let row = remove_secrets(&api, &merchant.merchant_id, &endpoint_id).await?;
    Ok(json_answer(&show_row(&row, api.clock.now())))
}

/// Forgets all secrets of an endpoint.
pub(crate) async fn remove_secrets(
    api: &Api,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
) -> Result<EndpointRow, ApiError> {
    let remove = |endpoint: &mut Endpoint| {
        endpoint.signing_secrets.clear();
        Ok(())
    };
    let now = api.clock.now();
    let (row, ()) = change(api, merchant_id, endpoint_id, now, remove).await?;
    Ok(row)
}
