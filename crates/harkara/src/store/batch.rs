//! The committer: units in, one transaction, one flush, then an answer for each.
//!
//! One thread owns the writing connection, so no two writes ever race. While one batch is flushed the
//! next is written, so what is flushed is in `flusher.rs`. What a unit does is in `units/`; this file
//! knows only queueing, savepoints and transactions, and which units make a round (`rounds.rs`).
//! `Store` is its one caller.

pub(super) mod flusher;
pub mod pace;
mod rounds;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use self::flusher::{Flush, Flusher, Progress};
use self::pace::{Gathering, Pace};
use self::rounds::divide;
use super::error::{DbError, DbErrorKind};
use super::pen::{Pen, Undo};
use super::units::ahead::{self, Need};

/// Units that may wait for the writer; at 20,000 units a second this is a fifth of a second.
const QUEUE: usize = 4096;
/// How often a batch is run again for it and another's stood in each other's way, or for its connection
/// was lost, before its units are told to come again.
const AGAIN: usize = 3;

/// One caller's writes, which land together or not at all.
trait Unit: Send {
    /// What it will ask for.
    fn need(&self) -> &Need;
    /// Does the writes within the open transaction, perhaps not for the first time; an error is
    /// about this unit alone.
    fn run(&mut self, pen: &mut Pen, undo: Undo) -> Result<(), DbError>;
    /// Tells the caller, once it is known whether the transaction was flushed.
    fn answer(self: Box<Self>, flushed: Result<(), DbError>);
}

struct Task<W, T> {
    need: Need,
    work: W,
    /// What came of it when it was last run.
    result: Option<Result<T, DbError>>,
    reply: oneshot::Sender<Result<T, DbError>>,
}

impl<W, T> Unit for Task<W, T>
where
    W: FnMut(&mut Pen) -> Result<T, DbError> + Send,
    T: Send,
{
    fn need(&self) -> &Need {
        &self.need
    }

    fn run(&mut self, pen: &mut Pen, undo: Undo) -> Result<(), DbError> {
        let result = self.result.insert(pen.unit(undo, &mut self.work));
        result.as_ref().map(drop).map_err(DbError::clone)
    }

    fn answer(self: Box<Self>, flushed: Result<(), DbError>) {
        let Self { result, reply, .. } = *self;
        let result = flushed.and_then(|()| result.expect("a flushed unit was run"));
        // A caller that went away has no use for the answer; its write stands.
        let _ = reply.send(result);
    }
}

/// A unit with its place in the bounded queue, which is free again once it has been answered.
struct Queued {
    unit: Box<dyn Unit>,
    _place: OwnedSemaphorePermit,
}

/// How the writer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
    Failed,
}

/// The callers' side of the writer thread. Dropping it drains the queue and waits for the thread.
pub(super) struct Committer {
    queue: Mutex<Option<Sender<Queued>>>,
    places: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Writes with the pen; `flush` puts on the disk what the pen has written, and `progress` is told.
    pub(super) fn start(pen: Pen, flush: Flush, progress: Arc<Progress>) -> Result<Self, DbError> {
        let (sender, receiver) = channel();
        let (phase_sender, phase) = watch::channel(Phase::Open);
        let phase_sender = Arc::new(phase_sender);
        let places = Arc::new(Semaphore::new(QUEUE));
        let notice = || Notice::new(&phase_sender, &progress);
        let writer_notice = notice();
        let writer = Writer {
            pen,
            queue: receiver,
            next: None,
            before: 0,
            flusher: Flusher::start(flush, progress.clone(), notice())?,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run_until_closed(writer_notice))?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            places,
            phase,
            thread: Some(thread),
        })
    }

    /// Hands over a unit and waits for its flush; waits for a place in the queue first.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        need: Need,
        work: impl FnMut(&mut Pen) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        self.enqueue(place, need, work).await
    }

    /// The same for callers who would rather hear `Busy` than stand in a queue that is full.
    pub(super) async fn offer<T: Send + 'static>(
        &self,
        need: Need,
        work: impl FnMut(&mut Pen) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|error| match error {
                TryAcquireError::Closed => closed(),
                TryAcquireError::NoPermits => DbError::new(
                    DbErrorKind::Busy,
                    format!("{QUEUE} writes are waiting already"),
                ),
            })?;
        self.enqueue(place, need, work).await
    }

    async fn enqueue<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        need: Need,
        work: impl FnMut(&mut Pen) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (reply, answer) = oneshot::channel();
        let unit = Box::new(Task {
            need,
            work,
            result: None,
            reply,
        });
        let queued = Queued {
            unit,
            _place: place,
        };
        self.lock()
            .as_ref()
            .ok_or_else(closed)?
            .send(queued)
            .map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Takes no more units, flushes those that wait, and returns when the file is closed.
    pub(super) async fn close(&self) {
        self.places.close();
        drop(self.lock().take());
        // The sender lives as long as the thread, so an error here means that it has ended too.
        let _ = self
            .phase
            .clone()
            .wait_for(|phase| *phase != Phase::Open)
            .await;
    }

    /// Returns when the writer has failed; never returns after an orderly close.
    pub(super) async fn failed(&self) {
        let mut phase = self.phase.clone();
        if phase
            .wait_for(|phase| *phase == Phase::Failed)
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sender<Queued>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.lock().take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported by its `Notice`.
            let _ = thread.join();
        }
    }
}

