//! Deliveries and their attempts, answers to repeated requests, and how much is left to do.
//!
//! These rows are what `explain` and the health page are made of.

use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::endpoint::OrderMode;
use harkara_core::id::{DeliveryId, EndpointId, EventId, MerchantId};
use harkara_core::time::Timestamp;

use super::word;
use crate::store::Store;
use crate::store::answers;
use crate::store::bodies::Bodies;
use crate::store::codec::{Columns, pack_id, prefix};
use crate::store::error::DbError;
use crate::store::rows::{
    AttemptRow, AttemptVerdict, CredentialsUsed, Evidence, NewIdempotencyKey,
};
use crate::store::sql::{Row, Sql, params};

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

/// Deliveries of a kind that are counted; beyond, there are so many or more.
pub(crate) const COUNTED: i64 = 100_000;

/// How much is left to do. Nothing is counted further than to a bound, [`COUNTED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: i64,
    pub waiting: i64,
    pub oldest_due_at: Option<Timestamp>,
}

const SELECT_DELIVERIES: &str = "
    select d.*, e.event_id, w.text as event_name, s.key as subject_key, p.endpoint_id,
        before.delivery_id as waiting_on_id
    from events e
    join deliveries d on d.delivery between e.position * 65536 and e.position * 65536 + 65535
    left join words w on w.word = e.name
    left join subjects s on s.subject = d.subject
    left join endpoints p on p.endpoint = d.endpoint
    left join deliveries before on before.delivery = d.waiting_on";

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
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| attempts_of((conn, &bodies), &merchant_id, &delivery_id))
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
            where merchant = ?1 and key = ?2";
        let (merchant_id, key) = (merchant_id.clone(), key.to_owned());
        self.read(move |conn| {
            let merchant = word(conn, merchant_id.as_str())?;
            conn.first(sql, params![merchant, key], |row| {
                Ok(NewIdempotencyKey {
                    key: row.get("key")?,
                    request_hash: row.id("request_hash", prefix::HASH)?,
                    response: row.get("response")?,
                })
            })
        })
        .await
    }

    /// How much is left to do, of one merchant or of all.
    pub async fn counts(&self, merchant_id: Option<&MerchantId>) -> Result<Counts, DbError> {
        self.counts_to(COUNTED, merchant_id).await
    }

    /// The same with another bound.
    pub(in crate::store) async fn counts_to(
        &self,
        most: i64,
        merchant_id: Option<&MerchantId>,
    ) -> Result<Counts, DbError> {
        // No merchant has an empty id.
        let merchant = merchant_id.map_or(String::new(), |id| id.as_str().to_owned());
        let of_merchant = match merchant_id {
            Some(_) => "and endpoint in (select endpoint from endpoints where merchant_id = ?1)",
            None => "and ?1 = ''",
        };
        self.read_long(move |conn| {
            let many = |state: &str| {
                let sql = format!(
                    "select count(*) from (
                        select 1 from deliveries where state = '{state}' {of_merchant} limit ?2
                    ) as counted"
                );
                let many = conn.first(&sql, params![merchant, most], |row| row.get(0))?;
                Ok::<i64, DbError>(many.unwrap_or_default())
            };
            let oldest =
                conn.first(&oldest_due(), params![merchant], |row| row.at_opt("due_at"))?;
            Ok(Counts {
                pending: many("pending")?,
                waiting: many("waiting")?,
                oldest_due_at: oldest.flatten(),
            })
        })
        .await
    }
}

/// The oldest of each endpoint is found by the index of what is due.
fn oldest_due() -> String {
    let of = |retried: &str| {
        format!(
            "select (select min(d.due_at) from deliveries d
                where d.endpoint = p.endpoint and d.retried = {retried} and d.state = 'pending')
                as due_at
            from endpoints p where ?1 = '' or p.merchant_id = ?1"
        )
    };
    let (fresh, retried) = (of("0"), of("1"));
    format!("select min(due_at) as due_at from ({fresh} union all {retried}) as oldest")
}

