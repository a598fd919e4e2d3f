//! Steps of the dispatcher alone: inputs made by hand, a clock that is an argument, actions counted.

use bytes::Bytes;
use harkara_core::delivery::{DeliveryKind, Failure};
use harkara_core::endpoint::{OrderMode, Sealed, SuccessRule};
use harkara_core::health::Health;
use harkara_core::id::{DeliveryId, EventId};
use harkara_core::retry::Ladder;
use harkara_webhook::WebhookVersion;

use super::*;
use crate::store::{DueEndpoint, Evidence, HealthWrite, Pick};

const SECOND: Duration = Duration::from_secs(1);

/// A dispatcher, the time, and what it has asked for that was not answered yet.
struct Desk {
    dispatcher: Dispatcher,
    now: Timestamp,
    sent: Vec<Claimed>,
    /// Of each attempt that was ever made, whether its endpoint was proven.
    proven: Vec<bool>,
    claims: Vec<ClaimAsk>,
    settles: Vec<Settle>,
    released: usize,
    /// How often due times were to be pulled in.
    pull_ins: usize,
    made: usize,
}

impl Desk {
    fn new(permits: usize) -> Self {
        let now = Timestamp::from_seconds(1_700_000_000);
        let limits = Limits {
            permits,
            permits_per_merchant: permits.min(256),
            permits_per_endpoint: permits.min(64),
            lease: SECOND * 120,
            attempt: SECOND * 65,
            sweep: SECOND,
            disable_after: SECOND * 5 * 86_400,
        };
        Self {
            dispatcher: Dispatcher::new(limits, now),
            now,
            sent: Vec::new(),
            proven: Vec::new(),
            claims: Vec::new(),
            settles: Vec::new(),
            released: 0,
            pull_ins: 0,
            made: 0,
        }
    }

    /// Ten attempts at an endpoint have failed, and it has more that is due.
    fn with_open_breaker() -> Self {
        let mut desk = Self::new(1_000);
        let shop = key("ms", "ep");
        desk.born(&shop, 10);
        desk.end(10, 500, SECOND);
        desk.swept(std::slice::from_ref(&shop));
        desk
    }

    /// Ends so many attempts well, one after another; how many were under way before each.
    fn ramp(&mut self, count: usize) -> Vec<usize> {
        let before_each = |_| {
            while !self.claims.is_empty() {
                self.claimed();
            }
            let in_flight = self.sent.len();
            self.end(1, 200, SECOND);
            in_flight
        };
        (0..count).map(before_each).collect()
    }

