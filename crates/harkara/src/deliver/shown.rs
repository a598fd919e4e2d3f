//! Requests as people see them: which headers an attempt had, with nothing told that must stay secret.
//!
//! An attempt keeps only what cannot be worked out again, so most of this follows from the delivery, the
//! moment, and the endpoint as it is now. Pure; the API's views and the pages call it.

use harkara_core::endpoint::Endpoint;

use super::transport::ALWAYS_SENT;
use crate::store::{AttemptView, CredentialsUsed, DeliveryView};

/// Stands for what is not told.
const SECRET: &str = "••••••••";

/// The headers of an attempt's request in the order in which they were sent; none when it ended before
/// there was a request. An endpoint's own are those that it has now, by their names.
pub(crate) fn request_headers(
    endpoint: &Endpoint,
    delivery: &DeliveryView,
    attempt: &AttemptView,
) -> Vec<(String, String)> {
    let evidence = &attempt.attempt.evidence;
    if evidence.write_us.is_none() {
        return Vec::new();
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(authority) = authority(&evidence.url) {
        add("host", authority);
    }
    for (name, value) in ALWAYS_SENT {
        add(name.as_str(), value.to_owned());
    }
    add(
        "authorization",
        match evidence.credentials {
            CredentialsUsed::Current => format!("Basic {SECRET}"),
            CredentialsUsed::Previous => format!("Basic {SECRET}, the pair before the present one"),
        },
    );
    add("webhook-id", delivery.event_id.to_string());
    let started_at = attempt.attempt.started_at;
    let signatures = endpoint.live_signing_secrets(started_at);
    let signatures: Vec<_> = signatures.map(|_| format!("v1,{SECRET}")).collect();
    if !signatures.is_empty() {
        add("webhook-timestamp", started_at.epoch_seconds());
        add("webhook-signature", signatures.join(" "));
    }
    add("harkara-attempt", attempt.n.to_string());
    add("harkara-sequence", delivery.sequence.to_string());
    for (name, _) in &endpoint.headers {
        add(&name.to_lowercase(), SECRET.to_owned());
    }
    headers
}

/// The host of a URL with its port, as it stands in a request.
fn authority(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}
