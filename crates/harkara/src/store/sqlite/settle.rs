//! Recording what came of an attempt, and letting those who waited for it go on.
//!
//! What an outcome means was judged before; here it is made true once, by whoever holds the claim.
//! `Store` calls it through the committer, so settles share flushes with commits.

use harkara_core::delivery::{DeliveryState, Verdict};
use harkara_core::endpoint::{EndpointState, OrderMode};
use harkara_core::id::{DeliveryId, MerchantId};
use harkara_core::time::Timestamp;
use rusqlite::params;

use super::claim::claim_one;
use super::place::{Line, place};
use super::{Changed, Pen};
use crate::store::codec::{Columns, Word, micros};
use crate::store::endpoints::state_columns;
use crate::store::error::{DbError, DbErrorKind};
use crate::store::rows::{
    AttemptVerdict, ClaimAsk, HealthWrite, Lease, NewOperationalEvent, Pick, Settle, Settled,
    Unopened,
};

/// What it released and claimed comes beside it, still packed.
pub(in crate::store) fn settle(
    pen: &mut Pen,
    settle: &Settle,
) -> Result<(Settled, Vec<Unopened>), DbError> {
    let stored = stored(pen, settle)?;
    let held = stored.fence == settle.fence && stored.state == DeliveryState::Pending;
    record_attempt(pen, settle, held)?;
    // A late failure is about a claim that is over. A late 200 is true all the same.
    let late_news =
        settle.verdict == Verdict::Delivered && stored.state != DeliveryState::Delivered;
    if !held && !late_news {
        return Ok(Default::default());
    }
    apply(pen, settle)?;
    if held {
        remember_health(pen, settle)?;
    }
    let stopped = match &settle.stop {
        Some(state) if held => stop(pen, settle, state)?,
        Some(_) | None => false,
    };
    // After a stop, so that nothing is claimed for an endpoint that is no longer called.
    let ask = settle.lease_until.map(|until| ask(settle, until));
    let waited_for = (&settle.merchant_id, &settle.delivery_id);
    let (released, claimed) = release_waiting(pen, waited_for, settle.now, ask.as_ref())?;
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
) -> Result<Vec<Result<(Settled, Vec<Unopened>), DbError>>, DbError> {
    let each = settles.iter().map(|one| match settle(pen, one) {
        Err(error) if error.kind == DbErrorKind::Stale => Ok(Err(error)),
        result => result.map(Ok),
    });
    each.collect()
}

struct Stored {
    state: DeliveryState,
    fence: i64,
}

fn stored(pen: &Pen, settle: &Settle) -> Result<Stored, DbError> {
    let sql = "
        select state, fence from deliveries
        where merchant_id = ?1 and delivery_id = ?2 and endpoint_id = ?3";
    let key = params![
        settle.merchant_id.as_str(),
        settle.delivery_id.as_str(),
        settle.endpoint_id.as_str()
    ];
    pen.find(sql, key, |row| {
        Ok(Stored {
            state: row.word("state")?,
            fence: row.get("fence")?,
        })
    })?
    .ok_or_else(|| DbError::stale(format!("delivery {} does not exist", settle.delivery_id)))
}

/// Every call that was made is kept, whoever held the claim. Calls are numbered as they are
/// recorded; `attempts` of the delivery counts those that its ladder has used.
fn record_attempt(pen: &Pen, settle: &Settle, held: bool) -> Result<(), DbError> {
    let sql = "
        insert into attempts (merchant_id, delivery_id, n, started_at, duration_us, status,
            failure, doc, verdict, retry_at, late)
        select ?1, ?2, coalesce(max(n), 0) + 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
        from attempts where merchant_id = ?1 and delivery_id = ?2";
    let (verdict, retry_at) = match settle.verdict {
        Verdict::Delivered => (AttemptVerdict::Delivered, None),
        Verdict::RetryAt(at) => (AttemptVerdict::Retry, Some(at)),
        Verdict::Exhausted => (AttemptVerdict::Exhausted, None),
    };
    let attempt = &settle.attempt;
    pen.execute(
        sql,
        params![
            settle.merchant_id.as_str(),
            settle.delivery_id.as_str(),
            attempt.started_at.as_micros(),
            attempt.duration_us,
            attempt.status,
            attempt.failure,
            attempt.doc,
            verdict.word(),
            micros(retry_at),
            !held,
        ],
    )?;
    Ok(())
}

