//! Everything that is stored, as one port.

use async_trait::async_trait;

use super::StorageError;
use crate::devices::DeviceStore;
use crate::revisions::PolicyStore;
use crate::roles::RoleStore;
use crate::sessions::SessionStore;

/// What every store can say of itself.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Confirms that changes can be written here, and that those of others have been told up to now.
    async fn probe(&self) -> Result<(), StorageError>;
}

/// Everything that is stored, each need with a trait of its own.
pub trait Store: SessionStore + DeviceStore + PolicyStore + RoleStore + Probe {}

impl<S: SessionStore + DeviceStore + PolicyStore + RoleStore + Probe> Store for S {}
