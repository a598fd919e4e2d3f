//! Svix: an application with its endpoints, made for the run.
//!
//! The server must be allowed to deliver to loopback. Only `adapter.rs` calls it.

use anyhow::{Context, Result};
use hyper::Uri;
use hyper::header::AUTHORIZATION;
use serde_json::json;

use super::adapter::{Adapter, template};
use crate::http::{Client, json_headers};
use crate::payload::Payloads;

#[derive(clap::Args)]
pub(super) struct Args {
    /// svix: API token
    #[arg(long, env = "BENCH_TOKEN", default_value = "")]
    token: String,
    /// svix: send eventId, so that a retried publish isn't stored twice
    #[arg(long)]
    event_id: bool,
}

pub(super) async fn set_up(args: &super::Args, payloads: Payloads) -> Result<Adapter> {
    let bearer = format!("Bearer {}", args.svix.token);
    let mut headers = json_headers();
    headers.insert(AUTHORIZATION, bearer.parse()?);
    let at = |path: &str| format!("{}/api/v1/{path}", args.server).parse::<Uri>();
    let mut client = Client::new(&args.server.parse()?)?;
    let name = json!({ "name": payloads.run() });
    let app = client
        .post_json(&at("app/")?, headers.clone(), &name)
        .await?;
    let app = app["id"].as_str().context("app without an id")?;
    let endpoints = at(&format!("app/{app}/endpoint/"))?;
    for url in args.endpoint_urls() {
        let endpoint = json!({ "url": url });
        client
            .post_json(&endpoints, headers.clone(), &endpoint)
            .await?;
    }
    let event_id = match args.svix.event_id {
        true => r#""eventId":"{id}","#,
        false => "",
    };
    Ok(Adapter {
        url: at(&format!("app/{app}/msg/"))?,
        headers,
        template: template(&format!(
            r#"{{{event_id}"eventType":"payment_order.updated","payload":{{payload}}}}"#
        )),
        payloads,
        batch: 1,
        deliveries_per_call: args.endpoints,
        paused: None,
    })
}
