//! What goes wrong with the process and the clock, and how all is healed and watched in the end.
//!
//! Crashes, stops, starts, jumps; then the watch over the backlog that must reach zero. `world.rs`
//! calls it when the plan says so.

use harkara_core::retry::{LONGEST_WAIT, MAX_RETRY_AFTER};

use crate::carry::{PATIENCE_US, Process};
use crate::check::{self, Checked, hold};
use crate::disk::{Habits, Wreck};
use crate::marks::Mark;
use crate::plan::{HOUR, Happening, MINUTE, MS, Operation, SECOND, YEAR};
use crate::receiver::Habit;
use crate::store::{Called, Key};
use crate::world::{Event, Work, World};

/// How long a stop may take before the process is ended by force.
const STOP_US: u64 = 30 * SECOND;

/// What the last of the backlog may take beyond the wait for its due time: leases that nobody could
/// end, which a clock that went back has put up to an hour away, and the sending.
const SLACK_US: u64 = HOUR + 15 * MINUTE;

impl World {
    pub(crate) fn happen(&mut self, number: usize) -> Checked {
        let happening = self.plan.happenings[number].1.clone();
        self.trace.line(self.t, format_args!("{happening:?}"));
        match happening {
            Happening::Crash {
                down_us,
                keeps,
                lives_on,
            } => self.crash((keeps, lives_on), down_us),
            Happening::Stop { down_us } => self.stop(down_us),
            Happening::Jump(by) => {
                self.jump(by);
                Ok(())
            }
            Happening::Operate(endpoint, operation) => {
                self.ask(endpoint, operation);
                Ok(())
            }
        }
    }

    /// Starts the process, on what the disk has.
    pub(crate) fn start(&mut self) -> Checked {
        self.processes_so_far += 1;
        let id = self.processes_so_far;
        self.disk.model.open();
        self.trace.line(self.t, format_args!("p{id} starts"));
        self.oracle.nothing_lost(&self.disk.model)?;
        check::nothing_forgotten(&self.disk.model, self.now(), |_| false)?;
        let times = (self.now(), self.t);
        let process = Process::new(self.plan.limits, self.plan.bound, times);
        self.processes.insert(id, process);
        self.live = Some(id);
        self.left_claimed.clear();
        self.at(self.t + MS, Event::Nap(id, 0));
        // What its loop does before the first turn.
        if self.written_at > Some(self.now()) {
            self.pull_in(id);
        }
        Ok(())
    }

    /// The process dies, or is given up for dead while it still settles what it has in flight.
    pub(crate) fn crash(&mut self, (keeps, lives_on): (bool, bool), down_us: u64) -> Checked {
        let Some(id) = self.live.take() else {
            return Ok(());
        };
        self.trace.line(self.t, format_args!("p{id} dies"));
        let Wreck { kept, lost, queued } = self.disk.crash(keeps, &mut self.dice);
        let marks = [
            (!queued.is_empty(), Mark::CrashLostQueued),
            (!kept.is_empty(), Mark::CrashKeptWritten),
            (!lost.is_empty(), Mark::CrashLostWritten),
            (
                !kept.is_empty() && !lost.is_empty(),
                Mark::CrashKeptTheFirst,
            ),
        ];
        for (_, mark) in marks.into_iter().filter(|(seen, _)| *seen) {
            self.marks.mark(mark);
        }
        for unit in kept {
            self.apply(unit, false)?;
        }
        let process = &self.processes[&id];
        if process.stopping {
            self.marks.mark(Mark::CrashWhileStopping);
        }
        // It has not noticed that the clock went back, and others may have written since.
        self.pull_in_lost |= self.jumped_at >= process.turned_at;
        if self.t - process.started_at < 10 * SECOND {
            self.marks.mark(Mark::CrashTwice);
        }
        self.opening += 1;
        let others = self.processes.keys().copied().filter(|other| *other != id);
        for ghost in others.collect::<Vec<_>>() {
            self.bury(ghost);
        }
        if lives_on && !self.processes[&id].stopping {
            self.oracle.given_up(id);
            self.drain(id)?;
        } else {
            self.bury(id);
        }
        for unit in lost.into_iter().chain(queued) {
            self.refuse_work(unit.process, unit.work);
        }
        self.nobody_answers();
        self.at(self.t + down_us, Event::Start);
        Ok(())
    }

    /// A process is no more, and what it had in flight lands nowhere.
    fn bury(&mut self, id: u64) {
        self.processes.remove(&id);
        if self.oracle.died(id) > 0 {
            self.marks.mark(Mark::CrashInFlight);
        }
        self.flights.retain(|_, flight| flight.process != id);
    }

    /// Whoever waits for an answer of the API tries again.
    fn nobody_answers(&mut self) {
        for publisher in 0..self.publishers.len() {
            self.publish_later(publisher);
        }
    }

    fn stop(&mut self, down_us: u64) -> Checked {
        let Some(id) = self.live.filter(|live| !self.processes[live].stopping) else {
            return Ok(());
        };
        self.down_us = down_us;
        self.at(self.t + STOP_US, Event::StopTakesTooLong(id));
        self.drain(id)
    }

    /// A process that stops has nothing in flight any more: closes the store once it is quiet.
    pub(crate) fn idle(&mut self, id: u64) {
        if self.live != Some(id) {
            self.bury(id);
            return;
        }
        if !self.disk.is_quiet() {
            self.at(self.t + MS, Event::Idle(id));
            return;
        }
        self.marks.mark(Mark::StoppedGently);
        self.trace.line(self.t, format_args!("p{id} has stopped"));
        self.live = None;
        self.bury(id);
        self.nobody_answers();
        self.at(self.t + self.down_us, Event::Start);
    }

