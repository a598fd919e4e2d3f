//! The small world of these tests: one merchant, its endpoints, and a clock that is stepped.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use harkara::clock::Clock;
use harkara::deliver::attempt::Attempter;
use harkara::deliver::dispatcher::{Action, Dispatcher, Input, Limits};
use harkara::deliver::transport::{Answer, Request, Sending, Sent, Timings, Transport};
use harkara::store::{Commit, NewEvent, Store};
use harkara::vault::{Context, Vault};
use harkara_core::delivery::{self, DeliveryState, Event, Failure, Outcome};
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode, SuccessRule};
use harkara_core::id::{EndpointId, EventId, MerchantId, OrderId, Subject};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, WebhookVersion};
use tempfile::TempDir;

use crate::app::store_at;

/// A day that a ladder can be read off easily.
pub fn start() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

/// A receiver that answers from scripts, one per event; an event without one gets 200.
#[derive(Default)]
struct Scripted {
    scripts: Mutex<HashMap<String, VecDeque<Outcome>>>,
    sent: Mutex<Vec<Request>>,
}

impl Transport for Scripted {
    fn send(&self, request: Request) -> Sending<'_> {
        let event_id = header(&request, "webhook-id");
        let mut scripts = self.scripts.lock().unwrap();
        let next = scripts.get_mut(&event_id).and_then(VecDeque::pop_front);
        let outcome = next.unwrap_or(Outcome::Answered {
            status: 200,
            retry_after: None,
        });
        drop(scripts);
        self.sent.lock().unwrap().push(request);
        Box::pin(async move { Sent::Answer(answer(outcome)) })
    }
}

fn answer(outcome: Outcome) -> Answer {
    Answer {
        outcome,
        timings: Timings::default(),
        body: Bytes::new(),
        headers: Vec::new(),
    }
}

/// A receiver's best answer.
pub fn answer_200() -> Answer {
    answer(Outcome::Answered {
        status: 200,
        retry_after: None,
    })
}

pub fn header(request: &Request, name: &str) -> String {
    let found = request.headers.iter().find(|(known, _)| known == name);
    found.map_or_else(String::new, |(_, value)| value.to_str().unwrap().to_owned())
}

pub struct World {
    pub store: Store,
    pub clock: Clock,
    pub merchant_id: MerchantId,
    /// Where the webhooks of the orders to come go instead.
    pub url_override: Option<String>,
    dispatcher: Dispatcher,
    attempter: Attempter,
    receiver: Arc<Scripted>,
    vault: Arc<Vault>,
    events: i64,
    _folder: TempDir,
}

