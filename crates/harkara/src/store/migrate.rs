//! Migrations: numbered, forward only, embedded, and refused when they differ from what was applied.
//!
//! The ledger of what was applied is refinery's; this file lends it a rusqlite connection. Nobody
//! but `open` calls it, before any other statement runs.

use std::time::SystemTime;

use refinery_core::error::Kind;
use refinery_core::traits::sync::{Migrate, Query, Transaction};
use refinery_core::{Migration, Runner};
use rusqlite::Connection;
use rusqlite::types::Type;

use super::error::{DbError, DbErrorKind};

/// Every migration, in order. A file that has been released is never edited.
const MIGRATIONS: &[(&str, &str)] =
    &[("V1__store", include_str!("../../migrations/V1__store.sql"))];

/// Brings a SQLite store up to date.
pub(super) fn sqlite(conn: &mut Connection) -> Result<(), DbError> {
    apply(conn, MIGRATIONS)
}

/// Applies what is missing, all in one transaction: a start that is killed halfway changes nothing.
fn apply(conn: &mut Connection, migrations: &[(&str, &str)]) -> Result<(), DbError> {
    let migrations: Vec<Migration> = migrations
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql).expect("names follow V{n}__{name}"))
        .collect();
    Runner::new(&migrations)
        .set_grouped(true)
        .run(&mut Ledger(conn))
        .map_err(|error| {
            let kind = match error.kind() {
                Kind::Connection(..) => DbErrorKind::Down,
                _ => DbErrorKind::Corrupt,
            };
            DbError::caused(kind, error)
        })?;
    Ok(())
}

struct Ledger<'c>(&'c mut Connection);

impl Transaction for Ledger<'_> {
    type Error = rusqlite::Error;

    fn execute<'a, T: Iterator<Item = &'a str>>(
        &mut self,
        statements: T,
    ) -> Result<usize, rusqlite::Error> {
        let transaction = self.0.transaction()?;
        let mut count = 0;
        for statement in statements {
            transaction.execute_batch(statement)?;
            count += 1;
        }
        transaction.commit()?;
        Ok(count)
    }
}

impl Query<Vec<Migration>> for Ledger<'_> {
    fn query(&mut self, query: &str) -> Result<Vec<Migration>, rusqlite::Error> {
        let mut statement = self.0.prepare(query)?;
        let rows = statement.query_map([], |row| {
            let applied_on: jiff::Timestamp = parse(2, &row.get::<_, String>(2)?)?;
            let checksum: u64 = parse(3, &row.get::<_, String>(3)?)?;
            // The clock that both libraries know.
            let applied_on = SystemTime::try_from(applied_on).map_err(|e| unreadable(2, e))?;
            Ok(Migration::applied(
                row.get(0)?,
                row.get(1)?,
                applied_on.into(),
                checksum,
            ))
        })?;
        rows.collect()
    }
}

impl Migrate for Ledger<'_> {}

fn parse<T>(column: usize, text: &str) -> Result<T, rusqlite::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|error| unreadable(column, error))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    const FIRST: (&str, &str) = ("V1__cats", "create table cats (name text)");
    const SECOND: (&str, &str) = ("V2__dogs", "create table dogs (name text)");

    /// Applies both lists to one database and says how the second went.
    fn check(before: &[(&str, &str)], after: &[(&str, &str)]) -> String {
        let mut conn = Connection::open_in_memory().unwrap();
        apply(&mut conn, before).unwrap();
        match apply(&mut conn, after) {
            Ok(()) => "applied".to_owned(),
            Err(error) => format!("{:?}: {}", error.kind, error.source().unwrap()),
        }
    }

    #[test]
    fn a_later_program_adds_and_an_edited_history_is_refused() {
        let same = check(&[FIRST], &[FIRST]);
        let later = check(&[FIRST], &[FIRST, SECOND]);
        let edited = check(&[FIRST], &[("V1__cats", "create table cats (name bigint)")]);
        let older = check(&[FIRST, SECOND], &[FIRST]);
        insta::assert_snapshot!([same, later, edited, older].join("\n"), @r"
        applied
        applied
        Corrupt: applied migration V1__cats is different than filesystem one V1__cats
        Corrupt: migration V2__dogs is missing from the filesystem
        ");
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        let broken = ("V2__broken", "create table dogs (name text); creat");
        apply(&mut conn, &[FIRST, broken]).unwrap_err();
        apply(&mut conn, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn every_migration_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        files.sort();
        let listed: Vec<&str> = MIGRATIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, listed);
    }
}
