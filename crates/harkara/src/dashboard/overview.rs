//! The overview of a merchant: what was paid and not told comes first, for that is what costs.
//!
//! Its figures are the store's, kept for two seconds for all who look; with scripts on they arrive by
//! themselves (`live.rs`), from the same function that draws the page.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harkara_core::id::MerchantId;
use harkara_core::time::Timestamp;
use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::components::{
    Live, Section, document, empty, heading, live_part, panel, span, table, text, time,
};
use super::gate::{Answer, Member};
use super::live::{self, Scene};
use super::orders::PAID;
use super::parts::{endpoint_link, endpoint_state, failing_since, money, order_link};
use crate::api::Api;
use crate::error::ApiError;
use crate::store::{EndpointRow, Traffic, Untold};

/// How old figures may be.
const FIGURES_LIFE: Duration = Duration::from_secs(2);

/// Merchants whose figures are kept; beyond, all are forgotten.
const KEPT: usize = 1_000;

/// What an overview shows.
pub(super) struct Figures {
    untold: Untold,
    traffic: Traffic,
    endpoints: Vec<EndpointRow>,
}

/// The latest figures of each merchant.
#[derive(Default)]
pub(super) struct Latest(Mutex<HashMap<MerchantId, (Timestamp, Arc<Figures>)>>);

impl Latest {
    async fn of(&self, api: &Api, merchant_id: &MerchantId) -> Result<Arc<Figures>, ApiError> {
        let now = api.clock.now();
        let kept = self.lock().get(merchant_id).cloned();
        if let Some((at, figures)) = kept
            && (at..at.plus(FIGURES_LIFE)).contains(&now)
        {
            return Ok(figures);
        }
        let figures = Arc::new(Figures {
            untold: api.store.untold(merchant_id).await?,
            traffic: api.store.traffic(merchant_id).await?,
            endpoints: api.store.endpoint_rows(merchant_id).await?,
        });
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(merchant_id.clone(), (now, figures.clone()));
        Ok(figures)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MerchantId, (Timestamp, Arc<Figures>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /dashboard/merchants/{merchant_id}`.
pub(super) async fn show(member: Member) -> Answer {
    let root = member.root();
    let figures = figures(&member.api, &member.merchant.merchant_id, &root).await?;
    let body = html! {
        (heading(text(member.merchant.merchant_id.as_str()), Some("Overview")))
        (live_part(Live::Whole, &format!("{root}/live"), figures))
    };
    let frame = member.frame(Section::Overview);
    Ok(page(
        StatusCode::OK,
        document("Overview", Some(&frame), body),
    ))
}

/// `GET /dashboard/merchants/{merchant_id}/live`: the figures again, whenever they have changed.
pub(super) async fn live(member: Member) -> Answer {
    let scene = Overview {
        api: member.api.clone(),
        merchant_id: member.merchant.merchant_id.clone(),
        root: member.root(),
    };
    live::stream(&member.api, scene)
}

struct Overview {
    api: Api,
    merchant_id: MerchantId,
    root: String,
}

impl Scene for Overview {
    async fn draw(&self) -> Result<Markup, ApiError> {
        figures(&self.api, &self.merchant_id, &self.root).await
    }
}

async fn figures(api: &Api, merchant_id: &MerchantId, root: &str) -> Result<Markup, ApiError> {
    let figures = api.dashboard().latest.of(api, merchant_id).await?;
    let now = api.clock.now();
    Ok(html! {
        (untold(&figures.untold, root, now))
        (traffic(&figures.traffic))
        (endpoints(&figures.endpoints, root, now))
    })
}

fn untold(untold: &Untold, root: &str, now: Timestamp) -> Markup {
    let at_least = if untold.is_more { "at least " } else { "" };
    let class = match (untold.orders, untold.is_more) {
        (0, false) => "panel lead calm",
        // Nothing is known to be wrong, and nothing to be well.
        (0, true) => "panel",
        _ => "panel lead alarm",
    };
    html! {
        section class=(class) {
            h2 { "Paid, and the merchant was not told" }
            @if untold.orders == 0 && !untold.is_more {
                p class="figure" { "None" }
                p class="quiet" { "Every paid order is notified, or has no endpoint to go to." }
            } @else if untold.orders == 0 {
                p class="figure" { "None found" }
                p {
                    "Of what the endpoints were sent and did not take, only a part was looked at, and no \
                     paid order was in it. Whether one is in the rest is not known. "
                    a href={ (root) "/orders?notified=false" } { "Show what is not notified" }
                }
            } @else {
                p class="figure" {
                    (at_least) (untold.orders) @if untold.orders == 1 { " order" } @else { " orders" }
                }
                p class="amounts" {
                    @for (currency, minor) in &untold.amounts { span { (money(*minor, currency)) } " " }
                }
                @if let Some((order_id, since)) = &untold.oldest {
                    p {
                        "The oldest, " (order_link(root, order_id.as_str())) ", for " (span(now.since(*since)))
                        ", since " (time(*since)) "."
                    }
                }
                p { a href={ (root) "/orders?notified=false&status=" (PAID) } { "Show them" } }
            }
        }
    }
}

fn traffic(traffic: &Traffic) -> Markup {
    let about = html! {
        @match traffic.since {
            Some(since) => { "Of the newest " (traffic.events) " events, since " (time(since)) "." }
            None => { "Of all " (traffic.events) " events." }
        }
    };
    let (half, most) = match traffic.took {
        Some((half, most)) => (span(half), span(most)),
        None => ("–".to_owned(), "–".to_owned()),
    };
    let figures = [
        ("Accepted", traffic.events.to_string()),
        ("Delivered", traffic.delivered.to_string()),
        ("On the way", traffic.on_the_way.to_string()),
        ("Retrying", traffic.retrying.to_string()),
        ("Exhausted", traffic.exhausted.to_string()),
        ("Withheld", traffic.withheld.to_string()),
        ("Half within", half),
        ("99 of 100 within", most),
    ];
    panel(
        "Traffic",
        html! {
            dl class="stats" {
                @for (name, figure) in figures { div { dt { (name) } dd { (figure) } } }
            }
            p class="hint" { (about) " Accepted counts events, the others what became of them at each endpoint." }
        },
    )
}

fn endpoints(rows: &[EndpointRow], root: &str, now: Timestamp) -> Markup {
    panel(
        "Endpoints",
        html! {
            @if rows.is_empty() {
                (empty("No endpoint yet", html! {
                    "Without one, nobody is told of any payment. "
                    a href={ (root) "/webhooks" } { "Webhooks" } " has them."
                }))
            } @else {
                (table("Endpoints", &["URL", "State", "Version"], rows.iter().map(|row| {
                    let endpoint = &row.endpoint;
                    html! {
                        tr {
                            td { (endpoint_link(root, endpoint)) }
                            td {
                                (endpoint_state(row))
                                @if let Some(since) = failing_since(row) {
                                    div class="quiet" { "for " (span(now.since(since))) }
                                }
                            }
                            td { (endpoint.version.describe()) }
                        }
                    }
                })))
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_called_none_that_was_not_looked_at() {
        let shown = |is_more| {
            let figures = Untold {
                is_more,
                ..Untold::default()
            };
            untold(&figures, "", Timestamp::from_seconds(0)).into_string()
        };
        assert!(shown(false).contains("None</p>"), "{}", shown(false));
        assert!(shown(true).contains("is not known"), "{}", shown(true));
        assert!(!shown(true).contains("None</p>"), "{}", shown(true));
        assert!(!shown(true).contains("alarm"), "{}", shown(true));
    }
}
