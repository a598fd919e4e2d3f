//! What the pages show and do: payments that were not told first, orders by whatever one holds of them,
//! each attempt with its reason, settings with every error in its place.

use std::time::Duration;

use harkara_core::access::Role;
use harkara_core::delivery::Verdict;
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use super::{Browser, endpoint};
use crate::store::{AttemptRow, ClaimAsk, Claimed, Evidence, HealthWrite, Kept, Pick, Settle};
use crate::testing::World;

const ROOT: &str = "/dashboard/merchants/ms";

fn ms() -> MerchantId {
    MerchantId::new("ms")
}

/// An order that is paid, as `POST /orders`, `/txns` and the gateway's word make it.
async fn paid(world: &World, order_id: &str, amount: &str) -> String {
    let order = format!(
        "order_id={order_id}&amount={amount}&customer_id=cust-{order_id}\
        &customer_email=asha%40example.com&customer_phone=9999999999"
    );
    let made = world.merchant("POST /orders", &order).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let txn =
        format!("order_id={order_id}&payment_method_type=NB&format=json&dummy_outcome=PENDING");
    let txn = world.merchant("POST /txns", &txn).await;
    assert_eq!(txn.status, 200, "{}", txn.text);
    let txn_uuid = txn.json()["txn_uuid"].as_str().unwrap().to_owned();
    let path = format!("POST /outcomes/txns/{txn_uuid}");
    let charged = world
        .platform(&path, r#"{"merchant_id":"ms","status":"CHARGED"}"#)
        .await;
    assert_eq!(charged.status, 200, "{}", charged.text);
    txn_uuid
}

/// Claims everything that is due and answers it so, once the claims that it was born with have ended.
async fn answer_all(world: &World, endpoint_id: &EndpointId, status: u16) {
    world.api.clock.advance(Duration::from_secs(61));
    for _ in 0..10 {
        let now = world.api.clock.now();
        let ask = ClaimAsk {
            merchant_id: ms(),
            endpoint_id: endpoint_id.clone(),
            limit: 100,
            pick: Pick::FreshFirst,
            now,
            lease_until: now.plus(Duration::from_secs(30)),
        };
        for claimed in world.api.store.claim(ask).await.unwrap() {
            settle(world, &claimed, status, now).await;
        }
        world.api.clock.advance(Duration::from_millis(10));
    }
}

async fn settle(world: &World, claimed: &Claimed, status: u16, now: Timestamp) {
    let verdict = match status {
        200 => Verdict::Delivered,
        _ => Verdict::RetryAt(now.plus(Duration::from_secs(3600))),
    };
    let settle = Settle {
        merchant_id: claimed.merchant_id.clone(),
        delivery_id: claimed.delivery_id.clone(),
        endpoint_id: claimed.endpoint_id.clone(),
        subject: claimed.subject.clone(),
        fence: claimed.fence,
        attempt: AttemptRow {
            started_at: now,
            duration_us: 12_345,
            status: Some(status),
            failure: None,
            evidence: Evidence {
                url: "https://shop.example.com/hook".to_owned(),
                dns_us: Some(1_000),
                first_byte_us: Some(9_000),
                answer_headers: vec![("server".to_owned(), "<b>nginx</b>".to_owned())],
                answer_body: "<script>alert(1)</script>\u{202e}".to_owned(),
                ..Evidence::default()
            },
        },
        verdict,
        health: HealthWrite::Keep,
        stop: None,
        told: None,
        now: now.plus(Duration::from_millis(12)),
        lease_until: None,
        is_again: false,
    };
    world.api.store.settle(settle).await.unwrap();
}

/// The text of a page without its tags, blanks put together.
pub(super) fn read(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        text.push(' ');
        text.push_str(piece.split_once('>').map_or(piece, |(_, after)| after));
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_is_paid_and_not_told_comes_first() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let calm = support.get(ROOT).await;
    assert!(
        read(&calm.text).contains("was not told None"),
        "{}",
        read(&calm.text)
    );

    paid(&world, "first", "1234567.50").await;
    world.api.clock.advance(Duration::from_secs(3700));
    paid(&world, "second", "10").await;
    world.api.clock.advance(Duration::from_secs(3));
    let support = Browser::of(&world, "ms", Role::Support).await;
    let alarm = read(&support.get(ROOT).await.text);
    assert!(alarm.contains("2 orders INR 12,34,577.50"), "{alarm}");
    assert!(
        alarm.contains("The oldest, first , for 1 h 1 min"),
        "{alarm}"
    );

    answer_all(&world, &endpoint_id, 200).await;
    world.api.clock.advance(Duration::from_secs(3));
    let told = read(&support.get(ROOT).await.text);
    assert!(told.contains("was not told None"), "{told}");
    assert!(told.contains("Delivered 6"), "{told}");
}

#[tokio::test]
async fn an_order_is_found_by_whatever_one_holds_of_it() {
    let world = World::new().await;
    endpoint(&world, "").await;
    let txn_uuid = paid(&world, "Ord-1", "8").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let order = world.merchant("GET /orders/Ord-1", "").await.json();
    let txn_id = order["txn_id"].as_str().unwrap().to_owned();
    let events = world
        .merchant("GET /events?order_id=Ord-1", "")
        .await
        .json();
    let event_id = events["events"][0]["event_id"].as_str().unwrap().to_owned();
    let at_order = format!("{ROOT}/orders/Ord-1");
    let at_event = format!("{ROOT}/events/{event_id}");
    for (search, expected) in [
        ("Ord-1", &at_order),
        ("ord-1", &at_order),
        (txn_id.as_str(), &at_order),
        (txn_uuid.as_str(), &at_order),
        (event_id.as_str(), &at_event),
    ] {
        let found = support.get(&format!("{ROOT}/orders?search={search}")).await;
        assert_eq!(found.location(), expected, "{search}");
    }
    let of_customer = support
        .get(&format!("{ROOT}/orders?search=cust-Ord-1"))
        .await;
    assert_eq!(of_customer.status, 200);
    assert!(of_customer.text.contains("/orders/Ord-1"));
    let nobody = support.get(&format!("{ROOT}/orders?search=cust-2")).await;
    assert!(
        read(&nobody.text).contains("No such orders"),
        "{}",
        nobody.text
    );
}

#[tokio::test]
async fn orders_are_filtered_by_whether_they_are_notified_and_by_status() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    paid(&world, "told", "8").await;
    answer_all(&world, &endpoint_id, 200).await;
    paid(&world, "untold", "8").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let listed = async |query: &str| {
        let text = support.get(&format!("{ROOT}/orders?{query}")).await.text;
        let has = |id: &str| text.contains(&format!("/orders/{id}\""));
        (has("told"), has("untold"))
    };
    assert_eq!(listed("").await, (true, true));
    assert_eq!(listed("notified=false").await, (false, true));
    assert_eq!(listed("notified=true").await, (true, false));
    assert_eq!(listed("status=CHARGED&notified=false").await, (false, true));
    assert_eq!(listed("status=REFUNDED").await, (false, false));
    assert_eq!(listed("status=paid").await, (true, true));
    assert_eq!(listed("status=paid&notified=false").await, (false, true));
    assert_eq!(
        listed("from=2023-08-10&until=2023-08-10").await,
        (true, true)
    );
    assert_eq!(listed("until=2023-08-09").await, (false, false));
    let wrong = support.get(&format!("{ROOT}/orders?from=yesterday")).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("write a day as"), "{}", wrong.text);
}

