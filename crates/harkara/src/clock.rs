//! What time it is: the only reader of the system's clock.
//!
//! `app.rs` makes one [`Clock`] and hands it down; it is read once per API request and once per
//! dispatcher turn, and from there on `now` is an argument. Tests and simulations hold a manual
//! clock and move it by hand. No timers and no stopwatches live here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harkara_core::time::Timestamp;

/// A source of `now`. Clones of a manual clock show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Microseconds since the epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now` until somebody moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.as_micros()))))
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// On the system's clock, which is not ours to move.
    pub fn advance(&self, by: Duration) {
        let later = |micros| Some(Timestamp::from_micros(micros).plus(by).as_micros());
        self.hands()
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, later)
            .expect("`later` always gives a time");
    }

    /// Puts a manual clock to `now`, which may lie in its past: real clocks jump back, too.
    ///
    /// # Panics
    /// On the system's clock, which is not ours to move.
    pub fn set(&self, now: Timestamp) {
        self.hands().store(now.as_micros(), Ordering::SeqCst);
    }

    fn hands(&self) -> &AtomicI64 {
        match &self.0 {
            Source::System => panic!("the system's clock cannot be moved; make a manual one"),
            Source::Manual(micros) => micros,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that asks for the time"
)]
fn system_now() -> Timestamp {
    // A machine whose clock stands before 1970 gets 1970: wrong, but no worse than what it has.
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::default().plus(since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = Clock::manual(Timestamp::from_seconds(1_700_000_000));
        let same = clock.clone();
        assert_eq!(clock.now().iso(), "2023-11-14T22:13:20Z");

        clock.advance(Duration::from_secs(90));
        assert_eq!(same.now().iso(), "2023-11-14T22:14:50Z");

        same.set(Timestamp::from_seconds(1_600_000_000));
        assert_eq!(clock.now().iso(), "2020-09-13T12:26:40Z");
    }

    #[test]
    fn the_system_clock_is_past_the_day_this_was_written() {
        assert!(Clock::system().now() > Timestamp::from_seconds(1_760_000_000));
    }

    #[test]
    #[should_panic(expected = "cannot be moved")]
    fn the_system_clock_cannot_be_moved() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
