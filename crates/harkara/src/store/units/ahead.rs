//! What the units of a round will ask for, asked before they run: for all of them at once, and in an
//! order in which no two batches wait for each other.
//!
//! The units ask as always and are shown what was answered here; what is not asked ahead they ask by
//! themselves. So nothing hangs on this being complete, and only speed is lost where it is not. The
//! committer calls it, where each question is a way to a server and back.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::commit::{CALLED, called};
use super::place::UNSETTLED_BEFORE;
use super::settle::{LOCK, STORED};
use crate::store::codec::{pack_id, prefix};
use crate::store::error::DbError;
use crate::store::pen::{INSERT_SUBJECT, LAST_SEQUENCE, Pen, SUBJECT, locking};
use crate::store::rows::{Commit, NewEvent, Settle};
use crate::store::sql::{Datum, Many, params};

/// What a unit is about, as far as that is known before it runs.
pub(in crate::store) enum Need {
    Commit(Arc<Commit>),
    Settles(Arc<[Settle]>),
    /// It asks for itself.
    Unknown,
}

impl Need {
    /// The subjects that it is about, as numbers of which two subjects hardly share one; `None` where
    /// that cannot be said, or where it is about one of them twice over, so that its first half changes
    /// what its second is to be shown.
    pub(in crate::store) fn subjects(&self) -> Option<Vec<u64>> {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match self {
            Self::Commit(commit) => {
                let merchant = commit.merchant_id.as_str();
                let keys = commit.events.iter().map(|new| new.event.subject.key());
                let mut subjects: Vec<_> =
                    keys.map(|key| HASHER.hash_one((merchant, key))).collect();
                subjects.sort_unstable();
                subjects.dedup();
                Some(subjects)
            }
            Self::Settles(settles) => {
                let hash = |settle: &Settle| {
                    HASHER.hash_one((settle.merchant_id.as_str(), &settle.subject))
                };
                let mut subjects: Vec<_> = settles.iter().map(hash).collect();
                subjects.sort_unstable();
                let is_once = subjects.windows(2).all(|pair| pair[0] != pair[1]);
                is_once.then_some(subjects)
            }
            Self::Unknown => None,
        }
    }
}

/// Asks for what the units of a round need. Whoever writes about a subject holds its row, and they are
/// taken in the order of their keys: so two batches do not stand in each other's way.
pub(in crate::store) fn ask(pen: &mut Pen, needs: &[&Need]) -> Result<(), DbError> {
    let (commits, settles) = (commits(pen, needs)?, settles(needs));
    let subjects = ask_subjects(pen, &commits, &settles)?;
    let sequences = subjects.into_iter().map(|number| vec![Datum::Int(number)]);
    let [locks, stored] = deliveries(&settles);
    let asks = vec![
        (LAST_SEQUENCE.to_owned(), sequences.collect()),
        locks,
        stored,
        endpoints(&commits),
    ];
    // The subjects are ours by now, so what comes later in one of them has a later position.
    let events = commits.iter().map(|(_, commit)| commit.events.len()).sum();
    pen.ask_ahead(asks, events)?;
    ask_lines(pen, &commits)
}

/// Locks what units settle of which nothing else can be asked ahead.
pub(in crate::store) fn lock(pen: &mut Pen, needs: &[&Need]) -> Result<(), DbError> {
    let settles = settles(needs);
    if settles.is_empty() {
        return Ok(());
    }
    ask_subjects(pen, &[], &settles)?;
    let [locks, _] = deliveries(&settles);
    pen.ask_ahead(vec![locks], 0)
}

fn commits<'n>(pen: &mut Pen, needs: &[&'n Need]) -> Result<Vec<(i64, &'n Commit)>, DbError> {
    let commits = needs.iter().filter_map(|need| match need {
        Need::Commit(commit) => Some(&**commit),
        Need::Settles(_) | Need::Unknown => None,
    });
    let numbered = commits.map(|commit| Ok((pen.word(commit.merchant_id.as_str())?, commit)));
    numbered.collect()
}

fn settles<'n>(needs: &[&'n Need]) -> Vec<&'n Settle> {
    let settles = needs.iter().flat_map(|need| match need {
        Need::Settles(settles) => &settles[..],
        Need::Commit(_) | Need::Unknown => &[],
    });
    settles.collect()
}

