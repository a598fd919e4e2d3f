//! Merchants, their API keys, and what is scheduled to happen for them by itself.
//!
//! Merchants and keys are cached, for every request asks for both. Nothing here checks a secret:
//! the store keeps a hash and hands it out. Called by the API and the test gateway.

use std::sync::Arc;

use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;

use super::Store;
use super::cache::Found;
use super::codec::{Columns, micros};
use super::error::DbError;
use super::pen::{Changed, Pen};
use super::rows::{ApiKeyRow, MerchantRow, ScheduledOutcome};
use super::sql::{Row, params};

impl Store {
    /// Stores a merchant: version 1 inserts it, n replaces version n - 1.
    pub async fn put_merchant(&self, row: MerchantRow) -> Result<(), DbError> {
        self.write(move |pen| put_merchant(pen, &row)).await
    }

    /// One merchant. Cached.
    pub async fn merchant(
        &self,
        merchant_id: &MerchantId,
    ) -> Result<Option<Arc<MerchantRow>>, DbError> {
        let cache = &self.shared.caches.merchants;
        let generation = match cache.find(merchant_id) {
            Found::Cached(row) => return Ok(Some(row)),
            Found::Missing { generation } => generation,
        };
        let id = merchant_id.clone();
        let sql = "
            select merchant_id, doc, version, created_at from merchants where merchant_id = ?1";
        let row = self
            .read(move |conn| conn.first(sql, params![id.as_str()], read_merchant))
            .await?
            .map(Arc::new);
        if let Some(row) = &row {
            cache.keep(generation, merchant_id.clone(), row.clone());
        }
        Ok(row)
    }

    /// All merchants, by id.
    pub async fn merchants(&self) -> Result<Vec<MerchantRow>, DbError> {
        let sql =
            "select merchant_id, doc, version, created_at from merchants order by merchant_id";
        self.read(move |conn| conn.rows(sql, params![], read_merchant))
            .await
    }

    /// Some merchants, by id, from the first one at or after this text.
    pub async fn merchants_from(
        &self,
        from: &str,
        limit: usize,
    ) -> Result<Vec<MerchantRow>, DbError> {
        let (from, limit) = (from.to_owned(), i64::try_from(limit).unwrap_or(i64::MAX));
        let sql = "
            select merchant_id, doc, version, created_at from merchants
            where merchant_id >= ?1 order by merchant_id limit ?2";
        self.read(move |conn| conn.rows(sql, params![from, limit], read_merchant))
            .await
    }

    /// Stores a new key; `Stale` when its id is taken.
    pub async fn insert_api_key(&self, row: ApiKeyRow) -> Result<(), DbError> {
        let sql = "
            insert into api_keys (merchant_id, key_id, hash, doc, created_at, revoked_at)
            values (?1, ?2, ?3, ?4, ?5, ?6)";
        self.write(move |pen| {
            let ApiKeyRow {
                key_id,
                merchant_id,
                hash,
                doc,
                created_at,
                revoked_at,
            } = &row;
            let columns = params![
                merchant_id.as_str(),
                key_id,
                hash,
                doc,
                created_at.as_micros(),
                micros(*revoked_at)
            ];
            pen.execute(sql, columns).map(drop)
        })
        .await
    }

    /// The key with this public half, revoked or not. Cached.
    pub async fn api_key(&self, key_id: &str) -> Result<Option<Arc<ApiKeyRow>>, DbError> {
        let cache = &self.shared.caches.keys;
        let generation = match cache.find(key_id) {
            Found::Cached(row) => return Ok(Some(row)),
            Found::Missing { generation } => generation,
        };
        let id = key_id.to_owned();
        let row = self
            .read(move |conn| {
                let sql = "select * from api_keys where key_id = ?1";
                conn.first(sql, params![id], read_api_key)
            })
            .await?
            .map(Arc::new);
        if let Some(row) = &row {
            cache.keep(generation, key_id.to_owned(), row.clone());
        }
        Ok(row)
    }

