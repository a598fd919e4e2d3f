//! The physical limit: a bare client against the sink, with no server in between.
//!
//! What a server reaches is quoted as a share of this, taken in the same run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Result, ensure};
use hyper::{Method, Uri};
use serde_json::json;
use tokio::task::LocalSet;

use crate::clock::now_us;
use crate::http::{Client, json_headers};
use crate::payload::Payloads;
use crate::procs::{Monitor, Watched};
use crate::stats::{Latency, per_second};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value = "http://127.0.0.1:9900/hook")]
    url: Uri,
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    #[arg(long, default_value_t = 2000)]
    body_size: usize,
    /// Process to watch, as name=PID (repeatable)
    #[arg(long)]
    pid: Vec<Watched>,
}

/// Posts `count` events over `concurrency` connections and prints how fast that was.
pub(crate) async fn run(args: Args) -> Result<()> {
    let payloads = Rc::new(Payloads::new(args.body_size));
    let next = Rc::new(Cell::new(0));
    let latency = Rc::new(RefCell::new(Latency::default()));
    let mut watched = args.pid;
    watched.push(Watched::this("client"));
    let monitor = Monitor::start(watched)?;
    let start = now_us();
    let local = LocalSet::new();
    let workers: Vec<_> = (0..args.concurrency)
        .map(|_| {
            let (url, payloads) = (args.url.clone(), payloads.clone());
            let (next, latency) = (next.clone(), latency.clone());
            local.spawn_local(async move {
                let mut client = Client::new(&url)?;
                while next.get() < args.count {
                    let n = next.replace(next.get() + 1);
                    let sent = now_us();
                    let mut body = String::with_capacity(args.body_size);
                    payloads.write_event((n, sent), &mut body);
                    let (status, _) = client
                        .send(Method::POST, &url, json_headers(), body.into())
                        .await?;
                    ensure!(status.is_success(), "sink answered {status}");
                    latency.borrow_mut().record_us(now_us() - sent);
                }
                Ok(())
            })
        })
        .collect();
    local.await;
    let elapsed = now_us() - start;
    for worker in workers {
        worker.await??;
    }
    let (procs, machine_busy) = monitor.finish(args.count).await?;
    let result = json!({
        "mode": "limit",
        "count": args.count,
        "concurrency": args.concurrency,
        "body_size": args.body_size,
        "elapsed_s": elapsed as f64 / 1e6,
        "requests_per_s": per_second(args.count, elapsed),
        "round_trip_ms": latency.borrow().summary(),
        "machine_busy": machine_busy,
        "procs": procs,
    });
    println!("{result:#}");
    Ok(())
}
