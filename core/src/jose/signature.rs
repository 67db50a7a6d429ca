//! The check of signatures: the port [`SignatureVerifier`], and an implementation in Rust.
//!
//! The host chooses the implementation, as a proxy may have a faster one than its Wasm module.

pub mod known_answers;
mod rsa_pss;

use ed25519_dalek::VerifyingKey;
use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Sha256, Sha384, Sha512};

use super::algorithm::{Curve, HashFunction, Scheme, TokenAlgorithm};
use super::keys::{KeyMaterial, VerificationKey};

/// Checks signatures.
pub trait SignatureVerifier: std::fmt::Debug {
    /// Whether `signature`, as it stands in a JWS, is the key's over `message`. What cannot be read is not.
    ///
    /// The caller has made sure that the key fits the algorithm ([`VerificationKey::supports`]).
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Checks signatures in this very program: RSASSA-PSS with the numbers of `num-bigint`, all others with RustCrypto.
#[derive(Clone, Copy, Debug)]
pub struct SoftwareVerifier;

impl SignatureVerifier for SoftwareVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        match (algorithm.scheme(), key.material()) {
            (Scheme::RsaPss, KeyMaterial::Rsa { modulus, exponent }) => {
                let is_valid = match algorithm.hash_function() {
                    HashFunction::Sha256 => rsa_pss::is_valid::<Sha256>,
                    HashFunction::Sha384 => rsa_pss::is_valid::<Sha384>,
                    HashFunction::Sha512 => rsa_pss::is_valid::<Sha512>,
                };
                is_valid(modulus, exponent, message, signature)
            }
            // RFC 8017 §8.2.2: as long as the modulus, and below it; else one signature would have two spellings.
            (Scheme::RsaPkcs1, KeyMaterial::Rsa { modulus, .. })
                if signature.len() != modulus.len() || signature >= modulus.as_slice() =>
            {
                false
            }
            // jsonwebtoken has no ES512.
            (Scheme::Ecdsa(Curve::P521), KeyMaterial::Ec { point, .. }) => is_valid_p521(point, message, signature),
            (Scheme::Ed25519, KeyMaterial::Ed25519(key)) => is_valid_ed25519(key, message, signature),
            (_, material) => is_valid(algorithm, material, message, signature).unwrap_or(false),
        }
    }
}

fn is_valid(algorithm: TokenAlgorithm, material: &KeyMaterial, message: &[u8], signature: &[u8]) -> Option<bool> {
    let key = match material {
        KeyMaterial::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
        KeyMaterial::Ec { point, .. } => DecodingKey::from_ec_der(point),
        KeyMaterial::Ed25519(key) => DecodingKey::from_ed_der(key.as_bytes()),
        KeyMaterial::Secret(secret) => DecodingKey::from_secret(secret.as_bytes()),
    };
    let verifier = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&jwt_algorithm(algorithm)?, &key).ok()?;
    Some(verifier.verify(message, &signature.to_vec()).is_ok())
}

fn is_valid_p521(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use p521::ecdsa::signature::Verifier;
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point);
    let signature = p521::ecdsa::Signature::from_slice(signature);
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
}

/// The key was unpacked when it was read, which jsonwebtoken would do for each signature.
fn is_valid_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    use ed25519_dalek::Verifier;
    ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// jsonwebtoken's name for it. `None`: it has none.
fn jwt_algorithm(algorithm: TokenAlgorithm) -> Option<Algorithm> {
    Some(match algorithm {
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::Es512 => return None,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::Hs384 => Algorithm::HS384,
        TokenAlgorithm::Hs512 => Algorithm::HS512,
    })
}
