//! How long a sign-in lasts, and what the browser holds of it.
//!
//! Pure: moments and texts in, answers out. The browser holds a token in a cookie, the store its hash;
//! the token that forms carry is derived from it, so it needs no place of its own. `gate.rs` asks.

use std::time::Duration;

use harkara_core::id::{base62, digest};
use harkara_core::time::Timestamp;
use http::HeaderMap;
use http::header::COOKIE;
use url::Url;

use crate::keys::OneTime;
use crate::store::{Horizons, UserSession};

/// Without a request for so long, a session is over.
pub(super) const IDLE: Duration = Duration::from_secs(15 * 60);

/// However busy, it is over after this.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);

/// How stale the moment may be at which somebody was last seen: it need not be written at each request.
const TOUCH: Duration = Duration::from_secs(60);

/// How long a link works.
pub(super) const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Whether a session still counts.
pub(super) fn is_live(session: &UserSession, now: Timestamp) -> bool {
    // While a clock that went back has not caught up, both are nothing, and a session lasts so much longer.
    now.since(session.seen_at) < IDLE && now.since(session.created_at) < LIFE
}

/// Whether it is time to note that somebody is still there.
pub(super) fn is_to_be_touched(session: &UserSession, now: Timestamp) -> bool {
    now.since(session.seen_at) >= TOUCH
}

/// What is over at this moment.
pub(super) fn horizons(now: Timestamp) -> Horizons {
    Horizons {
        created: before(now, LIFE),
        seen: before(now, IDLE),
    }
}

pub(super) fn before(now: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(by))
}

/// How the dashboard is reached, which decides what a cookie may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Https,
    /// Plain http that does not leave the machine.
    Loopback,
    /// Plain http over a network: passwords and cookies could be read, so nobody is signed in.
    Open,
}

impl Wire {
    /// As `public_url` says.
    pub(super) fn of(public_url: &str) -> Self {
        let Ok(url) = Url::parse(public_url) else {
            return Self::Open;
        };
        match (url.scheme(), url.host()) {
            ("https", _) => Self::Https,
            (_, Some(url::Host::Domain("localhost"))) => Self::Loopback,
            (_, Some(url::Host::Ipv4(address))) if address.is_loopback() => Self::Loopback,
            (_, Some(url::Host::Ipv6(address))) if address.is_loopback() => Self::Loopback,
            _ => Self::Open,
        }
    }

    /// With `__Host-` a browser takes the cookie over https alone, for this host alone and all of it.
    /// Over plain http it would refuse that, so on the loopback the cookie is a plain one.
    fn cookie(self) -> (&'static str, &'static str) {
        match self {
            Self::Https => ("__Host-harkara", "; Secure"),
            Self::Loopback | Self::Open => ("harkara", ""),
        }
    }

    /// The `Set-Cookie` that hands a token over.
    pub(super) fn hand_over(self, token: &OneTime) -> String {
        let (name, secure) = self.cookie();
        format!(
            "{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}",
            token.expose()
        )
    }

    /// The `Set-Cookie` that takes it back.
    pub(super) fn take_back(self) -> String {
        let (name, secure) = self.cookie();
        format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}")
    }

    /// The token that a request carries, if it looks like one.
    pub(super) fn token(self, headers: &HeaderMap) -> Option<OneTime> {
        let (wanted, _) = self.cookie();
        let cookies = headers.get_all(COOKIE).iter();
        let pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'));
        let mut found = pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == wanted).then(|| OneTime::parse(value)).flatten()
        });
        found.next()
    }
}

/// What each form of a session carries: whoever can read it could read the page anyway.
pub(super) fn form_token(token: &OneTime) -> String {
    base62(&digest(&["form token", token.expose()]), 43)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(created: i64, seen: i64) -> UserSession {
        UserSession {
            hash: String::new(),
            session_id: String::new(),
            user_id: String::new(),
            address: String::new(),
            agent: String::new(),
            created_at: Timestamp::from_seconds(created),
            seen_at: Timestamp::from_seconds(seen),
        }
    }

    #[test]
    fn a_session_ends_when_nobody_is_there_and_in_the_end() {
        let now = Timestamp::from_seconds(100_000);
        let table = [
            (99_999, 99_999, true),
            (90_000, 100_000 - 899, true),
            (90_000, 100_000 - 900, false),
            (100_000 - 43_199, 100_000, true),
            (100_000 - 43_200, 100_000, false),
        ];
        for (created, seen, expected) in table {
            assert_eq!(
                is_live(&session(created, seen), now),
                expected,
                "{created} {seen}"
            );
            let over = horizons(now);
            let session = session(created, seen);
            let is_deleted = session.created_at <= over.created || session.seen_at <= over.seen;
            assert_eq!(is_deleted, !expected, "{created} {seen}");
        }
    }

    #[test]
    fn the_cookie_is_as_strict_as_the_wire_allows() {
        let table = [
            ("https://pay.example", Wire::Https),
            ("http://localhost:8080", Wire::Loopback),
            ("http://127.0.0.1:8080", Wire::Loopback),
            ("http://[::1]:8080", Wire::Loopback),
            ("http://10.0.0.7:8080", Wire::Open),
            ("http://localhost.example", Wire::Open),
        ];
        for (url, wire) in table {
            assert_eq!(Wire::of(url), wire, "{url}");
        }
        let token = OneTime::generate();
        let text = Wire::Https.hand_over(&token);
        assert!(text.starts_with("__Host-harkara="), "{text}");
        assert!(
            text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
            "{text}"
        );
        let mut headers = HeaderMap::new();
        let pair = text.split(';').next().unwrap();
        headers.append(COOKIE, format!("a=b; {pair}").parse().unwrap());
        let read = Wire::Https.token(&headers).unwrap();
        assert_eq!(read.expose(), token.expose());
        assert!(Wire::Loopback.token(&headers).is_none());
    }
}
