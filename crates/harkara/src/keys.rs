//! Secrets that we make: API keys, sessions and links, endpoint passwords, and the private files
//! they are handed over in.
//!
//! An API key is 256 random bits, so its plain SHA-256 is all that is stored and nobody can guess
//! it. The store finds the hash by the key's id; looking up is not done here, nor are people's
//! passwords. `api/` reads the keys that callers present, `cli/` makes new ones.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use harkara_core::id::{base62, hex};
use zeroize::Zeroizing;

const PREFIX: &str = "hk_";
const ID_LENGTH: usize = 12;
/// 62^43 is just above 2^256: no bit of the secret is lost.
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// Standard base64, with or without padding: clients send both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An API key, `hk_<id>_<secret><checksum>`: letters, digits and underscores alone, so that a
/// double click selects all of it and no shell or URL needs it quoted.
pub struct ApiKey;

impl ApiKey {
    /// A new key: what its merchant is shown, once, and what we keep.
    pub fn generate() -> (PresentedKey, StoredKey) {
        let body = Zeroizing::new(format!(
            "{PREFIX}{}_{}",
            base62(&random(), ID_LENGTH),
            *Zeroizing::new(base62(&random(), SECRET_LENGTH)),
        ));
        let presented = PresentedKey(Zeroizing::new(format!("{}{}", *body, checksum(&body))));
        let stored = StoredKey {
            key_id: presented.key_id().to_owned(),
            hash: presented.hash(),
        };
        (presented, stored)
    }
}

/// What is kept of an API key: enough to recognise it, too little to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub key_id: String,
    /// SHA-256 of the key's whole text.
    pub hash: [u8; 32],
}

impl StoredKey {
    /// The hash as the store keeps it: 64 hex digits.
    pub fn hash_hex(&self) -> String {
        hex(&self.hash)
    }

    /// What the store keeps, read back; `None` when the hash is not one.
    pub fn from_parts(key_id: &str, hash_hex: &str) -> Option<Self> {
        let digits = hash_hex.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self {
            key_id: key_id.to_owned(),
            hash,
        })
    }
}

/// An API key as its owner holds it, complete and of the right form; whether it is one of ours only
/// the store knows.
pub struct PresentedKey(Zeroizing<String>);

/// Why a text cannot be an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "read the API key: it must be hk_, 12 letters and digits, an underscore and 49 more; copy \
         the whole key again"
    )]
    Form,
    #[error("read the API key: its checksum is wrong, so a character was changed; copy it again")]
    Checksum,
}

impl PresentedKey {
    /// Checks form and checksum, so that a mistyped key costs no look-up.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PREFIX).ok_or(KeyError::Form)?;
        let (id, secret) = rest.split_once('_').ok_or(KeyError::Form)?;
        let alphanumeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let complete = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH + CHECKSUM_LENGTH;
        if !complete || !alphanumeric(id) || !alphanumeric(secret) {
            return Err(KeyError::Form);
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM_LENGTH);
        if sum != checksum(body) {
            return Err(KeyError::Checksum);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The part that is no secret: the store finds the key by it, logs and pages name it.
    pub fn key_id(&self) -> &str {
        &self.0[PREFIX.len()..PREFIX.len() + ID_LENGTH]
    }

    /// The whole text, to be shown to its owner and never kept.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the key that `stored` was made with, in time that does not tell how much of
    /// it is right.
    pub fn matches(&self, stored: &StoredKey) -> bool {
        constant_time::verify_slices_are_equal(&self.hash(), &stored.hash).is_ok()
    }

    fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresentedKey({}…)", self.key_id())
    }
}

/// The API key in an `Authorization` header: `Bearer key`, or `Basic` with the key as the user and
/// no password, or `Basic` with nothing but the key, as some clients encode it.
pub fn basic_key(header: &str) -> Option<PresentedKey> {
    let (scheme, credentials) = header.trim().split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return PresentedKey::parse(credentials).ok();
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(credentials).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    PresentedKey::parse(text.strip_suffix(':').unwrap_or(text)).ok()
}

/// A text that lets its holder in: a session's, or a link's. 256 random bits, of which we keep the hash.
pub struct OneTime(Zeroizing<String>);

impl OneTime {
    /// A new one.
    pub fn generate() -> Self {
        Self(Zeroizing::new(base62(&random(), SECRET_LENGTH)))
    }

    /// One that somebody holds; `None` for what none looks like.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == SECRET_LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric());
        is_one.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The whole text, for its holder alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store finds it by: 64 hex digits.
    pub fn hash(&self) -> String {
        hex(&sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for OneTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTime")
    }
}

/// A name for something that nobody needs to guess: 16 letters and digits.
pub fn random_id() -> String {
    base62(&random(), 16)
}

/// A password for an endpoint whose merchant brings none: 32 letters and digits, 190 bits.
pub fn random_password() -> Zeroizing<String> {
    Zeroizing::new(base62(&random(), 32))
}

/// Writes a file that its owner alone can read, whole or not at all, and safe from a power cut. A
/// file that is there already is left alone: it may be the only copy of a secret.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // A temporary file has mode 0600 from its first moment.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    std::fs::File::open(directory)?.sync_all()
}

/// The operating system's random bytes.
pub(crate) fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes)
        .expect("without random bytes there are no secrets, so we must not go on");
    bytes
}

fn checksum(body: &str) -> String {
    base62(&sha256(body.as_bytes()), CHECKSUM_LENGTH)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests;
