//! A whole store copied into another one, row by row as it is: from a file to Postgres, or back.
//!
//! Here is the list of all tables that a store consists of, and how they are copied and compared. What
//! rows mean is not known here, so every number and id stays what it was. Nobody else may write to
//! either store meanwhile. `Store` calls it for `harkara move`, and asks it at each start whether the
//! store is whole.
//!
//! Tables are copied in the order of their keys, so what is there tells by itself where to go on: a
//! move that was killed is started again. Until both stores are found equal, the target has a fact
//! that says which source it is a copy of, and cannot be opened.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use harkara_core::id::{digest, hex};

use super::error::DbError;
use super::migrate;
use super::pen::Session;
use super::postgres::{self, Server};
use super::sql::{Bind, Datum, Sql, params};
use super::sqlite;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// In a file in this folder.
    Folder(PathBuf),
    /// In Postgres, by its URL.
    Postgres(String),
}

/// What a table was found to hold on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    pub table: &'static str,
    pub source: Sum,
    pub target: Sum,
}

impl Compared {
    pub fn is_equal(&self) -> bool {
        self.source == self.target
    }
}

/// All rows of a table in few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub rows: u64,
    /// SHA-256 over all values of all rows in the order of their keys, in hexadecimal digits.
    pub hash: String,
}

/// A table, as far as copying it needs to know.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns of its primary key.
    pub(super) key: &'static [&'static str],
    /// All others.
    pub(super) others: &'static [&'static str],
}

/// Everything that is copied: the store but for `nodes`, which are who was there, and the migrations'
/// own ledger, which the target has from its own. A test compares it with the schema.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "counters",
        key: &["name"],
        others: &["value"],
    },
    Table {
        name: "facts",
        key: &["name"],
        others: &["value"],
    },
    Table {
        name: "dictionaries",
        key: &["version"],
        others: &["bytes"],
    },
    Table {
        name: "words",
        key: &["word"],
        others: &["text"],
    },
    Table {
        name: "merchants",
        key: &["merchant_id"],
        others: &["doc", "version", "created_at"],
    },
    Table {
        name: "api_keys",
        key: &["merchant_id", "key_id"],
        others: &["hash", "doc", "created_at", "revoked_at"],
    },
    Table {
        name: "endpoints",
        key: &["endpoint"],
        others: &[
            "merchant_id",
            "endpoint_id",
            "doc",
            "version",
            "state",
            "state_reason",
            "state_at",
            "rate_per_second",
            "health",
            "breaker_open",
            "created_at",
        ],
    },
    Table {
        name: "operational_events",
        key: &["merchant_id", "position"],
        others: &["endpoint_id", "kind", "sentence", "created_at"],
    },
    Table {
        name: "subjects",
        key: &["subject"],
        others: &["merchant", "key"],
    },
    Table {
        name: "orders",
        key: &["subject"],
        others: &[
            "merchant",
            "order_id",
            "internal_id",
            "doc",
            "position",
            "version",
            "origin",
            "status",
            "amount_minor",
            "currency",
            "customer_id",
            "created_at",
            "updated_at",
        ],
    },
    Table {
        name: "order_refs",
        key: &["merchant", "kind", "value"],
        others: &["subject"],
    },
    Table {
        name: "mandates",
        key: &["merchant_id", "mandate_id"],
        others: &[
            "doc",
            "position",
            "version",
            "origin",
            "status",
            "customer_id",
            "order_id",
            "created_at",
        ],
    },
    Table {
        name: "notifications",
        key: &["merchant_id", "object_reference_id"],
        others: &[
            "doc",
            "position",
            "version",
            "origin",
            "status",
            "mandate_id",
            "created_at",
        ],
    },
    Table {
        name: "events",
        key: &["position"],
        others: &[
            "merchant",
            "event_id",
            "name",
            "subject",
            "sequence",
            "transition",
            "created_at",
            "request_hash",
        ],
    },
    Table {
        name: "event_bodies",
        key: &["position"],
        others: &["body"],
    },
    Table {
        name: "deliveries",
        key: &["delivery"],
        others: &[
            "delivery_id",
            "endpoint",
            "subject",
            "sequence",
            "kind",
            "order_mode",
            "url_override",
            "state",
            "reason",
            "waiting_on",
            "overtaking",
            "attempts",
            "retried",
            "due_at",
            "fence",
            "node",
            "lease_until",
            "created_at",
            "settled_at",
        ],
    },
    Table {
        name: "attempts",
        key: &["delivery", "n"],
        others: &[
            "started_at",
            "duration_us",
            "status",
            "failure",
            "url",
            "overtaking",
            "previous_credentials",
            "dns_us",
            "connect_us",
            "tls_us",
            "write_us",
            "first_byte_us",
            "answer",
            "verdict",
            "retry_at",
            "late",
        ],
    },
    Table {
        name: "idempotency_keys",
        key: &["entry"],
        others: &["merchant", "key", "request_hash", "response", "created_at"],
    },
    Table {
        name: "marks",
        key: &["lived"],
        others: &["clock", "position", "entry"],
    },
    Table {
        name: "forgotten_subjects",
        key: &["subject"],
        others: &["sequence", "had", "owed"],
    },
    Table {
        name: "forgotten_feeds",
        key: &["merchant"],
        others: &["position"],
    },
    Table {
        name: "scheduled_outcomes",
        key: &["merchant_id", "id"],
        others: &["due_at", "doc"],
    },
    Table {
        name: "replay_jobs",
        key: &["merchant_id", "job_id"],
        others: &[
            "doc",
            "matched",
            "last_position",
            "cursor",
            "replayed",
            "skipped_version",
            "skipped_switch",
            "skipped_delivered",
            "skipped_body",
            "state",
            "reason",
            "created_at",
            "changed_at",
        ],
    },
    Table {
        name: "users",
        key: &["user_id"],
        others: &["name", "name_key", "password", "password_at", "created_at"],
    },
    Table {
        name: "memberships",
        key: &["user_id", "merchant_id"],
        others: &["role", "created_at"],
    },
    Table {
        name: "sessions",
        key: &["hash"],
        others: &[
            "session_id",
            "user_id",
            "address",
            "agent",
            "created_at",
            "seen_at",
        ],
    },
    Table {
        name: "links",
        key: &["hash"],
        others: &[
            "kind",
            "merchant_id",
            "role",
            "name",
            "user_id",
            "made_by",
            "created_at",
            "expires_at",
        ],
    },
    Table {
        name: "sign_in_failures",
        key: &["name_key", "address"],
        others: &["failures", "failed_at"],
    },
    Table {
        name: "audit",
        key: &["n"],
        others: &[
            "merchant_id",
            "at",
            "actor",
            "address",
            "action",
            "target",
            "result",
            "detail",
            "hash",
        ],
    },
];

