//! The memory that the workers of one Envoy share: its shared data, which belong to the `vm_id`.

use picket_core::token::remote_keys::shared_memory::{EntryVersion, SharedEntry, SharedMemory, SharedMemoryError};

use crate::host::{self, SharedWriteError};

/// The version of a write that replaces any value: the host numbers versions from 1, and skips the
/// comparison for 0.
const UNCONDITIONAL: u32 = 0;

/// This worker's access to it.
#[derive(Clone, Copy)]
pub(crate) struct HostSharedMemory {
    /// Random, and never 0.
    worker: u64,
}

impl HostSharedMemory {
    pub(crate) fn new(random: u64) -> Self {
        Self { worker: random.max(1) }
    }
}

impl SharedMemory for HostSharedMemory {
    fn worker(&self) -> u64 {
        self.worker
    }

    fn read(&self, slot: &str) -> Option<SharedEntry> {
        let value = host::shared_value(slot).ok()??;
        Some(SharedEntry {
            bytes: value.bytes,
            version: EntryVersion(value.version),
        })
    }

    fn replace(&self, slot: &str, bytes: &[u8], read: Option<EntryVersion>) -> Result<(), SharedMemoryError> {
        set(slot, bytes, read.map(|EntryVersion(version)| version))
    }

    fn write(&self, slot: &str, bytes: &[u8]) -> Result<(), SharedMemoryError> {
        set(slot, bytes, Some(UNCONDITIONAL))
    }
}

fn set(slot: &str, bytes: &[u8], version: Option<u32>) -> Result<(), SharedMemoryError> {
    host::set_shared_value(slot, bytes, version).map_err(|error| match error {
        SharedWriteError::Raced => SharedMemoryError::Overtaken,
        SharedWriteError::Host => SharedMemoryError::Unavailable,
    })
}
