//! The port by which the connection to the storage is confirmed.

use async_trait::async_trait;

use super::StorageError;

/// A store whose connection can be confirmed.
#[async_trait]
pub trait StoreProbe: Send + Sync {
    /// Confirms that changes can be written here, and that every change of other replicas up to now
    /// was announced here.
    async fn probe(&self) -> Result<(), StorageError>;
}
