//! A proof as it was sent: a JWS with the key that signed it in its header (RFC 9449 §4.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::strict_json::{Json, Members};
use picket_model::thumbprint::KeyThumbprint;

use super::ProofError;
use crate::jose::TokenAlgorithm;
use crate::jose::key_proof::{KeyProof, KeyProofError, ProofTimeError, ProofTimes};
use crate::jose::signature::SignatureVerifier;

/// RFC 9449 §4.2 suggests 96 random bits or a UUID; what is far longer is no identifier.
pub(crate) const PROOF_ID_BYTES_MAX: usize = 256;

/// A proof that has the right form. Nothing in it is true before [`Proof::is_signed`].
#[derive(Debug)]
pub(super) struct Proof<'p> {
    jws: KeyProof<'p>,
    /// That of the key.
    pub(super) thumbprint: KeyThumbprint,
    pub(super) claims: ProofClaims,
}

/// The claims of a proof that goes with a token (RFC 9449 §4.2).
#[derive(Debug)]
pub(super) struct ProofClaims {
    /// `jti`.
    pub(super) id: String,
    /// `htm`.
    pub(super) method: String,
    /// `htu`, as sent.
    pub(super) uri: String,
    /// `iat`, `exp` and `nbf`.
    pub(super) times: ProofTimes,
    /// `ath`.
    pub(super) access_token_hash: [u8; 32],
    /// `nonce`.
    pub(super) nonce: Option<String>,
}

impl<'p> Proof<'p> {
    /// Reads the value of a `DPoP` header.
    ///
    /// # Errors
    /// When it breaks any of RFC 9449 §4.3, 2 to 5 and 7.
    pub(super) fn parse(header: &'p [u8], algorithms: &[TokenAlgorithm]) -> Result<Self, ProofError> {
        let text = std::str::from_utf8(header).map_err(|_| ProofError::NotJws)?;
        // RFC 9449 §4.2 has the value as it stands.
        let jws = KeyProof::parse(text, "dpop+jwt", algorithms)?;
        let claims = ProofClaims::read(&jws.claims().ok_or(ProofError::NotJws)?)?;
        Ok(Self {
            thumbprint: jws.thumbprint,
            claims,
            jws,
        })
    }

    /// Whether the key in the proof signed it.
    pub(super) fn is_signed(&self, signatures: &dyn SignatureVerifier) -> bool {
        self.jws.is_signed(signatures)
    }
}

impl From<KeyProofError> for ProofError {
    fn from(error: KeyProofError) -> Self {
        match error {
            KeyProofError::NotJws => Self::NotJws,
            KeyProofError::Type => Self::Type,
            KeyProofError::Algorithm => Self::Algorithm,
            KeyProofError::Key => Self::Key,
        }
    }
}

impl From<ProofTimeError> for ProofError {
    fn from(error: ProofTimeError) -> Self {
        match error {
            ProofTimeError::TooOld => Self::TooOld,
            ProofTimeError::InTheFuture(claim) => Self::InTheFuture(claim),
            ProofTimeError::Expired => Self::Expired,
        }
    }
}

impl ProofClaims {
    fn read(claims: &Members<'_>) -> Result<Self, ProofError> {
        let id = text(claims, "jti")?;
        if id.len() > PROOF_ID_BYTES_MAX {
            return Err(ProofError::Claim("jti"));
        }
        let access_token_hash = URL_SAFE_NO_PAD
            .decode(text(claims, "ath")?)
            .ok()
            .and_then(|hash| hash.try_into().ok())
            .ok_or(ProofError::AccessTokenHash)?;
        Ok(Self {
            id: id.to_owned(),
            method: text(claims, "htm")?.to_owned(),
            uri: text(claims, "htu")?.to_owned(),
            times: ProofTimes::read(claims).map_err(ProofError::Claim)?,
            access_token_hash,
            nonce: match claims.get("nonce") {
                None => None,
                Some(Json::String(nonce)) => Some(nonce.as_ref().to_owned()),
                Some(_) => return Err(ProofError::Claim("nonce")),
            },
        })
    }
}

/// A claim that must be there and hold text.
fn text<'c>(claims: &'c Members<'_>, name: &'static str) -> Result<&'c str, ProofError> {
    match claims.get(name) {
        Some(Json::String(text)) if !text.is_empty() => Ok(text),
        Some(_) | None => Err(ProofError::Claim(name)),
    }
}
