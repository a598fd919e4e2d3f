//! Events: one with its body, and the feed.
//!
//! Whether an event is notified is worked out here. An endpoint *has* an event once any delivery of
//! it there is delivered, replays included and tests not. An event is notified when some endpoint
//! has it and none lacks it that it was meant for: none with a delivery that was planned when the
//! event was born, and not withheld.

use std::ops::ControlFlow;

use bytes::Bytes;
use harkara_core::id::{EventId, MerchantId, Subject};
use harkara_core::time::Timestamp;

use super::{count, subject, word};
use crate::store::bodies::Bodies;
use crate::store::codec::{Columns, pack_id, prefix};
use crate::store::error::DbError;
use crate::store::rows::REPORTED;
use crate::store::sql::{Row, Sql, params};
use crate::store::{Reach, Store};

/// An event without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    pub event_id: EventId,
    pub name: String,
    /// The subject's key.
    pub subject: String,
    pub sequence: i64,
    pub position: i64,
    /// What it was derived from, in words.
    pub transition: String,
    pub created_at: Timestamp,
    /// Of the request, when nothing but the event's id tells that it was sent before.
    pub request_hash: Option<String>,
    pub notified: bool,
}

/// Which events are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub name: Option<String>,
    pub subject: Option<Subject>,
    pub notified: Option<bool>,
}

impl EventFilter {
    /// Whether events have to be looked at one by one to be passed over.
    fn passes_over(&self) -> bool {
        self.name.is_some() || self.notified.is_some()
    }

    /// Whether an event that is passed over now need not be looked at again. One that is not notified yet
    /// may be soon; those of a subject are few, and no gap is told among them.
    fn is_settled(&self) -> bool {
        self.notified != Some(true) && self.subject.is_none()
    }
}

/// What is asked of the feed.
#[derive(Clone, Debug, Default)]
pub struct FeedAsk {
    /// The position to go on after; `None` is the beginning of what is kept.
    pub after: Option<i64>,
    pub filter: EventFilter,
    pub limit: usize,
    /// Whether the events come with their bodies.
    pub bodies: bool,
}

/// A page of the feed. It may have fewer events than were asked for although more follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    pub events: Vec<(EventView, Option<Bytes>)>,
    /// The position that was read up to: what to ask for next.
    pub next: i64,
    /// Events came after the position that was asked for, and are deleted. Events of one subject have
    /// numbers, which show that by themselves.
    pub has_gap: bool,
}

impl FeedPage {
    fn up_to_last(events: Vec<(EventView, Option<Bytes>)>, after: i64) -> Self {
        let next = events.last().map_or(after, |(event, _)| event.position);
        Self {
            events,
            next,
            has_gap: false,
        }
    }
}

/// What one page may cost, however many events there are and whatever is asked of them.
pub(in crate::store) struct Bounds {
    /// Events that are looked at.
    pub(in crate::store) rows: usize,
    /// Bodies that are given, unless the first alone is larger.
    pub(in crate::store) body_bytes: usize,
}

impl Bounds {
    const USUAL: Self = Self {
        rows: 10_000,
        body_bytes: 4 << 20,
    };
}

/// Left joins, so that the planner goes from events to what they name: the other way it would read,
/// and sort, all of it for one page.
pub(super) const EVENTS: &str = "events e
    left join words w on w.word = e.name
    left join subjects s on s.subject = e.subject";

const BODIES: &str = "left join event_bodies b on b.position = e.position";

/// The event at `position` was sent to the endpoint of its delivery `d` again, and arrived.
pub(super) fn arrived_again(position: &str) -> String {
    format!(
        "exists (select 1 from deliveries r
        where r.delivery between {position} * 65536 and {position} * 65536 + 65535
          and r.endpoint = d.endpoint and r.kind = 'replay' and r.state = 'delivered')"
    )
}

/// Some endpoint that event `e` was meant for does not have it.
pub(in crate::store) fn owed() -> String {
    format!(
        "exists (select 1 from deliveries d
        where d.delivery between e.position * 65536 and e.position * 65536 + 65535
          and d.kind = 'event' and d.state not in ('delivered', 'withheld') and not {})",
        arrived_again("e.position")
    )
}

/// Some endpoint has event `e`.
pub(in crate::store) const HAD: &str = "
    exists (select 1 from deliveries d
        where d.delivery between e.position * 65536 and e.position * 65536 + 65535
          and d.kind <> 'test' and d.state = 'delivered')";