    fn step(&mut self, inputs: Vec<Input>) {
        for action in self.dispatcher.step(inputs, self.now) {
            match action {
                Action::Send { claimed, is_proven } => {
                    self.sent.push(claimed);
                    self.proven.push(is_proven);
                }
                Action::Claim(ask) => self.claims.push(ask),
                Action::Settle { settle, .. } => self.settles.push(*settle),
                Action::Release(leases) => self.released += leases.len(),
                Action::PullIn => self.pull_ins += 1,
                Action::Sweep => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.step(Vec::new());
    }

    fn delivery(&mut self, (merchant_id, endpoint_id): &Key) -> Claimed {
        self.made += 1;
        Claimed {
            merchant_id: merchant_id.clone(),
            delivery_id: DeliveryId::new(format!("dlv_{}", self.made)),
            endpoint_id: endpoint_id.clone(),
            event_id: EventId::new(format!("evt_{}", self.made)),
            event_name: "ORDER_SUCCEEDED".to_owned(),
            subject: format!("order/{}", self.made),
            sequence: 1,
            attempts: 0,
            fence: 1,
            node: 1,
            lease_until: self.now.plus(SECOND * 120),
            kind: DeliveryKind::Event,
            url_override: None,
            overtaking: false,
            rate_per_second: None,
            body: Bytes::new(),
        }
    }

    fn born(&mut self, key: &Key, count: usize) {
        let born = (0..count).map(|_| Held::born(self.delivery(key)));
        let born = born.collect();
        self.step(vec![Input::Born(born)]);
    }

    fn swept(&mut self, keys: &[Key]) {
        let endpoints = keys
            .iter()
            .cloned()
            .map(|(merchant_id, endpoint_id)| DueEndpoint {
                merchant_id,
                endpoint_id,
                health: None,
            });
        let sweep = Sweep {
            endpoints: endpoints.collect(),
            ..Sweep::default()
        };
        self.step(vec![Input::Swept(Some(sweep))]);
    }

    /// Answers a claim with as much as was asked for.
    fn claimed(&mut self) {
        let ask = self.claims.remove(0);
        let key = (ask.merchant_id, ask.endpoint_id);
        let claimed = (0..ask.limit).map(|_| self.delivery(&key)).collect();
        self.step(vec![Input::Claimed {
            key,
            claimed: Some(claimed),
        }]);
    }

    fn ended(&self, claimed: Claimed, status: u16, took: Duration) -> Input {
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let outcome = Outcome::Answered {
            status,
            retry_after: None,
        };
        let attempt = AttemptRow {
            started_at: self.now,
            duration_us: i64::try_from(took.as_micros()).unwrap(),
            status: Some(status),
            failure: None,
            evidence: Evidence::default(),
        };
        Input::Ended(Box::new(Ended {
            endpoint: Arc::new(endpoint(&key)),
            claimed,
            outcome,
            attempt,
        }))
    }

    /// Ends the oldest attempts under way, and flushes their settles.
    fn end(&mut self, count: usize, status: u16, took: Duration) {
        for _ in 0..count {
            let (key, subject) = self.end_one(status, took);
            self.settled(key, subject);
        }
    }

    /// Ends the oldest attempt under way; its settle is not flushed yet.
    fn end_one(&mut self, status: u16, took: Duration) -> (Key, String) {
        let claimed = self.sent.remove(0);
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let subject = claimed.subject.clone();
        let ended = self.ended(claimed, status, took);
        self.step(vec![ended]);
        (key, subject)
    }

    fn settled(&mut self, key: Key, subject: String) {
        self.step(vec![Input::Settled {
            key,
            subject,
            retry_at: None,
            settled: Some(Settled {
                held: true,
                ..Settled::default()
            }),
        }]);
    }

    fn sent_to(&self, key: &Key) -> usize {
        let theirs = |sent: &&Claimed| (&sent.merchant_id, &sent.endpoint_id) == (&key.0, &key.1);
        self.sent.iter().filter(theirs).count()
    }
}

fn key(merchant: &str, endpoint: &str) -> Key {
    (MerchantId::new(merchant), EndpointId::new(endpoint))
}

fn endpoint((merchant_id, endpoint_id): &Key) -> Endpoint {
    Endpoint {
        merchant_id: merchant_id.clone(),
        endpoint_id: endpoint_id.clone(),
        url: "https://shop.example.com/".to_owned(),
        username: "shop".to_owned(),
        password: Sealed(String::new()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::LATEST,
        switches: Default::default(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: Timestamp::default(),
    }
}

#[test]
fn an_endpoint_begins_with_eight_permits_and_earns_more() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 400);
    assert_eq!(desk.sent.len(), 8);
    desk.end(8, 200, SECOND);
    assert_eq!(desk.sent.len(), 9, "eight successes with all in use");
    desk.end(200, 200, SECOND);
    assert!(desk.sent.len() > 20, "{}", desk.sent.len());
    desk.end(1, 500, SECOND);
    let halved = desk.sent.len();
    desk.end(halved / 2, 200, SECOND);
    assert_eq!(
        desk.sent.len(),
        halved - halved / 2,
        "none until half of them have ended"
    );
}

#[test]
fn a_claim_asks_for_free_permits_only() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 5);
    desk.swept(std::slice::from_ref(&shop));
    assert_eq!(desk.claims[0].limit, 3);
    desk.swept(std::slice::from_ref(&shop));
    assert_eq!(desk.claims.len(), 1, "one claim at a time");
    desk.claimed();
    assert_eq!(desk.sent.len(), 8);
    assert_eq!(desk.claims.len(), 0, "no permit is free");
}

