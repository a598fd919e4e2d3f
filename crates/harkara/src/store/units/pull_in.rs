//! Moving due times nearer after the clock went back.
//!
//! A retry's due time was set by adding its wait to the time of then. Its last attempt tells that
//! wait, so what lies further away than its wait from now is moved to it. Walks the due index in
//! steps, so that other writes go in between. `Store` calls it through the committer.

use harkara_core::retry::pulled_in;
use harkara_core::time::Timestamp;

use super::sweep::NEXT_ENDPOINT;
use crate::store::error::DbError;
use crate::store::pen::Pen;
use crate::store::sql::params;

/// Deliveries of one step.
const STEP: usize = 500;

/// How far a walk has come.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Cursor {
    endpoint: i64,
    due_at: i64,
    delivery: i64,
}

/// A retry that is not due yet.
struct Ahead {
    delivery: i64,
    due_at: i64,
    /// What the last attempt added to the time at which it ended.
    wait: i64,
}

pub(in crate::store) const AHEAD: &str = "
    select d.delivery, d.due_at, (
        select a.retry_at - a.started_at - a.duration_us from attempts a
        where a.delivery = d.delivery and a.late = 0
        order by a.n desc limit 1)
    from deliveries d
    where d.endpoint = ?1 and d.state = 'pending' and d.retried = 1
      and (d.due_at, d.delivery) > (?2, ?3)
    order by d.due_at, d.delivery limit ?4";

/// Takes one step; says where the next begins, or that there is none.
pub(in crate::store) fn step(
    pen: &Pen,
    cursor: Cursor,
    now: Timestamp,
) -> Result<Option<Cursor>, DbError> {
    let ahead = ahead(pen, &cursor)?;
    for delivery in &ahead {
        let due_at = Timestamp::from_micros(delivery.due_at);
        let wait = Timestamp::from_micros(delivery.wait).since(Timestamp::default());
        let nearer = pulled_in(due_at, now, wait);
        if nearer < due_at {
            let sql = "
                update deliveries set due_at = ?2
                where delivery = ?1 and state = 'pending' and due_at = ?3";
            let row = params![delivery.delivery, nearer.as_micros(), delivery.due_at];
            pen.execute(sql, row)?;
        }
    }
    match ahead.last() {
        Some(last) if ahead.len() == STEP => Ok(Some(Cursor {
            due_at: last.due_at,
            delivery: last.delivery,
            ..cursor
        })),
        Some(_) | None => pen.find(NEXT_ENDPOINT, params![cursor.endpoint], |row| {
            Ok(Cursor {
                endpoint: row.get(0)?,
                due_at: now.as_micros(),
                delivery: i64::MAX,
            })
        }),
    }
}

fn ahead(pen: &Pen, cursor: &Cursor) -> Result<Vec<Ahead>, DbError> {
    let limit = i64::try_from(STEP).unwrap_or(i64::MAX);
    let from = params![cursor.endpoint, cursor.due_at, cursor.delivery, limit];
    pen.sql().rows(AHEAD, from, |row| {
        Ok(Ahead {
            delivery: row.get(0)?,
            due_at: row.get(1)?,
            wait: row.get::<_, Option<i64>>(2)?.unwrap_or(0),
        })
    })
}