fn closed() -> DbError {
    DbError::down("the store is closed")
}

/// Says how a thread of the committer ended, even when it ended by a panic.
struct Notice {
    phase: Arc<watch::Sender<Phase>>,
    progress: Arc<Progress>,
    last: Phase,
}

impl Notice {
    /// Says that all has failed, unless it learns better.
    fn new(phase: &Arc<watch::Sender<Phase>>, progress: &Arc<Progress>) -> Self {
        Self {
            phase: phase.clone(),
            progress: progress.clone(),
            last: Phase::Failed,
        }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if self.last == Phase::Failed {
            self.progress.lose();
        }
        // What has failed stays so, whichever of the two threads ends later.
        self.phase.send_if_modified(|phase| {
            let news = *phase == Phase::Open && self.last != Phase::Open;
            if news {
                *phase = self.last;
            }
            news
        });
    }
}

/// Which units run together.
#[derive(Clone, Copy)]
enum Kind {
    /// No two of them are about the same subject.
    Round,
    Any,
}

/// The thread's own side.
struct Writer {
    pen: Pen,
    queue: Receiver<Queued>,
    /// Taken from the queue already, for the next batch.
    next: Option<Queued>,
    /// How many units the batch before had.
    before: usize,
    flusher: Flusher,
}

impl Writer {
    fn run_until_closed(mut self, mut notice: Notice) {
        while let Some(batch) = self.gather() {
            self.before = batch.len();
            if let Err(error) = self.write(batch) {
                tracing::error!(%error, cause = %error.source, "the store can no longer be written to");
                return self.pen.abandon();
            }
        }
        // Nothing may be flushed after a flush that failed, not even by closing.
        if self.flusher.close().is_err() {
            return self.pen.abandon();
        }
        match self.pen.close() {
            Ok(()) => notice.last = Phase::Closed,
            Err(error) => {
                tracing::error!(%error, cause = %error.source, "the store did not close cleanly");
            }
        }
    }

