//! SQLite: one connection that writes, a few that read, and the settings our promises rest on.
//!
//! Opening, transactions and closing, and how statements run; what they say is in `units/` and
//! `views/`. The committer holds the writing connection, in its pen, and `Store` the readers.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use harkara_core::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags};

use super::batch::flusher::Flush;
use super::error::{DbError, DbErrorKind};
use super::migrate;
use super::pen::Session;
use super::readers::{Open, Snapshots};
use super::sql::{Bind, Column, Datum, Param, Params, See, Sql, Value, Values, params};
use super::transfer;

/// 3.51.3 mended a race between two connections that reset the log.
const OLDEST_SQLITE: i32 = 3_051_003;

/// What an answered write survives.
pub(super) const DURABILITY: &str = "sqlite WAL, flushed before each answer";

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
        ('orders', 'orders_by_age', '200000 20000 2'),
        ('orders', 'orders_by_customer', '200000 20000 400 2 1');
    analyze sqlite_schema;
";

const STATEMENTS_KEPT: usize = 128;

/// The one writing connection, and the numbers that only one writer can count by itself.
pub(super) struct Writing {
    conn: Connection,
    /// The position of the newest event.
    position: i64,
    /// What it was after the last transaction that was made.
    position_before: i64,
    /// Held for as long as the file may be written to.
    _lock: File,
}

impl Writing {
    /// Opens the store of a folder to work with it. The second is the number of this start, which marks
    /// our claims.
    pub(super) fn open(folder: &Path) -> Result<(Self, i64), DbError> {
        let writing = Self::hold(folder)?;
        transfer::check_whole(&writing)?;
        let node = next_node(&writing.conn)?;
        Ok((writing, node))
    }

    /// Opens the store of a folder, which is made if need be, for nobody else to open, and brings its
    /// schema up to date.
    pub(super) fn hold(folder: &Path) -> Result<Self, DbError> {
        assert!(
            rusqlite::version_number() >= OLDEST_SQLITE,
            "SQLite {} can lose its log; link 3.51.3 or later",
            rusqlite::version()
        );
        make(folder)?;
        let lock = lock(folder)?;
        let mut conn = Connection::open(database(folder))?;
        keep_plans(&conn)?;
        conn.execute_batch(WRITER_SETTINGS)?;
        let mode: String = conn.query_row("pragma journal_mode", [], |row| row.get(0))?;
        if mode != "wal" {
            let cause = format!("the file system does not allow a write-ahead log (got {mode})");
            return Err(DbError::down(cause));
        }
        migrate::sqlite(&mut conn)?;
        conn.execute_batch(STATISTICS)?;
        let position = newest_position(&conn)?;
        Ok(Self {
            conn,
            position,
            position_before: position,
            _lock: lock,
        })
    }
}

impl Sql for Writing {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.conn.execute_bound(sql, params)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        self.conn.each_bound(sql, params, see)
    }
}

impl Session for Writing {
    fn begin(&mut self) -> Result<(), DbError> {
        self.execute("begin immediate", params![]).map(drop)
    }

    /// Writes the transaction to the log.
    fn commit(&mut self) -> Result<(), DbError> {
        self.execute("commit", params![])?;
        self.position_before = self.position;
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), DbError> {
        self.position = self.position_before;
        if self.in_transaction() {
            self.execute("rollback", params![]).map_err(|e| DbError {
                kind: DbErrorKind::Down,
                source: e.source,
            })?;
        }
        Ok(())
    }

    fn in_transaction(&self) -> bool {
        !self.conn.is_autocommit()
    }

    /// A statement that failed has left nothing behind.
    fn is_spoiled(&self) -> bool {
        false
    }

    fn changes(&self) -> u64 {
        self.conn.total_changes()
    }

    /// `returning` would do the same by way of a temporary table and a journal of its own.
    fn insert(&self, sql: &str, _key: &str, params: Params<'_>) -> Result<i64, DbError> {
        self.execute(sql, params)?;
        Ok(self.conn.last_insert_rowid())
    }

    fn take_position(&mut self) -> Result<i64, DbError> {
        self.position += 1;
        Ok(self.position)
    }

    fn give_back(&mut self, position: i64) {
        self.position = position - 1;
    }

    fn is_alone(&self) -> bool {
        true
    }

    /// There is nobody else.
    fn announce(&self, _changed: &str) -> Result<(), DbError> {
        Ok(())
    }

