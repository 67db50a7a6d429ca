//! The session of a request: facts that decisions, audit records and replies share.

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// It was not used for the idle timeout.
    IdleTimeout,
    /// The absolute timeout has passed since its first request.
    AbsoluteTimeout,
    /// Its principal began more sessions than the limit allows.
    Superseded,
    /// Another client or another principal used it.
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
    pub const fn as_str(self) -> &'static str {
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
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_name(reason.as_str()), Some(reason));
        }
    }
}
