use proptest::prelude::*;

use super::*;

/// Minutes from the first attempt to each retry.
fn offsets(ladder: &Ladder) -> String {
    let mut seconds = 0;
    let minutes = ladder.steps_seconds().iter().map(|step| {
        seconds += step;
        (seconds / 60).to_string()
    });
    minutes.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_day_has_16_retries() {
    insta::assert_snapshot!(
        offsets(&Ladder::Day),
        @"1, 6, 11, 21, 31, 41, 51, 61, 121, 181, 241, 301, 361, 721, 1081, 1441"
    );
}

#[test]
fn longer_ladders_start_like_the_day() {
    insta::assert_snapshot!(
        offsets(&Ladder::ThreeDays),
        @"1, 6, 11, 21, 31, 41, 51, 61, 121, 181, 241, 301, 361, 721, 1081, 1441, 1801, 2161, 2521, 2881, 3241, 3601, 3961, 4321"
    );
    insta::assert_snapshot!(
        offsets(&Ladder::Month),
        @"1, 6, 11, 21, 31, 41, 51, 61, 121, 181, 241, 301, 361, 721, 1081, 1441, 2881, 4321, 5761, 7201, 8641, 10081, 11521, 12961, 14401, 15841, 17281, 18721, 20161, 21601, 23041, 24481, 25921, 27361, 28801, 30241, 31681, 33121, 34561, 36001, 37441, 38881, 40321, 41761, 43201"
    );
}

#[test]
fn presets_never_shrink() {
    for ladder in [Ladder::Day, Ladder::ThreeDays, Ladder::Month] {
        assert!(ladder.steps_seconds().is_sorted(), "{ladder:?}");
    }
}

#[test]
fn a_ladder_of_ones_own_is_checked() {
    fn check(steps: Vec<u32>) -> String {
        match Ladder::custom(steps) {
            Ok(ladder) => format!("{} steps", ladder.steps().len()),
            Err(error) => format!("failed to {error}"),
        }
    }
    assert_eq!(check(vec![1]), "1 steps");
    assert_eq!(check(vec![604_800; 40]), "40 steps");
    insta::assert_snapshot!(
        check(vec![]),
        @"failed to use this ladder: it has 0 steps, and needs 1 to 40"
    );
    insta::assert_snapshot!(
        check(vec![60; 41]),
        @"failed to use this ladder: it has 41 steps, and needs 1 to 40"
    );
    insta::assert_snapshot!(
        check(vec![60, 0]),
        @"failed to use this ladder: step 2 is 0 s, and must be 1 to 604800 s (7 days)"
    );
    insta::assert_snapshot!(
        check(vec![604_801]),
        @"failed to use this ladder: step 1 is 604801 s, and must be 1 to 604800 s (7 days)"
    );
}

#[test]
fn a_ladder_is_written_as_a_name_or_as_seconds() {
    let ladders = [
        Ladder::Day,
        Ladder::ThreeDays,
        Ladder::Month,
        Ladder::custom(vec![30, 60]).unwrap(),
    ];
    let json = serde_json::to_string(&ladders).unwrap();
    insta::assert_snapshot!(json, @r#"["day","three-days","month",[30,60]]"#);
    assert_eq!(serde_json::from_str::<[Ladder; 4]>(&json).unwrap(), ladders);

    let refused = |json: &str| {
        serde_json::from_str::<Ladder>(json)
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!(
        refused("[0]"),
        @"use this ladder: step 1 is 0 s, and must be 1 to 604800 s (7 days)"
    );
    insta::assert_snapshot!(
        refused(r#""week""#),
        @"expected day, three-days, month, or a list of seconds"
    );
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = Timestamp::parse_iso("1994-11-06T08:49:00Z").unwrap();
    let read = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
    for (value, seconds) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("86400", Some(86_400)),
        ("86401", Some(86_400)),
        ("99999999999999999999999999", Some(86_400)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
        ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
        ("Sun, 06 Nov 2094 08:49:37 GMT", None), // Not a Sunday.
        ("Sat, 06 Nov 2094 08:49:37 GMT", Some(86_400)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("1994-11-06T08:49:37Z", None),
    ] {
        assert_eq!(read(value), seconds, "{value:?}");
    }
}

#[test]
fn a_due_time_that_its_wait_does_not_explain_is_pulled_in() {
    let now = Timestamp::from_seconds(1_700_000_000);
    let seconds_away = |due: u64, wait: u64| {
        let due_at = now.plus(Duration::from_secs(due));
        let pulled = pulled_in(due_at, now, Duration::from_secs(wait));
        pulled.since(now).as_secs()
    };
    assert_eq!(seconds_away(60, 60), 60);
    assert_eq!(seconds_away(3_660, 60), 60);
    // No wait is longer than a week with its jitter, whatever a clock made of it.
    assert_eq!(seconds_away(99_999_999, 88_888_888), 725_760);

    let past = Timestamp::from_seconds(1_600_000_000);
    assert_eq!(pulled_in(past, now, Duration::from_secs(60)), past);
}

proptest! {
    #[test]
    fn jitter_only_adds_and_at_most_a_fifth(
        seconds in 1..=MAX_CUSTOM_STEP_SECONDS,
        id in "dlv_[0-9a-f]{32}",
        attempt in 1u32..50,
    ) {
        let step = Duration::from_secs(u64::from(seconds));
        let id = DeliveryId::new(id);
        let wait = jittered(step, &id, attempt);
        prop_assert!(wait >= step);
        prop_assert!(wait * 5 <= step * 6);
        prop_assert_eq!(wait, jittered(step, &id, attempt));
    }

    #[test]
    fn a_jittered_wait_is_never_pulled_in(
        steps in prop::collection::vec(1..=MAX_CUSTOM_STEP_SECONDS, 1..=40),
        id in "dlv_[0-9a-f]{32}",
        attempt in 1u32..=40,
    ) {
        let ladder = Ladder::custom(steps).unwrap();
        let now = Timestamp::from_seconds(1_700_000_000);
        if let Some(step) = ladder.step_after(attempt) {
            let wait = jittered(step, &DeliveryId::new(id), attempt);
            prop_assert_eq!(pulled_in(now.plus(wait), now, wait), now.plus(wait));
        }
    }

    #[test]
    fn any_retry_after_is_read_or_ignored_and_bounded(value in "\\PC*") {
        let now = Timestamp::from_seconds(1_700_000_000);
        let wait = parse_retry_after(&value, now);
        prop_assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    }
}
