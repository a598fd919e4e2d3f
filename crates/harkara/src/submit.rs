//! The one write path: load → decide → derive → plan → commit, and again if somebody was faster.
//!
//! The API and the gateway runner call it. It knows the order of the steps, and neither HTTP nor
//! SQL: the rules are the core's, the commit is the store's.

mod see_through;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use harkara_core::command::Command;
use harkara_core::delivery::NewDelivery;
use harkara_core::derive::{self, Snapshot};
use harkara_core::endpoint::Endpoint;
use harkara_core::id::{self, EndpointId, MandateId, MerchantId, RefundId};
use harkara_core::mandate::{self, Mandate};
use harkara_core::merchant::Merchant;
use harkara_core::notification::{self, Notification, NotificationCommand};
use harkara_core::order::{self, Known, Order, OrderCommand};
use harkara_core::refusal::Refusal;
use harkara_core::render::Rendering;
use harkara_core::time::Timestamp;
use harkara_core::transition::Transition;
use harkara_core::{delivery, dummy};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::deliver::inbox::Inbox;
use crate::store::{
    Commit, Committed, DbError, DbErrorKind, MandateRow, NewEvent, NotificationRow, OrderRow,
    Origin, RefKind, ScheduledOutcome, Store, Write,
};

use self::see_through::see_through;

/// How often a decision is taken anew when somebody else wrote first.
const TRIES: usize = 3;

/// Commands for one subject take turns in this process, so that a decision is seldom stale. A
/// subject's stripe is picked by hash; two subjects that share one merely wait for each other.
const STRIPES: usize = 256;

/// The write path, with what it needs to render and to hand over.
pub struct Submit {
    store: Store,
    clock: Clock,
    inbox: Inbox,
    public_url: String,
    /// Present where the DUMMY gateway plays outcomes: how long a slow payment takes.
    dummy_pending: Option<Duration>,
    stripes: Vec<Mutex<()>>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] DbError),
    #[error("read a stored document: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// What a command left behind.
#[derive(Clone, Debug, Default)]
pub struct Submitted {
    pub order: Option<Order>,
    /// The mandate that the order shows.
    pub order_mandate: Option<Mandate>,
    /// The mandate that the command concerned.
    pub mandate: Option<Mandate>,
    pub notification: Option<Notification>,
    /// False: everything was so already, and nothing was stored.
    pub changed: bool,
}

/// Everything that a command may look at or change, as it is while commands are applied.
#[derive(Default)]
struct Book {
    order: Option<Order>,
    /// The mandate that the order's leading transaction registers or is paid by.
    order_mandate: Option<Mandate>,
    /// The mandate that a command concerns; the same one, but for an order with several tries.
    mandate: Option<Mandate>,
    notification: Option<Notification>,
    /// The versions that were loaded; 0 where there was nothing.
    order_version: i64,
    mandate_version: i64,
    notification_version: i64,
    refs_known: (usize, usize),
    order_changed: bool,
    mandate_changed: bool,
    notification_changed: bool,
    events: Vec<delivery::Event>,
    planned: Vec<dummy::Planned>,
}

impl Submit {
    /// A write path onto this store, handing fresh deliveries to `inbox`.
    pub fn new(
        store: Store,
        clock: Clock,
        inbox: Inbox,
        public_url: String,
        dummy_pending: Option<Duration>,
    ) -> Self {
        let stripes = std::iter::repeat_with(|| Mutex::new(()))
            .take(STRIPES)
            .collect();
        Self {
            store,
            clock,
            inbox,
            public_url,
            dummy_pending,
            stripes,
        }
    }

    /// How contents of this merchant are rendered.
    pub fn rendering<'a>(&'a self, merchant: &'a Merchant) -> Rendering<'a> {
        Rendering {
            settings: &merchant.settings,
            public_url: &self.public_url,
        }
    }

    /// Carries commands out, all of them in one commit or none. They concern one order, one mandate
    /// or one notification.
    pub async fn run(
        &self,
        merchant: &Merchant,
        commands: &[Command],
    ) -> Result<Submitted, SubmitError> {
        self.run_scheduled(merchant, commands, None).await
    }

