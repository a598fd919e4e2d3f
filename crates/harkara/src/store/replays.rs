//! Replay jobs: their rows, the events they go through, and the steps they make.
//!
//! A step lands whole: the cursor moves in the very unit that makes the deliveries, so that no crash
//! comes between them. Which events are items of a job is the core's business; here they are only
//! brought in order, a bounded number at a time. The API and the runner of jobs call it.

use std::ops::ControlFlow;
use std::sync::Arc;

use harkara_core::delivery::NewDelivery;
use harkara_core::id::{DeliveryId, EventId, MerchantId, ReplayJobId, time_prefix};
use harkara_core::replay::{Candidate, Definition, Done, Job, JobState, Page, Step};
use harkara_core::time::Timestamp;

use super::codec::{Columns, Word, pack_id, prefix};
use super::error::{DbError, DbErrorKind};
use super::pen::Pen;
use super::rows::NewIdempotencyKey;
use super::sql::{Params, Row, Sql, params};
use super::units::commit;
use super::views::word;
use super::{Reach, Store};

impl Store {
    /// The position of a merchant's newest event; 0 when it has none.
    pub async fn last_position(&self, merchant_id: &MerchantId) -> Result<i64, DbError> {
        let merchant_id = merchant_id.clone();
        let Reach::Newest(horizon) = self.horizon().await? else {
            let cause =
                "an event is being written, and nobody knows yet whether it is before the last";
            return Err(DbError::new(DbErrorKind::Busy, cause));
        };
        let sql = "
            select coalesce(max(position), 0) from events where merchant = ?1 and position <= ?2";
        self.read(move |conn| {
            let merchant = word(conn, merchant_id.as_str())?;
            Ok(conn
                .first(sql, params![merchant, horizon], |row| row.get(0))?
                .unwrap_or(0))
        })
        .await
    }

    /// Candidates for a definition after a position and up to another. Looks at no more than `looks`
    /// events, so that a page may have few candidates, or none, although more follow.
    pub async fn replay_candidates(
        &self,
        merchant_id: &MerchantId,
        definition: Arc<Definition>,
        (after, last): (i64, i64),
        looks: usize,
    ) -> Result<Page, DbError> {
        let merchant_id = merchant_id.clone();
        self.shared
            .readers
            .read_long(move |conn| page(conn, &merchant_id, &definition, (after, last, looks)))
            .await
    }

    /// Stores a new job, and the key of its request; false, and nothing stored, when it would run
    /// and `running_max` jobs of its merchant do already. `Stale` when the key was used before.
    pub async fn insert_replay_job(
        &self,
        job: Job,
        key: Option<NewIdempotencyKey>,
        running_max: u32,
    ) -> Result<bool, DbError> {
        self.write(move |pen| {
            if !has_room(pen, &job, running_max)? {
                return Ok(false);
            }
            if let Some(key) = &key {
                let merchant = pen.word(job.merchant_id.as_str())?;
                commit::insert_idempotency_key(pen, merchant, key, job.created_at)?;
            }
            insert(pen, &job).map(|()| true)
        })
        .await
    }

    /// Gives a job its new state, unless that would be one too many of its merchant that run: then
    /// false. `Stale` when it is no longer in the state that it was seen in.
    pub async fn change_replay_job(
        &self,
        seen: JobState,
        job: Job,
        running_max: u32,
    ) -> Result<bool, DbError> {
        self.write(move |pen| {
            if !has_room(pen, &job, running_max)? {
                return Ok(false);
            }
            change(pen, seen, &job).map(|()| true)
        })
        .await
    }

