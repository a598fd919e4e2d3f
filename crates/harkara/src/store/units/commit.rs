//! The hot write: guards, aggregates, events with their bodies and deliveries, in one unit.
//!
//! Gives an event its position and its number within the subject, and each delivery its place in
//! line. Decides nothing about who hears of what; that came with the [`Commit`]. `Store` calls it
//! through the committer.

use bytes::Bytes;
use harkara_core::delivery::{DeliveryKind, DeliveryState, NewDelivery};
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use super::aggregates;
use super::place::{Line, Place, behind, place};
use crate::store::bodies::Bodies;
use crate::store::codec::{Word, pack_id, prefix};
use crate::store::error::{DbError, DbErrorKind};
use crate::store::pen::Pen;
use crate::store::rows::{
    Claimed, Commit, Committed, CommittedEvent, NewEvent, NewIdempotencyKey, REPORTED,
    ScheduledOutcome, Unopened,
};
use crate::store::sql::params;

/// What a commit stores packed, in the order in which the commit has it.
pub(in crate::store) struct Packed {
    bodies: Vec<Vec<u8>>,
    /// `None` where a write has no document of its own.
    docs: Vec<Option<Vec<u8>>>,
}

impl Packed {
    pub(in crate::store) fn of(unit: &Commit, bodies: &Bodies) -> Result<Self, DbError> {
        let events = unit.events.iter();
        let docs = unit.writes.iter().map(|write| match write.doc() {
            Some(doc) => bodies.pack(doc.as_bytes()).map(Some),
            None => Ok(None),
        });
        Ok(Self {
            bodies: events
                .map(|new| bodies.pack(&new.event.body))
                .collect::<Result<_, _>>()?,
            docs: docs.collect::<Result<_, _>>()?,
        })
    }
}

pub(in crate::store) fn commit(
    pen: &mut Pen,
    unit: &Commit,
    packed: &Packed,
) -> Result<Committed, DbError> {
    let merchant_id = &unit.merchant_id;
    let merchant = pen.word(merchant_id.as_str())?;
    if let Some(id) = &unit.finished {
        finish(pen, merchant_id, id)?;
    }
    if let Some(key) = &unit.idempotency {
        insert_idempotency_key(pen, merchant, key, unit.now)?;
    }
    if let Some(first) = unit.events.first() {
        // Nobody else writes about the same until we have, so that an event that comes later in its
        // subject has a later position, too.
        pen.subject(merchant, &first.event.subject.key())?;
    }
    for (write, doc) in unit.writes.iter().zip(&packed.docs) {
        aggregates::write(pen, (merchant, merchant_id), write, doc.as_deref())?;
    }
    for outcome in &unit.schedule {
        schedule(pen, outcome)?;
    }
    let (mut committed, mut own) = (Committed::default(), Own::default());
    for (new, body) in unit.events.iter().zip(&packed.bodies) {
        assert_eq!(
            &new.event.merchant_id, merchant_id,
            "a unit is about one merchant"
        );
        let born = insert_event(pen, merchant, new, body)?;
        own.first(&born);
        for (n, delivery) in (1..).zip(&new.deliveries) {
            let number = delivery_number(born.position, n)?;
            let times = (unit.now, unit.lease_until);
            let claimed = insert_delivery(pen, &mut own, &born, (number, delivery), times)?;
            committed.claimed.extend(claimed);
        }
        committed.events.push(CommittedEvent {
            event_id: new.event.id.clone(),
            position: born.position,
            sequence: born.sequence,
        });
    }
    Ok(committed)
}

/// Stores one more delivery of an event, for a replay or a test.
pub(in crate::store) fn insert_replay(
    pen: &mut Pen,
    delivery: &NewDelivery,
    now: Timestamp,
    lease_until: Option<Timestamp>,
) -> Result<Option<Unopened>, DbError> {
    let sql = "
        select e.position, e.sequence, w.text, e.subject, s.key, b.body
        from events e
        join words w on w.word = e.name
        join subjects s on s.subject = e.subject
        join event_bodies b on b.position = e.position
        where e.event_id = ?1 and e.merchant = ?2";
    let merchant = pen.word(delivery.merchant_id.as_str())?;
    let id = pack_id(prefix::EVENT, delivery.event_id.as_str());
    let key = params![id, merchant];
    // Nobody drops the body until the delivery is there, or it is gone already.
    let born = pen.rows_locking((sql, "for key share of b"), key, |row| {
        Ok(Born {
            position: row.get(0)?,
            sequence: row.get(1)?,
            name: row.get(2)?,
            subject: row.get(3)?,
            subject_key: row.get(4)?,
            body: Bytes::from(row.get::<_, Vec<u8>>(5)?),
        })
    })?;
    let born = born.into_iter().next().ok_or_else(|| {
        let event_id = &delivery.event_id;
        DbError::stale(format!("event {event_id} does not exist, or not its body"))
    })?;
    let number = next_delivery(pen, born.position)?;
    let claimed = insert_delivery(
        pen,
        &mut Own::default(),
        &born,
        (number, delivery),
        (now, lease_until),
    )?;
    Ok(claimed.map(Unopened))
}