#[tokio::test]
async fn an_event_tells_how_each_attempt_went_and_what_came_back_is_only_text() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    paid(&world, "o", "8").await;
    answer_all(&world, &endpoint_id, 500).await;
    let developer = Browser::of(&world, "ms", Role::Developer).await;
    let events = world.merchant("GET /events?order_id=o", "").await.json();
    let id = |n: usize| events["events"][n]["event_id"].as_str().unwrap().to_owned();
    let page = developer.get(&format!("{ROOT}/events/{}", id(1))).await;
    let text = read(&page.text);
    for told in [
        "HTTP_500",
        "the receiver answered 500",
        "Next try",
        "1.000 ms",
        "9.000 ms",
        "asha@example.com",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert!(page.text.contains("<svg"), "the waterfall is drawn");
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
    assert!(page.text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.text.contains("U+202E") && page.text.contains("&lt;b&gt;nginx"));

    let other = developer
        .get(&format!("{ROOT}/events/{}?other={}", id(1), id(2)))
        .await;
    assert!(
        read(&other.text).contains("What differs"),
        "{}",
        read(&other.text)
    );
    for differs in ["event_name", "id"] {
        let row = format!("<td><code>{differs}</code></td>");
        assert!(other.text.contains(&row), "{differs}");
    }
    let same = "<td><code>date_created</code></td>";
    assert!(!other.text.contains(same));
    assert!(
        other
            .text
            .contains("curl -X POST 'https://shop.example.com/hook'")
    );
    let none = developer
        .get(&format!("{ROOT}/events/{}?other=x", id(1)))
        .await;
    assert!(none.text.contains("There is no such event,"));

    let support = Browser::of(&world, "ms", Role::Support).await;
    for path in [
        format!("{ROOT}/events/{}", id(1)),
        format!("{ROOT}/orders/o"),
    ] {
        let masked = support.get(&path).await;
        assert_eq!(masked.status, 200);
        for secret in [
            "asha@example.com",
            "9999999999",
            "cust-o",
            "alert(1)",
            "nginx",
        ] {
            assert!(!masked.text.contains(secret), "{secret} on {path}");
        }
        assert!(masked.text.contains("FILTERED"), "{path}");
    }
}