    /// Makes a step of a running job true; a delivery that is there already stays as it is. `Stale`
    /// when the job has been stopped or somebody else has made the step.
    pub async fn replay_step(&self, job: Job, step: Step, now: Timestamp) -> Result<(), DbError> {
        self.write(move |pen| {
            advance(pen, &job, &step, now)?;
            for delivery in &step.deliveries {
                if !exists(pen, delivery)? {
                    commit::insert_replay(pen, delivery, now, None)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// One job of a merchant.
    pub async fn replay_job(
        &self,
        merchant_id: &MerchantId,
        job_id: &ReplayJobId,
    ) -> Result<Option<Job>, DbError> {
        let (merchant_id, job_id) = (merchant_id.clone(), job_id.clone());
        let sql = "select * from replay_jobs where merchant_id = ?1 and job_id = ?2";
        self.read(move |conn| {
            let key = params![merchant_id.as_str(), job_id.as_str()];
            Ok(jobs(conn, sql, key)?.pop())
        })
        .await
    }

    /// A merchant's jobs, newest first: those made before the one that is named.
    pub async fn replay_jobs(
        &self,
        merchant_id: &MerchantId,
        before: Option<ReplayJobId>,
        limit: usize,
    ) -> Result<Vec<Job>, DbError> {
        let merchant_id = merchant_id.clone();
        let sql = "
            select * from replay_jobs
            where merchant_id = ?1 and (cast(?2 as text) is null or job_id < ?2)
            order by job_id desc limit ?3";
        self.read(move |conn| {
            let before = before.as_ref().map(ReplayJobId::as_str);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            jobs(conn, sql, params![merchant_id.as_str(), before, limit])
        })
        .await
    }

    /// All jobs that run, over all merchants.
    pub async fn running_replay_jobs(&self) -> Result<Vec<Job>, DbError> {
        self.read(|conn| jobs(conn, RUNNING, params![])).await
    }

    /// How many of a job's deliveries have arrived. Costs as much as it has made.
    pub async fn delivered_by_replay_job(&self, job: &Job) -> Result<u32, DbError> {
        let job = job.clone();
        let moment = time_prefix(job.created_at);
        self.shared
            .readers
            .read_long(move |conn| {
                let of_moment = ["00", "ff"].map(|byte| {
                    let id = format!("dlv_{moment}{}", byte.repeat(10));
                    pack_id(prefix::DELIVERY, &id)
                });
                let [first, last] = of_moment;
                let mut count = 0;
                conn.each(DELIVERED_OF_MOMENT, params![first, last], &mut |row| {
                    // Others may have been made in the same millisecond.
                    let event_id = row.event_id("event_id")?;
                    let delivery_id = row.delivery_id("delivery_id")?;
                    count += u32::from(job.delivery_id(&event_id) == delivery_id);
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(count)
            })
            .await
    }

    /// The job that made a delivery of an event, if one did.
    pub async fn replay_job_of(
        &self,
        merchant_id: &MerchantId,
        event_id: &EventId,
        delivery_id: &DeliveryId,
    ) -> Result<Option<ReplayJobId>, DbError> {
        let key = (merchant_id.clone(), event_id.clone(), delivery_id.clone());
        let sql = "
            select * from replay_jobs where merchant_id = ?1 and job_id >= ?2 and job_id < ?3";
        self.read(move |conn| {
            let (merchant_id, event_id, delivery_id) = key;
            let prefix = delivery_id.as_str().get(4..16).unwrap_or_default();
            let moment = params![
                merchant_id.as_str(),
                format!("rpl_{prefix}"),
                format!("rpl_{prefix}g"),
            ];
            let of_moment = jobs(conn, sql, moment)?;
            let made = of_moment
                .into_iter()
                .find(|job| job.delivery_id(&event_id) == delivery_id);
            Ok(made.map(|job| job.id))
        })
        .await
    }
}

pub(in crate::store) const RUNNING: &str = "
    select * from replay_jobs where state = 'running'";

pub(in crate::store) const DELIVERED_OF_MOMENT: &str = "
    select d.delivery_id, e.event_id from deliveries d
    left join events e on e.position = d.delivery / 65536
    where d.delivery_id between ?1 and ?2 and d.kind = 'replay' and d.state = 'delivered'";

/// What was never delivered has an index of its own.
pub(in crate::store) const LOST: &str = "
    select e.position, e.event_id, w.text as name, e.created_at, d.state, d.settled_at,
        d.url_override, b.position is not null as has_body
    from deliveries d
    left join events e on e.position = d.delivery / 65536
    left join words w on w.word = e.name
    left join event_bodies b on b.position = d.delivery / 65536
    where e.merchant = ?1 and d.endpoint = ?2 and d.kind = 'event'
      and (d.state = 'exhausted' or d.state = 'withdrawn' or d.state = 'withheld')
      and d.delivery >= (?3 + 1) * 65536 and d.delivery < (?4 + 1) * 65536
    order by d.delivery limit ?5";

/// Each event once, with or without a delivery to the endpoint, so that the limit bounds the looks.
pub(in crate::store) const ANY: &str = "
    select e.position, e.event_id, w.text as name, e.created_at, d.state, d.settled_at,
        d.url_override, b.position is not null as has_body
    from events e
    left join words w on w.word = e.name
    left join event_bodies b on b.position = e.position
    left join deliveries d on d.endpoint = ?2 and d.kind = 'event'
      and d.delivery between e.position * 65536 and e.position * 65536 + 65535
    where e.merchant = ?1 and e.position > ?3 and e.position <= ?4
    order by e.position limit ?5";

const ENDPOINT: &str = "
    select endpoint from endpoints where merchant_id = ?1 and endpoint_id = ?2";

fn page(
    conn: &dyn Sql,
    merchant_id: &MerchantId,
    definition: &Definition,
    (after, last, looks): (i64, i64, usize),
) -> Result<Page, DbError> {
    let sql = if definition.is_about_lost() {
        LOST
    } else {
        ANY
    };
    let merchant = word(conn, merchant_id.as_str())?;
    let of_merchant = params![merchant_id.as_str(), definition.endpoint_id.as_str()];
    let endpoint: Option<i64> = conn.first(ENDPOINT, of_merchant, |row| row.get(0))?;
    let limit = i64::try_from(looks).unwrap_or(i64::MAX);
    let mut page = Page::default();
    let mut looked = 0;
    let wanted = params![merchant, endpoint, after, last, limit];
    conn.each(sql, wanted, &mut |row| {
        looked += 1;
        page.looked_to = row.get("position")?;
        page.candidates.extend(candidate(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    if looked < looks {
        page.looked_to = last;
    }
    Ok(page)
}

/// `None` for an event that was not planned for the endpoint.
fn candidate(row: &Row<'_>) -> Result<Option<Candidate>, DbError> {
    if row.get::<_, Option<String>>("state")?.is_none() {
        return Ok(None);
    }
    let name: String = row.get("name")?;
    Ok(Some(Candidate {
        position: row.get("position")?,
        event_id: row.event_id("event_id")?,
        name: name
            .parse()
            .map_err(|error| DbError::caused(DbErrorKind::Corrupt, error))?,
        created_at: row.at("created_at")?,
        state: row.word("state")?,
        settled_at: row.at_opt("settled_at")?,
        url_override: row.get("url_override")?,
        has_body: row.get("has_body")?,
    }))
}

/// Whether a job may be in the state it is to have.
fn has_room(pen: &Pen, job: &Job, running_max: u32) -> Result<bool, DbError> {
    let sql = "
        select count(*) from replay_jobs where merchant_id = ?1 and state = 'running'";
    let running: Option<u32> =
        pen.find(sql, params![job.merchant_id.as_str()], |row| row.get(0))?;
    Ok(job.state != JobState::Running || running.unwrap_or(0) < running_max)
}

fn insert(pen: &Pen, job: &Job) -> Result<(), DbError> {
    let sql = "
        insert into replay_jobs (merchant_id, job_id, doc, matched, last_position, cursor, replayed,
            skipped_version, skipped_switch, skipped_delivered, skipped_body, state, reason,
            created_at, changed_at)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    let row = params![
        job.merchant_id.as_str(),
        job.id.as_str(),
        serde_json::to_string(&job.definition)?,
        job.matched,
        job.last_position,
        job.cursor,
        job.done.replayed,
        job.done.below_version,
        job.done.switched_off,
        job.done.delivered,
        job.done.without_body,
        job.state.word(),
        job.reason,
        job.created_at.as_micros(),
        job.changed_at.as_micros(),
    ];
    pen.execute(sql, row).map(drop)
}

fn change(pen: &Pen, seen: JobState, job: &Job) -> Result<(), DbError> {
    let sql = "
        update replay_jobs set state = ?4, reason = ?5, changed_at = ?6
        where merchant_id = ?1 and job_id = ?2 and state = ?3";
    let row = params![
        job.merchant_id.as_str(),
        job.id.as_str(),
        seen.word(),
        job.state.word(),
        job.reason,
        job.changed_at.as_micros(),
    ];
    one(pen.execute(sql, row)?, job)
}

fn advance(pen: &Pen, job: &Job, step: &Step, now: Timestamp) -> Result<(), DbError> {
    let sql = "
        update replay_jobs set cursor = ?4, replayed = ?5, skipped_version = ?6, skipped_switch = ?7,
            skipped_delivered = ?8, skipped_body = ?9, state = ?10, changed_at = ?11
        where merchant_id = ?1 and job_id = ?2 and cursor = ?3 and state = 'running'";
    let (state, changed_at) = match step.finished {
        true => (JobState::Finished, now),
        false => (JobState::Running, job.changed_at),
    };
    let row = params![
        job.merchant_id.as_str(),
        job.id.as_str(),
        job.cursor,
        step.cursor,
        step.done.replayed,
        step.done.below_version,
        step.done.switched_off,
        step.done.delivered,
        step.done.without_body,
        state.word(),
        changed_at.as_micros(),
    ];
    one(pen.execute(sql, row)?, job)
}

fn one(changed: usize, job: &Job) -> Result<(), DbError> {
    match changed {
        0 => Err(DbError::stale(format!(
            "replay job {} is not as it was seen any more",
            job.id
        ))),
        _ => Ok(()),
    }
}

fn exists(pen: &Pen, delivery: &NewDelivery) -> Result<bool, DbError> {
    let sql = "select 1 from deliveries where delivery_id = ?1";
    let id = pack_id(prefix::DELIVERY, delivery.id.as_str());
    Ok(pen.find(sql, params![id], |_| Ok(()))?.is_some())
}

fn jobs(conn: &dyn Sql, sql: &str, wanted: Params<'_>) -> Result<Vec<Job>, DbError> {
    conn.rows(sql, wanted, read_job)
}

fn read_job(row: &Row<'_>) -> Result<Job, DbError> {
    Ok(Job {
        merchant_id: MerchantId::new(row.get::<_, String>("merchant_id")?),
        id: ReplayJobId::new(row.get::<_, String>("job_id")?),
        definition: serde_json::from_str(&row.get::<_, String>("doc")?)?,
        created_at: row.at("created_at")?,
        matched: row.get("matched")?,
        last_position: row.get("last_position")?,
        cursor: row.get("cursor")?,
        done: Done {
            replayed: row.get("replayed")?,
            below_version: row.get("skipped_version")?,
            switched_off: row.get("skipped_switch")?,
            delivered: row.get("skipped_delivered")?,
            without_body: row.get("skipped_body")?,
        },
        state: row.word("state")?,
        reason: row.get("reason")?,
        changed_at: row.at("changed_at")?,
    })
}
