use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::endpoint::{EndpointState, Sealed};
use crate::health::Health;
use crate::id::OrderId;

const NOW: &str = "2023-08-10T07:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse_iso(NOW).unwrap()
}

fn event(name: EventName) -> Event {
    Event {
        merchant_id: MerchantId::new("ms"),
        id: EventId::new("evt_V2_0123456789abcdef0123456789abcdef"),
        name,
        subject: Subject::Order(OrderId::new("1")),
        transition: "txn charged: ms-1-1".to_owned(),
        created_at: now(),
        body: Bytes::from_static(b"{}"),
    }
}

fn endpoint(id: &str, created_seconds: i64) -> Endpoint {
    Endpoint {
        merchant_id: MerchantId::new("ms"),
        endpoint_id: EndpointId::new(id),
        url: "https://example.com/hook".to_owned(),
        username: "user".to_owned(),
        password: Sealed(String::new()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::LATEST,
        switches: BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: Timestamp::from_seconds(created_seconds),
    }
}

mod planning {
    use super::*;

    #[test]
    fn one_delivery_for_each_endpoint_with_the_reason_for_those_not_sent() {
        let active = endpoint("ep_active", 1);
        let paused = EndpointState::Paused {
            reason: "gone".to_owned(),
            at: now(),
        };
        let paused = Endpoint {
            state: paused,
            ..endpoint("ep_paused", 2)
        };
        let old = Endpoint {
            version: WebhookVersion::date(2016, 10, 27),
            order: OrderMode::Strict,
            ..endpoint("ep_old", 3)
        };
        let off = Endpoint {
            switches: BTreeMap::from([(EventName::TxnCharged, false)]),
            ..endpoint("ep_off", 4)
        };
        let endpoints = [active, paused, old, off].map(Arc::new);

        let planned = plan(&event(EventName::TxnCharged), &endpoints, None);
        let table: String = planned
            .iter()
            .map(|d| {
                let fate = d.withheld.map_or("due".to_owned(), |why| why.to_string());
                format!("{} {} {:?}: {fate}\n", d.endpoint_id, d.kind, d.order)
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        ep_active event Hold: due
        ep_paused event Hold: due
        ep_old event Strict: needs ≥ 2020-10-31, endpoint has 2016-10-27
        ep_off event Hold: is switched off for this endpoint
        ");
    }

    #[test]
    fn an_orders_own_url_replaces_that_of_the_first_endpoint_alone() {
        let endpoints = [
            endpoint("ep_c", 20),
            endpoint("ep_b", 10),
            endpoint("ep_a", 10),
        ]
        .map(Arc::new);
        let url = "https://shop.example/order";
        let planned = plan(&event(EventName::OrderSucceeded), &endpoints, Some(url));
        let urls: Vec<_> = planned.iter().map(|d| d.url_override.as_deref()).collect();
        assert_eq!(urls, [None, None, Some(url)]);
    }

    #[test]
    fn ids_name_the_event_the_endpoint_and_the_occasion() {
        let event = event(EventName::OrderSucceeded);
        let endpoint = Arc::new(endpoint("ep_a", 1));
        let planned = plan(&event, std::slice::from_ref(&endpoint), None);
        assert_eq!(planned, plan(&event, std::slice::from_ref(&endpoint), None));

        let mut ids: Vec<_> = planned.into_iter().map(|d| d.id).collect();
        ids.push(replay((&event.id, event.name), &endpoint, None, "job 1", now()).id);
        ids.push(replay((&event.id, event.name), &endpoint, None, "job 2", now()).id);
        ids.push(test(&event, &endpoint, ("job 1", OrderMode::None), now()).id);
        for id in &ids {
            assert!(
                id.as_str().starts_with("dlv_") && id.as_str().len() == 36,
                "{id}"
            );
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn a_replay_goes_by_the_endpoint_as_it_is_now_and_a_test_by_nothing() {
        let event = event(EventName::OrderCreated);
        let endpoint = endpoint("ep_a", 1);
        let replay = replay(
            (&event.id, event.name),
            &endpoint,
            Some("https://shop.example/"),
            "by hand",
            now(),
        );
        assert_eq!(replay.kind, DeliveryKind::Replay);
        assert_eq!(replay.withheld, Some(Withheld::NotSubscribed));
        assert_eq!(
            replay.url_override.as_deref(),
            Some("https://shop.example/")
        );

        let test = test(&event, &endpoint, ("1", OrderMode::None), now());
        assert_eq!(test.kind, DeliveryKind::Test);
        assert_eq!((test.withheld, test.order), (None, OrderMode::None));
    }
}

/// `500`, `503 retry-after=120`, `timed out`, or a failure's code.
fn outcome(text: &str) -> Outcome {
    if text == "timed out" {
        return Outcome::Failed(Failure::HeadTimeout);
    }
    if let Ok(failure) = text.parse() {
        return Outcome::Failed(failure);
    }
    let (status, retry_after) = match text.split_once(" retry-after=") {
        Some((status, seconds)) => (status, Some(Duration::from_secs(seconds.parse().unwrap()))),
        None => (text, None),
    };
    Outcome::Answered {
        status: status.parse().unwrap(),
        retry_after,
    }
}

/// `1h6m5s`, without the parts that are nothing.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (number, unit) in [
        (seconds / 3600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ] {
        if number > 0 {
            write!(text, "{number}{unit}").unwrap();
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Plays a script of outcomes against the ladder and says what became of each attempt.
fn timeline(script: &str, ladder: &Ladder, rule: SuccessRule) -> String {
    let delivery_id = DeliveryId::new("dlv_0123456789abcdef0123456789abcdef");
    let mut at = now();
    let mut lines = String::new();
    for (text, attempts) in script.split(", ").zip(1..) {
        let outcome = outcome(text);
        let attempted = Attempted {
            delivery_id: &delivery_id,
            kind: DeliveryKind::Event,
            attempts,
            outcome: &outcome,
        };
        let verdict = judge(&attempted, ladder, rule, at);
        let meaning = match verdict {
            Verdict::Delivered => "delivered".to_owned(),
            Verdict::RetryAt(next) => format!("retry in {}", span(next.since(at))),
            Verdict::Exhausted => "exhausted".to_owned(),
        };
        let elapsed = format!("+{}", span(at.since(now())));
        writeln!(
            lines,
            "{elapsed:<9} attempt {attempts}  {text:<21}  {meaning}"
        )
        .unwrap();
        match verdict {
            Verdict::RetryAt(next) => at = next,
            Verdict::Delivered | Verdict::Exhausted => break,
        }
    }
    lines
}

mod judging {
    use super::*;

    /// The steps without their jitter are 1m, 5m, 5m, 10m.
    fn day(script: &str) -> String {
        timeline(script, &Ladder::Day, SuccessRule::Only200)
    }

    #[test]
    fn a_receiver_that_recovers() {
        insta::assert_snapshot!(day("500, timed out, 503 retry-after=120, 200"), @r"
        +0s       attempt 1  500                    retry in 1m9s
        +1m9s     attempt 2  timed out              retry in 5m12s
        +6m21s    attempt 3  503 retry-after=120    retry in 5m7s
        +11m28s   attempt 4  200                    delivered
        ");
    }

    #[test]
    fn a_receiver_that_asks_for_time() {
        insta::assert_snapshot!(day("429 retry-after=3600, 503 retry-after=99999, 200"), @r"
        +0s       attempt 1  429 retry-after=3600   retry in 1h
        +1h       attempt 2  503 retry-after=99999  retry in 24h
        +25h      attempt 3  200                    delivered
        ");
    }

    #[test]
    fn retry_after_is_heard_with_429_and_503_alone() {
        insta::assert_snapshot!(day("500 retry-after=3600, 301 retry-after=3600, 200"), @r"
        +0s       attempt 1  500 retry-after=3600   retry in 1m9s
        +1m9s     attempt 2  301 retry-after=3600   retry in 5m12s
        +6m21s    attempt 3  200                    delivered
        ");
    }

    #[test]
    fn only_200_counts() {
        insta::assert_snapshot!(day("201, 204, 301, 410, 200"), @r"
        +0s       attempt 1  201                    retry in 1m9s
        +1m9s     attempt 2  204                    retry in 5m12s
        +6m21s    attempt 3  301                    retry in 5m7s
        +11m28s   attempt 4  410                    retry in 10m47s
        +22m15s   attempt 5  200                    delivered
        ");
    }

    #[test]
    fn any_2xx_counts_where_the_endpoint_says_so() {
        insta::assert_snapshot!(timeline("199, 300, 299", &Ladder::Day, SuccessRule::Any2xx), @r"
        +0s       attempt 1  199                    retry in 1m9s
        +1m9s     attempt 2  300                    retry in 5m12s
        +6m21s    attempt 3  299                    delivered
        ");
    }

    #[test]
    fn a_ladder_used_up() {
        let ladder = Ladder::custom(vec![60, 3600]).unwrap();
        insta::assert_snapshot!(
            timeline("DNS_FAILED, TLS_FAILED, CONNECT_REFUSED", &ladder, SuccessRule::Only200),
            @r"
        +0s       attempt 1  DNS_FAILED             retry in 1m9s
        +1m9s     attempt 2  TLS_FAILED             retry in 1h2m26s
        +1h3m35s  attempt 3  CONNECT_REFUSED        exhausted
        "
        );
    }

    #[test]
    fn only_410_pauses() {
        let pausing: Vec<u16> = (100..600)
            .filter(|&status| {
                pauses(&Outcome::Answered {
                    status,
                    retry_after: None,
                })
            })
            .collect();
        assert_eq!(pausing, [410]);
        for &failure in Failure::ALL {
            assert!(!pauses(&Outcome::Failed(failure)));
        }
    }

    fn any_ladder() -> impl Strategy<Value = Ladder> {
        prop_oneof![
            Just(Ladder::Day),
            Just(Ladder::ThreeDays),
            Just(Ladder::Month),
            prop::collection::vec(1u32..=604_800, 1..=40)
                .prop_map(|steps| Ladder::custom(steps).unwrap()),
        ]
    }

    fn any_failed_outcome() -> impl Strategy<Value = Outcome> {
        let statuses = prop_oneof![100u16..200, 201u16..600];
        let waits = prop::option::of((0u64..200_000).prop_map(Duration::from_secs));
        prop_oneof![
            (statuses, waits).prop_map(|(status, retry_after)| Outcome::Answered {
                status,
                retry_after
            }),
            prop::sample::select(Failure::ALL).prop_map(Outcome::Failed),
        ]
    }

    proptest! {
        #[test]
        fn a_delivery_ends_within_its_ladder(
            ladder in any_ladder(),
            outcomes in prop::collection::vec(any_failed_outcome(), 60),
            id in "dlv_[0-9a-f]{32}",
        ) {
            let delivery_id = DeliveryId::new(id);
            let steps: Vec<_> = ladder.steps().collect();
            let mut at = now();
            let mut made = 0;
            for (outcome, attempts) in outcomes.iter().zip(1..) {
                made = attempts as usize;
                let kind = DeliveryKind::Event;
                let attempted = Attempted { delivery_id: &delivery_id, kind, attempts, outcome };
                match judge(&attempted, &ladder, SuccessRule::Only200, at) {
                    Verdict::RetryAt(next) => {
                        let step = steps[made - 1];
                        let wait = next.since(at);
                        prop_assert!(wait >= step);
                        prop_assert!(wait * 5 <= step * 6 || wait <= MAX_RETRY_AFTER);
                        at = next;
                    }
                    Verdict::Exhausted => break,
                    Verdict::Delivered => prop_assert!(false, "{outcome:?} counted as delivered"),
                }
            }
            prop_assert_eq!(made, steps.len() + 1);
        }

        #[test]
        fn retry_after_never_shortens_a_wait(
            asked in (0u64..200_000).prop_map(Duration::from_secs),
            attempts in 1u32..=16,
            status in prop::sample::select(vec![429u16, 503]),
        ) {
            let delivery_id = DeliveryId::new("dlv_1");
            let wait = |retry_after| {
                let outcome = Outcome::Answered { status, retry_after };
                let (kind, outcome) = (DeliveryKind::Event, &outcome);
                let attempted = Attempted { delivery_id: &delivery_id, kind, attempts, outcome };
                match judge(&attempted, &Ladder::Day, SuccessRule::Only200, now()) {
                    Verdict::RetryAt(next) => next.since(now()),
                    Verdict::Delivered | Verdict::Exhausted => Duration::ZERO,
                }
            };
            let (plain, patient) = (wait(None), wait(Some(asked)));
            prop_assert_eq!(patient, plain.max(asked.min(MAX_RETRY_AFTER)));
        }
    }
}

mod words {
    use super::*;

    #[test]
    fn each_word_leads_back_to_its_variant() {
        for &state in DeliveryState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for &kind in DeliveryKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        for &failure in Failure::ALL {
            assert_eq!(failure.code().parse(), Ok(failure));
        }
        insta::assert_snapshot!(
            "dead".parse::<DeliveryState>().unwrap_err(),
            @r#"read delivery state "dead": expected one of pending, waiting, delivered, exhausted, withdrawn, withheld"#
        );
    }

    #[test]
    fn outcomes_in_code_and_sentence() {
        let say = |text: &str, rule| {
            let outcome = outcome(text);
            format!("{}: {}", outcome.code(), outcome.sentence(rule))
        };
        insta::assert_snapshot!(
            say("404", SuccessRule::Only200),
            @"HTTP_404: the receiver answered 404; only 200 counts"
        );
        insta::assert_snapshot!(
            say("404", SuccessRule::Any2xx),
            @"HTTP_404: the receiver answered 404; only 200 to 299 count"
        );
        insta::assert_snapshot!(
            say("204", SuccessRule::Any2xx),
            @"HTTP_204: the receiver answered 204"
        );
        insta::assert_snapshot!(
            say("BLOCKED_DESTINATION", SuccessRule::Only200),
            @"BLOCKED_DESTINATION: the URL leads to a place that is never called; use a public HTTPS address"
        );
    }
}

mod explaining {
    use super::*;

    fn input() -> ExplainInput {
        ExplainInput {
            replay_job_id: None,
            event_name: EventName::TxnCharged,
            transition: "txn charged: ms-1-1".to_owned(),
            created_at: now(),
            state: DeliveryState::Pending,
            reason: None,
            endpoint_version: WebhookVersion::date(2020, 10, 31),
            endpoint_state: EndpointState::Active,
            endpoint_health: Health::default(),
            waiting_on_sequence: None,
            attempts: Vec::new(),
            due_at: Some(now()),
            settled_at: None,
            now: minutes(2),
        }
    }

    fn minutes(minutes: u64) -> Timestamp {
        now().plus(Duration::from_secs(minutes * 60))
    }

    fn attempt(n: u32, at: Timestamp, outcome: &Outcome) -> ExplainedAttempt {
        let (code, sentence) = (outcome.code(), outcome.sentence(SuccessRule::Only200));
        ExplainedAttempt {
            n,
            at,
            code,
            sentence,
            overtaking: false,
        }
    }

    fn say(input: &ExplainInput) -> String {
        explain(input).join("\n")
    }

    #[test]
    fn below_the_gate() {
        let withheld = Withheld::Version {
            needs: harkara_webhook::catalog::since(EventName::TxnCharged),
            has: WebhookVersion::date(2016, 10, 27),
        };
        let mut input = ExplainInput {
            state: DeliveryState::Withheld,
            reason: Some(withheld.to_string()),
            endpoint_version: WebhookVersion::date(2016, 10, 27),
            ..input()
        };
        insta::assert_snapshot!(say(&input), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        withheld: TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2016-10-27
        ");

        input.endpoint_version = WebhookVersion::LATEST;
        insta::assert_snapshot!(say(&input), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        the endpoint's version, latest, has TXN_CHARGED
        withheld: TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2016-10-27
        ");
    }

    #[test]
    fn due_and_not_yet_sent() {
        insta::assert_snapshot!(say(&input()), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        next attempt due since 2023-08-10T07:00:00Z
        ");
    }

    #[test]
    fn waiting_at_a_paused_endpoint() {
        let reason = "the receiver answered 410".to_owned();
        let input = ExplainInput {
            event_name: EventName::OrderSucceeded,
            state: DeliveryState::Waiting,
            endpoint_state: EndpointState::Paused {
                reason,
                at: minutes(1),
            },
            waiting_on_sequence: Some(3),
            due_at: None,
            ..input()
        };
        insta::assert_snapshot!(say(&input), @r"
        ORDER_SUCCEEDED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        ORDER_SUCCEEDED is in every version, endpoint has 2020-10-31
        the endpoint has been paused since 2023-08-10T07:01:00Z: the receiver answered 410
        waiting for sequence 3
        no attempt is due before the wait is over
        ");
    }

    #[test]
    fn at_an_endpoint_that_is_not_well() {
        let mut endpoint_health = Health::default();
        for _ in 0..10 {
            endpoint_health.failed(now(), Duration::from_secs(86_400));
        }
        let open = ExplainInput {
            endpoint_health: endpoint_health.clone(),
            ..input()
        };
        endpoint_health.succeeded(8);
        let half_open = ExplainInput {
            endpoint_health,
            ..input()
        };
        let disabled = ExplainInput {
            endpoint_state: EndpointState::Disabled {
                reason: "every attempt has failed".to_owned(),
                at: minutes(1),
            },
            ..input()
        };
        insta::assert_snapshot!([open, half_open, disabled].map(|input| say(&input)).join("\n"), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        the last 10 attempts at the endpoint have failed, so it is sent one delivery at a time, the next at 2023-08-10T07:00:05Z
        next attempt due since 2023-08-10T07:00:00Z
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        the endpoint has begun to answer again and is sent at most 1 at a time
        next attempt due since 2023-08-10T07:00:00Z
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        the endpoint has been disabled since 2023-08-10T07:01:00Z: every attempt has failed
        next attempt due since 2023-08-10T07:00:00Z, once the endpoint is active again
        ");
    }

    #[test]
    fn on_its_ladder_at_a_paused_endpoint() {
        let input = ExplainInput {
            endpoint_state: EndpointState::Paused {
                reason: "by hand".to_owned(),
                at: minutes(1),
            },
            attempts: vec![attempt(1, now(), &outcome("410"))],
            due_at: Some(minutes(6)),
            ..input()
        };
        insta::assert_snapshot!(say(&input), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        the endpoint has been paused since 2023-08-10T07:01:00Z: by hand
        attempt 1 at 2023-08-10T07:00:00Z: HTTP_410, the receiver answered 410; only 200 counts
        next attempt at 2023-08-10T07:06:00Z, once the endpoint is active again
        ");
    }

    #[test]
    fn delivered_after_overtaking() {
        let first = attempt(1, now(), &outcome("timed out"));
        let second = ExplainedAttempt {
            overtaking: true,
            ..attempt(2, minutes(1), &outcome("200"))
        };
        let input = ExplainInput {
            state: DeliveryState::Delivered,
            attempts: vec![first, second],
            settled_at: Some(minutes(1)),
            ..input()
        };
        insta::assert_snapshot!(say(&input), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        attempt 1 at 2023-08-10T07:00:00Z: HEAD_TIMEOUT, the receiver took the request and did not answer in time; answer first, work later
        attempt 2 at 2023-08-10T07:01:00Z: HTTP_200, the receiver answered 200 (overtook an earlier event of its subject)
        delivered at 2023-08-10T07:01:00Z
        ");
    }

    #[test]
    fn exhausted_and_withdrawn() {
        let exhausted = ExplainInput {
            state: DeliveryState::Exhausted,
            attempts: vec![attempt(1, now(), &outcome("500"))],
            settled_at: Some(now()),
            ..input()
        };
        insta::assert_snapshot!(say(&exhausted), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        attempt 1 at 2023-08-10T07:00:00Z: HTTP_500, the receiver answered 500; only 200 counts
        exhausted at 2023-08-10T07:00:00Z: the ladder is used up; a replay starts it again
        ");

        let withdrawn = ExplainInput {
            state: DeliveryState::Withdrawn,
            reason: Some("the endpoint was deleted".to_owned()),
            settled_at: Some(minutes(2)),
            ..input()
        };
        insta::assert_snapshot!(say(&withdrawn), @r"
        TXN_CHARGED was derived from txn charged: ms-1-1 at 2023-08-10T07:00:00Z
        TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2020-10-31
        withdrawn at 2023-08-10T07:02:00Z: the endpoint was deleted
        ");
    }
}

#[test]
fn a_test_is_one_attempt() {
    let outcome = Outcome::Failed(Failure::ConnectRefused);
    let judged = |kind| {
        let delivery_id = DeliveryId::new("dlv_1");
        let attempted = Attempted {
            delivery_id: &delivery_id,
            kind,
            attempts: 1,
            outcome: &outcome,
        };
        judge(&attempted, &Ladder::Day, SuccessRule::Only200, now())
    };
    assert_eq!(judged(DeliveryKind::Test), Verdict::Exhausted);
    assert!(matches!(judged(DeliveryKind::Event), Verdict::RetryAt(_)));
    assert!(matches!(judged(DeliveryKind::Replay), Verdict::RetryAt(_)));
}
