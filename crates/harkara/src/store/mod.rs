//! The store: what must outlive the process, in one file that one process owns.
//!
//! The only room that knows SQL; it never knows why a row changes. Callers hand in values
//! ([`Commit`], [`Settle`]…) that say what is to be true together, and wait for the flush that
//! carries them. `submit.rs`, the dispatcher and the API's reads call it.
//!
//! Every write waits for the disk, so an `Ok` survives power loss; an error means that nothing of
//! the call is stored. Reads see all writes that were answered before they began.

mod answers;
mod batch;
mod bodies;
mod cache;
mod codec;
mod endpoints;
mod error;
mod merchants;
mod migrate;
mod pen;
mod readers;
mod replays;
mod rows;
mod sql;
mod sqlite;
mod units;
mod views;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use harkara_core::delivery::NewDelivery;
use harkara_core::endpoint::Endpoint;
use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;

pub use batch::pace;
pub use error::{DbError, DbErrorKind};
pub use rows::*;
pub use views::*;

use batch::Committer;
use batch::flusher::{Flush, Progress};
use bodies::Bodies;
use cache::Cache;
use pen::{Changed, Pen};
use readers::Readers;
use sql::Sql;
use units::{claim, commit, pull_in, settle, sweep};

/// A handle on the store; clones share it. When the last one goes, what is queued is written and
/// the file is free for the next to open.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    committer: Committer,
    readers: Readers,
    caches: Arc<Caches>,
    bodies: Arc<Bodies>,
    node: i64,
    written_at: Option<Timestamp>,
}

/// Copies of what nearly every request asks for.
struct Caches {
    endpoints: Cache<MerchantId, Arc<[Arc<Endpoint>]>>,
    merchants: Cache<MerchantId, Arc<MerchantRow>>,
    keys: Cache<String, Arc<ApiKeyRow>>,
}

impl Caches {
    fn new() -> Self {
        Self {
            endpoints: Cache::new(),
            merchants: Cache::new(),
            keys: Cache::new(),
        }
    }

    fn forget(&self, changed: &Changed) {
        match changed {
            Changed::Merchant(merchant_id) => {
                self.endpoints.forget(merchant_id);
                self.merchants.forget(merchant_id);
            }
            Changed::Key(key_id) => self.keys.forget(key_id),
        }
    }
}

impl Store {
    /// Opens the store in a folder, which is made if need be, and brings its schema up to date.
    /// Blocks for as long as that takes. Refused while another process has it open.
    pub fn open(folder: &Path) -> Result<Self, DbError> {
        Self::open_flushed_by(folder, sqlite::flush)
    }

    fn open_flushed_by(
        folder: &Path,
        flush: impl FnOnce(&Path) -> Result<Flush, DbError>,
    ) -> Result<Self, DbError> {
        let caches = Arc::new(Caches::new());
        let written_at = sqlite::written_at(folder);
        let (writing, node) = sqlite::Writing::open(folder)?;
        let pen = Pen::new(Box::new(writing), node, caches.clone());
        let bodies = Arc::new(Bodies::load(&pen)?);
        let progress = Arc::new(Progress::new());
        let committer = Committer::start(pen, flush(folder)?, progress.clone())?;
        let readers = Readers::new(sqlite::readers(folder), progress);
        Ok(Self {
            shared: Arc::new(Shared {
                committer,
                readers,
                caches,
                bodies,
                node,
                written_at,
            }),
        })
    }

    /// Whether there is a store in this folder already.
    pub fn exists(folder: &Path) -> bool {
        sqlite::database(folder).exists()
    }

    /// Writes what is queued, refuses what comes later, and empties the log into the file.
    pub async fn close(&self) {
        self.shared.committer.close().await;
    }

    /// Returns when the store has failed for good (a flush was lost, the writer panicked): the
    /// process must end, for only a new start can tell what is on disk.
    pub async fn failed(&self) {
        self.shared.committer.failed().await;
    }

    /// When the file was last written to before this start, by the clock of then; a moment ahead of
    /// now says that the clock went back meanwhile.
    pub fn written_at(&self) -> Option<Timestamp> {
        self.shared.written_at
    }

    /// The number of this start, which its claims are marked with. On SQLite those of earlier ones are
    /// free at once.
    pub fn node(&self) -> i64 {
        self.shared.node
    }

    /// Makes a state change true, with its events and their deliveries. `Stale` when a guard fails,
    /// `Busy` when the queue is full.
    ///
    /// A delivery whose predecessor (same endpoint and subject) has yet to show what its order mode
    /// asks for is born waiting; one for a paused endpoint is born unclaimed.
    pub async fn commit(&self, unit: Commit) -> Result<Committed, DbError> {
        // Packed here, in the caller's task: the writer is the one thread that all wait for.
        let packed = commit::Packed::of(&unit, &self.shared.bodies)?;
        self.shared
            .committer
            .offer(move |pen| commit::commit(pen, &unit, &packed))
            .await
    }

