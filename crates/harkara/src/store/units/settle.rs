//! Recording what came of an attempt, and letting those who waited for it go on.
//!
//! What an outcome means was judged before; here it is made true once, by whoever holds the claim.
//! `Store` calls it through the committer, so settles share flushes with commits.

use harkara_core::delivery::{DeliveryKind, DeliveryState, Verdict};
use harkara_core::endpoint::{EndpointState, OrderMode};
use harkara_core::time::Timestamp;

use super::claim::claim_one;
use super::place::{Line, Place, place};
use crate::store::codec::{Columns, Word, micros, pack_id, prefix, span};
use crate::store::endpoints::state_columns;
use crate::store::error::{DbError, DbErrorKind};
use crate::store::pen::{Changed, Pen};
use crate::store::rows::{
    AttemptVerdict, ClaimAsk, CredentialsUsed, HealthWrite, Lease, NewOperationalEvent, Pick,
    Settle, Settled, Unopened,
};
use crate::store::sql::params;

/// What a settle changed, and beside it what it released and claimed, still packed.
pub(in crate::store) type Done = (Settled, Vec<Unopened>);

/// `answer` is the one that the attempt got, packed.
pub(in crate::store) fn settle(
    pen: &mut Pen,
    settle: &Settle,
    answer: Option<&[u8]>,
) -> Result<Done, DbError> {
    let stored = stored(pen, settle)?;
    if settle.is_again && is_made(pen, settle, stored.delivery)? {
        // What it released is due, and found by the next sweep.
        return Ok(Default::default());
    }
    let held = stored.fence == settle.fence && stored.state == DeliveryState::Pending;
    record_attempt(pen, settle, (&stored, held), answer)?;
    // A late failure is about a claim that is over. A late 200 is true all the same.
    let late_news =
        settle.verdict == Verdict::Delivered && stored.state != DeliveryState::Delivered;
    if !held && !late_news {
        return Ok(Default::default());
    }
    apply(pen, settle, stored.delivery)?;
    if held {
        remember_health(pen, settle)?;
    }
    let stopped = match &settle.stop {
        Some(state) if held => stop(pen, settle, state)?,
        Some(_) | None => false,
    };
    // After a stop, so that nothing is claimed for an endpoint that is no longer called.
    let ask = settle.lease_until.map(|until| ask(settle, until));
    let (released, claimed) = if stored.awaited {
        release_waiting(pen, stored.delivery, settle.now, ask.as_ref())?
    } else {
        Default::default()
    };
    if let Some(told) = settle.told.as_ref().filter(|_| held) {
        tell(pen, settle, told)?;
    }
    let settled = Settled {
        held,
        released,
        claimed: Vec::new(),
        stopped,
    };
    Ok((settled, claimed))
}

/// Several at once. One that is refused alone was refused before it changed anything.
pub(in crate::store) fn settle_all(
    pen: &mut Pen,
    settles: &[Settle],
    answers: &[Option<Vec<u8>>],
) -> Result<Vec<Result<Done, DbError>>, DbError> {
    let each = settles.iter().zip(answers);
    let each = each.map(|(one, answer)| match settle(pen, one, answer.as_deref()) {
        Err(error) if error.kind == DbErrorKind::Stale && !pen.is_spoiled() => Ok(Err(error)),
        result => result.map(Ok),
    });
    each.collect()
}

struct Stored {
    delivery: i64,
    state: DeliveryState,
    fence: i64,
    url_override: Option<String>,
    /// Calls recorded so far, late ones too.
    calls: i64,
    /// Others wait for its outcome.
    awaited: bool,
}

/// All that a settle asks for in one statement: each costs more than what it looks up.
pub(in crate::store) const STORED: &str = "
    select d.delivery, d.state, d.fence, d.url_override,
        (select coalesce(max(n), 0) from attempts where delivery = d.delivery) as calls,
        exists (select 1 from deliveries where waiting_on = d.delivery and state = 'waiting')
            as awaited
    from deliveries d
    join endpoints p on p.endpoint = d.endpoint
    where d.delivery_id = ?2 and p.merchant_id = ?1 and p.endpoint_id = ?3";

/// In a statement of its own, for the next one sees what was changed until it began.
pub(super) const LOCK: &str = "select delivery from deliveries where delivery_id = ?1 for update";

