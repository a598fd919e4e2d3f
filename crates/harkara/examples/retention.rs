//! What it costs to delete what is old, and what others feel of it: measured, printed, and quoted in
//! `docs/decisions/0010-retention.md`.
//!
//! `cargo run --release -p harkara --example retention -- EVENTS [postgres://…]`, on a file in a new
//! folder or in a database that may be filled. No test runs it, and nothing is compared with a bound.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use harkara::retention::Keeper;
use harkara::store::{
    AttemptRow, Claimed, Commit, Evidence, HealthWrite, Kept, NewEvent, Settle, SnapshotKind,
    SnapshotRow, Store, Write,
};
use harkara_core::delivery::{self, Event, Verdict};
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode, Sealed, SuccessRule};
use harkara_core::id::{
    EndpointId, EventId, MerchantId, OrderId, Subject, digest, hex, time_ordered,
};
use harkara_core::retention::{MARK_EVERY, Retention};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, WebhookVersion};

const DAY: Duration = Duration::from_secs(86_400);

/// Callers that wait for their commits at the same time.
const CALLERS: u64 = 32;

/// Numbers that one of them has to itself.
const SPAN: u64 = 1_000_000_000;

/// Events of one order.
const OF_ORDER: u64 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments
        .next()
        .unwrap_or_else(|| "100000".to_owned())
        .parse()?;
    let folder = tempfile::tempdir()?;
    let store = match arguments.next() {
        None => Store::open(folder.path())?,
        Some(url) => {
            tokio::task::spawn_blocking(move || {
                Store::migrate(&url, false)?;
                Store::connect(&url)
            })
            .await??
        }
    };
    let endpoint = endpoint();
    store.put_endpoint(&endpoint, 0).await?;
    let endpoints: Arc<[Arc<Endpoint>]> = store.endpoints(&endpoint.merchant_id).await?;
    let caller = Caller { store, endpoints };

    let mut now = Timestamp::from_seconds(1_800_000_000);
    let begun = watch();
    caller.fill(0..events, now).await?;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    println!(
        "filled with {events} events, {rate:.0}/s; {}",
        size(folder.path())?
    );

    now = age(&caller.store, now).await?;
    let bodies_alone = Retention {
        bodies: DAY,
        events: 10_000 * DAY,
    };
    let all = Retention {
        bodies: DAY,
        events: DAY,
    };
    for (what, retention) in [("bodies", bodies_alone), ("the rest", all)] {
        let mut keeper = Keeper::new(caller.store.clone(), retention);
        let begun = watch();
        delete(&mut keeper, now, Pauses::None).await?;
        ensure_gone(
            &caller.store,
            if retention == all {
                Kept::Events
            } else {
                Kept::Bodies
            },
        )
        .await?;
        let each = begun.elapsed().as_secs_f64() * 1e6 / events as f64;
        println!("{what}, without pauses and alone: {each:.2} us an event");
    }
    println!("afterwards {}", size(folder.path())?);

    caller.fill(events..2 * events, now).await?;
    println!("filled once more, {}", size(folder.path())?);
    now = age(&caller.store, now).await?;
    let mut first = SPAN;
    for what in ["without it", "beside it", "without it"] {
        let is_over = Arc::new(AtomicBool::new(false));
        let callers = tokio::spawn(caller.clone().call(first, now, is_over.clone()));
        let begun = watch();
        if what == "beside it" {
            let mut keeper = Keeper::new(caller.store.clone(), all);
            delete(&mut keeper, now, Pauses::AsServed).await?;
            let rate = events as f64 / begun.elapsed().as_secs_f64();
            println!("with its pauses: {rate:.0} events/s deleted, bodies and all");
        } else {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        let mut took = callers.await??;
        let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: usize| took[(took.len() - 1) * part / 1_000].as_secs_f64() * 1e3;
        println!(
            "{CALLERS} callers {what}: {rate:.0} commits/s, {:.2} ms median, {:.2} p99, {:.1} longest",
            at(500),
            at(990),
            at(1_000)
        );
        first += CALLERS * SPAN;
    }
    println!("at the end {}", size(folder.path())?);
    caller.store.close().await;
    Ok(())
}

/// Whether a keeper waits between its steps.
enum Pauses {
    None,
    AsServed,
}

/// Deletes all that is old. A step that is refused leaves nothing to be measured.
async fn delete(keeper: &mut Keeper, now: Timestamp, pauses: Pauses) -> anyhow::Result<()> {
    loop {
        let wait = keeper.turn(now).await;
        if wait >= Duration::from_secs(60) {
            return Ok(());
        }
        ensure!(wait < Duration::from_secs(1), "a step was refused");
        if let Pauses::AsServed = pauses {
            tokio::time::sleep(wait).await;
        }
    }
}

/// All are gone, but for what has to stay.
async fn ensure_gone(store: &Store, kept: Kept) -> anyhow::Result<()> {
    let left = store.old(kept, (0, i64::MAX), 2).await?;
    ensure!(left.iter().all(|row| row.is_needed), "{kept:?} are left");
    Ok(())
}

