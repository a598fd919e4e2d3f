//! Has this event been handled already?
//!
//! The platform sends an event until it hears 200, so the same event can come twice, even at the
//! same moment. Here is the question a merchant has to ask, and an answer kept in memory; answers
//! kept in a database are the merchant's own.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

/// A memory of event ids.
///
/// An event is handled once if its id and its effect are recorded together or not at all:
///
/// 1. Check the sender and read the event.
/// 2. Begin a transaction in the database where the effect goes.
/// 3. Ask `first_time`, which inserts the id there under a unique key. If it is not the first
///    time, roll back and answer 200.
/// 4. Carry out the effect in the same transaction, and commit.
/// 5. Answer 200.
///
/// A crash before the commit forgets the id with the effect, and the platform sends the event
/// again. A crash after it brings a repeat, which step 3 stops. To record the id first in a
/// transaction of its own loses the effect when the process dies between the two; to record it
/// last does the effect twice. An effect outside the database, such as a mail, is best written
/// down in step 4 as something to do.
///
/// The customer's browser may come back at the same moment as the webhook, and the order status
/// may have been polled: these carry no event id, so the effect itself should also look at the
/// order, as in "ship unless shipped".
pub trait Seen {
    /// Why a store could not answer.
    type Error;

    /// Records the id, and tells whether it was new.
    ///
    /// # Errors
    /// If the store cannot answer; then the event is not handled and the answer is not 200.
    fn first_time(&self, event_id: &str) -> Result<bool, Self::Error>;
}

/// The last so many event ids, in the memory of one process.
///
/// Enough for trying things out and for effects that are harmless twice: it forgets everything at
/// a restart.
#[derive(Debug)]
pub struct MemorySeen {
    capacity: usize,
    ids: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    known: HashSet<String>,
    /// The known ids, oldest first.
    order: VecDeque<String>,
}

impl MemorySeen {
    /// Remembers this many ids, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            ids: Mutex::default(),
        }
    }

    /// Takes a record back, after its effect failed; the next repeat is then a first time again.
    pub fn forget(&self, event_id: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.known.remove(event_id) {
            ids.order.retain(|id| id != event_id);
        }
    }
}

impl Seen for MemorySeen {
    type Error = Infallible;

    fn first_time(&self, event_id: &str) -> Result<bool, Infallible> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if !ids.known.insert(event_id.to_owned()) {
            return Ok(false);
        }
        ids.order.push_back(event_id.to_owned());
        if ids.order.len() > self.capacity
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.known.remove(&oldest);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_until_newer_ids_push_it_out() {
        let seen = MemorySeen::new(2);
        let timeline: String = ["a", "a", "b", "a", "c", "b", "a"]
            .map(|id| match seen.first_time(id) {
                Ok(true) => format!("{id} first time\n"),
                Ok(false) => format!("{id} repeat\n"),
            })
            .concat();
        insta::assert_snapshot!(timeline, @r"
        a first time
        a repeat
        b first time
        a repeat
        c first time
        b repeat
        a first time
        ");
    }

    #[test]
    fn a_failed_effect_is_tried_again() {
        let seen = MemorySeen::new(2);
        assert_eq!(seen.first_time("a"), Ok(true));
        seen.forget("a");
        seen.forget("never seen");
        assert_eq!(seen.first_time("a"), Ok(true));
        assert_eq!(seen.first_time("a"), Ok(false));
    }

    #[test]
    fn of_two_threads_only_one_is_first() {
        let seen = MemorySeen::new(100);
        let first_times: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    (0..50)
                        .filter(|id| seen.first_time(&id.to_string()) == Ok(true))
                        .count()
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(first_times, 50);
    }
}
