//! The audit log: what people did, with the chain that shows that none of it was changed.
//!
//! Read only; lines come from the pages that do something. The platform sees all of them, a merchant
//! its own.

use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::components::{
    Section, Tone, badge, document, empty, heading, notice, panel, table, text, time,
};
use super::gate::{Answer, Place};
use crate::store::AuditRow;

/// Lines that one page has.
const PAGE: usize = 100;

/// `GET …/audit`.
pub(super) async fn show(place: impl Into<Place>) -> Answer {
    let place = place.into();
    let before = place.query.get("before").and_then(|n| n.parse().ok());
    let whose = match &place {
        Place::Platform(_) => None,
        Place::Merchant(_) => Some(place.merchant_id()),
    };
    let rows = place.api.store.audit(whose, before, PAGE).await?;
    let broken = rows.iter().find(|row| !row.holds());
    let next = rows.last().filter(|_| rows.len() == PAGE).map(|row| row.n);
    let body = html! {
        (heading("Audit", Some("What people did, newest first. Lines are only ever added, and each \
            carries a hash of itself and of the line before it.")))
        @match (broken, rows.is_empty()) {
            (Some(row), _) => (notice(Tone::Bad, html! {
                "Line " (row.n) " is not what was written: the log was changed from outside. Compare \
                 it with a backup."
            })),
            (None, false) => (notice(Tone::Good, "The chain holds on this page.")),
            (None, true) => {}
        }
        (panel("Lines", html! {
            @if rows.is_empty() {
                (empty("Nothing yet", "Whatever somebody does here is written down here."))
            } @else {
                (table(
                    "Audit log",
                    &["No.", "When", "Who", "From", "Where", "What", "Result", "Hash"],
                    rows.iter().map(row),
                ))
                @if let Some(next) = next {
                    p { a href={ "?before=" (next) } { "Older lines" } }
                }
            }
        }))
    };
    let frame = place.frame(Section::Audit);
    Ok(page(StatusCode::OK, document("Audit", Some(&frame), body)))
}

fn row(row: &AuditRow) -> Markup {
    let entry = &row.entry;
    let tone = match entry.result.as_str() {
        "done" => Tone::Good,
        "begun" => Tone::Plain,
        _ => Tone::Warn,
    };
    html! {
        tr id={ "n" (row.n) } {
            td class="number" { a href={ "#n" (row.n) } { (row.n) } }
            td { (time(entry.at)) }
            td { (text(&entry.actor)) }
            td { (entry.address) }
            td {
                @if entry.merchant_id.is_platform() { "platform" }
                @else { (text(entry.merchant_id.as_str())) }
            }
            td {
                (text(&entry.action))
                @if !entry.target.is_empty() { " · " (text(&entry.target)) }
                @if !entry.detail.is_empty() { div class="quiet" { (text(&entry.detail)) } }
            }
            td { (badge(tone, &entry.result)) }
            td { code title=(row.hash) { (row.hash.get(..8).unwrap_or_default()) } }
        }
    }
}
