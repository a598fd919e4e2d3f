//! Endpoints: where a merchant wants its events, with which credentials, and which of them.
//!
//! The rules for what an endpoint may be set to live here, and `wants()`, which decides whether an
//! event is for it. The API checks settings with them, `plan()` asks `wants()`. Dialling, which
//! URLs may be dialled, and sealing secrets are the body's business.

mod rotation;

use std::collections::BTreeMap;

use harkara_webhook::{EventName, WebhookVersion, catalog};
use serde::{Deserialize, Serialize};

use crate::delivery::Withheld;
use crate::id::{EndpointId, MerchantId};
use crate::retry::Ladder;
use crate::time::Timestamp;

use self::rotation::MAX_OVERLAP_SECONDS;
pub use self::rotation::{
    DEFAULT_OVERLAP, PreviousCredentials, SigningSecret, check_overlap, refuses_credentials,
};

/// A secret that was encrypted for the row it lies in; only the body's vault can open it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed")
    }
}

/// A merchant's URL with its credentials, version and habits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub merchant_id: MerchantId,
    pub endpoint_id: EndpointId,
    /// In the normalised form that `Url` prints.
    pub url: String,
    pub username: String,
    pub password: Sealed,
    /// The pair before this one, while it changes over.
    #[serde(default)]
    pub previous_credentials: Option<PreviousCredentials>,
    /// Newest first; without one, nothing is signed.
    #[serde(default)]
    pub signing_secrets: Vec<SigningSecret>,
    pub version: WebhookVersion,
    /// Switches that a person set; an event without one follows the catalogue's default.
    pub switches: BTreeMap<EventName, bool>,
    /// Extra request headers, in the order given.
    pub headers: Vec<(String, String)>,
    pub ladder: Ladder,
    pub success: SuccessRule,
    pub order: OrderMode,
    /// The longest that one attempt may take, 1 to 60.
    pub timeout_seconds: u8,
    /// How many attempts may be started in a second; `None` for as many as it takes well.
    #[serde(default)]
    pub rate_per_second: Option<u32>,
    /// Authorities that its server's certificate may come from, besides the platform's, as PEM.
    #[serde(default)]
    pub ca_pem: Option<String>,
    pub state: EndpointState,
    pub created_at: Timestamp,
}

/// Whether an endpoint is being called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EndpointState {
    Active,
    /// Its deliveries wait. `reason` is a sentence for people.
    Paused {
        reason: String,
        at: Timestamp,
    },
    /// The same, because it did nothing but fail for days.
    Disabled {
        reason: String,
        at: Timestamp,
    },
}

/// Which status codes count as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessRule {
    /// Exactly 200, as the page says.
    #[default]
    #[serde(rename = "only_200")]
    Only200,
    /// 200 to 299.
    #[serde(rename = "any_2xx")]
    Any2xx,
}

/// What a delivery waits for, among those of the same endpoint and subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderMode {
    /// The first outcome of the one before it.
    #[default]
    Hold,
    /// The one before it being settled for good.
    Strict,
    /// Nothing.
    None,
}

impl Endpoint {
    /// Whether the event is for this endpoint, or the reason why not. The version is asked first: a
    /// switch cannot bring an event that the version does not have.
    pub fn wants(&self, name: EventName) -> Result<(), Withheld> {
        if !catalog::admits(self.version, name) {
            return Err(Withheld::Version {
                needs: catalog::since(name),
                has: self.version,
            });
        }
        match self.switches.get(&name) {
            Some(true) => Ok(()),
            Some(false) => Err(Withheld::SwitchedOff),
            None if catalog::opt_in(name) => Err(Withheld::NotSubscribed),
            None => Ok(()),
        }
    }
}

/// The longest username and the longest password, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 255;
/// What a username must not contain, beside whitespace, control characters and non-ASCII. The colon
/// is where receivers split the pair.
const FORBIDDEN_IN_USERNAME: &str = "@!#$%&'*+-/=?^_.{|}~`:";