/// The fact of a store that is still being copied: which source it is a copy of.
const SOURCE: &str = "move.source";

/// Finds that fact.
pub(super) const UNFINISHED: &str = "select value from facts where name = 'move.source'";

/// How many rows are read at once, and copied in one transaction.
pub(super) const PAGE: usize = 2_000;

/// How large a page may become, as far as the one before it tells.
const PAGE_BYTES: usize = 4 << 20;

/// How many rows a first page has, when nothing is known of their size.
const FIRST_PAGE: usize = 100;

/// Hears how many rows of a table were copied so far; an error ends the move.
pub(super) type Tell<'a> = &'a mut dyn FnMut(&'static str, usize) -> Result<(), DbError>;

/// Refuses a store that is no more than the beginning of a copy.
pub(super) fn check_whole(conn: &dyn Sql) -> Result<(), DbError> {
    match source_of(conn)? {
        None => Ok(()),
        Some(_) => Err(unfinished()),
    }
}

/// What such a store is refused with.
pub(super) fn unfinished() -> DbError {
    DbError::down(
        "it is a copy that `harkara move` has not finished; run that again until it says so",
    )
}

/// Copies a store, or what is missing of it, and compares. If nothing differs the target is whole.
pub(super) fn transfer(
    from: &Site,
    to: &Site,
    page: usize,
    tell: Tell<'_>,
) -> Result<Vec<Compared>, DbError> {
    let mut source = open_source(from).map_err(|error| of("the store to copy", error))?;
    let which = which(&*source)?;
    let mut target = open_target(to, &which).map_err(|error| of("the store to fill", error))?;
    for table in TABLES {
        copy(table, &*source, &mut *target, (page, tell)).map_err(|error| of(table.name, error))?;
    }
    target.begin()?;
    target
        .keep_others_out(&[])
        .map_err(|error| of("the store to fill", error))?;
    let compare = |table: &Table| {
        Ok(Compared {
            table: table.name,
            source: sum(table, &*source, page)?,
            target: sum(table, &*target, page)?,
        })
    };
    let compared: Vec<Compared> = TABLES.iter().map(compare).collect::<Result<_, DbError>>()?;
    if compared.iter().all(Compared::is_equal) {
        for table in TABLES {
            if let [key] = table.key {
                target.count_on(table.name, key)?;
            }
        }
        target.execute("delete from facts where name = ?1", params![SOURCE])?;
        target.commit()?;
        target.close()?;
    }
    source.roll_back()?;
    source.close()?;
    Ok(compared)
}

/// Says which store or table an error is about.
fn of(what: &str, error: DbError) -> DbError {
    DbError::new(error.kind, format!("{what}: {}", error.source))
}

/// Opens a store to be copied, for nobody to change until its transaction ends.
fn open_source(from: &Site) -> Result<Box<dyn Session>, DbError> {
    let mut source: Box<dyn Session> = match from {
        Site::Folder(folder) => {
            let file = sqlite::database(folder);
            if !file.exists() {
                let cause = format!("there is no {}; name the data folder", file.display());
                return Err(DbError::down(cause));
            }
            Box::new(sqlite::Writing::hold(folder)?)
        }
        Site::Postgres(url) => {
            let server = Arc::new(Server::parse(url)?);
            migrate::check_same_postgres(&mut server.connect()?)?;
            Box::new(postgres::Writing::new(&server, Arc::default()))
        }
    };
    source.begin()?;
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    source.keep_others_out(&tables)?;
    check_whole(sql(&*source))?;
    Ok(source)
}

/// Opens a store to be filled, whose schema is made if need be. It must be empty, or have begun as a
/// copy of this very source.
fn open_target(to: &Site, which: &str) -> Result<Box<dyn Session>, DbError> {
    let mut target: Box<dyn Session> = match to {
        Site::Folder(folder) => Box::new(sqlite::Writing::hold(folder)?),
        Site::Postgres(url) => {
            let server = Arc::new(Server::parse(url)?);
            let mut client = server.connect()?;
            postgres::durability(&mut client)?;
            migrate::make_postgres(&mut client)?;
            Box::new(postgres::Writing::new(&server, Arc::default()))
        }
    };
    target.begin()?;
    target.keep_others_out(&[])?;
    match source_of(sql(&*target))? {
        Some(begun) if begun == which => {}
        Some(_) => {
            return Err(DbError::down(
                "it has the beginning of a copy of another store, or of this one before that was served \
                 again; take an empty database, schema or folder",
            ));
        }
        None => {
            for table in TABLES {
                let any = format!("select 1 as one from {} limit 1", table.name);
                if sql(&*target).first(&any, params![], |_| Ok(()))?.is_some() {
                    let cause = format!(
                        "it has rows in {} already; take an empty database, schema or folder",
                        table.name
                    );
                    return Err(DbError::down(cause));
                }
            }
            let mark = "insert into facts (name, value) values (?1, ?2)";
            target.execute(mark, params![SOURCE, which])?;
        }
    }
    target.commit()?;
    Ok(target)
}

/// Which source a store is an unfinished copy of.
fn source_of(conn: &dyn Sql) -> Result<Option<String>, DbError> {
    conn.first(UNFINISHED, params![], |row| row.get(0))
}

/// Tells a store from all others, and from what it becomes: each start counts, and nothing is written
/// without one.
fn which(source: &dyn Session) -> Result<String, DbError> {
    let of_store = |table: &&Table| ["counters", "facts", "merchants"].contains(&table.name);
    let mut parts = Vec::new();
    for table in TABLES.iter().filter(of_store) {
        parts.push(sum(table, source, PAGE)?.hash);
    }
    let newest = "select coalesce(max(position), 0) from events";
    let newest: Option<i64> = sql(source).first(newest, params![], |row| row.get(0))?;
    parts.push(newest.unwrap_or(0).to_string());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(hex(&digest(&parts)))
}

/// Copies the rows of a table that come after the last one that is there.
fn copy(
    table: &'static Table,
    source: &dyn Session,
    target: &mut dyn Session,
    (page, tell): (usize, Tell<'_>),
) -> Result<(), DbError> {
    let last = sql(target).first(&table.last(), params![], |row| {
        let key = 0..table.key.len();
        key.map(|n| row.value(n.into()).map(Datum::from)).collect()
    })?;
    let mut pages = Pages::after(table, last, page);
    let columns = table.columns();
    let mut copied = 0;
    loop {
        let rows = pages.next(sql(source))?;
        if rows.is_empty() {
            return Ok(());
        }
        target.begin()?;
        target.insert_rows(table.name, &columns, &rows)?;
        target.commit()?;
        copied += rows.len();
        tell(table.name, copied)?;
    }
}

/// Adds a table up.
fn sum(table: &Table, session: &dyn Session, page: usize) -> Result<Sum, DbError> {
    let mut pages = Pages::after(table, None, page);
    let (mut rows, mut hash) = (0, Context::new(&SHA256));
    loop {
        let page = pages.next(sql(session))?;
        if page.is_empty() {
            let hash = hex(hash.finish().as_ref());
            return Ok(Sum { rows, hash });
        }
        rows += page.len() as u64;
        for value in page.iter().flatten() {
            add(&mut hash, value);
        }
    }
}

/// A value by its kind, its length and its bytes, so that no two rows look the same.
fn add(hash: &mut Context, value: &Datum) {
    let mut sized = |kind: u8, bytes: &[u8]| {
        hash.update(&[kind]);
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match value {
        Datum::Null => sized(0, &[]),
        Datum::Int(n) => sized(1, &n.to_be_bytes()),
        Datum::Text(text) => sized(2, text.as_bytes()),
        Datum::Bytes(bytes) => sized(3, bytes),
    }
}

impl Table {
    /// Those of its key first, as [`Pages`] has them.
    fn columns(&self) -> Vec<&'static str> {
        [self.key, self.others].concat()
    }

    /// What is no part of the store that is copied.
    fn except(&self) -> String {
        match self.name {
            "facts" => format!("name <> '{SOURCE}'"),
            _ => "1 = 1".to_owned(),
        }
    }

    fn last(&self) -> String {
        let (name, except) = (self.name, self.except());
        let (key, backwards) = (self.key.join(", "), self.key.join(" desc, "));
        format!("select {key} from {name} where {except} order by {backwards} desc limit 1")
    }

    /// A page from the beginning, or after a key.
    fn page(&self, is_first: bool) -> String {
        let (name, except) = (self.name, self.except());
        let (key, columns) = (self.key.join(", "), self.columns().join(", "));
        let after = match is_first {
            true => String::new(),
            false => {
                let values: Vec<String> = (1..=self.key.len())
                    .map(|n| format!("?{}", n + 1))
                    .collect();
                format!(" and ({key}) > ({})", values.join(", "))
            }
        };
        format!("select {columns} from {name} where {except}{after} order by {key} limit ?1")
    }
}

/// A table, a page at a time, in the order of its key.
struct Pages<'t> {
    table: &'t Table,
    after: Option<Vec<Datum>>,
    most: usize,
    /// How many rows the next page may have.
    rows: usize,
}

impl<'t> Pages<'t> {
    fn after(table: &'t Table, after: Option<Vec<Datum>>, most: usize) -> Self {
        Self {
            table,
            after,
            most,
            rows: most.min(FIRST_PAGE),
        }
    }

    /// The rows that come next; none when there are no more.
    fn next(&mut self, conn: &dyn Sql) -> Result<Vec<Vec<Datum>>, DbError> {
        let sql = self.table.page(self.after.is_none());
        let limit = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let mut wanted: Vec<&dyn Bind> = vec![&limit];
        wanted.extend(self.after.iter().flatten().map(|value| value as &dyn Bind));
        let columns = self.table.columns().len();
        let mut bytes = 0;
        let rows = conn.rows(&sql, &wanted, |row| {
            let row = (0..columns).map(|n| row.value(n.into()).map(Datum::from));
            let row: Vec<Datum> = row.collect::<Result<_, DbError>>()?;
            bytes += row.iter().map(size).sum::<usize>();
            Ok(row)
        })?;
        if let Some(last) = rows.last() {
            self.after = Some(last[..self.table.key.len()].to_vec());
            let each = (bytes / rows.len()).max(1);
            self.rows = (PAGE_BYTES / each).clamp(1, self.most);
        }
        Ok(rows)
    }
}

fn size(value: &Datum) -> usize {
    match value {
        Datum::Null | Datum::Int(_) => 8,
        Datum::Text(text) => text.len(),
        Datum::Bytes(bytes) => bytes.len(),
    }
}

/// A session, for what only reads.
fn sql<'s>(session: &'s (dyn Session + 's)) -> &'s dyn Sql {
    session
}
