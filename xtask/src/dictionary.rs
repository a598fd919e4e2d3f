//! The dictionary that stored bodies are compressed with, made anew from generated payloads.
//!
//! The samples of the contract and of the rules are told many times over, each time with other ids,
//! amounts, names and dates, so that the dictionary learns what payloads share and nothing that one
//! of them has alone. No real payload is ever read. The same sources give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use fastrand::Rng;
use harkara_webhook::{Event, EventName};

/// Where zstd's format has the number of a dictionary, little-endian.
const NUMBER_AT: std::ops::Range<usize> = 4..8;
/// Where a sample has the name of its event.
const NAME: &str = "EVENT_NAME";
const SIZE: usize = 16 * 1024;
/// Of each sample; more of them change the dictionary little.
const PAYLOADS: usize = 20;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// the number of the dictionary, which each body names: one more than the last that was released
    #[arg(long, default_value_t = 1)]
    number: u8,
}

/// Trains the dictionary and writes it where the store embeds it from.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.number > 0, "dictionaries are numbered from 1");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut payloads = Vec::new();
    let mut random = Rng::with_seed(u64::from(args.number));
    for text in samples(&root)? {
        payloads.extend((0..PAYLOADS).map(|_| vary(&text, &mut random).into_bytes()));
    }
    let mut bytes = zstd::dict::from_samples(&payloads, SIZE).context("failed to train")?;
    // A small number takes one byte of each body; a trained one is random and takes four.
    bytes[NUMBER_AT].copy_from_slice(&u32::from(args.number).to_le_bytes());
    let path = root.join(format!(
        "harkara/src/store/bodies/dictionary-{}.zstd",
        args.number
    ));
    fs::write(&path, &bytes).with_context(|| format!("failed to write {}", path.display()))?;
    eprintln!(
        "{} bytes from {} payloads in {}",
        bytes.len(),
        payloads.len(),
        path.display()
    );
    Ok(())
}

