//! Refunds: money going back on a transaction, asked for by the merchant or given back by itself.
//!
//! Called by `order::decide()`. The arithmetic that it must never break: the refunds that count
//! against a transaction are at most what it took.

use harkara_webhook::{Amount, OrderStatus, RefundStatus};
use serde::{Deserialize, Serialize};

use crate::id::{self, RefundId, TxnId, TxnUuid};
use crate::json;
use crate::order::{Decision, Order};
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;
use crate::txn::Txn;

/// The reference's limit of refunds on one order.
const REFUNDS_MAX: usize = 25;

/// Money going back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub refund_id: RefundId,
    pub txn_id: TxnId,
    pub amount: Amount,
    pub status: RefundStatus,
    pub kind: RefundKind,
    /// `STANDARD` or `INSTANT`.
    pub refund_type: String,
    /// Whose gateway carries it out.
    pub source: String,
    pub created_at: Timestamp,
    pub sent_to_gateway: bool,
    pub gateway_refund_id: Option<String>,
    pub reference: Option<String>,
    pub error_code: Option<String>,
    pub error_message: String,
    /// When it succeeded or was declined for good.
    pub settled_at: Option<Timestamp>,
    /// What the DUMMY gateway is told to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// Who asked for a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundKind {
    Merchant,
    /// Harkara itself: a late success, a second charge, a registration amount.
    Auto,
}

/// A refund that a merchant asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRefund {
    pub refund_id: RefundId,
    /// Everything that is left, when absent.
    pub amount: Option<Amount>,
    /// The transaction that paid the order, when absent.
    pub txn_id: Option<TxnId>,
    pub refund_type: String,
    pub forced: Option<String>,
}

/// What a gateway reports of a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundOutcome {
    pub refund_id: RefundId,
    pub status: RefundStatus,
    pub gateway_refund_id: Option<String>,
    pub reference: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

impl Refund {
    /// Whether it takes from what can still be refunded: on its way, made, or in doubt.
    pub fn counts(&self) -> bool {
        match self.status {
            RefundStatus::Pending | RefundStatus::Success | RefundStatus::ManualReview => true,
            RefundStatus::Failure => false,
        }
    }

    /// Whether somebody has to look at it.
    pub fn is_unclear(&self) -> bool {
        self.status == RefundStatus::ManualReview
    }
}

pub(crate) fn start(order: &Order, new: &NewRefund, now: Timestamp) -> Result<Decision, Refusal> {
    if let Some(refund) = order.refund(&new.refund_id) {
        return match new.amount {
            Some(amount) if amount != refund.amount => Err(Refusal::RefundExists(refund.amount)),
            _ => Ok(Decision::unchanged(order.clone())),
        };
    }
    let txn = match &new.txn_id {
        Some(txn_id) => order.txn_with_id(txn_id).ok_or(Refusal::TxnUnknown)?,
        None => order.leading_txn().ok_or(Refusal::NotPaid)?,
    };
    let left = left_of(order, txn);
    // An auto refund that failed leaves its money here, and only the merchant can still return it.
    let stranded = txn.status == OrderStatus::AutoRefunded && left > Amount::ZERO;
    if txn.status != OrderStatus::Charged && !stranded {
        return Err(Refusal::NotPaid);
    }
    if order.refunds.len() >= REFUNDS_MAX {
        return Err(Refusal::TooManyRefunds);
    }
    let amount = new.amount.unwrap_or(left);
    if amount > left || left == Amount::ZERO {
        return Err(Refusal::RefundExceeds(left));
    }
    if amount == Amount::ZERO {
        return Err(Refusal::RefundOfNothing);
    }
    let refund = Refund {
        refund_id: new.refund_id.clone(),
        amount,
        refund_type: new.refund_type.clone(),
        forced: new.forced.clone(),
        ..blank(txn, RefundKind::Merchant, now)
    };
    let mut order = order.clone();
    order.refunds.push(refund);
    Ok(Decision::changed(
        order,
        vec![Transition::RefundInitiated(new.refund_id.clone())],
    ))
}

