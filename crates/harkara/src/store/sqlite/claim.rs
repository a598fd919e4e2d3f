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
use crate::store::rows::{ClaimAsk, Claimed, Lease, Pick, Unopened};

/// How long a delivery that nobody has sent yet counts as just born, and goes before the backlog.
const FRESH_MICROS: i64 = 60_000_000;

/// What is read of a delivery that is claimed.
macro_rules! claimed_where {
    ($condition:literal) => {
        concat!(
            "
    select d.delivery_id, d.event_id, e.name, d.subject, d.sequence, d.attempts, d.fence, d.kind,
        d.url_override, d.overtaking, d.due_at, b.body
    from deliveries d
    join events e on e.merchant_id = d.merchant_id and e.position = d.position
    join event_bodies b on b.merchant_id = d.merchant_id and b.position = d.position
    where d.merchant_id = ?1 and ",
            $condition
        )
    };
}

/// Due within a span of time, and in nobody's hands: its lease is over, or it is from an earlier
/// start, or it ends more than an hour from now, as no lease does unless the clock went back.
pub(in crate::store) const DUE: &str = claimed_where!(
    "d.endpoint_id = ?2 and d.state = 'pending' and d.retried = ?3
      and d.due_at > ?4 and d.due_at <= ?5
      and (d.lease_until <= ?6 or d.lease_until > ?6 + 3600000000 or d.node <> ?7)
    order by d.due_at, d.position limit ?8"
);

/// One that is known to be due and in nobody's hands.
const ONE: &str = claimed_where!("d.delivery_id = ?2");

const TAKE: &str = "
    update deliveries set fence = fence + 1, node = ?3, lease_until = ?4
    where merchant_id = ?1 and delivery_id = ?2";

/// Nothing is due at an endpoint that is not being called.
pub(in crate::store) fn claim(pen: &Pen, ask: &ClaimAsk) -> Result<Vec<Unopened>, DbError> {
    let Some(rate_per_second) = rate_if_called(pen, ask)? else {
        return Ok(Vec::new());
    };
    let claimed: Vec<Unopened> = pick(pen, ask, rate_per_second)?;
    for delivery in &claimed {
        take(pen, ask, delivery)?;
    }
    Ok(claimed)
}

/// Takes one delivery that has become due in this unit, unless its endpoint is not being called.
pub(super) fn claim_one(
    pen: &Pen,
    ask: &ClaimAsk,
    delivery_id: &str,
) -> Result<Option<Unopened>, DbError> {
    let Some(rate_per_second) = rate_if_called(pen, ask)? else {
        return Ok(None);
    };
    let key = params![ask.merchant_id.as_str(), delivery_id];
    let claimed = pen.find(ONE, key, |row| {
        let Unopened(claimed) = read_claimed(row, ask)?;
        Ok(Unopened(Claimed {
            rate_per_second,
            ..claimed
        }))
    })?;
    if let Some(delivery) = &claimed {
        take(pen, ask, delivery)?;
    }
    Ok(claimed)
}

/// The rate of an endpoint that is being called.
fn rate_if_called(pen: &Pen, ask: &ClaimAsk) -> Result<Option<Option<u32>>, DbError> {
    let sql = "
        select rate_per_second from endpoints
        where merchant_id = ?1 and endpoint_id = ?2 and state = 'active'";
    let key = params![ask.merchant_id.as_str(), ask.endpoint_id.as_str()];
    pen.find(sql, key, |row| row.get(0))
}

fn take(pen: &Pen, ask: &ClaimAsk, Unopened(delivery): &Unopened) -> Result<(), DbError> {
    let row = params![
        ask.merchant_id.as_str(),
        delivery.delivery_id.as_str(),
        pen.epoch(),
        ask.lease_until.as_micros(),
    ];
    pen.execute(TAKE, row).map(drop)
}

/// A delivery without an attempt is due from its birth: a due time ahead of now means that the clock
/// went back, and is no reason to wait.
fn pick(pen: &Pen, ask: &ClaimAsk, rate: Option<u32>) -> Result<Vec<Unopened>, DbError> {
    let now = ask.now.as_micros();
    let fresh_from = match ask.pick {
        Pick::FreshFirst => now - FRESH_MICROS,
        Pick::LongestDue => i64::MAX,
    };
    let mut picked = due(pen, ask, (0, fresh_from, i64::MAX), ask.limit)?;
    let room = ask.limit - picked.len();
    if room > 0 {
        let mut rest = due(pen, ask, (0, i64::MIN, fresh_from), room)?;
        rest.extend(due(pen, ask, (1, i64::MIN, now), room)?);
        rest.sort_by_key(|(due_at, _)| *due_at);
        rest.truncate(room);
        picked.extend(rest);
    }
    let claimed = picked.into_iter().map(|(_, Unopened(claimed))| {
        Unopened(Claimed {
            rate_per_second: rate,
            ..claimed
        })
    });
    Ok(claimed.collect())
}

/// What is due among the fresh (0) or the retried (1) after `from` and until `to`, with its due
/// time.
fn due(
    pen: &Pen,
    ask: &ClaimAsk,
    (retried, from, to): (i64, i64, i64),
    limit: usize,
) -> Result<Vec<(i64, Unopened)>, DbError> {
    let mut statement = pen.prepare(DUE)?;
    let rows = statement.query_map(
        params![
            ask.merchant_id.as_str(),
            ask.endpoint_id.as_str(),
            retried,
            from,
            to,
            ask.now.as_micros(),
            pen.epoch(),
            i64::try_from(limit).unwrap_or(i64::MAX),
        ],
        |row| Ok((row.get("due_at")?, read_claimed(row, ask)?)),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_claimed(row: &Row<'_>, ask: &ClaimAsk) -> rusqlite::Result<Unopened> {
    Ok(Unopened(Claimed {
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
        rate_per_second: None,
        body: Bytes::from(row.get::<_, Vec<u8>>("body")?),
    }))
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
