//! Orders, mandates and notifications as they are stored, own and foreign alike.
//!
//! The document is handed out unread: our own as it was written, a foreign one cut out of the event
//! that last told of it, byte for byte. The columns are those that lists are made of. An order is
//! found by its id in any case, its public id, or one of its transactions and refunds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use harkara_core::id::{MandateId, MerchantId, NotificationRef, OrderId, Subject};
use harkara_core::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::events::{HAD, owed};
use super::{count, subject, word};
use crate::store::Store;
use crate::store::bodies::Bodies;
use crate::store::codec::{Columns, Word, micros, pack_id, prefix, unpack_id};
use crate::store::error::DbError;
use crate::store::rows::{Origin, RefKind};
use crate::store::sql::{Bind, Row, params};

/// An order as it is stored, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    pub merchant_id: MerchantId,
    pub order_id: OrderId,
    /// A foreign order has no public page, and no amount that we could vouch for.
    pub internal_id: Option<String>,
    pub doc: String,
    pub version: i64,
    pub origin: Origin,
    pub status: String,
    pub amount_minor: Option<i64>,
    pub currency: Option<String>,
    pub customer_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Some endpoint has one of its events, and none lacks one that was meant for it.
    pub notified: bool,
}

/// A mandate as it is stored, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandateView {
    pub mandate_id: MandateId,
    pub doc: String,
    pub version: i64,
    pub origin: Origin,
    pub status: String,
    pub customer_id: Option<String>,
    pub order_id: Option<OrderId>,
    pub created_at: Timestamp,
}

/// A notification as it is stored, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationView {
    pub object_reference_id: NotificationRef,
    pub doc: String,
    pub version: i64,
    pub origin: Origin,
    pub status: String,
    /// Unknown when a foreign ledger sent it.
    pub mandate_id: Option<MandateId>,
    pub created_at: Timestamp,
}

/// Which orders are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    pub status: Option<String>,
    /// At or after.
    pub created_after: Option<Timestamp>,
    /// Before.
    pub created_before: Option<Timestamp>,
    pub customer_id: Option<String>,
    pub notified: Option<bool>,
    pub limit: usize,
    pub offset: usize,
}

/// Some of the orders that a filter lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderPage {
    /// Newest first.
    pub orders: Vec<OrderView>,
    /// How many there are on all pages.
    pub total: i64,
}

