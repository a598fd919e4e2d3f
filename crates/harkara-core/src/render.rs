//! From the rules' own shapes to the wire: absent, null and "" are three different things here.
//!
//! One renderer for webhooks and for `GET /orders/{id}`, so that both give the same bytes. The
//! shapes are the contract crate's; which of their keys are present when is decided here, after the
//! reference's field matrix (section 6).

use harkara_webhook::content::{
    self, Card, GatewayResponse, NotificationMandate, OrderMandate, PaymentGatewayResponse,
    PaymentLinks, TxnDetail,
};
use harkara_webhook::{Field, MandateStatus, NotificationStatus, RefundStatus};
use serde::Serialize;

use crate::id::TxnId;
use crate::json::{self, Json};
use crate::mandate::Mandate;
use crate::merchant::Settings;
use crate::notification::Notification;
use crate::order::Order;
use crate::refund::{Refund, RefundKind};
use crate::time::Timestamp;
use crate::txn::{self, GatewayReply, Txn, TxnKind};

/// How a merchant wants its contents, and where its customers' pages are.
#[derive(Clone, Copy, Debug)]
pub struct Rendering<'a> {
    pub settings: &'a Settings,
    /// Without a slash at its end.
    pub public_url: &'a str,
}

/// `content.order`, and the answer of `GET /orders/{id}`. `mandate` is the one that the order
/// registers or is paid by.
pub fn order(order: &Order, mandate: Option<&Mandate>, rendering: Rendering<'_>) -> Vec<u8> {
    let mut content = order_content(order, mandate, rendering);
    if rendering.settings.trim_webhook_response {
        content.drop_nulls();
    }
    print(&content)
}

/// `content.txn` of one of the order's transactions.
pub fn txn(order: &Order, txn_id: &TxnId, rendering: Rendering<'_>) -> Vec<u8> {
    let txn = order.txn_with_id(txn_id);
    let txn = txn.expect("a transition names a transaction of its order");
    let mut content = txn_content(order, txn);
    if rendering.settings.trim_webhook_response {
        content.drop_nulls();
    }
    print(&content)
}

/// `content.mandate`, and what the mandate API answers with.
pub fn mandate(mandate: &Mandate, rendering: Rendering<'_>) -> Vec<u8> {
    let mut content = mandate_content(mandate);
    if rendering.settings.trim_webhook_response {
        content.drop_nulls();
    }
    print(&content)
}

/// `content.notification`.
pub fn notification(notification: &Notification, rendering: Rendering<'_>) -> Vec<u8> {
    let mut content = notification_content(notification);
    if rendering.settings.trim_webhook_response {
        content.drop_nulls();
    }
    print(&content)
}

/// The answer of `GET /notifications/{object_reference_id}`: the content, and always a description,
/// which a known client insists on.
pub fn notification_status(notification: &Notification) -> Vec<u8> {
    let mut content = notification_content(notification);
    content.description = text(&notification.description);
    print(&content)
}

fn print(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("contents print as JSON")
}

fn text(text: &str) -> Field<String> {
    Field::from(text.to_owned())
}

fn empty_object() -> Json {
    Json::parse("{}").expect("an empty object is JSON")
}

fn empty_list() -> Json {
    Json::parse("[]").expect("an empty list is JSON")
}

fn text_or_empty(value: Option<&String>) -> Field<String> {
    text(value.map_or("", String::as_str))
}

fn order_content(
    order: &Order,
    mandate: Option<&Mandate>,
    rendering: Rendering<'_>,
) -> content::Order {
    let details = &order.details;
    let status = order.status();
    let [udf1, udf2, udf3, udf4, udf5, udf6, udf7, udf8, udf9, udf10] =
        details.udf.each_ref().map(|udf| text(udf));
    let mut content = content::Order {
        id: text(&order.id),
        order_id: text(order.order_id.as_str()),
        merchant_id: text(order.merchant_id.as_str()),
        status: text(status.as_str()),
        status_id: Field::from(status.id()),
        amount: Field::from(details.amount),
        effective_amount: Field::from(details.amount),
        currency: text(details.currency.as_str()),
        amount_refunded: Field::from(order.amount_refunded()),
        refunded: Field::from(order.is_refunded()),
        maximum_eligible_refund_amount: Field::optional(order.refundable()),
        date_created: text(&order.created_at.iso()),
        customer_id: text_or_empty(details.customer_id.as_ref()),
        customer_email: text_or_empty(details.customer_email.as_ref()),
        customer_phone: text_or_empty(details.customer_phone.as_ref()),
        return_url: text_or_empty(details.return_url.as_ref()),
        product_id: text_or_empty(details.product_id.as_ref()),
        udf1,
        udf2,
        udf3,
        udf4,
        udf5,
        udf6,
        udf7,
        udf8,
        udf9,
        udf10,
        metadata: Field::from(details.metadata.clone().unwrap_or_else(empty_object)),
        payment_links: Field::from(payment_links(&order.id, rendering.public_url)),
        offers: Field::from(empty_list()),
        bank_error_code: text(""),
        bank_error_message: text(""),
        ..content::Order::default()
    };
    if let Some(txn) = order.leading_txn() {
        add_txn(&mut content, order, txn, mandate, rendering);
    }
    if !order.refunds.is_empty() {
        let refunds = order.refunds.iter().map(|one| refund(order, one));
        content.refunds = Field::from(refunds.collect::<Vec<_>>());
    }
    content
}

