//! Everything that can happen, in the past tense, as one closed list.
//!
//! Adding one makes the compiler ask `derive.rs` which events follow.

use std::fmt;

use crate::id::{MandateId, NotificationRef, RefundId, TxnId};

/// A state change that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    OrderCreated,
    TxnInitiated(TxnId),
    TxnAuthorized(TxnId),
    TxnCharged(TxnId),
    /// The order became paid, by this transaction.
    OrderCharged(TxnId),
    TxnFailed(TxnId),
    /// The order has no live and no charged transaction left.
    OrderFailed(TxnId),
    /// The gateway was asked to give an authorisation up.
    TxnVoidStarted(TxnId),
    TxnVoided(TxnId),
    RefundInitiated(RefundId),
    RefundSucceeded(RefundId),
    RefundFailed(RefundId),
    /// Nobody knows how it ended; the merchant has to look.
    RefundUnclear(RefundId),
    AutoRefundInitiated(RefundId),
    AutoRefundSucceeded(RefundId),
    AutoRefundFailed(RefundId),
    MandateCreated(MandateId),
    MandateActivated(MandateId),
    MandateFailed(MandateId),
    MandateRevoked(MandateId),
    MandatePaused(MandateId),
    MandateResumed(MandateId),
    MandateExpired(MandateId),
    NotificationRequested(NotificationRef),
    NotificationSucceeded(NotificationRef),
    NotificationFailed(NotificationRef),
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrderCreated => f.write_str("order created"),
            Self::TxnInitiated(id) => write!(f, "txn {id} initiated"),
            Self::TxnAuthorized(id) => write!(f, "txn {id} authorized"),
            Self::TxnCharged(id) => write!(f, "txn {id} charged"),
            Self::OrderCharged(id) => write!(f, "order charged by txn {id}"),
            Self::TxnFailed(id) => write!(f, "txn {id} failed"),
            Self::OrderFailed(id) => write!(f, "order failed with txn {id}"),
            Self::TxnVoidStarted(id) => write!(f, "void of txn {id} started"),
            Self::TxnVoided(id) => write!(f, "txn {id} voided"),
            Self::RefundInitiated(id) => write!(f, "refund {id} initiated"),
            Self::RefundSucceeded(id) => write!(f, "refund {id} succeeded"),
            Self::RefundFailed(id) => write!(f, "refund {id} failed"),
            Self::RefundUnclear(id) => write!(f, "refund {id} needs manual review"),
            Self::AutoRefundInitiated(id) => write!(f, "auto refund {id} initiated"),
            Self::AutoRefundSucceeded(id) => write!(f, "auto refund {id} succeeded"),
            Self::AutoRefundFailed(id) => write!(f, "auto refund {id} failed"),
            Self::MandateCreated(id) => write!(f, "mandate {id} created"),
            Self::MandateActivated(id) => write!(f, "mandate {id} activated"),
            Self::MandateFailed(id) => write!(f, "mandate {id} failed"),
            Self::MandateRevoked(id) => write!(f, "mandate {id} revoked"),
            Self::MandatePaused(id) => write!(f, "mandate {id} paused"),
            Self::MandateResumed(id) => write!(f, "mandate {id} resumed"),
            Self::MandateExpired(id) => write!(f, "mandate {id} expired"),
            Self::NotificationRequested(id) => write!(f, "notification {id} requested"),
            Self::NotificationSucceeded(id) => write!(f, "notification {id} succeeded"),
            Self::NotificationFailed(id) => write!(f, "notification {id} failed"),
        }
    }
}
