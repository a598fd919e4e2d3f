//! Retention: for how long what is kept, and which rows of a page may go.
//!
//! Bodies go first, and long after them the rows that say what became of an event. How old a row is
//! says no date that it carries, for a foreign ledger may tell of years ago, and no clock alone, for
//! clocks jump: the store marks every hour which row is its newest, and counts the time in which
//! somebody did. Pure: the keeper (`retention.rs` in the body) brings pages and the time, and carries
//! a [`Cut`] out.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::Timestamp;

/// How often the newest row is marked, which is how exact an age is.
pub const MARK_EVERY: Duration = Duration::from_secs(3_600);

/// What counts of the time between two marks.
const COUNTS_AT_MOST: Duration = Duration::from_secs(2 * 3_600);

/// For how long what is kept, from when it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The body of an event that is settled, and what was answered to requests with a key.
    pub bodies: Duration,
    /// The event itself, its deliveries and attempts, and what merchants were told. Not shorter.
    pub events: Duration,
}

/// A moment at which it was noted which row is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What ages are told by: begins with the clock, and goes on while there are marks.
    pub lived: Timestamp,
    /// What the clock said.
    pub clock: Timestamp,
}

impl Mark {
    /// The mark that follows this one, if it is time for one.
    ///
    /// A clock that goes back makes nothing younger, and one that jumps ahead by a year makes nothing
    /// a year older; nor does a year in which nobody served the store.
    pub fn next(self, now: Timestamp) -> Option<Self> {
        let passed = now.since(self.clock);
        if now < self.clock {
            return Some(Self { clock: now, ..self });
        }
        (passed >= MARK_EVERY).then(|| Self {
            lived: self.lived.plus(passed.min(COUNTS_AT_MOST)),
            clock: now,
        })
    }
}

/// The moment that lies so long before another.
pub fn before(moment: Timestamp, age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.as_micros().saturating_sub(age))
}

/// How far what is old enough goes, in the numbers of the store; 0 where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The last event whose body is.
    pub bodies: i64,
    /// The last answer to a request with a key that is.
    pub keys: i64,
    /// The last event that is.
    pub events: i64,
    /// What happened before then is, too.
    pub before: Timestamp,
}

/// A row that is old enough to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    pub number: i64,
    /// It has to stay for the sake of something else.
    pub is_needed: bool,
}

/// What goes of a page, and how far that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Rows that go, with all numbers between them.
    pub runs: Vec<RangeInclusive<i64>>,
    /// The last number that was decided on.
    pub looked_to: i64,
}

/// Takes what is not needed out of a page in the order of its numbers, as few ranges and not more
/// than `runs_max` of them: each costs the store as much as many rows do.
pub fn cut(page: &[Old], runs_max: usize) -> Cut {
    let mut cut = Cut::default();
    let mut run: Option<RangeInclusive<i64>> = None;
    for old in page {
        match (&run, old.is_needed) {
            (Some(begun), false) => run = Some(*begun.start()..=old.number),
            (None, false) if cut.runs.len() == runs_max => return cut,
            (None, false) => run = Some(old.number..=old.number),
            (_, true) => cut.runs.extend(run.take()),
        }
        cut.looked_to = old.number;
    }
    cut.runs.extend(run);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn hours(hours: u32) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000).plus(HOUR * hours)
    }

    #[test]
    fn an_age_counts_hours_in_which_there_were_marks() {
        let mut mark = Mark {
            lived: hours(10),
            clock: hours(10),
        };
        let table = [
            ("at once", 10, None),
            ("an hour later", 11, Some(11)),
            ("a little late", 13, Some(13)),
            ("a year ahead", 8_773, Some(15)),
            ("and back", 14, Some(15)),
            ("at once", 14, None),
            ("an hour later", 15, Some(16)),
        ];
        for (what, now, lived) in table {
            let next = mark.next(hours(now));
            assert_eq!(next.map(|next| next.lived), lived.map(hours), "{what}");
            mark = next.unwrap_or(mark);
            assert_eq!(mark.clock, hours(now), "{what}");
        }
    }

    #[test]
    fn an_age_that_is_older_than_time_is_no_trouble() {
        assert_eq!(before(hours(5), HOUR * 3), hours(2));
        let first = before(Timestamp::from_micros(i64::MIN), HOUR);
        assert_eq!(first, Timestamp::from_micros(i64::MIN));
    }

    /// A page as text: numbers, and those in brackets are needed.
    fn page(text: &str) -> Vec<Old> {
        let rows = text.split_whitespace().map(|word| Old {
            number: word.trim_matches(['[', ']']).parse().unwrap(),
            is_needed: word.starts_with('['),
        });
        rows.collect()
    }

    #[test]
    fn what_is_needed_stays_and_the_rest_goes_in_few_runs() {
        let table = [
            ("", "", 0),
            ("1 2 5", "1-5", 5),
            ("[1] [2]", "", 2),
            ("1 [2] 3 4", "1-1 3-4", 4),
            ("[1] 2 3 [4]", "2-3", 4),
            // A third run would be one too many.
            ("1 [2] 3 [4] 5 6", "1-1 3-3", 4),
        ];
        for (rows, runs, looked_to) in table {
            let cut = cut(&page(rows), 2);
            let shown = cut.runs.iter();
            let shown = shown.map(|run| format!("{}-{}", run.start(), run.end()));
            assert_eq!(shown.collect::<Vec<_>>().join(" "), runs, "{rows}");
            assert_eq!(cut.looked_to, looked_to, "{rows}");
        }
    }
}
