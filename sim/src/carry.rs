//! Carries the dispatcher's actions out on virtual time, and brings it its inputs.
//!
//! This room knows the variants of `Input` and `Action`, the limits, and what a task does between them;
//! it stands in for `deliver/run.rs`, `attempt` for `deliver/attempt.rs`, `calls` for what asks the
//! store. What is decided is decided by the real dispatcher and the real rules. `world.rs` calls it.

mod attempt;
mod calls;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use harkara::deliver::dispatcher::{Action, Dispatcher, Input, Limits};
use harkara::deliver::inbox::{Inbox, InboxBound};
use harkara::store::Sweep;
use harkara_core::health::Health;
use harkara_core::id::DeliveryId;
use harkara_core::time::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use self::calls::Settling;
use crate::check::Checked;
use crate::dice::Dice;
use crate::marks::Mark;
use crate::plan::{MS, SECOND};
use crate::world::{Event, World};

pub(crate) use self::attempt::Flight;
pub(crate) use self::calls::Call;

/// Inputs that one turn takes at most.
const TURN_MAX: usize = 1024;

/// The longest attempt and its settle.
const ATTEMPT: Duration = Duration::from_secs(65);

/// What is allowed to be at rest although it is due, beyond two sweeps, before somebody must have come.
/// An open breaker waits a minute for its next probe.
pub(crate) const PATIENCE_US: u64 = 70 * SECOND;

/// A ladder's length in time, for the fault that ends by it.
const CLOCK_LADDER_US: i64 = 30_000_000;

/// The dispatcher's limits, small enough to bind.
pub(crate) fn limits(dice: &mut Dice, lease: Duration, sweep: Duration) -> Limits {
    Limits {
        permits: *dice.pick(&[1, 2, 10, 100, 100]),
        permits_per_merchant: *dice.pick(&[2, 8, 100]),
        permits_per_endpoint: *dice.pick(&[1, 2, 8]),
        lease,
        attempt: ATTEMPT,
        sweep,
        disable_after: Duration::from_secs(*dice.pick(&[3600, 5 * 86_400])),
    }
}

/// A running server, as far as deliveries are concerned.
pub(crate) struct Process {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) inbox: Inbox,
    inputs: UnboundedReceiver<Input>,
    /// Claimed, and neither sent nor given back: they count against the permits like what is in flight.
    held: BTreeSet<DeliveryId>,
    turn_is_due: bool,
    /// Which of its waits for something to do is the last.
    nap: u64,
    pub(crate) stopping: bool,
    pub(crate) started_at: u64,
    pub(crate) turned_at: u64,
}

impl Process {
    pub(crate) fn new(limits: Limits, bound: InboxBound, (now, t): (Timestamp, u64)) -> Self {
        let (inbox, inputs) = Inbox::new(bound);
        Self {
            dispatcher: Dispatcher::new(limits, now),
            inbox,
            inputs,
            held: BTreeSet::new(),
            turn_is_due: false,
            nap: 0,
            stopping: false,
            started_at: t,
            turned_at: t,
        }
    }
}

impl World {
    /// Has a process take a turn soon if there is anything for it.
    pub(crate) fn rouse(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if !process.turn_is_due && !process.inputs.is_empty() {
            process.turn_is_due = true;
            self.soon(Event::Turn(id));
        }
    }

    pub(crate) fn nap_is_over(&mut self, id: u64, nap: u64) -> Checked {
        match self.processes.get(&id) {
            Some(process) if process.nap == nap && !process.stopping => self.turn(id),
            Some(_) | None => Ok(()),
        }
    }

