//! The dispatcher's loop: reads the clock once per turn and carries its actions out.
//!
//! Attempts, settles, claims and sweeps run as tasks of their own and report back through the
//! inbox, so that no slow receiver and no flush holds a turn up. `app.rs` starts it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use harkara_core::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::attempt::Attempter;
use super::dispatcher::{Action, Dispatcher, Input, Limits, Unsent};
use super::inbox::Inbox;
use crate::clock::Clock;
use crate::store::{Claimed, DbError, DbErrorKind, Settle, Settled, Store};

/// Inputs that one turn takes at most, so that sends start while more come in.
const TURN_MAX: usize = 1024;

/// How often some of the attempts that wait in [`start_in_turn`] begin; the runtime's timers know no
/// shorter time.
const START_EVERY: Duration = Duration::from_millis(1);
/// Which part of them begins then, so that a few begin one by one and any number within moments.
const START_PART: usize = 32;

/// What the loop needs.
pub struct Loop {
    pub store: Store,
    pub clock: Clock,
    pub inbox: Inbox,
    pub inputs: mpsc::UnboundedReceiver<Input>,
    pub attempter: Arc<Attempter>,
    pub limits: Limits,
    /// Becomes true when nothing is to be started any more.
    pub stop: watch::Receiver<bool>,
}

impl Loop {
    /// Sends what is due until it is told to stop, then waits for what is in flight.
    pub async fn run(mut self) {
        let mut dispatcher = Dispatcher::new(self.limits, self.clock.now());
        let mut stopping = false;
        let (settling, coming) = mpsc::unbounded_channel();
        tokio::spawn(settle_in_order(self.store.clone(), coming));
        let (starting, unproven) = mpsc::unbounded_channel();
        tokio::spawn(start_in_turn(self.attempter.clone(), unproven));
        let mut ways = Ways {
            settling,
            starting,
            releasing: JoinSet::new(),
        };
        // The dispatcher notices a clock that goes back, but not one that went back before it began.
        if self.store.written_at() > Some(self.clock.now()) {
            self.carry_out(vec![Action::PullIn], &mut ways);
        }
        let mut inputs = Vec::new();
        loop {
            let wait = dispatcher.next_wake().since(self.clock.now());
            let mut told_to_stop = false;
            tokio::select! {
                count = self.inputs.recv_many(&mut inputs, TURN_MAX) => {
                    debug_assert!(count > 0, "the loop holds a sender itself");
                }
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))), if !stopping => {}
                // A stop signal whose sender is gone is a stop as well.
                _ = self.stop.wait_for(|stop| *stop), if !stopping => told_to_stop = true,
            }
            if told_to_stop {
                stopping = true;
                self.carry_out(dispatcher.drain(), &mut ways);
            }
            dispatcher.divide_among(self.store.nodes());
            let actions = dispatcher.step(inputs.drain(..), self.clock.now());
            self.carry_out(actions, &mut ways);
            if stopping && dispatcher.is_idle() {
                // What is given back is free for others at once, if the store is still open.
                while ways.releasing.join_next().await.is_some() {}
                return;
            }
        }
    }

    fn carry_out(&self, actions: Vec<Action>, ways: &mut Ways) {
        while ways.releasing.try_join_next().is_some() {}
        for action in actions {
            let (store, inbox) = (self.store.clone(), self.inbox.clone());
            match action {
                Action::Send { claimed, is_proven } => {
                    let unsent = Input::Unsent(Box::new(Unsent::of(&claimed)));
                    let report = Report::or(inbox, unsent);
                    if is_proven {
                        start(&self.attempter, claimed, report);
                    } else {
                        // Its other end lives as long as this loop; a report that is dropped says so.
                        let _ = ways.starting.send((claimed, report));
                    }
                }
                Action::Settle {
                    settle,
                    key,
                    retry_at,
                } => {
                    let unknown = Input::Settled {
                        key,
                        subject: settle.subject.clone(),
                        retry_at,
                        settled: None,
                    };
                    let report = Report::or(inbox, unknown);
                    // Its other end lives as long as this loop; a report that is dropped says so.
                    let _ = ways.settling.send((*settle, report));
                }
                Action::Claim(ask) => {
                    let key = (ask.merchant_id.clone(), ask.endpoint_id.clone());
                    let claimed = move |claimed| Input::Claimed {
                        key: key.clone(),
                        claimed,
                    };
                    let report = Report::or(inbox, claimed(None));
                    tokio::spawn(async move {
                        report.send(claimed(heard(store.claim(ask).await, "claim deliveries")));
                    });
                }
                Action::Sweep => {
                    let now: Timestamp = self.clock.now();
                    let report = Report::or(inbox, Input::Swept(None));
                    tokio::spawn(async move {
                        let sweep = heard(store.sweep(now).await, "look for due deliveries");
                        report.send(Input::Swept(sweep));
                    });
                }
                Action::PullIn => {
                    let now: Timestamp = self.clock.now();
                    let report = Report::or(inbox, Input::PulledIn(false));
                    tokio::spawn(async move {
                        let done = heard(store.pull_in(now).await, "pull due times in");
                        report.send(Input::PulledIn(done.is_some()));
                    });
                }
                Action::Release(leases) => {
                    ways.releasing.spawn(async move {
                        heard(store.release(leases).await, "release claims");
                    });
                }
            }
        }
    }
}

/// What leaves the loop for a task that takes it one after another, with who is to hear of it.
struct Ways {
    settling: mpsc::UnboundedSender<(Settle, Report)>,
    /// Attempts at endpoints that are not proven: new, failing or slow ones.
    starting: mpsc::UnboundedSender<(Claimed, Report)>,
    /// Claims on their way back to the store.
    releasing: JoinSet<()>,
}

