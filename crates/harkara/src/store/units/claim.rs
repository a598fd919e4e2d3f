//! Taking due deliveries of an endpoint, and giving them back.
//!
//! Serves retries, overflow and the claims of earlier starts; what is fresh is usually born claimed.
//! Knows nothing of permits: the limit is the caller's. `Store` calls it through the committer.

use bytes::Bytes;

use crate::store::codec::{Columns, pack_id, prefix};
use crate::store::error::DbError;
use crate::store::pen::Pen;
use crate::store::rows::{ClaimAsk, Claimed, Lease, Pick, Unopened};
use crate::store::sql::{Row, params};

/// How long a delivery that nobody has sent yet counts as just born, and goes before the backlog.
const FRESH_MICROS: i64 = 60_000_000;

/// What is read of a delivery that is claimed. Left joins, for each has one of all of these.
macro_rules! claimed_where {
    ($condition:literal) => {
        concat!(
            "
    select d.delivery, d.delivery_id, e.event_id, w.text as name, s.key as subject, d.sequence,
        d.attempts, d.fence, d.kind, d.url_override, d.overtaking, d.due_at, b.body
    from deliveries d
    left join events e on e.position = d.delivery / 65536
    left join words w on w.word = e.name
    left join subjects s on s.subject = d.subject
    left join event_bodies b on b.position = e.position
    where ",
            $condition
        )
    };
}

/// Due within a span of time, and in nobody's hands: its lease is over, or the node that has it is
/// gone, or it ends more than an hour from now, as no lease does unless the clock went back.
pub(in crate::store) const DUE: &str = claimed_where!(
    "d.endpoint = ?1 and d.state = 'pending' and d.retried = ?2
      and d.due_at > ?3 and d.due_at <= ?4
      and (d.lease_until <= ?5 or d.lease_until > ?5 + 3600000000
        or not exists (select 1 from nodes where nodes.node = d.node))
    order by d.due_at, d.delivery limit ?6"
);

/// One that is known to be due and in nobody's hands.
const ONE: &str = claimed_where!("d.delivery = ?1");

const TAKE: &str = "
    update deliveries set fence = fence + 1, node = ?2, lease_until = ?3 where delivery = ?1";

/// Nothing is due at an endpoint that is not being called.
pub(in crate::store) fn claim(pen: &Pen, ask: &ClaimAsk) -> Result<Vec<Unopened>, DbError> {
    let Some(called) = called(pen, ask)? else {
        return Ok(Vec::new());
    };
    let picked = pick(pen, called.endpoint, ask)?.into_iter();
    picked.map(|due| take(pen, ask, &called, due)).collect()
}

/// Takes one delivery that has become due in this unit, unless its endpoint is not being called.
pub(super) fn claim_one(
    pen: &Pen,
    ask: &ClaimAsk,
    delivery: i64,
) -> Result<Option<Unopened>, DbError> {
    let Some(called) = called(pen, ask)? else {
        return Ok(None);
    };
    let due = pen.find(ONE, params![delivery], |row| read_due(row, ask))?;
    due.map(|due| take(pen, ask, &called, due)).transpose()
}

/// An endpoint that is being called.
struct Called {
    endpoint: i64,
    rate_per_second: Option<u32>,
}

fn called(pen: &Pen, ask: &ClaimAsk) -> Result<Option<Called>, DbError> {
    let sql = "
        select endpoint, rate_per_second from endpoints
        where merchant_id = ?1 and endpoint_id = ?2 and state = 'active'";
    let key = params![ask.merchant_id.as_str(), ask.endpoint_id.as_str()];
    pen.find(sql, key, |row| {
        Ok(Called {
            endpoint: row.get(0)?,
            rate_per_second: row.get(1)?,
        })
    })
}

fn take(pen: &Pen, ask: &ClaimAsk, called: &Called, due: Due) -> Result<Unopened, DbError> {
    let lease_until = ask.lease_until.as_micros();
    let node = pen.node();
    pen.execute(TAKE, params![due.delivery, node, lease_until])?;
    Ok(Unopened(Claimed {
        node,
        rate_per_second: called.rate_per_second,
        ..due.claimed
    }))
}

/// A delivery that can be taken; its body is still packed.
struct Due {
    delivery: i64,
    due_at: i64,
    claimed: Claimed,
}

/// A delivery without an attempt is due from its birth: a due time ahead of now means that the clock
/// went back, and is no reason to wait.
fn pick(pen: &Pen, endpoint: i64, ask: &ClaimAsk) -> Result<Vec<Due>, DbError> {
    let now = ask.now.as_micros();
    let fresh_from = match ask.pick {
        Pick::FreshFirst => now - FRESH_MICROS,
        Pick::LongestDue => i64::MAX,
    };
    let mut picked = due(pen, ask, endpoint, (0, fresh_from, i64::MAX), ask.limit)?;
    let room = ask.limit - picked.len();
    if room > 0 {
        let mut rest = due(pen, ask, endpoint, (0, i64::MIN, fresh_from), room)?;
        rest.extend(due(pen, ask, endpoint, (1, i64::MIN, now), room)?);
        rest.sort_by_key(|due| due.due_at);
        rest.truncate(room);
        picked.extend(rest);
    }
    Ok(picked)
}

/// What is due among the fresh (0) or the retried (1) after `from` and until `to`, with its due
/// time.
fn due(
    pen: &Pen,
    ask: &ClaimAsk,
    endpoint: i64,
    (retried, from, to): (i64, i64, i64),
    limit: usize,
) -> Result<Vec<Due>, DbError> {
    pen.rows_locking(
        (DUE, "for update of d skip locked"),
        params![
            endpoint,
            retried,
            from,
            to,
            ask.now.as_micros(),
            i64::try_from(limit).unwrap_or(i64::MAX),
        ],
        |row| read_due(row, ask),
    )
}

fn read_due(row: &Row<'_>, ask: &ClaimAsk) -> Result<Due, DbError> {
    let claimed = Claimed {
        merchant_id: ask.merchant_id.clone(),
        delivery_id: row.delivery_id("delivery_id")?,
        endpoint_id: ask.endpoint_id.clone(),
        event_id: row.event_id("event_id")?,
        event_name: row.get("name")?,
        subject: row.get("subject")?,
        sequence: row.get("sequence")?,
        attempts: row.get("attempts")?,
        // `TAKE` counts this claim.
        fence: row.get::<_, i64>("fence")? + 1,
        node: 0,
        lease_until: ask.lease_until,
        kind: row.word("kind")?,
        url_override: row.get("url_override")?,
        overtaking: row.get("overtaking")?,
        rate_per_second: None,
        body: Bytes::from(row.get::<_, Vec<u8>>("body")?),
    };
    Ok(Due {
        delivery: row.get("delivery")?,
        due_at: row.get("due_at")?,
        claimed,
    })
}

/// Ends leases early. A claim that was taken over or settled meanwhile is left alone.
pub(in crate::store) fn release(pen: &Pen, leases: &[Lease]) -> Result<(), DbError> {
    let sql = "
        update deliveries set lease_until = 0
        where delivery_id = ?1 and fence = ?2 and state = 'pending'";
    for Lease {
        delivery_id, fence, ..
    } in leases
    {
        let id = pack_id(prefix::DELIVERY, delivery_id.as_str());
        pen.execute(sql, params![id, fence])?;
    }
    Ok(())
}
