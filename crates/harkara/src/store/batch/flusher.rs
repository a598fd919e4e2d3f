//! The flush: what is written is put on the disk, and only then are its callers answered.
//!
//! A thread of its own flushes while the writer runs the next batch; when nothing else is to be
//! written, the writer flushes by itself and spares the hand-over. Reads ask [`Progress`] how far the
//! disk is, for they see what is written but not flushed yet. No SQL lives here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::{Notice, Phase, Queued, closed};
use crate::store::error::DbError;

/// Batches that may wait for the flush under way. With one, all that comes during a long flush is
/// written as one batch after it.
const AHEAD: usize = 1;

/// Puts what has been written on the disk.
pub(in crate::store) type Flush = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// How far the batches have come, each by its number.
pub(in crate::store) struct Progress {
    /// The newest that a reader may have seen.
    written: AtomicU64,
    /// The newest that is on the disk with all before it; `None` when that will not be known any more.
    flushed: watch::Sender<Option<u64>>,
}

impl Progress {
    pub(in crate::store) fn new() -> Self {
        Self {
            written: AtomicU64::new(0),
            flushed: watch::Sender::new(Some(0)),
        }
    }

    /// Nothing that is not on the disk by now will be known to be, whatever is flushed later.
    pub(super) fn lose(&self) {
        self.flushed.send_replace(None);
    }

    fn reach(&self, newest: u64) {
        self.flushed.send_if_modified(|flushed| match flushed {
            Some(flushed) => {
                *flushed = newest;
                true
            }
            None => false,
        });
    }

    /// Returns once everything that anybody has read until now is on the disk.
    pub(in crate::store) async fn catch_up(&self) -> Result<(), DbError> {
        let seen = self.written.load(Ordering::SeqCst);
        let mut flushed = self.flushed.subscribe();
        let is_there = |flushed: &Option<u64>| flushed.is_none_or(|flushed| flushed >= seen);
        match *flushed.wait_for(is_there).await.map_err(|_| closed())? {
            Some(_) => Ok(()),
            None => Err(DbError::down(
                "what was read was lost by a flush that failed",
            )),
        }
    }
}

/// A batch whose callers do not know yet what came of it.
struct Written {
    /// The newest batch in the log, this one if it was not refused.
    number: u64,
    units: Vec<Queued>,
    /// Whether it is in the log.
    result: Result<(), DbError>,
}

/// The writer's side. Dropping it waits until all callers are answered.
pub(super) struct Flusher {
    desk: Arc<Desk>,
    queue: Option<SyncSender<Written>>,
    thread: Option<JoinHandle<Result<(), DbError>>>,
}

impl Flusher {
    pub(super) fn start(
        flush: Flush,
        progress: Arc<Progress>,
        notice: Notice,
    ) -> Result<Self, DbError> {
        let desk = Arc::new(Desk {
            flush,
            progress,
            handed_over: AtomicUsize::new(0),
        });
        let (queue, written) = sync_channel(AHEAD);
        let theirs = desk.clone();
        let thread = std::thread::Builder::new()
            .name("store-flusher".to_owned())
            .spawn(move || theirs.flush_what_comes(&written, notice))?;
        Ok(Self {
            desk,
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Another batch is about to be seen by readers.
    pub(super) fn announce(&self) {
        self.desk.progress.written.fetch_add(1, Ordering::SeqCst);
    }

    /// Has a batch flushed and its callers answered: here, if no other is on its way and none is
    /// `coming`. An error means that a flush has failed.
    pub(super) fn take(
        &self,
        units: Vec<Queued>,
        result: Result<(), DbError>,
        coming: bool,
    ) -> Result<(), DbError> {
        let written = Written {
            number: self.desk.progress.written.load(Ordering::SeqCst),
            units,
            result,
        };
        if !coming && self.desk.handed_over.load(Ordering::SeqCst) == 0 {
            return self.desk.finish(vec![written]);
        }
        self.desk.handed_over.fetch_add(1, Ordering::SeqCst);
        let queue = self.queue.as_ref().expect("it is closed at the end");
        queue.send(written).map_err(|refused| {
            let error = closed();
            refused.0.answer(&Err(error.clone()));
            error
        })
    }

    /// Waits until all callers are answered. An error means that a flush has failed.
    pub(super) fn close(mut self) -> Result<(), DbError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), DbError> {
        drop(self.queue.take());
        let ended = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        ended.unwrap_or_else(|_| Err(DbError::down("the thread that flushes has panicked")))
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        // How it ended was reported by the thread's `Notice`.
        let _ = self.join();
    }
}

/// What flushing takes, whichever of the two threads does it.
struct Desk {
    flush: Flush,
    progress: Arc<Progress>,
    /// Batches that were given to the thread and are not answered yet.
    handed_over: AtomicUsize,
}

impl Desk {
    fn flush_what_comes(
        &self,
        written: &Receiver<Written>,
        mut notice: Notice,
    ) -> Result<(), DbError> {
        while let Ok(first) = written.recv() {
            let batches: Vec<_> = [first].into_iter().chain(written.try_iter()).collect();
            let count = batches.len();
            self.finish(batches)?;
            self.handed_over.fetch_sub(count, Ordering::SeqCst);
        }
        // It is the writer who says that all is closed.
        notice.last = Phase::Open;
        Ok(())
    }

    /// Flushes batches that follow each other, and answers everybody in them.
    fn finish(&self, batches: Vec<Written>) -> Result<(), DbError> {
        let flushed = match batches.iter().any(|batch| batch.result.is_ok()) {
            true => (self.flush)().map_err(DbError::from),
            false => Ok(()),
        };
        if let Err(error) = &flushed {
            tracing::error!(cause = %error.source, "failed to flush the store's log");
        }
        for batch in batches {
            if flushed.is_ok() {
                self.progress.reach(batch.number);
            }
            batch.answer(&flushed);
        }
        flushed
    }
}

impl Written {
    fn answer(self, flushed: &Result<(), DbError>) {
        let result = self.result.and_then(|()| flushed.clone());
        for queued in self.units {
            queued.unit.answer(result.clone());
        }
    }
}