#[test]
fn a_hint_that_comes_while_a_claim_is_under_way_is_kept() {
    let mut desk = Desk::new(8);
    let shop = key("ms", "ep");
    let released = |desk: &mut Desk| {
        desk.step(vec![Input::Settled {
            key: shop.clone(),
            subject: "order/1".to_owned(),
            retry_at: None,
            settled: Some(Settled {
                held: true,
                released: 1,
                ..Settled::default()
            }),
        }]);
        std::mem::take(&mut desk.claims).len()
    };
    let nothing_due = |desk: &mut Desk| {
        desk.step(vec![Input::Claimed {
            key: shop.clone(),
            claimed: Some(Vec::new()),
        }]);
        std::mem::take(&mut desk.claims).len()
    };
    assert_eq!(released(&mut desk), 1);
    // The claim may have been made before this settle, and told of after it.
    assert_eq!(released(&mut desk), 0);
    assert_eq!(nothing_due(&mut desk), 1);
    assert_eq!(nothing_due(&mut desk), 0);
}

#[test]
fn a_dead_endpoint_with_a_backlog_costs_a_claim_per_probe() {
    let mut desk = Desk::new(1_000);
    let dead = key("ms", "dead");
    desk.swept(std::slice::from_ref(&dead));
    for _ in 0..10 {
        if desk.sent.is_empty() {
            desk.claimed();
        }
        desk.end(1, 500, SECOND);
    }
    let opened = desk.settles.iter().find_map(|settle| match &settle.health {
        HealthWrite::Ill(health) => Some(health.is_open()),
        HealthWrite::Keep | HealthWrite::Well => None,
    });
    assert_eq!(
        opened,
        Some(true),
        "the store is told with the tenth failure"
    );

    desk.end(desk.sent.len(), 500, SECOND);
    let before = desk.released;
    while let Some(ask) = desk.claims.first() {
        let asked = ask.limit;
        desk.claimed();
        assert_eq!(
            desk.released,
            before + asked,
            "what was asked for before goes back"
        );
    }

    let mut claims = Vec::new();
    for second in 0..200 {
        desk.pass(SECOND);
        desk.swept(std::slice::from_ref(&dead));
        if !desk.claims.is_empty() {
            claims.push(second + 1);
            assert_eq!(
                (desk.claims[0].limit, desk.claims[0].pick),
                (1, Pick::LongestDue)
            );
            desk.claimed();
            desk.end(1, 500, SECOND);
        }
    }
    assert_eq!(claims, [5, 20, 80, 140, 200]);
}

#[test]
fn what_lies_in_memory_goes_back_when_a_breaker_opens_and_what_is_born_then_too() {
    let mut desk = Desk::new(1_000);
    let dead = key("ms", "dead");
    desk.born(&dead, 100);
    desk.end(10, 500, SECOND);
    let under_way = desk.sent.len();
    assert_eq!(desk.released, 100 - 10 - under_way);
    desk.born(&dead, 5);
    assert_eq!(desk.released, 105 - 10 - under_way);
}

#[test]
fn what_waits_for_a_test_is_claimed_although_a_breaker_is_open() {
    let mut desk = Desk::with_open_breaker();
    let test = Claimed {
        kind: DeliveryKind::Test,
        ..desk.delivery(&key("ms", "ep"))
    };
    desk.step(vec![Input::Born(vec![Held::born(test)])]);
    desk.end(1, 500, SECOND);
    assert!(desk.settles.last().unwrap().lease_until.is_some());

    desk.pass(SECOND * 5);
    desk.claimed();
    desk.end(1, 500, SECOND);
    assert!(desk.settles.last().unwrap().lease_until.is_none());
}

