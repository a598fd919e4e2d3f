//! Lists for people: newest first, a page at a time, at a cost that does not grow with the store.
//!
//! A page goes on where the one before it ended, by key and not by count, and looks at no more rows than
//! its bound: where a filter lets few through, it may end early and say how far it has looked.

use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;

use super::aggregates::{OrderView, notified_order, read_order, select_orders};
use super::events::{EVENTS, EventView, notified, read_event, select_events};
use super::overview::PAID;
use super::{count, word};
use crate::store::Store;
use crate::store::codec::micros;
use crate::store::error::DbError;
use crate::store::sql::{Sql, params};

/// Rows that one page may look at.
const LOOKED_AT: i64 = 2_000;

/// A place in the list of orders; the page after it has what is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderPlace {
    pub created_at: Timestamp,
    pub number: i64,
}

/// Which orders are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct RecentOrders {
    pub status: Option<String>,
    /// In whole or in part.
    pub is_paid: bool,
    /// At or after.
    pub created_after: Option<Timestamp>,
    /// Before.
    pub created_before: Option<Timestamp>,
    pub customer_id: Option<String>,
    pub notified: Option<bool>,
    pub after: Option<OrderPlace>,
    pub limit: usize,
}

/// Which events are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct RecentEvents {
    pub name: Option<String>,
    pub notified: Option<bool>,
    /// Older than this position.
    pub before: Option<i64>,
    pub limit: usize,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent<T, Place> {
    pub rows: Vec<T>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Place>,
}

impl Store {
    /// A merchant's orders, the newest first.
    pub async fn recent_orders(
        &self,
        merchant_id: &MerchantId,
        wanted: RecentOrders,
    ) -> Result<Recent<OrderView, OrderPlace>, DbError> {
        self.recent_orders_within(merchant_id, wanted, LOOKED_AT)
            .await
    }

    pub(in crate::store) async fn recent_orders_within(
        &self,
        merchant_id: &MerchantId,
        wanted: RecentOrders,
        looked_at: i64,
    ) -> Result<Recent<OrderView, OrderPlace>, DbError> {
        let (merchant_id, bodies) = (merchant_id.clone(), self.shared.bodies.clone());
        self.read_long(move |conn| {
            let Some(merchant) = word(conn, merchant_id.as_str())? else {
                return Ok(Recent::none());
            };
            let passes_over =
                wanted.status.is_some() || wanted.is_paid || wanted.notified.is_some();
            let end = match passes_over {
                true => orders_window(conn, merchant, &wanted, looked_at)?,
                false => None,
            };
            let (after, floor) = (wanted.from(), end.unwrap_or(OrderPlace::OLDEST));
            let sql = orders_sql(&wanted);
            let values = params![
                merchant,
                after.created_at.as_micros(),
                after.number,
                micros(wanted.created_after),
                wanted.customer_id,
                floor.created_at.as_micros(),
                floor.number,
                wanted.status,
                count(wanted.limit),
            ];
            let rows = conn.rows(&sql, values, |row| {
                let order = read_order(row, &bodies)?;
                let place = OrderPlace {
                    created_at: order.created_at,
                    number: row.get("subject")?,
                };
                Ok((order, place))
            })?;
            Ok(Recent::page(rows, wanted.limit, end))
        })
        .await
    }

    /// A merchant's events, the newest first.
    pub async fn recent_events(
        &self,
        merchant_id: &MerchantId,
        wanted: RecentEvents,
    ) -> Result<Recent<EventView, i64>, DbError> {
        let merchant_id = merchant_id.clone();
        self.read_long(move |conn| {
            let Some(merchant) = word(conn, merchant_id.as_str())? else {
                return Ok(Recent::none());
            };
            let name = match &wanted.name {
                // A name that no event has had yet is that of none.
                Some(name) => Some(word(conn, name)?.unwrap_or(0)),
                None => None,
            };
            let before = wanted.before.unwrap_or(i64::MAX);
            let end = match name.is_some() || wanted.notified.is_some() {
                true => window_of_events(conn, merchant, before, LOOKED_AT)?,
                false => None,
            };
            let sql = events_sql(&wanted);
            let floor = end.unwrap_or(0);
            let values = params![merchant, before, floor, name, count(wanted.limit)];
            let rows = conn.rows(&sql, values, |row| {
                let event = read_event(row)?;
                let position = event.position;
                Ok((event, position))
            })?;
            Ok(Recent::page(rows, wanted.limit, end))
        })
        .await
    }
}

impl<T, Place: Copy> Recent<T, Place> {
    fn none() -> Self {
        Self {
            rows: Vec::new(),
            next: None,
        }
    }

    /// A page of rows with their places: full, or as far as was looked.
    fn page(rows: Vec<(T, Place)>, limit: usize, end: Option<Place>) -> Self {
        let last = rows.last().map(|(_, place)| *place);
        Self {
            next: if rows.len() < limit { end } else { last },
            rows: rows.into_iter().map(|(row, _)| row).collect(),
        }
    }
}