#[tokio::test]
async fn an_order_says_why_and_is_sent_again() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    paid(&world, "o", "8").await;
    answer_all(&world, &endpoint_id, 500).await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let page = support.get(&format!("{ROOT}/orders/o")).await;
    let text = read(&page.text);
    assert!(
        text.contains("notified: False") && text.contains("retrying"),
        "{text}"
    );
    assert!(text.contains("the receiver answered 500"), "{text}");
    let sent = support.post(&format!("{ROOT}/orders/o/resend"), "").await;
    assert_eq!(sent.location(), format!("{ROOT}/orders/o?done=resent"));
    answer_all(&world, &endpoint_id, 200).await;
    let told = read(&support.get(&format!("{ROOT}/orders/o")).await.text);
    assert!(told.contains("notified: True"), "{told}");
    let audit = world.api.store.audit(Some(&ms()), None, 10).await.unwrap();
    assert_eq!(audit[0].entry.action, "resent an order");
    let unknown = support
        .post(&format!("{ROOT}/orders/nothing/resend"), "")
        .await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn an_order_of_many_events_says_that_there_are_more() {
    let world = World::new().await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let publish = async |n: usize| {
        let event = format!(
            r#"{{"merchant_id":"ms","id":"e{n}","event_name":"ORDER_SUCCEEDED",
                "content":{{"order":{{"order_id":"o1","status":"CHARGED"}}}}}}"#
        );
        assert_eq!(world.platform("POST /events", &event).await.status, 201);
    };
    for n in 0..50 {
        publish(n).await;
    }
    let path = format!("{ROOT}/orders/o1");
    let all = support.get(&path).await.text;
    assert!(all.contains("/events/e49\"") && !all.contains("its first 50 events"));
    publish(50).await;
    let more = support.get(&path).await.text;
    assert!(!more.contains("/events/e50\"") && more.contains("its first 50 events"));
}

#[tokio::test]
async fn what_has_lost_its_body_is_still_explained_and_is_not_sent_again() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    paid(&world, "o", "8").await;
    answer_all(&world, &endpoint_id, 200).await;
    let events = world.merchant("GET /events?order_id=o", "").await.json();
    let event_id = events["events"][1]["event_id"].as_str().unwrap();
    let dropped = world.api.store.forget(Kept::Bodies, vec![1..=9]).await;
    assert!(dropped.unwrap() > 0);
    let support = Browser::of(&world, "ms", Role::Support).await;
    let page = support.get(&format!("{ROOT}/events/{event_id}")).await;
    let text = read(&page.text);
    assert!(text.contains("the receiver answered 200"), "{text}");
    assert!(text.contains("Bodies are kept for 90 days"), "{text}");
    assert!(!text.contains("Resend"), "{text}");
    for what in [format!("events/{event_id}"), "orders/o".to_owned()] {
        let sent = support.post(&format!("{ROOT}/{what}/resend"), "").await;
        assert_eq!(sent.status, 410, "{what}");
    }
}

