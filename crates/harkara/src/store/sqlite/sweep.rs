//! Finding endpoints with something to do, by jumping from one to the next along the due index.
//!
//! A loose index scan: a million deliveries that wait for one dead endpoint cost as much as one.
//! Reads only; `Store` runs it on a reader.

use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::error::DbError;
use crate::store::rows::{DueEndpoint, FarEndpoint, Sweep};

/// The next endpoint that has anything pending.
pub(in crate::store) const NEXT_ENDPOINT: &str = "
    select merchant_id, endpoint_id from deliveries
    where state = 'pending' and (merchant_id, endpoint_id) > (?1, ?2)
    order by merchant_id, endpoint_id limit 1";

/// Counted no further than 16: the dispatcher asks for a claim whatever the number, and a sweep
/// must stay cheap when a thousand endpoints have a backlog.
pub(in crate::store) const DUE_NOW: &str = "
    select count(*), min(due_at) from (
        select due_at from deliveries
        where merchant_id = ?1 and endpoint_id = ?2 and state = 'pending' and retried = ?3
          and due_at <= ?4
          and (lease_until <= ?4 or lease_until > ?4 + 3600000000 or node <> ?5)
        order by due_at limit 16) as due";

pub(in crate::store) const DUE_NEXT: &str = "
    select min(due_at) from deliveries
    where merchant_id = ?1 and endpoint_id = ?2 and state = 'pending' and retried = ?3
      and due_at > ?4";

/// The last of an endpoint's due times.
pub(in crate::store) const DUE_LAST: &str = "
    select max(due_at) from deliveries
    where merchant_id = ?1 and endpoint_id = ?2 and state = 'pending' and retried = ?3";

/// No ladder and no `Retry-After` is shorter than this at its longest, so a due time within it needs
/// no second look.
const NEAR_MICROS: i64 = 24 * 3_600_000_000;

const IS_ACTIVE: &str = "
    select 1 from endpoints where merchant_id = ?1 and endpoint_id = ?2 and state = 'active'";

pub(in crate::store) fn sweep(
    conn: &Connection,
    epoch: i64,
    now: Timestamp,
) -> Result<Sweep, DbError> {
    let mut sweep = Sweep::default();
    let mut after = (String::new(), String::new());
    let mut next = conn.prepare_cached(NEXT_ENDPOINT)?;
    let mut is_active = conn.prepare_cached(IS_ACTIVE)?;
    loop {
        let found = next.query_row(params![after.0, after.1], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let Some(endpoint) = found.optional()? else {
            break;
        };
        if is_active.exists(params![endpoint.0, endpoint.1])? {
            look(conn, &endpoint, (epoch, now), &mut sweep)?;
        }
        after = endpoint;
    }
    Ok(sweep)
}

/// Adds one endpoint: what is due now, and when something will be.
fn look(
    conn: &Connection,
    (merchant, endpoint): &(String, String),
    (epoch, now): (i64, Timestamp),
    sweep: &mut Sweep,
) -> Result<(), DbError> {
    let now = now.as_micros();
    let mut due_now = conn.prepare_cached(DUE_NOW)?;
    let mut due_next = conn.prepare_cached(DUE_NEXT)?;
    let mut due_count = 0;
    let mut oldest: Option<i64> = None;
    let mut due_last = conn.prepare_cached(DUE_LAST)?;
    let mut furthest: Option<i64> = None;
    for retried in [0, 1] {
        let (count, first): (i64, Option<i64>) = due_now
            .query_row(params![merchant, endpoint, retried, now, epoch], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        due_count += count;
        oldest = oldest.into_iter().chain(first).min();
        let next: Option<i64> =
            due_next.query_row(params![merchant, endpoint, retried, now], |row| row.get(0))?;
        let next = next.map(Timestamp::from_micros);
        sweep.next_due = sweep.next_due.into_iter().chain(next).min();
        let last: Option<i64> =
            due_last.query_row(params![merchant, endpoint, retried], |row| row.get(0))?;
        furthest = furthest.max(last);
    }
    if let Some(furthest) = furthest.filter(|furthest| *furthest > now + NEAR_MICROS) {
        sweep.far.push(FarEndpoint {
            merchant_id: MerchantId::new(merchant),
            endpoint_id: EndpointId::new(endpoint),
            furthest_due_at: Timestamp::from_micros(furthest),
        });
    }
    if let Some(oldest) = oldest {
        sweep.endpoints.push(DueEndpoint {
            merchant_id: MerchantId::new(merchant),
            endpoint_id: EndpointId::new(endpoint),
            oldest_due_at: Timestamp::from_micros(oldest),
            due_count,
        });
    }
    Ok(())
}
