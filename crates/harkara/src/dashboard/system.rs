//! How the server itself is doing, for the platform: its store, what is left to do, and what weakens
//! its walls.

use http::StatusCode;
use maud::html;

use super::answer::page;
use super::components::{Section, Tone, document, heading, notice, panel, span, time};
use super::gate::{Answer, Staff};
use crate::store::COUNTED;

/// `GET /dashboard/system`.
pub(super) async fn show(staff: Staff) -> Answer {
    let (api, now) = (&staff.api, staff.now);
    let left = api.left(now).await?;
    let bytes = api.store.size().await?;
    let notes = api.config.notes();
    let body = html! {
        (heading("System", None))
        @for note in &notes { (notice(Tone::Warn, note)) }
        (panel("This server", html! {
            dl class="facts" {
                dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) }
                dt { "Environment" } dd { (api.config.environment.to_string()) }
                dt { "Public URL" } dd { (api.public_url) }
                dt { "Node" } dd { (api.store.node()) " of " (api.store.nodes()) " that are here" }
            }
        }))
        (panel("Store", html! {
            dl class="facts" {
                dt { "Size" } dd { (size(bytes)) }
                dt { "Durability" } dd { (api.store.durability()) }
                @if let Some(ahead) = api.store.clock_ahead_ms() {
                    dt { "This machine's clock" } dd { (ahead) " ms ahead of the database's" }
                }
                @if let Some(written_at) = api.store.written_at() {
                    dt { "Written before this start" } dd { (time(written_at)) }
                }
            }
        }))
        (panel("Left to do, over all merchants", html! {
            dl class="facts" {
                dt { "Pending deliveries" } dd { (counted(left.pending)) }
                dt { "Waiting behind another" } dd { (counted(left.waiting)) }
                dt { "Oldest due" }
                dd {
                    @match left.oldest_due_at {
                        Some(due_at) if due_at < now => { (span(now.since(due_at))) " ago, " (time(due_at)) }
                        Some(due_at) => { "in " (span(due_at.since(now))) }
                        None => "nothing is",
                    }
                }
            }
        }))
    };
    let frame = staff.frame(Section::System);
    Ok(page(StatusCode::OK, document("System", Some(&frame), body)))
}

/// A number that was counted no further than to a bound.
fn counted(count: i64) -> String {
    match count {
        COUNTED.. => format!("{COUNTED} or more"),
        count => count.to_string(),
    }
}

/// Bytes in the unit that people use.
fn size(bytes: i64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units.iter().find(|(_, unit)| bytes >= *unit);
    match fitting {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let table = [(512, "512 bytes"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")];
        for (bytes, shown) in table {
            assert_eq!(size(bytes), shown);
        }
    }
}