pub(super) fn select_events() -> String {
    format!(
        "select e.event_id, w.text as name, s.key as subject, e.sequence, e.position, e.transition,
            e.created_at, e.request_hash, {} as notified",
        notified()
    )
}

pub(super) fn notified() -> String {
    format!("({HAD} and not {})", owed())
}

impl Store {
    /// One event with the bytes that every attempt sends, for as long as they are kept.
    pub async fn event(
        &self,
        merchant_id: &MerchantId,
        event_id: &EventId,
    ) -> Result<Option<(EventView, Option<Bytes>)>, DbError> {
        let sql = format!(
            "{}, b.body from {EVENTS} {BODIES} where e.merchant = ?1 and e.event_id = ?2",
            select_events()
        );
        let (merchant_id, event_id) = (merchant_id.clone(), event_id.clone());
        let bodies = self.shared.bodies.clone();
        self.read(move |conn| {
            let merchant = word(conn, merchant_id.as_str())?;
            let wanted = params![merchant, pack_id(prefix::EVENT, event_id.as_str())];
            let found = conn.first(&sql, wanted, |row| {
                Ok((read_event(row)?, read_body(row, &bodies)?))
            })?;
            Ok(found)
        })
        .await
    }

    /// A merchant's events after a position, in commit order: the feed. Nothing is ever inserted
    /// at or before a position that was once seen. It begins where none is missing any more.
    pub async fn feed(&self, merchant_id: &MerchantId, ask: FeedAsk) -> Result<FeedPage, DbError> {
        self.feed_within(merchant_id, ask, Bounds::USUAL).await
    }

    pub(in crate::store) async fn feed_within(
        &self,
        merchant_id: &MerchantId,
        ask: FeedAsk,
        bounds: Bounds,
    ) -> Result<FeedPage, DbError> {
        let (merchant_id, packed) = (merchant_id.clone(), self.shared.bodies.clone());
        let (Reach::Newest(horizon) | Reach::Older(horizon)) = self.horizon().await?;
        self.read_long(move |conn| feed(conn, &merchant_id, (&ask, horizon), (&bounds, &packed)))
            .await
    }
}

/// A filter in the numbers of the store.
struct Wanted {
    merchant: i64,
    subject: Option<i64>,
    name: Option<i64>,
}

impl Wanted {
    /// `None` when the store has never heard of the merchant or the subject.
    fn of(
        conn: &dyn Sql,
        merchant_id: &MerchantId,
        filter: &EventFilter,
    ) -> Result<Option<Self>, DbError> {
        let Some(merchant) = word(conn, merchant_id.as_str())? else {
            return Ok(None);
        };
        let mut wanted = Self {
            merchant,
            subject: None,
            name: None,
        };
        if let Some(about) = &filter.subject {
            wanted.subject = subject(conn, merchant, &about.key())?;
            if wanted.subject.is_none() {
                return Ok(None);
            }
        }
        if let Some(name) = &filter.name {
            // An unknown name passes over a window all the same, so that the next page goes on after it.
            wanted.name = Some(word(conn, name)?.unwrap_or(0));
        }
        Ok(Some(wanted))
    }
}

fn feed(
    conn: &dyn Sql,
    merchant_id: &MerchantId,
    (ask, horizon): (&FeedAsk, i64),
    (bounds, packed): (&Bounds, &Bodies),
) -> Result<FeedPage, DbError> {
    let filter = &ask.filter;
    let Some(wanted) = Wanted::of(conn, merchant_id, filter)? else {
        return Ok(FeedPage::up_to_last(Vec::new(), ask.after.unwrap_or(0)));
    };
    let Wanted {
        merchant,
        subject,
        name,
    } = wanted;
    let beginning = match &filter.subject {
        Some(_) => 0,
        None => conn
            .first(BEGINNING, params![merchant], |row| row.get(0))?
            .unwrap_or(0),
    };
    let after = ask.after.unwrap_or(beginning);
    if after < beginning {
        return Ok(FeedPage {
            has_gap: true,
            ..FeedPage::up_to_last(Vec::new(), after)
        });
    }
    let end = match filter.passes_over() {
        true => {
            let last = count(bounds.rows.saturating_sub(1));
            let wanted = params![merchant, after, subject, last];
            let end = conn.first(&window_sql(filter), wanted, |row| row.get(0))?;
            // What has not been reached is not looked at, so neither passed over.
            match end.filter(|end| *end <= horizon) {
                None if filter.is_settled() => {
                    let wanted = params![merchant, after, horizon];
                    conn.first(NEWEST, wanted, |row| row.get(0))?
                }
                end => end,
            }
        }
        false => None,
    };
    let wanted = params![
        merchant,
        after,
        subject,
        end.unwrap_or(horizon),
        name,
        count(ask.limit)
    ];
    let (mut events, mut bytes, mut full) = (Vec::new(), 0, false);
    conn.each(&page_sql(ask), wanted, &mut |row| {
        let body = match ask.bodies {
            true => read_body(row, packed)?,
            false => None,
        };
        bytes += body.as_ref().map_or(0, Bytes::len);
        full = bytes > bounds.body_bytes && !events.is_empty();
        if full {
            return Ok(ControlFlow::Break(()));
        }
        events.push((read_event(row)?, body));
        Ok(ControlFlow::Continue(()))
    })?;
    if events.len() < ask.limit
        && !full
        && let Some(next) = end
    {
        return Ok(FeedPage {
            events,
            next,
            has_gap: false,
        });
    }
    Ok(FeedPage::up_to_last(events, after))
}

