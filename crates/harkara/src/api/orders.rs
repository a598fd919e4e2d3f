//! Orders and sessions for merchants: created, amended, read and listed on the SDKs' paths.
//!
//! `GET /orders/{id}` answers with the bytes that `content.order` of the latest event carries. What
//! an order may be made of is read in `orders/new.rs`.

mod new;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use harkara_core::command::Command;
use harkara_core::id::{MandateId, OrderId};
use harkara_core::json::{self, Json};
use harkara_core::mandate::Mandate;
use harkara_core::merchant::Merchant;
use harkara_core::money::Amount;
use harkara_core::order::{Amendment, NewOrder, Order, OrderCommand};
use harkara_core::refusal::Refusal;
use harkara_core::render;
use http::HeaderMap;
use serde_json::{Value, json};
use std::time::Duration;

use super::auth::MerchantCaller;
use super::input::Input;
use super::parameters::Path;
use super::{Api, json_answer, json_bytes};
use crate::error::ApiError;
use crate::keys;
use crate::store::{OrderFilter, OrderView, Origin};
use crate::submit::Submitted;

pub(super) use self::new::{new_order, order_id};

/// How long a client token and a session's links are said to last.
const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// Orders that one page of a list has at most.
const PAGE_MAX: i64 = 100;

/// `POST /orders`. Which of its two answers a client gets follows the reference, section 4.1: the
/// token option, or no `version` header, brings the full order as NEW.
pub(super) async fn create(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    headers: HeaderMap,
    input: Input,
) -> Result<Response, ApiError> {
    let submitted = create_order(&api, &merchant, &input).await?;
    let wants_token = input
        .flag("options.get_client_auth_token")?
        .unwrap_or(false);
    if !wants_token && headers.contains_key("version") {
        return created(&api, &submitted).map(|answer| json_answer(&answer));
    }
    let bytes = order_bytes(&api, &merchant, &submitted)?;
    if !wants_token {
        return Ok(json_bytes(bytes));
    }
    let mut full: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    full.insert("juspay".to_owned(), client_token(&api));
    Ok(json_answer(&Value::Object(full)))
}

/// `POST /order/create`, the older SDKs' path: always the small answer.
pub(super) async fn create_legacy(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let submitted = create_order(&api, &merchant, &input).await?;
    let mut answer = created(&api, &submitted)?;
    if input
        .flag("options.get_client_auth_token")?
        .unwrap_or(false)
    {
        answer["juspay"] = client_token(&api);
    }
    Ok(json_answer(&answer))
}

async fn create_order(
    api: &Api,
    merchant: &Merchant,
    input: &Input,
) -> Result<Submitted, ApiError> {
    let command = OrderCommand::Create(Box::new(new_order(api, merchant, input)?));
    let order_id = order_id(input, "order_id")?;
    let command = Command::Order(order_id, command);
    Ok(api.submit.run(merchant, &[command]).await?)
}

/// The answer of old: CREATED, which no order's status ever says.
fn created(api: &Api, submitted: &Submitted) -> Result<Value, ApiError> {
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let url = &api.public_url;
    Ok(json!({
        "status": "CREATED",
        "status_id": 1,
        "id": order.id,
        "order_id": order.order_id,
        "payment_links": {
            "web": format!("{url}/merchant/pay/{}", order.id),
            "mobile": format!("{url}/merchant/pay/{}?mobile=true", order.id),
            "iframe": format!("{url}/merchant/ipay/{}", order.id),
        },
    }))
}

fn client_token(api: &Api) -> Value {
    json!({
        "client_auth_token": format!("tkn_{}", *keys::random_password()),
        "client_auth_token_expiry": api.clock.now().plus(TOKEN_LIFE).iso(),
    })
}

