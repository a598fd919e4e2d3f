//! Signing in and out, and the links by which somebody comes in for the first time.
//!
//! An attempt is counted before its password is looked at, by name and address, and ten within half an
//! hour lock that pair: nobody can lock somebody out from elsewhere. A name that very many try is slow for all of
//! them. Every attempt is in the audit log.

use std::time::Duration;

use axum::response::Response;
use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::answer::page;
use super::components::{Field, Tone, document, notice, text, time};
use super::gate::{Answer, SignedIn, Visit};
use super::password;
use super::session::{self, Wire};
use super::{ROOT, THIS_SERVER};
use crate::api::see_other;
use crate::error::ApiError;
use crate::keys::{OneTime, random_id};
use crate::store::{AuditEntry, Link, NewUser, SignInBound, Used, User, UserSession, name_key};

/// Wrong passwords for one name from one address, and within which time.
const TRIES: i64 = 10;
const WINDOW: Duration = Duration::from_secs(30 * 60);

/// Wrong passwords for one name from everywhere, after which each attempt takes a while.
const SUSPICIOUS: i64 = 50;
const SLOW: Duration = Duration::from_secs(1);

/// What the audit log says of an attempt that was not looked at.
pub(super) const LOCKED: &str = "too many wrong passwords";

const NAME_MAX: usize = 60;

/// Where a link leads. In the query, for paths are logged.
pub(super) fn welcome_url(public_url: &str, token: &OneTime) -> String {
    format!("{public_url}{ROOT}/welcome?token={}", token.expose())
}

/// `GET /dashboard/sign-in`.
pub(super) async fn show(visit: Visit) -> Answer {
    if visit.session().await?.is_some() {
        return Ok(see_other(ROOT));
    }
    let next = visit.query.get("next").unwrap_or_default();
    Ok(page(StatusCode::OK, sign_in_page(&visit, ("", next), None)))
}

/// `POST /dashboard/sign-in`.
pub(super) async fn sign_in(visit: Visit) -> Answer {
    refuse_in_the_open(&visit)?;
    let name = visit.form.get("name").unwrap_or_default().to_owned();
    let next = visit.form.get("next").unwrap_or_default().to_owned();
    let password = Zeroizing::new(visit.form.raw("password").unwrap_or_default().to_owned());
    let again = |status, why: Markup| {
        let shown = sign_in_page(&visit, (&name, &next), Some(why));
        Ok(page(status, shown))
    };
    if name.is_empty() || password.is_empty() {
        let why = html! { "Both a name and a password are needed." };
        return again(StatusCode::UNPROCESSABLE_ENTITY, why);
    }
    // Nobody is called so, nor has such a password; nothing of it is looked for or kept.
    if check_name(&name).is_err() || password.chars().count() > password::LENGTH_MAX {
        return again(StatusCode::UNPROCESSABLE_ENTITY, nobody());
    }
    let store = &visit.api.store;
    let bound = bound(visit.now);
    let failures = store.count_sign_in(&name, &visit.address, bound).await?;
    if failures.is_too_many {
        let mut entry = entry(&visit, &name, "signed in");
        entry.result = LOCKED.to_owned();
        store.add_to_audit(entry).await?;
        let why = html! {
            "Too many wrong passwords for this name from where you are. Try again after "
            (time(failures.last_here.plus(WINDOW))) ", or from elsewhere."
        };
        return again(StatusCode::TOO_MANY_REQUESTS, why);
    }
    if failures.everywhere > SUSPICIOUS {
        tokio::time::sleep(SLOW).await;
    }
    let (user, stored) = store.user_by_name(&name).await?.unzip();
    let is_right = visit
        .api
        .dashboard()
        .passwords
        .verify(password, stored)
        .await?;
    match user.filter(|_| is_right) {
        Some(user) => {
            let entry = entry(&visit, &user.name, "signed in");
            let cookie = open(&visit, &user, entry).await?;
            Ok(with_cookie(see_other(own_path(&next)), &cookie))
        }
        None => {
            let mut entry = entry(&visit, &name, "signed in");
            entry.result = "wrong name or password".to_owned();
            store.add_to_audit(entry).await?;
            again(StatusCode::UNPROCESSABLE_ENTITY, nobody())
        }
    }
}

fn nobody() -> Markup {
    html! { "There is nobody of this name with this password." }
}

/// How many wrong passwords count, up to this moment.
pub(super) fn bound(now: Timestamp) -> SignInBound {
    SignInBound {
        since: session::before(now, WINDOW),
        most: TRIES,
        now,
    }
}

/// `POST /dashboard/sign-out`.
pub(super) async fn sign_out(signed: SignedIn) -> Answer {
    let entry = signed.entry(&MerchantId::platform(), "signed out", "");
    let (user_id, session_id) = (&signed.user.user_id, &signed.session.session_id);
    signed
        .api
        .store
        .end_session(user_id, session_id, entry)
        .await?;
    let sign_in = see_other(&format!("{ROOT}/sign-in"));
    Ok(with_cookie(sign_in, &signed.wire().take_back()))
}

