//! People: who they are, what they may do and where, and the links that let them in once.
//!
//! Each change is written together with its line of the audit log. What a role may do is the core's
//! table; here it is a word. Passwords and links come in hashed. The dashboard calls this.

use std::collections::BTreeMap;

use harkara_core::access::Role;
use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;

use super::Store;
use super::audit::{self, AuditEntry};
use super::codec::{Columns, Word};
use super::error::DbError;
use super::pen::Pen;
use super::sessions::forget_failures;
use super::sql::{Row, Sql, params};

/// Somebody who can sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user_id: String,
    pub name: String,
    pub password_at: Timestamp,
    pub created_at: Timestamp,
}

/// The roles of one person, by merchant; that of the platform is under the empty id.
pub type Memberships = BTreeMap<MerchantId, Role>;

/// Somebody with a role at one merchant, or at the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: User,
    pub role: Role,
    pub since: Timestamp,
    /// When they were last seen, as long as they are signed in.
    pub seen_at: Option<Timestamp>,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The first person of a store.
    First,
    Invitation,
    /// A new password for somebody who is there.
    Reset,
}

/// A link that works once, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub hash: String,
    pub kind: LinkKind,
    pub merchant_id: MerchantId,
    pub role: Role,
    /// Empty when the person is to choose it.
    pub name: String,
    /// Whose password it sets, if they are there already.
    pub user_id: Option<String>,
    pub made_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Somebody new, or the new password of somebody who is there.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub user_id: String,
    pub name: String,
    /// Argon2's text.
    pub password: String,
}

/// What came of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// The id of whoever may sign in now.
    Done(String),
    /// Used before, withdrawn or expired.
    Gone,
    /// The name is somebody else's.
    NameTaken,
}

/// What came of a change of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Done,
    /// They are no member, or have another role by now.
    Unknown,
    /// The platform must keep an owner.
    LastOwner,
}

/// How a name is looked for: capitals do not tell people apart.
pub fn name_key(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Store {
    /// Whether anybody can sign in at all.
    pub async fn has_users(&self) -> Result<bool, DbError> {
        self.read(|conn| {
            let any = conn.first("select 1 from users limit 1", params![], |_| Ok(()))?;
            Ok(any.is_some())
        })
        .await
    }

    /// The person of this name, with the text of their password.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<(User, String)>, DbError> {
        let key = name_key(name);
        self.read(move |conn| {
            let sql = "select * from users where name_key = ?1";
            conn.first(sql, params![key], |row| {
                Ok((read_user(row)?, row.get("password")?))
            })
        })
        .await
    }

    /// The people with a role at this merchant, or at the platform, by name.
    pub async fn members(&self, merchant_id: &MerchantId) -> Result<Vec<Member>, DbError> {
        let merchant_id = merchant_id.clone();
        let sql = "
            select u.*, m.role, m.created_at as since,
                (select max(s.seen_at) from sessions s where s.user_id = u.user_id) as seen_at
            from memberships m join users u on u.user_id = m.user_id
            where m.merchant_id = ?1 order by u.name_key";
        self.read(move |conn| {
            conn.rows(sql, params![merchant_id.as_str()], |row| {
                Ok(Member {
                    user: read_user(row)?,
                    role: row.word("role")?,
                    since: row.at("since")?,
                    seen_at: row.at_opt("seen_at")?,
                })
            })
        })
        .await
    }

    /// Stores a link; false when whoever makes it may not give its role, or may no longer. One of kind
    /// `First`, which the server makes itself, takes the place of those before it.
    pub async fn put_link(&self, link: Link, entry: AuditEntry) -> Result<bool, DbError> {
        self.write(move |pen| put_link(pen, &link, &entry)).await
    }

    /// The link of this hash, expired or not.
    pub async fn link(&self, hash: &str) -> Result<Option<Link>, DbError> {
        let hash = hash.to_owned();
        self.read(move |conn| link(conn, &hash)).await
    }

    /// The links of a merchant, or the platform, that were not used, newest first.
    pub async fn links(&self, merchant_id: &MerchantId) -> Result<Vec<Link>, DbError> {
        let merchant_id = merchant_id.clone();
        let sql = "select * from links where merchant_id = ?1 order by created_at desc, hash";
        self.read(move |conn| conn.rows(sql, params![merchant_id.as_str()], read_link))
            .await
    }

    /// Takes a link of this merchant back; false when there is none.
    pub async fn withdraw_link(
        &self,
        merchant_id: &MerchantId,
        hash: &str,
        entry: AuditEntry,
    ) -> Result<bool, DbError> {
        let (merchant_id, hash) = (merchant_id.clone(), hash.to_owned());
        self.write(move |pen| {
            let sql = "delete from links where merchant_id = ?1 and hash = ?2";
            if pen.execute(sql, params![merchant_id.as_str(), hash])? == 0 {
                return Ok(false);
            }
            audit::add(pen, &entry)?;
            Ok(true)
        })
        .await
    }

    /// Makes somebody a member with what a link gives, or sets the password of whom it names, and uses
    /// the link up. Whoever had signed in with the old password is signed out.
    pub async fn use_link(
        &self,
        hash: &str,
        new: NewUser,
        entry: AuditEntry,
    ) -> Result<Used, DbError> {
        let hash = hash.to_owned();
        self.write(move |pen| use_link(pen, &hash, &new, &entry))
            .await
    }

    /// Sets somebody's own password, forgets what they typed wrong before, and signs them out everywhere
    /// but here.
    pub async fn set_password(
        &self,
        user_id: &str,
        password: &str,
        but_session: &str,
        entry: AuditEntry,
    ) -> Result<(), DbError> {
        let (user_id, password) = (user_id.to_owned(), password.to_owned());
        let but_session = but_session.to_owned();
        self.write(move |pen| {
            set_password(pen, (&user_id, &password), entry.at)?;
            forget_failures(pen, &name_key(&entry.actor), &entry.address)?;
            let sql = "delete from sessions where user_id = ?1 and session_id <> ?2";
            pen.execute(sql, params![user_id, but_session])?;
            audit::add(pen, &entry)
        })
        .await
    }

    /// Gives a member another role, or none, signs them out, and ends the links that they made and those
    /// that were made for them. Who has no role left anywhere is forgotten. `now_is` is the role that was
    /// seen.
    pub async fn change_member(
        &self,
        (merchant_id, user_id): (&MerchantId, &str),
        (now_is, role): (Role, Option<Role>),
        entry: AuditEntry,
    ) -> Result<MemberChange, DbError> {
        let (merchant_id, user_id) = (merchant_id.clone(), user_id.to_owned());
        self.write(move |pen| {
            let change = change_member(pen, (&merchant_id, &user_id), (now_is, role))?;
            if change == MemberChange::Done {
                let sql = "delete from sessions where user_id = ?1";
                pen.execute(sql, params![user_id])?;
                delete_links(pen, &user_id)?;
                // Who is nothing anywhere is nobody, and the name is free. Last, for links know makers by it.
                let sql = "
                    delete from users where user_id = ?1
                        and not exists (select 1 from memberships where user_id = ?1)";
                pen.execute(sql, params![user_id])?;
                audit::add(pen, &entry)?;
            }
            Ok(change)
        })
        .await
    }
}

