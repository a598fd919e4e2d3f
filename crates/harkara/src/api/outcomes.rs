//! What gateways and providers report, through the platform: of transactions, refunds, mandates and
//! notifications that our own rules keep.
//!
//! A report that is old news changes nothing and is answered with what holds. Which status may
//! follow which is the core's business; ledgers of the platform's own report to `ingest.rs`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use harkara_core::command::Command;
use harkara_core::id::{MandateId, MerchantId, NotificationRef, OrderId, RefundId, TxnUuid};
use harkara_core::mandate::MandateCommand;
use harkara_core::merchant::Merchant;
use harkara_core::notification::{NotificationCommand, NotificationOutcome};
use harkara_core::order::OrderCommand;
use harkara_core::refund::RefundOutcome;
use harkara_core::refusal::Refusal;
use harkara_core::txn::{GatewayFields, TxnError, TxnOutcome};
use harkara_webhook::{MandateStatus, NotificationStatus, OrderStatus, RefundStatus};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::auth::{self, PlatformCaller};
use super::body::JsonBody;
use super::parameters::Path;
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::store::RefKind;

/// What a gateway can say of a transaction; the other words are for Harkara itself to say.
const REPORTABLE: [OrderStatus; 10] = [
    OrderStatus::VbvSuccessful,
    OrderStatus::Authorizing,
    OrderStatus::Authorized,
    OrderStatus::Charged,
    OrderStatus::AuthenticationFailed,
    OrderStatus::AuthorizationFailed,
    OrderStatus::JuspayDeclined,
    OrderStatus::CaptureFailed,
    OrderStatus::Voided,
    OrderStatus::VoidFailed,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TxnReport {
    merchant_id: Option<String>,
    status: OrderStatus,
    error_code: Option<String>,
    error_message: Option<String>,
    gateway_reference_id: Option<String>,
    #[serde(default)]
    payment_gateway_response: GatewayFields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundReport {
    merchant_id: Option<String>,
    status: RefundStatus,
    order_id: Option<String>,
    gateway_refund_id: Option<String>,
    reference: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MandateReport {
    merchant_id: Option<String>,
    status: MandateStatus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationReport {
    merchant_id: Option<String>,
    status: NotificationStatus,
    response_code: Option<String>,
    response_message: Option<String>,
}

/// `POST /outcomes/txns/{txn_uuid}`.
pub(super) async fn txn(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(txn_uuid): Path<String>,
    headers: HeaderMap,
    JsonBody(report): JsonBody<TxnReport>,
) -> Result<Response, ApiError> {
    if !REPORTABLE.contains(&report.status) {
        let words = REPORTABLE.map(OrderStatus::as_str).join(", ");
        let reason = format!(
            "{} is not for a gateway to report; use {words}",
            report.status
        );
        return Err(ApiError::field("status", reason));
    }
    let merchant = merchant_of(&api, &headers, report.merchant_id).await?;
    let found = api
        .store
        .order_by_ref(&merchant.merchant_id, RefKind::TxnUuid, &txn_uuid)
        .await?;
    let order_id = found.ok_or(Refusal::TxnUnknown)?.order_id;
    let txn_uuid = TxnUuid::new(txn_uuid);
    let outcome = TxnOutcome {
        txn_uuid: txn_uuid.clone(),
        status: report.status,
        error: TxnError {
            code: report.error_code.unwrap_or_default(),
            message: report.error_message.unwrap_or_default(),
        },
        fields: report.payment_gateway_response,
        gateway_reference_id: report.gateway_reference_id,
    };
    let command = Command::Order(order_id, OrderCommand::TxnOutcome(Box::new(outcome)));
    let submitted = api.submit.run(&merchant, &[command]).await?;
    let order = submitted.order.ok_or(Refusal::TxnUnknown)?;
    let txn = order.txn(&txn_uuid).ok_or(Refusal::TxnUnknown)?;
    Ok(json_answer(&json!({
        "changed": submitted.changed,
        "status": txn.status,
        "txn_uuid": txn.txn_uuid,
        "txn_id": txn.txn_id,
        "order_id": order.order_id,
        "order_status": order.status(),
    })))
}

/// `POST /outcomes/refunds/{unique_request_id}`.
pub(super) async fn refund(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(unique_request_id): Path<String>,
    headers: HeaderMap,
    JsonBody(report): JsonBody<RefundReport>,
) -> Result<Response, ApiError> {
    let merchant = merchant_of(&api, &headers, report.merchant_id).await?;
    let order_id = match report.order_id {
        Some(order_id) => OrderId::new(order_id),
        None => {
            let merchant_id = &merchant.merchant_id;
            let found = api
                .store
                .order_by_ref(merchant_id, RefKind::Refund, &unique_request_id)
                .await?;
            found.ok_or(Refusal::RefundUnknown)?.order_id
        }
    };
    let refund_id = RefundId::new(unique_request_id);
    let outcome = RefundOutcome {
        refund_id: refund_id.clone(),
        status: report.status,
        gateway_refund_id: report.gateway_refund_id,
        reference: report.reference,
        error_code: report.error_code,
        error_message: report.error_message,
    };
    let command = Command::Order(order_id, OrderCommand::RefundOutcome(outcome));
    let submitted = api.submit.run(&merchant, &[command]).await?;
    let order = submitted.order.ok_or(Refusal::RefundUnknown)?;
    let refund = order.refund(&refund_id).ok_or(Refusal::RefundUnknown)?;
    Ok(json_answer(&json!({
        "changed": submitted.changed,
        "status": refund.status,
        "unique_request_id": refund.refund_id,
        "txn_id": refund.txn_id,
        "order_id": order.order_id,
    })))
}

/// `POST /outcomes/mandates/{mandate_id}`.
pub(super) async fn mandate(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(mandate_id): Path<String>,
    headers: HeaderMap,
    JsonBody(report): JsonBody<MandateReport>,
) -> Result<Response, ApiError> {
    let merchant = merchant_of(&api, &headers, report.merchant_id).await?;
    let command = MandateCommand::Outcome(report.status);
    let command = Command::Mandate(MandateId::new(mandate_id), command);
    let submitted = api.submit.run(&merchant, &[command]).await?;
    let mandate = submitted.mandate.ok_or(Refusal::MandateUnknown)?;
    Ok(json_answer(&json!({
        "changed": submitted.changed,
        "status": mandate.status,
        "mandate_id": mandate.mandate_id,
        "order_id": mandate.order_id,
    })))
}

/// `POST /outcomes/notifications/{object_reference_id}`.
pub(super) async fn notification(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    Path(reference): Path<String>,
    headers: HeaderMap,
    JsonBody(report): JsonBody<NotificationReport>,
) -> Result<Response, ApiError> {
    let merchant = merchant_of(&api, &headers, report.merchant_id).await?;
    let outcome = NotificationOutcome {
        status: report.status,
        response_code: report.response_code,
        response_message: report.response_message,
    };
    let command = NotificationCommand::Outcome(outcome);
    let command = Command::Notification(NotificationRef::new(reference), command);
    let submitted = api.submit.run(&merchant, &[command]).await?;
    let notification = submitted.notification.ok_or(Refusal::NotificationUnknown)?;
    Ok(json_answer(&json!({
        "changed": submitted.changed,
        "status": notification.status,
        "object_reference_id": notification.reference,
        "mandate_id": notification.mandate_id,
    })))
}

/// The merchant that the body names, or else the header.
async fn merchant_of(
    api: &Api,
    headers: &HeaderMap,
    in_body: Option<String>,
) -> Result<Arc<Merchant>, ApiError> {
    let named = match (in_body, auth::merchant_in_header(headers)?) {
        (Some(body), Some(header)) if body != header => {
            return Err(ApiError::field(
                "merchant_id",
                "is another than x-merchantid names",
            ));
        }
        (Some(body), _) => body,
        (None, Some(header)) => header.to_owned(),
        (None, None) => return Err(ApiError::missing("merchant_id")),
    };
    auth::merchant(api, &MerchantId::new(named)).await
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::testing::World;

    async fn pending_txn(world: &World) -> String {
        world
            .merchant("POST /orders", "order_id=o1&amount=10&auto_capture=true")
            .await;
        let txn = "order_id=o1&payment_method_type=NB&format=json&dummy_outcome=PENDING";
        let txn = world.merchant("POST /txns", txn).await.json();
        format!("/outcomes/txns/{}", txn["txn_uuid"].as_str().unwrap())
    }

    fn told(answer: &Value) -> String {
        format!(
            "{} {} {}",
            answer["changed"], answer["status"], answer["order_status"]
        )
    }

    #[tokio::test]
    async fn a_report_changes_something_once() {
        let world = World::new().await;
        let path = pending_txn(&world).await;
        let report = |status: &str| {
            format!(r#"{{"merchant_id":"ms","status":"{status}","error_code":"03"}}"#)
        };
        let mut table = String::new();
        for status in [
            "AUTHORIZING",
            "AUTHORIZATION_FAILED",
            "AUTHORIZING",
            "CHARGED",
            "CHARGED",
        ] {
            let answer = world
                .platform(&format!("POST {path}"), &report(status))
                .await;
            table += &format!("{status}: {}\n", told(&answer.json()));
        }
        insta::assert_snapshot!(table, @r#"
        AUTHORIZING: true "AUTHORIZING" "AUTHORIZING"
        AUTHORIZATION_FAILED: true "AUTHORIZATION_FAILED" "AUTHORIZATION_FAILED"
        AUTHORIZING: false "AUTHORIZATION_FAILED" "AUTHORIZATION_FAILED"
        CHARGED: true "CHARGED" "CHARGED"
        CHARGED: false "CHARGED" "CHARGED"
        "#);
        let status = world.merchant("GET /orders/o1", "").await.json();
        assert_eq!(status["status"], "CHARGED");
    }

    #[tokio::test]
    async fn what_nobody_knows_or_may_report_is_refused() {
        let world = World::new().await;
        let path = pending_txn(&world).await;
        let requests = [
            (&*path, r#"{"merchant_id":"ms","status":"NEW"}"#),
            (&path, r#"{"status":"CHARGED"}"#),
            (
                &path,
                r#"{"merchant_id":"ms","status":"CHARGED","paid":true}"#,
            ),
            (
                "/outcomes/txns/moz",
                r#"{"merchant_id":"ms","status":"CHARGED"}"#,
            ),
            (
                "/outcomes/refunds/r",
                r#"{"merchant_id":"ms","status":"SUCCESS"}"#,
            ),
            (
                "/outcomes/refunds/r",
                r#"{"merchant_id":"ms","status":"SUCCESS","order_id":"o1"}"#,
            ),
            (
                "/outcomes/mandates/m",
                r#"{"merchant_id":"ms","status":"ACTIVE"}"#,
            ),
            (
                "/outcomes/notifications/n",
                r#"{"merchant_id":"ms","status":"SUCCESS"}"#,
            ),
        ];
        let mut table = String::new();
        for (path, body) in requests {
            table += &world
                .platform(&format!("POST {path}"), body)
                .await
                .refusal();
            table.push('\n');
        }
        table += &world
            .merchant(&format!("POST {path}"), "{}")
            .await
            .refusal();
        insta::assert_snapshot!(table, @r#"
        400 "invalid_request": "status: NEW is not for a gateway to report; use VBV_SUCCESSFUL, AUTHORIZING, AUTHORIZED, CHARGED, AUTHENTICATION_FAILED, AUTHORIZATION_FAILED, JUSPAY_DECLINED, CAPTURE_FAILED, VOIDED, VOID_FAILED"
        400 "invalid_request": "the mandatory parameter 'merchant_id' is missing"
        400 "invalid_request": "paid: is unknown here; expected one of merchant_id, status, error_code, error_message, gateway_reference_id, payment_gateway_response"
        404 "txn.not_found": "there is no such transaction"
        404 "refund.not_found": "there is no such refund"
        404 "refund.not_found": "there is no such refund"
        404 "mandate.not_found": "there is no such mandate"
        404 "notification.not_found": "there is no such notification"
        403 "access_denied": "this path takes the platform's key, not a merchant's"
        "#);
    }
}
