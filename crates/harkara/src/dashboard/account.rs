//! One's own account: what one may do, where one is signed in, and the password.
//!
//! Everybody who is signed in may see and change their own, whatever their role.

use harkara_core::id::MerchantId;
use http::StatusCode;
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::answer::page;
use super::components::{
    Field, Section, Tone, badge, document, form, heading, notice, panel, table, text, time,
};
use super::gate::{Answer, SignedIn};
use super::{ROOT, password, session, sign_in};
use crate::api::see_other;
use crate::error::ApiError;
use crate::store::UserSession;

/// `GET /dashboard/account`.
pub(super) async fn show(signed: SignedIn) -> Answer {
    let done = signed.query.get("done").map(|done| match done {
        "password" => "The password is changed, and every other session has ended.",
        _ => "The session has ended.",
    });
    let notice = done.map(|done| notice(Tone::Good, done));
    let body = account_page(&signed, notice, None).await?;
    Ok(page(StatusCode::OK, body))
}

/// `POST /dashboard/account/password`. Whoever sits down at somebody's open page can try passwords out here
/// no better than where one signs in.
pub(super) async fn set_password(signed: SignedIn) -> Answer {
    let typed = |name: &str| Zeroizing::new(signed.form.raw(name).unwrap_or_default().to_owned());
    let (old, new) = (typed("old"), typed("new"));
    if let Err(why) = password::check(&new, &signed.user.name) {
        return refused(&signed, StatusCode::UNPROCESSABLE_ENTITY, ("new", &why)).await;
    }
    let (store, name) = (&signed.api.store, &signed.user.name);
    let mut entry = signed.entry(&MerchantId::platform(), "changed the password", "");
    let bound = sign_in::bound(signed.now);
    let failures = store.count_sign_in(name, &signed.address, bound).await?;
    if failures.is_too_many {
        entry.result = sign_in::LOCKED.to_owned();
        store.add_to_audit(entry).await?;
        let why = "was wrong too often; try again in half an hour";
        return refused(&signed, StatusCode::TOO_MANY_REQUESTS, ("old", why)).await;
    }
    let stored = store.user_by_name(name).await?.map(|(_, stored)| stored);
    let passwords = &signed.api.dashboard().passwords;
    if !passwords.verify(old, stored).await? {
        entry.result = "wrong password".to_owned();
        store.add_to_audit(entry).await?;
        let why = "is not the one you have now";
        return refused(&signed, StatusCode::UNPROCESSABLE_ENTITY, ("old", why)).await;
    }
    let hash = passwords.hash(new).await?;
    let (user_id, here) = (&signed.user.user_id, &signed.session.session_id);
    store.set_password(user_id, &hash, here, entry).await?;
    Ok(see_other(&format!("{ROOT}/account?done=password")))
}

/// The page again, with what is wrong beside its field.
async fn refused(signed: &SignedIn, status: StatusCode, wrong: (&str, &str)) -> Answer {
    let body = account_page(signed, None, Some(wrong)).await?;
    Ok(page(status, body))
}

/// `POST /dashboard/account/sessions/{session_id}/end`.
pub(super) async fn end_session(signed: SignedIn) -> Answer {
    let session_id = signed.param("session_id");
    let entry = signed.entry(&MerchantId::platform(), "ended a session", session_id);
    let ended = signed
        .api
        .store
        .end_session(&signed.user.user_id, session_id, entry);
    match ended.await? {
        true => Ok(see_other(&format!("{ROOT}/account?done=session"))),
        false => Err(ApiError::not_found(
            "session.not_found",
            "there is no such session any more",
        )),
    }
}

async fn account_page(
    signed: &SignedIn,
    notice: Option<Markup>,
    wrong: Option<(&str, &str)>,
) -> Result<Markup, ApiError> {
    let sessions = signed.api.store.sessions_of(&signed.user.user_id).await?;
    let live = sessions
        .iter()
        .filter(|known| session::is_live(known, signed.now));
    let error = |field: &str| wrong.filter(|(name, _)| *name == field).map(|(_, why)| why);
    let body = html! {
        (heading(text(&signed.user.name), Some("Your account")))
        @if let Some(notice) = notice { (notice) }
        (panel("What you may do", table(
            "Your roles", &["Where", "Role", "Which"],
            signed.memberships.iter().map(|(merchant_id, role)| html! {
                tr {
                    td {
                        @match merchant_id.as_str() {
                            "" => "The platform",
                            merchant_id => (text(merchant_id)),
                        }
                    }
                    td { (badge(Tone::Plain, role.as_str())) }
                    td { (role.meaning()) }
                }
            }),
        )))
        (panel("Where you are signed in", html! {
            (table(
                "Your sessions", &["Since", "Last seen", "From", "Browser", ""],
                live.map(|known| session_row(signed, known)),
            ))
            p class="hint" {
                "A session ends after 15 minutes without a page, and after 12 hours in any case."
            }
        }))
        (panel("Password", form(signed, &format!("{ROOT}/account/password"), html! {
            (Field {
                label: "The password you have now", name: "old", kind: "password",
                is_required: true, error: error("old"), autocomplete: Some("current-password"),
                ..Field::default()
            })
            (Field {
                label: "The new one", name: "new", kind: "password", is_required: true,
                hint: "12 characters or more; three or four words make a good one.",
                error: error("new"), autocomplete: Some("new-password"), ..Field::default()
            })
            button { "Change the password" }
        })))
    };
    Ok(document(
        "Your account",
        Some(&signed.frame(Section::Account)),
        body,
    ))
}

fn session_row(signed: &SignedIn, known: &UserSession) -> Markup {
    let end = format!("{ROOT}/account/sessions/{}/end", known.session_id);
    html! {
        tr {
            td { (time(known.created_at)) }
            td { (time(known.seen_at)) }
            td { (known.address) }
            td { (text(&known.agent)) }
            td {
                @if known.session_id == signed.session.session_id {
                    (badge(Tone::Good, "this one"))
                } @else {
                    (form(signed, &end, html! { button class="plain" { "End" } }))
                }
            }
        }
    }
}
