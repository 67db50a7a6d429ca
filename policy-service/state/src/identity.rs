//! By what sessions, principals, tenants and clients are known: digests, so that what is stored and
//! compared has one length, whatever issuers send.

use std::fmt;
use std::str::FromStr;

use ring::digest;

const DIGEST_BYTES: usize = 32;

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
    /// What these parts of a client are, each with its name; a part that is absent differs from
    /// every one that is there.
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
}
