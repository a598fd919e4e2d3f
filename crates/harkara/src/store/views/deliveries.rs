//! Deliveries and their attempts, answers to repeated requests, and how much is left to do.
//!
//! These rows are what `explain` and the health page are made of.

use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::endpoint::OrderMode;
use harkara_core::id::{DeliveryId, EndpointId, EventId, MerchantId};
use harkara_core::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::{first, rows};
use crate::store::Store;
use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::rows::{AttemptRow, AttemptVerdict, NewIdempotencyKey};

/// A delivery, where it stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub delivery_id: DeliveryId,
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    pub event_name: String,
    pub subject: String,
    pub sequence: i64,
    pub kind: DeliveryKind,
    pub order: OrderMode,
    pub url_override: Option<String>,
    pub state: DeliveryState,
    /// Why it was withheld or withdrawn.
    pub reason: Option<String>,
    pub waiting_on: Option<DeliveryId>,
    pub overtaking: bool,
    pub attempts: i64,
    pub due_at: Option<Timestamp>,
    /// Somebody is at it until then; in the past when nobody is.
    pub lease_until: Timestamp,
    pub created_at: Timestamp,
    pub settled_at: Option<Timestamp>,
}

/// An attempt and what it meant when it was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// Counts all calls of the delivery, late ones included, from 1.
    pub n: i64,
    pub attempt: AttemptRow,
    pub verdict: AttemptVerdict,
    pub retry_at: Option<Timestamp>,
    /// Its claim had been taken over; only a delivered verdict counted.
    pub late: bool,
}

/// How much is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: i64,
    pub waiting: i64,
    pub oldest_due_at: Option<Timestamp>,
}

const SELECT_DELIVERIES: &str = "
    select d.*, e.name as event_name from deliveries d
    join events e on e.merchant_id = d.merchant_id and e.position = d.position";

impl Store {
    /// The deliveries of an event, oldest first: one per endpoint, then replays.
    pub async fn deliveries_of_event(
        &self,
        merchant_id: &MerchantId,
        event_id: &EventId,
    ) -> Result<Vec<DeliveryView>, DbError> {
        let (merchant_id, event_id) = (merchant_id.clone(), event_id.clone());
        self.read(move |conn| deliveries_of(conn, &merchant_id, &event_id))
            .await
    }

    /// One delivery, whatever its state.
    pub async fn delivery(
        &self,
        merchant_id: &MerchantId,
        delivery_id: &DeliveryId,
    ) -> Result<Option<DeliveryView>, DbError> {
        let (merchant_id, delivery_id) = (merchant_id.clone(), delivery_id.clone());
        self.read(move |conn| delivery_of(conn, &merchant_id, &delivery_id))
            .await
    }

    /// The calls made for a delivery, in the order in which they were recorded.
    pub async fn attempts(
        &self,
        merchant_id: &MerchantId,
        delivery_id: &DeliveryId,
    ) -> Result<Vec<AttemptView>, DbError> {
        let (merchant_id, delivery_id) = (merchant_id.clone(), delivery_id.clone());
        self.read(move |conn| attempts_of(conn, &merchant_id, &delivery_id))
            .await
    }

    /// What was answered to a request with this key.
    pub async fn idempotency(
        &self,
        merchant_id: &MerchantId,
        key: &str,
    ) -> Result<Option<NewIdempotencyKey>, DbError> {
        let sql = "
            select key, request_hash, response from idempotency_keys
            where merchant_id = ?1 and key = ?2";
        let (merchant_id, key) = (merchant_id.clone(), key.to_owned());
        self.read(move |conn| {
            first(conn, sql, params![merchant_id.as_str(), key], |row| {
                Ok(NewIdempotencyKey {
                    key: row.get("key")?,
                    request_hash: row.get("request_hash")?,
                    response: row.get("response")?,
                })
            })
        })
        .await
    }

