//! Transactions for merchants: started on an order or together with one, captured, voided.
//!
//! What one is paid with is read in `transactions/way.rs`.

mod way;

use axum::extract::State;
use axum::response::Response;
use harkara_core::command::Command;
use harkara_core::id::{MandateId, OrderId, TxnUuid};
use harkara_core::merchant::Merchant;
use harkara_core::order::{Order, OrderCommand};
use harkara_core::refusal::Refusal;
use harkara_core::txn::{NewTxn, TxnKind};
use http::HeaderMap;
use serde_json::json;

use super::auth::MerchantCaller;
use super::input::{Input, idempotency_key};
use super::orders::{new_order, order_id, own_mandate};
use super::parameters::Path;
use super::{Api, found, json_answer};
use crate::error::ApiError;
use crate::store::{Origin, RefKind};
use crate::submit::Submitted;

use self::way::{Standing, Wishes, payment_way};

/// What a mandate to be registered is asked for with. In the call that makes the order, too, clients
/// give it with the order's other fields or beside them.
const MANDATE_TERMS: &[&str] = &["options.create_mandate", "mandate.", "mandate_max_amount"];

/// `POST /txns`: pays an order that exists, or with `order.*` one that is created by the same call.
/// Sent twice with the same `Idempotency-Key`, it starts one transaction.
pub(super) async fn start(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    headers: HeaderMap,
    input: Input,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?.map(str::to_owned);
    if let Some(named) = input.text("merchant_id")
        && named != merchant.merchant_id.as_str()
    {
        return Err(ApiError::field(
            "merchant_id",
            "names another merchant than the key's",
        ));
    }
    let mut order_input = input.under("order");
    order_input.fill(&input, MANDATE_TERMS);
    let (order_id, mut commands) = if order_input.text("order_id").is_some() {
        let new = new_order(&api, &merchant, &order_input)?;
        let order_id = new.order_id.clone();
        let create = OrderCommand::Create(Box::new(new));
        (order_id.clone(), vec![Command::Order(order_id, create)])
    } else {
        (order_id(&input, "order_id")?, Vec::new())
    };
    let wishes = match commands.is_empty() {
        true => wishes_of_order(&api, &merchant, &order_id).await?,
        false => Wishes {
            gateway_id: order_input.integer("gateway_id")?,
            auto_capture: auto_capture(&order_input)?,
        },
    };
    let mandate_id = input.text("mandate_id").map(MandateId::new);
    let standing = match &mandate_id {
        Some(mandate_id) => Some(standing(&api, &merchant, mandate_id).await?),
        None => None,
    };
    let new = NewTxn {
        way: payment_way(&api, &merchant, &input, wishes, standing.as_ref())?,
        mandate_id,
        key: key.clone(),
    };
    let start = OrderCommand::StartTxn(Box::new(new));
    commands.push(Command::Order(order_id, start));
    let submitted = api.submit.run(&merchant, &commands).await?;
    let order = submitted.order.ok_or(Refusal::OrderUnknown)?;
    // A repeated start finds its transaction, which others may have followed.
    let started = match &key {
        Some(key) => order.txn_with_key(key),
        None => order.txns.last(),
    };
    let txn = started.ok_or(Refusal::TxnUnknown)?;
    let mut answer = json!({
        "order_id": order.order_id,
        "txn_id": txn.txn_id,
        "txn_uuid": txn.txn_uuid,
        "status": txn.status,
    });
    // A mandate is there so that the customer need not be asked.
    if txn.kind != TxnKind::MandatePayment {
        let url = format!(
            "{}/merchant/pay/{}?txn_uuid={}",
            api.public_url, order.id, txn.txn_uuid
        );
        if input.text("format") != Some("json") && txn.way.redirect {
            return Ok(found(&url));
        }
        answer["payment"] = json!({ "authentication": { "method": "GET", "url": url } });
    }
    Ok(json_answer(&answer))
}

