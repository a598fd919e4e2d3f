//! The API's side of the world: publishers that ask until they are told, and operators.
//!
//! Stands in for `submit.rs` and the handlers around it: plan by the real rules, take room in the real
//! inbox, commit, hand over, answer. `world.rs` calls it.

use bytes::Bytes;
use harkara::store::{Commit, NewEvent, NewIdempotencyKey};
use harkara_core::delivery;
use harkara_core::endpoint::{Endpoint, OrderMode};
use harkara_core::id::{EventId, OrderId, Subject};
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;

use crate::check::Checked;
use crate::marks::Mark;
use crate::plan::{MS, Operation, SECOND, key_of};
use crate::planted::Fault;
use crate::store::{Called, Key};
use crate::world::{Event, Refused, Stored, Work, World};

impl World {
    pub(crate) fn publish(&mut self, number: usize, tries: u64) {
        let publisher = &mut self.publishers[number];
        if publisher.tries != tries || publisher.done == publisher.plan.events {
            return;
        }
        let serving = self.live.filter(|live| !self.processes[live].stopping);
        let Some(process) = serving else {
            return self.publish_later(number);
        };
        let now = self.now();
        let publisher = &mut self.publishers[number];
        if publisher.current.is_none() {
            let (merchant_id, done) = (publisher.plan.merchant.clone(), publisher.done);
            let id = EventId::new(format!("evt_{number}_{done}"));
            let (first, last) = publisher.plan.subjects;
            let subject = self.dice.between(first, last);
            let event = delivery::Event {
                body: Bytes::from(format!("{{\"{merchant_id}\":\"{id}\"}}")),
                merchant_id,
                name: *self.dice.pick(&[
                    EventName::OrderSucceeded,
                    EventName::OrderRefunded,
                    EventName::OrderFailed,
                ]),
                subject: Subject::Order(OrderId::new(format!("o{subject}"))),
                transition: "simulated".to_owned(),
                created_at: now,
                id,
            };
            self.oracle.offered(&event);
            publisher.current = Some(event);
        }
        let event = publisher
            .current
            .clone()
            .expect("it was put there just now");
        self.trace.line(
            self.t,
            format_args!("publish {} of {}", event.id, event.subject.key()),
        );
        let endpoints = self.disk.model.endpoints_of(&event.merchant_id);
        let deliveries = delivery::plan(&event, &endpoints, None);
        let inbox = &self.processes[&process].inbox;
        let place = inbox.reserve(deliveries.len(), event.body.len() * deliveries.len());
        let mut commit = Commit::new(event.merchant_id.clone(), now);
        commit.lease_until = place.as_ref().map(|_| inbox.lease_until(now));
        if place.is_none() {
            self.marks.mark(Mark::NoRoom);
        }
        commit.idempotency = Some(NewIdempotencyKey {
            key: event.id.to_string(),
            request_hash: String::new(),
            response: String::new(),
        });
        commit.events.push(NewEvent {
            event,
            deliveries,
            request_hash: None,
        });
        let work = Work::Commit {
            publisher: Some(number),
            commit,
            place,
        };
        self.soon(Event::Offer(process, Box::new(work)));
    }

    /// Tries the same event again: there was no answer, or a refusal.
    pub(crate) fn publish_later(&mut self, number: usize) {
        let publisher = &mut self.publishers[number];
        publisher.tries += 1;
        let again = Event::Publish(number, publisher.tries);
        let wait = self.dice.magnitude(10 * MS, SECOND);
        self.at(self.t + wait, again);
    }

    /// The API has an answer: hands over what was born claimed, then tells the publisher.
    pub(crate) fn stored(&mut self, process: u64, stored: Stored) -> Checked {
        let Some(serving) = self
            .processes
            .get(&process)
            .filter(|_| self.live == Some(process))
        else {
            return Ok(());
        };
        let Stored {
            publisher,
            result,
            place,
        } = stored;
        let refused = result.as_ref().err().copied();
        if let Ok(claimed) = result {
            match place {
                Some(place) if self.fault != Some(Fault::BornLost) => place.fill(claimed),
                Some(_) => {}
                None => serving.inbox.wake(),
            }
        }
        let Some(number) = publisher else {
            return Ok(());
        };
        let publisher = &mut self.publishers[number];
        let event = publisher
            .current
            .as_ref()
            .expect("it waits for this answer");
        let stands = self
            .disk
            .model
            .event(&event.merchant_id, &event.id)
            .is_some();
        match refused {
            None => {}
            Some(Refused::Stale) if stands => self.marks.mark(Mark::StoredUnanswered),
            Some(Refused::Stale) => {
                self.marks.mark(Mark::PlanOutdated);
                self.publish_later(number);
                return Ok(());
            }
            Some(Refused::Busy) => {
                self.publish_later(number);
                return Ok(());
            }
        }
        let event = publisher.current.take().expect("it was looked at just now");
        publisher.done += 1;
        publisher.tries += 1;
        let pause_us = match self.healed_at {
            Some(_) => publisher.plan.pause_us.min(SECOND),
            None => publisher.plan.pause_us,
        };
        let next = Event::Publish(number, publisher.tries);
        self.trace.line(self.t, format_args!("ack {}", event.id));
        self.at(self.t + pause_us, next);
        self.oracle.acked(&self.disk.model, &event.id)
    }

