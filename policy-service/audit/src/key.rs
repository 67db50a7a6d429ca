//! The key-encryption key, and the data keys that it wraps.

use std::fmt;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const KEY_BYTES: usize = 32;
pub(super) const KEY_ID_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// The length of a data key in its wrapped form.
pub(super) const WRAPPED_KEY_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// 64 characters and a line's end; a larger file is not a key.
const FILE_BYTES_MAX: u64 = 256;
const WRAP_DOMAIN: &[u8] = b"picket audit data key v1\0";

/// The key that wraps the data keys. It is never written anywhere, and its `Debug` shows nothing of
/// it.
pub struct KeyEncryptionKey(LessSafeKey);

/// Why a key is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a key.
    #[error("expected a key of 64 hexadecimal characters")]
    Format,
    /// The machine gives no random numbers.
    #[error("no random numbers from the operating system")]
    Random,
    /// AES-256-GCM refused to seal.
    #[error("sealing failed")]
    Seal,
    /// All nonces of a data key are used.
    #[error("the data key has sealed as much as it may; restart the service")]
    NoncesUsed,
}

/// The random name of a data key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyId([u8; KEY_ID_BYTES]);

/// A data key for writing. INVARIANT: no nonce is used twice, as the key is made at each start and
/// the counter only rises.
pub(super) struct Sealer {
    id: KeyId,
    key: LessSafeKey,
    nonces_used: u64,
}

/// A data key for reading.
pub(super) struct Opener(LessSafeKey);

impl KeyEncryptionKey {
    /// Reads a key from a file of 64 hexadecimal characters.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold a key.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File {
            path: file.display().to_string(),
            source,
        };
        if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(KeyError::Format);
        }
        Self::from_hex(std::fs::read_to_string(file).map_err(failed)?.trim_end())
    }

    /// A key from 64 hexadecimal characters.
    ///
    /// # Errors
    /// The text has another length or other characters.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Format)?;
        less_safe(&bytes).map(Self)
    }

    /// Makes a data key, and gives it in its wrapped form as well.
    pub(super) fn new_data_key(&self) -> Result<(Sealer, Vec<u8>), KeyError> {
        let (mut id, mut key, mut nonce) = ([0; KEY_ID_BYTES], [0; KEY_BYTES], [0; NONCE_LEN]);
        let random = SystemRandom::new();
        for bytes in [&mut id[..], &mut key[..], &mut nonce[..]] {
            random.fill(bytes).map_err(|_| KeyError::Random)?;
        }
        let id = KeyId(id);
        // Random nonces are safe for 2^32 seals under one key: one for each start of the service
        // (SP 800-38D §8.3).
        let wrapped = seal(&self.0, nonce, &wrap_associated_data(&id), &key)?;
        let sealer = Sealer {
            id,
            key: less_safe(&key)?,
            nonces_used: 0,
        };
        Ok((sealer, wrapped))
    }

    /// Unwraps a data key; `None` where it was wrapped by another key or altered.
    pub(super) fn open_data_key(&self, id: &KeyId, wrapped: &[u8]) -> Option<Opener> {
        let key = open(&self.0, &wrap_associated_data(id), wrapped)?;
        less_safe(&key).ok().map(Opener)
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEncryptionKey(..)")
    }
}

impl KeyId {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Sealer {
    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// The length of so much content once it is sealed.
    pub(super) const fn sealed_bytes(content_bytes: usize) -> usize {
        NONCE_LEN + content_bytes + TAG_BYTES
    }

    /// The nonce, the ciphertext and the tag.
    pub(super) fn seal(&mut self, associated_data: &[u8], content: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.nonces_used = self.nonces_used.checked_add(1).ok_or(KeyError::NoncesUsed)?;
        let mut nonce = [0; NONCE_LEN];
        for (to, from) in nonce.iter_mut().rev().zip(self.nonces_used.to_le_bytes()) {
            *to = from;
        }
        seal(&self.key, nonce, associated_data, content)
    }
}

impl Opener {
    /// The content; `None` where it was altered, or sealed with other associated data.
    pub(super) fn open(&self, associated_data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.0, associated_data, sealed)
    }
}

fn wrap_associated_data(id: &KeyId) -> Vec<u8> {
    [WRAP_DOMAIN, id.as_bytes()].concat()
}

fn less_safe(key: &[u8]) -> Result<LessSafeKey, KeyError> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| KeyError::Format)
}

fn seal(key: &LessSafeKey, nonce: [u8; NONCE_LEN], aad: &[u8], content: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + content.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(content);
    let in_out = sealed.get_mut(NONCE_LEN..).ok_or(KeyError::Seal)?;
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), in_out)
        .map_err(|_| KeyError::Seal)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(key: &LessSafeKey, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut in_out = ciphertext.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(aad), &mut in_out).ok()?.len();
    in_out.truncate(length);
    Some(in_out)
}
