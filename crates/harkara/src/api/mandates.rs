//! Mandates for merchants: a customer's list, and the commands of `POST /mandates/{id}`.

use axum::extract::State;
use axum::response::Response;
use harkara_core::command::Command;
use harkara_core::dummy;
use harkara_core::id::{MandateId, NotificationRef};
use harkara_core::json::Json;
use harkara_core::mandate::{Mandate, MandateCommand};
use harkara_core::merchant::Merchant;
use harkara_core::notification::{NewNotification, NotificationCommand};
use harkara_core::order::OrderCommand;
use harkara_core::refusal::Refusal;
use harkara_core::render;
use harkara_core::txn::{GatewayFields, TxnError, TxnKind, TxnOutcome};
use harkara_webhook::OrderStatus;
use serde_json::{Value, json};

use super::auth::MerchantCaller;
use super::input::{Input, is_visible};
use super::orders::{order_id, own_mandate};
use super::parameters::Path;
use super::{Api, json_answer, json_bytes};
use crate::error::ApiError;
use crate::store::Origin;

const REFERENCE_MAX: usize = 64;

/// `GET /customers/{customer_id}/mandates`.
pub(super) async fn of_customer(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(customer_id): Path<String>,
) -> Result<Response, ApiError> {
    let views = api
        .store
        .mandates_of_customer(&merchant.merchant_id, &customer_id)
        .await?;
    let mut answer = Vec::from(&b"{\"object\":\"list\",\"list\":["[..]);
    for (n, view) in views.iter().enumerate() {
        if n > 0 {
            answer.push(b',');
        }
        match view.origin {
            Origin::Foreign => answer.extend_from_slice(view.doc.as_bytes()),
            Origin::Own => {
                let mandate: Mandate =
                    serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
                let bytes = render::mandate(&mandate, api.submit.rendering(&merchant));
                answer.extend_from_slice(&bytes);
            }
        }
    }
    let count = views.len();
    let tail = format!("],\"total\":{count},\"count\":{count},\"offset\":0}}");
    answer.extend_from_slice(tail.as_bytes());
    Ok(json_bytes(answer))
}

/// `POST /mandates/{mandate_id}` with `command`.
pub(super) async fn command(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(mandate_id): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    let mandate_id = MandateId::new(mandate_id);
    match input.required("command")? {
        "check_status" => check_status(&api, &merchant, &mandate_id).await,
        "revoke" => {
            let mandate = run(&api, &merchant, mandate_id, MandateCommand::Revoke).await?;
            Ok(json_answer(&json!({
                "mandate_id": mandate.mandate_id,
                "mandate_status": mandate.status,
            })))
        }
        "pause" => {
            let mandate = run(&api, &merchant, mandate_id, MandateCommand::Pause).await?;
            with_message(&api, &merchant, &mandate, "Mandate paused")
        }
        "resume" => {
            let mandate = run(&api, &merchant, mandate_id, MandateCommand::Resume).await?;
            with_message(&api, &merchant, &mandate, "Mandate resumed")
        }
        "cancel_recurring_transaction" => cancel(&api, &merchant, &mandate_id, &input).await,
        "pre_debit_notify" => notify(&api, &merchant, mandate_id, &input).await,
        other => {
            let known = "check_status, revoke, pause, resume, cancel_recurring_transaction, \
                         pre_debit_notify";
            Err(ApiError::field(
                "command",
                format!("'{other}' is none of {known}"),
            ))
        }
    }
}

async fn check_status(
    api: &Api,
    merchant: &Merchant,
    mandate_id: &MandateId,
) -> Result<Response, ApiError> {
    let view = api.store.mandate(&merchant.merchant_id, mandate_id).await?;
    let view = view.ok_or(Refusal::MandateUnknown)?;
    if view.origin == Origin::Foreign {
        return Ok(json_bytes(view.doc));
    }
    let mandate: Mandate = serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
    Ok(json_bytes(render::mandate(
        &mandate,
        api.submit.rendering(merchant),
    )))
}

async fn run(
    api: &Api,
    merchant: &Merchant,
    mandate_id: MandateId,
    command: MandateCommand,
) -> Result<Mandate, ApiError> {
    let submitted = api
        .submit
        .run(merchant, &[Command::Mandate(mandate_id, command)])
        .await?;
    submitted
        .mandate
        .ok_or_else(|| Refusal::MandateUnknown.into())
}

fn with_message(
    api: &Api,
    merchant: &Merchant,
    mandate: &Mandate,
    message: &str,
) -> Result<Response, ApiError> {
    let bytes = render::mandate(mandate, api.submit.rendering(merchant));
    let mut answer: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    answer.insert("response_message".to_owned(), message.into());
    Ok(json_answer(&Value::Object(answer)))
}

