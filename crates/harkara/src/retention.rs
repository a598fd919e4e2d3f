//! The keeper: deletes what was kept long enough, a little at a time, so that nobody waits for it.
//!
//! What is old, and what of that may go, is decided in `harkara_core::retention`. It walks from the
//! oldest on, in the order of numbers, and begins anew every hour for the sake of what had to stay; so
//! nothing has to be remembered, and whoever is started next goes on. Of several nodes one does it.
//! `app.rs` starts it.

use std::collections::VecDeque;
use std::time::Duration;

use harkara_core::retention::{Bounds, Retention, cut};
use harkara_core::time::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::store::{DbError, DbErrorKind, Kept, Store};

/// How long to wait when nothing is old.
const IDLE: Duration = Duration::from_secs(60);

/// How long to wait after a step, so that others write most of the time.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to wait after a failure.
const FAILED: Duration = Duration::from_secs(5);

/// How often to look again at what had to stay.
const ROUND: Duration = Duration::from_secs(3_600);

/// Rows that one step looks at, and in how many ranges it deletes them at most.
const STEP: usize = 100;
const RUNS: usize = 16;

/// The keeper's loop and what it needs.
pub struct RetentionLoop {
    pub keeper: Keeper,
    pub clock: Clock,
    pub stop: watch::Receiver<bool>,
}

impl RetentionLoop {
    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        loop {
            let wait = self.keeper.turn(self.clock.now()).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A stop signal whose sender is gone is a stop as well.
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

/// Deletes what is old, step by step, at whatever times its caller says it is.
pub struct Keeper {
    store: Store,
    retention: Retention,
    /// When it last began at the oldest; `None` before that, and when others are to do it.
    round: Option<Timestamp>,
    /// What is old in this pass.
    bounds: Bounds,
    /// What is left of this pass.
    left: VecDeque<Work>,
    places: Places,
}

/// How far a round has come.
#[derive(Default)]
struct Places {
    bodies: i64,
    events: i64,
    keys: i64,
}

/// A part of a pass. Bodies come first, for an event that has one stays.
#[derive(Clone, Copy)]
enum Work {
    Rows(Kept),
    Told,
}

impl Keeper {
    /// A keeper that has yet to look for anything.
    pub fn new(store: Store, retention: Retention) -> Self {
        Self {
            store,
            retention,
            round: None,
            bounds: Bounds::default(),
            left: VecDeque::new(),
            places: Places::default(),
        }
    }

    /// Takes a step, and says how long to wait before the next.
    pub async fn turn(&mut self, now: Timestamp) -> Duration {
        match self.step(now).await {
            Ok(()) if self.left.is_empty() => IDLE,
            Ok(()) => PAUSE,
            // Somebody is just sending one of these again, or the disk is full.
            Err(error) if error.kind == DbErrorKind::Busy => {
                tracing::warn!(cause = %error.source, "cannot delete what is old just now");
                FAILED
            }
            Err(error) => {
                tracing::error!(%error, source = %error.source, "failed to delete what is old");
                FAILED
            }
        }
    }

    async fn step(&mut self, now: Timestamp) -> Result<(), DbError> {
        let Some(work) = self.left.front().copied() else {
            return self.begin(now).await;
        };
        let is_done = match work {
            Work::Rows(kept) => self.delete(kept).await?,
            Work::Told => {
                let before = self.bounds.before;
                let told = self.store.forget_told(before, STEP).await?;
                told.max(self.store.forget_jobs(before, STEP).await?) < STEP
            }
        };
        if is_done {
            self.left.pop_front();
        }
        Ok(())
    }

    /// Begins a pass over what has become old since the last, and now and then a round.
    async fn begin(&mut self, now: Timestamp) -> Result<(), DbError> {
        if !self.store.is_eldest().await? {
            self.round = None;
            return Ok(());
        }
        self.bounds = self.store.mark(self.retention, now).await?;
        let rows = [Kept::Bodies, Kept::Events, Kept::Keys].into_iter();
        let rows = rows.filter(|kept| self.bound(*kept) > 0).map(Work::Rows);
        let mut left: VecDeque<Work> = rows.collect();
        let is_over = |began: Timestamp| !(began..began.plus(ROUND)).contains(&now);
        if self.round.is_none_or(is_over) {
            self.round = Some(now);
            self.places = Places::default();
            left.push_back(Work::Told);
        }
        self.left = left;
        Ok(())
    }

    fn bound(&self, kept: Kept) -> i64 {
        match kept {
            Kept::Bodies => self.bounds.bodies,
            Kept::Events => self.bounds.events,
            Kept::Keys => self.bounds.keys,
        }
    }

    fn place(&mut self, kept: Kept) -> &mut i64 {
        match kept {
            Kept::Bodies => &mut self.places.bodies,
            Kept::Events => &mut self.places.events,
            Kept::Keys => &mut self.places.keys,
        }
    }

    /// Deletes some of what is old; true when there is nothing else.
    async fn delete(&mut self, kept: Kept) -> Result<bool, DbError> {
        let (after, last) = (*self.place(kept), self.bound(kept));
        let page = self.store.old(kept, (after, last), STEP).await?;
        let cut = cut(&page, RUNS);
        let is_all =
            page.len() < STEP && page.last().is_none_or(|last| last.number == cut.looked_to);
        let looked_to = match is_all {
            true => last.max(after),
            false => cut.looked_to,
        };
        if !cut.runs.is_empty() {
            self.store.forget(kept, cut.runs).await?;
        }
        *self.place(kept) = looked_to;
        Ok(is_all)
    }
}

#[cfg(test)]
mod tests;
