//! Members: who may do what, at the platform or at a merchant, and the links that let others in.
//!
//! Nothing is mailed: whoever invites somebody hands the link over. Nobody gives or takes a role that
//! is above their own, and the platform keeps an owner; both are asked again where it is written.

use harkara_core::access::{Permission, Role};
use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::components::{
    Field, Section, Tone, ask_first, badge, document, empty, form, heading, notice, panel, select,
    table, text, time,
};
use super::gate::{Answer, Place};
use super::session;
use super::sign_in::{check_name, welcome_url};
use crate::api::see_other;
use crate::error::ApiError;
use crate::keys::OneTime;
use crate::store::{Link, LinkKind, MemberChange};

/// What the page says besides.
#[derive(Default)]
struct Said<'a> {
    notice: Option<Markup>,
    name: &'a str,
    name_error: Option<&'a str>,
}

/// `GET …/members`.
pub(super) async fn show(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let done = place.query.get("done").map(|done| match done {
        "role" => "The role is changed. They were signed out, and have it when they sign in.",
        "removed" => "They are no member any more, and were signed out.",
        _ => "The link does not work any more.",
    });
    let said = Said {
        notice: done.map(|done| notice(Tone::Good, done)),
        ..Said::default()
    };
    show_with(&place, StatusCode::OK, said).await
}

/// `POST …/members/invite`: makes a link, which this answer alone shows.
pub(super) async fn invite(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let name = place.form.get("name").unwrap_or_default();
    let role = given_role(&place)?;
    let refused = match check_name(name) {
        Err(why) => Some(why),
        Ok(()) if place.api.store.user_by_name(name).await?.is_some() => {
            Some("is somebody's already; names are of the whole server".to_owned())
        }
        Ok(()) => None,
    };
    if let Some(why) = refused {
        let said = Said {
            name,
            name_error: Some(&why),
            ..Said::default()
        };
        return show_with(&place, StatusCode::UNPROCESSABLE_ENTITY, said).await;
    }
    let url = make_link(&place, (name, None), role).await?;
    let notice = Some(handed_over(name, &url));
    let said = Said {
        notice,
        ..Said::default()
    };
    show_with(&place, StatusCode::OK, said).await
}

/// `POST …/members/{user_id}/reset`: makes a link for a new password of somebody who is there.
pub(super) async fn reset(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let (name, role) = member(&place).await?;
    let user_id = place.param("user_id").to_owned();
    let url = make_link(&place, (&name, Some(user_id)), role).await?;
    let said = Said {
        notice: Some(handed_over(&name, &url)),
        ..Said::default()
    };
    show_with(&place, StatusCode::OK, said).await
}

/// `POST …/members/{user_id}/role`.
pub(super) async fn set_role(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let member = member(&place).await?;
    let role = given_role(&place)?;
    change(&place, member, Some(role)).await
}

/// `POST …/members/{user_id}/remove`.
pub(super) async fn remove(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let member = member(&place).await?;
    change(&place, member, None).await
}

/// `POST …/links/{hash}/withdraw`.
pub(super) async fn withdraw_link(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let entry = place.entry(place.merchant_id(), "took a link back", "");
    let withdrawn = place
        .api
        .store
        .withdraw_link(place.merchant_id(), place.param("hash"), entry);
    match withdrawn.await? {
        true => Ok(see_other(&format!("{}/members?done=link", place.root()))),
        false => Err(ApiError::not_found(
            "link.not_found",
            "there is no such link any more",
        )),
    }
}

/// The name and the role of the member that the path names, if whoever asks may change them.
async fn member(place: &Place) -> Result<(String, Role), ApiError> {
    let members = place.api.store.members(place.merchant_id()).await?;
    let user_id = place.param("user_id");
    let found = members
        .into_iter()
        .find(|known| known.user.user_id == user_id);
    let member = found.ok_or_else(unknown)?;
    if !place.role().may_give(member.role) {
        return Err(ApiError::forbidden("only an owner changes an owner"));
    }
    Ok((member.user.name, member.role))
}

fn unknown() -> ApiError {
    ApiError::not_found("member.not_found", "there is no such member any more")
}

/// The role that a form names, if whoever asks may give it.
fn given_role(place: &Place) -> Result<Role, ApiError> {
    let role = place.form.get("role").and_then(Role::named);
    let role = role.ok_or_else(|| ApiError::field("role", "is none that there is"))?;
    match place.role().may_give(role) {
        true => Ok(role),
        false => Err(ApiError::forbidden("only an owner makes an owner")),
    }
}

async fn change(place: &Place, (name, now_is): (String, Role), role: Option<Role>) -> Answer {
    let (action, done) = match role {
        Some(_) => ("changed a role", "role"),
        None => ("removed a member", "removed"),
    };
    let mut entry = place.entry(place.merchant_id(), action, &name);
    let after = role.map_or("none", Role::as_str);
    entry.detail = format!("{} to {after}", now_is.as_str());
    let who = (place.merchant_id(), place.param("user_id"));
    let changed = place.api.store.change_member(who, (now_is, role), entry);
    match changed.await? {
        MemberChange::Done => Ok(see_other(&format!("{}/members?done={done}", place.root()))),
        MemberChange::Unknown => Err(unknown()),
        MemberChange::LastOwner => Err(ApiError::unprocessable(
            "member.last_owner",
            "the platform must keep an owner; make another one first",
        )),
    }
}

