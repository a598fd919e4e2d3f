//! The world on virtual time: one queue of events, the process and its disk, publishers, operators.
//!
//! Durations pass in virtual time, which only goes forward; the wall clock that the server reads is
//! that time with a skew, which a jump changes. First things go wrong and must stay safe; then all is
//! healed and the backlog must reach zero. `main.rs` runs one world per seed.

use std::collections::{BTreeMap, BTreeSet};

use harkara::deliver::dispatcher::Input;
use harkara::deliver::inbox::Place;
use harkara::store::{Claimed, Commit, NewEvent};
use harkara_core::delivery::{self, DeliveryState, NewDelivery};
use harkara_core::id::DeliveryId;
use harkara_core::time::Timestamp;

use crate::carry::{Call, Flight, Process};
use crate::check::{self, Checked, Oracle};
use crate::dice::Dice;
use crate::disk::{Disk, Flush};
use crate::marks::{Mark, Marks};
use crate::plan::{MS, Operation, Plan, Publishing, SECOND, beginning, key_of};
use crate::planted::Fault;
use crate::receiver::Habit;
use crate::recovery::Ramp;
use crate::store::{Called, Key, Model, Stale};
use crate::trace::Trace;

/// Something that happens at a moment.
pub(crate) enum Event {
    Turn(u64),
    Nap(u64, u64),
    Call(u64, Box<Call>),
    Offer(u64, Box<Work>),
    Write(u64),
    Flush(u64),
    Tell(u64, Box<Input>),
    Look(u64, Timestamp),
    Attempt(u64),
    Ended(u64),
    Publish(usize, u64),
    Stored(u64, Box<Stored>),
    Happen(usize),
    Idle(u64),
    StopTakesTooLong(u64),
    Start,
    Heal,
    Watch,
}

/// A write, and who asked for it.
pub(crate) struct Unit {
    pub(crate) process: u64,
    pub(crate) work: Work,
}

pub(crate) enum Work {
    Commit {
        /// `None` for a person.
        publisher: Option<usize>,
        commit: Commit,
        place: Option<Place>,
    },
    Replay {
        delivery: NewDelivery,
        now: Timestamp,
        place: Option<Place>,
        lease_until: Option<Timestamp>,
    },
    Operate(Key, Operation, Timestamp),
    Dispatch(Call),
}

/// The API's answer about a commit or a replay, and what it hands over.
pub(crate) struct Stored {
    pub(crate) publisher: Option<usize>,
    pub(crate) result: Result<Vec<Claimed>, Refused>,
    pub(crate) place: Option<Place>,
}

/// Why the store did not do what the API asked.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    Stale,
    Busy,
}

impl From<Stale> for Refused {
    fn from(Stale: Stale) -> Self {
        Self::Stale
    }
}

/// Publishes one event after another, each until it is acknowledged.
pub(crate) struct Publisher {
    pub(crate) plan: Publishing,
    pub(crate) done: u64,
    pub(crate) current: Option<delivery::Event>,
    pub(crate) tries: u64,
}

/// What came of a world.
pub(crate) struct Report {
    pub(crate) hash: u64,
    pub(crate) lines: u64,
    pub(crate) simulated_us: u64,
    pub(crate) marks: Marks,
    pub(crate) result: Checked,
}

