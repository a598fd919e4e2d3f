//! Postgres: connections that write and read, and how statements run on them; what they say is in
//! `units/` and `views/`.
//!
//! Calls block, as SQLite's do: writers have a thread of their own, and reads run on the runtime's
//! blocking threads. A connection that is lost is opened again when it is next needed. Where the server
//! is is in `server.rs`, which nodes there are in `nodes.rs`, how far our clock is from the server's in
//! `skew.rs`, how far a feed may read in `horizon.rs`.

mod horizon;
mod link;
mod many;
mod nodes;
mod server;
mod skew;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::horizon::{Horizon, LOOK_EVERY, PATIENCE};
use self::link::Link;
pub(super) use self::link::durability;
use self::many::Round;
pub(super) use self::nodes::Membership;
pub(super) use self::server::Server;
use super::error::{DbError, DbErrorKind};
use super::pen::Session;
use super::readers::{Open, Snapshots};
use super::sql::{Datum, Many, Params, See, Sql, params};

/// So many positions of events that are to come.
const POSITIONS: &str = "select nextval('event_positions') from generate_series(1, ?1)";

/// A connection that writes.
pub(super) struct Writing {
    link: Link,
    begun: bool,
    /// A statement has failed, after which Postgres takes no other until it is taken back.
    spoiled: Cell<bool>,
    /// The server has given up the transaction, for it and another's stood in each other's way.
    met_another: Cell<bool>,
    changes: Cell<u64>,
    /// The round that is under way.
    round: RefCell<Option<Round>>,
    /// Positions that the round has and no event yet.
    positions: VecDeque<i64>,
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
            met_another: Cell::new(false),
            changes: Cell::new(0),
            round: RefCell::default(),
            positions: VecDeque::new(),
        }
    }

    fn noting<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        if let Err(error) = &result {
            self.spoiled.set(true);
            self.met_another.set(link::met_another(error));
        }
        result
    }

    /// Makes the writes that a round has gathered so far, for what comes next may be about them.
    fn catch_up(&self) -> Result<(), DbError> {
        let mut round = self.round.borrow_mut();
        match round.as_mut().filter(|round| !round.is_caught_up()) {
            Some(round) => self.noting(round.catch_up(&self.link)),
            None => Ok(()),
        }
    }

    fn count(&self, changed: usize) {
        self.changes.set(self.changes.get() + changed as u64);
    }
}

impl Sql for Writing {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.catch_up()?;
        let changed = self.noting(self.link.execute(sql, params))?;
        self.count(changed);
        if sql.starts_with("rollback to") {
            self.spoiled.set(false);
        }
        Ok(changed)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        let round = self.round.borrow();
        let known = round.as_ref().and_then(|round| round.answer(sql, params));
        drop(round);
        if let Some(rows) = known {
            return link::show(&rows, see);
        }
        self.catch_up()?;
        let rows = self.noting(self.link.query(sql, params))?;
        if !sql.trim_start().starts_with("select") {
            self.count(rows.len());
        }
        link::show(&rows, see)
    }
}

impl Session for Writing {
    fn begin(&mut self) -> Result<(), DbError> {
        self.link.connect()?;
        self.spoiled.set(false);
        self.met_another.set(false);
        self.link.begin();
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
        self.link.end("commit").map_err(|error| {
            if !self.link.is_lost() {
                return error;
            }
            self.in_doubt.store(true, Ordering::Relaxed);
            DbError::caused(DbErrorKind::Busy, Unknown(error))
        })
    }

    fn roll_back(&mut self) -> Result<(), DbError> {
        if self.begun && !self.link.is_lost() && self.link.end("rollback").is_err() {
            self.link.lose();
        }
        self.begun = false;
        self.spoiled.set(false);
        *self.round.borrow_mut() = None;
        self.positions.clear();
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }

    fn begin_round(&mut self, puts_off: bool) {
        *self.round.borrow_mut() = Some(Round::new(puts_off));
    }

    fn ask_ahead(&mut self, mut asks: Vec<Many>, positions: usize) -> Result<(), DbError> {
        let count = i64::try_from(positions).unwrap_or(i64::MAX);
        if count > 0 {
            asks.push((POSITIONS.to_owned(), vec![vec![Datum::Int(count)]]));
        }
        if let Some(round) = self.round.borrow_mut().as_mut() {
            self.noting(round.ask(&self.link, asks))?;
        }
        if count > 0 {
            let this: &dyn Sql = self;
            let positions: Vec<i64> = this.rows(POSITIONS, params![count], |row| row.get(0))?;
            self.positions.extend(positions);
        }
        Ok(())
    }

    fn execute_many(&self, write: Many) -> Result<(), DbError> {
        self.catch_up()?;
        for changed in self.noting(self.link.execute_all(&[write]))? {
            self.count(changed);
        }
        Ok(())
    }

    fn execute_soon(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        if let Some(round) = self.round.borrow_mut().as_mut()
            && round.puts_off
        {
            round.gather(sql, params);
            self.count(1);
            return Ok(1);
        }
        self.execute(sql, params)
    }

    fn execute_beside(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        let changed = self.noting(self.link.execute(sql, params))?;
        self.count(changed);
        Ok(changed)
    }

    /// Positions that are left over are older than what others may have written about the same since.
    fn end_round(&mut self) -> Result<(), DbError> {
        self.positions.clear();
        self.catch_up()?;
        *self.round.borrow_mut() = None;
        Ok(())
    }

    fn met_another(&self) -> bool {
        self.met_another.get()
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
        if let Some(position) = self.positions.pop_front() {
            return Ok(position);
        }
        let this: &dyn Sql = self;
        let position = this.first(POSITIONS, params![1_i64], |row| row.get(0))?;
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
        self.count(rows.len());
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
