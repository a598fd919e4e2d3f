//! Publishes events to a webhook server and waits until the sink has every delivery.
//!
//! `adapter.rs` says how one event is put to a server (`svix.rs` and `harkara.rs` set those up),
//! `publish.rs` publishes in a closed or an open loop, `arrivals.rs` asks the sink, `others.rs` adds
//! merchants that are not measured. Here they are put together and the figures computed.

mod adapter;
mod arrivals;
mod harkara;
mod others;
mod publish;
mod svix;

use std::future::ready;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use hyper::Uri;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use self::adapter::{Adapter, AdapterKind};
use self::arrivals::{SinkClient, watch};
use self::harkara::Paused;
use self::others::Poison;
use self::publish::{Published, publish_all};
use crate::clock::now_us;
use crate::procs::{Monitor, Watched};
use crate::sink::Stats;
use crate::stats::per_second;

/// Publishing under way; it ends when every event was tried.
type Publishing = Pin<Box<dyn Future<Output = Result<()>>>>;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, value_enum)]
    adapter: AdapterKind,
    /// Calls to make; each publishes one event (of three, with `orders`)
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Connections that publish at the same time
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Publish at this fixed rate (open loop) instead of as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Publish at the rate for so long before anything is measured
    #[arg(long, default_value_t = 0, requires = "rate")]
    warm_up_s: u64,
    /// events: publish so many in each call, as `POST /events/batch`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Size of an event's JSON; with `orders` it is what the server makes it
    #[arg(long, default_value_t = 2000)]
    body_size: usize,
    /// Where the sink is asked what arrived
    #[arg(long, default_value = "http://127.0.0.1:9900/hook")]
    sink_url: Uri,
    /// Where events are to be delivered, if that is not the sink's URL
    #[arg(long)]
    endpoint_url: Option<String>,
    /// Endpoints to make, all at the sink, or none; with `generic`, how many there are
    #[arg(long, default_value_t = 1)]
    endpoints: u64,
    /// Give up when neither publishing nor arrivals have moved for this long
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
    /// Keep watching this long after the last event, for duplicates and bookkeeping
    #[arg(long, default_value_t = 1000)]
    settle_ms: u64,
    /// Publish an event again when the server breaks off or answers 5xx
    #[arg(long)]
    retry: bool,
    /// Process to watch with its children, as name=PID (repeatable)
    #[arg(long)]
    pid: Vec<Watched>,
    /// Write the JSON result here as well
    #[arg(long)]
    out: Option<PathBuf>,
    /// svix, events, orders: address of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: String,
    #[command(flatten)]
    svix: svix::Args,
    #[command(flatten)]
    harkara: harkara::Args,
    #[command(flatten)]
    generic: adapter::GenericArgs,
}

impl Args {
    fn endpoint_url(&self) -> String {
        match &self.endpoint_url {
            Some(url) => url.clone(),
            None => self.sink_url.to_string(),
        }
    }

    /// The URL of each endpoint. Several have paths of their own, by which the sink tells them apart.
    fn endpoint_urls(&self) -> Vec<String> {
        let url = self.endpoint_url();
        match self.endpoints {
            1 => vec![url],
            n => (1..=n).map(|n| format!("{url}/{n}")).collect(),
        }
    }
}

/// When the parts of a run began.
struct Begun {
    publishing_us: u64,
    /// Later than publishing when endpoints were paused until all was published.
    delivering_us: u64,
}

/// Runs one measurement and prints its figures.
pub(crate) async fn run(args: Args) -> Result<()> {
    let mut adapter = Adapter::new(&args).await?;
    let paused = adapter.paused.take();
    let adapter = Rc::new(adapter);
    let mut sink = SinkClient::new(&args.sink_url)?;
    sink.reset(adapter.payloads.run()).await?;

    let local = LocalSet::new();
    let poison = Poison::start(&args, &adapter, &local).await?;
    if args.warm_up_s > 0 {
        warm_up(&args, &adapter, &mut sink, &local).await?;
    }
    let mut result = measure(&args, (&adapter, paused), &mut sink, &local).await?;
    if let Some(poison) = poison {
        result["poison"] = poison.report().await?;
    }
    others::owe(&args, &adapter).await?;

    println!("{result:#}");
    if let Some(path) = &args.out {
        std::fs::write(path, format!("{result:#}\n"))?;
    }
    let lost = &result["lost"];
    ensure!(
        *lost == 0,
        "{lost} deliveries of accepted events never reached the sink"
    );
    Ok(())
}

