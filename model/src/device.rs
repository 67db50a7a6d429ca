//! The device that a request comes from: facts that policies, risk and audit records share.

/// The highest trust score of a device.
pub const TRUST_SCORE_MAX: u8 = 100;

/// The state of a device, by ascending trust: where several devices match one request, the lowest state counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceState {
    /// Out of use for good.
    Retired,
    /// Out of use for a while.
    Suspended,
    /// Known, and not trusted by any operator.
    Enrolled,
    /// Trusted by an operator.
    Trusted,
}

impl DeviceState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Retired, Self::Suspended, Self::Enrolled, Self::Trusted];

    /// The stable name in policies, configuration, tables and replies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Suspended => "suspended",
            Self::Enrolled => "enrolled",
            Self::Trusted => "trusted",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether an operator may move a device from the state `before` to this one. A retired device stays retired: its key
    /// may be anywhere.
    #[must_use]
    pub fn may_follow(self, before: Self) -> bool {
        before != Self::Retired || self == Self::Retired
    }
}

/// The facts about the device of a request, as policies see them (`context.device`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its id, a UUID; empty for a device that is only supposed.
    pub id: String,
    /// Its state.
    pub state: DeviceState,
    /// Whether an operator trusts it, it complies, and its score is high enough.
    pub is_trusted: bool,
    /// Whether it meets every requirement of the configuration.
    pub is_compliant: bool,
    /// 0 to [`TRUST_SCORE_MAX`].
    pub trust_score: u8,
    /// Whether the principal of the request is its owner.
    pub is_owner: bool,
    /// For how many milliseconds time alone changes nothing of this; `None`: for ever.
    pub same_for_ms: Option<u64>,
}

impl DeviceFacts {
    /// The best device that a principal could come back with: this one, or another of its own, trusted.
    #[must_use]
    pub fn trusted(own: Option<&Self>) -> Self {
        Self {
            id: own.map(|device| device.id.clone()).unwrap_or_default(),
            state: DeviceState::Trusted,
            is_trusted: true,
            is_compliant: true,
            trust_score: TRUST_SCORE_MAX,
            is_owner: true,
            same_for_ms: None,
        }
    }

    /// Whether no other device could do better before policies.
    #[must_use]
    pub fn is_best(&self) -> bool {
        let best = Self {
            same_for_ms: self.same_for_ms,
            ..Self::trusted(Some(self))
        };
        *self == best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_name_and_a_retired_device_stays_retired() {
        for state in DeviceState::ALL {
            assert_eq!(DeviceState::from_name(state.as_str()), Some(state));
            assert!(DeviceState::Retired.may_follow(state));
            let is_retired = state == DeviceState::Retired;
            assert_eq!(state.may_follow(DeviceState::Retired), is_retired);
            assert!(state.may_follow(DeviceState::Suspended));
        }
    }
}