    /// Waits for work and takes what is there, and what comes for as long as `pace` says; `None`
    /// when all callers have gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "a stopwatch for holding a batch open; no row ever sees it"
    )]
    fn gather(&mut self) -> Option<Vec<Queued>> {
        let first = match self.next.take() {
            Some(next) => next,
            None => self.queue.recv().ok()?,
        };
        let mut batch = vec![first];
        let began_at = Instant::now();
        let mut last_at = began_at;
        loop {
            let room = pace::FULL - batch.len();
            batch.extend(self.queue.try_iter().take(room));
            let gathering = Gathering {
                units: batch.len(),
                before: self.before,
                held: began_at.elapsed(),
                quiet: last_at.elapsed(),
            };
            let Pace::Wait(left) = gathering.pace() else {
                return Some(batch);
            };
            match self.queue.recv_timeout(left) {
                Ok(queued) => batch.push(queued),
                Err(_) => return Some(batch),
            }
            last_at = Instant::now();
        }
    }

    /// Writes a batch, in the parts that are best for the engine. An error means that the writer must
    /// stop.
    fn write(&mut self, units: Vec<Queued>) -> Result<(), DbError> {
        if !self.pen.is_far() {
            return self.write_part(units, Kind::Any);
        }
        let parts = divide(units, |queued| queued.unit.need().subjects());
        for round in parts.rounds {
            self.write_part(round, Kind::Round)?;
        }
        match parts.others.is_empty() {
            true => Ok(()),
            false => self.write_part(parts.others, Kind::Any),
        }
    }

    /// Writes units and has them flushed, by the other thread if there is more to write meanwhile.
    fn write_part(&mut self, mut units: Vec<Queued>, kind: Kind) -> Result<(), DbError> {
        let written = self.run_as_one(&mut units, kind);
        if written.is_ok() {
            self.pen.forget_what_changed();
        }
        if self.next.is_none() {
            self.next = self.queue.try_recv().ok();
        }
        self.flusher
            .take(units, written.clone(), self.next.is_some())?;
        match written {
            Err(error) if error.kind == DbErrorKind::Down => Err(error),
            // All of them were refused (a full disk, say) and their callers hear; the next may fit.
            Err(_) => self.pen.roll_back(),
            Ok(()) => Ok(()),
        }
    }

    /// Hardly any unit is refused after it has changed something, and a savepoint copies each page
    /// that its unit touches. So they run without, and when one does leave a half behind, all of
    /// them run again, each in a savepoint.
    fn run_as_one(&mut self, units: &mut [Queued], kind: Kind) -> Result<(), DbError> {
        let (mut undo, mut again) = (Undo::RunAgain, 0..AGAIN);
        loop {
            self.pen.begin()?;
            match self.run(units, kind, undo) {
                Ok(true) => break,
                Ok(false) => {}
                // The connection is lost, and with it all that was not committed: another will do.
                Err(error) if error.kind == DbErrorKind::Busy && self.pen.is_far() => {
                    if again.next().is_none() {
                        return Err(error);
                    }
                    self.pen.roll_back()?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let met_another = self.pen.met_another();
            self.pen.roll_back()?;
            let why = match undo {
                _ if met_another && again.next().is_some() => continue,
                _ if met_another => "others were in the way of a batch again and again",
                Undo::Savepoint => "a unit could not be undone by itself, so its batch is given up",
                Undo::RunAgain => {
                    undo = Undo::Savepoint;
                    continue;
                }
            };
            return Err(DbError::new(DbErrorKind::Busy, why));
        }
        self.flusher.announce();
        self.pen.commit()
    }

    /// Runs units once. False when something was left behind, or must be run again.
    fn run(&mut self, units: &mut [Queued], kind: Kind, undo: Undo) -> Result<bool, DbError> {
        if self.pen.is_far() {
            let needs: Vec<_> = units.iter().map(|queued| queued.unit.need()).collect();
            let asked = match kind {
                Kind::Round => {
                    self.pen.begin_round(undo == Undo::RunAgain);
                    ahead::ask(&mut self.pen, &needs)
                }
                Kind::Any => {
                    self.pen.begin_round(false);
                    ahead::lock(&mut self.pen, &needs)
                }
            };
            if let Err(error) = asked {
                return self.may_go_on(error);
            }
        }
        for queued in units {
            if let Err(error) = queued.unit.run(&mut self.pen, undo) {
                // About this unit alone, if it left nothing behind.
                self.may_go_on(error)?;
                if self.pen.met_another() {
                    return Ok(false);
                }
            }
            if self.pen.is_torn() {
                return Ok(false);
            }
        }
        match self.pen.end_round() {
            Ok(()) => Ok(true),
            Err(error) => self.may_go_on(error),
        }
    }

    /// What failed was about a batch, which can be run again unless the connection is lost.
    fn may_go_on(&self, error: DbError) -> Result<bool, DbError> {
        match error.kind == DbErrorKind::Down || !self.pen.in_transaction() {
            true => Err(error),
            false => Ok(false),
        }
    }
}
