//! How a merchant's webhooks are doing: what was paid and not told yet, and what became of the newest
//! events.
//!
//! Each figure has a bound on what it looks at, and says when it was reached; nobody keeps counters.

use std::ops::ControlFlow;
use std::time::Duration;

use harkara_core::delivery::{DeliveryKind, DeliveryState};
use harkara_core::id::{MerchantId, OrderId};
use harkara_core::time::Timestamp;

use super::aggregates::notified_order;
use super::events::arrived_again;
use super::recent::window_of_events;
use super::{count, word};
use crate::store::Store;
use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::sql::{Row, Sql, params};

/// Order `o` is paid, in whole or in part.
pub(super) const PAID: &str = "o.status in ('CHARGED', 'PARTIAL_CHARGED')";

/// Events that the figures of traffic are about.
const EVENTS: i64 = 2_000;

/// Deliveries of each kind and endpoint that are looked at for orders that were not told of.
const LOOKED_AT: usize = 2_000;

/// Those of them that did not arrive again, whose orders are looked at.
const OWED: usize = 500;

/// Orders that are looked at for the same.
const ORDERS: usize = 1_000;

/// Paid orders of which some endpoint has not been told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    pub orders: i64,
    /// Currencies with what was paid in each; those that nobody told us are not among them.
    pub amounts: Vec<(String, i64)>,
    pub oldest: Option<(OrderId, Timestamp)>,
    /// There are more than were looked at.
    pub is_more: bool,
}

/// What became of the newest events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub events: i64,
    /// The oldest of them, when there are older ones that are not counted.
    pub since: Option<Timestamp>,
    pub delivered: i64,
    /// Not tried yet, in flight, or behind another of its order.
    pub on_the_way: i64,
    /// Failed at least once, and tried again.
    pub retrying: i64,
    pub exhausted: i64,
    pub withheld: i64,
    /// From the event to the 200: half of them took no longer, and 99 of 100.
    pub took: Option<(Duration, Duration)>,
}

impl Store {
    /// Paid orders of a merchant that some endpoint was to be told of and was not.
    pub async fn untold(&self, merchant_id: &MerchantId) -> Result<Untold, DbError> {
        let merchant_id = merchant_id.clone();
        self.read_long(move |conn| untold(conn, &merchant_id)).await
    }

    /// What became of a merchant's newest events.
    pub async fn traffic(&self, merchant_id: &MerchantId) -> Result<Traffic, DbError> {
        let merchant_id = merchant_id.clone();
        self.read_long(move |conn| match word(conn, merchant_id.as_str())? {
            Some(merchant) => traffic(conn, merchant),
            None => Ok(Traffic::default()),
        })
        .await
    }
}

/// Deliveries that are not settled well, each by an index of its own: some of those that wait, and the
/// newest that ended, some of which have arrived again. What the second index is about is repeated word
/// for word, or it would not be taken.
pub(in crate::store) fn owing() -> [String; 2] {
    let ended = format!(
        "select d.subject, {} as arrived_again from deliveries d
        where d.endpoint = ?1 and d.kind = 'event' and (d.state = 'exhausted' or d.state = 'withdrawn')
        order by d.delivery desc limit ?2",
        arrived_again("(d.delivery / 65536)")
    );
    let waits = "
        select d.subject, false as arrived_again from deliveries d
        where d.endpoint = ?1 and d.state = 'pending' limit ?2";
    [waits.to_owned(), ended]
}

fn untold(conn: &dyn Sql, merchant_id: &MerchantId) -> Result<Untold, DbError> {
    // To one that is deleted nothing is owed any more.
    let sql = "select endpoint from endpoints where merchant_id = ?1 and state <> 'deleted'";
    let endpoints: Vec<i64> = conn.rows(sql, params![merchant_id.as_str()], |row| {
        row.get("endpoint")
    })?;
    let mut untold = Untold::default();
    let mut subjects: Vec<i64> = Vec::new();
    let owing = owing();
    for endpoint in endpoints {
        for owing in &owing {
            let (mut looked_at, mut owed) = (0, 0);
            conn.each(owing, params![endpoint, count(LOOKED_AT)], &mut |row| {
                looked_at += 1;
                if !row.get::<_, bool>("arrived_again")? {
                    owed += 1;
                    subjects.push(row.get("subject")?);
                }
                Ok(match owed {
                    OWED => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                })
            })?;
            untold.is_more |= owed == OWED || looked_at == LOOKED_AT;
        }
    }
    subjects.sort_unstable();
    subjects.dedup();
    untold.is_more |= subjects.len() > ORDERS;
    subjects.truncate(ORDERS);
    let sql = format!(
        "select o.amount_minor, o.currency, o.order_id, o.created_at, s.key from orders o
        join subjects s on s.subject = o.subject
        where o.subject = ?1 and {PAID} and not {}",
        notified_order()
    );
    for subject in subjects {
        if let Some(paid) = conn.first(&sql, params![subject], read_paid)? {
            untold.add(paid);
        }
    }
    untold.amounts.sort();
    Ok(untold)
}

