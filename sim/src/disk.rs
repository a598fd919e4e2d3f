//! The committer on a disk: calls queue up, are written as one transaction, and count once flushed.
//!
//! Written and flushed are kept apart. What is written is a list of calls that have not been applied
//! to the [`Model`]; the flush applies them all and brings their answers. A crash before that loses
//! the list, or (legal too) keeps the whole of it without an answer. `world.rs` says when.

use std::time::Duration;

use harkara::store::pace::{FULL, Gathering, Pace};

use crate::dice::Dice;
use crate::planted::Fault;
use crate::store::Model;

/// A disk that only claims to flush does so once in this many transactions.
const SKIPPED: u64 = 8;

/// What the disk does badly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// A flush takes from the first to the second, in microseconds.
    pub(crate) flush_us: (u64, u64),
    /// One flush in so many takes up to a second.
    pub(crate) slow_one_in: Option<u64>,
    /// One flush in so many is refused: the disk is full.
    pub(crate) full_one_in: Option<u64>,
    /// One flush in so many fails for good.
    pub(crate) fails_one_in: Option<u64>,
    /// Units that may wait before a commit is refused.
    pub(crate) queue: usize,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Done,
    /// Everything in the transaction is refused, and the next may fit.
    Full,
    /// Nobody knows what is on disk, and the process must end.
    Failed,
}

/// The file, its writer, and what waits for it.
pub(crate) struct Disk<U> {
    /// What is flushed.
    pub(crate) model: Model,
    pub(crate) habits: Habits,
    queue: Vec<U>,
    /// The open transaction.
    written: Vec<U>,
    /// When the batch that is being gathered began, and when something last came for it.
    gathering: Option<(u64, u64)>,
    previous: usize,
    transactions: u64,
    /// What a disk that skips flushes really has.
    really: Option<Box<Model>>,
}

impl<U> Disk<U> {
    pub(crate) fn new(model: Model, habits: Habits) -> Self {
        Self {
            model,
            habits,
            queue: Vec::new(),
            written: Vec::new(),
            gathering: None,
            previous: 0,
            transactions: 0,
            really: None,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() + self.written.len() >= self.habits.queue
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.written.is_empty()
    }

    pub(crate) fn is_flushing(&self) -> bool {
        !self.written.is_empty()
    }

    /// Queues a unit; says when the batch may be written, if it is being gathered.
    pub(crate) fn offer(&mut self, unit: U, t: u64) -> Option<u64> {
        self.queue.push(unit);
        if self.is_flushing() {
            return None;
        }
        let since = self.gathering.map_or(t, |(since, _)| since);
        self.gathering = Some((since, t));
        self.write_at(t)
    }

    /// When the batch is written as things stand: the committer's own rule.
    pub(crate) fn write_at(&self, t: u64) -> Option<u64> {
        let (since, last) = self.gathering?;
        let gathering = Gathering {
            units: self.queue.len(),
            before: self.previous,
            held: Duration::from_micros(t - since),
            quiet: Duration::from_micros(t - last),
        };
        Some(match gathering.pace() {
            Pace::Flush => t,
            Pace::Wait(time) => t + u64::try_from(time.as_micros()).expect("a moment"),
        })
    }

    /// Writes the batch; says how long its flush takes, and how many units it has.
    pub(crate) fn write(&mut self, dice: &mut Dice) -> (u64, usize) {
        let count = self.queue.len().min(FULL);
        self.written = self.queue.drain(..count).collect();
        self.gathering = None;
        self.previous = count;
        self.transactions += 1;
        let slow = self
            .habits
            .slow_one_in
            .is_some_and(|many| dice.one_in(many));
        let (low, high) = if slow {
            (100_000, 1_000_000)
        } else {
            self.habits.flush_us
        };
        (dice.between(low, high), count)
    }

    /// What a committer that does not wait for the flush answers now.
    pub(crate) fn answered_early(&mut self) -> Vec<U> {
        self.really = Some(Box::new(self.model.clone()));
        std::mem::take(&mut self.written)
    }

    /// What was written, and how its flush ended.
    pub(crate) fn flush(&mut self, dice: &mut Dice) -> (Vec<U>, Flush) {
        let ended = if self
            .habits
            .fails_one_in
            .is_some_and(|many| dice.one_in(many))
        {
            Flush::Failed
        } else if self
            .habits
            .full_one_in
            .is_some_and(|many| dice.one_in(many))
        {
            Flush::Full
        } else {
            Flush::Done
        };
        if self.model.fault == Some(Fault::AckBeforeFlush) {
            self.really = None;
        }
        let skips = self.model.fault == Some(Fault::SkippedFlush);
        if skips && self.transactions % SKIPPED == 1 {
            self.really = Some(Box::new(self.model.clone()));
        }
        (std::mem::take(&mut self.written), ended)
    }

    /// After a flush: when the next batch may be written, if anything waits.
    pub(crate) fn next_batch(&mut self, t: u64) -> Option<u64> {
        self.gathering = (!self.queue.is_empty()).then_some((t, t));
        self.write_at(t)
    }

    /// The process has died. Returns what was written, for the caller to keep or to lose as a whole, and
    /// what was only queued, which is gone.
    pub(crate) fn crash(&mut self) -> (Vec<U>, Vec<U>) {
        if let Some(really) = self.really.take() {
            self.model = *really;
        }
        self.gathering = None;
        self.previous = 0;
        (
            std::mem::take(&mut self.written),
            std::mem::take(&mut self.queue),
        )
    }
}
