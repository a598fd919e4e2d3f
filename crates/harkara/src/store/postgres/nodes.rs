//! Which nodes there are: each says every two seconds that it is there, by the database's clock, and
//! strikes out those that have not for twelve; for five, if their connection is gone as well.
//!
//! A node's connection holds an advisory lock, which a process that dies lets go of at once, and a
//! machine that loses its power does not.
//!
//! The claims of a node that is struck out are anybody's. One that was only slow writes itself in
//! again; what it held may have been taken over meanwhile, which its fences show. The same connection
//! hears what other nodes have changed, so that no copy here outlives it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use super::server::Server;
use super::skew::{Asked, Skew};
use crate::store::Caches;
use crate::store::error::DbError;
use crate::store::pen::Changed;
use crate::store::sql::{Sql, params};

/// How often a node says that it is there.
const BEAT: Duration = Duration::from_secs(2);

/// How long it listens before it looks whether it is to leave.
const LISTEN: Duration = Duration::from_millis(100);

/// How long ago a node's last beat may be for it to go on sending. Less than the others wait by what a
/// clock and a busy machine may be off.
const CUT_OFF: Duration = Duration::from_secs(8);

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
    pulse: Arc<Pulse>,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that beats tells everybody else.
struct Pulse {
    node: Arc<AtomicI64>,
    last: Mutex<Instant>,
    /// A commit may have been made without our knowing: there may be claims of ours that nobody here
    /// knows of.
    in_doubt: Arc<AtomicBool>,
    /// How many there were at the last beat.
    nodes: AtomicU32,
    /// How far our clock was ahead of the database's at the last beat, in microseconds.
    ahead_us: AtomicI64,
}

impl Pulse {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long ago a beat was, whatever happens to the time of day"
    )]
    fn new(node: i64, skew: Skew) -> Self {
        Self {
            node: Arc::new(AtomicI64::new(node)),
            last: Mutex::new(Instant::now()),
            in_doubt: Arc::default(),
            nodes: AtomicU32::new(1),
            ahead_us: AtomicI64::new(skew.0),
        }
    }

    /// A clock that has gone astray while we run is for a person to set; it is told once.
    fn compared(&self, skew: Skew) {
        let before = Skew(self.ahead_us.swap(skew.0, Ordering::Relaxed));
        if let (Ok(()), Err(far)) = (before.check(), skew.check()) {
            tracing::error!(cause = %far.source, "this node goes on with a wrong clock");
        }
    }

    /// `began` is before the beat was written, for its date is somewhere between.
    fn beaten(&self, began: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }
}

