//! The authorization matrix, generated from the list of routes: each page × each role × its own
//! merchant, another one, the platform × signed out. A page without a line here fails the test.

use harkara_core::access::Role;
use harkara_core::id::{EndpointId, MerchantId};

use super::super::gate::Route;
use super::super::routes::routes;
use super::{Browser, Reply, entry, link, person};
use crate::api::merchants::draft_key;
use crate::keys::OneTime;
use crate::testing::World;

/// Who is let in: at the platform, and at the merchant that the path names. Letters are roles (Owner,
/// Admin, Developer, Support, aUditor); `*` is whoever is signed in, whatever they are; `?` is anybody.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str)] = &[
    ("GET /dashboard/static/{file}", "?", "?"),
    ("GET /dashboard/sign-in", "?", "?"),
    ("POST /dashboard/sign-in", "?", "?"),
    ("GET /dashboard/welcome", "?", "?"),
    ("POST /dashboard/welcome", "?", "?"),
    ("GET /dashboard", "*", "*"),
    ("POST /dashboard/sign-out", "*", "*"),
    ("GET /dashboard/account", "*", "*"),
    ("POST /dashboard/account/password", "*", "*"),
    (
        "POST /dashboard/account/sessions/{session_id}/end",
        "*",
        "*",
    ),
    ("GET /dashboard/merchants", "OADS", ""),
    ("GET /dashboard/members", "OA", ""),
    ("POST /dashboard/members/invite", "OA", ""),
    ("POST /dashboard/members/{user_id}/role", "OA", ""),
    ("POST /dashboard/members/{user_id}/reset", "OA", ""),
    ("POST /dashboard/members/{user_id}/remove", "OA", ""),
    ("POST /dashboard/links/{hash}/withdraw", "OA", ""),
    ("GET /dashboard/keys", "OA", ""),
    ("POST /dashboard/keys", "OA", ""),
    ("POST /dashboard/keys/{key_id}/revoke", "OA", ""),
    ("GET /dashboard/system", "OAD", ""),
    ("GET /dashboard/audit", "OAU", ""),
    ("GET /dashboard/merchants/{merchant_id}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/events", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/orders", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/orders/{order_id}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/recovery", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/recovery/{job_id}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/live/test/{order_id}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/orders", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/orders/{order_id}", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/orders/{order_id}/resend", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/events", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/events/{event_id}", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/events/{event_id}/resend", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/recovery", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/recovery", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/recovery/{job_id}", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/recovery/{job_id}/pause", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/recovery/{job_id}/resume", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/recovery/{job_id}/cancel", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/test", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/test", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/test/{order_id}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/catalogue", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/catalogue/{event_name}", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/webhooks", "OADS", "OADS"),
    ("GET /dashboard/merchants/{merchant_id}/webhooks/new", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/new", "OAD", "OAD"),
    ("GET /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/test", "OADS", "OADS"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/pause", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/resume", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/delete", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/signing", "OAD", "OAD"),
    ("POST /dashboard/merchants/{merchant_id}/webhooks/{endpoint_id}/signing/remove", "OAD", "OAD"),
    ("GET /dashboard/merchants/{merchant_id}/members", "OA", "OA"),
    (
        "POST /dashboard/merchants/{merchant_id}/members/invite",
        "OA",
        "OA",
    ),
    (
        "POST /dashboard/merchants/{merchant_id}/members/{user_id}/role",
        "OA",
        "OA",
    ),
    (
        "POST /dashboard/merchants/{merchant_id}/members/{user_id}/reset",
        "OA",
        "OA",
    ),
    (
        "POST /dashboard/merchants/{merchant_id}/members/{user_id}/remove",
        "OA",
        "OA",
    ),
    (
        "POST /dashboard/merchants/{merchant_id}/links/{hash}/withdraw",
        "OA",
        "OA",
    ),
    ("GET /dashboard/merchants/{merchant_id}/keys", "OA", "OA"),
    ("POST /dashboard/merchants/{merchant_id}/keys", "OA", "OA"),
    ("POST /dashboard/merchants/{merchant_id}/keys/{key_id}/revoke", "OA", "OA"),
    ("GET /dashboard/merchants/{merchant_id}/audit", "OAU", "OAU"),
];

/// The line of a page.
fn expected(route: &Route) -> &'static (&'static str, &'static str, &'static str) {
    let name = format!("{} {}", route.method, route.path);
    let mut lines = EXPECTED.iter();
    let line = lines.find(|(known, _, _)| *known == name);
    line.unwrap_or_else(|| panic!("{name} has no line here: whom is it for?"))
}

