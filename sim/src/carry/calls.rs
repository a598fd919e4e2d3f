//! What the dispatcher asks of the store, on its way there and back.
//!
//! Each call is applied to the model once it is flushed, watched by the oracle, and told to the process
//! that asked, if it lives. `world.rs` has the queue that they wait in.

use std::time::Duration;

use harkara::deliver::dispatcher::Input;
use harkara::store::{ClaimAsk, HealthWrite, Lease, Settle, Settled};
use harkara_core::delivery::{DeliveryKind, DeliveryState, Verdict};
use harkara_core::health::Breaker;
use harkara_core::time::Timestamp;

use super::CLOCK_LADDER_US;
use crate::check::{Excuse, Violation};
use crate::marks::Mark;
use crate::planted::Fault;
use crate::store::{Key, Stale};
use crate::world::World;

/// A write that the dispatcher asked for.
pub(crate) enum Call {
    Claim(ClaimAsk),
    /// All that one turn settles, and when it judged that.
    Settle(Vec<Settling>, u64),
    Release(Vec<Lease>),
    PullIn(Timestamp),
}

/// A settle, and what its report says besides.
pub(crate) struct Settling {
    pub(super) settle: Box<Settle>,
    pub(super) key: Key,
    pub(super) retry_at: Option<Timestamp>,
}

impl Settling {
    fn report(self, settled: Option<Settled>) -> Input {
        Input::Settled {
            key: self.key,
            subject: self.settle.subject,
            retry_at: self.retry_at,
            settled,
        }
    }
}

impl World {
    /// What happens to a write on its way to the committer.
    pub(crate) fn prepared(&mut self, call: Call) -> Option<Call> {
        match call {
            Call::PullIn(_) if self.fault == Some(Fault::PullInForgotten) => None,
            Call::Release(_) if self.fault == Some(Fault::ReleaseForgotten) => None,
            call => Some(call),
        }
    }

    /// Applies a write that is flushed. Returns what its process is told, if it lives to hear it.
    pub(crate) fn apply_call(&mut self, process: u64, call: Call) -> Result<Vec<Input>, Violation> {
        match call {
            Call::Claim(ask) => Ok(vec![self.claim(&ask)]),
            Call::Settle(settles, judged_at) => {
                let mut inputs = Vec::new();
                for mut settling in settles {
                    if self.live != Some(process) {
                        self.marks.mark(Mark::LateAfterDeath);
                        settling.settle.lease_until = None;
                    }
                    let settled = self.settle(&settling.settle, judged_at)?;
                    self.oracle
                        .told(process, &self.disk.model, &settling.settle)?;
                    inputs.push(settling.report(Some(settled)));
                }
                Ok(inputs)
            }
            Call::Release(leases) => {
                self.disk.model.release(&leases);
                Ok(Vec::new())
            }
            Call::PullIn(now) => {
                let moved = self.disk.model.pull_in(now);
                self.pull_in_lost = false;
                if moved > 0 {
                    self.marks.mark(Mark::PulledIn);
                }
                Ok(vec![Input::PulledIn(true)])
            }
        }
    }

    fn claim(&mut self, ask: &ClaimAsk) -> Input {
        let mut claimed = self.disk.model.claim(ask);
        if self.fault == Some(Fault::ClaimIgnoresMerchant) {
            for merchant_id in self.plan.merchants.clone() {
                let ask = ClaimAsk {
                    merchant_id,
                    limit: ask.limit - claimed.len(),
                    ..ask.clone()
                };
                claimed.extend(self.disk.model.claim(&ask));
            }
            for claimed in &mut claimed {
                claimed.merchant_id = ask.merchant_id.clone();
            }
        }
        for id in std::mem::take(&mut self.disk.model.taken_over) {
            self.marks.mark(Mark::TakenOver);
            self.oracle.excuse(&id, Excuse::TakenOver);
        }
        Input::Claimed {
            key: (ask.merchant_id.clone(), ask.endpoint_id.clone()),
            claimed: Some(claimed),
        }
    }

