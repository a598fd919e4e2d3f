//! Transactions for merchants: started on an order or together with one, captured, voided.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use harkara_core::command::Command;
use harkara_core::dummy;
use harkara_core::id::{MandateId, OrderId, TxnUuid};
use harkara_core::merchant::Merchant;
use harkara_core::order::OrderCommand;
use harkara_core::refusal::Refusal;
use harkara_core::txn::{Card, Gateway, NewTxn, PaymentWay, Txn};
use http::HeaderMap;
use serde_json::json;

use super::auth::MerchantCaller;
use super::input::{Input, idempotency_key};
use super::orders::{new_order, order_id};
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::store::{Origin, RefKind};
use crate::submit::Submitted;

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
    let order_input = input.under("order");
    let (order_id, mut commands) = if order_input.text("order_id").is_some() {
        let new = new_order(&api, &merchant, &order_input)?;
        let order_id = new.order_id.clone();
        let create = OrderCommand::Create(Box::new(new));
        (order_id.clone(), vec![Command::Order(order_id, create)])
    } else {
        (order_id(&input, "order_id")?, Vec::new())
    };
    let (gateway_id, auto_capture) = match commands.is_empty() {
        true => wishes_of_order(&api, &merchant, &order_id).await?,
        false => (
            order_input.integer("gateway_id")?,
            auto_capture(&order_input)?,
        ),
    };
    let way = payment_way(&api, &merchant, &input, gateway_id, auto_capture)?;
    let mandate_id = input.text("mandate_id").map(MandateId::new);
    let new = NewTxn {
        way,
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
    let url = format!(
        "{}/merchant/pay/{}?txn_uuid={}",
        api.public_url, order.id, txn.txn_uuid
    );
    if input.text("format") != Some("json") && txn.way.redirect && txn.mandate_id.is_none() {
        return Ok(Redirect::to(&url).into_response());
    }
    Ok(json_answer(&json!({
        "order_id": order.order_id,
        "txn_id": txn.txn_id,
        "txn_uuid": txn.txn_uuid,
        "status": txn.status,
        "payment": { "authentication": { "method": "GET", "url": url } },
    })))
}

fn auto_capture(order_input: &Input) -> Result<bool, ApiError> {
    let told = order_input.flag("metadata.txns.auto_capture")?;
    Ok(told.or(order_input.flag("auto_capture")?).unwrap_or(true))
}

/// The gateway and the capture mode that an existing order was created with.
async fn wishes_of_order(
    api: &Api,
    merchant: &Merchant,
    order_id: &OrderId,
) -> Result<(Option<i64>, bool), ApiError> {
    let view = api.store.order(&merchant.merchant_id, order_id).await?;
    let view = view.ok_or(Refusal::OrderUnknown)?;
    if view.origin == Origin::Foreign {
        return Err(Refusal::OrderForeign.into());
    }
    let order: harkara_core::order::Order =
        serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
    Ok((order.details.gateway_id, order.details.auto_capture))
}

fn payment_way(
    api: &Api,
    merchant: &Merchant,
    input: &Input,
    order_gateway_id: Option<i64>,
    order_auto_capture: bool,
) -> Result<PaymentWay, ApiError> {
    let payment_method_type = input.required("payment_method_type")?.to_uppercase();
    let card = match payment_method_type.as_str() {
        "CARD" => Some(card(api, merchant, input)?),
        _ => None,
    };
    let payer_vpa = input
        .short("upi_vpa", 255)?
        .or(input.short("payer_vpa", 255)?);
    let payment_method = match (input.short("payment_method", 64)?, &card) {
        (Some(named), _) => named.to_uppercase(),
        (None, Some(card)) => card.card_brand.clone(),
        (None, None) => payment_method_type.clone(),
    };
    let gateway = gateway(api, input, order_gateway_id)?;
    let forced = input.one_of("dummy_outcome", dummy::FORCED_TXN)?;
    if forced.is_some() && !gateway.is_dummy() {
        return Err(ApiError::field(
            "dummy_outcome",
            "is for the DUMMY gateway alone",
        ));
    }
    Ok(PaymentWay {
        gateway,
        payment_method_type,
        payment_method,
        card,
        payer_vpa,
        redirect: input.flag("redirect_after_payment")?.unwrap_or(true),
        auto_capture: input.flag("auto_capture")?.unwrap_or(order_auto_capture),
        metadata: input.object("metadata")?,
        forced,
    })
}

