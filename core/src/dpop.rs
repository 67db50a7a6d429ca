//! Demonstrating proof of possession (DPoP, RFC 9449): a token that is bound to a key is good only
//! together with a proof, made by that key for this very request.
//!
//! [`ProofChecker`] checks proofs. The host provides the memory for used proofs ([`ledger`]) and
//! the secret that the workers of a sidecar share.

pub mod ledger;
mod mac;
pub mod nonce;
mod proof;
mod target_uri;

use std::rc::Rc;

use picket_model::thumbprint::KeyThumbprint;
use picket_model::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::jose::TokenAlgorithm;
use crate::jose::signature::SignatureVerifier;
use crate::request::{ProofHeader, RequestHead};

use ledger::{BucketLedger, LedgerError, LocalBuckets, ProofId, ProofLedger};
pub use mac::SharedSecret;
use nonce::{NonceAge, Nonces};
pub(crate) use proof::PROOF_ID_BYTES_MAX;
use proof::Proof;
use target_uri::TargetUri;
pub use target_uri::UriScheme;

/// What makes a proof acceptable, and what of it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopSettings {
    /// The allowed algorithms, all of them asymmetric; never empty.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The schemes that clients use, which a proxy behind other proxies cannot see; never empty.
    pub schemes: Vec<UriScheme>,
    /// How long after `iat` a proof is good, in milliseconds.
    pub proof_age_ms_max: u64,
    /// How far `iat` and `nbf` may lie in the future, and `exp` in the past, in milliseconds.
    pub clock_skew_ms: u64,
    /// Whether a proof must hold a nonce of ours.
    pub nonce: NonceRequirement,
    /// How many proofs a sidecar remembers.
    pub ledger_entries_max: u32,
}

/// Whether a proof must hold a nonce that this sidecar gave out (RFC 9449 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceRequirement {
    /// No; a nonce in a proof is ignored.
    NotRequired,
    /// Yes, one that is at most two windows old.
    Required {
        /// How long one nonce is given out, in milliseconds; never 0.
        window_ms: u64,
    },
}

/// The key that a token is bound to (RFC 9449 §6.1), and the hash of the token, which its proofs
/// must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBinding {
    /// `cnf.jkt`.
    pub thumbprint: KeyThumbprint,
    /// What `ath` must be.
    pub access_token_hash: AccessTokenHash,
}

/// The SHA-256 of a token as it was sent (RFC 9449 §4.2 `ath`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenHash([u8; 32]);

impl AccessTokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// Why a proof is refused. `Display` may be shown to the caller: it repeats nothing of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// RFC 9449 §4.3, 1: there is none.
    #[error("no `DPoP` header was sent")]
    Missing,
    /// RFC 9449 §4.3, 1: there are several.
    #[error("more than one `DPoP` header was sent")]
    Repeated,
    /// RFC 9449 §4.3, 2: not a JWS whose header and payload are JSON objects.
    #[error("the proof is not one well-formed JWS in compact serialization")]
    NotJws,
    /// RFC 9449 §4.3, 3: a claim is absent, of another kind or too long.
    #[error("`{0}` is absent or not what RFC 9449 says")]
    Claim(&'static str),
    /// RFC 9449 §4.3, 4.
    #[error("`typ` is not `dpop+jwt`")]
    Type,
    /// RFC 9449 §4.3, 5.
    #[error("`alg` is none that is allowed for proofs")]
    Algorithm,
    /// RFC 9449 §4.3, 6 and 7: no key, a private one, a weak one, or one for something else.
    #[error("`jwk` is no public key that fits `alg`")]
    Key,
    /// RFC 9449 §4.3, 6.
    #[error("the signature is not the key's")]
    Signature,
    /// RFC 9449 §4.3, 8.
    #[error("`htm` is not the request's method")]
    Method,
    /// RFC 9449 §4.3, 9.
    #[error("`htu` is not the request's URI")]
    Uri,
    /// RFC 9449 §4.3, 10: ours are required, and there is none or an old one.
    #[error("`nonce` is not one that was given out lately")]
    Nonce,
    /// RFC 9449 §4.3, 11.
    #[error("the proof is too old")]
    TooOld,
    /// RFC 9449 §4.3, 11, and RFC 7519 §4.1.5.
    #[error("`{0}` lies in the future")]
    InTheFuture(&'static str),
    /// RFC 7519 §4.1.4.
    #[error("`exp` has passed")]
    Expired,
    /// RFC 9449 §4.3, 12: the proof is about another token.
    #[error("`ath` is not the hash of the token")]
    AccessTokenHash,
    /// RFC 9449 §4.3, 12: the token is bound to another key.
    #[error("the token is bound to another key than the proof's")]
    OtherKey,
    /// RFC 9449 §11.1: it was used before.
    #[error("the proof was used before")]
    Replayed,
    /// The ledger is full, so a replay could not be detected.
    #[error("too many proofs are remembered, so that no other one can be taken")]
    LedgerFull,
    /// The ledger could not be read or written.
    #[error("the proof could not be remembered")]
    LedgerUnavailable,
}

/// The secret and the ledger that the workers of a sidecar share. Without sharing, each worker
/// would accept the same proof once.
#[derive(Debug)]
pub struct ProofMemory {
    /// The secret of nonces and of the ledger's hashes.
    pub secret: SharedSecret,
    /// Which proofs were used.
    pub ledger: Box<dyn ProofLedger>,
}

impl ProofMemory {
    /// For a program that is the only worker.
    #[must_use]
    pub fn of_one_worker(secret: SharedSecret, settings: &DpopSettings) -> Self {
        let ledger = BucketLedger::new(LocalBuckets::default(), settings.ledger_entries_max);
        Self {
            secret,
            ledger: Box::new(ledger),
        }
    }
}

/// The effect of an accepted proof on the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedProof {
    /// A nonce for the client's next proof, as the one in this proof ends soon (RFC 9449 §8.2).
    pub next_nonce: Option<String>,
}

