//! Deliveries: one event for one endpoint, until settled.
//!
//! `plan()` decides who hears of an event, `judge()` what an attempt's outcome means, `explain()`
//! says both in words. Pure: the dispatcher and the store carry out what is decided here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harkara_webhook::{EventName, Since, UnknownWord, WebhookVersion};

use crate::endpoint::{Endpoint, OrderMode, SuccessRule};
use crate::id::{DeliveryId, EndpointId, EventId, MerchantId, Subject, time_ordered};
use crate::planted::{Bug, planted};
use crate::retry::{Ladder, MAX_RETRY_AFTER, jittered};
use crate::time::Timestamp;

mod explain;

pub use explain::{ExplainInput, ExplainedAttempt, explain};

/// The record of a transition that a merchant may hear of. Its body is rendered once and never
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub merchant_id: MerchantId,
    pub id: EventId,
    pub name: EventName,
    pub subject: Subject,
    /// What it was derived from, for `explain`: `txn charged: ms-1-1`.
    pub transition: String,
    pub created_at: Timestamp,
    /// The bytes that every attempt sends.
    pub body: Bytes,
}

/// How one HTTP call ended. Somebody else's server failing is data, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete response head came back.
    Answered {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// No complete response head came back.
    Failed(Failure),
}

/// Why there was no answer: a closed list of codes, each with a sentence for people. No address and
/// no operating-system error is ever part of it, so that it cannot be used to scan a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    DnsFailed,
    DnsTimeout,
    BlockedDestination,
    ConnectRefused,
    ConnectFailed,
    ConnectTimeout,
    TlsFailed,
    TlsTimeout,
    WriteFailed,
    WriteTimeout,
    HeadTimeout,
    ConnectionClosed,
    BadResponse,
    AttemptTimeout,
    /// Our own side could not make the call (a credential that does not open, say).
    Internal,
}

/// What an outcome means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For good: `notified` from here on.
    Delivered,
    RetryAt(Timestamp),
    /// The ladder is used up.
    Exhausted,
}

/// The state a delivery is stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryState {
    /// Due at some time; claimed while its lease lasts.
    Pending,
    /// Not due until the delivery before it has an outcome.
    Waiting,
    Delivered,
    Exhausted,
    Withdrawn,
    Withheld,
}

/// Why a delivery was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// Planned when its event was born.
    Event,
    /// A person or a job asked for it again.
    Replay,
    /// A press of the endpoint's test button.
    Test,
}

/// A delivery as it is born, before the store gives it its place in the order of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub merchant_id: MerchantId,
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub kind: DeliveryKind,
    pub order: OrderMode,
    /// Where this order's webhooks go instead of the endpoint's URL (`metadata.webhook_url`).
    pub url_override: Option<String>,
    /// Why it will not be sent; `None` means it is due now.
    pub withheld: Option<Withheld>,
}

/// Why an endpoint does not hear of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Below the version that has the event.
    Version { needs: Since, has: WebhookVersion },
    /// A person switched the event off.
    SwitchedOff,
    /// The event is opt-in and nobody opted in.
    NotSubscribed,
}

/// As it is stored and shown, after the event's name: `needs ≥ 2020-10-31, endpoint has 2016-10-27`.
impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version {
                needs: Since::From(needs),
                has,
            } => {
                write!(
                    f,
                    "needs ≥ {}, endpoint has {}",
                    needs.describe(),
                    has.describe()
                )
            }
            Self::Version {
                needs: Since::Always,
                has,
            } => {
                write!(f, "needs any version, endpoint has {}", has.describe())
            }
            Self::SwitchedOff => f.write_str("is switched off for this endpoint"),
            Self::NotSubscribed => {
                f.write_str("is sent only to endpoints that ask for it, and this one does not")
            }
        }
    }
}

/// Gives an enum the word for each of its variants, and the way back.
macro_rules! words {
    ($what:literal $name:ident { $($variant:ident = $word:literal,)* }) => {
        impl $name {
            /// Each of them once.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word).ok_or_else(|| {
                    UnknownWord {
                        what: $what,
                        given: word.to_owned(),
                        expected: [$($word),*].join(", "),
                    }
                })
            }
        }
    };
}

