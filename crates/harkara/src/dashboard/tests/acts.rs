//! What somebody has done on the pages: replays, tests, keys; and the catalogue that they are chosen
//! from.

use harkara_core::access::Role;
use harkara_core::id::MerchantId;
use harkara_webhook::EventName;
use http::StatusCode;
use serde_json::json;

use super::pages::read;
use super::{Browser, endpoint};
use crate::api::merchants::key_name;
use crate::testing::World;

const ROOT: &str = "/dashboard/merchants/ms";

/// Events that the endpoint's version is too old for.
async fn withheld(world: &World, count: usize) {
    for n in 1..=count {
        let event = json!({
            "merchant_id": "ms", "id": format!("e{n}"), "event_name": "TXN_CHARGED",
            "content": { "txn": { "order_id": format!("o{n}") } },
        });
        let stored = world.platform("POST /events", &event.to_string()).await;
        assert_eq!(stored.status, 201, "{}", stored.text);
    }
}

/// The value of the hidden field of this name.
fn hidden<'t>(page: &'t str, name: &str) -> &'t str {
    let field = format!("name=\"{name}\" value=\"");
    let (_, after) = page
        .split_once(&field)
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    after.split('"').next().unwrap()
}

#[tokio::test]
async fn a_replay_is_looked_at_then_begun_once_and_ended() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "2016-10-27").await;
    withheld(&world, 3).await;
    let path = format!("/endpoints/{endpoint_id}");
    world
        .merchant(&format!("PATCH {path}"), r#"{"webhook_version":""}"#)
        .await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let asked = format!("endpoint_id={endpoint_id}&states=withheld&rate=2");
    let looked = support.get(&format!("{ROOT}/recovery?{asked}")).await;
    let shown = read(&looked.text);
    assert!(shown.contains("What it would send 3 events"), "{shown}");
    assert!(shown.contains("2 a second, about 2 s"), "{shown}");
    assert!(shown.contains("No replays yet"), "nothing is made: {shown}");

    let form = format!("{asked}&key={}", hidden(&looked.text, "key"));
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let made = support.post(&format!("{ROOT}/recovery"), &form).await;
        assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.text);
        jobs.push(made.location().to_owned());
    }
    assert_eq!(jobs[0], jobs[1], "sent twice, made once");
    let job = &jobs[0];
    let mut table = String::new();
    for act in ["pause", "resume", "cancel", "pause"] {
        let reply = support.post(&format!("{job}/{act}"), "").await;
        let shown = read(&support.get(job).await.text);
        let (_, state) = shown.split_once("Progress ").unwrap();
        let state = state.split(' ').next().unwrap();
        table += &format!("{act:<6} {} {state}\n", reply.status.as_u16());
    }
    insta::assert_snapshot!(table, @r"
    pause  303 paused
    resume 303 running
    cancel 303 cancelled
    pause  303 cancelled
    ");
    let listed = read(&support.get(&format!("{ROOT}/recovery")).await.text);
    assert!(listed.contains("cancelled 0 of 3"), "{listed}");

    let live = job.replace("/recovery/", "/live/recovery/");
    let told = support.get(&live).await.text;
    assert!(told.starts_with("data: <section"), "{told}");
    assert!(told.ends_with("\n\nevent: over\ndata:\n\n"), "{told}");
    let page = support.get(job).await.text;
    assert!(page.contains("hx-sse:close=\"over\""), "{page}");
}

