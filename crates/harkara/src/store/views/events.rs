//! Events: one with its body, the feed, and the history of a subject.
//!
//! Whether an event is notified is worked out here. An endpoint *has* an event once any delivery of
//! it there is delivered, replays included and tests not. An event is notified when some endpoint
//! has it and none lacks it that it was meant for: none with a delivery that was planned when the
//! event was born, and not withheld.

use bytes::Bytes;
use harkara_core::id::{EventId, MerchantId, Subject};
use harkara_core::time::Timestamp;
use rusqlite::{Row, params};

use super::{count, first, rows};
use crate::store::Store;
use crate::store::codec::Columns;
use crate::store::error::DbError;

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
    pub notified: bool,
}

/// Which events are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub name: Option<String>,
    pub subject: Option<Subject>,
    pub notified: Option<bool>,
}

/// Some endpoint that event `e` was meant for does not have it.
pub(super) const OWED: &str = "
    exists (select 1 from deliveries d
        where d.merchant_id = e.merchant_id and d.event_id = e.event_id
          and d.kind = 'event' and d.state not in ('delivered', 'withheld')
          and not exists (select 1 from deliveries r
              where r.merchant_id = d.merchant_id and r.event_id = d.event_id
                and r.endpoint_id = d.endpoint_id and r.kind = 'replay'
                and r.state = 'delivered'))";

/// Some endpoint has event `e`.
pub(super) const HAD: &str = "
    exists (select 1 from deliveries d
        where d.merchant_id = e.merchant_id and d.event_id = e.event_id
          and d.kind <> 'test' and d.state = 'delivered')";

fn select_events() -> String {
    format!("select e.*, {} as notified", notified())
}

fn notified() -> String {
    format!("({HAD} and not {OWED})")
}

impl Store {
    /// One event with the bytes that every attempt sends.
    pub async fn event(
        &self,
        merchant_id: &MerchantId,
        event_id: &EventId,
    ) -> Result<Option<(EventView, Bytes)>, DbError> {
        let sql = format!(
            "{}, b.body from events e
            join event_bodies b on b.merchant_id = e.merchant_id and b.position = e.position
            where e.merchant_id = ?1 and e.event_id = ?2",
            select_events()
        );
        let (merchant_id, event_id) = (merchant_id.clone(), event_id.clone());
        self.read(move |conn| {
            first(
                conn,
                &sql,
                params![merchant_id.as_str(), event_id.as_str()],
                |row| {
                    Ok((
                        read_event(row)?,
                        Bytes::from(row.get::<_, Vec<u8>>("body")?),
                    ))
                },
            )
        })
        .await
    }

    /// A merchant's events after a position, in commit order: the feed. Nothing is ever inserted
    /// at or before a position that was once seen.
    pub async fn events_after(
        &self,
        merchant_id: &MerchantId,
        position: i64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<EventView>, DbError> {
        let notified = match filter.notified {
            Some(true) => format!(" and {}", notified()),
            Some(false) => format!(" and not {}", notified()),
            None => String::new(),
        };
        // Spelled out, so that the index of subjects can be used.
        let subject = match filter.subject {
            Some(_) => "e.subject = ?4",
            None => "?4 is null",
        };
        let sql = format!(
            "{} from events e
            where e.merchant_id = ?1 and e.position > ?2
              and (?3 is null or e.name = ?3) and {subject}{notified}
            order by e.position limit ?5",
            select_events()
        );
        let merchant_id = merchant_id.clone();
        let (name, subject) = (
            filter.name.clone(),
            filter.subject.as_ref().map(Subject::key),
        );
        self.read(move |conn| {
            let wanted = params![merchant_id.as_str(), position, name, subject, count(limit)];
            rows(conn, &sql, wanted, read_event)
        })
        .await
    }

    /// All that was said about an order or a mandate, in order.
    pub async fn events_of_subject(
        &self,
        merchant_id: &MerchantId,
        subject: &Subject,
    ) -> Result<Vec<EventView>, DbError> {
        let sql = format!(
            "{} from events e
            where e.merchant_id = ?1 and e.subject = ?2 order by e.sequence",
            select_events()
        );
        let (merchant_id, subject) = (merchant_id.clone(), subject.key());
        self.read(move |conn| {
            rows(
                conn,
                &sql,
                params![merchant_id.as_str(), subject],
                read_event,
            )
        })
        .await
    }
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<EventView> {
    Ok(EventView {
        event_id: EventId::new(row.get::<_, String>("event_id")?),
        name: row.get("name")?,
        subject: row.get("subject")?,
        sequence: row.get("sequence")?,
        position: row.get("position")?,
        transition: row.get("transition")?,
        created_at: row.at("created_at")?,
        notified: row.get("notified")?,
    })
}
