//! Signatures as the Standard Webhooks specification has them, and the secrets that make them.
//!
//! Pure but for making a secret up: bytes and secrets in, header values out. `attempt.rs` asks for
//! them at each attempt, since its time is part of what is signed; `api/` reads and makes secrets.
//! Which of them sign at a moment is the core's rule, sealing them the vault's business.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harkara_core::time::Timestamp;
use zeroize::Zeroizing;

use crate::keys;

/// What the text of a secret begins with.
const PREFIX: &str = "whsec_";
const MIN_BYTES: usize = 24;
const MAX_BYTES: usize = 64;

/// A key that its endpoint's receiver has, too.
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a text cannot be a signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret must begin with {PREFIX}; put that before its base64")]
    Prefix,
    #[error("the secret must be standard base64 with padding after {PREFIX}; encode its bytes so")]
    Base64,
    #[error(
        "the secret must have {MIN_BYTES} to {MAX_BYTES} bytes, and has {bytes}; choose 32 random ones"
    )]
    Length { bytes: usize },
}

impl Secret {
    /// A secret of 32 random bytes.
    pub fn generate() -> Self {
        Self(Zeroizing::new(keys::random().to_vec()))
    }

    /// Reads a secret that a merchant brings; only what every library of the specification reads
    /// the same way is taken.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if (MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) => Ok(Self(bytes)),
            Ok(bytes) => Err(SecretError::Length { bytes: bytes.len() }),
            Err(_) => Err(SecretError::Base64),
        }
    }

    /// The secret whose bytes these are: what was sealed, opened again.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// What is to be sealed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The form in which its merchant is shown it, and libraries take it.
    pub fn text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(&*self.0));
        Zeroizing::new([PREFIX, &encoded].concat())
    }
}

/// `webhook-timestamp` and `webhook-signature` of what is sent under this id at this moment. There is
/// one signature per secret, in their order, so that a receiver with any of them accepts.
pub fn headers(id: &str, at: Timestamp, body: &[u8], secrets: &[Secret]) -> [(String, String); 2] {
    let timestamp = at.epoch_seconds();
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let mut context = hmac::Context::with_key(&key);
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                context.update(part);
            }
            format!("v1,{}", STANDARD.encode(context.sign()))
        })
        .collect();
    [
        ("webhook-timestamp".to_owned(), timestamp),
        ("webhook-signature".to_owned(), signatures.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_that_the_specifications_libraries_test_with() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let [timestamp, signature] = headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_seconds(1_614_265_330),
            br#"{"test": 2432232314}"#,
            &[secret],
        );
        assert_eq!(timestamp.1, "1614265330");
        assert_eq!(
            signature.1,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_is_read_back_from_its_text() {
        let secret = Secret::generate();
        let read = Secret::parse(&secret.text()).unwrap();
        assert_eq!(read.as_bytes(), secret.as_bytes());
        assert_eq!(secret.as_bytes().len(), 32);
        assert_ne!(secret.as_bytes(), Secret::generate().as_bytes());
    }

    #[test]
    fn secrets_that_a_merchant_may_bring() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let texts = [
            of(24),
            of(64),
            of(23),
            of(65),
            of(32).replace("whsec_", ""),
            of(32).replace("whsec_", "WHSEC_"),
            of(32).replace('=', ""),
            format!("whsec_{}", "_".repeat(44)),
            format!(" {}", of(32)),
            format!("{}\n", of(32)),
            "whsec_".to_owned(),
        ];
        let mut table = String::new();
        for text in texts {
            let said =
                Secret::parse(&text).map_or_else(|why| why.to_string(), |_| "fine".to_owned());
            table += &format!("{said}\n");
        }
        insta::assert_snapshot!(table, @r"
        fine
        fine
        the secret must have 24 to 64 bytes, and has 23; choose 32 random ones
        the secret must have 24 to 64 bytes, and has 65; choose 32 random ones
        the secret must begin with whsec_; put that before its base64
        the secret must begin with whsec_; put that before its base64
        the secret must be standard base64 with padding after whsec_; encode its bytes so
        the secret must be standard base64 with padding after whsec_; encode its bytes so
        the secret must begin with whsec_; put that before its base64
        the secret must be standard base64 with padding after whsec_; encode its bytes so
        the secret must have 24 to 64 bytes, and has 0; choose 32 random ones
        ");
    }
}