/// A paid order, as far as the figures need it.
struct Paid {
    amount: Option<(String, i64)>,
    order_id: OrderId,
    created_at: Timestamp,
}

fn read_paid(row: &Row<'_>) -> Result<Paid, DbError> {
    let key: String = row.get("key")?;
    let as_written: Option<String> = row.get("order_id")?;
    let lower_case = || key.strip_prefix("order/").unwrap_or(&key).to_owned();
    let currency: Option<String> = row.get("currency")?;
    let minor: Option<i64> = row.get("amount_minor")?;
    Ok(Paid {
        amount: currency.zip(minor),
        order_id: OrderId::new(as_written.unwrap_or_else(lower_case)),
        created_at: row.at("created_at")?,
    })
}

impl Untold {
    fn add(&mut self, paid: Paid) {
        self.orders += 1;
        if let Some((currency, minor)) = paid.amount {
            match self
                .amounts
                .iter_mut()
                .find(|(known, _)| *known == currency)
            {
                Some((_, sum)) => *sum += minor,
                None => self.amounts.push((currency, minor)),
            }
        }
        let is_older = |(_, oldest): &(OrderId, Timestamp)| paid.created_at < *oldest;
        if self.oldest.as_ref().is_none_or(is_older) {
            self.oldest = Some((paid.order_id, paid.created_at));
        }
    }
}

/// The deliveries of a merchant's events from a position on, each by its key.
pub(in crate::store) const TRAFFIC: &str = "
    select d.kind, d.state, d.attempts, d.created_at, d.settled_at from events e
    join deliveries d on d.delivery between e.position * 65536 and e.position * 65536 + 65535
    where e.merchant = ?1 and e.position >= ?2";

fn traffic(conn: &dyn Sql, merchant: i64) -> Result<Traffic, DbError> {
    let floor = window_of_events(conn, merchant, i64::MAX, EVENTS)?;
    let sql = "
        select count(*) as events, min(created_at) as since from events
        where merchant = ?1 and position >= ?2";
    let wanted = params![merchant, floor.unwrap_or(0)];
    let counted = conn.first(sql, wanted, |row| {
        Ok((row.get("events")?, row.at_opt("since")?))
    })?;
    let (events, since): (i64, Option<Timestamp>) = counted.unwrap_or_default();
    let mut traffic = Traffic {
        events,
        since: since.filter(|_| floor.is_some()),
        ..Traffic::default()
    };
    let mut took = Vec::new();
    for row in conn.rows(TRAFFIC, wanted, read_delivery)? {
        // Asked for in the statement, it made SQLite think of an index over all deliveries, and make it.
        if row.kind != DeliveryKind::Event {
            continue;
        }
        traffic.add(&row);
        if let (DeliveryState::Delivered, Some(settled_at)) = (row.state, row.settled_at) {
            took.push(settled_at.since(row.created_at));
        }
    }
    took.sort_unstable();
    let at = |hundredths: usize| took.get(took.len() * hundredths / 100).copied();
    traffic.took = at(50).zip(at(99));
    Ok(traffic)
}

struct Delivery {
    kind: DeliveryKind,
    state: DeliveryState,
    attempts: i64,
    created_at: Timestamp,
    settled_at: Option<Timestamp>,
}

fn read_delivery(row: &Row<'_>) -> Result<Delivery, DbError> {
    Ok(Delivery {
        kind: row.word("kind")?,
        state: row.word("state")?,
        attempts: row.get("attempts")?,
        created_at: row.at("created_at")?,
        settled_at: row.at_opt("settled_at")?,
    })
}

impl Traffic {
    fn add(&mut self, delivery: &Delivery) {
        let counted = match delivery.state {
            DeliveryState::Delivered => &mut self.delivered,
            DeliveryState::Pending if delivery.attempts > 0 => &mut self.retrying,
            DeliveryState::Pending | DeliveryState::Waiting => &mut self.on_the_way,
            DeliveryState::Exhausted | DeliveryState::Withdrawn => &mut self.exhausted,
            DeliveryState::Withheld => &mut self.withheld,
        };
        *counted += 1;
    }
}
