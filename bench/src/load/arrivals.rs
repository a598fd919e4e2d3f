//! The sink as `load` sees it: asked from time to time until everything has arrived.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, Uri};

use super::publish::Published;
use super::{Args, Publishing};
use crate::clock::now;
use crate::http::Client;
use crate::sink::Stats;

/// How often the sink is asked. It notes itself when events arrived, so this costs no precision.
const LOOK: Duration = Duration::from_millis(200);

/// A connection to the sink.
pub(super) struct SinkClient {
    client: Client,
    base: String,
}

impl SinkClient {
    pub(super) fn new(url: &Uri) -> Result<Self> {
        let authority = url.authority().context("sink URL without a host")?;
        Ok(Self {
            client: Client::new(url)?,
            base: format!("http://{authority}"),
        })
    }

    /// Lets the sink count afresh, only what is of this run.
    pub(super) async fn reset(&mut self, run: &str) -> Result<()> {
        self.ask(Method::POST, &format!("/reset?run={run}")).await?;
        Ok(())
    }

    pub(super) async fn stats(&mut self) -> Result<Stats> {
        let body = self.ask(Method::GET, "/stats").await?;
        Ok(serde_json::from_slice(&body)?)
    }

    async fn ask(&mut self, method: Method, path: &str) -> Result<Bytes> {
        let url = format!("{}{path}", self.base).parse()?;
        let asked = self
            .client
            .send(method, &url, HeaderMap::new(), Bytes::new());
        let (status, body) = asked.await.context("failed to ask the sink")?;
        ensure!(status.is_success(), "the sink answered {status}");
        Ok(body)
    }
}

/// Waits until everything is published and has arrived, or nothing moves any more. Gives the most
/// deliveries that were owed at once.
pub(super) async fn watch(
    args: &Args,
    sink: &mut SinkClient,
    published: &Published,
    (mut publishing, per_call): (Publishing, u64),
) -> Result<u64> {
    let (mut done, mut backlog_max) = (false, 0);
    let (mut moved, mut moved_at) = (0, now());
    loop {
        tokio::select! {
            result = &mut publishing, if !done => {
                result?;
                done = true;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let distinct = sink.stats().await?.distinct;
        let tried = published.accepted.get() + published.refused.get() + published.retries.get();
        if tried + distinct > moved {
            (moved, moved_at) = (tried + distinct, now());
        }
        let owed = published.accepted.get() * per_call;
        backlog_max = owed.saturating_sub(distinct).max(backlog_max);
        if done && distinct >= owed {
            return Ok(backlog_max);
        }
        if moved_at.elapsed().as_secs() >= args.timeout_s {
            ensure!(done, "the server has not answered for {} s", args.timeout_s);
            return Ok(backlog_max);
        }
    }
}
