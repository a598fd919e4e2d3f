//! How an endpoint is shown: its settings, how it is doing, and of its secrets only their times.
//!
//! Values in, JSON out; nothing is asked or changed here. The handlers of `endpoints.rs` and
//! `signing.rs` answer with it.

use harkara_core::endpoint::{Endpoint, EndpointState, SigningSecret};
use harkara_core::health::{Breaker, Health};
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, catalog};
use serde_json::{Map, Value, json};

use crate::store::EndpointRow;

/// An endpoint as the store has it.
pub(super) fn show_row(row: &EndpointRow, now: Timestamp) -> Value {
    show(&row.endpoint, row.health.as_ref(), now)
}

/// An endpoint without its secrets; of those that are in use at this moment, since when and until
/// when.
pub(super) fn show(endpoint: &Endpoint, health: Option<&Health>, now: Timestamp) -> Value {
    let headers: Map<String, Value> = endpoint
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let previous = endpoint.live_previous_credentials(now);
    let signing = endpoint.live_signing_secrets(now);
    let mut shown = json!({
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "username": endpoint.username,
        "password": "set",
        "previous_credentials": previous.map(|previous| {
            json!({ "username": previous.username, "until": previous.until.iso() })
        }),
        "signing": signing.map(show_secret).collect::<Vec<_>>(),
        "webhook_version": endpoint.version,
        "events": EventName::ALL.iter().map(|name| show_event(endpoint, *name)).collect::<Vec<_>>(),
        "headers": headers,
        "ladder": endpoint.ladder,
        "success": endpoint.success,
        "order": endpoint.order,
        "timeout_seconds": endpoint.timeout_seconds,
        "rate_per_second": endpoint.rate_per_second,
        "ca_pem": endpoint.ca_pem,
        "health": show_health(health.unwrap_or(&Health::default())),
        "created_at": endpoint.created_at.iso(),
    });
    match &endpoint.state {
        EndpointState::Active => shown["state"] = "active".into(),
        EndpointState::Paused { reason, at } => {
            shown["state"] = "paused".into();
            shown["paused_reason"] = reason.as_str().into();
            shown["paused_at"] = at.iso().into();
        }
        EndpointState::Disabled { reason, at } => {
            shown["state"] = "disabled".into();
            shown["disabled_reason"] = reason.as_str().into();
            shown["disabled_at"] = at.iso().into();
        }
    }
    shown
}

/// How the endpoint is doing, as far as it is worth remembering: short streaks of failures are in
/// its attempts alone.
fn show_health(health: &Health) -> Value {
    let (breaker, probe_at) = match health.breaker {
        Breaker::Closed => ("closed", None),
        Breaker::Open { probe_at, .. } => ("open", Some(probe_at.iso())),
        Breaker::HalfOpen { .. } => ("half_open", None),
    };
    json!({
        "breaker": breaker,
        "next_probe_at": probe_at,
        "failures_in_a_row": health.failures,
        "failing_since": health.failing_since.map(Timestamp::iso),
    })
}

fn show_secret(secret: &SigningSecret) -> Value {
    json!({ "since": secret.since.iso(), "until": secret.until.map(Timestamp::iso) })
}

/// Whether an event is sent to this endpoint, and why not.
fn show_event(endpoint: &Endpoint, name: EventName) -> Value {
    let withheld = endpoint.wants(name).err();
    json!({
        "name": name,
        "since": catalog::since(name).to_string(),
        "sent": withheld.is_none(),
        "reason": withheld.map(|why| why.to_string()),
    })
}
