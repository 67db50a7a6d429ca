//! The device of a request, as a record has it.

use picket_model::device::{DeviceFacts, DeviceState};
use serde::{Deserialize, Serialize};

/// The device that a request came from, as policies saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `DeviceFacts`")]
pub struct DeviceRecord {
    pub id: String,
    pub state: DeviceStateRecord,
    pub is_trusted: bool,
    pub is_compliant: bool,
    pub trust_score: u8,
    pub is_owner: bool,
}

/// The state of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the states of `DeviceState`")]
pub enum DeviceStateRecord {
    Retired,
    Suspended,
    Enrolled,
    Trusted,
}

impl DeviceStateRecord {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Suspended => "suspended",
            Self::Enrolled => "enrolled",
            Self::Trusted => "trusted",
        }
    }
}

impl From<DeviceFacts> for DeviceRecord {
    fn from(device: DeviceFacts) -> Self {
        let DeviceFacts {
            id,
            state,
            is_trusted,
            is_compliant,
            trust_score,
            is_owner,
            // For how long it stays the same is not recorded.
            same_for_ms: _,
        } = device;
        Self {
            id,
            state: state.into(),
            is_trusted,
            is_compliant,
            trust_score,
            is_owner,
        }
    }
}

impl From<DeviceRecord> for DeviceFacts {
    fn from(record: DeviceRecord) -> Self {
        let DeviceRecord {
            id,
            state,
            is_trusted,
            is_compliant,
            trust_score,
            is_owner,
        } = record;
        Self {
            id,
            state: state.into(),
            is_trusted,
            is_compliant,
            trust_score,
            is_owner,
            same_for_ms: None,
        }
    }
}

impl From<DeviceState> for DeviceStateRecord {
    fn from(state: DeviceState) -> Self {
        match state {
            DeviceState::Retired => Self::Retired,
            DeviceState::Suspended => Self::Suspended,
            DeviceState::Enrolled => Self::Enrolled,
            DeviceState::Trusted => Self::Trusted,
        }
    }
}

impl From<DeviceStateRecord> for DeviceState {
    fn from(record: DeviceStateRecord) -> Self {
        match record {
            DeviceStateRecord::Retired => Self::Retired,
            DeviceStateRecord::Suspended => Self::Suspended,
            DeviceStateRecord::Enrolled => Self::Enrolled,
            DeviceStateRecord::Trusted => Self::Trusted,
        }
    }
}