/// Lets a day and an hour pass, in which nothing is old yet.
async fn age(store: &Store, mut now: Timestamp) -> anyhow::Result<Timestamp> {
    let for_ever = Retention {
        bodies: 10_000 * DAY,
        events: 10_000 * DAY,
    };
    let mut keeper = Keeper::new(store.clone(), for_ever);
    for _ in 0..26 {
        delete(&mut keeper, now, Pauses::None).await?;
        now = now.plus(MARK_EVERY);
    }
    Ok(now)
}

/// Whoever publishes events, and says that each has arrived.
#[derive(Clone)]
struct Caller {
    store: Store,
    endpoints: Arc<[Arc<Endpoint>]>,
}

impl Caller {
    /// Stores events, some together, each delivered.
    async fn fill(&self, numbers: std::ops::Range<u64>, now: Timestamp) -> anyhow::Result<()> {
        let mut tasks = tokio::task::JoinSet::new();
        let share = (numbers.end - numbers.start).div_ceil(CALLERS);
        for n in 0..CALLERS {
            let first = numbers.start + n * share;
            let mine = first..(first + share).min(numbers.end);
            let caller = self.clone();
            tasks.spawn(async move {
                for number in mine {
                    caller.publish(number, now).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(filled) = tasks.join_next().await {
            filled??;
        }
        Ok(())
    }

    /// Publishes until it is over, and says how long each commit took.
    async fn call(
        self,
        first: u64,
        now: Timestamp,
        is_over: Arc<AtomicBool>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..CALLERS {
            let (caller, is_over) = (self.clone(), is_over.clone());
            tasks.spawn(async move {
                let mut took = Vec::new();
                let mut number = first + n * SPAN;
                while !is_over.load(Ordering::Relaxed) {
                    took.push(caller.publish(number, now).await?);
                    number += 1;
                }
                anyhow::Ok(took)
            });
        }
        let mut all = Vec::new();
        while let Some(took) = tasks.join_next().await {
            all.extend(took??);
        }
        Ok(all)
    }

    /// Stores an event and what came of it; returns how long the first took.
    async fn publish(&self, number: u64, now: Timestamp) -> anyhow::Result<Duration> {
        let order = format!("order-{}", number / OF_ORDER);
        let id = time_ordered(now, &[&number.to_string()]);
        let event = Event {
            merchant_id: MerchantId::new("ms"),
            id: EventId::new(format!("evt_V2_{id}")),
            name: EventName::OrderSucceeded,
            subject: Subject::Order(OrderId::new(&*order)),
            transition: "reported by a foreign ledger".to_owned(),
            created_at: now,
            body: body(number),
        };
        let mut commit = Commit::new(event.merchant_id.clone(), now);
        commit.lease_until = Some(now.plus(DAY));
        commit.writes.push(Write::Snapshot(SnapshotRow {
            kind: SnapshotKind::Order,
            id: order.clone(),
            status: "CHARGED".to_owned(),
            customer_id: None,
            now,
        }));
        commit.events.push(NewEvent {
            deliveries: delivery::plan(&event, &self.endpoints, None),
            event,
            request_hash: Some(hex(&digest(&[&number.to_string()]))),
        });
        let begun = watch();
        let committed = self.store.commit(commit).await.context("commit")?;
        let took = begun.elapsed();
        let settles = committed.claimed.iter().map(|claimed| settle(claimed, now));
        for settled in self.store.settle_all(settles.collect()).await? {
            settled?;
        }
        Ok(took)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long something takes is what is asked"
)]
fn watch() -> Instant {
    Instant::now()
}

/// 2 KB of which half repeats itself in each.
fn body(number: u64) -> Bytes {
    let mut text = format!(r#"{{"id":"evt_{number}","content":{{"order":{{"amount":{number},"#);
    for field in 0..28 {
        let value = hex(&digest(&[&format!("{number} {field}")]));
        let value = value.get(..24).unwrap_or_default();
        text += &format!(r#""payment_gateway_field_number_{field}":"{value}","#);
    }
    text += r#""status":"CHARGED"}}}"#;
    text.into()
}

fn settle(claimed: &Claimed, now: Timestamp) -> Settle {
    Settle {
        merchant_id: claimed.merchant_id.clone(),
        delivery_id: claimed.delivery_id.clone(),
        endpoint_id: claimed.endpoint_id.clone(),
        subject: claimed.subject.clone(),
        fence: claimed.fence,
        attempt: AttemptRow {
            started_at: now,
            duration_us: 1_500,
            status: Some(200),
            failure: None,
            evidence: Evidence {
                url: "https://merchant.example/webhooks".to_owned(),
                answer_headers: vec![("content-length".to_owned(), "2".to_owned())],
                answer_body: "ok".to_owned(),
                ..Evidence::default()
            },
        },
        verdict: Verdict::Delivered,
        health: HealthWrite::Keep,
        stop: None,
        told: None,
        now,
        lease_until: None,
        is_again: false,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        merchant_id: MerchantId::new("ms"),
        endpoint_id: EndpointId::new("ep_1"),
        url: "https://merchant.example/webhooks".to_owned(),
        username: "user".to_owned(),
        password: Sealed("sealed".to_owned()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::date(2020, 10, 31),
        switches: std::collections::BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::None,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: Timestamp::from_seconds(1_700_000_000),
    }
}

/// How large a store on a file is.
fn size(folder: &Path) -> anyhow::Result<String> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(format!("{} MB of files", bytes / 1_000_000))
}
