//! Orders: found by whatever somebody holds of one, listed newest first, and one with all that was
//! told of it.
//!
//! Reads the store's views, and explains with the same words as the API. Resends go the API's way.

use harkara_core::id::{EventId, MerchantId, OrderId, Subject};
use harkara_core::time::Timestamp;
use harkara_webhook::OrderStatus;
use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::body::Sight;
use super::components::{
    Field, Live, Section, Tone, document, empty, form, heading, id, live_part, notice, panel,
    select, table, text, time,
};
use super::gate::{Answer, Member};
use super::live::{self, Scene};
use super::parts::{event_link, money_opt, notified, order_link, segment, state, status};
use crate::api::events::{Explained, ExplainedEndpoint, explained, resend};
use crate::api::{Api, see_other};
use crate::config::days;
use crate::error::ApiError;
use crate::store::{EventFilter, EventView, FeedAsk, OrderPlace, OrderView, RecentOrders, RefKind};

/// Orders that one page has.
const PAGE: usize = 50;

/// Events that an order's page has.
const EVENTS: usize = 50;

/// What the filter by status calls whatever is paid.
pub(super) const PAID: &str = "paid";

/// `GET …/orders`.
pub(super) async fn list(member: Member) -> Answer {
    if let Some(search) = member.query.get("search")
        && let Some(found) = find(&member, search).await?
    {
        return Ok(see_other(&found));
    }
    let wanted = match wanted(&member) {
        Ok(wanted) => wanted,
        Err(why) => {
            let body = list_page(&member, Some(notice(Tone::Bad, why)), html! {});
            return Ok(page(StatusCode::UNPROCESSABLE_ENTITY, body));
        }
    };
    let listed = Listed::of(&member, wanted);
    let rows = listed.draw().await?;
    let live = format!(
        "{}/live/orders?{}",
        member.root(),
        member.query.without("").finish()
    );
    let rows = live_part(Live::List, &live, rows);
    Ok(page(StatusCode::OK, list_page(&member, None, rows)))
}

/// `GET …/live/orders`: a page of the list again, whenever it has changed.
pub(super) async fn list_live(member: Member) -> Answer {
    let wanted = wanted(&member).map_err(|why| ApiError::invalid("invalid_request", why))?;
    live::stream(&member.api, Listed::of(&member, wanted))
}

/// A page of the list.
struct Listed {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    wanted: RecentOrders,
    /// What the link to the page after it asks for, but for its place.
    query: String,
}

impl Listed {
    fn of(member: &Member, wanted: RecentOrders) -> Self {
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            wanted,
            query: member.query.without("after").finish(),
        }
    }
}

impl Scene for Listed {
    async fn draw(&self) -> Result<Markup, ApiError> {
        let wanted = self.wanted.clone();
        let found = self
            .api
            .store
            .recent_orders(&self.merchant_id, wanted)
            .await?;
        Ok(panel(
            "Newest first",
            html! {
                @if found.rows.is_empty() && found.next.is_none() {
                    (empty("No such orders", "Search takes the id of an order, a transaction, a refund, \
                        an event, or a customer."))
                } @else {
                    (table(
                        "Orders",
                        &["Order", "Status", "Amount", "Webhook", "Created"],
                        found.rows.iter().map(|order| row(&self.root, order)),
                    ))
                    @if let Some(OrderPlace { created_at, number }) = found.next {
                        p {
                            a href={ "orders?" (self.query) "&after=" (created_at.as_micros()) "-" (number) } {
                                "Older orders"
                            }
                        }
                    }
                }
            },
        ))
    }
}

fn row(root: &str, order: &OrderView) -> Markup {
    html! {
        tr {
            td { (order_link(root, order.order_id.as_str())) }
            td { (status(&order.status)) }
            td class="number" { (money_opt(order.amount_minor, order.currency.as_deref())) }
            td { (notified(order.notified)) }
            td { (time(order.created_at)) }
        }
    }
}

