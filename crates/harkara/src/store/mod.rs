//! The store: what must outlive the process, in one file that one process owns, or in Postgres for
//! as many nodes as there are.
//!
//! The only room that knows SQL; it never knows why a row changes. Callers hand in values
//! ([`Commit`], [`Settle`]…) that say what is to be true together, and wait for the flush that
//! carries them. `submit.rs`, the dispatcher and the API's reads call it.
//!
//! Every write waits for the disk, so an `Ok` survives power loss; an error means that nothing of
//! the call is stored. Reads see all writes that were answered before they began.

mod answers;
mod audit;
mod batch;
mod bodies;
mod cache;
mod codec;
mod endpoints;
mod error;
mod merchants;
mod migrate;
mod pen;
mod people;
mod postgres;
mod readers;
mod replays;
mod retention;
mod rows;
mod sessions;
mod sql;
mod sqlite;
mod transfer;
mod units;
mod views;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::Poll;

use harkara_core::delivery::NewDelivery;
use harkara_core::endpoint::Endpoint;
use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;

pub use audit::{AuditEntry, AuditRow};
pub use batch::pace;
pub use error::{DbError, DbErrorKind};
pub use people::{
    Link, LinkKind, Member, MemberChange, Memberships, NewUser, Used, User, name_key,
};
pub use retention::{Kept, Run};
pub use rows::*;
pub use sessions::{Failures, Horizons, SignInBound, UserSession};
pub use transfer::{Compared, Site, Sum};
pub use views::*;

use batch::Committer;
use batch::flusher::{Flush, Progress};
use bodies::Bodies;
use cache::Cache;
use pen::{Changed, Pen, Session};
use postgres::{Horizon, Membership, Server};
use readers::Readers;
use sql::{Sql, params};
use units::ahead::Need;
use units::{claim, commit, pull_in, settle, sweep};

const FACT: &str = "select value from facts where name = ?1";

/// A handle on the store; clones share it. When the last one goes, what is queued is written and
/// the file is free for the next to open.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    /// They take units in turn. A file has one.
    committers: Vec<Committer>,
    next: AtomicUsize,
    readers: Readers,
    caches: Arc<Caches>,
    bodies: Arc<Bodies>,
    node: Arc<AtomicI64>,
    written_at: Option<Timestamp>,
    durability: String,
    /// What only a store of many nodes has. The last to go, so that others see the end of us when
    /// there is nothing more to come.
    many: Option<Many>,
}

/// What it takes to be one of many.
struct Many {
    /// The last position that was known to be decided with all before it.
    decided: AtomicI64,
    membership: Membership,
}

/// How far a reader may go.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// To whatever was there when it asked.
    Newest(i64),
    /// To what was known to be decided before: somebody holds a position, and may have for long.
    Older(i64),
}

/// Makes a session of another.
type Wrap<'a> = &'a dyn Fn(Box<dyn Session>) -> Box<dyn Session>;

