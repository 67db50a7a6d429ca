//! Verification of token signatures: by ring where it supports the algorithm, in a tenth of core's
//! time.

use picket_core::jose::algorithm::TokenAlgorithm;
use picket_core::jose::keys::{KeyMaterial, VerificationKey};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use ring::signature::{self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

/// RSA and the curves P-256 and P-384 by ring, everything else by core.
#[derive(Clone, Copy, Debug)]
pub(super) struct NativeVerifier;

impl SignatureVerifier for NativeVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        match (key.material(), rsa(algorithm), ecdsa(algorithm)) {
            (KeyMaterial::Rsa { modulus, exponent }, Some(parameters), _) => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(parameters, message, signature).is_ok()
            }
            (KeyMaterial::Ec { point, .. }, _, Some(algorithm)) => UnparsedPublicKey::new(algorithm, point)
                .verify(message, signature)
                .is_ok(),
            (
                KeyMaterial::Rsa { .. } | KeyMaterial::Ec { .. } | KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_),
                _,
                _,
            ) => SoftwareVerifier.is_valid(algorithm, key, message, signature),
        }
    }
}

fn rsa(algorithm: TokenAlgorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        TokenAlgorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        TokenAlgorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        TokenAlgorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        TokenAlgorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        TokenAlgorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        TokenAlgorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        TokenAlgorithm::Es256
        | TokenAlgorithm::Es384
        | TokenAlgorithm::Es512
        | TokenAlgorithm::EdDsa
        | TokenAlgorithm::Hs256
        | TokenAlgorithm::Hs384
        | TokenAlgorithm::Hs512 => None,
    }
}

fn ecdsa(algorithm: TokenAlgorithm) -> Option<&'static EcdsaVerificationAlgorithm> {
    match algorithm {
        TokenAlgorithm::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
        TokenAlgorithm::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
        TokenAlgorithm::Rs256
        | TokenAlgorithm::Rs384
        | TokenAlgorithm::Rs512
        | TokenAlgorithm::Ps256
        | TokenAlgorithm::Ps384
        | TokenAlgorithm::Ps512
        | TokenAlgorithm::Es512
        | TokenAlgorithm::EdDsa
        | TokenAlgorithm::Hs256
        | TokenAlgorithm::Hs384
        | TokenAlgorithm::Hs512 => None,
    }
}

#[cfg(test)]
mod tests {
    use picket_core::jose::TokenLimits;
    use picket_core::jose::jws::Jws;
    use picket_core::jose::keys::KeySource;
    use picket_core::jose::signature::known_answers;

    use super::*;

    /// Of sizes that are no multiple of 8, among others.
    #[test]
    fn tokens_of_unusual_keys_hold() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/vectors/key_sets.json")).unwrap();
        let signed = vectors["signed"].as_array().unwrap();
        assert!(!signed.is_empty());
        for case in signed {
            let key = VerificationKey::parse(&case["jwk"], KeySource::Published)
                .unwrap()
                .unwrap();
            let jws = Jws::parse(case["token"].as_str().unwrap(), &TokenLimits::DEFAULT).unwrap();
            let algorithm = TokenAlgorithm::from_name(case["alg"].as_str().unwrap()).unwrap();
            let signature = jws.signature().unwrap();
            let is_valid = |message: &[u8]| NativeVerifier.is_valid(algorithm, &key, message, &signature);
            assert!(
                is_valid(jws.signing_input.as_bytes()) && !is_valid(b"another text"),
                "{}",
                case["id"]
            );
        }
    }

    #[test]
    fn known_answers_hold_for_every_algorithm() {
        for algorithm in TokenAlgorithm::ALL {
            assert!(known_answers::pass(*algorithm, &NativeVerifier), "{}", algorithm.name());
        }
    }
}