impl Membership {
    /// Takes a number that no node has had before, and keeps saying that it is there. Refused while our
    /// clock is not the database's.
    pub(in crate::store) fn join(
        server: &Arc<Server>,
        caches: Arc<Caches>,
    ) -> Result<Self, DbError> {
        let mut client = server.connect()?;
        let asked = Asked::now();
        let time = client.query_one(&format!("select {CLOCK}"), &[])?;
        let skew = Skew::since(asked, time.try_get(0)?);
        skew.check()?;
        let node = enter(&mut client)?;
        listen(&mut client)?;
        let leaving = Arc::new(AtomicBool::new(false));
        let pulse = Arc::new(Pulse::new(node, skew));
        let member = Member {
            server: server.clone(),
            caches,
            pulse: pulse.clone(),
            leaving: leaving.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-node".to_owned())
            .spawn(move || member.stay(client))?;
        Ok(Self {
            pulse,
            leaving,
            thread: Some(thread),
        })
    }

    /// Our number. Once the others have taken us for dead and we are back, it is another one.
    pub(in crate::store) fn node(&self) -> Arc<AtomicI64> {
        self.pulse.node.clone()
    }

    /// Set by whoever does not know whether a commit was made.
    pub(in crate::store) fn in_doubt(&self) -> Arc<AtomicBool> {
        self.pulse.in_doubt.clone()
    }

    /// How many nodes there were when we last looked, with us.
    pub(in crate::store) fn nodes(&self) -> u32 {
        self.pulse.nodes.load(Ordering::Relaxed)
    }

    /// How far our clock was ahead of the database's when we last looked, in microseconds.
    pub(in crate::store) fn ahead_us(&self) -> i64 {
        self.pulse.ahead_us.load(Ordering::Relaxed)
    }

    /// Whether the others may take us for dead at any moment.
    pub(in crate::store) fn is_cut_off(&self) -> bool {
        let last = self.pulse.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).elapsed() > CUT_OFF
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

/// The thread's own side.
struct Member {
    server: Arc<Server>,
    caches: Arc<Caches>,
    pulse: Arc<Pulse>,
    leaving: Arc<AtomicBool>,
}

impl Member {
    fn node(&self) -> i64 {
        self.pulse.node.load(Ordering::Relaxed)
    }

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
                    let (node, cause) = (self.node(), &error.source);
                    tracing::warn!(%cause, node, "failed to say that this node is there; trying again");
                    std::thread::park_timeout(LISTEN);
                }
            }
        }
        if let Some(mut client) = client {
            // Nobody is waiting for us: at worst the others notice by our silence.
            let _ = client.execute("delete from nodes where node = $1", &[&self.node()]);
        }
    }

    /// Beats, then listens until the next time, or until it is time to leave.
    #[expect(
        clippy::disallowed_methods,
        reason = "a stopwatch between two beats; the beats are dated by the database"
    )]
    fn round(&self, mut client: Client) -> Result<Client, DbError> {
        let began_at = Instant::now();
        self.beat(&mut client)?;
        self.pulse.beaten(began_at);
        let is_disturbed =
            || self.leaving.load(Ordering::Relaxed) || self.pulse.in_doubt.load(Ordering::Relaxed);
        while began_at.elapsed() < BEAT && !is_disturbed() {
            let mut told = client.notifications();
            let mut told = told.timeout_iter(LISTEN);
            while let Some(notice) = told.next()? {
                if let Some(changed) = Changed::announced(notice.payload()) {
                    self.caches.forget(&changed);
                }
            }
        }
        Ok(client)
    }

    /// Whoever was struck out is another node from here on: what it held is the others'. So is one that
    /// does not know what it holds; those of its attempts that are under way may be made twice.
    fn beat(&self, client: &mut Client) -> Result<(), DbError> {
        if self.pulse.in_doubt.swap(false, Ordering::Relaxed) {
            let left = client.execute("delete from nodes where node = $1", &[&self.node()]);
            if let Err(error) = left {
                self.pulse.in_doubt.store(true, Ordering::Relaxed);
                return Err(error.into());
            }
            self.caches.forget_all();
        }
        let sql = format!("update nodes set seen_at = {CLOCK} where node = $1 returning seen_at");
        let asked = Asked::now();
        if let Some(row) = client.query_opt(&sql, &[&self.node()])? {
            self.pulse.compared(Skew::since(asked, row.try_get(0)?));
        } else {
            let (before, node) = (self.node(), enter(client)?);
            self.pulse.node.store(node, Ordering::Relaxed);
            tracing::warn!(
                before,
                node,
                "this node is taken for dead; it goes on as another"
            );
        }
        let sql = format!(
            "delete from nodes where seen_at < {CLOCK} - $1
              or case when seen_at < {CLOCK} - $2 then pg_try_advisory_xact_lock({LOCK}) end"
        );
        client.execute(&sql, &[&SILENCE_US, &SILENCE_AFTER_THE_END_US])?;
        let count: i64 = client
            .query_one("select count(*) from nodes", &[])?
            .try_get(0)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.pulse.nodes.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// What was changed while nobody listened is not known, so no copy is kept.
    fn again(&self) -> Result<Client, DbError> {
        let mut client = self.server.connect()?;
        listen(&mut client)?;
        lock(&mut client, self.node())?;
        self.caches.forget_all();
        Ok(client)
    }
}

/// Takes a number that no node has had before.
fn enter(client: &mut Client) -> Result<i64, DbError> {
    let sql = "
        insert into counters (name, value) values ('node', 1)
        on conflict (name) do update set value = counters.value + 1
        returning value";
    let node = client.query_one(sql, &[])?.try_get(0)?;
    let sql = format!("insert into nodes (node, seen_at) values ($1, {CLOCK})");
    client.execute(&sql, &[&node])?;
    lock(client, node)?;
    Ok(node)
}

/// Refused while there is a node, for it would go on with a store that somebody else takes or fills.
pub(super) fn check_nobody_is_here(conn: &dyn Sql) -> Result<(), DbError> {
    let sql = format!("select node from nodes where seen_at >= {CLOCK} - ?1 order by node");
    let nodes: Vec<i64> = conn.rows(&sql, params![SILENCE_US], |row| row.get(0))?;
    if nodes.is_empty() {
        return Ok(());
    }
    let nodes: Vec<String> = nodes.iter().map(i64::to_string).collect();
    Err(DbError::down(format!(
        "it is being served (by node {}); stop every server that uses it, then try again. One that was \
         killed is known to be gone after {} s",
        nodes.join(", "),
        SILENCE_US / 1_000_000
    )))
}

/// Hears what others change.
fn listen(client: &mut Client) -> Result<(), DbError> {
    Ok(client.batch_execute("listen harkara_changed")?)
}

/// Lets the others see that this connection is there. Should the lock be somebody else's, the longer
/// silence applies.
fn lock(client: &mut Client, node: i64) -> Result<(), DbError> {
    let sql = format!("select pg_try_advisory_lock({LOCK}) from nodes where node = $1");
    client.query(&sql, &[&node])?;
    Ok(())
}
