//! How records are linked: what the hash and the seals cover.

use std::fmt;
use std::str::FromStr;

use ring::digest;

use super::key::KeyId;

/// The length of a record's hash.
pub const HASH_BYTES: usize = 32;
/// Keeps this hash apart from any other use of SHA-256; the number changes with the layout below.
const RECORD_DOMAIN: &[u8] = b"picket audit record v1\0";
const SEAL_DOMAIN: &[u8] = b"picket audit seal v1\0";
const HEAD_DOMAIN: &[u8] = b"picket audit head v1\0";
const ACKNOWLEDGED_DOMAIN: &[u8] = b"picket audit acknowledged v1\0";

/// The SHA-256 hash of a record, which covers all records before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; HASH_BYTES]);

impl Hash {
    /// The hash "before" the first record.
    pub(super) const GENESIS: Self = Self([0; HASH_BYTES]);

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; HASH_BYTES];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Where a record stands: what its seal is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordPosition {
    pub(super) seq: u64,
    pub(super) time_us: i64,
    pub(super) prev_hash: Hash,
    pub(super) key_id: KeyId,
}

impl RecordPosition {
    /// The hash of the record with this sealed content. Every part but the last has a fixed length.
    pub(super) fn hash(&self, sealed: &[u8]) -> Hash {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(RECORD_DOMAIN);
        context.update(&self.seq.to_be_bytes());
        context.update(self.prev_hash.as_bytes());
        context.update(&self.time_us.to_be_bytes());
        context.update(self.key_id.as_bytes());
        context.update(sealed);
        Hash::from_slice(context.finish().as_ref()).unwrap_or(Hash::GENESIS)
    }

    /// What the seal authenticates besides the content: sealed bytes open at their own place only.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        [
            SEAL_DOMAIN,
            &self.seq.to_be_bytes(),
            self.prev_hash.as_bytes(),
            &self.time_us.to_be_bytes(),
            self.key_id.as_bytes(),
        ]
        .concat()
    }
}

/// The end of the chain, as it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainEnd {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl ChainEnd {
    /// The end of a log without records.
    pub(super) const EMPTY: Self = Self {
        seq: 0,
        hash: Hash::GENESIS,
    };

    /// The length of [`Self::to_bytes`].
    pub(super) const BYTES: usize = 8 + HASH_BYTES;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        [&self.seq.to_be_bytes(), self.hash.as_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (seq, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            seq: u64::from_be_bytes(*seq),
            hash: Hash::from_slice(hash)?,
        })
    }
}

/// The head in the database: the end of the chain, and whether its writer is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealedHead {
    pub(super) end: ChainEnd,
    pub(super) writing: WriterState,
}

/// Whether the database alone has all that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriterState {
    /// A writer may have acknowledged more: the file beside the database names the last record.
    Open,
    /// The writer has ended as it should, and this is the last record.
    Closed,
}

const OPEN: u8 = 1;
const CLOSED: u8 = 2;

impl SealedHead {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.end.to_bytes();
        bytes.push(match self.writing {
            WriterState::Open => OPEN,
            WriterState::Closed => CLOSED,
        });
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (end, writing) = bytes.split_at_checked(ChainEnd::BYTES)?;
        Some(Self {
            end: ChainEnd::from_bytes(end)?,
            writing: match writing {
                [OPEN] => WriterState::Open,
                // Version 1 of the log had no file beside it.
                [] | [CLOSED] => WriterState::Closed,
                _ => return None,
            },
        })
    }
}

pub(super) fn head_associated_data(key_id: &KeyId) -> Vec<u8> {
    [HEAD_DOMAIN, key_id.as_bytes()].concat()
}

pub(super) fn acknowledged_associated_data(key_id: &KeyId) -> Vec<u8> {
    [ACKNOWLEDGED_DOMAIN, key_id.as_bytes()].concat()
}
