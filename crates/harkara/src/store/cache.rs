//! Values that are read far more often than written: endpoints, merchants, API keys.
//!
//! The cache knows no SQL. The writer forgets a key once the change is written, before the caller
//! is told; a load that began before that carries an older generation and is not kept.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

/// Past this many entries the cache starts afresh, so that it cannot grow with the merchants.
const CAPACITY: usize = 10_000;

pub(super) struct Cache<K, V> {
    shelf: Mutex<Shelf<K, V>>,
}

struct Shelf<K, V> {
    generation: u64,
    values: HashMap<K, V>,
}

/// What was found, or the generation to hand back with what is loaded instead.
pub(super) enum Found<V> {
    Cached(V),
    Missing { generation: u64 },
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new() -> Self {
        Self {
            shelf: Mutex::new(Shelf {
                generation: 0,
                values: HashMap::default(),
            }),
        }
    }

    pub(super) fn find<Q>(&self, key: &Q) -> Found<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let shelf = self.lock();
        match shelf.values.get(key) {
            Some(value) => Found::Cached(value.clone()),
            None => Found::Missing {
                generation: shelf.generation,
            },
        }
    }

    /// Keeps a loaded value, unless anything was forgotten since the load began.
    pub(super) fn keep(&self, generation: u64, key: K, value: V) {
        let mut shelf = self.lock();
        if shelf.generation != generation {
            return;
        }
        if shelf.values.len() >= CAPACITY {
            shelf.values.clear();
        }
        shelf.values.insert(key, value);
    }

    pub(super) fn forget(&self, key: &K) {
        let mut shelf = self.lock();
        shelf.generation += 1;
        shelf.values.remove(key);
    }

    pub(super) fn forget_all(&self) {
        let mut shelf = self.lock();
        shelf.generation += 1;
        shelf.values.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<K, V>> {
        // No code of others runs under the lock, so a poisoned shelf is still whole.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
