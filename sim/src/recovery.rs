//! A scenario with a name: an endpoint fails for a day, then recovers with 100,000 deliveries waiting.
//!
//! The world is the ordinary one, with its oracle; here are its plan, the bounds that such a day must
//! keep, and the figures that came of it. [`Ramp`] watches from outside what is in flight to the one
//! endpoint. No bound is on real time. `main.rs` runs it, `carry.rs` tells the ramp.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harkara::deliver::dispatcher::{Ended, Limits};
use harkara::deliver::inbox::InboxBound;
use harkara_core::delivery::{DeliveryState, Outcome};
use harkara_core::endpoint::{Endpoint, OrderMode, SuccessRule};
use harkara_core::health::OPENS_AFTER;
use harkara_core::id::MerchantId;
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::WebhookVersion;

use crate::check::{Checked, Violation, hold};
use crate::dice::Dice;
use crate::disk;
use crate::plan::{self, HOUR, MINUTE, MS, Plan, Publishing, SECOND, beginning, key_of};
use crate::receiver::Habit;
use crate::store::{Key, Row};
use crate::trace::Trace;
use crate::world::World;

const DAY: u64 = 24 * HOUR;
const BACKLOG: u64 = 100_000;
/// Subjects of the backlog: five events each.
const SUBJECTS: u64 = 20_000;
/// How long before the recovery the other endpoints are watched, for comparison.
const BEFORE: u64 = 5 * MINUTE;

/// The longest that the backlog may take from the first success on.
const DRAINED_WITHIN: u64 = 2 * MINUTE;
/// What is published during the recovery must not stand behind the backlog.
const FRESH_P99: u64 = SECOND;
/// Fewer than this say nothing.
const ENOUGH: usize = 100;

/// What is in flight to an endpoint that fails and then recovers.
pub(crate) struct Ramp {
    key: Key,
    failures: u64,
    successes: u64,
    in_flight: usize,
    heard_at: u64,
    recovered_at: Option<u64>,
    /// The most in flight by seconds since then.
    most: Vec<usize>,
}

impl Ramp {
    fn of(key: Key) -> Self {
        Self {
            key,
            failures: 0,
            successes: 0,
            in_flight: 0,
            heard_at: 0,
            recovered_at: None,
            most: Vec::new(),
        }
    }

    /// An attempt is handed over. What may be: one probe at a time while the breaker is open, then
    /// 1, 2, 4, 8… as many again after as many successes.
    pub(crate) fn sent(&mut self, key: &Key, t: u64) -> Checked {
        if *key != self.key {
            return Ok(());
        }
        self.in_flight += 1;
        let (in_flight, successes) = (self.in_flight, self.successes);
        if let Some(recovered_at) = self.recovered_at {
            let second = usize::try_from((t - recovered_at) / SECOND).expect("a run is short");
            let length = self.most.len().max(second + 1);
            self.most.resize(length, 0);
            self.most[second] = self.most[second].max(in_flight);
            hold!(
                in_flight <= 1 << successes.ilog2().min(30),
                Permits,
                "{in_flight} are in flight after {successes} successes"
            );
        } else if let Some(probes) = self.failures.checked_sub(u64::from(OPENS_AFTER)) {
            let wait_us = t - self.heard_at;
            let step_us = match probes {
                0 => 5 * SECOND,
                1 => 15 * SECOND,
                _ => MINUTE,
            };
            hold!(
                in_flight == 1 && wait_us >= step_us,
                Permits,
                "probe {probes} goes {wait_us} us after a failure, with {in_flight} in flight"
            );
        }
        Ok(())
    }

    /// The dispatcher hears how an attempt ended.
    pub(crate) fn heard(&mut self, ended: &Ended, t: u64) {
        if key_of(&ended.endpoint) != self.key {
            return;
        }
        self.in_flight -= 1;
        self.heard_at = t;
        match ended.outcome {
            Outcome::Answered { status: 200, .. } => {
                self.successes += 1;
                self.recovered_at.get_or_insert(t);
            }
            Outcome::Answered { .. } | Outcome::Failed(_) => self.failures += 1,
        }
    }
}