/// Who carries the payment out: the one named, else the order's, else the sandbox's.
fn gateway(api: &Api, input: &Input, of_order: Option<i64>) -> Result<Gateway, ApiError> {
    let dummy = api.config.gateway.dummy;
    match input.integer("gateway_id")?.or(of_order) {
        None | Some(Gateway::DUMMY_ID) if dummy => Ok(Gateway::dummy()),
        Some(Gateway::DUMMY_ID) => Err(ApiError::field(
            "gateway_id",
            "100 is the DUMMY gateway, which is switched off",
        )),
        None => Err(ApiError::missing("gateway_id")),
        Some(id) => {
            let name = input
                .short("gateway", 64)?
                .unwrap_or_else(|| format!("GATEWAY_{id}"));
            Ok(Gateway { id, name })
        }
    }
}

/// Takes from a card what may be kept; the number and the code go no further than this function.
fn card(api: &Api, merchant: &Merchant, input: &Input) -> Result<Card, ApiError> {
    let number: String = input.required("card_number")?.split([' ', '-']).collect();
    if !(12..=19).contains(&number.len()) || !passes_luhn(&number) {
        return Err(ApiError::field("card_number", "is no card number"));
    }
    let fingerprint = |scope: &str| {
        let mac = api.vault.fingerprint("card", &[scope, &number]);
        harkara_core::id::hex(&mac[..16])
    };
    Ok(Card {
        last_four_digits: number[number.len() - 4..].to_owned(),
        card_isin: number[..6].to_owned(),
        card_brand: brand(&number).to_owned(),
        card_type: String::new(),
        card_issuer: String::new(),
        name_on_card: input.short("name_on_card", 64)?.unwrap_or_default(),
        expiry_month: input.short("card_exp_month", 2)?.unwrap_or_default(),
        expiry_year: input.short("card_exp_year", 4)?.unwrap_or_default(),
        card_reference: fingerprint(merchant.merchant_id.as_str()),
        card_fingerprint: fingerprint(""),
    })
}

fn passes_luhn(number: &str) -> bool {
    let mut sum = 0;
    for (n, c) in number.chars().rev().enumerate() {
        let Some(digit) = c.to_digit(10) else {
            return false;
        };
        let doubled = if n % 2 == 1 { digit * 2 } else { digit };
        sum += doubled / 10 + doubled % 10;
    }
    sum % 10 == 0
}

/// The scheme, by the number's first digits (ISO/IEC 7812 ranges of the schemes in use in India).
fn brand(number: &str) -> &'static str {
    let first = |n: usize| number[..n].parse::<u32>().unwrap_or(0);
    match (first(1), first(2), first(3), first(4)) {
        (4, ..) => "VISA",
        (_, 51..=55, ..) | (.., 2221..=2720) => "MASTERCARD",
        (_, 34 | 37, ..) => "AMEX",
        (_, 60 | 65 | 81 | 82, ..) | (_, _, 508, _) => "RUPAY",
        (_, 36 | 38, ..) | (_, _, 300..=305, _) => "DINERS",
        _ => "UNKNOWN",
    }
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

/// One transaction of the order that a command left behind.
pub(super) fn find_txn<'a>(
    submitted: &'a Submitted,
    txn_uuid: &TxnUuid,
) -> Result<&'a Txn, ApiError> {
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let txn = order.txns.iter().find(|txn| &txn.txn_uuid == txn_uuid);
    txn.ok_or_else(|| Refusal::TxnUnknown.into())
}

fn txn_answer(submitted: &Submitted, txn_uuid: &TxnUuid) -> Result<Response, ApiError> {
    let txn = find_txn(submitted, txn_uuid)?;
    let order_id = submitted.order.as_ref().map(|order| &order.order_id);
    Ok(json_answer(&json!({
        "order_id": order_id,
        "txn_id": txn.txn_id,
        "txn_uuid": txn.txn_uuid,
        "txn_amount": txn.amount,
        "status": txn.status,
        "status_id": txn.status.id(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_told_apart_by_their_first_digits() {
        let rows = [
            ("4242424242424242", "VISA"),
            ("5299920210000277", "MASTERCARD"),
            ("2223003122003222", "MASTERCARD"),
            ("371449635398431", "AMEX"),
            ("6521525212345674", "RUPAY"),
        ];
        for (number, expected) in rows {
            assert_eq!(brand(number), expected, "{number}");
        }
        assert!(passes_luhn("4242424242424242"));
        assert!(!passes_luhn("4242424242424241"));
        assert!(!passes_luhn("4242x24242424242"));
    }
}
