//! The vault: seals the secrets that must be sent again, and opens them where they belong.
//!
//! A sealed secret is bound to its purpose, merchant and row, so a ciphertext copied elsewhere does
//! not open. The keys lie in one file, the newest encrypts, all decrypt. `api/` seals an endpoint's
//! passwords and signing secrets, `deliver/` opens them for one attempt; nothing here knows what an
//! endpoint is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use harkara_core::endpoint::Sealed;
use harkara_core::id::{EndpointId, MerchantId, base62};
use zeroize::Zeroizing;

use crate::keys;

/// The form of a sealed secret: `v1.<key id>.<base64 of nonce, ciphertext and tag>`.
const FORMAT: &str = "v1";
const KEY_LENGTH: usize = 32;
const KEY_ID_LENGTH: usize = 8;
const TAG_LENGTH: usize = 16;
const FILE_HEADER: &str = "\
# Harkara's key ring: a key id and a 256-bit key in base64 a line. The last line encrypts, all
# decrypt. Without this file the stored passwords and signing secrets cannot be opened: back it up,
# apart from the database, and let nobody read it.
";

/// Where a sealed secret belongs; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What it is for, such as `endpoint password`.
    pub purpose: &'static str,
    pub merchant_id: &'a MerchantId,
    /// The id of the row that it lies in.
    pub row_id: &'a str,
}

/// The key ring, ready to use.
pub struct Vault {
    /// Oldest first, never empty.
    keys: Vec<Key>,
}

struct Key {
    id: String,
    cipher: RandomizedNonceKey,
    mac: hmac::Key,
}

/// Why a key ring cannot be used, or a secret not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{action} the key ring {}; its directory must exist and belong to this user", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "use the key ring {}: others can read it (mode {mode:03o}); run `chmod 600 {}` and \
         consider its keys known",
        .path.display(), .path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("use line {line} of the key ring {}: {reason}; restore the file from a backup", .path.display())]
    Ring {
        path: PathBuf,
        line: usize,
        reason: &'static str,
    },
    #[error("open a secret: its text is not of the form v1.<key id>.<base64>, so it was changed")]
    Malformed,
    #[error("open a secret: its key {key_id} is not in the key ring; add that key's line again")]
    UnknownKey { key_id: String },
    #[error(
        "open a secret sealed with key {key_id}: it was changed or copied from another row; set the \
         secret anew"
    )]
    DoesNotOpen { key_id: String },
}

impl Vault {
    /// Reads the key ring, or makes one with a single new key where there is none.
    pub fn open_or_create(key_file: &Path) -> Result<Self, VaultError> {
        let failed = |action| {
            move |source| VaultError::File {
                action,
                path: key_file.to_owned(),
                source,
            }
        };
        if !key_file.try_exists().map_err(failed("find"))? {
            let id = base62(&keys::random(), KEY_ID_LENGTH);
            let key = Zeroizing::new(BASE64_STANDARD.encode(*keys::random()));
            let ring = Zeroizing::new(format!("{FILE_HEADER}{id} {}\n", *key));
            keys::write_private(key_file, ring.as_bytes()).map_err(failed("create"))?;
        }
        refuse_exposed(key_file)?;
        let text = std::fs::read_to_string(key_file)
            .map(Zeroizing::new)
            .map_err(failed("read"))?;
        Self::parse(&text, key_file)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, VaultError> {
        let bad = |line, reason| VaultError::Ring {
            path: path.to_owned(),
            line,
            reason,
        };
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = Key::parse(line).map_err(|reason| bad(line_number, reason))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(bad(line_number, "its key id is used twice"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(bad(text.lines().count(), "the file ends without a key"));
        }
        Ok(Self { keys })
    }

    /// A keyed hash of something too guessable for a plain one, such as a card number: the same text
    /// always gives the same, and nobody without the key ring can try numbers out. It is made with
    /// the oldest key, so that a newer one does not change it.
    pub fn fingerprint(&self, purpose: &'static str, parts: &[&str]) -> [u8; 32] {
        let key = self.keys.first().expect("a key ring is never empty");
        let mut context = hmac::Context::with_key(&key.mac);
        for part in [purpose].iter().chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context
            .sign()
            .as_ref()
            .try_into()
            .expect("HMAC-SHA256 has 32 bytes")
    }

    /// Encrypts with the newest key. Sealing the same twice gives two different texts.
    pub fn seal(&self, context: Context<'_>, plaintext: &[u8]) -> Sealed {
        let key = self
            .keys
            .last()
            .expect("a ring without keys is refused when it is read");
        // Room for the tag: a buffer that had to grow would leave the secret in its old place.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG_LENGTH));
        buffer.extend_from_slice(plaintext);
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(context.bytes(&key.id)), &mut *buffer)
            .expect("sealing fails only beyond 64 GiB or without random bytes");
        let bytes = [nonce.as_ref().as_slice(), &buffer].concat();
        Sealed(format!(
            "{FORMAT}.{}.{}",
            key.id,
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        ))
    }

    /// Decrypts what was sealed for exactly this context.
    pub fn open(
        &self,
        context: Context<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (key_id, mut bytes) = split(&sealed.0).ok_or(VaultError::Malformed)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == key_id)
            .ok_or_else(|| VaultError::UnknownKey {
                key_id: key_id.to_owned(),
            })?;
        let does_not_open = |_| VaultError::DoesNotOpen {
            key_id: key_id.to_owned(),
        };

        let (nonce, ciphertext) = bytes.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(does_not_open)?;
        let plaintext = key
            .cipher
            .open_in_place(nonce, Aad::from(context.bytes(key_id)), ciphertext)
            .map_err(does_not_open)?;
        Ok(Zeroizing::new(plaintext.to_vec()))
    }

