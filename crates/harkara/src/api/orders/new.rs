//! A new order out of what a merchant's client sent: every field checked, and in its final type.
//!
//! Nothing is stored here. `POST /orders`, `/session` and `/txns` call it.

use harkara_core::id::OrderId;
use harkara_core::json::{self, Json};
use harkara_core::mandate::MandateTerms;
use harkara_core::merchant::Merchant;
use harkara_core::money::Amount;
use harkara_core::order::{NewOrder, OrderDetails};
use harkara_core::time::Timestamp;
use serde_json::Value;

use crate::api::Api;
use crate::api::input::Input;
use crate::deliver::guard;
use crate::error::ApiError;

/// An order id: what URLs, forms and people can carry without quoting.
pub(in crate::api) fn order_id(input: &Input, name: &str) -> Result<OrderId, ApiError> {
    let text = input.required(name)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let Some(odd) = text.chars().find(|c| !plain(*c)) {
        let reason = format!("must not contain {odd:?}; use letters, digits, '_', '-' and '.'");
        return Err(ApiError::field(name, reason));
    }
    if text.len() > 50 {
        return Err(ApiError::field(name, "is longer than 50 characters"));
    }
    Ok(OrderId::new(text))
}

/// Reads a new order; the names are those of the public SDKs.
pub(in crate::api) fn new_order(
    api: &Api,
    merchant: &Merchant,
    input: &Input,
) -> Result<NewOrder, ApiError> {
    let amount = input
        .amount("amount")?
        .ok_or_else(|| ApiError::missing("amount"))?;
    if amount == Amount::ZERO {
        return Err(ApiError::field("amount", "must be more than 0"));
    }
    let mut udf: [String; 10] = Default::default();
    for (index, field) in udf.iter_mut().enumerate() {
        *field = input
            .short(&format!("udf{}", index + 1), 255)?
            .unwrap_or_default();
    }
    let metadata = input.object("metadata")?;
    if let Some(metadata) = &metadata {
        check_webhook_url(api, metadata)?;
    }
    let auto_capture = input
        .flag("metadata.txns.auto_capture")?
        .or(input.flag("auto_capture")?);
    let order_id = order_id(input, "order_id")?;
    Ok(NewOrder {
        id: public_id(api, merchant, &order_id),
        order_id,
        details: OrderDetails {
            amount,
            currency: input.currency("currency")?,
            customer_id: input.short("customer_id", 255)?,
            customer_email: input.short("customer_email", 255)?,
            customer_phone: input.short("customer_phone", 32)?,
            return_url: return_url(input)?,
            product_id: input.short("product_id", 255)?,
            description: input.short("description", 255)?,
            udf,
            extra: input.starting_with(&["billing_", "shipping_"]),
            metadata,
            gateway_id: input.integer("gateway_id")?,
            mandate: mandate_terms(input, api.clock.now())?,
            auto_capture: auto_capture.unwrap_or(true),
        },
    })
}

/// Refuses an order whose webhooks could not be sent to the URL that it names for them. Asked of the
/// object that is stored, as deliveries will ask it, however that was given.
fn check_webhook_url(api: &Api, metadata: &Json) -> Result<(), ApiError> {
    let field = "metadata.webhook_url";
    if let Some(url) = json::text(metadata, "webhook_url") {
        return match guard::admit(&url, &api.policy) {
            Ok(_) => Ok(()),
            Err(refused) => Err(ApiError::field(field, refused.to_string())),
        };
    }
    let members: serde_json::Map<String, Value> =
        serde_json::from_str(metadata.as_str()).map_err(ApiError::internal)?;
    match members.get("webhook_url") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(ApiError::field(field, "is not text")),
    }
}

/// The name of an order in public payment links: the same for the same order, and unguessable, for
/// whoever has it sees what is to be paid.
fn public_id(api: &Api, merchant: &Merchant, order_id: &OrderId) -> String {
    let parts = [merchant.merchant_id.as_str(), order_id.as_str()];
    let mac = api.vault.fingerprint("public order id", &parts);
    format!("ordeh_{}", harkara_core::id::hex(&mac[..16]))
}

fn return_url(input: &Input) -> Result<Option<String>, ApiError> {
    let Some(text) = input.short("return_url", 2048)? else {
        return Ok(None);
    };
    let url: url::Url = text
        .parse()
        .map_err(|_| ApiError::field("return_url", "is no absolute URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.fragment().is_some() {
        return Err(ApiError::field(
            "return_url",
            "must be http or https, without a fragment",
        ));
    }
    Ok(Some(text))
}

fn mandate_terms(input: &Input, now: Timestamp) -> Result<Option<MandateTerms>, ApiError> {
    let wish = input.one_of("options.create_mandate", &["REQUIRED", "OPTIONAL"])?;
    if wish.is_none() {
        return Ok(None);
    }
    let max_amount = input
        .amount("mandate.max_amount")?
        .or(input.amount("mandate_max_amount")?);
    let max_amount = max_amount.ok_or_else(|| ApiError::missing("mandate.max_amount"))?;
    if max_amount == Amount::ZERO {
        return Err(ApiError::field("mandate.max_amount", "must be more than 0"));
    }
    let start_date = input.epoch_seconds("mandate.start_date")?;
    let end_date = input.epoch_seconds("mandate.end_date")?;
    // Without a start it begins when it is registered, which is not before now.
    if end_date.is_some_and(|end| end <= start_date.unwrap_or(now)) {
        let reason = "must be after the mandate's start";
        return Err(ApiError::field("mandate.end_date", reason));
    }
    let frequency = input.one_of("mandate.frequency", FREQUENCIES)?;
    let amount_rule = input.one_of("mandate.amount_rule", &["FIXED", "VARIABLE"])?;
    Ok(Some(MandateTerms {
        max_amount,
        frequency: frequency.unwrap_or_else(|| "ASPRESENTED".to_owned()),
        amount_rule: amount_rule.unwrap_or_else(|| "VARIABLE".to_owned()),
        rule_type: input.one_of("mandate.rule_type", &["ON", "BEFORE", "AFTER"])?,
        rule_value: input.integer("mandate.rule_value")?,
        start_date,
        end_date,
        revokable_by_customer: input.flag("mandate.revokable_by_customer")?.unwrap_or(true),
        block_fund: input.flag("mandate.block_fund")?.unwrap_or(false),
    }))
}

const FREQUENCIES: &[&str] = &[
    "ONETIME",
    "DAILY",
    "WEEKLY",
    "FORTNIGHTLY",
    "MONTHLY",
    "BIMONTHLY",
    "QUARTERLY",
    "HALFYEARLY",
    "YEARLY",
    "ASPRESENTED",
];
