//! What is shown: single rows, lists and pages for the API and the command line.
//!
//! Reads only, each from one moment of the store; what is derived (`notified`, counts) is worked out
//! here by query and stored nowhere. Nothing on the way of an attempt calls these.

mod aggregates;
mod deliveries;
mod events;
mod history;
mod operational_events;
mod overview;
mod recent;

pub use aggregates::{MandateView, NotificationView, OrderFilter, OrderPage, OrderView};
pub(crate) use deliveries::COUNTED;
pub use deliveries::{AttemptView, Counts, DeliveryView};
#[cfg(test)]
pub(in crate::store) use events::{Bounds, page_sql};
pub use events::{EventFilter, EventView, FeedAsk, FeedPage};
pub(in crate::store) use events::{HAD, owed};
pub use history::{DeliveryHistory, EventHistory};
pub use operational_events::OperationalEvent;
#[cfg(test)]
pub(in crate::store) use overview::{TRAFFIC, owing};
pub use overview::{Traffic, Untold};
pub use recent::{OrderPlace, Recent, RecentEvents, RecentOrders};
#[cfg(test)]
pub(in crate::store) use recent::{events_sql, orders_sql};

use super::Store;
use super::error::DbError;
use super::pen::{SUBJECT, WORD};
use super::sql::{Sql, params};

impl Store {
    /// A read that may take long. It waits for its turn among those of its kind, so that lists can
    /// never keep the way of an attempt waiting.
    async fn read_long<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        self.shared.readers.read_long(query).await
    }
}

/// The number of a merchant's id, an event's name or whatever else is stored once for all.
pub(in crate::store) fn word(conn: &dyn Sql, text: &str) -> Result<Option<i64>, DbError> {
    conn.first(WORD, params![text], |row| row.get(0))
}

/// The number of what events are about.
fn subject(conn: &dyn Sql, merchant: i64, key: &str) -> Result<Option<i64>, DbError> {
    conn.first(SUBJECT.0, params![merchant, key], |row| row.get(0))
}

/// How a number of rows is bound.
fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