impl Store {
    /// The order with this id, in upper or lower case.
    pub async fn order(
        &self,
        merchant_id: &MerchantId,
        order_id: &OrderId,
    ) -> Result<Option<OrderView>, DbError> {
        let sql = select_orders("o.subject = ?1");
        let merchant_id = merchant_id.clone();
        let key = Subject::Order(order_id.clone()).key();
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let subject = match word(conn, merchant_id.as_str())? {
                Some(merchant) => subject(conn, merchant, &key)?,
                None => None,
            };
            conn.first(&sql, params![subject], |row| read_order(row, &bodies))
        })
        .await
    }

    /// The order behind a public link.
    pub async fn order_by_internal_id(
        &self,
        internal_id: &str,
    ) -> Result<Option<OrderView>, DbError> {
        let sql = select_orders("o.internal_id = ?1");
        let internal_id = pack_id(prefix::ORDER, internal_id);
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            conn.first(&sql, params![internal_id], |row| read_order(row, &bodies))
        })
        .await
    }

    /// The order that a transaction or a refund belongs to.
    pub async fn order_by_ref(
        &self,
        merchant_id: &MerchantId,
        kind: RefKind,
        value: &str,
    ) -> Result<Option<OrderView>, DbError> {
        let sql = select_orders(
            "o.subject = (select subject from order_refs
                where merchant = ?1 and kind = ?2 and value = ?3)",
        );
        let (merchant_id, value) = (merchant_id.clone(), value.to_owned());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let merchant = word(conn, merchant_id.as_str())?;
            let wanted = params![merchant, kind.word(), value];
            conn.first(&sql, wanted, |row| read_order(row, &bodies))
        })
        .await
    }

    /// One page of a merchant's orders.
    pub async fn orders(
        &self,
        merchant_id: &MerchantId,
        filter: &OrderFilter,
    ) -> Result<OrderPage, DbError> {
        let (merchant_id, filter) = (merchant_id.clone(), filter.clone());
        let bodies = self.shared.bodies.clone();
        self.read_long(move |conn| {
            let wanted = wanted_orders(filter.notified);
            let (after, before) = (micros(filter.created_after), micros(filter.created_before));
            let merchant = word(conn, merchant_id.as_str())?;
            let mut values: Vec<&dyn Bind> = vec![
                &merchant,
                &filter.status,
                &after,
                &before,
                &filter.customer_id,
            ];
            let total = format!("select count(*) from orders o where {wanted}");
            let total = conn.first(&total, &values, |row| row.get(0))?.unwrap_or(0);
            let (limit, offset) = (count(filter.limit), count(filter.offset));
            values.extend([&limit as &dyn Bind, &offset]);
            let page = format!(
                "{} order by o.created_at desc, o.subject desc limit ?6 offset ?7",
                select_orders(&wanted)
            );
            Ok(OrderPage {
                orders: conn.rows(&page, &values, |row| read_order(row, &bodies))?,
                total,
            })
        })
        .await
    }

    /// The mandate with this id.
    pub async fn mandate(
        &self,
        merchant_id: &MerchantId,
        mandate_id: &MandateId,
    ) -> Result<Option<MandateView>, DbError> {
        let sql = format!("{SELECT_MANDATES} where m.merchant_id = ?1 and m.mandate_id = ?2");
        let (merchant_id, mandate_id) = (merchant_id.clone(), mandate_id.clone());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let wanted = params![merchant_id.as_str(), mandate_id.as_str()];
            conn.first(&sql, wanted, |row| read_mandate(row, &bodies))
        })
        .await
    }

    /// A customer's mandates, newest first.
    pub async fn mandates_of_customer(
        &self,
        merchant_id: &MerchantId,
        customer_id: &str,
    ) -> Result<Vec<MandateView>, DbError> {
        let sql = format!(
            "{SELECT_MANDATES} where m.merchant_id = ?1 and m.customer_id = ?2
            order by m.created_at desc, m.mandate_id"
        );
        let (merchant_id, customer_id) = (merchant_id.clone(), customer_id.to_owned());
        let bodies = self.shared.bodies.clone();
        self.read_long(move |conn| {
            let wanted = params![merchant_id.as_str(), customer_id];
            conn.rows(&sql, wanted, |row| read_mandate(row, &bodies))
        })
        .await
    }

    /// The notification that its caller named so.
    pub async fn notification(
        &self,
        merchant_id: &MerchantId,
        object_reference_id: &NotificationRef,
    ) -> Result<Option<NotificationView>, DbError> {
        let sql = "
            select n.*, b.body from notifications n
            left join event_bodies b on b.position = n.position
            where n.merchant_id = ?1 and n.object_reference_id = ?2";
        let (merchant_id, id) = (merchant_id.clone(), object_reference_id.clone());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let wanted = params![merchant_id.as_str(), id.as_str()];
            conn.first(sql, wanted, |row| read_notification(row, &bodies))
        })
        .await
    }
}

const SELECT_MANDATES: &str = "
    select m.*, b.body from mandates m
    left join event_bodies b on b.position = m.position";

/// Whether an order (`o`) is notified, from the events about it and from what is known of those that
/// are deleted.
pub(super) fn notified_order() -> String {
    let events = "select 1 from events e
        where e.subject = o.subject";
    let forgotten = "select 1 from forgotten_subjects f
        where f.subject = o.subject";
    format!(
        "((exists ({events} and {HAD}) or exists ({forgotten} and f.had = 1))
        and not exists ({events} and {}) and not exists ({forgotten} and f.owed = 1))",
        owed()
    )
}