const MAX_HEADERS: usize = 16;
const MAX_HEADER_NAME_BYTES: usize = 128;
const MAX_HEADER_VALUE_BYTES: usize = 1024;
/// Headers that frame the message, steer proxies, or are ours to set; in lower case.
const RESERVED_HEADERS: [&str; 11] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_HEADER_PREFIXES: [&str; 4] = ["content-", "harkara-", "proxy-", "webhook-"];

const MAX_TIMEOUT_SECONDS: u8 = 60;
const MAX_RATE_PER_SECOND: u32 = 10_000;

/// What an endpoint may not be set to, and why. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointRefusal {
    #[error("the username must not be empty; use letters and digits")]
    UsernameEmpty,
    #[error(
        "the username must not be longer than {MAX_CREDENTIAL_BYTES} bytes, and has {bytes}; \
         shorten it"
    )]
    UsernameLength { bytes: usize },
    #[error(
        "the username must not contain {character:?} at position {position}; use letters and digits"
    )]
    UsernameCharacter { character: char, position: usize },
    #[error("the password must not be empty; choose a long random one")]
    PasswordEmpty,
    #[error(
        "the password must not be longer than {MAX_CREDENTIAL_BYTES} bytes, and has {bytes}; \
         shorten it"
    )]
    PasswordLength { bytes: usize },
    #[error(
        "the password must not contain the control character {character:?} at position {position}; \
         remove it"
    )]
    PasswordCharacter { character: char, position: usize },
    #[error(
        "there must not be more than {MAX_HEADERS} headers, and there are {count}; remove some"
    )]
    HeaderCount { count: usize },
    #[error(
        "a header's name must have 1 to {MAX_HEADER_NAME_BYTES} bytes, and number {number} has \
         {bytes}"
    )]
    HeaderNameLength { number: usize, bytes: usize },
    #[error(
        "the header name {name:?} must not contain {character:?} at position {position}; use \
         letters, digits and '-'"
    )]
    HeaderName {
        name: String,
        character: char,
        position: usize,
    },
    #[error("the header {name:?} is set by the sender or frames the message; use another name")]
    HeaderReserved { name: String },
    #[error(
        "the value of header {name:?} must not be longer than {MAX_HEADER_VALUE_BYTES} bytes, and \
         has {bytes}; shorten it"
    )]
    HeaderValueLength { name: String, bytes: usize },
    #[error(
        "the value of header {name:?} must not contain {character:?} at position {position}; use \
         visible ASCII characters, with spaces only between them"
    )]
    HeaderValue {
        name: String,
        character: char,
        position: usize,
    },
    #[error("the timeout must be 1 to {MAX_TIMEOUT_SECONDS} seconds, and is {seconds}")]
    Timeout { seconds: u64 },
    #[error("the rate must be 1 to {MAX_RATE_PER_SECOND} attempts a second, and is {rate}")]
    Rate { rate: u64 },
    #[error("the overlap must be 0 to {MAX_OVERLAP_SECONDS} seconds (7 days), and is {seconds}")]
    Overlap { seconds: u64 },
}

/// What a password may contain although some receivers are known to stumble over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordWarning {
    #[error(
        "the password contains ':'; receivers that split the credentials at every ':' will refuse it"
    )]
    Colon,
    #[error(
        "the password contains characters outside ASCII; receivers that decode the credentials as \
         ASCII will refuse it"
    )]
    NonAscii,
}

/// Refuses usernames that a receiver could not tell from the password, or that the payment page
/// forbids.
pub fn check_username(username: &str) -> Result<(), EndpointRefusal> {
    if username.is_empty() {
        return Err(EndpointRefusal::UsernameEmpty);
    }
    let forbidden = |c: char| {
        !c.is_ascii()
            || c.is_ascii_control()
            || c.is_ascii_whitespace()
            || FORBIDDEN_IN_USERNAME.contains(c)
    };
    if let Some((character, position)) = first(username, forbidden) {
        return Err(EndpointRefusal::UsernameCharacter {
            character,
            position,
        });
    }
    let bytes = username.len();
    if bytes > MAX_CREDENTIAL_BYTES {
        return Err(EndpointRefusal::UsernameLength { bytes });
    }
    Ok(())
}