    /// The lock on the file does.
    fn keep_others_out(&self, _tables: &[&str]) -> Result<(), DbError> {
        Ok(())
    }

    fn insert_rows(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Vec<Datum>],
    ) -> Result<(), DbError> {
        let values: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let (columns, values) = (columns.join(", "), values.join(", "));
        let sql = format!("insert into {table} ({columns}) values ({values})");
        for row in rows {
            let row: Vec<&dyn Bind> = row.iter().map(|value| value as &dyn Bind).collect();
            self.execute(&sql, &row)?;
        }
        Ok(())
    }

    /// It looks at what is stored.
    fn count_on(&self, _table: &str, _key: &str) -> Result<(), DbError> {
        Ok(())
    }

    /// Empties the log into the file.
    fn close(self: Box<Self>) -> Result<(), DbError> {
        self.conn
            .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        self.conn.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Another flush might report success for pages that an earlier one lost.
    fn abandon(self: Box<Self>) {
        if let Err(error) = self
            .conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        {
            tracing::error!(%error, "the store's log may be checkpointed on closing");
        }
    }
}

/// A connection that can only read.
struct Reading(Connection);

impl Sql for Reading {
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        self.0.execute_bound(sql, params)
    }

    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        self.0.each_bound(sql, params, see)
    }
}

impl Snapshots for Reading {
    fn begin(&mut self) -> Result<(), DbError> {
        self.execute("begin", params![]).map(drop)
    }

    fn end(&mut self) -> Result<(), DbError> {
        self.execute("rollback", params![]).map(drop)
    }
}

/// How statements run on either kind of connection.
trait Bound {
    fn execute_bound(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError>;
    fn each_bound(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError>;
}

impl Bound for Connection {
    fn execute_bound(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, params)?;
        Ok(statement.raw_execute()?)
    }

    fn each_bound(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError> {
        let mut statement = self.prepare_cached(sql)?;
        bind(&mut statement, params)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if see(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn bind(statement: &mut CachedStatement<'_>, params: Params<'_>) -> Result<(), DbError> {
    for (n, param) in (1..).zip(params) {
        let value = match param.bind() {
            Param::Null => ValueRef::Null,
            Param::Int(n) => ValueRef::Integer(n),
            Param::Text(text) => ValueRef::Text(text.as_bytes()),
            Param::Bytes(bytes) => ValueRef::Blob(bytes),
        };
        statement.raw_bind_parameter(n, ToSqlOutput::Borrowed(value))?;
    }
    Ok(())
}

impl Values for rusqlite::Row<'_> {
    fn value(&self, column: Column<'_>) -> Result<Value<'_>, DbError> {
        let value = match column {
            Column::Named(name) => self.get_ref(name)?,
            Column::Numbered(index) => self.get_ref(index)?,
        };
        Ok(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(n) => Value::Int(n),
            ValueRef::Text(text) => Value::Text(
                std::str::from_utf8(text)
                    .map_err(|error| DbError::caused(DbErrorKind::Corrupt, error))?,
            ),
            ValueRef::Blob(bytes) => Value::Bytes(bytes),
            ValueRef::Real(_) => {
                let cause = format!("column {column:?} is a fraction, which no column of ours is");
                return Err(DbError::new(DbErrorKind::Corrupt, cause));
            }
        })
    }
}

/// Readers of the store in a folder.
pub(super) fn readers(folder: &Path) -> Open {
    let folder = folder.to_owned();
    Arc::new(move || Ok(Box::new(Reading(open_reader(&folder)?)) as Box<dyn Snapshots>))
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

/// A new folder is its owner's alone, as a server wants it.
fn make(folder: &Path) -> Result<(), DbError> {
    if !folder.exists() {
        let above = folder.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(above)?;
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    Ok(())
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

/// Each start is a node with a number of its own, and there is one at a time: the claims of earlier ones
/// are free at once.
fn next_node(conn: &Connection) -> Result<i64, DbError> {
    let sql = "
        insert into counters (name, value) values ('node', 1)
        on conflict (name) do update set value = counters.value + 1
        returning value";
    let node = conn.query_row(sql, [], |row| row.get(0))?;
    conn.execute("delete from nodes", [])?;
    conn.execute("insert into nodes (node, seen_at) values (?1, 0)", [node])?;
    Ok(node)
}

fn newest_position(conn: &Connection) -> Result<i64, DbError> {
    let sql = "select coalesce(max(position), 0) from events";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}
