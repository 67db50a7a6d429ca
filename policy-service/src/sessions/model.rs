//! What a session is: its names, whose it is, and how it ended.

use std::fmt;
use std::str::FromStr;

use ring::digest;

const DIGEST_BYTES: usize = 32;
/// Texts that are kept for people to read are cut at this; what is compared is the digest of the whole.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// What is kept for people instead of a control character.
const NO_CHARACTER: &str = "\u{fffd}";

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; DIGEST_BYTES]);

        impl $name {
            /// The bytes, as they are stored.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// From stored bytes; `None`: they have another length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Each part comes with its length, so that no two lists of parts are one text.
            fn of_parts(parts: &[&str]) -> Self {
                let mut context = digest::Context::new(&digest::SHA256);
                for part in [concat!("picket ", stringify!($name), " v1")].iter().chain(parts) {
                    context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                    context.update(part.as_bytes());
                }
                let mut bytes = [0; DIGEST_BYTES];
                bytes.copy_from_slice(context.finish().as_ref());
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
                let mut bytes = [0; DIGEST_BYTES];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    )+};
}

digests! {
    /// Names a session: a digest of the issuer and of `sid`, or of `jti` where there is no `sid`.
    SessionId;
    /// Names a principal: a digest of issuer and subject.
    PrincipalId;
    /// Names a tenant: a digest of its name, whichever issuer says it.
    TenantId;
    /// What a session's client was at first sight.
    Fingerprint;
}

/// Which claim a session has its name from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `sid`.
    SessionId,
    /// `jti`: each token is a session of its own.
    TokenId,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// `iss`, for people, cut at 256 bytes.
    pub issuer: String,
    /// `sub`, in the same way.
    pub subject: String,
    /// The tenant at first sight, in the same way.
    pub tenant: Option<String>,
    /// Which claim `name` is.
    pub named_by: NamedBy,
    /// `sid` or `jti`, in the same way.
    pub name: String,
    /// The client at first sight.
    pub fingerprint: Fingerprint,
    /// When it was created, in microseconds since the epoch.
    pub first_seen_us: i64,
    /// When it was last used, in microseconds since the epoch. It may lag behind by what [`super::Limits`] says.
    pub last_seen_us: i64,
    /// How it ended; `None`: it was not ended, though a timeout may have passed.
    pub ended: Option<Ended>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// Why.
    pub reason: EndReason,
    /// Who ended it: the SPIFFE ID of an operator; `None`: a rule.
    pub caller: Option<String>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It was not used for the idle timeout.
    IdleTimeout,
    /// The absolute timeout has passed since its first sight.
    AbsoluteTimeout,
    /// Its principal began more sessions than there may be.
    Superseded,
    /// It was used by another client or another principal.
    Compromised,
    /// An operator revoked it.
    Revoked,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::IdleTimeout,
        Self::AbsoluteTimeout,
        Self::Superseded,
        Self::Compromised,
        Self::Revoked,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::AbsoluteTimeout => "absolute_timeout",
            Self::Superseded => "superseded",
            Self::Compromised => "compromised",
            Self::Revoked => "revoked",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl NamedBy {
    /// The claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionId => "sid",
            Self::TokenId => "jti",
        }
    }

    /// The kind for this claim.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::SessionId, Self::TokenId]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

impl SessionId {
    /// The name of the session that `sid` or `jti` of this issuer stands for.
    #[must_use]
    pub fn of(issuer: &str, named_by: NamedBy, name: &str) -> Self {
        Self::of_parts(&[issuer, named_by.as_str(), name])
    }
}

impl PrincipalId {
    /// The name of a principal.
    #[must_use]
    pub fn of(issuer: &str, subject: &str) -> Self {
        Self::of_parts(&[issuer, subject])
    }
}

impl TenantId {
    /// The name of a tenant.
    #[must_use]
    pub fn of(tenant: &str) -> Self {
        Self::of_parts(&[tenant])
    }
}

impl Fingerprint {
    /// What these parts of a client are, each with its name; a part that is absent differs from every one that is there.
    #[must_use]
    pub fn of(parts: &[(&str, Option<&str>)]) -> Self {
        let texts: Vec<&str> = parts
            .iter()
            .flat_map(|(name, value)| match value {
                Some(value) => [*name, "=", value],
                None => [*name, "", ""],
            })
            .collect();
        Self::of_parts(&texts)
    }
}

/// The claim that a token's session has its name from, with its value.
#[must_use]
pub(super) fn session_name<'a>(sid: Option<&'a str>, jti: Option<&'a str>) -> Option<(NamedBy, &'a str)> {
    let sid = sid.map(|sid| (NamedBy::SessionId, sid));
    sid.or_else(|| jti.map(|jti| (NamedBy::TokenId, jti)))
}

/// Whether a text that is kept is what was there, for all that can be known.
#[must_use]
pub(super) fn is_whole(kept: &str) -> bool {
    // What was cut ends within a character of the limit.
    kept.len() <= TEXT_BYTES_MAX - 4 && !kept.contains(NO_CHARACTER)
}

/// A text as it is kept for people: cut, and without control characters. PostgreSQL takes no NUL, and terminals obey the others.
#[must_use]
pub(crate) fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    let text = text.get(..end).unwrap_or_default();
    text.replace(char::is_control, NO_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_differ_in_tells_them_apart() {
        let sid = NamedBy::SessionId;
        let ids = [
            SessionId::of("https://a.example", sid, "1"),
            SessionId::of("https://a.example", NamedBy::TokenId, "1"),
            SessionId::of("https://a.example1", sid, ""),
            SessionId::of("https://b.example", sid, "1"),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(ids.iter().skip(index + 1).all(|other| other != id), "{index}");
        }
        let absent = Fingerprint::of(&[("user_agent", None)]);
        assert_ne!(absent, Fingerprint::of(&[("user_agent", Some(""))]));
        assert_ne!(absent, Fingerprint::of(&[]));
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = SessionId::of("https://a.example", NamedBy::SessionId, "1");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(SessionId::from_slice(id.as_bytes()), Some(id));
        assert!("00".parse::<SessionId>().is_err());
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::named(reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(200)).len(), 256);
        assert_eq!(cut(&format!("x{}", "é".repeat(200))).len(), 255);
    }

    #[test]
    fn a_text_is_kept_without_what_is_no_character() {
        assert_eq!(cut("a\0b\u{1b}[2Jc\u{85}"), "a\u{fffd}b\u{fffd}[2Jc\u{fffd}");
    }
}