fn list_page(member: &Member, notice: Option<Markup>, rows: Markup) -> Markup {
    let given = |name: &str| member.query.get(name).unwrap_or_default();
    let statuses = OrderStatus::ALL.iter().map(|status| status.as_str());
    let body = html! {
        (heading("Orders", None))
        form method="get" class="panel row" role="search" {
            div class="field wide" {
                label {
                    span { "Search" }
                    input id="search" name="search" type="search" value=(given("search"))
                        placeholder="order, transaction, refund, customer…";
                }
            }
            (select("Webhook", "notified", given("notified"),
                [("", "any"), ("false", "notified: False"), ("true", "notified: True")]))
            (select("Status", "status", given("status"),
                [("", "any"), (PAID, "paid, in whole or in part")]
                    .into_iter()
                    .chain(statuses.map(|word| (word, word)))))
            (Field { label: "From", name: "from", kind: "date", value: given("from"), ..Field::default() })
            (Field { label: "Until", name: "until", kind: "date", value: given("until"), ..Field::default() })
            button class="main" { "Show" }
        }
        @if let Some(notice) = notice { (notice) }
        (rows)
    };
    document("Orders", Some(&member.frame(Section::Orders)), body)
}

/// Where a text leads that is the id of something. That of a customer leads nowhere: it is a filter.
async fn find(member: &Member, search: &str) -> Result<Option<String>, ApiError> {
    let (store, merchant_id) = (&member.api.store, &member.merchant.merchant_id);
    let root = member.root();
    let at = |order: OrderView| format!("{root}/orders/{}", segment(order.order_id.as_str()));
    let order_id = OrderId::new(search);
    if let Some(order) = store.order(merchant_id, &order_id).await? {
        return Ok(Some(at(order)));
    }
    for kind in [RefKind::TxnId, RefKind::TxnUuid, RefKind::Refund] {
        if let Some(order) = store.order_by_ref(merchant_id, kind, search).await? {
            return Ok(Some(at(order)));
        }
    }
    let event = store.event(merchant_id, &EventId::new(search)).await?;
    Ok(event.map(|_| format!("{root}/events/{}", segment(search))))
}

fn wanted(member: &Member) -> Result<RecentOrders, String> {
    let query = &member.query;
    let day = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => Timestamp::parse_iso(&format!("{text}T00:00:00Z"))
            .map(Some)
            .ok_or_else(|| format!("{name}: write a day as 2026-11-29")),
    };
    let status = query.get("status");
    Ok(RecentOrders {
        status: status.filter(|word| *word != PAID).map(str::to_owned),
        is_paid: status == Some(PAID),
        created_after: day("from")?,
        created_before: day("until")?.map(|day| day.plus(std::time::Duration::from_secs(86_400))),
        customer_id: query.get("search").map(str::to_owned),
        notified: query.get("notified").map(|word| word == "true"),
        after: query.get("after").and_then(place),
        limit: PAGE,
    })
}

/// A place in the list as it stands in a link.
fn place(text: &str) -> Option<OrderPlace> {
    let (at, number) = text.split_once('-')?;
    Some(OrderPlace {
        created_at: Timestamp::from_micros(at.parse().ok()?),
        number: number.parse().ok()?,
    })
}

/// `GET …/orders/{order_id}`.
pub(super) async fn one(member: Member) -> Answer {
    let one = One::of(&member);
    let shown = one.draw().await?;
    let root = member.root();
    let order_id = segment(one.order_id.as_str());
    let resent = member.query.get("done").map(|_| {
        notice(
            Tone::Good,
            "Sent again: each event to every endpoint that was meant to have it.",
        )
    });
    let curl = format!(
        "curl -u \"$API_KEY:\" {}/orders/{order_id}",
        member.api.public_url
    );
    let live = format!("{root}/live/orders/{order_id}");
    let body = html! {
        (heading(html! { "Order " (text(one.order_id.as_str())) }, None))
        @if let Some(resent) = resent { (resent) }
        div class="acts" {
            (form(&member, &format!("{root}/orders/{order_id}/resend"), html! {
                button data-key="r" { "Resend all events" }
            }))
            code id="curl" class="unseen" { (curl) }
            button type="button" data-copy="curl" { "Copy as curl" }
        }
        (live_part(Live::Whole, &live, shown))
    };
    Ok(page(
        StatusCode::OK,
        document("Order", Some(&member.frame(Section::Orders)), body),
    ))
}

/// `GET …/live/orders/{order_id}`: the order again, whenever something has happened to it.
pub(super) async fn one_live(member: Member) -> Answer {
    live::stream(&member.api, One::of(&member))
}

/// An order with its timeline.
struct One {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    order_id: OrderId,
    sight: Sight,
}

impl One {
    fn of(member: &Member) -> Self {
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            order_id: OrderId::new(member.param("order_id")),
            sight: Sight::of(member.role),
        }
    }
}

