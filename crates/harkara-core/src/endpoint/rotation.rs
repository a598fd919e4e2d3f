//! How an endpoint's secrets change over without a webhook being refused.
//!
//! A signing secret goes on signing beside its successor, a pair of Basic credentials is tried after
//! its successor was refused, each until a moment that the merchant chose. The API calls what
//! changes, `deliver/` asks what is to be used now. Making and sealing secrets is the body's business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Endpoint, EndpointRefusal, Sealed};
use crate::time::Timestamp;

/// How long a signing secret goes on signing beside its successor when nobody says.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const MAX_OVERLAP_SECONDS: u64 = 7 * 24 * 60 * 60;

/// More would only make the header longer: a receiver changes from one to the next.
const MAX_LIVE_SECRETS: usize = 2;

/// What a receiver checks signatures with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    pub secret: Sealed,
    pub since: Timestamp,
    /// When it stops being used; absent for the newest one.
    pub until: Option<Timestamp>,
}

/// The Basic credentials before the present ones.
///
/// A request has room for one `Authorization` header, so two pairs cannot be sent together. Each
/// attempt is made with the present pair. When that is answered 401 or 403 before `until`, the same
/// attempt asks once more with this one, within its own time limit, and ends as the second request
/// does. A receiver that has not switched yet thus loses nothing, and one that has never sees the
/// old pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousCredentials {
    pub username: String,
    pub password: Sealed,
    pub until: Timestamp,
}

impl SigningSecret {
    fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Endpoint {
    /// The secrets that sign at this moment, newest first.
    pub fn live_signing_secrets(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        self.signing_secrets
            .iter()
            .filter(move |secret| secret.is_live(now))
    }

    /// Signs with a new secret from now on, and for `overlap` with the one before as well. One that
    /// was on its way out already makes room. The newest again leaves all as it is, so that whoever
    /// heard no answer may ask once more, but for an overlap of nothing, which ends the other.
    pub fn add_signing_secret(&mut self, secret: Sealed, overlap: Duration, now: Timestamp) {
        if let Some(newest) = self.signing_secrets.first()
            && newest.secret == secret
        {
            if overlap.is_zero() {
                self.signing_secrets.truncate(1);
            }
            return;
        }
        self.signing_secrets.truncate(MAX_LIVE_SECRETS - 1);
        for older in &mut self.signing_secrets {
            older.until = Some(now.plus(overlap));
        }
        let newest = SigningSecret {
            secret,
            since: now,
            until: None,
        };
        self.signing_secrets.insert(0, newest);
        self.forget_expired(now);
    }

    /// The pair to ask with once more when the present one is refused at this moment.
    pub fn live_previous_credentials(&self, now: Timestamp) -> Option<&PreviousCredentials> {
        self.previous_credentials
            .as_ref()
            .filter(|previous| now < previous.until)
    }

    /// Sends other credentials from now on, and keeps those before them for `overlap`; what was kept
    /// already goes. The same credentials again leave what is kept as it is, so that whoever heard
    /// no answer may ask once more, but for an overlap of nothing, which ends it.
    pub fn change_credentials(
        &mut self,
        username: String,
        password: Sealed,
        overlap: Duration,
        now: Timestamp,
    ) {
        if overlap.is_zero() {
            self.previous_credentials = None;
        } else if username != self.username || password != self.password {
            self.previous_credentials = Some(PreviousCredentials {
                username: self.username.clone(),
                password: self.password.clone(),
                until: now.plus(overlap),
            });
        }
        self.username = username;
        self.password = password;
    }

    /// Drops what is used no more; whoever is about to store the endpoint calls it.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.signing_secrets.retain(|secret| secret.is_live(now));
        self.previous_credentials
            .take_if(|previous| previous.until <= now);
    }
}

/// Refuses overlaps of more than a week.
pub fn check_overlap(seconds: u64) -> Result<Duration, EndpointRefusal> {
    if seconds > MAX_OVERLAP_SECONDS {
        return Err(EndpointRefusal::Overlap { seconds });
    }
    Ok(Duration::from_secs(seconds))
}

