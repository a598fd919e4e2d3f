//! Mandates: `content.mandate`, and `mandate` inside an order.
//!
//! Mind the key: a mandate of its own has `status`, the one inside an order has `mandate_status`.

use crate::amount::Amount;
use crate::content::content;
use crate::field::Json;
use crate::status::MandateStatus;

content! {
    /// A mandate on its own, as the `MANDATE_…` events carry it.
    Mandate {
        /// 22 letters and digits.
        mandate_id: String,
        /// A word of [`MandateStatus`]; see [`Mandate::status`].
        status: String,
        /// The order that registered it.
        order_id: String,
        /// The customer who gave it.
        customer_id: String,
        /// `MANDATE` for cards, `EMANDATE` for UPI and banks.
        mandate_type: String,
        /// What to charge it with.
        mandate_token: String,
        /// The token for debits; there once it is active.
        mandate_debit_token: String,
        /// How often it may be charged, such as `MONTHLY`.
        frequency: String,
        /// `FIXED` or `VARIABLE`.
        amount_rule: String,
        /// The most that one charge may take.
        max_amount: Amount,
        /// Three letters, such as `INR`.
        currency: String,
        /// The first day, in seconds since 1970, as text.
        start_date: String,
        /// The last day, in seconds since 1970, as text.
        end_date: String,
        /// Whether the customer may end it.
        revokable_by_customer: bool,
        /// Whether the money is set aside.
        block_fund: bool,
        /// The instrument behind it.
        payment_info: Json,
        /// When it first became active, as `2023-08-16T09:02:34Z`.
        activated_at: String,
        /// When it last became active.
        last_activated_at: String,
        /// When it last changed.
        last_updated: String,
    }
}

impl Mandate {
    /// The mandate's id.
    pub fn mandate_id(&self) -> Option<&str> {
        self.mandate_id.value().map(String::as_str)
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<MandateStatus> {
        self.status.value()?.parse().ok()
    }

    /// Whether it can be charged.
    pub fn is_active(&self) -> bool {
        self.status() == Some(MandateStatus::Active)
    }
}

content! {
    /// The mandate that an order registered.
    OrderMandate {
        /// 22 letters and digits.
        mandate_id: String,
        /// A word of [`MandateStatus`]; see [`OrderMandate::status`].
        mandate_status: String,
        /// `MANDATE` for cards, `EMANDATE` for UPI and banks.
        mandate_type: String,
        /// What to charge it with.
        mandate_token: String,
        /// How often it may be charged, such as `MONTHLY`.
        frequency: String,
        /// `FIXED` or `VARIABLE`.
        amount_rule: String,
        /// The most that one charge may take.
        max_amount: Amount,
        /// Whether charges fall `ON`, `BEFORE` or `AFTER` the day.
        rule_type: String,
        /// The day that the rule is about.
        rule_value: i64,
        /// The first day, in seconds since 1970, as text.
        start_date: String,
        /// The last day, in seconds since 1970, as text.
        end_date: String,
        /// Whether the customer may end it.
        revokable_by_customer: bool,
        /// Whether the money is set aside.
        block_fund: bool,
    }
}

impl OrderMandate {
    /// The status, if it is one we know.
    pub fn status(&self) -> Option<MandateStatus> {
        self.mandate_status.value()?.parse().ok()
    }
}
