//! The proof by which a device enrols its key: a JWS that the key signed over a challenge that it
//! was given.

use picket_model::strict_json::{Json, Members};
use picket_model::thumbprint::KeyThumbprint;
use picket_model::time::Timestamp;

use crate::jose::TokenAlgorithm;
use crate::jose::key_proof::{KeyProof, KeyProofError, ProofTimeError, ProofTimes};
use crate::jose::signature::SignatureVerifier;

/// `typ` of such a proof: none passes for a token or a DPoP proof, and none of those for it (RFC
/// 8725 §3.11).
pub const PROOF_TYPE: &str = "picket-device+jwt";
/// How long after `iat` a proof is good, in milliseconds.
pub const PROOF_AGE_MS_MAX: u64 = 300_000;
/// How far `iat` and `nbf` may lie in the future, and `exp` in the past, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 60_000;
/// A longer challenge is none that was given out.
const CHALLENGE_BYTES_MAX: usize = 256;
/// Signatures by keys that keep their secret to themselves.
const ALGORITHMS: [TokenAlgorithm; 10] = [
    TokenAlgorithm::Es256,
    TokenAlgorithm::Es384,
    TokenAlgorithm::Es512,
    TokenAlgorithm::EdDsa,
    TokenAlgorithm::Ps256,
    TokenAlgorithm::Ps384,
    TokenAlgorithm::Ps512,
    TokenAlgorithm::Rs256,
    TokenAlgorithm::Rs384,
    TokenAlgorithm::Rs512,
];

/// What a proof that holds says. Whether the challenge was given out, and not answered yet, is the
/// caller's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollmentProof {
    /// That of the key whose possession is proved (RFC 7638).
    pub thumbprint: KeyThumbprint,
    /// `nonce`.
    pub challenge: String,
}

/// Why a proof does not hold. `Display` repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollmentError {
    /// Not a JWS whose header and payload are JSON objects.
    #[error("the proof is not one well-formed JWS in compact serialization")]
    NotJws,
    /// `typ`.
    #[error("`typ` is not `{PROOF_TYPE}`")]
    Type,
    /// `alg`.
    #[error("`alg` is none that is allowed for proofs")]
    Algorithm,
    /// No key, a private one, a weak one, or one for something else.
    #[error("`jwk` is no public key that fits `alg`")]
    Key,
    /// A claim is absent, of another kind or too long.
    #[error("`{0}` is absent or not what it should be")]
    Claim(&'static str),
    /// It was made for somebody else.
    #[error("`aud` is not this service")]
    Audience,
    /// It was made too long ago.
    #[error("the proof is too old")]
    TooOld,
    /// It was made in the future, or is not good yet.
    #[error("`{0}` lies in the future")]
    InTheFuture(&'static str),
    /// It is not good any more.
    #[error("`exp` has passed")]
    Expired,
    /// The key did not sign it.
    #[error("the signature is not the key's")]
    Signature,
}

impl EnrollmentProof {
    /// Checks a proof that was made for `audience`, at `now`.
    ///
    /// # Errors
    /// [`EnrollmentError`].
    pub fn check(
        proof: &str,
        audience: &str,
        now: Timestamp,
        signatures: &dyn SignatureVerifier,
    ) -> Result<Self, EnrollmentError> {
        let jws = KeyProof::parse(proof, PROOF_TYPE, &ALGORITHMS)?;
        let claims = jws.claims().ok_or(EnrollmentError::NotJws)?;
        if text(&claims, "aud")? != audience {
            return Err(EnrollmentError::Audience);
        }
        let times = ProofTimes::read(&claims).map_err(EnrollmentError::Claim)?;
        times.check(now, CLOCK_SKEW_MS, PROOF_AGE_MS_MAX)?;
        let challenge = text(&claims, "nonce")?;
        if challenge.len() > CHALLENGE_BYTES_MAX {
            return Err(EnrollmentError::Claim("nonce"));
        }
        match jws.is_signed(signatures) {
            true => Ok(Self {
                thumbprint: jws.thumbprint,
                challenge: challenge.to_owned(),
            }),
            false => Err(EnrollmentError::Signature),
        }
    }
}

fn text<'c>(claims: &'c Members<'_>, name: &'static str) -> Result<&'c str, EnrollmentError> {
    match claims.get(name) {
        Some(Json::String(text)) if !text.is_empty() => Ok(text),
        Some(_) | None => Err(EnrollmentError::Claim(name)),
    }
}

impl From<ProofTimeError> for EnrollmentError {
    fn from(error: ProofTimeError) -> Self {
        match error {
            ProofTimeError::TooOld => Self::TooOld,
            ProofTimeError::InTheFuture(claim) => Self::InTheFuture(claim),
            ProofTimeError::Expired => Self::Expired,
        }
    }
}

impl From<KeyProofError> for EnrollmentError {
    fn from(error: KeyProofError) -> Self {
        match error {
            KeyProofError::NotJws => Self::NotJws,
            KeyProofError::Type => Self::Type,
            KeyProofError::Algorithm => Self::Algorithm,
            KeyProofError::Key => Self::Key,
        }
    }
}
