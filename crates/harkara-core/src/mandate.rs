//! Mandates: standing permissions to charge, from registration to revocation.
//!
//! Registered by a transaction (`txn.rs` calls `register`, `activate` and `fail`, and asks `may_pay`
//! before a debit), then told things by the merchant or a gateway through `decide()`.

use std::time::Duration;

use harkara_webhook::{Amount, MandateStatus};
use serde::{Deserialize, Serialize};

use crate::id::{self, MandateId, MerchantId, OrderId, Subject};
use crate::money::Currency;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;
use crate::txn::NewTxn;

/// A mandate as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    pub merchant_id: MerchantId,
    pub mandate_id: MandateId,
    /// Counts the commits that changed it, from 1. The write path counts: 0 is not stored yet.
    pub version: i64,
    pub status: MandateStatus,
    /// The order whose payment registers it.
    pub order_id: OrderId,
    pub customer_id: String,
    pub currency: Currency,
    /// `MANDATE` for cards, `EMANDATE` for UPI and bank accounts.
    pub mandate_type: String,
    pub mandate_token: String,
    /// What debits are made with; known once it is active.
    pub debit_token: Option<String>,
    pub terms: MandateTerms,
    pub payment_method_type: String,
    pub payment_method: String,
    pub payer_vpa: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub activated_at: Option<Timestamp>,
    pub last_activated_at: Option<Timestamp>,
}

/// What the customer agrees to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MandateTerms {
    pub max_amount: Amount,
    /// `ASPRESENTED`, `MONTHLY`, …
    pub frequency: String,
    /// `FIXED` or `VARIABLE`.
    pub amount_rule: String,
    /// `ON`, `BEFORE` or `AFTER` the day `rule_value`.
    pub rule_type: Option<String>,
    pub rule_value: Option<i64>,
    /// The day of registration, when nobody said.
    pub start_date: Option<Timestamp>,
    /// Ten years after its start, when nobody said.
    pub end_date: Option<Timestamp>,
    pub revokable_by_customer: bool,
    pub block_fund: bool,
}

/// What a mandate can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MandateCommand {
    Revoke,
    Pause,
    Resume,
    /// What a gateway reports of it.
    Outcome(MandateStatus),
}

/// What a command changes; no transition means that it was so already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub mandate: Mandate,
    pub transitions: Vec<Transition>,
}

/// Decides what a command makes of a mandate.
pub fn decide(
    mandate: Option<&Mandate>,
    command: MandateCommand,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    use MandateStatus as S;
    let mandate = mandate.ok_or(Refusal::MandateUnknown)?;
    let (wish, to) = match command {
        MandateCommand::Revoke => ("revoked", S::Revoked),
        MandateCommand::Pause => ("paused", S::Paused),
        MandateCommand::Resume => ("resumed", S::Active),
        MandateCommand::Outcome(status) => ("reported so", status),
    };
    let from = mandate.status;
    if from == to {
        return Ok(Decision {
            mandate: mandate.clone(),
            transitions: Vec::new(),
        });
    }
    let may = match (from, to) {
        (S::Created, S::Active | S::Failure) => matches!(command, MandateCommand::Outcome(_)),
        (S::Created | S::Active | S::Paused, S::Revoked | S::Expired)
        | (S::Active, S::Paused)
        | (S::Paused, S::Active) => true,
        (_, _) => false,
    };
    if !may {
        return Err(Refusal::MandateState { status: from, wish });
    }
    let id = mandate.mandate_id.clone();
    let transition = match (from, to) {
        (S::Paused, S::Active) => Transition::MandateResumed(id),
        (_, S::Active) => Transition::MandateActivated(id),
        (_, S::Failure) => Transition::MandateFailed(id),
        (_, S::Revoked) => Transition::MandateRevoked(id),
        (_, S::Paused) => Transition::MandatePaused(id),
        (_, S::Expired) => Transition::MandateExpired(id),
        (_, S::Created) => unreachable!("nothing becomes CREATED again"),
    };
    Ok(Decision {
        mandate: become_(mandate, to, now),
        transitions: vec![transition],
    })
}

/// The mandate that a registering transaction creates.
pub(crate) fn register(
    order: &Order,
    terms: &MandateTerms,
    new: &NewTxn,
    n: usize,
    now: Timestamp,
) -> Mandate {
    let n = n.to_string();
    let parts = |what| {
        id::digest(&[
            order.merchant_id.as_str(),
            order.order_id.as_str(),
            &n,
            what,
        ])
    };
    let by_card = new.way.payment_method_type == "CARD";
    Mandate {
        merchant_id: order.merchant_id.clone(),
        mandate_id: MandateId::new(id::base62(&parts("mandate"), 22)),
        version: 0,
        status: MandateStatus::Created,
        order_id: order.order_id.clone(),
        customer_id: order.details.customer_id.clone().unwrap_or_default(),
        currency: order.details.currency,
        mandate_type: if by_card { "MANDATE" } else { "EMANDATE" }.to_owned(),
        mandate_token: id::hex(&parts("mandate token")[..15]),
        debit_token: None,
        terms: dated(terms, now),
        payment_method_type: new.way.payment_method_type.clone(),
        payment_method: new.way.payment_method.clone(),
        payer_vpa: new.way.payer_vpa.clone(),
        created_at: now,
        updated_at: now,
        activated_at: None,
        last_activated_at: None,
    }
}

