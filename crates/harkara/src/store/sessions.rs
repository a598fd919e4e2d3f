//! Who is signed in, from where, and who tried to be.
//!
//! A session is found by the hash of what the browser holds; how long it lasts is the dashboard's
//! rule, told by its caller. Old rows go when somebody signs in, so neither table outgrows its use.

use harkara_core::time::Timestamp;

use super::Store;
use super::audit::{self, AuditEntry};
use super::codec::Columns;
use super::error::DbError;
use super::pen::Pen;
use super::people::{Memberships, User, memberships_of, name_key, read_user};
use super::sql::{Row, params};

/// Somebody's being signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSession {
    pub hash: String,
    /// What it is called where it is listed and ended.
    pub session_id: String,
    pub user_id: String,
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
}

/// Sessions from before either moment are over.
#[derive(Clone, Copy, Debug)]
pub struct Horizons {
    pub created: Timestamp,
    pub seen: Timestamp,
}

/// How many wrong passwords there may be for a name from an address, and since when they count.
#[derive(Clone, Copy, Debug)]
pub struct SignInBound {
    pub since: Timestamp,
    pub most: i64,
    pub now: Timestamp,
}

/// Wrong passwords for a name, this attempt among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// There were too many from this address before.
    pub is_too_many: bool,
    /// The last one from this address.
    pub last_here: Timestamp,
    /// From anywhere.
    pub everywhere: i64,
}

impl Store {
    /// Signs somebody in: forgets what was typed wrong before, and what is over by now.
    pub async fn open_session(
        &self,
        session: UserSession,
        name: &str,
        over: Horizons,
        entry: AuditEntry,
    ) -> Result<(), DbError> {
        let key = name_key(name);
        self.write(move |pen| {
            forget_failures(pen, &key, &session.address)?;
            let sql = "delete from sessions where created_at <= ?1 or seen_at <= ?2";
            let (created, seen) = (over.created.as_micros(), over.seen.as_micros());
            pen.execute(sql, params![created, seen])?;
            let sql = "
                insert into sessions (hash, session_id, user_id, address, agent, created_at, seen_at)
                values (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let columns = params![
                session.hash,
                session.session_id,
                session.user_id,
                session.address,
                session.agent,
                session.created_at.as_micros(),
                session.seen_at.as_micros(),
            ];
            pen.execute(sql, columns)?;
            audit::add(pen, &entry)
        })
        .await
    }

    /// The session of this hash, over or not, with whose it is and what they may do.
    pub async fn session(
        &self,
        hash: &str,
    ) -> Result<Option<(UserSession, User, Memberships)>, DbError> {
        let hash = hash.to_owned();
        self.read(move |conn| {
            let sql = "select * from sessions where hash = ?1";
            let Some(session) = conn.first(sql, params![hash], read_session)? else {
                return Ok(None);
            };
            let sql = "select * from users where user_id = ?1";
            let Some(user) = conn.first(sql, params![session.user_id], read_user)? else {
                return Ok(None);
            };
            let memberships = memberships_of(conn, &user.user_id)?;
            Ok(Some((session, user, memberships)))
        })
        .await
    }

    /// Notes that somebody is still there.
    pub async fn touch_session(&self, hash: &str, now: Timestamp) -> Result<(), DbError> {
        let hash = hash.to_owned();
        self.write(move |pen| {
            let sql = "update sessions set seen_at = ?2 where hash = ?1 and seen_at < ?2";
            pen.execute(sql, params![hash, now.as_micros()]).map(drop)
        })
        .await
    }

    /// Where somebody is signed in, the newest first.
    pub async fn sessions_of(&self, user_id: &str) -> Result<Vec<UserSession>, DbError> {
        let user_id = user_id.to_owned();
        let sql = "
            select * from sessions where user_id = ?1 order by created_at desc, session_id";
        self.read(move |conn| conn.rows(sql, params![user_id], read_session))
            .await
    }

    /// Ends a session of this person; false when there is none of that name.
    pub async fn end_session(
        &self,
        user_id: &str,
        session_id: &str,
        entry: AuditEntry,
    ) -> Result<bool, DbError> {
        let (user_id, session_id) = (user_id.to_owned(), session_id.to_owned());
        self.write(move |pen| {
            let sql = "delete from sessions where user_id = ?1 and session_id = ?2";
            if pen.execute(sql, params![user_id, session_id])? == 0 {
                return Ok(false);
            }
            audit::add(pen, &entry)?;
            Ok(true)
        })
        .await
    }

    /// Counts an attempt at a password as a wrong one, before it is looked at, so that many at once are
    /// no more than many in turn. One too many is not counted, and changes nothing.
    pub async fn count_sign_in(
        &self,
        name: &str,
        address: &str,
        bound: SignInBound,
    ) -> Result<Failures, DbError> {
        let (key, address) = (name_key(name), address.to_owned());
        self.write(move |pen| count_sign_in(pen, (&key, &address), bound))
            .await
    }
}

/// Whoever knows the password has mistyped it before.
pub(super) fn forget_failures(pen: &Pen, key: &str, address: &str) -> Result<(), DbError> {
    let sql = "delete from sign_in_failures where name_key = ?1 and address = ?2";
    pen.execute(sql, params![key, address]).map(drop)
}

fn count_sign_in(
    pen: &Pen,
    (key, address): (&str, &str),
    bound: SignInBound,
) -> Result<Failures, DbError> {
    let SignInBound { since, most, now } = bound;
    let old = "delete from sign_in_failures where failed_at <= ?1";
    pen.execute(old, params![since.as_micros()])?;
    let sql = "
        insert into sign_in_failures (name_key, address, failures, failed_at)
        values (?1, ?2, 1, ?3)
        on conflict (name_key, address) do update
            set failures = sign_in_failures.failures + 1, failed_at = ?3
            where sign_in_failures.failures < ?4";
    let counted = pen.execute(sql, params![key, address, now.as_micros(), most])?;
    let sql = "
        select cast(sum(failures) as bigint) as everywhere,
            max(case when address = ?2 then failed_at end) as last_here
        from sign_in_failures where name_key = ?1";
    let failures = pen.find(sql, params![key, address], |row| {
        Ok(Failures {
            is_too_many: counted == 0,
            last_here: row.at("last_here")?,
            everywhere: row.get("everywhere")?,
        })
    })?;
    Ok(failures.expect("sums are a row, and this attempt or those before it are in them"))
}

fn read_session(row: &Row<'_>) -> Result<UserSession, DbError> {
    Ok(UserSession {
        hash: row.get("hash")?,
        session_id: row.get("session_id")?,
        user_id: row.get("user_id")?,
        address: row.get("address")?,
        agent: row.get("agent")?,
        created_at: row.at("created_at")?,
        seen_at: row.at("seen_at")?,
    })
}
