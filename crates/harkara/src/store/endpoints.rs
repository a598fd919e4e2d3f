//! Endpoints: read from a cache by nearly every request, changed now and then by people.
//!
//! Each change is guarded by the version that was seen. A deleted endpoint stays for the history of
//! its deliveries, which are withdrawn with it. Called by the API and the dispatcher.

use std::sync::Arc;

use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::health::Health;
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use super::Store;
use super::cache::Found;
use super::codec::{Columns, micros};
use super::error::DbError;
use super::pen::{Changed, Pen};
use super::rows::EndpointRow;
use super::sql::{Row, Sql, params};

const COLUMNS: &str = "doc, version, state, state_reason, state_at, health";

impl Store {
    /// A merchant's endpoints that are not deleted, oldest first. Cached.
    pub async fn endpoints(
        &self,
        merchant_id: &MerchantId,
    ) -> Result<Arc<[Arc<Endpoint>]>, DbError> {
        let cache = &self.shared.caches.endpoints;
        let generation = match cache.find(merchant_id) {
            Found::Cached(endpoints) => return Ok(endpoints),
            Found::Missing { generation } => generation,
        };
        let id = merchant_id.clone();
        let endpoints: Arc<[Arc<Endpoint>]> = self
            .read(move |conn| {
                let rows = of_merchant(conn, &id)?.into_iter();
                Ok(rows.map(|row| Arc::new(row.endpoint)).collect())
            })
            .await?;
        cache.keep(generation, merchant_id.clone(), endpoints.clone());
        Ok(endpoints)
    }

    /// A merchant's endpoints that are not deleted, oldest first, with how they are doing.
    pub async fn endpoint_rows(
        &self,
        merchant_id: &MerchantId,
    ) -> Result<Vec<EndpointRow>, DbError> {
        let merchant_id = merchant_id.clone();
        self.read(move |conn| of_merchant(conn, &merchant_id)).await
    }

    /// One endpoint with its version, deleted or not.
    pub async fn endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
    ) -> Result<Option<EndpointRow>, DbError> {
        let (merchant_id, endpoint_id) = (merchant_id.clone(), endpoint_id.clone());
        self.read(move |conn| {
            let sql = format!(
                "select {COLUMNS} from endpoints where merchant_id = ?1 and endpoint_id = ?2"
            );
            let key = params![merchant_id.as_str(), endpoint_id.as_str()];
            conn.first(&sql, key, read_endpoint)
        })
        .await
    }

    /// Stores an endpoint and returns its new version. `expected_version` is the one that was
    /// changed, 0 for a new endpoint; `Stale` when it is another by now.
    pub async fn put_endpoint(
        &self,
        endpoint: &Endpoint,
        expected_version: i64,
    ) -> Result<i64, DbError> {
        let endpoint = endpoint.clone();
        self.write(move |pen| put(pen, &endpoint, expected_version))
            .await
    }

    /// Pauses or resumes; deliveries stay as they are and become due again with the endpoint, which
    /// is taken to be well from then on.
    pub async fn set_endpoint_state(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        state: &EndpointState,
    ) -> Result<(), DbError> {
        let (merchant_id, endpoint_id) = (merchant_id.clone(), endpoint_id.clone());
        let state = state.clone();
        self.write(move |pen| {
            let sql = "
                update endpoints set state = ?3, state_reason = ?4, state_at = ?5,
                    health = null, breaker_open = 0, version = version + 1
                where merchant_id = ?1 and endpoint_id = ?2 and state <> 'deleted'";
            let (word, reason, at) = state_columns(&state);
            let key = (merchant_id.as_str(), endpoint_id.as_str());
            let changed = pen.execute(sql, params![key.0, key.1, word, reason, micros(at)])?;
            found(changed, &endpoint_id)?;
            pen.change(Changed::Merchant(merchant_id.clone()))?;
            Ok(())
        })
        .await
    }

    /// Withdraws what an endpoint has not settled; returns how many deliveries that were.
    pub async fn withdraw(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        reason: &str,
        now: Timestamp,
    ) -> Result<usize, DbError> {
        let (merchant_id, endpoint_id) = (merchant_id.clone(), endpoint_id.clone());
        let reason = reason.to_owned();
        self.write(move |pen| withdraw(pen, &merchant_id, &endpoint_id, (&reason, now)))
            .await
    }

    /// Deletes an endpoint and withdraws what it has not settled; returns how many that were.
    pub async fn delete_endpoint(
        &self,
        merchant_id: &MerchantId,
        endpoint_id: &EndpointId,
        reason: &str,
        now: Timestamp,
    ) -> Result<usize, DbError> {
        let (merchant_id, endpoint_id) = (merchant_id.clone(), endpoint_id.clone());
        let reason = reason.to_owned();
        self.write(move |pen| delete(pen, &merchant_id, &endpoint_id, (&reason, now)))
            .await
    }
}

fn of_merchant(conn: &dyn Sql, merchant_id: &MerchantId) -> Result<Vec<EndpointRow>, DbError> {
    let sql = format!(
        "select {COLUMNS} from endpoints
        where merchant_id = ?1 and state <> 'deleted'
        order by created_at, endpoint_id"
    );
    conn.rows(&sql, params![merchant_id.as_str()], read_endpoint)
}