fn stored(pen: &mut Pen, settle: &Settle) -> Result<Stored, DbError> {
    let id = pack_id(prefix::DELIVERY, settle.delivery_id.as_str());
    // Whoever is about to wait for this delivery has locked what it is about, and is seen once that is
    // over; so is whoever claims it.
    pen.lock_subject(settle.merchant_id.as_str(), &settle.subject)?;
    pen.lock(LOCK, params![id])?;
    let key = params![settle.merchant_id.as_str(), id, settle.endpoint_id.as_str()];
    pen.find(STORED, key, |row| {
        Ok(Stored {
            delivery: row.get("delivery")?,
            state: row.word("state")?,
            fence: row.get("fence")?,
            url_override: row.get("url_override")?,
            calls: row.get("calls")?,
            awaited: row.get("awaited")?,
        })
    })?
    .ok_or_else(|| DbError::stale(format!("delivery {} does not exist", settle.delivery_id)))
}

/// Whether this very call is recorded.
fn is_made(pen: &Pen, settle: &Settle, delivery: i64) -> Result<bool, DbError> {
    let sql = "
        select 1 from attempts where delivery = ?1 and started_at = ?2 and duration_us = ?3";
    let attempt = &settle.attempt;
    let call = params![
        delivery,
        attempt.started_at.as_micros(),
        attempt.duration_us
    ];
    Ok(pen.find(sql, call, |_| Ok(()))?.is_some())
}

/// Every call that was made is kept, whoever held the claim. Calls are numbered as they are
/// recorded; `attempts` of the delivery counts those that its ladder has used.
fn record_attempt(
    pen: &mut Pen,
    settle: &Settle,
    (stored, held): (&Stored, bool),
    answer: Option<&[u8]>,
) -> Result<(), DbError> {
    let sql = "
        insert into attempts (delivery, n, started_at, duration_us, status, failure, url,
            overtaking, previous_credentials, dns_us, connect_us, tls_us, write_us,
            first_byte_us, answer, verdict, retry_at, late)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
    let (verdict, retry_at) = match settle.verdict {
        Verdict::Delivered => (AttemptVerdict::Delivered, None),
        Verdict::RetryAt(at) => (AttemptVerdict::Retry, Some(at)),
        Verdict::Exhausted => (AttemptVerdict::Exhausted, None),
    };
    let attempt = &settle.attempt;
    let evidence = &attempt.evidence;
    let url = match &stored.url_override {
        Some(url) if *url == evidence.url => None,
        Some(_) | None => Some(pen.word(&evidence.url)?),
    };
    pen.execute_soon(
        sql,
        params![
            stored.delivery,
            stored.calls + 1,
            attempt.started_at.as_micros(),
            attempt.duration_us,
            attempt.status,
            attempt.failure,
            url,
            evidence.overtaking,
            evidence.credentials == CredentialsUsed::Previous,
            span(evidence.dns_us),
            span(evidence.connect_us),
            span(evidence.tls_us),
            span(evidence.write_us),
            span(evidence.first_byte_us),
            answer,
            verdict.word(),
            micros(retry_at),
            !held,
        ],
    )?;
    Ok(())
}

pub(in crate::store) const APPLY: &str = "
    update deliveries set state = ?2, due_at = ?3, settled_at = ?4, reason = null,
        attempts = attempts + 1, retried = 1, node = 0, lease_until = 0
    where delivery = ?1";

fn apply(pen: &Pen, settle: &Settle, delivery: i64) -> Result<(), DbError> {
    let (state, due_at, settled_at) = match settle.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, None, Some(settle.now)),
        Verdict::RetryAt(at) => (DeliveryState::Pending, Some(at), None),
        Verdict::Exhausted => (DeliveryState::Exhausted, None, Some(settle.now)),
    };
    let row = params![delivery, state.word(), micros(due_at), micros(settled_at)];
    pen.execute_soon(APPLY, row)?;
    Ok(())
}

/// Ends claimed deliveries that cannot be sent, each for its reason, and lets those behind them go on.
/// A claim that was taken over or settled meanwhile is left alone.
pub(in crate::store) fn withdraw(
    pen: &Pen,
    claims: &[(Lease, String)],
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "
        update deliveries set state = 'withdrawn', reason = ?3, settled_at = ?4, due_at = null,
            node = 0, lease_until = 0
        where delivery_id = ?1 and fence = ?2 and state = 'pending'
        returning delivery";
    for (claim, reason) in claims {
        let id = pack_id(prefix::DELIVERY, claim.delivery_id.as_str());
        let row = params![id, claim.fence, reason, now.as_micros()];
        if let Some(delivery) = pen.find(sql, row, |row| row.get(0))? {
            release_waiting(pen, delivery, now, None)?;
        }
    }
    Ok(())
}

/// A delivery that waits for the one that was settled.
struct Waiting {
    delivery: i64,
    kind: DeliveryKind,
    line: Line,
    mode: OrderMode,
}

