//! The webhook API version: which there are, and what changes with another one, before it is saved.
//!
//! The gate itself is the catalogue's; here two versions are put beside each other.

use std::collections::BTreeSet;

use harkara_webhook::{EventName, Since, WebhookVersion, catalog};
use maud::{Markup, html};

use crate::dashboard::components::{Tone, badge, notice, table};

/// The versions at which something changes, the oldest first, then the latest.
pub(super) fn known() -> Vec<WebhookVersion> {
    let dates = EventName::ALL
        .iter()
        .filter_map(|name| match catalog::since(*name) {
            Since::Always => None,
            Since::From(version) => Some(version),
        });
    let mut versions: Vec<_> = dates.collect::<BTreeSet<_>>().into_iter().collect();
    // Before the first of them: what every version has.
    versions.insert(0, WebhookVersion::date(2015, 1, 1));
    versions.push(WebhookVersion::LATEST);
    versions
}

/// What an endpoint gains and loses with another version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) adds: Vec<EventName>,
    pub(super) drops: Vec<EventName>,
}

/// From one version to another.
pub(super) fn change(from: WebhookVersion, to: WebhookVersion) -> Change {
    let only = |has: WebhookVersion, lacks: WebhookVersion| {
        let all = EventName::ALL.iter().copied();
        all.filter(|name| catalog::admits(has, *name) && !catalog::admits(lacks, *name))
            .collect()
    };
    Change {
        adds: only(to, from),
        drops: only(from, to),
    }
}

/// What would change, in words.
pub(super) fn preview(from: WebhookVersion, to: WebhookVersion) -> Markup {
    let Change { adds, drops } = change(from, to);
    html! {
        div id="version-preview" {
            @if from == to {
                p class="hint" { "This is the version it has." }
            } @else if adds.is_empty() && drops.is_empty() {
                (notice(Tone::Plain, "No event is added or dropped."))
            } @else {
                div class="notice warn" role="status" {
                    p { "From " (from.describe()) " to " (to.describe()) ":" }
                    ul {
                        @for name in &adds { li { (badge(Tone::Good, "adds")) " " code { (name) } } }
                        @for name in &drops { li { (badge(Tone::Bad, "drops")) " " code { (name) } } }
                    }
                    p class="hint" {
                        "It holds for events from the next one on. What was withheld before stays \
                         withheld, and can be resent."
                    }
                }
            }
        }
    }
}

/// Which version has which event.
pub(super) fn matrix() -> Markup {
    let versions = known();
    let heads: Vec<String> = versions.iter().map(|version| version.describe()).collect();
    let columns: Vec<&str> = std::iter::once("Event")
        .chain(heads.iter().map(String::as_str))
        .collect();
    table(
        "Events by version",
        &columns,
        EventName::ALL.iter().map(|name| {
            html! {
                tr {
                    td { code { (name) } }
                    @for version in &versions {
                        td { @if catalog::admits(*version, *name) { "yes" } @else { span class="quiet" { "–" } } }
                    }
                }
            }
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_adds_and_an_older_one_drops_the_same() {
        let (old, new) = (
            WebhookVersion::date(2016, 7, 19),
            WebhookVersion::date(2020, 10, 31),
        );
        let up = change(old, new);
        let names: Vec<&str> = up.adds.iter().map(|name| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "TXN_CREATED",
                "AUTO_REFUND_SUCCEEDED",
                "AUTO_REFUND_FAILED",
                "TXN_CHARGED",
                "TXN_FAILED"
            ]
        );
        assert_eq!(up.drops, []);
        let down = change(new, old);
        assert_eq!((down.adds, down.drops), (up.drops, up.adds));
        assert_eq!(change(new, WebhookVersion::LATEST), change(new, new));
    }

    #[test]
    fn every_version_that_changes_something_can_be_chosen() {
        let shown: Vec<String> = known().iter().map(|version| version.describe()).collect();
        let expected = [
            "2015-01-01",
            "2016-07-19",
            "2016-10-27",
            "2019-11-11",
            "2020-10-31",
            "latest",
        ];
        assert_eq!(shown, expected);
    }
}
