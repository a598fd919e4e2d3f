//! Deleting what was kept long enough, in steps that others barely wait for.
//!
//! Rows of an event lie together under its position, so a run of events is a range of each table.
//! What has to be known of them afterwards is written in the same unit. Which runs are old and not
//! needed was found by a reader; whatever may have changed since is asked again here. `Store` calls
//! it through the committer.

use std::ops::RangeInclusive;

use harkara_core::retention::{Bounds, Mark, Retention, before};
use harkara_core::time::Timestamp;

use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::pen::Pen;
use crate::store::sql::{Row, params};
use crate::store::views::{HAD, owed};

/// Rows that are deleted, by their first and last number.
pub type Run = RangeInclusive<i64>;

const LAST_MARK: &str = "
    select lived, clock from marks order by lived desc limit 1";

const MARK: &str = "
    insert into marks (lived, clock, position, entry)
    select cast(?1 as bigint), cast(?2 as bigint), (select coalesce(max(position), 0) from events),
        (select coalesce(max(entry), 0) from idempotency_keys)
    where true
    on conflict (lived) do update set clock = excluded.clock, position = excluded.position,
        entry = excluded.entry";

const MARK_BEFORE: &str = "
    select lived, clock, position, entry from marks where lived <= ?1 order by lived desc limit 1";

/// Marks what is the newest, if it is time to, and says what is old by now.
pub(in crate::store) fn mark(
    pen: &Pen,
    retention: Retention,
    now: Timestamp,
) -> Result<Bounds, DbError> {
    let last = pen.find(LAST_MARK, params![], read_mark)?;
    let next = match last {
        Some(last) => last.next(now),
        None => Some(Mark {
            lived: now,
            clock: now,
        }),
    };
    if let Some(next) = next {
        pen.execute(
            MARK,
            params![next.lived.as_micros(), next.clock.as_micros()],
        )?;
    }
    let lived = next.or(last).map_or(now, |mark| mark.lived);
    let found = |age| {
        let moment = before(lived, age).as_micros();
        pen.find(MARK_BEFORE, params![moment], |row| {
            Ok((read_mark(row)?, row.get("position")?, row.get("entry")?))
        })
    };
    let mut bounds = Bounds::default();
    if let Some((_, position, entry)) = found(retention.bodies)? {
        (bounds.bodies, bounds.keys) = (position, entry);
    }
    if let Some((mark, position, _)) = found(retention.events)? {
        bounds.events = position;
        // Both, for either clock may have been wrong.
        bounds.before = mark.clock.min(before(now, retention.events));
        let sql = "delete from marks where lived < ?1";
        pen.execute(sql, params![mark.lived.as_micros()])?;
    }
    Ok(bounds)
}

fn read_mark(row: &Row<'_>) -> Result<Mark, DbError> {
    Ok(Mark {
        lived: row.at("lived")?,
        clock: row.at("clock")?,
    })
}

/// Nothing that is pending or waiting is sent without its body. `b` is the body.
const IS_DROPPABLE: &str = "
    not exists (select 1 from deliveries d
        where d.delivery between b.position * 65536 and b.position * 65536 + 65535
          and d.state in ('pending', 'waiting'))";

/// Whoever sends an event again holds its body, until the delivery is there.
const HOLD_BODIES: &str = "
    select position from event_bodies where position between ?1 and ?2 for update nowait";

/// What a foreign ledger said last is in a body; it stays with what it is about.
pub(in crate::store) const KEEP_DOCS: [&str; 3] = [
    "update orders set
        doc = (select body from event_bodies b where b.position = orders.position), position = null
    where position between ?1 and ?2
      and subject in (select subject from events where position between ?1 and ?2)",
    "update mandates set
        doc = (select body from event_bodies b where b.position = mandates.position), position = null
    where position between ?1 and ?2",
    "update notifications set
        doc = (select body from event_bodies b where b.position = notifications.position),
        position = null
    where position between ?1 and ?2",
];

/// Deletes the bodies of these events, unless something unsettled would send one.
pub(in crate::store) fn drop_bodies(pen: &Pen, runs: &[Run]) -> Result<usize, DbError> {
    let drop = format!(
        "delete from event_bodies as b where b.position between ?1 and ?2 and {IS_DROPPABLE}"
    );
    let mut dropped = 0;
    for run in runs {
        let run = params![run.start(), run.end()];
        pen.lock(HOLD_BODIES, run)?;
        for keep in KEEP_DOCS {
            pen.execute(keep, run)?;
        }
        dropped += pen.execute(&drop, run)?;
    }
    Ok(dropped)
}

/// Deletes these events with their deliveries and attempts. None of them has a body, so all that was
/// planned is settled, and nothing can be planned any more.
pub(in crate::store) fn forget_events(pen: &Pen, runs: &[Run]) -> Result<usize, DbError> {
    let remember_subjects = format!(
        "insert into forgotten_subjects (subject, sequence, had, owed)
        select e.subject, max(e.sequence), max(case when {HAD} then 1 else 0 end),
            max(case when {} then 1 else 0 end)
        from events e where e.position between ?1 and ?2 group by e.subject
        on conflict (subject) do update set had = forgotten_subjects.had | excluded.had,
            owed = forgotten_subjects.owed | excluded.owed,
            sequence = case when excluded.sequence > forgotten_subjects.sequence
                then excluded.sequence else forgotten_subjects.sequence end",
        owed()
    );
    let remember_feeds = "
        insert into forgotten_feeds (merchant, position)
        select merchant, max(position) from events where position between ?1 and ?2
        group by merchant
        on conflict (merchant) do update set position = excluded.position
        where excluded.position > forgotten_feeds.position";
    let mut forgotten = 0;
    for run in runs {
        let events = params![run.start(), run.end()];
        pen.execute(&remember_subjects, events)?;
        pen.execute(remember_feeds, events)?;
        for table in ["attempts", "deliveries"] {
            let sql = format!("delete from {table} where delivery between ?1 and ?2");
            let (first, last) = (run.start() * 65_536, run.end() * 65_536 + 65_535);
            pen.execute(&sql, params![first, last])?;
        }
        let sql = "delete from events where position between ?1 and ?2";
        forgotten += pen.execute(sql, events)?;
    }
    Ok(forgotten)
}

/// Deletes what was answered to requests with a key; the same key is a new request's then.
pub(in crate::store) fn forget_keys(pen: &Pen, runs: &[Run]) -> Result<usize, DbError> {
    let mut forgotten = 0;
    for run in runs {
        let sql = "delete from idempotency_keys where entry between ?1 and ?2";
        forgotten += pen.execute(sql, params![run.start(), run.end()])?;
    }
    Ok(forgotten)
}

/// Deletes what merchants were told.
pub(in crate::store) fn forget_told(pen: &Pen, told: &[(String, i64)]) -> Result<usize, DbError> {
    let sql = "delete from operational_events where merchant_id = ?1 and position = ?2";
    let mut forgotten = 0;
    for (merchant_id, position) in told {
        forgotten += pen.execute(sql, params![merchant_id, position])?;
    }
    Ok(forgotten)
}

/// Deletes replay jobs that have ended.
pub(in crate::store) fn forget_jobs(
    pen: &Pen,
    jobs: &[(String, String)],
) -> Result<usize, DbError> {
    let sql = "
        delete from replay_jobs
        where merchant_id = ?1 and job_id = ?2 and state in ('cancelled', 'finished')";
    let mut forgotten = 0;
    for (merchant_id, job_id) in jobs {
        forgotten += pen.execute(sql, params![merchant_id, job_id])?;
    }
    Ok(forgotten)
}
