//! A proof of possession: a JWS with the key that signed it in its header (`jwk`, RFC 7515 §4.1.3).
//! It proves that its sender holds the private key, and nothing else.

mod times;

use picket_model::strict_json::{Json, Members};
use picket_model::thumbprint::KeyThumbprint;
use serde_json::Value;

use super::algorithm::{Scheme, TokenAlgorithm};
use super::jws::Jws;
use super::keys::{KeyMaterial, KeySource, VerificationKey};
use super::limits::TokenLimits;
use super::signature::SignatureVerifier;
use super::thumbprint::key_thumbprint;

pub(crate) use times::{ProofTimeError, ProofTimes};

/// The exponents that libraries give to RSA keys: 3 and 65537.
const USUAL_EXPONENTS: [&[u8]; 2] = [&[3], &[1, 0, 1]];

/// A proof with the right form. Nothing in it counts before [`KeyProof::is_signed`].
#[derive(Debug)]
pub(crate) struct KeyProof<'p> {
    jws: Jws<'p>,
    algorithm: TokenAlgorithm,
    key: VerificationKey,
    /// The thumbprint of the key.
    pub(crate) thumbprint: KeyThumbprint,
}

/// Why the form of a proof is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyProofError {
    /// Not a JWS whose header is a JSON object.
    NotJws,
    /// `typ` is another one.
    Type,
    /// `alg` is none of those that are allowed, or one of secrets.
    Algorithm,
    /// No key, a private one, a weak one, or one for something else.
    Key,
}

impl<'p> KeyProof<'p> {
    /// Reads one of this type. It is compared as it stands, not as a media type that may be written
    /// in several ways.
    pub(crate) fn parse(text: &'p str, typ: &str, algorithms: &[TokenAlgorithm]) -> Result<Self, KeyProofError> {
        let jws = Jws::parse(text, &TokenLimits::OF_PROOFS).map_err(|_| KeyProofError::NotJws)?;
        let members = jws.header().map_err(|_| KeyProofError::NotJws)?;
        if !matches!(members.get("typ"), Some(Json::String(found)) if found == typ) {
            return Err(KeyProofError::Type);
        }
        let algorithm = match members.get("alg") {
            Some(Json::String(name)) => TokenAlgorithm::from_name(name),
            Some(_) | None => None,
        };
        // A secret proves nothing about who has it.
        let algorithm = algorithm
            .filter(|algorithm| algorithms.contains(algorithm) && algorithm.scheme() != Scheme::Hmac)
            .ok_or(KeyProofError::Algorithm)?;
        let key = members.get("jwk").and_then(public_key).ok_or(KeyProofError::Key)?;
        if !key.supports(algorithm) {
            return Err(KeyProofError::Key);
        }
        let thumbprint = key_thumbprint(key.material()).ok_or(KeyProofError::Key)?;
        Ok(Self {
            jws,
            algorithm,
            key,
            thumbprint,
        })
    }

    /// The payload. `None`: it is no JSON object.
    pub(crate) fn claims(&self) -> Option<Members<'_>> {
        self.jws.claims().ok()
    }

    /// Whether the key in it signed it.
    pub(crate) fn is_signed(&self, signatures: &dyn SignatureVerifier) -> bool {
        let message = self.jws.signing_input.as_bytes();
        self.jws
            .signature()
            .is_some_and(|signature| signatures.is_valid(self.algorithm, &self.key, message, &signature))
    }
}

/// RFC 9449 §4.3, 6 and 7. `None`: it is not a public key for signatures, or a weak one.
fn public_key(jwk: &Json<'_>) -> Option<VerificationKey> {
    let key = VerificationKey::parse(&Value::from(jwk.clone()), KeySource::Published).ok()??;
    match key.material() {
        // What it costs to check a signature is the exponent's, and whoever sends it has chosen it.
        KeyMaterial::Rsa { exponent, .. } if !USUAL_EXPONENTS.contains(&exponent.as_slice()) => None,
        KeyMaterial::Rsa { .. } | KeyMaterial::Ec { .. } | KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_) => {
            Some(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use picket_model::strict_json;
    use serde_json::json;

    use super::*;

    /// The key of RFC 7515 §A.2.1.
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    #[test]
    fn nothing_private_is_in_it() {
        let with = |name: &str, value: serde_json::Value| {
            let mut jwk = json!({"kty": "RSA", "n": MODULUS, "e": "AQAB"});
            jwk[name] = value;
            public_key(&strict_json::borrow(jwk.to_string().as_bytes()).unwrap()).is_some()
        };
        for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
            assert!(
                !with(name, "AQ".into()) && !with(name, 7.into()) && !with(name, json!([])),
                "{name}"
            );
            // What is null is not there (RFC 9449 §4.3, 7).
            assert!(with(name, serde_json::Value::Null), "{name}");
        }
    }

    #[test]
    fn a_sender_cannot_choose_an_exponent_that_is_dear() {
        for (exponent, is_taken) in [("AQAB", true), ("Aw", true), ("_____w", false), ("BQ", false)] {
            let jwk = json!({"kty": "RSA", "n": MODULUS, "e": exponent}).to_string();
            let key = public_key(&strict_json::borrow(jwk.as_bytes()).unwrap());
            assert_eq!(key.is_some(), is_taken, "{exponent}");
        }
    }
}
