//! What can go wrong with the store, as the four things that a caller can act on.
//!
//! No SQL and no retrying here: SQLite's error codes are sorted once, in this file, and everybody
//! else matches on [`DbErrorKind`].

use std::fmt;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// A call to the store that did not do what was asked; nothing of it is stored.
///
/// The one exception is `Down` after a lost flush, where nobody can know: the process must end and
/// look at the file again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("use the store: {kind}")]
pub struct DbError {
    pub kind: DbErrorKind,
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// Try again later; the store takes no more work just now (a long queue, a full disk).
    Busy,
    /// Load again and decide anew; somebody else wrote first.
    Stale,
    /// Stop; the store cannot be written to any more.
    Down,
    /// Tell a person; what is stored is not what this program can have stored.
    Corrupt,
}

impl fmt::Display for DbErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "it takes no more work just now; try again shortly",
            Self::Stale => "what this was decided on has changed; load it again and decide anew",
            Self::Down => "it is closed or cannot be written to; see the cause, then start again",
            Self::Corrupt => "its content cannot be understood; see the cause, restore a backup",
        })
    }
}

/// A cause that is a sentence of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

impl DbError {
    pub(super) fn new(kind: DbErrorKind, cause: impl Into<String>) -> Self {
        Self::caused(kind, Cause(cause.into()))
    }

    pub(super) fn caused(
        kind: DbErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            source: Arc::new(source),
        }
    }

    pub(super) fn stale(cause: impl Into<String>) -> Self {
        Self::new(DbErrorKind::Stale, cause)
    }

    pub(super) fn down(cause: impl Into<String>) -> Self {
        Self::new(DbErrorKind::Down, cause)
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = error.sqlite_error().map_or(DbErrorKind::Corrupt, kind_of);
        Self::caused(kind, error)
    }
}

impl From<std::io::Error> for DbError {
    fn from(error: std::io::Error) -> Self {
        Self::caused(DbErrorKind::Down, error)
    }
}

impl From<serde_json::Error> for DbError {
    fn from(error: serde_json::Error) -> Self {
        Self::caused(DbErrorKind::Corrupt, error)
    }
}

/// Whatever SQLite reports that is no matter of load, keys or files is our own SQL not fitting the
/// stored schema, hence `Corrupt`. A disk that is full or read-only can be put right while we run.
fn kind_of(error: &ffi::Error) -> DbErrorKind {
    const TAKEN: [i32; 3] = [
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ffi::SQLITE_CONSTRAINT_UNIQUE,
        ffi::SQLITE_CONSTRAINT_ROWID,
    ];
    match error.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::DiskFull
        | ErrorCode::ReadOnly
        | ErrorCode::OutOfMemory => DbErrorKind::Busy,
        ErrorCode::ConstraintViolation if TAKEN.contains(&error.extended_code) => {
            DbErrorKind::Stale
        }
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            DbErrorKind::Down
        }
        _ => DbErrorKind::Corrupt,
    }
}
