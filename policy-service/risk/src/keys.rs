//! What principals, devices, sessions and route rules are remembered by: digests of their names.

use std::fmt;

use picket_model::access::AccessRequest;
use ring::digest;
use serde::{Deserialize, Serialize};

const KEY_BYTES: usize = 16;

/// Names a principal in the baselines: 128 bits of SHA-256 over issuer and subject, or over a
/// workload's SPIFFE ID. What is saved so holds no names, and is of one size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalKey([u8; KEY_BYTES]);

/// A digest of a name, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

/// A session as it is remembered, or the token where it names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub(super) Fingerprint);

/// The claim that a session is named by, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionName<'a> {
    /// The tokens' `sid`.
    SessionId(&'a str),
    /// The `jti` of a token without one.
    TokenId(&'a str),
}

/// Text that is none of what it should be.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct FormatError(pub(super) &'static str);

impl PrincipalKey {
    /// Of the party whose request it is: the token's, or else the peer.
    #[must_use]
    pub fn of(request: &AccessRequest) -> Option<Self> {
        match (&request.principal, &request.peer) {
            (Some(principal), _) => Some(Self::of_user(&principal.issuer, &principal.subject)),
            (None, Some(peer)) => Some(Self::of_workload(peer.as_str())),
            (None, None) => None,
        }
    }

    /// Of the subject of an issuer's tokens.
    #[must_use]
    pub fn of_user(issuer: &str, subject: &str) -> Self {
        Self::cut(&digest_of("user", &[Some(issuer), Some(subject)]))
    }

    /// Of a workload by its SPIFFE ID.
    #[must_use]
    pub fn of_workload(spiffe_id: &str) -> Self {
        Self::cut(&digest_of("workload", &[Some(spiffe_id)]))
    }

    /// One of `shards` parts, evenly.
    #[must_use]
    pub fn shard(&self, shards: usize) -> usize {
        let [first, ..] = self.0;
        usize::from(first) % shards.max(1)
    }

    fn cut(digest: &[u8]) -> Self {
        let mut key = [0; KEY_BYTES];
        for (byte, from) in key.iter_mut().zip(digest) {
            *byte = *from;
        }
        Self(key)
    }
}

impl SessionKey {
    /// Of a session of this issuer.
    #[must_use]
    pub fn of(issuer: &str, name: SessionName<'_>) -> Self {
        let (kind, id) = match name {
            SessionName::SessionId(id) => ("session", id),
            SessionName::TokenId(id) => ("token", id),
        };
        Self(Fingerprint::of(kind, &[Some(issuer), Some(id)]))
    }
}

impl Fingerprint {
    pub(super) fn of(kind: &str, parts: &[Option<&str>]) -> Self {
        let first = digest_of(kind, parts)
            .iter()
            .take(8)
            .fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Self(first)
    }
}

impl fmt::Display for Fingerprint {
    /// The first half says which it is to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Display for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PrincipalKey> for String {
    fn from(key: PrincipalKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PrincipalKey {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| FormatError("32 hexadecimal digits"))?;
        Ok(Self(key))
    }
}

/// Lengths before the parts keep two different lists from giving the same bytes.
fn digest_of(kind: &str, parts: &[Option<&str>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in std::iter::once(&Some(kind)).chain(parts) {
        match part {
            Some(text) => {
                context.update(&[1]);
                context.update(&text.len().to_be_bytes());
                context.update(text.as_bytes());
            }
            None => context.update(&[0]),
        }
    }
    context.finish().as_ref().to_vec()
}