/// Calls a debit off that has not been made yet; the payment that registers the mandate is none.
async fn cancel(
    api: &Api,
    merchant: &Merchant,
    mandate_id: &MandateId,
    input: &Input,
) -> Result<Response, ApiError> {
    own_mandate(api, merchant, mandate_id)
        .await?
        .ok_or(Refusal::MandateUnknown)?;
    let order_id = order_id(input, "order_id")?;
    let view = api.store.order(&merchant.merchant_id, &order_id).await?;
    let view = view
        .filter(|view| view.origin == Origin::Own)
        .ok_or(Refusal::OrderUnknown)?;
    let order: harkara_core::order::Order =
        serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
    let txn = order
        .txns
        .iter()
        .rev()
        .filter(|txn| txn.kind == TxnKind::MandatePayment)
        .find(|txn| txn.mandate_id.as_ref() == Some(mandate_id));
    let txn_uuid = txn.ok_or(Refusal::TxnUnknown)?.txn_uuid.clone();
    let outcome = TxnOutcome {
        txn_uuid: txn_uuid.clone(),
        status: OrderStatus::JuspayDeclined,
        error: TxnError {
            code: "JP_CANCELLED".to_owned(),
            message: "Cancelled by the merchant".to_owned(),
        },
        fields: GatewayFields::default(),
        gateway_reference_id: None,
    };
    let command = OrderCommand::TxnOutcome(Box::new(outcome));
    let submitted = api
        .submit
        .run(merchant, &[Command::Order(order_id, command)])
        .await?;
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let txn = order.txn(&txn_uuid).ok_or(Refusal::TxnUnknown)?;
    let cancelled = txn.status == OrderStatus::JuspayDeclined;
    Ok(json_answer(&json!({
        "order_id": view.order_id,
        "txn_uuid": txn.txn_uuid,
        "txn_status": txn.status,
        "response_message": if cancelled {
            "The debit was cancelled"
        } else {
            "The debit was made already and cannot be cancelled"
        },
    })))
}

/// Asks for the customer to be told of a coming debit.
async fn notify(
    api: &Api,
    merchant: &Merchant,
    mandate_id: MandateId,
    input: &Input,
) -> Result<Response, ApiError> {
    let reference = notification_ref(input)?;
    let source_info = input.object("source_info")?;
    let source_info = source_info.ok_or_else(|| ApiError::missing("source_info"))?;
    for key in ["amount", "txn_date"] {
        if harkara_core::json::text(&source_info, key).is_none() {
            return Err(ApiError::missing(&format!("source_info.{key}")));
        }
    }
    let provider = own_mandate(api, merchant, &mandate_id).await?;
    let new = NewNotification {
        reference: reference.clone(),
        mandate_id,
        description: input.short("description", 255)?.unwrap_or_default(),
        source_info: text_values(&source_info),
        provider_name: provider.map_or_else(String::new, |mandate| mandate.payment_method),
        forced: input.one_of("dummy_outcome", dummy::FORCED_NOTIFICATION)?,
    };
    let command = Command::Notification(reference, NotificationCommand::Request(new));
    let submitted = api.submit.run(merchant, &[command]).await?;
    let notification = submitted.notification.ok_or(Refusal::NotificationUnknown)?;
    Ok(json_bytes(render::notification_status(&notification)))
}

/// The caller's own name for a notice: it stands in a path, and in the webhook.
fn notification_ref(input: &Input) -> Result<NotificationRef, ApiError> {
    let text = input.required("object_reference_id")?;
    if !is_visible(text, REFERENCE_MAX) {
        let reason = format!("must be 1 to {REFERENCE_MAX} visible ASCII characters");
        return Err(ApiError::field("object_reference_id", reason));
    }
    Ok(NotificationRef::new(text))
}

/// Amounts and dates of a notice are text on this wire, whatever the merchant wrote them as.
fn text_values(source_info: &Json) -> Json {
    let mut object: serde_json::Map<String, Value> =
        serde_json::from_str(source_info.as_str()).unwrap_or_default();
    if object.values().all(|value| !value.is_number()) {
        return source_info.clone();
    }
    for value in object.values_mut() {
        if let Value::Number(number) = value {
            *value = Value::String(number.to_string());
        }
    }
    harkara_core::json::from_value(&Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_info_is_text_and_otherwise_as_it_came() {
        let keep = Json::parse(r#"{ "amount":"1.0", "txn_date":"1691818137" }"#).unwrap();
        assert_eq!(text_values(&keep), keep);
        let numbers = Json::parse(r#"{"amount":1.5,"txn_date":1691818137}"#).unwrap();
        assert_eq!(
            text_values(&numbers).as_str(),
            r#"{"amount":"1.5","txn_date":"1691818137"}"#
        );
    }
}
