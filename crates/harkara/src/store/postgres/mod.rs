//! Postgres: connections that write and read, and how statements run on them; what they say is in
//! `units/` and `views/`.
//!
//! Calls block, as SQLite's do: writers have a thread of their own, and reads run on the runtime's
//! blocking threads. A connection that is lost is opened again when it is next needed. Where the server
//! is is in `server.rs`, which nodes there are in `nodes.rs`, how far a feed may read in `horizon.rs`.

mod horizon;
mod link;
mod nodes;
mod server;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::horizon::{Horizon, LOOK_EVERY, PATIENCE};
use self::link::Link;
pub(super) use self::link::durability;
pub(super) use self::nodes::Membership;
pub(super) use self::server::Server;
use super::error::{DbError, DbErrorKind};
use super::pen::Session;
use super::readers::{Open, Snapshots};
use super::sql::{Datum, Params, See, Sql, params};

/// A connection that writes.
pub(super) struct Writing {
    link: Link,
    begun: bool,
    /// A statement has failed, after which Postgres takes no other until it is taken back.
    spoiled: Cell<bool>,
    changes: Cell<u64>,
    /// Set when nobody knows whether a commit was made.
    in_doubt: Arc<AtomicBool>,
}

impl Writing {
    pub(super) fn new(server: &Arc<Server>, in_doubt: Arc<AtomicBool>) -> Self {
        Self {
            link: Link::new(server),
            in_doubt,
            begun: false,
            spoiled: Cell::new(false),
            changes: Cell::new(0),
        }
    }

    fn noting<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        if result.is_err() {
            self.spoiled.set(true);
        }
        result
    }
}

impl Sql for Writing {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        let changed = self.noting(self.link.execute(sql, params))?;
        self.changes.set(self.changes.get() + changed as u64);
        if sql.starts_with("rollback to") {
            self.spoiled.set(false);
        }
        Ok(changed)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        let rows = self.noting(self.link.query(sql, params))?;
        if !sql.trim_start().starts_with("select") {
            self.changes.set(self.changes.get() + rows.len() as u64);
        }
        link::show(&rows, see)
    }
}

impl Session for Writing {
    fn begin(&mut self) -> Result<(), DbError> {
        self.link.connect()?;
        self.spoiled.set(false);
        self.link.batch("begin")?;
        self.begun = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), DbError> {
        // Postgres would roll back, and call that no error.
        if self.spoiled.get() {
            let cause = "a statement failed and what it left was not undone";
            return Err(DbError::new(DbErrorKind::Busy, cause));
        }
        self.begun = false;
        self.link.batch("commit").map_err(|error| {
            if !self.link.is_lost() {
                return error;
            }
            self.in_doubt.store(true, Ordering::Relaxed);
            DbError::caused(DbErrorKind::Busy, Unknown(error))
        })
    }

    fn roll_back(&mut self) -> Result<(), DbError> {
        if self.begun && !self.link.is_lost() && self.link.batch("rollback").is_err() {
            self.link.lose();
        }
        self.begun = false;
        self.spoiled.set(false);
        Ok(())
    }

    fn in_transaction(&self) -> bool {
        self.begun && !self.link.is_lost()
    }

    fn is_spoiled(&self) -> bool {
        self.spoiled.get()
    }

    fn changes(&self) -> u64 {
        self.changes.get()
    }

    fn insert(&self, sql: &str, key: &str, params: Params<'_>) -> Result<i64, DbError> {
        let sql = format!("{sql} returning {key}");
        let this: &dyn Sql = self;
        let number = this.first(&sql, params, |row| row.get(0))?;
        number.ok_or_else(|| DbError::new(DbErrorKind::Corrupt, "an insert returned no row"))
    }

    fn take_position(&mut self) -> Result<i64, DbError> {
        let sql = "select nextval('event_positions')";
        let this: &dyn Sql = self;
        let position = this.first(sql, params![], |row| row.get(0))?;
        position.ok_or_else(|| DbError::new(DbErrorKind::Corrupt, "a sequence has no next value"))
    }

    /// Others may have taken the next ones meanwhile, so these stay unused.
    fn give_back(&mut self, _position: i64) {}

    fn is_alone(&self) -> bool {
        false
    }

    fn announce(&self, changed: &str) -> Result<(), DbError> {
        let sql = "select 1 as told from pg_notify('harkara_changed', ?1)";
        self.each(sql, params![changed], &mut |_| {
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Whoever writes to them meanwhile is refused after the lock's timeout, and we are if they do so
    /// already. Nobody is to end us for doing nothing: the other store may be slow.
    fn keep_others_out(&self, tables: &[&str]) -> Result<(), DbError> {
        self.execute(
            "set local idle_in_transaction_session_timeout = 0",
            params![],
        )?;
        self.execute("lock table nodes in share mode", params![])?;
        nodes::check_nobody_is_here(self)?;
        if !tables.is_empty() {
            let tables = tables.join(", ");
            self.execute(&format!("lock table {tables} in share mode"), params![])?;
        }
        Ok(())
    }

    fn insert_rows(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Vec<Datum>],
    ) -> Result<(), DbError> {
        self.noting(self.link.copy(table, &columns.join(", "), rows))?;
        self.changes.set(self.changes.get() + rows.len() as u64);
        Ok(())
    }

    fn count_on(&self, table: &str, key: &str) -> Result<(), DbError> {
        let this: &dyn Sql = self;
        let sql = "select pg_get_serial_sequence(?1, ?2)";
        let of_column: Option<Option<String>> =
            this.first(sql, params![table, key], |row| row.get(0))?;
        let positions = (table == "events").then(|| "event_positions".to_owned());
        for sequence in of_column.flatten().into_iter().chain(positions) {
            let sql = format!(
                "select setval(cast(cast(?1 as text) as regclass), coalesce(max({key}), 1),
                    max({key}) is not null)
                from {table}"
            );
            this.first(&sql, params![sequence], |_| Ok(()))?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), DbError> {
        Ok(())
    }

    fn abandon(self: Box<Self>) {}
}

/// A commit whose answer was lost with the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost at the commit, so nobody knows whether it was made: {}", .0.source)]
struct Unknown(DbError);

/// A connection that reads.
struct Reading(Link);

impl Sql for Reading {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.0.execute(sql, params)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        link::show(&self.0.query(sql, params)?, see)
    }
}

impl Snapshots for Reading {
    fn begin(&mut self) -> Result<(), DbError> {
        self.0.connect()?;
        self.0
            .batch("begin isolation level repeatable read read only")
    }

    fn end(&mut self) -> Result<(), DbError> {
        self.0.batch("rollback")
    }
}

/// Readers of the store on a server.
pub(super) fn readers(server: &Arc<Server>) -> Open {
    let server = server.clone();
    Arc::new(move || Ok(Box::new(Reading(Link::new(&server))) as Box<dyn Snapshots>))
}