/// What an order shows once somebody tried to pay it.
fn add_txn(
    content: &mut content::Order,
    order: &Order,
    txn: &Txn,
    mandate: Option<&Mandate>,
    rendering: Rendering<'_>,
) {
    let way = &txn.way;
    content.txn_id = text(txn.txn_id.as_str());
    content.txn_uuid = text(txn.txn_uuid.as_str());
    content.gateway_id = Field::from(way.gateway.id);
    content.gateway_reference_id = Field::nullable(txn.gateway_reference_id.clone());
    content.bank_pg = Field::Null;
    content.rewards_breakup = Field::Null;
    content.payment_method = text(&way.payment_method);
    content.payment_method_type = text(&way.payment_method_type);
    content.auth_type = text(if way.card.is_some() { "THREE_DS" } else { "" });
    content.payer_vpa = Field::optional(way.payer_vpa.clone());
    content.card = Field::optional(way.card.as_ref().map(card));
    if let Some(error) = txn.error.as_ref().filter(|_| txn::is_failure(txn.status)) {
        content.bank_error_code = text(&error.code);
        content.bank_error_message = text(&error.message);
    }
    let full = rendering.settings.add_full_gateway_response;
    content.payment_gateway_response = Field::optional(
        txn.reply
            .as_ref()
            .map(|reply| gateway_response(reply, full)),
    );
    content.txn_detail = Field::from(txn_detail(order, txn, mandate));
    if let Some(mandate) = mandate.filter(|_| txn.kind == TxnKind::MandateRegister) {
        content.mandate = Field::from(order_mandate(mandate));
    }
}

fn payment_links(id: &str, public_url: &str) -> PaymentLinks {
    PaymentLinks {
        web: text(&format!("{public_url}/merchant/pay/{id}")),
        iframe: text(&format!("{public_url}/merchant/ipay/{id}")),
        mobile: text(&format!("{public_url}/merchant/pay/{id}?mobile=true")),
        ..PaymentLinks::default()
    }
}

fn txn_detail(order: &Order, txn: &Txn, mandate: Option<&Mandate>) -> TxnDetail {
    let of_mandate = txn.kind != TxnKind::Payment;
    TxnDetail {
        txn_id: text(txn.txn_id.as_str()),
        txn_uuid: text(txn.txn_uuid.as_str()),
        order_id: text(order.order_id.as_str()),
        status: text(txn.status.as_str()),
        txn_amount: Field::from(txn.amount),
        net_amount: Field::from(txn.amount),
        currency: text(order.details.currency.as_str()),
        created: text(&txn.created_at.iso()),
        gateway: text(&txn.way.gateway.name),
        gateway_id: Field::from(txn.way.gateway.id),
        express_checkout: Field::from(is_express(txn)),
        redirect: Field::from(txn.way.redirect),
        txn_flow_type: Field::optional((!of_mandate).then(|| flow_type(txn).to_owned())),
        metadata: Field::optional(txn.way.metadata.clone()),
        // Null before the gateway answered, "" when it found nothing wrong.
        error_code: Field::nullable(txn.error.as_ref().map(|error| error.code.clone())),
        error_message: text(txn.error.as_ref().map_or("", |error| &error.message)),
        surcharge_amount: Field::Null,
        tax_amount: Field::Null,
        txn_object_type: Field::optional(object_type(txn)),
        source_object: Field::optional(of_mandate.then(|| "MANDATE".to_owned())),
        source_object_id: Field::optional(mandate.filter(|_| of_mandate).map(Mandate::number)),
        ..TxnDetail::default()
    }
}