fn put(pen: &mut Pen, endpoint: &Endpoint, expected_version: i64) -> Result<i64, DbError> {
    let (word, reason, at) = state_columns(&endpoint.state);
    let doc = serde_json::to_string(endpoint)?;
    let version = expected_version + 1;
    let sql = match expected_version {
        0 => {
            "insert into endpoints (merchant_id, endpoint_id, doc, version, state, state_reason,
                state_at, created_at, rate_per_second)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        }
        // A creation time never changes; writing it keeps the parameters of both alike.
        _ => {
            "update endpoints set doc = ?3, version = ?4, state = ?5, state_reason = ?6,
                state_at = ?7, created_at = ?8, rate_per_second = ?9
            where merchant_id = ?1 and endpoint_id = ?2 and version = ?4 - 1
              and state <> 'deleted'"
        }
    };
    let changed = pen.execute(
        sql,
        params![
            endpoint.merchant_id.as_str(),
            endpoint.endpoint_id.as_str(),
            doc,
            version,
            word,
            reason,
            micros(at),
            endpoint.created_at.as_micros(),
            endpoint.rate_per_second,
        ],
    )?;
    if changed == 0 {
        let id = &endpoint.endpoint_id;
        let cause = format!("endpoint {id} is not at version {expected_version} any more");
        return Err(DbError::stale(cause));
    }
    pen.change(Changed::Merchant(endpoint.merchant_id.clone()))?;
    Ok(version)
}

const LOCK: &str = "
    select endpoint from endpoints where merchant_id = ?1 and endpoint_id = ?2 for update";

fn delete(
    pen: &mut Pen,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    (reason, now): (&str, Timestamp),
) -> Result<usize, DbError> {
    // Commits hold this row while they give it deliveries.
    let key = params![merchant_id.as_str(), endpoint_id.as_str()];
    pen.lock(LOCK, key)?;
    let sql = "
        update endpoints set state = 'deleted', state_reason = ?3, state_at = ?4,
            version = version + 1
        where merchant_id = ?1 and endpoint_id = ?2 and state <> 'deleted'";
    let row = params![
        merchant_id.as_str(),
        endpoint_id.as_str(),
        reason,
        now.as_micros()
    ];
    found(pen.execute(sql, row)?, endpoint_id)?;
    pen.change(Changed::Merchant(merchant_id.clone()))?;
    withdraw(pen, merchant_id, endpoint_id, (reason, now))
}

/// Withdraws what an endpoint has not settled; says how many that were.
fn withdraw(
    pen: &Pen,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
    (reason, now): (&str, Timestamp),
) -> Result<usize, DbError> {
    let row = params![
        merchant_id.as_str(),
        endpoint_id.as_str(),
        reason,
        now.as_micros()
    ];
    let mut withdrawn = 0;
    // One statement for each state, because each has its own partial index. Those that wait first: one
    // that a settle lets go meanwhile is pending by the second.
    for unsettled in ["waiting", "pending"] {
        let sql = format!(
            "update deliveries set state = 'withdrawn', reason = ?3, settled_at = ?4,
                due_at = null, waiting_on = null, lease_until = 0
            where state = '{unsettled}' and endpoint = (
                select endpoint from endpoints where merchant_id = ?1 and endpoint_id = ?2)"
        );
        withdrawn += pen.execute(&sql, row)?;
    }
    Ok(withdrawn)
}

fn found(changed: usize, endpoint_id: &EndpointId) -> Result<(), DbError> {
    match changed {
        0 => Err(DbError::stale(format!(
            "endpoint {endpoint_id} does not exist any more"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn state_columns(
    state: &EndpointState,
) -> (&'static str, Option<&str>, Option<Timestamp>) {
    match state {
        EndpointState::Active => ("active", None, None),
        EndpointState::Paused { reason, at } => ("paused", Some(reason), Some(*at)),
        EndpointState::Disabled { reason, at } => ("disabled", Some(reason), Some(*at)),
    }
}

/// The columns have the state; the one in the document is as old as the last edit.
fn read_endpoint(row: &Row<'_>) -> Result<EndpointRow, DbError> {
    let mut endpoint: Endpoint = serde_json::from_str(&row.get::<_, String>("doc")?)?;
    let state: String = row.get("state")?;
    let at = row.at_opt("state_at")?.unwrap_or_default();
    let reason = row
        .get::<_, Option<String>>("state_reason")?
        .unwrap_or_default();
    endpoint.state = match state.as_str() {
        "active" => EndpointState::Active,
        "disabled" => EndpointState::Disabled { reason, at },
        _ => EndpointState::Paused { reason, at },
    };
    let deleted_at = (state == "deleted").then_some(at);
    let health = read_health(row)?;
    Ok(EndpointRow {
        endpoint,
        version: row.get("version")?,
        deleted_at,
        health,
    })
}

/// What is remembered of an endpoint that is not well.
pub(super) fn read_health(row: &Row<'_>) -> Result<Option<Health>, DbError> {
    let doc: Option<String> = row.get("health")?;
    Ok(doc.map(|doc| serde_json::from_str(&doc)).transpose()?)
}