words! { "failure code" Failure {
    DnsFailed = "DNS_FAILED",
    DnsTimeout = "DNS_TIMEOUT",
    BlockedDestination = "BLOCKED_DESTINATION",
    ConnectRefused = "CONNECT_REFUSED",
    ConnectFailed = "CONNECT_FAILED",
    ConnectTimeout = "CONNECT_TIMEOUT",
    TlsFailed = "TLS_FAILED",
    TlsTimeout = "TLS_TIMEOUT",
    WriteFailed = "WRITE_FAILED",
    WriteTimeout = "WRITE_TIMEOUT",
    HeadTimeout = "HEAD_TIMEOUT",
    ConnectionClosed = "CONNECTION_CLOSED",
    BadResponse = "BAD_RESPONSE",
    AttemptTimeout = "ATTEMPT_TIMEOUT",
    Internal = "INTERNAL",
} }

words! { "delivery state" DeliveryState {
    Pending = "pending",
    Waiting = "waiting",
    Delivered = "delivered",
    Exhausted = "exhausted",
    Withdrawn = "withdrawn",
    Withheld = "withheld",
} }

words! { "delivery kind" DeliveryKind {
    Event = "event",
    Replay = "replay",
    Test = "test",
} }

impl Failure {
    /// The code that is stored, shown and documented: `DNS_FAILED`.
    pub const fn code(self) -> &'static str {
        self.as_str()
    }

    /// What happened and where to look, for the merchant.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::DnsFailed => {
                "the URL's host name has no address; check its spelling and its DNS records"
            }
            Self::DnsTimeout => {
                "the URL's host name was not resolved in time; check its DNS servers"
            }
            Self::BlockedDestination => {
                "the URL leads to a place that is never called; use a public HTTPS address"
            }
            Self::ConnectRefused => {
                "the receiver refused the connection; check that it listens on the URL's port"
            }
            Self::ConnectFailed => {
                "no connection to the receiver could be made; check its network and firewall"
            }
            Self::ConnectTimeout => {
                "the receiver did not accept the connection in time; check its firewall"
            }
            Self::TlsFailed => {
                "no secure connection could be made; check that the certificate is valid for the \
                 host name, not expired, and complete with its intermediates"
            }
            Self::TlsTimeout => "the receiver did not finish the TLS handshake in time",
            Self::WriteFailed => "the receiver broke the connection while the request was sent",
            Self::WriteTimeout => "the receiver stopped reading the request",
            Self::HeadTimeout => {
                "the receiver took the request and did not answer in time; answer first, work later"
            }
            Self::ConnectionClosed => "the receiver closed the connection without an answer",
            Self::BadResponse => {
                "what the receiver answered is not HTTP/1.1, or its head is too big"
            }
            Self::AttemptTimeout => {
                "the attempt took longer than the endpoint's timeout; answer first, work later"
            }
            Self::Internal => "the call could not be made for a reason on our side; it is retried",
        }
    }
}

impl Outcome {
    /// The code that is stored and shown: `HTTP_404`, `DNS_FAILED`.
    pub fn code(&self) -> String {
        match self {
            Self::Answered { status, .. } => format!("HTTP_{status}"),
            Self::Failed(failure) => failure.code().to_owned(),
        }
    }

    /// What happened, for the merchant: `the receiver answered 404; only 200 counts`.
    pub fn sentence(&self, rule: SuccessRule) -> String {
        match self {
            Self::Answered { status, .. } if accepted(rule, *status) => {
                format!("the receiver answered {status}")
            }
            Self::Answered { status, .. } => match rule {
                SuccessRule::Only200 => format!("the receiver answered {status}; only 200 counts"),
                SuccessRule::Any2xx => {
                    format!("the receiver answered {status}; only 200 to 299 count")
                }
            },
            Self::Failed(failure) => failure.sentence().to_owned(),
        }
    }
}

/// A new event's deliveries: one for each endpoint, those that will not be sent among them.
///
/// A paused endpoint's delivery is as due as any other; it waits unsent. `url_override` is the
/// order's own URL and takes the place of the first endpoint's.
pub fn plan(
    event: &Event,
    endpoints: &[Arc<Endpoint>],
    url_override: Option<&str>,
) -> Vec<NewDelivery> {
    let first = endpoints
        .iter()
        .map(|e| (e.created_at, &e.endpoint_id))
        .min();
    let planned = endpoints.iter().map(|endpoint| {
        let is_first = first == Some((endpoint.created_at, &endpoint.endpoint_id));
        NewDelivery {
            id: event.delivery_id(endpoint, event.created_at, "event"),
            merchant_id: event.merchant_id.clone(),
            event_id: event.id.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            kind: DeliveryKind::Event,
            order: endpoint.order,
            url_override: url_override.filter(|_| is_first).map(str::to_owned),
            withheld: endpoint.wants(event.name).err(),
        }
    });
    planned.collect()
}

