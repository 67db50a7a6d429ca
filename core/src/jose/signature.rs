//! The check of signatures: the port [`SignatureVerifier`], and an implementation in Rust.
//!
//! The host chooses the implementation, as a proxy may have a faster one than its Wasm module.

pub mod known_answers;
mod rsa_pkcs1;
mod rsa_pss;

use ed25519_dalek::VerifyingKey;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};

use super::algorithm::{Curve, HashFunction, Scheme, TokenAlgorithm};
use super::keys::{KeyMaterial, VerificationKey};

/// Checks signatures.
pub trait SignatureVerifier: std::fmt::Debug {
    /// Whether `signature`, as it stands in a JWS, is the key's over `message`. What cannot be read
    /// is not.
    ///
    /// The caller has made sure that the key fits the algorithm ([`VerificationKey::supports`]).
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Checks signatures in this very program: those of RSA with the numbers of `num-bigint`, all
/// others with RustCrypto.
#[derive(Clone, Copy, Debug)]
pub struct SoftwareVerifier;

impl SignatureVerifier for SoftwareVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        let hash_function = algorithm.hash_function();
        match (algorithm.scheme(), key.material()) {
            (Scheme::RsaPss, KeyMaterial::Rsa { modulus, exponent }) => {
                let is_valid = match hash_function {
                    HashFunction::Sha256 => rsa_pss::is_valid::<Sha256>,
                    HashFunction::Sha384 => rsa_pss::is_valid::<Sha384>,
                    HashFunction::Sha512 => rsa_pss::is_valid::<Sha512>,
                };
                is_valid(modulus, exponent, message, signature)
            }
            (Scheme::RsaPkcs1, KeyMaterial::Rsa { modulus, exponent }) => {
                let is_valid = match hash_function {
                    HashFunction::Sha256 => rsa_pkcs1::is_valid::<Sha256>,
                    HashFunction::Sha384 => rsa_pkcs1::is_valid::<Sha384>,
                    HashFunction::Sha512 => rsa_pkcs1::is_valid::<Sha512>,
                };
                is_valid(modulus, exponent, message, signature)
            }
            (Scheme::Ecdsa(curve), KeyMaterial::Ec { point, .. }) => {
                let is_valid = match curve {
                    Curve::P256 => is_valid_p256,
                    Curve::P384 => is_valid_p384,
                    Curve::P521 => is_valid_p521,
                };
                is_valid(point, message, signature)
            }
            (Scheme::Ed25519, KeyMaterial::Ed25519(key)) => is_valid_ed25519(key, message, signature),
            (Scheme::Hmac, KeyMaterial::Secret(secret)) => {
                let is_valid = match hash_function {
                    HashFunction::Sha256 => is_valid_hmac::<Hmac<Sha256>>,
                    HashFunction::Sha384 => is_valid_hmac::<Hmac<Sha384>>,
                    HashFunction::Sha512 => is_valid_hmac::<Hmac<Sha512>>,
                };
                is_valid(secret.as_bytes(), message, signature)
            }
            // The key is for another scheme.
            _ => false,
        }
    }
}

/// ECDSA on one curve: the point is uncompressed, and the signature its two numbers (RFC 7518
/// §3.4).
macro_rules! ecdsa {
    ($name:ident, $curve:ident) => {
        fn $name(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
            use $curve::ecdsa::signature::Verifier;
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point);
            let signature = $curve::ecdsa::Signature::from_slice(signature);
            key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
        }
    };
}

ecdsa!(is_valid_p256, p256);
ecdsa!(is_valid_p384, p384);
ecdsa!(is_valid_p521, p521);

/// The key was unpacked when it was read.
fn is_valid_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    use ed25519_dalek::Verifier;
    ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

fn is_valid_hmac<M: Mac + KeyInit>(secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let mac = <M as Mac>::new_from_slice(secret);
    mac.is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
}
