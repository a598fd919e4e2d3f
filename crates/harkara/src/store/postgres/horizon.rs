//! How far the feed may be read: up to the last position before which nothing can appear any more.
//!
//! Transactions take their positions from a sequence and become visible in another order, so a reader
//! that went by "larger than the last one I saw" would pass over some. But whoever takes a position
//! holds a lock on the sequence until its transaction is visible or undone. So of all positions that
//! were given out by one moment, none is open once those who held that lock then do so no more.

use std::time::Duration;

use crate::store::error::DbError;
use crate::store::sql::{Sql, params};

/// For how long a read of the feed waits for those who are writing. They need a few milliseconds.
pub(in crate::store) const PATIENCE: Duration = Duration::from_millis(500);

/// How often it looks meanwhile.
pub(in crate::store) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Positions that had been given out at one moment, and who may not be done with theirs.
#[derive(Clone, Debug)]
pub(in crate::store) struct Horizon {
    /// The last of the positions.
    pub(in crate::store) last: i64,
    /// The transactions, by their virtual numbers.
    open: Vec<String>,
}

impl Horizon {
    /// That of this moment. Positions first: who takes one after that is of no interest.
    pub(in crate::store) fn of(conn: &dyn Sql) -> Result<Self, DbError> {
        let sql = "
            select case when is_called then last_value else 0 end as last from event_positions";
        let last = conn.first(sql, params![], |row| row.get("last"))?;
        Ok(Self {
            last: last.unwrap_or(0),
            open: open(conn)?,
        })
    }

    /// Whether all of its positions are decided. What is read after that sees all that were kept.
    pub(in crate::store) fn is_reached(&self) -> bool {
        self.open.is_empty()
    }

    /// Looks once more.
    pub(in crate::store) fn look(self, conn: &dyn Sql) -> Result<Self, DbError> {
        let still = open(conn)?;
        let open = self.open.into_iter().filter(|one| still.contains(one));
        Ok(Self {
            open: open.collect(),
            ..self
        })
    }
}

/// Who holds a position. The table of locks is no part of any snapshot, but of now.
fn open(conn: &dyn Sql) -> Result<Vec<String>, DbError> {
    let sql = "
        select virtualtransaction from pg_locks
        where locktype = 'relation' and relation = cast('event_positions' as regclass)
          and database = (select oid from pg_database where datname = current_database())
          and mode = 'RowExclusiveLock'";
    conn.rows(sql, params![], |row| row.get(0))
}