/// Makes a link for somebody new, or for a new password of somebody who is there; where it leads.
async fn make_link(
    place: &Place,
    (name, user_id): (&str, Option<String>),
    role: Role,
) -> Result<String, ApiError> {
    let token = OneTime::generate();
    let (kind, action) = match user_id {
        Some(_) => (LinkKind::Reset, "made a link for a password"),
        None => (LinkKind::Invitation, "invited somebody"),
    };
    let link = Link {
        hash: token.hash(),
        kind,
        merchant_id: place.merchant_id().clone(),
        role,
        name: name.to_owned(),
        user_id,
        made_by: place.user.name.clone(),
        created_at: place.now,
        expires_at: place.now.plus(session::LINK_LIFE),
    };
    let mut entry = place.entry(place.merchant_id(), action, name);
    entry.detail = role.as_str().to_owned();
    match place.api.store.put_link(link, entry).await? {
        true => Ok(welcome_url(&place.api.public_url, &token)),
        false => Err(ApiError::forbidden(
            "your role was changed meanwhile, and may not make such a link any more",
        )),
    }
}

fn handed_over(name: &str, url: &str) -> Markup {
    let body = html! {
        "Give this link to " (text(name)) ". It works once, for 24 hours, and is not shown again."
        code class="secret" id="link" { (url) }
        button type="button" data-copy="link" { "Copy" }
    };
    html! { div class="notice good" role="status" { (body) } }
}

async fn show_with(place: &Place, status: StatusCode, said: Said<'_>) -> Answer {
    let store = &place.api.store;
    let members = store.members(place.merchant_id()).await?;
    let links = store.links(place.merchant_id()).await?;
    let now = place.now;
    let open: Vec<&Link> = links.iter().filter(|link| link.expires_at > now).collect();
    let roles = || place.role().gives();
    let body = html! {
        (heading("Members", Some("Who may do what here.")))
        @if let Some(notice) = said.notice { (notice) }
        (panel("People", html! {
            @if members.is_empty() {
                (empty("No members yet", "Invite the first one below."))
            } @else {
                (table(
                    "Members", &["Name", "Role", "Since", "Last seen", ""],
                    members.iter().map(|known| html! {
                        tr {
                            td { (text(&known.user.name)) }
                            td { (badge(Tone::Plain, known.role.as_str())) }
                            td { (time(known.since)) }
                            td { @if let Some(seen) = known.seen_at { (time(seen)) } @else { "–" } }
                            td {
                                @if place.role().may_give(known.role) {
                                    (acts(place, &known.user.user_id, known.role))
                                }
                            }
                        }
                    }),
                ))
            }
        }))
        @if !open.is_empty() {
            (panel("Links that were not used", table(
                "Links", &["For", "Role", "Made by", "Until", ""],
                open.iter().map(|link| link_row(place, link)),
            )))
        }
        (panel("Invite somebody", form(place, &format!("{}/members/invite", place.root()), html! {
            (Field {
                label: "Their name", name: "name", value: said.name, error: said.name_error,
                is_required: true, hint: "They sign in with it.", ..Field::default()
            })
            fieldset {
                legend { "Role" }
                @for (index, role) in roles().enumerate() {
                    label class="choice" {
                        input type="radio" name="role" value=(role.as_str()) required
                            checked[index + 1 == roles().count()];
                        span { strong { (role.as_str()) } " " (role.meaning()) }
                    }
                }
            }
            button class="main" { "Make a link" }
        })))
    };
    let frame = place.frame(Section::Members);
    Ok(page(status, document("Members", Some(&frame), body)))
}

fn acts(place: &Place, user_id: &str, now_is: Role) -> Markup {
    let at = |act: &str| format!("{}/members/{user_id}/{act}", place.root());
    let roles = place.role().gives();
    html! {
        div class="acts" {
            (ask_first(place, "Role…", &at("role"), html! {
                (select(
                    "Role", "role", now_is.as_str(),
                    roles.map(|role| (role.as_str(), role.as_str())),
                ))
                button { "Change" }
            }))
            (ask_first(place, "New password…", &at("reset"), html! {
                p class="hint" { "Makes a link by which they choose one." }
                button { "Make a link" }
            }))
            (ask_first(place, "Remove…", &at("remove"), html! {
                p class="hint" {
                    "They are signed out and lose this role."
                    @if now_is.may(Permission::ChangeKeys) {
                        " API keys that they made work on: revoke those that they may have kept."
                    }
                }
                button class="danger" { "Remove" }
            }))
        }
    }
}

fn link_row(place: &Place, link: &Link) -> Markup {
    let withdraw = format!("{}/links/{}/withdraw", place.root(), link.hash);
    html! {
        tr {
            td {
                @if link.name.is_empty() { "the first owner" } @else { (text(&link.name)) }
                @if link.kind == LinkKind::Reset { " (a new password)" }
            }
            td { (badge(Tone::Plain, link.role.as_str())) }
            td { (text(&link.made_by)) }
            td { (time(link.expires_at)) }
            td { (form(place, &withdraw, html! { button class="plain" { "Take back" } })) }
        }
    }
}
