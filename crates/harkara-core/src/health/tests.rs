use std::fmt::Write as _;
use std::time::Duration;

use super::*;

const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);

fn start() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

/// Plays a script against a well endpoint with 8 permits: `ok`, `fail`, `fail*9`, and `+5s`, `-1h`
/// for what the clock does in between. A line per step that changes the breaker or brings news.
fn check(script: &str) -> String {
    let mut health = Health::default();
    let mut now = start();
    let mut page = String::new();
    for step in script.split_whitespace() {
        let (what, times) = step.split_once('*').unwrap_or((step, "1"));
        for _ in 0..times.parse().unwrap() {
            let before = health.breaker;
            let news = match what {
                "ok" => health.succeeded(8),
                "fail" => health.failed(now, DISABLE_AFTER),
                clock => {
                    now = moved(now, clock);
                    None
                }
            };
            if health.breaker != before || news.is_some() {
                let news = news.map_or("", |news| news.kind());
                writeln!(page, "{step:<8} {} {news}", shown(&health, now)).unwrap();
            }
        }
    }
    page.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn moved(now: Timestamp, clock: &str) -> Timestamp {
    let (sign, amount) = clock.split_at(1);
    let (number, unit) = amount.split_at(amount.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        other => panic!("no unit {other}"),
    };
    let micros = number.parse::<i64>().unwrap() * seconds * 1_000_000;
    let micros = if sign == "-" { -micros } else { micros };
    Timestamp::from_micros(now.as_micros() + micros)
}

fn shown(health: &Health, now: Timestamp) -> String {
    match health.breaker {
        Breaker::Closed => "closed".to_owned(),
        Breaker::Open { .. } => {
            let probe_at = health.probe_at().unwrap();
            format!("open, probe in {} s", probe_at.since(now).as_secs())
        }
        Breaker::HalfOpen { window, .. } => format!("half open, {window} in flight"),
    }
}

#[test]
fn ten_failures_in_a_row_open_it_and_probes_come_in_steps() {
    insta::assert_snapshot!(
        check("fail*9 ok fail*10 +5s fail +15s fail +60s fail +60s ok ok ok*2 ok*4"),
        @r"
        fail*10  open, probe in 5 s
        fail     open, probe in 15 s
        fail     open, probe in 60 s
        fail     open, probe in 60 s
        ok       half open, 1 in flight
        ok       half open, 2 in flight
        ok*2     half open, 2 in flight
        ok*2     half open, 4 in flight
        ok*4     half open, 4 in flight
        ok*4     half open, 4 in flight
        ok*4     half open, 4 in flight
        ok*4     closed
        "
    );
}

#[test]
fn while_half_open_a_failure_halves_and_one_alone_opens_again() {
    insta::assert_snapshot!(check("fail*10 +5s ok ok fail fail +15s ok fail +60s fail"), @r"
    fail*10  open, probe in 5 s
    ok       half open, 1 in flight
    ok       half open, 2 in flight
    fail     half open, 1 in flight
    fail     open, probe in 15 s
    ok       half open, 1 in flight
    fail     open, probe in 60 s
    fail     open, probe in 60 s
    ");
}

#[test]
fn nothing_but_failures_is_warned_of_and_ends_in_giving_up() {
    insta::assert_snapshot!(
        check("fail +30m fail +30m fail +23h fail +12h fail +20h fail +20h fail +20h fail +20h fail +6h fail"),
        @r"
        fail     closed endpoint_failing
        fail     closed endpoint_failing
        fail     closed endpoint_failing
        fail     open, probe in 5 s endpoint_disabled
        "
    );
}

#[test]
fn a_success_after_a_warning_is_news_and_begins_anew() {
    insta::assert_snapshot!(check("fail +1h fail +1m ok fail +59m fail"), @r"
    fail     closed endpoint_failing
    ok       closed endpoint_recovered
    ");
}

#[test]
fn a_clock_that_jumps_disables_nobody() {
    insta::assert_snapshot!(check("fail +365d fail -365d fail +365d fail"), @r"fail     closed endpoint_failing");
}

#[test]
fn a_clock_that_goes_back_leaves_no_probe_far_away() {
    insta::assert_snapshot!(check("fail*10 -1h ok"), @r"
    fail*10  open, probe in 5 s
    ok       half open, 1 in flight
    ");
    let mut health = Health::default();
    for _ in 0..OPENS_AFTER {
        health.failed(start(), DISABLE_AFTER);
    }
    let an_hour_before = Timestamp::from_seconds(1_700_000_000 - 3600);
    health.pull_in(an_hour_before);
    let probe_at = health.probe_at().unwrap();
    assert_eq!(probe_at.since(an_hour_before), Duration::from_secs(5));
}

#[test]
fn the_store_hears_of_what_a_restart_must_know() {
    let well = Health::default();
    let mut health = well.clone();
    health.failed(start(), DISABLE_AFTER);
    assert!(
        !health.is_news_to(None),
        "a first failure is not worth a row"
    );
    health.failed(start().plus(WORTH_STORING), DISABLE_AFTER);
    assert!(health.is_news_to(None), "a minute of failures is");
    let stored = health.clone();
    assert!(!health.is_news_to(Some(&stored)));
    for _ in 0..OPENS_AFTER {
        health.failed(start().plus(WORTH_STORING), DISABLE_AFTER);
    }
    assert!(health.is_news_to(Some(&stored)), "so is an open breaker");
    assert!(well.is_news_to(Some(&stored)), "and an end of it all");
    assert!(!well.is_news_to(None));
}

#[test]
fn what_an_outcome_is_a_sign_of() {
    let answered = |status| Outcome::Answered {
        status,
        retry_after: None,
    };
    let table = [
        (answered(200), Sign::Well),
        (answered(204), Sign::Ill),
        (answered(301), Sign::Ill),
        (answered(404), Sign::Ill),
        (answered(503), Sign::Ill),
        (Outcome::Failed(Failure::DnsFailed), Sign::Ill),
        (Outcome::Failed(Failure::BlockedDestination), Sign::Ill),
        (Outcome::Failed(Failure::Internal), Sign::None),
    ];
    for (outcome, expected) in table {
        assert_eq!(
            sign(&outcome, SuccessRule::Only200),
            expected,
            "{outcome:?}"
        );
    }
    assert_eq!(sign(&answered(204), SuccessRule::Any2xx), Sign::Well);
}