#[test]
fn an_endpoint_is_proven_by_its_last_outcome() {
    let mut desk = Desk::new(100);
    let shop = key("ms", "ep");
    for status in [200, 200, 500, 200] {
        desk.born(&shop, 1);
        desk.end(1, status, SECOND);
    }
    assert_eq!(desk.proven, [false, true, true, false]);
}

#[test]
fn a_probe_that_succeeds_begins_a_ramp() {
    let mut desk = Desk::with_open_breaker();
    desk.pass(SECOND * 5);
    let in_flight = desk.ramp(12);
    assert!(in_flight.starts_with(&[1, 1, 2]), "{in_flight:?}");
    assert!(in_flight.is_sorted(), "{in_flight:?}");
}

#[test]
fn a_ramp_never_runs_ahead_of_doubling() {
    let mut desk = Desk::with_open_breaker();
    // Failing probes leave it a single permit, which is not what the ramp is to begin to earn by.
    for _ in 0..4 {
        desk.pass(SECOND * 60);
        desk.claimed();
        desk.end(1, 500, SECOND);
    }
    desk.pass(SECOND * 60);
    assert_eq!(desk.ramp(8), [1, 1, 2, 2, 3, 3, 3, 4]);
}

#[test]
fn a_thousand_endpoints_that_never_answer_leave_room_for_one_that_does() {
    let mut desk = Desk::new(2_000);
    for n in 0..1_000 {
        desk.born(&key(&format!("poison-{n}"), "ep"), 20);
    }
    assert!(desk.sent.len() <= 1_000 + 500, "{}", desk.sent.len());
    let shop = key("ms", "ep");
    desk.born(&shop, 20);
    assert_eq!(desk.sent_to(&shop), 1, "a newcomer's first is sent at once");
    let last = desk.sent.pop().unwrap();
    desk.sent.insert(0, last);
    desk.end(1, 200, SECOND / 100);
    assert_eq!(desk.sent_to(&shop), 8, "and it has proven itself");
}

#[test]
fn slow_endpoints_share_a_fifth() {
    let mut desk = Desk::new(100);
    let slow: Vec<Key> = (0..10).map(|n| key(&format!("slow-{n}"), "ep")).collect();
    for lane in &slow {
        desk.born(lane, 1);
    }
    desk.end(10, 200, SECOND * 6);
    for lane in &slow {
        desk.born(lane, 50);
    }
    assert_eq!(desk.sent.len(), 20);
    let shop = key("ms", "ep");
    desk.born(&shop, 8);
    assert_eq!(desk.sent_to(&shop), 8);
}

#[test]
fn a_merchant_with_many_endpoints_has_256() {
    let mut desk = Desk::new(2_000);
    for n in 0..60 {
        let lane = key("ms", &format!("ep_{n}"));
        desk.born(&lane, 1);
        desk.end(1, 200, SECOND / 100);
        desk.born(&lane, 20);
    }
    assert_eq!(desk.sent.len(), 256);
    let other = key("other", "ep");
    desk.born(&other, 1);
    assert_eq!(desk.sent_to(&other), 1);
}

#[test]
fn a_rate_spreads_attempts_over_the_second() {
    let started = started_at_a_rate_of_ten(1);
    assert!((30..=32).contains(&started), "{started}");
}

/// What an endpoint may be sent is divided, and no node asks another.
#[test]
fn a_rate_is_that_of_all_nodes_together() {
    let started = started_at_a_rate_of_ten(5);
    assert!((6..=7).contains(&started), "{started}");
}

/// How many attempts one of so many nodes starts within three seconds.
fn started_at_a_rate_of_ten(nodes: u32) -> usize {
    let mut desk = Desk::new(1_000);
    desk.dispatcher.divide_among(nodes);
    let shop = key("ms", "ep");
    let born = (0..100).map(|_| {
        let mut claimed = desk.delivery(&shop);
        claimed.rate_per_second = Some(10);
        Held::born(claimed)
    });
    let born = born.collect();
    desk.step(vec![Input::Born(born)]);
    let mut started = desk.sent.len();
    let begin = desk.now;
    while desk.now.since(begin) < SECOND * 3 {
        desk.end(desk.sent.len(), 200, SECOND / 100);
        let wait = desk.dispatcher.next_wake().since(desk.now);
        assert!(wait <= SECOND / 5 * nodes, "{wait:?}");
        desk.pass(wait.max(Duration::from_millis(1)));
        started += desk.sent.len();
    }
    started
}

