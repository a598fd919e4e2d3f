//! Where somebody comes in: the merchants that are theirs, or the one.
//!
//! Whoever has one merchant alone is taken there at once.

use harkara_core::access::Role;
use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::components::{
    Section, Tone, badge, document, empty, first_of_merchant, first_of_platform, heading, panel,
    table, text, time,
};
use super::gate::{Answer, SignedIn, Staff};
use super::parts::segment;
use crate::api::see_other;

/// Merchants that one page has.
const PAGE: usize = 100;

/// `GET /dashboard`.
pub(super) async fn enter(signed: SignedIn) -> Answer {
    if let Some(role) = signed.platform_role() {
        return Ok(see_other(&first_of_platform(role)));
    }
    let mut merchants = signed.memberships.iter();
    if let (Some((merchant_id, role)), None) = (merchants.next(), merchants.next()) {
        return Ok(see_other(&first_of_merchant(merchant_id.as_str(), *role)));
    }
    let body = html! {
        (heading("Your merchants", None))
        @if signed.memberships.is_empty() {
            (empty("No merchant is yours", "Ask whoever invited you for a role at one."))
        } @else {
            (panel("Merchants", table(
                "Your merchants", &["Merchant", "Role"],
                signed.memberships.iter().map(|(merchant_id, role)| html! {
                    tr {
                        td { (link(merchant_id.as_str(), *role)) }
                        td { (badge(Tone::Plain, role.as_str())) }
                    }
                }),
            )))
        }
    };
    let frame = signed.frame(Section::Merchants);
    Ok(page(
        StatusCode::OK,
        document("Your merchants", Some(&frame), body),
    ))
}

/// `GET /dashboard/merchants`: all of them by id, for the platform.
pub(super) async fn merchants(staff: Staff) -> Answer {
    let from = staff.query.get("from").unwrap_or_default();
    // One more than is shown tells whether there is a next page.
    let mut merchants = staff.api.store.merchants_from(from, PAGE + 1).await?;
    let next = merchants.get(PAGE).map(|row| row.merchant_id.clone());
    merchants.truncate(PAGE);
    let body = html! {
        (heading("Merchants", None))
        form method="get" class="panel row" role="search" {
            div class="field wide" {
                label {
                    span { "From" }
                    input name="from" type="search" value=(from) placeholder="the beginning of an id";
                }
            }
            button class="main" { "Show" }
        }
        (panel("By id", html! {
            @if merchants.is_empty() {
                (empty("No such merchants", "The platform makes them: POST /merchants."))
            } @else {
                (table("Merchants", &["Merchant", "Since"], merchants.iter().map(|row| html! {
                    tr {
                        td { (link(row.merchant_id.as_str(), staff.role)) }
                        td { (time(row.created_at)) }
                    }
                })))
                @if let Some(next) = next {
                    p { a href={ "?from=" (segment(next.as_str())) } { "More merchants" } }
                }
            }
        }))
    };
    let frame = staff.frame(Section::Merchants);
    Ok(page(
        StatusCode::OK,
        document("Merchants", Some(&frame), body),
    ))
}

fn link(merchant_id: &str, role: Role) -> Markup {
    html! { a href=(first_of_merchant(merchant_id, role)) { (text(merchant_id)) } }
}
