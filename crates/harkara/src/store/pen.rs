//! The right to write, as a unit holds it: statements within the transaction that is open, and what
//! a writer remembers between them.
//!
//! What a unit does is in `units/`; how transactions begin and end is the committer's business
//! (`batch.rs`), and how the engine carries them out that of its [`Session`].

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use harkara_core::id::MerchantId;

use super::Caches;
use super::error::DbError;
use super::sql::{Bind, Datum, Many, Params, Row, See, Sql, params};

/// A connection that can write.
pub(super) trait Session: Sql + Send {
    fn begin(&mut self) -> Result<(), DbError>;

    /// Makes the transaction true, as far as the engine does so by itself. After an I/O error nobody
    /// knows whether it is, so it is never tried again.
    fn commit(&mut self) -> Result<(), DbError>;

    /// Undoes the transaction; nothing to do when there is none. An error means that the session is
    /// of no more use.
    fn roll_back(&mut self) -> Result<(), DbError>;

    /// Whether the transaction can still be ended, or taken back to a savepoint, by us.
    fn in_transaction(&self) -> bool;

    /// Whether the engine refuses to go on with the transaction after a statement that failed.
    fn is_spoiled(&self) -> bool;

    /// Grows with every row that a statement changes.
    fn changes(&self) -> u64;

    /// Inserts a row whose `key` is a number that the engine gives it, and returns that.
    fn insert(&self, sql: &str, key: &str, params: Params<'_>) -> Result<i64, DbError>;

    /// The position of the next event.
    fn take_position(&mut self) -> Result<i64, DbError>;

    /// The positions from this one on were not used, and may be given out again.
    fn give_back(&mut self, position: i64);

    /// Whether nobody else writes while our transaction is open.
    fn is_alone(&self) -> bool;

    /// Whether each statement is a way to a server and back, so that what units ask and write is better
    /// carried out for many at once, in rounds.
    fn is_far(&self) -> bool {
        false
    }

    /// Begins a round, which may put off what it writes or not.
    fn begin_round(&mut self, _puts_off: bool) {}

    /// Asks queries for many rows of parameters, one query after another; whoever asks one of them again
    /// in this round is shown what was answered. After them, takes so many positions for its events.
    fn ask_ahead(&mut self, _asks: Vec<Many>, _positions: usize) -> Result<(), DbError> {
        Ok(())
    }

    /// Runs the same for many, at once.
    fn execute_many(&self, (sql, rows): Many) -> Result<(), DbError> {
        for row in rows {
            let row: Vec<&dyn Bind> = row.iter().map(|datum| datum as _).collect();
            self.execute(&sql, &row)?;
        }
        Ok(())
    }

    /// Runs a statement, which is to change one row, at once or else by the end of the round and before
    /// anything is asked; one that does not fails the round then. No two rows of a round may be the same.
    fn execute_soon(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.execute(sql, params)
    }

    /// Runs a statement about what nothing of the round that is yet to be written is about.
    fn execute_beside(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.execute(sql, params)
    }

    /// Writes what the round has left, and forgets what it has asked.
    fn end_round(&mut self) -> Result<(), DbError> {
        Ok(())
    }

    /// Whether the transaction was given up because it and another stood in each other's way.
    fn met_another(&self) -> bool {
        false
    }

    /// Tells other nodes, once the transaction is true, that something has changed of which they may
    /// have copies.
    fn announce(&self, changed: &str) -> Result<(), DbError>;

    /// Keeps others from writing to these tables, and nodes from joining, until the transaction ends.
    /// Refused while there is a node that is alive.
    fn keep_others_out(&self, tables: &[&str]) -> Result<(), DbError>;

    /// Inserts rows as they are, in the quickest way that the engine has.
    fn insert_rows(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Vec<Datum>],
    ) -> Result<(), DbError>;

    /// Has the engine, if it numbers the rows of a table by itself, go on after those that came with
    /// their numbers.
    fn count_on(&self, table: &str, key: &str) -> Result<(), DbError>;

