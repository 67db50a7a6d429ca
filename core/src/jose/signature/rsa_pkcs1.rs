//! RSASSA-PKCS1-v1_5 (RFC 8017 §8.2.2), with the numbers of `rsa_pss`.
//!
//! The encoded message is made anew and compared as a whole. Nothing of what the signature holds is
//! parsed, so there is no padding and no algorithm to be lenient about.

use num_bigint::BigUint;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::rsa_pss::{power, with_leading_zeros};

/// The least bytes of padding (RFC 8017 §9.2, step 3).
const PADDING_BYTES_MIN: usize = 8;

/// A hash function that has a name in signatures.
pub(super) trait NamedDigest: Digest {
    /// The DER of `DigestInfo` up to the hash itself (RFC 8017 §9.2, note 1).
    const PREFIX: [u8; 19];
}

impl NamedDigest for Sha256 {
    const PREFIX: [u8; 19] = *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
}

impl NamedDigest for Sha384 {
    const PREFIX: [u8; 19] = *b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30";
}

impl NamedDigest for Sha512 {
    const PREFIX: [u8; 19] = *b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40";
}

/// Whether the signature is the key's over the message. `modulus` and `exponent` are those of a key
/// that was read ([`crate::jose::keys::KeyMaterial::Rsa`]).
pub(super) fn is_valid<H: NamedDigest>(modulus: &[u8], exponent: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let modulus_number = BigUint::from_bytes_be(modulus);
    let signature_number = BigUint::from_bytes_be(signature);
    // RFC 8017 §8.2.2, step 1, and §5.2.2, step 1: else one signature would have two spellings.
    if signature.len() != modulus.len() || signature_number >= modulus_number {
        return false;
    }
    let encoded = power(&signature_number, exponent, &modulus_number).to_bytes_be();
    let encoded = u64::try_from(modulus.len() * 8)
        .ok()
        .and_then(|bits| with_leading_zeros(&encoded, bits));
    encoded.is_some() && encoded == expected::<H>(message, modulus.len())
}

/// EMSA-PKCS1-v1_5-ENCODE (RFC 8017 §9.2). `None`: a message of this length has no room for it.
fn expected<H: NamedDigest>(message: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let hash = H::digest(message);
    let padding_bytes = bytes.checked_sub(H::PREFIX.len() + hash.len() + 3)?;
    if padding_bytes < PADDING_BYTES_MIN {
        return None;
    }
    let padding = vec![0xff; padding_bytes];
    Some([&[0, 1], padding.as_slice(), &[0], &H::PREFIX, &hash].concat())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::rust_crypto;
    use jsonwebtoken::{Algorithm, DecodingKey};
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;
    use crate::jose::signature::rsa_pss::tests::{EXPONENT, MESSAGE, MODULUS, PRIVATE_EXPONENT, number};

    /// Signs an encoded message.
    fn sign(encoded: &[u8]) -> Vec<u8> {
        let signature = BigUint::from_bytes_be(encoded).modpow(&number(PRIVATE_EXPONENT), &number(MODULUS));
        with_leading_zeros(&signature.to_bytes_be(), 2048).unwrap()
    }

    /// The verdict of this module and of RustCrypto, which must be the same.
    fn verdict<H: NamedDigest>(algorithm: Algorithm, signature: &[u8]) -> bool {
        let modulus = number(MODULUS).to_bytes_be();
        let key = DecodingKey::from_rsa_raw_components(&modulus, &EXPONENT);
        let reference = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key).unwrap();
        let ours = is_valid::<H>(&modulus, &EXPONENT, MESSAGE, signature);
        assert_eq!(ours, reference.verify(MESSAGE, &signature.to_vec()).is_ok());
        ours
    }

    fn check_all<H: NamedDigest, Other: NamedDigest>(algorithm: Algorithm) {
        let right = expected::<H>(MESSAGE, 256).unwrap();
        assert!(verdict::<H>(algorithm, &sign(&right)));
        // Bytes of the padding, of the name of the hash and of the hash.
        for place in (1..right.len()).step_by(7) {
            let mut changed = right.clone();
            changed[place] ^= 1;
            assert!(!verdict::<H>(algorithm, &sign(&changed)), "{place}");
        }
        let other_message = expected::<H>(b"massage", 256).unwrap();
        assert!(!verdict::<H>(algorithm, &sign(&other_message)));
        let other_hash = expected::<Other>(MESSAGE, 256).unwrap();
        assert!(!verdict::<H>(algorithm, &sign(&other_hash)));
        // A shorter padding with the rest behind the hash (Bleichenbacher, 2006).
        let start = right.iter().skip(2).position(|byte| *byte == 0).unwrap() + 2;
        let forged = [&right[..10], &right[start..], &vec![0; start - 10]].concat();
        assert_eq!(forged.len(), right.len());
        assert!(!verdict::<H>(algorithm, &sign(&forged)));
        // Parameters of the hash that are absent, as some write them.
        let hash = H::digest(MESSAGE);
        let mut prefix = H::PREFIX.to_vec();
        prefix.drain(15..17);
        (prefix[1], prefix[3]) = (prefix[1] - 2, prefix[3] - 2);
        let padding = vec![0xff; 256 - 3 - prefix.len() - hash.len()];
        let without = [&[0, 1], padding.as_slice(), &[0], prefix.as_slice(), &hash].concat();
        assert!(!verdict::<H>(algorithm, &sign(&without)));
    }

    #[test]
    fn takes_what_rust_crypto_takes_and_nothing_else() {
        check_all::<Sha256, Sha384>(Algorithm::RS256);
        check_all::<Sha384, Sha512>(Algorithm::RS384);
        check_all::<Sha512, Sha256>(Algorithm::RS512);
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let signature = sign(&expected::<Sha256>(MESSAGE, 256).unwrap());
        let modulus = number(MODULUS);
        let others = [
            signature[..255].to_vec(),
            [signature.as_slice(), &[0]].concat(),
            [&[0], signature.as_slice()].concat(),
            (BigUint::from_bytes_be(&signature) + &modulus).to_bytes_be(),
            vec![0; 256],
            vec![0xff; 256],
            modulus.to_bytes_be(),
            (&modulus - 1_u32).to_bytes_be(),
            Vec::new(),
        ];
        for other in others {
            assert!(!is_valid::<Sha256>(&modulus.to_bytes_be(), &EXPONENT, MESSAGE, &other));
        }
    }

    #[test]
    fn a_key_without_room_for_the_hash_has_no_signature() {
        for bytes in 0..=100 {
            let modulus = vec![0xff; bytes];
            assert!(
                !is_valid::<Sha512>(&modulus, &EXPONENT, MESSAGE, &vec![0; bytes]),
                "{bytes}"
            );
        }
        assert!(expected::<Sha256>(MESSAGE, 61).is_none() && expected::<Sha256>(MESSAGE, 62).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_bytes_are_a_signature(signature in proptest::collection::vec(proptest::num::u8::ANY, 256)) {
            prop_assert!(!verdict::<Sha256>(Algorithm::RS256, &signature));
        }
    }
}
