//! What records say about devices.

use serde::{Deserialize, Serialize};

use crate::devices::{DeviceState, SeenDevice};

/// The device that a request came from, as policies saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `crate::devices::SeenDevice`")]
pub struct DeviceSeenRecord {
    pub id: String,
    pub state: DeviceState,
    pub is_trusted: bool,
    pub is_compliant: bool,
    pub trust_score: u8,
    pub is_owner: bool,
}

impl From<SeenDevice> for DeviceSeenRecord {
    fn from(device: SeenDevice) -> Self {
        Self {
            id: device.id,
            state: device.state,
            is_trusted: device.is_trusted,
            is_compliant: device.is_compliant,
            trust_score: device.trust_score,
            is_owner: device.is_owner,
        }
    }
}

impl From<DeviceSeenRecord> for SeenDevice {
    /// For how long it stayed the same is not recorded.
    fn from(record: DeviceSeenRecord) -> Self {
        Self {
            id: record.id,
            state: record.state,
            is_trusted: record.is_trusted,
            is_compliant: record.is_compliant,
            trust_score: record.trust_score,
            is_owner: record.is_owner,
            same_for_ms: None,
        }
    }
}
