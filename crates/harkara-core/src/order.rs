//! Orders: what a customer pays for, with its transactions and refunds, and `decide()`, which says
//! what a command changes.
//!
//! The whole payment state machine is here and in `txn.rs` and `refund.rs`. Nothing here knows of
//! events, HTTP or SQL: a decision is a new order and the transitions that led to it.

use harkara_webhook::{Amount, OrderStatus};
use serde::{Deserialize, Serialize};

use crate::id::{self, MerchantId, OrderId, RefundId, Subject, TxnId, TxnUuid};
use crate::json::{self, Json};
use crate::mandate::{Mandate, MandateTerms};
use crate::merchant::Merchant;
use crate::money::Currency;
use crate::refund::{self, NewRefund, Refund, RefundOutcome};
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;
use crate::txn::{self, NewTxn, Txn, TxnKind, TxnOutcome};

#[cfg(test)]
mod tests;

/// How many further fields amendments can bring an order to; they are in every body that tells of it.
const EXTRA_MAX: usize = 50;

/// An order as it is stored. Its status is not here: it follows from its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub merchant_id: MerchantId,
    pub order_id: OrderId,
    /// The platform's own name for it: `ordeh_` and 32 hex digits.
    pub id: String,
    /// Counts the commits that changed it, from 1; the guard against lost updates. The write path
    /// counts, whatever number of commands a commit carries out: 0 is not stored yet.
    pub version: i64,
    /// What it was created with, hashed: tells a repeated creation from a conflicting one.
    pub fingerprint: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub details: OrderDetails,
    pub txns: Vec<Txn>,
    pub refunds: Vec<Refund>,
}

/// What the merchant says about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDetails {
    pub amount: Amount,
    pub currency: Currency,
    pub customer_id: Option<String>,
    pub customer_email: Option<String>,
    pub customer_phone: Option<String>,
    pub return_url: Option<String>,
    pub product_id: Option<String>,
    pub description: Option<String>,
    /// `udf1` to `udf10`; empty where unused.
    pub udf: [String; 10],
    /// Any further fields that were given (addresses), name and text, in the order given.
    pub extra: Vec<(String, String)>,
    pub metadata: Option<Json>,
    pub gateway_id: Option<i64>,
    /// Present when paying the order also registers a mandate.
    pub mandate: Option<MandateTerms>,
    /// False: a payment is only authorised until it is captured.
    pub auto_capture: bool,
}

/// Everything that an order can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderCommand {
    Create(Box<NewOrder>),
    Amend(Box<Amendment>),
    StartTxn(Box<NewTxn>),
    TxnOutcome(Box<TxnOutcome>),
    Capture {
        txn_uuid: TxnUuid,
        amount: Option<Amount>,
    },
    Void {
        txn_uuid: TxnUuid,
    },
    Refund(NewRefund),
    /// Give everything back that this transaction took (the registration amount of a mandate).
    AutoRefund {
        txn_uuid: TxnUuid,
    },
    RefundOutcome(RefundOutcome),
}

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// The platform's own name for it. It is what public payment links are made of, so whoever gives
    /// it must make it unguessable, and the same for the same order.
    pub id: String,
    pub order_id: OrderId,
    pub details: OrderDetails,
}

/// Changes to an order; `None` leaves a value as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    pub amount: Option<Amount>,
    /// `(1, "text")` sets `udf1`.
    pub udf: Vec<(usize, String)>,
    pub extra: Vec<(String, String)>,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub order: Order,
    /// The mandate, if it changed with the order.
    pub mandate: Option<Mandate>,
    /// What happened, in order. Empty when it was so already, or when nobody is told of it.
    pub transitions: Vec<Transition>,
    /// False: it was so already, and there is nothing to store.
    pub changed: bool,
    /// What has to follow at once, in the same commit.
    pub follow_up: Option<OrderCommand>,
}

impl Decision {
    pub(crate) fn unchanged(order: Order) -> Self {
        Self {
            order,
            mandate: None,
            transitions: Vec::new(),
            changed: false,
            follow_up: None,
        }
    }

    pub(crate) fn changed(order: Order, transitions: Vec<Transition>) -> Self {
        Self {
            order,
            mandate: None,
            transitions,
            changed: true,
            follow_up: None,
        }
    }

    /// Adds what became of the mandate that the transaction registers, if anything did.
    pub(crate) fn with_mandate(mut self, changed: Option<(Mandate, Transition)>) -> Self {
        if let Some((mandate, transition)) = changed {
            self.mandate = Some(mandate);
            self.transitions.push(transition);
        }
        self
    }
}