#[test]
fn what_an_endpoint_and_a_merchant_may_have_is_divided_among_the_nodes() {
    // Of 64 for an endpoint and for a merchant; an endpoint begins with 8.
    for (nodes, in_flight) in [(1, 8), (8, 8), (16, 4), (64, 1), (100, 1)] {
        let mut desk = Desk::new(64);
        desk.dispatcher.divide_among(nodes);
        desk.born(&key("ms", "ep"), 20);
        assert_eq!(desk.sent.len(), in_flight, "{nodes} nodes");
    }
}

#[test]
fn a_crowded_address_is_tried_again_in_a_moment_and_spends_nothing() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 1);
    let claimed = desk.sent.remove(0);
    desk.step(vec![Input::Crowded(Box::new(claimed.clone()))]);
    desk.pass(SECOND / 20);
    assert_eq!(desk.sent.len(), 0);
    desk.pass(SECOND / 20);
    assert_eq!(desk.sent, [claimed]);
    assert_eq!((desk.settles.len(), desk.released), (0, 0));
}

#[test]
fn a_clock_that_goes_back_delays_no_probe() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 10);
    desk.end(10, 500, SECOND);
    desk.now = Timestamp::from_micros(desk.now.as_micros() - 3_600_000_000);
    desk.swept(std::slice::from_ref(&shop));
    assert_eq!(desk.claims.len(), 0);
    desk.pass(SECOND * 5);
    assert_eq!(desk.claims.len(), 1);
}

#[test]
fn a_clock_that_jumps_over_a_lease_makes_no_second_attempt() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 1);
    desk.now = desk.now.plus(SECOND * 3_600);
    desk.swept(std::slice::from_ref(&shop));
    let again = Claimed {
        fence: 2,
        ..desk.sent[0].clone()
    };
    desk.claims.clear();
    desk.step(vec![Input::Claimed {
        key: shop,
        claimed: Some(vec![again]),
    }]);
    assert_eq!(desk.sent.len(), 1);
    desk.end(1, 200, SECOND);
    assert_eq!(
        desk.settles[0].fence, 2,
        "the attempt is settled under the new claim"
    );
    assert_eq!(desk.sent.len(), 0);
}

#[test]
fn what_a_settle_hands_over_is_sent_without_a_claim() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 1);
    let next = desk.delivery(&shop);
    let (first, settled) = (desk.sent.remove(0), next.clone());
    let ended = desk.ended(first.clone(), 200, SECOND);
    desk.step(vec![ended]);
    assert!(desk.settles[0].lease_until.is_some());
    desk.step(vec![Input::Settled {
        key: shop,
        subject: first.subject,
        retry_at: None,
        settled: Some(Settled {
            held: true,
            claimed: vec![settled],
            ..Settled::default()
        }),
    }]);
    assert_eq!(desk.sent, [next]);
    assert_eq!(desk.claims.len(), 0);
}

#[test]
fn a_resumed_endpoint_counts_as_well() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    desk.born(&shop, 10);
    desk.end(10, 500, SECOND);
    desk.step(vec![Input::Resumed(shop.clone())]);
    assert_eq!(desk.claims[0].pick, Pick::FreshFirst);
}

