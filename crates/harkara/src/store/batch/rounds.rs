//! Which units of a batch can be asked and written for together: those of which no two are about the
//! same subject, so that what one is shown is not changed by another.
//!
//! `batch.rs` calls it.

use std::collections::HashMap;

/// A batch in parts, each of which is a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<T> {
    pub(super) rounds: Vec<Vec<T>>,
    /// Those that may be about the same.
    pub(super) others: Vec<T>,
}

/// Divides units that are about these subjects; nobody knows of one that is `None`. Those that share a
/// subject keep their order.
pub(super) fn divide<T>(units: Vec<T>, subjects: impl Fn(&T) -> Option<Vec<u64>>) -> Parts<T> {
    let (mut rounds, mut others): (Vec<Vec<T>>, _) = (Vec::new(), Vec::new());
    let mut next_round: HashMap<u64, usize> = HashMap::new();
    for unit in units {
        let Some(subjects) = subjects(&unit) else {
            others.push(unit);
            continue;
        };
        let next = |subject| next_round.get(subject).copied().unwrap_or(0);
        let round = subjects.iter().map(next).max().unwrap_or(0);
        if rounds.len() <= round {
            rounds.push(Vec::new());
        }
        rounds[round].push(unit);
        next_round.extend(subjects.into_iter().map(|subject| (subject, round + 1)));
    }
    Parts { rounds, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_in_a_round_once_and_in_order() {
        let some = |subjects: &[u64]| Some(subjects.to_vec());
        let units = [
            some(&[1]),
            some(&[2, 3]),
            None,
            some(&[1, 4]),
            some(&[3]),
            some(&[]),
            some(&[4, 5]),
            some(&[6]),
        ];
        let parts = Parts {
            rounds: vec![vec![0, 1, 5, 7], vec![3, 4], vec![6]],
            others: vec![2],
        };
        let places = (0..units.len()).collect();
        assert_eq!(divide(places, |place| units[*place].clone()), parts);
    }
}
