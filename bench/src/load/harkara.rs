//! Harkara, as the platform and as a merchant: endpoints made, orders prepared, a pause ended.
//!
//! It speaks the public API with the keys that a sandbox's first start leaves in its data folder,
//! and knows nothing else of the server. `load.rs`, `adapter.rs` and `others.rs` call it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::adapter::{Adapter, template};
use crate::http::{Client, json_headers};
use crate::payload::{Payloads, of_merchant};

/// What a payment that goes well causes: `TXN_CREATED`, `TXN_CHARGED`, `ORDER_SUCCEEDED`.
const EVENTS_PER_PAYMENT: u64 = 3;

/// An event of the platform's own ledger about a paid order, which carries our marks.
const ORDER_EVENT: &str = concat!(
    r#"{"merchant_id":"sandbox","event_name":"ORDER_SUCCEEDED","id":"{id}","#,
    r#""content":{"order":{payload}}}"#,
);

/// The worst case: an order that is nearly all random letters.
const NOISE_EVENT: &str = concat!(
    r#"{"merchant_id":"sandbox","event_name":"ORDER_SUCCEEDED","id":"{id}","content":{"order":{"#,
    r#""order_id":"{id}","status":"CHARGED","#,
    r#""metadata":{"bench_id":"{id}","bench_ts_us":{ts_us}},"udf1":"{pad}"}}}"#,
);

const PAYMENT: &str = concat!(
    r#"{"order_id":"{id}","payment_method_type":"UPI","upi_vpa":"success@upi","#,
    r#""format":"json"}"#,
);

/// What the events of a foreign ledger are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Content {
    /// A paid order with all that such orders have, of about 2 KB
    Order,
    /// Random letters up to --body-size, which nothing compresses
    Noise,
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// events: what they are made of
    #[arg(long, value_enum, default_value_t = Content::Order)]
    payload: Content,
    /// events: publish for a merchant of this name, which is made, instead of the sandbox's
    #[arg(long, value_name = "MERCHANT_ID")]
    merchant: Option<String>,
    /// events, orders: the server's data folder, where its keys are
    #[arg(long, default_value = "harkara-data")]
    data_dir: PathBuf,
    /// events, orders: endpoints to make that nobody answers at, besides those at the sink
    #[arg(long, default_value_t = 0)]
    dead_endpoints: u64,
    /// events, orders: pause the endpoints until all is published, and measure the drain
    #[arg(long)]
    pub(super) while_paused: bool,
    /// events: where `poison` listens; 1,000 endpoints of 40 merchants are made at its receivers and
    /// kept busy
    #[arg(long, value_name = "URL")]
    pub(super) poison: Option<Uri>,
    /// events: at the very end, publish N events for another merchant's endpoint at the sink that
    /// takes one a second, so that deliveries are due when the server is stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) owe: u64,
}

/// Endpoints that hold deliveries back until they are resumed.
pub(super) struct Paused {
    harkara: Harkara,
    endpoint_ids: Vec<String>,
}

impl Paused {
    pub(super) async fn resume(mut self) -> Result<()> {
        for id in &self.endpoint_ids {
            self.harkara.endpoint_command(id, "resume").await?;
        }
        Ok(())
    }
}

/// Makes the endpoints; events are published with the platform's key.
pub(super) async fn set_up_events(args: &super::Args, payloads: Payloads) -> Result<Adapter> {
    let mut harkara = Harkara::open(args)?;
    let content = match args.harkara.payload {
        Content::Order => ORDER_EVENT,
        Content::Noise => NOISE_EVENT,
    };
    let merchant_id = args.harkara.merchant.as_deref();
    if let Some(merchant_id) = merchant_id {
        harkara = harkara.make_merchant(merchant_id).await?;
    }
    let merchant_id = merchant_id.unwrap_or("sandbox");
    let paused = harkara.make_endpoints(args).await?;
    Ok(Adapter {
        url: harkara.at(match args.batch {
            1 => "/events",
            _ => "/events/batch",
        })?,
        headers: authorized(&harkara.platform)?,
        template: template(&of_merchant(content, merchant_id)),
        payloads: payloads.of_orders(merchant_id),
        batch: args.batch,
        deliveries_per_call: args.endpoints * args.batch,
        paused,
    })
}

/// Makes the endpoints and the orders, so that only paying them is measured.
pub(super) async fn set_up_orders(args: &super::Args, payloads: Payloads) -> Result<Adapter> {
    let mut harkara = Harkara::open(args)?;
    let paused = harkara.make_endpoints(args).await?;
    harkara.make_orders(args, &payloads).await?;
    Ok(Adapter {
        url: harkara.at("/txns")?,
        headers: authorized(&harkara.merchant)?,
        template: template(PAYMENT),
        payloads,
        batch: 1,
        deliveries_per_call: args.endpoints * EVENTS_PER_PAYMENT,
        paused,
    })
}

/// A server, and who we are to it.
pub(super) struct Harkara {
    client: Client,
    server: String,
    /// The `Authorization` of the platform, and of the merchant.
    platform: String,
    merchant: String,
}

