//! What a check has done to a session, to be recorded.

use picket_model::access::Principal;
use picket_model::session::EndReason;

use crate::SessionId;

/// A session was created or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The session.
    pub session: SessionId,
    /// When, in microseconds since the epoch.
    pub time_us: i64,
    /// `iss` of the principal whose request it was.
    pub issuer: String,
    /// `sub` of that principal.
    pub subject: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// The change.
    pub change: SessionChange,
}

/// How a session changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// It was created.
    Created,
    /// A rule ended it.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

impl SessionEvent {
    pub(super) fn new(session: SessionId, principal: &Principal, change: SessionChange, time_us: i64) -> Self {
        Self {
            session,
            time_us,
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            tenant: principal.tenant.clone(),
            change,
        }
    }
}
