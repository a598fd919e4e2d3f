//! How far this machine's clock is from the database's.
//!
//! Leases and due times are written by a node's clock, and read by the others'. An attempt begins with
//! its whole length and five seconds of its lease to go, so two nodes that are less than that apart take
//! nothing that the other is sending; and they are if each is within two of the database. `nodes.rs`
//! asks at the start and at every beat.

use crate::clock::Clock;
use crate::store::error::DbError;

/// How far a node's clock may be from the database's when it starts, in microseconds.
const BOUND_US: i64 = 2_000_000;

/// How far our clock is ahead of the database's, or behind it if that is negative: in microseconds, and
/// at least, for the answer takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skew(pub(super) i64);

impl Skew {
    /// From when the database was asked until now; `database` is its time somewhere between.
    pub(super) fn since(asked: Asked, database: i64) -> Self {
        Self::between(asked.0, database, now())
    }

    fn between(asked: i64, database: i64, answered: i64) -> Self {
        Self(database.clamp(asked, answered) - database)
    }

    /// Refuses to be a node with such a clock.
    pub(super) fn check(self) -> Result<(), DbError> {
        if self.0.abs() <= BOUND_US {
            return Ok(());
        }
        let (apart, bound) = (self.0.unsigned_abs() / 1_000, BOUND_US / 1_000);
        let way = if self.0 > 0 { "ahead of" } else { "behind" };
        Err(DbError::down(format!(
            "this machine's clock is {apart} ms {way} the database's, and nodes more than {bound} ms off \
             take what others are sending; have a time service set both"
        )))
    }
}

/// When the database was asked, by our clock.
#[derive(Clone, Copy)]
pub(super) struct Asked(i64);

impl Asked {
    pub(super) fn now() -> Self {
        Self(now())
    }
}

fn now() -> i64 {
    Clock::system().now().as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_as_far_off_as_it_is_known_to_be() {
        let table = [
            // Asked, the database's time, answered: it may have been anywhere between.
            ((10, 10, 10), 0),
            ((10, 15, 30), 0),
            ((10, 31, 30), -1),
            ((10, 9, 30), 1),
            ((3_000_010, 10, 3_000_030), 3_000_000),
            ((10, 3_000_030, 30), -3_000_000),
        ];
        for ((asked, database, answered), expected) in table {
            let skew = Skew::between(asked, database, answered);
            assert_eq!(skew, Skew(expected), "{asked} {database} {answered}");
        }
    }

    #[test]
    fn beyond_two_seconds_either_way_no_node_starts() {
        let said = |skew: i64| match Skew(skew).check() {
            Ok(()) => "starts".to_owned(),
            Err(error) => error.source.to_string(),
        };
        let all = [-2_000_001, -2_000_000, 2_000_000, 3_600_000_000].map(said);
        insta::assert_snapshot!(all.join("\n"), @r"
        this machine's clock is 2000 ms behind the database's, and nodes more than 2000 ms off take what others are sending; have a time service set both
        starts
        starts
        this machine's clock is 3600000 ms ahead of the database's, and nodes more than 2000 ms off take what others are sending; have a time service set both
        ");
    }
}