impl OrderPlace {
    const OLDEST: Self = Self {
        created_at: Timestamp::OLDEST,
        number: 0,
    };
}

impl RecentOrders {
    /// Where the page begins: what it has is older.
    fn from(&self) -> OrderPlace {
        let newest = OrderPlace {
            created_at: self.created_before.unwrap_or(Timestamp::NEWEST),
            number: 0,
        };
        match self.after {
            Some(after) if after.created_at < newest.created_at => after,
            Some(_) | None => newest,
        }
    }
}

/// The eras (`V3__customers.sql`) in which the merchant of parameter 1 has orders of customers: from each to
/// the one before by a look at the index, so that others' eras cost nothing.
const ERAS: &str = "
    with recursive eras (era) as (
        select max(e.subject / 512) from orders e
        where e.merchant = ?1 and e.customer_id is not null
        union all
        select (
            select max(e.subject / 512) from orders e
            where e.merchant = ?1 and e.customer_id is not null and e.subject / 512 < eras.era)
        from eras where eras.era is not null)
    select era from eras";

/// The table and the condition of the orders that a page is about before they are looked at, over
/// parameters 1 to 5.
fn range(wanted: &RecentOrders) -> (String, String) {
    let (orders, customer) = match wanted.customer_id {
        Some(_) => (
            format!("({ERAS}) as eras cross join orders o"),
            "o.subject / 512 = eras.era and o.customer_id = ?5",
        ),
        None => ("orders o".to_owned(), "cast(?5 as text) is null"),
    };
    let range = format!(
        "o.merchant = ?1 and {customer} and (o.created_at, o.subject) < (?2, ?3)
        and (cast(?4 as bigint) is null or o.created_at >= ?4)"
    );
    (orders, range)
}

const NEWEST_FIRST: &str = "order by o.created_at desc, o.subject desc";

/// A page of orders, over parameters 1 to 9.
pub(in crate::store) fn orders_sql(wanted: &RecentOrders) -> String {
    let (orders, range) = range(wanted);
    let notified = is_notified(wanted.notified, &notified_order());
    let paid = match wanted.is_paid {
        true => format!(" and {PAID}"),
        false => String::new(),
    };
    let page = format!(
        "{range} and (o.created_at, o.subject) >= (?6, ?7)
        and (cast(?8 as text) is null or o.status = ?8){paid}{notified}"
    );
    let page = match wanted.customer_id {
        // They come era by era and are put in order, so nothing but what that takes is read of them.
        Some(_) => format!(
            "o.subject in (select o.subject from {orders} where {page} {NEWEST_FIRST} limit ?9)"
        ),
        None => page,
    };
    format!("{} {NEWEST_FIRST} limit ?9", select_orders(&page))
}

/// A page of events, over parameters 1 to 5.
pub(in crate::store) fn events_sql(wanted: &RecentEvents) -> String {
    format!(
        "{} from {EVENTS} where e.merchant = ?1 and e.position < ?2 and e.position >= ?3
        and (cast(?4 as bigint) is null or e.name = ?4){}
        order by e.position desc limit ?5",
        select_events(),
        is_notified(wanted.notified, &notified())
    )
}

/// The oldest order that a page may look at, if older ones follow.
fn orders_window(
    conn: &dyn Sql,
    merchant: i64,
    wanted: &RecentOrders,
    looked_at: i64,
) -> Result<Option<OrderPlace>, DbError> {
    let (orders, range) = range(wanted);
    let sql = format!(
        "select o.created_at, o.subject from {orders} where {range}
        {NEWEST_FIRST} limit 1 offset ?6"
    );
    let from = wanted.from();
    let values = params![
        merchant,
        from.created_at.as_micros(),
        from.number,
        micros(wanted.created_after),
        wanted.customer_id,
        looked_at - 1,
    ];
    conn.first(&sql, values, |row| {
        Ok(OrderPlace {
            created_at: Timestamp::from_micros(row.get("created_at")?),
            number: row.get("subject")?,
        })
    })
}

/// The oldest of the newest events before a position, if there are so many.
pub(super) fn window_of_events(
    conn: &dyn Sql,
    merchant: i64,
    before: i64,
    events: i64,
) -> Result<Option<i64>, DbError> {
    let sql = "
        select position from events where merchant = ?1 and position < ?2
        order by position desc limit 1 offset ?3";
    conn.first(sql, params![merchant, before, events - 1], |row| row.get(0))
}

/// One more condition, if it is asked for.
fn is_notified(wanted: Option<bool>, notified: &str) -> String {
    match wanted {
        Some(true) => format!(" and {notified}"),
        Some(false) => format!(" and not {notified}"),
        None => String::new(),
    }
}
