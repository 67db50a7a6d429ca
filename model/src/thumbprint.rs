//! SHA-256 thumbprints of keys and certificates, in the forms of `cnf` (RFC 7800).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The SHA-256 thumbprint of a public key as a JWK (RFC 7638): `jkt` in base64url (RFC 9449 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyThumbprint(pub [u8; 32]);

impl KeyThumbprint {
    /// From base64url without padding.
    #[must_use]
    pub fn from_base64url(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// In base64url without padding.
    #[must_use]
    pub fn to_base64url(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// SHA-256 of a certificate in DER: `x5t#S256` in base64url (RFC 8705 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateThumbprint(pub [u8; 32]);

impl CertificateThumbprint {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// From base64url without padding, as `x5t#S256` has it.
    #[must_use]
    pub fn from_base64url(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// In base64url without padding.
    #[must_use]
    pub fn to_base64url(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