/// Whether an answer means that the receiver does not know the credentials.
pub fn refuses_credentials(status: u16) -> bool {
    matches!(status, 401 | 403)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests::endpoint;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000).plus(HOUR * hours)
    }

    fn sealed(text: &str) -> Sealed {
        Sealed(text.to_owned())
    }

    fn live(endpoint: &Endpoint, now: Timestamp) -> String {
        let secrets = endpoint.live_signing_secrets(now);
        secrets
            .map(|secret| secret.secret.0.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_secret_signs_until_the_overlap_ends() {
        let mut endpoint = endpoint("");
        assert_eq!(live(&endpoint, at(0)), "");
        endpoint.add_signing_secret(sealed("a"), DEFAULT_OVERLAP, at(0));
        assert_eq!(live(&endpoint, at(1_000)), "a", "for ever, without another");

        endpoint.add_signing_secret(sealed("b"), HOUR * 2, at(10));
        assert_eq!(live(&endpoint, at(11)), "b a");
        assert_eq!(live(&endpoint, at(12)), "b");
        assert_eq!(endpoint.signing_secrets.len(), 2);
        endpoint.forget_expired(at(12));
        assert_eq!(endpoint.signing_secrets.len(), 1);
    }

    #[test]
    fn two_sign_at_most_and_without_an_overlap_one() {
        let mut endpoint = endpoint("");
        for secret in ["a", "b", "c"] {
            endpoint.add_signing_secret(sealed(secret), HOUR, at(0));
        }
        assert_eq!(live(&endpoint, at(0)), "c b");
        endpoint.add_signing_secret(sealed("d"), Duration::ZERO, at(0));
        assert_eq!(endpoint.signing_secrets.len(), 1);
        assert_eq!(live(&endpoint, at(0)), "d");
    }

    #[test]
    fn the_newest_secret_again_is_no_change_unless_it_ends_the_other() {
        let mut endpoint = endpoint("");
        endpoint.add_signing_secret(sealed("a"), HOUR, at(0));
        endpoint.add_signing_secret(sealed("b"), HOUR * 2, at(0));
        let once = endpoint.clone();
        endpoint.add_signing_secret(sealed("b"), HOUR * 2, at(1));
        assert_eq!(endpoint, once);
        endpoint.add_signing_secret(sealed("b"), Duration::ZERO, at(1));
        assert_eq!(live(&endpoint, at(1)), "b");
        // The other way round, somebody goes back to the one before.
        endpoint.add_signing_secret(sealed("a"), HOUR, at(1));
        assert_eq!(live(&endpoint, at(1)), "a b");
    }

    #[test]
    fn a_pair_is_kept_until_the_overlap_ends() {
        let mut endpoint = endpoint("");
        endpoint.change_credentials("new".to_owned(), sealed("2"), HOUR, at(0));
        assert_eq!((&*endpoint.username, &*endpoint.password.0), ("new", "2"));
        let previous = endpoint.live_previous_credentials(at(0)).unwrap();
        assert_eq!((&*previous.username, &*previous.password.0), ("user", ""));
        assert_eq!(endpoint.live_previous_credentials(at(1)), None);

        endpoint.forget_expired(at(0));
        assert!(endpoint.previous_credentials.is_some());
        endpoint.forget_expired(at(1));
        assert_eq!(endpoint.previous_credentials, None);
    }

    #[test]
    fn a_change_that_is_asked_for_again_is_one_change() {
        let mut endpoint = endpoint("");
        endpoint.change_credentials("new".to_owned(), sealed("2"), HOUR, at(0));
        let once = endpoint.clone();
        endpoint.change_credentials("new".to_owned(), sealed("2"), HOUR, at(1));
        assert_eq!(endpoint, once);
    }

    #[test]
    fn without_an_overlap_nothing_is_kept() {
        for (username, password) in [("newer", "3"), ("new", "2")] {
            let mut endpoint = endpoint("");
            endpoint.change_credentials("new".to_owned(), sealed("2"), HOUR, at(0));
            let (username, password) = (username.to_owned(), sealed(password));
            endpoint.change_credentials(username, password, Duration::ZERO, at(0));
            assert_eq!(endpoint.previous_credentials, None);
        }
    }

    #[test]
    fn overlaps() {
        assert_eq!(check_overlap(0), Ok(Duration::ZERO));
        assert_eq!(check_overlap(604_800), Ok(Duration::from_secs(604_800)));
        insta::assert_snapshot!(
            check_overlap(604_801).unwrap_err(),
            @"the overlap must be 0 to 604800 seconds (7 days), and is 604801"
        );
    }

    #[test]
    fn endpoints_of_before_have_no_secrets() {
        let mut document = serde_json::to_value(endpoint("")).unwrap();
        let members = document.as_object_mut().unwrap();
        for name in ["signing_secrets", "previous_credentials"] {
            members.remove(name).unwrap();
        }
        let read: Endpoint = serde_json::from_value(document).unwrap();
        assert_eq!(read, endpoint(""));
    }
}