/// The same event once more for an endpoint that may have changed since. `which` tells this replay
/// from every other that is made of the event in the same millisecond.
pub fn replay(
    (event_id, name): (&EventId, EventName),
    endpoint: &Endpoint,
    url_override: Option<&str>,
    which: &str,
    at: Timestamp,
) -> NewDelivery {
    let merchant_id = &endpoint.merchant_id;
    NewDelivery {
        id: replay_id((merchant_id, event_id), &endpoint.endpoint_id, which, at),
        merchant_id: merchant_id.clone(),
        event_id: event_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        kind: DeliveryKind::Replay,
        order: endpoint.order,
        url_override: url_override.map(str::to_owned),
        withheld: endpoint.wants(name).err(),
    }
}

/// The id that [`replay`] gives.
pub fn replay_id(
    event: (&MerchantId, &EventId),
    endpoint_id: &EndpointId,
    which: &str,
    at: Timestamp,
) -> DeliveryId {
    delivery_id(event, endpoint_id, at, &format!("replay {which}"))
}

/// A made-up event for one endpoint. It asks no switch, and waits for none but those tests of the same
/// commit that `order` puts before it: the question is whether the URL and the credentials work.
pub fn test(
    event: &Event,
    endpoint: &Endpoint,
    (which, order): (&str, OrderMode),
    now: Timestamp,
) -> NewDelivery {
    NewDelivery {
        id: event.delivery_id(endpoint, now, &format!("test {which}")),
        merchant_id: event.merchant_id.clone(),
        event_id: event.id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        kind: DeliveryKind::Test,
        order,
        url_override: None,
        withheld: None,
    }
}

impl Event {
    fn delivery_id(&self, endpoint: &Endpoint, at: Timestamp, which: &str) -> DeliveryId {
        let event = (&self.merchant_id, &self.id);
        delivery_id(event, &endpoint.endpoint_id, at, which)
    }
}

fn delivery_id(
    (merchant_id, event_id): (&MerchantId, &EventId),
    endpoint_id: &EndpointId,
    at: Timestamp,
    which: &str,
) -> DeliveryId {
    let parts = [
        merchant_id.as_str(),
        event_id.as_str(),
        endpoint_id.as_str(),
        which,
    ];
    DeliveryId::new(format!("dlv_{}", time_ordered(at, &parts)))
}

/// Whether a status counts as delivered; nothing else knows.
pub fn accepted(rule: SuccessRule, status: u16) -> bool {
    match rule {
        SuccessRule::Only200 => status == 200 || status == 204 && planted(Bug::NoContentCounts),
        SuccessRule::Any2xx => (200..=299).contains(&status),
    }
}

/// An attempt that has ended, and how many its delivery has had with it.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    pub delivery_id: &'a DeliveryId,
    pub kind: DeliveryKind,
    /// Calls made so far, this one among them: from 1.
    pub attempts: u32,
    pub outcome: &'a Outcome,
}

/// What an attempt's outcome means for its delivery.
///
/// A ladder ends by its attempts, never by a clock, so that a clock that jumps cannot cut it short.
pub fn judge(
    attempted: &Attempted<'_>,
    ladder: &Ladder,
    rule: SuccessRule,
    now: Timestamp,
) -> Verdict {
    let asked = match *attempted.outcome {
        Outcome::Answered { status, .. } if accepted(rule, status) => return Verdict::Delivered,
        // Elsewhere `Retry-After` means other things (with 301, how long not to follow it).
        Outcome::Answered {
            status: 429 | 503,
            retry_after,
        } => retry_after,
        Outcome::Answered { .. } | Outcome::Failed(_) => None,
    };
    let step = match attempted.kind {
        DeliveryKind::Event | DeliveryKind::Replay => {
            ladder.step_after(attempted.attempts + u32::from(planted(Bug::LastStepSkipped)))
        }
        // Somebody waits for what the one attempt says.
        DeliveryKind::Test => None,
    };
    let Some(step) = step else {
        return Verdict::Exhausted;
    };
    let wait = jittered(step, attempted.delivery_id, attempted.attempts);
    let asked = asked.unwrap_or_default().min(MAX_RETRY_AFTER);
    Verdict::RetryAt(now.plus(wait.max(asked)))
}

/// Whether an outcome pauses its endpoint: 410 says that the receiver is gone for good.
pub fn pauses(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered { status, .. } => *status == 410,
        Outcome::Failed(_) => false,
    }
}

#[cfg(test)]
mod tests;
