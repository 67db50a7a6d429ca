//! The memory that the workers of one Envoy share: its shared data, which belong to the `vm_id`.

use picket_core::token::remote_keys::board::{BoardError, Posted, SharedBoard, Version};

use crate::host::{self, SharedDataFailure};

/// The host numbers writings from 1. It takes any number for a key that is not there, and none but the right one for a
/// key that is: with the last of all numbers one worker alone makes a new key.
const NOT_WRITTEN_YET: u32 = u32::MAX;
const WHATEVER_IS_THERE: u32 = 0;

/// This worker's access to it.
#[derive(Clone, Copy)]
pub(crate) struct HostBoard {
    /// Random, and never 0.
    worker: u64,
}

impl HostBoard {
    pub(crate) fn new(random: u64) -> Self {
        Self { worker: random.max(1) }
    }
}

impl SharedBoard for HostBoard {
    fn worker(&self) -> u64 {
        self.worker
    }

    fn read(&self, slot: &str) -> Option<Posted> {
        let (bytes, version) = host::shared_data(slot)?;
        Some(Posted {
            bytes,
            version: Version(version),
        })
    }

    fn replace(&self, slot: &str, bytes: &[u8], read: Option<Version>) -> Result<(), BoardError> {
        let version = read.map_or(NOT_WRITTEN_YET, |Version(version)| version);
        host::set_shared_data(slot, bytes, version).map_err(|failure| match failure {
            SharedDataFailure::OtherVersion => BoardError::Overtaken,
            SharedDataFailure::Refused => BoardError::Unavailable,
        })
    }

    fn write(&self, slot: &str, bytes: &[u8]) -> Result<(), BoardError> {
        host::set_shared_data(slot, bytes, WHATEVER_IS_THERE).map_err(|_| BoardError::Unavailable)
    }
}
