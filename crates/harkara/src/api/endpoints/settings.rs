//! What an endpoint can be set to: the shape of it, and one check for each part.
//!
//! The rules are the core's, and the guard's for the URL; here they are asked, and a refusal becomes
//! an error about the field. `endpoints.rs` stores what comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use harkara_core::endpoint::{
    Endpoint, EndpointRefusal, EndpointState, OrderMode, Sealed, SuccessRule, check_headers,
    check_overlap, check_password, check_rate, check_timeout, check_username,
};
use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::retry::Ladder;
use harkara_core::time::Timestamp;
use harkara_webhook::{EventName, WebhookVersion};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::api::{Api, body};
use crate::deliver::{authorities, guard};
use crate::error::ApiError;
use crate::vault::Context;

/// What an endpoint is, or is to be, set to. What a change does not name stays as it is.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(super) url: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// Whether a signing secret is to be made up; only for an endpoint that is made.
    pub(crate) signing: Option<bool>,
    /// How long the credentials that are replaced stay good; only where there are some.
    pub(super) overlap_seconds: Option<u64>,
    webhook_version: Option<WebhookVersion>,
    /// `null` takes a switch away again, so that the catalogue's default holds.
    events: Option<BTreeMap<EventName, Option<bool>>>,
    headers: Option<Map<String, Value>>,
    ladder: Option<Ladder>,
    success: Option<SuccessRule>,
    order: Option<OrderMode>,
    timeout_seconds: Option<u64>,
    /// `null` takes the rate away.
    #[serde(deserialize_with = "named")]
    rate_per_second: Option<Option<u64>>,
    /// `null` takes them away.
    #[serde(deserialize_with = "named")]
    ca_pem: Option<Option<String>>,
}

impl Settings {
    /// Reads them as the body of a request would be.
    pub(crate) fn read(json: &Value) -> Result<Self, ApiError> {
        let depth = json.to_string().len();
        body::read(json.to_string().as_bytes(), depth)
    }
}

