//! JSON bodies as people read them: indented, masked where they may not see persons, and compared.
//!
//! What is shown of a value is its own text, for `1` and `1.0` are not the same to every receiver. What
//! is personal is a list of names here. Nothing is sent from here: receivers get the bytes as stored.

use std::collections::BTreeMap;

use harkara_core::access::{Permission, Role};
use serde_json::value::RawValue;

use crate::api::json::Listed;

/// What stands where something personal was.
pub(super) const FILTERED: &str = "FILTERED";

/// Members that tell of a person, or may hold what does: [`folded`], as are their beginnings and ends.
const PERSONAL: &[&str] = &[
    "additionalinfo",
    "addresses",
    "contact",
    "dateofbirth",
    "description",
    "dob",
    "emails",
    "firstname",
    "fullname",
    "gatewayresponse",
    "lastname",
    "metadata",
    "middlename",
    "name",
    "nameoncard",
    "names",
    "pan",
    "paymentinfo",
    "pincode",
    "postalcode",
    "providerresponse",
    "upi",
    "wallet",
    "zip",
];

const PERSONAL_STARTS: &[&str] = &["billing", "card", "customer", "shipping", "udf"];

const PERSONAL_ENDS: &[&str] = &[
    "address",
    "email",
    "mobile",
    "phone",
    "phonenumber",
    "token",
    "vpa",
];

/// A name as it is compared: `First-Name`, `firstName` and `first_name` are one.
fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// Whether somebody may see persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Whole,
    Masked,
}

impl Sight {
    /// What a role may see.
    pub(super) fn of(role: Role) -> Self {
        match role.may(Permission::ReadPersonal) {
            true => Self::Whole,
            false => Self::Masked,
        }
    }

    /// A text that may tell of a person.
    pub(super) fn of_text(self, text: &str) -> &str {
        match self {
            Self::Whole => text,
            Self::Masked if text.is_empty() => "",
            Self::Masked => FILTERED,
        }
    }

    fn hides(self, name: &str) -> bool {
        self == Self::Masked && {
            let name = folded(name);
            PERSONAL.contains(&name.as_str())
                || PERSONAL_STARTS.iter().any(|start| name.starts_with(start))
                || PERSONAL_ENDS.iter().any(|end| name.ends_with(end))
        }
    }
}

/// A body, indented. What is no JSON is shown as it is to whoever may see all of it.
pub(super) fn pretty(body: &[u8], sight: Sight) -> String {
    let text = String::from_utf8_lossy(body);
    let mut shown = String::new();
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(value) => {
            write(&mut shown, value, 0, sight);
            shown
        }
        Err(_) => sight.of_text(&text).to_owned(),
    }
}

/// One value that differs between two bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Where it is, as `content.order.amount`.
    pub(super) path: String,
    pub(super) one: Option<String>,
    pub(super) other: Option<String>,
    /// Written differently, and worth the same.
    pub(super) is_same_value: bool,
}

/// What differs between two bodies, whatever the order of their members.
pub(super) fn differences(one: &[u8], other: &[u8], sight: Sight) -> Vec<Difference> {
    let (mut one, mut other) = (leaves(one, sight), leaves(other, sight));
    let mut paths: Vec<String> = one.keys().chain(other.keys()).cloned().collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| (one.remove(&path), other.remove(&path), path))
        .filter(|(one, other, _)| one != other)
        .map(|(one, other, path)| Difference {
            is_same_value: is_same(one.as_deref(), other.as_deref()),
            path,
            one,
            other,
        })
        .collect()
}

/// Whether two texts are the same number.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    let number = |text: Option<&str>| text?.trim_matches('"').parse::<f64>().ok();
    number(one).is_some_and(|one| number(other) == Some(one))
}

/// Every scalar of a body by its path.
fn leaves(body: &[u8], sight: Sight) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Ok(value) = serde_json::from_slice::<&RawValue>(body) {
        collect(&mut found, String::new(), value, sight);
    }
    found
}

fn collect(found: &mut BTreeMap<String, String>, path: String, value: &RawValue, sight: Sight) {
    let below = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    match Node::of(value) {
        Node::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                match sight.hides(&name) {
                    true => drop(found.insert(below(&name), FILTERED.to_owned())),
                    false => collect(found, below(&name), value, sight),
                }
            }
        }
        Node::List(items) if !items.is_empty() => {
            for (index, item) in items.into_iter().enumerate() {
                collect(found, below(&index.to_string()), item, sight);
            }
        }
        Node::Object(_) | Node::List(_) | Node::Scalar => {
            found.insert(path, value.get().to_owned());
        }
    }
}