/// Terms with both their dates.
fn dated(terms: &MandateTerms, now: Timestamp) -> MandateTerms {
    const TEN_YEARS: Duration = Duration::from_secs(3652 * 86_400);
    let mut terms = terms.clone();
    let start = *terms.start_date.get_or_insert(now);
    terms.end_date.get_or_insert(start.plus(TEN_YEARS));
    terms
}

/// The mandate once its registration was paid; `None` if it was not waiting for that.
pub(crate) fn activate(mandate: &Mandate, now: Timestamp) -> Option<(Mandate, Transition)> {
    // A payment may succeed after it was said to have failed, and the mandate with it.
    matches!(
        mandate.status,
        MandateStatus::Created | MandateStatus::Failure
    )
    .then(|| {
        let transition = Transition::MandateActivated(mandate.mandate_id.clone());
        (become_(mandate, MandateStatus::Active, now), transition)
    })
}

/// The mandate once its registration came to nothing; `None` if it was not waiting for that.
pub(crate) fn fail(mandate: &Mandate, now: Timestamp) -> Option<(Mandate, Transition)> {
    (mandate.status == MandateStatus::Created).then(|| {
        let transition = Transition::MandateFailed(mandate.mandate_id.clone());
        (become_(mandate, MandateStatus::Failure, now), transition)
    })
}

/// Whether a debit of this order is within what the customer agreed to.
pub(crate) fn may_pay(mandate: &Mandate, order: &Order, now: Timestamp) -> Result<(), Refusal> {
    let (terms, details) = (&mandate.terms, &order.details);
    if mandate.status != MandateStatus::Active {
        return Err(Refusal::MandateState {
            status: mandate.status,
            wish: "charged",
        });
    }
    if let Some(customer_id) = &details.customer_id
        && customer_id != &mandate.customer_id
    {
        return Err(Refusal::MandateForeign);
    }
    if details.currency != mandate.currency {
        return Err(Refusal::MandateCurrency(mandate.currency));
    }
    if details.amount > terms.max_amount {
        return Err(Refusal::MandateMaximum(terms.max_amount));
    }
    if let Some(start) = terms.start_date.filter(|start| now < *start) {
        return Err(Refusal::MandateNotStarted(start));
    }
    if let Some(end) = terms.end_date.filter(|end| now > *end) {
        return Err(Refusal::MandateEnded(end));
    }
    Ok(())
}

fn become_(mandate: &Mandate, status: MandateStatus, now: Timestamp) -> Mandate {
    let mut mandate = mandate.clone();
    mandate.status = status;
    mandate.updated_at = now;
    if status == MandateStatus::Active {
        mandate.activated_at.get_or_insert(now);
        mandate.last_activated_at = Some(now);
        let hash = id::digest(&[
            mandate.merchant_id.as_str(),
            mandate.mandate_id.as_str(),
            "debit",
        ]);
        mandate
            .debit_token
            .get_or_insert_with(|| id::hex(&hash[..15]));
    }
    mandate
}

impl Mandate {
    /// What its events, and those of its notifications, are about.
    pub fn subject(&self) -> Subject {
        Subject::Mandate(self.mandate_id.clone())
    }

    /// Its number in `source_object_id` of the transactions that it pays or is registered by.
    pub fn number(&self) -> String {
        (id::digest_u64(&[self.mandate_id.as_str(), "number"]) % 90_000_000 + 10_000_000)
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mandate(status: MandateStatus) -> Mandate {
        let document = include_str!("../golden/mandate.json");
        let mandate: Mandate = serde_json::from_str(document).unwrap();
        Mandate { status, ..mandate }
    }

    /// Every status against everything that a mandate can be told.
    #[test]
    fn what_a_mandate_may_become() {
        let commands = [
            ("revoke", MandateCommand::Revoke),
            ("pause", MandateCommand::Pause),
            ("resume", MandateCommand::Resume),
        ];
        let reports = MandateStatus::ALL
            .iter()
            .map(|status| (status.as_str(), MandateCommand::Outcome(*status)));
        let mut page = String::new();
        for (name, command) in commands.into_iter().chain(reports) {
            page += &format!("{name:<8}");
            for status in MandateStatus::ALL {
                let decided = decide(Some(&mandate(*status)), command, Timestamp::default());
                let cell = match decided {
                    Ok(decision) if decision.transitions.is_empty() => "=",
                    Ok(decision) => decision.mandate.status.as_str(),
                    Err(_) => "refused",
                };
                page += &format!(" {cell:<8}");
            }
            page = format!("{}\n", page.trim_end());
        }
        insta::assert_snapshot!(page, @r"
        revoke   REVOKED  REVOKED  REVOKED  =        refused  refused
        pause    refused  PAUSED   =        refused  refused  refused
        resume   refused  =        ACTIVE   refused  refused  refused
        CREATED  =        refused  refused  refused  refused  refused
        ACTIVE   ACTIVE   =        ACTIVE   refused  refused  refused
        PAUSED   refused  PAUSED   =        refused  refused  refused
        REVOKED  REVOKED  REVOKED  REVOKED  =        refused  refused
        FAILURE  FAILURE  refused  refused  refused  =        refused
        EXPIRED  EXPIRED  EXPIRED  EXPIRED  refused  refused  =
        ");
        let unknown = decide(None, MandateCommand::Revoke, Timestamp::default());
        assert_eq!(unknown, Err(Refusal::MandateUnknown));
    }
}
