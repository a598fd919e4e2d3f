use bytes::Bytes;
use harkara_core::delivery::{self, Event, Verdict};
use harkara_core::id::{EndpointId, EventId, OrderId, Subject};
use harkara_core::replay::Standing;
use harkara_webhook::EventName;
use serde_json::{Value, json};

use super::*;
use crate::deliver::inbox::InboxBound;
use crate::store::{
    AttemptRow, ClaimAsk, Commit, Evidence, HealthWrite, Kept, NewEvent, Pick, Settle,
};
use crate::testing;

const OLD: &str =
    r#"{"url":"https://shop.example.com/hook","username":"shop","webhook_version":"2016-10-27"}"#;

/// A merchant whose endpoint was too old for `TXN_CHARGED` and has been brought up to date since.
struct World {
    api: testing::World,
    runner: Runner,
    endpoint_id: String,
}

impl World {
    /// So many events were withheld in the meantime.
    async fn with(events: usize) -> Self {
        let api = testing::World::new().await;
        let endpoint = api.merchant("POST /endpoints", OLD).await.json();
        let endpoint_id = endpoint["endpoint_id"].as_str().unwrap().to_owned();
        let runner = runner(&api);
        let world = Self {
            api,
            runner,
            endpoint_id,
        };
        world.born("e", events, EventName::TxnCharged).await;
        let path = format!("PATCH /endpoints/{}", world.endpoint_id);
        let upgraded = world.api.merchant(&path, r#"{"webhook_version":""}"#).await;
        assert_eq!(upgraded.status, 200, "{}", upgraded.text);
        world
    }

    fn store(&self) -> &Store {
        &self.api.api.store
    }

    fn now(&self) -> Timestamp {
        self.api.api.clock.now()
    }

    /// Commits events `{prefix}1`, `{prefix}2`…, each of an order of its own.
    async fn born(&self, prefix: &str, count: usize, name: EventName) {
        let merchant_id = MerchantId::new("ms");
        let endpoints = self.store().endpoints(&merchant_id).await.unwrap();
        let mut commit = Commit::new(merchant_id.clone(), self.now());
        for n in 1..=count {
            let event = Event {
                merchant_id: merchant_id.clone(),
                id: EventId::new(format!("{prefix}{n}")),
                name,
                subject: Subject::Order(OrderId::new(format!("{prefix}{n}"))),
                transition: "txn charged".to_owned(),
                created_at: self.now(),
                body: Bytes::from_static(b"{}"),
            };
            let deliveries = delivery::plan(&event, &endpoints, None);
            commit.events.push(NewEvent {
                event,
                deliveries,
                request_hash: None,
            });
        }
        self.store().commit(commit).await.unwrap();
    }

    async fn make(&self, mut asked: Value) -> String {
        asked["endpoint_id"] = self.endpoint_id.as_str().into();
        let made = self.api.merchant("POST /replays", &asked.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["job_id"].as_str().unwrap().to_owned()
    }

    async fn wish(&self, job_id: &str, wish: &str) {
        let path = format!("POST /replays/{job_id}/{wish}");
        let answer = self.api.merchant(&path, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Lets the time pass in steps of a tenth of a second, and says how the job is then.
    async fn pass(&mut self, job_id: &str, millis: u64) -> String {
        self.runner.turn(self.now()).await;
        for _ in 0..millis / 100 {
            self.api.api.clock.advance(Duration::from_millis(100));
            self.runner.turn(self.now()).await;
        }
        self.show(job_id).await
    }

    async fn show(&self, job_id: &str) -> String {
        let path = format!("GET /replays/{job_id}");
        let job = self.api.merchant(&path, "").await.json();
        let skipped = &job["skipped"];
        format!(
            "{} of {} replayed, {}+{}+{}+{} skipped, {} delivered, {} s left, {}",
            job["replayed"],
            job["matched"],
            skipped["version"],
            skipped["switch"],
            skipped["delivered"],
            skipped["without_body"],
            job["delivered"],
            job["remaining_seconds"],
            job["state"].as_str().unwrap()
        )
    }

    /// The replays of an event, each with its state.
    async fn replays_of(&self, event_id: &str) -> Vec<String> {
        let path = format!("GET /events/{event_id}/deliveries");
        let shown = self.api.merchant(&path, "").await.json();
        let rows = shown["deliveries"].as_array().unwrap().iter();
        let replays = rows.filter(|row| row["kind"] == "replay");
        replays
            .map(|row| row["state"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sends all that is due to an endpoint, and all of it arrives; says what it was, in order.
    async fn arrive(&self) -> Vec<String> {
        let ask = ClaimAsk {
            merchant_id: MerchantId::new("ms"),
            endpoint_id: EndpointId::new(&*self.endpoint_id),
            limit: 1000,
            pick: Pick::FreshFirst,
            now: self.now(),
            lease_until: self.now().plus(Duration::from_secs(60)),
        };
        let mut arrived = Vec::new();
        for claimed in self.store().claim(ask).await.unwrap() {
            arrived.push(claimed.event_id.to_string());
            let settle = Settle {
                merchant_id: claimed.merchant_id,
                delivery_id: claimed.delivery_id,
                endpoint_id: claimed.endpoint_id,
                subject: claimed.subject,
                fence: claimed.fence,
                attempt: AttemptRow {
                    started_at: self.now(),
                    duration_us: 1,
                    status: Some(200),
                    failure: None,
                    evidence: Evidence::default(),
                },
                verdict: Verdict::Delivered,
                health: HealthWrite::Keep,
                stop: None,
                told: None,
                now: self.now(),
                lease_until: None,
                is_again: false,
            };
            self.store().settle(settle).await.unwrap();
        }
        arrived
    }
}

fn runner(api: &testing::World) -> Runner {
    let bound = InboxBound {
        deliveries: 1,
        bytes: 1,
        lease: Duration::from_secs(60),
    };
    Runner::new(api.api.store.clone(), Inbox::new(bound).0)
}

#[tokio::test]
async fn a_job_goes_at_its_rate_in_order_and_ends() {
    let mut world = World::with(120).await;
    let job = world.make(json!({})).await;
    world.born("later", 3, EventName::TxnCharged).await;
    let timeline = [
        world.pass(&job, 0).await,
        world.pass(&job, 200).await,
        world.pass(&job, 900).await,
        world.pass(&job, 1_000).await,
        world.pass(&job, 1_000).await,
    ];
    insta::assert_snapshot!(timeline.join("\n"), @r"
    0 of 120 replayed, 0+0+0+0 skipped, 0 delivered, 3 s left, running
    10 of 120 replayed, 0+0+0+0 skipped, 0 delivered, 3 s left, running
    55 of 120 replayed, 0+0+0+0 skipped, 0 delivered, 2 s left, running
    105 of 120 replayed, 0+0+0+0 skipped, 0 delivered, 1 s left, running
    120 of 120 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, finished
    ");
    let arrived = world.arrive().await;
    let expected = (1..=3).map(|n| format!("later{n}"));
    let expected: Vec<String> = expected.chain((1..=120).map(|n| format!("e{n}"))).collect();
    assert_eq!(arrived, expected);
    insta::assert_snapshot!(world.show(&job).await, @r"
    120 of 120 replayed, 0+0+0+0 skipped, 120 delivered, 0 s left, finished
    ");
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_cancelled() {
    let mut world = World::with(30).await;
    let job = world.make(json!({ "rate": 10 })).await;
    let mut timeline = vec![world.pass(&job, 1_100).await];
    world.wish(&job, "pause").await;
    timeline.push(world.pass(&job, 60_000).await);
    world.wish(&job, "resume").await;
    // A minute went by in which it did not run, and nothing of it was saved up.
    timeline.push(world.pass(&job, 600).await);
    world.wish(&job, "cancel").await;
    timeline.push(world.pass(&job, 5_000).await);
    insta::assert_snapshot!(timeline.join("\n"), @r"
    11 of 30 replayed, 0+0+0+0 skipped, 0 delivered, 2 s left, running
    11 of 30 replayed, 0+0+0+0 skipped, 0 delivered, 2 s left, paused
    17 of 30 replayed, 0+0+0+0 skipped, 0 delivered, 2 s left, running
    17 of 30 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, cancelled
    ");
}

#[tokio::test]
async fn a_job_goes_on_after_a_restart_without_making_anything_twice() {
    let mut world = World::with(40).await;
    let job = world.make(json!({ "rate": 100 })).await;
    let mut timeline = vec![world.pass(&job, 300).await];
    // A runner of the next start knows nothing but the store.
    world.runner = runner(&world.api);
    world.api.api.clock.advance(Duration::from_secs(3_600));
    timeline.push(world.pass(&job, 100).await);
    timeline.push(world.pass(&job, 1_000).await);
    insta::assert_snapshot!(timeline.join("\n"), @r"
    30 of 40 replayed, 0+0+0+0 skipped, 0 delivered, 1 s left, running
    40 of 40 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, finished
    40 of 40 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, finished
    ");
    for n in 1..=40 {
        assert_eq!(world.replays_of(&format!("e{n}")).await, ["pending"]);
    }
}

#[tokio::test]
async fn a_step_that_was_made_is_not_made_again() {
    let world = World::with(5).await;
    let job_id = ReplayJobId::new(world.make(json!({})).await);
    let merchant_id = MerchantId::new("ms");
    let read = async || {
        world
            .store()
            .replay_job(&merchant_id, &job_id)
            .await
            .unwrap()
    };
    let job = read().await.unwrap();
    let first = try_to_go_on(world.store(), job.clone(), 3, world.now())
        .await
        .unwrap();
    assert_eq!((first.replayed, first.goes_on), (3, false));
    let again = try_to_go_on(world.store(), job.clone(), 3, world.now()).await;
    assert_eq!(again.err().unwrap().kind, DbErrorKind::Stale);
    // Even with a cursor that was put back, the same deliveries are the same rows.
    let behind = Job {
        cursor: read().await.unwrap().cursor,
        ..job.clone()
    };
    let endpoints = world.store().endpoints(&merchant_id).await.unwrap();
    let definition = Arc::new(job.definition.clone());
    let page = world
        .store()
        .replay_candidates(&merchant_id, definition, (0, job.last_position), LOOKS)
        .await
        .unwrap();
    let step = replay::step(&job, &endpoints[0], &page, 5);
    assert_eq!(step.deliveries.len(), 5);
    world
        .store()
        .replay_step(behind, step, world.now())
        .await
        .unwrap();
    for n in 1..=5 {
        assert_eq!(world.replays_of(&format!("e{n}")).await, ["pending"]);
    }
}

#[tokio::test]
async fn a_second_job_replays_the_same_events_again() {
    let mut world = World::with(4).await;
    for _ in 0..2 {
        let job = world.make(json!({ "rate": 1_000 })).await;
        world.pass(&job, 200).await;
        world.arrive().await;
        let shown = world.show(&job).await;
        assert!(
            shown.starts_with("4 of 4 replayed") && shown.contains("4 delivered"),
            "{shown}"
        );
    }
    assert_eq!(world.replays_of("e1").await, ["delivered", "delivered"]);
}

#[tokio::test]
async fn what_is_not_for_the_endpoint_or_arrived_meanwhile_is_skipped() {
    let mut world = World::with(2).await;
    world.born("f", 2, EventName::OrderFailed).await;
    world.born("s", 3, EventName::OrderSucceeded).await;
    let states = ["withheld", "pending"];
    let job = world.make(json!({ "states": states, "rate": 1_000 })).await;
    world.api.api.clock.advance(Duration::from_secs(1));
    assert_eq!(world.arrive().await.len(), 5);
    let settings = json!({ "webhook_version": "2016-10-27", "events": { "ORDER_FAILED": false } });
    let path = format!("PATCH /endpoints/{}", world.endpoint_id);
    world.api.merchant(&path, &settings.to_string()).await;
    insta::assert_snapshot!(world.pass(&job, 100).await, @r"
    0 of 7 replayed, 2+0+5+0 skipped, 0 delivered, 0 s left, finished
    ");
}

#[tokio::test]
async fn a_job_whose_endpoint_is_deleted_is_cancelled() {
    let mut world = World::with(3).await;
    let job = world.make(json!({ "rate": 1 })).await;
    world.pass(&job, 1_000).await;
    world
        .api
        .merchant(&format!("DELETE /endpoints/{}", world.endpoint_id), "")
        .await;
    insta::assert_snapshot!(world.pass(&job, 2_000).await, @r"
    1 of 3 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, cancelled
    ");
    let shown = world.api.merchant(&format!("GET /replays/{job}"), "").await;
    assert_eq!(
        shown.json()["reason"],
        "the endpoint that the events go to was deleted"
    );
}

#[tokio::test]
async fn what_one_endpoint_never_got_goes_to_another() {
    let mut world = World::with(2).await;
    let other = world
        .api
        .merchant("POST /endpoints", &OLD.replace("2016-10-27", ""))
        .await
        .json();
    world
        .api
        .merchant(&format!("DELETE /endpoints/{}", world.endpoint_id), "")
        .await;
    let job = world
        .make(json!({ "to_endpoint_id": other["endpoint_id"], "rate": 1_000 }))
        .await;
    world.pass(&job, 100).await;
    world.endpoint_id = other["endpoint_id"].as_str().unwrap().to_owned();
    assert_eq!(world.arrive().await, ["e1", "e2"]);
    insta::assert_snapshot!(world.show(&job).await, @r"
    2 of 2 replayed, 0+0+0+0 skipped, 2 delivered, 0 s left, finished
    ");
}

#[tokio::test]
async fn a_short_look_says_that_there_may_be_more() {
    let world = World::with(3).await;
    let (merchant_id, now) = (MerchantId::new("ms"), world.now());
    let endpoint_id = EndpointId::new(world.endpoint_id.as_str());
    let to = world.store().endpoint(&merchant_id, &endpoint_id);
    let to = to.await.unwrap().unwrap().endpoint;
    let last = world.store().last_position(&merchant_id).await.unwrap();
    let definition = Definition {
        endpoint_id: endpoint_id.clone(),
        to_endpoint_id: endpoint_id,
        event_names: Default::default(),
        states: Standing::LOST.into(),
        from: None,
        to: None,
        rate: 1,
    };
    let look = async |how_far| {
        let survey = survey(
            world.store(),
            &merchant_id,
            &definition,
            &to,
            (last, now, how_far),
        );
        let survey = survey.await.unwrap();
        (survey.matched, survey.is_partial)
    };
    assert_eq!(look(Look::At(2)).await, (2, true));
    assert_eq!(look(Look::At(3)).await, (3, false));
    assert_eq!(look(Look::Whole).await, (3, false));
}

#[tokio::test]
async fn a_needle_is_found_in_any_haystack() {
    let mut world = World::with(0).await;
    world.born("s", 3_000, EventName::OrderSucceeded).await;
    world.born("f", 1, EventName::OrderFailed).await;
    let asked = json!({ "states": ["pending"], "event_names": ["ORDER_FAILED"], "rate": 10 });
    let job = world.make(asked).await;
    insta::assert_snapshot!(world.pass(&job, 100).await, @r"
    1 of 1 replayed, 0+0+0+0 skipped, 0 delivered, 0 s left, finished
    ");
    assert_eq!(world.replays_of("f1").await, ["pending"]);
}

#[tokio::test]
async fn what_has_lost_its_body_by_its_turn_is_passed_over() {
    let mut world = World::with(30).await;
    let job = world.make(json!({ "rate": 10 })).await;
    world.pass(&job, 1_100).await;
    // The first 11 are to be sent again, so nine lose theirs.
    let dropped = world.store().forget(Kept::Bodies, vec![1..=20]).await;
    assert_eq!(dropped.unwrap(), 9);
    insta::assert_snapshot!(world.pass(&job, 2_000).await, @r"
    21 of 30 replayed, 0+0+0+9 skipped, 0 delivered, 0 s left, finished
    ");
    assert_eq!(world.arrive().await.len(), 21);
}
