//! The catalogue: which events there are, what each carries, and which webhook version has it.
//!
//! One table, `events!`, holds all of that; the functions below read it. Whether an endpoint hears
//! of an event also depends on its switches, which are the server's business.

use std::fmt;

use crate::version::WebhookVersion;
use crate::words::words;

/// The first webhook version that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Since {
    /// Every version has it.
    Always,
    /// This version and later ones have it.
    From(WebhookVersion),
}

/// `all`, or the first version that has it: `>= 2016-07-19`.
impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.pad("all"),
            Self::From(version) => f.pad(&format!(">= {version}")),
        }
    }
}

/// What stands under `content` in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentKind {
    /// The whole order, as the order status call returns it.
    Order,
    /// One transaction.
    Txn,
    /// One mandate.
    Mandate,
    /// One pre-debit notification.
    Notification,
}

impl ContentKind {
    /// The one key of `content`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Txn => "txn",
            Self::Mandate => "mandate",
            Self::Notification => "notification",
        }
    }
}

/// Whether an endpoint hears of an event that nobody switched on or off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    OptIn,
}

struct Row {
    since: Since,
    content: ContentKind,
    switch: Switch,
    description: &'static str,
}

macro_rules! events {
    ($($variant:ident $text:literal $since:expr, $content:ident, $switch:ident, $why:literal;)*) => {
        words! {
            /// The name of an event, in the order of the catalogue.
            "event name" EventName {
                $(#[doc = $why] $variant = $text,)*
            }
        }

        const fn row(name: EventName) -> Row {
            match name {
                $(EventName::$variant => Row {
                    since: $since,
                    content: ContentKind::$content,
                    switch: Switch::$switch,
                    description: $why,
                },)*
            }
        }
    };
}

const ALWAYS: Since = Since::Always;
const JULY_2016: Since = Since::From(WebhookVersion::date(2016, 7, 19));
const OCTOBER_2016: Since = Since::From(WebhookVersion::date(2016, 10, 27));
const NOVEMBER_2019: Since = Since::From(WebhookVersion::date(2019, 11, 11));
const OCTOBER_2020: Since = Since::From(WebhookVersion::date(2020, 10, 31));

events! {
    OrderSucceeded "ORDER_SUCCEEDED" ALWAYS, Order, On, "The order is paid.";
    OrderRefunded "ORDER_REFUNDED" ALWAYS, Order, On, "A refund reached the customer.";
    OrderFailed "ORDER_FAILED" JULY_2016, Order, On, "Paying for the order failed.";
    OrderRefundFailed "ORDER_REFUND_FAILED" ALWAYS, Order, On, "A refund failed.";
    TxnCreated "TXN_CREATED" OCTOBER_2016, Order, On, "The customer began to pay for the order.";
    RefundManualReviewNeeded "REFUND_MANUAL_REVIEW_NEEDED" ALWAYS, Order, On,
        "Nobody knows how a refund ended; settle it with the payment processor.";
    RefundInitiated "REFUND_INITIATED" ALWAYS, Order, On, "A refund was accepted and is under way.";
    AutoRefundSucceeded "AUTO_REFUND_SUCCEEDED" NOVEMBER_2019, Order, On,
        "A transaction was refunded without being asked, and the money went back.";
    AutoRefundFailed "AUTO_REFUND_FAILED" NOVEMBER_2019, Order, On,
        "A transaction was to be refunded without being asked, and that failed.";
    MandateCreated "MANDATE_CREATED" ALWAYS, Mandate, On,
        "A mandate exists and waits for its registration.";
    MandateActivated "MANDATE_ACTIVATED" ALWAYS, Mandate, On,
        "A mandate is registered and can be charged.";
    MandateFailed "MANDATE_FAILED" ALWAYS, Mandate, On, "Registering a mandate failed.";
    MandateRevoked "MANDATE_REVOKED" ALWAYS, Mandate, On,
        "A mandate was revoked and can no longer be charged.";
    NotificationFailed "NOTIFICATION_FAILED" ALWAYS, Notification, On,
        "The customer could not be told of a coming debit.";
    NotificationSucceeded "NOTIFICATION_SUCCEEDED" ALWAYS, Notification, On,
        "The customer was told of a coming debit.";
    OrderAuthorized "ORDER_AUTHORIZED" ALWAYS, Order, On,
        "The money for the order is reserved and waits to be captured.";
    TxnCharged "TXN_CHARGED" OCTOBER_2020, Txn, On, "A transaction succeeded.";
    TxnFailed "TXN_FAILED" OCTOBER_2020, Txn, On, "A transaction failed.";
    OrderCreated "ORDER_CREATED" ALWAYS, Order, OptIn, "An order exists; nobody has paid yet.";
}

/// The first webhook version that has the event.
pub const fn since(name: EventName) -> Since {
    row(name).since
}

/// Whether a merchant at this version is sent the event: the version gate, whole.
pub fn admits(version: WebhookVersion, name: EventName) -> bool {
    match since(name) {
        Since::Always => true,
        Since::From(first) => version >= first,
    }
}

/// What the event carries.
pub const fn content_kind(name: EventName) -> ContentKind {
    row(name).content
}

/// Whether the event is sent only to endpoints that asked for it.
pub const fn opt_in(name: EventName) -> bool {
    matches!(row(name).switch, Switch::OptIn)
}

/// What happened, in a sentence.
pub const fn description(name: EventName) -> &'static str {
    row(name).description
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let table: String = EventName::ALL
            .iter()
            .map(|&name| {
                let key = content_kind(name).key();
                let asked = if opt_in(name) { "opt-in" } else { "" };
                let row = format!("{name:<27} | {:<13} | {key:<12} | {asked}", since(name));
                format!("{}\n", row.trim_end_matches([' ', '|']))
            })
            .collect();
        insta::assert_snapshot!(table, @r"
        ORDER_SUCCEEDED             | all           | order
        ORDER_REFUNDED              | all           | order
        ORDER_FAILED                | >= 2016-07-19 | order
        ORDER_REFUND_FAILED         | all           | order
        TXN_CREATED                 | >= 2016-10-27 | order
        REFUND_MANUAL_REVIEW_NEEDED | all           | order
        REFUND_INITIATED            | all           | order
        AUTO_REFUND_SUCCEEDED       | >= 2019-11-11 | order
        AUTO_REFUND_FAILED          | >= 2019-11-11 | order
        MANDATE_CREATED             | all           | mandate
        MANDATE_ACTIVATED           | all           | mandate
        MANDATE_FAILED              | all           | mandate
        MANDATE_REVOKED             | all           | mandate
        NOTIFICATION_FAILED         | all           | notification
        NOTIFICATION_SUCCEEDED      | all           | notification
        ORDER_AUTHORIZED            | all           | order
        TXN_CHARGED                 | >= 2020-10-31 | txn
        TXN_FAILED                  | >= 2020-10-31 | txn
        ORDER_CREATED               | all           | order        | opt-in
        ");
    }

    #[test]
    fn the_gate() {
        let versions = [
            "2016-07-18",
            "2016-07-19",
            "2016-10-27",
            "2019-11-11",
            "2020-10-31",
            "",
        ]
        .map(|text| text.parse::<WebhookVersion>().unwrap());
        let line = |head: &str, cell: &dyn Fn(WebhookVersion) -> String| {
            let cells = versions.map(|version| format!(" | {:<10}", cell(version)));
            format!("{head:<27}{}", cells.concat())
                .trim_end()
                .to_owned()
                + "\n"
        };
        let mut table = line("", &WebhookVersion::describe);
        for &name in EventName::ALL {
            let sent = |version| if admits(version, name) { "sent" } else { "" }.to_owned();
            table += &line(name.as_str(), &sent);
        }
        insta::assert_snapshot!(table, @r"
                                    | 2016-07-18 | 2016-07-19 | 2016-10-27 | 2019-11-11 | 2020-10-31 | latest
        ORDER_SUCCEEDED             | sent       | sent       | sent       | sent       | sent       | sent
        ORDER_REFUNDED              | sent       | sent       | sent       | sent       | sent       | sent
        ORDER_FAILED                |            | sent       | sent       | sent       | sent       | sent
        ORDER_REFUND_FAILED         | sent       | sent       | sent       | sent       | sent       | sent
        TXN_CREATED                 |            |            | sent       | sent       | sent       | sent
        REFUND_MANUAL_REVIEW_NEEDED | sent       | sent       | sent       | sent       | sent       | sent
        REFUND_INITIATED            | sent       | sent       | sent       | sent       | sent       | sent
        AUTO_REFUND_SUCCEEDED       |            |            |            | sent       | sent       | sent
        AUTO_REFUND_FAILED          |            |            |            | sent       | sent       | sent
        MANDATE_CREATED             | sent       | sent       | sent       | sent       | sent       | sent
        MANDATE_ACTIVATED           | sent       | sent       | sent       | sent       | sent       | sent
        MANDATE_FAILED              | sent       | sent       | sent       | sent       | sent       | sent
        MANDATE_REVOKED             | sent       | sent       | sent       | sent       | sent       | sent
        NOTIFICATION_FAILED         | sent       | sent       | sent       | sent       | sent       | sent
        NOTIFICATION_SUCCEEDED      | sent       | sent       | sent       | sent       | sent       | sent
        ORDER_AUTHORIZED            | sent       | sent       | sent       | sent       | sent       | sent
        TXN_CHARGED                 |            |            |            |            | sent       | sent
        TXN_FAILED                  |            |            |            |            | sent       | sent
        ORDER_CREATED               | sent       | sent       | sent       | sent       | sent       | sent
        ");
    }

    #[test]
    fn a_newer_version_has_every_event_of_an_older_one() {
        let mut versions = [
            "2015-01-01",
            "2016-07-19",
            "2016-10-27",
            "2018-06-06",
            "2019-11-11",
            "2020-10-31",
            "",
        ]
        .map(|text| text.parse::<WebhookVersion>().unwrap());
        versions.sort();
        for pair in versions.windows(2) {
            for &name in EventName::ALL {
                assert!(!admits(pair[0], name) || admits(pair[1], name));
            }
        }
    }

    #[test]
    fn names_are_their_wire_text() {
        for &name in EventName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("{:?}", name.as_str()));
            assert_eq!(serde_json::from_str::<EventName>(&json).unwrap(), name);
        }
        let error = "ORDER_SUCEEDED"
            .parse::<EventName>()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(r#"read event name "ORDER_SUCEEDED": expected one of ORDER_SUC"#)
        );
    }
}