/// `POST /session`: creates the order and hands out what a payment page needs.
pub(super) async fn session(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let mut new = new_order(&api, &merchant, &input)?;
    let client_id = input.required("payment_page_client_id")?;
    let id = new.id.clone();
    new.details.metadata = Some(session_metadata(&api, &new, &id, client_id)?);
    let command = Command::Order(new.order_id.clone(), OrderCommand::Create(Box::new(new)));
    let submitted = api.submit.run(&merchant, &[command]).await?;
    let order = submitted.order.ok_or(Refusal::OrderUnknown)?;
    let expiry = api.clock.now().plus(TOKEN_LIFE).iso();
    let details = &order.details;
    Ok(json_answer(&json!({
        "status": order.status().as_str(),
        "id": order.id,
        "order_id": order.order_id,
        "payment_links": { "web": page_link(&api, &order.id), "expiry": expiry },
        "sdk_payload": {
            "requestId": id,
            "service": "in.juspay.hyperpay",
            "payload": {
                "action": input.text("action").unwrap_or("paymentPage"),
                "clientId": client_id,
                "merchantId": merchant.merchant_id,
                "orderId": order.order_id,
                "amount": details.amount.to_string(),
                "currency": details.currency,
                "customerId": details.customer_id,
                "customerEmail": details.customer_email,
                "customerPhone": details.customer_phone,
                "returnUrl": details.return_url,
                "environment": api.config.environment.to_string(),
                "clientAuthToken": format!("tkn_{}", *keys::random_password()),
                "clientAuthTokenExpiry": expiry,
            },
            "expiry": expiry,
        },
        "order_expiry": expiry,
    })))
}

fn page_link(api: &Api, id: &str) -> String {
    format!("{}/orders/{id}/payment-page", api.public_url)
}

/// The merchant's metadata with what the payment page adds to it.
fn session_metadata(
    api: &Api,
    new: &NewOrder,
    id: &str,
    client_id: &str,
) -> Result<Json, ApiError> {
    let given = new.details.metadata.as_ref().map_or("{}", Json::as_str);
    let mut metadata: serde_json::Map<String, Value> =
        serde_json::from_str(given).map_err(ApiError::internal)?;
    let payload =
        json!({ "clientId": client_id, "orderId": new.order_id, "action": "paymentPage" });
    let link = page_link(api, id);
    metadata.insert("payment_page_client_id".to_owned(), client_id.into());
    metadata.insert(
        "payment_page_sdk_payload".to_owned(),
        payload.to_string().into(),
    );
    metadata.insert(
        "payment_links".to_owned(),
        json!({ "web": link, "iframe": link, "mobile": link }),
    );
    Ok(json::from_value(&Value::Object(metadata)))
}

/// `POST /orders/{order_id}`: amount, addresses and udf fields may change.
pub(super) async fn amend(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(order_id): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    let amount = input.amount("amount")?;
    if amount == Some(Amount::ZERO) {
        return Err(ApiError::field("amount", "must be more than 0"));
    }
    let mut udf = Vec::new();
    for n in 1..=10 {
        let name = format!("udf{n}");
        if input.given(&name).is_some() {
            udf.push((n, input.short(&name, 255)?.unwrap_or_default()));
        }
    }
    let extra = input.starting_with(&["billing_", "shipping_"]);
    let amendment = Amendment { amount, udf, extra };
    let command = OrderCommand::Amend(Box::new(amendment));
    let order_id = OrderId::new(order_id);
    let submitted = api
        .submit
        .run(&merchant, &[Command::Order(order_id, command)])
        .await?;
    order_answer(&api, &merchant, &submitted)
}

/// `GET /orders/{order_id}`.
pub(super) async fn status(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    Path(order_id): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    find_status(&api, &merchant, &order_id, &input).await
}

/// `GET /order/status?order_id=…`, the older SDKs' form.
pub(super) async fn status_legacy(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let order_id = input.text("order_id").or_else(|| input.text("orderId"));
    let order_id = order_id.ok_or_else(|| ApiError::missing("order_id"))?;
    find_status(&api, &merchant, order_id, &input).await
}