fn txn_content(order: &Order, txn: &Txn) -> content::Txn {
    let reply = txn
        .reply
        .as_ref()
        .map(|reply| gateway_response(reply, false));
    content::Txn {
        txn_id: text(txn.txn_id.as_str()),
        txn_uuid: text(txn.txn_uuid.as_str()),
        order_id: text(order.order_id.as_str()),
        status: text(txn.status.as_str()),
        status_id: Field::from(txn.status.id()),
        txn_amount: Field::from(txn.amount),
        net_amount: Field::from(txn.amount),
        currency: text(order.details.currency.as_str()),
        created: text(&txn.created_at.iso()),
        gateway: text(&txn.way.gateway.name),
        gateway_id: Field::from(txn.way.gateway.id),
        express_checkout: Field::from(is_express(txn)),
        redirect: Field::from(txn.way.redirect),
        payment_method_type: text(&txn.way.payment_method_type),
        payment_method: text(&txn.way.payment_method),
        error_code: text(txn.error.as_ref().map_or("", |error| &error.code)),
        error_message: text(txn.error.as_ref().map_or("", |error| &error.message)),
        surcharge_amount: Field::Null,
        tax_amount: Field::Null,
        txn_flow_type: text(flow_type(txn)),
        card: Field::optional(txn.way.card.as_ref().map(card)),
        payment_gateway_response: Field::optional(reply),
        ..content::Txn::default()
    }
}

/// Paid with details that came with the call, as cards are.
fn is_express(txn: &Txn) -> bool {
    txn.way.card.is_some()
}

fn flow_type(txn: &Txn) -> &'static str {
    match txn.way.payment_method_type.as_str() {
        "CARD" => "CARD_TRANSACTION",
        "UPI" => "COLLECT",
        "NB" => "NET_BANKING",
        _ => "REDIRECT",
    }
}

fn object_type(txn: &Txn) -> Option<String> {
    let by_card = txn.way.payment_method_type == "CARD";
    let name = match (txn.kind, by_card) {
        (TxnKind::Payment, _) => return None,
        (TxnKind::MandateRegister, true) => "MANDATE_REGISTER",
        (TxnKind::MandateRegister, false) => "EMANDATE_REGISTER",
        (TxnKind::MandatePayment, true) => "MANDATE_PAYMENT",
        (TxnKind::MandatePayment, false) => "EMANDATE_PAYMENT",
    };
    Some(name.to_owned())
}

fn card(card: &txn::Card) -> Card {
    Card {
        last_four_digits: text(&card.last_four_digits),
        card_isin: text(&card.card_isin),
        card_brand: text(&card.card_brand),
        card_type: text(&card.card_type),
        card_issuer: text(&card.card_issuer),
        name_on_card: text(&card.name_on_card),
        expiry_month: text(&card.expiry_month),
        expiry_year: text(&card.expiry_year),
        card_reference: text(&card.card_reference),
        card_fingerprint: text(&card.card_fingerprint),
        using_saved_card: Field::from(false),
        saved_to_locker: Field::from(false),
        using_token: Field::from(false),
        ..Card::default()
    }
}

fn gateway_response(reply: &GatewayReply, full: bool) -> PaymentGatewayResponse {
    let fields = &reply.fields;
    let words = fields.gateway_response.as_ref().filter(|_| full);
    PaymentGatewayResponse {
        created: text(&reply.created_at.iso()),
        auth_id_code: text_or_empty(fields.auth_id_code.as_ref()),
        txn_id: Field::nullable(fields.txn_id.clone()),
        rrn: Field::nullable(fields.rrn.clone()),
        epg_txn_id: Field::nullable(fields.epg_txn_id.clone()),
        resp_code: Field::nullable(fields.resp_code.clone()),
        resp_message: Field::nullable(fields.resp_message.clone()),
        gateway_response: Field::optional(words.map(|words| GatewayResponse {
            auth_code: text(&words.auth_code),
            res_message: text(&words.res_message),
            mandate_token: text(&words.mandate_token),
            res_code: text(&words.res_code),
            ..GatewayResponse::default()
        })),
        ..PaymentGatewayResponse::default()
    }
}

fn refund(order: &Order, refund: &Refund) -> content::Refund {
    let settled_at = refund.settled_at.map(|at| at.iso());
    let succeeded = refund.status == RefundStatus::Success;
    let auto_failed = refund.status == RefundStatus::Failure && refund.kind == RefundKind::Auto;
    content::Refund {
        unique_request_id: text(refund.refund_id.as_str()),
        id: Field::nullable(refund.gateway_refund_id.clone()),
        amount: Field::from(refund.amount),
        status: text(refund.status.as_str()),
        created: text(&refund.created_at.iso()),
        reference: Field::nullable(refund.reference.clone()),
        error_code: Field::nullable(refund.error_code.clone()),
        error_message: text(&refund.error_message),
        sent_to_gateway: Field::from(refund.sent_to_gateway),
        refund_source: text(&refund.source),
        refund_type: text(&refund.refund_type),
        initiated_by: text(match refund.kind {
            RefundKind::Auto => "AUTO_REFUNDED",
            RefundKind::Merchant => order.merchant_id.as_str(),
        }),
        pg_processed_at: Field::optional(settled_at.clone().filter(|_| succeeded)),
        pg_declined_at: Field::optional(settled_at.filter(|_| auto_failed)),
        previous_attempts: Field::optional(auto_failed.then(empty_list)),
        ..content::Refund::default()
    }
}