/// The store of a test with this folder.
fn open_store(folder: &Path) -> Store {
    match store_at(folder) {
        // On a thread of its own, for no task may connect.
        Some(url) => std::thread::spawn(move || Store::connect(url.expose()))
            .join()
            .unwrap()
            .unwrap(),
        None => Store::open(&folder.join("data")).unwrap(),
    }
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(folder.path());
        let vault = Arc::new(Vault::open_or_create(&folder.path().join("vault.keys")).unwrap());
        let clock = Clock::manual(start());
        let receiver = Arc::new(Scripted::default());
        let attempter = Attempter {
            store: store.clone(),
            vault: vault.clone(),
            transport: receiver.clone(),
            clock: clock.clone(),
        };
        let limits = Limits {
            permits: 100,
            permits_per_merchant: 8,
            permits_per_endpoint: 8,
            disable_after: Duration::from_secs(5 * 86_400),
            lease: Duration::from_secs(90),
            attempt: Duration::from_secs(35),
            // So long that nothing is found by chance: the due times themselves must wake it.
            sweep: Duration::from_secs(7 * 86_400),
        };
        let dispatcher = Dispatcher::new(limits, clock.now());
        let merchant_id = MerchantId::new("ms");
        Self {
            store,
            clock,
            merchant_id,
            url_override: None,
            dispatcher,
            attempter,
            receiver,
            vault,
            events: 0,
            _folder: folder,
        }
    }

    /// Puts an endpoint in place that differs from the ordinary one as `change` says.
    pub async fn endpoint(&self, id: &str, change: impl FnOnce(&mut Endpoint)) -> EndpointId {
        let endpoint_id = EndpointId::new(id);
        let context = Context::endpoint_password(&self.merchant_id, &endpoint_id);
        let mut endpoint = Endpoint {
            merchant_id: self.merchant_id.clone(),
            endpoint_id: endpoint_id.clone(),
            url: "https://shop.merchant.example/hooks".to_owned(),
            username: "shop".to_owned(),
            password: self.vault.seal(context, b"secret"),
            previous_credentials: None,
            signing_secrets: Vec::new(),
            version: WebhookVersion::LATEST,
            switches: Default::default(),
            headers: Vec::new(),
            ladder: Ladder::Day,
            success: SuccessRule::Only200,
            order: OrderMode::Hold,
            timeout_seconds: 30,
            rate_per_second: None,
            ca_pem: None,
            state: EndpointState::Active,
            created_at: start(),
        };
        change(&mut endpoint);
        self.store.put_endpoint(&endpoint, 0).await.unwrap();
        endpoint_id
    }

    /// Commits an event of an order, unclaimed, and says how the receiver will answer it.
    pub async fn event(&mut self, order: &str, name: EventName, script: &str) -> EventId {
        self.events += 1;
        let id = EventId::new(format!("evt_{}", self.events));
        let answers = script
            .split(',')
            .map(str::trim)
            .filter(|answer| !answer.is_empty());
        let answers: VecDeque<Outcome> = answers.map(parse).collect();
        self.receiver
            .scripts
            .lock()
            .unwrap()
            .insert(id.to_string(), answers);
        let event = Event {
            merchant_id: self.merchant_id.clone(),
            id: id.clone(),
            name,
            subject: Subject::Order(OrderId::new(order)),
            transition: format!("step {} of the test", self.events),
            created_at: self.clock.now(),
            body: Bytes::from(format!("{{\"id\":\"{id}\"}}")),
        };
        let endpoints = self.store.endpoints(&self.merchant_id).await.unwrap();
        let deliveries = delivery::plan(&event, &endpoints, self.url_override.as_deref());
        let mut commit = Commit::new(self.merchant_id.clone(), self.clock.now());
        commit.events.push(NewEvent {
            event,
            deliveries,
            request_hash: None,
        });
        self.store.commit(commit).await.unwrap();
        id
    }

    /// Lets everything happen that is due now.
    pub async fn settle(&mut self) {
        let mut inputs = vec![Input::Woken];
        loop {
            let actions = self
                .dispatcher
                .step(std::mem::take(&mut inputs), self.clock.now());
            if actions.is_empty() {
                return;
            }
            for action in actions {
                inputs.extend(self.carry_out(action).await);
            }
        }
    }

    /// The same, and then on to the next due moment, until nothing is left to do or `limit` is over.
    pub async fn run(&mut self, limit: Duration) {
        let end = self.clock.now().plus(limit);
        loop {
            self.settle().await;
            let next_due = self.store.sweep(self.clock.now()).await.unwrap().next_due;
            // Besides what is due, a probe of an endpoint that is not well; never the idle sweep.
            let now = self.clock.now();
            let probe_at = Some(self.dispatcher.next_wake());
            let probe_at = probe_at.filter(|at| at.since(now) <= Duration::from_secs(60));
            match next_due.into_iter().chain(probe_at).min() {
                Some(next) if next <= end => self.clock.set(next.max(now)),
                _ => return,
            }
        }
    }

    async fn carry_out(&self, action: Action) -> Option<Input> {
        match action {
            Action::Send { claimed, .. } => Some(self.attempter.attempt(claimed).await),
            Action::Settle {
                settle,
                key,
                retry_at,
            } => {
                let subject = settle.subject.clone();
                let settled = Some(self.store.settle(*settle).await.unwrap());
                Some(Input::Settled {
                    key,
                    subject,
                    retry_at,
                    settled,
                })
            }
            Action::Claim(ask) => {
                let key = (ask.merchant_id.clone(), ask.endpoint_id.clone());
                let claimed = Some(self.store.claim(ask).await.unwrap());
                Some(Input::Claimed { key, claimed })
            }
            Action::Sweep => Some(Input::Swept(Some(
                self.store.sweep(self.clock.now()).await.unwrap(),
            ))),
            Action::PullIn => {
                self.store.pull_in(self.clock.now()).await.unwrap();
                Some(Input::Woken)
            }
            Action::Release(leases) => {
                self.store.release(leases).await.unwrap();
                None
            }
        }
    }

    /// What endpoints' passwords are sealed with here.
    pub fn vault(&self) -> Arc<Vault> {
        self.vault.clone()
    }

    /// The requests so far.
    pub fn sent(&self) -> Vec<Request> {
        self.receiver.sent.lock().unwrap().clone()
    }

    /// What became of an event: a line per attempt, then its state.
    pub async fn timeline(&self, event_id: &EventId) -> String {
        let mut page = String::new();
        let deliveries = self
            .store
            .deliveries_of_event(&self.merchant_id, event_id)
            .await
            .unwrap();
        for delivery in deliveries {
            let attempts = self
                .store
                .attempts(&self.merchant_id, &delivery.delivery_id)
                .await
                .unwrap();
            for view in attempts {
                let attempt = &view.attempt;
                let code = attempt.status.map(|status| status.to_string());
                let code = code.or(attempt.failure.clone()).unwrap_or_default();
                let then = match view.retry_at {
                    Some(at) => format!("retry in {}", span(at.since(attempt.started_at))),
                    None => format!("{:?}", view.verdict).to_lowercase(),
                };
                let at = span(attempt.started_at.since(start()));
                writeln!(page, "+{at:<9} attempt {:<2} {code:<20} {then}", view.n).unwrap();
            }
            let event = self
                .store
                .event(&self.merchant_id, event_id)
                .await
                .unwrap()
                .unwrap();
            let notified = event.0.notified;
            if delivery.state != DeliveryState::Delivered || !notified {
                let reason = delivery.reason.map(|reason| format!(": {reason}"));
                let state = delivery.state.as_str();
                writeln!(
                    page,
                    "{state}{}, notified = {notified}",
                    reason.unwrap_or_default()
                )
                .unwrap();
            } else {
                writeln!(page, "notified = {notified}").unwrap();
            }
        }
        page
    }
}

/// `500`, `503 retry-after=120`, or a word for what kept an answer from coming.
fn parse(answer: &str) -> Outcome {
    let failed = match answer {
        "timeout" => Failure::HeadTimeout,
        "refused" => Failure::ConnectRefused,
        "dns" => Failure::DnsFailed,
        "tls" => Failure::TlsFailed,
        "blocked" => Failure::BlockedDestination,
        _ => {
            let (status, asked) = answer.split_once(" retry-after=").unzip();
            let retry_after = asked.map(|text| Duration::from_secs(text.parse().unwrap()));
            let status = status.unwrap_or(answer).parse().unwrap();
            return Outcome::Answered {
                status,
                retry_after,
            };
        }
    };
    Outcome::Failed(failed)
}

/// `1h6m`, `90s`, without jitter's fractions.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s")];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}
