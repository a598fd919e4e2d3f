//! Receiving: is this call from the platform, and what does it say?
//!
//! The check of the credentials comes before the body is looked at and takes the same time for
//! every wrong password. No bytes can make it panic. Remembering which events were handled is the
//! business of `seen.rs`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq};

use crate::event::Event;

#[cfg(feature = "axum")]
mod extract;

/// The username and password that the platform sends with every call.
#[derive(Clone)]
pub struct BasicCredentials {
    /// What follows the word `Basic`.
    token: String,
}

impl BasicCredentials {
    /// The credentials as they are set in the endpoint's settings.
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            token: STANDARD.encode(format!("{username}:{password}")),
        }
    }

    /// Whether an `Authorization` header carries them.
    pub fn check(&self, authorization_header: Option<&str>) -> bool {
        self.compare(authorization_header).into()
    }

    /// Only the length of a header can be told from the time this takes.
    fn compare(&self, authorization_header: Option<&str>) -> Choice {
        let (scheme, token) = authorization_header
            .and_then(|header| header.split_once(' '))
            .unwrap_or_default();
        let basic = u8::from(scheme.eq_ignore_ascii_case("Basic"));
        Choice::from(basic)
            & token
                .trim_matches(' ')
                .as_bytes()
                .ct_eq(self.token.as_bytes())
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicCredentials")
    }
}

/// Takes calls from the platform: one per merchant, made once and shared.
#[derive(Clone, Debug)]
pub struct Receiver {
    accepted: Vec<BasicCredentials>,
}

/// An event whose sender has been checked.
///
/// With the feature `axum` it is an extractor.
#[derive(Clone, Debug, PartialEq)]
pub struct Received(pub Event);

/// Why a call is no event; the platform will try it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Not from the platform, or the password here is not the one in its settings.
    #[error(
        "receive an event: the Authorization header does not carry the expected username and \
         password"
    )]
    Unauthorized,
    /// The body is something else.
    #[error("receive an event: the body is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// The body is JSON, but an array, a text or a number.
    #[error("receive an event: the body is not a JSON object")]
    NotAnObject,
    /// Without an id, a repeat could not be told from the first.
    #[error("receive an event: the body has no text under `id`")]
    MissingId,
    /// Without a name, nobody knows what happened.
    #[error("receive an event: the body has no text under `event_name`")]
    MissingEventName,
}

impl Receiver {
    /// A receiver that accepts these credentials.
    pub fn new(credentials: BasicCredentials) -> Self {
        Self {
            accepted: vec![credentials],
        }
    }

    /// Accepts these credentials too: the old ones and the new, while a password changes.
    #[must_use]
    pub fn also(mut self, credentials: BasicCredentials) -> Self {
        self.accepted.push(credentials);
        self
    }

    /// Checks the sender, then reads the event.
    ///
    /// # Errors
    /// If the credentials are wrong or the body is no event; see [`ReceiveError`].
    pub fn receive(
        &self,
        authorization_header: Option<&str>,
        body: &[u8],
    ) -> Result<Received, ReceiveError> {
        self.authorize(authorization_header)?;
        Event::parse(body).map(Received)
    }

    /// Compares with all that are accepted, so that the time does not tell which one matched.
    fn authorize(&self, authorization_header: Option<&str>) -> Result<(), ReceiveError> {
        let matched = self
            .accepted
            .iter()
            .map(|credentials| credentials.compare(authorization_header))
            .fold(Choice::from(0), |any, this| any | this);
        if matched.into() {
            Ok(())
        } else {
            Err(ReceiveError::Unauthorized)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_has_to_match() {
        let credentials = BasicCredentials::new("shop", "pass:word");
        let check = |header: &str| credentials.check(Some(header));
        assert!(check("Basic c2hvcDpwYXNzOndvcmQ="));
        assert!(check("basic  c2hvcDpwYXNzOndvcmQ="));
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Bearer c2hvcDpwYXNzOndvcmQ=",
            "c2hvcDpwYXNzOndvcmQ=",
            "Basic c2hvcDpwYXNzOndvcmQ",
            "Basic c2hvcDpwYXNzOndvcmR=",
            "Basic c2hvcDpwYXNz",
        ] {
            assert!(!check(wrong), "{wrong}");
        }
        assert!(!credentials.check(None));
    }

    #[test]
    fn both_passwords_work_while_one_replaces_the_other() {
        let receiver = Receiver::new(BasicCredentials::new("shop", "old"))
            .also(BasicCredentials::new("shop", "new"));
        let body = br#"{"id":"evt_1","event_name":"ORDER_SUCCEEDED"}"#;
        for (header, accepted) in [
            ("Basic c2hvcDpvbGQ=", true),
            ("Basic c2hvcDpuZXc=", true),
            ("Basic c2hvcDpub25l", false),
        ] {
            assert_eq!(receiver.receive(Some(header), body).is_ok(), accepted);
        }
    }

    #[test]
    fn strangers_learn_nothing_from_the_body() {
        let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
        let error = receiver.receive(None, b"not an event").unwrap_err();
        assert!(matches!(error, ReceiveError::Unauthorized));
        assert!(!format!("{receiver:?}").contains("c2hvcD"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            header in proptest::option::of(".*"),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
            prop_assert!(receiver.receive(header.as_deref(), &body).is_err());
            let _ = Event::parse(&body);
        }
    }
}