/// `GET /dashboard/welcome?token=…`.
pub(super) async fn welcome(visit: Visit) -> Answer {
    refuse_in_the_open(&visit)?;
    let token = visit.query.get("token").unwrap_or_default();
    match link(&visit, token).await? {
        Some((_, link)) => {
            let name = link.name.clone();
            let shown = welcome_page(&link, token, (&name, None), None);
            Ok(page(StatusCode::OK, shown))
        }
        None => Ok(page(StatusCode::NOT_FOUND, no_such_link())),
    }
}

/// `POST /dashboard/welcome`: the person chooses a password, and is signed in.
pub(super) async fn enter(visit: Visit) -> Answer {
    refuse_in_the_open(&visit)?;
    let token = visit.form.get("token").unwrap_or_default();
    let Some((hash, link)) = link(&visit, token).await? else {
        return Ok(page(StatusCode::NOT_FOUND, no_such_link()));
    };
    let typed = visit.form.get("name").unwrap_or_default();
    let name = if link.name.is_empty() {
        typed
    } else {
        &link.name
    };
    let again = |name_error: Option<&str>, password_error: Option<&str>| {
        let shown = welcome_page(&link, token, (name, name_error), password_error);
        Ok(page(StatusCode::UNPROCESSABLE_ENTITY, shown))
    };
    if let Err(why) = check_name(name) {
        return again(Some(&why), None);
    }
    let chosen = Zeroizing::new(visit.form.raw("password").unwrap_or_default().to_owned());
    if let Err(why) = password::check(&chosen, name) {
        return again(None, Some(&why));
    }
    let new = NewUser {
        user_id: format!("usr_{}", random_id()),
        name: name.to_owned(),
        password: visit.api.dashboard().passwords.hash(chosen).await?,
    };
    let mut entry = entry(&visit, name, "used a link");
    entry.merchant_id = link.merchant_id.clone();
    entry.target = link.role.as_str().to_owned();
    let used = visit.api.store.use_link(&hash, new, entry).await?;
    match used {
        Used::Gone => Ok(page(StatusCode::NOT_FOUND, no_such_link())),
        Used::NameTaken => again(Some("is somebody else's already; choose another"), None),
        Used::Done(user_id) => {
            let user = User {
                user_id,
                name: name.to_owned(),
                password_at: visit.now,
                created_at: visit.now,
            };
            let cookie = open(&visit, &user, self::entry(&visit, name, "signed in")).await?;
            Ok(with_cookie(see_other(ROOT), &cookie))
        }
    }
}

/// The link that a token belongs to, while it works.
async fn link(visit: &Visit, token: &str) -> Result<Option<(String, Link)>, ApiError> {
    let Some(token) = OneTime::parse(token) else {
        return Ok(None);
    };
    let hash = token.hash();
    let link = visit.api.store.link(&hash).await?;
    let live = link.filter(|link| link.expires_at > visit.now);
    Ok(live.map(|link| (hash, link)))
}

/// Signs somebody in with a session that nobody had before; one that the browser came with ends.
async fn open(visit: &Visit, user: &User, entry: AuditEntry) -> Result<String, ApiError> {
    if let Some((old, whose, _, _)) = visit.session().await? {
        let entry = self::entry(visit, &whose.name, "signed out");
        let ended = visit
            .api
            .store
            .end_session(&whose.user_id, &old.session_id, entry);
        ended.await?;
    }
    let token = OneTime::generate();
    let session = UserSession {
        hash: token.hash(),
        session_id: format!("ses_{}", random_id()),
        user_id: user.user_id.clone(),
        address: visit.address.clone(),
        agent: visit.agent(),
        created_at: visit.now,
        seen_at: visit.now,
    };
    let over = session::horizons(visit.now);
    let opened = visit
        .api
        .store
        .open_session(session, &user.name, over, entry);
    opened.await?;
    Ok(visit.wire().hand_over(&token))
}

/// A line for the audit log about somebody who is not signed in yet.
fn entry(visit: &Visit, name: &str, action: &str) -> AuditEntry {
    AuditEntry {
        address: visit.address.clone(),
        ..AuditEntry::new(visit.now, name, action)
    }
}

/// Whether somebody may be called so, or why not.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if !(2..=NAME_MAX).contains(&name.chars().count()) {
        return Err(format!("must have 2 to {NAME_MAX} characters"));
    }
    if name
        .chars()
        .any(|c| c.is_control() || !(c.is_alphanumeric() || " .-_@+'".contains(c)))
    {
        return Err("may have letters, digits, blanks and . - _ @ + '".to_owned());
    }
    if name_key(name) == THIS_SERVER {
        return Err("is what the audit log calls the server itself; choose another".to_owned());
    }
    Ok(())
}