fn auto_capture(order_input: &Input) -> Result<bool, ApiError> {
    let told = order_input.flag("metadata.txns.auto_capture")?;
    Ok(told.or(order_input.flag("auto_capture")?).unwrap_or(true))
}

/// A mandate with the gateway of the transaction that registered it.
async fn standing(
    api: &Api,
    merchant: &Merchant,
    mandate_id: &MandateId,
) -> Result<Standing, ApiError> {
    let mandate = own_mandate(api, merchant, mandate_id).await?;
    let mandate = mandate.ok_or(Refusal::MandateUnknown)?;
    let order = own_order(api, merchant, &mandate.order_id).await?;
    let mut txns = order.txns.into_iter();
    let registering = txns.find(|txn| txn.mandate_id.as_ref() == Some(mandate_id));
    Ok(Standing {
        gateway: registering.ok_or(Refusal::TxnUnknown)?.way.gateway,
        mandate,
    })
}

/// The gateway and the capture mode that an existing order was created with.
async fn wishes_of_order(
    api: &Api,
    merchant: &Merchant,
    order_id: &OrderId,
) -> Result<Wishes, ApiError> {
    let order = own_order(api, merchant, order_id).await?;
    Ok(Wishes {
        gateway_id: order.details.gateway_id,
        auto_capture: order.details.auto_capture,
    })
}

/// An order that Harkara keeps itself.
async fn own_order(api: &Api, merchant: &Merchant, order_id: &OrderId) -> Result<Order, ApiError> {
    let view = api.store.order(&merchant.merchant_id, order_id).await?;
    let view = view.ok_or(Refusal::OrderUnknown)?;
    if view.origin == Origin::Foreign {
        return Err(Refusal::OrderForeign.into());
    }
    serde_json::from_str(&view.doc).map_err(ApiError::internal)
}

/// `POST /v2/txns/{txn_uuid}/capture`.
pub(super) async fn capture(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(txn_uuid): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    let txn_uuid = TxnUuid::new(txn_uuid);
    let amount = input.amount("amount")?;
    let command = OrderCommand::Capture {
        txn_uuid: txn_uuid.clone(),
        amount,
    };
    let submitted = run_on_txn(&api, &merchant, &txn_uuid, command).await?;
    txn_answer(&submitted, &txn_uuid)
}

/// `POST /v2/txns/{txn_uuid}/void`.
pub(super) async fn void(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(txn_uuid): Path<String>,
) -> Result<Response, ApiError> {
    let txn_uuid = TxnUuid::new(txn_uuid);
    let command = OrderCommand::Void {
        txn_uuid: txn_uuid.clone(),
    };
    let submitted = run_on_txn(&api, &merchant, &txn_uuid, command).await?;
    txn_answer(&submitted, &txn_uuid)
}

/// Runs a command on the order that a transaction belongs to.
pub(super) async fn run_on_txn(
    api: &Api,
    merchant: &Merchant,
    txn_uuid: &TxnUuid,
    command: OrderCommand,
) -> Result<Submitted, ApiError> {
    let found = api
        .store
        .order_by_ref(&merchant.merchant_id, RefKind::TxnUuid, txn_uuid.as_str())
        .await?;
    let order_id = found.ok_or(Refusal::TxnUnknown)?.order_id;
    Ok(api
        .submit
        .run(merchant, &[Command::Order(order_id, command)])
        .await?)
}

fn txn_answer(submitted: &Submitted, txn_uuid: &TxnUuid) -> Result<Response, ApiError> {
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let txn = order.txn(txn_uuid).ok_or(Refusal::TxnUnknown)?;
    Ok(json_answer(&json!({
        "order_id": order.order_id,
        "txn_id": txn.txn_id,
        "txn_uuid": txn.txn_uuid,
        "txn_amount": txn.amount,
        "status": txn.status,
        "status_id": txn.status.id(),
    })))
}
