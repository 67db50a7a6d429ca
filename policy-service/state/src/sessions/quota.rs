//! Limits on the number of stored sessions, so that neither all of them nor those of one tenant
//! fill the storage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SessionCounts;
use crate::TenantId;

/// Tenants whose sessions are counted one by one: those with the most. The configuration makes sure
/// that any other tenant has fewer sessions than its limit.
pub const TENANTS_COUNTED_MAX: u32 = 10_000;
/// Those tenants, and others that created sessions since they were counted.
const TENANTS_CACHED_MAX: usize = 20_000;

/// How many sessions may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Of all principals.
    pub sessions_max: u64,
    /// Of one tenant, and of all principals without one.
    pub per_tenant_max: u64,
}

/// How many sessions are stored, approximately: those that other replicas create are counted once a
/// minute.
#[derive(Debug, Default)]
pub(super) struct SessionQuota {
    total: AtomicU64,
    tenants: Mutex<Tenants>,
}

#[derive(Debug, Default)]
struct Tenants {
    /// `None`: principals without a tenant.
    counts: HashMap<Option<TenantId>, u64>,
    /// Sessions of tenants beyond the limit of counters. These tenants share one limit.
    others: u64,
}

impl SessionQuota {
    /// Of all principals.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether one more session may be created.
    pub(super) fn has_capacity(&self, tenant: Option<TenantId>, limits: QuotaLimits) -> bool {
        self.total() < limits.sessions_max && self.tenants().of(tenant) < limits.per_tenant_max
    }

    /// A session was created.
    pub(super) fn count_created(&self, tenant: Option<TenantId>) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut tenants = self.tenants();
        let has_counter = tenants.counts.len() < TENANTS_CACHED_MAX || tenants.counts.contains_key(&tenant);
        let count = match has_counter {
            true => tenants.counts.entry(tenant).or_insert(0),
            false => &mut tenants.others,
        };
        *count = count.saturating_add(1);
    }

    /// Replaces the numbers by those that the store has counted.
    pub(super) fn set(&self, counts: &SessionCounts) {
        self.total.store(counts.all, Ordering::Relaxed);
        let named = counts.tenants.iter();
        let named = named.map(|(tenant, count)| (Some(TenantId::of(tenant)), *count));
        *self.tenants() = Tenants {
            counts: named.chain([(None, counts.without_tenant)]).collect(),
            others: 0,
        };
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    fn of(&self, tenant: Option<TenantId>) -> u64 {
        let is_full = self.counts.len() >= TENANTS_CACHED_MAX;
        let unknown = if is_full { self.others } else { 0 };
        self.counts.get(&tenant).copied().unwrap_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QuotaLimits = QuotaLimits {
        sessions_max: 1_000_000,
        per_tenant_max: 2,
    };

    fn tenant(name: &str) -> Option<TenantId> {
        Some(TenantId::of(name))
    }

    #[test]
    fn a_limit_is_a_tenants_own_and_principals_without_one_share_one() {
        let quota = SessionQuota::default();
        for name in [tenant("acme"), None] {
            quota.count_created(name);
            assert!(quota.has_capacity(name, LIMITS));
            quota.count_created(name);
            assert!(!quota.has_capacity(name, LIMITS));
        }
        assert!(quota.has_capacity(tenant("other"), LIMITS));
        assert_eq!(quota.total(), 4);
        quota.set(&SessionCounts {
            all: 2,
            without_tenant: 0,
            tenants: vec![("other".to_owned(), 2)],
        });
        assert!(quota.has_capacity(tenant("acme"), LIMITS) && quota.has_capacity(None, LIMITS));
        assert!(!quota.has_capacity(tenant("other"), LIMITS));
        let two = QuotaLimits {
            sessions_max: 2,
            ..LIMITS
        };
        assert!(!quota.has_capacity(tenant("acme"), two));
    }

    #[test]
    fn tenants_beyond_the_counters_share_a_limit() {
        let quota = SessionQuota::default();
        for number in 0..TENANTS_CACHED_MAX {
            quota.count_created(tenant(&number.to_string()));
        }
        assert!(quota.has_capacity(tenant("late"), LIMITS));
        quota.count_created(tenant("late"));
        quota.count_created(tenant("later"));
        assert_eq!(quota.tenants().counts.len(), TENANTS_CACHED_MAX);
        assert!(!quota.has_capacity(tenant("latest"), LIMITS));
        assert!(quota.has_capacity(tenant("7"), LIMITS));
    }
}