    fn jump(&mut self, by: i64) {
        let before = self.now();
        self.skew_us += by;
        let after = self.now();
        self.jumped_at = self.t;
        self.oracle.clock_jumped();
        let mut due = self.disk.model.rows().filter_map(|row| row.due_at);
        let year = i64::try_from(YEAR).expect("a year fits");
        let over = due.any(|due_at| after < due_at && due_at <= before);
        let far = self.disk.model.rows().filter_map(|row| row.due_at);
        let far = far.filter(|due_at| *due_at > before).count() > 0;
        let marks = [
            (Mark::BackOverDue, by < 0 && over),
            (Mark::BackAYear, by <= -year),
            (Mark::ForthAYear, by >= year),
            (Mark::ForthWithWaiting, by > 0 && far),
        ];
        for (mark, _) in marks.into_iter().filter(|(_, reached)| *reached) {
            self.marks.mark(mark);
        }
    }

    /// From here on nothing goes wrong, and the backlog must reach zero in time.
    pub(crate) fn heal(&mut self) {
        self.trace.line(self.t, format_args!("heals"));
        self.healed_at = Some(self.t);
        for habit in self.habits.values_mut() {
            *habit = Habit::Healthy;
        }
        self.disk.habits = Habits {
            flush_us: (100, MS),
            slow_one_in: None,
            full_one_in: None,
            fails_one_in: None,
            queue: 4096,
        };
        let now = self.now();
        let ahead = self.disk.model.rows().filter_map(|row| row.due_at);
        let waits = ahead.map(|due_at| due_at.since(now));
        // Whatever is in flight may still fail, and wait once more.
        let steps = self
            .plan
            .endpoints
            .iter()
            .flat_map(|(endpoint, _)| endpoint.ladder.steps());
        let longest = waits
            .chain(steps.map(|step| step * 6 / 5))
            .max()
            .unwrap_or_default();
        let is_quiet = self.flights.is_empty() && self.disk.is_quiet();
        let longest = if is_quiet {
            longest
        } else {
            longest.max(MAX_RETRY_AFTER)
        };
        let longest = longest.min(LONGEST_WAIT);
        let longest_us = u64::try_from(longest.as_micros()).expect("waits are days");
        self.must_be_done_by = self.t + longest_us + SLACK_US;
        self.at(self.t, Event::Watch);
    }

    /// Resumes what is paused, and asks whether the backlog is gone.
    pub(crate) fn watch(&mut self) -> Checked {
        let late = self.t > self.must_be_done_by;
        hold!(!late, Liveness, "still to do: {}", self.still_to_do());
        let paused = self
            .disk
            .model
            .endpoints()
            .filter(|(_, kept)| matches!(kept.state, Called::Paused | Called::Disabled));
        let paused: Vec<Key> = paused.map(|(key, _)| key.clone()).collect();
        if let Some(process) = self.live {
            for key in paused {
                let resume = Work::Operate(key, Operation::Resume, self.now());
                self.soon(Event::Offer(process, Box::new(resume)));
            }
        }
        let healed_at = self.healed_at.expect("the watch begins then");
        let interval = (20 * SECOND).max((self.t - healed_at) / 8);
        self.at(self.t + interval, Event::Watch);
        Ok(())
    }

    /// Whether all is healed and everything is settled, acknowledged and at rest.
    pub(crate) fn is_done(&self) -> bool {
        let publishers = &self.publishers;
        self.healed_at.is_some()
            && self.live.is_some()
            && self.flights.is_empty()
            && self.disk.is_quiet()
            && publishers.iter().all(|it| it.done == it.plan.events)
            && self.disk.model.is_settled()
    }

    fn still_to_do(&self) -> String {
        let publishers = self
            .publishers
            .iter()
            .filter(|it| it.done < it.plan.events)
            .count();
        let row = self.disk.model.rows().find(|row| row.settled_at.is_none());
        let row = row.map(|row| {
            format!(
                "{} of {:?}, {}, due {:?}, leased {:?}, now {:?}",
                row.id,
                row.key,
                row.state,
                row.due_at,
                row.lease_until,
                self.now()
            )
        });
        format!(
            "{publishers} publishers, {} in flight, {row:?}",
            self.flights.len()
        )
    }

    /// Nothing that is due lies about while there are permits and a process to use them.
    pub(crate) fn nobody_is_kept_waiting(&self, process: u64) -> Checked {
        let sweep_us = u64::try_from(self.plan.limits.sweep.as_micros()).expect("a sweep is short");
        let patience_us = PATIENCE_US + 2 * sweep_us;
        let calm_since = |at: u64| self.t > at + patience_us;
        let process = &self.processes[&process];
        let steady = !process.stopping
            && calm_since(process.started_at)
            && calm_since(self.jumped_at)
            && self.disk.is_quiet();
        if !steady {
            return Ok(());
        }
        let now = self.now();
        check::nothing_forgotten(&self.disk.model, now, |key| {
            !self.pull_in_lost && self.touched_at.get(key).is_none_or(|at| calm_since(*at))
        })?;
        if self.is_crowded() || !calm_since(self.crowded_at) {
            return Ok(());
        }
        for (key, kept) in self.disk.model.endpoints() {
            let calm = self.touched_at.get(key).is_none_or(|at| calm_since(*at));
            if kept.state != Called::Active || !calm || self.oracle.in_flight(Some(key)) > 0 {
                continue;
            }
            let due = self.disk.model.due_of(key);
            let forgotten = due.filter(|(due_at, id)| {
                now.since(*due_at).as_micros() > u128::from(patience_us)
                    && !self.left_claimed.contains(*id)
            });
            for (due_at, id) in forgotten {
                hold!(
                    false,
                    Prompt,
                    "{id} has been due for {:?}",
                    now.since(due_at)
                );
            }
        }
        Ok(())
    }
}