/// Publishes everything, waits until it has arrived, and computes the figures.
async fn measure(
    args: &Args,
    (adapter, paused): (&Rc<Adapter>, Option<Paused>),
    sink: &mut SinkClient,
    local: &LocalSet,
) -> Result<Value> {
    let mut watched = args.pid.clone();
    watched.push(Watched::this("publisher"));
    let monitor = Monitor::start(watched)?;

    let published = Rc::new(Published::default());
    let publishing_us = now_us();
    let calls = 0..args.count;
    let mut publishing: Publishing = Box::pin(publish_all(args, calls, adapter, &published, local));
    if let Some(paused) = paused {
        local.run_until(publishing).await?;
        publishing = Box::pin(ready(Ok(())));
        paused.resume().await?;
    }
    let begun = Begun {
        publishing_us,
        delivering_us: match args.harkara.while_paused {
            true => now_us(),
            false => publishing_us,
        },
    };
    let per_call = adapter.deliveries_per_call;
    let watching = watch(args, sink, &published, (publishing, per_call));
    let backlog_max = local.run_until(watching).await?;
    tokio::time::sleep(Duration::from_millis(args.settle_ms)).await;
    let stats = sink.stats().await?;
    let (procs, machine_busy) = monitor.finish(stats.count).await?;

    let mut result = figures(args, &published, &stats, &begun);
    let lost = (published.accepted.get() * per_call).saturating_sub(stats.distinct);
    result["backlog_max"] = backlog_max.into();
    result["lost"] = lost.into();
    result["machine_busy"] = machine_busy.into();
    result["procs"] = serde_json::to_value(procs)?;
    Ok(result)
}

/// Publishes for a while, waits until all of that has arrived, and lets the sink count afresh.
async fn warm_up(
    args: &Args,
    adapter: &Rc<Adapter>,
    sink: &mut SinkClient,
    local: &LocalSet,
) -> Result<()> {
    let published = Rc::new(Published::default());
    let count = args.warm_up_s as f64 * args.rate.unwrap_or_default();
    // Numbers that are not used again below.
    let calls = args.count..args.count + count as u64;
    let publishing = Box::pin(publish_all(args, calls, adapter, &published, local));
    let per_call = adapter.deliveries_per_call;
    let watching = watch(args, sink, &published, (publishing, per_call));
    local.run_until(watching).await?;
    sink.reset(adapter.payloads.run()).await
}

fn figures(args: &Args, published: &Published, stats: &Stats, begun: &Begun) -> Value {
    let last_arrival_us = stats.last_arrival_us.unwrap_or(begun.delivering_us);
    let delivery_us = last_arrival_us.saturating_sub(begun.delivering_us);
    let ingest_us = published.last_us.get().saturating_sub(begun.publishing_us);
    json!({
        "mode": "load",
        "adapter": format!("{:?}", args.adapter).to_lowercase(),
        "count": args.count,
        "concurrency": args.concurrency,
        "rate": args.rate,
        "warm_up_s": args.warm_up_s,
        "batch": args.batch,
        "body_size": args.body_size,
        "endpoints": args.endpoints,
        "accepted": published.accepted.get(),
        "refused": published.refused.get(),
        "publish_retries": published.retries.get(),
        "publish_conflicts": published.conflicts.get(),
        "ingest_rps": per_second(published.accepted.get(), ingest_us),
        "publish_ms": published.latency.borrow().summary(),
        "delivery_s": delivery_us as f64 / 1e6,
        "delivered_per_s": per_second(stats.distinct, delivery_us),
        "e2e_ms": stats.latency_ms,
        "deliveries": stats.count,
        "delivered_bytes_mean": stats.body_bytes / stats.count.max(1),
        "failed_on_purpose": stats.failed,
        "distinct": stats.distinct,
        "duplicates": stats.duplicates,
        "sink_connections": stats.connections,
    })
}