#[test]
fn what_the_store_remembers_of_an_endpoint_holds_after_a_restart() {
    let mut desk = Desk::new(1_000);
    let (merchant_id, endpoint_id) = key("ms", "ep");
    let mut health = Health::default();
    for _ in 0..harkara_core::health::OPENS_AFTER {
        health.failed(desk.now, SECOND * 86_400);
    }
    let sweep = Sweep {
        endpoints: vec![DueEndpoint {
            merchant_id,
            endpoint_id,
            health: Some(health),
        }],
        ..Sweep::default()
    };
    desk.step(vec![Input::Swept(Some(sweep))]);
    assert_eq!(desk.claims.len(), 0);
    desk.pass(SECOND * 5);
    assert_eq!(desk.claims[0].pick, Pick::LongestDue);
}

/// A breaker that another node has opened is ours as well, and so is its closing.
#[test]
fn among_several_nodes_the_store_tells_what_another_has_learned() {
    for (nodes, heeded) in [(1, false), (2, true)] {
        let mut desk = Desk::new(1_000);
        desk.dispatcher.divide_among(nodes);
        let shop = key("ms", "ep");
        desk.born(&shop, 1);
        desk.end(1, 200, SECOND / 10);
        let mut health = Health::default();
        for _ in 0..harkara_core::health::OPENS_AFTER {
            health.failed(desk.now, SECOND * 86_400);
        }
        let told = |health| {
            let (merchant_id, endpoint_id) = shop.clone();
            let due = DueEndpoint {
                merchant_id,
                endpoint_id,
                health,
            };
            Input::Swept(Some(Sweep {
                endpoints: vec![due],
                ..Sweep::default()
            }))
        };
        desk.step(vec![told(Some(health))]);
        assert_eq!(desk.claims.is_empty(), heeded, "{nodes} nodes");
        if heeded {
            desk.step(vec![told(None)]);
            assert_eq!(desk.claims.len(), 1, "it is well again");
        }
    }
}

#[test]
fn days_of_failures_disable_an_endpoint_and_a_410_pauses_it() {
    let mut desk = Desk::new(1_000);
    let shop = key("ms", "ep");
    for _ in 0..7 {
        desk.born(&shop, 1);
        desk.end(1, 503, SECOND);
        desk.pass(SECOND * 86_400 - SECOND);
    }
    let told: Vec<&str> = desk
        .settles
        .iter()
        .filter_map(|settle| settle.told.as_ref().map(|told| told.kind))
        .collect();
    assert_eq!(
        told,
        [
            "endpoint_failing",
            "endpoint_failing",
            "endpoint_failing",
            "endpoint_disabled"
        ]
    );
    assert!(matches!(
        desk.settles.last().unwrap().stop,
        Some(EndpointState::Disabled { .. })
    ));

    let gone = key("ms", "gone");
    desk.born(&gone, 1);
    desk.end(1, 410, SECOND);
    assert!(matches!(
        desk.settles.last().unwrap().stop,
        Some(EndpointState::Paused { .. })
    ));
}

#[test]
fn our_own_faults_say_nothing_about_an_endpoint() {
    let outcome = Outcome::Failed(Failure::Internal);
    let sign = harkara_core::health::sign(&outcome, SuccessRule::Only200);
    assert_eq!(sign, harkara_core::health::Sign::None);
}

#[test]
fn idle_endpoints_of_which_nothing_is_known_but_good_are_forgotten() {
    let mut desk = Desk::new(1_000);
    let (good, bad) = (key("ms", "good"), key("ms", "bad"));
    desk.born(&good, 1);
    desk.born(&bad, 1);
    desk.end(1, 200, SECOND);
    desk.end(1, 500, SECOND);
    desk.pass(SECOND * 1300);
    desk.swept(&[]);
    assert_eq!(desk.dispatcher.lanes.len(), 1);
    assert!(desk.dispatcher.lanes.contains_key(&bad));
}

#[test]
fn what_has_a_permit_does_not_wait_behind_what_has_none() {
    let mut desk = Desk::new(1);
    let shop = key("ms", "ep");
    desk.swept(std::slice::from_ref(&shop));
    // The claim has the one permit; what is born meanwhile comes first and finds none.
    desk.born(&shop, 1);
    assert_eq!(desk.sent.len(), 0);
    desk.claimed();
    assert_eq!(desk.sent.len(), 1);
    desk.end(1, 200, SECOND);
    assert_eq!(desk.sent.len(), 1, "the one that was born");
}

