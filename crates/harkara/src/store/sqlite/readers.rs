//! A small pool of read-only connections, used from the runtime's blocking threads.
//!
//! Each read sees one moment of the store, however many statements it takes. Views call this; the
//! writer never does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open_reader;
use crate::store::error::DbError;

const READERS: usize = 4;

/// Clones share the connections, which are opened as they are needed.
#[derive(Clone)]
pub(in crate::store) struct Readers {
    folder: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(in crate::store) fn new(folder: &Path) -> Self {
        Self {
            folder: Arc::new(folder.to_owned()),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Runs a query; waits while all connections are taken.
    pub(in crate::store) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.expect("the permits are never closed");
        let readers = self.clone();
        let run = move || {
            // Taken until the connection is back.
            let _permit = permit;
            let idle = readers.lock().pop();
            let mut conn = idle.map_or_else(|| open_reader(&readers.folder), Ok)?;
            let result = snapshot(&mut conn, query);
            readers.lock().push(conn);
            result
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(DbError::down("the runtime is shutting down")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn snapshot<T>(
    conn: &mut Connection,
    query: impl FnOnce(&Connection) -> Result<T, DbError>,
) -> Result<T, DbError> {
    let transaction = conn.transaction()?;
    let result = query(&transaction)?;
    transaction.finish()?;
    Ok(result)
}