pub(crate) struct World {
    pub(crate) t: u64,
    pub(crate) dice: Dice,
    pub(crate) plan: Plan,
    pub(crate) fault: Option<Fault>,
    pub(crate) disk: Disk<Unit>,
    pub(crate) processes: BTreeMap<u64, Process>,
    /// The process that serves; others were given up for dead.
    pub(crate) live: Option<u64>,
    pub(crate) flights: BTreeMap<u64, Flight>,
    pub(crate) flights_so_far: u64,
    pub(crate) habits: BTreeMap<Key, Habit>,
    pub(crate) oracle: Oracle,
    pub(crate) marks: Marks,
    pub(crate) trace: Trace,
    pub(crate) jumped_at: u64,
    pub(crate) healed_at: Option<u64>,
    /// When all permits were last in use, for all that is known.
    pub(crate) crowded_at: u64,
    /// Deliveries whose claim could not be ended for lack of disk; their leases will.
    pub(crate) left_claimed: BTreeSet<DeliveryId>,
    pub(crate) skew_us: i64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) processes_so_far: u64,
    /// Which opening of the disk the pending `Write` and `Flush` belong to.
    pub(crate) opening: u64,
    pub(crate) down_us: u64,
    pub(crate) touched_at: BTreeMap<Key, u64>,
    pub(crate) must_be_done_by: u64,
    /// What the clock showed when the disk was last written to.
    pub(crate) written_at: Option<Timestamp>,
    /// The process died before due times were pulled in; nobody asks again.
    pub(crate) pull_in_lost: bool,
    /// When the store was last looked through for the forgotten.
    pub(crate) patrolled_at: u64,
    /// What a scenario watches besides.
    pub(crate) ramp: Option<Ramp>,
}

impl World {
    pub(crate) fn new(plan: Plan, dice: Dice, fault: Option<Fault>, trace: Trace) -> Self {
        let mut model = Model::default();
        model.fault = fault;
        for (endpoint, _) in &plan.endpoints {
            model.put_endpoint(endpoint, Called::Active);
        }
        let habits = plan
            .endpoints
            .iter()
            .map(|(endpoint, habit)| (key_of(endpoint), *habit));
        let publishers = plan.publishers.iter().map(|plan| Publisher {
            plan: plan.clone(),
            done: 0,
            current: None,
            tries: 0,
        });
        Self {
            t: 0,
            dice,
            fault,
            disk: Disk::new(model, plan.disk),
            processes: BTreeMap::new(),
            live: None,
            flights: BTreeMap::new(),
            flights_so_far: 0,
            habits: habits.collect(),
            oracle: Oracle::default(),
            marks: Marks::new(),
            trace,
            jumped_at: 0,
            healed_at: None,
            crowded_at: 0,
            left_claimed: BTreeSet::new(),
            skew_us: 0,
            queue: BTreeMap::new(),
            queued: 0,
            publishers: publishers.collect(),
            processes_so_far: 0,
            opening: 0,
            down_us: SECOND,
            touched_at: BTreeMap::new(),
            must_be_done_by: u64::MAX,
            written_at: None,
            pull_in_lost: false,
            patrolled_at: 0,
            ramp: None,
            plan,
        }
    }

    /// Lets everything happen, and says how it went.
    pub(crate) fn run(mut self) -> Report {
        let result = self.live_through();
        Report {
            hash: self.trace.hash(),
            lines: self.trace.lines,
            simulated_us: self.t,
            marks: self.marks,
            result,
        }
    }

    /// The same, for one who asks the world itself how it went.
    pub(crate) fn live_through(&mut self) -> Checked {
        self.at(0, Event::Start);
        for publisher in 0..self.publishers.len() {
            let begins_us = self.publishers[publisher].plan.begins_us;
            self.at(MS + begins_us, Event::Publish(publisher, 0));
        }
        for happening in 0..self.plan.happenings.len() {
            self.at(self.plan.happenings[happening].0, Event::Happen(happening));
        }
        self.at(self.plan.safety_us, Event::Heal);
        while let Some(((t, _), event)) = self.queue.pop_first() {
            self.t = t;
            if matches!(event, Event::Watch) && self.is_done() {
                check::nothing_forgotten(&self.disk.model, self.now(), |_| false)?;
                return self.oracle.finish(&self.disk.model);
            }
            self.handle(event)?;
            for process in self.processes.keys().copied().collect::<Vec<_>>() {
                self.rouse(process);
            }
        }
        unreachable!("a healed world is watched until it is done")
    }

