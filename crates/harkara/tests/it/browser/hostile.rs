//! What attackers write into orders and merchants' servers answer with is text on every page, and nothing
//! but text.
//!
//! `payloads.rs` has what they write, `trap.rs` what notices that it did anything. An order's id takes
//! letters, digits and a few signs alone, and bytes that are no UTF-8 are refused in requests; each text
//! goes wherever else it is taken.

mod payloads;
mod trap;

use std::collections::BTreeMap;
use std::time::Duration;

use harkara::receiver::{Arrival, Reply};
use harkara_webhook::EventName;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use self::payloads::{BROKEN, Harm, PAYLOADS};
use self::trap::Attacker;
use super::driver::{Browser, Scripts};
use super::walk::Walk;
use super::{PASSWORD, Stage};

/// Texts that one order carries, each in a field of its own.
const FIELDS: usize = 10;

const PATIENCE: Duration = Duration::from_secs(20);

/// How often an attacker is asked whether somebody came, before nobody did.
const GLANCES: usize = 200;

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn texts_do_their_harm_where_they_are_no_text() {
    assert!(PAYLOADS.len() >= 100, "{}", PAYLOADS.len());
    let (attacker, browser) = (Attacker::start(), Browser::open(Scripts::On).await);
    trap::set(&browser).await;
    // One field of a page has the focus, so those that want it have a page each.
    let all = 0..PAYLOADS.len();
    let (alone, together): (Vec<_>, Vec<_>) =
        all.partition(|n| PAYLOADS[*n].1.contains("autofocus"));
    let pages = [together]
        .into_iter()
        .chain(alone.into_iter().map(|n| vec![n]));
    let mut wrong = Vec::new();
    for page in pages {
        browser.go(&attacker.naked(&page)).await;
        for glance in 1.. {
            let (owned, asked) = (trap::owned(&browser).await, attacker.asked());
            let is_otherwise = |n: &&usize| match PAYLOADS[**n].0 {
                Harm::Runs => !owned.contains(*n),
                Harm::Asks => !asked.contains(*n),
                Harm::Lies => owned.contains(*n) || asked.contains(*n),
            };
            let otherwise: Vec<usize> = page.iter().filter(is_otherwise).copied().collect();
            if otherwise.is_empty() || glance == GLANCES {
                wrong.extend(otherwise.iter().map(|n| PAYLOADS[*n]));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "these do something else: {wrong:#?}");
}

/// What a page shows to read, with the characters in it that it names.
#[derive(Deserialize)]
struct Shown {
    text: String,
    /// The texts in the body of an event, and the names of what has them.
    body: Vec<String>,
    /// The values of an answer's headers.
    headers: BTreeMap<String, String>,
}

const READ: &str = r#"
    const page = document.querySelector('main').cloneNode(true);
    for (const odd of page.querySelectorAll('.odd'))
        odd.replaceWith(String.fromCodePoint(parseInt(odd.textContent.slice(2), 16)));
    const all = (value) => value && typeof value === 'object'
        ? Object.entries(value).flatMap(([name, value]) => [name, ...all(value)]) : [String(value)];
    const body = page.querySelector('#body');
    const rows = page.querySelectorAll('[aria-label="Headers of the answer"] tbody tr');
    const header = ({ cells: [name, value] }) => [name.textContent, value.textContent];
    return {
        text: page.textContent,
        body: body ? all(JSON.parse(body.textContent)) : [],
        headers: Object.fromEntries([...rows].map(header)),
    };
"#;

impl Stage {
    async fn shown(&self) -> Shown {
        serde_json::from_value(self.browser.run(READ).await).unwrap()
    }
}

/// What the merchant's server answers to the order of a group: all of its texts, and bytes that are none.
fn answer(group: usize, texts: &[String]) -> Reply {
    // Some fail, and are told of in other words.
    let status = match group % 4 {
        3 => StatusCode::BAD_GATEWAY,
        _ => StatusCode::OK,
    };
    let broken = BROKEN[group % BROKEN.len()];
    let body = [texts.join("\n").as_bytes(), b"\n", broken].concat();
    let reply = Reply::status(status).header("x-broken", broken);
    let fitting = HEADERS
        .iter()
        .zip(texts)
        .filter(|(_, text)| is_header(text));
    fitting.fold(reply.body(body), |reply, (name, text)| {
        reply.header(name, text)
    })
}

const HEADERS: [&str; FIELDS] = [
    "x-0", "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9",
];

/// Whether a text can be the value of a header: one line without what steers a terminal.
fn is_header(text: &str) -> bool {
    let is_control = |byte: u8| byte != b'\t' && (byte < b' ' || byte == 0x7f);
    !text.bytes().any(is_control)
}

/// Which order of these an event is about.
fn group(arrival: &Arrival) -> usize {
    let number = arrival.about().strip_prefix("h-").unwrap_or_default();
    number.parse().unwrap_or_default()
}

/// The text that stands for the customer: of those that hide, if there are any.
fn customer(texts: &[String]) -> &str {
    let is_plain = |text: &&String| !text.chars().any(|c| c.is_control() || !c.is_ascii());
    let hiding = texts.iter().find(|text| !is_plain(text));
    hiding.unwrap_or(&texts[0])
}

/// Pays an order with a text in each field that takes any.
async fn order(stage: &Stage, order_id: &str, texts: &[String]) {
    let names: Vec<String> = (1..=FIELDS).map(|n| format!("udf{n}")).collect();
    let text = |n: usize| texts[n % texts.len()].as_str();
    let metadata = json!({ text(0): text(1), "list": texts }).to_string();
    let mut fields = vec![
        ("customer_id", customer(texts)),
        ("customer_email", text(3)),
        ("product_id", text(4)),
        ("description", text(5)),
        ("billing_address_line1", text(6)),
        ("shipping_address_city", text(7)),
        ("metadata", metadata.as_str()),
    ];
    fields.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(texts.iter().map(String::as_str)),
    );
    let short = texts.iter().find(|text| text.chars().count() <= 32);
    fields.extend(short.map(|text| ("customer_phone", text.as_str())));
    let back = texts.iter().find(|text| !text.contains('#'));
    let back = back.map(|text| format!("https://shop.example/?q={text}"));
    fields.extend(back.as_ref().map(|url| ("return_url", url.as_str())));
    stage.pay(order_id, "8", &fields).await;
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn texts_of_others_stay_text_on_every_page() {
    let attacker = Attacker::start();
    let texts = attacker.texts();
    let groups: Vec<Vec<String>> = texts.chunks(FIELDS).map(<[String]>::to_vec).collect();
    let answers: Vec<Reply> = groups
        .iter()
        .enumerate()
        .map(|(n, texts)| answer(n, texts))
        .collect();
    let stage = Stage::new(Scripts::On, move |arrival| {
        Some(answers[group(arrival)].clone())
    })
    .await;
    let browser = &stage.browser;
    trap::set(browser).await;
    // A name that nobody can have is kept nowhere.
    stage.go("").await;
    browser.fill("Name", &texts[0]).await;
    browser.fill("Password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.text("//*[@role='alert']").await;
    trap::untouched(browser, "the page to sign in on").await;
    stage.enter().await;
    stage.shop.listen(&stage.receiver).await;
    for name in texts.iter().filter(|text| text.chars().count() <= 100) {
        let keys = stage
            .app
            .platform(Method::POST, "/merchants/ms/keys", json!({ "name": name }));
        keys.await.ok();
    }
    for (n, texts) in groups.iter().enumerate() {
        order(&stage, &format!("h-{n}"), texts).await;
        for text in texts {
            let fields = [("order_id", text.as_str()), ("amount", "8")];
            let refused = stage.shop.post("/orders", &fields).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{text}");
        }
    }
    let told = |all: &[Arrival]| {
        all.iter()
            .filter(|it| it.is(EventName::OrderSucceeded))
            .count()
            >= groups.len()
    };
    stage.receiver.until(told, PATIENCE).await.unwrap();

    for (n, texts) in groups.iter().enumerate() {
        let order_id = format!("h-{n}");
        let page = format!("/orders/{order_id}");
        stage.go(&page).await;
        trap::untouched(browser, &page).await;
        let customer = customer(texts);
        assert!(
            stage.shown().await.text.contains(customer),
            "{page}: {customer}"
        );

        browser.press("ORDER_SUCCEEDED").await;
        browser.reload_until("//h3[.='Answer']").await;
        let page = browser.url().await;
        trap::untouched(browser, &page).await;
        let shown = stage.shown().await;
        for (text, header) in texts.iter().zip(HEADERS) {
            assert!(shown.body.contains(text), "{page}: {text:?} in the body");
            assert!(shown.text.contains(text), "{page}: {text:?} in the answer");
            if is_header(text) {
                assert_eq!(
                    shown.headers[header],
                    text.trim_matches([' ', '\t']),
                    "{page}"
                );
            }
        }
        let broken = String::from_utf8_lossy(BROKEN[n % BROKEN.len()]);
        assert_eq!(shown.headers["x-broken"], broken, "{page}");
        assert!(shown.text.contains(&*broken), "{page}: {broken:?}");

        let links = stage.shop.get(&format!("/orders/{order_id}")).await.ok();
        browser
            .go(links["payment_links"]["web"].as_str().unwrap())
            .await;
        trap::untouched(browser, "the page to pay on").await;
    }

    // Asked for by links that somebody else wrote.
    for texts in &groups {
        // One with a NUL is refused as it is.
        let texts = texts.join(" ").replace('\0', "");
        let written = utf8_percent_encode(&texts, NON_ALPHANUMERIC);
        stage.go(&format!("/orders/{written}")).await;
        trap::untouched(browser, &format!("the page that there is no order {texts}")).await;
        let shown = stage.shown().await.text;
        assert!(shown.contains(&texts), "{texts:?} in {shown:?}");
        stage.go(&format!("/orders?search={written}")).await;
        trap::untouched(browser, &format!("the search for {texts}")).await;
    }

    let mut look = async |path: &str| trap::untouched(browser, path).await;
    let mut walk = Walk::new(browser, &stage.app.app.public_url);
    walk.follow("/dashboard", &mut look).await;
    browser
        .go(&format!("{}/dashboard/audit", stage.app.app.public_url))
        .await;
    let audit = stage.shown().await.text;
    assert!(!audit.contains(&texts[0]), "{audit}");

    trap::notices(browser).await;
    let asked = attacker.asked();
    assert!(asked.is_empty(), "somebody asked for the URLs of {asked:?}");
}
