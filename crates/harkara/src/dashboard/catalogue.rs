//! The catalogue: every event there is, which versions have it, what it holds, and an example.
//!
//! Everything comes from the contract: the table of events, the schemas, and the samples that tests are
//! made of, rendered as this merchant's settings say.

use harkara_webhook::{EventName, Schema, catalog, event, schema};
use http::StatusCode;
use maud::html;

use super::answer::page;
use super::body::{self, Sight};
use super::components::{Section, Tone, badge, document, heading, panel, table, text};
use super::gate::{Answer, Member};
use crate::api::samples;
use crate::error::ApiError;

/// `GET …/catalogue`.
pub(super) async fn list(member: Member) -> Answer {
    let root = member.root();
    let lead = "Every event that an endpoint can hear of.";
    let body = html! {
        (heading("Catalogue", Some(lead)))
        (panel("Events", table(
            "Events", &["Event", "What it says", "Carries", "From version", ""],
            EventName::ALL.iter().map(|name| html! {
                tr {
                    td { a class="id" href={ (root) "/catalogue/" (name) } { code { (name) } } }
                    td { (catalog::description(*name)) }
                    td { code { (catalog::content_kind(*name).key()) } }
                    td { (catalog::since(*name).to_string()) }
                    td { @if catalog::opt_in(*name) { (badge(Tone::Plain, "only if switched on")) } }
                }
            }),
        )))
    };
    let frame = member.frame(Section::Catalogue);
    Ok(page(
        StatusCode::OK,
        document("Catalogue", Some(&frame), body),
    ))
}

/// `GET …/catalogue/{event_name}`.
pub(super) async fn one(member: Member) -> Answer {
    let name: EventName = member.param("event_name").parse().map_err(|_| {
        let message = format!("there is no event '{}'", member.param("event_name"));
        ApiError::not_found("event.unknown_name", message)
    })?;
    let kind = catalog::content_kind(name);
    let schema = schema::event(name);
    let shown = serde_json::to_string_pretty(&schema).map_err(ApiError::internal)?;
    let example = example(&member, name);
    let body = html! {
        (heading(html! { (name) }, Some(catalog::description(name))))
        (panel("When it is sent", html! {
            dl class="facts" {
                dt { "From version" } dd { (catalog::since(name).to_string()) }
                dt { "Switch" }
                dd {
                    @if catalog::opt_in(name) { "off, unless an endpoint switches it on" }
                    @else { "on, unless an endpoint switches it off" }
                }
                dt { "Carries" } dd { code { "content." (kind.key()) } }
            }
            div class="acts" {
                a class="button" href={ (member.root()) "/test?event_name=" (name) } { "Send a test of it" }
            }
        }))
        (panel("Example", html! {
            p class="quiet" { "Made up, and rendered as this merchant's settings say." }
            pre id="example" tabindex="0" { (text(&body::pretty(&example, Sight::Whole))) }
            button type="button" class="plain" data-copy="example" { "Copy" }
        }))
        (panel("Fields", html! {
            p class="quiet" {
                "Any key may be missing or null, and more may come: what a receiver does not know, it \
                 leaves alone."
            }
            (table("Fields", &["Field", "Type", "Meaning"], fields(&schema).into_iter().map(|field| html! {
                tr {
                    td { code { (field.path) } }
                    td class="quiet" { (field.kind) }
                    td { (field.says) }
                }
            })))
        }))
        (panel("Schema", html! {
            p { "JSON Schema 2020-12, also at " a href={ "/schemas/" (name) } { "/schemas/" (name) } "." }
            details {
                summary { "Show it" }
                pre id="schema" tabindex="0" { (shown) }
                button type="button" class="plain" data-copy="schema" { "Copy" }
            }
        }))
    };
    let frame = member.frame(Section::Catalogue);
    Ok(page(
        StatusCode::OK,
        document(name.as_str(), Some(&frame), body),
    ))
}

/// A body as it would be sent to this merchant.
fn example(member: &Member, name: EventName) -> Vec<u8> {
    let (api, now) = (&member.api, member.now);
    let about = (&*member.merchant, samples::ORDER_ID);
    let content = samples::content(name, about, api.submit.rendering(&member.merchant), now);
    let kind = catalog::content_kind(name);
    event::envelope("evt_V2_example", &now.iso(), name, kind, &content)
}

/// A field as it is explained.
struct Explained {
    path: String,
    kind: String,
    says: String,
}

/// Every field of a schema by its path, in their order.
fn fields(schema: &Schema) -> Vec<Explained> {
    let mut found = Vec::new();
    collect(&mut found, "", schema);
    found
}

fn collect(found: &mut Vec<Explained>, path: &str, schema: &Schema) {
    for (key, field) in schema.fields() {
        let path = match path {
            "" => (*key).to_owned(),
            path => format!("{path}.{key}"),
        };
        found.push(Explained {
            kind: field.kind(),
            says: field.description().to_owned(),
            path: path.clone(),
        });
        collect(found, &path, field);
        if let Some(items) = field.items() {
            collect(found, &format!("{path}[]"), items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_paths() {
        let schema = schema::event(EventName::OrderRefunded);
        let all = fields(&schema);
        let line = |path: &str| {
            let field = all.iter().find(|field| field.path == path).unwrap();
            format!("{path}: {} · {}\n", field.kind, field.says)
        };
        let shown: String = [
            "event_name",
            "content",
            "content.order.amount",
            "content.order.refunds",
            "content.order.refunds[].ref",
            "content.order.metadata",
        ]
        .map(line)
        .concat();
        insta::assert_snapshot!(shown, @r#"
        event_name: "ORDER_REFUNDED" · A refund reached the customer.
        content: object · What it happened to, as it was at that moment.
        content.order.amount: number · What the order costs.
        content.order.refunds: array · Its refunds, oldest first; absent if there are none.
        content.order.refunds[].ref: string · The reference that the customer's bank knows; null until there is one.
        content.order.metadata: any · What the merchant and the payment page attached.
        "#);
    }
}