    /// Ends the session in good order.
    fn close(self: Box<Self>) -> Result<(), DbError>;

    /// Lets go without writing anything more.
    fn abandon(self: Box<Self>);
}

/// The number of a text.
pub(super) const WORD: &str = "select word from words where text = ?1";

/// The number of what events are about.
pub(super) const SUBJECT: (&str, &str) = (
    "select subject from subjects where merchant = ?1 and key = ?2",
    "for update",
);

pub(super) const INSERT_SUBJECT: &str = "insert into subjects (merchant, key) values (?1, ?2)";

/// The number of a subject's newest event, whether or not that is kept.
pub(in crate::store) const LAST_SEQUENCE: &str = "
    select coalesce(max(sequence), 0) from (
        select max(sequence) as sequence from events where subject = ?1
        union all
        select sequence from forgotten_subjects where subject = ?1) as known";

/// Something whose cached copy is out of date once the batch is written.
pub(super) enum Changed {
    Merchant(MerchantId),
    Key(String),
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Merchant(merchant_id) => write!(f, "merchant {merchant_id}"),
            Self::Key(key_id) => write!(f, "key {key_id}"),
        }
    }
}

impl Changed {
    /// What a node has announced, ourselves among them: a commit whose answer is lost is heard of in no
    /// other way. `None` for what this program does not know.
    pub(super) fn announced(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("merchant", id) => Some(Self::Merchant(MerchantId::new(id))),
            ("key", id) => Some(Self::Key(id.to_owned())),
            _ => None,
        }
    }
}

/// How a unit that fails is undone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// By itself.
    Savepoint,
    /// With all others, which then run again.
    RunAgain,
}

/// What events are about, by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) number: i64,
    /// The number of its newest event, as far as this unit knows; 0 when it has none.
    last_sequence: Option<i64>,
}

/// The right to write: a session, and what only a writer knows.
pub(super) struct Pen {
    session: Box<dyn Session>,
    /// The node that our claims are marked with. It changes when we have been taken for dead.
    node: Arc<AtomicI64>,
    /// The position of the event that comes next, if somebody has asked for it already.
    next_position: Option<i64>,
    /// The first position that the unit under way has asked for.
    first_position: Option<i64>,
    /// A unit has failed in the middle, and nothing but a rollback of all undoes its half.
    torn: bool,
    /// The numbers of texts that were looked up or stored.
    words: HashMap<String, i64>,
    /// What this unit is about, as far as it is known.
    subject: Option<(i64, String, Subject)>,
    changed: Vec<Changed>,
    caches: Arc<Caches>,
}

impl Pen {
    pub(super) fn new(
        session: Box<dyn Session>,
        node: Arc<AtomicI64>,
        caches: Arc<Caches>,
    ) -> Self {
        Self {
            session,
            node,
            next_position: None,
            first_position: None,
            torn: false,
            words: HashMap::new(),
            subject: None,
            changed: Vec::new(),
            caches,
        }
    }

    pub(super) fn node(&self) -> i64 {
        self.node.load(Ordering::Relaxed)
    }

    /// The position that the next event will have.
    pub(super) fn next_position(&mut self) -> Result<i64, DbError> {
        let next = match self.next_position {
            Some(next) => next,
            None => self.session.take_position()?,
        };
        self.next_position = Some(next);
        self.first_position.get_or_insert(next);
        Ok(next)
    }

    pub(super) fn take_position(&mut self) -> Result<i64, DbError> {
        let position = self.next_position()?;
        self.next_position = None;
        Ok(position)
    }

    /// The number of a text that comes again and again. A new one is stored with the unit.
    pub(super) fn word(&mut self, text: &str) -> Result<i64, DbError> {
        if let Some(word) = self.words.get(text) {
            return Ok(*word);
        }
        let known = self.find(WORD, params![text], |row| row.get(0))?;
        let word = match known {
            Some(word) => word,
            None => {
                let sql = "insert into words (text) values (?1)";
                self.session.insert(sql, "word", params![text])?
            }
        };
        self.words.insert(text.to_owned(), word);
        Ok(word)
    }

