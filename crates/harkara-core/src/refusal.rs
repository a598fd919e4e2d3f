//! What the rules forbid: one closed list, each with the code and category that the API answers.
//!
//! A refusal changes nothing and leaves no event. `decide()` returns them; the API maps them 1:1.

use harkara_webhook::{Amount, MandateStatus, OrderStatus};

use crate::money::Currency;
use crate::time::Timestamp;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("an order with this order_id exists already and was created with other values")]
    OrderExists,
    #[error("there is no such order")]
    OrderUnknown,
    #[error("the order is kept by another ledger, so it can only change through POST /events")]
    OrderForeign,
    #[error("the order is {0} already, so it cannot be paid again")]
    OrderPaid(OrderStatus),
    #[error("the order's amount cannot change any more: a transaction was started on it")]
    AmountLocked,
    #[error("an order keeps at most 50 further fields; change one that it has, or leave it out")]
    TooManyFields,
    #[error("there is no such transaction")]
    TxnUnknown,
    #[error("an order can have at most 50 transactions; create another one for this payment")]
    TooManyTxns,
    #[error("the transaction is {0}; only one that is AUTHORIZED can be captured or voided")]
    TxnNotAuthorized(OrderStatus),
    #[error("the whole authorised amount, {0}, must be captured")]
    CaptureAmount(Amount),
    #[error("the order was not paid, so there is nothing to refund")]
    NotPaid,
    #[error("this unique_request_id was used for a refund of {0} already")]
    RefundExists(Amount),
    #[error("this unique_request_id was used for a refund of another order already")]
    RefundElsewhere,
    #[error("only {0} of the transaction is left to refund")]
    RefundExceeds(Amount),
    #[error("a refund must be of more than nothing")]
    RefundOfNothing,
    #[error("an order can have at most 25 refunds")]
    TooManyRefunds,
    #[error("there is no such refund")]
    RefundUnknown,
    #[error("there is no such mandate")]
    MandateUnknown,
    #[error("the mandate is {status}, so it cannot be {wish}")]
    MandateState {
        status: MandateStatus,
        wish: &'static str,
    },
    #[error("the mandate allows at most {0} at a time")]
    MandateMaximum(Amount),
    #[error("the mandate is for payments in {0}, and the order is in another currency")]
    MandateCurrency(Currency),
    #[error("the mandate was given by another customer than the order's")]
    MandateForeign,
    #[error("the mandate allows no debit before {}", .0.iso())]
    MandateNotStarted(Timestamp),
    #[error("the mandate allows no debit after {}", .0.iso())]
    MandateEnded(Timestamp),
    #[error("a mandate needs a customer_id")]
    MandateCustomer,
    #[error("there is no such notification")]
    NotificationUnknown,
    #[error("this object_reference_id was used for another notification already")]
    NotificationExists,
}

/// The reference's categories of a caller's mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    InvalidInput,
    ResourceNotFound,
    DuplicateRequest,
    InvalidAction,
    AlreadyExists,
}

impl Refusal {
    /// The `error_code` that the API answers with.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OrderExists => "duplicate.order_id",
            Self::OrderUnknown => "order.not_found",
            Self::OrderForeign => "order.foreign",
            Self::OrderPaid(_) => "invalid.order.already_successful",
            Self::AmountLocked => "invalid.order.amount_locked",
            Self::TxnUnknown => "txn.not_found",
            Self::TooManyFields | Self::TooManyTxns | Self::TooManyRefunds => "request.exceeded",
            Self::TxnNotAuthorized(_) => "invalid.txn.not_authorized",
            Self::CaptureAmount(_) => "invalid.capture.amount",
            Self::NotPaid => "invalid.order.not_successful",
            Self::RefundExists(_) | Self::RefundElsewhere => "duplicate.call",
            Self::RefundExceeds(_) => "invalid.amount.exceeded",
            Self::RefundOfNothing => "invalid.amount",
            Self::RefundUnknown => "refund.not_found",
            Self::MandateUnknown => "mandate.not_found",
            Self::MandateState { .. } => "invalid.mandate.status",
            Self::MandateMaximum(_) => "invalid.mandate.amount",
            Self::MandateCurrency(_) => "invalid.mandate.currency",
            Self::MandateForeign => "invalid.mandate.customer_id",
            Self::MandateNotStarted(_) => "invalid.mandate.start_date",
            Self::MandateEnded(_) => "invalid.mandate.end_date",
            Self::MandateCustomer => "invalid.customer_id",
            Self::NotificationUnknown => "notification.not_found",
            Self::NotificationExists => "duplicate.object_reference_id",
        }
    }

    /// What kind of mistake it is.
    pub fn category(&self) -> Category {
        match self {
            Self::OrderUnknown
            | Self::TxnUnknown
            | Self::RefundUnknown
            | Self::MandateUnknown
            | Self::NotificationUnknown => Category::ResourceNotFound,
            Self::OrderExists | Self::NotificationExists => Category::AlreadyExists,
            Self::RefundExists(_) | Self::RefundElsewhere => Category::DuplicateRequest,
            Self::CaptureAmount(_)
            | Self::RefundExceeds(_)
            | Self::RefundOfNothing
            | Self::MandateMaximum(_)
            | Self::MandateCurrency(_)
            | Self::MandateForeign
            | Self::MandateCustomer => Category::InvalidInput,
            Self::OrderForeign
            | Self::OrderPaid(_)
            | Self::AmountLocked
            | Self::TooManyFields
            | Self::TooManyTxns
            | Self::TxnNotAuthorized(_)
            | Self::NotPaid
            | Self::TooManyRefunds
            | Self::MandateState { .. }
            | Self::MandateNotStarted(_)
            | Self::MandateEnded(_) => Category::InvalidAction,
        }
    }
}
