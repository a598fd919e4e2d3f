//! Transactions: `content.txn`, and `txn_detail` inside an order.
//!
//! The two shapes differ: the first stands alone and names its payment method, the second leans on
//! the order around it.

use crate::amount::Amount;
use crate::content::{Card, PaymentGatewayResponse, content};
use crate::field::Json;
use crate::status::OrderStatus;

content! {
    /// A transaction on its own, as `TXN_CHARGED` and `TXN_FAILED` carry it.
    Txn {
        /// `{merchant_id}-{order_id}-{n}`, the n-th try to pay the order.
        txn_id: String,
        /// Its id in URLs.
        txn_uuid: String,
        /// The order it pays for.
        order_id: String,
        /// A word of [`OrderStatus`]; see [`Txn::status`].
        status: String,
        /// The number that belongs to the status.
        status_id: i64,
        /// What is to be paid.
        txn_amount: Amount,
        /// What is paid after offers, surcharge and tax.
        net_amount: Amount,
        /// What was added for the payment method.
        surcharge_amount: Amount,
        /// The tax on the surcharge.
        tax_amount: Amount,
        /// Three letters, such as `INR`.
        currency: String,
        /// When it began.
        created: String,
        /// The gateway's name.
        gateway: String,
        /// The gateway's number.
        gateway_id: i64,
        /// Whether the customer paid with something they had saved.
        express_checkout: bool,
        /// Whether the customer was sent to another page.
        redirect: bool,
        /// The kind of method, such as `CARD` or `UPI`.
        payment_method_type: String,
        /// The brand or bank, such as `VISA`.
        payment_method: String,
        /// The gateway's error code; empty if there was no error.
        error_code: String,
        /// The error in words; empty if there was no error.
        error_message: String,
        /// The kind of flow, such as `CARD_TRANSACTION`.
        txn_flow_type: String,
        /// The card that was used.
        card: Card,
        /// The gateway's answer.
        payment_gateway_response: PaymentGatewayResponse,
    }
}

impl Txn {
    /// The merchant's id of the order it pays for.
    pub fn order_id(&self) -> Option<&str> {
        self.order_id.value().map(String::as_str)
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<OrderStatus> {
        self.status.value()?.parse().ok()
    }

    /// Whether it brought the money.
    pub fn is_charged(&self) -> bool {
        self.status() == Some(OrderStatus::Charged)
    }
}

content! {
    /// A transaction inside its order.
    TxnDetail {
        /// `{merchant_id}-{order_id}-{n}`, the n-th try to pay the order.
        txn_id: String,
        /// Its id in URLs.
        txn_uuid: String,
        /// The order it pays for.
        order_id: String,
        /// A word of [`OrderStatus`]; see [`TxnDetail::status`].
        status: String,
        /// What is to be paid.
        txn_amount: Amount,
        /// What is paid after offers, surcharge and tax.
        net_amount: Amount,
        /// What was added for the payment method.
        surcharge_amount: Amount,
        /// The tax on the surcharge.
        tax_amount: Amount,
        /// What an offer took off.
        offer_deduction_amount: Amount,
        /// How the amount is made up.
        txn_amount_breakup: Json,
        /// Three letters, such as `INR`.
        currency: String,
        /// When it began.
        created: String,
        /// When it last changed.
        last_updated: String,
        /// The gateway's name.
        gateway: String,
        /// The gateway's number.
        gateway_id: i64,
        /// Whether the customer paid with something they had saved.
        express_checkout: bool,
        /// Whether the customer was sent to another page.
        redirect: bool,
        /// Null while it runs, empty on success, else the gateway's code.
        error_code: String,
        /// The error in words; empty if there was no error.
        error_message: String,
        /// The platform's result code.
        response_code: String,
        /// The platform's result in words.
        response_message: String,
        /// The kind of flow, such as `CARD_TRANSACTION`.
        txn_flow_type: String,
        /// What it does for a mandate, such as `EMANDATE_REGISTER`.
        txn_object_type: String,
        /// What caused it, such as `MANDATE`.
        source_object: String,
        /// The id of what caused it.
        source_object_id: String,
        /// What the payment page noted.
        metadata: Json,
    }
}

impl TxnDetail {
    /// The status, if it is one we know.
    pub fn status(&self) -> Option<OrderStatus> {
        self.status.value()?.parse().ok()
    }
}