#[test]
fn what_has_a_permit_goes_on_when_its_subject_is_free_though_others_wait_in_line() {
    let mut desk = Desk::new(1);
    let shop = key("ms", "ep");
    desk.born(&shop, 1);
    desk.swept(std::slice::from_ref(&shop));
    let (key, subject) = desk.end_one(200, SECOND);
    // The permit goes into a claim, which brings the next of the order whose settle is not flushed.
    let mut next = desk.delivery(&shop);
    next.subject = subject.clone();
    desk.claims.remove(0);
    desk.step(vec![Input::Claimed {
        key: shop.clone(),
        claimed: Some(vec![next]),
    }]);
    desk.born(&shop, 1);
    assert_eq!(desk.sent.len(), 0);
    desk.settled(key, subject);
    assert_eq!(desk.sent.len(), 1);
}

#[test]
fn what_was_not_pulled_in_after_the_clock_went_back_is_asked_for_again() {
    let mut desk = Desk::new(10);
    desk.now = Timestamp::from_seconds(1_600_000_000);
    desk.step(Vec::new());
    assert_eq!(desk.pull_ins, 1);
    // The disk is full; a sweep that fails says that it still may be.
    desk.step(vec![Input::PulledIn(false)]);
    desk.step(vec![Input::Swept(None)]);
    assert_eq!(desk.pull_ins, 1);
    desk.swept(&[]);
    assert_eq!(desk.pull_ins, 2);
    desk.step(vec![Input::PulledIn(true)]);
    desk.swept(&[]);
    assert_eq!(desk.pull_ins, 2);
}

#[test]
fn a_probe_that_a_clock_ahead_has_set_is_not_put_off_by_every_sweep() {
    let mut desk = Desk::new(10);
    let (merchant_id, endpoint_id) = key("ms", "ep");
    let mut health = Health::default();
    for _ in 0..10 {
        let tomorrow = desk.now.plus(SECOND * 86_400);
        health.failed(tomorrow, SECOND * 5 * 86_400);
    }
    let due = DueEndpoint {
        merchant_id,
        endpoint_id,
        health: Some(health),
    };
    for _ in 0..6 {
        desk.step(vec![Input::Swept(Some(Sweep {
            endpoints: vec![due.clone()],
            ..Sweep::default()
        }))]);
        desk.pass(SECOND);
    }
    assert_eq!(desk.claims.len(), 1, "after five seconds");
}

#[test]
fn a_delivery_that_is_claimed_anew_while_it_lies_here_is_sent_once() {
    let mut desk = Desk::new(10);
    let shop = key("ms", "ep");
    let first = desk.delivery(&shop);
    let mut second = desk.delivery(&shop);
    second.subject = first.subject.clone();
    desk.step(vec![Input::Born(vec![
        Held::born(first),
        Held::born(second.clone()),
    ])]);
    // The clock went back, so its lease ends further away than any: the store gives it out again.
    desk.swept(std::slice::from_ref(&shop));
    desk.claims.remove(0);
    second.fence = 2;
    desk.step(vec![Input::Claimed {
        key: shop,
        claimed: Some(vec![second]),
    }]);
    desk.end(2, 200, SECOND);
    let fences: Vec<i64> = desk.settles.iter().map(|settle| settle.fence).collect();
    assert_eq!((fences, desk.sent.len()), (vec![1, 2], 0));
}

#[test]
fn an_attempt_is_dated_by_the_clock_that_dates_its_retry() {
    let mut desk = Desk::new(10);
    desk.born(&key("ms", "ep"), 1);
    // It began a moment ago and took a minute: the clock went back meanwhile.
    desk.end(1, 500, SECOND * 60);
    let settle = &desk.settles[0];
    assert_eq!(settle.attempt.started_at.plus(SECOND * 60), settle.now);
}