    /// What events are about, by its key. An event mostly follows a write of the same subject, so the
    /// last one is remembered for as long as its unit lasts.
    pub(super) fn subject(&mut self, merchant: i64, key: &str) -> Result<Subject, DbError> {
        if let Some((of, known, subject)) = &self.subject
            && (*of, known.as_str()) == (merchant, key)
        {
            return Ok(*subject);
        }
        let mut known = None;
        self.each_locking(SUBJECT, params![merchant, key], &mut |row| {
            known = Some(row.get(0)?);
            Ok(ControlFlow::Break(()))
        })?;
        let subject = match known {
            Some(number) => Subject {
                number,
                last_sequence: None,
            },
            None => {
                let key = params![merchant, key];
                Subject {
                    number: self.session.insert(INSERT_SUBJECT, "subject", key)?,
                    last_sequence: Some(0),
                }
            }
        };
        self.subject = Some((merchant, key.to_owned(), subject));
        Ok(subject)
    }

    /// Waits until nobody else is writing about a subject, and keeps it so.
    pub(super) fn lock_subject(&mut self, merchant_id: &str, key: &str) -> Result<(), DbError> {
        if self.session.is_alone() {
            return Ok(());
        }
        let merchant = self.word(merchant_id)?;
        self.lock(&locking(SUBJECT), params![merchant, key])
    }

    /// The number that the next event of a subject has.
    pub(super) fn next_sequence(&mut self, subject: Subject) -> Result<i64, DbError> {
        let last = match subject.last_sequence {
            Some(last) => last,
            None => {
                let last: Option<i64> =
                    self.find(LAST_SEQUENCE, params![subject.number], |row| row.get(0))?;
                last.unwrap_or(0)
            }
        };
        if let Some((_, _, known)) = &mut self.subject {
            known.last_sequence = Some(last + 1);
        }
        Ok(last + 1)
    }

    /// Has all copies of this forgotten once the batch is written.
    pub(super) fn change(&mut self, changed: Changed) -> Result<(), DbError> {
        self.session.announce(&changed.to_string())?;
        self.changed.push(changed);
        Ok(())
    }

    pub(super) fn forget_what_changed(&mut self) {
        for changed in self.changed.drain(..) {
            self.caches.forget(&changed);
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), DbError> {
        self.changed.clear();
        self.torn = false;
        self.next_position = None;
        self.session.begin()
    }

    pub(super) fn commit(&mut self) -> Result<(), DbError> {
        self.session.commit()
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.session.in_transaction()
    }

    pub(super) fn roll_back(&mut self) -> Result<(), DbError> {
        self.next_position = None;
        self.words.clear();
        self.session.roll_back()
    }

    /// Runs one unit: when it fails, it alone leaves nothing behind, or the transaction is torn.
    pub(super) fn unit<T>(
        &mut self,
        undo: Undo,
        work: impl FnOnce(&mut Self) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let changes = self.session.changes();
        self.subject = None;
        self.next_position = None;
        self.first_position = None;
        if undo == Undo::Savepoint {
            self.execute("savepoint unit", params![])?;
        }
        let result = work(self);
        if result.is_err() {
            self.words.clear();
            self.next_position = None;
            if let Some(first) = self.first_position {
                self.session.give_back(first);
            }
        }
        // Otherwise the engine has given up the whole transaction, savepoint included.
        if self.in_transaction() {
            match undo {
                Undo::RunAgain => {
                    let left = result.is_err() && self.session.changes() != changes;
                    self.torn = left || self.session.is_spoiled();
                }
                Undo::Savepoint => {
                    let ended = match result {
                        Ok(_) => Ok(0),
                        Err(_) => self.execute("rollback to unit", params![]),
                    };
                    let ended = ended.and_then(|_| self.execute("release unit", params![]));
                    if let Err(error) = ended {
                        // What it has written is there whatever its caller is told.
                        self.torn = true;
                        return Err(error);
                    }
                }
            }
        }
        result
    }

    /// Whether a statement has failed in a way that must be undone before the next.
    pub(super) fn is_spoiled(&self) -> bool {
        self.session.is_spoiled()
    }

    /// Whether a unit that failed has left something behind in this transaction.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Ends the session in good order.
    pub(super) fn close(self) -> Result<(), DbError> {
        self.session.close()
    }

    /// Lets go without writing anything more.
    pub(super) fn abandon(self) {
        self.session.abandon();
    }

    /// The connection, for what only reads.
    pub(super) fn sql(&self) -> &dyn Sql {
        let session: &dyn Sql = &*self.session;
        session
    }

    /// Runs a statement and counts the rows it changed.
    pub(super) fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.session.execute(sql, params)
    }

