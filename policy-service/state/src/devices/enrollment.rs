//! Enrolment: an operator has a challenge made for a principal, and the principal's device answers
//! it with a proof by its key.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::PrincipalId;

/// The random bytes of a challenge, which nobody guesses.
const CHALLENGE_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;

/// The text that a device signs, once. Only its digest is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(String);

/// The stored form of a challenge: a reader of the storage cannot answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChallengeDigest([u8; DIGEST_BYTES]);

/// A challenge that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEnrollment {
    /// The challenge.
    pub challenge: ChallengeDigest,
    /// Whose device it will be.
    pub owner: PrincipalId,
    /// The owner's `iss`, for people, cut at 256 bytes.
    pub issuer: String,
    /// The owner's `sub`, in the same way.
    pub subject: String,
    /// The owner's tenant, in the same way.
    pub tenant: Option<String>,
    /// What people will call the device, in the same way; may be empty.
    pub label: String,
    /// When it ends, in microseconds since the epoch.
    pub ends_us: i64,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

impl Challenge {
    /// A new one. `None`: the operating system gives no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; CHALLENGE_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(hex::encode(bytes)))
    }

    /// The text that is signed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stored form.
    #[must_use]
    pub fn digest(&self) -> ChallengeDigest {
        ChallengeDigest::of(&self.0)
    }
}

impl ChallengeDigest {
    /// The digest of a challenge, or of a text that claims to be one.
    #[must_use]
    pub fn of(challenge: &str) -> Self {
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(digest(&SHA256, challenge.as_bytes()).as_ref());
        Self(bytes)
    }

    /// The bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From stored bytes; `None`: they have another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