/// A delivery that arrived.
struct Arrival {
    key: Key,
    subject: String,
    sequence: i64,
    created_at: u64,
    settled_at: u64,
}

/// Lives the day and the recovery through, and prints what came of it.
pub(crate) fn run() -> Result<()> {
    let mut dice = Dice::new(0);
    let plan = laid_out(&mut dice);
    let key = key_of(&plan.endpoints[0].0);
    let mut world = World::new(plan, dice, None, Trace::new(false));
    world.ramp = Some(Ramp::of(key.clone()));
    if let Err(Violation { invariant, what }) = world.live_through() {
        bail!("recovery breaks {invariant}: {what}");
    }
    let ramp = world.ramp.take().expect("it was put there above");
    let arrivals = arrivals(&world)?;
    let (own, others): (Vec<Arrival>, Vec<Arrival>) =
        arrivals.into_iter().partition(|it| it.key == key);
    in_order(&own)?;
    let recovered_at = ramp.recovered_at.context("the endpoint never recovered")?;
    let drained_at = drained(&own, &ramp, recovered_at)?;
    let most = &ramp.most[..ramp.most.len().min(12)];
    println!("  most in flight by second of the ramp: {most:?}");
    let during = (recovered_at, drained_at);
    let fresh = p99(own.iter(), during)?;
    println!("  published to it meanwhile: p99 {}", ms(fresh));
    ensure!(
        fresh <= FRESH_P99,
        "fresh events stand behind the backlog: p99 {}, at most {}",
        ms(fresh),
        ms(FRESH_P99)
    );
    unaffected(&others, during)
}

/// One endpoint that fails for a day, one of the same merchant and two of others that are well.
fn laid_out(dice: &mut Dice) -> Plan {
    let merchants: Vec<MerchantId> = (1..=3).map(|n| MerchantId::new(format!("ms{n}"))).collect();
    let whose = [(0, 1, Habit::Failing), (0, 2, Habit::Healthy)];
    let others = [(1, 1, Habit::Healthy), (2, 1, Habit::Healthy)];
    let endpoints = whose
        .into_iter()
        .chain(others)
        .map(|(merchant, n, habit)| (endpoint(dice, &merchants[merchant], n), habit));
    let publishing = |merchant: usize, begins_us, events, subjects, pause_us| Publishing {
        merchant: merchants[merchant].clone(),
        begins_us,
        events,
        subjects,
        pause_us,
    };
    let many = (SUBJECTS + 1, 50 * SUBJECTS);
    let lease = Duration::from_secs(90);
    Plan {
        endpoints: endpoints.collect(),
        publishers: vec![
            publishing(0, 0, BACKLOG, (1, SUBJECTS), 862 * MS),
            publishing(0, DAY, 2_000, many, 100 * MS),
            publishing(1, DAY - BEFORE, 5_000, many, 100 * MS),
            publishing(2, DAY - BEFORE, 5_000, many, 100 * MS),
        ],
        // So few that the recovering endpoint could take most of them.
        limits: Limits {
            permits: 100,
            permits_per_merchant: 80,
            permits_per_endpoint: 64,
            lease,
            attempt: Duration::from_secs(65),
            sweep: Duration::from_secs(30),
            disable_after: Duration::from_secs(5 * 86_400),
        },
        bound: InboxBound {
            deliveries: 1000,
            bytes: 1 << 20,
            lease,
        },
        disk: disk::Habits {
            flush_us: (100, MS),
            slow_one_in: None,
            full_one_in: None,
            fails_one_in: None,
            queue: 4096,
        },
        task_dies_one_in: None,
        crowded_one_in: None,
        jitter_us: MS,
        happenings: Vec::new(),
        safety_us: DAY,
        patrol_us: HOUR,
        merchants,
    }
}

fn endpoint(dice: &mut Dice, merchant: &MerchantId, n: u64) -> Endpoint {
    Endpoint {
        version: WebhookVersion::LATEST,
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Strict,
        timeout_seconds: 30,
        rate_per_second: None,
        ..plan::endpoint(dice, merchant, n)
    }
}

/// Every delivery, all of which must have arrived.
fn arrivals(world: &World) -> Result<Vec<Arrival>> {
    let rows = world.disk.model.rows();
    rows.map(|row| arrival(world, row)).collect()
}

