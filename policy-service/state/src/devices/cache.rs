//! The devices that this process has looked up by thumbprint, so that few checks ask the storage.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_core::cache::Cache;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_model::time::Timestamp;

use super::model::{Device, DeviceId};
use crate::{Change, Freshness, StorageError};

/// Lookups by thumbprint.
pub(super) struct DeviceCache {
    inner: Mutex<Inner>,
    freshness: Arc<Freshness>,
}

struct Inner {
    lookups: Cache<DeviceThumbprint, Lookup>,
    /// Counts removals: a device that was read before one of them is not cached after it.
    generation: u64,
}

/// The device with a thumbprint; `None`: no device has it.
pub(super) type Lookup = Option<Arc<Device>>;

impl DeviceCache {
    /// `seed` is random: clients choose the keys.
    pub(super) fn new(entries_max: u32, seed: u64, freshness: Arc<Freshness>) -> Self {
        let entries_max = usize::try_from(entries_max).ok().and_then(NonZeroUsize::new);
        Self {
            inner: Mutex::new(Inner {
                lookups: Cache::new(entries_max.unwrap_or(NonZeroUsize::MIN), seed),
                generation: 0,
            }),
            freshness,
        }
    }

    /// Drops what another replica has changed.
    pub(super) fn apply_change(&self, change: Change) {
        match change {
            Change::Device(thumbprint) => self.remove([thumbprint]),
            Change::Anything => {
                let mut inner = self.inner();
                inner.generation += 1;
                inner.lookups.remove_where(|_, _| true);
            }
            Change::Session(_) | Change::Restrictions | Change::Policies | Change::Roles => {}
        }
    }

    /// The cached lookup of a thumbprint; `None`: it has to be read.
    ///
    /// # Errors
    /// The storage is not confirmed, so nothing that is cached is trusted.
    pub(super) fn get(&self, thumbprint: DeviceThumbprint) -> Result<Option<Lookup>, StorageError> {
        self.freshness.check()?;
        Ok(self.inner().lookups.get(&thumbprint, Timestamp::from_ms(0)).cloned())
    }

    /// To be taken before a device is read, for [`Self::insert`].
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// Caches a lookup, unless anything was removed since: it could be this one.
    pub(super) fn insert(&self, thumbprint: DeviceThumbprint, lookup: Lookup, generation: u64) {
        let mut inner = self.inner();
        if inner.generation == generation {
            inner.lookups.put_without_end(thumbprint, lookup);
        }
    }

    /// Drops the lookups of these thumbprints, so that they are read anew.
    pub(super) fn remove(&self, thumbprints: impl IntoIterator<Item = DeviceThumbprint>) {
        let mut inner = self.inner();
        inner.generation += 1;
        for thumbprint in thumbprints {
            inner.lookups.remove(&thumbprint);
        }
    }

    /// Drops a device under each of its thumbprints. It searches the whole cache: for a change that
    /// may have been made or not.
    pub(super) fn remove_device(&self, id: DeviceId) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner
            .lookups
            .remove_where(|_, lookup| lookup.as_ref().is_some_and(|device| device.id == id));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DeviceThumbprint = DeviceThumbprint::Key([1; 32]);
    const OTHER: DeviceThumbprint = DeviceThumbprint::Certificate([1; 32]);

    fn cache() -> DeviceCache {
        let freshness = Arc::new(Freshness::new());
        freshness.confirm(freshness.elapsed_ms());
        DeviceCache::new(10, 1, freshness)
    }

    #[test]
    fn that_no_device_has_a_thumbprint_is_cached_until_one_has_it() {
        let cache = cache();
        assert_eq!(cache.get(ONE).unwrap(), None);
        cache.insert(ONE, None, cache.generation());
        cache.insert(OTHER, None, cache.generation());
        assert_eq!(cache.get(ONE).unwrap(), Some(None));
        cache.apply_change(Change::Device(ONE));
        assert_eq!(cache.get(ONE).unwrap(), None);
        assert_eq!(cache.get(OTHER).unwrap(), Some(None));
        cache.apply_change(Change::Restrictions);
        assert_eq!(cache.get(OTHER).unwrap(), Some(None));
        cache.apply_change(Change::Anything);
        assert_eq!(cache.get(OTHER).unwrap(), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_cached_after_it() {
        for change in [Change::Device(OTHER), Change::Anything] {
            let cache = cache();
            let generation = cache.generation();
            cache.apply_change(change);
            cache.insert(ONE, None, generation);
            assert_eq!(cache.get(ONE).unwrap(), None, "{change:?}");
        }
    }

    #[test]
    fn nothing_is_trusted_before_the_storage_is_confirmed() {
        let cache = DeviceCache::new(10, 1, Arc::new(Freshness::new()));
        cache.insert(ONE, None, cache.generation());
        assert!(matches!(cache.get(ONE), Err(StorageError::Stale(_))));
    }
}
