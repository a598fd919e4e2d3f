//! Receive Harkara's payment webhooks.
//!
//! After every payment, refund, mandate or notification the platform posts an event to your
//! server. Check who sent it, see whether you had it before, act on it, and answer 200:
//!
//! ```
//! use harkara_webhook::{BasicCredentials, EventName, MemorySeen, Received, Receiver, Seen};
//!
//! # fn ship(_order_id: Option<&str>) {}
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let authorization = Some("Basic c2hvcDpzZWNyZXQ=");
//! # let body = include_bytes!("../golden/order_succeeded.json");
//! let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
//! let seen = MemorySeen::new(10_000);
//!
//! let Received(event) = receiver.receive(authorization, body)?;
//! if seen.first_time(&event.id)?
//!     && event.event_name == EventName::OrderSucceeded
//!     && let Some(order) = event.order()
//! {
//!     ship(order.order_id());
//! }
//! // Now answer 200, for a repeat and for an event you do not care about too.
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `axum`, [`Received`] is an extractor. In production the memory of events
//! belongs in your database: [`Seen`] says what has to happen in which order. When a webhook is
//! late, ask for the order's status instead of waiting; it has the shape of [`content::Order`].
//!
//! This crate holds what a merchant can see: names, versions, shapes and how to receive them. The
//! server is built on the same types, and nothing here knows of it.
#![warn(missing_docs)]

mod amount;
pub mod catalog;
pub mod content;
pub mod event;
mod field;
mod receive;
pub mod schema;
mod seen;
mod status;
mod version;
mod words;

pub use amount::{Amount, AmountError};
pub use catalog::{ContentKind, EventName, Since};
pub use event::{Content, Event, Name};
pub use field::{Field, Json};
pub use receive::{BasicCredentials, ReceiveError, Received, Receiver};
pub use schema::Schema;
pub use seen::{MemorySeen, Seen};
pub use status::{MandateStatus, NotificationStatus, OrderStatus, RefundStatus};
pub use version::{VersionError, WebhookVersion};
pub use words::UnknownWord;