pub(super) fn deliveries_of(
    conn: &dyn Sql,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<Vec<DeliveryView>, DbError> {
    let sql = format!(
        "{SELECT_DELIVERIES} where e.merchant = ?1 and e.event_id = ?2 order by d.delivery"
    );
    let merchant = word(conn, merchant_id.as_str())?;
    let wanted = params![merchant, pack_id(prefix::EVENT, event_id.as_str())];
    conn.rows(&sql, wanted, read_delivery)
}

pub(super) fn delivery_of(
    conn: &dyn Sql,
    merchant_id: &MerchantId,
    delivery_id: &DeliveryId,
) -> Result<Option<DeliveryView>, DbError> {
    let sql = format!(
        "{SELECT_DELIVERIES} where e.merchant = ?1 and d.delivery_id = ?2
          and e.position = (select delivery / 65536 from deliveries where delivery_id = ?2)"
    );
    let merchant = word(conn, merchant_id.as_str())?;
    let wanted = params![merchant, pack_id(prefix::DELIVERY, delivery_id.as_str())];
    conn.first(&sql, wanted, read_delivery)
}

pub(super) fn attempts_of(
    (conn, bodies): (&dyn Sql, &Bodies),
    merchant_id: &MerchantId,
    delivery_id: &DeliveryId,
) -> Result<Vec<AttemptView>, DbError> {
    let sql = "
        select a.*, coalesce(w.text, d.url_override, '') as url_called
        from deliveries d
        join events e on e.position = d.delivery / 65536
        join attempts a on a.delivery = d.delivery
        left join words w on w.word = a.url
        where d.delivery_id = ?2 and e.merchant = ?1 order by a.n";
    let merchant = word(conn, merchant_id.as_str())?;
    let wanted = params![merchant, pack_id(prefix::DELIVERY, delivery_id.as_str())];
    conn.rows(sql, wanted, |row| read_attempt(row, bodies))
}

fn read_delivery(row: &Row<'_>) -> Result<DeliveryView, DbError> {
    Ok(DeliveryView {
        delivery_id: row.delivery_id("delivery_id")?,
        endpoint_id: EndpointId::new(row.get::<_, String>("endpoint_id")?),
        event_id: row.event_id("event_id")?,
        event_name: row.get("event_name")?,
        subject: row.get("subject_key")?,
        sequence: row.get("sequence")?,
        kind: row.word("kind")?,
        order: row.word("order_mode")?,
        url_override: row.get("url_override")?,
        state: row.word("state")?,
        reason: row.get("reason")?,
        waiting_on: match row.get::<_, Option<i64>>("waiting_on")? {
            Some(_) => Some(row.delivery_id("waiting_on_id")?),
            None => None,
        },
        overtaking: row.get("overtaking")?,
        attempts: row.get("attempts")?,
        due_at: row.at_opt("due_at")?,
        lease_until: row.at("lease_until")?,
        created_at: row.at("created_at")?,
        settled_at: row.at_opt("settled_at")?,
    })
}

fn read_attempt(row: &Row<'_>, bodies: &Bodies) -> Result<AttemptView, DbError> {
    let mut evidence = Evidence {
        url: row.get("url_called")?,
        overtaking: row.get("overtaking")?,
        credentials: match row.get("previous_credentials")? {
            true => CredentialsUsed::Previous,
            false => CredentialsUsed::Current,
        },
        dns_us: row.span("dns_us")?,
        connect_us: row.span("connect_us")?,
        tls_us: row.span("tls_us")?,
        write_us: row.span("write_us")?,
        first_byte_us: row.span("first_byte_us")?,
        ..Evidence::default()
    };
    if let Some(stored) = row.get::<_, Option<Vec<u8>>>("answer")? {
        answers::unpack(&stored, bodies, &mut evidence)?;
    }
    Ok(AttemptView {
        n: row.get("n")?,
        attempt: AttemptRow {
            started_at: row.at("started_at")?,
            duration_us: row.get("duration_us")?,
            status: row.get("status")?,
            failure: row.get("failure")?,
            evidence,
        },
        verdict: row.word("verdict")?,
        retry_at: row.at_opt("retry_at")?,
        late: row.get("late")?,
    })
}
