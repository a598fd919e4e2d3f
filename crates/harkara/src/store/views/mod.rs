//! What is shown: single rows, lists and pages for the API, the dashboard and the command line.
//!
//! Reads only, each from one moment of the store; what is derived (`notified`, counts) is worked out
//! here by query and stored nowhere. Nothing on the way of an attempt calls these.

mod aggregates;
mod deliveries;
mod events;

pub use aggregates::{MandateView, NotificationView, OrderFilter, OrderPage, OrderView};
pub use deliveries::{AttemptView, Counts, DeliveryView};
pub use events::{EventFilter, EventView};

use rusqlite::{Connection, Params, Row};

use super::error::DbError;

/// All rows of a query.
fn rows<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, DbError> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first row of a query.
fn first<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, DbError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query_map(params, read)?;
    Ok(rows.next().transpose()?)
}

/// How a number of rows is bound.
fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