fn start(attempter: &Arc<Attempter>, claimed: Claimed, report: Report) {
    let attempter = attempter.clone();
    tokio::spawn(async move { report.send(attempter.attempt(claimed).await) });
}

/// Starts attempts a few at a time and lets everybody else go on in between: one event may begin as many
/// as its merchant has endpoints, and those that fail cost the most.
async fn start_in_turn(
    attempter: Arc<Attempter>,
    mut unproven: mpsc::UnboundedReceiver<(Claimed, Report)>,
) {
    let mut waiting = VecDeque::new();
    while let Some(first) = unproven.recv().await {
        waiting.push_back(first);
        while !waiting.is_empty() {
            while let Ok(another) = unproven.try_recv() {
                waiting.push_back(another);
            }
            for (claimed, report) in waiting.drain(..turn_of(waiting.len())) {
                start(&attempter, claimed, report);
            }
            tokio::time::sleep(START_EVERY).await;
        }
    }
}

/// How many of the attempts that wait begin now.
fn turn_of(waiting: usize) -> usize {
    waiting.div_ceil(START_PART)
}

/// Settles what has come, in one unit of the store, then what has come meanwhile. One after another,
/// so that what a later outcome says of an endpoint's health is written after what an earlier did.
async fn settle_in_order(store: Store, mut coming: mpsc::UnboundedReceiver<(Settle, Report)>) {
    let mut come = Vec::new();
    while coming.recv_many(&mut come, TURN_MAX).await > 0 {
        let (settles, reports) = come.drain(..).unzip();
        // In a task of its own, so that one that panics takes along no settle but its own.
        let settled = tokio::spawn(settle(store.clone(), settles, reports));
        if let Err(error) = settled.await {
            tracing::error!(%error, "failed to settle deliveries; their leases bring them back");
        }
    }
}

async fn settle(store: Store, settles: Vec<Settle>, reports: Vec<Report>) {
    let Some(results) = heard(settle_at_last(&store, settles).await, "settle deliveries") else {
        return;
    };
    for (report, result) in reports.into_iter().zip(results) {
        report.settled(heard(result, "settle a delivery"));
    }
}

/// A store that takes nothing just now (its disk is full, its server starts anew) is asked again: until
/// a settle is made, nothing that stands behind it in its line can go.
async fn settle_at_last(
    store: &Store,
    settles: Vec<Settle>,
) -> Result<Vec<Result<Settled, DbError>>, DbError> {
    // Shared, for what is mostly taken at once is not to be copied for the time that it is not.
    let mut settles: Arc<[Settle]> = settles.into();
    for wait in waits() {
        match store.settle_all(settles.clone()).await {
            Err(error) if error.kind == DbErrorKind::Busy => {
                tracing::warn!(cause = %error.source, ?wait, "the store takes no settles; asking again");
            }
            result => return result,
        }
        tokio::time::sleep(wait).await;
        let again = settles.iter().cloned().map(|settle| Settle {
            is_again: true,
            ..settle
        });
        settles = again.collect();
    }
    store.settle_all(settles).await
}

/// How long to wait before each time that a store is asked again: for as long, in all, as most leases
/// last.
fn waits() -> impl Iterator<Item = Duration> {
    let longest = Duration::from_secs(1);
    let doubled = std::iter::successors(Some(Duration::from_millis(50)), move |wait| {
        Some((*wait * 2).min(longest))
    });
    doubled.take(64)
}

/// What a task will tell the dispatcher: its result, or that it ended without one. So that a task
/// that panics costs what it was about, and not a permit, a subject or all later sweeps.
struct Report {
    inbox: Inbox,
    otherwise: Option<Input>,
}

impl Report {
    fn or(inbox: Inbox, otherwise: Input) -> Self {
        Self {
            inbox,
            otherwise: Some(otherwise),
        }
    }

    /// Says how a settle went.
    fn settled(mut self, result: Option<Settled>) {
        if let Some(Input::Settled { settled, .. }) = &mut self.otherwise {
            *settled = result;
        }
    }

    fn send(mut self, input: Input) {
        self.otherwise = None;
        self.inbox.send(input);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(input) = self.otherwise.take() {
            self.inbox.send(input);
        }
    }
}

/// Logs a failed call to the store. What it was about is still in the store, and comes round again.
fn heard<T>(result: Result<T, DbError>, what: &str) -> Option<T> {
    result
        .inspect_err(
            |error| tracing::error!(error = %error, source = %error.source, "failed to {what}"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many begin in each turn, of this many that came at once.
    fn turns(mut waiting: usize) -> Vec<usize> {
        let mut turns = Vec::new();
        while waiting > 0 {
            let turn = turn_of(waiting);
            turns.push(turn);
            waiting -= turn;
        }
        turns
    }

    #[test]
    fn a_few_attempts_begin_one_by_one() {
        assert_eq!(turns(25), [1; 25]);
    }

    #[test]
    fn a_store_that_takes_nothing_is_asked_for_a_minute() {
        let first: Vec<u128> = waits().take(7).map(|wait| wait.as_millis()).collect();
        assert_eq!(first, [50, 100, 200, 400, 800, 1_000, 1_000]);
        let all: Duration = waits().sum();
        assert_eq!(all, Duration::from_millis(60_550));
    }

    #[test]
    fn any_number_of_attempts_begins_within_moments() {
        let counts = [0, 1, 100, 1_000, 10_000, 100_000];
        assert_eq!(
            counts.map(|count| turns(count).len()),
            [0, 1, 59, 128, 200, 272]
        );
    }
}