    /// Encrypts, unless it is what `kept` holds already; that is given back then, so that setting the
    /// same twice changes nothing.
    pub fn seal_once(
        &self,
        context: Context<'_>,
        kept: Option<&Sealed>,
        plaintext: &[u8],
    ) -> Sealed {
        match kept.filter(|kept| self.holds(context, kept, plaintext)) {
            Some(kept) => kept.clone(),
            None => self.seal(context, plaintext),
        }
    }

    /// The time it takes does not tell how much of the plaintext is right.
    fn holds(&self, context: Context<'_>, sealed: &Sealed, plaintext: &[u8]) -> bool {
        self.open(context, sealed)
            .is_ok_and(|held| constant_time::verify_slices_are_equal(&held, plaintext).is_ok())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.id))
            .finish()
    }
}

impl Key {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (id, key) = line
            .split_once(' ')
            .ok_or("it is not a key id, a space and a key")?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("its key id is not made of letters and digits");
        }
        let bytes = BASE64_STANDARD.decode(key.trim()).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if bytes.len() == KEY_LENGTH => Ok(Self {
                id: id.to_owned(),
                cipher: RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes)
                    .expect("32 bytes are a key"),
                mac: fingerprint_key(&bytes),
            }),
            _ => Err("its key is not the base64 of 32 bytes"),
        }
    }
}

/// A key of its own for fingerprints, so that no key serves two purposes.
fn fingerprint_key(key: &[u8]) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, key);
    let derived = hmac::sign(&root, b"harkara fingerprint key");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

impl<'a> Context<'a> {
    /// Where an endpoint's password belongs, the present one and the one before it.
    pub fn endpoint_password(merchant_id: &'a MerchantId, endpoint_id: &'a EndpointId) -> Self {
        Self {
            purpose: "endpoint password",
            merchant_id,
            row_id: endpoint_id.as_str(),
        }
    }

    /// Where an endpoint's signing secrets belong.
    pub fn signing_secret(merchant_id: &'a MerchantId, endpoint_id: &'a EndpointId) -> Self {
        Self {
            purpose: "signing secret",
            merchant_id,
            row_id: endpoint_id.as_str(),
        }
    }

    /// The associated data. Each part is preceded by its length, so that no two contexts give the
    /// same bytes.
    fn bytes(&self, key_id: &str) -> Vec<u8> {
        let parts = [
            FORMAT,
            self.purpose,
            self.merchant_id.as_str(),
            self.row_id,
            key_id,
        ];
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// The key id, and nonce, ciphertext and tag together. These become the plaintext in place, hence
/// the wiping.
fn split(text: &str) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    let (key_id, encoded) = text
        .strip_prefix(FORMAT)?
        .strip_prefix('.')?
        .split_once('.')?;
    let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?);
    (bytes.len() >= NONCE_LEN + TAG_LENGTH).then_some((key_id, bytes))
}

#[cfg(unix)]
fn refuse_exposed(path: &Path) -> Result<(), VaultError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = std::fs::metadata(path).map_err(|source| VaultError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    match metadata.permissions().mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(VaultError::Exposed {
            path: path.to_owned(),
            mode,
        }),
    }
}

/// Elsewhere a file's mode does not tell who can read it.
#[cfg(not(unix))]
fn refuse_exposed(_: &Path) -> Result<(), VaultError> {
    Ok(())
}

#[cfg(test)]
mod tests;
