//! A session: its id, its principal, its client, and how it ended.

use crate::state::{Fingerprint, NamedBy, PrincipalId, SessionId};

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// `iss`, for people, cut at 256 bytes.
    pub issuer: String,
    /// `sub`, in the same way.
    pub subject: String,
    /// The tenant at the first request, in the same way.
    pub tenant: Option<String>,
    /// Which claim `name` is.
    pub named_by: NamedBy,
    /// `sid` or `jti`, in the same way.
    pub name: String,
    /// The client of the first request.
    pub fingerprint: Fingerprint,
    /// When it was created, in microseconds since the epoch.
    pub first_seen_us: i64,
    /// When it was last used, in microseconds since the epoch. It may lag behind by what [`super::SessionLimits`] says.
    pub last_seen_us: i64,
    /// How it ended; `None`: it was not ended, though a timeout may have passed.
    pub ended: Option<SessionEnd>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
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

/// The claim that a token's session has its name from, with its value.
#[must_use]
pub(super) fn session_name<'a>(sid: Option<&'a str>, jti: Option<&'a str>) -> Option<(NamedBy, &'a str)> {
    let sid = sid.map(|sid| (NamedBy::SessionId, sid));
    sid.or_else(|| jti.map(|jti| (NamedBy::TokenId, jti)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::named(reason.as_str()), Some(reason));
        }
    }
}
