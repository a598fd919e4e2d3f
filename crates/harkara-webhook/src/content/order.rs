//! `content.order`: the complete order, with its refunds, its card and what the gateway said.
//!
//! The order status call answers with the same shape. Transactions and mandates inside an order
//! have their own files.

use crate::amount::Amount;
use crate::content::{OrderMandate, TxnDetail, content};
use crate::field::{Field, Json};
use crate::status::{OrderStatus, RefundStatus};

content! {
    /// An order as its merchant sees it.
    Order {
        /// The platform's id: `ordeh_` and 32 hex digits.
        id: String,
        /// The merchant's own id.
        order_id: String,
        /// The merchant whose order it is.
        merchant_id: String,
        /// A word of [`OrderStatus`]; see [`Order::status`].
        status: String,
        /// The number that belongs to the status.
        status_id: i64,
        /// What the order costs.
        amount: Amount,
        /// Three letters, such as `INR`.
        currency: String,
        /// What the customer pays after offers; refunds do not change it.
        effective_amount: Amount,
        /// Refunds that are under way, done or unclear; a failed one no longer counts.
        amount_refunded: Amount,
        /// Whether refunds cover the whole amount.
        refunded: bool,
        /// What can still be refunded.
        maximum_eligible_refund_amount: Amount,
        /// When it was created, as `2023-08-10T07:00:40Z`.
        date_created: String,
        /// When it last changed.
        last_updated: String,
        /// The customer, as the merchant names them.
        customer_id: String,
        /// Where the customer reads mail.
        customer_email: String,
        /// Where the customer can be called.
        customer_phone: String,
        /// The merchant's product; empty if none was given.
        product_id: String,
        /// Where the customer's browser goes after paying.
        return_url: String,
        /// The brand or bank, such as `VISA`.
        payment_method: String,
        /// The kind of method, such as `CARD` or `UPI`.
        payment_method_type: String,
        /// How the customer proved to be themselves, such as `THREE_DS`.
        auth_type: String,
        /// The transaction that gave the order its status.
        txn_id: String,
        /// The same transaction's id in URLs.
        txn_uuid: String,
        /// The number of the gateway.
        gateway_id: i64,
        /// The gateway's own reference.
        gateway_reference_id: String,
        /// The gateway behind the bank, where there is one.
        bank_pg: String,
        /// The bank's error code; empty if there was no error.
        bank_error_code: String,
        /// The bank's error in words; empty if there was no error.
        bank_error_message: String,
        /// The result code of the last answer.
        resp_code: String,
        /// The result of the last answer in words.
        resp_message: String,
        /// The kind of result.
        resp_category: String,
        /// The payer's UPI address.
        payer_vpa: String,
        /// The app the payer used.
        payer_app_name: String,
        /// UPI details.
        upi: Json,
        /// The card that was used.
        card: Card,
        /// Wallet details.
        wallet: Json,
        /// Instalment details.
        emi_details: Json,
        /// What was taken from the customer.
        amount_debited: Amount,
        /// Pages where the customer can pay.
        payment_links: PaymentLinks,
        /// The gateway's answer; absent until there is one.
        payment_gateway_response: PaymentGatewayResponse,
        /// The transaction that gave the order its status, in full.
        txn_detail: TxnDetail,
        /// All transactions, where several paid for one order.
        txn_list: Json,
        /// Its refunds, oldest first; absent if there are none.
        refunds: Vec<Refund>,
        /// The mandate that was registered with the order.
        mandate: OrderMandate,
        /// Offers that were applied.
        offers: Json,
        /// Rewards that were used.
        rewards_breakup: Json,
        /// The risk engine's findings.
        risk: Json,
        /// Whatever else the platform adds.
        additional_info: Json,
        /// What the merchant and the payment page attached.
        metadata: Json,
        /// Free for the merchant.
        udf1: String,
        /// Free for the merchant.
        udf2: String,
        /// Free for the merchant.
        udf3: String,
        /// Free for the merchant.
        udf4: String,
        /// Free for the merchant.
        udf5: String,
        /// Free for the merchant; special characters are allowed from here on.
        udf6: String,
        /// Free for the merchant.
        udf7: String,
        /// Free for the merchant.
        udf8: String,
        /// Free for the merchant.
        udf9: String,
        /// Free for the merchant.
        udf10: String,
    }
}