fn letter(role: Role) -> char {
    match role {
        Role::Owner => 'O',
        Role::Admin => 'A',
        Role::Developer => 'D',
        Role::Support => 'S',
        Role::Auditor => 'U',
    }
}

fn lets_in(expected: &str, role: Role) -> bool {
    expected.contains(['?', '*', letter(role)])
}

/// Fills a path with things that are there, made anew where the page uses them up.
async fn filled(world: &World, path: &str, session_id: &str) -> String {
    if path == "/dashboard/welcome" {
        return welcome(world).await;
    }
    let place = if path.contains("{merchant_id}") {
        "ms"
    } else {
        ""
    };
    let mut filled = path
        .replace("{merchant_id}", "ms")
        .replace("{order_id}", "o1")
        .replace("{event_id}", "e1")
        .replace("{event_name}", "ORDER_SUCCEEDED")
        .replace("{session_id}", session_id)
        .replace(
            "{file}",
            super::super::assets::style().rsplit('/').next().unwrap(),
        );
    if filled.contains("{user_id}") {
        let name = format!("target-{}", crate::keys::random_id());
        let user_id = person(world, &name, place, Role::Support).await;
        filled = filled.replace("{user_id}", &user_id);
    }
    if filled.contains("{endpoint_id}") {
        filled = filled.replace("{endpoint_id}", &endpoint(world).await);
    }
    if filled.contains("{job_id}") {
        let jobs = world
            .api
            .store
            .replay_jobs(&MerchantId::new("ms"), None, 1)
            .await;
        filled = filled.replace("{job_id}", jobs.unwrap()[0].id.as_str());
    }
    if filled.contains("{key_id}") {
        let (_, key) = draft_key(&world.api, &MerchantId::new(place), "").unwrap();
        filled = filled.replace("{key_id}", &key.key_id);
        world.api.store.insert_api_key(key).await.unwrap();
    }
    if filled.contains("{hash}") {
        let hash = link(world, &OneTime::generate(), place, Role::Support).await;
        filled = filled.replace("{hash}", &hash);
    }
    filled
}

/// What a browser comes with by a link.
const WITH_TOKEN: &str = "token=0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// Makes the link of the token, if there is none.
async fn welcome(world: &World) -> String {
    let (_, token) = WITH_TOKEN.split_once('=').unwrap();
    let token = OneTime::parse(token).unwrap();
    if world.api.store.link(&token.hash()).await.unwrap().is_none() {
        link(world, &token, "", Role::Support).await;
    }
    format!("/dashboard/welcome?{WITH_TOKEN}")
}

/// Another endpoint of `ms`, which the page may delete.
async fn endpoint(world: &World) -> String {
    let endpoint_id = format!("ep_{}", crate::keys::random_id());
    let known = world.api.store.endpoint_rows(&MerchantId::new("ms")).await;
    let mut endpoint = known.unwrap().remove(0).endpoint;
    endpoint.endpoint_id = EndpointId::new(endpoint_id.as_str());
    world.api.store.put_endpoint(&endpoint, 0).await.unwrap();
    endpoint_id
}

/// A world with something on every page, and no stream that goes on.
async fn furnished() -> World {
    let world = World::new().await;
    let new = r#"{"url":"https://shop.example.com/hook","username":"shop"}"#;
    world.merchant("POST /endpoints", new).await;
    let event = r#"{"merchant_id":"ms","id":"e1","event_name":"ORDER_SUCCEEDED",
        "content":{"order":{"order_id":"o1"}}}"#;
    assert_eq!(world.platform("POST /events", event).await.status, 201);
    let endpoints = world.merchant("GET /endpoints", "").await.json();
    let replay = format!(
        r#"{{"endpoint_id":{},"states":["pending"]}}"#,
        endpoints["endpoints"][0]["endpoint_id"]
    );
    assert_eq!(world.merchant("POST /replays", &replay).await.status, 201);
    world.stop.send_replace(true);
    world
}

/// What a form has besides: enough to be understood where it is let in.
fn form_of(path: &str) -> &'static str {
    match path {
        "/dashboard/sign-in" => "name=nobody&password=nothing",
        "/dashboard/welcome" => WITH_TOKEN,
        path if path.ends_with("/role") || path.ends_with("/invite") => "role=support&name=new",
        _ => "",
    }
}

