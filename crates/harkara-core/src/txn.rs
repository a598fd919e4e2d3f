//! Transactions: the tries to pay an order, and what a gateway's answer makes of them.
//!
//! Called by `order::decide()` alone. Which status may follow which is one table, `may_become()`.

use std::time::Duration;

use harkara_webhook::{Amount, MandateStatus, OrderStatus};
use serde::{Deserialize, Serialize};

use crate::id::{self, MandateId, TxnId, TxnUuid};
use crate::json::{self, Json};
use crate::mandate::{self, Mandate};
use crate::order::{Decision, Known, Order, OrderCommand};
use crate::refund;
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;

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

pub(crate) fn start(
    known: Known<'_>,
    order: &Order,
    new: &NewTxn,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    if let Some(paid) = order
        .txns
        .iter()
        .find(|txn| txn.status == OrderStatus::Charged)
    {
        return Err(Refusal::OrderPaid(paid.status));
    }
    let mut order = order.clone();
    let n = order.txns.len() + 1;
    let txn_id = TxnId::new(format!("{}-{}-{n}", order.merchant_id, order.order_id));
    let hash = id::digest(&[order.merchant_id.as_str(), txn_id.as_str(), "txn"]);
    let mut transitions = vec![Transition::TxnInitiated(txn_id.clone())];
    let (kind, mandate) = match (&new.mandate_id, &order.details.mandate) {
        (Some(_), _) => (
            TxnKind::MandatePayment,
            Some(chargeable(known, &order)?.clone()),
        ),
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
        txn_id,
    });
    let registered = mandate.filter(|_| kind == TxnKind::MandateRegister);
    if let Some(mandate) = &registered {
        transitions.push(Transition::MandateCreated(mandate.mandate_id.clone()));
    }
    Ok(Decision {
        mandate: registered,
        ..Decision::changed(order, transitions)
    })
}

/// The reference that the merchant gave for this gateway: `metadata["{gateway}:gateway_reference_id"]`.
fn gateway_reference(order: &Order, way: &PaymentWay) -> Option<String> {
    let key = format!("{}:gateway_reference_id", way.gateway.name);
    json::text(order.details.metadata.as_ref()?, &key)
}

/// The mandate that pays, if it may pay this order.
fn chargeable<'a>(known: Known<'a>, order: &Order) -> Result<&'a Mandate, Refusal> {
    let mandate = known.mandate.ok_or(Refusal::MandateUnknown)?;
    if mandate.status != MandateStatus::Active {
        return Err(Refusal::MandateState {
            status: mandate.status,
            wish: "charged",
        });
    }
    if order.details.amount > mandate.terms.max_amount {
        return Err(Refusal::MandateMaximum(mandate.terms.max_amount));
    }
    Ok(mandate)
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
    let txn_id = txn.txn_id.clone();
    let transitions = match outcome.status {
        OrderStatus::Authorized => vec![Transition::TxnAuthorized(txn_id)],
        OrderStatus::Voided => vec![Transition::TxnVoided(txn_id)],
        status if is_failure(status) => return Ok(fail(known, order, at, now)),
        // Steps on the way that nobody is told of.
        _ => Vec::new(),
    };
    Ok(Decision::changed(order, transitions))
}

fn charge(known: Known<'_>, mut order: Order, at: usize, now: Timestamp) -> Decision {
    let settings = &known.merchant.settings;
    let paid_already = order
        .txns
        .iter()
        .any(|txn| txn.status == OrderStatus::Charged);
    let txn = &mut order.txns[at];
    let late_after = Duration::from_secs(u64::from(settings.auto_refund_conflict_minutes) * 60);
    let waited_for_customer = is_failure(txn.status)
        || matches!(txn.status, OrderStatus::PendingVbv | OrderStatus::Started);
    let conflict = settings.auto_refund_conflict
        && txn.kind == TxnKind::Payment
        && waited_for_customer
        && now.since(txn.created_at) > late_after;
    if conflict || (paid_already && settings.auto_refund_multiple_charged) {
        return refund::give_back(order, at, now);
    }
    txn.status = OrderStatus::Charged;
    let (txn_id, txn_uuid, kind) = (txn.txn_id.clone(), txn.txn_uuid.clone(), txn.kind);
    let mut transitions = vec![Transition::TxnCharged(txn_id.clone())];
    if !paid_already {
        transitions.push(Transition::OrderCharged(txn_id));
    }
    let mandate = registration(known, kind)
        .and_then(|mandate| mandate::activate(mandate, now))
        .inspect(|mandate| {
            transitions.push(Transition::MandateActivated(mandate.mandate_id.clone()));
        });
    let gives_back = kind == TxnKind::MandateRegister && wants_auto_refund(&order);
    Decision {
        mandate,
        follow_up: gives_back.then_some(OrderCommand::AutoRefund { txn_uuid }),
        ..Decision::changed(order, transitions)
    }
}

fn fail(known: Known<'_>, order: Order, at: usize, now: Timestamp) -> Decision {
    let txn = &order.txns[at];
    let mut transitions = vec![Transition::TxnFailed(txn.txn_id.clone())];
    let order_lives = order
        .txns
        .iter()
        .any(|txn| txn.is_live() || txn.status == OrderStatus::Charged);
    if !order_lives {
        transitions.push(Transition::OrderFailed(txn.txn_id.clone()));
    }
    let mandate = registration(known, txn.kind)
        .and_then(|mandate| mandate::fail(mandate, now))
        .inspect(|mandate| transitions.push(Transition::MandateFailed(mandate.mandate_id.clone())));
    Decision {
        mandate,
        ..Decision::changed(order, transitions)
    }
}

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
    let mut order = order.clone();
    let txn = &mut order.txns[at];
    match txn.status {
        OrderStatus::Charged | OrderStatus::CaptureInitiated => {
            return Ok(Decision::unchanged(order));
        }
        OrderStatus::Authorized | OrderStatus::CaptureFailed | OrderStatus::VoidFailed => {}
        status => return Err(Refusal::TxnNotAuthorized(status)),
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
