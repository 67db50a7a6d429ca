//! Numbers that are saved: a fraction keeps all its bits, which its decimal form might not.

use picket_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Seconds since the epoch, as baselines keep them: 32 bits are enough until 2106.
pub(super) fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_s()).unwrap_or(u32::MAX)
}

/// A number that is neither infinite nor none. It is written as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(super) struct Finite(f64);

/// Bits that are no finite number.
#[derive(Debug, thiserror::Error)]
#[error("{0:#x} are the bits of no finite number")]
pub(super) struct NotFinite(u64);

impl Finite {
    /// The number; what is not finite becomes 0.
    pub(super) fn new(number: f64) -> Self {
        match number.is_finite() {
            true => Self(number),
            false => Self(0.0),
        }
    }

    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<u64> for Finite {
    type Error = NotFinite;

    fn try_from(bits: u64) -> Result<Self, NotFinite> {
        let number = f64::from_bits(bits);
        number.is_finite().then_some(Self(number)).ok_or(NotFinite(bits))
    }
}

impl From<Finite> for u64 {
    fn from(number: Finite) -> Self {
        number.0.to_bits()
    }
}
