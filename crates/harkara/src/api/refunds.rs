//! Refunds for merchants: of an order, or of one of its transactions.

use axum::extract::State;
use axum::response::Response;
use harkara_core::command::Command;
use harkara_core::dummy;
use harkara_core::id::{OrderId, RefundId, TxnId};
use harkara_core::merchant::Merchant;
use harkara_core::order::OrderCommand;
use harkara_core::refund::{NewRefund, RefundKind};
use harkara_core::refusal::Refusal;
use serde_json::json;

use super::auth::MerchantCaller;
use super::input::Input;
use super::orders::{order_answer, order_id};
use super::parameters::Path;
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::store::RefKind;
use crate::submit::Submitted;

/// `POST /orders/{order_id}/refunds`: answers with the full order.
pub(super) async fn of_order(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(order_id): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    let new = new_refund(&input, None)?;
    let submitted = refund(&api, &merchant, OrderId::new(order_id), new).await?;
    order_answer(&api, &merchant, &submitted)
}

/// `POST /order/refund`, the older SDKs' form.
pub(super) async fn of_order_legacy(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let order_id = order_id(&input, "order_id")?;
    let submitted = refund(&api, &merchant, order_id, new_refund(&input, None)?).await?;
    order_answer(&api, &merchant, &submitted)
}

/// `POST /refunds`: of a transaction, or of an order; answers with the refund alone.
pub(super) async fn of_txn(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let txn_id = input.text("txn_id").map(TxnId::new);
    let order_id = match &txn_id {
        Some(txn_id) => {
            let found = api
                .store
                .order_by_ref(&merchant.merchant_id, RefKind::TxnId, txn_id.as_str())
                .await?;
            found.ok_or(Refusal::TxnUnknown)?.order_id
        }
        None => order_id(&input, "order_id")?,
    };
    let new = new_refund(&input, txn_id)?;
    let refund_id = new.refund_id.clone();
    let submitted = refund(&api, &merchant, order_id, new).await?;
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let refund = order.refund(&refund_id).ok_or(Refusal::RefundUnknown)?;
    Ok(json_answer(&json!({
        "unique_request_id": refund.refund_id,
        "txn_id": refund.txn_id,
        "order_id": order.order_id,
        "status": refund.status,
        "amount": refund.amount,
        "sent_to_gateway": refund.sent_to_gateway,
        "refund_type": refund.refund_type,
        "refund_source": refund.source,
        "gateway": refund.source,
        "initiated_by": match refund.kind {
            RefundKind::Merchant => order.merchant_id.as_str(),
            RefundKind::Auto => "AUTO_REFUNDED",
        },
        "created": refund.created_at.iso(),
        "error_message": (!refund.error_message.is_empty()).then_some(&refund.error_message),
        "response_code": refund.error_code,
        "refund_arn": null,
        "reference_id": refund.reference,
        "epg_txn_id": null,
        "authorization_id": null,
    })))
}

async fn refund(
    api: &Api,
    merchant: &Merchant,
    order_id: OrderId,
    new: NewRefund,
) -> Result<Submitted, ApiError> {
    let command = Command::Order(order_id, OrderCommand::Refund(new));
    Ok(api.submit.run(merchant, &[command]).await?)
}

fn new_refund(input: &Input, txn_id: Option<TxnId>) -> Result<NewRefund, ApiError> {
    let refund_id = input.required("unique_request_id")?;
    if refund_id.len() > 50 || refund_id.chars().any(|c| c.is_control()) {
        return Err(ApiError::field(
            "unique_request_id",
            "must be at most 50 plain characters",
        ));
    }
    let refund_type = input.one_of("refund_type", &["STANDARD", "INSTANT"])?;
    Ok(NewRefund {
        refund_id: RefundId::new(refund_id),
        amount: input.amount("amount")?,
        txn_id,
        refund_type: refund_type.unwrap_or_else(|| "STANDARD".to_owned()),
        forced: input.one_of("dummy_outcome", dummy::FORCED_REFUND)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    async fn paid(world: &World, order_id: &str) {
        let order = format!("order_id={order_id}&amount=10");
        world.merchant("POST /orders", &order).await.json();
        let txn =
            format!("order_id={order_id}&payment_method_type=NB&format=json&dummy_outcome=PENDING");
        let txn = world.merchant("POST /txns", &txn).await.json();
        let path = format!("POST /outcomes/txns/{}", txn["txn_uuid"].as_str().unwrap());
        let charged = r#"{"merchant_id":"ms","status":"CHARGED"}"#;
        world.platform(&path, charged).await.json();
    }

    #[tokio::test]
    async fn an_id_names_one_refund_of_the_merchant_whatever_the_order() {
        let world = World::new().await;
        for order_id in ["First", "second"] {
            paid(&world, order_id).await;
        }
        let mut table = String::new();
        let requests = [
            (
                "POST /orders/First/refunds",
                "unique_request_id=r1&amount=4",
            ),
            (
                "POST /orders/first/refunds",
                "unique_request_id=r1&amount=4",
            ),
            (
                "POST /orders/second/refunds",
                "unique_request_id=r1&amount=4",
            ),
            ("POST /order/refund", "order_id=second&unique_request_id=r1"),
            ("POST /refunds", "txn_id=ms-second-1&unique_request_id=r1"),
            (
                "POST /orders/second/refunds",
                "unique_request_id=r2&amount=4",
            ),
        ];
        for (request, body) in requests {
            let reply = world.merchant(request, body).await;
            table += &match reply.status.as_u16() {
                200 => format!("ok, {} back", reply.json()["amount_refunded"]),
                _ => reply.refusal(),
            };
            table.push('\n');
        }
        let report = r#"{"merchant_id":"ms","status":"SUCCESS"}"#;
        let settled = world.platform("POST /outcomes/refunds/r1", report).await;
        table += &format!("r1 is of {}", settled.json()["order_id"]);
        insta::assert_snapshot!(table, @r#"
        ok, 4 back
        ok, 4 back
        400 "duplicate.call": "this unique_request_id was used for a refund of another order already"
        400 "duplicate.call": "this unique_request_id was used for a refund of another order already"
        400 "duplicate.call": "this unique_request_id was used for a refund of another order already"
        ok, 4 back
        r1 is of "First"
        "#);
    }
}
