//! How one event is put to a server: the URL, the headers and the body of a call.
//!
//! `svix.rs` and `harkara.rs` fill this in after setting their server up; `generic` takes it from
//! the command line. `publish.rs` makes the calls.

use anyhow::{Context, Result};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use memchr::{memchr, memmem};

use super::harkara::Paused;
use super::{Args, harkara, svix};
use crate::http::{header, json_headers};
use crate::payload::{Payloads, add};
use crate::template::Template;

/// Room for an event's call, so that it is not moved while it grows.
const USUAL_BODY: usize = 4096;

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

/// What differs from call to call.
#[derive(Clone, Copy)]
pub(super) enum Placeholder {
    Payload,
    Id,
    TsUs,
    Pad,
}

const PLACEHOLDERS: [(&str, Placeholder); 4] = [
    ("{payload}", Placeholder::Payload),
    ("{id}", Placeholder::Id),
    ("{ts_us}", Placeholder::TsUs),
    ("{pad}", Placeholder::Pad),
];

/// The body or a header of a call.
pub(super) fn template(text: &str) -> Template<Placeholder> {
    Template::cut(text, PLACEHOLDERS.into_iter())
}

/// A server that is ready to be published to.
pub(super) struct Adapter {
    pub(super) url: Uri,
    /// The headers of a call; their values may hold placeholders.
    pub(super) headers: HeaderMap,
    /// What publishes one event.
    pub(super) template: Template<Placeholder>,
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
        let mut headers = json_headers();
        for text in &generic.header {
            let (name, value) = header(text)?;
            headers.insert(name, value);
        }
        let body = match generic.body_template.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("failed to read the template {path}"))?,
            None => generic.body_template.clone(),
        };
        let url = generic.publish_url.clone();
        Ok(Self {
            url: url.context("--adapter generic needs --publish-url")?,
            headers,
            template: template(&body),
            payloads,
            batch: 1,
            deliveries_per_call: args.endpoints,
            paused: None,
        })
    }

    /// The call of this number, at `ts_us`: one event, or a batch of the next ones.
    pub(super) fn request(&self, n: u64, ts_us: u64) -> Result<(HeaderMap, Bytes)> {
        let first = n * self.batch;
        let mut body = self.body(first, ts_us);
        for n in first + 1..first + self.batch {
            body.push('\n');
            self.fill(&self.template, (n, ts_us), &mut body);
        }
        Ok((self.headers(n, ts_us)?, body.into()))
    }

    pub(super) fn headers(&self, n: u64, ts_us: u64) -> Result<HeaderMap> {
        let mut headers = self.headers.clone();
        for value in headers.values_mut() {
            if memchr(b'{', value.as_bytes()).is_some() {
                let mut filled = String::new();
                self.fill(&template(value.to_str()?), (n, ts_us), &mut filled);
                *value = filled.parse()?;
            }
        }
        Ok(headers)
    }

    /// What publishes event `n`.
    pub(super) fn body(&self, n: u64, ts_us: u64) -> String {
        let mut body = String::with_capacity(USUAL_BODY);
        self.fill(&self.template, (n, ts_us), &mut body);
        body
    }

    fn fill(&self, text: &Template<Placeholder>, event: (u64, u64), out: &mut String) {
        let (begin, mut pad_at) = (out.len(), None);
        text.fill(out, |out, placeholder| match placeholder {
            Placeholder::Payload => self.payloads.write_event(event, out),
            Placeholder::Id => self.payloads.write_id(event.0, out),
            Placeholder::TsUs => add(out, format_args!("{}", event.1)),
            Placeholder::Pad => pad_at = Some(out.len()),
        });
        // How much is missing is known at the end alone.
        if let Some(at) = pad_at {
            out.insert_str(at, self.payloads.pad(event.0, out.len() - begin));
        }
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
            headers: HeaderMap::from_iter([header("Idempotency-Key: key-{id}").unwrap()]),
            template: template(r#"{"id":"{id}","at":{ts_us},"pad":"{pad}"}"#),
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
            headers: HeaderMap::new(),
            template: template("{id}"),
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