fn write(shown: &mut String, value: &RawValue, depth: usize, sight: Sight) {
    let line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        shown.push_str(&"  ".repeat(depth));
    };
    match Node::of(value) {
        Node::Object(members) if !members.is_empty() => {
            shown.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    shown.push(',');
                }
                line(shown, depth + 1);
                shown.push_str(&serde_json::Value::from(name.as_str()).to_string());
                shown.push_str(": ");
                match sight.hides(&name) {
                    true => shown.push_str("\"FILTERED\""),
                    false => write(shown, value, depth + 1, sight),
                }
            }
            line(shown, depth);
            shown.push('}');
        }
        Node::List(items) if !items.is_empty() => {
            shown.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    shown.push(',');
                }
                line(shown, depth + 1);
                write(shown, item, depth + 1, sight);
            }
            line(shown, depth);
            shown.push(']');
        }
        Node::Object(_) | Node::List(_) | Node::Scalar => shown.push_str(value.get()),
    }
}

/// A value, one level of it.
enum Node<'a> {
    Object(Vec<(String, &'a RawValue)>),
    List(Vec<&'a RawValue>),
    Scalar,
}

impl<'a> Node<'a> {
    fn of(value: &'a RawValue) -> Self {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'{') => {
                Self::Object(serde_json::from_str(text).map_or(Vec::new(), |Listed(all)| all))
            }
            Some(b'[') => Self::List(serde_json::from_str(text).unwrap_or_default()),
            _ => Self::Scalar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_indented_and_every_value_keeps_its_text() {
        let body =
            br#"{"b":1.0,"a":[1,"1.0",{}],"e":{"x":"\u20b9 \"q\""},"big":12345678901234567890.10}"#;
        insta::assert_snapshot!(pretty(body, Sight::Whole), @r#"
        {
          "b": 1.0,
          "a": [
            1,
            "1.0",
            {}
          ],
          "e": {
            "x": "\u20b9 \"q\""
          },
          "big": 12345678901234567890.10
        }
        "#);
        assert_eq!(pretty(b"no json", Sight::Whole), "no json");
        assert_eq!(pretty(b"no json", Sight::Masked), "FILTERED");
    }

    #[test]
    fn whoever_may_not_see_persons_sees_none() {
        let body = br#"{"order_id":"o","customer_email":"a@b.c","udf1":"x","card":{"isin":"4"},
            "refunds":[{"amount":1,"billing_address_city":"Pune"}],"metadata":{"a":"b"}}"#;
        let shown = pretty(body, Sight::Masked);
        for secret in ["a@b.c", "\"x\"", "isin", "Pune", "\"b\""] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("\"order_id\": \"o\"") && shown.contains("\"amount\": 1"));
        assert!(pretty(body, Sight::Whole).contains("Pune"));
    }

    #[test]
    fn names_are_personal_however_they_are_written() {
        let table = [
            ("email", true),
            ("Customer_Email", true),
            ("customerPhone", true),
            ("FIRST_NAME", true),
            ("last-name", true),
            ("billing_address_city", true),
            ("shippingAddress", true),
            ("payer_vpa", true),
            ("mandate_debit_token", true),
            ("card_isin", true),
            ("UDF10", true),
            ("event_name", false),
            ("order_id", false),
            ("payment_method", false),
            ("gateway_reference_id", false),
            ("status", false),
        ];
        for (name, expected) in table {
            assert_eq!(Sight::Masked.hides(name), expected, "{name}");
            assert!(!Sight::Whole.hides(name), "{name}");
        }
    }

    #[test]
    fn two_bodies_differ_where_their_values_do() {
        let one = br#"{"a":1,"b":{"c":"x","d":[1,2]},"customer_id":"asha"}"#;
        let other = br#"{"b":{"d":[1,3],"c":"x"},"a":1.0,"e":null,"customer_id":"bela"}"#;
        let shown = |sight| {
            let all = differences(one, other, sight);
            let line = |it: &Difference| {
                let side = |text: &Option<String>| text.clone().unwrap_or("–".to_owned());
                let same = if it.is_same_value {
                    " (same value)"
                } else {
                    ""
                };
                format!(
                    "{}: {} | {}{same}\n",
                    it.path,
                    side(&it.one),
                    side(&it.other)
                )
            };
            all.iter().map(line).collect::<String>()
        };
        insta::assert_snapshot!(shown(Sight::Whole), @r#"
        a: 1 | 1.0 (same value)
        b.d.1: 2 | 3
        customer_id: "asha" | "bela"
        e: – | null
        "#);
        assert!(!shown(Sight::Masked).contains("asha"));
    }
}