/// Gives back what a transaction took although the customer never meant to pay it (again).
pub(crate) fn give_back(mut order: Order, at: usize, now: Timestamp) -> Decision {
    order.txns[at].status = OrderStatus::AutoRefunded;
    let txn = &order.txns[at];
    let hash = id::digest(&[
        order.merchant_id.as_str(),
        txn.txn_id.as_str(),
        "auto refund",
    ]);
    let refund_id = RefundId::new(format!("AR{}", id::base62(&hash, 16)));
    let refund = Refund {
        refund_id: refund_id.clone(),
        amount: left_of(&order, txn),
        forced: forced_auto_refund(&order),
        ..blank(txn, RefundKind::Auto, now)
    };
    order.refunds.push(refund);
    Decision::changed(order, vec![Transition::AutoRefundInitiated(refund_id)])
}

pub(crate) fn start_auto(
    order: &Order,
    txn_uuid: &TxnUuid,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let at = order.txn_at(txn_uuid)?;
    match order.txns[at].status {
        OrderStatus::Charged => Ok(give_back(order.clone(), at, now)),
        OrderStatus::AutoRefunded => Ok(Decision::unchanged(order.clone())),
        _ => Err(Refusal::NotPaid),
    }
}

pub(crate) fn settle(
    order: &Order,
    outcome: &RefundOutcome,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let at = order
        .refunds
        .iter()
        .position(|refund| refund.refund_id == outcome.refund_id);
    let at = at.ok_or(Refusal::RefundUnknown)?;
    let mut order = order.clone();
    let refund = &mut order.refunds[at];
    let reported = match (refund.status, outcome.status) {
        (RefundStatus::Pending, to) => to != RefundStatus::Pending,
        (RefundStatus::ManualReview, to) => {
            matches!(to, RefundStatus::Success | RefundStatus::Failure)
        }
        (RefundStatus::Success | RefundStatus::Failure, _) => false,
    };
    if !reported {
        return Ok(Decision::unchanged(order));
    }
    refund.status = outcome.status;
    refund.sent_to_gateway = true;
    refund
        .gateway_refund_id
        .clone_from(&outcome.gateway_refund_id);
    refund.reference.clone_from(&outcome.reference);
    refund.error_code.clone_from(&outcome.error_code);
    refund.error_message = outcome.error_message.clone().unwrap_or_default();
    let refund_id = refund.refund_id.clone();
    let transition = match (refund.kind, outcome.status) {
        (_, RefundStatus::Pending) => unreachable!("a report of PENDING changes nothing"),
        (_, RefundStatus::ManualReview) => Transition::RefundUnclear(refund_id),
        (RefundKind::Merchant, RefundStatus::Success) => Transition::RefundSucceeded(refund_id),
        (RefundKind::Merchant, RefundStatus::Failure) => Transition::RefundFailed(refund_id),
        (RefundKind::Auto, RefundStatus::Success) => Transition::AutoRefundSucceeded(refund_id),
        (RefundKind::Auto, RefundStatus::Failure) => Transition::AutoRefundFailed(refund_id),
    };
    if outcome.status != RefundStatus::ManualReview {
        refund.settled_at = Some(now);
    }
    Ok(Decision::changed(order, vec![transition]))
}

fn left_of(order: &Order, txn: &Txn) -> Amount {
    txn.amount
        .checked_sub(order.refunded_of(txn))
        .unwrap_or(Amount::ZERO)
}

/// A refund of nothing yet, with everything that follows from its transaction.
fn blank(txn: &Txn, kind: RefundKind, now: Timestamp) -> Refund {
    Refund {
        refund_id: RefundId::new(""),
        txn_id: txn.txn_id.clone(),
        amount: Amount::ZERO,
        status: RefundStatus::Pending,
        kind,
        refund_type: "STANDARD".to_owned(),
        source: txn.way.gateway.name.clone(),
        created_at: now,
        sent_to_gateway: false,
        gateway_refund_id: None,
        reference: None,
        error_code: None,
        error_message: String::new(),
        settled_at: None,
        forced: None,
    }
}

/// `metadata.dummy_auto_refund`: what the DUMMY gateway makes of an auto refund of this order.
fn forced_auto_refund(order: &Order) -> Option<String> {
    json::text(order.details.metadata.as_ref()?, "dummy_auto_refund")
}