/// Tells a key that is null from one that is not there.
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// An endpoint that is set to nothing yet. `attempt_timeout` is the server's, for those that do not
/// say.
pub(super) fn blank(
    merchant_id: &MerchantId,
    endpoint_id: String,
    attempt_timeout: Duration,
    now: Timestamp,
) -> Endpoint {
    Endpoint {
        merchant_id: merchant_id.clone(),
        endpoint_id: EndpointId::new(endpoint_id),
        url: String::new(),
        username: String::new(),
        password: Sealed(String::new()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: WebhookVersion::LATEST,
        switches: BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: check_timeout(attempt_timeout.as_secs())
            .expect("the configuration takes the same numbers"),
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: now,
    }
}

/// Sets what is named, or says which of it cannot be. Returns what may trouble a receiver.
pub(super) fn apply(
    api: &Api,
    endpoint: &mut Endpoint,
    settings: Settings,
    now: Timestamp,
) -> Result<Vec<String>, ApiError> {
    if settings.signing.is_some() {
        let reason = "is for a new endpoint; POST /endpoints/{endpoint_id}/signing adds a secret";
        return Err(ApiError::field("signing", reason));
    }
    if let Some(url) = settings.url {
        let admitted = guard::admit(&url, &api.policy);
        endpoint.url = admitted
            .map_err(|why| url_refused("url", &why.to_string()))?
            .url;
    }
    let credentials = Credentials {
        username: settings.username,
        password: settings.password.map(Zeroizing::new),
        overlap: overlap(settings.overlap_seconds)?,
    };
    let warnings = set_credentials(api, endpoint, credentials, now)?;
    if let Some(headers) = settings.headers {
        let headers = headers
            .into_iter()
            .map(header)
            .collect::<Result<Vec<_>, _>>()?;
        check_headers(&headers).map_err(refused("headers"))?;
        refuse_same(&headers)?;
        endpoint.headers = headers;
    }
    if let Some(seconds) = settings.timeout_seconds {
        endpoint.timeout_seconds = check_timeout(seconds).map_err(refused("timeout_seconds"))?;
    }
    if let Some(rate) = settings.rate_per_second {
        let rate = rate.map(check_rate).transpose();
        endpoint.rate_per_second = rate.map_err(refused("rate_per_second"))?;
    }
    if let Some(pem) = settings.ca_pem {
        let read = pem.as_deref().map(authorities::read).transpose();
        read.map_err(|why| ApiError::field("ca_pem", why.to_string()))?;
        endpoint.ca_pem = pem;
    }
    for (name, switch) in settings.events.unwrap_or_default() {
        match switch {
            Some(sent) => drop(endpoint.switches.insert(name, sent)),
            None => drop(endpoint.switches.remove(&name)),
        }
    }
    endpoint.version = settings.webhook_version.unwrap_or(endpoint.version);
    endpoint.success = settings.success.unwrap_or(endpoint.success);
    endpoint.order = settings.order.unwrap_or(endpoint.order);
    if let Some(ladder) = settings.ladder {
        endpoint.ladder = ladder;
    }
    Ok(warnings)
}

/// What of the Basic credentials is to change, and how long those before them stay good.
struct Credentials {
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    overlap: Option<Duration>,
}

fn set_credentials(
    api: &Api,
    endpoint: &mut Endpoint,
    new: Credentials,
    now: Timestamp,
) -> Result<Vec<String>, ApiError> {
    if new.username.is_none() && new.password.is_none() {
        return match new.overlap {
            Some(_) => Err(ApiError::field(
                "overlap_seconds",
                "is for new credentials; name a username or a password with it",
            )),
            None => Ok(Vec::new()),
        };
    }
    let username = new.username.unwrap_or_else(|| endpoint.username.clone());
    check_username(&username).map_err(refused("username"))?;
    let mut password = endpoint.password.clone();
    let mut warnings = Vec::new();
    if let Some(text) = new.password {
        let troubles = check_password(&text).map_err(refused("password"))?;
        warnings.extend(troubles.iter().map(ToString::to_string));
        let context = Context::endpoint_password(&endpoint.merchant_id, &endpoint.endpoint_id);
        password = api
            .vault
            .seal_once(context, Some(&password), text.as_bytes());
    }
    endpoint.change_credentials(username, password, new.overlap.unwrap_or_default(), now);
    Ok(warnings)
}

/// An overlap of a week at most.
pub(super) fn overlap(seconds: Option<u64>) -> Result<Option<Duration>, ApiError> {
    let checked = seconds.map(check_overlap).transpose();
    checked.map_err(refused("overlap_seconds"))
}

fn refused(name: &'static str) -> impl Fn(EndpointRefusal) -> ApiError {
    move |why| ApiError::field(name, why.to_string())
}

/// 422: a URL that is never called, with the guard's sentence.
pub(in crate::api) fn url_refused(field: &str, why: &str) -> ApiError {
    let mut error = ApiError::unprocessable("invalid.url", format!("{field}: {why}"));
    error.fields.push((field.to_owned(), why.to_owned()));
    error
}

/// Refuses names that only we would tell apart: to HTTP, case means nothing in them.
fn refuse_same(headers: &[(String, String)]) -> Result<(), ApiError> {
    let names = || headers.iter().map(|(name, _)| name).enumerate();
    for (n, name) in names() {
        if let Some((_, same)) = names().find(|(m, same)| *m > n && same.eq_ignore_ascii_case(name))
        {
            let reason = format!("'{name}' and '{same}' are the same header; keep one of them");
            return Err(ApiError::field("headers", reason));
        }
    }
    Ok(())
}

fn header((name, value): (String, Value)) -> Result<(String, String), ApiError> {
    match value {
        Value::String(value) => Ok((name, value)),
        _ => Err(ApiError::field(
            "headers",
            format!("the value of '{name}' is not text"),
        )),
    }
}
