//! A session: its id, its principal, its client, and how it ended.

use picket_model::session::EndReason;

use crate::{Fingerprint, NamedBy, PrincipalId, SessionId};

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
    /// When it was last used, in microseconds since the epoch. It may lag behind by what
    /// [`super::SessionLimits`] says.
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

/// The claim that a token's session has its name from, with its value.
#[must_use]
pub(super) fn session_name<'a>(sid: Option<&'a str>, jti: Option<&'a str>) -> Option<(NamedBy, &'a str)> {
    let sid = sid.map(|sid| (NamedBy::SessionId, sid));
    sid.or_else(|| jti.map(|jti| (NamedBy::TokenId, jti)))
}
