//! Values that only this sidecar's workers can make: HMAC-SHA-256 (RFC 2104) with the secret that
//! they share.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The bytes of an HMAC block of SHA-256.
const BLOCK_BYTES: usize = 64;

/// A random secret that the workers of one sidecar share, and nobody else has.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret([u8; SharedSecret::BYTES]);

/// What a value is made for: the values for one use say nothing about those for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Nonce,
    ProofId,
}

impl SharedSecret {
    /// Its length.
    pub const BYTES: usize = 32;

    /// Takes random bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The value for two parts. The first has the same length for each call with one [`Use`], so no
    /// two pairs are the same text.
    pub(super) fn mac(&self, purpose: Use, first: &[u8], second: &[u8]) -> [u8; 32] {
        // RFC 2104 §2: a key that is shorter than a block is filled up with zeros.
        let mut key = [0; BLOCK_BYTES];
        for (to, from) in key.iter_mut().zip(self.0) {
            *to = from;
        }
        let label = match purpose {
            Use::Nonce => b'n',
            Use::ProofId => b'p',
        };
        let mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&key.into());
        let mac = mac.chain_update([label]).chain_update(first).chain_update(second);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 §4.3 has HMAC-SHA-256 with a key shorter than a block; here one of 32 bytes, worked
    /// out with OpenSSL 3.0: `printf 'nab' | openssl dgst -sha256 -mac HMAC -macopt
    /// hexkey:0707…07`.
    #[test]
    fn is_hmac_sha_256() {
        let hex: String = SharedSecret::new([7; 32])
            .mac(Use::Nonce, b"a", b"b")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "6ffca02a9294ad485f3b1c90a614a0b1a39189e0421ad7e39d734c4ed123bcc0");
    }

    #[test]
    fn differs_with_secret_use_and_text() {
        let secret = SharedSecret::new([7; 32]);
        let one = secret.mac(Use::Nonce, b"a", b"b");
        assert_ne!(one, secret.mac(Use::ProofId, b"a", b"b"));
        assert_ne!(one, secret.mac(Use::Nonce, b"a", b"c"));
        assert_ne!(one, SharedSecret::new([8; 32]).mac(Use::Nonce, b"a", b"b"));
    }

    #[test]
    fn is_not_shown() {
        assert_eq!(format!("{:?}", SharedSecret::new([7; 32])), "SharedSecret(..)");
    }
}