/// Two who take each other's role away must not leave the platform without an owner.
const LOCK_OWNERS: &str = "
    select user_id from memberships where merchant_id = '' and role = 'owner' for update";

fn change_member(
    pen: &Pen,
    (merchant_id, user_id): (&MerchantId, &str),
    (now_is, role): (Role, Option<Role>),
) -> Result<MemberChange, DbError> {
    if merchant_id.is_platform() && now_is == Role::Owner && role != Some(Role::Owner) {
        pen.lock(LOCK_OWNERS, params![])?;
        let sql = "
            select 1 from memberships
            where merchant_id = '' and role = 'owner' and user_id <> ?1 limit 1";
        if pen.find(sql, params![user_id], |_| Ok(()))?.is_none() {
            return Ok(MemberChange::LastOwner);
        }
    }
    let key = (merchant_id.as_str(), user_id, now_is.word());
    let changed = match role {
        Some(role) => {
            let sql = "
                update memberships set role = ?4
                where merchant_id = ?1 and user_id = ?2 and role = ?3";
            pen.execute(sql, params![key.0, key.1, key.2, role.word()])?
        }
        None => {
            let sql = "
                delete from memberships where merchant_id = ?1 and user_id = ?2 and role = ?3";
            pen.execute(sql, params![key.0, key.1, key.2])?
        }
    };
    Ok(match changed {
        0 => MemberChange::Unknown,
        _ => MemberChange::Done,
    })
}

/// No link may do what its maker may do no longer, or let anybody be what somebody has become since.
fn delete_links(pen: &Pen, user_id: &str) -> Result<(), DbError> {
    let sql = "
        delete from links where user_id = ?1
            or made_by = (select name from users where user_id = ?1)";
    pen.execute(sql, params![user_id]).map(drop)
}

/// The roles of whoever makes a link, where it leads and at the platform. Who takes one away meanwhile
/// waits for us and ends our link with it, or we for them.
const MAKER: (&str, &str) = (
    "
    select m.merchant_id, m.role from memberships m join users u on u.user_id = m.user_id
    where u.name = ?1 and m.merchant_id in (?2, '')
    order by m.merchant_id desc",
    "for share of m",
);

/// Whether whoever makes a link has a role that may give the link's: the one they have there, or else
/// the platform's.
fn may_make(pen: &Pen, link: &Link) -> Result<bool, DbError> {
    let maker = params![link.made_by, link.merchant_id.as_str()];
    let roles: Vec<Role> = pen.rows_locking(MAKER, maker, |row| row.word("role"))?;
    Ok(roles.first().is_some_and(|role| role.may_give(link.role)))
}

