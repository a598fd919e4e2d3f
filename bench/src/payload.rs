//! Event payloads, and finding our marks in whatever a server delivers.
//!
//! No network and no clock: `load` and `limit` make payloads with it, `sink` reads marks.

use memchr::memmem;

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Makes payloads of a fixed size. The padding is random text, so that a server that compresses
/// what it stores gains no more than it would on real data.
pub(crate) struct Payloads {
    run: String,
    size: usize,
    noise: String,
}

impl Payloads {
    pub(crate) fn new(size: usize) -> Self {
        let noise = (0..size + 4096).map(|_| ALPHABET[fastrand::usize(..ALPHABET.len())] as char);
        Self {
            run: format!("r{:08x}", fastrand::u32(..)),
            size,
            noise: noise.collect(),
        }
    }

    /// What every id of this run begins with.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn id(&self, n: u64) -> String {
        format!("{}-{n:08}", self.run)
    }

    /// Padding that brings a text of `used` bytes up to the wanted size.
    pub(crate) fn pad(&self, n: u64, used: usize) -> &str {
        let from = (n as usize).wrapping_mul(61) % 4096;
        &self.noise[from..from + self.size.saturating_sub(used)]
    }

    /// A payment event as one JSON object, as a foreign platform might have it.
    pub(crate) fn event(&self, n: u64, ts_us: u64) -> String {
        let head = format!(
            concat!(
                r#"{{"bench_id":"{id}","bench_ts_us":{ts},"event":"payment_order.updated","#,
                r#""data":{{"id":"po_{n:020}","object":"payment_order","live_mode":true,"#,
                r#""type":"ach","subtype":"CCD","amount":{amount},"currency":"USD","#,
                r#""direction":"credit","priority":"normal","status":"sent","#,
                r#""description":"Invoice {n}","statement_descriptor":"ACME PAYOUT","#,
                r#""effective_date":"2026-03-14","#,
                r#""originating_account_id":"0f8e2719-92c1-4d55-8d1c-0d6b7a3f4c11","#,
                r#""receiving_account_id":"5acec2ab-f2a8-4d3c-93a0-9d0dd0a6e8c5","#,
                r#""charge_bearer":null,"foreign_exchange_rate":null,"decision_id":null,"#,
                r#""counterparty":{{"id":"c2f6b1de-7f5b-4a2e-9b53-0e3c6f3b1a77","#,
                r#""name":"Globex Corp"}},"#,
                r#""reference_numbers":[{{"type":"ach_trace_number","value":"{n:015}"}}],"#,
                r#""metadata":{{"batch":"2026-03-14-A","source":"erp","note":""#,
            ),
            id = self.id(n),
            ts = ts_us,
            n = n,
            amount = 1000 + n * 37 % 900_000,
        );
        const TAIL: &str = r#""}}}"#;
        let pad = self.pad(n, head.len() + TAIL.len());
        [&head, pad, TAIL].concat()
    }
}

/// What a delivered body says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marks<'a> {
    /// What was published: our own id, or the order's where we could not put one.
    pub(crate) id: &'a [u8],
    /// One call may cause several events; their names tell them apart. Empty when there is none.
    pub(crate) event_name: &'a [u8],
    /// When it was published or due, where we could say so.
    pub(crate) ts_us: Option<u64>,
}

/// Finds our marks in a delivered body, whether the server sent our JSON as it was, reformatted, or
/// escaped inside a string.
pub(crate) fn marks(body: &[u8]) -> Option<Marks<'_>> {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let id = value(body, b"bench_id", in_name).or_else(|| value(body, b"order_id", in_name))?;
    let ts_us = value(body, b"bench_ts_us", |b| b.is_ascii_digit());
    Some(Marks {
        id,
        event_name: value(body, b"event_name", in_name).unwrap_or_default(),
        ts_us: ts_us.and_then(|ts| std::str::from_utf8(ts).ok()?.parse().ok()),
    })
}

fn value<'a>(body: &'a [u8], name: &[u8], wanted: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
    let rest = &body[memmem::find(body, name)? + name.len()..];
    let begin = rest
        .iter()
        .position(|&b| !matches!(b, b'"' | b'\\' | b':' | b' '))?;
    let rest = &rest[begin..];
    let end = rest.iter().position(|&b| !wanted(b));
    let end = end.unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_the_wanted_size_and_carry_their_marks() {
        let payloads = Payloads::new(2000);
        let event = payloads.event(7, 1_700_000_000_000_001);
        assert_eq!(event.len(), 2000);
        let json: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!(json["bench_id"], payloads.id(7));
        let marks = marks(event.as_bytes()).unwrap();
        assert_eq!(marks.id, payloads.id(7).as_bytes());
        assert_eq!(marks.ts_us, Some(1_700_000_000_000_001));
    }

    #[test]
    fn marks_survive_what_servers_do_to_a_body() {
        let found = |body: &str| match marks(body.as_bytes()) {
            Some(Marks {
                id,
                event_name,
                ts_us,
            }) => {
                let text = String::from_utf8_lossy;
                format!("{} {:?} {ts_us:?}", text(id), text(event_name))
            }
            None => "nothing".to_owned(),
        };
        let bodies = [
            r#"{ "bench_id": "r1-2", "bench_ts_us": 34 }"#,
            r#""{\"bench_ts_us\":34,\"bench_id\":\"r1-2\"}""#,
            r#"{"event_name":"TXN_CHARGED","content":{"txn":{"order_id":"r1-2"}}}"#,
            r#"{"event_name":"ORDER_SUCCEEDED","order_id":"o","metadata":{"bench_id":"r1-2"}}"#,
            "{}",
        ];
        insta::assert_snapshot!(bodies.map(found).join("\n"), @r#"
        r1-2 "" Some(34)
        r1-2 "" Some(34)
        r1-2 "TXN_CHARGED" None
        r1-2 "ORDER_SUCCEEDED" None
        nothing
        "#);
    }
}
