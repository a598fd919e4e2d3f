//! The pages, asked for as browsers do: a real router over a real store.

mod acts;
mod matrix;
mod pages;
mod people;

use harkara_core::access::Role;
use harkara_core::id::{EndpointId, MerchantId};
use http::StatusCode;
use serde_json::json;

use super::session;
use crate::keys::{OneTime, random_id};
use crate::store::{AuditEntry, Link, LinkKind, NewUser, Used, UserSession};
use crate::testing::{Reply, World};

/// Somebody who is signed in, in a browser.
struct Browser<'w> {
    world: &'w World,
    cookie: String,
    form_token: String,
    user_id: String,
    session_id: String,
}

impl<'w> Browser<'w> {
    /// Signs somebody new in, with this role at a merchant or, at '', the platform.
    async fn of(world: &'w World, merchant_id: &str, role: Role) -> Self {
        let name = format!("{}-{}", role.as_str(), random_id());
        let user_id = person(world, &name, merchant_id, role).await;
        Self::signed_in(world, &user_id, &name).await
    }

    async fn signed_in(world: &'w World, user_id: &str, name: &str) -> Self {
        let (token, now) = (OneTime::generate(), world.api.clock.now());
        let session = UserSession {
            hash: token.hash(),
            session_id: format!("ses_{}", random_id()),
            user_id: user_id.to_owned(),
            address: String::new(),
            agent: "a browser".to_owned(),
            created_at: now,
            seen_at: now,
        };
        let session_id = session.session_id.clone();
        let opened =
            world
                .api
                .store
                .open_session(session, name, session::horizons(now), entry(world));
        opened.await.unwrap();
        Self {
            world,
            cookie: format!("__Host-harkara={}", token.expose()),
            form_token: session::form_token(&token),
            user_id: user_id.to_owned(),
            session_id,
        }
    }

    async fn get(&self, path: &str) -> Reply {
        let request = format!("GET {path}");
        self.world
            .with_headers(&request, "", &[("cookie", &self.cookie)])
            .await
    }

    /// What a page is told first that shows itself anew.
    async fn listen(&self, path: &str) -> Reply {
        let cookie = [("cookie", self.cookie.as_str())];
        self.world.beginning(&format!("GET {path}"), &cookie).await
    }

    /// Sends a form as a page of ours would.
    async fn post(&self, path: &str, form: &str) -> Reply {
        let form = format!("form_token={}&{form}", self.form_token);
        self.post_raw(path, &form, "same-origin").await
    }

    async fn post_raw(&self, path: &str, form: &str, site: &str) -> Reply {
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", site),
        ];
        let request = format!("POST {path}");
        self.world.with_headers(&request, form, &headers).await
    }
}

/// Sends a form as somebody who is not signed in, from a page of ours.
async fn post(world: &World, path: &str, form: &str) -> Reply {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    world
        .with_headers(&format!("POST {path}"), form, &headers)
        .await
}

impl Reply {
    /// Where a browser would go next, if anywhere.
    fn location(&self) -> &str {
        self.headers
            .get("location")
            .map_or("", |location| location.to_str().unwrap())
    }

    /// Whether the request was kept out: not signed in, not allowed, or not there.
    fn is_kept_out(&self) -> bool {
        self.location().contains("/sign-in")
            || [
                StatusCode::FORBIDDEN,
                StatusCode::NOT_FOUND,
                StatusCode::UNAUTHORIZED,
            ]
            .contains(&self.status)
    }
}

/// Gives the merchant an endpoint at this version, the latest if none, and returns its id.
async fn endpoint(world: &World, version: &str) -> EndpointId {
    let new = json!({
        "url": "https://shop.example.com/hook", "username": "shop", "password": "secret-word",
        "webhook_version": version,
    });
    let made = world.merchant("POST /endpoints", &new.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    EndpointId::new(made.json()["endpoint_id"].as_str().unwrap())
}

/// Makes somebody whose password nobody knows.
async fn person(world: &World, name: &str, merchant_id: &str, role: Role) -> String {
    let hash = link(world, &OneTime::generate(), merchant_id, role).await;
    let new = NewUser {
        user_id: format!("usr_{}", random_id()),
        name: name.to_owned(),
        password: "no password has this text".to_owned(),
    };
    let used = world.api.store.use_link(&hash, new, entry(world)).await;
    match used.unwrap() {
        Used::Done(user_id) => user_id,
        other => panic!("{other:?}"),
    }
}

/// Makes a link of this token and returns its hash.
async fn link(world: &World, token: &OneTime, merchant_id: &str, role: Role) -> String {
    let now = world.api.clock.now();
    let link = Link {
        hash: token.hash(),
        // One that asks for no role of whoever made it.
        kind: LinkKind::First,
        merchant_id: MerchantId::new(merchant_id),
        role,
        name: "somebody".to_owned(),
        user_id: None,
        made_by: "a test".to_owned(),
        created_at: now,
        expires_at: now.plus(session::LINK_LIFE),
    };
    let hash = link.hash.clone();
    assert!(world.api.store.put_link(link, entry(world)).await.unwrap());
    hash
}

fn entry(world: &World) -> AuditEntry {
    AuditEntry::new(world.api.clock.now(), "a test", "did something")
}