/// Checks proofs, and remembers each that passed.
#[derive(Debug)]
pub struct ProofChecker {
    settings: DpopSettings,
    nonces: Option<Nonces>,
    memory: ProofMemory,
    algorithm_names: Rc<str>,
    signatures: Rc<dyn SignatureVerifier>,
}

impl ProofChecker {
    /// A checker with the memory of its sidecar.
    #[must_use]
    pub fn new(settings: DpopSettings, memory: ProofMemory, signatures: Rc<dyn SignatureVerifier>) -> Self {
        let nonces = match settings.nonce {
            NonceRequirement::NotRequired => None,
            NonceRequirement::Required { window_ms } => Some(Nonces::new(memory.secret.clone(), window_ms)),
        };
        let names: Vec<_> = settings.algorithms.iter().map(|each| each.name()).collect();
        Self {
            algorithm_names: Rc::from(names.join(" ")),
            settings,
            nonces,
            memory,
            signatures,
        }
    }

    /// Checks the proof of a request for a token that is bound so, at `now` (RFC 9449 §4.3).
    ///
    /// What costs little comes first; nothing is remembered of a proof that does not hold, or
    /// anybody could fill the ledger.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check(
        &mut self,
        head: &RequestHead<'_>,
        binding: &KeyBinding,
        now: Timestamp,
    ) -> Result<AcceptedProof, ProofError> {
        let header = match head.proof {
            ProofHeader::None => return Err(ProofError::Missing),
            ProofHeader::Many => return Err(ProofError::Repeated),
            ProofHeader::One(value) => value,
        };
        let settings = &self.settings;
        let proof = Proof::parse(header, &settings.algorithms)?;
        if proof.thumbprint != binding.thumbprint {
            return Err(ProofError::OtherKey);
        }
        // RFC 9110 §9.1: methods are compared with their case.
        if proof.claims.method != head.method {
            return Err(ProofError::Method);
        }
        if !TargetUri::parse(&proof.claims.uri).is_some_and(|uri| uri.is_of(head, &settings.schemes)) {
            return Err(ProofError::Uri);
        }
        if proof.claims.access_token_hash != binding.access_token_hash.0 {
            return Err(ProofError::AccessTokenHash);
        }
        let times = &proof.claims.times;
        times.check(now, settings.clock_skew_ms, settings.proof_age_ms_max)?;
        let ends_at = times.issued_at.plus_ms(settings.proof_age_ms_max);
        let next_nonce = self.check_nonce(proof.claims.nonce.as_deref(), now)?;
        if !proof.is_signed(self.signatures.as_ref()) {
            return Err(ProofError::Signature);
        }
        let id = ProofId::new(&self.memory.secret, &proof.thumbprint, &proof.claims.id);
        match self.memory.ledger.remember(id, ends_at, now) {
            Ok(()) => Ok(AcceptedProof { next_nonce }),
            Err(LedgerError::Known) => Err(ProofError::Replayed),
            Err(LedgerError::Full) => Err(ProofError::LedgerFull),
            Err(LedgerError::Unavailable) => Err(ProofError::LedgerUnavailable),
        }
    }

    /// The nonce to give out now; `None`: none are required.
    #[must_use]
    pub fn nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.at(now))
    }

    /// The allowed algorithms as the challenge's `algs` has them (RFC 9449 §7.1).
    #[must_use]
    pub fn algorithm_names(&self) -> &Rc<str> {
        &self.algorithm_names
    }

    fn check_nonce(&self, nonce: Option<&str>, now: Timestamp) -> Result<Option<String>, ProofError> {
        let Some(nonces) = &self.nonces else { return Ok(None) };
        match nonces.age(nonce.unwrap_or_default(), now) {
            NonceAge::Current => Ok(None),
            NonceAge::Previous => Ok(Some(nonces.at(now))),
            NonceAge::Unknown => Err(ProofError::Nonce),
        }
    }
}

#[cfg(test)]
mod tests;
