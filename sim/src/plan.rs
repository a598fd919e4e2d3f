//! What a seed decides beforehand: the merchants, the limits, the disk, the faults and their times.
//!
//! Each kind of fault is on or off for a whole seed, because a fault that is always there hides what
//! only goes wrong without it. `world.rs` carries the plan out; `--seed` prints it.

use std::collections::BTreeMap;
use std::time::Duration;

use harkara::deliver::dispatcher::Limits;
use harkara::deliver::inbox::InboxBound;
use harkara_core::endpoint::{Endpoint, EndpointState, OrderMode, Sealed, SuccessRule};
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::WebhookVersion;

use crate::carry;
use crate::dice::Dice;
use crate::disk;
use crate::receiver::Habit;
use crate::store::Key;

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const YEAR: u64 = 365 * 24 * HOUR;

/// The wall clock when a run begins.
pub(crate) fn beginning() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

/// A world to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) merchants: Vec<MerchantId>,
    pub(crate) endpoints: Vec<(Endpoint, Habit)>,
    pub(crate) publishers: Vec<Publishing>,
    pub(crate) limits: Limits,
    pub(crate) bound: InboxBound,
    pub(crate) disk: disk::Habits,
    /// One attempt in so many ends with a dead task.
    pub(crate) task_dies_one_in: Option<u64>,
    /// One attempt in so many finds no room at the receiver's address.
    pub(crate) crowded_one_in: Option<u64>,
    /// Tasks, turns and answers are late by up to this.
    pub(crate) jitter_us: u64,
    pub(crate) happenings: Vec<(u64, Happening)>,
    /// How long things go wrong, before all is healed.
    pub(crate) safety_us: u64,
    /// Every row is looked at for the forgotten no more often than this.
    pub(crate) patrol_us: u64,
}

/// Who publishes, how much, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Publishing {
    pub(crate) merchant: MerchantId,
    pub(crate) begins_us: u64,
    pub(crate) events: u64,
    /// The first and the last of the orders that events are about.
    pub(crate) subjects: (u64, u64),
    pub(crate) pause_us: u64,
}

/// Something that happens to the process, the clock or an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Crash {
        down_us: u64,
        /// Whether what was written but not flushed is found on the disk.
        keeps: bool,
        /// Whether the process was only given up for dead, and still settles what it has in flight.
        lives_on: bool,
    },
    Stop {
        down_us: u64,
    },
    Jump(i64),
    Operate(usize, Operation),
}

/// What a person does to an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Pause,
    Resume,
    Delete,
    Order(OrderMode),
    /// Sends some acknowledged event once more.
    Resend,
    Test,
    /// Sends tests that wait for each other.
    Flow,
}

impl Plan {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let merchants: Vec<MerchantId> = (1..=dice.between(1, 3))
            .map(|n| MerchantId::new(format!("ms{n}")))
            .collect();
        let safety_us = dice.magnitude(MINUTE, 4 * HOUR);
        let endpoints: Vec<_> = merchants
            .iter()
            .flat_map(|merchant| {
                let count = dice.between(1, 3);
                (1..=count)
                    .map(|n| (endpoint(dice, merchant, n), Habit::draw(dice, safety_us)))
                    .collect::<Vec<_>>()
            })
            .collect();
        let publishers = publishers(dice, &merchants, safety_us);
        let happenings = happenings(dice, endpoints.len(), safety_us);
        let sweep_seconds = match safety_us {
            ..=HOUR => *dice.pick(&[1, 1, 5, 30]),
            _ => *dice.pick(&[5, 30]),
        };
        let lease = Duration::from_secs(*dice.pick(&[120, 600]));
        Self {
            merchants,
            endpoints,
            publishers,
            limits: carry::limits(dice, lease, Duration::from_secs(sweep_seconds)),
            bound: InboxBound {
                deliveries: *dice.pick(&[0, 1, 4, 1000, 1000]),
                bytes: 1 << 20,
                lease,
            },
            disk: disk(dice),
            task_dies_one_in: sometimes(dice, 40),
            crowded_one_in: sometimes(dice, 20),
            jitter_us: dice.magnitude(10, 20 * MS),
            happenings,
            safety_us,
            patrol_us: 0,
        }
    }
}

/// A fault's rate, in half of the seeds.
fn sometimes(dice: &mut Dice, one_in: u64) -> Option<u64> {
    dice.one_in(2).then_some(one_in)
}

