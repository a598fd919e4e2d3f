//! Faults put into the rules and the dispatcher on purpose, to see whether the simulation finds them.
//!
//! Without the feature `planted-bugs`, [`planted`] is a constant `false` and nothing of this is in the
//! program. With it, a fault is switched on per thread, by the simulation alone.

/// A known fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A 204 counts as delivered.
    NoContentCounts,
    /// A ladder ends one attempt early.
    LastStepSkipped,
    /// A due time that the clock has left far ahead stays there.
    DueTimeStays,
    /// Two deliveries of one subject are sent at once.
    TwoOfOneSubject,
    /// More attempts are in flight to an endpoint than it has permits.
    PermitsIgnored,
    /// An attempt that has ended keeps its permit.
    PermitKept,
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one fault on in this thread, or all of them off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this fault is switched on.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{plant, planted};

/// Whether this fault is switched on: never.
#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_: Bug) -> bool {
    false
}
