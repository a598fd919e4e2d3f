//! SQLite: one connection that writes, a few that read, and the settings our promises rest on.
//!
//! The hot four live beside this file (`commit`, `claim`, `settle`, `sweep`); everything here is
//! about opening, transactions and closing. The committer holds the [`Pen`], `Store` the readers.

pub(super) mod aggregates;
pub(super) mod claim;
pub(super) mod commit;
pub(super) mod place;
pub(super) mod pull_in;
pub(super) mod readers;
pub(super) mod settle;
pub(super) mod sweep;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension, Params, Row, params};

use super::Caches;
use super::batch::flusher::Flush;
use super::error::{DbError, DbErrorKind};
use super::migrate;

/// 3.51.3 mended a race between two connections that reset the log.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Page size first: it is fixed once the file has content. With `synchronous=normal` a commit is in the
/// log but not on the disk: [`flush`] puts it there, once for all that wait, before anybody is
/// answered. The checkpoint runs inside the writer's commits, every 32 MB of log, and flushes by itself.
const WRITER_SETTINGS: &str = "
    pragma page_size = 4096;
    pragma busy_timeout = 5000;
    pragma journal_mode = wal;
    pragma synchronous = normal;
    pragma wal_autocheckpoint = 8000;
    pragma journal_size_limit = 67108864;
    pragma cache_size = -32768;
    pragma mmap_size = 0;
    pragma temp_store = memory;
";

const READER_SETTINGS: &str = "
    pragma busy_timeout = 5000;
    pragma cache_size = -8192;
    pragma mmap_size = 0;
    pragma temp_store = memory;
";

/// What the query planner is to believe about the sizes of tables and the rows per prefix of a key:
/// always those of a store that has grown. Without them it takes a merchant for a handful of rows
/// and scans all of its deliveries where a partial index would find one.
const STATISTICS: &str = "
    analyze sqlite_schema;
    delete from sqlite_stat1;
    insert into sqlite_stat1 (tbl, idx, stat) values
        ('deliveries', 'deliveries_by_id', '1000000 1'),
        ('deliveries', 'deliveries_due', '100000 1000 500 2'),
        ('deliveries', 'deliveries_open', '100000 4 2 1'),
        ('deliveries', 'deliveries_waiting', '10000 1'),
        ('deliveries', 'deliveries_lost', '10000 100'),
        ('events', 'events_by_id', '1000000 1 1'),
        ('events', 'events_by_subject', '1000000 5 1'),
        ('events', 'events_by_merchant', '1000000 100000'),
        ('subjects', 'subjects_by_key', '200000 20000 1'),
        ('orders', 'orders_by_internal_id', '200000 1'),
        ('orders', 'orders_by_age', '200000 20000 2');
    analyze sqlite_schema;
";

/// The number of a text.
pub(super) const WORD: &str = "select word from words where text = ?1";

/// The number of what events are about.
pub(super) const SUBJECT: &str = "select subject from subjects where merchant = ?1 and key = ?2";

const STATEMENTS_KEPT: usize = 128;

/// Something whose cached copy is out of date once the batch is written.
pub(super) enum Changed {
    Merchant(MerchantId),
    Key(String),
}

/// How a unit that fails is undone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    /// By itself.
    Savepoint,
    /// With all others, which then run again.
    RunAgain,
}

pub(in crate::store) const LAST_SEQUENCE: &str = "
    select coalesce(max(sequence), 0) from events where subject = ?1";

/// What events are about, by its number.
#[derive(Clone, Copy, Debug)]
struct Subject {
    number: i64,
    /// The number of its newest event, as far as this unit knows; 0 when it has none.
    last_sequence: Option<i64>,
}

/// The right to write: the one writing connection, and the numbers that only a writer counts.
pub(super) struct Pen {
    conn: Connection,
    /// This start's number, which marks our claims.
    epoch: i64,
    /// The position of the newest event.
    position: i64,
    /// What it was when the transaction began.
    position_before: i64,
    /// A unit has failed in the middle, and nothing but a rollback of all undoes its half.
    torn: bool,
    /// The numbers of texts that were looked up or stored.
    words: HashMap<String, i64>,
    /// What this unit is about, as far as it is known.
    subject: Option<(i64, String, Subject)>,
    changed: Vec<Changed>,
    caches: Arc<Caches>,
    /// Held for as long as the file may be written to.
    _lock: File,
}