    /// The same for commands that were scheduled: `finished` leaves the schedule with the commit.
    pub async fn run_scheduled(
        &self,
        merchant: &Merchant,
        commands: &[Command],
        finished: Option<&str>,
    ) -> Result<Submitted, SubmitError> {
        let _turn = self.stripe(&merchant.merchant_id, commands).lock().await;
        let mut tries = 1;
        loop {
            match self.try_once(merchant, commands, finished).await {
                Err(SubmitError::Store(error))
                    if error.kind == DbErrorKind::Stale && tries < TRIES =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_once(
        &self,
        merchant: &Merchant,
        commands: &[Command],
        finished: Option<&str>,
    ) -> Result<Submitted, SubmitError> {
        let now = self.clock.now();
        let mut book = self.load(&merchant.merchant_id, commands).await?;
        // What was scheduled is played only if nobody has decided otherwise since.
        let outdated = |command: &&Command| {
            finished.is_some() && !dummy::still_plays(command, book.order.as_ref())
        };
        let commands: Vec<&Command> = commands
            .iter()
            .filter(|command| !outdated(command))
            .collect();
        for command in commands {
            self.apply(merchant, &mut book, command, now).await?;
        }
        let changed = book.order_changed || book.mandate_changed || book.notification_changed;
        if changed || finished.is_some() {
            self.commit(&merchant.merchant_id, &mut book, finished, now)
                .await?;
        }
        let Book {
            order,
            order_mandate,
            mandate,
            notification,
            ..
        } = book;
        Ok(Submitted {
            order,
            order_mandate,
            mandate,
            notification,
            changed,
        })
    }

    async fn load(
        &self,
        merchant_id: &MerchantId,
        commands: &[Command],
    ) -> Result<Book, SubmitError> {
        let mut book = Book::default();
        let Some(first) = commands.first() else {
            return Ok(book);
        };
        match first {
            Command::Order(order_id, _) => {
                if let Some(view) = self.store.order(merchant_id, order_id).await? {
                    if view.origin == Origin::Foreign {
                        return Err(Refusal::OrderForeign.into());
                    }
                    let order: Order = serde_json::from_str(&view.doc)?;
                    book.order_version = order.version;
                    book.refs_known = (order.txns.len(), order.refunds.len());
                    book.order = Some(order);
                }
            }
            Command::Mandate(mandate_id, _) => {
                self.load_mandate(merchant_id, &mut book, Some(mandate_id))
                    .await?;
            }
            Command::Notification(reference, command) => {
                if let Some(view) = self.store.notification(merchant_id, reference).await?
                    && view.origin == Origin::Own
                {
                    let notification: Notification = serde_json::from_str(&view.doc)?;
                    book.notification_version = notification.version;
                    book.notification = Some(notification);
                }
                let mandate_id = match command {
                    NotificationCommand::Request(new) => Some(new.mandate_id.clone()),
                    NotificationCommand::Outcome(_) => book
                        .notification
                        .as_ref()
                        .map(|known| known.mandate_id.clone()),
                };
                self.load_mandate(merchant_id, &mut book, mandate_id.as_ref())
                    .await?;
            }
        }
        Ok(book)
    }

    /// Makes `book.mandate` the one named, unless it is that one already.
    async fn load_mandate(
        &self,
        merchant_id: &MerchantId,
        book: &mut Book,
        mandate_id: Option<&MandateId>,
    ) -> Result<(), SubmitError> {
        let loaded = book.mandate.as_ref().map(|mandate| &mandate.mandate_id);
        if loaded == mandate_id || book.mandate_changed {
            return Ok(());
        }
        book.mandate = None;
        book.mandate_version = 0;
        if let Some(mandate_id) = mandate_id {
            book.mandate = self.own_mandate(merchant_id, mandate_id).await?;
            book.mandate_version = book.mandate.as_ref().map_or(0, |mandate| mandate.version);
        }
        Ok(())
    }

    /// A mandate that is kept here, not by another ledger.
    async fn own_mandate(
        &self,
        merchant_id: &MerchantId,
        mandate_id: &MandateId,
    ) -> Result<Option<Mandate>, SubmitError> {
        let view = self.store.mandate(merchant_id, mandate_id).await?;
        let own = view.filter(|view| view.origin == Origin::Own);
        Ok(own
            .map(|view| serde_json::from_str(&view.doc))
            .transpose()?)
    }

    async fn apply(
        &self,
        merchant: &Merchant,
        book: &mut Book,
        command: &Command,
        now: Timestamp,
    ) -> Result<(), SubmitError> {
        match command {
            Command::Order(_, command) => {
                let mut next = Some(command.clone());
                while let Some(command) = next {
                    next = self.apply_to_order(merchant, book, &command, now).await?;
                }
            }
            Command::Mandate(_, command) => {
                let decision = mandate::decide(book.mandate.as_ref(), *command, now)?;
                book.mandate_changed |= !decision.transitions.is_empty();
                book.mandate = Some(decision.mandate);
                self.record(merchant, book, &decision.transitions, now);
            }
            Command::Notification(_, command) => {
                let mandate = book.mandate.as_ref();
                let decision =
                    notification::decide(book.notification.as_ref(), mandate, command, now)?;
                book.notification_changed |= decision.changed;
                book.notification = Some(decision.notification);
                self.record(merchant, book, &decision.transitions, now);
            }
        }
        Ok(())
    }

    /// Refuses a refund id that another order of the merchant has: gateways report a refund by this
    /// id alone.
    async fn refuse_if_elsewhere(
        &self,
        merchant_id: &MerchantId,
        book: &Book,
        refund_id: &RefundId,
    ) -> Result<(), SubmitError> {
        let (store, id) = (&self.store, refund_id.as_str());
        let found = store.order_by_ref(merchant_id, RefKind::Refund, id).await?;
        match (found, &book.order) {
            (Some(found), Some(order)) if !found.order_id.is_same(&order.order_id) => {
                Err(Refusal::RefundElsewhere.into())
            }
            _ => Ok(()),
        }
    }

    /// Applies one command to the order and says what has to follow at once.
    async fn apply_to_order(
        &self,
        merchant: &Merchant,
        book: &mut Book,
        command: &OrderCommand,
        now: Timestamp,
    ) -> Result<Option<OrderCommand>, SubmitError> {
        let concerned = mandate_of(book.order.as_ref(), command);
        self.load_mandate(&merchant.merchant_id, book, concerned.as_ref())
            .await?;
        if let OrderCommand::Refund(new) = command {
            self.refuse_if_elsewhere(&merchant.merchant_id, book, &new.refund_id)
                .await?;
        }
        let known = Known {
            merchant,
            order: book.order.as_ref(),
            mandate: book.mandate.as_ref(),
        };
        let decision = order::decide(known, command, now)?;
        book.order_changed |= decision.changed;
        if let Some(mandate) = decision.mandate {
            book.mandate = Some(mandate);
            book.mandate_changed = true;
        }
        let leading = decision.order.leading_txn();
        let shown = leading.and_then(|txn| txn.mandate_id.clone());
        book.order = Some(decision.order);
        book.order_mandate = match shown {
            None => None,
            Some(id) => match book.mandate.as_ref().filter(|known| known.mandate_id == id) {
                Some(mandate) => Some(mandate.clone()),
                None => self.own_mandate(&merchant.merchant_id, &id).await?,
            },
        };
        self.record(merchant, book, &decision.transitions, now);
        Ok(decision.follow_up)
    }

    /// Derives the events of what just happened, from the book as it is now, and asks the DUMMY
    /// gateway for its answer.
    fn record(
        &self,
        merchant: &Merchant,
        book: &mut Book,
        transitions: &[Transition],
        now: Timestamp,
    ) {
        // However many commands one commit carries out, it is one new version.
        if let Some(order) = book.order.as_mut().filter(|_| book.order_changed) {
            order.version = book.order_version + 1;
        }
        if let Some(mandate) = book.mandate.as_mut().filter(|_| book.mandate_changed) {
            mandate.version = book.mandate_version + 1;
        }
        let notification = book.notification.as_mut();
        if let Some(notification) = notification.filter(|_| book.notification_changed) {
            notification.version = book.notification_version + 1;
        }
        let snapshot = Snapshot {
            merchant_id: &merchant.merchant_id,
            rendering: self.rendering(merchant),
            order: book.order.as_ref(),
            order_mandate: book.order_mandate.as_ref(),
            mandate: book.mandate.as_ref(),
            notification: book.notification.as_ref(),
        };
        book.events
            .extend(derive::events(transitions, snapshot, now));
        let Some(pending) = self.dummy_pending else {
            return;
        };
        for transition in transitions {
            let answer = match transition {
                Transition::NotificationRequested(_) => book
                    .notification
                    .as_ref()
                    .and_then(dummy::answer_notification),
                _ => book
                    .order
                    .as_ref()
                    .and_then(|order| dummy::answer_order(transition, order, pending)),
            };
            book.planned.extend(answer);
        }
    }

    async fn commit(
        &self,
        merchant_id: &MerchantId,
        book: &mut Book,
        finished: Option<&str>,
        now: Timestamp,
    ) -> Result<(), SubmitError> {
        let endpoints = self.store.endpoints(merchant_id).await?;
        let url_override = book.order.as_ref().and_then(Order::webhook_url);
        let mut commit = Commit::new(merchant_id.clone(), now);
        commit.writes = writes(book)?;
        commit.events = plan(
            std::mem::take(&mut book.events),
            &endpoints,
            url_override.as_deref(),
        );
        commit.schedule = schedule(merchant_id, &book.planned, now)?;
        commit.finished = finished.map(str::to_owned);
        self.store_and_hand_over(commit).await?;
        Ok(())
    }

    /// Commits, born claimed while the inbox has room, and hands the claimed deliveries over.
    ///
    /// That is seen through: a caller who hangs up in the middle must not leave deliveries that are
    /// claimed and in nobody's hands until their lease ends.
    pub async fn store_and_hand_over(&self, mut commit: Commit) -> Result<Committed, DbError> {
        let planned = commit
            .events
            .iter()
            .map(|event| event.deliveries.len())
            .sum();
        let body_bytes = |event: &NewEvent| event.event.body.len() * event.deliveries.len();
        let bytes = commit.events.iter().map(body_bytes).sum();
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        see_through(async move {
            let place = inbox.reserve(planned, bytes);
            commit.lease_until = place.as_ref().map(|_| inbox.lease_until(commit.now));
            let wakes_gateway = !commit.schedule.is_empty();
            let mut committed = store.commit(commit).await?;
            match place {
                Some(place) => place.fill(std::mem::take(&mut committed.claimed)),
                None => inbox.wake(),
            }
            if wakes_gateway {
                inbox.wake_gateway();
            }
            Ok(committed)
        })
        .await
    }

    /// Stores a replay of an event whose body has this many bytes, born claimed while the inbox
    /// has room.
    pub async fn resend(&self, delivery: NewDelivery, body_bytes: usize) -> Result<(), DbError> {
        let now = self.clock.now();
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        see_through(async move {
            let place = inbox.reserve(1, body_bytes);
            let lease_until = place.as_ref().map(|_| inbox.lease_until(now));
            let claimed = store.insert_replay(delivery, now, lease_until).await?;
            match place {
                Some(place) => place.fill(claimed.into_iter().collect()),
                None => inbox.wake(),
            }
            Ok(())
        })
        .await
    }

    /// Takes a scheduled outcome off the schedule without carrying it out.
    pub async fn drop_scheduled(&self, merchant_id: &MerchantId, id: &str) -> Result<(), DbError> {
        let mut commit = Commit::new(merchant_id.clone(), self.clock.now());
        commit.finished = Some(id.to_owned());
        self.store_and_hand_over(commit).await.map(drop)
    }

    /// A person says that an endpoint is to be called again; what waited for it may be due.
    pub fn resumed(&self, merchant_id: &MerchantId, endpoint_id: &EndpointId) {
        self.inbox.resumed(merchant_id, endpoint_id);
    }

    fn stripe(&self, merchant_id: &MerchantId, commands: &[Command]) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        merchant_id.hash(&mut hasher);
        match commands.first() {
            Some(Command::Order(id, _)) => id.as_str().to_lowercase().hash(&mut hasher),
            Some(Command::Mandate(id, _)) => id.hash(&mut hasher),
            Some(Command::Notification(id, _)) => id.hash(&mut hasher),
            None => {}
        }
        let index = usize::try_from(hasher.finish() % STRIPES as u64).expect("below 256");
        &self.stripes[index]
    }
}

/// The mandate that a command concerns: the one it is to be paid by, or the one of its transaction.
fn mandate_of(order: Option<&Order>, command: &OrderCommand) -> Option<MandateId> {
    let txn_uuid = match command {
        OrderCommand::StartTxn(new) => return new.mandate_id.clone(),
        OrderCommand::TxnOutcome(outcome) => &outcome.txn_uuid,
        OrderCommand::Capture { txn_uuid, .. }
        | OrderCommand::Void { txn_uuid }
        | OrderCommand::AutoRefund { txn_uuid } => txn_uuid,
        OrderCommand::Create(_)
        | OrderCommand::Amend(_)
        | OrderCommand::Refund(_)
        | OrderCommand::RefundOutcome(_) => return order?.leading_txn()?.mandate_id.clone(),
    };
    order?
        .txns
        .iter()
        .find(|txn| &txn.txn_uuid == txn_uuid)?
        .mandate_id
        .clone()
}

/// The rows that changed, each guarded by the version that was loaded.
fn writes(book: &Book) -> Result<Vec<Write>, serde_json::Error> {
    let mut writes = Vec::new();
    if let Some(order) = book.order.as_ref().filter(|_| book.order_changed) {
        let (txns_known, refunds_known) = book.refs_known;
        let mut refs = Vec::new();
        for txn in order.txns.iter().skip(txns_known) {
            refs.push((RefKind::TxnUuid, txn.txn_uuid.to_string()));
            refs.push((RefKind::TxnId, txn.txn_id.to_string()));
        }
        for refund in order.refunds.iter().skip(refunds_known) {
            refs.push((RefKind::Refund, refund.refund_id.to_string()));
        }
        writes.push(Write::Order(OrderRow {
            order_id: order.order_id.clone(),
            internal_id: order.id.clone(),
            doc: serde_json::to_string(order)?,
            version: order.version,
            status: order.status().as_str().to_owned(),
            amount_minor: order.details.amount.minor(),
            currency: order.details.currency.as_str().to_owned(),
            customer_id: order.details.customer_id.clone(),
            created_at: order.created_at,
            updated_at: order.updated_at,
            refs,
        }));
    }
    if let Some(mandate) = book.mandate.as_ref().filter(|_| book.mandate_changed) {
        writes.push(Write::Mandate(MandateRow {
            mandate_id: mandate.mandate_id.clone(),
            doc: serde_json::to_string(mandate)?,
            version: mandate.version,
            status: mandate.status.as_str().to_owned(),
            customer_id: Some(mandate.customer_id.clone()),
            order_id: Some(mandate.order_id.clone()),
            created_at: mandate.created_at,
        }));
    }
    if let Some(known) = book
        .notification
        .as_ref()
        .filter(|_| book.notification_changed)
    {
        writes.push(Write::Notification(NotificationRow {
            object_reference_id: known.reference.clone(),
            doc: serde_json::to_string(known)?,
            version: known.version,
            status: known.status.as_str().to_owned(),
            mandate_id: known.mandate_id.clone(),
            created_at: known.created_at,
        }));
    }
    Ok(writes)
}

/// Each event with who hears of it.
fn plan(
    events: Vec<delivery::Event>,
    endpoints: &[Arc<Endpoint>],
    url_override: Option<&str>,
) -> Vec<NewEvent> {
    let planned = events.into_iter().map(|event| {
        let deliveries = delivery::plan(&event, endpoints, url_override);
        NewEvent {
            event,
            deliveries,
            request_hash: None,
        }
    });
    planned.collect()
}

/// The DUMMY gateway's answers, each under an id that the same answer always has.
fn schedule(
    merchant_id: &MerchantId,
    planned: &[dummy::Planned],
    now: Timestamp,
) -> Result<Vec<ScheduledOutcome>, serde_json::Error> {
    let rows = planned.iter().map(|(after, command)| {
        let doc = serde_json::to_string(command)?;
        let id = format!(
            "out_{}",
            id::time_ordered(now, &[merchant_id.as_str(), &doc])
        );
        Ok(ScheduledOutcome {
            merchant_id: merchant_id.clone(),
            id,
            due_at: now.plus(*after),
            doc,
        })
    });
    rows.collect()
}