impl Scene for One {
    async fn draw(&self) -> Result<Markup, ApiError> {
        let (store, merchant_id) = (&self.api.store, &self.merchant_id);
        let order = store
            .order(merchant_id, &self.order_id)
            .await?
            .ok_or_else(|| {
                let message = format!("there is no order '{}'", self.order_id);
                ApiError::not_found("order.not_found", message)
            })?;
        Ok(html! {
            (facts(&order, self.sight))
            (timeline(&self.api, merchant_id, &self.root, &self.order_id).await?)
        })
    }
}

/// The first events of an order, one more than its page has.
pub(super) async fn events_of(
    api: &Api,
    merchant_id: &MerchantId,
    order_id: &OrderId,
) -> Result<Vec<EventView>, ApiError> {
    let ask = FeedAsk {
        filter: EventFilter {
            subject: Some(Subject::Order(order_id.clone())),
            ..EventFilter::default()
        },
        limit: EVENTS + 1,
        ..FeedAsk::default()
    };
    let events = api.store.feed(merchant_id, ask).await?.events;
    Ok(events.into_iter().map(|(event, _)| event).collect())
}

/// What happened to an order, in its order, and what became of it at each endpoint.
pub(super) async fn timeline(
    api: &Api,
    merchant_id: &MerchantId,
    root: &str,
    order_id: &OrderId,
) -> Result<Markup, ApiError> {
    let events = events_of(api, merchant_id, order_id).await?;
    let is_more = events.len() > EVENTS;
    let mut timeline = Vec::with_capacity(EVENTS);
    for event in events.iter().take(EVENTS) {
        timeline.push(explained(api, merchant_id, &event.event_id).await?);
    }
    Ok(panel(
        "Timeline",
        html! {
            @if timeline.is_empty() {
                (empty("No events", format!(
                    "The first payment makes the first, and they are kept for {} days.",
                    days(api.config.retention.events),
                )))
            } @else {
                ol class="timeline" { @for event in &timeline { (step(root, event)) } }
                @if is_more {
                    p class="hint" {
                        "These are its first " (EVENTS) " events. GET /events with its order_id has all."
                    }
                }
            }
        },
    ))
}

fn facts(order: &OrderView, sight: Sight) -> Markup {
    let customer = order.customer_id.as_deref().unwrap_or_default();
    panel(
        "The order",
        html! {
            dl class="facts" {
                dt { "Status" } dd { (status(&order.status)) }
                dt { "Amount" } dd { (money_opt(order.amount_minor, order.currency.as_deref())) }
                dt { "Webhook" } dd { (notified(order.notified)) }
                dt { "Customer" } dd { (text(sight.of_text(customer))) }
                dt { "Created" } dd { (time(order.created_at)) }
                dt { "Updated" } dd { (time(order.updated_at)) }
            }
        },
    )
}

/// A transition, its event, and what became of it at each endpoint.
fn step(root: &str, explained: &Explained) -> Markup {
    let event = &explained.event;
    // A test is nobody's business but its endpoint's.
    let is_shown = |it: &&ExplainedEndpoint| it.history.is_some() || !explained.is_test();
    let endpoints = explained.endpoints.iter().filter(is_shown);
    html! {
        li {
            div class="step" {
                strong { (event_link(root, event.event_id.as_str(), &event.name)) }
                @if !explained.is_test() { (notified(event.notified)) }
                (time(event.created_at))
            }
            div class="quiet" { (text(&event.transition)) " · " (id(event.event_id.as_str())) }
            @for endpoint in endpoints {
                details open[endpoint.is_troubled()] {
                    summary {
                        @match &endpoint.history {
                            Some(history) => {
                                (state(&history.delivery))
                                " " (text(&endpoint.url)) " "
                                span class="quiet" { (attempts(history.attempts.len())) }
                            }
                            None => span class="quiet" { (text(&endpoint.url)) },
                        }
                    }
                    ul { @for fact in &endpoint.facts { li { (text(fact)) } } }
                }
            }
        }
    }
}

/// A number of attempts in words.
pub(super) fn attempts(count: usize) -> String {
    match count {
        0 => "no attempt yet".to_owned(),
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

/// `POST …/orders/{order_id}/resend`.
pub(super) async fn resend_all(member: Member) -> Answer {
    let order_id = OrderId::new(member.param("order_id"));
    let merchant_id = &member.merchant.merchant_id;
    let entry = member.entry(merchant_id, "resent an order", order_id.as_str());
    let act = resend::order_events(&member.api, merchant_id, &order_id, None);
    member.written_down(entry, act).await?;
    let order_id = segment(order_id.as_str());
    Ok(see_other(&format!(
        "{}/orders/{order_id}?done=resent",
        member.root()
    )))
}