/// Connections that write, of one node: while one of them flushes the other goes on. More of them make
/// smaller batches, and each batch costs its ways to the server and a flush.
const WRITERS: usize = 2;

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

    fn forget_all(&self) {
        self.endpoints.forget_all();
        self.merchants.forget_all();
        self.keys.forget_all();
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
    /// Blocks for as long as that takes. Refused while another process has it open, and while it is a
    /// copy that is not finished.
    pub fn open(folder: &Path) -> Result<Self, DbError> {
        Self::open_with(folder, &|session| session, sqlite::flush)
    }

    /// Opens it with sessions that `wrap` makes of the usual ones, and a flush of the caller's.
    fn open_with(
        folder: &Path,
        wrap: Wrap<'_>,
        flush: impl FnOnce(&Path) -> Result<Flush, DbError>,
    ) -> Result<Self, DbError> {
        let caches = Arc::new(Caches::new());
        let written_at = sqlite::written_at(folder);
        let (writing, node) = sqlite::Writing::open(folder)?;
        let node = Arc::new(AtomicI64::new(node));
        let pen = Pen::new(wrap(Box::new(writing)), node.clone(), caches.clone());
        let bodies = Arc::new(Bodies::load(&pen)?);
        let progress = Arc::new(Progress::new());
        let committer = Committer::start(pen, flush(folder)?, progress.clone())?;
        let readers = Readers::new(sqlite::readers(folder), progress);
        Ok(Self {
            shared: Arc::new(Shared {
                committers: vec![committer],
                next: AtomicUsize::new(0),
                readers,
                caches,
                bodies,
                node,
                written_at,
                durability: sqlite::DURABILITY.to_owned(),
                many: None,
            }),
        })
    }

    /// Joins the nodes of a store in Postgres, by its URL. Blocks for as long as that takes, and must
    /// not be called by a task. Refused while the schema is not the one of this program, and while the
    /// store is a copy that is not finished.
    pub fn connect(url: &str) -> Result<Self, DbError> {
        Self::connect_with(url, &|session| session)
    }

    /// The same with sessions that `wrap` makes of the usual ones.
    fn connect_with(url: &str, wrap: Wrap<'_>) -> Result<Self, DbError> {
        let server = Arc::new(Server::parse(url)?);
        let mut client = server.connect()?;
        let durability = postgres::durability(&mut client)?;
        migrate::check_postgres(&mut client)?;
        if client.query_opt(transfer::UNFINISHED, &[])?.is_some() {
            return Err(transfer::unfinished());
        }
        let caches = Arc::new(Caches::new());
        let membership = Membership::join(&server, caches.clone())?;
        let node = membership.node();
        let pen = || {
            let writing = postgres::Writing::new(&server, membership.in_doubt());
            Pen::new(wrap(Box::new(writing)), node.clone(), caches.clone())
        };
        let mut first = pen();
        first.begin()?;
        let bodies = Arc::new(Bodies::load(&first)?);
        first.commit()?;
        let committers = (0..WRITERS).map(|_| {
            // The server flushes with each commit.
            let flushed: Flush = Arc::new(|| Ok(()));
            Committer::start(pen(), flushed, Arc::new(Progress::new()))
        });
        let committers = committers.collect::<Result<_, _>>()?;
        let readers = Readers::new(postgres::readers(&server), Arc::new(Progress::new()));
        Ok(Self {
            shared: Arc::new(Shared {
                committers,
                next: AtomicUsize::new(0),
                readers,
                caches,
                bodies,
                node,
                written_at: None,
                durability,
                many: Some(Many {
                    decided: AtomicI64::new(0),
                    membership,
                }),
            }),
        })
    }

    /// Brings the schema of a store in Postgres up to date, and says what was applied, or would be.
    /// Blocks, and must not be called by a task.
    pub fn migrate(url: &str, dry_run: bool) -> Result<Vec<String>, DbError> {
        migrate::postgres(&mut Server::parse(url)?.connect()?, dry_run)
    }

    /// Copies all of a store that nobody serves into one that is empty, or goes on with that, and compares
    /// the two: the new one is whole, and can be opened, if no table differs. `tell` hears of each table
    /// how many rows of it were copied so far. Blocks, and must not be called by a task.
    pub fn transfer(
        from: &Site,
        to: &Site,
        mut tell: impl FnMut(&'static str, usize),
    ) -> Result<Vec<Compared>, DbError> {
        transfer::transfer(from, to, transfer::PAGE, &mut |table, rows| {
            tell(table, rows);
            Ok(())
        })
    }

    /// Writes what is queued, refuses what comes later, and empties the log into the file.
    pub async fn close(&self) {
        for committer in &self.shared.committers {
            committer.close().await;
        }
    }

    /// Returns when the store has failed for good (a flush was lost, the writer panicked): the
    /// process must end, for only a new start can tell what is on disk.
    pub async fn failed(&self) {
        let each = self.shared.committers.iter();
        let mut each: Vec<_> = each.map(|committer| Box::pin(committer.failed())).collect();
        std::future::poll_fn(|context| {
            let mut failed = each.iter_mut().map(|one| one.as_mut().poll(context));
            match failed.any(|one| one.is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// When the file was last written to before this start, by the clock of then; a moment ahead of
    /// now says that the clock went back meanwhile.
    pub fn written_at(&self) -> Option<Timestamp> {
        self.shared.written_at
    }

    /// What an answered write survives, and by which settings.
    pub fn durability(&self) -> &str {
        &self.shared.durability
    }

    /// How far this machine's clock is ahead of the database's, in milliseconds; a file has none.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        let many = self.shared.many.as_ref();
        many.map(|many| many.membership.ahead_us() / 1_000)
    }

    /// How many bytes the store takes on its disk, but for a log that is not written back yet.
    pub async fn size(&self) -> Result<i64, DbError> {
        let sql = match self.shared.many {
            None => "select page_count * page_size from pragma_page_count(), pragma_page_size()",
            Some(_) => "select pg_database_size(current_database())",
        };
        let size = self.read(move |conn| conn.first(sql, params![], |row| row.get(0)));
        Ok(size.await?.unwrap_or(0))
    }

    /// The value of something that a store has one of.
    pub async fn fact(&self, name: &'static str) -> Result<Option<String>, DbError> {
        self.read(move |conn| conn.first(FACT, params![name], |row| row.get(0)))
            .await
    }

    /// The same; stores `value` where there is none yet.
    pub async fn keep_fact(&self, name: &'static str, value: &str) -> Result<String, DbError> {
        let value = value.to_owned();
        self.write(move |pen| {
            let sql = "insert into facts (name, value) values (?1, ?2) on conflict do nothing";
            pen.execute(sql, params![name, value])?;
            let known = pen.find(FACT, params![name], |row| row.get(0))?;
            Ok(known.unwrap_or_else(|| value.clone()))
        })
        .await
    }

    /// The number of this start, which its claims are marked with: those of an earlier one are
    /// anybody's. It is another one once we have been taken for dead.
    pub fn node(&self) -> i64 {
        self.shared.node.load(Ordering::Relaxed)
    }

    /// How many nodes use the store, as far as we know.
    pub fn nodes(&self) -> u32 {
        let many = self.shared.many.as_ref();
        many.map_or(1, |many| many.membership.nodes())
    }

    /// Whether a claim is still ours, as far as we can know: nobody has taken us for dead since, and
    /// nobody is about to.
    pub fn holds(&self, claimed: &Claimed) -> bool {
        let many = self.shared.many.as_ref();
        let is_cut_off = many.is_some_and(|many| many.membership.is_cut_off());
        claimed.node == self.node() && !is_cut_off
    }

    /// Makes a state change true, with its events and their deliveries. `Stale` when a guard fails,
    /// `Busy` when the queue is full.
    ///
    /// A delivery whose predecessor (same endpoint and subject) has yet to show what its order mode
    /// asks for is born waiting; one for a paused endpoint is born unclaimed.
    pub async fn commit(&self, unit: Commit) -> Result<Committed, DbError> {
        // Packed here, in the caller's task: the writer is the one thread that all wait for.
        let packed = commit::Packed::of(&unit, &self.shared.bodies)?;
        let unit = Arc::new(unit);
        self.committer()
            .offer(Need::Commit(unit.clone()), move |pen| {
                commit::commit(pen, &unit, &packed)
            })
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
        settles: Arc<[Settle]>,
    ) -> Result<Vec<Result<Settled, DbError>>, DbError> {
        let pack = |settle: &Settle| answers::pack(&settle.attempt.evidence, &self.shared.bodies);
        let answers: Vec<_> = settles.iter().map(pack).collect::<Result<_, _>>()?;
        let written = settles.clone();
        let all = self
            .committer()
            .write(Need::Settles(settles.clone()), move |pen| {
                settle::settle_all(pen, &written, &answers)
            })
            .await?;
        let mut each = Vec::with_capacity(all.len());
        for (result, settle) in all.into_iter().zip(settles.iter()) {
            each.push(match result {
                Ok((settled, claimed)) => {
                    let claimed = self.open_bodies(claimed, settle.now).await?;
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
        self.committer().write(Need::Unknown, work).await
    }

    fn committer(&self) -> &Committer {
        let Shared {
            committers, next, ..
        } = &*self.shared;
        &committers[next.fetch_add(1, Ordering::Relaxed) % committers.len()]
    }

    /// The last position before which no event can appear any more. One writer's events appear in the
    /// order of their positions.
    async fn horizon(&self) -> Result<Reach, DbError> {
        let Some(many) = &self.shared.many else {
            return Ok(Reach::Newest(i64::MAX));
        };
        let wait = async {
            let mut horizon = self.read(Horizon::of).await?;
            while !horizon.is_reached() {
                tokio::time::sleep(postgres::LOOK_EVERY).await;
                horizon = self.read(move |conn| horizon.look(conn)).await?;
            }
            many.decided.fetch_max(horizon.last, Ordering::Relaxed);
            Ok::<_, DbError>(())
        };
        // Somebody who writes for long keeps readers from what is newer.
        let in_time = tokio::time::timeout(postgres::PATIENCE, wait).await;
        let decided = || many.decided.load(Ordering::Relaxed);
        match in_time {
            Ok(reached) => reached.map(|()| Reach::Newest(decided())),
            Err(_) => Ok(Reach::Older(decided())),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Sql) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        self.shared.readers.read(query).await
    }
}