#[tokio::test]
async fn each_page_is_for_whom_it_says() {
    let world = furnished().await;
    world
        .platform("POST /merchants", r#"{"merchant_id":"other"}"#)
        .await;
    let routes = routes();
    assert_eq!(
        EXPECTED.len(),
        routes.len(),
        "a line for each page, and no other"
    );
    let mut wrong = Vec::new();
    for route in &routes {
        let (name, at_platform, at_own) = *expected(route);
        for role in Role::ALL {
            // Whoever is of another merchant is let in where anybody is.
            let at_other = if at_own == "?" || at_own == "*" {
                "*"
            } else {
                ""
            };
            for (place, allowed) in [("", at_platform), ("ms", at_own), ("other", at_other)] {
                let browser = Browser::of(&world, place, role).await;
                let path = filled(&world, route.path, &browser.session_id).await;
                let reply = match route.method.as_str() {
                    "GET" => browser.get(&path).await,
                    _ => browser.post(&path, form_of(route.path)).await,
                };
                let is_in = !is_kept_out(route.path, &reply);
                if is_in != lets_in(allowed, role) {
                    wrong.push(format!("{name} as {role:?} of '{place}': {}", reply.status));
                }
            }
        }
        let path = filled(&world, route.path, "ses_1").await;
        let reply = match route.method.as_str() {
            "GET" => world.browser(&format!("GET {path}"), "").await,
            _ => super::post(&world, &path, form_of(route.path)).await,
        };
        if is_kept_out(route.path, &reply) == (at_platform == "?") {
            wrong.push(format!("{name} signed out: {}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Signing out leads to signing in, whoever does so.
fn is_kept_out(path: &str, reply: &Reply) -> bool {
    match path {
        "/dashboard/sign-out" => !reply.headers.contains_key("set-cookie"),
        _ => reply.is_kept_out(),
    }
}

#[tokio::test]
async fn what_is_foreign_looks_like_what_is_not_there() {
    let world = World::new().await;
    let outsider = Browser::of(&world, "other", Role::Owner).await;
    let mut answers = Vec::new();
    for merchant_id in ["ms", "no-such-merchant"] {
        let path = format!("/dashboard/merchants/{merchant_id}/members");
        let reply = outsider.get(&path).await;
        assert_eq!(reply.status, 404);
        let request_id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        let text = reply.text.replace(&request_id, "").replace(merchant_id, "");
        answers.push(text);
    }
    assert_eq!(answers[0], answers[1]);
    for path in ["/dashboard/audit", "/dashboard/nothing"] {
        assert_eq!(outsider.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn no_form_is_taken_from_elsewhere() {
    let world = furnished().await;
    for route in routes().iter().filter(|route| route.method == "POST") {
        let owner = Browser::of(&world, "", Role::Owner).await;
        let path = filled(&world, route.path, &owner.session_id).await;
        let form = format!("form_token={}&{}", owner.form_token, form_of(route.path));
        for site in ["cross-site", "same-site", "none"] {
            let reply = owner.post_raw(&path, &form, site).await;
            assert_eq!(reply.status, 403, "{path} from {site}");
        }
        let (_, at_platform, _) = *expected(route);
        if at_platform != "?" {
            for form in ["", "form_token=x"] {
                let reply = owner.post_raw(&path, form, "same-origin").await;
                assert_eq!(reply.status, 403, "{path} with '{form}'");
            }
        }
    }
    let before = world.api.store.audit(None, None, 1000).await.unwrap();
    let did = |row: &crate::store::AuditRow| row.entry.action != entry(&world).action;
    assert!(!before.iter().any(did), "nothing of it was done");
}

#[tokio::test]
async fn every_answer_keeps_the_browser_strict() {
    let world = furnished().await;
    let owner = Browser::of(&world, "", Role::Owner).await;
    for route in routes().iter().filter(|route| route.method == "GET") {
        let path = filled(&world, route.path, &owner.session_id).await;
        let reply = owner.get(&path).await;
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(reply.headers["referrer-policy"], "no-referrer", "{path}");
        let is_kept = path.contains("/static/");
        let kept = if is_kept {
            "public, max-age=31536000, immutable"
        } else {
            "no-store"
        };
        assert_eq!(reply.headers["cache-control"], kept, "{path}");
        for inline in [" style=", "<style", " onclick", "javascript:", "<script>"] {
            assert!(
                is_kept || !reply.text.contains(inline),
                "{path} has {inline}"
            );
        }
    }
    let outside = world.browser("GET /dashboard/nothing", "").await;
    assert_eq!(outside.headers["x-content-type-options"], "nosniff");
    let beside = world.browser("GET /dashboardx", "").await;
    assert_eq!(beside.headers["content-type"], "application/json");
}
