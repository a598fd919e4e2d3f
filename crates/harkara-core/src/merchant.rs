//! Merchants: whose payments these are, and the few settings that change what their events say.

use serde::{Deserialize, Serialize};

use crate::id::MerchantId;

/// A party whose server we call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    pub merchant_id: MerchantId,
    #[serde(default)]
    pub settings: Settings,
}

/// Per merchant and not per endpoint, so that an event has one body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Contents carry `payment_gateway_response.gateway_response`.
    pub add_full_gateway_response: bool,
    /// Keys that are null are left out.
    pub trim_webhook_response: bool,
    /// A success that a gateway reports too late is refunded by itself.
    pub auto_refund_conflict: bool,
    /// How late is too late.
    pub auto_refund_conflict_minutes: u32,
    /// A second charge of an order that is already charged is refunded by itself.
    pub auto_refund_multiple_charged: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            add_full_gateway_response: true,
            trim_webhook_response: false,
            auto_refund_conflict: true,
            auto_refund_conflict_minutes: 10,
            auto_refund_multiple_charged: true,
        }
    }
}