fn disk(dice: &mut Dice) -> disk::Habits {
    disk::Habits {
        flush_us: *dice.pick(&[(100, MS), (MS, 10 * MS), (10 * MS, 100 * MS)]),
        slow_one_in: sometimes(dice, 30),
        full_one_in: sometimes(dice, 60),
        fails_one_in: dice.one_in(4).then_some(400),
        queue: *dice.pick(&[2, 16, 4096, 4096]),
    }
}

/// Endpoints of different merchants bear the same names, so that a forgotten merchant shows.
pub(crate) fn endpoint(dice: &mut Dice, merchant: &MerchantId, n: u64) -> Endpoint {
    let steps: Vec<u32> = (0..dice.between(1, 5))
        .map(|_| *dice.pick(&[1, 2, 5, 30, 60, 600]))
        .collect();
    let ladder = match dice.one_in(8) {
        true => Ladder::Day,
        false => Ladder::custom(steps).expect("1 to 40 steps of 1 to 604,800 seconds"),
    };
    Endpoint {
        merchant_id: merchant.clone(),
        endpoint_id: EndpointId::new(format!("ep_{n}")),
        url: format!("https://{merchant}.example/hooks/{n}"),
        username: "user".to_owned(),
        password: Sealed("sealed".to_owned()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: *dice.pick(&[WebhookVersion::LATEST, WebhookVersion::date(2016, 1, 1)]),
        switches: BTreeMap::new(),
        headers: Vec::new(),
        ladder,
        success: *dice.pick(&[
            SuccessRule::Only200,
            SuccessRule::Only200,
            SuccessRule::Any2xx,
        ]),
        order: *dice.pick(&[OrderMode::Hold, OrderMode::Strict, OrderMode::None]),
        timeout_seconds: *dice.pick(&[1, 5, 30, 60]),
        rate_per_second: *dice.pick(&[None, None, None, None, Some(1), Some(20)]),
        ca_pem: None,
        state: EndpointState::Active,
        created_at: beginning(),
    }
}

fn publishers(dice: &mut Dice, merchants: &[MerchantId], safety_us: u64) -> Vec<Publishing> {
    let count = dice.between(1, 4);
    let publishing = |_| {
        let events = dice.magnitude(2, 32);
        // Some publish all along, some at once.
        let pause_us = match dice.one_in(2) {
            true => safety_us / events,
            false => dice.magnitude(MS, 10 * SECOND),
        };
        Publishing {
            merchant: dice.pick(merchants).clone(),
            begins_us: 0,
            events,
            subjects: (1, dice.between(1, 4)),
            pause_us,
        }
    };
    (0..count).map(publishing).collect()
}

fn happenings(dice: &mut Dice, endpoints: usize, safety_us: u64) -> Vec<(u64, Happening)> {
    let mut all = Vec::new();
    let (crashes, jumps, operates) = (dice.one_in(2), dice.one_in(2), dice.one_in(2));
    let lives_on = dice.one_in(3);
    let mut add = |dice: &mut Dice, on: bool, most: u64, make: &dyn Fn(&mut Dice) -> Happening| {
        let count = if on { dice.between(1, most) } else { 0 };
        for _ in 0..count {
            // Much happens early, when there is most to go wrong.
            let at = match dice.one_in(3) {
                true => dice.between(0, safety_us),
                false => dice.magnitude(MS, safety_us),
            };
            let happening = make(dice);
            all.push((at, happening));
        }
    };
    add(dice, crashes, 5, &|dice| Happening::Crash {
        down_us: dice.magnitude(MS, MINUTE),
        keeps: dice.one_in(2),
        lives_on: lives_on && dice.one_in(2),
    });
    let stops = dice.one_in(3);
    add(dice, stops, 2, &|dice| Happening::Stop {
        down_us: dice.magnitude(MS, MINUTE),
    });
    add(dice, jumps, 4, &|dice| {
        let by = match dice.one_in(3) {
            true => YEAR,
            false => dice.magnitude(SECOND, HOUR),
        };
        let by = i64::try_from(by).expect("at most a year");
        Happening::Jump(if dice.one_in(2) { by } else { -by })
    });
    add(dice, operates, 8, &|dice| {
        let order = *dice.pick(&[OrderMode::Hold, OrderMode::Strict, OrderMode::None]);
        let what = *dice.pick(&[
            Operation::Pause,
            Operation::Resume,
            Operation::Delete,
            Operation::Order(order),
            Operation::Resend,
            Operation::Resend,
            Operation::Test,
            Operation::Flow,
        ]);
        Happening::Operate(dice.index(endpoints), what)
    });
    all
}

/// The name and the merchant of an endpoint.
pub(crate) fn key_of(endpoint: &Endpoint) -> Key {
    (endpoint.merchant_id.clone(), endpoint.endpoint_id.clone())
}
