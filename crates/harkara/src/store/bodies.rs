//! How bodies and documents are kept: each as one zstd frame, made with a dictionary of such texts.
//!
//! A frame says by itself which dictionary it was made with and what the checksum of its content is,
//! so a body that the disk has changed is found out before anybody is sent it. The dictionaries are
//! in the store, too: a later program that embeds another can still read everything. `Store` packs
//! in the task of whoever calls it and unpacks outside the writer; no SQL but for the dictionaries.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, get_dict_id_from_frame};

use super::error::{DbError, DbErrorKind};
use super::pen::Pen;
use super::sql::params;

/// Each under its number. One that was released stays, and is never trained again.
const EMBEDDED: &[(u32, &[u8])] = &[(1, include_bytes!("bodies/dictionary-1.zstd"))];
/// The one that new frames are made with.
const NEWEST: u32 = 1;
/// The third would save a fourteenth of a body and take half as long again.
const LEVEL: i32 = 1;
/// More than any request may have, so that a damaged size asks for no more.
const LARGEST_BYTES: usize = 64 << 20;

/// A frame that does not give back what was packed.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Damaged {
    #[error("a stored body names dictionary {0}, which the store does not have")]
    Dictionary(u32),
    #[error("a stored body is not what was written: {0}")]
    Frame(#[from] io::Error),
    #[error("a stored document is not text: {0}")]
    Text(#[from] std::string::FromUtf8Error),
}

impl From<Damaged> for DbError {
    fn from(damaged: Damaged) -> Self {
        Self::caused(DbErrorKind::Corrupt, damaged)
    }
}

/// Packs and unpacks. Making a context costs far more than using one, so they are kept.
pub(in crate::store) struct Bodies {
    dictionaries: BTreeMap<u32, Vec<u8>>,
    packers: Mutex<Vec<Compressor<'static>>>,
    unpackers: Mutex<Vec<(u32, Decompressor<'static>)>>,
}

impl Bodies {
    /// Reads the store's dictionaries, and adds those of this program that it lacks.
    pub(in crate::store) fn load(pen: &Pen) -> Result<Self, DbError> {
        let sql = "select version, bytes from dictionaries";
        let known = pen
            .sql()
            .rows(sql, params![], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut dictionaries: BTreeMap<u32, Vec<u8>> = known.into_iter().collect();
        for (version, bytes) in EMBEDDED {
            if dictionaries
                .get(version)
                .is_some_and(|known| known != bytes)
            {
                let cause = format!("dictionary {version} is not the one that this program has");
                return Err(DbError::new(DbErrorKind::Corrupt, cause));
            }
            if dictionaries.insert(*version, bytes.to_vec()).is_none() {
                let sql = "insert into dictionaries (version, bytes) values (?1, ?2) on conflict do nothing";
                pen.execute(sql, params![version, bytes])?;
            }
        }
        Ok(Self::with(dictionaries))
    }

    #[cfg(test)]
    pub(in crate::store) fn embedded() -> Self {
        let embedded = EMBEDDED.iter();
        Self::with(embedded.map(|(n, bytes)| (*n, bytes.to_vec())).collect())
    }

    fn with(dictionaries: BTreeMap<u32, Vec<u8>>) -> Self {
        Self {
            dictionaries,
            packers: Mutex::default(),
            unpackers: Mutex::default(),
        }
    }

    /// The frame of a body.
    pub(in crate::store) fn pack(&self, body: &[u8]) -> Result<Vec<u8>, DbError> {
        let kept = lock(&self.packers).pop();
        let mut packer = match kept {
            Some(packer) => packer,
            None => {
                let mut packer = Compressor::with_dictionary(LEVEL, &self.dictionaries[&NEWEST])?;
                packer.set_parameter(CParameter::ChecksumFlag(true))?;
                packer
            }
        };
        let frame = packer.compress(body)?;
        lock(&self.packers).push(packer);
        Ok(frame)
    }

    /// The body of a frame, exactly as it was packed.
    pub(in crate::store) fn unpack(&self, frame: &[u8]) -> Result<Bytes, Damaged> {
        let version = get_dict_id_from_frame(frame).map_or(0, u32::from);
        let dictionary = self.dictionaries.get(&version);
        let dictionary = dictionary.ok_or(Damaged::Dictionary(version))?;
        let kept = {
            let mut kept = lock(&self.unpackers);
            let found = kept.iter().position(|(of, _)| *of == version);
            found.map(|index| kept.swap_remove(index).1)
        };
        let mut unpacker = match kept {
            Some(unpacker) => unpacker,
            None => Decompressor::with_dictionary(dictionary)?,
        };
        let body = unpacker.decompress(frame, LARGEST_BYTES)?;
        lock(&self.unpackers).push((version, unpacker));
        Ok(Bytes::from(body))
    }

    /// The text of a frame.
    pub(in crate::store) fn unpack_text(&self, frame: &[u8]) -> Result<String, Damaged> {
        Ok(String::from_utf8(self.unpack(frame)?.into())?)
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
