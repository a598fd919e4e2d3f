//! What became of an event: its deliveries with their attempts, all from one moment of the store.
//!
//! Read apart, an attempt could stand beside a delivery that does not know of it yet. `explain` and
//! the pages of deliveries and attempts are made of these.

use harkara_core::id::{DeliveryId, EventId, MerchantId};

use super::deliveries::{AttemptView, DeliveryView, attempts_of, deliveries_of, delivery_of};
use super::events::{EventView, event_of};
use crate::store::Store;
use crate::store::bodies::Bodies;
use crate::store::error::DbError;
use crate::store::sql::{Sql, params};

/// An event and all that was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHistory {
    pub event: EventView,
    /// Whether there is anything that could be sent again.
    pub has_body: bool,
    /// Oldest first: one per endpoint, then replays.
    pub deliveries: Vec<DeliveryHistory>,
}

/// A delivery and the calls that were made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryHistory {
    pub delivery: DeliveryView,
    /// In the order in which they were recorded.
    pub attempts: Vec<AttemptView>,
    /// Of the event whose delivery this one waits on.
    pub waiting_on_sequence: Option<i64>,
}

impl Store {
    /// An event, where it went, and how that went.
    pub async fn history_of_event(
        &self,
        merchant_id: &MerchantId,
        event_id: &EventId,
    ) -> Result<Option<EventHistory>, DbError> {
        let (merchant_id, event_id) = (merchant_id.clone(), event_id.clone());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let Some(event) = event_of(conn, &merchant_id, &event_id)? else {
                return Ok(None);
            };
            let deliveries = deliveries_of(conn, &merchant_id, &event_id)?
                .into_iter()
                .map(|delivery| history((conn, &bodies), &merchant_id, delivery))
                .collect::<Result<_, _>>()?;
            let sql = "select 1 as one from event_bodies where position = ?1";
            let body = conn.first(sql, params![event.position], |_| Ok(()))?;
            Ok(Some(EventHistory {
                event,
                has_body: body.is_some(),
                deliveries,
            }))
        })
        .await
    }

    /// One delivery, whatever its state, and how it went.
    pub async fn history_of_delivery(
        &self,
        merchant_id: &MerchantId,
        delivery_id: &DeliveryId,
    ) -> Result<Option<DeliveryHistory>, DbError> {
        let (merchant_id, delivery_id) = (merchant_id.clone(), delivery_id.clone());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            delivery_of(conn, &merchant_id, &delivery_id)?
                .map(|delivery| history((conn, &bodies), &merchant_id, delivery))
                .transpose()
        })
        .await
    }
}

fn history(
    (conn, bodies): (&dyn Sql, &Bodies),
    merchant_id: &MerchantId,
    delivery: DeliveryView,
) -> Result<DeliveryHistory, DbError> {
    let before = match &delivery.waiting_on {
        Some(other) => delivery_of(conn, merchant_id, other)?,
        None => None,
    };
    Ok(DeliveryHistory {
        attempts: attempts_of((conn, bodies), merchant_id, &delivery.delivery_id)?,
        waiting_on_sequence: before.map(|before| before.sequence),
        delivery,
    })
}
