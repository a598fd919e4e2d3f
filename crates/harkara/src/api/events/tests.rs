use super::*;
use crate::store::{Evidence, Kept};
use crate::testing::World;

#[test]
fn a_cursor_is_what_was_handed_out() {
    for position in [0, 1, 4096, i64::MAX] {
        assert_eq!(read_cursor(&cursor(position)).unwrap(), position);
    }
    for text in ["", "7", "c", "c-1", "cg", "c+1 "] {
        assert!(read_cursor(text).is_err(), "{text}");
    }
}

#[test]
fn an_attempt_speaks_with_the_cores_sentences() {
    let row = |status, failure: Option<&str>| AttemptRow {
        started_at: Timestamp::default(),
        duration_us: 1,
        status,
        failure: failure.map(str::to_owned),
        evidence: Evidence::default(),
    };
    let rows = [
        row(Some(200), None),
        row(Some(204), None),
        row(None, Some("TLS_TIMEOUT")),
        row(None, Some("A_CODE_OF_TOMORROW")),
    ];
    let table: String = rows
        .iter()
        .map(|row| outcome(row, SuccessRule::Only200))
        .map(|(code, sentence)| format!("{code}: {sentence}\n"))
        .collect();
    insta::assert_snapshot!(table, @r"
    HTTP_200: the receiver answered 200
    HTTP_204: the receiver answered 204; only 200 counts
    TLS_TIMEOUT: the receiver did not finish the TLS handshake in time
    INTERNAL: the call could not be made for a reason on our side; it is retried
    ");
}

const NEW: &str =
    r#"{"url":"https://shop.example.com/hook","username":"shop","webhook_version":"2016-10-27"}"#;

fn sent(id: &str, name: &str, content: &str) -> String {
    format!(r#"{{"merchant_id":"ms","id":"{id}","event_name":"{name}","content":{content}}}"#)
}

#[tokio::test]
async fn the_feed_is_read_page_by_page_and_filtered() {
    let world = World::new().await;
    for (id, order_id) in [("e1", "a"), ("e2", "b"), ("e3", "a")] {
        let content = format!(r#"{{"order":{{"order_id":"{order_id}"}}}}"#);
        world
            .platform("POST /events", &sent(id, "ORDER_SUCCEEDED", &content))
            .await;
    }
    let ids = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap().iter();
        events
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world
        .merchant("GET /events?limit=2&bodies=true", "")
        .await
        .json();
    assert_eq!(ids(&first), ["e1", "e2"]);
    assert_eq!(
        first["events"][0]["body"]["content"]["order"]["order_id"],
        "a"
    );
    let after = first["cursor"].as_str().unwrap();
    let second = world
        .merchant(&format!("GET /events?after={after}"), "")
        .await
        .json();
    assert_eq!(ids(&second), ["e3"]);
    let after = second["cursor"].as_str().unwrap();
    let end = world
        .merchant(&format!("GET /events?after={after}"), "")
        .await
        .json();
    assert_eq!((ids(&end), &end["cursor"]), (Vec::new(), &second["cursor"]));

    let of_a = world
        .merchant("GET /events?order_id=A&notified=false", "")
        .await
        .json();
    assert_eq!(ids(&of_a), ["e1", "e3"]);
    let none = world
        .platform("GET /events?merchant_id=ms&event_name=ORDER_FAILED", "")
        .await;
    assert_eq!(ids(&none.json()), [""; 0]);
    let refusals = [
        world.merchant("GET /events?since=1", "").await.refusal(),
        world.merchant("GET /events?after=1", "").await.refusal(),
        world
            .merchant("GET /events?order_id=a&mandate_id=b", "")
            .await
            .refusal(),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    400 "invalid_request": "since: is unknown here; expected one of after, limit, event_name, order_id, mandate_id, notified, bodies, merchant_id"
    400 "invalid_request": "after: is no cursor; hand back the one of an earlier answer, or nothing"
    400 "invalid_request": "mandate_id: cannot be asked for together with order_id"
    "#);
}

#[tokio::test]
async fn explain_says_why_and_resend_sends_what_an_upgrade_lets_through() {
    let world = World::new().await;
    let endpoint = world.merchant("POST /endpoints", NEW).await.json();
    let path = format!("/endpoints/{}", endpoint["endpoint_id"].as_str().unwrap());
    let txn = sent("e1", "TXN_CHARGED", r#"{"txn":{"order_id":"a"}}"#);
    let stored = world.platform("POST /events", &txn).await;
    assert_eq!(stored.json()["deliveries"], 0, "{}", stored.text);
    world
        .merchant("POST /endpoints", &NEW.replace("shop.", "late."))
        .await;

    let facts = async || {
        let explained = world.merchant("GET /events/e1/explain", "").await.json();
        let endpoints = explained["endpoints"].as_array().unwrap().iter();
        let lines = endpoints.flat_map(|one| one["facts"].as_array().unwrap().clone());
        lines
            .map(|line| line.as_str().unwrap().to_owned() + "\n")
            .collect::<String>()
    };
    insta::assert_snapshot!(facts().await, @r"
    TXN_CHARGED was derived from a report of the platform's own ledger at 2023-08-10T07:00:48Z
    withheld: TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2016-10-27
    planned before this endpoint existed; it was made at 2023-08-10T07:00:48Z, and a resend to it is possible
    ");

    let withheld = world.merchant("POST /events/e1/resend", "").await;
    assert_eq!(withheld.status, 202);
    assert!(
        withheld.json()["deliveries"][0]["withheld"].is_string(),
        "{}",
        withheld.text
    );
    world
        .merchant(&format!("PATCH {path}"), r#"{"webhook_version":""}"#)
        .await;
    world.api.clock.advance(std::time::Duration::from_secs(1));
    let resent = world.merchant("POST /events/e1/resend", "").await.json();
    assert!(resent["deliveries"][0]["withheld"].is_null());
    let deliveries = world.merchant("GET /events/e1/deliveries", "").await.json();
    let rows = deliveries["deliveries"].as_array().unwrap().iter();
    let table: String = rows
        .map(|row| format!("{} {}\n", row["kind"], row["state"]))
        .collect();
    insta::assert_snapshot!(table, @r#"
    "event" "withheld"
    "replay" "withheld"
    "replay" "pending"
    "#);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let paths = [
        "GET /events/e",
        "GET /events/e/explain",
        "POST /events/e/resend",
        "GET /deliveries/d/attempts",
    ];
    for path in paths {
        assert_eq!(world.merchant(path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_orders_events_are_resent_in_their_sequence() {
    let world = World::new().await;
    let endpoint = world.merchant("POST /endpoints", NEW).await.json();
    let endpoint_id = endpoint["endpoint_id"].as_str().unwrap();
    let order = r#"{"order":{"order_id":"A"}}"#;
    let txn = r#"{"txn":{"order_id":"a"}}"#;
    let other = r#"{"order":{"order_id":"b"}}"#;
    for (id, name, content) in [
        ("e1", "TXN_CHARGED", txn),
        ("e2", "ORDER_SUCCEEDED", order),
        ("e3", "ORDER_SUCCEEDED", other),
        ("e4", "ORDER_REFUNDED", order),
    ] {
        let stored = world
            .platform("POST /events", &sent(id, name, content))
            .await;
        assert_eq!(stored.status, 201, "{}", stored.text);
    }
    let show = |reply: &crate::testing::Reply| {
        let json = reply.json();
        let events = json["events"].as_array().unwrap().iter();
        let lines = events.map(|event| {
            let deliveries = event["deliveries"].as_array().unwrap().iter();
            let withheld: Vec<&Value> = deliveries.map(|one| &one["withheld"]).collect();
            let (sequence, name) = (&event["sequence"], &event["event_name"]);
            format!("{sequence} {} {name} {withheld:?}\n", event["event_id"])
        });
        lines.collect::<String>()
    };
    let all = world.merchant("POST /orders/a/resend", "").await;
    assert_eq!(all.status, 202, "{}", all.text);
    insta::assert_snapshot!(show(&all), @r#"
    1 "e1" "TXN_CHARGED" [String("TXN_CHARGED needs ≥ 2020-10-31, endpoint has 2016-10-27")]
    2 "e2" "ORDER_SUCCEEDED" [Null]
    3 "e4" "ORDER_REFUNDED" [Null]
    "#);
    let named = format!(r#"{{"endpoint_id":"{endpoint_id}"}}"#);
    let to_one = world.merchant("POST /orders/A/resend", &named).await;
    assert_eq!(show(&to_one), show(&all));
    let deliveries = world.merchant("GET /events/e2/deliveries", "").await.json();
    assert_eq!(deliveries["deliveries"].as_array().unwrap().len(), 3);

    world
        .merchant(&format!("POST /endpoints/{endpoint_id}/pause"), "")
        .await;
    let refusals = [
        world.merchant("POST /orders/a/resend", "").await.refusal(),
        world
            .merchant("POST /orders/none/resend", "")
            .await
            .refusal(),
        world
            .merchant("POST /orders/a/resend", r#"{"endpoint_id":"ep_none"}"#)
            .await
            .refusal(),
        world
            .merchant("POST /orders/a/resend", r#"{"to":"ep_none"}"#)
            .await
            .refusal(),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    422 "resend.nobody": "no active endpoint was meant to have any event of this order; name one with endpoint_id"
    404 "order.not_found": "there is no such order"
    404 "endpoint.not_found": "there is no endpoint 'ep_none'"
    400 "invalid_request": "to: is unknown here; expected endpoint_id"
    "#);
}

#[tokio::test]
async fn a_delivery_tells_which_job_made_it() {
    let world = World::new().await;
    let endpoint = world.merchant("POST /endpoints", NEW).await.json();
    let endpoint_id = endpoint["endpoint_id"].as_str().unwrap();
    let txn = sent("e1", "TXN_CHARGED", r#"{"txn":{"order_id":"a"}}"#);
    world.platform("POST /events", &txn).await;
    let path = format!("PATCH /endpoints/{endpoint_id}");
    world.merchant(&path, r#"{"webhook_version":""}"#).await;
    let asked = format!(r#"{{"endpoint_id":"{endpoint_id}"}}"#);
    let job = world.merchant("POST /replays", &asked).await.json()["job_id"].clone();
    // In the same millisecond, by hand.
    world.merchant("POST /events/e1/resend", "").await;
    let bound = crate::deliver::inbox::InboxBound {
        deliveries: 0,
        bytes: 0,
        lease: std::time::Duration::ZERO,
    };
    let (inbox, _) = crate::deliver::inbox::Inbox::new(bound);
    let mut runner = crate::replay::Runner::new(world.api.store.clone(), inbox);
    for seconds in 0..2 {
        let later = std::time::Duration::from_secs(seconds);
        runner.turn(world.api.clock.now().plus(later)).await;
    }
    let shown = world.merchant("GET /events/e1/deliveries", "").await.json();
    let rows = shown["deliveries"].as_array().unwrap().iter();
    let jobs: Vec<Value> = rows.map(|row| row["replay_job_id"].clone()).collect();
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs.iter().filter(|shown| **shown == job).count(), 1);
    assert_eq!(jobs.iter().filter(|shown| shown.is_null()).count(), 2);
    let explained = world.merchant("GET /events/e1/explain", "").await.text;
    let fact = format!("asked for again by replay job {}", job.as_str().unwrap());
    assert_eq!(explained.matches(&fact).count(), 1, "{explained}");
}

#[tokio::test]
async fn what_is_kept_no_longer_is_told_as_such() {
    let world = World::new().await;
    world.merchant("POST /endpoints", NEW).await;
    for (id, order_id) in [("e1", "a"), ("e2", "b"), ("e3", "c")] {
        let content = format!(r#"{{"txn":{{"order_id":"{order_id}"}}}}"#);
        let sent = sent(id, "TXN_CHARGED", &content);
        assert_eq!(world.platform("POST /events", &sent).await.status, 201);
    }
    let forget = async |kept, run| world.api.store.forget(kept, vec![run]).await.unwrap();
    let mut report = String::new();
    let mut ask = async |request: &str| {
        let reply = world.merchant(request, "").await;
        let said = match reply.status.is_success() {
            true => format!("body_gone: {}", reply.json()["body_gone"]),
            false => reply.refusal(),
        };
        report += &format!("{request}\n  {said}\n");
    };
    assert_eq!(forget(Kept::Bodies, 1..=2).await, 2);
    ask("GET /events/e1").await;
    ask("GET /events/e3").await;
    ask("GET /events/e1/explain").await;
    ask("POST /events/e1/resend").await;
    ask("POST /orders/a/resend").await;
    assert_eq!(forget(Kept::Events, 1..=1).await, 1);
    ask("GET /events/e1").await;
    ask("GET /events?after=c0").await;
    ask("GET /events?after=c1").await;
    ask("GET /events").await;
    insta::assert_snapshot!(report, @r#"
    GET /events/e1
      body_gone: true
    GET /events/e3
      body_gone: null
    GET /events/e1/explain
      body_gone: true
    POST /events/e1/resend
      410 "event.body_gone": "there is nothing to send any more: bodies are kept for 90 days, and this event is older"
    POST /orders/a/resend
      410 "event.body_gone": "there is nothing to send any more: bodies are kept for 90 days, and each event of this order is older"
    GET /events/e1
      404 "event.not_found": "there is no event 'e1'; events are kept for 400 days"
    GET /events?after=c0
      410 "cursor.too_old": "events that came after this cursor are gone, for they are kept for 400 days; begin again without `after`, and read what became of older orders from GET /orders"
    GET /events?after=c1
      body_gone: null
    GET /events
      body_gone: null
    "#);
}
