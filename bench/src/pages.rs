//! How long the pages of the dashboard take, each asked for again and again by somebody signed in.
//!
//! The pages are found as a person finds them: by links, one of each kind, those of the platform and those
//! of one merchant, and some with filters that let little through. Before, a replay and a test are begun,
//! so that there are such pages. Who is signed in comes by the link that a server prints while nobody has
//! an account.

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
const FILTERED: [&str; 6] = [
    "/orders?search=cst_nobody",
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
    let flow = visitor.begin(&root).await?;
    let mut pages = Vec::new();
    let mut worst = (0.0, String::new());
    for path in visitor.find_pages(&root, flow).await? {
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
        let form = format!("token={token}&name=bench&password=a+walk+by+the+long+river");
        let origin = format!("http://{authority}");
        let mut client = Client::new(link)?;
        let at: Uri = format!("{origin}{}", link.path()).parse()?;
        let (status, set, _) = client
            .ask(Method::POST, &at, form_headers(), form.into())
            .await?;
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

    /// Begins a replay of little at the merchant's first endpoint, and sends it a flow of tests; the page of
    /// the flow.
    async fn begin(&mut self, root: &str) -> Result<String> {
        let form = self.get(&format!("{root}/recovery")).await?;
        let form = String::from_utf8_lossy(&form).into_owned();
        let endpoint_id = between(&form, "<option value=\"ep_", "\"")?;
        // ORDER_CREATED is withheld from whoever did not ask for it, which is one of each order's.
        let replay = format!("endpoint_id=ep_{endpoint_id}&states=withheld&rate=1");
        self.send_form(&form, &format!("{root}/recovery"), &replay)
            .await?;
        let test = format!("endpoint_id=ep_{endpoint_id}&flow=payment");
        self.send_form(&form, &format!("{root}/test"), &test).await
    }

    /// Sends a form as the page would on which it stands; where that leads.
    async fn send_form(&mut self, page: &str, path: &str, fields: &str) -> Result<String> {
        let token = between(page, "name=\"form_token\" value=\"", "\"")?;
        let form = format!("form_token={token}&{fields}");
        let mut headers = form_headers();
        headers.insert(COOKIE, self.cookie.clone());
        let url: Uri = format!("{}{path}", self.origin).parse()?;
        let answer = self.client.ask(Method::POST, &url, headers, form.into());
        let (status, headers, _) = answer.await?;
        ensure!(status.is_redirection(), "{path} was answered {status}");
        let location = headers.get("location").context("an answer leads nowhere")?;
        Ok(location.to_str()?.to_owned())
    }

    /// One page of each kind that links lead to from a merchant's first page and the platform's, and from
    /// those.
    async fn find_pages(&mut self, root: &str, flow: String) -> Result<Vec<String>> {
        let mut found = BTreeMap::new();
        let mut unread = vec![root.to_owned(), "/dashboard/merchants".to_owned()];
        while let Some(path) = unread.pop() {
            let Some(kind) = kind(&path, root) else {
                continue;
            };
            if found.contains_key(&kind) {
                continue;
            }
            let page = self.get(&path).await?;
            unread.extend(links(&String::from_utf8_lossy(&page)));
            found.insert(kind, path);
        }
        let filtered = FILTERED.iter().map(|path| format!("{root}{path}"));
        let all = found.into_values().chain(filtered).chain([flow]);
        Ok(all.collect())
    }
}

/// What a form of the dashboard's says of itself.
fn form_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        ),
        (
            HeaderName::from_static("sec-fetch-site"),
            HeaderValue::from_static("same-origin"),
        ),
    ])
}

/// The text between the first of two marks and the next of the other.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Result<&'t str> {
    let found = text
        .split_once(before)
        .and_then(|(_, rest)| rest.split_once(after));
    let (found, _) = found.with_context(|| format!("a page has no {before}"))?;
    Ok(found)
}

/// The links of a page to others of the dashboard, without their queries.
fn links(page: &str) -> Vec<String> {
    let hrefs = page.split(" href=\"").skip(1);
    let paths = hrefs.filter_map(|rest| rest.split(['"', '?', '#']).next());
    let ours = paths.filter(|path| path.starts_with("/dashboard/"));
    ours.filter(|path| !path.starts_with("/dashboard/static/"))
        .map(str::to_owned)
        .collect()
}

/// What kind of page a path is: its parts, where what is under a list is one kind. None for the pages of
/// another merchant.
fn kind(path: &str, root: &str) -> Option<String> {
    let (whose, below) = match path.strip_prefix(root) {
        Some(below) => ("merchant", below),
        None if path.starts_with("/dashboard/merchants/") => return None,
        None => ("platform", path),
    };
    let parts: Vec<_> = below.split('/').skip(1).collect();
    Some(match parts[..] {
        [list, "new"] => format!("{whose} {list} new"),
        [list, _, ..] if whose == "merchant" => format!("{whose} {list} one"),
        _ => format!("{whose} {}", parts.join(" ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_of_each_kind_is_found_by_its_links() {
        let page = r##"<a href="/dashboard/merchants/ms/orders">o</a>
            <a class="id" href="/dashboard/merchants/ms/orders/a-1?x=1">
            <a href="/dashboard/merchants/ms/webhooks/new"> <a href="/dashboard/account">
            <a href="/dashboard/merchants/other/orders"> <link href="/dashboard/static/a.css">"##;
        let root = "/dashboard/merchants/ms";
        let kinds: Vec<_> = links(page)
            .iter()
            .filter_map(|link| kind(link, root))
            .collect();
        let expected = [
            "merchant orders",
            "merchant orders one",
            "merchant webhooks new",
            "platform dashboard account",
        ];
        assert_eq!(kinds, expected);
    }
}