    /// One turn of the loop: what came in, the dispatcher's step, and what it wants done.
    pub(crate) fn turn(&mut self, id: u64) -> Checked {
        let (now, t) = (self.now(), self.t);
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        process.turn_is_due = false;
        process.turned_at = t;
        let mut inputs = Vec::new();
        while inputs.len() < TURN_MAX
            && let Ok(input) = process.inputs.try_recv()
        {
            inputs.push(input);
        }
        for input in &inputs {
            if let Input::Crowded(claimed) = input {
                process.held.insert(claimed.delivery_id.clone());
            }
            if let (Input::Ended(ended), Some(ramp)) = (input, &mut self.ramp) {
                ramp.heard(ended, t);
            }
            if let Input::Claimed { claimed, .. } = input {
                let claimed = claimed.iter().flatten();
                process
                    .held
                    .extend(claimed.map(|claimed| claimed.delivery_id.clone()));
            }
            self.trace
                .line(t, format_args!("p{id} hears {}", input_words(input)));
        }
        let actions = process.dispatcher.step(inputs, now);
        if process.stopping {
            if process.dispatcher.is_idle() {
                self.at(t, Event::Idle(id));
            }
        } else {
            process.nap += 1;
            let wait = process.dispatcher.next_wake().since(now);
            let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).max(MS);
            let nap = Event::Nap(id, process.nap);
            self.at(t.saturating_add(wait), nap);
        }
        self.carry_out(id, actions)
    }

    /// Tells a process to start nothing any more.
    pub(crate) fn drain(&mut self, id: u64) -> Checked {
        let process = self
            .processes
            .get_mut(&id)
            .expect("only a running one is told");
        process.stopping = true;
        let actions = process.dispatcher.drain();
        if !actions.is_empty() {
            self.marks.mark(Mark::ReturnedByDrain);
        }
        self.carry_out(id, actions)?;
        self.turn(id)
    }

    fn carry_out(&mut self, id: u64, actions: Vec<Action>) -> Checked {
        let mut settles = Vec::new();
        for action in actions {
            self.trace.line(
                self.t,
                format_args!("p{id} wants {}", action_words(&action)),
            );
            self.no_longer_held(id, &action);
            let call = match action {
                Action::Send { claimed, .. } => {
                    self.send(id, claimed)?;
                    continue;
                }
                Action::Sweep => {
                    let look = Event::Look(id, self.now());
                    self.soon(look);
                    continue;
                }
                Action::Settle {
                    mut settle,
                    key,
                    retry_at,
                } => {
                    self.end_by_the_clock(&mut settle);
                    settles.push(Settling {
                        settle,
                        key,
                        retry_at,
                    });
                    continue;
                }
                Action::Claim(ask) => Call::Claim(ask),
                Action::PullIn => Call::PullIn(self.now()),
                Action::Release(leases) => Call::Release(leases),
            };
            self.soon(Event::Call(id, Box::new(call)));
        }
        if !settles.is_empty() {
            let call = Call::Settle(settles, self.t);
            self.soon(Event::Call(id, Box::new(call)));
        }
        Ok(())
    }

    fn no_longer_held(&mut self, id: u64, action: &Action) {
        let process = self
            .processes
            .get_mut(&id)
            .expect("it has just taken a turn");
        match action {
            Action::Send { claimed, .. } => {
                process.held.remove(&claimed.delivery_id);
            }
            Action::Release(leases) => {
                for lease in leases {
                    process.held.remove(&lease.delivery_id);
                }
            }
            // A claim of what was in flight already, after the clock jumped over its lease.
            Action::Settle { settle, .. } => {
                process.held.remove(&settle.delivery_id);
            }
            Action::Claim(_) | Action::Sweep | Action::PullIn => {}
        }
    }

    /// Whether all permits that some kind of endpoint may have are in use: the slow share a fifth.
    pub(crate) fn is_crowded(&self) -> bool {
        let held = self.live.map_or(0, |live| self.processes[&live].held.len());
        let limits = self.plan.limits;
        let share = (limits.permits / 5).clamp(1, limits.permits_per_merchant);
        self.oracle.in_flight(None) + held >= share
    }

    /// A look through the store comes back.
    pub(crate) fn looked(&mut self, id: u64, now: Timestamp) -> Checked {
        if !self.processes.contains_key(&id) {
            return Ok(());
        }
        if self.live == Some(id) && self.t >= self.patrolled_at + self.plan.patrol_us {
            self.patrolled_at = self.t;
            self.nobody_is_kept_waiting(id)?;
        }
        let sweep: Sweep = self.disk.model.sweep(now);
        self.tell(id, Input::Swept(Some(sweep)));
        Ok(())
    }

    /// Has due times pulled in, as a process does when it starts on a clock that went back.
    pub(crate) fn pull_in(&mut self, process: u64) {
        let pull_in = Call::PullIn(self.now());
        self.soon(Event::Call(process, Box::new(pull_in)));
    }

    /// Puts something before a dispatcher, a little later.
    pub(crate) fn tell(&mut self, process: u64, input: Input) {
        self.soon(Event::Tell(process, Box::new(input)));
    }
}

