//! Token signing keys: reading them from PEM, signing with them, and their public halves as JSON Web Keys.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::traits::PublicKeyParts;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// RFC 7518 §3.3: a key of 2048 bits or larger must be used with RS256.
pub const RSA_BITS_MIN: usize = 2048;
/// The RSA keys that are made here: the least that RS256 allows, and quick to make and to use in development.
pub const RSA_BITS_MADE: usize = 2048;

/// A private key that signs tokens. It is never printed.
pub enum PrivateKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256(Box<rsa::RsaPrivateKey>),
    /// ECDSA with P-256 and SHA-256 (RFC 7518 §3.4).
    Es256(Box<p256::SecretKey>),
}

/// The public half of a token signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// For RS256.
    Rs256(rsa::RsaPublicKey),
    /// For ES256.
    Es256(p256::PublicKey),
}

/// A public JSON Web Key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    alg: &'static str,
    kid: String,
    #[serde(flatten)]
    parameters: JwkParameters,
    #[serde(rename = "use")]
    usage: &'static str,
}

/// A JSON Web Key Set (RFC 7517 §5) of public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicJwkSet {
    keys: Vec<PublicJwk>,
}

/// The members that RFC 7638 §3.2 hashes, in lexicographic order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum JwkParameters {
    Ec {
        crv: &'static str,
        kty: &'static str,
        x: String,
        y: String,
    },
    Rsa {
        e: String,
        kty: &'static str,
        n: String,
    },
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a private nor a public key that is understood.
    #[error("expected an RSA or P-256 key in PEM (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY` or `PUBLIC KEY`)")]
    Form,
    /// A public key, or nothing that is understood, where signing needs the private one.
    #[error("expected an RSA or P-256 private key in PEM (`PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`)")]
    PrivateForm,
    /// RFC 7518 §3.3.
    #[error("expected an RSA key of at least {RSA_BITS_MIN} bits")]
    RsaTooShort,
    /// The signature could not be made.
    #[error("the key could not sign")]
    Sign,
}

impl PrivateKey {
    /// Reads a private key: PKCS#8, PKCS#1 (RSA) or SEC1 (P-256), in PEM without a password.
    ///
    /// # Errors
    /// It is none of these, or an RSA key under [`RSA_BITS_MIN`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let rsa = rsa::RsaPrivateKey::from_pkcs8_pem(pem).or_else(|_| rsa::RsaPrivateKey::from_pkcs1_pem(pem));
        if let Ok(key) = rsa {
            check_rsa_size(&key)?;
            return Ok(Self::Rs256(Box::new(key)));
        }
        p256::SecretKey::from_pkcs8_pem(pem)
            .ok()
            .or_else(|| p256::SecretKey::from_sec1_pem(pem).ok())
            .map(|key| Self::Es256(Box::new(key)))
            .ok_or(KeyError::PrivateForm)
    }

    /// The value of `alg` in a token signed with this key.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        self.public().algorithm()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Rs256(key) => PublicKey::Rs256(key.to_public_key()),
            Self::Es256(key) => PublicKey::Es256(key.public_key()),
        }
    }

    /// Signs a JWS signing input; the answer is the signature in the form of RFC 7518.
    ///
    /// # Errors
    /// The key is unfit to sign, such as an RSA key with broken primes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Rs256(key) => {
                let key = rsa::pkcs1v15::SigningKey::<Sha256>::new(key.as_ref().clone());
                // With randomness the private operation is blinded.
                key.try_sign_with_rng(&mut rsa::rand_core::OsRng, message)
                    .map(|signature| signature.to_vec())
                    .map_err(|_| KeyError::Sign)
            }
            Self::Es256(key) => {
                let key = p256::ecdsa::SigningKey::from(key.as_ref());
                let signature: p256::ecdsa::Signature = key.try_sign(message).map_err(|_| KeyError::Sign)?;
                Ok(signature.to_vec())
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, not shown)", self.algorithm())
    }
}