/// Gives those that wait for a delivery a new place. The ones that are due now are claimed where
/// that is asked for, and else counted.
fn release_waiting(
    pen: &Pen,
    settled: i64,
    now: Timestamp,
    ask: Option<&ClaimAsk>,
) -> Result<(i64, Vec<Unopened>), DbError> {
    let sql = "
        update deliveries set state = ?2, due_at = ?3, waiting_on = ?4, overtaking = ?5
        where delivery = ?1 and state = 'waiting'";
    let (mut released, mut claimed) = (0, Vec::new());
    for next in waiting(pen, settled)? {
        let place = match next.kind {
            DeliveryKind::Event | DeliveryKind::Replay => place(pen, &next.line, next.mode)?,
            // It waited for that test alone, and real events do not hold it.
            DeliveryKind::Test => Place::default(),
        };
        let due_at = place.waiting_on.is_none().then_some(now);
        let state = match due_at {
            Some(_) => DeliveryState::Pending,
            None => DeliveryState::Waiting,
        };
        let row = params![
            next.delivery,
            state.word(),
            micros(due_at),
            place.waiting_on,
            place.overtaking
        ];
        // It may have been withdrawn since it was looked at.
        let is_released = pen.execute(sql, row)? > 0;
        if is_released && state == DeliveryState::Pending {
            let taken = match ask {
                Some(ask) => claim_one(pen, ask, next.delivery)?,
                None => None,
            };
            released += i64::from(taken.is_none());
            claimed.extend(taken);
        }
    }
    Ok((released, claimed))
}

/// A claim of what comes next in the line of a delivery that is being settled.
fn ask(settle: &Settle, lease_until: Timestamp) -> ClaimAsk {
    ClaimAsk {
        merchant_id: settle.merchant_id.clone(),
        endpoint_id: settle.endpoint_id.clone(),
        limit: 1,
        pick: Pick::FreshFirst,
        now: settle.now,
        lease_until,
    }
}

pub(in crate::store) const WAITING_ON: &str = "
    select delivery, kind, endpoint, subject, sequence, order_mode from deliveries
    where waiting_on = ?1 and state = 'waiting'
    order by sequence";

fn waiting(pen: &Pen, settled: i64) -> Result<Vec<Waiting>, DbError> {
    pen.sql().rows(WAITING_ON, params![settled], |row| {
        Ok(Waiting {
            delivery: row.get("delivery")?,
            kind: row.word("kind")?,
            line: Line {
                endpoint: row.get("endpoint")?,
                subject: row.get("subject")?,
                sequence: row.get("sequence")?,
            },
            mode: row.word("order_mode")?,
        })
    })
}

fn remember_health(pen: &Pen, settle: &Settle) -> Result<(), DbError> {
    let health = match &settle.health {
        HealthWrite::Keep => return Ok(()),
        HealthWrite::Well => None,
        HealthWrite::Ill(health) => Some(health),
    };
    // Not a change of the endpoint as people set it: its version and cached copies stand.
    let sql = "
        update endpoints set health = ?3, breaker_open = ?4
        where merchant_id = ?1 and endpoint_id = ?2";
    let row = params![
        settle.merchant_id.as_str(),
        settle.endpoint_id.as_str(),
        health.map(serde_json::to_string).transpose()?,
        health.is_some_and(|health| health.is_open()),
    ];
    pen.execute_beside(sql, row).map(drop)
}

fn stop(pen: &mut Pen, settle: &Settle, state: &EndpointState) -> Result<bool, DbError> {
    let sql = "
        update endpoints set state = ?3, state_reason = ?4, state_at = ?5,
            version = version + 1
        where merchant_id = ?1 and endpoint_id = ?2 and state = 'active'";
    let (word, reason, at) = state_columns(state);
    let row = params![
        settle.merchant_id.as_str(),
        settle.endpoint_id.as_str(),
        word,
        reason,
        micros(at),
    ];
    let changed = pen.execute(sql, row)?;
    pen.change(Changed::Merchant(settle.merchant_id.clone()))?;
    Ok(changed > 0)
}

fn tell(pen: &Pen, settle: &Settle, told: &NewOperationalEvent) -> Result<(), DbError> {
    let sql = "
        insert into operational_events (merchant_id, position, endpoint_id, kind, sentence,
            created_at)
        select cast(?1 as text), coalesce(max(position), 0) + 1, cast(?2 as text),
            cast(?3 as text), cast(?4 as text), cast(?5 as bigint)
        from operational_events where merchant_id = ?1";
    let row = params![
        settle.merchant_id.as_str(),
        settle.endpoint_id.as_str(),
        told.kind,
        told.sentence,
        settle.now.as_micros(),
    ];
    pen.execute(sql, row).map(drop)
}
