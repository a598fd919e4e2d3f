//! How long the pages of the dashboard take, each asked for again and again by somebody signed in.
//!
//! The pages are found as a person finds them: by the links on the merchant's own, one of each kind, and
//! some with filters that let little through. Who is signed in comes by the link that a server prints
//! while nobody has an account.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use serde_json::json;

use crate::clock::now_us;
use crate::http::Client;
use crate::stats::Latency;

/// Asked for besides what links lead to: lists whose filters have to look far.
const FILTERED: [&str; 5] = [
    "/orders?notified=false",
    "/orders?status=AUTO_REFUNDED",
    "/events?notified=false",
    "/events?notified=true",
    "/events?name=ORDER_REFUNDED",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The link by which an owner comes in for the first time
    #[arg(long)]
    owner_link: Uri,
    /// The merchant whose pages are asked for
    #[arg(long, default_value = "sandbox")]
    merchant: String,
    /// How often each page is asked for
    #[arg(long, default_value_t = 200)]
    times: u32,
}

/// Asks for each page so often and prints how long they took.
pub(crate) async fn run(args: Args) -> Result<()> {
    let mut visitor = Visitor::enter(&args.owner_link).await?;
    let root = format!("/dashboard/merchants/{}", args.merchant);
    let mut pages = Vec::new();
    let mut worst = (0.0, String::new());
    for path in visitor.find_pages(&root).await? {
        let mut latency = Latency::default();
        let mut bytes = 0;
        for _ in 0..args.times {
            let sent = now_us();
            bytes = visitor.get(&path).await?.len();
            latency.record_us(now_us() - sent);
        }
        let took = latency.summary();
        if took.p99 > worst.0 {
            worst = (took.p99, path.clone());
        }
        pages.push(json!({ "path": path, "bytes": bytes, "ms": took }));
    }
    let result = json!({
        "mode": "pages",
        "times": args.times,
        "pages": pages,
        "worst_p99_ms": worst.0,
        "worst": worst.1,
    });
    println!("{result:#}");
    Ok(())
}

/// Somebody who is signed in, on one connection.
struct Visitor {
    client: Client,
    origin: String,
    cookie: HeaderValue,
}

impl Visitor {
    /// Comes by the link of the first start and chooses a name and a password.
    async fn enter(link: &Uri) -> Result<Self> {
        let authority = link.authority().context("the link has no host")?;
        let query = link.query().unwrap_or_default();
        let (_, token) = query
            .split_once("token=")
            .context("the link has no token")?;
        let form = format!("token={token}&name=bench&password=a+bench+by+the+long+river");
        let headers = HeaderMap::from_iter([
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            ),
            (
                HeaderName::from_static("sec-fetch-site"),
                HeaderValue::from_static("same-origin"),
            ),
        ]);
        let origin = format!("http://{authority}");
        let mut client = Client::new(link)?;
        let at: Uri = format!("{origin}{}", link.path()).parse()?;
        let (status, set, _) = client.ask(Method::POST, &at, headers, form.into()).await?;
        ensure!(status.is_redirection(), "entering was answered {status}");
        let cookie = set.get("set-cookie").context("entering gave no cookie")?;
        let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
        Ok(Self {
            cookie: HeaderValue::from_str(cookie)?,
            client,
            origin,
        })
    }

    async fn get(&mut self, path: &str) -> Result<Bytes> {
        let url: Uri = format!("{}{path}", self.origin).parse()?;
        let headers = HeaderMap::from_iter([(COOKIE, self.cookie.clone())]);
        let (status, body) = self
            .client
            .send(Method::GET, &url, headers, Bytes::new())
            .await?;
        ensure!(status.is_success(), "{path} was answered {status}");
        Ok(body)
    }

    /// One page of each kind that links lead to from a merchant's first page.
    async fn find_pages(&mut self, root: &str) -> Result<Vec<String>> {
        let mut found = BTreeMap::from([(kind(root, root), root.to_owned())]);
        let mut unread = vec![root.to_owned()];
        while let Some(path) = unread.pop() {
            let page = self.get(&path).await?;
            for link in links(&String::from_utf8_lossy(&page), root) {
                let is_new = found.insert(kind(&link, root), link.clone()).is_none();
                if is_new {
                    unread.push(link);
                }
            }
        }
        let filtered = FILTERED.iter().map(|path| format!("{root}{path}"));
        Ok(found.into_values().chain(filtered).collect())
    }
}

/// The links of a page to others below a path, without their queries.
fn links(page: &str, root: &str) -> Vec<String> {
    let hrefs = page.split(" href=\"").skip(1);
    let paths = hrefs.filter_map(|rest| rest.split(['"', '?', '#']).next());
    let below = paths.filter(|path| path.starts_with(root));
    below.map(str::to_owned).collect()
}

/// What kind of page a path is: its parts below the root, where what is under a list is one kind.
fn kind(path: &str, root: &str) -> String {
    let parts: Vec<_> = path
        .strip_prefix(root)
        .unwrap_or(path)
        .split('/')
        .skip(1)
        .collect();
    match parts[..] {
        [list, "new"] => format!("{list} new"),
        [list, _, ..] => format!("{list} one"),
        _ => parts.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_of_each_kind_is_found_by_its_links() {
        let page = r##"<a href="/d/ms/orders">o</a> <a class="id" href="/d/ms/orders/a-1?x=1">
            <a href="/d/ms/orders/a-2"> <a href="/d/ms/webhooks/new"> <a href="/d/account">"##;
        let kinds: Vec<_> = links(page, "/d/ms")
            .iter()
            .map(|link| kind(link, "/d/ms"))
            .collect();
        assert_eq!(
            kinds,
            ["orders", "orders one", "orders one", "webhooks new"]
        );
        assert_eq!(kind("/d/ms", "/d/ms"), "");
    }
}
