//! Who is calling: a merchant with its API key, or the platform with its own.
//!
//! A key is found by its public half and compared in constant time. Somebody else's things look
//! like things that do not exist; that is up to the handlers, which only ever look under the
//! merchant that they are given here.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use harkara_core::id::MerchantId;
use harkara_core::merchant::Merchant;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde::Deserialize;

use super::Api;
use super::parameters::Query;
use crate::error::ApiError;
use crate::keys::{self, StoredKey};

/// The header in which a caller says which merchant it is, or is acting for.
pub const MERCHANT_HEADER: &str = "x-merchantid";

/// The merchant whose key came with the request.
pub struct MerchantCaller(pub Arc<Merchant>);

/// The platform, by its own key.
pub struct PlatformCaller;

/// The merchant that a request is about: the caller itself, or the one that the platform names in
/// `x-merchantid` or `?merchant_id=`.
pub struct ForMerchant(pub Arc<Merchant>);

enum Caller {
    Merchant(Arc<Merchant>),
    Platform,
}

impl FromRequestParts<Api> for MerchantCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        match caller(parts, api).await? {
            Caller::Merchant(merchant) => Ok(Self(merchant)),
            Caller::Platform => Err(ApiError::forbidden(
                "this path takes a merchant's key, not the platform's",
            )),
        }
    }
}

impl FromRequestParts<Api> for PlatformCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        match caller(parts, api).await? {
            Caller::Platform => Ok(Self),
            Caller::Merchant(_) => Err(ApiError::forbidden(
                "this path takes the platform's key, not a merchant's",
            )),
        }
    }
}

impl FromRequestParts<Api> for ForMerchant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        match caller(parts, api).await? {
            Caller::Merchant(merchant) => Ok(Self(merchant)),
            Caller::Platform => {
                let named = named_merchant(parts, api).await?;
                let named = named.ok_or_else(|| ApiError::missing(MERCHANT_HEADER))?;
                Ok(Self(merchant(api, &MerchantId::new(named)).await?))
            }
        }
    }
}

/// The merchant of this id; 404 when there is none.
pub async fn merchant(api: &Api, merchant_id: &MerchantId) -> Result<Arc<Merchant>, ApiError> {
    let row = api.store.merchant(merchant_id).await?;
    let row = row.ok_or_else(|| {
        ApiError::not_found(
            "merchant.not_found",
            format!("there is no merchant '{merchant_id}'"),
        )
    })?;
    let merchant: Merchant = serde_json::from_str(&row.doc).map_err(ApiError::internal)?;
    Ok(Arc::new(merchant))
}

async fn caller(parts: &mut Parts, api: &Api) -> Result<Caller, ApiError> {
    let header = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let header = header.ok_or_else(|| {
        ApiError::access_denied("an API key is needed: Authorization: Basic, with the key as user")
    })?;
    let wrong = || ApiError::access_denied("the API key is wrong or was revoked");
    let presented = keys::basic_key(header).ok_or_else(wrong)?;
    let row = api
        .store
        .api_key(presented.key_id())
        .await?
        .ok_or_else(wrong)?;
    let stored = StoredKey::from_parts(&row.key_id, &row.hash).ok_or_else(wrong)?;
    if row.revoked_at.is_some() || !presented.matches(&stored) {
        return Err(wrong());
    }
    if row.merchant_id.is_platform() {
        return Ok(Caller::Platform);
    }
    if let Some(named) = merchant_in_header(&parts.headers)?
        && named != row.merchant_id.as_str()
    {
        return Err(ApiError::access_denied(
            "x-merchantid names another merchant than the key's",
        ));
    }
    Ok(Caller::Merchant(merchant(api, &row.merchant_id).await?))
}

/// The merchant that `x-merchantid` names; an empty one names nobody.
pub fn merchant_in_header(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(named) = headers.get(MERCHANT_HEADER) else {
        return Ok(None);
    };
    let named = named
        .to_str()
        .map_err(|_| ApiError::field(MERCHANT_HEADER, "is not text"))?;
    Ok(Some(named).filter(|named| !named.is_empty()))
}

async fn named_merchant(parts: &mut Parts, api: &Api) -> Result<Option<String>, ApiError> {
    #[derive(Deserialize)]
    struct Named {
        merchant_id: Option<String>,
    }
    if let Some(named) = merchant_in_header(&parts.headers)? {
        return Ok(Some(named.to_owned()));
    }
    let Query(Named { merchant_id }) = Query::from_request_parts(parts, api).await?;
    Ok(merchant_id)
}
