//! Idle connections, kept for the next request of the same endpoint to the same origin.
//!
//! Never shared between endpoints: what one merchant's receiver left in a connection must not meet
//! another's credentials. None is used for longer than the limit after it was opened, so that a name
//! that moves is followed. There is no background task: whoever puts a connection back throws the
//! oldest out, so without traffic a few sockets stay until their receivers close them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use harkara_core::id::EndpointId;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gauge::{Gauge, GaugedBody};
use crate::deliver::guard::{Policy, Scheme, judge_address};

/// An open connection that takes one request at a time. Dropping it closes the socket.
pub(super) struct Connection {
    pub(super) sender: SendRequest<GaugedBody>,
    pub(super) gauge: Gauge,
    pub(super) peer: IpAddr,
    pub(super) opened_at: Instant,
    pub(super) _driver: Driver,
}

/// The task that moves a connection's bytes; it ends with its owner.
pub(super) struct Driver(pub(super) JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a connection leads, and whom it was trusted to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) authority: String,
    /// Of the endpoint's own authorities.
    pub(super) authorities: Option<[u8; 32]>,
}

/// How many connections are kept unused, and how old they may be.
#[derive(Clone, Debug)]
pub struct PoolBounds {
    /// As many as there can be permits for one endpoint.
    pub per_endpoint: usize,
    pub in_all: usize,
    /// From its opening.
    pub age: Duration,
}

impl Default for PoolBounds {
    fn default() -> Self {
        Self {
            per_endpoint: 64,
            in_all: 1_000,
            age: Duration::from_secs(30),
        }
    }
}

/// When a connection was opened; the number tells those of one instant apart.
type Age = (Instant, u64);

struct Idle {
    origin: Origin,
    connection: Connection,
}

#[derive(Default)]
struct Shelves {
    by_endpoint: HashMap<EndpointId, BTreeMap<Age, Idle>>,
    /// Whose each connection is; the oldest comes first.
    by_age: BTreeMap<Age, EndpointId>,
    puts: u64,
}

pub(super) struct Pool {
    shelves: Mutex<Shelves>,
    pub(super) bounds: PoolBounds,
}

impl Pool {
    pub(super) fn new(bounds: PoolBounds) -> Self {
        Self {
            shelves: Mutex::default(),
            bounds,
        }
    }

    /// The youngest connection that its receiver kept open and sent nothing unasked into, if its peer
    /// may still be called.
    pub(super) fn take(
        &self,
        endpoint_id: &EndpointId,
        origin: &Origin,
        policy: &Policy,
    ) -> Option<Connection> {
        let mut shelves = self.shelves();
        loop {
            let age = shelves.youngest(endpoint_id, origin)?;
            let Idle { connection, .. } = shelves.remove(endpoint_id, age)?;
            if connection.sender.is_ready()
                && connection.opened_at.elapsed() < self.bounds.age
                && judge_address(connection.peer, policy)
            {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end, unless its receiver is done with it.
    pub(super) fn put(&self, endpoint_id: &EndpointId, origin: Origin, connection: Connection) {
        if !connection.sender.is_ready() {
            return;
        }
        let mut shelves = self.shelves();
        shelves.puts += 1;
        let age = (connection.opened_at, shelves.puts);
        shelves.by_age.insert(age, endpoint_id.clone());
        let shelf = shelves.by_endpoint.entry(endpoint_id.clone()).or_default();
        shelf.insert(age, Idle { origin, connection });
        if shelf.len() > self.bounds.per_endpoint
            && let Some((&oldest, _)) = shelf.first_key_value()
        {
            shelves.remove(endpoint_id, oldest);
        }
        while let Some((&oldest, owner)) = shelves.by_age.first_key_value()
            && (shelves.by_age.len() > self.bounds.in_all || oldest.0.elapsed() >= self.bounds.age)
        {
            let owner = owner.clone();
            shelves.remove(&owner, oldest);
        }
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn youngest(&self, endpoint_id: &EndpointId, origin: &Origin) -> Option<Age> {
        let mut shelf = self.by_endpoint.get(endpoint_id)?.iter().rev();
        let (age, _) = shelf.find(|(_, idle)| idle.origin == *origin)?;
        Some(*age)
    }

    fn remove(&mut self, endpoint_id: &EndpointId, age: Age) -> Option<Idle> {
        self.by_age.remove(&age);
        let shelf = self.by_endpoint.get_mut(endpoint_id)?;
        let idle = shelf.remove(&age);
        if shelf.is_empty() {
            self.by_endpoint.remove(endpoint_id);
        }
        idle
    }
}
