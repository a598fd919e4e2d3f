//! API keys, of a merchant or of the platform: made, shown once, revoked.
//!
//! A key is worth whatever the API can do, so only those may have one made who may bring in others.
//! What a key is, and how it is stored, is `api/merchants.rs` and `crate::keys`.

use http::StatusCode;
use maud::{Markup, html};

use super::answer::{page, wrong};
use super::components::{
    Field, Section, Tone, ask_first, badge, document, empty, form, heading, id, notice, panel,
    table, text, time,
};
use super::gate::{Answer, Place};
use super::parts::segment;
use crate::api::merchants::{draft_key, key_name, revoke};
use crate::api::see_other;
use crate::error::ApiError;
use crate::store::ApiKeyRow;

/// `GET …/keys`.
pub(super) async fn show(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let done = place.query.get("done");
    let done = done.map(|_| {
        notice(
            Tone::Good,
            "The key is revoked. Whoever still sends it is refused.",
        )
    });
    show_with(&place, StatusCode::OK, done, None).await
}

/// `POST …/keys`: makes a key, which this answer alone shows. A name tells it from those that work, so
/// that a form that is sent twice makes one.
pub(super) async fn make(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let name = place.form.get("name").unwrap_or_default();
    let (key, row) = match draft(&place, name).await {
        Ok(drafted) => drafted,
        Err(error) if error.status.is_client_error() => {
            let why = wrong(Some(&error), "name").unwrap_or(&error.message);
            return show_with(&place, error.status, None, Some((name, why))).await;
        }
        Err(error) => return Err(error),
    };
    let mut entry = place.entry(place.merchant_id(), "made an API key", &row.key_id);
    entry.detail = name.to_owned();
    let act = async { Ok(place.api.store.insert_api_key(row).await?) };
    place.written_down(entry, act).await?;
    let shown = html! {
        div class="notice good" role="status" {
            "The key, shown this once:"
            code class="secret" id="key" { (key) }
            button type="button" data-copy="key" { "Copy" }
        }
    };
    show_with(&place, StatusCode::CREATED, Some(shown), None).await
}

async fn draft(place: &Place, name: &str) -> Result<(String, ApiKeyRow), ApiError> {
    if name.is_empty() {
        return Err(ApiError::field("name", "is needed"));
    }
    let known = place.api.store.api_keys(place.merchant_id()).await?;
    let works = |key: &&ApiKeyRow| key.revoked_at.is_none() && key_name(key) == name;
    if known.iter().find(works).is_some() {
        let reason = "is that of a key that works; choose another, or revoke that one first";
        return Err(ApiError::field("name", reason));
    }
    draft_key(&place.api, place.merchant_id(), name)
}

/// `POST …/keys/{key_id}/revoke`.
pub(super) async fn end(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let key_id = place.param("key_id");
    let entry = place.entry(place.merchant_id(), "revoked an API key", key_id);
    let act = revoke(&place.api, place.merchant_id(), key_id);
    place.written_down(entry, act).await?;
    Ok(see_other(&format!("{}/keys?done=revoked", place.root())))
}

/// The page, with what is said besides, and a name that was refused with why.
async fn show_with(
    place: &Place,
    status: StatusCode,
    said: Option<Markup>,
    refused: Option<(&str, &str)>,
) -> Answer {
    let mut keys = place.api.store.api_keys(place.merchant_id()).await?;
    // What works first, and of these the newest.
    keys.sort_by_key(|key| (key.revoked_at.is_some(), std::cmp::Reverse(key.created_at)));
    let lead = match place {
        Place::Platform(_) => {
            "The platform's own keys: with one, every merchant's payments can be told of."
        }
        Place::Merchant(_) => "What this merchant's server calls the API with.",
    };
    let body = html! {
        (heading("API keys", Some(lead)))
        @if let Some(said) = said { (said) }
        (panel("Keys", html! {
            @if keys.is_empty() {
                (empty("No keys", "Without one, the API answers nobody here."))
            } @else {
                (table("API keys", &["Name", "Id", "State", "Since", ""],
                    keys.iter().map(|key| row(place, key))))
            }
        }))
        (panel("A new key", form(place, &format!("{}/keys", place.root()), html! {
            (Field {
                label: "Name", name: "name", is_required: true, value: refused.map_or("", |(name, _)| name),
                error: refused.map(|(_, why)| why),
                hint: "What it is for, so that somebody knows later which to revoke.",
                ..Field::default()
            })
            button class="main" { "Make a key" }
            p class="hint" {
                "To change over: make the new key, put it in place of the old one, then revoke that. \
                 Both work meanwhile."
            }
        })))
    };
    let frame = place.frame(Section::Keys);
    Ok(page(status, document("API keys", Some(&frame), body)))
}

fn row(place: &Place, key: &ApiKeyRow) -> Markup {
    let revoke = format!("{}/keys/{}/revoke", place.root(), segment(&key.key_id));
    let name = key_name(key);
    html! {
        tr id={ "key-" (key.key_id) } {
            td { @if name.is_empty() { span class="quiet" { "–" } } @else { (text(&name)) } }
            td { (id(&key.key_id)) }
            td {
                @match key.revoked_at {
                    None => (badge(Tone::Good, "works")),
                    Some(at) => { (badge(Tone::Plain, "revoked")) " " (time(at)) }
                }
            }
            td { (time(key.created_at)) }
            td {
                @if key.revoked_at.is_none() {
                    (ask_first(place, "Revoke…", &revoke, html! {
                        p class="hint" { "At once and for good: whoever sends it is refused." }
                        button class="danger" { "Revoke the key" }
                    }))
                }
            }
        }
    }
}