fn arrival(world: &World, row: &Row) -> Result<Arrival> {
    let (id, state) = (&row.id, row.state);
    ensure!(state == DeliveryState::Delivered, "{id} is {state}");
    let settled_at = row.settled_at.context("what is delivered is settled")?;
    let since_beginning = |at: Timestamp| {
        let us = at.as_micros() - beginning().as_micros();
        u64::try_from(us).expect("nothing happens before the beginning")
    };
    Ok(Arrival {
        key: row.key.clone(),
        subject: row.subject().to_owned(),
        sequence: row.sequence(),
        created_at: since_beginning(world.oracle.event(&row.event_id).created_at),
        settled_at: since_beginning(settled_at),
    })
}

/// Each subject's events arrived one after the other.
fn in_order(own: &[Arrival]) -> Result<()> {
    let mut subjects: BTreeMap<&str, Vec<(i64, u64)>> = BTreeMap::new();
    for it in own {
        let line = subjects.entry(&it.subject).or_default();
        line.push((it.sequence, it.settled_at));
    }
    for (subject, mut line) in subjects {
        line.sort_unstable();
        ensure!(
            line.is_sorted_by(|one, next| one.1 < next.1),
            "{subject} arrived out of order: {line:?}"
        );
    }
    Ok(())
}

/// The backlog waited for the whole of the day, was probed once a minute, and went in time. Says when
/// it was gone.
fn drained(own: &[Arrival], ramp: &Ramp, recovered_at: u64) -> Result<u64> {
    let backlog = own.iter().filter(|it| it.created_at < DAY);
    let waited = backlog.clone().filter(|it| it.settled_at >= DAY).count() as u64;
    let drained_at = backlog.map(|it| it.settled_at).max().unwrap_or_default();
    let took_us = drained_at - recovered_at;
    println!(
        "recovery: {waited} deliveries waiting after a day and {} failed attempts",
        ramp.failures
    );
    println!(
        "  first success {} after the receiver was mended, backlog gone {} later",
        seconds(recovered_at - DAY),
        seconds(took_us)
    );
    ensure!(
        waited == BACKLOG,
        "{waited} of {BACKLOG} waited for the whole of the day"
    );
    let minutes = DAY / MINUTE;
    ensure!(
        (minutes * 19 / 20..=minutes + 15).contains(&ramp.failures),
        "{} attempts in {minutes} minutes are not one probe in each",
        ramp.failures
    );
    ensure!(
        took_us <= DRAINED_WITHIN,
        "the backlog took {}, at most {}",
        seconds(took_us),
        seconds(DRAINED_WITHIN)
    );
    Ok(drained_at)
}

/// The other endpoints' time to delivery: no more than half as much again and 50 ms.
fn unaffected(others: &[Arrival], during: (u64, u64)) -> Result<()> {
    let mut by_key: BTreeMap<&Key, Vec<&Arrival>> = BTreeMap::new();
    for it in others {
        by_key.entry(&it.key).or_default().push(it);
    }
    for ((merchant, endpoint), arrivals) in by_key {
        let before = p99(arrivals.iter().copied(), (DAY - BEFORE, DAY))?;
        let during = p99(arrivals.iter().copied(), during)?;
        let (then, now) = (ms(before), ms(during));
        println!("  {merchant}/{endpoint}: p99 {then} before, {now} during the recovery");
        ensure!(
            during <= before * 3 / 2 + 50 * MS,
            "the recovery slows {merchant}/{endpoint} down: p99 {then} before, {now} during"
        );
    }
    Ok(())
}

/// What 99 of 100 took at most from being published, among those published in between.
fn p99<'a>(arrivals: impl Iterator<Item = &'a Arrival>, (from, to): (u64, u64)) -> Result<u64> {
    let within = arrivals.filter(|it| (from..to).contains(&it.created_at));
    let mut took: Vec<u64> = within.map(|it| it.settled_at - it.created_at).collect();
    let count = took.len();
    ensure!(
        count >= ENOUGH,
        "{count} deliveries are too few to judge by"
    );
    took.sort_unstable();
    Ok(took[count * 99 / 100])
}

fn ms(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1e3)
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}
