//! An attempt on its way, from the dispatcher's word to a receiver and back.
//!
//! Stands in for `deliver/attempt.rs`, without its passwords and sockets; `receiver.rs` answers. Called
//! through `world.rs` when its times have come.

use std::sync::Arc;

use harkara::deliver::dispatcher::{Ended, Input, Unsent};
use harkara::store::{AttemptRow, Claimed, Evidence};
use harkara_core::delivery::{DeliveryKind, Failure, Outcome};
use harkara_core::endpoint::Endpoint;
use harkara_core::time::Timestamp;

use crate::check::{Checked, Excuse, hold};
use crate::marks::Mark;
use crate::plan::SECOND;
use crate::planted::Fault;
use crate::receiver::Reply;
use crate::store::Called;
use crate::world::{Event, World};

/// An attempt on its way.
pub(crate) struct Flight {
    pub(crate) process: u64,
    claimed: Claimed,
    endpoint: Option<Arc<Endpoint>>,
    started_at: Timestamp,
    left_at: u64,
    outcome: Outcome,
    task_dies: bool,
}

impl World {
    pub(super) fn send(&mut self, id: u64, claimed: Claimed) -> Checked {
        self.oracle.began(id, &claimed, self.t)?;
        let stopping = self.processes[&id].stopping;
        hold!(
            !stopping,
            Drain,
            "{} is sent by a process that stops",
            claimed.delivery_id
        );
        self.flights_so_far += 1;
        let flight = self.flights_so_far;
        let limits = self.plan.limits;
        self.oracle
            .sent((flight, id), &claimed, limits, &mut self.marks)?;
        if let Some(ramp) = &mut self.ramp {
            let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
            ramp.sent(&key, self.t)?;
        }
        let dies = self
            .plan
            .task_dies_one_in
            .filter(|_| self.healed_at.is_none());
        let task_dies = dies.is_some_and(|many| self.dice.one_in(many));
        self.flights.insert(
            flight,
            Flight {
                process: id,
                claimed,
                endpoint: None,
                started_at: self.now(),
                left_at: self.t,
                outcome: Outcome::Failed(Failure::Internal),
                task_dies,
            },
        );
        self.soon(Event::Attempt(flight));
        Ok(())
    }

    /// The attempt's task looks its endpoint up and sends, or finds nobody to send to.
    pub(crate) fn attempt(&mut self, id: u64) -> Checked {
        let Some(flight) = self.flights.get_mut(&id) else {
            return Ok(());
        };
        let claimed = &mut flight.claimed;
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        let kept = self
            .disk
            .model
            .endpoint(&key)
            .expect("a delivery has an endpoint");
        let may_call = match kept.state {
            Called::Active => true,
            Called::Paused | Called::Disabled => {
                claimed.kind == DeliveryKind::Test || self.fault == Some(Fault::PausedIsCalled)
            }
            Called::Deleted => false,
        };
        if !may_call {
            self.marks.mark(Mark::Unsent);
            let unsent = Input::Unsent(Box::new(Unsent::of(claimed)));
            let process = flight.process;
            self.land(id);
            self.tell(process, unsent);
            return Ok(());
        }
        hold!(
            kept.state == Called::Active || claimed.kind == DeliveryKind::Test,
            PausedIsLeftAlone,
            "{} goes to a paused endpoint",
            claimed.delivery_id
        );
        if kept.state != Called::Active {
            self.marks.mark(Mark::TestSent);
        }
        let crowded = self
            .plan
            .crowded_one_in
            .filter(|_| self.healed_at.is_none());
        if crowded.is_some_and(|many| self.dice.one_in(many)) {
            self.marks.mark(Mark::Crowded);
            let (process, claimed) = (flight.process, flight.claimed.clone());
            self.land(id);
            self.tell(process, Input::Crowded(Box::new(claimed)));
            return Ok(());
        }
        if self.fault == Some(Fault::BodyRenderedAnew) && claimed.attempts > 0 {
            claimed.body = format!("{} at {}", claimed.event_id, self.t).into();
        }
        let endpoint = kept.endpoint.clone();
        let sent = (&*claimed, &*endpoint);
        self.oracle
            .requested(&self.disk.model, sent, self.t, &mut self.marks)?;
        let reply = self.habits[&key].reply(self.t, &mut self.dice);
        let delivery = claimed.delivery_id.clone();
        let timeout_us = u64::from(endpoint.timeout_seconds) * SECOND;
        flight.endpoint = Some(endpoint);
        let Reply {
            after_us,
            outcome,
            said_200,
        } = reply;
        if said_200 {
            self.oracle.said_200(&delivery);
        }
        let after_us = match after_us {
            Some(after_us) if after_us <= timeout_us => {
                flight.outcome = outcome;
                after_us
            }
            Some(_) | None => {
                if said_200 {
                    self.marks.mark(Mark::AnsweredTooLate);
                }
                flight.outcome = Outcome::Failed(Failure::AttemptTimeout);
                timeout_us
            }
        };
        self.trace.line(
            self.t,
            format_args!(
                "f{id} {delivery} leaves, {} after {after_us}",
                flight.outcome.code()
            ),
        );
        self.at(self.t + after_us, Event::Ended(id));
        Ok(())
    }

    /// The attempt has ended, and its task tells the dispatcher.
    pub(crate) fn ended(&mut self, id: u64) {
        let Some(flight) = self.land(id) else {
            return;
        };
        let endpoint = flight.endpoint.expect("it left for an endpoint");
        let claimed = flight.claimed;
        if flight.task_dies {
            self.marks.mark(Mark::TaskDied);
            self.oracle.excuse(&claimed.delivery_id, Excuse::TaskDied);
            let unsent = Input::Unsent(Box::new(Unsent::of(&claimed)));
            return self.tell(flight.process, unsent);
        }
        let outcome = flight.outcome;
        self.oracle
            .heard(flight.process, &claimed, endpoint.success, &outcome);
        let (status, failure) = match &outcome {
            Outcome::Answered { status, .. } => (Some(*status), None),
            Outcome::Failed(failure) => (None, Some(failure.code().to_owned())),
        };
        let duration_us = i64::try_from(self.t - flight.left_at).expect("at most a minute");
        let attempt = AttemptRow {
            started_at: flight.started_at,
            duration_us,
            status,
            failure,
            evidence: Evidence::default(),
        };
        let ended = Ended {
            claimed,
            endpoint,
            outcome,
            attempt,
        };
        self.tell(flight.process, Input::Ended(Box::new(ended)));
    }

    /// Takes an attempt out of the air; `None` when its process has died.
    pub(super) fn land(&mut self, id: u64) -> Option<Flight> {
        if self.is_crowded() {
            self.crowded_at = self.t;
        }
        let flight = self.flights.remove(&id)?;
        self.oracle.landed(id);
        let claimed = &flight.claimed;
        let key = (claimed.merchant_id.clone(), claimed.endpoint_id.clone());
        self.touched(&key);
        Some(flight)
    }
}