/// How many deliveries an event may have, replays included.
const PER_EVENT: i64 = 65_536;

/// The number of the `n`th delivery of an event.
fn delivery_number(position: i64, n: i64) -> Result<i64, DbError> {
    if n < PER_EVENT {
        return Ok(position * PER_EVENT + n);
    }
    let cause = format!("the event at {position} has been sent again too often");
    Err(DbError::new(DbErrorKind::Busy, cause))
}

fn next_delivery(pen: &Pen, position: i64) -> Result<i64, DbError> {
    let first = position * PER_EVENT;
    let sql = "select max(delivery) from deliveries where delivery between ?1 and ?2";
    let range = params![first, first + PER_EVENT - 1];
    let last: Option<i64> = pen.find(sql, range, |row| row.get(0))?.flatten();
    delivery_number(position, last.unwrap_or(first) - first + 1)
}

/// A scheduled outcome is carried out once: whoever deletes its row.
fn finish(pen: &Pen, merchant_id: &MerchantId, id: &str) -> Result<(), DbError> {
    let sql = "delete from scheduled_outcomes where merchant_id = ?1 and id = ?2";
    match pen.execute(sql, params![merchant_id.as_str(), id])? {
        0 => Err(DbError::stale(format!(
            "scheduled outcome {id} was carried out already"
        ))),
        _ => Ok(()),
    }
}

pub(in crate::store) fn insert_idempotency_key(
    pen: &Pen,
    merchant: i64,
    new: &NewIdempotencyKey,
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "
        insert into idempotency_keys (merchant, key, request_hash, response, created_at)
        values (?1, ?2, ?3, ?4, ?5)";
    let NewIdempotencyKey {
        key,
        request_hash,
        response,
    } = new;
    let row = params![
        merchant,
        key,
        pack_id(prefix::HASH, request_hash),
        response,
        now.as_micros()
    ];
    pen.execute_soon(sql, row).map(drop)
}

fn schedule(pen: &Pen, outcome: &ScheduledOutcome) -> Result<(), DbError> {
    let sql = "
        insert into scheduled_outcomes (merchant_id, id, due_at, doc) values (?1, ?2, ?3, ?4)";
    let ScheduledOutcome {
        merchant_id,
        id,
        due_at,
        doc,
    } = outcome;
    pen.execute(
        sql,
        params![merchant_id.as_str(), id, due_at.as_micros(), doc],
    )
    .map(drop)
}

/// An event that has its place in the feed and in its subject.
struct Born {
    position: i64,
    sequence: i64,
    name: String,
    subject: i64,
    subject_key: String,
    body: Bytes,
}

const INSERT_EVENT: &str = "
    insert into events (merchant, position, event_id, name, subject, sequence, transition,
        created_at, request_hash)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const INSERT_BODY: &str = "
    insert into event_bodies (position, body) values (?1, ?2)";

fn insert_event(
    pen: &mut Pen,
    merchant: i64,
    new: &NewEvent,
    body: &[u8],
) -> Result<Born, DbError> {
    let event = &new.event;
    let subject_key = event.subject.key();
    let subject = pen.subject(merchant, &subject_key)?;
    let word = pen.word(event.name.as_str())?;
    let request_hash = new.request_hash.as_deref();
    let sequence = pen.next_sequence(subject)?;
    let position = pen.take_position()?;
    pen.execute_soon(
        INSERT_EVENT,
        params![
            merchant,
            position,
            pack_id(prefix::EVENT, event.id.as_str()),
            word,
            subject.number,
            sequence,
            Some(&event.transition).filter(|transition| *transition != REPORTED),
            event.created_at.as_micros(),
            request_hash.map(|hash| pack_id(prefix::HASH, hash)),
        ],
    )?;
    pen.execute_soon(INSERT_BODY, params![position, body])?;
    let name = event.name.as_str().to_owned();
    Ok(Born {
        position,
        sequence,
        name,
        subject: subject.number,
        subject_key,
        body: event.body.clone(),
    })
}

pub(in crate::store) const INSERT_DELIVERY: &str = "
    insert into deliveries (delivery, delivery_id, endpoint, subject, sequence, kind, order_mode,
        url_override, state, reason, waiting_on, overtaking, due_at, fence, node, lease_until,
        created_at, settled_at, attempts, retried)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, 0, 0)";

