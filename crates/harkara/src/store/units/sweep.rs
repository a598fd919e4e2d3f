//! Finding endpoints with something to do, by jumping from one to the next along the due index.
//!
//! A loose index scan: a million deliveries that wait for one dead endpoint cost as much as one.
//! Reads only; `Store` runs it on a reader.

use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::retry::LONGEST_WAIT;
use harkara_core::time::Timestamp;

use crate::store::endpoints::read_health;
use crate::store::error::DbError;
use crate::store::rows::{DueEndpoint, Sweep};
use crate::store::sql::{Sql, params};

/// The next endpoint that has anything pending.
pub(in crate::store) const NEXT_ENDPOINT: &str = "
    select endpoint from deliveries where state = 'pending' and endpoint > ?1
    order by endpoint limit 1";

/// A delivery without an attempt is due whatever its due time says; see `claim.rs`.
pub(in crate::store) const IS_DUE: &str = "
    select 1 from deliveries
    where endpoint = ?1 and state = 'pending' and retried = ?2 and due_at <= ?3
      and (lease_until <= ?4 or lease_until > ?4 + 3600000000
        or not exists (select 1 from nodes where nodes.node = deliveries.node))
    order by due_at limit 1";

pub(in crate::store) const DUE_NEXT: &str = "
    select min(due_at) from deliveries
    where endpoint = ?1 and state = 'pending' and retried = 1 and due_at > ?2";

/// The last of an endpoint's due times.
const DUE_LAST: &str = "
    select max(due_at) from deliveries
    where endpoint = ?1 and state = 'pending' and retried = 1 and due_at > ?2";

const ACTIVE: &str = "
    select merchant_id, endpoint_id, health from endpoints
    where endpoint = ?1 and state = 'active'";

pub(in crate::store) fn sweep(conn: &dyn Sql, now: Timestamp) -> Result<Sweep, DbError> {
    let mut sweep = Sweep::default();
    let mut after: i64 = 0;
    while let Some(endpoint) = conn.first(NEXT_ENDPOINT, params![after], |row| row.get(0))? {
        let active = conn.first(ACTIVE, params![endpoint], |row| {
            Ok(DueEndpoint {
                merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
                endpoint_id: EndpointId::new(row.get::<_, String>("endpoint_id")?),
                health: read_health(row)?,
            })
        })?;
        if let Some(due) = active {
            look(conn, (endpoint, due), now, &mut sweep)?;
        }
        after = endpoint;
    }
    Ok(sweep)
}

/// Adds one endpoint: whether anything is due now, and when something will be.
fn look(
    conn: &dyn Sql,
    (endpoint, due): (i64, DueEndpoint),
    now: Timestamp,
    sweep: &mut Sweep,
) -> Result<(), DbError> {
    let longest = now.plus(LONGEST_WAIT).as_micros();
    let now = now.as_micros();
    let is_due = |retried: i64, until: i64| {
        let wanted = params![endpoint, retried, until, now];
        Ok::<_, DbError>(conn.first(IS_DUE, wanted, |_| Ok(()))?.is_some())
    };
    if is_due(0, i64::MAX)? || is_due(1, now)? {
        sweep.endpoints.push(due);
    }
    let moment = |sql| {
        let found = conn.first(sql, params![endpoint, now], |row| {
            row.get::<_, Option<i64>>(0)
        });
        Ok::<_, DbError>(found?.flatten())
    };
    let next = moment(DUE_NEXT)?.map(Timestamp::from_micros);
    sweep.next_due = sweep.next_due.into_iter().chain(next).min();
    sweep.is_far |= moment(DUE_LAST)?.is_some_and(|last| last > longest);
    Ok(())
}
