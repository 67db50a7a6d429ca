//! What is done beside the decisions: uses are written, what stands is read, and what is over is forgotten.

use async_trait::async_trait;

use super::{Sessions, TENANTS_COUNTED_MAX};
use crate::state::{CachedView, Change, StorageError};

/// How many sessions are forgotten in one transaction.
const FORGOTTEN_MAX: u32 = 1_000;
/// How many transactions a cleaning has at most: what is over faster than this fills the storage up to its limit.
const CLEANING_TRANSACTIONS_MAX: u32 = 200;
/// Uses that are written in one transaction.
const USES_WRITTEN_MAX: usize = 5_000;

#[async_trait]
impl CachedView for Sessions {
    fn apply_change(&self, change: Change) {
        self.memory.changed(change);
    }

    fn is_current(&self) -> bool {
        self.memory.standing.is_current()
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        self.memory.standing.read(|| self.store.standing()).await
    }

    async fn flush(&self) -> Result<(), StorageError> {
        self.write_uses().await
    }

    async fn purge(&self, now_us: i64) -> Result<(), StorageError> {
        self.forget_what_is_over(now_us).await?;
        self.count_held().await
    }
}

impl Sessions {
    async fn forget_what_is_over(&self, now_us: i64) -> Result<(), StorageError> {
        let limits = &self.settings.limits;
        let forgettable_us = limits.idle_timeout_us.saturating_add(limits.retention_us);
        let seen_before_us = now_us.saturating_sub(forgettable_us);
        // A session that a revocation is about, which may have begun so much later, has reached its
        // absolute timeout by then.
        let revocations_us = [limits.absolute_timeout_us, limits.clock_skew_us]
            .into_iter()
            .fold(forgettable_us, i64::saturating_add);
        let revoked_before_us = now_us.saturating_sub(revocations_us);
        for _ in 0..CLEANING_TRANSACTIONS_MAX {
            let forgotten = self
                .store
                .forget(seen_before_us, revoked_before_us, FORGOTTEN_MAX)
                .await?;
            if forgotten.revocations > 0 {
                self.refresh().await?;
            }
            if forgotten.sessions < u64::from(FORGOTTEN_MAX) {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn count_held(&self) -> Result<(), StorageError> {
        self.memory.held.set(&self.store.counts(TENANTS_COUNTED_MAX).await?);
        Ok(())
    }

    pub(super) async fn write_uses(&self) -> Result<(), StorageError> {
        let mut uses = self.memory.take_uses();
        while !uses.is_empty() {
            let part: Vec<_> = uses
                .iter()
                .take(USES_WRITTEN_MAX)
                .map(|(id, use_us)| (*id, *use_us))
                .collect();
            if let Err(error) = self.store.touch(part.clone()).await {
                self.memory.put_back_uses(uses);
                return Err(error);
            }
            for (id, _) in part {
                uses.remove(&id);
            }
        }
        Ok(())
    }
}
