//! Pre-debit notifications for merchants: how the telling of a customer went.

use axum::extract::State;
use axum::response::Response;
use harkara_core::id::NotificationRef;
use harkara_core::notification::Notification;
use harkara_core::refusal::Refusal;
use harkara_core::render;

use super::auth::MerchantCaller;
use super::parameters::Path;
use super::{Api, json_bytes};
use crate::error::ApiError;
use crate::store::Origin;

/// `GET /notifications/{object_reference_id}`.
pub(super) async fn status(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(reference): Path<String>,
) -> Result<Response, ApiError> {
    let reference = NotificationRef::new(reference);
    let view = api
        .store
        .notification(&merchant.merchant_id, &reference)
        .await?;
    let view = view.ok_or(Refusal::NotificationUnknown)?;
    if view.origin == Origin::Foreign {
        return Ok(json_bytes(view.doc));
    }
    let notification: Notification = serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
    Ok(json_bytes(render::notification_status(&notification)))
}
