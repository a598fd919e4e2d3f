//! Events: listed newest first, and one with its body, where it went, how each attempt went and why.
//!
//! The body is shown as stored, and indented, masked for whoever may not see persons. What merchants'
//! servers answered is hostile: text, and nothing else.

use harkara_core::id::{EndpointId, EventId, MerchantId};
use harkara_webhook::EventName;
use http::StatusCode;
use maud::{Markup, html};

use super::answer::page;
use super::body::{self, Sight};
use super::components::{
    Live, Section, Tone, ask_first, badge, document, empty, form, heading, id, live_part, notice,
    panel, select, table, text, time,
};
use super::gate::{Answer, Member};
use super::live::{self, Scene};
use super::orders::attempts;
use super::parts::{event_link, notified, order_link, segment, state};
use super::waterfall::waterfall;
use crate::api::events::{Explained, ExplainedEndpoint, explained, find, resend};
use crate::api::{Api, see_other};
use crate::config::days;
use crate::error::ApiError;
use crate::store::{AttemptView, DeliveryHistory, EventView, RecentEvents};

/// Events that one page has.
const PAGE: usize = 50;

/// `GET …/events`.
pub(super) async fn list(member: Member) -> Answer {
    let rows = Listed::of(&member).draw().await?;
    let given = |name: &str| member.query.get(name).unwrap_or_default();
    let names = EventName::ALL.iter().map(|name| name.as_str());
    let root = member.root();
    let live = format!("{root}/live/events?{}", member.query.without("").finish());
    let body = html! {
        (heading("Events", None))
        form method="get" action={ (root) "/orders" } class="panel row" role="search" {
            div class="field wide" {
                label {
                    span { "Search" }
                    input name="search" type="search"
                        placeholder="event, order, transaction, refund…";
                }
            }
            button class="main" { "Find" }
        }
        form method="get" class="panel row" {
            (select("Event", "name", given("name"),
                std::iter::once(("", "any")).chain(names.map(|name| (name, name)))))
            (select("Webhook", "notified", given("notified"),
                [("", "any"), ("false", "notified: False"), ("true", "notified: True")]))
            button { "Show" }
        }
        (live_part(Live::List, &live, rows))
    };
    let frame = member.frame(Section::Events);
    Ok(page(StatusCode::OK, document("Events", Some(&frame), body)))
}

/// `GET …/live/events`: a page of the list again, whenever it has changed.
pub(super) async fn list_live(member: Member) -> Answer {
    live::stream(&member.api, Listed::of(&member))
}

/// A page of the list.
struct Listed {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    wanted: RecentEvents,
    /// What the link to the page after it asks for, but for its place.
    query: String,
}

impl Listed {
    fn of(member: &Member) -> Self {
        let query = &member.query;
        let before = query
            .get("before")
            .and_then(|position| position.parse().ok());
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            wanted: RecentEvents {
                name: query.get("name").map(str::to_owned),
                notified: query.get("notified").map(|word| word == "true"),
                before,
                limit: PAGE,
            },
            query: query.without("before").finish(),
        }
    }
}

impl Scene for Listed {
    async fn draw(&self) -> Result<Markup, ApiError> {
        let wanted = self.wanted.clone();
        let found = self
            .api
            .store
            .recent_events(&self.merchant_id, wanted)
            .await?;
        Ok(panel(
            "Newest first",
            html! {
                @if found.rows.is_empty() && found.next.is_none() {
                    (empty("No such events", "Whatever happens to a payment is an event here at once."))
                } @else {
                    (table(
                        "Events", &["Event", "About", "Webhook", "When", "Id"],
                        found.rows.iter().map(|event| row(&self.root, event)),
                    ))
                    @if let Some(next) = found.next {
                        p { a href={ "events?" (self.query) "&before=" (next) } { "Older events" } }
                    }
                }
            },
        ))
    }
}

fn row(root: &str, event: &EventView) -> Markup {
    html! {
        tr {
            td { (event_link(root, event.event_id.as_str(), &event.name)) }
            td { (about(root, &event.subject)) }
            td { (notified(event.notified)) }
            td { (time(event.created_at)) }
            td { (id(event.event_id.as_str())) }
        }
    }
}

/// What an event is about, by its key.
fn about(root: &str, subject: &str) -> Markup {
    match subject.split_once('/') {
        Some(("order", order_id)) => order_link(root, order_id),
        _ => id(subject),
    }
}

