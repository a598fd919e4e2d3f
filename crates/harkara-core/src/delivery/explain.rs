//! Why an event was, or was not, sent to an endpoint: plain facts in the order they happened.
//!
//! The API and the demo print the same lines. The store's rows fill [`ExplainInput`];
//! nothing is looked up here, and no address or secret is ever part of a line.

use harkara_webhook::{EventName, Since, WebhookVersion, catalog};

use super::DeliveryState;
use crate::endpoint::EndpointState;
use crate::health::{Breaker, Health};
use crate::id::ReplayJobId;
use crate::time::Timestamp;

/// All that [`explain`] looks at: an event, its endpoint as it is now, and the delivery between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainInput {
    pub event_name: EventName,
    /// What the event was derived from.
    pub transition: String,
    pub created_at: Timestamp,
    /// The job that asked for the event again, if one did.
    pub replay_job_id: Option<ReplayJobId>,
    pub state: DeliveryState,
    /// Why it was withheld or withdrawn, as stored.
    pub reason: Option<String>,
    pub endpoint_version: WebhookVersion,
    pub endpoint_state: EndpointState,
    pub endpoint_health: Health,
    /// The earlier event of the same subject whose delivery this one waits for.
    pub waiting_on_sequence: Option<i64>,
    /// Oldest first.
    pub attempts: Vec<ExplainedAttempt>,
    pub due_at: Option<Timestamp>,
    pub settled_at: Option<Timestamp>,
    pub now: Timestamp,
}

/// One HTTP call as [`explain`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedAttempt {
    pub n: u32,
    pub at: Timestamp,
    /// `Outcome::code()`.
    pub code: String,
    /// `Outcome::sentence()`.
    pub sentence: String,
    /// An earlier event of the same subject was still unsettled.
    pub overtaking: bool,
}

/// The facts, in order: where the event came from, whether the endpoint is to hear of it, what holds
/// it up, each attempt, and what comes next.
pub fn explain(input: &ExplainInput) -> Vec<String> {
    let mut facts = vec![format!(
        "{} was derived from {} at {}",
        input.event_name,
        input.transition,
        input.created_at.iso()
    )];
    facts.extend(
        input
            .replay_job_id
            .iter()
            .map(|id| format!("asked for again by replay job {id}")),
    );
    facts.extend(gate(input));
    facts.extend(hold_ups(input));
    facts.extend(input.attempts.iter().map(attempt));
    facts.push(ending(input));
    facts
}

/// The version gate as it stands now. A withheld delivery keeps the reason it was given, and a
/// replay goes by the endpoint as it is now, so both are said.
fn gate(input: &ExplainInput) -> Option<String> {
    let name = input.event_name;
    let has = input.endpoint_version.describe();
    let admitted = catalog::admits(input.endpoint_version, name);
    match (input.state, admitted) {
        (DeliveryState::Withheld, false) => None,
        (DeliveryState::Withheld, true) => {
            Some(format!("the endpoint's version, {has}, has {name}"))
        }
        (
            DeliveryState::Pending
            | DeliveryState::Waiting
            | DeliveryState::Delivered
            | DeliveryState::Exhausted
            | DeliveryState::Withdrawn,
            _,
        ) => Some(match catalog::since(name) {
            Since::Always => format!("{name} is in every version, endpoint has {has}"),
            Since::From(needs) => {
                format!("{name} needs ≥ {}, endpoint has {has}", needs.describe())
            }
        }),
    }
}

/// What keeps an unsettled delivery from being sent.
fn hold_ups(input: &ExplainInput) -> Vec<String> {
    if !is_unsettled(input.state) {
        return Vec::new();
    }
    let mut facts = Vec::new();
    let stopped = |what: &str, reason: &str, at: Timestamp| {
        format!("the endpoint has been {what} since {}: {reason}", at.iso())
    };
    match &input.endpoint_state {
        EndpointState::Active => facts.extend(breaker(input)),
        EndpointState::Paused { reason, at } => facts.push(stopped("paused", reason, *at)),
        EndpointState::Disabled { reason, at } => facts.push(stopped("disabled", reason, *at)),
    }
    if let Some(sequence) = input.waiting_on_sequence {
        facts.push(format!("waiting for sequence {sequence}"));
    }
    facts
}

/// What an endpoint that is not well is sent.
fn breaker(input: &ExplainInput) -> Option<String> {
    let Health {
        breaker, failures, ..
    } = &input.endpoint_health;
    match breaker {
        Breaker::Closed => None,
        Breaker::Open { probe_at, .. } => Some(format!(
            "the last {failures} attempts at the endpoint have failed, so it is sent one delivery at \
             a time, the next at {}",
            probe_at.iso()
        )),
        Breaker::HalfOpen { window, .. } => Some(format!(
            "the endpoint has begun to answer again and is sent at most {window} at a time"
        )),
    }
}

fn attempt(attempt: &ExplainedAttempt) -> String {
    let mark = if attempt.overtaking {
        " (overtook an earlier event of its subject)"
    } else {
        ""
    };
    let ExplainedAttempt {
        n, code, sentence, ..
    } = attempt;
    format!(
        "attempt {n} at {}: {code}, {sentence}{mark}",
        attempt.at.iso()
    )
}

/// How it ended, or when it goes on.
fn ending(input: &ExplainInput) -> String {
    let at = |moment: Option<Timestamp>| moment.map(|at| format!(" at {}", at.iso()));
    let settled = at(input.settled_at).unwrap_or_default();
    let reason = input.reason.as_deref().unwrap_or("no reason was recorded");
    match input.state {
        DeliveryState::Pending => next_attempt(input),
        DeliveryState::Waiting => "no attempt is due before the wait is over".to_owned(),
        DeliveryState::Delivered => format!("delivered{settled}"),
        DeliveryState::Exhausted => {
            format!("exhausted{settled}: the ladder is used up; a replay starts it again")
        }
        DeliveryState::Withdrawn => format!("withdrawn{settled}: {reason}"),
        DeliveryState::Withheld => format!("withheld: {} {reason}", input.event_name),
    }
}

fn next_attempt(input: &ExplainInput) -> String {
    let paused = match input.endpoint_state {
        EndpointState::Active => "",
        EndpointState::Paused { .. } | EndpointState::Disabled { .. } => {
            ", once the endpoint is active again"
        }
    };
    match input.due_at {
        Some(due_at) if due_at > input.now => format!("next attempt at {}{paused}", due_at.iso()),
        Some(due_at) => format!("next attempt due since {}{paused}", due_at.iso()),
        None => format!("next attempt due now{paused}"),
    }
}

fn is_unsettled(state: DeliveryState) -> bool {
    match state {
        DeliveryState::Pending | DeliveryState::Waiting => true,
        DeliveryState::Delivered
        | DeliveryState::Exhausted
        | DeliveryState::Withdrawn
        | DeliveryState::Withheld => false,
    }
}
