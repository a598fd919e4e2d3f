//! One connection to a Postgres server: opened when it is needed, again after it was lost, with the
//! statements that were prepared on it. What belongs together is sent together.
//!
//! What Postgres says of errors is sorted here. `mod.rs` calls it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::{Client, Row, Statement};

use super::many;
use super::server::Server;
use crate::store::error::{DbError, DbErrorKind};
use crate::store::sql::{Bind, Column, Datum, Many, Param, Params, See, Value, Values};

/// What an answered write survives on this server. Refused where that is not even the end of its own
/// process.
pub(in crate::store) fn durability(client: &mut postgres::Client) -> Result<String, DbError> {
    let sql = "
        select current_setting('fsync'), current_setting('full_page_writes'),
            current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
            current_setting('server_version'),
            (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
    let row = client.query_one(sql, &[])?;
    let setting = |index| row.try_get::<_, String>(index);
    let (fsync, pages, commit) = (setting(0)?, setting(1)?, setting(2)?);
    for (name, value) in [("fsync", &fsync), ("full_page_writes", &pages)] {
        if value != "on" {
            let cause =
                format!("{name} is {value}, so a power cut can lose answered events; set it to on");
            return Err(DbError::down(cause));
        }
    }
    let standbys = match setting(3)?.as_str() {
        "" => "no synchronous standby".to_owned(),
        names => format!("synchronous standbys {names}"),
    };
    let version = setting(4)?;
    let connection = match row.try_get(5)? {
        Some(true) => "encrypted connection",
        Some(false) | None => "connection not encrypted",
    };
    Ok(format!(
        "postgres {version}, synchronous_commit={commit}, {standbys}, {connection}"
    ))
}

/// A connection, which may be lost.
pub(super) struct Link {
    server: Arc<Server>,
    open: RefCell<Option<Opened>>,
    /// A transaction is to begin with the next statement, in one way there and back.
    begins: Cell<bool>,
}

struct Opened {
    client: Client,
    /// Reads and writes for the client while one of our calls waits.
    driver: JoinHandle<()>,
    runtime: Runtime,
    statements: HashMap<String, Statement>,
}

/// How long a server is waited for that is told goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

impl Link {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        Self {
            server: server.clone(),
            open: RefCell::default(),
            begins: Cell::new(false),
        }
    }

    /// Opens the connection unless it is open.
    pub(super) fn connect(&self) -> Result<(), DbError> {
        if self.is_lost() {
            self.lose();
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (client, driver) = self.server.connect_on(&runtime)?;
            *self.open.borrow_mut() = Some(Opened {
                client,
                driver,
                runtime,
                statements: HashMap::new(),
            });
        }
        Ok(())
    }

    pub(super) fn is_lost(&self) -> bool {
        let open = self.open.borrow();
        open.as_ref().is_none_or(|open| open.client.is_closed())
    }

    pub(super) fn lose(&self) {
        drop_apart(self.open.borrow_mut().take());
    }

    /// Has a transaction begin with the next statement.
    pub(super) fn begin(&self) {
        self.begins.set(true);
    }

    /// Ends the transaction in one of two ways; nothing to do if none of its statements was sent.
    pub(super) fn end(&self, sql: &str) -> Result<(), DbError> {
        match self.begins.replace(false) {
            true => Ok(()),
            false => self.batch(sql),
        }
    }

    /// Runs a statement of ours that takes nothing and gives nothing.
    pub(super) fn batch(&self, sql: &str) -> Result<(), DbError> {
        self.with(|open| open.wait(&self.begins, open.client.batch_execute(sql)))
    }

    pub(super) fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        let changed = self.with(|open| {
            let statement = open.prepare(sql)?;
            let values = values(params.iter());
            open.wait(
                &self.begins,
                open.client.execute(&statement, &refs(&values)),
            )
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(super) fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, DbError> {
        self.with(|open| {
            let statement = open.prepare(sql)?;
            let values = values(params.iter());
            open.wait(&self.begins, open.client.query(&statement, &refs(&values)))
        })
    }

    /// Runs writes, each for all of its rows and one after another, and counts the rows that each
    /// changed. They are sent together; after one that fails the server carries out no other.
    pub(super) fn execute_all(&self, writes: &[Many]) -> Result<Vec<usize>, DbError> {
        let changed = self.with(|open| {
            let prepared = writes
                .iter()
                .map(|(sql, rows)| open.prepare_write(sql, rows));
            let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
            let client = &open.client;
            let each = prepared.iter().map(|(statement, lists)| {
                Box::pin(async { client.execute(statement, &refs(lists)).await })
            });
            open.wait(&self.begins, in_order(each.collect()))
        })?;
        let changed = changed.into_iter();
        Ok(changed
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
            .collect())
    }

    /// Runs queries, each for all of its rows and one after another. The last column of an answer says
    /// for which row it is, counted from one.
    pub(super) fn query_all(&self, queries: &[Many]) -> Result<Vec<Vec<Row>>, DbError> {
        self.with(|open| {
            let prepared = queries.iter().map(|(sql, rows)| {
                let one = open.prepare(sql)?;
                let many = open.prepare(&many::query(sql, one.params()))?;
                Ok((many, lists(rows, one.params().len())))
            });
            let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
            let client = &open.client;
            let each = prepared.iter().map(|(statement, lists)| {
                Box::pin(async { client.query(statement, &refs(lists)).await })
            });
            open.wait(&self.begins, in_order(each.collect()))
        })
    }

    /// Inserts rows by the protocol's own way for many, as values of the columns' types.
    pub(super) fn copy(
        &self,
        table: &str,
        columns: &str,
        rows: &[Vec<Datum>],
    ) -> Result<(), DbError> {
        self.with(|open| {
            let shape = open.prepare(&format!("select {columns} from {table}"))?;
            let types = shape.columns().iter().map(|column| column.type_().clone());
            let types: Vec<Type> = types.collect();
            let sql = format!("copy {table} ({columns}) from stdin (format binary)");
            let copying = async {
                let mut copy = pin!(BinaryCopyInWriter::new(
                    open.client.copy_in(&sql).await?,
                    &types
                ));
                for row in rows {
                    let values = values(row.iter());
                    copy.as_mut().write(&refs(&values)).await?;
                }
                copy.finish().await.map(drop)
            };
            open.wait(&self.begins, copying)
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Opened) -> Result<T, postgres::Error>,
    ) -> Result<T, DbError> {
        match self.open.borrow_mut().as_mut() {
            Some(open) => Ok(work(open)?),
            None => Err(DbError::new(DbErrorKind::Busy, "the connection was lost")),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop_apart(self.open.take());
    }
}

/// Says goodbye and waits for that, which no task may do.
fn drop_apart(open: Option<Opened>) {
    if let Some(open) = open {
        // A thread that cannot be had leaves the goodbye to the server, who notices by itself.
        let _ = std::thread::spawn(move || open.close()).join();
    }
}

impl Opened {
    fn close(self) {
        drop(self.client);
        let _ = self
            .runtime
            .block_on(async { timeout(GOODBYE, self.driver).await });
    }

    /// Waits for what was asked of the client; a transaction that is to begin begins before it.
    fn wait<T>(
        &self,
        begins: &Cell<bool>,
        asked: impl Future<Output = Result<T, postgres::Error>>,
    ) -> Result<T, postgres::Error> {
        self.runtime.block_on(async {
            if !begins.replace(false) {
                return asked.await;
            }
            // The first thing that each does is to send, and that they do in this order.
            let (begun, asked) = tokio::join!(biased; self.client.batch_execute("begin"), asked);
            begun.and(asked)
        })
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let text = numbered(sql);
        let statement = self.runtime.block_on(self.client.prepare(&text))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// A write for all of its rows, with the list of each parameter.
    fn prepare_write<'r>(
        &mut self,
        sql: &str,
        rows: &'r [Vec<Datum>],
    ) -> Result<(Statement, Vec<Vec<Param<'r>>>), postgres::Error> {
        let one = self.prepare(sql)?;
        let many = self.prepare(&many::write(sql, one.params()))?;
        Ok((many, lists(rows, one.params().len())))
    }
}

/// Waits for all. The first thing that each does is to send, and that they do in this order.
async fn in_order<T, E>(
    mut each: Vec<Pin<Box<impl Future<Output = Result<T, E>>>>>,
) -> Result<Vec<T>, E> {
    let mut results: Vec<Option<Result<T, E>>> = each.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (one, result) in each.iter_mut().zip(&mut results) {
            if result.is_none() {
                match one.as_mut().poll(context) {
                    Poll::Ready(ready) => *result = Some(ready),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

fn values<'a, B: Bind + ?Sized + 'a>(params: impl Iterator<Item = &'a B>) -> Vec<Param<'a>> {
    params.map(Bind::bind).collect()
}

/// Rows as a list for each of so many columns.
fn lists(rows: &[Vec<Datum>], columns: usize) -> Vec<Vec<Param<'_>>> {
    let column = |n: usize| values(rows.iter().map(|row| &row[n]));
    (0..columns).map(column).collect()
}

fn refs<T: ToSql + Sync>(values: &[T]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

/// Parameters as Postgres writes them, `$1` for `?1`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// Shows rows in turn.
pub(super) fn show(rows: &[Row], see: See<'_>) -> Result<(), DbError> {
    for row in rows {
        if see(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(n), &Type::INT8) => n.to_sql(ty, out),
            (Self::Int(n), &Type::INT4) => i32::try_from(*n)?.to_sql(ty, out),
            (Self::Text(text), &Type::TEXT) => text.to_sql(ty, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            _ => Err(format!("a parameter that is to be {ty} is given as {self:?}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Values for Row {
    fn value(&self, column: Column<'_>) -> Result<Value<'_>, DbError> {
        let index = match column {
            Column::Numbered(index) => Some(index).filter(|index| *index < self.len()),
            Column::Named(name) => self.columns().iter().position(|other| other.name() == name),
        };
        let corrupt = |what: String| DbError::new(DbErrorKind::Corrupt, what);
        let index = index.ok_or_else(|| corrupt(format!("there is no column {column:?}")))?;
        let value = match *self.columns()[index].type_() {
            Type::INT8 => self.try_get::<_, Option<i64>>(index)?.map(Value::Int),
            Type::INT4 => self
                .try_get::<_, Option<i32>>(index)?
                .map(|n| Value::Int(n.into())),
            Type::BOOL => self
                .try_get::<_, Option<bool>>(index)?
                .map(|truth| Value::Int(truth.into())),
            Type::TEXT => self.try_get::<_, Option<&str>>(index)?.map(Value::Text),
            Type::BYTEA => self.try_get::<_, Option<&[u8]>>(index)?.map(Value::Bytes),
            ref other => {
                let cause = format!("column {column:?} is {other}, which no column of ours is");
                return Err(corrupt(cause));
            }
        };
        Ok(value.unwrap_or(Value::Null))
    }
}

impl From<postgres::Error> for DbError {
    fn from(error: postgres::Error) -> Self {
        let kind = match error.code() {
            Some(code) => kind_of(code),
            // Its values and ours do not fit, or the server cannot be reached.
            None if error.is_closed() || is_io(&error) => DbErrorKind::Busy,
            None => DbErrorKind::Corrupt,
        };
        let said = error.as_db_error().map(ToString::to_string);
        match said {
            Some(said) => Self::caused(kind, Said(said, error)),
            None => Self::caused(kind, error),
        }
    }
}

/// What the server said, for the driver's own text leaves that to its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String, #[source] postgres::Error);

/// Whether a transaction was given up for it and another stood in each other's way. The other has gone
/// on, so the same may succeed now.
pub(super) fn met_another(error: &DbError) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&*error.source);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<postgres::Error>() {
            return cause
                .code()
                .is_some_and(|code| code.code().starts_with("40"));
        }
        source = cause.source();
    }
    false
}

fn is_io(error: &postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// By the class of the code, its first two characters, where that says enough.
fn kind_of(code: &SqlState) -> DbErrorKind {
    match code.code() {
        "23505" => DbErrorKind::Stale,
        code => match &code[..2] {
            // A connection lost, a transaction that met another, resources, an operator, the system.
            "08" | "40" | "53" | "55" | "57" | "58" | "25" => DbErrorKind::Busy,
            // Who we are, and which database.
            "28" | "3D" => DbErrorKind::Down,
            _ => DbErrorKind::Corrupt,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_a_caller_can_do() {
        let table = [
            ("23505", DbErrorKind::Stale),
            ("40001", DbErrorKind::Busy),
            ("40P01", DbErrorKind::Busy),
            ("53100", DbErrorKind::Busy),
            ("55P03", DbErrorKind::Busy),
            ("57P01", DbErrorKind::Busy),
            ("28P01", DbErrorKind::Down),
            ("3D000", DbErrorKind::Down),
            ("42P01", DbErrorKind::Corrupt),
            ("22P02", DbErrorKind::Corrupt),
        ];
        for (code, kind) in table {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }
}
