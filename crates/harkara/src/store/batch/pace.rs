//! When a batch is flushed: at once in quiet times, and after a moment while others are on their way.
//!
//! A flush costs the same for one unit as for a hundred, but every unit in hand waits while the batch
//! is held open. The writer asks after each arrival and each wait; no clock and no queue live here,
//! so that a simulation can ask as well. `docs/decisions/0005-group-commit.md` has the figures.

use std::time::Duration;

/// Past this many units a flush is paid for many times over.
pub const FULL: usize = 256;
/// With so many in hand nobody else is waited for.
const ENOUGH: usize = 8;
/// The longest that a batch is held open.
const HOLD: Duration = Duration::from_millis(1);
/// Nothing came for this long: whoever is on the way is further away than a flush.
const LULL: Duration = Duration::from_micros(50);

/// A batch that is being gathered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathering {
    /// Units in hand.
    pub units: usize,
    /// Units of the batch before: whoever was answered then is likely to come again.
    pub before: usize,
    /// Since the first unit was taken.
    pub held: Duration,
    /// Since the last one was.
    pub quiet: Duration,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Flush,
    /// Take another unit if one comes within this time, and ask again.
    Wait(Duration),
}

impl Gathering {
    /// Waits until as many are here as the last time, or enough, or nobody seems to come.
    pub fn pace(&self) -> Pace {
        let left = HOLD
            .saturating_sub(self.held)
            .min(LULL.saturating_sub(self.quiet));
        if self.units >= self.before.min(ENOUGH) || left.is_zero() {
            Pace::Flush
        } else {
            Pace::Wait(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_batch_is_flushed() {
        let rows = [
            // units, before, held, quiet (µs)
            (1, 0, 0, 0),
            (1, 1, 0, 0),
            (1, 2, 0, 0),
            (5, 6, 300, 0),
            (5, 6, 300, 20),
            (5, 6, 300, 50),
            (6, 6, 300, 0),
            (7, 6, 300, 0),
            (5, 6, 970, 0),
            (5, 6, 1000, 0),
            (7, 40, 500, 0),
            (8, 40, 500, 0),
        ];
        let table: String = rows
            .into_iter()
            .map(|(units, before, held, quiet)| {
                let gathering = Gathering {
                    units,
                    before,
                    held: Duration::from_micros(held),
                    quiet: Duration::from_micros(quiet),
                };
                format!(
                    "{units:>3} of {before:>3}, held {held:>4}, quiet {quiet:>2}: {:?}\n",
                    gathering.pace()
                )
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        1 of   0, held    0, quiet  0: Flush
        1 of   1, held    0, quiet  0: Flush
        1 of   2, held    0, quiet  0: Wait(50µs)
        5 of   6, held  300, quiet  0: Wait(50µs)
        5 of   6, held  300, quiet 20: Wait(30µs)
        5 of   6, held  300, quiet 50: Flush
        6 of   6, held  300, quiet  0: Flush
        7 of   6, held  300, quiet  0: Flush
        5 of   6, held  970, quiet  0: Wait(30µs)
        5 of   6, held 1000, quiet  0: Flush
        7 of  40, held  500, quiet  0: Wait(50µs)
        8 of  40, held  500, quiet  0: Flush
        ");
    }
}
