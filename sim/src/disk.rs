//! The committer on a disk: calls queue up, are written as one transaction, and count once flushed.
//!
//! Written and flushed are kept apart. What is written is a list of calls that have not been applied
//! to the [`Model`]; the flush applies them all and brings their answers. While one batch is flushed
//! another may be written. A crash loses what is not flushed, or (legal too) keeps its beginning, in
//! whole batches and without an answer. `world.rs` says when.

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

/// What a crash left behind.
pub(crate) struct Wreck<U> {
    /// Written, and on the disk though nobody was told.
    pub(crate) kept: Vec<U>,
    /// Written and gone.
    pub(crate) lost: Vec<U>,
    /// Never written.
    pub(crate) queued: Vec<U>,
}

/// The file, its writer, and what waits for it.
pub(crate) struct Disk<U> {
    /// What is flushed.
    pub(crate) model: Model,
    pub(crate) habits: Habits,
    queue: Vec<U>,
    /// What is being flushed.
    flushing: Vec<U>,
    /// What was written meanwhile, one batch at most. `None` while nothing may be: the writer flushes by
    /// itself when nothing has come while it wrote.
    ahead: Option<Vec<U>>,
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
            flushing: Vec::new(),
            ahead: None,
            gathering: None,
            previous: 0,
            transactions: 0,
            really: None,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() + self.written() >= self.habits.queue
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.written() == 0
    }

    /// Units that are written and not flushed.
    fn written(&self) -> usize {
        self.flushing.len() + self.ahead.as_ref().map_or(0, Vec::len)
    }

    /// Whether the writer could write a batch now.
    fn is_writer_free(&self) -> bool {
        self.flushing.is_empty() || self.ahead.as_ref().is_some_and(Vec::is_empty)
    }

    /// Queues a unit; says when the batch may be written, if it is being gathered.
    pub(crate) fn offer(&mut self, unit: U, t: u64) -> Option<u64> {
        self.queue.push(unit);
        if !self.is_writer_free() {
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

    /// Writes the batch; says how many units it has. That takes no time here, so chance says whether
    /// anything has come meanwhile.
    pub(crate) fn write(&mut self, dice: &mut Dice) -> usize {
        let count = self.queue.len().min(FULL);
        let batch: Vec<U> = self.queue.drain(..count).collect();
        self.gathering = None;
        self.previous = count;
        self.transactions += 1;
        if self.flushing.is_empty() {
            self.flushing = batch;
            self.ahead = dice.one_in(2).then(Vec::new);
        } else {
            self.ahead = Some(batch);
        }
        count
    }

    /// How long the flush of what is written takes.
    pub(crate) fn flush_us(&self, dice: &mut Dice) -> u64 {
        let slow = self
            .habits
            .slow_one_in
            .is_some_and(|many| dice.one_in(many));
        let (low, high) = if slow {
            (100_000, 1_000_000)
        } else {
            self.habits.flush_us
        };
        dice.between(low, high)
    }

    /// What a committer that does not wait for the flush answers now.
    pub(crate) fn answered_early(&mut self) -> Vec<U> {
        self.really = Some(Box::new(self.model.clone()));
        match self.ahead.take() {
            Some(batch) if !batch.is_empty() => batch,
            Some(_) | None => std::mem::take(&mut self.flushing),
        }
    }

    /// What was flushed, and how that ended.
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
        let flushed = std::mem::take(&mut self.flushing);
        if let Some(ahead) = self.ahead.take().filter(|ahead| !ahead.is_empty()) {
            self.flushing = ahead;
            self.ahead = Some(Vec::new());
        }
        (flushed, ended)
    }

    /// Whether anything is written that the next flush, or the one under way, is about.
    pub(crate) fn is_flushing(&self) -> bool {
        !self.flushing.is_empty()
    }

    /// The writer is free, perhaps: when the next batch may be written, if anything waits.
    pub(crate) fn next_batch(&mut self, t: u64) -> Option<u64> {
        if self.gathering.is_none() && !self.queue.is_empty() && self.is_writer_free() {
            self.gathering = Some((t, t));
            return self.write_at(t);
        }
        None
    }

    /// The process has died. If anything of the written is to be on the disk all the same, it is the
    /// first batch, or all.
    pub(crate) fn crash(&mut self, keeps: bool, dice: &mut Dice) -> Wreck<U> {
        if let Some(really) = self.really.take() {
            self.model = *really;
        }
        self.gathering = None;
        self.previous = 0;
        let flushing = std::mem::take(&mut self.flushing);
        let mut ahead = self.ahead.take().unwrap_or_default();
        let (mut kept, mut lost) = match keeps {
            true => (flushing, Vec::new()),
            false => (Vec::new(), flushing),
        };
        match keeps && !ahead.is_empty() && dice.one_in(2) {
            true => kept.append(&mut ahead),
            false => lost.append(&mut ahead),
        }
        Wreck {
            kept,
            lost,
            queued: std::mem::take(&mut self.queue),
        }
    }
}
