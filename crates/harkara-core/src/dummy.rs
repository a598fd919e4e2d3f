//! The DUMMY gateway: what the sandbox makes of a payment, a refund, a void or a notice.
//!
//! Pure tables of the reference's sandbox conventions. The body schedules what is returned here, in
//! the same commit as the transition that asks for it, and runs it through the ordinary write path.

use std::time::Duration;

use harkara_webhook::{NotificationStatus, OrderStatus, RefundStatus};

use crate::command::Command;
use crate::id::{self, RefundId, TxnId};
use crate::notification::{Notification, NotificationCommand, NotificationOutcome};
use crate::order::{Order, OrderCommand};
use crate::refund::{Refund, RefundKind, RefundOutcome};
use crate::transition::Transition;
use crate::txn::{GatewayFields, GatewayWords, Txn, TxnError, TxnKind, TxnOutcome};

#[cfg(test)]
mod tests;

/// What a payment can be told to do (`dummy_outcome`), beside the status words themselves.
pub const FORCED_TXN: &[&str] = &[
    "CHARGED",
    "AUTHORIZED",
    "AUTHENTICATION_FAILED",
    "AUTHORIZATION_FAILED",
    "JUSPAY_DECLINED",
    "PENDING",
];

/// What a refund can be told to do.
pub const FORCED_REFUND: &[&str] = &["SUCCESS", "FAILURE", "MANUAL_REVIEW", "PENDING"];

/// What a notification can be told to do.
pub const FORCED_NOTIFICATION: &[&str] = &["SUCCESS", "FAILURE", "PENDING"];

/// A gateway's answer that will come after a while.
pub type Planned = (Duration, Command);

/// What the DUMMY gateway will answer to a transition of an order; `None` if it is not its business
/// or if it was told to keep silent. `pending` is how long a slow payment takes.
pub fn answer_order(transition: &Transition, order: &Order, pending: Duration) -> Option<Planned> {
    let (after, command) = match transition {
        Transition::TxnInitiated(txn_id) => {
            let txn = dummy_txn(order, txn_id)?;
            let (status, after) = payment(txn, pending)?;
            (
                after,
                OrderCommand::TxnOutcome(Box::new(txn_outcome(txn, status))),
            )
        }
        Transition::TxnVoidStarted(txn_id) => {
            let txn = dummy_txn(order, txn_id)?;
            let voided = txn_outcome(txn, OrderStatus::Voided);
            (Duration::ZERO, OrderCommand::TxnOutcome(Box::new(voided)))
        }
        Transition::RefundInitiated(refund_id) | Transition::AutoRefundInitiated(refund_id) => {
            let outcome = refund(order, refund_id)?;
            (Duration::ZERO, OrderCommand::RefundOutcome(outcome))
        }
        Transition::OrderCreated
        | Transition::TxnAuthorized(_)
        | Transition::TxnCharged(_)
        | Transition::OrderCharged(_)
        | Transition::TxnFailed(_)
        | Transition::OrderFailed(_)
        | Transition::TxnVoided(_)
        | Transition::RefundSucceeded(_)
        | Transition::RefundFailed(_)
        | Transition::RefundUnclear(_)
        | Transition::AutoRefundSucceeded(_)
        | Transition::AutoRefundFailed(_)
        | Transition::MandateCreated(_)
        | Transition::MandateActivated(_)
        | Transition::MandateFailed(_)
        | Transition::MandateRevoked(_)
        | Transition::MandatePaused(_)
        | Transition::MandateResumed(_)
        | Transition::MandateExpired(_)
        | Transition::NotificationRequested(_)
        | Transition::NotificationSucceeded(_)
        | Transition::NotificationFailed(_) => return None,
    };
    Some((after, Command::Order(order.order_id.clone(), command)))
}

/// What the sandbox makes of a notice that was asked for.
pub fn answer_notification(notification: &Notification) -> Option<Planned> {
    let status = match notification.forced.as_deref() {
        Some("PENDING") => return None,
        Some("FAILURE") => NotificationStatus::Failure,
        _ => NotificationStatus::Success,
    };
    let failed = status == NotificationStatus::Failure;
    let outcome = NotificationOutcome {
        status,
        response_code: failed.then(|| "JP_NOTIFY_DECLINED".to_owned()),
        response_message: Some(
            if failed {
                "The customer's bank refused the notice"
            } else {
                "Notice delivered"
            }
            .into(),
        ),
    };
    let command = NotificationCommand::Outcome(outcome);
    Some((
        Duration::ZERO,
        Command::Notification(notification.reference.clone(), command),
    ))
}

/// Whether a scheduled answer is still to be played: not once the gateway's adapter, the payment
/// page or the merchant has decided what it was about.
pub fn still_plays(command: &Command, order: Option<&Order>) -> bool {
    let Command::Order(_, command) = command else {
        return true;
    };
    match command {
        OrderCommand::TxnOutcome(outcome) => {
            order.is_some_and(|order| order.txn(&outcome.txn_uuid).is_some_and(Txn::is_live))
        }
        OrderCommand::RefundOutcome(outcome) => order.is_some_and(|order| {
            let refund = order.refund(&outcome.refund_id);
            refund.is_some_and(|refund| refund.status == RefundStatus::Pending)
        }),
        OrderCommand::Create(_)
        | OrderCommand::Amend(_)
        | OrderCommand::StartTxn(_)
        | OrderCommand::Capture { .. }
        | OrderCommand::Void { .. }
        | OrderCommand::Refund(_)
        | OrderCommand::AutoRefund { .. } => true,
    }
}

