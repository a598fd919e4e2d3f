use std::collections::BTreeMap;
use std::fmt::Write as _;

use harkara_webhook::WebhookVersion;

use super::*;
use crate::endpoint::{EndpointState, OrderMode, Sealed, SuccessRule};
use crate::retry::Ladder;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_micros(at(0).as_micros() + millis * 1000)
}

fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        merchant_id: MerchantId::new("ms"),
        endpoint_id: EndpointId::new(id),
        url: "https://shop.example/hook".to_owned(),
        username: "shop".to_owned(),
        password: Sealed(String::new()),
        version: WebhookVersion::LATEST,
        switches: BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        previous_credentials: None,
        signing_secrets: Vec::new(),
        state: EndpointState::Active,
        created_at: at(0),
    }
}

fn definition() -> Definition {
    Definition {
        endpoint_id: EndpointId::new("ep_a"),
        to_endpoint_id: EndpointId::new("ep_a"),
        event_names: BTreeSet::new(),
        states: Standing::LOST.into(),
        from: None,
        to: None,
        rate: 50,
    }
}

/// A job of second 100 that has looked at nothing yet.
fn job(definition: Definition) -> Job {
    Job {
        merchant_id: MerchantId::new("ms"),
        id: ReplayJobId::new("rpl_1"),
        definition,
        created_at: at(100),
        matched: 4,
        last_position: 9,
        cursor: 0,
        done: Done::default(),
        state: JobState::Running,
        reason: None,
        changed_at: at(100),
    }
}

/// An event of that position, which happened in that second, exhausted in second 50.
fn lost(position: i64) -> Candidate {
    Candidate {
        position,
        event_id: EventId::new(format!("evt_{position}")),
        name: EventName::OrderSucceeded,
        created_at: at(position),
        state: DeliveryState::Exhausted,
        settled_at: Some(at(50)),
        url_override: None,
        has_body: true,
    }
}

fn page(candidates: Vec<Candidate>, looked_to: i64) -> Page {
    Page {
        candidates,
        looked_to,
    }
}

fn show(step: &Step) -> String {
    let events: Vec<&str> = step
        .deliveries
        .iter()
        .map(|delivery| delivery.event_id.as_str())
        .collect();
    let Done {
        replayed,
        below_version,
        switched_off,
        delivered,
        without_body,
    } = step.done;
    format!(
        "[{}] replayed {replayed}, skipped {below_version}+{switched_off}+{delivered}+{without_body}, at {}{}",
        events.join(" "),
        step.cursor,
        if step.finished { ", finished" } else { "" }
    )
}

