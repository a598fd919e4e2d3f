//! Send a test: a made-up event, or a whole flow of them, to an endpoint of one's own.
//!
//! What is sent is `api/samples.rs`, how is `api/endpoints/trial.rs`. One event's page has the whole
//! result of a single test; a flow has a page here, on which its events turn to delivered one after the
//! other.

use harkara_core::endpoint::EndpointState;
use harkara_core::id::{EndpointId, MerchantId, OrderId};
use harkara_webhook::{EventName, catalog};
use http::StatusCode;
use maud::{Markup, html};
use url::form_urlencoded;

use super::answer::{form_status, page, sentence};
use super::components::{
    Live, Section, Tone, document, empty, form, heading, live_part, notice, panel, select, table,
    text,
};
use super::gate::{Answer, Member};
use super::live::{self, Scene};
use super::orders::{events_of, timeline};
use super::parts::segment;
use crate::api::samples::Flow;
use crate::api::{Api, endpoints, see_other};
use crate::error::ApiError;
use crate::store::{EndpointRow, EventView};

/// `GET …/test`.
pub(super) async fn show(member: Member) -> Answer {
    show_with(&member, StatusCode::OK, None).await
}

/// `POST …/test`: one event, or the events of a flow.
pub(super) async fn send(member: Member) -> Answer {
    let endpoint_id = EndpointId::new(member.form.get("endpoint_id").unwrap_or_default());
    match sent(&member, &endpoint_id).await {
        Ok(next) => Ok(see_other(&next)),
        Err(error) if error.status.is_client_error() => {
            let why = notice(Tone::Bad, sentence(&error.message));
            show_with(&member, form_status(&error), Some(why)).await
        }
        Err(error) => Err(error),
    }
}

/// Sends what the form asks for; where its result is shown.
async fn sent(member: &Member, endpoint_id: &EndpointId) -> Result<String, ApiError> {
    let (api, root) = (&member.api, member.root());
    let unknown = |field| ApiError::field(field, "is none that there is");
    let mut entry = member.entry(
        &member.merchant.merchant_id,
        "sent a test",
        endpoint_id.as_str(),
    );
    match member.form.get("flow") {
        Some(flow) => {
            let flow = Flow::ALL.into_iter().find(|known| known.as_str() == flow);
            let flow = flow.ok_or_else(|| unknown("flow"))?;
            entry.detail = format!("the flow {}", flow.as_str());
            let act = endpoints::tell_flow(api, &member.merchant, endpoint_id, flow);
            let told = member.written_down(entry, act).await?;
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("flow", flow.as_str());
            query.append_pair("endpoint_id", endpoint_id.as_str());
            let order_id = segment(told.order_id.as_str());
            Ok(format!("{root}/test/{order_id}?{}", query.finish()))
        }
        None => {
            let name = member.form.get("event_name").unwrap_or_default();
            let name: EventName = name.parse().map_err(|_| unknown("event_name"))?;
            entry.detail = name.to_string();
            let act = endpoints::try_out(api, &member.merchant, endpoint_id, Some(name));
            let tested = member.written_down(entry, act).await?;
            let event_id = segment(tested.event_id.as_str());
            Ok(format!("{root}/events/{event_id}?done=tested"))
        }
    }
}

async fn show_with(member: &Member, status: StatusCode, said: Option<Markup>) -> Answer {
    let rows = member
        .api
        .store
        .endpoint_rows(&member.merchant.merchant_id)
        .await?;
    let given = |name: &str| {
        let typed = member.form.get(name).or_else(|| member.query.get(name));
        typed.unwrap_or_default().to_owned()
    };
    let (endpoint_id, name, flow) = (given("endpoint_id"), given("event_name"), given("flow"));
    let action = format!("{}/test", member.root());
    let body = html! {
        (heading("Send a test", Some("Made up, and sent to one endpoint as a real one would be.")))
        @if let Some(said) = said { (said) }
        @if rows.is_empty() {
            (panel("One event", empty("No endpoint yet", html! {
                "A test needs somewhere to go: " a href={ (member.root()) "/webhooks" } { "add an endpoint" } "."
            })))
        } @else {
            (panel("One event", form(member, &action, html! {
                div class="row" {
                    (chooser(&rows, &endpoint_id))
                    (select("Event", "event_name", &name,
                        EventName::ALL.iter().map(|name| (name.as_str(), name.as_str()))))
                    button class="main" { "Send the event" }
                }
                p class="hint" {
                    "It is sent whatever the endpoint's version and switches say, and even while it is \
                     paused: once, without a retry."
                }
            })))
            (panel("A whole flow", form(member, &action, html! {
                div class="row" {
                    (chooser(&rows, &endpoint_id))
                    (select("Flow", "flow", &flow,
                        Flow::ALL.iter().map(|flow| (flow.as_str(), flow.as_str()))))
                    button class="main" { "Send the flow" }
                }
                p class="hint" {
                    "All of it is about one order, each event after the outcome of the one before. Of a \
                     flow the endpoint is sent what it would hear of a real payment."
                }
                (table("Flows", &["Flow", "Events"], Flow::ALL.iter().map(|flow| html! {
                    tr {
                        td { code { (flow.as_str()) } }
                        td {
                            @for (index, name) in flow.events().iter().enumerate() {
                                @if index > 0 { " → " }
                                code title=(catalog::description(*name)) { (name) }
                            }
                        }
                    }
                })))
            })))
        }
    };
    let frame = member.frame(Section::Test);
    Ok(page(status, document("Send a test", Some(&frame), body)))
}

