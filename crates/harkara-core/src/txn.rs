//! Transactions: the tries to pay an order, as they are stored and as gateways speak of them.
//!
//! Which status may follow which is one table, `may_become()`. What a start, a report, a capture or a
//! void makes of an order is in `txn/rules.rs`, for `order::decide()` alone.

use harkara_webhook::{Amount, OrderStatus};
use serde::{Deserialize, Serialize};

use crate::id::{MandateId, TxnId, TxnUuid};
use crate::json::Json;
use crate::time::Timestamp;

mod rules;

pub(crate) use rules::{capture, settle, start, void};

/// One try to pay an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub txn_id: TxnId,
    pub txn_uuid: TxnUuid,
    /// Counts the order's tries, from 1.
    pub n: usize,
    pub amount: Amount,
    pub status: OrderStatus,
    pub kind: TxnKind,
    /// The mandate that it registers or is paid by.
    pub mandate_id: Option<MandateId>,
    pub created_at: Timestamp,
    pub way: PaymentWay,
    /// Text of a failure; `None` before the gateway answered.
    pub error: Option<TxnError>,
    pub reply: Option<GatewayReply>,
    pub gateway_reference_id: Option<String>,
    /// What its caller named the start by, so that a repeated one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Why a transaction exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxnKind {
    Payment,
    MandateRegister,
    MandatePayment,
}

/// How the customer pays, and through whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentWay {
    pub gateway: Gateway,
    /// `CARD`, `UPI`, `NB`, `WALLET`, …
    pub payment_method_type: String,
    pub payment_method: String,
    pub card: Option<Card>,
    pub payer_vpa: Option<String>,
    pub redirect: bool,
    pub auto_capture: bool,
    pub metadata: Option<Json>,
    /// What the DUMMY gateway is told to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// Who carries a payment out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub id: i64,
    pub name: String,
}

impl Gateway {
    /// The sandbox's gateway.
    pub const DUMMY_ID: i64 = 100;

    /// The gateway that plays outcomes instead of moving money.
    pub fn dummy() -> Self {
        Self {
            id: Self::DUMMY_ID,
            name: "DUMMY".to_owned(),
        }
    }

    /// Whether outcomes are played, not reported.
    pub fn is_dummy(&self) -> bool {
        self.id == Self::DUMMY_ID
    }
}

/// What is kept of a card: never its number, never its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub last_four_digits: String,
    pub card_isin: String,
    pub card_brand: String,
    pub card_type: String,
    pub card_issuer: String,
    pub name_on_card: String,
    pub expiry_month: String,
    pub expiry_year: String,
    pub card_reference: String,
    pub card_fingerprint: String,
}

/// Why a transaction failed, in the gateway's words; both empty for a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnError {
    pub code: String,
    pub message: String,
}

/// What a gateway said about a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReply {
    pub created_at: Timestamp,
    pub fields: GatewayFields,
}

/// The parts of a gateway's answer that the wire shows; `None` where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayFields {
    pub txn_id: Option<String>,
    pub rrn: Option<String>,
    pub epg_txn_id: Option<String>,
    pub auth_id_code: Option<String>,
    pub resp_code: Option<String>,
    pub resp_message: Option<String>,
    /// The gateway's own words, shown with `add_full_gateway_response`.
    pub gateway_response: Option<GatewayWords>,
}

/// A gateway's answer in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayWords {
    pub auth_code: String,
    pub res_message: String,
    pub mandate_token: String,
    pub res_code: String,
}

/// The order to start a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTxn {
    pub way: PaymentWay,
    /// A mandate to pay by, instead of the customer paying.
    pub mandate_id: Option<MandateId>,
    /// Names this start among the order's: a second one of the same key changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a gateway reports of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOutcome {
    pub txn_uuid: TxnUuid,
    pub status: OrderStatus,
    pub error: TxnError,
    pub fields: GatewayFields,
    pub gateway_reference_id: Option<String>,
}

impl Txn {
    /// Whether it may still become charged without being late: started and neither failed nor over.
    pub fn is_live(&self) -> bool {
        match self.status {
            OrderStatus::Started
            | OrderStatus::PendingVbv
            | OrderStatus::VbvSuccessful
            | OrderStatus::Authorizing
            | OrderStatus::CodInitiated
            | OrderStatus::Authorized
            | OrderStatus::CaptureInitiated
            | OrderStatus::CaptureFailed
            | OrderStatus::VoidInitiated
            | OrderStatus::VoidFailed => true,
            OrderStatus::Created
            | OrderStatus::New
            | OrderStatus::Charged
            | OrderStatus::PartialCharged
            | OrderStatus::Voided
            | OrderStatus::AutoRefunded
            | OrderStatus::JuspayDeclined
            | OrderStatus::AuthenticationFailed
            | OrderStatus::AuthorizationFailed => false,
        }
    }
}

/// Whether a gateway may report `to` of a transaction that is `from`. Anything else is old news and
/// changes nothing.
pub fn may_become(from: OrderStatus, to: OrderStatus) -> bool {
    use OrderStatus as S;
    let answers = [
        S::Charged,
        S::Authorized,
        S::AuthenticationFailed,
        S::AuthorizationFailed,
        S::JuspayDeclined,
    ];
    let reported: &[S] = match from {
        S::Started | S::PendingVbv | S::CodInitiated => {
            return answers.contains(&to) || matches!(to, S::VbvSuccessful | S::Authorizing);
        }
        S::VbvSuccessful => return answers.contains(&to) || to == S::Authorizing,
        S::Authorizing => &answers,
        // A success that comes late.
        S::AuthenticationFailed | S::AuthorizationFailed | S::JuspayDeclined => &[S::Charged],
        S::Authorized => &[S::Charged, S::CaptureFailed, S::Voided],
        S::CaptureInitiated => &[S::Charged, S::CaptureFailed],
        S::CaptureFailed => &[S::Charged, S::Voided],
        S::VoidInitiated => &[S::Voided, S::VoidFailed],
        S::VoidFailed => &[S::Charged, S::Voided],
        S::Created | S::New | S::Charged | S::PartialCharged | S::Voided | S::AutoRefunded => &[],
    };
    reported.contains(&to)
}

/// Whether this status is one of the three failures.
pub fn is_failure(status: OrderStatus) -> bool {
    matches!(
        status,
        OrderStatus::AuthenticationFailed
            | OrderStatus::AuthorizationFailed
            | OrderStatus::JuspayDeclined
    )
}
