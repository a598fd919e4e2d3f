//! Requests as people see them: which headers an attempt had, with nothing told that must stay secret.
//!
//! An attempt keeps only what cannot be worked out again, so most of this follows from the delivery, the
//! moment, and the endpoint as it is now. Pure; the API's views and the pages call it.

use std::time::Duration;

use harkara_core::delivery::Failure;
use harkara_core::endpoint::Endpoint;

use super::transport::ALWAYS_SENT;
use crate::store::{AttemptRow, AttemptView, CredentialsUsed, DeliveryHistory};

/// Stands for what is not told.
const SECRET: &str = "••••••••";

/// The headers of an attempt's request in the order in which they were sent; none when it ended before
/// there was a request. An endpoint's own are those that it has now, by their names, and so are the
/// secrets that signed.
pub(crate) fn request_headers(
    endpoint: &Endpoint,
    history: &DeliveryHistory,
    attempt: &AttemptView,
) -> Vec<(String, String)> {
    let AttemptRow {
        started_at,
        evidence,
        ..
    } = &attempt.attempt;
    if !was_sent(&attempt.attempt) {
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
    let delivery = &history.delivery;
    add("webhook-id", delivery.event_id.to_string());
    let secrets = endpoint.live_signing_secrets(*started_at);
    let signatures: Vec<_> = secrets
        .filter(|secret| secret.since <= *started_at)
        .map(|_| format!("v1,{SECRET}"))
        .collect();
    if !signatures.is_empty() {
        add("webhook-timestamp", started_at.epoch_seconds());
        add("webhook-signature", signatures.join(" "));
    }
    add("harkara-attempt", number(history, attempt).to_string());
    add("harkara-sequence", delivery.sequence.to_string());
    for (name, _) in &endpoint.headers {
        add(&name.to_lowercase(), SECRET.to_owned());
    }
    headers
}

/// Whether anything of a request went out: all of it did, or there is an answer, or it broke off.
fn was_sent(attempt: &AttemptRow) -> bool {
    let broke_off = [Failure::WriteFailed, Failure::WriteTimeout];
    let failure = attempt.failure.as_deref();
    attempt.evidence.write_us.is_some()
        || attempt.status.is_some()
        || broke_off.iter().any(|it| failure == Some(it.code()))
}

/// Which attempt an attempt was, as it was told when it began: late ones were never counted.
fn number(history: &DeliveryHistory, attempt: &AttemptView) -> usize {
    let began = attempt.attempt.started_at;
    let ended = |it: &AttemptRow| {
        let took = u64::try_from(it.duration_us).unwrap_or_default();
        it.started_at.plus(Duration::from_micros(took))
    };
    let counted = history.attempts.iter().filter(|it| !it.late);
    1 + match attempt.late {
        true => counted.filter(|it| ended(&it.attempt) <= began).count(),
        false => counted.filter(|it| it.n < attempt.n).count(),
    }
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