#[tokio::test]
async fn an_endpoint_is_made_changed_paused_and_deleted_by_forms() {
    let world = World::new().await;
    let developer = Browser::of(&world, "ms", Role::Developer).await;
    let form = "url=https%3A%2F%2Fshop.example.com%2Fhook&username=shop&webhook_version=2016-07-19\
        &ladder=day&success=only_200&order=hold&timeout_seconds=10&headers=x-shop%3A+1&signing=true";
    let made = developer.post(&format!("{ROOT}/webhooks/new"), form).await;
    assert_eq!(made.status, 201, "{}", read(&made.text));
    assert!(
        made.text.contains("whsec_"),
        "the signing secret is shown once"
    );
    let endpoint = world.merchant("GET /endpoints", "").await.json()["endpoints"][0].clone();
    assert_eq!(endpoint["webhook_version"], "2016-07-19");
    assert_eq!(endpoint["headers"]["x-shop"], "1");
    let here = format!(
        "{ROOT}/webhooks/{}",
        endpoint["endpoint_id"].as_str().unwrap()
    );
    let page = developer.get(&here).await;
    assert!(!page.text.contains("whsec_"), "and never again");

    let preview = form.replace("2016-07-19", "2020-10-31") + "&act=preview";
    let preview = developer.post(&here, &preview).await;
    let text = read(&preview.text);
    assert!(text.contains("From 2016-07-19 to 2020-10-31:"), "{text}");
    assert!(text.contains("adds TXN_CHARGED"), "{text}");
    let after = world.merchant("GET /endpoints", "").await.json()["endpoints"][0].clone();
    assert_eq!(
        after["webhook_version"], "2016-07-19",
        "nothing is saved by looking"
    );

    let changed = form.replace("2016-07-19", "2020-10-31").replace(
        "&signing=true",
        "&switch.TXN_CREATED=off&password=another-word&overlap_seconds=3600",
    );
    let saved = developer.post(&here, &changed).await;
    assert_eq!(
        saved.location(),
        format!("{here}?done=saved"),
        "{}",
        read(&saved.text)
    );
    let after = world.merchant("GET /endpoints", "").await.json()["endpoints"][0].clone();
    assert_eq!(after["webhook_version"], "2020-10-31");
    assert!(after["previous_credentials"]["until"].is_string());
    let audit = world.api.store.audit(Some(&ms()), None, 10).await.unwrap();
    let detail = &audit[0].entry.detail;
    assert!(
        detail.contains("version 2016-07-19 to 2020-10-31"),
        "{detail}"
    );
    assert!(detail.contains("TXN_CREATED default to off") && detail.contains("password"));
    assert!(!detail.contains("another-word"));

    for (act, form, word) in [
        ("pause", "reason=we+move", "paused"),
        ("resume", "waiting=send", "active"),
    ] {
        assert_eq!(
            developer.post(&format!("{here}/{act}"), form).await.status,
            303
        );
        let after = world.merchant("GET /endpoints", "").await.json();
        assert_eq!(after["endpoints"][0]["state"], word);
    }
    let tested = developer
        .post(&format!("{here}/test"), "event_name=TXN_CHARGED")
        .await;
    let event = developer.get(tested.location()).await;
    assert_eq!(event.status, 200);
    let text = read(&event.text);
    assert!(
        text.contains("TXN_CHARGED") && text.contains("The test is on its way"),
        "{text}"
    );
    assert_eq!(
        developer
            .post(&format!("{here}/signing/remove"), "")
            .await
            .status,
        303
    );
    let deleted = developer.post(&format!("{here}/delete"), "").await;
    assert_eq!(deleted.location(), format!("{ROOT}/webhooks?done=deleted"));
    assert_eq!(developer.get(&here).await.status, 404);
}

