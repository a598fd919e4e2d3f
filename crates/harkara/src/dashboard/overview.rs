//! The overview of a merchant: where its webhooks go, and how those endpoints are doing.

use harkara_core::endpoint::EndpointState;
use harkara_core::health::Breaker;
use harkara_core::time::Timestamp;
use http::StatusCode;
use maud::html;

use super::answer::page;
use super::components::{
    Section, Tone, badge, document, empty, heading, panel, span, table, text, time,
};
use super::gate::{Answer, Member};
use crate::store::EndpointRow;

/// `GET /dashboard/merchants/{merchant_id}`.
pub(super) async fn show(member: Member) -> Answer {
    let merchant_id = &member.merchant.merchant_id;
    let endpoints = member.api.store.endpoint_rows(merchant_id).await?;
    let body = html! {
        (heading(text(merchant_id.as_str()), Some("Overview")))
        (panel("Endpoints", html! {
            @if endpoints.is_empty() {
                (empty("No endpoint yet", "Without one, nobody is told of any payment."))
            } @else {
                (table("Endpoints", &["URL", "State", "Version"], endpoints.iter().map(|row| {
                    let (tone, word) = state(row);
                    html! {
                        tr {
                            td { (text(&row.endpoint.url)) }
                            td {
                                (badge(tone, word))
                                @if let Some(since) = failing_since(row) {
                                    div class="quiet" {
                                        "for " (span(member.now.since(since))) ", since " (time(since))
                                    }
                                }
                            }
                            td { (row.endpoint.version.to_string()) }
                        }
                    }
                })))
            }
        }))
    };
    let frame = member.frame(Section::Overview);
    Ok(page(
        StatusCode::OK,
        document("Overview", Some(&frame), body),
    ))
}

fn failing_since(row: &EndpointRow) -> Option<Timestamp> {
    row.health.as_ref().and_then(|health| health.failing_since)
}

/// How an endpoint is doing, in a word.
fn state(row: &EndpointRow) -> (Tone, &'static str) {
    let breaker = row.health.as_ref().map(|health| health.breaker);
    match (&row.endpoint.state, breaker) {
        (EndpointState::Paused { .. }, _) => (Tone::Warn, "paused"),
        (EndpointState::Disabled { .. }, _) => (Tone::Bad, "disabled"),
        (EndpointState::Active, Some(Breaker::Open { .. })) => (Tone::Bad, "failing"),
        (EndpointState::Active, Some(Breaker::HalfOpen { .. })) => (Tone::Warn, "recovering"),
        (EndpointState::Active, Some(Breaker::Closed)) if failing_since(row).is_some() => {
            (Tone::Warn, "failing")
        }
        (EndpointState::Active, _) => (Tone::Good, "well"),
    }
}