impl Pen {
    /// Opens the store of a folder, makes it one's own, and brings its schema up to date.
    pub(super) fn open(folder: &Path, caches: Arc<Caches>) -> Result<Self, DbError> {
        assert!(
            rusqlite::version_number() >= OLDEST_SQLITE,
            "SQLite {} can lose its log; link 3.51.3 or later",
            rusqlite::version()
        );
        std::fs::create_dir_all(folder)?;
        let lock = lock(folder)?;
        let mut conn = Connection::open(database(folder))?;
        keep_plans(&conn)?;
        conn.execute_batch(WRITER_SETTINGS)?;
        let mode: String = conn.query_row("pragma journal_mode", [], |row| row.get(0))?;
        if mode != "wal" {
            let cause = format!("the file system does not allow a write-ahead log (got {mode})");
            return Err(DbError::down(cause));
        }
        migrate::apply_all(&mut conn)?;
        conn.execute_batch(STATISTICS)?;
        let epoch = next_epoch(&conn)?;
        let position = newest_position(&conn)?;
        Ok(Self {
            conn,
            epoch,
            position,
            position_before: position,
            torn: false,
            words: HashMap::new(),
            subject: None,
            changed: Vec::new(),
            caches,
            _lock: lock,
        })
    }

    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The position that the next event will have.
    fn next_position(&self) -> i64 {
        self.position + 1
    }

    fn take_position(&mut self) -> i64 {
        self.position += 1;
        self.position
    }

    /// The number of a text that comes again and again. A new one is stored with the unit.
    pub(super) fn word(&mut self, text: &str) -> Result<i64, DbError> {
        if let Some(word) = self.words.get(text) {
            return Ok(*word);
        }
        let known = self.find(WORD, [text], |row| row.get(0))?;
        let word = match known {
            Some(word) => word,
            None => self.insert("insert into words (text) values (?1)", [text])?,
        };
        self.words.insert(text.to_owned(), word);
        Ok(word)
    }

    /// What events are about, by its key. An event mostly follows a write of the same subject, so the
    /// last one is remembered for as long as its unit lasts.
    fn subject(&mut self, merchant: i64, key: &str) -> Result<Subject, DbError> {
        if let Some((of, known, subject)) = &self.subject
            && (*of, known.as_str()) == (merchant, key)
        {
            return Ok(*subject);
        }
        let known = self.find(SUBJECT, params![merchant, key], |row| row.get(0))?;
        let subject = match known {
            Some(number) => Subject {
                number,
                last_sequence: None,
            },
            None => {
                let sql = "insert into subjects (merchant, key) values (?1, ?2)";
                Subject {
                    number: self.insert(sql, params![merchant, key])?,
                    last_sequence: Some(0),
                }
            }
        };
        self.subject = Some((merchant, key.to_owned(), subject));
        Ok(subject)
    }

    /// The number that the next event of a subject has.
    fn next_sequence(&mut self, subject: Subject) -> Result<i64, DbError> {
        let last = match subject.last_sequence {
            Some(last) => last,
            None => {
                let last: Option<i64> =
                    self.find(LAST_SEQUENCE, [subject.number], |row| row.get(0))?;
                last.unwrap_or(0)
            }
        };
        if let Some((_, _, known)) = &mut self.subject {
            known.last_sequence = Some(last + 1);
        }
        Ok(last + 1)
    }

    /// Has the cached copy of this forgotten once the batch is written.
    pub(super) fn change(&mut self, changed: Changed) {
        self.changed.push(changed);
    }

