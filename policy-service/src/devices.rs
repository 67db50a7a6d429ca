//! Devices: by what they are known, whose they are, and how far they can be trusted.
//!
//! A device is known by what the sender of a request has proved to hold, and by nothing that a client merely says. [`trust`]
//! decides and does no I/O; [`crate::storage`] keeps; what is here joins them for each decision.

mod enrollment;
mod judgement;
mod memory;
mod model;
mod operations;
mod rules;
mod seen;
mod store;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::metrics::Metrics;
pub use enrollment::{Challenge, ChallengeDigest, Enrollment};
pub(crate) use judgement::Judgement;
pub(crate) use memory::Memory;
pub use model::{Device, DeviceId, DeviceState, OsName, OsVersion, Posture, THUMBPRINTS_MAX};
pub(crate) use operations::{Invitation, InvitationError};
pub use rules::{Cause, Compliance, Part, Requirement, TRUST_SCORE_MAX, Trust, Weights, trust};
pub use seen::SeenDevice;
pub use store::{DeviceChange, DeviceStore, NewDevice};
pub(crate) use store::{check_addition, check_removal, check_state, enrolled};

/// How many devices are looked up at once. More are refused.
const LOOKED_UP_AT_ONCE_MAX: usize = 1024;

/// How devices are kept, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What they have to be.
    pub compliance: Compliance,
    /// What their trust is made of.
    pub weights: Weights,
    /// The states in which their requests are denied without a policy.
    pub denied: Vec<DeviceState>,
    /// Whom proofs of enrolment are made for.
    pub audience: String,
    /// How long a challenge may be answered, in microseconds.
    pub challenge_valid_for_us: i64,
    /// How many devices are held.
    pub devices_max: u64,
    /// How many thumbprints are remembered in the process's memory, those of nobody among them.
    pub cache_entries_max: u32,
}

/// The devices of one policy service.
pub(crate) struct Devices {
    store: Arc<dyn DeviceStore>,
    memory: Memory,
    settings: Settings,
    metrics: Arc<Metrics>,
    looking_up: Semaphore,
}

impl Devices {
    pub(crate) fn new(store: Arc<dyn DeviceStore>, memory: Memory, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            memory,
            settings,
            metrics,
            looking_up: Semaphore::new(LOOKED_UP_AT_ONCE_MAX),
        }
    }
}

#[cfg(test)]
mod tests;
