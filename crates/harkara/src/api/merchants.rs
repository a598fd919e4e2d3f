//! Merchants and their API keys, for the platform: created, listed, changed, revoked.
//!
//! A key is shown in the one answer that makes it; the store has its hash. What a merchant may set
//! for itself is in `endpoints.rs`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use harkara_core::id::MerchantId;
use harkara_core::merchant::{Merchant, Settings};
use harkara_core::time::Timestamp;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::{PlatformCaller, merchant};
use super::body::{JsonBody, answer};
use super::parameters::Path;
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::keys::ApiKey;
use crate::store::{ApiKeyRow, DbErrorKind, MerchantRow};

const MERCHANT_ID_MAX: usize = 50;
const KEY_NAME_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMerchant {
    merchant_id: String,
    #[serde(default)]
    settings: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MerchantChanges {
    settings: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: Option<String>,
}

/// `POST /merchants`: the merchant with its first key, which only this answer shows.
pub(super) async fn create(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    JsonBody(new): JsonBody<NewMerchant>,
) -> Result<Response, ApiError> {
    let merchant_id = check_merchant_id(new.merchant_id)?;
    let settings = changed_settings(&Settings::default(), new.settings)?;
    let row = row_of(
        &Merchant {
            merchant_id,
            settings,
        },
        1,
        api.clock.now(),
    )?;
    api.store
        .put_merchant(row.clone())
        .await
        .map_err(|error| match error.kind {
            DbErrorKind::Stale => ApiError::conflict(
                "merchant.exists",
                format!("there is a merchant '{}' already", row.merchant_id),
            ),
            DbErrorKind::Busy | DbErrorKind::Down | DbErrorKind::Corrupt => error.into(),
        })?;
    // A key is a write of its own: if it is lost, `create_key` makes another.
    let (key, first) = draft_key(&api, &row.merchant_id, "first key")?;
    api.store.insert_api_key(first).await?;
    let mut shown = show(&row)?;
    shown["api_key"] = key.into();
    Ok(answer(StatusCode::CREATED, &shown))
}

/// `GET /merchants`.
pub(super) async fn list(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    let rows = api.store.merchants().await?;
    let merchants = rows.iter().map(show).collect::<Result<Vec<_>, _>>()?;
    Ok(json_answer(&json!({ "merchants": merchants })))
}

/// `GET /merchants/{merchant_id}`.
pub(super) async fn read(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(merchant_id): Path<String>,
) -> Result<Response, ApiError> {
    let row = find(&api, &MerchantId::new(merchant_id)).await?;
    Ok(json_answer(&show(&row)?))
}

/// `PATCH /merchants/{merchant_id}`: settings that are not named stay as they are.
pub(super) async fn update(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(merchant_id): Path<String>,
    JsonBody(changes): JsonBody<MerchantChanges>,
) -> Result<Response, ApiError> {
    let merchant_id = MerchantId::new(merchant_id);
    let mut tried = false;
    loop {
        let known = find(&api, &merchant_id).await?;
        let mut merchant: Merchant =
            serde_json::from_str(&known.doc).map_err(ApiError::internal)?;
        merchant.settings = changed_settings(&merchant.settings, changes.settings.clone())?;
        let row = row_of(&merchant, known.version + 1, known.created_at)?;
        match api.store.put_merchant(row.clone()).await {
            // Somebody else changed it between our look and our write; what they set stays set.
            Err(error) if error.kind == DbErrorKind::Stale && !tried => tried = true,
            result => {
                result?;
                return Ok(json_answer(&show(&row)?));
            }
        }
    }
}

/// `GET /merchants/{merchant_id}/keys`: everything but what would let somebody in.
pub(super) async fn keys(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(merchant_id): Path<String>,
) -> Result<Response, ApiError> {
    let merchant = merchant(&api, &MerchantId::new(merchant_id)).await?;
    let rows = api.store.api_keys(&merchant.merchant_id).await?;
    let keys: Vec<Value> = rows.iter().map(show_key).collect();
    Ok(json_answer(&json!({ "keys": keys })))
}

/// `POST /merchants/{merchant_id}/keys`: another key, which only this answer shows.
pub(super) async fn create_key(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(merchant_id): Path<String>,
    JsonBody(new): JsonBody<NewKey>,
) -> Result<Response, ApiError> {
    let merchant = merchant(&api, &MerchantId::new(merchant_id)).await?;
    let name = new.name.unwrap_or_default();
    let (key, row) = draft_key(&api, &merchant.merchant_id, &name)?;
    let mut shown = show_key(&row);
    api.store.insert_api_key(row).await?;
    shown["api_key"] = key.into();
    Ok(answer(StatusCode::CREATED, &shown))
}

/// `DELETE /merchants/{merchant_id}/keys/{key_id}`: revoked from now on; again is no mistake.
pub(super) async fn revoke_key(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path((merchant_id, key_id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let merchant = merchant(&api, &MerchantId::new(merchant_id)).await?;
    revoke(&api, &merchant.merchant_id, &key_id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Makes up another key of a merchant, or of the platform, still to be stored, and what its owner is
/// shown once.
pub(crate) fn draft_key(
    api: &Api,
    merchant_id: &MerchantId,
    name: &str,
) -> Result<(String, ApiKeyRow), ApiError> {
    if name.chars().count() > KEY_NAME_MAX {
        return Err(ApiError::field(
            "name",
            format!("is longer than {KEY_NAME_MAX} characters"),
        ));
    }
    let (presented, stored) = ApiKey::generate();
    let row = ApiKeyRow {
        hash: stored.hash_hex(),
        key_id: stored.key_id,
        merchant_id: merchant_id.clone(),
        doc: json!({ "name": name }).to_string(),
        created_at: api.clock.now(),
        revoked_at: None,
    };
    Ok((presented.expose().to_owned(), row))
}

/// Ends a key for good; one that has ended stays so.
pub(crate) async fn revoke(
    api: &Api,
    merchant_id: &MerchantId,
    key_id: &str,
) -> Result<(), ApiError> {
    let row = api.store.api_key(key_id).await?;
    let row = row
        .filter(|row| row.merchant_id == *merchant_id)
        .ok_or_else(|| {
            let whose = match merchant_id.as_str() {
                "" => "the platform".to_owned(),
                merchant_id => format!("merchant '{merchant_id}'"),
            };
            ApiError::not_found("key.not_found", format!("{whose} has no key '{key_id}'"))
        })?;
    if row.revoked_at.is_none() {
        let revoked = api
            .store
            .revoke_api_key(merchant_id, key_id, api.clock.now());
        match revoked.await {
            // Somebody else was faster.
            Err(error) if error.kind == DbErrorKind::Stale => {}
            result => result?,
        }
    }
    Ok(())
}

async fn find(api: &Api, merchant_id: &MerchantId) -> Result<Arc<MerchantRow>, ApiError> {
    api.store.merchant(merchant_id).await?.ok_or_else(|| {
        ApiError::not_found(
            "merchant.not_found",
            format!("there is no merchant '{merchant_id}'"),
        )
    })
}

fn row_of(
    merchant: &Merchant,
    version: i64,
    created_at: Timestamp,
) -> Result<MerchantRow, ApiError> {
    let doc = serde_json::to_string(merchant).map_err(ApiError::internal)?;
    Ok(MerchantRow {
        merchant_id: merchant.merchant_id.clone(),
        doc,
        version,
        created_at,
    })
}

fn show(row: &MerchantRow) -> Result<Value, ApiError> {
    let merchant: Merchant = serde_json::from_str(&row.doc).map_err(ApiError::internal)?;
    Ok(json!({
        "merchant_id": merchant.merchant_id,
        "settings": merchant.settings,
        "created_at": row.created_at.iso(),
    }))
}

/// What a key is called.
pub(crate) fn key_name(row: &ApiKeyRow) -> String {
    let doc: Value = serde_json::from_str(&row.doc).unwrap_or_default();
    doc["name"].as_str().unwrap_or_default().to_owned()
}

fn show_key(row: &ApiKeyRow) -> Value {
    json!({
        "key_id": row.key_id,
        "name": key_name(row),
        "created_at": row.created_at.iso(),
        "revoked_at": row.revoked_at.map(|at| at.iso()),
    })
}

/// The id stands in URLs, transaction ids and logs, hence the plain letters.
fn check_merchant_id(text: String) -> Result<MerchantId, ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=MERCHANT_ID_MAX).contains(&text.len()) || !text.bytes().all(plain) {
        let reason = format!("must be 1 to {MERCHANT_ID_MAX} letters, digits, '_' or '-'");
        return Err(ApiError::field("merchant_id", reason));
    }
    Ok(MerchantId::new(text))
}

/// Sets what is named, one by one, so that a setting that cannot be is refused by its name.
fn changed_settings(
    settings: &Settings,
    changes: Map<String, Value>,
) -> Result<Settings, ApiError> {
    let mut changed = settings.clone();
    for (name, value) in changes {
        let mut document = serde_json::to_value(&changed).map_err(ApiError::internal)?;
        document[&name] = value;
        changed = serde_json::from_value(document)
            .map_err(|error| ApiError::field(&format!("settings.{name}"), error.to_string()))?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_merchant_comes_with_a_key_that_can_be_revoked() {
        let world = World::new().await;
        let new = r#"{"merchant_id":"shop","settings":{"trim_webhook_response":true}}"#;
        let created = world.platform("POST /merchants", new).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let key = created.json()["api_key"].as_str().unwrap().to_owned();
        assert_eq!(world.with_key("GET /events", &key).await.status, 200);
        let twice = world.platform("POST /merchants", new).await;
        assert_eq!(twice.status, 409);

        let keys = world.platform("GET /merchants/shop/keys", "").await;
        assert!(!keys.text.contains("hash"), "{}", keys.text);
        let path = format!(
            "/merchants/shop/keys/{}",
            keys.json()["keys"][0]["key_id"].as_str().unwrap()
        );
        for _ in 0..2 {
            assert_eq!(
                world.platform(&format!("DELETE {path}"), "").await.status,
                204
            );
        }
        assert_eq!(world.with_key("GET /events", &key).await.status, 401);
        let others = path.replace("/shop/", "/ms/");
        assert_eq!(
            world.platform(&format!("DELETE {others}"), "").await.status,
            404
        );

        let changed = r#"{"settings":{"auto_refund_conflict":false}}"#;
        let changed = world
            .platform("PATCH /merchants/shop", changed)
            .await
            .json();
        let (trim, conflict) = (
            &changed["settings"]["trim_webhook_response"],
            &changed["settings"]["auto_refund_conflict"],
        );
        assert_eq!((trim, conflict), (&json!(true), &json!(false)));
        assert_eq!(world.merchant("GET /merchants", "").await.status, 403);
    }

    #[test]
    fn merchant_ids_are_plain() {
        let longest = "m".repeat(50);
        for good in ["ms", "Shop_1-eu", &longest] {
            assert!(check_merchant_id(good.to_owned()).is_ok(), "{good}");
        }
        let too_long = "m".repeat(51);
        for bad in ["", "a b", "a/b", "a.b", "ü", &too_long] {
            assert!(check_merchant_id(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_change_one_by_one_and_unknown_ones_are_refused() {
        let change = |text: &str| {
            let changes = serde_json::from_str(text).unwrap();
            match changed_settings(&Settings::default(), changes) {
                Ok(settings) => serde_json::to_string(&settings).unwrap(),
                Err(error) => error.message,
            }
        };
        insta::assert_snapshot!(change(r#"{"auto_refund_conflict_minutes":5}"#), @r#"{"add_full_gateway_response":true,"trim_webhook_response":false,"auto_refund_conflict":true,"auto_refund_conflict_minutes":5,"auto_refund_multiple_charged":true}"#);
        insta::assert_snapshot!(change(r#"{"trim_webhook_response":1}"#), @"settings.trim_webhook_response: invalid type: integer `1`, expected a boolean");
        insta::assert_snapshot!(change(r#"{"trim":true}"#), @"settings.trim: unknown field `trim`, expected one of `add_full_gateway_response`, `trim_webhook_response`, `auto_refund_conflict`, `auto_refund_conflict_minutes`, `auto_refund_multiple_charged`");
    }
}
