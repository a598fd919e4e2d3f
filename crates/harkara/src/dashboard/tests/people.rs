//! Coming in, staying in, being kept out, and what is written down about it.

use std::time::Duration;

use harkara_core::access::Role;

use super::{Browser, Reply, person, post};
use crate::testing::World;

const PASSWORD: &str = "tram+lantern+ocean";

/// The first link of a server, as its start prints it, without the host.
async fn first_link(world: &World) -> String {
    let made = super::super::first_link(&world.api.store, &world.api.clock, "").await;
    made.unwrap().unwrap()
}

/// Comes in by a link with a name and a password.
async fn come_in(world: &World, link: &str, name: &str) -> Reply {
    let token = link.rsplit('=').next().unwrap();
    let form = format!("token={token}&name={name}&password={PASSWORD}");
    post(world, "/dashboard/welcome", &form).await
}

async fn sign_in(world: &World, name: &str, password: &str) -> Reply {
    let form = format!("name={name}&password={password}&next=/dashboard/account");
    post(world, "/dashboard/sign-in", &form).await
}

/// The cookie that an answer hands over.
fn cookie(reply: &Reply) -> String {
    let cookie = reply.headers["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn get(world: &World, path: &str, cookie: &str) -> Reply {
    world
        .with_headers(&format!("GET {path}"), "", &[("cookie", cookie)])
        .await
}

/// Sends a form from a page of ours as whoever has this cookie.
async fn send(world: &World, path: &str, form: &str, cookie: &str) -> Reply {
    let headers = [
        ("cookie", cookie),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    world
        .with_headers(&format!("POST {path}"), form, &headers)
        .await
}

/// What the forms of a page carry.
fn form_token(page: &Reply) -> &str {
    let token = page.text.split("form_token\" value=\"").nth(1).unwrap();
    token.split('"').next().unwrap()
}

#[tokio::test]
async fn the_first_link_makes_the_owner_once() {
    let world = World::new().await;
    let old = first_link(&world).await;
    let link = first_link(&world).await;
    assert_eq!(
        come_in(&world, &old, "Asha").await.status,
        404,
        "a newer one was made"
    );
    assert_eq!(world.browser(&format!("GET {link}"), "").await.status, 200);
    let came = come_in(&world, &link, "Asha").await;
    assert_eq!((came.status.as_u16(), came.location()), (303, "/dashboard"));
    let members = get(&world, "/dashboard/members", &cookie(&came)).await;
    assert_eq!(members.status, 200);
    assert!(members.text.contains("Asha") && members.text.contains("owner"));
    assert_eq!(
        come_in(&world, &link, "Bela").await.status,
        404,
        "it was used"
    );
    let another = super::super::first_link(&world.api.store, &world.api.clock, "").await;
    assert_eq!(another.unwrap(), None);
}

#[tokio::test]
async fn a_link_dies_of_age() {
    let world = World::new().await;
    let link = first_link(&world).await;
    world.api.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(world.browser(&format!("GET {link}"), "").await.status, 404);
    assert_eq!(come_in(&world, &link, "Asha").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_password_is_said_beside_it() {
    let world = World::new().await;
    let link = first_link(&world).await;
    let token = link.rsplit('=').next().unwrap();
    let form = format!("token={token}&name=Asha&password=short");
    let refused = post(&world, "/dashboard/welcome", &form).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.text.contains("is shorter than 12 characters"),
        "{}",
        refused.text
    );
    assert!(refused.text.contains(r#"value="Asha""#), "the name is kept");
    assert!(!refused.text.contains(r#"value="short""#));
}

#[tokio::test]
async fn signing_in_takes_the_right_password_and_capitals_do_not_matter() {
    let world = World::new().await;
    come_in(&world, &first_link(&world).await, "Asha").await;
    for (name, password) in [("asha", "tram+lantern+oceans"), ("nobody", PASSWORD)] {
        let refused = sign_in(&world, name, password).await;
        assert_eq!(refused.status, 422);
        assert!(
            refused
                .text
                .contains("nobody of this name with this password")
        );
        assert!(!refused.headers.contains_key("set-cookie"));
    }
    let signed = sign_in(&world, "ASHA", PASSWORD).await;
    assert_eq!(
        (signed.status.as_u16(), signed.location()),
        (303, "/dashboard/account")
    );
    assert_eq!(
        get(&world, "/dashboard/account", &cookie(&signed))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn ten_wrong_passwords_lock_a_name_from_there_alone() {
    let world = World::new().await;
    come_in(&world, &first_link(&world).await, "Asha").await;
    for _ in 0..10 {
        assert_eq!(sign_in(&world, "asha", "wrong").await.status, 422);
    }
    let locked = sign_in(&world, "asha", PASSWORD).await;
    assert_eq!(locked.status, 429);
    assert!(
        locked.text.contains("Too many wrong passwords"),
        "{}",
        locked.text
    );
    assert_eq!(
        sign_in(&world, "bela", "wrong").await.status,
        422,
        "another name"
    );
    let form = format!("name=asha&password={PASSWORD}");
    let elsewhere = world
        .sent_from("203.0.113.9", "/dashboard/sign-in", &form)
        .await;
    assert_eq!(elsewhere.status, 303);
    world.api.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(sign_in(&world, "asha", PASSWORD).await.status, 303);
}

#[tokio::test]
async fn what_nobody_can_be_called_is_wrong_and_leaves_nothing() {
    let world = World::new().await;
    let (long, longer) = ("x".repeat(61), "x".repeat(4_000));
    let much = "y".repeat(201);
    for (name, password) in [
        (long.as_str(), "wrong"),
        (longer.as_str(), "wrong"),
        ("Asha", much.as_str()),
    ] {
        let refused = sign_in(&world, name, password).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(
            refused
                .text
                .contains("nobody of this name with this password")
        );
    }
    // No text has it, and no store keeps it, whatever the form.
    for (name, password) in [("nul%00nul", "wrong"), ("asha", "nul%00nul")] {
        assert_eq!(sign_in(&world, name, password).await.status, 400);
    }
    let lines = world.api.store.audit(None, None, 10).await.unwrap();
    assert_eq!(lines, []);
}

#[tokio::test]
async fn a_session_ends_by_itself_by_signing_out_and_from_another() {
    let world = World::new().await;
    let first = come_in(&world, &first_link(&world).await, "Asha").await;
    let (first, second) = (
        cookie(&first),
        cookie(&sign_in(&world, "asha", PASSWORD).await),
    );
    let account = async |cookie: &str| get(&world, "/dashboard/account", cookie).await;
    assert_ne!(first, second);

    // Seen often enough it lives on, but not for ever.
    for _ in 0..60 {
        world.api.clock.advance(Duration::from_secs(10 * 60));
        assert_eq!(account(&first).await.status, 200);
    }
    assert_eq!(
        account(&second).await.location(),
        "/dashboard/sign-in?next=%2Fdashboard%2Faccount"
    );
    world.api.clock.advance(Duration::from_secs(10 * 60 * 12));
    assert_eq!(account(&first).await.status, 303);

    let owner = Browser::of(&world, "", Role::Owner).await;
    let third = sign_in(&world, "asha", PASSWORD).await;
    let third = cookie(&third);
    let page = account(&third).await;
    let token = form_token(&page);
    let theirs = format!("/dashboard/account/sessions/{}/end", owner.session_id);
    let form = format!("form_token={token}");
    let foreign = send(&world, &theirs, &form, &third).await;
    assert_eq!(foreign.status, 404, "a session of somebody else");
    assert_eq!(owner.get("/dashboard/account").await.status, 200);
    let out = send(&world, "/dashboard/sign-out", &form, &third).await;
    assert_eq!(out.location(), "/dashboard/sign-in");
    assert_eq!(account(&third).await.status, 303);
}

#[tokio::test]
async fn another_password_ends_every_other_session() {
    let world = World::new().await;
    let first = cookie(&come_in(&world, &first_link(&world).await, "Asha").await);
    let second = cookie(&sign_in(&world, "asha", PASSWORD).await);
    let page = get(&world, "/dashboard/account", &second).await;
    let token = form_token(&page);
    let set = async |old: &str, new: &str| {
        let form = format!("form_token={token}&old={old}&new={new}");
        let path = "/dashboard/account/password";
        send(&world, path, &form, &second).await.status
    };
    assert_eq!(set("wrong", "lantern+tram+river").await, 422);
    assert_eq!(set(PASSWORD, "lantern+tram+river").await, 303);
    assert_eq!(get(&world, "/dashboard/account", &first).await.status, 303);
    assert_eq!(get(&world, "/dashboard/account", &second).await.status, 200);
    assert_eq!(sign_in(&world, "asha", PASSWORD).await.status, 422);
    assert_eq!(
        sign_in(&world, "asha", "lantern+tram+river").await.status,
        303
    );
}

#[tokio::test]
async fn a_password_is_tried_out_no_better_by_who_is_signed_in() {
    let world = World::new().await;
    let came = cookie(&come_in(&world, &first_link(&world).await, "Asha").await);
    let page = get(&world, "/dashboard/account", &came).await;
    let token = form_token(&page);
    let set = async |old: &str, new: &str| {
        let form = format!("form_token={token}&old={old}&new={new}");
        let path = "/dashboard/account/password";
        send(&world, path, &form, &came).await.status
    };
    for _ in 0..9 {
        assert_eq!(set("wrong", "lantern+tram+river").await, 422);
    }
    // Whoever knows it begins anew.
    assert_eq!(set(PASSWORD, "lantern+tram+river").await, 303);
    for _ in 0..10 {
        assert_eq!(set("wrong", PASSWORD).await, 422);
    }
    assert_eq!(set("lantern+tram+river", PASSWORD).await, 429);
    assert_eq!(
        sign_in(&world, "asha", "lantern+tram+river").await.status,
        429
    );
    let lines = world.api.store.audit(None, None, 3).await.unwrap();
    let told = lines.iter().map(|row| {
        let entry = &row.entry;
        format!("{} {}: {}\n", entry.actor, entry.action, entry.result)
    });
    insta::assert_snapshot!(told.collect::<String>(), @r"
    asha signed in: too many wrong passwords
    Asha changed the password: too many wrong passwords
    Asha changed the password: wrong password
    ");
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_at_once() {
    let world = World::new().await;
    let owner = Browser::of(&world, "", Role::Owner).await;
    let admin = Browser::of(&world, "", Role::Admin).await;
    let at = |who: &Browser<'_>, act: &str| format!("/dashboard/members/{}/{act}", who.user_id);

    assert_eq!(admin.post(&at(&owner, "remove"), "").await.status, 403);
    assert_eq!(
        admin.post(&at(&admin, "role"), "role=owner").await.status,
        403
    );
    let last = owner.post(&at(&owner, "role"), "role=admin").await;
    assert_eq!(last.status, 422);
    assert!(last.text.contains("must keep an owner"), "{}", last.text);

    assert_eq!(
        owner.post(&at(&admin, "role"), "role=auditor").await.status,
        303
    );
    let out = admin.get("/dashboard/members").await;
    assert!(
        out.location().contains("/sign-in"),
        "the session ended with the role"
    );
    assert_eq!(owner.post(&at(&admin, "remove"), "").await.status, 303);
    assert_eq!(owner.post(&at(&admin, "remove"), "").await.status, 404);
}

#[tokio::test]
async fn somebody_who_is_invited_is_what_the_link_says() {
    let world = World::new().await;
    let owner = Browser::of(&world, "ms", Role::Owner).await;
    let root = "/dashboard/merchants/ms/members";
    let made = owner
        .post(&format!("{root}/invite"), "name=Bela&role=support")
        .await;
    let link = made.text.split("id=\"link\">").nth(1).unwrap();
    let link = link.split('<').next().unwrap();
    let link = link.strip_prefix("https://pay.example").unwrap();
    let listed = owner.get(root).await;
    assert!(
        listed.text.contains("Links that were not used"),
        "{}",
        listed.text
    );
    assert!(!listed.text.contains(link), "it is shown once");
    let came = come_in(&world, link, "Somebody else").await;
    assert_eq!(came.location(), "/dashboard");
    let came = get(&world, "/dashboard", &cookie(&came)).await;
    assert_eq!(came.location(), "/dashboard/merchants/ms");
    let listed = owner.get(root).await;
    assert!(listed.text.contains("Bela") && !listed.text.contains("Somebody else"));
    assert_eq!(
        owner
            .post(&format!("{root}/invite"), "name=bela&role=support")
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn whoever_removes_an_admin_is_told_that_their_keys_work_on() {
    let world = World::new().await;
    let admin = Browser::of(&world, "ms", Role::Admin).await;
    person(&world, "bela", "ms", Role::Support).await;
    let page = admin.get("/dashboard/merchants/ms/members").await.text;
    let told = |words: &str| page.matches(words).count();
    assert_eq!((told("lose this role"), told("work on")), (2, 1), "{page}");
}

#[tokio::test]
async fn the_audit_log_has_who_did_what_and_nothing_secret() {
    let world = World::new().await;
    come_in(&world, &first_link(&world).await, "Asha").await;
    sign_in(&world, "asha", "wrong+password+here").await;
    sign_in(&world, "asha", PASSWORD).await;
    let rows = world.api.store.audit(None, None, 100).await.unwrap();
    assert!(rows.iter().all(crate::store::AuditRow::holds));
    let told: String = rows
        .iter()
        .rev()
        .map(|row| {
            format!(
                "{} {}: {}\n",
                row.entry.actor, row.entry.action, row.entry.result
            )
        })
        .collect();
    insta::assert_snapshot!(told, @r"
    this server made a link for an owner: done
    Asha used a link: done
    Asha signed in: done
    asha signed in: wrong name or password
    Asha signed in: done
    ");
    assert!(!format!("{rows:?}").contains("password here"));
}

#[tokio::test]
async fn nobody_signs_in_over_plain_http() {
    let world = World::at_url("http://10.0.0.7:8080").await;
    let page = world.browser("GET /dashboard/sign-in", "").await;
    assert!(page.text.contains("nobody can sign in"), "{}", page.text);
    assert!(!page.text.contains("type=\"password\""));
    assert_eq!(sign_in(&world, "asha", PASSWORD).await.status, 403);

    let world = World::at_url("http://localhost:8080").await;
    let came = come_in(&world, &first_link(&world).await, "Asha").await;
    let set = came.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.starts_with("harkara=") && !set.contains("Secure"),
        "{set}"
    );
    assert_eq!(
        get(&world, "/dashboard/account", &cookie(&came))
            .await
            .status,
        200
    );
}
