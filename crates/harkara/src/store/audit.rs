//! What people did, in the order in which they did it: rows that are only ever added, each chained to
//! the one before it by its hash.
//!
//! Nothing here changes or deletes a row, so a chain that does not hold was changed behind our back.
//! An entry that belongs to a write is added in its unit, by the other files of the store.

use harkara_core::id::{MerchantId, digest, hex};
use harkara_core::time::Timestamp;

use super::Store;
use super::codec::Columns;
use super::error::DbError;
use super::pen::Pen;
use super::sql::{Row, Sql, params};

/// Something that a person did, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whom it is about; the platform is the empty id.
    pub merchant_id: MerchantId,
    pub at: Timestamp,
    /// Who, by name; what was typed where nobody is known yet.
    pub actor: String,
    pub address: String,
    /// What, in two or three words, such as `signed in`.
    pub action: String,
    /// To what, by its id.
    pub target: String,
    /// `done`, or why not; `begun` where it was written down before it was done.
    pub result: String,
    /// Before and after, never a secret.
    pub detail: String,
}

/// An entry where it stands in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub n: i64,
    pub entry: AuditEntry,
    pub hash: String,
    /// The hash of the row before it; empty before the first, `None` when that row is gone.
    pub before: Option<String>,
}

impl AuditRow {
    /// Whether the row is what was written, after the row that it was written after.
    pub fn holds(&self) -> bool {
        let before = self.before.as_deref();
        before.is_some_and(|before| self.entry.hash(self.n, before) == self.hash)
    }
}

impl AuditEntry {
    /// Something that was done, about the platform; whoever knows more of it adds that.
    pub fn new(at: Timestamp, actor: &str, action: &str) -> Self {
        Self {
            merchant_id: MerchantId::platform(),
            at,
            actor: actor.to_owned(),
            address: String::new(),
            action: action.to_owned(),
            target: String::new(),
            result: "done".to_owned(),
            detail: String::new(),
        }
    }

    fn hash(&self, n: i64, before: &str) -> String {
        let Self {
            merchant_id,
            at,
            actor,
            address,
            action,
            target,
            result,
            detail,
        } = self;
        let (n, at) = (n.to_string(), at.as_micros().to_string());
        let parts = [
            before,
            &n,
            merchant_id.as_str(),
            &at,
            actor,
            address,
            action,
            target,
            result,
            detail,
        ];
        hex(&digest(&parts))
    }
}

impl Store {
    /// Adds an entry that belongs to no other write of the store.
    pub async fn add_to_audit(&self, entry: AuditEntry) -> Result<(), DbError> {
        self.write(move |pen| add(pen, &entry)).await
    }

    /// The newest entries before number `before`, newest first: those about one merchant, or all.
    pub async fn audit(
        &self,
        merchant_id: Option<&MerchantId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, DbError> {
        let merchant_id = merchant_id.cloned();
        let (before, limit) = (
            before.unwrap_or(i64::MAX),
            i64::try_from(limit).unwrap_or(i64::MAX),
        );
        self.read(move |conn| match &merchant_id {
            Some(id) => {
                let sql = format!("{SELECT} where a.merchant_id = ?3 and a.n < ?1 {NEWEST}");
                conn.rows(&sql, params![before, limit, id.as_str()], read)
            }
            None => {
                let sql = format!("{SELECT} where a.n < ?1 {NEWEST}");
                conn.rows(&sql, params![before, limit], read)
            }
        })
        .await
    }
}

/// Each with the hash of the row before it.
const SELECT: &str = "
    select a.*, case when a.n = 1 then '' else (select p.hash from audit p where p.n = a.n - 1) end
        as hash_before
    from audit a";

const NEWEST: &str = "order by a.n desc limit ?2";

/// Writers take turns here, so that no number is given twice and none is left out.
const LOCK: &str = "select pg_advisory_xact_lock(7305808869232150899)";

/// Adds an entry in the unit of the write that it tells of.
pub(super) fn add(pen: &Pen, entry: &AuditEntry) -> Result<(), DbError> {
    pen.lock(LOCK, params![])?;
    let last = last(pen.sql())?;
    let (n, before) = last.map_or((1, String::new()), |(n, hash)| (n + 1, hash));
    let sql = "
        insert into audit (n, merchant_id, at, actor, address, action, target, result, detail, hash)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let columns = params![
        n,
        entry.merchant_id.as_str(),
        entry.at.as_micros(),
        entry.actor,
        entry.address,
        entry.action,
        entry.target,
        entry.result,
        entry.detail,
        entry.hash(n, &before),
    ];
    pen.execute(sql, columns).map(drop)
}

fn last(conn: &dyn Sql) -> Result<Option<(i64, String)>, DbError> {
    let sql = "select n, hash from audit order by n desc limit 1";
    conn.first(sql, params![], |row| Ok((row.get("n")?, row.get("hash")?)))
}

fn read(row: &Row<'_>) -> Result<AuditRow, DbError> {
    Ok(AuditRow {
        n: row.get("n")?,
        entry: AuditEntry {
            merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
            at: row.at("at")?,
            actor: row.get("actor")?,
            address: row.get("address")?,
            action: row.get("action")?,
            target: row.get("target")?,
            result: row.get("result")?,
            detail: row.get("detail")?,
        },
        hash: row.get("hash")?,
        before: row.get("hash_before")?,
    })
}