    /// Runs a statement that changes one row; not at once where that is better done for many. If it
    /// changes none then, its batch is run again with each statement at once.
    pub(super) fn execute_soon(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.session.execute_soon(sql, params)
    }

    /// Runs a statement about a table that nothing is written to soon.
    pub(super) fn execute_beside(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.session.execute_beside(sql, params)
    }

    /// Whether units are better run in rounds.
    pub(super) fn is_far(&self) -> bool {
        self.session.is_far()
    }

    /// Begins a round: units of which no two are about the same subject, unless nothing but locks is
    /// asked for ahead and nothing put off.
    pub(super) fn begin_round(&mut self, puts_off: bool) {
        self.session.begin_round(puts_off);
    }

    /// What fails here leaves a half behind, for all that was put off was answered for.
    pub(super) fn end_round(&mut self) -> Result<(), DbError> {
        let ended = self.session.end_round();
        self.torn |= ended.is_err();
        ended
    }

    /// Whether the transaction was given up for another's, and may succeed if it is run again.
    pub(super) fn met_another(&self) -> bool {
        self.session.met_another()
    }

    /// Asks queries for many rows of parameters, one query after another, and then for the positions of
    /// so many events.
    pub(super) fn ask_ahead(&mut self, asks: Vec<Many>, positions: usize) -> Result<(), DbError> {
        self.session.ask_ahead(asks, positions)
    }

    pub(super) fn execute_many(&self, write: Many) -> Result<(), DbError> {
        self.session.execute_many(write)
    }

    /// The first row that a query finds.
    pub(super) fn find<T>(
        &self,
        sql: &str,
        params: Params<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        self.sql().first(sql, params, read)
    }

    /// Shows the rows that a query finds, none of which anybody else changes before our transaction
    /// ends: `lock` says so where there is anybody else.
    pub(super) fn each_locking(
        &self,
        sql: (&str, &str),
        params: Params<'_>,
        see: See<'_>,
    ) -> Result<(), DbError> {
        match self.session.is_alone() {
            true => self.session.each(sql.0, params, see),
            false => self.session.each(&locking(sql), params, see),
        }
    }

    /// All rows that a query finds, locked.
    pub(super) fn rows_locking<T>(
        &self,
        sql: (&str, &str),
        params: Params<'_>,
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let mut rows = Vec::new();
        self.each_locking(sql, params, &mut |row| {
            rows.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// Waits until nobody else is changing the rows that a query finds, and keeps it so. What is read
    /// after this is newer than what they changed.
    pub(super) fn lock(&self, sql: &str, params: Params<'_>) -> Result<(), DbError> {
        match self.session.is_alone() {
            true => Ok(()),
            false => self
                .session
                .each(sql, params, &mut |_| Ok(ControlFlow::Continue(()))),
        }
    }
}

/// A query whose rows are locked.
pub(super) fn locking((sql, lock): (&str, &str)) -> String {
    format!("{sql} {lock}")
}
