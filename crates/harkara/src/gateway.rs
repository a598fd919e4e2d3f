//! The DUMMY gateway's clockwork: carries out the outcomes that commits have scheduled.
//!
//! What is played is decided in `harkara_core::dummy`; here it only happens on time, through the
//! ordinary write path, and leaves the schedule in the very commit that it causes. `app.rs` starts
//! it where the DUMMY gateway is on.

use std::sync::Arc;
use std::time::Duration;

use harkara_core::command::Command;
use harkara_core::merchant::Merchant;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::deliver::inbox::Inbox;
use crate::store::{DbError, DbErrorKind, ScheduledOutcome, Store};
use crate::submit::{Submit, SubmitError};

/// Outcomes that are carried out at the same time.
const BATCH: usize = 256;

/// How long to wait when nothing is scheduled, and after a failure: a hint may have been lost.
const IDLE: Duration = Duration::from_secs(1);

/// How long to wait when others were faster at the same order.
const RACED: Duration = Duration::from_millis(20);

/// What the clockwork needs.
pub struct GatewayClock {
    pub store: Store,
    pub clock: Clock,
    pub submit: Arc<Submit>,
    pub inbox: Inbox,
    pub stop: watch::Receiver<bool>,
}

impl GatewayClock {
    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        loop {
            let wait = self.turn().await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.inbox.gateway_woken() => {}
                // A stop signal whose sender is gone is a stop as well.
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Carries out what is due and says how long nothing else will be.
    async fn turn(&self) -> Duration {
        let now = self.clock.now();
        let due = match self.store.due_scheduled(now, BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, source = %error.source, "failed to read scheduled outcomes");
                return IDLE;
            }
        };
        let full = due.len() == BATCH;
        let mut running = JoinSet::new();
        for outcome in due {
            let (store, submit) = (self.store.clone(), self.submit.clone());
            running.spawn(async move { carry_out(&store, &submit, &outcome).await });
        }
        let mut wait = if full { Duration::ZERO } else { IDLE };
        while let Some(result) = running.join_next().await {
            // A task that panicked is tried again like one that failed.
            wait = match result.unwrap_or(Carried::Failed) {
                Carried::Out => wait,
                Carried::Raced => wait.min(RACED),
                Carried::Failed => IDLE,
            };
        }
        match self.store.next_scheduled().await {
            Ok(Some(next)) if next > now => wait.min(next.since(self.clock.now())),
            Ok(_) | Err(_) => wait,
        }
    }
}

/// What came of an outcome.
enum Carried {
    /// It has left the schedule.
    Out,
    /// Others were at the same order all the time; it is due still.
    Raced,
    /// It is due still, and the log says why.
    Failed,
}

async fn carry_out(store: &Store, submit: &Submit, outcome: &ScheduledOutcome) -> Carried {
    let id = outcome.id.as_str();
    let (merchant, command) = match read(store, outcome).await {
        Ok(read) => read,
        Err(Unreadable::Store(error)) => {
            tracing::error!(outcome.id = id, %error, "failed to read a scheduled outcome");
            return Carried::Failed;
        }
        Err(Unreadable::Content(error)) => {
            // It will never be readable, and must not hold up what comes after it.
            tracing::error!(outcome.id = id, %error, "dropped a scheduled outcome");
            return finish(submit.drop_scheduled(&outcome.merchant_id, id).await, id);
        }
    };
    match submit.run_scheduled(&merchant, &[command], Some(id)).await {
        Ok(_) => Carried::Out,
        Err(SubmitError::Store(error)) => finish(Err(error), id),
        Err(SubmitError::Refused(refusal)) => {
            // What it was about has moved on; the schedule must not hold it for ever.
            tracing::info!(outcome.id = id, %refusal, "a scheduled outcome came too late");
            finish(submit.drop_scheduled(&outcome.merchant_id, id).await, id)
        }
        Err(SubmitError::Unreadable(error)) => {
            tracing::error!(outcome.id = id, %error, "dropped a scheduled outcome");
            finish(submit.drop_scheduled(&outcome.merchant_id, id).await, id)
        }
    }
}

fn finish(result: Result<(), DbError>, id: &str) -> Carried {
    match result {
        Ok(()) => Carried::Out,
        // Either somebody carried it out in the meantime, and then it is no longer listed.
        Err(error) if error.kind == DbErrorKind::Stale => Carried::Raced,
        Err(error) => {
            tracing::error!(outcome.id = id, %error, source = %error.source,
                "failed to carry out a scheduled outcome");
            Carried::Failed
        }
    }
}

/// Why an outcome cannot be carried out as it is stored.
enum Unreadable {
    /// Perhaps it can be read later.
    Store(DbError),
    Content(serde_json::Error),
}

async fn read(
    store: &Store,
    outcome: &ScheduledOutcome,
) -> Result<(Merchant, Command), Unreadable> {
    let row = store
        .merchant(&outcome.merchant_id)
        .await
        .map_err(Unreadable::Store)?;
    // Merchants are never deleted, so a missing one is as unreadable as a broken one.
    let doc = row.as_ref().map_or("", |row| row.doc.as_str());
    let merchant = serde_json::from_str(doc).map_err(Unreadable::Content)?;
    let command = serde_json::from_str(&outcome.doc).map_err(Unreadable::Content)?;
    Ok((merchant, command))
}
