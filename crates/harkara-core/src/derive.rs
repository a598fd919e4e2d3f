//! From transitions to events: which names follow, and the bytes that every attempt will send.
//!
//! `names()` is the product's heart, a table that a product manager can read. `events()` renders
//! each body once; the write path stores it in the same commit as the state that it tells of.

use bytes::Bytes;
use harkara_webhook::{ContentKind, EventName, catalog, event};

use crate::delivery::Event;
use crate::id::{self, EventId, MerchantId, Subject, TxnId};
use crate::mandate::Mandate;
use crate::notification::Notification;
use crate::order::Order;
use crate::render::{self, Rendering};
use crate::time::Timestamp;
use crate::transition::Transition;

/// The events that a transition gives rise to, in the order in which they are sent.
pub fn names(transition: &Transition) -> &'static [EventName] {
    match transition {
        Transition::OrderCreated => &[EventName::OrderCreated],
        Transition::TxnInitiated(_) => &[EventName::TxnCreated],
        Transition::TxnAuthorized(_) => &[EventName::OrderAuthorized],
        Transition::TxnCharged(_) => &[EventName::TxnCharged],
        Transition::OrderCharged(_) => &[EventName::OrderSucceeded],
        Transition::TxnFailed(_) => &[EventName::TxnFailed],
        Transition::OrderFailed(_) => &[EventName::OrderFailed],
        Transition::RefundInitiated(_) => &[EventName::RefundInitiated],
        Transition::RefundSucceeded(_) => &[EventName::OrderRefunded],
        Transition::RefundFailed(_) => &[EventName::OrderRefundFailed],
        Transition::RefundUnclear(_) => &[EventName::RefundManualReviewNeeded],
        Transition::AutoRefundSucceeded(_) => &[EventName::AutoRefundSucceeded],
        Transition::AutoRefundFailed(_) => &[EventName::AutoRefundFailed],
        Transition::MandateCreated(_) => &[EventName::MandateCreated],
        Transition::MandateActivated(_) => &[EventName::MandateActivated],
        Transition::MandateFailed(_) => &[EventName::MandateFailed],
        Transition::MandateRevoked(_) => &[EventName::MandateRevoked],
        Transition::NotificationSucceeded(_) => &[EventName::NotificationSucceeded],
        Transition::NotificationFailed(_) => &[EventName::NotificationFailed],
        // The catalogue has no event for these.
        Transition::TxnVoidStarted(_)
        | Transition::TxnVoided(_)
        | Transition::AutoRefundInitiated(_)
        | Transition::MandatePaused(_)
        | Transition::MandateResumed(_)
        | Transition::MandateExpired(_)
        | Transition::NotificationRequested(_) => &[],
    }
}

/// What a decision left behind: everything that a body may show, as it is after it.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub merchant_id: &'a MerchantId,
    pub rendering: Rendering<'a>,
    pub order: Option<&'a Order>,
    /// The mandate that the order shows: its leading transaction's.
    pub order_mandate: Option<&'a Mandate>,
    /// The mandate that changed.
    pub mandate: Option<&'a Mandate>,
    pub notification: Option<&'a Notification>,
}

/// The events of a decision, rendered from the state that it left behind.
pub fn events(transitions: &[Transition], snapshot: Snapshot<'_>, now: Timestamp) -> Vec<Event> {
    let mut order_json = None;
    let mut events = Vec::new();
    for transition in transitions {
        for name in names(transition) {
            let kind = catalog::content_kind(*name);
            let content = match kind {
                ContentKind::Order => order_json
                    .get_or_insert_with(|| {
                        let order = snapshot.order.expect("an order's transition comes with it");
                        render::order(order, snapshot.order_mandate, snapshot.rendering)
                    })
                    .clone(),
                ContentKind::Txn => {
                    let order = snapshot.order.expect("a transaction's order comes with it");
                    render::txn(order, txn_of(transition), snapshot.rendering)
                }
                ContentKind::Mandate => {
                    let mandate = snapshot
                        .mandate
                        .expect("a mandate's transition comes with it");
                    render::mandate(mandate, snapshot.rendering)
                }
                ContentKind::Notification => {
                    let notification = snapshot
                        .notification
                        .expect("a notification's transition comes with it");
                    render::notification(notification, snapshot.rendering)
                }
            };
            let (subject, version) = subject(kind, snapshot);
            let id = {
                let (subject, version) = (subject.key(), version.to_string());
                let what = transition.to_string();
                let merchant_id = snapshot.merchant_id.as_str();
                event_id(
                    &[merchant_id, &subject, &version, name.as_str(), &what],
                    now,
                )
            };
            let body = event::envelope(id.as_str(), &now.iso(), *name, kind, &content);
            events.push(Event {
                merchant_id: snapshot.merchant_id.clone(),
                id,
                name: *name,
                subject,
                transition: transition.to_string(),
                created_at: now,
                body: Bytes::from(body),
            });
        }
    }
    events
}

/// An event id is 48 bits of time and 80 bits of a hash of what happened to what: the same
/// transition of the same version can never be two events.
fn event_id(what_happened: &[&str], now: Timestamp) -> EventId {
    EventId::new(format!("evt_V2_{}", id::time_ordered(now, what_happened)))
}

fn subject(kind: ContentKind, snapshot: Snapshot<'_>) -> (Subject, i64) {
    match kind {
        ContentKind::Order | ContentKind::Txn => {
            let order = snapshot.order.expect("rendered above");
            (order.subject(), order.version)
        }
        ContentKind::Mandate => {
            let mandate = snapshot.mandate.expect("rendered above");
            (mandate.subject(), mandate.version)
        }
        ContentKind::Notification => {
            let notification = snapshot.notification.expect("rendered above");
            (notification.subject(), notification.version)
        }
    }
}

fn txn_of(transition: &Transition) -> &TxnId {
    match transition {
        Transition::TxnInitiated(id)
        | Transition::TxnAuthorized(id)
        | Transition::TxnCharged(id)
        | Transition::TxnFailed(id) => id,
        other => unreachable!("no event of '{other}' carries a transaction"),
    }
}
