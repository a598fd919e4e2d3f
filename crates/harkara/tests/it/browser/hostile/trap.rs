//! What notices that a text has done harm: something in each page that is owned, and a server that is asked.
//!
//! The same server shows texts as they are, where the tests see that they do harm and that it is noticed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::payloads::{Harm, PAYLOADS};
use crate::browser::driver::Browser;

/// Runs before a page's own scripts, in its frames as well. What a live part has at first is thrown away
/// before the first text for it comes, so that all of it goes through the script that puts it in.
const SCRIPT: &str = r"
    globalThis.owned = (n) => traps.owned.push(n);
    globalThis.traps = { owned: [], reports: [], swaps: 0 };
    document.addEventListener('securitypolicyviolation', (event) =>
        traps.reports.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    document.addEventListener('htmx:sse:before:message', (event) => event.target.replaceChildren());
    document.addEventListener('htmx:sse:after:message', () => traps.swaps++);
";

/// What would be on a page of ours if a text became markup, or was shown as it is where it hides.
const FOREIGN: &str = r#"
    const foreign = document.querySelectorAll(`script:not([src^="/dashboard/static/"]), iframe,
        object, embed, base, math, template, img, video, audio, svg:not([role=img]), [srcdoc], [style],
        [href^="javascript:" i], form:not([action^="/dashboard"]):not([method=get])`);
    const isHandler = ({ name }) => name.startsWith('on') || name.startsWith('hx-on');
    const handlers = [...document.querySelectorAll('*')]
        .filter((it) => [...it.attributes].some(isHandler));
    const found = [...foreign, ...handlers].map((it) => it.outerHTML.slice(0, 200));
    // What turns other text around, or hides in it, is to be named.
    const hidden = /[^\P{C}\n\t]|[\u2028\u2029]/u.exec(document.querySelector('main').textContent);
    if (hidden) found.push(`a hidden U+${hidden[0].codePointAt().toString(16)}`);
    const live = document.querySelectorAll('[data-live]').length;
    return new Promise((done) => {
        const ask = () => traps.swaps >= live ? done({ ...traps, found }) : setTimeout(ask, 5);
        ask();
    });
"#;

/// What was noticed on a page.
#[derive(Debug, Deserialize)]
struct Noticed {
    /// The texts whose scripts ran.
    owned: BTreeSet<usize>,
    /// What the page's policy kept from happening.
    reports: Vec<String>,
    /// What is none of ours.
    found: Vec<String>,
}

/// Puts the traps into all pages to come.
pub async fn set(browser: &Browser) {
    browser.run_first(SCRIPT).await;
}

/// Fails if anything was noticed on the page, once each of its live parts has come.
pub async fn untouched(browser: &Browser, page: &str) {
    let noticed = noticed(browser).await;
    let Noticed {
        owned,
        reports,
        found,
    } = &noticed;
    assert!(
        owned.is_empty() && reports.is_empty() && found.is_empty(),
        "{page}: a text is not only text: {noticed:?}"
    );
}

/// Fails unless markup that is none of ours is noticed on a page of ours, as what its policy refuses.
pub async fn notices(browser: &Browser) {
    let image = "const image = document.createElement('img');
        image.src = 'data:,';
        document.body.append(image)";
    browser.run(image).await;
    let noticed = noticed(browser).await;
    assert!(
        !noticed.reports.is_empty() && !noticed.found.is_empty(),
        "{noticed:?}"
    );
}

async fn noticed(browser: &Browser) -> Noticed {
    serde_json::from_value(browser.run(FOREIGN).await).unwrap()
}

/// The texts whose scripts ran on a page of anybody's.
pub async fn owned(browser: &Browser) -> BTreeSet<usize> {
    serde_json::from_value(browser.run("return traps.owned").await).unwrap()
}

/// An attacker's server: it has the texts as they are, and notes whose URL is asked for.
pub struct Attacker {
    address: SocketAddr,
    asked: Arc<Mutex<BTreeSet<usize>>>,
}

impl Attacker {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<_>>::default();
        let attacker = Self {
            address,
            asked: Arc::clone(&asked),
        };
        let texts = Arc::new(attacker.texts());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, texts) = (asked.clone(), texts.clone());
                std::thread::spawn(move || answer(stream, &texts, &asked));
            }
        });
        attacker
    }

    /// What it writes: each text with a call and a URL of its own.
    pub fn texts(&self) -> Vec<String> {
        let own = |(n, (_, text)): (usize, &(Harm, &str))| {
            text.replace("owned()", &format!("owned({n})"))
                .replace("BEACON", &format!("http://{}/beacon/{n}", self.address))
        };
        PAYLOADS.iter().enumerate().map(own).collect()
    }

    /// A page that has some of them as they are: in text, two kinds of attributes, and a script.
    pub fn naked(&self, texts: &[usize]) -> String {
        let texts: Vec<String> = texts.iter().map(usize::to_string).collect();
        format!("http://{}/naked/{}", self.address, texts.join(","))
    }

    /// The texts whose URL was asked for.
    pub fn asked(&self) -> BTreeSet<usize> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

/// One request, answered with a page. Whoever gets none is a browser that thought better of it.
fn answer(stream: TcpStream, texts: &[String], asked: &Mutex<BTreeSet<usize>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let path = first.split([' ', '?']).nth(1)?;
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let page = match *parts {
        ["naked", numbers] => frames(numbers, texts),
        ["naked", number, way] => naked(way, &texts[number.parse::<usize>().ok()?]),
        ["beacon", number] => {
            let number = number.parse().ok()?;
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(number);
            String::new()
        }
        _ => String::new(),
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close\r\n";
    let length = page.len();
    let mut stream = stream;
    write!(stream, "{head}content-length: {length}\r\n\r\n{page}").ok()
}

/// A page with frames for each text, since one may swallow what comes after it.
fn frames(numbers: &str, texts: &[String]) -> String {
    let mut page = "<!doctype html>".to_owned();
    for number in numbers.split(',') {
        let text = number.parse().ok().and_then(|n: usize| texts.get(n));
        // Into a string of a script it must break first.
        let is_for_script = text.is_some_and(|text| text.contains('"'));
        for way in ["markup", "script"]
            .into_iter()
            .take(1 + usize::from(is_for_script))
        {
            write!(page, "<iframe src='/naked/{number}/{way}'></iframe>").expect("it is a String");
        }
    }
    page
}

/// A page with a text as it is.
fn naked(way: &str, text: &str) -> String {
    let body = match way {
        "script" => format!("<script>const text = \"{text}\";</script>"),
        _ => format!("<input value=\"{text}\"><input value='{text}'><div>{text}</div>"),
    };
    format!("<script>alert = () => {{}}</script>{body}<p title='x'>rest</p>")
}