/// Stores a delivery in the state that its place in line gives it, claimed by us if it is due, the
/// endpoint is being called, and a lease (the second of the times) was asked for.
fn insert_delivery(
    pen: &Pen,
    own: &mut Own,
    event: &Born,
    (number, new): (i64, &NewDelivery),
    (now, lease_until): (Timestamp, Option<Timestamp>),
) -> Result<Option<Claimed>, DbError> {
    let called = called(pen, &new.merchant_id, &new.endpoint_id)?;
    let called = called.ok_or_else(|| {
        // It was deleted since the deliveries were planned.
        DbError::stale(format!(
            "endpoint {} does not exist any more",
            new.endpoint_id
        ))
    })?;
    let place = place_of(pen, own, event, (called.endpoint, number), new)?;
    let state = match (&new.withheld, &place.waiting_on) {
        (Some(_), _) => DeliveryState::Withheld,
        (None, Some(_)) => DeliveryState::Waiting,
        (None, None) => DeliveryState::Pending,
    };
    let due = state == DeliveryState::Pending;
    // A test is a person asking whether a paused endpoint could be resumed.
    let lease = lease_until.filter(|_| due && (called.now || new.kind == DeliveryKind::Test));
    let (fence, node) = (i64::from(lease.is_some()), pen.node());
    let now = now.as_micros();
    pen.execute_soon(
        INSERT_DELIVERY,
        params![
            number,
            pack_id(prefix::DELIVERY, new.id.as_str()),
            called.endpoint,
            event.subject,
            event.sequence,
            new.kind.word(),
            new.order.word(),
            new.url_override,
            state.word(),
            new.withheld.as_ref().map(ToString::to_string),
            place.waiting_on,
            place.overtaking,
            due.then_some(now),
            fence,
            lease.map_or(0, |_| node),
            lease.map_or(0, Timestamp::as_micros),
            now,
            new.withheld.map(|_| now),
        ],
    )?;
    Ok(lease.map(|lease_until| Claimed {
        merchant_id: new.merchant_id.clone(),
        delivery_id: new.id.clone(),
        endpoint_id: new.endpoint_id.clone(),
        event_id: new.event_id.clone(),
        event_name: event.name.clone(),
        subject: event.subject_key.clone(),
        sequence: event.sequence,
        attempts: 0,
        fence,
        node,
        lease_until,
        kind: new.kind,
        url_override: new.url_override.clone(),
        overtaking: place.overtaking,
        rate_per_second: called.rate_per_second,
        body: event.body.clone(),
    }))
}

/// What a unit knows of the lines that it adds to.
#[derive(Default)]
struct Own {
    /// The subjects of its events, each with the number of the first of them.
    first: Vec<(i64, i64)>,
    /// Its deliveries that stand in line, each with its endpoint and subject.
    line: Vec<(i64, i64, i64)>,
}

impl Own {
    /// From which number on the events of a subject are this unit's.
    fn first(&mut self, event: &Born) -> i64 {
        let known = self
            .first
            .iter()
            .find(|(subject, _)| *subject == event.subject);
        match known {
            Some((_, first)) => *first,
            None => {
                self.first.push((event.subject, event.sequence));
                event.sequence
            }
        }
    }

    /// The last of its deliveries in a line.
    fn last(&self, endpoint: i64, subject: i64) -> Option<i64> {
        let mut line = self.line.iter().rev();
        let last = line.find(|(of, about, _)| (*of, *about) == (endpoint, subject));
        last.map(|(_, _, delivery)| *delivery)
    }
}

/// Replays stand in no line, a test in that of its own unit alone, and what is withheld nowhere.
fn place_of(
    pen: &Pen,
    own: &mut Own,
    event: &Born,
    (endpoint, number): (i64, i64),
    new: &NewDelivery,
) -> Result<Place, DbError> {
    let stands_in_line = match new.kind {
        DeliveryKind::Event | DeliveryKind::Test => new.withheld.is_none(),
        DeliveryKind::Replay => false,
    };
    if !stands_in_line {
        return Ok(Place::default());
    }
    let place = match own.last(endpoint, event.subject) {
        Some(before) => behind(before, new.order),
        None if new.kind == DeliveryKind::Test => Place::default(),
        None => {
            let line = Line {
                endpoint,
                subject: event.subject,
                sequence: own.first(event),
            };
            place(pen, &line, new.order)?
        }
    };
    own.line.push((endpoint, event.subject, number));
    Ok(place)
}

/// How an endpoint is being called.
pub(super) struct Called {
    pub(super) endpoint: i64,
    /// It is active, and its breaker lets more than probes through.
    now: bool,
    rate_per_second: Option<u32>,
}

/// Whoever deletes an endpoint waits for us, or we for them: it is given nothing after its end.
pub(super) const CALLED: (&str, &str) = (
    "
    select endpoint, state = 'active' and breaker_open = 0, rate_per_second from endpoints
    where merchant_id = ?1 and endpoint_id = ?2 and state <> 'deleted'",
    "for key share",
);

/// An endpoint's number, and whether it is being called; `None` when it was deleted.
pub(super) fn called(
    pen: &Pen,
    merchant_id: &MerchantId,
    endpoint_id: &EndpointId,
) -> Result<Option<Called>, DbError> {
    let key = params![merchant_id.as_str(), endpoint_id.as_str()];
    let called = pen.rows_locking(CALLED, key, |row| {
        Ok(Called {
            endpoint: row.get(0)?,
            now: row.get(1)?,
            rate_per_second: row.get(2)?,
        })
    })?;
    Ok(called.into_iter().next())
}