/// What `decide()` looks at: the order as it is, the mandate that it registers or is paid by, and
/// the merchant's settings.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub merchant: &'a Merchant,
    pub order: Option<&'a Order>,
    pub mandate: Option<&'a Mandate>,
}

/// Decides what a command changes; the same command twice changes nothing the second time.
pub fn decide(
    known: Known<'_>,
    command: &OrderCommand,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    if let OrderCommand::Create(new) = command {
        return create(known, new, now);
    }
    let order = known.order.ok_or(Refusal::OrderUnknown)?;
    let mut decision = match command {
        OrderCommand::Create(_) => unreachable!("creation returned above"),
        OrderCommand::Amend(amendment) => amend(order, amendment),
        OrderCommand::StartTxn(new) => txn::start(known, order, new, now),
        OrderCommand::TxnOutcome(outcome) => txn::settle(known, order, outcome, now),
        OrderCommand::Capture { txn_uuid, amount } => {
            txn::capture(known, order, txn_uuid, *amount, now)
        }
        OrderCommand::Void { txn_uuid } => txn::void(order, txn_uuid),
        OrderCommand::Refund(new) => refund::start(order, new, now),
        OrderCommand::AutoRefund { txn_uuid } => refund::start_auto(order, txn_uuid, now),
        OrderCommand::RefundOutcome(outcome) => refund::settle(order, outcome, now),
    }?;
    if decision.changed {
        decision.order.updated_at = now;
    }
    Ok(decision)
}

fn create(known: Known<'_>, new: &NewOrder, now: Timestamp) -> Result<Decision, Refusal> {
    let merchant_id = &known.merchant.merchant_id;
    let given = serde_json::to_string(&new.details).expect("details print as JSON");
    let fingerprint = id::hex(&id::digest(&[&given])[..16]);
    if let Some(order) = known.order {
        return if order.fingerprint == fingerprint {
            Ok(Decision::unchanged(order.clone()))
        } else {
            Err(Refusal::OrderExists)
        };
    }
    if new.details.mandate.is_some() && new.details.customer_id.is_none() {
        return Err(Refusal::MandateCustomer);
    }
    let order = Order {
        merchant_id: merchant_id.clone(),
        order_id: new.order_id.clone(),
        id: new.id.clone(),
        version: 0,
        fingerprint,
        created_at: now,
        updated_at: now,
        details: new.details.clone(),
        txns: Vec::new(),
        refunds: Vec::new(),
    };
    Ok(Decision::changed(order, vec![Transition::OrderCreated]))
}

fn amend(order: &Order, amendment: &Amendment) -> Result<Decision, Refusal> {
    let mut order = order.clone();
    let before = order.details.clone();
    if let Some(amount) = amendment.amount
        && amount != order.details.amount
    {
        // A try is for the amount that the order had, and even a failed one may succeed late.
        if !order.txns.is_empty() {
            return Err(Refusal::AmountLocked);
        }
        order.details.amount = amount;
    }
    for (n, text) in &amendment.udf {
        if let Some(field) = n
            .checked_sub(1)
            .and_then(|index| order.details.udf.get_mut(index))
        {
            field.clone_from(text);
        }
    }
    let extra = &mut order.details.extra;
    for (name, text) in &amendment.extra {
        let at = extra.iter().position(|(known, _)| known == name);
        match at {
            Some(at) => extra[at].1.clone_from(text),
            None if extra.len() >= EXTRA_MAX => return Err(Refusal::TooManyFields),
            None => extra.push((name.clone(), text.clone())),
        }
    }
    if order.details == before {
        return Ok(Decision::unchanged(order));
    }
    Ok(Decision::changed(order, Vec::new()))
}

impl Order {
    /// What its events are about.
    pub fn subject(&self) -> Subject {
        Subject::Order(self.order_id.clone())
    }

    /// The transaction of this name in URLs.
    pub fn txn(&self, txn_uuid: &TxnUuid) -> Option<&Txn> {
        self.txns.iter().find(|txn| &txn.txn_uuid == txn_uuid)
    }

    /// The transaction of this name in bodies.
    pub fn txn_with_id(&self, txn_id: &TxnId) -> Option<&Txn> {
        self.txns.iter().find(|txn| &txn.txn_id == txn_id)
    }

