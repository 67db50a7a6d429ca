//! How many sessions are held, so that neither all of them together nor those of one tenant fill the storage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Counts;
use crate::state::TenantId;

/// Tenants whose sessions are counted one by one: those that hold the most. Whoever is not among so many holds less than a share,
/// as the configuration sees to.
pub(crate) const TENANTS_COUNTED_MAX: u32 = 10_000;
/// With those that began sessions since.
const TENANTS_REMEMBERED_MAX: usize = 20_000;

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLimits {
    /// In all.
    pub sessions_max: u64,
    /// Of one tenant, and of all principals without one.
    pub per_tenant_max: u64,
}

/// How many there are, about: what other replicas create is counted once a minute.
#[derive(Debug, Default)]
pub(super) struct Held {
    all: AtomicU64,
    tenants: Mutex<Tenants>,
}

#[derive(Debug, Default)]
struct Tenants {
    /// `None`: principals without a tenant.
    counts: HashMap<Option<TenantId>, u64>,
    /// What was created for tenants that there was no place for. They share one share.
    others: u64,
}

impl Held {
    /// In all.
    pub(super) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Whether one more may begin.
    pub(super) fn has_room(&self, tenant: Option<TenantId>, limits: HeldLimits) -> bool {
        self.all() < limits.sessions_max && self.tenants().of(tenant) < limits.per_tenant_max
    }

    /// One was created.
    pub(super) fn created(&self, tenant: Option<TenantId>) {
        self.all.fetch_add(1, Ordering::Relaxed);
        let mut tenants = self.tenants();
        let has_place = tenants.counts.len() < TENANTS_REMEMBERED_MAX || tenants.counts.contains_key(&tenant);
        let count = match has_place {
            true => tenants.counts.entry(tenant).or_insert(0),
            false => &mut tenants.others,
        };
        *count = count.saturating_add(1);
    }

    /// They were counted.
    pub(super) fn set(&self, counts: &Counts) {
        self.all.store(counts.all, Ordering::Relaxed);
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
        let is_full = self.counts.len() >= TENANTS_REMEMBERED_MAX;
        let unknown = if is_full { self.others } else { 0 };
        self.counts.get(&tenant).copied().unwrap_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeldLimits = HeldLimits {
        sessions_max: 1_000_000,
        per_tenant_max: 2,
    };

    fn tenant(name: &str) -> Option<TenantId> {
        Some(TenantId::of(name))
    }

    #[test]
    fn a_share_is_a_tenants_own_and_those_without_one_have_one() {
        let held = Held::default();
        for name in [tenant("acme"), None] {
            held.created(name);
            assert!(held.has_room(name, LIMITS));
            held.created(name);
            assert!(!held.has_room(name, LIMITS));
        }
        assert!(held.has_room(tenant("other"), LIMITS));
        assert_eq!(held.all(), 4);
        held.set(&Counts {
            all: 2,
            without_tenant: 0,
            tenants: vec![("other".to_owned(), 2)],
        });
        assert!(held.has_room(tenant("acme"), LIMITS) && held.has_room(None, LIMITS));
        assert!(!held.has_room(tenant("other"), LIMITS));
        let two = HeldLimits {
            sessions_max: 2,
            ..LIMITS
        };
        assert!(!held.has_room(tenant("acme"), two));
    }

    #[test]
    fn tenants_that_there_is_no_place_for_share_a_share() {
        let held = Held::default();
        for number in 0..TENANTS_REMEMBERED_MAX {
            held.created(tenant(&number.to_string()));
        }
        assert!(held.has_room(tenant("late"), LIMITS));
        held.created(tenant("late"));
        held.created(tenant("later"));
        assert_eq!(held.tenants().counts.len(), TENANTS_REMEMBERED_MAX);
        assert!(!held.has_room(tenant("latest"), LIMITS));
        assert!(held.has_room(tenant("7"), LIMITS));
    }
}
