//! The thumbprint by which the policy service recognises a device.

use std::fmt;
use std::str::FromStr;

use crate::access::Possession;

const DIGEST_BYTES: usize = 32;

/// The thumbprint by which a device is recognised: SHA-256 of its certificate (RFC 8705 §3.1) or of
/// its key (RFC 7638).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceThumbprint {
    /// Of the certificate on its connections.
    Certificate([u8; DIGEST_BYTES]),
    /// Of the key that it proves to hold.
    Key([u8; DIGEST_BYTES]),
}

impl DeviceThumbprint {
    /// The thumbprints that a request proves.
    pub fn of_possession(possession: Possession) -> impl Iterator<Item = Self> {
        let certificate = possession.certificate.map(|thumbprint| Self::Certificate(thumbprint.0));
        let key = possession.key.map(|thumbprint| Self::Key(thumbprint.0));
        certificate.into_iter().chain(key)
    }

    fn parts(self) -> (u8, &'static str, [u8; DIGEST_BYTES]) {
        match self {
            Self::Certificate(digest) => (1, "certificate", digest),
            Self::Key(digest) => (2, "key", digest),
        }
    }

    /// Both kinds of one hash.
    fn both(digest: [u8; DIGEST_BYTES]) -> [Self; 2] {
        [Self::Certificate(digest), Self::Key(digest)]
    }

    /// Its kind: `certificate` or `key`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        self.parts().1
    }

    /// The hash.
    #[must_use]
    pub fn digest(self) -> [u8; DIGEST_BYTES] {
        self.parts().2
    }

    /// The bytes, as they are stored: a byte for the kind, and the hash.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, _, digest) = self.parts();
        std::iter::once(kind).chain(digest).collect()
    }

    /// From stored bytes; `None`: they are none that are stored.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (kind, digest) = bytes.split_first()?;
        let both = Self::both(digest.try_into().ok()?);
        both.into_iter().find(|thumbprint| thumbprint.parts().0 == *kind)
    }
}

impl fmt::Display for DeviceThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), hex::encode(self.digest()))
    }
}

impl FromStr for DeviceThumbprint {
    type Err = DeviceThumbprintError;

    fn from_str(text: &str) -> Result<Self, DeviceThumbprintError> {
        let (kind, digits) = text.split_once(':').ok_or(DeviceThumbprintError)?;
        let mut digest = [0; DIGEST_BYTES];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| DeviceThumbprintError)?;
        let mut both = Self::both(digest).into_iter();
        both.find(|thumbprint| thumbprint.kind() == kind)
            .ok_or(DeviceThumbprintError)
    }
}

/// A text is not a thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `certificate:` or `key:` with 64 hexadecimal digits")]
pub struct DeviceThumbprintError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_has_one_text_and_one_row() {
        for thumbprint in [DeviceThumbprint::Certificate([7; 32]), DeviceThumbprint::Key([7; 32])] {
            assert_eq!(thumbprint.to_string().parse(), Ok(thumbprint));
            assert_eq!(DeviceThumbprint::from_slice(&thumbprint.to_bytes()), Some(thumbprint));
        }
        let digits = "07".repeat(32);
        for text in [digits.clone(), format!("card:{digits}"), "key:07".to_owned()] {
            assert_eq!(text.parse::<DeviceThumbprint>(), Err(DeviceThumbprintError), "{text}");
        }
        for bytes in [vec![], vec![1; 32], vec![3; 33], vec![1; 34]] {
            assert_eq!(DeviceThumbprint::from_slice(&bytes), None, "{bytes:?}");
        }
    }
}
