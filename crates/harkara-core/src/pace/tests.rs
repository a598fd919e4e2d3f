use std::time::Duration;

use super::*;
use crate::delivery::Failure;

/// Feeds a pace with a ceiling of 64 outcomes one after another, all permits in use, and tells its
/// limit after each group: `ok*8`, `slow*3` (an answer after 400 ms), `fail`, `stale` (a failure of
/// an attempt that was begun before anything else ended), `refused` (a 404).
fn limits(script: &str) -> Vec<usize> {
    let mut pace = Pace::new(64);
    let mut serial = 0;
    let mut seen = Vec::new();
    for step in script.split_whitespace() {
        let (what, times) = step.split_once('*').unwrap_or((step, "1"));
        for _ in 0..times.parse().unwrap() {
            serial += 1;
            let (strain, took) = match what {
                "ok" => (Strain::Eased, 20),
                "slow" => (Strain::Eased, 400),
                "fail" | "stale" => (Strain::Overloaded, 20),
                "refused" => (Strain::Unknown, 20),
                other => panic!("no outcome {other}"),
            };
            pace.note(&Paced {
                serial: if what == "stale" { 0 } else { serial },
                next_serial: serial + 1,
                took: Duration::from_millis(took),
                strain,
                full: true,
            });
        }
        seen.push(pace.limit());
    }
    seen
}

#[test]
fn a_limit_of_successes_adds_one_permit_up_to_the_ceiling() {
    assert_eq!(limits("ok*7 ok ok*8 ok"), [8, 9, 9, 10]);
    assert_eq!(limits("ok*10000"), [64]);
}

#[test]
fn a_failure_halves_it_once_for_all_that_were_in_flight() {
    assert_eq!(
        limits("fail stale stale fail fail fail"),
        [4, 4, 4, 2, 1, 1]
    );
}

#[test]
fn an_answer_time_that_doubles_halves_it_once() {
    // The moving average passes 100 ms and twice the usual with the first slow answer; then what is
    // slow has become usual.
    assert_eq!(limits("ok*100 slow slow*20"), [16, 8, 10]);
}

#[test]
fn an_endpoint_whose_breaker_opened_begins_again() {
    let mut pace = Pace::new(64);
    let failed = |serial| Paced {
        serial,
        next_serial: serial + 1,
        took: Duration::from_millis(20),
        strain: Strain::Overloaded,
        full: true,
    };
    for serial in 1..=10 {
        pace.note(&failed(serial));
    }
    assert_eq!(pace.limit(), 1);
    pace.restart(11);
    assert_eq!(pace.limit(), 8);
    pace.note(&failed(10));
    assert_eq!(pace.limit(), 8, "an attempt from before tells nothing new");
}

#[test]
fn a_refused_event_says_nothing_about_load() {
    assert_eq!(limits("refused*100"), [8]);
}

#[test]
fn permits_that_are_not_used_are_not_added_to() {
    let mut pace = Pace::new(64);
    for serial in 0..1000 {
        pace.note(&Paced {
            serial,
            next_serial: serial + 1,
            took: Duration::from_millis(1),
            strain: Strain::Eased,
            full: false,
        });
    }
    assert_eq!(pace.limit(), 8);
}

#[test]
fn a_median_over_five_seconds_is_slow() {
    let is_slow = |seconds: &[u64]| {
        let mut pace = Pace::new(64);
        for took in seconds {
            pace.remember(Duration::from_secs(*took));
        }
        pace.is_slow()
    };
    let table: [(&[u64], bool); 6] = [
        (&[], false),
        (&[30], true),
        (&[1, 30], true),
        (&[1, 1, 30], false),
        (&[5, 5, 5], false),
        // Only the last nine count.
        (&[30, 30, 30, 30, 30, 30, 30, 30, 30, 1, 1, 1, 1, 1], false),
    ];
    for (seconds, expected) in table {
        assert_eq!(is_slow(seconds), expected, "{seconds:?}");
    }
}

#[test]
fn which_outcomes_are_a_strain() {
    let answered = |status| Outcome::Answered {
        status,
        retry_after: None,
    };
    let table = [
        (answered(200), Sign::Well, Strain::Eased),
        (answered(400), Sign::Ill, Strain::Unknown),
        (answered(429), Sign::Ill, Strain::Overloaded),
        (answered(500), Sign::Ill, Strain::Overloaded),
        (answered(302), Sign::Ill, Strain::Overloaded),
        (
            Outcome::Failed(Failure::HeadTimeout),
            Sign::Ill,
            Strain::Overloaded,
        ),
        (
            Outcome::Failed(Failure::Internal),
            Sign::None,
            Strain::Unknown,
        ),
    ];
    for (outcome, sign, expected) in table {
        assert_eq!(strain(&outcome, sign), expected, "{outcome:?}");
    }
}
