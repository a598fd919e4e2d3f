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
use crate::api::see_other;

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

/// `GET /dashboard/merchants`: all of them, for the platform.
pub(super) async fn merchants(staff: Staff) -> Answer {
    let merchants = staff.api.store.merchants().await?;
    let body = html! {
        (heading("Merchants", None))
        (panel("All merchants", html! {
            @if merchants.is_empty() {
                (empty("No merchants yet", "The platform makes them: POST /merchants."))
            } @else {
                (table("Merchants", &["Merchant", "Since"], merchants.iter().map(|row| html! {
                    tr {
                        td { (link(row.merchant_id.as_str(), staff.role)) }
                        td { (time(row.created_at)) }
                    }
                })))
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