pub(super) fn select_orders(wanted: &str) -> String {
    format!(
        "select o.*, m.text as merchant_id, s.key, b.body, {} as notified from orders o
        left join words m on m.word = o.merchant
        left join subjects s on s.subject = o.subject
        left join event_bodies b on b.position = o.position
        where {wanted}",
        notified_order()
    )
}

/// The conditions of a filter, over parameters 1 to 5.
fn wanted_orders(notified: Option<bool>) -> String {
    let notified = match notified {
        Some(true) => format!(" and {}", notified_order()),
        Some(false) => format!(" and not {}", notified_order()),
        None => String::new(),
    };
    format!(
        "o.merchant = ?1 and (cast(?2 as text) is null or o.status = ?2)
        and (cast(?3 as bigint) is null or o.created_at >= ?3)
        and (cast(?4 as bigint) is null or o.created_at < ?4)
        and (cast(?5 as text) is null or o.customer_id = ?5){notified}"
    )
}

/// Our own document, or what a foreign ledger said: in the event that the row names, or in the body
/// that it has kept of it.
fn read_doc(row: &Row<'_>, bodies: &Bodies) -> Result<String, DbError> {
    let here: Option<Vec<u8>> = row.get("doc")?;
    match (row.word("origin")?, here) {
        (Origin::Own, Some(doc)) => Ok(bodies.unpack_text(&doc)?),
        (Origin::Foreign, Some(body)) => content(&body, bodies),
        (Origin::Own | Origin::Foreign, None) => content(&row.get::<_, Vec<u8>>("body")?, bodies),
    }
}

/// The text under the one key of an event's `content`.
fn content(body: &[u8], bodies: &Bodies) -> Result<String, DbError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        content: BTreeMap<Cow<'a, str>, &'a RawValue>,
    }
    let body = bodies.unpack(body)?;
    let envelope: Envelope<'_> = serde_json::from_slice(&body)?;
    let one = envelope.content.into_values().next();
    Ok(one.map_or_else(String::new, |json| json.get().to_owned()))
}

pub(super) fn read_order(row: &Row<'_>, bodies: &Bodies) -> Result<OrderView, DbError> {
    let key: String = row.get("key")?;
    let as_written: Option<String> = row.get("order_id")?;
    let lower_case = || key.strip_prefix("order/").unwrap_or(&key).to_owned();
    let internal_id: Option<Vec<u8>> = row.get("internal_id")?;
    Ok(OrderView {
        merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
        order_id: OrderId::new(as_written.unwrap_or_else(lower_case)),
        internal_id: internal_id.map(|stored| unpack_id(prefix::ORDER, &stored)),
        doc: read_doc(row, bodies)?,
        version: row.get("version")?,
        origin: row.word("origin")?,
        status: row.get("status")?,
        amount_minor: row.get("amount_minor")?,
        currency: row.get("currency")?,
        customer_id: row.get("customer_id")?,
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
        notified: row.get("notified")?,
    })
}

fn read_mandate(row: &Row<'_>, bodies: &Bodies) -> Result<MandateView, DbError> {
    Ok(MandateView {
        mandate_id: MandateId::new(row.get::<_, String>("mandate_id")?),
        doc: read_doc(row, bodies)?,
        version: row.get("version")?,
        origin: row.word("origin")?,
        status: row.get("status")?,
        customer_id: row.get("customer_id")?,
        order_id: row.get::<_, Option<String>>("order_id")?.map(OrderId::new),
        created_at: row.at("created_at")?,
    })
}

fn read_notification(row: &Row<'_>, bodies: &Bodies) -> Result<NotificationView, DbError> {
    Ok(NotificationView {
        object_reference_id: NotificationRef::new(row.get::<_, String>("object_reference_id")?),
        doc: read_doc(row, bodies)?,
        version: row.get("version")?,
        origin: row.word("origin")?,
        status: row.get("status")?,
        mandate_id: row
            .get::<_, Option<String>>("mandate_id")?
            .map(MandateId::new),
        created_at: row.at("created_at")?,
    })
}