    /// A person asks for something about an endpoint; nothing comes of it while nobody serves.
    pub(crate) fn ask(&mut self, number: usize, operation: Operation) {
        let serving = self.live.filter(|live| !self.processes[live].stopping);
        let Some(process) = serving else {
            return;
        };
        let key = key_of(&self.plan.endpoints[number].0);
        let now = self.now();
        self.trace
            .line(self.t, format_args!("{operation:?} {}/{}", key.0, key.1));
        let kept = self
            .disk
            .model
            .endpoint(&key)
            .expect("endpoints are never forgotten");
        let is_test = matches!(operation, Operation::Test);
        let work = match operation {
            Operation::Resend | Operation::Test if kept.state != Called::Deleted => {
                let endpoint = kept.endpoint.clone();
                self.once_more(process, &endpoint, is_test)
            }
            Operation::Flow if kept.state == Called::Active => {
                let endpoint = kept.endpoint.clone();
                Some(self.flow(process, &endpoint))
            }
            Operation::Resend | Operation::Test | Operation::Flow => None,
            Operation::Pause | Operation::Resume | Operation::Delete | Operation::Order(_) => {
                Some(Work::Operate(key, operation, now))
            }
        };
        if let Some(work) = work {
            self.soon(Event::Offer(process, Box::new(work)));
        }
    }

    /// Another delivery of an event: a resend, or (of an event like any other) a test.
    fn once_more(&mut self, process: u64, endpoint: &Endpoint, is_test: bool) -> Option<Work> {
        let now = self.now();
        let nth = self.dice.index(1000);
        let event = self.oracle.some_acked(&endpoint.merchant_id, nth)?;
        let which = format!("{nth} at {}", self.t);
        let delivery = match is_test {
            true => delivery::test(&event, endpoint, (&which, OrderMode::None), now),
            false => delivery::replay((&event.id, event.name), endpoint, None, &which, now),
        };
        let inbox = &self.processes[&process].inbox;
        let place = inbox.reserve(1, event.body.len());
        let lease_until = place.as_ref().map(|_| inbox.lease_until(now));
        Some(Work::Replay {
            delivery,
            now,
            place,
            lease_until,
        })
    }

    /// Tests about an order of their own, told one after the other.
    fn flow(&mut self, process: u64, endpoint: &Endpoint) -> Work {
        let (now, about) = (self.now(), format!("flow_{}", self.t));
        let mut commit = Commit::new(endpoint.merchant_id.clone(), now);
        let mut after = None;
        for nth in 0..self.dice.between(2, 4) {
            let event = delivery::Event {
                merchant_id: endpoint.merchant_id.clone(),
                id: EventId::new(format!("evt_{about}_{}_{nth}", endpoint.endpoint_id)),
                name: EventName::OrderSucceeded,
                subject: Subject::Order(OrderId::new(about.as_str())),
                transition: "simulated".to_owned(),
                created_at: now,
                body: Bytes::from_static(b"{}"),
            };
            let test = delivery::test(&event, endpoint, ("flow", OrderMode::Strict), now);
            self.oracle
                .offered_in_flow(&event, after.replace(test.id.clone()));
            commit.events.push(NewEvent {
                event,
                deliveries: vec![test],
                request_hash: None,
            });
        }
        let inbox = &self.processes[&process].inbox;
        let count = commit.events.len();
        let place = inbox.reserve(count, count * b"{}".len());
        commit.lease_until = place.as_ref().map(|_| inbox.lease_until(now));
        Work::Commit {
            publisher: None,
            commit,
            place,
        }
    }

    /// What the operator asked for is flushed.
    pub(crate) fn operate(&mut self, key: &Key, operation: Operation, now: Timestamp) {
        self.touched(key);
        let in_flight = self.oracle.in_flight(Some(key)) > 0;
        let model = &mut self.disk.model;
        // A person who comes too late is told so, and that is all.
        let _ = match operation {
            Operation::Pause => model.set_endpoint_state(key, Called::Paused),
            Operation::Resume => model.set_endpoint_state(key, Called::Active),
            Operation::Delete => {
                let withdrawn = model.delete_endpoint(key, now);
                if in_flight && withdrawn.is_ok_and(|count| count > 0) {
                    self.marks.mark(Mark::Withdrawn);
                }
                withdrawn.map(drop)
            }
            Operation::Order(order) => {
                let kept = model.endpoint(key).expect("endpoints are never forgotten");
                let (mut endpoint, state) = ((*kept.endpoint).clone(), kept.state);
                endpoint.order = order;
                model.put_endpoint(&endpoint, state);
                Ok(())
            }
            Operation::Resend | Operation::Test | Operation::Flow => Ok(()),
        };
    }
}