    fn handle(&mut self, event: Event) -> Checked {
        match event {
            Event::Turn(process) => self.turn(process)?,
            Event::Nap(process, nap) => self.nap_is_over(process, nap)?,
            Event::Call(process, call) => {
                if let Some(call) = self.prepared(*call) {
                    self.offer(process, Work::Dispatch(call));
                }
            }
            Event::Offer(process, work) => self.offer(process, *work),
            Event::Write(opening) if opening == self.opening => self.write()?,
            Event::Flush(opening) if opening == self.opening => self.flush()?,
            Event::Write(_) | Event::Flush(_) => {}
            Event::Tell(process, input) => {
                if let Some(process) = self.processes.get(&process) {
                    process.inbox.send(*input);
                }
            }
            Event::Look(process, now) => self.looked(process, now)?,
            Event::Attempt(flight) => self.attempt(flight)?,
            Event::Ended(flight) => self.ended(flight),
            Event::Publish(publisher, tries) => self.publish(publisher, tries),
            Event::Stored(process, stored) => self.stored(process, *stored)?,
            Event::Happen(happening) => self.happen(happening)?,
            Event::Idle(process) => self.idle(process),
            Event::StopTakesTooLong(process) if self.live == Some(process) => {
                self.marks.mark(Mark::StoppedByForce);
                let keeps = self.dice.one_in(2);
                self.crash((keeps, false), self.down_us)?;
            }
            Event::StopTakesTooLong(_) => {}
            Event::Start => self.start()?,
            Event::Heal => self.heal(),
            Event::Watch => self.watch()?,
        }
        Ok(())
    }

    pub(crate) fn at(&mut self, t: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((t, self.queued), event);
    }

    /// As soon as a task gets its turn.
    pub(crate) fn soon(&mut self, event: Event) {
        let delay = self.dice.between(1, self.plan.jitter_us);
        self.at(self.t + delay, event);
    }

