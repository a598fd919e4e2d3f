//! Merchants beside the one that is measured: a crowd whose endpoints do their worst, and one that is
//! owed something when the run ends.
//!
//! Their events are those of the run under another merchant's name. None of them is among the figures:
//! the crowd's go to other receivers, and what is owed comes when all was counted. `load.rs` calls it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::Args;
use super::adapter::Adapter;
use super::harkara::Harkara;
use crate::clock::now_us;
use crate::http::Client;
use crate::payload::of_merchant;
use crate::sink::poison::Poisoned;

const MERCHANTS: u64 = 40;
/// A merchant may have 30.
const ENDPOINTS: u64 = 25;
/// How often each merchant has an event, which goes to all its endpoints.
const EVERY: Duration = Duration::from_secs(2);

/// Where the numbers of these events begin, out of the way of those that are measured.
const FIRST: u64 = 1 << 31;

/// Merchants whose endpoints are all poisoned.
pub(super) struct Poison {
    /// Where the receivers are asked for.
    receivers: Uri,
    published: Cell<u64>,
    refused: Cell<u64>,
}

/// Puts events of any merchant to the server, one after the other.
struct Publisher {
    client: Client,
    at: Uri,
    adapter: Rc<Adapter>,
}

impl Publisher {
    fn new(harkara: &Harkara, adapter: &Rc<Adapter>) -> Result<Self> {
        let at = harkara.at("/events")?;
        Ok(Self {
            client: Client::new(&at)?,
            at,
            adapter: adapter.clone(),
        })
    }

    async fn publish(&mut self, merchant_id: &str, n: u64) -> Result<()> {
        let (n, ts_us) = (FIRST + n, now_us());
        let event = of_merchant(&self.adapter.body(n, ts_us), merchant_id);
        let headers = self.adapter.headers(n, ts_us)?;
        let sent = self
            .client
            .send(Method::POST, &self.at, headers, event.into());
        let (status, reply) = sent.await?;
        let text = String::from_utf8_lossy(&reply);
        ensure!(
            status.is_success(),
            "an event of {merchant_id}: {status} {text}"
        );
        Ok(())
    }
}

impl Poison {
    /// Makes the merchants and their endpoints, of every kind of receiver in turn, and begins to
    /// publish on `local`, if the run wants any of it.
    pub(super) async fn start(
        args: &Args,
        adapter: &Rc<Adapter>,
        local: &LocalSet,
    ) -> Result<Option<Rc<Self>>> {
        let Some(receivers) = &args.harkara.poison else {
            return Ok(None);
        };
        let mut harkara = Harkara::open(args)?;
        let found = ask(receivers).await?;
        let mut turns = found.iter().cycle();
        for n in 0..MERCHANTS {
            let mut merchant = harkara.make_merchant(&merchant_id(n)).await?;
            for _ in 0..ENDPOINTS {
                let receiver = turns.next().context("there are no poisoned receivers")?;
                let settings = json!({ "url": receiver.url });
                merchant.make_endpoint(settings).await?;
            }
        }
        let poison = Rc::new(Self {
            receivers: receivers.clone(),
            published: Cell::default(),
            refused: Cell::default(),
        });
        let (publisher, publishing) = (Publisher::new(&harkara, adapter)?, poison.clone());
        local.spawn_local(async move { publishing.publish(publisher).await });
        Ok(Some(poison))
    }

    /// Publishes for each merchant in turn, for as long as it is polled.
    async fn publish(&self, mut publisher: Publisher) {
        let mut ticks = tokio::time::interval(EVERY / MERCHANTS as u32);
        for n in 0.. {
            ticks.tick().await;
            let merchant_id = merchant_id(n % MERCHANTS);
            let count = match publisher.publish(&merchant_id, n).await {
                Ok(()) => &self.published,
                Err(_) => &self.refused,
            };
            count.set(count.get() + 1);
        }
    }

    /// What was done to the server, and that it did call.
    pub(super) async fn report(&self) -> Result<Value> {
        let found = ask(&self.receivers).await?;
        let of_kind = |it: Poisoned| (format!("{:?}", it.kind), it.connections);
        let connections: BTreeMap<_, _> = found.into_iter().map(of_kind).collect();
        for (kind, count) in &connections {
            ensure!(*count > 0, "the server never called the receiver {kind}");
        }
        Ok(json!({
            "merchants": MERCHANTS,
            "endpoints": MERCHANTS * ENDPOINTS,
            "every_s": EVERY.as_secs_f64(),
            "published": self.published.get(),
            "refused": self.refused.get(),
            "connections": connections,
        }))
    }
}

fn merchant_id(n: u64) -> String {
    format!("poison-{n}")
}

async fn ask(receivers: &Uri) -> Result<Vec<Poisoned>> {
    let mut client = Client::new(receivers)?;
    let asked = client.send(Method::GET, receivers, HeaderMap::new(), Bytes::new());
    let (_, body) = asked.await.context("failed to ask for the receivers")?;
    Ok(serde_json::from_slice(&body)?)
}

/// Leaves deliveries due, if the run wants that: of a new merchant whose endpoint at the sink takes one
/// a second.
pub(super) async fn owe(args: &Args, adapter: &Rc<Adapter>) -> Result<()> {
    if args.harkara.owe == 0 {
        return Ok(());
    }
    let mut harkara = Harkara::open(args)?;
    let mut merchant = harkara.make_merchant("owed").await?;
    let settings = json!({ "url": args.endpoint_url(), "rate_per_second": 1 });
    merchant.make_endpoint(settings).await?;
    let mut publisher = Publisher::new(&harkara, adapter)?;
    for n in 0..args.harkara.owe {
        publisher.publish("owed", n).await?;
    }
    Ok(())
}