    fn settle(&mut self, settle: &Settle, judged_at: u64) -> Result<Settled, Violation> {
        let key = (settle.merchant_id.clone(), settle.endpoint_id.clone());
        self.touched(&key);
        let model = &mut self.disk.model;
        let row = model.row(&settle.merchant_id, &settle.delivery_id);
        let before = row
            .map(|row| (row.state, row.kind, row.order))
            .expect("it was claimed");
        let settled = match model.settle(settle) {
            Ok(settled) => settled,
            Err(Stale) => unreachable!("its row was there just now"),
        };
        let judged_at = (judged_at > self.jumped_at).then_some(judged_at);
        let result = (before.0, settled.held);
        self.oracle
            .settled(&self.disk.model, settle, result, judged_at)?;
        let mut mark = |mark, reached: bool| {
            if reached {
                self.marks.mark(mark);
            }
        };
        let success = settle.verdict == Verdict::Delivered;
        let others = self.oracle.in_flight(Some(&key)) > 0;
        let gone = settle.attempt.status == Some(410);
        mark(Mark::Gone, settled.stopped && gone && others);
        mark(Mark::Disabled, settled.stopped && !gone);
        let breaker = match &settle.health {
            HealthWrite::Ill(health) => Some(health.breaker),
            HealthWrite::Keep | HealthWrite::Well => None,
        };
        let opened = matches!(breaker, Some(Breaker::Open { probes: 0, .. }));
        mark(Mark::BreakerOpened, opened);
        let ramp = matches!(breaker, Some(Breaker::HalfOpen { window: 1 | 2, .. }));
        mark(Mark::RampBegun, ramp);
        mark(Mark::LateFailure, !settled.held && !success);
        mark(Mark::LateSuccess, !settled.held && success);
        mark(
            Mark::Exhausted,
            settled.held && settle.verdict == Verdict::Exhausted,
        );
        let withdrawn = before.0 == DeliveryState::Withdrawn;
        mark(Mark::SuccessWhenWithdrawn, success && withdrawn);
        mark(Mark::Resent, success && before.1 == DeliveryKind::Replay);
        let strict = before.2 == harkara_core::endpoint::OrderMode::Strict;
        mark(
            Mark::StrictReleased,
            strict && settled.released + i64::try_from(settled.claimed.len()).expect("a few") > 0,
        );
        let asked = match settle.verdict {
            Verdict::RetryAt(at) => at.since(settle.now) >= Duration::from_secs(3600),
            Verdict::Delivered | Verdict::Exhausted => false,
        };
        mark(
            Mark::RetryAfter,
            asked && settle.attempt.status == Some(429),
        );
        Ok(settled)
    }

    /// A write came to nothing: the disk is full, or the store is closed.
    pub(crate) fn refuse(&mut self, process: u64, call: Call) -> Vec<Input> {
        match call {
            Call::Claim(ask) => vec![Input::Claimed {
                key: (ask.merchant_id, ask.endpoint_id),
                claimed: None,
            }],
            Call::Settle(settles, _) => {
                for Settling { settle, key, .. } in &settles {
                    self.oracle.settle_refused(process, &settle.delivery_id);
                    self.left_claimed.insert(settle.delivery_id.clone());
                    self.touched(key);
                }
                let reports = settles.into_iter().map(|settling| settling.report(None));
                reports.collect()
            }
            // The claims last until their leases end.
            Call::Release(leases) => {
                let ids = leases.into_iter().map(|lease| lease.delivery_id);
                self.left_claimed.extend(ids);
                Vec::new()
            }
            Call::PullIn(_) => vec![Input::PulledIn(false)],
        }
    }

    pub(super) fn end_by_the_clock(&self, settle: &mut Settle) {
        let model = &self.disk.model;
        let row = model.row(&settle.merchant_id, &settle.delivery_id);
        let since = row
            .and_then(|row| row.calls.first())
            .and_then(|first| first.retry_at);
        let over =
            since.is_some_and(|at| (settle.now.as_micros() - at.as_micros()) > CLOCK_LADDER_US);
        let ends = self.fault == Some(Fault::EndsByTheClock) && over;
        if ends && settle.verdict != Verdict::Delivered {
            settle.verdict = Verdict::Exhausted;
        }
    }
}