impl Order {
    /// The merchant's own id of the order.
    pub fn order_id(&self) -> Option<&str> {
        self.order_id.value().map(String::as_str)
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<OrderStatus> {
        self.status.value()?.parse().ok()
    }

    /// Whether the money is there: the moment to hand over the goods.
    pub fn is_charged(&self) -> bool {
        self.status() == Some(OrderStatus::Charged)
    }

    /// The refunds, oldest first; empty if there are none.
    pub fn refunds(&self) -> &[Refund] {
        self.refunds.value().map_or(&[], Vec::as_slice)
    }

    /// The refund with this `unique_request_id`.
    pub fn refund(&self, unique_request_id: &str) -> Option<&Refund> {
        self.refunds()
            .iter()
            .find(|refund| refund.unique_request_id() == Some(unique_request_id))
    }
}

content! {
    /// One refund of an order.
    Refund {
        /// Chosen by whoever asked for the refund.
        unique_request_id: String,
        /// The gateway's id; null until it has one.
        id: String,
        /// The reference that the customer's bank knows; null until there is one.
        #[serde(rename = "ref")]
        reference: String,
        /// The acquirer's reference number.
        arn: String,
        /// What goes back.
        amount: Amount,
        /// A word of [`RefundStatus`]; see [`Refund::status`].
        status: String,
        /// When it was asked for.
        created: String,
        /// When it last changed.
        last_updated: String,
        /// The gateway's code, `00` for success.
        error_code: String,
        /// What the gateway said; empty until it says something.
        error_message: String,
        /// Whether the gateway has been asked.
        sent_to_gateway: bool,
        /// The gateway that pays it out.
        refund_source: String,
        /// `STANDARD` or `INSTANT`.
        refund_type: String,
        /// The merchant, `API`, or `AUTO_REFUNDED`.
        initiated_by: String,
        /// When the gateway paid it out.
        pg_processed_at: String,
        /// When the gateway declined it.
        pg_declined_at: String,
        /// When the customer should have the money.
        expected_refund_credit_time: String,
        /// What the merchant attached.
        metadata: Json,
        /// Tries that failed before this one.
        previous_attempts: Json,
    }
}

impl Refund {
    /// The id that the caller chose.
    pub fn unique_request_id(&self) -> Option<&str> {
        self.unique_request_id.value().map(String::as_str)
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<RefundStatus> {
        self.status.value()?.parse().ok()
    }

    /// Whether the money went back.
    pub fn is_success(&self) -> bool {
        self.status() == Some(RefundStatus::Success)
    }

    /// Whether it starts by itself, rather than because somebody asked.
    pub fn is_automatic(&self) -> bool {
        self.initiated_by
            .value()
            .is_some_and(|by| by == "AUTO_REFUNDED")
    }
}

content! {
    /// What is known of a card; never its number.
    Card {
        /// The end of the number.
        last_four_digits: String,
        /// The beginning of the number, which names its issuer.
        card_isin: String,
        /// The scheme, such as `VISA`.
        card_brand: String,
        /// `CREDIT` or `DEBIT`.
        card_type: String,
        /// The bank.
        card_issuer: String,
        /// The holder.
        name_on_card: String,
        /// Two digits.
        expiry_month: String,
        /// Four digits.
        expiry_year: String,
        /// The same for the same card of one merchant.
        card_reference: String,
        /// The same for the same card everywhere.
        card_fingerprint: String,
        /// Whether it was chosen from saved cards.
        using_saved_card: bool,
        /// Whether it was saved.
        saved_to_locker: bool,
        /// Whether a network token stood in for the number.
        using_token: bool,
    }
}

content! {
    /// Pages where the customer can pay.
    PaymentLinks {
        /// For browsers.
        web: String,
        /// For phones.
        mobile: String,
        /// For a frame in the merchant's page.
        iframe: String,
        /// Until when they work.
        expiry: String,
    }
}

content! {
    /// What the gateway answered, in the platform's words.
    PaymentGatewayResponse {
        /// The gateway's id of the transaction.
        txn_id: String,
        /// When it answered.
        created: String,
        /// Its result code.
        resp_code: String,
        /// Its result in words.
        resp_message: String,
        /// The approval code.
        auth_id_code: String,
        /// The gateway's reference.
        epg_txn_id: String,
        /// The bank's retrieval reference number.
        rrn: String,
        /// The acquirer's reference number.
        arn: String,
        /// The electronic commerce indicator of the authentication.
        eci: String,
        /// The reference of the authentication.
        auth_ref_num: String,
        /// The merchant, as the gateway names it.
        gateway_merchant_id: String,
        /// The card network's error code.
        network_error_code: String,
        /// The card network's error in words.
        network_error_message: String,
        /// What was taken; this one is text on the wire.
        debit_amount: String,
        /// What an offer took off.
        discount_amount: Amount,
        /// The gateway's own answer; only if the merchant asked for it.
        gateway_response: GatewayResponse,
    }
}

content! {
    /// The gateway's own answer, in its words.
    GatewayResponse {
        /// The approval code.
        #[serde(rename = "authCode")]
        auth_code: String,
        /// The result code.
        #[serde(rename = "resCode")]
        res_code: String,
        /// The result in words.
        #[serde(rename = "resMessage")]
        res_message: String,
        /// The token of a mandate that was registered.
        #[serde(rename = "mandateToken")]
        mandate_token: String,
    }
}

/// No refunds means no key; the wire never has an empty list of them.
impl FromIterator<Refund> for Field<Vec<Refund>> {
    fn from_iter<I: IntoIterator<Item = Refund>>(refunds: I) -> Self {
        let refunds = Vec::from_iter(refunds);
        Self::optional((!refunds.is_empty()).then_some(refunds))
    }
}