fn order_mandate(mandate: &Mandate) -> OrderMandate {
    let terms = &mandate.terms;
    OrderMandate {
        mandate_id: text(mandate.mandate_id.as_str()),
        mandate_status: text(mandate.status.as_str()),
        mandate_token: text(&mandate.mandate_token),
        mandate_type: text(&mandate.mandate_type),
        frequency: text(&terms.frequency),
        amount_rule: text(&terms.amount_rule),
        rule_type: Field::optional(terms.rule_type.clone()),
        rule_value: Field::optional(terms.rule_value),
        max_amount: Field::from(terms.max_amount),
        start_date: Field::optional(terms.start_date.map(Timestamp::epoch_seconds)),
        end_date: Field::optional(terms.end_date.map(Timestamp::epoch_seconds)),
        revokable_by_customer: Field::from(terms.revokable_by_customer),
        block_fund: Field::from(terms.block_fund),
        ..OrderMandate::default()
    }
}

fn mandate_content(mandate: &Mandate) -> content::Mandate {
    let terms = &mandate.terms;
    let active = mandate.status == MandateStatus::Active;
    content::Mandate {
        mandate_id: text(mandate.mandate_id.as_str()),
        status: text(mandate.status.as_str()),
        order_id: text(mandate.order_id.as_str()),
        customer_id: text(&mandate.customer_id),
        mandate_type: text(&mandate.mandate_type),
        mandate_token: text(&mandate.mandate_token),
        mandate_debit_token: Field::optional(mandate.debit_token.clone().filter(|_| active)),
        frequency: text(&terms.frequency),
        amount_rule: text(&terms.amount_rule),
        max_amount: Field::from(terms.max_amount),
        currency: text(mandate.currency.as_str()),
        start_date: Field::optional(terms.start_date.map(Timestamp::epoch_seconds)),
        end_date: Field::optional(terms.end_date.map(Timestamp::epoch_seconds)),
        revokable_by_customer: Field::from(terms.revokable_by_customer),
        block_fund: Field::from(terms.block_fund),
        payment_info: Field::from(payment_info(mandate)),
        last_updated: text(&mandate.updated_at.iso()),
        activated_at: Field::optional(mandate.activated_at.map(|at| at.iso())),
        last_activated_at: Field::optional(mandate.last_activated_at.map(|at| at.iso())),
        ..content::Mandate::default()
    }
}

fn payment_info(mandate: &Mandate) -> Json {
    let mut info = serde_json::Map::new();
    let mut put = |key: &str, value: &str| {
        info.insert(key.to_owned(), serde_json::Value::from(value));
    };
    put("payment_method_type", &mandate.payment_method_type);
    put("payment_method", &mandate.payment_method);
    if let Some(vpa) = &mandate.payer_vpa {
        put("payer_vpa", vpa);
    }
    json::from_value(&serde_json::Value::Object(info))
}

fn notification_content(notification: &Notification) -> content::Notification {
    let failed = notification.status == NotificationStatus::Failure;
    let code = notification.response_code.clone().unwrap_or_default();
    let message = notification.response_message.clone().unwrap_or_default();
    content::Notification {
        object: text("notification"),
        id: text(&notification.id),
        object_reference_id: text(notification.reference.as_str()),
        status: text(notification.status.as_str()),
        source_object: text("MANDATE"),
        // Kept as the merchant wrote it, further keys included.
        source_info: Field::Other {
            json: notification.source_info.clone(),
            value: None,
        },
        mandate: Field::from(NotificationMandate {
            mandate_id: text(notification.mandate_id.as_str()),
            ..NotificationMandate::default()
        }),
        notification_type: text("PRE_DEBIT"),
        provider_name: text(&notification.provider_name),
        provider_response: Field::optional(
            (notification.status == NotificationStatus::Success).then(|| message.clone()),
        ),
        description: Field::optional(failed.then(|| notification.description.clone())),
        response_code: Field::optional(failed.then_some(code)),
        response_message: Field::optional(failed.then_some(message)),
        date_created: text(&notification.created_at.epoch_seconds()),
        last_updated: text(&notification.updated_at.epoch_seconds()),
        ..content::Notification::default()
    }
}
