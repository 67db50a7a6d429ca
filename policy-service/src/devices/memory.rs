//! What a process remembers of devices, so that few decisions ask the storage: by thumbprint, and also that one is nobody's.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_core::cache::Cache;
use picket_model::time::Timestamp;

use super::model::{Device, DeviceId};
use crate::state::{Change, Freshness, StorageError, Thumbprint};

/// The memory.
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    freshness: Arc<Freshness>,
}

struct Inner {
    known: Cache<Thumbprint, Known>,
    /// Counts what was forgotten: something read before is not remembered after.
    generation: u64,
}

/// Who is known by a thumbprint; `None`: nobody.
pub(super) type Known = Option<Arc<Device>>;

impl Memory {
    /// `seed` is random: clients choose keys.
    pub(crate) fn new(entries_max: u32, seed: u64, freshness: Arc<Freshness>) -> Self {
        let entries_max = usize::try_from(entries_max).ok().and_then(NonZeroUsize::new);
        Self {
            inner: Mutex::new(Inner {
                known: Cache::new(entries_max.unwrap_or(NonZeroUsize::MIN), seed),
                generation: 0,
            }),
            freshness,
        }
    }

    /// Takes in what the storage says that others have changed.
    pub(super) fn changed(&self, change: Change) {
        match change {
            Change::Device(thumbprint) => self.forget([thumbprint]),
            Change::Anything => {
                let mut inner = self.inner();
                inner.generation += 1;
                inner.known.end_where(|_, _| true);
            }
            Change::Session(_) | Change::Standing | Change::Policies | Change::Roles => {}
        }
    }

    /// Who is known by a thumbprint; `None`: that is to be read.
    ///
    /// # Errors
    /// The storage was not heard from, so nothing that is remembered is believed.
    pub(super) fn known(&self, thumbprint: Thumbprint) -> Result<Option<Known>, StorageError> {
        self.freshness.check()?;
        Ok(self.inner().known.get(&thumbprint, Timestamp::from_ms(0)).cloned())
    }

    /// To be asked for before a device is read.
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// Remembers what was read, unless something was forgotten since: it could be this.
    pub(super) fn keep(&self, thumbprint: Thumbprint, known: Known, generation: u64) {
        let mut inner = self.inner();
        if inner.generation == generation {
            inner.known.keep(thumbprint, known);
        }
    }

    /// Forgets who is known by these, so that it is read anew.
    pub(super) fn forget(&self, thumbprints: impl IntoIterator<Item = Thumbprint>) {
        let mut inner = self.inner();
        inner.generation += 1;
        for thumbprint in thumbprints {
            inner.known.remove(&thumbprint);
        }
    }

    /// Forgets a device, whatever it is known by. Looks at all of them: for a change that may have been made or not.
    pub(super) fn forget_device(&self, id: DeviceId) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner
            .known
            .end_where(|_, known| known.as_ref().is_some_and(|device| device.id == id));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Thumbprint = Thumbprint::Key([1; 32]);
    const OTHER: Thumbprint = Thumbprint::Certificate([1; 32]);

    fn memory() -> Memory {
        let freshness = Arc::new(Freshness::new());
        freshness.confirm(freshness.elapsed_ms());
        Memory::new(10, 1, freshness)
    }

    #[test]
    fn that_a_thumbprint_is_nobodys_is_remembered_until_it_is_somebodys() {
        let memory = memory();
        assert_eq!(memory.known(ONE).unwrap(), None);
        memory.keep(ONE, None, memory.generation());
        memory.keep(OTHER, None, memory.generation());
        assert_eq!(memory.known(ONE).unwrap(), Some(None));
        memory.changed(Change::Device(ONE));
        assert_eq!(memory.known(ONE).unwrap(), None);
        assert_eq!(memory.known(OTHER).unwrap(), Some(None));
        memory.changed(Change::Standing);
        assert_eq!(memory.known(OTHER).unwrap(), Some(None));
        memory.changed(Change::Anything);
        assert_eq!(memory.known(OTHER).unwrap(), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        for change in [Change::Device(OTHER), Change::Anything] {
            let memory = memory();
            let generation = memory.generation();
            memory.changed(change);
            memory.keep(ONE, None, generation);
            assert_eq!(memory.known(ONE).unwrap(), None, "{change:?}");
        }
    }

    #[test]
    fn nothing_is_believed_before_the_storage_was_heard_from() {
        let memory = Memory::new(10, 1, Arc::new(Freshness::new()));
        memory.keep(ONE, None, memory.generation());
        assert!(matches!(memory.known(ONE), Err(StorageError::Stale(_))));
    }
}
