//! Event payloads, and finding our marks in whatever a server delivers.
//!
//! No network and no clock: `load` and `limit` make payloads with it, `sink` reads marks.

use std::fmt::{Arguments, Write as _};
use std::ops::Range;

use fastrand::Rng;
use memchr::memmem;

use crate::template::Template;

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const NAMES: &[&str] = &[
    "aditi", "bharat", "chitra", "deepak", "esha", "farhan", "gauri", "harish", "indira", "jatin",
    "kavya", "lalit", "manasi", "nikhil", "pooja", "rohan", "sunita", "tarun", "usha", "varun",
];
const BANKS: &[&str] = &[
    "Canara Bank",
    "Federal Bank",
    "Karur Vysya",
    "Yes Bank",
    "Union Bank",
];
const BRANDS: &[&str] = &["VISA", "MASTERCARD", "RUPAY"];

/// A text in which the sandbox's merchant is another.
pub(crate) fn of_merchant(text: &str, merchant_id: &str) -> String {
    text.replace(
        r#""merchant_id":"sandbox""#,
        &format!(r#""merchant_id":"{merchant_id}""#),
    )
}

/// Every key that the reference's sample of a paid order has.
const ORDER: &str = concat!(
    r#"{"offers":[],"txn_id":"sandbox-<id>-1","udf7":"","payment_method":"<brand>","#,
    r#""txn_uuid":"moz<uuid>","metadata":{"bench_id":"<id>","bench_ts_us":<ts_us>,"#,
    r#""payment_page_client_id":"sandbox","merchant_payload":"{\"cart\":\"<sku>\"}"},"#,
    r#""udf5":"","status_id":21,"amount_refunded":0,"udf9":"","status":"CHARGED","#,
    r#""bank_error_message":"","id":"ordeh_<link>","auth_type":"THREE_DS","udf3":"","udf6":"","#,
    r#""udf10":"","effective_amount":<rupees>.<paise>,"product_id":"sku-<sku>","order_id":"<id>","#,
    r#""return_url":"https://lamps.example/paid","payment_gateway_response":{"#,
    r#""gateway_response":{"authCode":"<code>","resMessage":"Approved","#,
    r#""mandateToken":"mt_<token>","resCode":"00"},"#,
    r#""created":"2026-11-24T<hour>:<minute>:<second>Z","auth_id_code":"<code>"},"udf1":"web","#,
    r#""currency":"INR","udf4":"","customer_id":"cst_<customer>","#,
    r#""date_created":"2026-11-24T<hour>:<minute>:02Z","gateway_id":23,"payment_links":{"#,
    r#""web":"https://lamps.example/merchant/pay/ordeh_<link>","#,
    r#""iframe":"https://lamps.example/merchant/ipay/ordeh_<link>","#,
    r#""mobile":"https://lamps.example/merchant/pay/ordeh_<link>?mobile=true"},"#,
    r#""maximum_eligible_refund_amount":<rupees>.<paise>,"txn_detail":{"express_checkout":false,"#,
    r#""txn_id":"sandbox-<id>-1","txn_amount":<rupees>.<paise>,"error_message":"","#,
    r#""txn_uuid":"moz<uuid>","created":"2026-11-24T<hour>:<minute>:07Z","#,
    r#""metadata":{"payment_channel":"WEB"},"gateway":"RAZORPAY","status":"CHARGED","#,
    r#""net_amount":<rupees>.<paise>,"order_id":"<id>","currency":"INR","error_code":"","#,
    r#""gateway_id":23,"txn_flow_type":"CARD_TRANSACTION","redirect":true},"#,
    r#""bank_error_code":"","udf8":"","payment_method_type":"CARD","#,
    r#""customer_phone":"9<phone>","merchant_id":"sandbox","#,
    r#""customer_email":"<first>.<last><number>@inbox.example","udf2":"","amount":<rupees>.<paise>,"#,
    r#""refunded":false,"card":{"last_four_digits":"<four>","card_isin":"<isin>","#,
    r#""card_brand":"<brand>","card_type":"CREDIT","card_issuer":"<bank>","#,
    r#""name_on_card":"<first> <last>","expiry_month":"<month>","expiry_year":"<year>","#,
    r#""card_reference":"<reference>","card_fingerprint":"<fingerprint>","#,
    r#""using_saved_card":false,"saved_to_locker":false,"using_token":false}}"#,
);

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// What differs from one order to the next. A value that stands in several places is made once.
const VALUES: [(&str, Value); 25] = [
    ("<id>", Value::Id),
    ("<ts_us>", Value::TsUs),
    ("<link>", Value::Text(HEX, 32)),
    ("<uuid>", Value::Text(ALPHABET, 16)),
    ("<code>", Value::Text(LOWER, 6)),
    ("<token>", Value::Text(HEX, 12)),
    ("<customer>", Value::Text(LOWER, 14)),
    ("<rupees>", Value::Number(10..90_000)),
    ("<paise>", Value::Number(0..100)),
    ("<hour>", Value::Number(0..24)),
    ("<minute>", Value::Number(0..60)),
    ("<second>", Value::Number(0..60)),
    ("<isin>", Value::Text(DIGITS, 6)),
    ("<four>", Value::Text(DIGITS, 4)),
    ("<month>", Value::Number(1..13)),
    ("<year>", Value::Number(2027..2034)),
    ("<reference>", Value::Text(HEX, 20)),
    ("<fingerprint>", Value::Text(HEX, 20)),
    ("<first>", Value::OneOf(NAMES)),
    ("<last>", Value::OneOf(NAMES)),
    ("<number>", Value::Text(DIGITS, 3)),
    ("<phone>", Value::Text(DIGITS, 9)),
    ("<bank>", Value::OneOf(BANKS)),
    ("<brand>", Value::OneOf(BRANDS)),
    ("<sku>", Value::Text(DIGITS, 5)),
];

/// How a value of an order is made; all but the first two by chance.
enum Value {
    Id,
    TsUs,
    Text(&'static [u8], usize),
    /// Of two digits at least.
    Number(Range<u32>),
    OneOf(&'static [&'static str]),
}

/// Makes payloads. Those of a fixed size are padded with random text, which nothing compresses; an
/// order has the size and as much chance in it as a real one.
pub(crate) struct Payloads {
    seed: u32,
    run: String,
    size: usize,
    noise: String,
    /// An order, if that is what an event is, with places of `VALUES`.
    order: Option<Template<usize>>,
}

impl Payloads {
    pub(crate) fn new(size: usize) -> Self {
        let noise = (0..size + 4096).map(|_| ALPHABET[fastrand::usize(..ALPHABET.len())] as char);
        let seed = fastrand::u32(..);
        Self {
            seed,
            run: format!("r{seed:08x}"),
            size,
            noise: noise.collect(),
            order: None,
        }
    }

    /// The same, whose events are paid orders of a merchant.
    pub(crate) fn of_orders(self, merchant_id: &str) -> Self {
        let names = VALUES.iter().map(|(name, _)| *name);
        let order = of_merchant(ORDER, merchant_id);
        Self {
            order: Some(Template::cut(&order, names.zip(0..))),
            ..self
        }
    }

    /// What every id of this run begins with.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn id(&self, n: u64) -> String {
        let mut id = String::new();
        self.write_id(n, &mut id);
        id
    }

    pub(crate) fn write_id(&self, n: u64, out: &mut String) {
        add(out, format_args!("{}-{n:08}", self.run));
    }

    /// Padding that brings a text of `used` bytes up to the wanted size.
    pub(crate) fn pad(&self, n: u64, used: usize) -> &str {
        let from = (n as usize).wrapping_mul(61) % 4096;
        &self.noise[from..from + self.size.saturating_sub(used)]
    }

    /// A paid order as a foreign ledger tells of it: every value that differs from one order to the
    /// next differs here, and is as long as it is in practice.
    fn write_order(&self, order: &Template<usize>, (n, ts_us): (u64, u64), out: &mut String) {
        let mut random = Rng::with_seed((u64::from(self.seed) << 32) + n);
        let mut made = [const { None::<Range<usize>> }; VALUES.len()];
        order.fill(out, |out, which| {
            if let Some(made) = &made[which] {
                return out.extend_from_within(made.clone());
            }
            let begin = out.len();
            match &VALUES[which].1 {
                Value::Id => self.write_id(n, out),
                Value::TsUs => add(out, format_args!("{ts_us}")),
                Value::Text(of, length) => {
                    let letter = |_| char::from(of[random.usize(..of.len())]);
                    out.extend((0..*length).map(letter));
                }
                Value::Number(range) => add(out, format_args!("{:02}", random.u32(range.clone()))),
                Value::OneOf(of) => out.push_str(of[random.usize(..of.len())]),
            }
            made[which] = Some(begin..out.len());
        });
    }

    /// Appends a payment event as one JSON object, as a foreign platform might have it.
    pub(crate) fn write_event(&self, (n, ts_us): (u64, u64), out: &mut String) {
        if let Some(order) = &self.order {
            return self.write_order(order, (n, ts_us), out);
        }
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
        out.extend([&head, pad, TAIL]);
    }
}

pub(crate) fn add(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
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
        let mut event = String::new();
        payloads.write_event((7, 1_700_000_000_000_001), &mut event);
        assert_eq!(event.len(), 2000);
        let json: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!(json["bench_id"], payloads.id(7));
        let marks = marks(event.as_bytes()).unwrap();
        assert_eq!(marks.id, payloads.id(7).as_bytes());
        assert_eq!(marks.ts_us, Some(1_700_000_000_000_001));
    }

    #[test]
    fn orders_are_json_with_values_of_their_own_and_carry_their_marks() {
        let payloads = Payloads::new(0).of_orders("sandbox");
        let [one, other] = [7, 8].map(|n| {
            let mut order = String::new();
            payloads.write_event((n, 34), &mut order);
            order
        });
        assert!((1900..2300).contains(&one.len()), "{}", one.len());
        let json: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!(json["order_id"], payloads.id(7));
        assert_eq!(json["card"]["using_token"], false);
        assert!(!one.contains('<'), "a placeholder without a value: {one}");
        assert_ne!(one, other);
        assert_eq!(marks(one.as_bytes()).unwrap().ts_us, Some(34));
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
