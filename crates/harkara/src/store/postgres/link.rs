//! One connection to a Postgres server: opened when it is needed, again after it was lost, with the
//! statements that were prepared on it.
//!
//! What Postgres says of errors is sorted here. `mod.rs` calls it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Statement};

use super::server::Server;
use crate::store::error::{DbError, DbErrorKind};
use crate::store::sql::{Bind, Column, Datum, Param, Params, See, Value, Values};

/// What an answered write survives on this server. Refused where that is not even the end of its own
/// process.
pub(in crate::store) fn durability(client: &mut Client) -> Result<String, DbError> {
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
}

struct Opened {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Link {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        Self {
            server: server.clone(),
            open: RefCell::default(),
        }
    }

    /// Opens the connection unless it is open.
    pub(super) fn connect(&self) -> Result<(), DbError> {
        if self.is_lost() {
            let client = self.server.connect()?;
            *self.open.borrow_mut() = Some(Opened {
                client,
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

    /// Runs a statement of ours that takes nothing and gives nothing.
    pub(super) fn batch(&self, sql: &str) -> Result<(), DbError> {
        self.with(|open| open.client.batch_execute(sql))
    }

    pub(super) fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError> {
        let changed = self.with(|open| {
            let statement = open.prepare(sql)?;
            let values: Vec<Param<'_>> = params.iter().map(|param| param.bind()).collect();
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
            open.client.execute(&statement, &values)
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(super) fn query(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<postgres::Row>, DbError> {
        self.with(|open| {
            let statement = open.prepare(sql)?;
            let values: Vec<Param<'_>> = params.iter().map(|param| param.bind()).collect();
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
            open.client.query(&statement, &values)
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
            let mut copy = BinaryCopyInWriter::new(open.client.copy_in(&sql)?, &types);
            for row in rows {
                let values: Vec<Param<'_>> = row.iter().map(Bind::bind).collect();
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
                copy.write(&values)?;
            }
            copy.finish().map(drop)
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

/// A client says goodbye and waits for that, which no task may do.
fn drop_apart(open: Option<Opened>) {
    if open.is_some() {
        // A thread that cannot be had leaves the goodbye to the server, who notices by itself.
        let _ = std::thread::spawn(move || drop(open)).join();
    }
}

impl Opened {
    fn prepare(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&numbered(sql))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Parameters as Postgres writes them, `$1` for `?1`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// Shows rows in turn.
pub(super) fn show(rows: &[postgres::Row], see: See<'_>) -> Result<(), DbError> {
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

impl Values for postgres::Row {
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
