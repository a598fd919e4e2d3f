//! What is deleted when it is old: brought in order, a bounded number at a time, and deleted in steps.
//!
//! Readers look for what may go, so that the writer's turn is no longer than the deleting itself. What
//! may go is the core's rule; how it goes is in `units/forget.rs`. The keeper (`retention.rs` of the
//! body) calls this.

use harkara_core::retention::{Bounds, Old, Retention};
use harkara_core::time::Timestamp;

use super::Store;
use super::error::DbError;
use super::sql::{Row, params};
use super::units::forget;

pub use super::units::forget::Run;

/// What is deleted by ranges of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Bodies,
    Events,
    Keys,
}

/// A body stays while anything unsettled would send it.
pub(in crate::store) const OLD_BODIES: &str = "
    select b.position as number, exists (select 1 from deliveries d
        where d.delivery between b.position * 65536 and b.position * 65536 + 65535
          and d.state in ('pending', 'waiting')) as is_needed
    from event_bodies b
    where b.position > ?1 and b.position <= ?2 order by b.position limit ?3";

/// An event stays while it has its body. The newest of all stays in any case, for its position is where
/// the next goes on.
pub(in crate::store) const OLD_EVENTS: &str = "
    select e.position as number,
        exists (select 1 from event_bodies b where b.position = e.position)
            or e.position = (select max(position) from events) as is_needed
    from events e
    where e.position > ?1 and e.position <= ?2 order by e.position limit ?3";

/// Nothing needs an answer that nobody has asked for again. The newest stays in any case, for its number
/// is where the next goes on.
pub(in crate::store) const OLD_KEYS: &str = "
    select entry as number, entry = (select max(entry) from idempotency_keys) as is_needed
    from idempotency_keys
    where entry > ?1 and entry <= ?2 order by entry limit ?3";

/// Not the newest that a merchant was told: its position is where the next goes on.
const OLD_TOLD: &str = "
    select o.merchant_id, o.position from operational_events o
    where o.created_at < ?1 and exists (select 1 from operational_events n
        where n.merchant_id = o.merchant_id and n.position > o.position)
    limit ?2";

const OLD_JOBS: &str = "
    select merchant_id, job_id from replay_jobs
    where state in ('cancelled', 'finished') and changed_at < ?1 limit ?2";

impl Store {
    /// Whether we are the node that deletes what is old: the one that has been here for longest. Two
    /// may think so for a moment, which does no harm.
    pub async fn is_eldest(&self) -> Result<bool, DbError> {
        let sql = "select min(node) as eldest from nodes";
        let eldest = self
            .read(move |conn| conn.first(sql, params![], |row| row.get("eldest")))
            .await?;
        Ok(eldest.flatten() == Some(self.node()))
    }

    /// Notes what is the newest by now, if an hour has passed, and says what is old.
    pub async fn mark(&self, retention: Retention, now: Timestamp) -> Result<Bounds, DbError> {
        self.write(move |pen| forget::mark(pen, retention, now))
            .await
    }

    /// Rows after a number and up to another, in order, with whether they have to stay all the same.
    pub async fn old(
        &self,
        kept: Kept,
        (after, last): (i64, i64),
        limit: usize,
    ) -> Result<Vec<Old>, DbError> {
        let sql = match kept {
            Kept::Bodies => OLD_BODIES,
            Kept::Events => OLD_EVENTS,
            Kept::Keys => OLD_KEYS,
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.shared
            .readers
            .read_long(move |conn| {
                conn.rows(sql, params![after, last, limit], |row| {
                    Ok(Old {
                        number: row.get("number")?,
                        is_needed: row.get("is_needed")?,
                    })
                })
            })
            .await
    }

    /// Deletes the rows with these numbers and says how many those were. A body that has become needed
    /// since it was looked at stays.
    pub async fn forget(&self, kept: Kept, runs: Vec<Run>) -> Result<usize, DbError> {
        self.write(move |pen| match kept {
            Kept::Bodies => forget::drop_bodies(pen, &runs),
            Kept::Events => forget::forget_events(pen, &runs),
            Kept::Keys => forget::forget_keys(pen, &runs),
        })
        .await
    }

    /// Deletes some of what merchants were told before then, and says how many those were. Looks at all
    /// of it, which is little.
    pub async fn forget_told(&self, before: Timestamp, limit: usize) -> Result<usize, DbError> {
        let told = self.old_keys(OLD_TOLD, (before, limit), |row| {
            Ok((row.get("merchant_id")?, row.get("position")?))
        });
        let told: Vec<(String, i64)> = told.await?;
        match told.is_empty() {
            true => Ok(0),
            false => self.write(move |pen| forget::forget_told(pen, &told)).await,
        }
    }

    /// The same of replay jobs that had ended by then.
    pub async fn forget_jobs(&self, before: Timestamp, limit: usize) -> Result<usize, DbError> {
        let jobs = self.old_keys(OLD_JOBS, (before, limit), |row| {
            Ok((row.get("merchant_id")?, row.get("job_id")?))
        });
        let jobs: Vec<(String, String)> = jobs.await?;
        match jobs.is_empty() {
            true => Ok(0),
            false => self.write(move |pen| forget::forget_jobs(pen, &jobs)).await,
        }
    }

    async fn old_keys<K: Send + 'static>(
        &self,
        sql: &'static str,
        (before, limit): (Timestamp, usize),
        read: impl FnMut(&Row<'_>) -> Result<K, DbError> + Send + 'static,
    ) -> Result<Vec<K>, DbError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.shared
            .readers
            .read_long(move |conn| conn.rows(sql, params![before.as_micros(), limit], read))
            .await
    }
}