fn put_link(pen: &Pen, link: &Link, entry: &AuditEntry) -> Result<bool, DbError> {
    match link.kind {
        LinkKind::First => {
            pen.execute("delete from links where kind = 'first'", params![])?;
        }
        LinkKind::Invitation | LinkKind::Reset => {
            if !may_make(pen, link)? {
                return Ok(false);
            }
        }
    }
    // A table that nobody else tidies up.
    let sql = "delete from links where expires_at <= ?1";
    pen.execute(sql, params![link.created_at.as_micros()])?;
    let sql = "
        insert into links (hash, kind, merchant_id, role, name, user_id, made_by, created_at,
            expires_at)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let columns = params![
        link.hash,
        link.kind.word(),
        link.merchant_id.as_str(),
        link.role.word(),
        link.name,
        link.user_id,
        link.made_by,
        link.created_at.as_micros(),
        link.expires_at.as_micros(),
    ];
    pen.execute(sql, columns)?;
    audit::add(pen, entry)?;
    Ok(true)
}

fn use_link(pen: &Pen, hash: &str, new: &NewUser, entry: &AuditEntry) -> Result<Used, DbError> {
    // The delete decides between two who hold the same link.
    let found = link(pen.sql(), hash)?.filter(|link| link.expires_at > entry.at);
    let Some(link) = found else {
        return Ok(Used::Gone);
    };
    match &link.user_id {
        // Whoever asked for it saw them in this role, and may have had no right to reset another.
        Some(user_id) => {
            let sql = "
                select 1 from memberships where user_id = ?1 and merchant_id = ?2 and role = ?3";
            let seen = params![user_id, link.merchant_id.as_str(), link.role.word()];
            if pen.find(sql, seen, |_| Ok(()))?.is_none() {
                return Ok(Used::Gone);
            }
        }
        None => {
            let sql = "select 1 from users where name_key = ?1";
            let key = params![name_key(&new.name)];
            if pen.find(sql, key, |_| Ok(()))?.is_some() {
                return Ok(Used::NameTaken);
            }
        }
    }
    if pen.execute("delete from links where hash = ?1", params![hash])? == 0 {
        return Ok(Used::Gone);
    }
    let user_id = match link.user_id {
        Some(user_id) => {
            set_password(pen, (&user_id, &new.password), entry.at)?;
            let sql = "delete from sessions where user_id = ?1";
            pen.execute(sql, params![user_id])?;
            user_id
        }
        None => {
            insert_user(pen, new, (&link.merchant_id, link.role), entry.at)?;
            new.user_id.clone()
        }
    };
    audit::add(pen, entry)?;
    Ok(Used::Done(user_id))
}

fn insert_user(
    pen: &Pen,
    new: &NewUser,
    (merchant_id, role): (&MerchantId, Role),
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "
        insert into users (user_id, name, name_key, password, password_at, created_at)
        values (?1, ?2, ?3, ?4, ?5, ?5)";
    let columns = params![
        new.user_id,
        new.name.trim(),
        name_key(&new.name),
        new.password,
        now.as_micros()
    ];
    pen.execute(sql, columns)?;
    let sql = "
        insert into memberships (user_id, merchant_id, role, created_at) values (?1, ?2, ?3, ?4)";
    let columns = params![
        new.user_id,
        merchant_id.as_str(),
        role.word(),
        now.as_micros()
    ];
    pen.execute(sql, columns).map(drop)
}

fn set_password(
    pen: &Pen,
    (user_id, password): (&str, &str),
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "update users set password = ?2, password_at = ?3 where user_id = ?1";
    if pen.execute(sql, params![user_id, password, now.as_micros()])? == 0 {
        return Err(DbError::stale(format!("there is no person {user_id}")));
    }
    // Whoever holds a link for the password before it must not set another.
    let sql = "delete from links where user_id = ?1";
    pen.execute(sql, params![user_id]).map(drop)
}

/// The roles of one person.
pub(super) fn memberships_of(conn: &dyn Sql, user_id: &str) -> Result<Memberships, DbError> {
    let sql = "select merchant_id, role from memberships where user_id = ?1";
    let rows = conn.rows(sql, params![user_id], |row| {
        let merchant_id = MerchantId::new(row.get::<_, String>("merchant_id")?);
        Ok((merchant_id, row.word("role")?))
    })?;
    Ok(rows.into_iter().collect())
}

pub(super) fn read_user(row: &Row<'_>) -> Result<User, DbError> {
    Ok(User {
        user_id: row.get("user_id")?,
        name: row.get("name")?,
        password_at: row.at("password_at")?,
        created_at: row.at("created_at")?,
    })
}

fn link(conn: &dyn Sql, hash: &str) -> Result<Option<Link>, DbError> {
    conn.first(
        "select * from links where hash = ?1",
        params![hash],
        read_link,
    )
}

fn read_link(row: &Row<'_>) -> Result<Link, DbError> {
    Ok(Link {
        hash: row.get("hash")?,
        kind: row.word("kind")?,
        merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
        role: row.word("role")?,
        name: row.get("name")?,
        user_id: row.get("user_id")?,
        made_by: row.get("made_by")?,
        created_at: row.at("created_at")?,
        expires_at: row.at("expires_at")?,
    })
}