    /// A merchant's keys, oldest first; those of the platform for the empty id.
    pub async fn api_keys(&self, merchant_id: &MerchantId) -> Result<Vec<ApiKeyRow>, DbError> {
        let merchant_id = merchant_id.clone();
        let sql = "select * from api_keys where merchant_id = ?1 order by created_at, key_id";
        self.read(move |conn| conn.rows(sql, params![merchant_id.as_str()], read_api_key))
            .await
    }

    /// Revokes a key from now on; `Stale` when there is no such key, or it is revoked already.
    pub async fn revoke_api_key(
        &self,
        merchant_id: &MerchantId,
        key_id: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (merchant_id, key_id) = (merchant_id.clone(), key_id.to_owned());
        let sql = "
            update api_keys set revoked_at = ?3
            where merchant_id = ?1 and key_id = ?2 and revoked_at is null";
        self.write(move |pen| {
            match pen.execute(sql, params![merchant_id.as_str(), key_id, now.as_micros()])? {
                0 => Err(DbError::stale(format!(
                    "there is no key {key_id} to revoke"
                ))),
                _ => {
                    pen.change(Changed::Key(key_id.clone()))?;
                    Ok(())
                }
            }
        })
        .await
    }

    /// What was to happen by now, oldest first, over all merchants.
    pub async fn due_scheduled(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ScheduledOutcome>, DbError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "
            select merchant_id, id, due_at, doc from scheduled_outcomes
            where due_at <= ?1 order by due_at, merchant_id, id limit ?2";
        self.read(move |conn| {
            conn.rows(sql, params![now.as_micros(), limit], |row| {
                Ok(ScheduledOutcome {
                    merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
                    id: row.get("id")?,
                    due_at: row.at("due_at")?,
                    doc: row.get("doc")?,
                })
            })
        })
        .await
    }

    /// When the next scheduled outcome is due, in the past perhaps.
    pub async fn next_scheduled(&self) -> Result<Option<Timestamp>, DbError> {
        self.read(|conn| {
            let sql = "select min(due_at) as due_at from scheduled_outcomes";
            Ok(conn
                .first(sql, params![], |row| row.at_opt("due_at"))?
                .flatten())
        })
        .await
    }
}

fn put_merchant(pen: &mut Pen, row: &MerchantRow) -> Result<(), DbError> {
    let sql = match row.version {
        1 => {
            "insert into merchants (merchant_id, doc, version, created_at)
            values (?1, ?2, ?3, ?4)"
        }
        // A creation time never changes; writing it keeps the parameters of both alike.
        _ => {
            "update merchants set doc = ?2, version = ?3, created_at = ?4
            where merchant_id = ?1 and version = ?3 - 1"
        }
    };
    let MerchantRow {
        merchant_id,
        doc,
        version,
        created_at,
    } = row;
    let columns = params![merchant_id.as_str(), doc, version, created_at.as_micros()];
    if pen.execute(sql, columns)? == 0 {
        let cause = format!(
            "merchant {merchant_id} is not at version {} any more",
            version - 1
        );
        return Err(DbError::stale(cause));
    }
    pen.change(Changed::Merchant(merchant_id.clone()))?;
    Ok(())
}

fn read_merchant(row: &Row<'_>) -> Result<MerchantRow, DbError> {
    Ok(MerchantRow {
        merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
        doc: row.get("doc")?,
        version: row.get("version")?,
        created_at: row.at("created_at")?,
    })
}

fn read_api_key(row: &Row<'_>) -> Result<ApiKeyRow, DbError> {
    Ok(ApiKeyRow {
        key_id: row.get("key_id")?,
        merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
        hash: row.get("hash")?,
        doc: row.get("doc")?,
        created_at: row.at("created_at")?,
        revoked_at: row.at_opt("revoked_at")?,
    })
}
