//! What a device is: by what it is known, whose it is, how far it is let, and what was reported of
//! it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use uuid::Uuid;

use crate::PrincipalId;

/// How many thumbprints a device may have: its key, and certificates that follow each other.
pub const THUMBPRINTS_MAX: usize = 8;
/// The longest name of an operating system.
const OS_BYTES_MAX: usize = 32;
/// The parts of a version: `10.0.22631.4460`.
const VERSION_PARTS_MAX: usize = 4;

/// Names a device: a UUID that is made up when it is enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Uuid);

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// Whose it is.
    pub owner: PrincipalId,
    /// The owner's `iss`, for people, cut at 256 bytes.
    pub issuer: String,
    /// The owner's `sub`, in the same way.
    pub subject: String,
    /// The owner's tenant, in the same way.
    pub tenant: Option<String>,
    /// What people call it, in the same way; may be empty.
    pub label: String,
    /// How far it is let.
    pub state: DeviceState,
    /// Sorted; at most [`THUMBPRINTS_MAX`].
    pub thumbprints: Vec<DeviceThumbprint>,
    /// What was reported last; `None`: nothing was.
    pub posture: Option<Posture>,
    /// When it was enrolled, in microseconds since the epoch.
    pub enrolled_us: i64,
    /// When its state or its thumbprints were last changed.
    pub changed_us: i64,
}

/// What was reported of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// Which operating system.
    pub os: OsName,
    /// Of which version.
    pub os_version: OsVersion,
    /// Whether what it stores is encrypted.
    pub is_disk_encrypted: bool,
    /// Whether it is under management.
    pub is_managed: bool,
    /// How many of the reporter's checks failed.
    pub failures: u16,
    /// When the report arrived, by the service's clock, in microseconds since the epoch.
    pub reported_us: i64,
    /// The SPIFFE ID of the reporter.
    pub reporter: String,
}

/// The name of an operating system: 1 to 32 lower-case letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OsName(String);

/// A version: one to four numbers with dots between them. What is left out is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OsVersion {
    parts: [u32; VERSION_PARTS_MAX],
    count: usize,
}

impl DeviceId {
    /// The name that this UUID is.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// From stored bytes; `None`: they have another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for DeviceId {
    type Err = uuid::Error;

    /// Only in the form that it is shown in, so that it has one text.
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        let uuid: Uuid = text.parse::<uuid::fmt::Hyphenated>()?.into_uuid();
        Ok(Self(uuid))
    }
}

impl OsName {
    /// `None`: it is not a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        let is_name = (1..=OS_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OsVersion {
    /// `None`: it is not a version.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut version = Self {
            parts: [0; VERSION_PARTS_MAX],
            count: 0,
        };
        for part in text.split('.') {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_number.then(|| part.parse().ok()).flatten()?;
            *version.parts.get_mut(version.count)? = number;
            version.count += 1;
        }
        Some(version)
    }
}

impl PartialOrd for OsVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.parts.partial_cmp(&other.parts)
    }
}

impl fmt::Display for OsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().take(self.count).map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let version = |text: &str| OsVersion::new(text).unwrap();
        assert!(version("14.10") > version("14.9.9"));
        assert!(version("14") >= version("14.0.0.0") && version("14.0") <= version("14"));
        assert!(version("10.0.22631") < version("10.0.22631.1"));
        assert_eq!(version("14.0").to_string(), "14.0");
        for text in ["", "14.", ".1", "1.2.3.4.5", "14.x", "-1", "+1", "4294967296", " 14"] {
            assert_eq!(OsVersion::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_operating_system_has_one_spelling() {
        assert!(OsName::new("macos").is_some());
        for text in ["", "macOS", "a b", &"a".repeat(33)] {
            assert_eq!(OsName::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = DeviceId::new(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(DeviceId::from_slice(id.as_bytes()), Some(id));
        assert!(id.to_string().replace('-', "").parse::<DeviceId>().is_err());
    }
}
