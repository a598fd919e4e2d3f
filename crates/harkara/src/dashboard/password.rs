//! People's passwords: what a good one is, and Argon2id.
//!
//! Hashing takes 19 MiB and a processor for tens of milliseconds, so only two are done at once, and
//! who would have to wait for long is asked to come back. A name that nobody has costs as much as one
//! with a wrong password. Sign-in and the account page call this.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::error::ApiError;
use crate::keys;

const LENGTH_MIN: usize = 12;
pub(super) const LENGTH_MAX: usize = 200;

/// Hashes that are made at once. It also bounds how fast anybody can try passwords out.
const AT_ONCE: usize = 2;

/// How long somebody waits for their turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The recommended least: 19 MiB, two passes, one lane.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// With the same cost as any other; no password has it.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What many people would take, in lower case and with its digits.
const COMMON: &[&str] = &[
    "123456123456",
    "1234567890123",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "abcdefghijkl",
    "administrator",
    "changeme1234",
    "iloveyou1234",
    "letmein12345",
    "monkey123456",
    "p@ssw0rd1234",
    "passw0rd1234",
    "password1234",
    "passwordpassword",
    "q1w2e3r4t5y6",
    "qazwsxedcrfv",
    "qwerty123456",
    "qwertyuiop12",
    "welcome12345",
    "zaq12wsxcde3",
];

/// Makes and checks hashes, a few at a time.
pub(super) struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Passwords {
    /// The text that is stored of a password.
    pub(super) async fn hash(&self, password: Zeroizing<String>) -> Result<String, ApiError> {
        let hashed = self.in_turn(move || {
            let salt = keys::random();
            let hash = argon2().hash_password_with_salt(password.as_bytes(), &salt[..16])?;
            Ok(hash.to_string())
        });
        hashed.await?.map_err(failed)
    }

    /// Whether this is the password that was stored, if any was: it takes the same time either way.
    pub(super) async fn verify(
        &self,
        password: Zeroizing<String>,
        stored: Option<String>,
    ) -> Result<bool, ApiError> {
        let is_known = stored.is_some();
        let checked = self.in_turn(move || {
            let stored = PasswordHash::new(stored.as_deref().unwrap_or(NOBODY))?;
            match argon2().verify_password(password.as_bytes(), &stored) {
                Ok(()) => Ok(true),
                Err(password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(error),
            }
        });
        Ok(checked.await?.map_err(failed)? && is_known)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.0.clone().acquire_owned();
        let turn: OwnedSemaphorePermit = tokio::time::timeout(PATIENCE, turn)
            .await
            .map_err(ApiError::unavailable)?
            .expect("the semaphore is never closed");
        let run = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(ApiError::internal)
    }
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).expect("the cost is within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn failed(error: password_hash::Error) -> ApiError {
    ApiError::internal(std::io::Error::other(error.to_string()))
}

/// Whether somebody of this name may have this password, or why not.
pub(super) fn check(password: &str, name: &str) -> Result<(), String> {
    let length = password.chars().count();
    if length < LENGTH_MIN {
        return Err(format!(
            "is shorter than {LENGTH_MIN} characters; three or four words make a good one"
        ));
    }
    if length > LENGTH_MAX {
        return Err(format!("is longer than {LENGTH_MAX} characters"));
    }
    let lower = password.to_lowercase();
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < 5 {
        return Err("has too few different characters".to_owned());
    }
    let name = name.trim().to_lowercase();
    if name.chars().count() >= 3 && lower.contains(&name) {
        return Err("contains your name".to_owned());
    }
    if COMMON.iter().any(|common| lower.starts_with(common)) || lower.contains("harkara") {
        return Err("is one of the first that anybody would try".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let passwords = Passwords::default();
        let stored = passwords.hash(text("correct horse battery")).await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        let again = passwords.hash(text("correct horse battery")).await.unwrap();
        assert_ne!(stored, again, "each has a salt of its own");
        let verify = async |password: &str, stored: Option<&str>| {
            let stored = stored.map(str::to_owned);
            passwords.verify(text(password), stored).await.unwrap()
        };
        assert!(verify("correct horse battery", Some(&stored)).await);
        assert!(!verify("correct horse batterz", Some(&stored)).await);
        assert!(!verify("correct horse battery", None).await);
    }

    #[test]
    fn nobody_costs_what_anybody_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let (memory, passes, lanes) = COST;
        let params = Params::try_from(&nobody).unwrap();
        assert_eq!(
            (params.m_cost(), params.t_cost(), params.p_cost()),
            (memory, passes, lanes)
        );
    }

    #[test]
    fn passwords_that_anybody_would_try_are_refused() {
        let table = [
            (
                "elevenchars",
                "is shorter than 12 characters; three or four words make a good one",
            ),
            ("aaaaaaaabbbb", "has too few different characters"),
            (
                "Password1234!",
                "is one of the first that anybody would try",
            ),
            (
                "myHarkara-2026",
                "is one of the first that anybody would try",
            ),
            ("asha-and-a-half", "contains your name"),
            ("tram lantern ocean", ""),
        ];
        for (password, refusal) in table {
            let checked = check(password, "Asha").err().unwrap_or_default();
            assert_eq!(checked, refusal, "{password}");
        }
    }
}