fn refuse_in_the_open(visit: &Visit) -> Result<(), ApiError> {
    match visit.wire() {
        Wire::Https | Wire::Loopback => Ok(()),
        Wire::Open => Err(ApiError::forbidden(
            "nobody is signed in over plain http, where a password could be read on the way: put a \
             proxy with https in front and set public_url to its address, or reach this machine \
             through a tunnel and set public_url to http://localhost and the port",
        )),
    }
}

/// Where to go after signing in: a path of ours, whatever was asked for.
fn own_path(next: &str) -> &str {
    let is_plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    match is_plain && super::is_ours(next) {
        true => next,
        false => ROOT,
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    let cookie = HeaderValue::from_str(cookie).expect("letters, digits and punctuation");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

fn sign_in_page(visit: &Visit, (name, next): (&str, &str), why: Option<Markup>) -> Markup {
    let body = html! {
        section class="panel narrow" {
            h1 { "Sign in" }
            @if let Some(why) = why { (notice(Tone::Bad, why)) }
            @match visit.wire() {
                Wire::Open => {
                    (notice(Tone::Bad, "This address is plain http, so nobody can sign in: a \
                        password could be read on the way. Set public_url to an https address, or \
                        to http://localhost through a tunnel."))
                }
                wire => {
                    form method="post" action={ (ROOT) "/sign-in" } {
                        input type="hidden" name="next" value=(next);
                        (Field {
                            label: "Name", name: "name", value: name, is_required: true,
                            autocomplete: Some("username"), ..Field::default()
                        })
                        (Field {
                            label: "Password", name: "password", kind: "password",
                            is_required: true, autocomplete: Some("current-password"),
                            ..Field::default()
                        })
                        button class="main" { "Sign in" }
                    }
                    @if wire == Wire::Loopback {
                        p class="hint" {
                            "Over plain http on this machine the session's cookie is not marked as \
                             secure. With an https public_url it is."
                        }
                    }
                }
            }
        }
    };
    document("Sign in", None, body)
}

fn welcome_page(
    link: &Link,
    token: &str,
    (name, name_error): (&str, Option<&str>),
    password_error: Option<&str>,
) -> Markup {
    let place = match link.merchant_id.as_str() {
        "" => "the platform, with all its merchants",
        merchant_id => merchant_id,
    };
    let is_reset = link.user_id.is_some();
    let title = if is_reset {
        "Choose a new password"
    } else {
        "Welcome"
    };
    let body = html! {
        section class="panel narrow" {
            h1 { (title) }
            @if !is_reset {
                p { "You become " strong { (link.role.as_str()) } " of " (text(place)) "." }
            }
            form method="post" action={ (ROOT) "/welcome" } {
                input type="hidden" name="token" value=(token);
                @if link.name.is_empty() {
                    (Field {
                        label: "Your name", name: "name", value: name, is_required: true,
                        hint: "You sign in with it, and the audit log knows you by it.",
                        error: name_error, autocomplete: Some("username"), ..Field::default()
                    })
                } @else {
                    p { "Your name here is " strong { (text(&link.name)) } "." }
                }
                (Field {
                    label: "Password", name: "password", kind: "password", is_required: true,
                    hint: "12 characters or more; three or four words make a good one.",
                    error: password_error, autocomplete: Some("new-password"), ..Field::default()
                })
                button class="main" { "Enter" }
            }
            p class="hint" { "This link works once, until " (time(link.expires_at)) "." }
        }
    };
    document(title, None, body)
}

fn no_such_link() -> Markup {
    let body = html! {
        section class="panel narrow" {
            h1 { "This link does not work" }
            p {
                "It was used before, taken back, or is too old. Ask whoever gave it to you for \
                 another; the owner of a server where nobody has signed in yet gets one by starting \
                 it again."
            }
            p { a href={ (ROOT) "/sign-in" } { "Sign in" } }
        }
    };
    document("This link does not work", None, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_a_page_of_ours() {
        let table = [
            ("/dashboard/audit", "/dashboard/audit"),
            ("/dashboard", "/dashboard"),
            ("", "/dashboard"),
            ("//evil.example", "/dashboard"),
            ("/dashboardx", "/dashboard"),
            ("/dashboard/\\evil", "/dashboard"),
            ("/dashboard/a\r\nb", "/dashboard"),
            ("https://evil.example/dashboard", "/dashboard"),
        ];
        for (next, expected) in table {
            assert_eq!(own_path(next), expected, "{next:?}");
        }
    }

    #[test]
    fn names_can_be_read_by_others() {
        for good in ["Asha", "asha@shop.example", "Jörg O'Neil", "dev-2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(61);
        for bad in ["", "a", "a\u{202e}b", "<b>", "a\nb", "This Server ", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
