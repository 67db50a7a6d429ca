//! RSASSA-PSS (RFC 8017 §8.1.2) as JOSE has it (RFC 7518 §3.5): MGF1 with the hash of the message,
//! and a salt as long as a hash.
//!
//! Key, message and signature are public, so nothing here has to take the same time whatever they
//! are. That is why the big numbers are those of a library for any purpose: one that hides what it
//! computes takes seven times as long in a module.

use num_bigint::BigUint;
use sha2::Digest;

/// What the last byte of an encoded message is (RFC 8017 §9.1.1, step 12).
const TRAILER: u8 = 0xbc;

/// Whether the signature is the key's over the message. `modulus` and `exponent` are those of a key
/// that was read ([`crate::jose::keys::KeyMaterial::Rsa`]).
pub(super) fn is_valid<H: Digest>(modulus: &[u8], exponent: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let modulus_number = BigUint::from_bytes_be(modulus);
    let signature_number = BigUint::from_bytes_be(signature);
    // RFC 8017 §8.1.2, step 1, and §5.2.2, step 1: else one signature would have two spellings.
    if signature.len() != modulus.len() || signature_number >= modulus_number {
        return false;
    }
    let encoded_bits = modulus_number.bits().saturating_sub(1);
    let encoded = power(&signature_number, exponent, &modulus_number).to_bytes_be();
    with_leading_zeros(&encoded, encoded_bits)
        .is_some_and(|encoded| is_encoding_of::<H>(message, &encoded, encoded_bits))
}

/// RSAVP1 (RFC 8017 §5.2.2), from the exponent's highest bit down: 16 squarings and a
/// multiplication for 65537.
pub(super) fn power(base: &BigUint, exponent: &[u8], modulus: &BigUint) -> BigUint {
    let bits = exponent
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1 == 1));
    let after_the_highest = bits.skip_while(|bit| !bit).skip(1);
    after_the_highest.fold(base.clone(), |power, bit| {
        let squared = &power * &power % modulus;
        match bit {
            true => squared * base % modulus,
            false => squared,
        }
    })
}

/// I2OSP (RFC 8017 §4.1). `None`: the number has more bytes than an encoded message.
pub(super) fn with_leading_zeros(number: &[u8], encoded_bits: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(encoded_bits.div_ceil(8)).ok()?;
    let mut bytes = vec![0; length.checked_sub(number.len())?];
    bytes.extend(number);
    Some(bytes)
}

/// EMSA-PSS-VERIFY (RFC 8017 §9.1.2) with MGF1 and a salt as long as the hash.
fn is_encoding_of<H: Digest>(message: &[u8], encoded: &[u8], encoded_bits: u64) -> bool {
    read_encoding::<H>(message, encoded, encoded_bits).unwrap_or(false)
}

/// `None`: it is no encoding at all. The steps are those of the RFC.
fn read_encoding<H: Digest>(message: &[u8], encoded: &[u8], encoded_bits: u64) -> Option<bool> {
    let hash_bytes = <H as Digest>::output_size();
    // Step 4.
    let (trailer, encoded) = encoded.split_last()?;
    // Steps 3 and 5: what is left before the hash has to hold a byte and the salt.
    let (masked, hash) = encoded.split_at_checked(encoded.len().checked_sub(hash_bytes)?)?;
    let padding_bytes = masked.len().checked_sub(hash_bytes + 1)?;
    // Steps 6 and 9: the bits of the first byte that the modulus has no room for.
    let unused_bits = (8 - encoded_bits % 8) % 8;
    let used = u8::MAX.checked_shr(u32::try_from(unused_bits).ok()?)?;
    let first_is_short = masked.first().is_some_and(|first| first & !used == 0);
    // Steps 7 and 8.
    let mut block = masked.to_vec();
    mask::<H>(&mut block, hash);
    if let Some(first) = block.first_mut() {
        *first &= used;
    }
    // Steps 10 and 11.
    let (padding, rest) = block.split_at_checked(padding_bytes)?;
    let (separator, salt) = rest.split_first()?;
    let is_padded = padding.iter().all(|byte| *byte == 0) && *separator == 1;
    // Steps 12 to 14.
    let expected = H::new()
        .chain_update([0; 8])
        .chain_update(H::digest(message))
        .chain_update(salt)
        .finalize();
    Some(*trailer == TRAILER && first_is_short && is_padded && *expected == *hash)
}

