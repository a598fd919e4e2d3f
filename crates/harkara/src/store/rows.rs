//! What goes into the store and comes out of its hot calls, as plain values.
//!
//! No rules and no SQL: a [`Commit`] says what is to be true together, a [`Claimed`] is all that an
//! attempt needs. What the views show is in `views/`.

use bytes::Bytes;
use harkara_core::delivery::{DeliveryKind, Event, NewDelivery, Verdict};
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::health::Health;
use harkara_core::id::{
    DeliveryId, EndpointId, EventId, MandateId, MerchantId, NotificationRef, OrderId,
};
use harkara_core::time::Timestamp;
use serde::Serialize;

/// Everything that one state change brings about. All of it lands, or none.
#[derive(Clone, Debug)]
pub struct Commit {
    pub merchant_id: MerchantId,
    pub now: Timestamp,
    pub writes: Vec<Write>,
    pub events: Vec<NewEvent>,
    pub idempotency: Option<NewIdempotencyKey>,
    pub schedule: Vec<ScheduledOutcome>,
    /// The scheduled outcome that this carries out; `Stale` when somebody has done so already.
    pub finished: Option<String>,
    /// Until when due deliveries are born claimed by us; `None` leaves them to a later claim.
    pub lease_until: Option<Timestamp>,
}

impl Commit {
    /// A commit that changes nothing yet.
    pub fn new(merchant_id: MerchantId, now: Timestamp) -> Self {
        Self {
            merchant_id,
            now,
            writes: Vec::new(),
            events: Vec::new(),
            idempotency: None,
            schedule: Vec::new(),
            finished: None,
            lease_until: None,
        }
    }
}

/// One row of an aggregate, guarded by its version: 1 inserts it, n replaces version n - 1.
#[derive(Clone, Debug)]
pub enum Write {
    Order(OrderRow),
    Mandate(MandateRow),
    Notification(NotificationRow),
    Snapshot(SnapshotRow),
}

impl Write {
    /// The document that is stored with the row; the content of a snapshot is in its event.
    pub(in crate::store) fn doc(&self) -> Option<&str> {
        match self {
            Self::Order(row) => Some(&row.doc),
            Self::Mandate(row) => Some(&row.doc),
            Self::Notification(row) => Some(&row.doc),
            Self::Snapshot(_) => None,
        }
    }
}

/// An order of ours, as a document and the columns it is found and listed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// As its merchant writes it; found again in any case.
    pub order_id: OrderId,
    /// `ordeh_…`, the name in public links.
    pub internal_id: String,
    pub doc: String,
    pub version: i64,
    pub status: String,
    pub amount_minor: i64,
    pub currency: String,
    pub customer_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// What else it is to be found by. Those already stored may be given again; a value that
    /// belongs to another order of the merchant makes the commit `Stale`.
    pub refs: Vec<(RefKind, String)>,
}

/// What an order is found by besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefKind {
    TxnUuid,
    TxnId,
    Refund,
}

/// A mandate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandateRow {
    pub mandate_id: MandateId,
    pub doc: String,
    pub version: i64,
    pub status: String,
    pub customer_id: Option<String>,
    pub order_id: Option<OrderId>,
    pub created_at: Timestamp,
}

/// A notification of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRow {
    pub object_reference_id: NotificationRef,
    pub doc: String,
    pub version: i64,
    pub status: String,
    pub mandate_id: MandateId,
    pub created_at: Timestamp,
}

/// What a foreign ledger said last of something of its own: the content of the first event of the
/// same commit. It replaces what was said before, but never a row that was decided here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    pub kind: SnapshotKind,
    pub id: String,
    pub status: String,
    pub customer_id: Option<String>,
    pub now: Timestamp,
}

/// Which table a snapshot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    Order,
    Mandate,
    Notification,
}

/// Who decided what a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Our own core.
    Own,
    /// A ledger that only asks us to tell.
    Foreign,
}

/// An event with the deliveries that were planned for it.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub event: Event,
    pub deliveries: Vec<NewDelivery>,
    /// Of the request, when nothing but the event's id tells that it was sent before.
    pub request_hash: Option<String>,
}

/// What an event of a foreign ledger was derived from.
pub const REPORTED: &str = "a report of the platform's own ledger";

/// The answer to a request, kept so that the same request gets it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdempotencyKey {
    pub key: String,
    pub request_hash: String,
    pub response: String,
}

/// Something that will happen by itself: what the test gateway has yet to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledOutcome {
    pub merchant_id: MerchantId,
    pub id: String,
    pub due_at: Timestamp,
    pub doc: String,
}

/// What a commit was given by the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub events: Vec<CommittedEvent>,
    /// The deliveries that are due and ours to send, in order.
    pub claimed: Vec<Claimed>,
}

/// The place that an event was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEvent {
    pub event_id: EventId,
    /// The cursor of the feed; grows in commit order.
    pub position: i64,
    /// Counts the events of the subject from 1.
    pub sequence: i64,
}

/// Which due deliveries are wanted.
#[derive(Clone, Debug)]
pub struct ClaimAsk {
    pub merchant_id: MerchantId,
    pub endpoint_id: EndpointId,
    pub limit: usize,
    pub pick: Pick,
    pub now: Timestamp,
    pub lease_until: Timestamp,
}

/// Which of an endpoint's due deliveries a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Those that have just been born, then the rest, the longest due first.
    FreshFirst,
    /// The longest due, for a probe.
    LongestDue,
}