/// `GET …/events/{event_id}`.
pub(super) async fn one(member: Member) -> Answer {
    let event_id = EventId::new(member.param("event_id"));
    let (api, merchant_id) = (&member.api, &member.merchant.merchant_id);
    let explained = explained(api, merchant_id, &event_id).await?;
    let (_, bytes) = find(api, merchant_id, &event_id).await?;
    let other = match member.query.get("other") {
        None => None,
        Some(other) => {
            let other = EventId::new(other.trim());
            let found = api.store.event(merchant_id, &other).await?;
            Some((other, found.and_then(|(_, body)| body)))
        }
    };
    let root = member.root();
    let here = format!("{root}/events/{}", segment(event_id.as_str()));
    let sight = Sight::of(member.role);
    let event = &explained.event;
    let done = member.query.get("done").map(|done| match done {
        "tested" => "The test is on its way. Its attempts stand below as they are made.",
        _ => "Sent again. Its attempts stand below as they are made.",
    });
    let done = done.map(|done| notice(Tone::Good, done));
    let content = html! {
        (heading(html! { (text(&event.name)) }, None))
        @if let Some(done) = done { (done) }
        (panel("The event", html! {
            dl class="facts" {
                dt { "Id" } dd { (id(event.event_id.as_str())) }
                dt { "About" } dd { (about(&root, &event.subject)) ", number " (event.sequence) " of it" }
                dt { "Because" } dd { (text(&event.transition)) }
                dt { "When" } dd { (time(event.created_at)) }
                dt { "Webhook" } dd { (notified(event.notified)) }
            }
            @if explained.has_body { (resend_acts(&member, &here, &explained)) }
        }))
        @for endpoint in &explained.endpoints { (at_endpoint(endpoint, sight)) }
        @match &bytes {
            Some(bytes) => {
                (body_panel(bytes, &explained, sight))
                (compare(bytes, other.as_ref(), sight))
            }
            None => (panel("Body", empty("Kept no longer", format!(
                "Bodies are kept for {} days. This one can be neither shown nor sent again.",
                days(api.config.retention.bodies),
            )))),
        }
    };
    let frame = member.frame(Section::Events);
    Ok(page(
        StatusCode::OK,
        document(&event.name, Some(&frame), content),
    ))
}

fn resend_acts(member: &Member, here: &str, explained: &Explained) -> Markup {
    html! {
        div class="acts" {
            (form(member, &format!("{here}/resend"), html! {
                button data-key="r" { "Resend" }
            }))
            @if explained.endpoints.len() > 1 {
                (ask_first(member, "Resend to one…", &format!("{here}/resend"), html! {
                    (select("Endpoint", "endpoint_id", "", explained.endpoints.iter().map(|it| {
                        (it.endpoint_id.as_str(), it.url.as_str())
                    })))
                    button { "Resend" }
                }))
            }
        }
    }
}

/// What became of an event at one endpoint: why, and each attempt.
fn at_endpoint(endpoint: &ExplainedEndpoint, sight: Sight) -> Markup {
    let history = endpoint.history.as_ref();
    html! {
        section class="panel" {
            h2 {
                (text(&endpoint.url))
                @if let Some(history) = history {
                    " " (state(&history.delivery)) " "
                    span class="quiet" { (kind(history)) (attempts(history.attempts.len())) }
                }
            }
            ul class="facts-list" { @for fact in &endpoint.facts { li { (text(fact)) } } }
            @if let Some(due_at) = history.and_then(|history| history.delivery.due_at) {
                p { "Next try " (time(due_at)) }
            }
            @if let Some(history) = history {
                @for attempt in &history.attempts { (attempt_part(endpoint, attempt, sight)) }
            }
        }
    }
}

fn kind(history: &DeliveryHistory) -> &'static str {
    use harkara_core::delivery::DeliveryKind;
    match history.delivery.kind {
        DeliveryKind::Event => "",
        DeliveryKind::Replay => "sent again, ",
        DeliveryKind::Test => "a test, ",
    }
}

