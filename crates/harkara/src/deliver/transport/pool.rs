//! Idle connections, kept for the next request of the same endpoint to the same origin.
//!
//! Never shared between endpoints: what one merchant's receiver left in a connection must not meet
//! another's credentials. There is no background task: whoever puts a connection back throws the
//! stale ones out, so without traffic a few sockets stay until their receivers close them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use harkara_core::id::EndpointId;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gauge::{Gauge, GaugedBody};
use crate::deliver::guard::{Policy, Scheme, judge_address};

const MAX_IDLE_PER_ENDPOINT: usize = 8;
const MAX_IDLE: usize = 1_000;
/// Looking at every idle connection is work, so it is not done for each request.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// An open connection that takes one request at a time. Dropping it closes the socket.
pub(super) struct Connection {
    pub(super) sender: SendRequest<GaugedBody>,
    pub(super) gauge: Gauge,
    pub(super) peer: IpAddr,
    pub(super) _driver: Driver,
}

/// The task that moves a connection's bytes; it ends with its owner.
pub(super) struct Driver(pub(super) JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Scheme and authority: where a connection leads.
pub(super) type Origin = (Scheme, String);

struct Idle {
    origin: Origin,
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// Whether its receiver kept it open and sent nothing unasked meanwhile.
    fn is_usable(&self, now: Instant, longest: Duration) -> bool {
        now - self.since < longest && self.connection.sender.is_ready()
    }
}

struct Shelves {
    by_endpoint: HashMap<EndpointId, Vec<Idle>>,
    swept_at: Instant,
}

pub(super) struct Pool {
    shelves: Mutex<Shelves>,
    longest: Duration,
}

impl Pool {
    pub(super) fn new(longest: Duration) -> Self {
        let shelves = Shelves {
            by_endpoint: HashMap::new(),
            swept_at: Instant::now(),
        };
        Self {
            shelves: Mutex::new(shelves),
            longest,
        }
    }

    /// The connection that was used last, if its peer may still be called.
    pub(super) fn take(
        &self,
        endpoint_id: &EndpointId,
        origin: &Origin,
        policy: &Policy,
    ) -> Option<Connection> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.by_endpoint.get_mut(endpoint_id)?;
        let now = Instant::now();
        shelf.retain(|idle| idle.is_usable(now, self.longest));
        let place = shelf.iter().rposition(|idle| idle.origin == *origin)?;
        let connection = shelf.remove(place).connection;
        judge_address(connection.peer, policy).then_some(connection)
    }

    /// Keeps a connection whose answer was read to its end, unless its receiver is done with it.
    pub(super) fn put(&self, endpoint_id: &EndpointId, origin: Origin, connection: Connection) {
        if !connection.sender.is_ready() {
            return;
        }
        let now = Instant::now();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if now - shelves.swept_at >= SWEEP_EVERY {
            shelves.swept_at = now;
            shelves.by_endpoint.retain(|_, shelf| {
                shelf.retain(|idle| idle.is_usable(now, self.longest));
                !shelf.is_empty()
            });
        }
        if shelves.by_endpoint.values().map(Vec::len).sum::<usize>() >= MAX_IDLE {
            return;
        }
        let shelf = shelves.by_endpoint.entry(endpoint_id.clone()).or_default();
        if shelf.len() >= MAX_IDLE_PER_ENDPOINT {
            shelf.remove(0);
        }
        shelf.push(Idle {
            origin,
            connection,
            since: now,
        });
    }
}