#[tokio::test]
async fn what_somebody_does_is_written_down_before_it_is_done_and_again_if_it_fails() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    let developer = Browser::of(&world, "ms", Role::Developer).await;
    let here = format!("{ROOT}/webhooks/{endpoint_id}");
    let long = "x".repeat(2_000);
    for (path, form, status) in [
        (format!("{here}/pause"), format!("reason={long}"), 400),
        (format!("{here}/pause"), "reason=we+move".to_owned(), 303),
        (format!("{here}/resume"), "waiting=withdraw".to_owned(), 303),
        (
            format!("{here}/test"),
            "event_name=ORDER_FAILED".to_owned(),
            303,
        ),
        (format!("{here}/test"), "event_name=NOTHING".to_owned(), 400),
        (format!("{ROOT}/orders/none/resend"), String::new(), 404),
    ] {
        let reply = developer.post(&path, &form).await;
        assert_eq!(reply.status, status, "{path} {}", read(&reply.text));
    }
    let rows = world.api.store.audit(Some(&ms()), None, 100).await.unwrap();
    let told = rows.iter().rev().map(|row| {
        let entry = &row.entry;
        let detail = entry.detail.replace(&long[..1_000], "x…");
        format!("{}: {} ({detail})\n", entry.action, entry.result)
    });
    insta::assert_snapshot!(told.collect::<String>(), @r"
    paused an endpoint: begun (x…)
    paused an endpoint: invalid_request (x…)
    paused an endpoint: begun (we move)
    resumed an endpoint: begun (what waited is withdrawn)
    sent a test: begun (ORDER_FAILED)
    resent an order: begun ()
    resent an order: order.not_found ()
    ");
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    let developer = Browser::of(&world, "ms", Role::Developer).await;
    let here = format!("{ROOT}/webhooks/{endpoint_id}");
    let good = [
        ("url", "https://shop.example.com/other"),
        ("username", "shop"),
        ("webhook_version", ""),
        ("ladder", "day"),
        ("success", "any_2xx"),
        ("order", "strict"),
        ("timeout_seconds", "7"),
    ];
    let sent = async |field: &str, value: &str| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, usual) in good {
            form.append_pair(name, if name == field { value } else { usual });
        }
        if good.iter().all(|(name, _)| *name != field) {
            form.append_pair(field, value);
        }
        developer.post(&here, &form.finish()).await
    };
    let table = [
        ("username", "sh@op"),
        ("url", "http://shop.example.com/"),
        ("url", "https://127.0.0.1/"),
        ("timeout_seconds", "soon"),
        ("timeout_seconds", "900"),
        ("rate_per_second", "0"),
        ("headers", "Host: x"),
        ("headers", "nonsense"),
        ("ca_pem", "no pem"),
        ("webhook_version", "tomorrow"),
    ];
    for (field, value) in table {
        let refused = sent(field, value).await;
        assert!(
            refused.status.is_client_error(),
            "{field} {value}: {}",
            refused.status
        );
        assert!(
            refused.text.contains("class=\"error\""),
            "{field} {value}: {}",
            read(&refused.text)
        );
        assert!(refused.text.contains("https://shop.example.com/other") || field == "url");
        assert!(refused.text.contains(value), "{field}: '{value}' is kept");
    }
    let saved = sent("username", "shop").await;
    assert_eq!(saved.status, 303, "{}", read(&saved.text));
    let stored = world.merchant("GET /endpoints", "").await.text;
    assert!(
        stored.contains("any_2xx") && !stored.contains("secret-word"),
        "{stored}"
    );
}

#[tokio::test]
async fn hostile_text_is_shown_as_text_wherever_it_stands() {
    let world = World::new().await;
    let hostile = "<img src=x onerror=alert(1)>\\u202e{{7*7}}\\\"'";
    let event = format!(
        r#"{{"merchant_id":"ms","id":"e1","event_name":"ORDER_SUCCEEDED",
            "content":{{"order":{{"order_id":"o1","status":"CHARGED","description":"{hostile}"}}}}}}"#
    );
    let sent = world.platform("POST /events", &event).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let owner = Browser::of(&world, "", Role::Owner).await;
    for path in ["", "/orders", "/orders/o1", "/events", "/events/e1"] {
        let page = owner.get(&format!("{ROOT}{path}")).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.text.contains("<img"), "{path}");
    }
    let page = owner
        .get(&format!(
            "{ROOT}/orders?search=%3Cimg+src%3Dx%3E&status=%22%3E%3Cb%3E"
        ))
        .await;
    assert!(!page.text.contains("<img") && !page.text.contains("\"><b>"));
}