    /// Stores another delivery of an event that exists, due now; `Some` when it was born claimed.
    pub async fn insert_replay(
        &self,
        delivery: NewDelivery,
        now: Timestamp,
        lease_until: Option<Timestamp>,
    ) -> Result<Option<Claimed>, DbError> {
        let born = self
            .write(move |pen| commit::insert_replay(pen, &delivery, now, lease_until))
            .await?;
        let opened = self.open_bodies(born.into_iter().collect(), now).await?;
        Ok(opened.into_iter().next())
    }

    /// Takes due deliveries of an active endpoint: fresh ones first, then the oldest of the rest.
    ///
    /// One whose stored body is damaged is withdrawn with that reason and left out.
    pub async fn claim(&self, ask: ClaimAsk) -> Result<Vec<Claimed>, DbError> {
        let now = ask.now;
        let claimed = self.write(move |pen| claim::claim(pen, &ask)).await?;
        self.open_bodies(claimed, now).await
    }

    /// Records an attempt and what it means. A claim that has been taken over changes nothing,
    /// unless it brings the news that the merchant has the event.
    pub async fn settle(&self, settle: Settle) -> Result<Settled, DbError> {
        let now = settle.now;
        let answer = answers::pack(&settle.attempt.evidence, &self.shared.bodies)?;
        let (settled, claimed) = self
            .write(move |pen| settle::settle(pen, &settle, answer.as_deref()))
            .await?;
        let claimed = self.open_bodies(claimed, now).await?;
        Ok(Settled { claimed, ..settled })
    }

    /// Settles what a turn brought in one unit, which spares each a hand-over of its own. A delivery
    /// that does not exist is refused alone.
    pub async fn settle_all(
        &self,
        settles: Vec<Settle>,
    ) -> Result<Vec<Result<Settled, DbError>>, DbError> {
        let times: Vec<Timestamp> = settles.iter().map(|settle| settle.now).collect();
        let pack = |settle: &Settle| answers::pack(&settle.attempt.evidence, &self.shared.bodies);
        let answers: Vec<_> = settles.iter().map(pack).collect::<Result<_, _>>()?;
        let all = self
            .write(move |pen| settle::settle_all(pen, &settles, &answers))
            .await?;
        let mut each = Vec::with_capacity(all.len());
        for (result, now) in all.into_iter().zip(times) {
            each.push(match result {
                Ok((settled, claimed)) => {
                    let claimed = self.open_bodies(claimed, now).await?;
                    Ok(Settled { claimed, ..settled })
                }
                Err(refused) => Err(refused),
            });
        }
        Ok(each)
    }

    /// Gives claims back, so that the next start need not wait for them.
    pub async fn release(&self, leases: Vec<Lease>) -> Result<(), DbError> {
        self.write(move |pen| claim::release(pen, &leases)).await
    }

    /// Moves due times nearer that lie further away than their waits: the clock went back.
    pub async fn pull_in(&self, now: Timestamp) -> Result<(), DbError> {
        let mut next = Some(pull_in::Cursor::default());
        while let Some(cursor) = next {
            next = self
                .write(move |pen| pull_in::step(pen, cursor.clone(), now))
                .await?;
        }
        Ok(())
    }

    /// Finds the active endpoints that have due deliveries in nobody's hands. Costs as much as there
    /// are endpoints with pending deliveries, however many those are.
    pub async fn sweep(&self, now: Timestamp) -> Result<Sweep, DbError> {
        self.read(move |conn| sweep::sweep(conn, now)).await
    }

    /// Unpacks the bodies of what was claimed. What is not what was stored must never be sent, and a
    /// claim of it would come back for ever, so such a delivery is withdrawn, and a person told.
    async fn open_bodies(
        &self,
        claimed: Vec<Unopened>,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, DbError> {
        let (mut opened, mut damaged) = (Vec::with_capacity(claimed.len()), Vec::new());
        for Unopened(mut delivery) in claimed {
            match self.shared.bodies.unpack(&delivery.body) {
                Ok(body) => {
                    delivery.body = body;
                    opened.push(delivery);
                }
                Err(error) => {
                    tracing::error!(
                        event.id = %delivery.event_id,
                        delivery.id = %delivery.delivery_id,
                        %error,
                        "withdrew a delivery; restore the event from a backup, then resend it"
                    );
                    damaged.push((delivery.lease(), error.to_string()));
                }
            }
        }
        if !damaged.is_empty() {
            self.write(move |pen| settle::withdraw(pen, &damaged, now))
                .await?;
        }
        Ok(opened)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Pen) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        self.shared.committer.write(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        self.shared.readers.read(query).await
    }
}
