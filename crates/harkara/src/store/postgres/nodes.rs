//! Which nodes there are: each says every two seconds that it is there, by the database's clock, and
//! strikes out those that have not for twelve; for five, if their connection is gone as well.
//!
//! A node's connection holds an advisory lock, which a process that dies lets go of at once, and a
//! machine that loses its power does not.
//!
//! The claims of a node that is struck out are anybody's. One that was only slow writes itself in
//! again; what it held may have been taken over meanwhile, which its fences show. The same connection
//! hears what other nodes have changed, so that no copy here outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use super::link::Server;
use crate::store::Caches;
use crate::store::error::DbError;
use crate::store::pen::Changed;

/// How often a node says that it is there.
const BEAT: Duration = Duration::from_secs(2);

/// How long it listens before it looks whether it is to leave.
const LISTEN: Duration = Duration::from_millis(100);

/// For how long a node may be silent before its claims are taken over, in microseconds.
const SILENCE_US: i64 = 12_000_000;

/// The same, once its connection has ended. Longer than one that lost its connection needs to open
/// another and beat.
const SILENCE_AFTER_THE_END_US: i64 = 5_000_000;

/// What a node locks while it is connected. Schemas have nodes of their own.
const LOCK: &str = "hashtext(current_schema()), cast(node as int)";

/// The database's clock, in microseconds since 1970.
const CLOCK: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)";

/// Our being one of the nodes; over when it is dropped, and known to all at once.
pub(in crate::store) struct Membership {
    node: i64,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Takes a number that no node has had before, and keeps saying that it is there.
    pub(in crate::store) fn join(
        server: &Arc<Server>,
        caches: Arc<Caches>,
    ) -> Result<Self, DbError> {
        let (node, client) = join(server)?;
        let leaving = Arc::new(AtomicBool::new(false));
        let member = Member {
            server: server.clone(),
            caches,
            node,
            leaving: leaving.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-node".to_owned())
            .spawn(move || member.stay(client))?;
        Ok(Self {
            node,
            leaving,
            thread: Some(thread),
        })
    }

    pub(in crate::store) fn node(&self) -> i64 {
        self.node
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to report that it has not logged.
            let _ = thread.join();
        }
    }
}

/// On a thread of its own, for the client's calls block and no task may make them.
fn join(server: &Arc<Server>) -> Result<(i64, Client), DbError> {
    let mut client = server.connect()?;
    let sql = "
        insert into counters (name, value) values ('node', 1)
        on conflict (name) do update set value = counters.value + 1
        returning value";
    let node = client.query_one(sql, &[])?.try_get(0)?;
    beat(&mut client, node)?;
    listen(&mut client, node)?;
    Ok((node, client))
}

/// The thread's own side.
struct Member {
    server: Arc<Server>,
    caches: Arc<Caches>,
    node: i64,
    leaving: Arc<AtomicBool>,
}

impl Member {
    fn stay(self, client: Client) {
        let mut client = Some(client);
        while !self.leaving.load(Ordering::Relaxed) {
            let result = match client.take() {
                Some(client) => Ok(client),
                None => self.again(),
            };
            match result.and_then(|client| self.round(client)) {
                Ok(open) => client = Some(open),
                Err(error) => {
                    let (node, cause) = (self.node, &error.source);
                    tracing::warn!(%cause, node, "failed to say that this node is there; trying again");
                    std::thread::park_timeout(LISTEN);
                }
            }
        }
        if let Some(mut client) = client {
            // Nobody is waiting for us: at worst the others notice by our silence.
            let _ = client.execute("delete from nodes where node = $1", &[&self.node]);
        }
    }

    /// Listens until the next beat, or until it is time to leave.
    #[expect(
        clippy::disallowed_methods,
        reason = "a stopwatch between two beats; the beats are dated by the database"
    )]
    fn round(&self, mut client: Client) -> Result<Client, DbError> {
        beat(&mut client, self.node)?;
        let began_at = Instant::now();
        while began_at.elapsed() < BEAT && !self.leaving.load(Ordering::Relaxed) {
            let mut told = client.notifications();
            let mut told = told.timeout_iter(LISTEN);
            while let Some(notice) = told.next()? {
                if let Some(changed) = Changed::announced(notice.payload(), self.node) {
                    self.caches.forget(&changed);
                }
            }
        }
        Ok(client)
    }

    /// What was changed while nobody listened is not known, so no copy is kept.
    fn again(&self) -> Result<Client, DbError> {
        let mut client = self.server.connect()?;
        beat(&mut client, self.node)?;
        listen(&mut client, self.node)?;
        self.caches.forget_all();
        Ok(client)
    }
}

/// Hears what others change, and lets them see that this connection is there.
fn listen(client: &mut Client, node: i64) -> Result<(), DbError> {
    client.batch_execute("listen harkara_changed")?;
    // Without the lock, if it should be somebody else's, the longer silence applies.
    let sql = format!("select pg_try_advisory_lock({LOCK}) from nodes where node = $1");
    client.query(&sql, &[&node])?;
    Ok(())
}

fn beat(client: &mut Client, node: i64) -> Result<(), DbError> {
    let sql = format!(
        "insert into nodes (node, seen_at) values ($1, {CLOCK})
        on conflict (node) do update set seen_at = excluded.seen_at"
    );
    client.execute(&sql, &[&node])?;
    let sql = format!(
        "delete from nodes where seen_at < {CLOCK} - $1
          or case when seen_at < {CLOCK} - $2 then pg_try_advisory_xact_lock({LOCK}) end"
    );
    client.execute(&sql, &[&SILENCE_US, &SILENCE_AFTER_THE_END_US])?;
    Ok(())
}
