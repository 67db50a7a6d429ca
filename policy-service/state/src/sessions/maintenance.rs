//! Work beside the checks: uses are written, restrictions are refreshed, and expired rows are
//! deleted.

use async_trait::async_trait;

use super::{Sessions, TENANTS_COUNTED_MAX};
use crate::{CachedView, Change, StorageError};

/// Sessions that are deleted in one transaction.
const DELETED_MAX: u32 = 1_000;
/// Transactions of one purge: sessions that expire faster than this fill the storage up to its
/// limit.
const PURGE_TRANSACTIONS_MAX: u32 = 200;
/// Uses that are written in one transaction.
const USES_WRITTEN_MAX: usize = 5_000;

#[async_trait]
impl CachedView for Sessions {
    fn apply_change(&self, change: Change) {
        self.cache.apply_change(change);
    }

    fn is_current(&self) -> bool {
        self.cache.restrictions.is_current()
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        self.cache.restrictions.read(|| self.store.restrictions()).await
    }

    async fn flush(&self) -> Result<(), StorageError> {
        self.write_uses().await
    }

    async fn purge(&self, now_us: i64) -> Result<(), StorageError> {
        self.delete_expired(now_us).await?;
        self.cache.quota.set(&self.store.counts(TENANTS_COUNTED_MAX).await?);
        Ok(())
    }
}

impl Sessions {
    async fn delete_expired(&self, now_us: i64) -> Result<(), StorageError> {
        let limits = &self.settings.limits;
        let kept_us = limits.idle_timeout_us.saturating_add(limits.retention_us);
        let seen_before_us = now_us.saturating_sub(kept_us);
        // A session that a revocation is about, which may have begun so much later, has reached its
        // absolute timeout by then.
        let revocations_us = [limits.absolute_timeout_us, limits.clock_skew_us]
            .into_iter()
            .fold(kept_us, i64::saturating_add);
        let revoked_before_us = now_us.saturating_sub(revocations_us);
        for _ in 0..PURGE_TRANSACTIONS_MAX {
            let deleted = self
                .store
                .delete_expired(seen_before_us, revoked_before_us, DELETED_MAX)
                .await?;
            if deleted.revocations > 0 {
                self.refresh().await?;
            }
            if deleted.sessions < u64::from(DELETED_MAX) {
                break;
            }
        }
        Ok(())
    }

    async fn write_uses(&self) -> Result<(), StorageError> {
        let mut uses = self.cache.take_uses();
        while !uses.is_empty() {
            let part: Vec<_> = uses
                .iter()
                .take(USES_WRITTEN_MAX)
                .map(|(id, use_us)| (*id, *use_us))
                .collect();
            if let Err(error) = self.store.record_uses(part.clone()).await {
                self.cache.put_back_uses(uses);
                return Err(error);
            }
            for (id, _) in part {
                uses.remove(&id);
            }
        }
        Ok(())
    }
}