/// A delivery that is ours until its lease ends, with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub merchant_id: MerchantId,
    pub delivery_id: DeliveryId,
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    pub event_name: String,
    /// The subject's key.
    pub subject: String,
    pub sequence: i64,
    /// Calls made so far.
    pub attempts: i64,
    /// Which claim this is; a settle must show it.
    pub fence: i64,
    /// Whose claim it is.
    pub node: i64,
    pub lease_until: Timestamp,
    pub kind: DeliveryKind,
    pub url_override: Option<String>,
    /// An earlier delivery of the subject was unsettled when this one became due.
    pub overtaking: bool,
    /// How many attempts a second its endpoint may have.
    pub rate_per_second: Option<u32>,
    pub body: Bytes,
}

impl Claimed {
    /// What to hand back when it is not going to be sent.
    pub fn lease(&self) -> Lease {
        Lease {
            merchant_id: self.merchant_id.clone(),
            delivery_id: self.delivery_id.clone(),
            fence: self.fence,
        }
    }
}

/// A claimed delivery whose body is still packed.
pub(in crate::store) struct Unopened(pub(in crate::store) Claimed);

/// A claim that can be given back.
#[derive(Clone, Debug)]
pub struct Lease {
    pub merchant_id: MerchantId,
    pub delivery_id: DeliveryId,
    pub fence: i64,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Settle {
    pub merchant_id: MerchantId,
    pub delivery_id: DeliveryId,
    pub endpoint_id: EndpointId,
    /// The key of what its event is about.
    pub subject: String,
    pub fence: i64,
    pub attempt: AttemptRow,
    pub verdict: Verdict,
    /// What the endpoint's health has become with it.
    pub health: HealthWrite,
    /// The state of an endpoint that is to be called no more.
    pub stop: Option<EndpointState>,
    /// What its merchant is to be told of.
    pub told: Option<NewOperationalEvent>,
    pub now: Timestamp,
    /// Until when the deliveries that this one releases are claimed by us; `None` leaves them to a
    /// later claim.
    pub lease_until: Option<Timestamp>,
    /// Nobody knows whether it was made before. If so, it changes nothing.
    pub is_again: bool,
}

/// What is to be remembered of an endpoint's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HealthWrite {
    /// What is known already.
    #[default]
    Keep,
    Well,
    Ill(Box<Health>),
}

/// Something that a merchant is told about its endpoint, besides what its deliveries show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOperationalEvent {
    /// `endpoint_failing`, `endpoint_disabled`…
    pub kind: &'static str,
    pub sentence: String,
}

/// One HTTP call, as the evidence for its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    pub started_at: Timestamp,
    pub duration_us: i64,
    /// The status code, when a complete head came back.
    pub status: Option<u16>,
    /// The code of the failure, when none did.
    pub failure: Option<String>,
    pub evidence: Evidence,
}

/// What an attempt's row keeps beside its columns: where it went, how long each part took, and what
/// came back. A part that was not reached has no time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub url: String,
    /// An earlier event of the same subject was unsettled, so that this one overtook it.
    pub overtaking: bool,
    pub credentials: CredentialsUsed,
    pub dns_us: Option<u64>,
    pub connect_us: Option<u64>,
    pub tls_us: Option<u64>,
    pub write_us: Option<u64>,
    pub first_byte_us: Option<u64>,
    /// The answer's head, and the beginning of its body as text; hostile, never more than shown.
    pub answer_headers: Vec<(String, String)>,
    pub answer_body: String,
}

/// Which of an endpoint's credentials the request had whose answer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsUsed {
    #[default]
    Current,
    /// Those before them, after the current ones were refused. The times, except for the whole, are
    /// the second request's.
    Previous,
}

/// What an attempt meant when it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptVerdict {
    Delivered,
    Retry,
    Exhausted,
}

/// What a settle changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The claim was still ours. When not, only a delivered verdict counts.
    pub held: bool,
    /// Deliveries that waited for this one and are due now, in nobody's hands.
    pub released: i64,
    /// Those that are ours to send, as a lease was asked for and the endpoint is being called.
    pub claimed: Vec<Claimed>,
    /// The endpoint was active and is paused or disabled now.
    pub stopped: bool,
}

/// Where there is something to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    pub endpoints: Vec<DueEndpoint>,
    /// The next moment at which anything becomes due.
    pub next_due: Option<Timestamp>,
    /// A due time is further away than any wait could have put it, so the clock went back.
    pub is_far: bool,
}

/// An active endpoint with deliveries that are due and in nobody's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueEndpoint {
    pub merchant_id: MerchantId,
    pub endpoint_id: EndpointId,
    /// `None` for one that is well.
    pub health: Option<Health>,
}

/// An endpoint with what the store adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    pub endpoint: Endpoint,
    /// To be shown when it is changed.
    pub version: i64,
    /// Deleted endpoints are kept for the history of their deliveries.
    pub deleted_at: Option<Timestamp>,
    /// `None` for one that is well, or has not been called.
    pub health: Option<Health>,
}

/// A merchant with its settings, which only `doc` knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerchantRow {
    pub merchant_id: MerchantId,
    pub doc: String,
    pub version: i64,
    pub created_at: Timestamp,
}

/// An API key, of which the secret half is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// The public half, by which it is found.
    pub key_id: String,
    /// The empty id for a platform key.
    pub merchant_id: MerchantId,
    /// Of the secret half.
    pub hash: String,
    /// What people see: its name, its rights.
    pub doc: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}
