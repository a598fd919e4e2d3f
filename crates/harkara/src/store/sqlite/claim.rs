//! Taking due deliveries of an endpoint, and giving them back.
//!
//! Serves retries, overflow and the claims of earlier starts; what is fresh is usually born claimed.
//! Knows nothing of permits: the limit is the caller's. `Store` calls it through the committer.

use bytes::Bytes;
use harkara_core::id::{DeliveryId, EventId};
use rusqlite::{Row, params};

use super::Pen;
use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::rows::{ClaimAsk, Claimed, FarEndpoint, Lease};

/// Due, and in nobody's hands: its lease is over, or it is from an earlier start, or it ends more than
/// an hour from now, as no lease does unless the clock went back. Nothing is due at
/// an endpoint that is not being called.
pub(in crate::store) const DUE: &str = "
    select d.delivery_id, d.event_id, e.name, d.subject, d.sequence, d.attempts, d.fence, d.kind,
        d.url_override, d.overtaking, b.body
    from deliveries d
    join events e on e.merchant_id = d.merchant_id and e.position = d.position
    join event_bodies b on b.merchant_id = d.merchant_id and b.position = d.position
    where d.merchant_id = ?1 and d.endpoint_id = ?2 and d.state = 'pending' and d.retried = ?3
      and d.due_at <= ?4
      and (d.lease_until <= ?4 or d.lease_until > ?4 + 3600000000 or d.node <> ?5)
      and exists (select 1 from endpoints p where p.merchant_id = ?1 and p.endpoint_id = ?2
          and p.state = 'active')
    order by d.due_at, d.position limit ?6";

const TAKE: &str = "
    update deliveries set fence = fence + 1, node = ?3, lease_until = ?4
    where merchant_id = ?1 and delivery_id = ?2";

pub(in crate::store) fn claim(pen: &Pen, ask: &ClaimAsk) -> Result<Vec<Claimed>, DbError> {
    let mut claimed = Vec::new();
    for retried in [0, 1] {
        due(pen, ask, retried, &mut claimed)?;
    }
    for delivery in &claimed {
        pen.execute(
            TAKE,
            params![
                ask.merchant_id.as_str(),
                delivery.delivery_id.as_str(),
                pen.epoch(),
                ask.lease_until.as_micros(),
            ],
        )?;
    }
    Ok(claimed)
}

/// Adds what is due among the fresh (0) or the retried (1), up to the limit.
fn due(pen: &Pen, ask: &ClaimAsk, retried: i64, claimed: &mut Vec<Claimed>) -> Result<(), DbError> {
    let room = i64::try_from(ask.limit - claimed.len()).unwrap_or(i64::MAX);
    let mut statement = pen.prepare(DUE)?;
    let rows = statement.query_map(
        params![
            ask.merchant_id.as_str(),
            ask.endpoint_id.as_str(),
            retried,
            ask.now.as_micros(),
            pen.epoch(),
            room,
        ],
        |row| read_claimed(row, ask),
    )?;
    for row in rows {
        claimed.push(row?);
    }
    Ok(())
}

fn read_claimed(row: &Row<'_>, ask: &ClaimAsk) -> rusqlite::Result<Claimed> {
    Ok(Claimed {
        merchant_id: ask.merchant_id.clone(),
        delivery_id: DeliveryId::new(row.get::<_, String>("delivery_id")?),
        endpoint_id: ask.endpoint_id.clone(),
        event_id: EventId::new(row.get::<_, String>("event_id")?),
        event_name: row.get("name")?,
        subject: row.get("subject")?,
        sequence: row.get("sequence")?,
        attempts: row.get("attempts")?,
        // `TAKE` counts this claim.
        fence: row.get::<_, i64>("fence")? + 1,
        lease_until: ask.lease_until,
        kind: row.word("kind")?,
        url_override: row.get("url_override")?,
        overtaking: row.get("overtaking")?,
        body: Bytes::from(row.get::<_, Vec<u8>>("body")?),
    })
}

/// Ends leases early. A claim that was taken over or settled meanwhile is left alone.
pub(in crate::store) fn release(pen: &Pen, leases: &[Lease]) -> Result<(), DbError> {
    let sql = "
        update deliveries set lease_until = 0
        where merchant_id = ?1 and delivery_id = ?2 and fence = ?3 and state = 'pending'";
    for Lease {
        merchant_id,
        delivery_id,
        fence,
    } in leases
    {
        pen.execute(
            sql,
            params![merchant_id.as_str(), delivery_id.as_str(), fence],
        )?;
    }
    Ok(())
}

/// Moves due times of an endpoint that lie beyond `furthest` back to it; says how many.
pub(in crate::store) fn pull_in(pen: &Pen, far: &FarEndpoint) -> Result<usize, DbError> {
    let sql = "
        update deliveries set due_at = ?3
        where merchant_id = ?1 and endpoint_id = ?2 and state = 'pending' and due_at > ?3";
    let furthest = far.furthest_due_at.as_micros();
    pen.execute(
        sql,
        params![far.merchant_id.as_str(), far.endpoint_id.as_str(), furthest],
    )
}
