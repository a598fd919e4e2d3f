//! One attempt from a claimed delivery: look its endpoint up, open its secrets, send, write down.
//!
//! Knows how a delivery becomes a request and an answer becomes evidence. When there is nothing to
//! send to (paused, gone, unreadable), no attempt is spent: the claim goes back.

use std::sync::Arc;
use std::time::Duration;

use harkara_core::delivery::{self, DeliveryKind, Failure, Outcome};
use harkara_core::endpoint::{Endpoint, EndpointState, Sealed, SuccessRule, refuses_credentials};
use harkara_core::time::Timestamp;

use http::header::{InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};

use super::dispatcher::{Ended, Input, Unsent};
use super::sign::{self, Secret};
use super::transport::{Answer, Request, Sent, Transport, basic_header};
use crate::clock::Clock;
use crate::store::{AttemptRow, Claimed, CredentialsUsed, Evidence, Store};
use crate::vault::{Context, Vault, VaultError};

/// Why a delivery cannot become a request.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error(transparent)]
    Secret(#[from] VaultError),
    #[error("use the name of a header: {0}; set the endpoint's headers anew")]
    Name(#[from] InvalidHeaderName),
    #[error("use the value of a header: {0}; set the endpoint's headers anew")]
    Value(#[from] InvalidHeaderValue),
}

/// Those of every attempt, signed ones included.
const OUR_HEADERS: usize = 5;

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
        // Others may be at it, or will be before this attempt could be settled.
        if !self.store.holds(&claimed) {
            return Input::Unsent(Box::new(Unsent::of(&claimed)));
        }
        let Some(endpoint) = self.endpoint(&claimed).await else {
            return Input::Unsent(Box::new(Unsent::of(&claimed)));
        };
        let started_at = self.clock.now();
        let url = claimed
            .url_override
            .as_ref()
            .unwrap_or(&endpoint.url)
            .clone();
        let (answer, credentials) = match self.request(&claimed, &endpoint, started_at) {
            Ok(request) => match self.send(request, &endpoint, started_at).await {
                Some(sent) => sent,
                None => return Input::Crowded(Box::new(claimed)),
            },
            Err(error) => {
                tracing::error!(endpoint.id = %endpoint.endpoint_id, %error, "failed to make a request");
                (Answer::failed(Failure::Internal), CredentialsUsed::Current)
            }
        };
        log_failure(&claimed, endpoint.success, &answer);
        let outcome = answer.outcome.clone();
        let attempt = attempt_row(url, started_at, &claimed, answer, credentials);
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

    /// Sends a request; while credentials change over, a receiver that refuses the present ones is
    /// asked once more with those before them. Both requests are one attempt and share its time. Where
    /// the address is crowded, nothing is sent.
    async fn send(
        &self,
        request: Request,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Option<(Answer, CredentialsUsed)> {
        let Some(previous) = endpoint.live_previous_credentials(now) else {
            return Some((self.call(request).await?, CredentialsUsed::Current));
        };
        let mut again = request.clone();
        let first = self.call(request).await?;
        let Some(time_left) = time_to_ask_again(again.timeout, &first) else {
            return Some((first, CredentialsUsed::Current));
        };
        match self.authorization(endpoint, &previous.username, &previous.password) {
            Ok(authorization) => {
                again.authorization = authorization;
                again.timeout = time_left;
                let Some(mut second) = self.call(again).await else {
                    return Some((first, CredentialsUsed::Current));
                };
                second.timings.total_us += first.timings.total_us;
                Some((second, CredentialsUsed::Previous))
            }
            Err(error) => {
                tracing::error!(endpoint.id = %endpoint.endpoint_id, %error, "failed to open a previous password");
                Some((first, CredentialsUsed::Current))
            }
        }
    }

    async fn call(&self, request: Request) -> Option<Answer> {
        match self.transport.send(request).await {
            Sent::Answer(answer) => Some(answer),
            Sent::Crowded => None,
        }
    }

    fn authorization(
        &self,
        endpoint: &Endpoint,
        username: &str,
        password: &Sealed,
    ) -> Result<HeaderValue, VaultError> {
        let context = Context::endpoint_password(&endpoint.merchant_id, &endpoint.endpoint_id);
        let password = self.vault.open(context, password)?;
        let password = std::str::from_utf8(&password).map_err(|_| VaultError::Malformed)?;
        Ok(basic_header(username, password))
    }

    fn signing_secrets(
        &self,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Result<Vec<Secret>, VaultError> {
        let context = Context::signing_secret(&endpoint.merchant_id, &endpoint.endpoint_id);
        endpoint
            .live_signing_secrets(now)
            .map(|live| {
                self.vault
                    .open(context, &live.secret)
                    .map(Secret::from_bytes)
            })
            .collect()
    }

    fn request(
        &self,
        claimed: &Claimed,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Result<Request, Unmade> {
        let id = claimed.event_id.as_str();
        let ours = HeaderName::from_static;
        let mut headers = Vec::with_capacity(OUR_HEADERS + endpoint.headers.len());
        headers.push((ours("webhook-id"), HeaderValue::from_str(id)?));
        let secrets = self.signing_secrets(endpoint, now)?;
        if !secrets.is_empty() {
            for (name, value) in sign::headers(id, now, &claimed.body, &secrets) {
                headers.push((name.parse()?, value.parse()?));
            }
        }
        headers.push((ours("harkara-attempt"), (claimed.attempts + 1).into()));
        headers.push((ours("harkara-sequence"), claimed.sequence.into()));
        for (name, value) in &endpoint.headers {
            headers.push((name.parse()?, value.parse()?));
        }
        Ok(Request {
            endpoint_id: endpoint.endpoint_id.clone(),
            url: claimed
                .url_override
                .as_ref()
                .unwrap_or(&endpoint.url)
                .clone(),
            authorization: self.authorization(endpoint, &endpoint.username, &endpoint.password)?,
            headers,
            body: claimed.body.clone(),
            ca_pem: endpoint.ca_pem.clone(),
            timeout: Duration::from_secs(u64::from(endpoint.timeout_seconds)),
        })
    }
}

/// What is left of an attempt for a second request with other credentials; none unless it was they
/// that were refused.
fn time_to_ask_again(timeout: Duration, answer: &Answer) -> Option<Duration> {
    let refused = match answer.outcome {
        Outcome::Answered { status, .. } => refuses_credentials(status),
        Outcome::Failed(_) => false,
    };
    let spent = Duration::from_micros(answer.timings.total_us);
    let left = timeout.checked_sub(spent)?;
    (refused && !left.is_zero()).then_some(left)
}

fn attempt_row(
    url: String,
    started_at: Timestamp,
    claimed: &Claimed,
    answer: Answer,
    credentials: CredentialsUsed,
) -> AttemptRow {
    let timings = answer.timings;
    let evidence = Evidence {
        url,
        overtaking: claimed.overtaking,
        credentials,
        dns_us: timings.dns_us,
        connect_us: timings.connect_us,
        tls_us: timings.tls_us,
        write_us: timings.write_us,
        first_byte_us: timings.first_byte_us,
        answer_headers: answer.headers,
        answer_body: String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let (status, failure) = match answer.outcome {
        Outcome::Answered { status, .. } => (Some(status), None),
        Outcome::Failed(failure) => (None, Some(failure.code().to_owned())),
    };
    AttemptRow {
        started_at,
        duration_us: i64::try_from(timings.total_us).unwrap_or(i64::MAX),
        status,
        failure,
        evidence,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_pair_leaves_what_the_first_request_did_not_take() {
        let timeout = Duration::from_secs(30);
        let left = |status, spent_ms: u64| {
            let mut answer = Answer::failed(Failure::Internal);
            answer.timings.total_us = spent_ms * 1_000;
            answer.outcome = Outcome::Answered {
                status,
                retry_after: None,
            };
            time_to_ask_again(timeout, &answer).map(|left| left.as_millis())
        };
        assert_eq!(left(401, 10_500), Some(19_500));
        assert_eq!(left(403, 0), Some(30_000));
        assert_eq!(left(401, 30_000), None);
        assert_eq!(left(401, 30_001), None);
        for other in [200, 400, 402, 404, 407, 500] {
            assert_eq!(left(other, 0), None, "{other}");
        }
        let silence = Answer::failed(Failure::HeadTimeout);
        assert_eq!(time_to_ask_again(timeout, &silence), None);
    }
}
