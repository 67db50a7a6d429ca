//! Records of sessions that began or ended.

use picket_model::session::EndReason;
use serde::{Deserialize, Serialize};

/// A change of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session's id, in hexadecimal.
    pub session: String,
    /// When, in microseconds since the epoch.
    pub time_us: i64,
    /// The issuer of the principal.
    pub issuer: String,
    /// The subject of the principal.
    pub subject: String,
    /// The tenant of that request.
    pub tenant: Option<String>,
    /// What.
    #[serde(flatten)]
    pub change: SessionChange,
}

/// The changes of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SessionChange {
    /// It was seen for the first time.
    Created,
    /// It is over.
    Ended {
        /// Why.
        reason: EndReasonRecord,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the reasons of `EndReason`")]
pub enum EndReasonRecord {
    IdleTimeout,
    AbsoluteTimeout,
    Superseded,
    Compromised,
    Revoked,
}

impl EndReasonRecord {
    /// The stored name.
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
}

impl From<EndReason> for EndReasonRecord {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::IdleTimeout => Self::IdleTimeout,
            EndReason::AbsoluteTimeout => Self::AbsoluteTimeout,
            EndReason::Superseded => Self::Superseded,
            EndReason::Compromised => Self::Compromised,
            EndReason::Revoked => Self::Revoked,
        }
    }
}
