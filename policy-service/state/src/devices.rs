//! Devices: how a request's device is recognised, who owns it, and how far it can be trusted.
//!
//! A device is recognised by a key or certificate whose possession was proved for the request,
//! never by what a client says of itself. [`Devices::check`] finds the device of a request, with
//! its trust now; [`assess_trust`] computes that trust and does no I/O. Operators enrol devices and
//! change their state, and reporters report their posture, through the other methods.
//!
//! [`DeviceStore`] is the port to the storage. Lookups by thumbprint are cached, also that no
//! device has one; they are trusted only while the database connection is confirmed
//! ([`crate::STALE_MS_MAX`]).

mod administration;
mod cache;
mod check;
mod enrollment;
mod facts;
mod metrics;
mod model;
mod rules;
mod store;

use std::sync::Arc;

use picket_model::device::DeviceState;
use tokio::sync::Semaphore;

use crate::Freshness;
pub use administration::{EnrollmentRequest, EnrollmentRequestError};
use cache::DeviceCache;
pub use check::{DeviceCheck, DeviceRefusal};
pub use enrollment::{Challenge, ChallengeDigest, PendingEnrollment};
pub use metrics::DeviceMetrics;
pub use model::{Device, DeviceId, OsName, OsVersion, Posture, THUMBPRINTS_MAX};
pub use rules::{Compliance, DeviceTrust, Requirement, TrustCause, TrustComponent, TrustWeights, assess_trust};
pub use store::{DeviceStore, DeviceUpdate, NewDevice};

/// How many lookups ask the storage at once. More are refused.
const LOOKUPS_MAX: usize = 1024;

/// How devices are kept, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// What a device has to be to comply.
    pub compliance: Compliance,
    /// How a trust score is computed.
    pub weights: TrustWeights,
    /// The states in which a device's requests are denied without a policy.
    pub denied: Vec<DeviceState>,
    /// The audience of enrolment proofs.
    pub audience: String,
    /// How long a challenge may be answered, in microseconds.
    pub challenge_valid_for_us: i64,
    /// How many devices are stored.
    pub devices_max: u64,
    /// How many thumbprints are cached in the process's memory, those without a device included.
    pub cache_entries_max: u32,
}

/// The devices of one policy service.
pub struct Devices {
    store: Arc<dyn DeviceStore>,
    cache: DeviceCache,
    settings: DeviceSettings,
    metrics: DeviceMetrics,
    /// Slots for checks that ask the storage.
    lookups: Semaphore,
}

impl Devices {
    /// `seed` is random: clients choose the keys of what is cached.
    pub fn new(
        store: Arc<dyn DeviceStore>,
        freshness: Arc<Freshness>,
        seed: u64,
        settings: DeviceSettings,
        metrics: DeviceMetrics,
    ) -> Self {
        Self {
            store,
            cache: DeviceCache::new(settings.cache_entries_max, seed, freshness),
            settings,
            metrics,
            lookups: Semaphore::new(LOOKUPS_MAX),
        }
    }
}