fn input_words(input: &Input) -> String {
    let mut words = String::new();
    let written = match input {
        Input::Born(held) => {
            let ids = held.iter().map(|held| held.claimed.delivery_id.as_str());
            write!(words, "born {}", ids.collect::<Vec<_>>().join(" "))
        }
        Input::Woken => write!(words, "woken"),
        Input::PulledIn(done) => write!(words, "pulled in {done}"),
        Input::Swept(sweep) => {
            let due = sweep.iter().flat_map(|sweep| &sweep.endpoints);
            let due = due.map(|due| {
                let is_open = due.health.as_ref().is_some_and(Health::is_open);
                let open = if is_open { " (open)" } else { "" };
                format!(" {}/{}{open}", due.merchant_id, due.endpoint_id)
            });
            write!(words, "swept{}", due.collect::<String>())
        }
        Input::Claimed { key, claimed } => {
            let ids = claimed
                .iter()
                .flatten()
                .map(|claimed| claimed.delivery_id.as_str());
            let ids = ids.collect::<Vec<_>>().join(" ");
            write!(words, "claimed {}/{} {ids}", key.0, key.1)
        }
        Input::Ended(ended) => {
            let id = &ended.claimed.delivery_id;
            write!(words, "ended {id} {}", ended.outcome.code())
        }
        Input::Crowded(claimed) => write!(words, "crowded {}", claimed.delivery_id),
        Input::Resumed(key) => write!(words, "resumed {}/{}", key.0, key.1),
        Input::Unsent(unsent) => write!(words, "unsent {}", unsent.lease.delivery_id),
        Input::Settled {
            key,
            subject,
            settled,
            ..
        } => {
            let released = settled.iter().flat_map(|settled| &settled.claimed);
            let ids: Vec<_> = released
                .map(|claimed| claimed.delivery_id.as_str())
                .collect();
            let how = match settled {
                Some(settled) if settled.stopped => "and stopped",
                Some(settled) if settled.held => "held",
                Some(_) => "late",
                None => "in vain",
            };
            let released = ids.join(" ");
            write!(
                words,
                "settled {}/{} {subject} {how} {released}",
                key.0, key.1
            )
        }
    };
    written.expect("a string takes all");
    words
}

fn action_words(action: &Action) -> String {
    match action {
        Action::Send { claimed, .. } => format!("send {} #{}", claimed.delivery_id, claimed.fence),
        Action::Settle { settle, .. } => {
            format!("settle {} {:?}", settle.delivery_id, settle.verdict)
        }
        Action::Claim(ask) => {
            format!(
                "claim {} of {}/{}",
                ask.limit, ask.merchant_id, ask.endpoint_id
            )
        }
        Action::Sweep => "sweep".to_owned(),
        Action::PullIn => "pull in".to_owned(),
        Action::Release(leases) => {
            let ids = leases.iter().map(|lease| lease.delivery_id.as_str());
            format!("release {}", ids.collect::<Vec<_>>().join(" "))
        }
    }
}