#[tokio::test]
async fn a_replay_that_cannot_be_says_why_and_keeps_what_was_typed() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    // Beside its field, or else above the form.
    let table = [
        (
            "states=exhausted&rate=many",
            "'many' is not a whole number",
            true,
        ),
        (
            "states=exhausted&rate=0",
            "must be 1 to 1000 events per second",
            true,
        ),
        ("rate=7", "are none: tick at least one", true),
        ("states=exhausted&from=yesterday", "is no moment", true),
        ("states=lost", "'lost' is none that there is", true),
        ("event_names=ORDER_EATEN", "'ORDER_EATEN' is none", true),
        (
            "states=exhausted&from=2026-11-29T10:00",
            "No event of this endpoint fits",
            false,
        ),
    ];
    for (asked, why, is_of_a_field) in table {
        let asked = format!("endpoint_id={endpoint_id}&{asked}");
        let looked = support.get(&format!("{ROOT}/recovery?{asked}")).await;
        let made = support.post(&format!("{ROOT}/recovery"), &asked).await;
        for reply in [looked, made] {
            assert!(reply.status.is_client_error(), "{asked}: {}", reply.status);
            let beside = match is_of_a_field {
                true => format!("<p class=\"error\">{why}"),
                false => format!("role=\"alert\">{why}"),
            };
            assert!(reply.text.contains(&beside), "{asked}: {}", reply.text);
            let has_rate = asked.split_once("rate=").map_or("", |(_, rate)| rate);
            let kept = format!("name=\"rate\" type=\"number\" value=\"{has_rate}\"");
            assert!(reply.text.contains(&kept), "{asked}: {}", reply.text);
        }
    }
    let foreign = support
        .get(&format!(
            "{ROOT}/recovery?endpoint_id=ep_none&states=pending"
        ))
        .await;
    assert_eq!(foreign.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_flow_is_sent_in_its_order_as_far_as_the_endpoint_hears_of_it() {
    let world = World::new().await;
    let endpoint_id = endpoint(&world, "2016-10-27").await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let form = format!("endpoint_id={endpoint_id}&flow=payment");
    let sent = support.post(&format!("{ROOT}/test"), &form).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.text);
    let shown = read(&support.get(sent.location()).await.text);
    assert!(shown.contains("TXN_CHARGED (needs ≥ 2020-10-31"), "{shown}");
    let (_, told) = shown.split_once("Timeline ").unwrap();
    let first = told.find("TXN_CREATED").unwrap();
    let second = told.find("ORDER_SUCCEEDED").unwrap();
    assert!(first < second, "{told}");
    assert!(told[first..second].contains("on its way"), "{told}");
    assert!(told[second..].contains("waiting"), "{told}");

    for (form, why) in [
        ("flow=eaten", "is none that there is"),
        ("event_name=ORDER_EATEN", "is none that there is"),
        ("flow=payment&endpoint_id=ep_none", "There is no endpoint"),
    ] {
        let refused = support.post(&format!("{ROOT}/test"), form).await;
        assert!(
            refused.status.is_client_error(),
            "{form}: {}",
            refused.status
        );
        assert!(
            read(&refused.text).contains(why),
            "{form}: {}",
            read(&refused.text)
        );
    }
    let pause = format!("POST /endpoints/{endpoint_id}/pause");
    world.merchant(&pause, "").await;
    let paused = support.post(&format!("{ROOT}/test"), &form).await;
    assert!(
        read(&paused.text).contains("The endpoint is not active"),
        "{}",
        paused.text
    );
    let single = format!("endpoint_id={endpoint_id}&event_name=TXN_CHARGED");
    let single = support.post(&format!("{ROOT}/test"), &single).await;
    assert!(single.location().contains("/events/"), "{}", single.text);
}

#[tokio::test]
async fn the_catalogue_has_each_event_with_its_fields_and_an_example() {
    let world = World::new().await;
    let support = Browser::of(&world, "ms", Role::Support).await;
    let list = support.get(&format!("{ROOT}/catalogue")).await.text;
    for name in EventName::ALL {
        assert!(list.contains(&format!("{ROOT}/catalogue/{name}")), "{name}");
        let page = support.get(&format!("{ROOT}/catalogue/{name}")).await;
        assert_eq!(page.status, 200, "{name}");
        let shown = read(&page.text);
        assert!(
            shown.contains(&format!("&quot;event_name&quot;: &quot;{name}&quot;")),
            "{shown}"
        );
        assert!(
            shown.contains("content.") && shown.contains("Schema"),
            "{shown}"
        );
        let schema = world.browser(&format!("GET /schemas/{name}"), "").await;
        assert_eq!(schema.json()["title"], name.as_str());
    }
    let none = support.get(&format!("{ROOT}/catalogue/ORDER_EATEN")).await;
    assert_eq!(none.status, 404);
}

#[tokio::test]
async fn a_key_is_shown_once_works_and_is_revoked() {
    let world = World::new().await;
    for (place, root, path) in [
        ("ms", ROOT, "GET /events"),
        ("", "/dashboard", "GET /merchants"),
    ] {
        let admin = Browser::of(&world, place, Role::Admin).await;
        let made = admin
            .post(&format!("{root}/keys"), "name=the+new+server")
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let (_, key) = made.text.split_once("id=\"key\">").unwrap();
        let key = key.split('<').next().unwrap();
        assert_eq!(world.with_key(path, key).await.status, 200);

        let page = admin.get(&format!("{root}/keys")).await;
        assert!(page.text.contains("the new server") && !page.text.contains(key));
        let keys = world
            .api
            .store
            .api_keys(&MerchantId::new(place))
            .await
            .unwrap();
        let made = keys.iter().find(|key| key_name(key) == "the new server");
        let key_id = &made.unwrap().key_id;
        let revoked = admin
            .post(&format!("{root}/keys/{key_id}/revoke"), "")
            .await;
        assert_eq!(revoked.status, StatusCode::SEE_OTHER, "{}", revoked.text);
        assert_eq!(world.with_key(path, key).await.status, 401);
        for (name, why) in [
            ("", "is needed"),
            ("name=first", "that of a key that works"),
        ] {
            admin.post(&format!("{root}/keys"), "name=first").await;
            let refused = admin.post(&format!("{root}/keys"), name).await;
            assert!(read(&refused.text).contains(why), "{}", refused.text);
        }
        let long = format!("name={}", "x".repeat(101));
        let long = admin.post(&format!("{root}/keys"), &long).await;
        assert!(
            read(&long.text).contains("longer than 100"),
            "{}",
            long.text
        );
    }
    let admin = Browser::of(&world, "ms", Role::Admin).await;
    let others = world
        .api
        .store
        .api_keys(&MerchantId::new(""))
        .await
        .unwrap();
    let foreign = format!("{ROOT}/keys/{}/revoke", others[0].key_id);
    assert_eq!(admin.post(&foreign, "").await.status, 404);
}