/// Refuses passwords that cannot be sent; `Ok` carries what may still trouble a receiver.
pub fn check_password(password: &str) -> Result<Vec<PasswordWarning>, EndpointRefusal> {
    if password.is_empty() {
        return Err(EndpointRefusal::PasswordEmpty);
    }
    if let Some((character, position)) = first(password, char::is_control) {
        return Err(EndpointRefusal::PasswordCharacter {
            character,
            position,
        });
    }
    let bytes = password.len();
    if bytes > MAX_CREDENTIAL_BYTES {
        return Err(EndpointRefusal::PasswordLength { bytes });
    }
    let mut warnings = Vec::new();
    if password.contains(':') {
        warnings.push(PasswordWarning::Colon);
    }
    if !password.is_ascii() {
        warnings.push(PasswordWarning::NonAscii);
    }
    Ok(warnings)
}

/// Refuses headers that are malformed, too large, or not a merchant's to set.
pub fn check_headers(headers: &[(String, String)]) -> Result<(), EndpointRefusal> {
    if headers.len() > MAX_HEADERS {
        return Err(EndpointRefusal::HeaderCount {
            count: headers.len(),
        });
    }
    for (index, (name, value)) in headers.iter().enumerate() {
        check_header_name(index + 1, name)?;
        check_header_value(name, value)?;
    }
    Ok(())
}

fn check_header_name(number: usize, name: &str) -> Result<(), EndpointRefusal> {
    let bytes = name.len();
    if bytes == 0 || bytes > MAX_HEADER_NAME_BYTES {
        return Err(EndpointRefusal::HeaderNameLength { number, bytes });
    }
    let no_token = |c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
    if let Some((character, position)) = first(name, no_token) {
        return Err(EndpointRefusal::HeaderName {
            name: name.to_owned(),
            character,
            position,
        });
    }
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_HEADER_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix));
    if reserved {
        return Err(EndpointRefusal::HeaderReserved {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn check_header_value(name: &str, value: &str) -> Result<(), EndpointRefusal> {
    let bytes = value.len();
    if bytes > MAX_HEADER_VALUE_BYTES {
        return Err(EndpointRefusal::HeaderValueLength {
            name: name.to_owned(),
            bytes,
        });
    }
    // A space at either end would be trimmed on the way, so that what arrives is not what was set.
    let outer_space = if value.starts_with(' ') {
        Some((' ', 1))
    } else if value.ends_with(' ') {
        Some((' ', value.chars().count()))
    } else {
        None
    };
    let invisible = first(value, |c| !(c == ' ' || c.is_ascii_graphic()));
    if let Some((character, position)) = invisible.or(outer_space) {
        return Err(EndpointRefusal::HeaderValue {
            name: name.to_owned(),
            character,
            position,
        });
    }
    Ok(())
}

/// Refuses timeouts outside 1 to 60 seconds; `Ok` carries the number in its final type.
pub fn check_timeout(seconds: u64) -> Result<u8, EndpointRefusal> {
    match u8::try_from(seconds) {
        Ok(short @ 1..=MAX_TIMEOUT_SECONDS) => Ok(short),
        Ok(_) | Err(_) => Err(EndpointRefusal::Timeout { seconds }),
    }
}

/// Refuses rates outside 1 to 10,000 a second; `Ok` carries the number in its final type.
pub fn check_rate(rate: u64) -> Result<u32, EndpointRefusal> {
    match u32::try_from(rate) {
        Ok(fine @ 1..=MAX_RATE_PER_SECOND) => Ok(fine),
        Ok(_) | Err(_) => Err(EndpointRefusal::Rate { rate }),
    }
}

/// The first offending character and its position.
fn first(text: &str, offends: impl Fn(char) -> bool) -> Option<(char, usize)> {
    text.chars()
        .zip(1..)
        .find(|&(character, _)| offends(character))
}

#[cfg(test)]
mod tests;
