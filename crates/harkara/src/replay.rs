//! The runner of replay jobs: lets each go on as fast as its rate allows.
//!
//! Which events are next, and what becomes of them, is decided in `harkara_core::replay`; a step
//! lands in one commit, so that a job goes on where it was after any end of the process. The
//! deliveries are sent like all others. `app.rs` starts it, the API surveys with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use harkara_core::endpoint::Endpoint;
use harkara_core::id::{MerchantId, ReplayJobId};
use harkara_core::replay::{self, Definition, Job, JobState, Pace, RUNNING_MAX, Survey};
use harkara_core::time::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::deliver::inbox::Inbox;
use crate::store::{DbError, DbErrorKind, Store};

/// How long to wait when no job runs, and after a failure: a hint may have been lost.
const IDLE: Duration = Duration::from_secs(1);

/// What goes within this time goes together, as one commit for each job.
const TICK: Duration = Duration::from_millis(100);

/// Deliveries that one step makes at most.
const BATCH: u32 = 200;

/// Events that are looked at together, and how often in one turn of a job that finds nothing. The
/// survey, which a person waits for, takes larger pages.
const LOOKS: usize = 64;
const PAGES: usize = 128;
const SURVEY_LOOKS: usize = 10_000;

/// The runner's loop and what it needs.
pub struct ReplayLoop {
    pub runner: Runner,
    pub clock: Clock,
    /// Told when a job has been made or resumed.
    pub woken: Arc<Notify>,
    pub stop: watch::Receiver<bool>,
}

impl ReplayLoop {
    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        loop {
            let wait = self.runner.turn(self.clock.now()).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.woken.notified() => {}
                // A stop signal whose sender is gone is a stop as well.
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

/// Lets jobs go on, turn by turn, at whatever times its caller says it is.
pub struct Runner {
    store: Store,
    inbox: Inbox,
    paces: HashMap<ReplayJobId, Pace>,
    /// How many nodes share what a job may do.
    nodes: u32,
}

/// What a job did in a turn.
struct Progress {
    job_id: ReplayJobId,
    replayed: u32,
    /// It has looked as far as one turn may, and found less than it was allowed.
    goes_on: bool,
}

impl Runner {
    /// A runner that has yet to look for jobs.
    pub fn new(store: Store, inbox: Inbox) -> Self {
        Self {
            store,
            inbox,
            paces: HashMap::new(),
            nodes: 1,
        }
    }

    /// Lets each running job do what it may by now, and says how long nothing else will be.
    pub async fn turn(&mut self, now: Timestamp) -> Duration {
        let jobs = match self.store.running_replay_jobs().await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::error!(%error, source = %error.source, "failed to read replay jobs");
                return IDLE;
            }
        };
        let nodes = self.store.nodes();
        let mut paces = std::mem::take(&mut self.paces);
        // Each node has a part of a job's rate. They begin anew, empty, when the parts change.
        if std::mem::replace(&mut self.nodes, nodes) != nodes {
            paces.clear();
        }
        let mut turns = JoinSet::new();
        for job in jobs {
            let known = paces.remove(&job.id);
            let mut pace =
                known.unwrap_or_else(|| Pace::new((job.definition.rate / nodes).max(1), now));
            pace.advance(now);
            let allowed = pace.allowed().min(BATCH);
            self.paces.insert(job.id.clone(), pace);
            if allowed > 0 {
                turns.spawn(go_on(self.store.clone(), job, allowed, now));
            }
        }
        let (mut goes_on, mut replayed) = (false, 0);
        while let Some(done) = turns.join_next().await {
            // A job that panicked is tried again like one that failed.
            let Some(progress) = done.ok().flatten() else {
                continue;
            };
            if let Some(pace) = self.paces.get_mut(&progress.job_id) {
                pace.spend(progress.replayed);
            }
            goes_on |= progress.goes_on;
            replayed += progress.replayed;
        }
        if replayed > 0 {
            self.inbox.wake();
        }
        let waits = self.paces.values().map(|pace| pace.wait().max(TICK));
        match goes_on {
            true => Duration::ZERO,
            false => waits.min().unwrap_or(IDLE).min(IDLE),
        }
    }
}

/// One job's turn; `None` when it came to nothing.
async fn go_on(store: Store, job: Job, allowed: u32, now: Timestamp) -> Option<Progress> {
    let job_id = job.id.clone();
    match try_to_go_on(&store, job, allowed, now).await {
        Ok(progress) => Some(progress),
        // Somebody has paused or cancelled it, or deleted its endpoint; the next turn sees that.
        Err(error) if error.kind == DbErrorKind::Stale => None,
        Err(error) => {
            tracing::error!(job.id = %job_id, %error, source = %error.source,
                "failed to go on with a replay job");
            None
        }
    }
}

async fn try_to_go_on(
    store: &Store,
    job: Job,
    allowed: u32,
    now: Timestamp,
) -> Result<Progress, DbError> {
    let mut progress = Progress {
        job_id: job.id.clone(),
        replayed: 0,
        goes_on: false,
    };
    let endpoints = store.endpoints(&job.merchant_id).await?;
    let to = &job.definition.to_endpoint_id;
    let Some(to) = endpoints.iter().find(|one| &one.endpoint_id == to) else {
        cancel(store, job, now).await?;
        return Ok(progress);
    };
    let definition = Arc::new(job.definition.clone());
    let mut ahead = job.clone();
    let mut pages = 0;
    let step = loop {
        let range = (ahead.cursor, ahead.last_position);
        let page = store
            .replay_candidates(&job.merchant_id, definition.clone(), range, LOOKS)
            .await?;
        let step = replay::step(&ahead, to, &page, allowed);
        pages += 1;
        if step.finished || step.done != job.done || pages == PAGES {
            break step;
        }
        ahead.cursor = step.cursor;
    };
    progress.replayed = step.done.replayed - job.done.replayed;
    progress.goes_on = !step.finished && progress.replayed < allowed;
    store.replay_step(job, step, now).await?;
    Ok(progress)
}

async fn cancel(store: &Store, job: Job, now: Timestamp) -> Result<(), DbError> {
    let reason = "the endpoint that the events go to was deleted".to_owned();
    let cancelled = Job {
        state: JobState::Cancelled,
        reason: Some(reason),
        changed_at: now,
        ..job
    };
    store
        .change_replay_job(JobState::Running, cancelled, RUNNING_MAX)
        .await
        .map(drop)
}

/// How far a survey looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Whole,
    /// At so many events, the oldest, for somebody who waits for a page.
    At(usize),
}

/// What a job of this definition would find if it were made now, up to the position `last`. Stops
/// once that is more than a job may have.
pub async fn survey(
    store: &Store,
    merchant_id: &MerchantId,
    definition: &Definition,
    to: &Endpoint,
    (last, now, look): (i64, Timestamp, Look),
) -> Result<Survey, DbError> {
    let shared = Arc::new(definition.clone());
    let mut survey = Survey::default();
    let mut left = match look {
        Look::Whole => usize::MAX,
        Look::At(events) => events,
    };
    let mut cursor = 0;
    while cursor < last && !survey.is_too_much() {
        if left == 0 {
            survey.is_partial = true;
            break;
        }
        let looks = SURVEY_LOOKS.min(left);
        left -= looks;
        let page = store
            .replay_candidates(merchant_id, shared.clone(), (cursor, last), looks)
            .await?;
        survey.add(&page, definition, to, now);
        cursor = page.looked_to;
    }
    Ok(survey)
}

#[cfg(test)]
mod tests;
