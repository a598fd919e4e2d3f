//! What a start, a gateway's report, a capture or a void makes of an order and its transaction.
//!
//! Each takes the order as it is and returns a decision; `order::decide()` calls them, and nobody
//! else. Refunds are `refund.rs`, the life of a mandate is `mandate.rs`.

use std::time::Duration;

use harkara_webhook::{Amount, OrderStatus};

use super::{GatewayReply, NewTxn, PaymentWay, Txn, TxnKind, TxnOutcome, is_failure, may_become};
use crate::id::{self, TxnId, TxnUuid};
use crate::json;
use crate::mandate::{self, Mandate};
use crate::merchant::Settings;
use crate::order::{Decision, Known, Order, OrderCommand};
use crate::refund;
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;

/// How many tries an order may have: it is stored and told whole.
const TXNS_MAX: usize = 50;

pub(crate) fn start(
    known: Known<'_>,
    order: &Order,
    new: &NewTxn,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let started = new.key.as_deref().and_then(|key| order.txn_with_key(key));
    if started.is_some() {
        return Ok(Decision::unchanged(order.clone()));
    }
    if let Some(paid) = order.paid_by() {
        return Err(Refusal::OrderPaid(paid.status));
    }
    if order.txns.len() >= TXNS_MAX {
        return Err(Refusal::TooManyTxns);
    }
    let mut order = order.clone();
    let n = order.txns.len() + 1;
    let txn_id = TxnId::new(format!("{}-{}-{n}", order.merchant_id, order.order_id));
    let hash = id::digest(&[order.merchant_id.as_str(), txn_id.as_str(), "txn"]);
    let transitions = vec![Transition::TxnInitiated(txn_id.clone())];
    let (kind, mandate) = match (&new.mandate_id, &order.details.mandate) {
        (Some(_), _) => {
            let mandate = known.mandate.ok_or(Refusal::MandateUnknown)?;
            mandate::may_pay(mandate, &order, now)?;
            (TxnKind::MandatePayment, Some(mandate.clone()))
        }
        (None, Some(terms)) => (
            TxnKind::MandateRegister,
            Some(mandate::register(&order, terms, new, n, now)),
        ),
        (None, None) => (TxnKind::Payment, None),
    };
    order.txns.push(Txn {
        txn_uuid: TxnUuid::new(format!("moz{}", id::base62(&hash, 16))),
        n,
        amount: order.details.amount,
        status: OrderStatus::PendingVbv,
        kind,
        mandate_id: mandate.as_ref().map(|mandate| mandate.mandate_id.clone()),
        created_at: now,
        way: new.way.clone(),
        error: None,
        reply: None,
        gateway_reference_id: gateway_reference(&order, &new.way),
        key: new.key.clone(),
        txn_id,
    });
    let registered = mandate
        .filter(|_| kind == TxnKind::MandateRegister)
        .map(|mandate| {
            let transition = Transition::MandateCreated(mandate.mandate_id.clone());
            (mandate, transition)
        });
    Ok(Decision::changed(order, transitions).with_mandate(registered))
}

/// The reference that the merchant gave for this gateway: `metadata["{gateway}:gateway_reference_id"]`.
fn gateway_reference(order: &Order, way: &PaymentWay) -> Option<String> {
    let key = format!("{}:gateway_reference_id", way.gateway.name);
    json::text(order.details.metadata.as_ref()?, &key)
}

pub(crate) fn settle(
    known: Known<'_>,
    order: &Order,
    outcome: &TxnOutcome,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let at = order.txn_at(&outcome.txn_uuid)?;
    let before = &order.txns[at];
    if !may_become(before.status, outcome.status) {
        return Ok(Decision::unchanged(order.clone()));
    }
    let mut order = order.clone();
    let txn = &mut order.txns[at];
    txn.error = Some(outcome.error.clone());
    txn.reply = Some(GatewayReply {
        created_at: now,
        fields: outcome.fields.clone(),
    });
    if outcome.gateway_reference_id.is_some() {
        txn.gateway_reference_id
            .clone_from(&outcome.gateway_reference_id);
    }
    if outcome.status == OrderStatus::Charged {
        return Ok(charge(known, order, at, now));
    }
    txn.status = outcome.status;
    let (txn_id, kind) = (txn.txn_id.clone(), txn.kind);
    let transitions = match outcome.status {
        OrderStatus::Authorized => vec![Transition::TxnAuthorized(txn_id)],
        OrderStatus::Voided => {
            let failed = registration(known, kind).and_then(|mandate| mandate::fail(mandate, now));
            let transitions = vec![Transition::TxnVoided(txn_id)];
            return Ok(Decision::changed(order, transitions).with_mandate(failed));
        }
        status if is_failure(status) => return Ok(fail(known, order, at, now)),
        // Steps on the way that nobody is told of.
        _ => Vec::new(),
    };
    Ok(Decision::changed(order, transitions))
}

