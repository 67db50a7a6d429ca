//! Public keys as X.509 writes them (RFC 5280 §4.1.2.7, `SubjectPublicKeyInfo` in DER), which is
//! what TLS libraries read.

use spki::der::Encode;
use spki::der::asn1::{BitStringRef, UintRef};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::KeyMaterial;
use crate::jose::algorithm::Curve;

/// RFC 5480 §2.1.1.
const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// `None`: a secret, which is no public key, or one that has no form of its own in RFC 5280.
pub(super) fn encode(material: &KeyMaterial) -> Option<Box<[u8]>> {
    let encoded = match material {
        KeyMaterial::Rsa { modulus, exponent } => {
            // RFC 8017 §A.1.1.
            let key = pkcs1::RsaPublicKey {
                modulus: UintRef::new(modulus).ok()?,
                public_exponent: UintRef::new(exponent).ok()?,
            };
            with_algorithm(pkcs1::ALGORITHM_ID, &key.to_der().ok()?)
        }
        KeyMaterial::Ec { curve, point } => {
            // RFC 5480 §2.1.1.1, secp256r1, secp384r1 and secp521r1.
            let curve = ObjectIdentifier::new_unwrap(match curve {
                Curve::P256 => "1.2.840.10045.3.1.7",
                Curve::P384 => "1.3.132.0.34",
                Curve::P521 => "1.3.132.0.35",
            });
            let algorithm = AlgorithmIdentifierRef {
                oid: ID_EC_PUBLIC_KEY,
                parameters: Some((&curve).into()),
            };
            with_algorithm(algorithm, point)
        }
        KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_) => None,
    };
    encoded.map(Vec::into_boxed_slice)
}

fn with_algorithm(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(key).ok()?;
    SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key,
    }
    .to_der()
    .ok()
}
