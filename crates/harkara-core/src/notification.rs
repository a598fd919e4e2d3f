//! Notifications: the pre-debit notices that a mandate's customer gets before a debit.
//!
//! Never a word for our own calls: those are deliveries.

use harkara_webhook::{MandateStatus, NotificationStatus};
use serde::{Deserialize, Serialize};

use crate::id::{self, MandateId, MerchantId, NotificationRef, Subject};
use crate::json::Json;
use crate::mandate::Mandate;
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::transition::Transition;

/// A notification as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub merchant_id: MerchantId,
    pub reference: NotificationRef,
    /// The platform's number for it.
    pub id: String,
    /// Counts the commits that changed it, from 1. The write path counts: 0 is not stored yet.
    pub version: i64,
    pub status: NotificationStatus,
    pub mandate_id: MandateId,
    pub description: String,
    /// `amount` and `txn_date` as the merchant wrote them, and whatever else it put there.
    pub source_info: Json,
    pub provider_name: String,
    pub response_code: Option<String>,
    pub response_message: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// What the DUMMY gateway is told to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<String>,
}

/// What a notification can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotificationCommand {
    Request(NewNotification),
    Outcome(NotificationOutcome),
}

/// A notice that a merchant wants its customer to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNotification {
    pub reference: NotificationRef,
    pub mandate_id: MandateId,
    pub description: String,
    pub source_info: Json,
    pub provider_name: String,
    pub forced: Option<String>,
}

/// What the provider reports of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationOutcome {
    pub status: NotificationStatus,
    pub response_code: Option<String>,
    pub response_message: Option<String>,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub notification: Notification,
    pub transitions: Vec<Transition>,
    /// False: it was so already.
    pub changed: bool,
}

/// Decides what a command makes of a notification of `mandate`.
pub fn decide(
    notification: Option<&Notification>,
    mandate: Option<&Mandate>,
    command: &NotificationCommand,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    match command {
        NotificationCommand::Request(new) => request(notification, mandate, new, now),
        NotificationCommand::Outcome(outcome) => settle(
            notification.ok_or(Refusal::NotificationUnknown)?,
            outcome,
            now,
        ),
    }
}

fn request(
    notification: Option<&Notification>,
    mandate: Option<&Mandate>,
    new: &NewNotification,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    if let Some(known) = notification {
        let same = known.mandate_id == new.mandate_id
            && known.source_info == new.source_info
            && known.description == new.description;
        return if same {
            Ok(Decision {
                notification: known.clone(),
                transitions: Vec::new(),
                changed: false,
            })
        } else {
            Err(Refusal::NotificationExists)
        };
    }
    let mandate = mandate.ok_or(Refusal::MandateUnknown)?;
    if mandate.status != MandateStatus::Active {
        return Err(Refusal::MandateState {
            status: mandate.status,
            wish: "notified of",
        });
    }
    let number = id::digest_u64(&[mandate.merchant_id.as_str(), new.reference.as_str()]);
    let notification = Notification {
        merchant_id: mandate.merchant_id.clone(),
        reference: new.reference.clone(),
        id: (number % 90_000_000 + 10_000_000).to_string(),
        version: 0,
        status: NotificationStatus::Pending,
        mandate_id: mandate.mandate_id.clone(),
        description: new.description.clone(),
        source_info: new.source_info.clone(),
        provider_name: new.provider_name.clone(),
        response_code: None,
        response_message: None,
        created_at: now,
        updated_at: now,
        forced: new.forced.clone(),
    };
    let transitions = vec![Transition::NotificationRequested(new.reference.clone())];
    Ok(Decision {
        notification,
        transitions,
        changed: true,
    })
}

fn settle(
    known: &Notification,
    outcome: &NotificationOutcome,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    use NotificationStatus as S;
    let transition = match (known.status, outcome.status) {
        (S::Created | S::Pending, S::Success) => {
            Transition::NotificationSucceeded(known.reference.clone())
        }
        (S::Created | S::Pending, S::Failure) => {
            Transition::NotificationFailed(known.reference.clone())
        }
        // Old news, or a step that nobody is told of.
        (S::Success | S::Failure, _) | (_, S::Created | S::Pending) => {
            return Ok(Decision {
                notification: known.clone(),
                transitions: Vec::new(),
                changed: false,
            });
        }
    };
    let mut notification = known.clone();
    notification.status = outcome.status;
    notification.updated_at = now;
    notification
        .response_code
        .clone_from(&outcome.response_code);
    notification
        .response_message
        .clone_from(&outcome.response_message);
    Ok(Decision {
        notification,
        transitions: vec![transition],
        changed: true,
    })
}

impl Notification {
    /// What its events are about: the mandate.
    pub fn subject(&self) -> Subject {
        Subject::Mandate(self.mandate_id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_691_650_840)
    }

    fn mandate(status: MandateStatus) -> Mandate {
        let mandate: Mandate =
            serde_json::from_str(include_str!("../golden/mandate.json")).unwrap();
        Mandate { status, ..mandate }
    }

    fn request(description: &str) -> NotificationCommand {
        NotificationCommand::Request(NewNotification {
            reference: NotificationRef::new("notice"),
            mandate_id: mandate(MandateStatus::Active).mandate_id,
            description: description.to_owned(),
            source_info: Json::parse(r#"{"amount":"1.0","txn_date":"1691818137"}"#).unwrap(),
            provider_name: "UPI".to_owned(),
            forced: None,
        })
    }

    fn report(status: NotificationStatus) -> NotificationCommand {
        NotificationCommand::Outcome(NotificationOutcome {
            status,
            response_code: None,
            response_message: None,
        })
    }

    #[test]
    fn a_notice_is_asked_for_once_and_settled_once() {
        let mandate = mandate(MandateStatus::Active);
        let asked = decide(None, Some(&mandate), &request("plan"), now()).unwrap();
        assert_eq!(asked.notification.status, NotificationStatus::Pending);
        let known = Some(&asked.notification);

        let again = decide(known, Some(&mandate), &request("plan"), now()).unwrap();
        assert!(!again.changed && again.transitions.is_empty());
        let other = decide(known, Some(&mandate), &request("another plan"), now());
        assert_eq!(other, Err(Refusal::NotificationExists));

        let report_success = report(NotificationStatus::Success);
        let told = decide(known, Some(&mandate), &report_success, now()).unwrap();
        let reference = asked.notification.reference.clone();
        assert_eq!(
            told.transitions,
            [Transition::NotificationSucceeded(reference)]
        );
        for late in [report(NotificationStatus::Failure), report_success] {
            let late = decide(Some(&told.notification), Some(&mandate), &late, now()).unwrap();
            assert!(!late.changed, "what is settled stays so");
        }
    }

    #[test]
    fn only_an_active_mandate_has_notices() {
        for status in MandateStatus::ALL {
            let mandate = mandate(*status);
            let asked = decide(None, Some(&mandate), &request("plan"), now());
            assert_eq!(asked.is_ok(), *status == MandateStatus::Active, "{status}");
        }
        let unknown = decide(None, None, &request("plan"), now());
        assert_eq!(unknown, Err(Refusal::MandateUnknown));
        let nothing = decide(None, None, &report(NotificationStatus::Success), now());
        assert_eq!(nothing, Err(Refusal::NotificationUnknown));
    }
}
