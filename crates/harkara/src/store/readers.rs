//! A small pool of read-only connections, used from the runtime's blocking threads.
//!
//! Each read sees one moment of the store, however many statements it takes, and is answered when
//! what it saw is on the disk. Reads that may take long have a smaller share, so that no number of
//! lists keeps a sweep, an endpoint or a key waiting. Views call this; the writer never does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::flusher::Progress;
use super::error::DbError;
use super::sql::Sql;

/// A connection that reads one moment of the store at a time.
pub(super) trait Snapshots: Sql + Send {
    /// From here on it sees what is stored now.
    fn begin(&mut self) -> Result<(), DbError>;

    /// The moment is over.
    fn end(&mut self) -> Result<(), DbError>;
}

/// Opens another connection.
pub(super) type Open = Arc<dyn Fn() -> Result<Box<dyn Snapshots>, DbError> + Send + Sync>;

const READERS: usize = 4;

/// How many of them long reads may have at once.
const LONG_READERS: usize = 2;

/// Clones share the connections, which are opened as they are needed.
#[derive(Clone)]
pub(super) struct Readers {
    open: Open,
    idle: Arc<Mutex<Vec<Box<dyn Snapshots>>>>,
    permits: Arc<Semaphore>,
    long: Arc<Semaphore>,
    progress: Arc<Progress>,
}

impl Readers {
    pub(super) fn new(open: Open, progress: Arc<Progress>) -> Self {
        Self {
            open,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
            long: Arc::new(Semaphore::new(LONG_READERS)),
            progress,
        }
    }

    /// Runs a query; waits while all connections are taken.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        self.run(query, None).await
    }

    /// Runs a query whose cost grows with what is stored: lists, counts, the feed.
    pub(super) async fn read_long<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let share = permit(&self.long).await;
        self.run(query, Some(share)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
        share: Option<OwnedSemaphorePermit>,
    ) -> Result<T, DbError> {
        let permit = permit(&self.permits).await;
        let readers = self.clone();
        let run = move || {
            // Taken until the connection is back, even if the caller has gone.
            let _permits = (permit, share);
            let idle = readers.lock().pop();
            let mut conn = idle.map_or_else(|| (readers.open)(), Ok)?;
            conn.begin()?;
            let result = query(&*conn);
            conn.end()?;
            readers.lock().push(conn);
            result
        };
        let result = match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(DbError::down("the runtime is shutting down")),
        }?;
        self.progress.catch_up().await?;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Snapshots>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = of.clone().acquire_owned().await;
    permit.expect("the permits are never closed")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::{Store, sqlite};

    #[tokio::test]
    async fn lists_that_do_not_end_leave_readers_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let readers = Readers::new(sqlite::readers(folder.path()), Arc::new(Progress::new()));
        let (mut gates, mut lists) = (Vec::new(), Vec::new());
        for _ in 0..2 * READERS {
            let (gate, opened) = mpsc::channel::<()>();
            gates.push(gate);
            let readers = readers.clone();
            lists.push(tokio::spawn(async move {
                let list = move |_: &dyn Sql| Ok(opened.recv().is_err());
                readers.read_long(list).await
            }));
        }
        tokio::task::yield_now().await;
        assert!(readers.read(|_| Ok(true)).await.unwrap());
        drop(gates);
        for list in lists {
            assert!(list.await.unwrap().unwrap());
        }
        store.close().await;
    }
}