fn apply(pen: &Pen, settle: &Settle) -> Result<(), DbError> {
    let sql = "
        update deliveries set state = ?3, due_at = ?4, settled_at = ?5, reason = null,
            attempts = attempts + 1, retried = 1, node = 0, lease_until = 0
        where merchant_id = ?1 and delivery_id = ?2";
    let (state, due_at, settled_at) = match settle.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, None, Some(settle.now)),
        Verdict::RetryAt(at) => (DeliveryState::Pending, Some(at), None),
        Verdict::Exhausted => (DeliveryState::Exhausted, None, Some(settle.now)),
    };
    pen.execute(
        sql,
        params![
            settle.merchant_id.as_str(),
            settle.delivery_id.as_str(),
            state.word(),
            micros(due_at),
            micros(settled_at),
        ],
    )?;
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
        update deliveries set state = 'withdrawn', reason = ?4, settled_at = ?5, due_at = null,
            node = 0, lease_until = 0
        where merchant_id = ?1 and delivery_id = ?2 and fence = ?3 and state = 'pending'";
    for (claim, reason) in claims {
        let (merchant_id, delivery_id) = (&claim.merchant_id, &claim.delivery_id);
        let row = params![
            merchant_id.as_str(),
            delivery_id.as_str(),
            claim.fence,
            reason,
            now.as_micros()
        ];
        if pen.execute(sql, row)? > 0 {
            release_waiting(pen, (merchant_id, delivery_id), now, None)?;
        }
    }
    Ok(())
}

/// A delivery that waits for the one that was settled.
struct Waiting {
    delivery_id: String,
    endpoint_id: String,
    subject: String,
    sequence: i64,
    mode: OrderMode,
}

/// Gives those that wait for a delivery a new place. The ones that are due now are claimed where
/// that is asked for, and else counted.
fn release_waiting(
    pen: &Pen,
    (merchant_id, delivery_id): (&MerchantId, &DeliveryId),
    now: Timestamp,
    ask: Option<&ClaimAsk>,
) -> Result<(i64, Vec<Unopened>), DbError> {
    let merchant_id = merchant_id.as_str();
    let (mut released, mut claimed) = (0, Vec::new());
    for next in waiting(pen, merchant_id, delivery_id.as_str())? {
        let line = Line {
            merchant_id,
            endpoint_id: &next.endpoint_id,
            subject: &next.subject,
            sequence: next.sequence,
        };
        let place = place(pen, &line, next.mode)?;
        let due_at = place.waiting_on.is_none().then_some(now);
        let sql = "
            update deliveries set state = ?3, due_at = ?4, waiting_on = ?5, overtaking = ?6
            where merchant_id = ?1 and delivery_id = ?2";
        let state = match due_at {
            Some(_) => DeliveryState::Pending,
            None => DeliveryState::Waiting,
        };
        let due_at = due_at.map(Timestamp::as_micros);
        let row = params![
            merchant_id,
            next.delivery_id,
            state.word(),
            due_at,
            place.waiting_on,
            place.overtaking
        ];
        pen.execute(sql, row)?;
        if state == DeliveryState::Pending {
            let taken = match ask {
                Some(ask) => claim_one(pen, ask, &next.delivery_id)?,
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
    select delivery_id, endpoint_id, subject, sequence, order_mode from deliveries
    where merchant_id = ?1 and waiting_on = ?2 and state = 'waiting'
    order by sequence";

fn waiting(pen: &Pen, merchant_id: &str, delivery_id: &str) -> Result<Vec<Waiting>, DbError> {
    let mut statement = pen.prepare(WAITING_ON)?;
    let rows = statement.query_map(params![merchant_id, delivery_id], |row| {
        Ok(Waiting {
            delivery_id: row.get("delivery_id")?,
            endpoint_id: row.get("endpoint_id")?,
            subject: row.get("subject")?,
            sequence: row.get("sequence")?,
            mode: row.word("order_mode")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
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
    pen.execute(sql, row).map(drop)
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
    pen.change(Changed::Merchant(settle.merchant_id.clone()));
    Ok(changed > 0)
}

fn tell(pen: &Pen, settle: &Settle, told: &NewOperationalEvent) -> Result<(), DbError> {
    let sql = "
        insert into operational_events (merchant_id, position, endpoint_id, kind, sentence,
            created_at)
        select ?1, coalesce(max(position), 0) + 1, ?2, ?3, ?4, ?5
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