fn chooser(rows: &[EndpointRow], chosen: &str) -> Markup {
    let shown: Vec<(&str, String)> = rows
        .iter()
        .map(|row| {
            let url = &row.endpoint.url;
            let shown = match row.endpoint.state {
                EndpointState::Active => url.clone(),
                EndpointState::Paused { .. } => format!("{url} (paused)"),
                EndpointState::Disabled { .. } => format!("{url} (disabled)"),
            };
            (row.endpoint.endpoint_id.as_str(), shown)
        })
        .collect();
    let options = shown.iter().map(|(value, shown)| (*value, shown.as_str()));
    select("Endpoint", "endpoint_id", chosen, options)
}

/// `GET …/test/{order_id}`: a flow that was sent.
pub(super) async fn flow(member: Member) -> Answer {
    let told = Told::of(&member);
    let sent = events_of(&told.api, &told.merchant_id, &told.order_id).await?;
    if sent.is_empty() {
        let message = format!("there is no test about an order '{}'", told.order_id);
        return Err(ApiError::not_found("test.not_found", message));
    }
    let shown = told.draw().await?;
    let root = member.root();
    let live = format!("{root}/live/test/{}", segment(told.order_id.as_str()));
    let withheld = withheld(&member, &sent).await?;
    let again = member.query.without("").finish();
    let body = html! {
        (heading(html! { "Test " (text(told.order_id.as_str())) }, Some("A made-up flow, in its order.")))
        @if !withheld.is_empty() {
            (notice(Tone::Warn, html! {
                "Not sent, for the endpoint would not hear of it: "
                @for (index, (name, why)) in withheld.iter().enumerate() {
                    @if index > 0 { "; " }
                    code { (name) } @if let Some(why) = why { " (" (text(why)) ")" }
                }
                "."
            }))
        }
        (live_part(Live::Whole, &live, shown))
        p { a href={ (root) "/test?" (again) } { "Send another" } }
    };
    let frame = member.frame(Section::Test);
    Ok(page(StatusCode::OK, document("Test", Some(&frame), body)))
}

/// What of the flow was not sent, and why, if the endpoint is still as it was then.
async fn withheld(
    member: &Member,
    sent: &[EventView],
) -> Result<Vec<(EventName, Option<String>)>, ApiError> {
    let named = member.query.get("flow");
    let flow = Flow::ALL
        .into_iter()
        .find(|flow| Some(flow.as_str()) == named);
    let endpoint_id = EndpointId::new(member.query.get("endpoint_id").unwrap_or_default());
    let store = &member.api.store;
    let row = store
        .endpoint(&member.merchant.merchant_id, &endpoint_id)
        .await?;
    let names = flow.map_or(&[][..], Flow::events).iter();
    let missing = names.filter(|name| !sent.iter().any(|event| event.name == name.as_str()));
    let why = |name: EventName| row.as_ref()?.endpoint.wants(name).err();
    Ok(missing
        .map(|name| (*name, why(*name).map(|why| why.to_string())))
        .collect())
}

/// `GET …/live/test/{order_id}`: the flow again, whenever something has happened to it.
pub(super) async fn flow_live(member: Member) -> Answer {
    live::stream(&member.api, Told::of(&member))
}

/// A flow that was sent, by the order that it is about.
struct Told {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    order_id: OrderId,
}

impl Told {
    fn of(member: &Member) -> Self {
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            order_id: OrderId::new(member.param("order_id")),
        }
    }
}

impl Scene for Told {
    async fn draw(&self) -> Result<Markup, ApiError> {
        timeline(&self.api, &self.merchant_id, &self.root, &self.order_id).await
    }
}
