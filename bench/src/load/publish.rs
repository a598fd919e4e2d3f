//! Publishing: as fast as answers come, or on a fixed schedule.
//!
//! Nothing is known here of servers, which are an `Adapter`, nor of what arrives. `load.rs` calls
//! it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;

use super::Args;
use super::adapter::Adapter;
use crate::clock::{now, now_us, sleep_until};
use crate::http::Client;
use crate::stats::Latency;

/// How long a publisher waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Refusals that are shown; more would only hide them.
const SHOWN: u64 = 3;

/// An event to publish, and when it is due if that is on a schedule.
type Job = (u64, Option<u64>);

/// What the publishers have seen so far.
#[derive(Default)]
pub(super) struct Published {
    pub(super) accepted: Cell<u64>,
    pub(super) refused: Cell<u64>,
    pub(super) retries: Cell<u64>,
    pub(super) conflicts: Cell<u64>,
    pub(super) last_us: Cell<u64>,
    pub(super) latency: RefCell<Latency>,
}

/// How one call ended.
enum Answer {
    Accepted,
    /// Broken off, or the server's own fault: it may go better next time.
    Failed(String),
}

fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Published {
    /// Publishes one event, again and again for as long as `retry_for` allows.
    async fn publish(
        &self,
        client: &mut Client,
        adapter: &Adapter,
        (n, ts_us): (u64, u64),
        retry_for: Duration,
    ) -> Result<()> {
        let request = adapter.request(n, ts_us)?;
        let begun = now();
        let mut retried = false;
        loop {
            let sent = now_us();
            let answer = self.call(client, adapter, &request, retried).await?;
            match answer {
                Answer::Accepted => {
                    add(&self.accepted);
                    self.last_us.set(now_us());
                    self.latency.borrow_mut().record_us(now_us() - sent);
                    return Ok(());
                }
                Answer::Failed(_) if begun.elapsed() < retry_for => {
                    add(&self.retries);
                    retried = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Answer::Failed(why) => {
                    add(&self.refused);
                    if self.refused.get() <= SHOWN {
                        eprintln!("not published: {why}");
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn call(
        &self,
        client: &mut Client,
        adapter: &Adapter,
        (headers, body): &(HeaderMap, Bytes),
        retried: bool,
    ) -> Result<Answer> {
        let (headers, body) = (headers.clone(), body.clone());
        match client.send(Method::POST, &adapter.url, headers, body).await {
            Ok((status, reply)) if status.is_success() && adapter.took_all(&reply) => {
                Ok(Answer::Accepted)
            }
            // The first try got through, but its answer did not reach us.
            Ok((StatusCode::CONFLICT, _)) if retried => {
                add(&self.conflicts);
                Ok(Answer::Accepted)
            }
            Ok((status, _)) if status.is_server_error() => Ok(Answer::Failed(status.to_string())),
            Ok((status, reply)) => {
                let text = String::from_utf8_lossy(&reply);
                bail!("{}: {status} {text}", adapter.url)
            }
            Err(error) => Ok(Answer::Failed(format!("{error:#}"))),
        }
    }
}

/// Starts the publishers of these calls on `local`; the future ends when each was tried.
pub(super) fn publish_all(
    args: &Args,
    calls: Range<u64>,
    adapter: &Rc<Adapter>,
    published: &Rc<Published>,
    local: &LocalSet,
) -> impl Future<Output = Result<()>> + use<> {
    let (jobs, queue) = mpsc::unbounded_channel();
    match args.rate {
        Some(rate) => pace(calls, rate, jobs),
        None => {
            for n in calls {
                jobs.send((n, None)).expect("the receiver lives below");
            }
        }
    }
    let queue = Rc::new(Mutex::new(queue));
    let retry_for = Duration::from_secs(if args.retry { args.timeout_s } else { 0 });
    let workers: Vec<_> = (0..args.concurrency)
        .map(|_| {
            let (queue, adapter, published) = (queue.clone(), adapter.clone(), published.clone());
            local.spawn_local(async move {
                let mut client = Client::new(&adapter.url)?;
                loop {
                    let job = queue.lock().await.recv().await;
                    let Some((n, due_us)) = job else {
                        return anyhow::Ok(());
                    };
                    // In the open loop time runs from when the event was due, so that a server that
                    // holds up publishing cannot hide its latency.
                    let event = (n, due_us.unwrap_or_else(now_us));
                    published
                        .publish(&mut client, &adapter, event, retry_for)
                        .await?;
                }
            })
        })
        .collect();
    async move {
        for worker in workers {
            worker.await??;
        }
        Ok(())
    }
}

/// Hands out events on schedule, from a thread of its own.
fn pace(calls: Range<u64>, rate: f64, jobs: mpsc::UnboundedSender<Job>) {
    std::thread::spawn(move || {
        let start = now();
        for (nth, n) in calls.enumerate() {
            let due = start + Duration::from_secs_f64(nth as f64 / rate);
            sleep_until(due);
            let late = due.elapsed().as_micros() as u64;
            if jobs.send((n, Some(now_us() - late))).is_err() {
                return;
            }
        }
    });
}
