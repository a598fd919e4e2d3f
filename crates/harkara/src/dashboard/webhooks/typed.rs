//! The settings of an endpoint as they stand in a form, and the way from there to what the API takes.
//!
//! Whatever was typed is kept as it was typed, so that a refusal loses none of it. Nothing is checked
//! here: what comes out is read by the API's own reader, which says what is wrong with which field.

use harkara_core::endpoint::Endpoint;
use harkara_webhook::EventName;
use serde_json::{Map, Value, json};

use crate::api::endpoints::Settings;
use crate::dashboard::fields::{Fields, word};
use crate::error::ApiError;

/// What a form holds, but for the password, which is only ever written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) url: String,
    pub(super) username: String,
    pub(super) webhook_version: String,
    /// `default`, `on` or `off` for each event.
    pub(super) switches: Vec<(EventName, String)>,
    pub(super) headers: String,
    pub(super) ladder: String,
    pub(super) steps: String,
    pub(super) success: String,
    pub(super) order: String,
    pub(super) timeout_seconds: String,
    pub(super) rate_per_second: String,
    pub(super) ca_pem: String,
    pub(super) overlap_seconds: String,
}

/// What a form calls the switch of an event.
pub(super) fn switch_name(name: EventName) -> String {
    format!("switch.{name}")
}

impl Typed {
    /// As an endpoint is set.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let switch = |name: &EventName| match endpoint.switches.get(name) {
            None => "default",
            Some(true) => "on",
            Some(false) => "off",
        };
        let headers = endpoint.headers.iter();
        let steps = endpoint.ladder.steps_seconds().iter();
        Self {
            url: endpoint.url.clone(),
            username: endpoint.username.clone(),
            webhook_version: endpoint.version.to_string(),
            switches: EventName::ALL
                .iter()
                .map(|name| (*name, switch(name).to_owned()))
                .collect(),
            headers: headers
                .map(|(name, value)| format!("{name}: {value}\n"))
                .collect(),
            ladder: word(&endpoint.ladder).unwrap_or("custom".to_owned()),
            steps: steps.map(u32::to_string).collect::<Vec<_>>().join(", "),
            success: word(&endpoint.success).unwrap_or_default(),
            order: word(&endpoint.order).unwrap_or_default(),
            timeout_seconds: endpoint.timeout_seconds.to_string(),
            rate_per_second: endpoint
                .rate_per_second
                .map_or(String::new(), |n| n.to_string()),
            ca_pem: endpoint.ca_pem.clone().unwrap_or_default(),
            overlap_seconds: "86400".to_owned(),
        }
    }

    /// As it was sent.
    pub(super) fn sent(form: &Fields) -> Self {
        let text = |name: &str| form.raw(name).unwrap_or_default().trim().to_owned();
        let switches = EventName::ALL
            .iter()
            .map(|name| (*name, text(&switch_name(*name))));
        Self {
            url: text("url"),
            username: text("username"),
            webhook_version: text("webhook_version"),
            switches: switches.collect(),
            headers: text("headers"),
            ladder: text("ladder"),
            steps: text("steps"),
            success: text("success"),
            order: text("order"),
            timeout_seconds: text("timeout_seconds"),
            rate_per_second: text("rate_per_second"),
            ca_pem: text("ca_pem"),
            overlap_seconds: text("overlap_seconds"),
        }
    }

    /// What the API takes for it. `before` is the endpoint that is changed, if there is one; a password
    /// that is not typed stays as it is.
    pub(super) fn settings(
        &self,
        password: Option<&str>,
        before: Option<&Endpoint>,
    ) -> Result<Settings, ApiError> {
        let mut settings = json!({
            "url": self.url,
            "username": self.username,
            "webhook_version": self.webhook_version,
            "events": self.events(),
            "headers": self.header_members()?,
            "ladder": self.ladder()?,
            "success": self.success,
            "order": self.order,
            "timeout_seconds": number("timeout_seconds", &self.timeout_seconds)?,
            "rate_per_second": match self.rate_per_second.as_str() {
                "" => Value::Null,
                rate => number("rate_per_second", rate)?,
            },
            "ca_pem": match self.ca_pem.as_str() {
                "" => Value::Null,
                pem => format!("{pem}\n").into(),
            },
        });
        if let Some(password) = password {
            settings["password"] = password.into();
        }
        let changes = |before: &Endpoint| password.is_some() || before.username != self.username;
        if before.is_some_and(changes) && !self.overlap_seconds.is_empty() {
            settings["overlap_seconds"] = number("overlap_seconds", &self.overlap_seconds)?;
        }
        Settings::read(&settings)
    }

    fn events(&self) -> Map<String, Value> {
        let switch = |word: &str| match word {
            "on" => Value::Bool(true),
            "off" => Value::Bool(false),
            _ => Value::Null,
        };
        self.switches
            .iter()
            .map(|(name, word)| (name.to_string(), switch(word)))
            .collect()
    }

    fn header_members(&self) -> Result<Map<String, Value>, ApiError> {
        let mut members = Map::new();
        for line in self.headers.lines().filter(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                let reason = format!("'{}' is not a name, a colon and a value", line.trim());
                return Err(ApiError::field("headers", reason));
            };
            let name = name.trim().to_owned();
            if members.insert(name.clone(), value.trim().into()).is_some() {
                return Err(ApiError::field(
                    "headers",
                    format!("'{name}' is there twice"),
                ));
            }
        }
        Ok(members)
    }

    fn ladder(&self) -> Result<Value, ApiError> {
        if self.ladder != "custom" {
            return Ok(self.ladder.as_str().into());
        }
        let steps = self.steps.split([',', ' ', '\n']).map(str::trim);
        let steps = steps.filter(|step| !step.is_empty());
        steps.map(|step| number("ladder", step)).collect()
    }
}

fn number(field: &str, text: &str) -> Result<Value, ApiError> {
    let number: Result<u64, _> = text.parse();
    number
        .map(Value::from)
        .map_err(|_| ApiError::field(field, format!("'{text}' is not a whole number")))
}
