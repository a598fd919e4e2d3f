//! The door between the write path and the dispatcher: fresh deliveries, within a bound, and hints.
//!
//! A delivery that finds no room here is written unclaimed and found by a later claim, so nothing
//! depends on what is in memory. `submit.rs` fills it, `run.rs` empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;
use tokio::sync::{Notify, mpsc};

use super::dispatcher::Input;
use crate::store::Claimed;

/// The writing side; clones share it.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    sender: mpsc::UnboundedSender<Input>,
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
    bound: InboxBound,
    gateway: Notify,
}

/// How much may lie in memory, and how long a claim lasts.
#[derive(Clone, Copy, Debug)]
pub struct InboxBound {
    pub deliveries: usize,
    pub bytes: usize,
    pub lease: Duration,
}

/// Room that was taken; given back when dropped unfilled or when its deliveries have left memory.
pub struct Place {
    shared: Arc<Shared>,
    deliveries: usize,
    bytes: usize,
}

/// A delivery together with the room that it takes.
pub struct Held {
    pub claimed: Claimed,
    /// A claim brought it, for which permits were taken, rather than its own commit.
    is_claimed: bool,
    _place: Option<Place>,
}

impl Held {
    /// A delivery that a claim brought, which takes no room here: claims are bounded by permits.
    pub fn free(claimed: Claimed) -> Self {
        Self {
            claimed,
            is_claimed: true,
            _place: None,
        }
    }

    /// A delivery that was born claimed, outside of the inbox's bound.
    pub fn born(claimed: Claimed) -> Self {
        Self {
            claimed,
            is_claimed: false,
            _place: None,
        }
    }

    /// Whether it holds a permit already.
    pub fn is_claimed(&self) -> bool {
        self.is_claimed
    }
}

impl Inbox {
    /// An inbox and the dispatcher's end of it.
    pub fn new(bound: InboxBound) -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            sender,
            deliveries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bound,
            gateway: Notify::new(),
        });
        (Self { shared }, receiver)
    }

    /// Takes room for deliveries that are about to be committed; `None` when there is none.
    pub fn reserve(&self, deliveries: usize, bytes: usize) -> Option<Place> {
        let shared = &self.shared;
        // Taken first and given back by `drop` if it was too much, so that two cannot both fit.
        let place = Place {
            shared: shared.clone(),
            deliveries,
            bytes,
        };
        let count = shared.deliveries.fetch_add(deliveries, Ordering::Relaxed) + deliveries;
        let size = shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (count <= shared.bound.deliveries && size <= shared.bound.bytes).then_some(place)
    }

    /// Until when a claim made now lasts.
    pub fn lease_until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.shared.bound.lease)
    }

    /// A hint that there may be due work.
    pub fn wake(&self) {
        self.send(Input::Woken);
    }

    /// A person says that an endpoint is to be called again.
    pub fn resumed(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) {
        self.send(Input::Resumed((merchant_id.clone(), endpoint_id.clone())));
    }

    /// A hint that an outcome was scheduled.
    pub fn wake_gateway(&self) {
        self.shared.gateway.notify_one();
    }

    /// Returns when an outcome was scheduled since it last returned.
    pub async fn gateway_woken(&self) {
        self.shared.gateway.notified().await;
    }

    /// Puts something before the dispatcher.
    pub fn send(&self, input: Input) {
        // A dispatcher that has stopped needs no input: what it did not do is in the store.
        let _ = self.shared.sender.send(input);
    }
}

impl Place {
    /// Hands over what was committed; each delivery keeps its share of the room until it is
    /// sent.
    pub fn fill(self, claimed: Vec<Claimed>) {
        let shared = self.shared.clone();
        let held: Vec<Held> = claimed
            .into_iter()
            .map(|claimed| {
                let bytes = claimed.body.len();
                shared.deliveries.fetch_add(1, Ordering::Relaxed);
                shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                let place = Self {
                    shared: shared.clone(),
                    deliveries: 1,
                    bytes,
                };
                Held {
                    _place: Some(place),
                    ..Held::born(claimed)
                }
            })
            .collect();
        if !held.is_empty() {
            // A dispatcher that has stopped leaves them to the next start.
            let _ = shared.sender.send(Input::Born(held));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared
            .deliveries
            .fetch_sub(self.deliveries, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