#[test]
fn what_a_person_may_wish_of_a_job() {
    let states = [
        JobState::Running,
        JobState::Paused,
        JobState::Cancelled,
        JobState::Finished,
    ];
    let mut table = String::new();
    for state in states {
        for wish in [Wish::Pause, Wish::Resume, Wish::Cancel] {
            let after = match state.after(wish) {
                Ok(after) => format!("{after:?}"),
                Err(ended) => ended.to_string(),
            };
            writeln!(table, "{state:?} {wish:?}: {after}").unwrap();
        }
    }
    insta::assert_snapshot!(table, @r"
    Running Pause: Paused
    Running Resume: Running
    Running Cancel: Cancelled
    Paused Pause: Paused
    Paused Resume: Running
    Paused Cancel: Cancelled
    Cancelled Pause: the job has ended and stays as it is; make a new one to replay again
    Cancelled Resume: the job has ended and stays as it is; make a new one to replay again
    Cancelled Cancel: Cancelled
    Finished Pause: the job has ended and stays as it is; make a new one to replay again
    Finished Resume: the job has ended and stays as it is; make a new one to replay again
    Finished Cancel: the job has ended and stays as it is; make a new one to replay again
    ");
}

#[test]
fn what_was_settled_since_was_pending_then() {
    let mut table = String::new();
    for state in DeliveryState::ALL {
        for (word, settled_at) in [
            ("before", Some(at(99))),
            ("since", Some(at(101))),
            ("not", None),
        ] {
            let candidate = Candidate {
                state: *state,
                settled_at,
                ..lost(1)
            };
            let stood = stood(&candidate, at(100));
            writeln!(table, "{state:<9} settled {word:<6} {stood:?}").unwrap();
        }
    }
    insta::assert_snapshot!(table, @r"
    pending   settled before Pending
    pending   settled since  Pending
    pending   settled not    Pending
    waiting   settled before Pending
    waiting   settled since  Pending
    waiting   settled not    Pending
    delivered settled before Delivered
    delivered settled since  Pending
    delivered settled not    Pending
    exhausted settled before Exhausted
    exhausted settled since  Pending
    exhausted settled not    Pending
    withdrawn settled before Withdrawn
    withdrawn settled since  Pending
    withdrawn settled not    Pending
    withheld  settled before Withheld
    withheld  settled since  Withheld
    withheld  settled not    Withheld
    ");
}

#[test]
fn which_events_a_filter_is_about() {
    let mut named = definition();
    named.event_names = [EventName::OrderFailed].into();
    let mut of_a_time = definition();
    of_a_time.from = Some(at(1));
    of_a_time.to = Some(at(2));
    let mut pending = definition();
    pending.states = [Standing::Pending].into();
    let cases = [
        ("an event that was lost", definition(), lost(1), true),
        ("of another name", named, lost(1), false),
        ("from then on", of_a_time.clone(), lost(1), true),
        ("and not to then", of_a_time.clone(), lost(2), false),
        ("nor before", of_a_time, lost(0), false),
        ("in no other state", pending, lost(1), false),
    ];
    for (what, definition, candidate, expected) in cases {
        assert_eq!(definition.admits(&candidate, at(100)), expected, "{what}");
    }
}

#[test]
fn a_step_goes_in_order_as_far_as_it_may() {
    let to = endpoint("ep_a");
    let pending = Candidate {
        state: DeliveryState::Pending,
        settled_at: None,
        ..lost(2)
    };
    let all = vec![lost(1), pending, lost(4), lost(7)];
    let mut job = job(definition());
    let mut table = String::new();
    for (page, allowed) in [
        (page(all.clone(), 9), 2),
        (page(all[3..].to_vec(), 8), 0),
        (page(all[3..].to_vec(), 8), 5),
        (page(Vec::new(), 9), 5),
    ] {
        let step = step(&job, &to, &page, allowed);
        writeln!(table, "{}", show(&step)).unwrap();
        (job.cursor, job.done) = (step.cursor, step.done);
    }
    insta::assert_snapshot!(table, @r"
    [evt_1 evt_4] replayed 2, skipped 0+0+0+0, at 4
    [] replayed 2, skipped 0+0+0+0, at 4
    [evt_7] replayed 3, skipped 0+0+0+0, at 8
    [] replayed 3, skipped 0+0+0+0, at 9, finished
    ");
}

#[test]
fn what_the_endpoint_is_not_to_hear_of_is_skipped_and_costs_nothing() {
    let mut to = endpoint("ep_a");
    to.version = WebhookVersion::date(2016, 10, 27);
    to.switches.insert(EventName::OrderFailed, false);
    let mut definition = definition();
    definition.states.insert(Standing::Pending);
    let since = Candidate {
        state: DeliveryState::Delivered,
        settled_at: Some(at(101)),
        ..lost(3)
    };
    let candidates = vec![
        Candidate {
            name: EventName::TxnCharged,
            ..lost(1)
        },
        Candidate {
            name: EventName::OrderFailed,
            ..lost(2)
        },
        since,
        lost(4),
        Candidate {
            has_body: false,
            ..lost(5)
        },
    ];
    let page = page(candidates, 9);
    let step = step(&job(definition.clone()), &to, &page, 1);
    insta::assert_snapshot!(show(&step), @r"[evt_4] replayed 1, skipped 1+1+1+1, at 9, finished");

    let mut survey = Survey::default();
    let mut before = page.clone();
    before.candidates[2].state = DeliveryState::Waiting;
    before.candidates[2].settled_at = None;
    survey.add(&before, &definition, &to, at(100));
    assert_eq!((survey.matched, survey.skipped.items()), (5, 3));
    assert_eq!(
        (survey.oldest_at, survey.newest_at),
        (Some(at(1)), Some(at(5)))
    );
}

#[test]
fn an_orders_own_url_is_kept_for_the_endpoint_whose_place_it_took() {
    let item = Candidate {
        url_override: Some("https://own.example/".to_owned()),
        ..lost(1)
    };
    let url = |to: &str| {
        let mut definition = definition();
        definition.to_endpoint_id = EndpointId::new(to);
        let step = step(
            &job(definition),
            &endpoint(to),
            &page(vec![item.clone()], 9),
            1,
        );
        step.deliveries[0].url_override.clone()
    };
    assert_eq!(url("ep_a").as_deref(), Some("https://own.example/"));
    assert_eq!(url("ep_b"), None);
}

#[test]
fn a_delivery_is_named_by_its_event_its_endpoint_and_its_job() {
    let job = job(definition());
    let step = step(&job, &endpoint("ep_a"), &page(vec![lost(1)], 9), 1);
    assert_eq!(
        step.deliveries[0].id,
        job.delivery_id(&EventId::new("evt_1"))
    );
    let other = Job {
        id: ReplayJobId::new("rpl_2"),
        ..job.clone()
    };
    assert_ne!(
        step.deliveries[0].id,
        other.delivery_id(&EventId::new("evt_1"))
    );
}

#[test]
fn a_hundred_thousand_are_too_many_for_one_job() {
    let survey = |matched| Survey {
        matched,
        ..Survey::default()
    };
    assert!(!survey(99_999).is_too_much());
    assert!(survey(100_000).is_too_much());
    assert_eq!(
        (seconds(99_999, 50), seconds(1, 1_000), seconds(0, 1)),
        (2_000, 1, 0)
    );
}

/// Times at which somebody looks, and what may go then; all of it goes.
#[test]
fn a_pace_saves_up_a_second_at_most_whatever_the_clock_does() {
    let timeline = |rate, times: &[i64]| {
        let mut pace = Pace::new(rate, at(0));
        let gone = times.iter().map(|time| {
            pace.advance(millis(*time));
            let allowed = pace.allowed();
            pace.spend(allowed);
            format!("{time}: {allowed}")
        });
        gone.collect::<Vec<_>>().join(", ")
    };
    let table = [
        ("even steps", timeline(50, &[100, 200, 300])),
        ("in no time", timeline(50, &[0, 0, 1])),
        ("a slow rate", timeline(1, &[400, 900, 1_000, 2_500, 3_000])),
        ("after a long sleep", timeline(50, &[3_600_000, 3_600_100])),
        (
            "set back an hour",
            timeline(50, &[100, -3_600_000, -3_599_900, -3_599_800]),
        ),
        ("to and fro", timeline(50, &[100, 90_000, 200, 90_000])),
        ("the highest rate", timeline(1_000, &[1, 100, 5_000])),
    ];
    let table: String = table
        .iter()
        .map(|(what, line)| format!("{what:<18} {line}\n"))
        .collect();
    insta::assert_snapshot!(table, @r"
    even steps         100: 5, 200: 5, 300: 5
    in no time         0: 0, 0: 0, 1: 0
    a slow rate        400: 0, 900: 0, 1000: 1, 2500: 1, 3000: 0
    after a long sleep 3600000: 50, 3600100: 5
    set back an hour   100: 5, -3600000: 0, -3599900: 5, -3599800: 5
    to and fro         100: 5, 90000: 50, 200: 0, 90000: 50
    the highest rate   1: 1, 100: 99, 5000: 1000
    ");

    let mut pace = Pace::new(50, at(0));
    assert_eq!(pace.wait(), Duration::from_millis(20));
    pace.advance(millis(5));
    assert_eq!(pace.wait(), Duration::from_millis(15));
}
