//! How the things of this system look: orders, events, deliveries, attempts, money.
//!
//! Values in, markup out, as in `components.rs`, which knows nothing of them. Pages call it.

use harkara_core::delivery::DeliveryState;
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::health::Breaker;
use harkara_core::time::Timestamp;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::components::{Tone, badge, text};
use crate::store::{DeliveryView, EndpointRow};

/// What may stand in a part of a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A text as one part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A link to an order's page, below a merchant's root.
pub(super) fn order_link(root: &str, order_id: &str) -> Markup {
    html! { a class="id" href={ (root) "/orders/" (segment(order_id)) } { (text(order_id)) } }
}

/// A link to an event's page, with whatever stands for it.
pub(super) fn event_link(root: &str, event_id: &str, shown: &str) -> Markup {
    html! { a href={ (root) "/events/" (segment(event_id)) } { (text(shown)) } }
}

/// A link to an endpoint's page, by its URL.
pub(super) fn endpoint_link(root: &str, endpoint: &Endpoint) -> Markup {
    let endpoint_id = segment(endpoint.endpoint_id.as_str());
    html! { a class="id" href={ (root) "/webhooks/" (endpoint_id) } { (text(&endpoint.url)) } }
}

/// Whether everybody who was meant to hear of something has it.
pub(super) fn notified(is_notified: bool) -> Markup {
    match is_notified {
        true => badge(Tone::Good, "notified: True"),
        false => badge(Tone::Bad, "notified: False"),
    }
}

/// The status of an order, a transaction or a mandate.
pub(super) fn status(word: &str) -> Markup {
    let tone = match word {
        "CHARGED" | "SUCCESS" | "ACTIVE" | "AUTHORIZED" => Tone::Good,
        failed if failed.ends_with("FAILED") || failed.ends_with("DECLINED") => Tone::Bad,
        _ => Tone::Plain,
    };
    html! { span class="status" { (badge(tone, word)) } }
}

/// Where a delivery stands.
pub(super) fn state(delivery: &DeliveryView) -> Markup {
    let (tone, word) = match delivery.state {
        DeliveryState::Delivered => (Tone::Good, "delivered"),
        DeliveryState::Pending if delivery.attempts > 0 => (Tone::Warn, "retrying"),
        DeliveryState::Pending => (Tone::Plain, "on its way"),
        DeliveryState::Waiting => (Tone::Plain, "waiting"),
        DeliveryState::Exhausted => (Tone::Bad, "exhausted"),
        DeliveryState::Withdrawn => (Tone::Bad, "withdrawn"),
        DeliveryState::Withheld => (Tone::Plain, "withheld"),
    };
    badge(tone, word)
}

/// Since when an endpoint does nothing but fail.
pub(super) fn failing_since(row: &EndpointRow) -> Option<Timestamp> {
    row.health.as_ref().and_then(|health| health.failing_since)
}

/// How an endpoint is doing, in a word.
pub(super) fn endpoint_state(row: &EndpointRow) -> Markup {
    let breaker = row.health.as_ref().map(|health| health.breaker);
    let (tone, word) = match (&row.endpoint.state, breaker) {
        (EndpointState::Paused { .. }, _) => (Tone::Warn, "paused"),
        (EndpointState::Disabled { .. }, _) => (Tone::Bad, "disabled"),
        (EndpointState::Active, Some(Breaker::Open { .. })) => (Tone::Bad, "failing"),
        (EndpointState::Active, Some(Breaker::HalfOpen { .. })) => (Tone::Warn, "recovering"),
        (EndpointState::Active, Some(Breaker::Closed)) if failing_since(row).is_some() => {
            (Tone::Warn, "failing")
        }
        (EndpointState::Active, _) => (Tone::Good, "well"),
    };
    badge(tone, word)
}

/// An amount as its currency is written: `INR 12,34,567.50`, `USD 1,234.50`, `JPY 100`.
pub(super) fn money(minor: i64, currency: &str) -> String {
    let (whole, hundredths) = (minor.unsigned_abs() / 100, minor.unsigned_abs() % 100);
    let sign = if minor < 0 { "−" } else { "" };
    let digits = grouped(whole, currency == "INR");
    let has_none = matches!(currency, "JPY" | "KRW" | "VND" | "CLP" | "IDR");
    match has_none && hundredths == 0 {
        true => format!("{sign}{currency} {digits}"),
        false => format!("{sign}{currency} {digits}.{hundredths:02}"),
    }
}

/// Digits in threes; in India, in twos above the first three.
fn grouped(number: u64, is_indian: bool) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len() - index;
        let breaks = match is_indian {
            true => left == 3 || (left > 3 && left % 2 == 1),
            false => left.is_multiple_of(3),
        };
        if index > 0 && breaks {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// An amount that may not be known.
pub(super) fn money_opt(minor: Option<i64>, currency: Option<&str>) -> String {
    match (minor, currency) {
        (Some(minor), Some(currency)) => money(minor, currency),
        (Some(_) | None, _) => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_as_its_currency_is() {
        let table = [
            (0, "INR", "INR 0.00"),
            (100, "INR", "INR 1.00"),
            (123_456_750, "INR", "INR 12,34,567.50"),
            (10_000_000_000, "INR", "INR 10,00,00,000.00"),
            (123_456_750, "USD", "USD 1,234,567.50"),
            (-150, "USD", "−USD 1.50"),
            (10_000, "JPY", "JPY 100"),
        ];
        for (minor, currency, shown) in table {
            assert_eq!(money(minor, currency), shown);
        }
    }

    #[test]
    fn any_text_is_one_part_of_a_path() {
        assert_eq!(segment("ord-1_a.b"), "ord-1_a.b");
        assert_eq!(segment("a/../b?c#d%"), "a%2F..%2Fb%3Fc%23d%25");
    }
}
