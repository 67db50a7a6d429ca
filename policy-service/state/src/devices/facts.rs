//! The facts about a device that a decision uses.

use picket_model::device::{DeviceFacts, DeviceState};

use super::model::DeviceId;
use super::rules::DeviceTrust;

const MICROSECONDS_PER_MILLISECOND: i64 = 1_000;

/// The facts about a device with the trust that the rules give it.
pub(super) fn device_facts(id: DeviceId, state: DeviceState, trust: &DeviceTrust, is_owner: bool) -> DeviceFacts {
    DeviceFacts {
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