/// Which events a filter is about, before they are looked at, and in which order they are found. The
/// events of a subject have the same order by sequence, in which its index has them.
fn range(filter: &EventFilter) -> (&'static str, &'static str) {
    match filter.subject {
        Some(_) => (
            "e.merchant = ?1 and e.position > ?2 and e.subject = ?3",
            "e.sequence",
        ),
        None => (
            "e.merchant = ?1 and e.position > ?2 and cast(?3 as bigint) is null",
            "e.position",
        ),
    }
}

/// The position after which none of a merchant's events is missing, if that is not all of them.
const BEGINNING: &str = "
    select position from forgotten_feeds where merchant = ?1";

/// The newest event that can be looked at: a cursor that stayed before what was passed over would be told
/// of a gap when that is deleted.
const NEWEST: &str = "
    select position from events where merchant = ?1 and position > ?2 and position <= ?3
    order by position desc limit 1";

/// The last position that a page may look at, if more follow.
fn window_sql(filter: &EventFilter) -> String {
    let (range, order) = range(filter);
    format!("select e.position from events e where {range} order by {order} limit 1 offset ?4")
}

pub(in crate::store) fn page_sql(ask: &FeedAsk) -> String {
    let (range, order) = range(&ask.filter);
    let notified = match ask.filter.notified {
        Some(true) => format!(" and {}", notified()),
        Some(false) => format!(" and not {}", notified()),
        None => String::new(),
    };
    let (body, bodies) = match ask.bodies {
        true => (", b.body", BODIES),
        false => ("", ""),
    };
    format!(
        "{}{body} from {EVENTS} {bodies}
        where {range} and e.position <= ?4 and (cast(?5 as bigint) is null or e.name = ?5){notified}
        order by {order} limit ?6",
        select_events()
    )
}

/// One event without its body.
pub(super) fn event_of(
    conn: &dyn Sql,
    merchant_id: &MerchantId,
    event_id: &EventId,
) -> Result<Option<EventView>, DbError> {
    let sql = format!(
        "{} from {EVENTS} where e.merchant = ?1 and e.event_id = ?2",
        select_events()
    );
    let merchant = word(conn, merchant_id.as_str())?;
    let wanted = params![merchant, pack_id(prefix::EVENT, event_id.as_str())];
    conn.first(&sql, wanted, read_event)
}

/// `None` for a body that is kept no longer.
fn read_body(row: &Row<'_>, packed: &Bodies) -> Result<Option<Bytes>, DbError> {
    let frame: Option<Vec<u8>> = row.get("body")?;
    Ok(frame.map(|frame| packed.unpack(&frame)).transpose()?)
}

pub(super) fn read_event(row: &Row<'_>) -> Result<EventView, DbError> {
    Ok(EventView {
        event_id: row.event_id("event_id")?,
        name: row.get("name")?,
        subject: row.get("subject")?,
        sequence: row.get("sequence")?,
        position: row.get("position")?,
        transition: row
            .get::<_, Option<String>>("transition")?
            .unwrap_or_else(|| REPORTED.to_owned()),
        created_at: row.at("created_at")?,
        request_hash: row.id_opt("request_hash", prefix::HASH)?,
        notified: row.get("notified")?,
    })
}