impl Harkara {
    pub(super) fn open(args: &super::Args) -> Result<Self> {
        let folder = &args.harkara.data_dir;
        let merchant = key(folder, "sandbox-merchant.key")?;
        Ok(Self {
            client: Client::new(&args.server.parse()?)?,
            server: args.server.trim_end_matches('/').to_owned(),
            platform: format!("Bearer {}", key(folder, "platform.key")?),
            merchant: basic(&merchant),
        })
    }

    /// A new merchant, whose endpoints are made with what is returned.
    pub(super) async fn make_merchant(&mut self, merchant_id: &str) -> Result<Self> {
        let (at, new) = (
            self.at("/merchants")?,
            json!({ "merchant_id": merchant_id }),
        );
        let headers = authorized(&self.platform)?;
        let made = self.client.post_json(&at, headers, &new).await?;
        let key = made["api_key"]
            .as_str()
            .context("a merchant without a key")?;
        Ok(Self {
            client: Client::new(&at)?,
            server: self.server.clone(),
            platform: self.platform.clone(),
            merchant: basic(key),
        })
    }

    pub(super) fn at(&self, path: &str) -> Result<Uri> {
        Ok(format!("{}{path}", self.server).parse()?)
    }

    fn as_merchant(&self) -> Result<HeaderMap> {
        authorized(&self.merchant)
    }

    async fn make_endpoints(&mut self, args: &super::Args) -> Result<Option<Paused>> {
        let mut endpoint_ids = Vec::new();
        for url in args.endpoint_urls() {
            endpoint_ids.push(self.make_endpoint(json!({ "url": url })).await?);
        }
        for n in 1..=args.harkara.dead_endpoints {
            // Port 1 is nobody's, so a connection is refused at once.
            let url = format!("http://127.0.0.1:1/dead/{n}");
            self.make_endpoint(json!({ "url": url })).await?;
        }
        if !args.harkara.while_paused {
            return Ok(None);
        }
        for id in &endpoint_ids {
            self.endpoint_command(id, "pause").await?;
        }
        let harkara = Self::open(args)?;
        Ok(Some(Paused {
            harkara,
            endpoint_ids,
        }))
    }

    /// Makes an endpoint and gives its id; the credentials are ours.
    pub(super) async fn make_endpoint(&mut self, mut settings: Value) -> Result<String> {
        settings["username"] = "bench".into();
        settings["password"] = "bench-password".into();
        let (at, headers) = (self.at("/endpoints")?, self.as_merchant()?);
        let made = self.client.post_json(&at, headers, &settings).await?;
        let id = made["endpoint_id"].as_str();
        Ok(id.context("an endpoint without an id")?.to_owned())
    }

    async fn endpoint_command(&mut self, id: &str, command: &str) -> Result<()> {
        let at = self.at(&format!("/endpoints/{id}/{command}"))?;
        let headers = self.as_merchant()?;
        self.client.post_json(&at, headers, &json!({})).await?;
        Ok(())
    }

    /// One order for each call that will pay one, made over as many connections as will pay.
    async fn make_orders(&self, args: &super::Args, payloads: &Payloads) -> Result<()> {
        let mut makers = JoinSet::new();
        for first in 0..args.concurrency as u64 {
            let ids = (first..args.count).step_by(args.concurrency);
            let ids: Vec<String> = ids.map(|n| payloads.id(n)).collect();
            let (at, headers) = (self.at("/orders")?, self.as_merchant()?);
            makers.spawn(async move {
                let mut client = Client::new(&at)?;
                for id in ids {
                    let order = order(&id);
                    client.post_json(&at, headers.clone(), &order).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(made) = makers.join_next().await {
            made??;
        }
        Ok(())
    }
}

/// An order of a usual size; small amounts are charged by the DUMMY gateway at once.
fn order(id: &str) -> Value {
    json!({
        "order_id": id,
        "amount": "100.00",
        "currency": "INR",
        "customer_id": "customer-1",
        "customer_email": "asha@customer.example",
        "customer_phone": "9999999999",
        "description": "Two books and a lamp",
        "return_url": "https://shop.example/return",
        "udf1": "spring",
        "udf2": "web",
    })
}

/// What a call says of its body and of who we are.
fn authorized(authorization: &str) -> Result<HeaderMap> {
    let mut headers = json_headers();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization)?);
    Ok(headers)
}

fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{key}:")))
}

fn key(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    let key = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "failed to read {}: --data-dir must be a sandbox's",
            path.display()
        )
    })?;
    Ok(key.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::marks;

    #[test]
    fn the_event_carries_its_marks_at_the_wanted_size() {
        let adapter = Adapter {
            url: "http://127.0.0.1/events".parse().unwrap(),
            headers: HeaderMap::new(),
            template: template(NOISE_EVENT),
            payloads: Payloads::new(2048),
            batch: 1,
            deliveries_per_call: 1,
            paused: None,
        };
        let (_, body) = adapter.request(3, 77).unwrap();
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["merchant_id"], "sandbox");
        assert_eq!(body.len(), 2048);
        let marks = marks(&body).unwrap();
        assert_eq!(marks.id, adapter.payloads.id(3).as_bytes());
        assert_eq!(marks.ts_us, Some(77));
    }
}