    /// The transaction that was started with this key: what a repeated start answers with.
    pub fn txn_with_key(&self, key: &str) -> Option<&Txn> {
        self.txns.iter().find(|txn| txn.key.as_deref() == Some(key))
    }

    /// The refund of this `unique_request_id`.
    pub fn refund(&self, refund_id: &RefundId) -> Option<&Refund> {
        self.refunds
            .iter()
            .find(|refund| &refund.refund_id == refund_id)
    }

    /// The transaction that paid the order, and after which nothing else may: a charged one, or the
    /// registration whose amount went back first, since that goes back only once the order is paid.
    pub(crate) fn paid_by(&self) -> Option<&Txn> {
        let is_charged = |txn: &&Txn| txn.status == OrderStatus::Charged;
        let is_given_back = |txn: &&Txn| {
            txn.status == OrderStatus::AutoRefunded
                && txn.kind == TxnKind::MandateRegister
                && txn.amount == self.details.amount
        };
        let charged = self.txns.iter().rfind(is_charged);
        charged.or_else(|| {
            let refunded = self.refunds.iter().map(|refund| &refund.txn_id);
            refunded
                .filter_map(|txn_id| self.txn_with_id(txn_id))
                .find(is_given_back)
        })
    }

    /// The transaction that speaks for the order: the one that paid it, or else the one of the
    /// highest rank, the later of equals.
    pub fn leading_txn(&self) -> Option<&Txn> {
        let ranked = || self.txns.iter().max_by_key(|txn| (rank(txn.status), txn.n));
        self.paid_by().or_else(ranked)
    }

    /// The status of its leading transaction; `NEW` before there is one.
    pub fn status(&self) -> OrderStatus {
        self.leading_txn()
            .map_or(OrderStatus::New, |txn| txn.status)
    }

    /// The sum of the leading transaction's refunds that are on their way, made or unclear.
    pub fn amount_refunded(&self) -> Amount {
        self.leading_txn()
            .map_or(Amount::ZERO, |txn| self.refunded_of(txn))
    }

    /// True only when everything was given back.
    pub fn is_refunded(&self) -> bool {
        self.leading_txn().is_some_and(|txn| {
            let refunded = self.refunded_of(txn);
            refunded > Amount::ZERO && refunded == txn.amount
        })
    }

    /// What can still be refunded: told only of a charged order with no refund in doubt.
    pub fn refundable(&self) -> Option<Amount> {
        let txn = self
            .leading_txn()
            .filter(|txn| txn.status == OrderStatus::Charged)?;
        if self.refunds.iter().any(Refund::is_unclear) {
            return None;
        }
        txn.amount.checked_sub(self.refunded_of(txn))
    }

    /// The sum of the refunds that count against this transaction.
    pub(crate) fn refunded_of(&self, txn: &Txn) -> Amount {
        self.refunds
            .iter()
            .filter(|refund| refund.txn_id == txn.txn_id && refund.counts())
            .fold(Amount::ZERO, |sum, refund| {
                sum.checked_add(refund.amount)
                    .expect("refunds never exceed a bounded amount")
            })
    }

    /// Where this order's webhooks go instead of the endpoint's URL.
    pub fn webhook_url(&self) -> Option<String> {
        json::text(self.details.metadata.as_ref()?, "webhook_url")
    }

    pub(crate) fn txn_at(&self, txn_uuid: &TxnUuid) -> Result<usize, Refusal> {
        let found = self.txns.iter().position(|txn| &txn.txn_uuid == txn_uuid);
        found.ok_or(Refusal::TxnUnknown)
    }
}

/// Which of an order's transactions speaks for it (the reference's status precedence): paid before
/// authorised before pending before given back before failed. So a late failure never un-charges.
fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Charged | OrderStatus::PartialCharged => 6,
        OrderStatus::Authorized
        | OrderStatus::CaptureInitiated
        | OrderStatus::CaptureFailed
        | OrderStatus::VoidInitiated
        | OrderStatus::VoidFailed => 5,
        OrderStatus::Started
        | OrderStatus::PendingVbv
        | OrderStatus::VbvSuccessful
        | OrderStatus::Authorizing
        | OrderStatus::CodInitiated => 4,
        OrderStatus::AutoRefunded => 3,
        OrderStatus::Voided => 2,
        OrderStatus::JuspayDeclined
        | OrderStatus::AuthenticationFailed
        | OrderStatus::AuthorizationFailed => 1,
        OrderStatus::Created | OrderStatus::New => 0,
    }
}