async fn find_status(
    api: &Api,
    merchant: &Merchant,
    order_id: &str,
    input: &Input,
) -> Result<Response, ApiError> {
    let full = input.flag("options.add_full_gateway_response")?;
    let view = api
        .store
        .order(&merchant.merchant_id, &OrderId::new(order_id))
        .await?;
    let view = view.ok_or(Refusal::OrderUnknown)?;
    Ok(json_bytes(view_bytes(api, merchant, &view, full).await?))
}

/// An order as the status call shows it; a foreign ledger's in its own bytes.
async fn view_bytes(
    api: &Api,
    merchant: &Merchant,
    view: &OrderView,
    full: Option<bool>,
) -> Result<Bytes, ApiError> {
    if view.origin == Origin::Foreign {
        return Ok(Bytes::from(view.doc.clone()));
    }
    let order: Order = serde_json::from_str(&view.doc).map_err(ApiError::internal)?;
    let mandate_id = order.leading_txn().and_then(|txn| txn.mandate_id.as_ref());
    let mandate = match mandate_id {
        Some(mandate_id) => own_mandate(api, merchant, mandate_id).await?,
        None => None,
    };
    let mut merchant = merchant.clone();
    if let Some(full) = full {
        merchant.settings.add_full_gateway_response = full;
    }
    Ok(render::order(&order, mandate.as_ref(), api.submit.rendering(&merchant)).into())
}

/// A mandate that Harkara keeps itself.
pub(super) async fn own_mandate(
    api: &Api,
    merchant: &Merchant,
    mandate_id: &MandateId,
) -> Result<Option<Mandate>, ApiError> {
    let view = api.store.mandate(&merchant.merchant_id, mandate_id).await?;
    let own = view.filter(|view| view.origin == Origin::Own);
    own.map(|view| serde_json::from_str(&view.doc))
        .transpose()
        .map_err(ApiError::internal)
}

/// `GET /order/list`.
pub(super) async fn list(
    MerchantCaller(merchant): MerchantCaller,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    let limit = input
        .integer("count")?
        .or(input.integer("limit")?)
        .unwrap_or(10);
    let offset = input.integer("offset")?.unwrap_or(0);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::field(
            "count",
            format!("must be from 1 to {PAGE_MAX}"),
        ));
    }
    let offset = usize::try_from(offset).map_err(|_| ApiError::field("offset", "is below 0"))?;
    let filter = OrderFilter {
        status: input.text("status").map(str::to_owned),
        created_after: input.epoch_seconds("created.gte")?,
        created_before: input.epoch_seconds("created.lt")?,
        customer_id: input.text("customer_id").map(str::to_owned),
        notified: input.flag("notified")?,
        limit: usize::try_from(limit).expect("checked above"),
        offset,
    };
    let page = api.store.orders(&merchant.merchant_id, &filter).await?;
    let mut answer = Vec::from(&b"{\"list\":["[..]);
    for (n, view) in page.orders.iter().enumerate() {
        if n > 0 {
            answer.push(b',');
        }
        answer.extend_from_slice(&view_bytes(&api, &merchant, view, None).await?);
    }
    let tail = format!(
        "],\"count\":{},\"offset\":{offset},\"total\":{}}}",
        page.orders.len(),
        page.total
    );
    answer.extend_from_slice(tail.as_bytes());
    Ok(json_bytes(answer))
}

/// The full order after a command.
pub(super) fn order_answer(
    api: &Api,
    merchant: &Merchant,
    submitted: &Submitted,
) -> Result<Response, ApiError> {
    order_bytes(api, merchant, submitted).map(json_bytes)
}

fn order_bytes(api: &Api, merchant: &Merchant, submitted: &Submitted) -> Result<Vec<u8>, ApiError> {
    let order = submitted.order.as_ref().ok_or(Refusal::OrderUnknown)?;
    let rendering = api.submit.rendering(merchant);
    Ok(render::order(
        order,
        submitted.order_mandate.as_ref(),
        rendering,
    ))
}
