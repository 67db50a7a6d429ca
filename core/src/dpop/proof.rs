//! A proof as it was sent: a JWS with the key that signed it in its header (RFC 9449 §4.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{ProofError, Thumbprint};
use crate::signature::SignatureVerifier;
use crate::strict_json::{Json, Members};
use crate::time::Timestamp;
use crate::token::TokenAlgorithm;
use crate::token::own_key::{OwnKeyError, OwnKeyJws};

/// RFC 9449 §4.2 suggests 96 random bits or a UUID; what is far longer is no identifier.
pub(super) const PROOF_ID_BYTES_MAX: usize = 256;

/// A proof that has the right form. Nothing in it is true before [`Proof::is_signed`].
#[derive(Debug)]
pub(super) struct Proof<'p> {
    jws: OwnKeyJws<'p>,
    /// That of the key.
    pub(super) thumbprint: Thumbprint,
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
    /// `iat`, fractions of a second cut off.
    pub(super) issued_at: Timestamp,
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
        let jws = OwnKeyJws::parse(text, "dpop+jwt", algorithms)?;
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

impl From<OwnKeyError> for ProofError {
    fn from(error: OwnKeyError) -> Self {
        match error {
            OwnKeyError::NotJws => Self::NotJws,
            OwnKeyError::Type => Self::Type,
            OwnKeyError::Algorithm => Self::Algorithm,
            OwnKeyError::Key => Self::Key,
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
            issued_at: issued_at(claims)?,
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

/// RFC 7519 §2 NumericDate, in whole seconds; what no clock shows is none.
fn issued_at(claims: &Members<'_>) -> Result<Timestamp, ProofError> {
    /// The year 9999.
    const NUMERIC_DATE_S_MAX: i64 = 253_402_300_799;
    let seconds = match claims.get("iat") {
        Some(Json::Number(number)) => number.as_i64().or_else(|| {
            let whole = number.as_f64()?.floor();
            format!("{whole:.0}").parse().ok()
        }),
        Some(_) | None => None,
    };
    seconds
        .filter(|seconds| (0..=NUMERIC_DATE_S_MAX).contains(seconds))
        .map(Timestamp::from_s)
        .ok_or(ProofError::Claim("iat"))
}