    /// How much is left to do, for one merchant or for all. Costs as much as there is left.
    pub async fn counts(&self, merchant_id: Option<&MerchantId>) -> Result<Counts, DbError> {
        let of_merchant = match merchant_id {
            Some(_) => "and merchant_id = ?1",
            // The parameter is bound all the same.
            None => "and ?1 = ''",
        };
        let sql = format!(
            "select count(*) as pending, min(due_at) as oldest_due_at,
                (select count(*) from deliveries where state = 'waiting' {of_merchant}) as waiting
            from deliveries where state = 'pending' {of_merchant}"
        );
        let merchant = merchant_id.map_or(String::new(), |id| id.as_str().to_owned());
        self.read_long(move |conn| {
            let counts = first(conn, &sql, [merchant], |row| {
                Ok(Counts {
                    pending: row.get("pending")?,
                    waiting: row.get("waiting")?,
                    oldest_due_at: row.at_opt("oldest_due_at")?,
                })
            })?;
            Ok(counts.unwrap_or_default())
        })
        .await
    }
}

pub(super) fn deliveries_of(
    conn: &Connection,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<Vec<DeliveryView>, DbError> {
    let sql = format!(
        "{SELECT_DELIVERIES} where d.merchant_id = ?1 and d.event_id = ?2
        order by d.created_at, d.delivery_id"
    );
    let wanted = params![merchant_id.as_str(), event_id.as_str()];
    rows(conn, &sql, wanted, read_delivery)
}

pub(super) fn delivery_of(
    conn: &Connection,
    merchant_id: &MerchantId,
    delivery_id: &DeliveryId,
) -> Result<Option<DeliveryView>, DbError> {
    let sql = format!("{SELECT_DELIVERIES} where d.merchant_id = ?1 and d.delivery_id = ?2");
    let wanted = params![merchant_id.as_str(), delivery_id.as_str()];
    first(conn, &sql, wanted, read_delivery)
}

pub(super) fn attempts_of(
    conn: &Connection,
    merchant_id: &MerchantId,
    delivery_id: &DeliveryId,
) -> Result<Vec<AttemptView>, DbError> {
    let sql = "
        select n, started_at, duration_us, status, failure, doc, verdict, retry_at, late
        from attempts where merchant_id = ?1 and delivery_id = ?2 order by n";
    let wanted = params![merchant_id.as_str(), delivery_id.as_str()];
    rows(conn, sql, wanted, read_attempt)
}

fn read_delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryView> {
    Ok(DeliveryView {
        delivery_id: DeliveryId::new(row.get::<_, String>("delivery_id")?),
        endpoint_id: EndpointId::new(row.get::<_, String>("endpoint_id")?),
        event_id: EventId::new(row.get::<_, String>("event_id")?),
        event_name: row.get("event_name")?,
        subject: row.get("subject")?,
        sequence: row.get("sequence")?,
        kind: row.word("kind")?,
        order: row.word("order_mode")?,
        url_override: row.get("url_override")?,
        state: row.word("state")?,
        reason: row.get("reason")?,
        waiting_on: row
            .get::<_, Option<String>>("waiting_on")?
            .map(DeliveryId::new),
        overtaking: row.get("overtaking")?,
        attempts: row.get("attempts")?,
        due_at: row.at_opt("due_at")?,
        lease_until: row.at("lease_until")?,
        created_at: row.at("created_at")?,
        settled_at: row.at_opt("settled_at")?,
    })
}

fn read_attempt(row: &Row<'_>) -> rusqlite::Result<AttemptView> {
    Ok(AttemptView {
        n: row.get("n")?,
        attempt: AttemptRow {
            started_at: row.at("started_at")?,
            duration_us: row.get("duration_us")?,
            status: row.get("status")?,
            failure: row.get("failure")?,
            doc: row.get("doc")?,
        },
        verdict: row.word("verdict")?,
        retry_at: row.at_opt("retry_at")?,
        late: row.get("late")?,
    })
}
