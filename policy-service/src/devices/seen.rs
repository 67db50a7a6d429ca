//! A device as a request's decision sees it.

use super::model::{DeviceId, DeviceState};
use super::rules::{DeviceTrust, TRUST_SCORE_MAX};

const MICROSECONDS_PER_MILLISECOND: i64 = 1_000;

/// What policies see of the device that a request comes from (`context.device`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDevice {
    /// Its name; empty for one that is only supposed.
    pub id: String,
    /// How far it is let.
    pub state: DeviceState,
    /// Whether an operator trusts it, it complies, and its score is enough.
    pub is_trusted: bool,
    /// Whether it is all that is asked for.
    pub is_compliant: bool,
    /// 0 to [`TRUST_SCORE_MAX`].
    pub trust_score: u8,
    /// Whether it is the request's principal's own.
    pub is_owner: bool,
    /// For how many milliseconds time alone changes nothing of this; `None`: for ever.
    pub same_for_ms: Option<u64>,
}

impl SeenDevice {
    /// A device with what the rules say of it.
    #[must_use]
    pub fn new(id: DeviceId, state: DeviceState, trust: &DeviceTrust, is_owner: bool) -> Self {
        Self {
            id: id.to_string(),
            state,
            is_trusted: trust.is_trusted,
            is_compliant: trust.is_compliant,
            trust_score: trust.score,
            is_owner,
            same_for_ms: trust
                .same_for_us
                .map(|us| u64::try_from(us / MICROSECONDS_PER_MILLISECOND).unwrap_or(0)),
        }
    }

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

    /// Whether another device would make no difference.
    #[must_use]
    pub fn is_best(&self) -> bool {
        let best = Self {
            same_for_ms: self.same_for_ms,
            ..Self::trusted(Some(self))
        };
        *self == best
    }
}