impl PublicKey {
    /// Reads a public key (SPKI, or PKCS#1 for RSA), or the public half of a private one, in PEM.
    ///
    /// # Errors
    /// It is no RSA or P-256 key, or an RSA key under [`RSA_BITS_MIN`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        match PrivateKey::from_pem(pem) {
            Ok(key) => return Ok(key.public()),
            Err(KeyError::RsaTooShort) => return Err(KeyError::RsaTooShort),
            Err(KeyError::PrivateForm | KeyError::Form | KeyError::Sign) => {}
        }
        let rsa = rsa::RsaPublicKey::from_public_key_pem(pem).or_else(|_| rsa::RsaPublicKey::from_pkcs1_pem(pem));
        if let Ok(key) = rsa {
            check_rsa_size(&key)?;
            return Ok(Self::Rs256(key));
        }
        p256::PublicKey::from_public_key_pem(pem)
            .map(Self::Es256)
            .map_err(|_| KeyError::Form)
    }

    /// The value of `alg` for this key.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
        }
    }

    /// The key's RFC 7638 thumbprint with SHA-256: its key id everywhere in Picket.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.parameters().thumbprint()
    }

    /// The key as a JSON Web Key for verifying signatures.
    #[must_use]
    pub fn jwk(&self) -> PublicJwk {
        PublicJwk {
            alg: self.algorithm(),
            kid: self.thumbprint(),
            parameters: self.parameters(),
            usage: "sig",
        }
    }

    fn parameters(&self) -> JwkParameters {
        match self {
            Self::Rs256(key) => JwkParameters::Rsa {
                e: base64url(&key.e().to_bytes_be()),
                kty: "RSA",
                n: base64url(&key.n().to_bytes_be()),
            },
            Self::Es256(key) => {
                let point = key.to_encoded_point(false);
                JwkParameters::Ec {
                    crv: "P-256",
                    kty: "EC",
                    x: base64url(point.x().map_or(&[][..], |x| x)),
                    y: base64url(point.y().map_or(&[][..], |y| y)),
                }
            }
        }
    }
}

impl JwkParameters {
    /// RFC 7638 §3: the hash of the required members, in lexicographic order and without white space. All values are
    /// base64url or fixed names, so nothing needs escaping.
    fn thumbprint(&self) -> String {
        let members = match self {
            Self::Ec { crv, kty, x, y } => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            Self::Rsa { e, kty, n } => format!(r#"{{"e":"{e}","kty":"{kty}","n":"{n}"}}"#),
        };
        base64url(&Sha256::digest(members.as_bytes()))
    }
}

impl FromIterator<PublicKey> for PublicJwkSet {
    /// The set of the keys in their order, each once.
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut set = Self { keys: Vec::new() };
        for jwk in keys.into_iter().map(|key| key.jwk()) {
            if !set.keys.contains(&jwk) {
                set.keys.push(jwk);
            }
        }
        set
    }
}

impl fmt::Display for PublicJwkSet {
    /// The set as an indented JSON document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        writeln!(f, "{document}")
    }
}

/// Base64url without padding, as JOSE writes it (RFC 7515 §2).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn check_rsa_size(key: &impl PublicKeyParts) -> Result<(), KeyError> {
    if key.n().bits() < RSA_BITS_MIN {
        Err(KeyError::RsaTooShort)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rsa::BigUint;

    use super::*;

    /// RFC 7638 §3.1, the example.
    const RFC_7638_MODULUS: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    #[test]
    fn the_thumbprint_of_the_rfcs_own_example_is_the_rfcs_own() {
        let modulus = URL_SAFE_NO_PAD.decode(RFC_7638_MODULUS).unwrap();
        let key = rsa::RsaPublicKey::new(BigUint::from_bytes_be(&modulus), BigUint::from(65_537_u32)).unwrap();
        let key = PublicKey::Rs256(key);
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let jwk = serde_json::to_value(key.jwk()).unwrap();
        assert_eq!(jwk["n"], RFC_7638_MODULUS);
        assert_eq!(jwk["e"], "AQAB");
    }

    #[test]
    fn refuses_an_rsa_key_that_rs256_forbids() {
        use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
        let private = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let public = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(PrivateKey::from_pem(&private).err(), Some(KeyError::RsaTooShort));
        assert_eq!(PublicKey::from_pem(&private).err(), Some(KeyError::RsaTooShort));
        assert_eq!(PublicKey::from_pem(&public).err(), Some(KeyError::RsaTooShort));
    }

    #[test]
    fn reads_a_public_key_but_does_not_sign_with_it() {
        use p256::pkcs8::{EncodePublicKey, LineEnding};
        let key = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
        let public = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(PublicKey::from_pem(&public), Ok(PublicKey::Es256(key.public_key())));
        assert_eq!(PrivateKey::from_pem(&public).err(), Some(KeyError::PrivateForm));
        assert_eq!(PublicKey::from_pem("nothing").err(), Some(KeyError::Form));
    }

    #[test]
    fn a_private_key_does_not_show_itself() {
        let key = PrivateKey::Es256(Box::new(p256::SecretKey::random(&mut rsa::rand_core::OsRng)));
        assert_eq!(format!("{key:?}"), "PrivateKey(ES256, not shown)");
    }

    #[test]
    fn a_key_given_twice_is_in_the_set_once() {
        let key = PublicKey::Es256(p256::SecretKey::random(&mut rsa::rand_core::OsRng).public_key());
        let set: PublicJwkSet = [key.clone(), key].into_iter().collect();
        assert_eq!(set.keys.len(), 1);
    }
}