/// Adds MGF1 of the seed (RFC 8017 §B.2.1) bit by bit.
fn mask<H: Digest>(block: &mut [u8], seed: &[u8]) {
    for (counter, part) in (0_u32..).zip(block.chunks_mut(<H as Digest>::output_size())) {
        let bits = H::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes())
            .finalize();
        part.iter_mut().zip(bits).for_each(|(byte, bit)| *byte ^= bit);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jsonwebtoken::crypto::rust_crypto;
    use jsonwebtoken::{Algorithm, DecodingKey};
    use sha2::{Sha256, Sha384, Sha512};

    use super::*;

    /// The key of RFC 7515 §A.2.1, which is published with its private exponent.
    pub(in crate::jose::signature) const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    pub(in crate::jose::signature) const PRIVATE_EXPONENT: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
    pub(in crate::jose::signature) const EXPONENT: [u8; 3] = [1, 0, 1];
    pub(in crate::jose::signature) const MESSAGE: &[u8] = b"message";

    pub(in crate::jose::signature) fn number(base64url: &str) -> BigUint {
        use base64::Engine;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        BigUint::from_bytes_be(&engine.decode(base64url).unwrap())
    }

    /// EMSA-PSS-ENCODE (RFC 8017 §9.1.1), with every part to be chosen.
    struct Encoding {
        message: &'static [u8],
        salt_bytes: usize,
        separator: u8,
        padding: u8,
        used: u8,
        first_bit: u8,
        trailer: u8,
    }

    const RIGHT: Encoding = Encoding {
        message: MESSAGE,
        salt_bytes: usize::MAX,
        separator: 1,
        padding: 0,
        used: 0x7f,
        first_bit: 0,
        trailer: TRAILER,
    };

    impl Encoding {
        /// For a modulus of so many bytes. `H` hashes the message, `M` makes the mask.
        fn encode<H: Digest, M: Digest>(&self, bytes: usize, salt_byte: u8) -> Vec<u8> {
            let hash_bytes = <H as Digest>::output_size();
            let salt = vec![
                salt_byte;
                self.salt_bytes.min(bytes).min(match self.salt_bytes {
                    usize::MAX => hash_bytes,
                    salt_bytes => salt_bytes,
                })
            ];
            let hash = H::new()
                .chain_update([0; 8])
                .chain_update(H::digest(self.message))
                .chain_update(&salt);
            let hash = hash.finalize();
            let padding = vec![self.padding; bytes - hash_bytes - salt.len() - 2];
            let mut block = [padding, vec![self.separator], salt].concat();
            mask::<M>(&mut block, &hash);
            block[0] = block[0] & self.used | self.first_bit;
            [block.as_slice(), &hash, &[self.trailer]].concat()
        }

        /// Signed with the private key; the salt is one with which the number is below the modulus.
        fn sign<H: Digest, M: Digest>(&self) -> Vec<u8> {
            let modulus = number(MODULUS);
            let fits = |encoded: &Vec<u8>| BigUint::from_bytes_be(encoded) < modulus;
            let encoded = (0..=255).map(|salt| self.encode::<H, M>(256, salt)).find(fits).unwrap();
            let signature = BigUint::from_bytes_be(&encoded).modpow(&number(PRIVATE_EXPONENT), &modulus);
            with_leading_zeros(&signature.to_bytes_be(), 2048).unwrap()
        }
    }

    /// What this module and RustCrypto say, which must be the same.
    fn verdict<H: Digest>(algorithm: Algorithm, signature: &[u8]) -> bool {
        let modulus = number(MODULUS).to_bytes_be();
        let key = DecodingKey::from_rsa_raw_components(&modulus, &EXPONENT);
        let reference = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key).unwrap();
        let ours = is_valid::<H>(&modulus, &EXPONENT, MESSAGE, signature);
        assert_eq!(ours, reference.verify(MESSAGE, &signature.to_vec()).is_ok());
        ours
    }

    fn check_all<H: Digest, Other: Digest>(algorithm: Algorithm) {
        let hash_bytes = <H as Digest>::output_size();
        assert!(verdict::<H>(algorithm, &RIGHT.sign::<H, H>()));
        let wrong = [
            (
                "another message",
                Encoding {
                    message: b"massage",
                    ..RIGHT
                },
            ),
            (
                "a shorter salt",
                Encoding {
                    salt_bytes: hash_bytes - 1,
                    ..RIGHT
                },
            ),
            (
                "a longer salt",
                Encoding {
                    salt_bytes: hash_bytes + 1,
                    ..RIGHT
                },
            ),
            ("no salt", Encoding { salt_bytes: 0, ..RIGHT }),
            ("no separator", Encoding { separator: 0, ..RIGHT }),
            ("another separator", Encoding { separator: 2, ..RIGHT }),
            ("padding", Encoding { padding: 1, ..RIGHT }),
            (
                "a bit that is not used",
                Encoding {
                    first_bit: 0x80,
                    ..RIGHT
                },
            ),
            ("the trailer of X9.31", Encoding { trailer: 0xcc, ..RIGHT }),
        ];
        for (name, encoding) in wrong {
            assert!(!verdict::<H>(algorithm, &encoding.sign::<H, H>()), "{name}");
        }
        assert!(!verdict::<H>(algorithm, &RIGHT.sign::<H, Other>()), "another mask");
        assert!(!verdict::<H>(algorithm, &RIGHT.sign::<Other, Other>()), "another hash");
    }

    #[test]
    fn takes_what_rust_crypto_takes_and_nothing_else() {
        check_all::<Sha256, Sha384>(Algorithm::PS256);
        check_all::<Sha384, Sha512>(Algorithm::PS384);
        check_all::<Sha512, Sha256>(Algorithm::PS512);
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let signature = RIGHT.sign::<Sha256, Sha256>();
        assert!(verdict::<Sha256>(Algorithm::PS256, &signature));
        for place in [0, 1, 127, 254, 255] {
            let mut changed = signature.clone();
            changed[place] ^= 1;
            assert!(!verdict::<Sha256>(Algorithm::PS256, &changed), "{place}");
        }
        let modulus = number(MODULUS);
        let others = [
            signature[..255].to_vec(),
            [signature.as_slice(), &[0]].concat(),
            [&[0], signature.as_slice()].concat(),
            vec![0; 256],
            vec![0xff; 256],
            modulus.to_bytes_be(),
            (modulus - 1_u32).to_bytes_be(),
            Vec::new(),
        ];
        for other in others {
            assert!(!is_valid::<Sha256>(
                &number(MODULUS).to_bytes_be(),
                &EXPONENT,
                MESSAGE,
                &other
            ));
        }
    }

    #[test]
    fn an_encoding_of_whole_bytes_uses_every_bit() {
        // With a modulus of 8 n + 1 bits nothing of the first byte is unused (RFC 8017 §9.1.1, step
        // 11).
        let whole = Encoding { used: 0xff, ..RIGHT };
        let encodings = (0..=255).map(|salt| whole.encode::<Sha256, Sha256>(128, salt));
        let mut encoded = encodings.into_iter().find(|encoded| encoded[0] >= 0x80).unwrap();
        let holds = |encoded: &[u8], bits| is_encoding_of::<Sha256>(MESSAGE, encoded, bits);
        assert!(holds(&encoded, 1024) && !holds(&encoded, 1023));
        encoded[0] &= 0x7f;
        assert!(!holds(&encoded, 1024) && holds(&encoded, 1023));
    }

    #[test]
    fn what_is_too_short_is_no_encoding() {
        for length in 0..=66 {
            let mut encoded = vec![0; length];
            if let Some(last) = encoded.last_mut() {
                *last = TRAILER;
            }
            let bits = 8 * u64::try_from(length).unwrap();
            assert!(!is_encoding_of::<Sha256>(MESSAGE, &encoded, bits), "{length}");
        }
        assert!(!is_valid::<Sha256>(&[], &EXPONENT, MESSAGE, &[]));
        assert!(!is_valid::<Sha256>(&[0], &EXPONENT, MESSAGE, &[0]));
        assert!(!is_valid::<Sha256>(&[1], &EXPONENT, MESSAGE, &[0]));
    }
}