/// Locks all subjects, makes those of events that are new, and gives the numbers of these.
fn ask_subjects(
    pen: &mut Pen,
    commits: &[(i64, &Commit)],
    settles: &[&Settle],
) -> Result<Vec<i64>, DbError> {
    let (mut all, mut of_events) = (BTreeSet::new(), BTreeSet::new());
    for (merchant, commit) in commits {
        let keys = commit.events.iter();
        of_events.extend(keys.map(|new| (*merchant, new.event.subject.key())));
    }
    for settle in settles {
        all.insert((
            pen.word(settle.merchant_id.as_str())?,
            settle.subject.clone(),
        ));
    }
    all.extend(of_events.iter().cloned());
    pen.ask_ahead(vec![(locking(SUBJECT), rows(all.iter()))], 0)?;
    let (mut numbers, mut new) = (Vec::new(), Vec::new());
    for key in of_events {
        match number(pen, &key)? {
            Some(number) => numbers.push(number),
            None => new.push(key),
        }
    }
    if !new.is_empty() {
        // Somebody else may make one of them at the same time: whoever comes second finds it.
        let sql = format!("{INSERT_SUBJECT} on conflict do nothing");
        pen.execute_many((sql, rows(new.iter())))?;
        pen.ask_ahead(vec![(locking(SUBJECT), rows(new.iter()))], 0)?;
        for key in &new {
            numbers.extend(number(pen, key)?);
        }
    }
    Ok(numbers)
}

fn rows<'k>(keys: impl Iterator<Item = &'k (i64, String)>) -> Vec<Vec<Datum>> {
    let row = |(merchant, key): &(i64, String)| vec![Datum::Int(*merchant), key.as_str().into()];
    keys.map(row).collect()
}

fn number(pen: &Pen, (merchant, key): &(i64, String)) -> Result<Option<i64>, DbError> {
    let found = pen.rows_locking(SUBJECT, params![merchant, key], |row| row.get(0))?;
    Ok(found.into_iter().next())
}

/// Locks what is settled, and then asks how it stands.
fn deliveries(settles: &[&Settle]) -> [Many; 2] {
    let id = |settle: &Settle| pack_id(prefix::DELIVERY, settle.delivery_id.as_str());
    let ids: BTreeSet<_> = settles.iter().map(|settle| id(settle)).collect();
    let ids = ids.into_iter().map(|id| vec![Datum::Bytes(id)]);
    let stored = settles.iter().map(|settle| {
        vec![
            settle.merchant_id.as_str().into(),
            Datum::Bytes(id(settle)),
            settle.endpoint_id.as_str().into(),
        ]
    });
    [
        (LOCK.to_owned(), ids.collect()),
        (STORED.to_owned(), stored.collect()),
    ]
}

/// Asks how the endpoints are called that get deliveries. A settle of this round may change that; so may
/// somebody else's, a moment later.
fn endpoints(commits: &[(i64, &Commit)]) -> Many {
    let mut endpoints = BTreeSet::new();
    for (_, commit) in commits {
        for delivery in commit.events.iter().flat_map(|new| &new.deliveries) {
            endpoints.insert((delivery.merchant_id.as_str(), delivery.endpoint_id.as_str()));
        }
    }
    let rows = endpoints.into_iter();
    let rows = rows.map(|(merchant_id, endpoint_id)| vec![merchant_id.into(), endpoint_id.into()]);
    (locking(CALLED), rows.collect())
}

/// Asks who stands in line before the first event that a unit has about something.
fn ask_lines(pen: &mut Pen, commits: &[(i64, &Commit)]) -> Result<(), DbError> {
    let mut lines = BTreeSet::new();
    for (merchant, commit) in commits {
        for new in &commit.events {
            let key = (*merchant, new.event.subject.key());
            let Some(subject) = number(pen, &key)? else {
                continue;
            };
            let last: Option<i64> = pen.find(LAST_SEQUENCE, params![subject], |row| row.get(0))?;
            let last = last.unwrap_or(0);
            if last > 0 {
                lines_of(pen, new, (subject, last + 1), &mut lines)?;
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let rows = lines.into_iter();
    let rows = rows.map(|(subject, endpoint, sequence)| {
        [subject, endpoint, sequence].map(Datum::Int).to_vec()
    });
    let lines = locking((UNSETTLED_BEFORE, "for update"));
    pen.ask_ahead(vec![(lines, rows.collect())], 0)
}

fn lines_of(
    pen: &Pen,
    new: &NewEvent,
    (subject, sequence): (i64, i64),
    lines: &mut BTreeSet<(i64, i64, i64)>,
) -> Result<(), DbError> {
    for delivery in &new.deliveries {
        // One that is gone makes its unit stale, which is for the unit to say.
        if let Some(called) = called(pen, &delivery.merchant_id, &delivery.endpoint_id)? {
            lines.insert((subject, called.endpoint, sequence));
        }
    }
    Ok(())
}
