//! One attempt from a claimed delivery: look its endpoint up, open its password, send, write down.
//!
//! Knows how a delivery becomes a request and an answer becomes evidence. When there is nothing to
//! send to (paused, gone, unreadable), no attempt is spent: the claim goes back.

use std::sync::Arc;
use std::time::Duration;

use harkara_core::delivery::{self, DeliveryKind, Failure, Outcome};
use harkara_core::endpoint::{Endpoint, EndpointState, SuccessRule};
use harkara_core::time::Timestamp;

use http::HeaderValue;

use super::dispatcher::{Ended, Input, Unsent};
use super::transport::{Answer, Request, Transport, basic_header};
use crate::clock::Clock;
use crate::store::{AttemptRow, Claimed, Evidence, Store};
use crate::vault::{Context, Vault, VaultError};

/// Makes attempts.
pub struct Attempter {
    pub store: Store,
    pub vault: Arc<Vault>,
    pub transport: Arc<dyn Transport>,
    pub clock: Clock,
}

impl Attempter {
    /// Makes an attempt and says what there is to tell the dispatcher.
    pub async fn attempt(&self, claimed: Claimed) -> Input {
        let Some(endpoint) = self.endpoint(&claimed).await else {
            return Input::Unsent(Box::new(Unsent::of(&claimed)));
        };
        let started_at = self.clock.now();
        let url = claimed
            .url_override
            .as_ref()
            .unwrap_or(&endpoint.url)
            .clone();
        let answer = match self.authorization(&endpoint) {
            Ok(authorization) => {
                let request = self.request(&claimed, &endpoint, authorization);
                self.transport.send(request).await
            }
            Err(error) => {
                tracing::error!(endpoint.id = %endpoint.endpoint_id, %error, "failed to open a password");
                Answer::failed(Failure::Internal)
            }
        };
        let attempt = attempt_row(url, started_at, &claimed, &answer);
        log_failure(&claimed, endpoint.success, &answer);
        let outcome = answer.outcome;
        Input::Ended(Box::new(Ended {
            claimed,
            endpoint,
            outcome,
            attempt,
        }))
    }

    /// The endpoint as it is now, if it is to be called.
    async fn endpoint(&self, claimed: &Claimed) -> Option<Arc<Endpoint>> {
        let endpoints = match self.store.endpoints(&claimed.merchant_id).await {
            Ok(endpoints) => endpoints,
            Err(error) => {
                tracing::error!(delivery.id = %claimed.delivery_id, %error, "failed to read an endpoint");
                return None;
            }
        };
        let found = endpoints
            .iter()
            .find(|endpoint| endpoint.endpoint_id == claimed.endpoint_id);
        // A test is how one finds out whether a paused endpoint is well again.
        let may_call = |endpoint: &&Arc<Endpoint>| {
            endpoint.state == EndpointState::Active || claimed.kind == DeliveryKind::Test
        };
        found.filter(may_call).cloned()
    }

    fn authorization(&self, endpoint: &Endpoint) -> Result<HeaderValue, VaultError> {
        let context = Context::endpoint_password(&endpoint.merchant_id, &endpoint.endpoint_id);
        let password = self.vault.open(context, &endpoint.password)?;
        let password = std::str::from_utf8(&password).map_err(|_| VaultError::Malformed)?;
        Ok(basic_header(&endpoint.username, password))
    }

    fn request(
        &self,
        claimed: &Claimed,
        endpoint: &Endpoint,
        authorization: HeaderValue,
    ) -> Request {
        let mut headers = vec![
            ("webhook-id".to_owned(), claimed.event_id.to_string()),
            (
                "harkara-attempt".to_owned(),
                (claimed.attempts + 1).to_string(),
            ),
            ("harkara-sequence".to_owned(), claimed.sequence.to_string()),
        ];
        headers.extend(endpoint.headers.iter().cloned());
        Request {
            endpoint_id: endpoint.endpoint_id.clone(),
            url: claimed
                .url_override
                .as_ref()
                .unwrap_or(&endpoint.url)
                .clone(),
            authorization,
            headers,
            body: claimed.body.clone(),
            timeout: Duration::from_secs(u64::from(endpoint.timeout_seconds)),
        }
    }
}

fn attempt_row(
    url: String,
    started_at: Timestamp,
    claimed: &Claimed,
    answer: &Answer,
) -> AttemptRow {
    let timings = &answer.timings;
    let evidence = Evidence {
        url,
        overtaking: claimed.overtaking,
        dns_us: timings.dns_us,
        connect_us: timings.connect_us,
        tls_us: timings.tls_us,
        write_us: timings.write_us,
        first_byte_us: timings.first_byte_us,
        answer_headers: answer.headers.clone(),
        answer_body: String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let (status, failure) = match &answer.outcome {
        Outcome::Answered { status, .. } => (Some(*status), None),
        Outcome::Failed(failure) => (None, Some(failure.code().to_owned())),
    };
    AttemptRow {
        started_at,
        duration_us: i64::try_from(timings.total_us).unwrap_or(i64::MAX),
        status,
        failure,
        doc: serde_json::to_string(&evidence).expect("evidence prints as JSON"),
    }
}

/// One line for what went wrong. A success is in its row, and on no hot path twice.
fn log_failure(claimed: &Claimed, rule: SuccessRule, answer: &Answer) {
    if let Outcome::Answered { status, .. } = answer.outcome
        && delivery::accepted(rule, status)
    {
        return;
    }
    tracing::info!(
        merchant.id = %claimed.merchant_id,
        event.id = %claimed.event_id,
        delivery.id = %claimed.delivery_id,
        attempt = claimed.attempts + 1,
        outcome = answer.outcome.code(),
        duration_us = answer.timings.total_us,
        "an attempt failed"
    );
}