    /// What the wall clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        let t = i64::try_from(self.t).expect("runs last for days");
        Timestamp::from_micros(beginning().as_micros() + t + self.skew_us)
    }

    /// Something has just happened that concerns this endpoint.
    pub(crate) fn touched(&mut self, key: &Key) {
        self.touched_at.insert(key.clone(), self.t);
    }

    fn offer(&mut self, process: u64, work: Work) {
        let is_open = self.live.is_some() && self.processes.contains_key(&process);
        // One that was given up for dead gets nothing any more that only its end would give back.
        let claims = matches!(work, Work::Dispatch(Call::Claim(_)));
        if !is_open || claims && self.live != Some(process) {
            self.refuse_work(process, work);
            return;
        }
        if let Work::Commit { publisher, .. } = work
            && self.disk.is_full()
        {
            if let Some(publisher) = publisher {
                self.marks.mark(Mark::QueueFull);
                self.publish_later(publisher);
            }
            return;
        }
        let unit = Unit { process, work };
        if let Some(write_at) = self.disk.offer(unit, self.t) {
            self.at(write_at, Event::Write(self.opening));
        }
    }

    fn write(&mut self) -> Checked {
        // Another unit has come since this was planned, and plans for itself.
        if self.disk.write_at(self.t) != Some(self.t) {
            return Ok(());
        }
        let is_ahead = self.disk.is_flushing();
        let count = self.disk.write(&mut self.dice);
        self.trace.line(self.t, format_args!("writes {count}"));
        if is_ahead {
            self.marks.mark(Mark::WrittenAhead);
        }
        if count >= 10 {
            self.marks.mark(Mark::SharedFlush);
        }
        if self.fault == Some(Fault::AckBeforeFlush) {
            for unit in self.disk.answered_early() {
                self.apply(unit, true)?;
            }
        }
        if !is_ahead {
            self.begin_flush();
        }
        self.plan_batch();
        Ok(())
    }

    fn begin_flush(&mut self) {
        let takes_us = self.disk.flush_us(&mut self.dice);
        self.trace
            .line(self.t, format_args!("flushes for {takes_us}"));
        if takes_us > 500 * MS {
            self.marks.mark(Mark::FlushOfHalfASecond);
        }
        self.at(self.t + takes_us, Event::Flush(self.opening));
    }

    /// The next batch, if the writer is free and anything waits for it.
    fn plan_batch(&mut self) {
        if let Some(write_at) = self.disk.next_batch(self.t) {
            self.at(write_at, Event::Write(self.opening));
        }
    }

    fn flush(&mut self) -> Checked {
        let (units, ended) = self.disk.flush(&mut self.dice);
        match ended {
            Flush::Done => {
                for unit in units {
                    self.apply(unit, true)?;
                }
            }
            Flush::Full => {
                self.marks.mark(Mark::DiskFull);
                for unit in units {
                    self.refuse_work(unit.process, unit.work);
                }
            }
            Flush::Failed if self.fault == Some(Fault::FlushErrorIgnored) => {
                let really = self.disk.model.clone();
                for unit in units {
                    self.apply(unit, true)?;
                }
                self.disk.model = really;
            }
            Flush::Failed => {
                self.marks.mark(Mark::FlushFailed);
                // Nobody is told, and nobody knows whether it is on the disk.
                let keeps = self.dice.one_in(2);
                if keeps {
                    for unit in units {
                        self.apply(unit, false)?;
                    }
                }
                let down_us = self.dice.magnitude(MS, 10 * SECOND);
                return self.crash((keeps, false), down_us);
            }
        }
        if self.disk.is_flushing() {
            self.begin_flush();
        }
        self.plan_batch();
        Ok(())
    }

    /// Makes a unit true, and has its caller told unless nobody is left to tell it.
    pub(crate) fn apply(&mut self, unit: Unit, tells: bool) -> Checked {
        self.written_at = Some(self.now());
        let Unit { process, work } = unit;
        let answer = match work {
            Work::Commit {
                publisher,
                commit,
                place,
            } => {
                let result = self.commit(&commit);
                Some(Event::Stored(
                    process,
                    Box::new(Stored {
                        publisher,
                        result,
                        place,
                    }),
                ))
            }
            Work::Replay {
                delivery,
                now,
                place,
                lease_until,
            } => {
                let result = self.disk.model.insert_replay(&delivery, now, lease_until);
                Some(Event::Stored(
                    process,
                    Box::new(Stored {
                        publisher: None,
                        result: result
                            .map(|it| it.into_iter().collect())
                            .map_err(Refused::from),
                        place,
                    }),
                ))
            }
            Work::Operate(key, operation, now) => {
                self.operate(&key, operation, now);
                let told = match operation {
                    Operation::Resume => Input::Resumed(key),
                    _ => Input::Woken,
                };
                Some(Event::Tell(process, Box::new(told)))
            }
            Work::Dispatch(call) => {
                for input in self.apply_call(process, call)? {
                    if tells {
                        self.tell(process, input);
                    }
                }
                None
            }
        };
        if let Some(answer) = answer.filter(|_| tells) {
            self.soon(answer);
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<Vec<Claimed>, Refused> {
        let committed = self.disk.model.commit(commit)?;
        for NewEvent {
            event, deliveries, ..
        } in &commit.events
        {
            self.oracle.stored(&event.id, deliveries);
        }
        for delivery in commit.events.iter().flat_map(|new| &new.deliveries) {
            self.touched(&(delivery.merchant_id.clone(), delivery.endpoint_id.clone()));
            let row = self.disk.model.row(&delivery.merchant_id, &delivery.id);
            let row = row.expect("it was inserted just now");
            let mark = match row.state {
                DeliveryState::Waiting => Mark::BornWaiting,
                DeliveryState::Withheld => Mark::Withheld,
                _ if row.overtaking => Mark::BornOvertaking,
                _ => continue,
            };
            self.marks.mark(mark);
        }
        Ok(committed.claimed)
    }

    /// Has a caller told that its unit came to nothing, if it lives to hear it.
    pub(crate) fn refuse_work(&mut self, process: u64, work: Work) {
        if !self.processes.contains_key(&process) {
            return;
        }
        match work {
            Work::Commit {
                publisher, place, ..
            } => {
                let result = Err(Refused::Busy);
                self.soon(Event::Stored(
                    process,
                    Box::new(Stored {
                        publisher,
                        result,
                        place,
                    }),
                ));
            }
            Work::Replay { .. } | Work::Operate(..) => {}
            Work::Dispatch(call) => {
                for input in self.refuse(process, call) {
                    self.tell(process, input);
                }
            }
        }
    }
}