/// What the store compresses, each kind of it once: webhooks in both orders of keys that occur, the
/// documents of our own ledger, and what usual servers answer.
fn samples(root: &Path) -> Result<Vec<String>> {
    let mut samples = Vec::new();
    for path in json_files(&root.join("harkara-webhook/golden"))? {
        let as_sent = compact(&fs::read_to_string(&path)?);
        let event = Event::parse(as_sent.as_bytes()).context("a sample is an event")?;
        let ours = serde_json::to_string(&event.content)?;
        let theirs = as_sent
            .split_once(r#""content":"#)
            .and_then(|(_, rest)| rest.strip_suffix('}'))
            .context("a sample has its content last")?;
        samples.extend([ours.as_str(), theirs].map(|content| envelope(&event, content)));
    }
    for path in json_files(&root.join("harkara-core/golden"))? {
        samples.push(compact(&fs::read_to_string(path)?));
    }
    samples.extend(EVIDENCE.iter().map(|text| (*text).to_owned()));
    Ok(samples)
}

/// The body of a webhook, with a place for the name of the event.
fn envelope(event: &Event, content: &str) -> String {
    let date = event.date_created.value().map_or("", String::as_str);
    let id = &event.id;
    format!(r#"{{"id":"{id}","date_created":"{date}","event_name":"{NAME}","content":{content}}}"#)
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("failed to look into {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort();
    Ok(paths)
}

/// JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut text, mut quoted, mut escaped) = (String::new(), false, false);
    for char in json.chars() {
        if quoted || !char.is_whitespace() {
            text.push(char);
        }
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
    }
    text
}

/// The same payload about somebody else: what differs from one to the next is made up anew, and what
/// is said twice stays the same in both places.
fn vary(sample: &str, random: &mut Rng) -> String {
    let name = random.choice(EventName::ALL).expect("there are names");
    let mut text = sample.replace(NAME, name.as_str());
    for (said, instead) in OTHERS {
        text = text.replace(said, random.choice(*instead).expect("each has several"));
    }
    let amount = format!("amount\":{}.{}", random.u32(1..100_000), random.u32(0..100));
    text = text.replace("amount\":1,", &format!("{amount},"));
    let mut known = BTreeMap::new();
    let mut varied = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = |of: fn(&char) -> bool| {
            let length = rest.chars().take_while(of).map(char::len_utf8).sum();
            rest.split_at(length)
        };
        let (word, after) = end(char::is_ascii_alphanumeric);
        if word.is_empty() {
            let (between, after) = end(|char| !char.is_ascii_alphanumeric());
            varied.push_str(between);
            rest = after;
            continue;
        }
        varied.push_str(known.entry(word).or_insert_with(|| other(word, random)));
        rest = after;
    }
    varied
}

/// A word that looks like this one. Words without a digit are part of the language, and so are short
/// ones and the names of fields.
fn other(word: &str, random: &mut Rng) -> String {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    // The day and the hour of a moment, as in 10T07.
    if let Some((day, hour)) = word.split_once('T')
        && (day.len(), hour.len()) == (2, 2)
    {
        return format!("{:02}T{:02}", random.u32(1..29), random.u32(..24));
    }
    if word.len() < 4 || !has_digit || word.starts_with("udf") {
        return word.to_owned();
    }
    let is_hex = word
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let digit = |random: &mut Rng| match (is_number, is_hex) {
        (true, _) => random.digit(10),
        (false, true) => random.digit(16),
        (false, false) => random.alphanumeric(),
    };
    // Years and seconds of this age, and what tells our ids apart, keep their beginning.
    let kept = ["202", "169", "moz"]
        .into_iter()
        .find(|start| word.starts_with(start));
    let kept = kept.unwrap_or_default();
    let made = (kept.len()..word.len()).map(|_| digit(random));
    format!("{kept}{}", made.collect::<String>())
}

/// What an attempt leaves behind: how long its parts took, and the head of the answer.
const EVIDENCE: &[&str] = &[
    concat!(
        r#"{"dns_us":1204,"connect_us":2412,"tls_us":4893,"write_us":1040,"first_byte_us":21105,"#,
        r#""answer_headers":[["server","nginx"],["date","Tue, 24 Nov 2026 11:05:17 GMT"],"#,
        r#"["content-type","application/json; charset=utf-8"],["content-length","15"],"#,
        r#"["connection","keep-alive"],["x-powered-by","Express"],["vary","Accept-Encoding"],"#,
        r#"["etag","W/\"2-nOO9QiTIwXgNtWtBJezz8kv3SLc\""],["x-request-id","5a2c1d0f9e8b47d6"],"#,
        r#"["cache-control","no-cache, no-store, must-revalidate"],["cf-cache-status","DYNAMIC"],"#,
        r#"["cf-ray","8c9d1f5b7a2e3c41-BOM"],["strict-transport-security","max-age=31536000"]],"#,
        r#""answer_body":"{\"status\":\"ok\"}"}"#,
    ),
    concat!(
        r#"{"overtaking":true,"connect_us":2412,"write_us":1040,"first_byte_us":21105,"#,
        r#""answer_headers":[["content-type","text/html; charset=UTF-8"],["content-length","0"],"#,
        r#"["date","Thu, 06 Aug 2026 09:35:41 GMT"],["server","Apache"]],"answer_body":"OK"}"#,
    ),
    concat!(
        r#"{"write_us":4040,"first_byte_us":9105,"answer_headers":[["content-length","0"],"#,
        r#"["date","Mon, 12 Jan 2026 18:15:27 GMT"]]}"#,
    ),
];

/// What people and shops are called in the samples, and what else they may be called.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "customer@gmail.com",
        &[
            "a@gmail.com",
            "mail.of.kiran@yahoo.example",
            "n.iyer@mail.example",
        ],
    ),
    (
        "Asha Rao",
        &["Kiran Iyer", "A NAIR", "Meera Joshi", "Ravi K"],
    ),
    (
        "JP Morgan",
        &["HDFC Bank", "ICICI Bank", "State Bank", "Axis Bank"],
    ),
    (
        "https://shop.merchant.com",
        &["https://kirana.example/return", "https://books.example"],
    ),
    (
        "https://api.juspay.in",
        &[
            "https://pay.example",
            "http://127.0.0.1",
            "https://h.shop.example",
        ],
    ),
    ("\"ms\"", &["\"sandbox\"", "\"kirana\"", "\"books\""]),
    ("\"ms-", &["\"sandbox-", "\"kirana-", "\"books-"]),
    ("sample_ord_", &["", "ord_", "order-", "r"]),
    ("note ", &["", "gift ", "web "]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_told_anew_and_stays_consistent() {
        let sample = compact(r#"{ "id": "evt_V2_b7378371", "amount": 1, "order_id": "b7378371" }"#);
        let varied = vary(&sample, &mut Rng::with_seed(7));
        let value: serde_json::Value = serde_json::from_str(&varied).unwrap();
        let id = value["order_id"].as_str().unwrap();
        assert_ne!(id, "b7378371");
        assert_eq!(value["id"], format!("evt_V2_{id}"));
        assert_eq!(vary(&sample, &mut Rng::with_seed(7)), varied);
    }

    #[test]
    fn white_space_within_text_stays() {
        assert_eq!(compact("{ \"a\" : \"b \\\" c\" }"), r#"{"a":"b \" c"}"#);
    }
}
