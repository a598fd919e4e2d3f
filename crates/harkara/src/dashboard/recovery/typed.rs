//! What a replay is asked for, as it stands in a form, and the way from there to what the API takes.
//!
//! Whatever was typed is kept as it was typed, so that a refusal loses none of it.

use std::collections::BTreeSet;

use harkara_core::replay::Standing;
use harkara_webhook::EventName;

use crate::api::replays::Asked;
use crate::dashboard::fields::{self, Fields};
use crate::error::ApiError;

/// What a form holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) endpoint_id: String,
    pub(super) to_endpoint_id: String,
    pub(super) event_names: BTreeSet<EventName>,
    pub(super) states: BTreeSet<Standing>,
    /// Fields with words in them that are none: dropped, they would ask for more than was meant.
    unknown: Vec<(&'static str, String)>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) rate: String,
}

/// As it is asked for when nobody says anything: what was never delivered.
impl Default for Typed {
    fn default() -> Self {
        Self {
            endpoint_id: String::new(),
            to_endpoint_id: String::new(),
            event_names: BTreeSet::new(),
            states: Standing::LOST.into(),
            unknown: Vec::new(),
            from: String::new(),
            to: String::new(),
            rate: String::new(),
        }
    }
}

/// What became of a delivery, as the API says it.
pub(super) fn word(standing: Standing) -> String {
    fields::word(&standing).unwrap_or_default()
}

impl Typed {
    /// As it was sent.
    pub(super) fn sent(fields: &Fields) -> Self {
        let text = |name: &str| fields.get(name).unwrap_or_default().to_owned();
        let mut typed = Self {
            endpoint_id: text("endpoint_id"),
            to_endpoint_id: text("to_endpoint_id"),
            event_names: BTreeSet::new(),
            states: BTreeSet::new(),
            unknown: Vec::new(),
            from: text("from"),
            to: text("to"),
            rate: text("rate"),
        };
        for name in fields.all("event_names") {
            match name.parse() {
                Ok(known) => drop(typed.event_names.insert(known)),
                Err(_) => typed.unknown.push(("event_names", name.to_owned())),
            }
        }
        for state in fields.all("states") {
            match serde_json::from_value(state.into()) {
                Ok(known) => drop(typed.states.insert(known)),
                Err(_) => typed.unknown.push(("states", state.to_owned())),
            }
        }
        typed
    }

    /// The same again, for a form that carries it on.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("endpoint_id", self.endpoint_id.clone()),
            ("to_endpoint_id", self.to_endpoint_id.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("rate", self.rate.clone()),
        ];
        pairs.retain(|(_, value)| !value.is_empty());
        let names = self.event_names.iter();
        pairs.extend(names.map(|name| ("event_names", name.to_string())));
        let states = self.states.iter();
        pairs.extend(states.map(|state| ("states", word(*state))));
        pairs
    }

    /// For the audit log.
    pub(super) fn in_words(&self) -> String {
        let pairs = self.pairs();
        let words = pairs.iter().filter(|(name, _)| *name != "endpoint_id");
        let words: Vec<_> = words
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        words.join("; ")
    }

    /// What the API takes for it.
    pub(super) fn asked(&self) -> Result<Asked, ApiError> {
        if let Some((field, text)) = self.unknown.first() {
            return Err(ApiError::field(
                field,
                format!("'{text}' is none that there is"),
            ));
        }
        if self.states.is_empty() {
            return Err(ApiError::field("states", "are none: tick at least one"));
        }
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let rate = given(&self.rate).map(|rate| {
            let reason = format!("'{rate}' is not a whole number");
            rate.parse().map_err(|_| ApiError::field("rate", reason))
        });
        Ok(Asked {
            endpoint_id: self.endpoint_id.clone(),
            to_endpoint_id: given(&self.to_endpoint_id),
            event_names: self.event_names.clone(),
            states: Some(self.states.clone()),
            from: given(&self.from).map(moment),
            to: given(&self.to).map(moment),
            rate: rate.transpose()?,
        })
    }
}

/// A moment as browsers send one, in UTC, as the API takes it.
fn moment(typed: String) -> String {
    match typed.len() {
        16 => format!("{typed}:00Z"),
        19 => format!("{typed}Z"),
        _ => typed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_back_as_it_was_sent() {
        let sent = b"endpoint_id=ep_1&from=2026-11-29T10%3A00&states=exhausted&states=delivered\
            &event_names=ORDER_SUCCEEDED&rate=7";
        let typed = Typed::sent(&Fields::parse(sent));
        let again: Fields = typed
            .pairs()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(Typed::sent(&again), typed);
        let asked = typed.asked().unwrap();
        assert_eq!(asked.from.as_deref(), Some("2026-11-29T10:00:00Z"));
        assert_eq!(asked.rate, Some(7));
        insta::assert_snapshot!(
            typed.in_words(),
            @"from 2026-11-29T10:00; rate 7; event_names ORDER_SUCCEEDED; states exhausted; states delivered"
        );
    }

    #[test]
    fn a_name_that_is_none_asks_for_nothing_rather_than_for_all() {
        for sent in [
            "event_names=ORDER_EATEN&states=exhausted",
            "states=lost",
            "endpoint_id=ep",
        ] {
            let typed = Typed::sent(&Fields::parse(sent.as_bytes()));
            assert!(typed.asked().is_err(), "{sent}");
        }
    }
}
