//! How one event is put to a server: the URL, the headers and the body of a call.
//!
//! `svix.rs` and `harkara.rs` fill this in after setting their server up; `generic` takes it from
//! the command line. `publish.rs` makes the calls.

use anyhow::{Context, Result};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName};
use memchr::memmem;

use super::harkara::Paused;
use super::{Args, harkara, svix};
use crate::http::{header, json_headers};
use crate::payload::Payloads;

/// Which server is measured, and by which of its calls.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum AdapterKind {
    /// Svix: messages to an application made for the run
    Svix,
    /// Any HTTP API, as the options say
    Generic,
    /// Harkara: `POST /events`
    Events,
    /// Harkara: `POST /txns` on orders made beforehand, each of which causes three events
    Orders,
}

#[derive(clap::Args)]
pub(super) struct GenericArgs {
    /// generic: URL to POST each event to
    #[arg(long)]
    publish_url: Option<Uri>,
    /// generic: header as 'Name: value', may hold placeholders (repeatable)
    #[arg(long)]
    header: Vec<String>,
    /// generic: body, or @FILE; placeholders `{payload}`, `{id}`, `{ts_us}`, `{pad}`
    #[arg(long, default_value = "{payload}")]
    body_template: String,
}

/// A server that is ready to be published to.
pub(super) struct Adapter {
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// The body of a call, with placeholders.
    pub(super) template: String,
    pub(super) payloads: Payloads,
    /// Events of a call, a line each.
    pub(super) batch: u64,
    /// What an accepted call has to bring to the sink.
    pub(super) deliveries_per_call: u64,
    /// The endpoints, if they are to be resumed once everything is published.
    pub(super) paused: Option<Paused>,
}

impl Adapter {
    pub(super) async fn new(args: &Args) -> Result<Self> {
        let payloads = Payloads::new(args.body_size);
        match args.adapter {
            AdapterKind::Svix => svix::set_up(args, payloads).await,
            AdapterKind::Generic => Self::generic(args, payloads),
            AdapterKind::Events => harkara::set_up_events(args, payloads).await,
            AdapterKind::Orders => harkara::set_up_orders(args, payloads).await,
        }
    }

    fn generic(args: &Args, payloads: Payloads) -> Result<Self> {
        let generic = &args.generic;
        let headers = generic.header.iter().map(|text| {
            let (name, value) = header(text)?;
            Ok((name, value.to_str()?.to_owned()))
        });
        let url = generic.publish_url.clone();
        Ok(Self {
            url: url.context("--adapter generic needs --publish-url")?,
            headers: headers.collect::<Result<_>>()?,
            template: match generic.body_template.strip_prefix('@') {
                Some(path) => std::fs::read_to_string(path)
                    .with_context(|| format!("failed to read the template {path}"))?,
                None => generic.body_template.clone(),
            },
            payloads,
            batch: 1,
            deliveries_per_call: args.endpoints,
            paused: None,
        })
    }

    /// The call of this number, at `ts_us`: one event, or a batch of the next ones.
    pub(super) fn request(&self, n: u64, ts_us: u64) -> Result<(HeaderMap, Bytes)> {
        let events = n * self.batch..(n + 1) * self.batch;
        let lines: Vec<_> = events.map(|n| self.body(n, ts_us)).collect();
        Ok((self.headers(n, ts_us)?, lines.join("\n").into()))
    }

    pub(super) fn headers(&self, n: u64, ts_us: u64) -> Result<HeaderMap> {
        let mut headers = json_headers();
        for (name, value) in &self.headers {
            headers.insert(name, self.fill(value, (n, ts_us)).parse()?);
        }
        Ok(headers)
    }

    /// What publishes event `n`.
    pub(super) fn body(&self, n: u64, ts_us: u64) -> String {
        let mut body = self.fill(&self.template, (n, ts_us));
        if body.contains("{payload}") {
            body = body.replace("{payload}", &self.payloads.event(n, ts_us));
        }
        if body.contains("{pad}") {
            let used = body.len() - "{pad}".len();
            body = body.replace("{pad}", self.payloads.pad(n, used));
        }
        body
    }

    fn fill(&self, text: &str, (n, ts_us): (u64, u64)) -> String {
        let text = text.replace("{id}", &self.payloads.id(n));
        text.replace("{ts_us}", &ts_us.to_string())
    }

    /// Whether the answer says that all events of a call were taken.
    pub(super) fn took_all(&self, reply: &[u8]) -> bool {
        self.batch == 1 || memmem::find_iter(reply, r#""status":201"#).count() as u64 == self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_headers_and_body() {
        let adapter = Adapter {
            url: "http://127.0.0.1/".parse().unwrap(),
            headers: vec![("idempotency-key".parse().unwrap(), "key-{id}".to_owned())],
            template: r#"{"id":"{id}","at":{ts_us},"pad":"{pad}"}"#.to_owned(),
            payloads: Payloads::new(300),
            batch: 1,
            deliveries_per_call: 1,
            paused: None,
        };
        let (headers, body) = adapter.request(7, 1234).unwrap();
        let id = adapter.payloads.id(7);
        assert_eq!(headers["idempotency-key"], format!("key-{id}"));
        assert_eq!(body.len(), 300);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["id"], &body["at"]), (&id.into(), &1234.into()));
    }

    #[test]
    fn a_batch_is_a_line_for_each_of_its_events() {
        let adapter = Adapter {
            url: "http://127.0.0.1/".parse().unwrap(),
            headers: Vec::new(),
            template: "{id}".to_owned(),
            payloads: Payloads::new(300),
            batch: 2,
            deliveries_per_call: 2,
            paused: None,
        };
        let (_, body) = adapter.request(3, 0).unwrap();
        let lines = [6, 7].map(|n| adapter.payloads.id(n)).join("\n");
        assert_eq!(body, lines);
        let (taken, refused) = (r#"{"line":1,"status":201}"#, r#"{"line":2,"status":409}"#);
        assert!(adapter.took_all([taken, taken].concat().as_bytes()));
        assert!(!adapter.took_all([taken, refused].concat().as_bytes()));
    }
}