#[tokio::test]
async fn the_overview_comes_again_when_something_has_changed() {
    let world = World::new().await;
    endpoint(&world, "").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let stream = support.listen(&format!("{ROOT}/live")).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert!(stream.text.starts_with("data: <section"), "{}", stream.text);
    assert!(stream.text.ends_with("\n\n"));
    world.api.clock.advance(Duration::from_secs(14 * 60));
    support.listen(&format!("{ROOT}/live")).await;
    world.api.clock.advance(Duration::from_secs(60));
    let out = support.get(&format!("{ROOT}/live")).await;
    assert_eq!(out.status, 303, "a stream keeps nobody signed in");
    let asks = [("accept", "text/html, text/event-stream")];
    let request = format!("GET {ROOT}/live");
    let nobody = world.with_headers(&request, "", &asks).await;
    assert_eq!((nobody.status.as_u16(), nobody.text.as_str()), (204, ""));
}

#[tokio::test]
async fn merchants_are_listed_a_page_at_a_time() {
    let world = World::new().await;
    for n in 0..101 {
        let new = format!(r#"{{"merchant_id":"shop-{n:03}"}}"#);
        assert_eq!(world.platform("POST /merchants", &new).await.status, 201);
    }
    let owner = Browser::of(&world, "", Role::Owner).await;
    let first = owner.get("/dashboard/merchants").await.text;
    assert!(first.contains("/merchants/ms\"") && first.contains("/merchants/shop-098\""));
    assert!(!first.contains("/merchants/shop-099\""));
    assert!(first.contains("?from=shop-099"), "{}", read(&first));
    let second = owner.get("/dashboard/merchants?from=shop-099").await.text;
    assert!(second.contains("/merchants/shop-099\"") && second.contains("/merchants/shop-100\""));
    assert!(!second.contains("?from="), "there is no more");
}

#[tokio::test]
async fn a_request_is_shown_as_it_was_signed_and_numbered_when_it_was_made() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    paid(&world, "o1", "8").await;
    answer_all(&world, &endpoint_id, 500).await;
    let signing = format!("POST /endpoints/{endpoint_id}/signing");
    assert_eq!(world.merchant(&signing, "{}").await.status, 201);
    world.api.clock.advance(Duration::from_secs(3600));
    answer_all(&world, &endpoint_id, 500).await;

    let events = world.merchant("GET /events?order_id=o1", "").await.json();
    let event_id = events["events"][1]["event_id"].as_str().unwrap();
    let deliveries = format!("GET /events/{event_id}/deliveries");
    let deliveries = world.merchant(&deliveries, "").await.json();
    let delivery = deliveries["deliveries"][0]["delivery_id"].as_str().unwrap();
    let attempts = format!("GET /deliveries/{delivery}/attempts");
    let attempts = world.merchant(&attempts, "").await.json();
    let mut table = String::new();
    for attempt in attempts["attempts"].as_array().unwrap() {
        for header in attempt["request"]["headers"].as_array().unwrap() {
            let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            if name.starts_with("harkara-attempt") || name.starts_with("webhook-") {
                table += &format!("{name}: {}\n", value.replace(event_id, "evt_1"));
            }
        }
    }
    insta::assert_snapshot!(table, @r"
    webhook-id: evt_1
    harkara-attempt: 1
    webhook-id: evt_1
    webhook-timestamp: 1691654570
    webhook-signature: v1,••••••••
    harkara-attempt: 2
    ");
    let developer = Browser::of(&world, "ms", Role::Developer).await;
    let page = developer.get(&format!("{ROOT}/events/{event_id}")).await;
    let shown = read(&page.text);
    assert!(
        shown.contains("Headers of the request Header Value host shop.example.com"),
        "{shown}"
    );
}