fn charge(known: Known<'_>, mut order: Order, at: usize, now: Timestamp) -> Decision {
    let settings = &known.merchant.settings;
    let paid_already = order.paid_by().is_some();
    let txn = &order.txns[at];
    let (txn_id, txn_uuid, kind) = (txn.txn_id.clone(), txn.txn_uuid.clone(), txn.kind);
    let registered = registration(known, kind);
    let goes_back = is_conflict(txn, settings, now)
        || (paid_already && settings.auto_refund_multiple_charged)
        // The amount is locked while a try may be paid; whatever slips by must not pay the order.
        || txn.amount != order.details.amount;
    if goes_back {
        // A customer who pays twice registers once: the mandate of what goes back was never agreed.
        let failed = registered.and_then(|mandate| mandate::fail(mandate, now));
        return refund::give_back(order, at, now).with_mandate(failed);
    }
    order.txns[at].status = OrderStatus::Charged;
    let mut transitions = vec![Transition::TxnCharged(txn_id.clone())];
    if !paid_already {
        transitions.push(Transition::OrderCharged(txn_id));
    }
    let gives_back = kind == TxnKind::MandateRegister && wants_auto_refund(&order);
    let activated = registered.and_then(|mandate| mandate::activate(mandate, now));
    Decision {
        follow_up: gives_back.then_some(OrderCommand::AutoRefund { txn_uuid }),
        ..Decision::changed(order, transitions).with_mandate(activated)
    }
}

/// Whether a success comes so late that the customer has long given up waiting for it.
fn is_conflict(txn: &Txn, settings: &Settings, now: Timestamp) -> bool {
    let late_after = Duration::from_secs(u64::from(settings.auto_refund_conflict_minutes) * 60);
    let waited_for_customer = is_failure(txn.status)
        || matches!(txn.status, OrderStatus::PendingVbv | OrderStatus::Started);
    settings.auto_refund_conflict
        && txn.kind == TxnKind::Payment
        && waited_for_customer
        && now.since(txn.created_at) > late_after
}

fn fail(known: Known<'_>, order: Order, at: usize, now: Timestamp) -> Decision {
    let txn = &order.txns[at];
    let mut transitions = vec![Transition::TxnFailed(txn.txn_id.clone())];
    // Nothing is told of an order that still lives, or that ended some other way before: voided, or
    // given back.
    if is_failure(order.status()) {
        transitions.push(Transition::OrderFailed(txn.txn_id.clone()));
    }
    let failed = registration(known, txn.kind).and_then(|mandate| mandate::fail(mandate, now));
    Decision::changed(order, transitions).with_mandate(failed)
}

/// The mandate that the transaction registers.
fn registration(known: Known<'_>, kind: TxnKind) -> Option<&Mandate> {
    known.mandate.filter(|_| kind == TxnKind::MandateRegister)
}

/// `metadata.auto_refund_post_success`: the amount that a registration took is given back.
fn wants_auto_refund(order: &Order) -> bool {
    let metadata = order.details.metadata.as_ref();
    let asked = metadata.and_then(|metadata| json::text(metadata, "auto_refund_post_success"));
    asked.is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

pub(crate) fn capture(
    known: Known<'_>,
    order: &Order,
    txn_uuid: &TxnUuid,
    amount: Option<Amount>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let at = order.txn_at(txn_uuid)?;
    let paid = order.paid_by().map(|txn| txn.status);
    let mut order = order.clone();
    let txn = &mut order.txns[at];
    match txn.status {
        OrderStatus::Charged | OrderStatus::CaptureInitiated => {
            return Ok(Decision::unchanged(order));
        }
        OrderStatus::Authorized | OrderStatus::CaptureFailed | OrderStatus::VoidFailed => {}
        status => return Err(Refusal::TxnNotAuthorized(status)),
    }
    if let Some(status) = paid {
        return Err(Refusal::OrderPaid(status));
    }
    if amount.is_some_and(|amount| amount != txn.amount) {
        return Err(Refusal::CaptureAmount(txn.amount));
    }
    if !txn.way.gateway.is_dummy() {
        txn.status = OrderStatus::CaptureInitiated;
        return Ok(Decision::changed(order, Vec::new()));
    }
    // The DUMMY gateway captures at once, as the reference's replies show it.
    if let Some(reply) = &mut txn.reply {
        reply.created_at = now;
    }
    Ok(charge(known, order, at, now))
}

pub(crate) fn void(order: &Order, txn_uuid: &TxnUuid) -> Result<Decision, Refusal> {
    let at = order.txn_at(txn_uuid)?;
    let mut order = order.clone();
    let txn = &mut order.txns[at];
    match txn.status {
        OrderStatus::VoidInitiated | OrderStatus::Voided => return Ok(Decision::unchanged(order)),
        OrderStatus::Authorized | OrderStatus::CaptureFailed | OrderStatus::VoidFailed => {}
        status => return Err(Refusal::TxnNotAuthorized(status)),
    }
    txn.status = OrderStatus::VoidInitiated;
    let transitions = vec![Transition::TxnVoidStarted(txn.txn_id.clone())];
    Ok(Decision::changed(order, transitions))
}
