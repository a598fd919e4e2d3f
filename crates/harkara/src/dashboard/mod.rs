//! The dashboard: pages for people, who sign in and have roles.
//!
//! Server-rendered HTML with real forms: every page works with scripts off, and with them it is live.
//! `routes.rs` is the one list of pages, `gate.rs` decides who may see which, `components.rs` has what
//! pages are made of. Pages read through the store's views and write as the API does; no rule about
//! money or delivery is known here. `api/` puts the pages behind its router.

mod account;
mod answer;
mod assets;
mod audit;
mod body;
mod catalogue;
mod components;
mod events;
mod fields;
mod gate;
mod home;
mod keys;
mod live;
mod members;
mod orders;
mod overview;
mod parts;
mod password;
mod recovery;
mod routes;
mod session;
mod sign_in;
mod system;
#[cfg(test)]
mod tests;
mod trial;
mod waterfall;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodFilter, on};
use harkara_core::access::Role;
use harkara_core::id::MerchantId;
use tokio::sync::Semaphore;

pub(crate) use self::answer::refuse;
pub(crate) use self::gate::Peer;

use crate::api::Api;
use crate::clock::Clock;
use crate::keys::OneTime;
use crate::store::{AuditEntry, DbError, Link, LinkKind, Store};

/// Where all pages are.
pub(crate) const ROOT: &str = "/dashboard";

/// Whether a path is one of the dashboard's, there or not.
pub(crate) fn is_ours(path: &str) -> bool {
    let below = path.strip_prefix(ROOT);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Who did what nobody did, in the audit log.
const THIS_SERVER: &str = "this server";

/// What the pages share.
pub(crate) struct Dashboard {
    passwords: password::Passwords,
    latest: overview::Latest,
    streams: Arc<Semaphore>,
    drawing: Arc<Semaphore>,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self {
            passwords: password::Passwords::default(),
            latest: overview::Latest::default(),
            streams: Arc::new(Semaphore::new(live::STREAMS)),
            drawing: Arc::new(Semaphore::new(live::DRAWN)),
        }
    }
}

/// Every page.
pub(crate) fn router() -> Router<Api> {
    let mut router = Router::new();
    for route in routes::routes() {
        let filter =
            MethodFilter::try_from(route.method.clone()).expect("GET and POST are filters");
        let (path, route) = (route.path, Arc::new(route));
        let handler = move |state, request| async move { route.answer(state, request).await };
        router = router.route(path, on(filter, handler));
    }
    router
}

/// The paths of the pages that people open, with their parameters in braces: for whoever looks at each of
/// them, as the tests do in a browser.
pub fn pages() -> Vec<&'static str> {
    let pages = routes::routes().into_iter().filter(gate::Route::is_page);
    pages.map(|route| route.path).collect()
}

/// While nobody can sign in: makes the link by which the owner does so first, and says where it leads.
pub(crate) async fn first_link(
    store: &Store,
    clock: &Clock,
    public_url: &str,
) -> Result<Option<String>, DbError> {
    match store.has_users().await? {
        true => Ok(None),
        false => owner_link(store, clock, public_url).await.map(Some),
    }
}

/// Makes a link by which somebody becomes an owner, and says where it leads. Those that were made before
/// end with it.
pub(crate) async fn owner_link(
    store: &Store,
    clock: &Clock,
    public_url: &str,
) -> Result<String, DbError> {
    let (token, now) = (OneTime::generate(), clock.now());
    let link = Link {
        hash: token.hash(),
        kind: LinkKind::First,
        merchant_id: MerchantId::platform(),
        role: Role::Owner,
        name: String::new(),
        user_id: None,
        made_by: THIS_SERVER.to_owned(),
        created_at: now,
        expires_at: now.plus(session::LINK_LIFE),
    };
    let entry = AuditEntry::new(now, THIS_SERVER, "made a link for an owner");
    // Nobody's role has to allow a first link.
    let _made = store.put_link(link, entry).await?;
    Ok(sign_in::welcome_url(public_url, &token))
}
