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
use crate::store::{DbErrorKind, ScheduledOutcome, Store};
use crate::submit::{Submit, SubmitError};

/// Outcomes that are carried out at the same time.
const BATCH: usize = 256;

/// How long to wait when nothing is scheduled, and after a failure: a hint may have been lost.
const IDLE: Duration = Duration::from_secs(1);

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
        let all_done = running.join_all().await.into_iter().all(|done| done);
        if !all_done {
            return IDLE;
        }
        if full {
            return Duration::ZERO;
        }
        match self.store.next_scheduled().await {
            Ok(Some(next)) => next.since(self.clock.now()).min(IDLE),
            Ok(None) | Err(_) => IDLE,
        }
    }
}

/// Carries one outcome out; false when it has to be tried again.
async fn carry_out(store: &Store, submit: &Submit, outcome: &ScheduledOutcome) -> bool {
    let id = outcome.id.as_str();
    let merchant = match merchant_of(store, outcome).await {
        Ok(merchant) => merchant,
        Err(error) => {
            tracing::error!(outcome.id = id, %error, "failed to read a scheduled outcome's merchant");
            return false;
        }
    };
    let command: Command = match serde_json::from_str(&outcome.doc) {
        Ok(command) => command,
        Err(error) => {
            tracing::error!(outcome.id = id, %error, "failed to read a scheduled outcome");
            return false;
        }
    };
    match submit.run_scheduled(&merchant, &[command], Some(id)).await {
        Ok(_) => true,
        // Somebody carried it out in the meantime.
        Err(SubmitError::Store(error)) if error.kind == DbErrorKind::Stale => true,
        Err(SubmitError::Refused(refusal)) => {
            // What it was about has moved on; the schedule must not hold it for ever.
            tracing::info!(outcome.id = id, %refusal, "a scheduled outcome came too late");
            submit.run_scheduled(&merchant, &[], Some(id)).await.is_ok()
        }
        Err(error) => {
            tracing::error!(outcome.id = id, %error, "failed to carry out a scheduled outcome");
            false
        }
    }
}

async fn merchant_of(
    store: &Store,
    outcome: &ScheduledOutcome,
) -> Result<Merchant, Box<dyn std::error::Error + Send + Sync>> {
    let row = store.merchant(&outcome.merchant_id).await?;
    let row = row.ok_or_else(|| format!("there is no merchant '{}'", outcome.merchant_id))?;
    Ok(serde_json::from_str(&row.doc)?)
}