    pub(super) fn forget_what_changed(&mut self) {
        for changed in self.changed.drain(..) {
            self.caches.forget(&changed);
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), DbError> {
        self.changed.clear();
        self.torn = false;
        self.position_before = self.position;
        self.execute("begin immediate", [])?;
        Ok(())
    }

    /// Writes the transaction to the log. After an I/O error nobody knows what is in it, so it is never
    /// tried again.
    pub(super) fn commit(&self) -> Result<(), DbError> {
        self.execute("commit", [])?;
        Ok(())
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.conn.is_autocommit()
    }

    pub(super) fn roll_back(&mut self) -> Result<(), DbError> {
        self.position = self.position_before;
        self.words.clear();
        if self.in_transaction() {
            self.execute("rollback", []).map_err(|e| DbError {
                kind: DbErrorKind::Down,
                source: e.source,
            })?;
        }
        Ok(())
    }

    /// Runs one unit: when it fails, it alone leaves nothing behind, or the transaction is torn.
    pub(super) fn unit<T>(
        &mut self,
        undo: Undo,
        work: impl FnOnce(&mut Self) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let (position, changes) = (self.position, self.conn.total_changes());
        self.subject = None;
        if undo == Undo::Savepoint {
            self.execute("savepoint unit", [])?;
        }
        let result = work(self);
        if result.is_err() {
            self.position = position;
            self.words.clear();
        }
        // Otherwise SQLite has given up the whole transaction, savepoint included.
        if self.in_transaction() {
            match undo {
                Undo::RunAgain => {
                    self.torn = result.is_err() && self.conn.total_changes() != changes;
                }
                Undo::Savepoint => {
                    if result.is_err() {
                        self.execute("rollback to unit", [])?;
                    }
                    self.execute("release unit", [])?;
                }
            }
        }
        result
    }

    /// Whether a unit that failed has left something behind in this transaction.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Empties the log into the file and closes it.
    pub(super) fn close(self) -> Result<(), DbError> {
        self.conn
            .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        self.conn.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Lets go of the file without another flush, which might report success for pages that an
    /// earlier one lost.
    pub(super) fn abandon(self) {
        if let Err(error) = self
            .conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        {
            tracing::error!(%error, "the store's log may be checkpointed on closing");
        }
    }

    /// Runs a statement and counts the rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, DbError> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// The first row that a query finds.
    pub(super) fn find<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, DbError> {
        Ok(self.prepare(sql)?.query_row(params, read).optional()?)
    }

    /// Inserts a row whose key is a number, and returns that. `returning` would do the same by way of a
    /// temporary table and a journal of its own.
    fn insert(&self, sql: &str, params: impl Params) -> Result<i64, DbError> {
        self.execute(sql, params)?;
        Ok(self.conn.last_insert_rowid())
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, DbError> {
        Ok(self.conn.prepare_cached(sql)?)
    }
}

/// A connection that can only read, for the pool.
fn open_reader(folder: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database(folder), flags)?;
    keep_plans(&conn)?;
    conn.execute_batch(READER_SETTINGS)?;
    Ok(conn)
}

/// Statements are planned once and kept. Unless told to keep its plans stable, SQLite looks at what
/// is bound to them and plans anew at each change.
fn keep_plans(conn: &Connection) -> Result<(), DbError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// The file that holds everything.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("harkara.db")
}

fn log(folder: &Path) -> PathBuf {
    database(folder).with_extension("db-wal")
}

/// What puts on the disk all that a pen has committed, for as long as the pen is there. The log is one
/// file, so whatever was committed is there with all that came before it.
pub(super) fn flush(folder: &Path) -> Result<Flush, DbError> {
    let log = File::options().write(true).open(log(folder))?;
    Ok(Arc::new(move || log.sync_data()))
}

/// When the store was last written to, as the file system knows it.
pub(super) fn written_at(folder: &Path) -> Option<Timestamp> {
    let modified = [database(folder), log(folder)]
        .into_iter()
        .filter_map(|path| {
            let modified = std::fs::metadata(path).ok()?.modified().ok()?;
            modified.duration_since(UNIX_EPOCH).ok()
        });
    Some(Timestamp::default().plus(modified.max()?))
}

/// Two writers on one file would each believe that the other's claims are dead.
fn lock(folder: &Path) -> Result<File, DbError> {
    let path = folder.join("harkara.lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DbError::down(format!(
            "another process serves {}; stop it, or choose another data folder",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Each start counts one further; claims of earlier ones are free at once.
fn next_epoch(conn: &Connection) -> Result<i64, DbError> {
    let sql = "
        insert into counters (name, value) values ('epoch', 1)
        on conflict (name) do update set value = counters.value + 1
        returning value";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

fn newest_position(conn: &Connection) -> Result<i64, DbError> {
    let sql = "select coalesce(max(position), 0) from events";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}