fn attempt_part(endpoint: &ExplainedEndpoint, attempt: &AttemptView, sight: Sight) -> Markup {
    let (code, sentence) = endpoint.outcome(attempt);
    let evidence = &attempt.attempt.evidence;
    let tone = if endpoint.is_accepted(attempt) {
        Tone::Good
    } else {
        Tone::Bad
    };
    let is_last = endpoint
        .history
        .as_ref()
        .and_then(|history| history.attempts.last())
        .is_some_and(|last| last.n == attempt.n);
    html! {
        details class="attempt" open[is_last] {
            summary {
                "Attempt " (attempt.n) " " (badge(tone, &code)) " " (time(attempt.attempt.started_at))
                @if let Some(retry_at) = attempt.retry_at { span class="quiet" { " · next " (time(retry_at)) } }
            }
            p { (text(&sentence)) }
            (waterfall(attempt))
            h3 { "Request" }
            @let sent = endpoint.request_headers(attempt);
            @if sent.is_empty() {
                p class="quiet" { "None was sent: it ended before that." }
            } @else {
                (headers("Headers of the request", &sent, Sight::Whole))
            }
            h3 { "Answer" }
            @if evidence.answer_headers.is_empty() && evidence.answer_body.is_empty() {
                p class="quiet" { "None." }
            } @else {
                (headers("Headers of the answer", &evidence.answer_headers, sight))
                @if !evidence.answer_body.is_empty() {
                    pre tabindex="0" { (text(sight.of_text(&evidence.answer_body))) }
                }
            }
        }
    }
}

fn headers(caption: &str, headers: &[(String, String)], sight: Sight) -> Markup {
    table(
        caption,
        &["Header", "Value"],
        headers.iter().map(|(name, value)| {
            html! {
                tr { td { (text(name)) } td class="id" { (text(sight.of_text(value))) } }
            }
        }),
    )
}

fn body_panel(bytes: &[u8], explained: &Explained, sight: Sight) -> Markup {
    let exact = String::from_utf8_lossy(bytes);
    let url = explained.endpoints.first().map(|endpoint| &endpoint.url);
    panel(
        "Body",
        html! {
            pre id="body" tabindex="0" { (text(&body::pretty(bytes, sight))) }
            @match sight {
                Sight::Whole => details {
                    summary { "Exactly as it is sent, " (bytes.len()) " bytes" }
                    pre id="exact" class="wrap" tabindex="0" { (text(&exact)) }
                    button type="button" class="plain" data-copy="exact" { "Copy" }
                    @if let Some(url) = url {
                        h3 { "As curl" }
                        pre id="curl" class="wrap" tabindex="0" { (text(&curl(url, &exact))) }
                        button type="button" class="plain" data-copy="curl" { "Copy" }
                    }
                },
                Sight::Masked => p class="hint" {
                    "What tells of a person is " (body::FILTERED) " for your role; receivers get all of it."
                },
            }
        },
    )
}

/// The same call by hand; the credentials are its caller's to know.
fn curl(url: &str, body: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    format!(
        "curl -X POST {} -u \"$USERNAME:$PASSWORD\" -H 'content-type: application/json' -d {}",
        quoted(url),
        quoted(body)
    )
}

fn compare(bytes: &[u8], other: Option<&(EventId, Option<bytes::Bytes>)>, sight: Sight) -> Markup {
    panel(
        "Compare with another event",
        html! {
            form method="get" class="row" {
                div class="field wide" {
                    label {
                        span { "Id of the other event" }
                        input name="other" value=(other.map_or("", |(id, _)| id.as_str()));
                    }
                }
                button { "Compare" }
            }
            @match other {
                None => {}
                Some((_, None)) => (notice(Tone::Bad, "There is no such event, or its body is kept no longer.")),
                Some((_, Some(other))) => {
                    @let differences = body::differences(bytes, other, sight);
                    @if differences.is_empty() {
                        (notice(Tone::Good, "Every value is the same."))
                    } @else {
                        (table("What differs", &["Where", "This event", "The other", ""],
                            differences.iter().map(|it| html! {
                                tr {
                                    td { code { (text(&it.path)) } }
                                    td class="id" { (text(it.one.as_deref().unwrap_or("–"))) }
                                    td class="id" { (text(it.other.as_deref().unwrap_or("–"))) }
                                    td { @if it.is_same_value { span class="quiet" { "same value, other text" } } }
                                }
                            })))
                    }
                }
            }
        },
    )
}

/// `POST …/events/{event_id}/resend`.
pub(super) async fn resend_one(member: Member) -> Answer {
    let event_id = EventId::new(member.param("event_id"));
    let to = member.form.get("endpoint_id").map(EndpointId::new);
    let merchant_id = &member.merchant.merchant_id;
    let mut entry = member.entry(merchant_id, "resent an event", event_id.as_str());
    entry.detail = to.as_ref().map_or(String::new(), |to| format!("to {to}"));
    let act = resend::one_event(&member.api, merchant_id, &event_id, to.as_ref());
    member.written_down(entry, act).await?;
    let event_id = segment(event_id.as_str());
    Ok(see_other(&format!(
        "{}/events/{event_id}?done=resent",
        member.root()
    )))
}