/// The status that a payment gets, and after how long. A forced outcome wins over all; a
/// mandate's debit goes by its own amounts, a payment by the VPA and then by the amount.
fn payment(txn: &Txn, pending: Duration) -> Option<(OrderStatus, Duration)> {
    let paid = if txn.way.auto_capture {
        OrderStatus::Charged
    } else {
        OrderStatus::Authorized
    };
    let failed = OrderStatus::AuthorizationFailed;
    let at_once = |status| Some((status, Duration::ZERO));
    match txn.way.forced.as_deref() {
        Some("PENDING") => return None,
        Some("CHARGED") => return at_once(paid),
        Some(forced) => return at_once(forced.parse().unwrap_or(failed)),
        None => {}
    }
    let units = txn.amount.minor() / 100;
    if txn.kind == TxnKind::MandatePayment {
        let whole = txn.amount.minor() % 100 == 0;
        return at_once(if whole && [10, 20, 30, 40].contains(&units) {
            paid
        } else {
            failed
        });
    }
    match txn.way.payer_vpa.as_deref() {
        Some("success@upi") => return at_once(paid),
        Some("failure@upi") => return at_once(failed),
        Some(_) | None => {}
    }
    match units {
        ..500 => at_once(paid),
        500..700 => at_once(failed),
        700.. => Some((paid, pending)),
    }
}

/// A payment's outcome in the DUMMY gateway's words; the hosted payment page reports with it too.
pub fn txn_outcome(txn: &Txn, status: OrderStatus) -> TxnOutcome {
    let (code, message) = match status {
        OrderStatus::AuthorizationFailed => ("03", "Not sufficient funds"),
        OrderStatus::AuthenticationFailed => ("JP_AUTH", "Authentication failed"),
        OrderStatus::JuspayDeclined => ("JP_852", "Declined before it reached the bank"),
        _ => ("", ""),
    };
    let failed = !code.is_empty();
    let hash = id::digest(&[txn.txn_uuid.as_str(), "authorisation"]);
    let auth_code = if failed {
        String::new()
    } else {
        id::base62(&hash, 6).to_ascii_lowercase()
    };
    let words = GatewayWords {
        auth_code: auth_code.clone(),
        res_message: if failed { message } else { "Approved" }.to_owned(),
        mandate_token: String::new(),
        res_code: if failed { code } else { "00" }.to_owned(),
    };
    TxnOutcome {
        txn_uuid: txn.txn_uuid.clone(),
        status,
        error: TxnError {
            code: code.to_owned(),
            message: message.to_owned(),
        },
        fields: GatewayFields {
            auth_id_code: Some(auth_code),
            gateway_response: Some(words),
            ..GatewayFields::default()
        },
        gateway_reference_id: None,
    }
}

fn refund(order: &Order, refund_id: &RefundId) -> Option<RefundOutcome> {
    let refund = order.refund(refund_id)?;
    dummy_txn(order, &refund.txn_id)?;
    let status = match refund.forced.as_deref() {
        Some("PENDING") => return None,
        Some("FAILURE") => RefundStatus::Failure,
        Some("MANUAL_REVIEW") => RefundStatus::ManualReview,
        _ => RefundStatus::Success,
    };
    Some(refund_outcome(refund, status))
}

/// A refund's outcome in the DUMMY gateway's words.
fn refund_outcome(refund: &Refund, status: RefundStatus) -> RefundOutcome {
    let number = id::digest_u64(&[refund.txn_id.as_str(), refund.refund_id.as_str()]) % 90_000_000;
    let reference = Some((number + 10_000_000).to_string());
    let (code, message, reference) = match status {
        RefundStatus::Success => ("00", "Refund Success", reference),
        RefundStatus::Failure => ("JP_REFUND", "Refund declined by the bank", None),
        RefundStatus::ManualReview => {
            ("JP_UNCLEAR", "The bank did not say how it ended", reference)
        }
        RefundStatus::Pending => ("", "", None),
    };
    // The gateway's own id is told of failures and of auto refunds, as in the reference's samples.
    let named = refund.kind == RefundKind::Auto || status == RefundStatus::Failure;
    RefundOutcome {
        refund_id: refund.refund_id.clone(),
        status,
        gateway_refund_id: named.then(|| format!("rfd_{number}")),
        reference,
        error_code: Some(code.to_owned()),
        error_message: Some(message.to_owned()),
    }
}

fn dummy_txn<'a>(order: &'a Order, txn_id: &TxnId) -> Option<&'a Txn> {
    order
        .txn_with_id(txn_id)
        .filter(|txn| txn.way.gateway.is_dummy())
}
