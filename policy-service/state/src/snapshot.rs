//! What was read from the storage, believed only as long as the storage is heard from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Freshness, StorageError};

/// Operators' acts come one by one; this many while one is read are none of theirs.
const READS_MAX: u32 = 100;

/// Something small that was read as a whole, such as what operators have ordered. INVARIANT:
/// nothing that was read before a change was heard of is taken after it.
pub struct Snapshot<T> {
    freshness: Arc<Freshness>,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    /// `None`: it is not known, so there is no decision.
    value: Option<Arc<T>>,
    /// Counts the changes, those that are only heard of among them.
    generation: u64,
    /// The generation that `value` was read at.
    read_at: u64,
}

impl<T> Snapshot<T> {
    /// Nothing is known yet.
    pub fn new(freshness: Arc<Freshness>) -> Self {
        Self {
            freshness,
            inner: Mutex::new(Inner {
                value: None,
                generation: 0,
                read_at: 0,
            }),
        }
    }

    /// What was read.
    ///
    /// # Errors
    /// It is not known, or was not confirmed lately.
    pub fn value(&self) -> Result<Arc<T>, StorageError> {
        let (since_ms, is_fresh) = self.freshness.since_ms();
        let value = self.inner().value.clone();
        value.filter(|_| is_fresh).ok_or(StorageError::Stale(since_ms))
    }

    /// Whether it is known, and was not changed since it was read. Where it is not, nothing is
    /// confirmed before it is read again.
    pub fn is_current(&self) -> bool {
        let inner = self.inner();
        inner.value.is_some() && inner.read_at == inner.generation
    }

    /// It was changed here: what was read before is not taken, and whoever changed it reads it.
    pub fn changed(&self) {
        self.inner().generation += 1;
    }

    /// It was changed elsewhere: the keeper is to read it.
    pub fn changed_elsewhere(&self) {
        self.changed();
        self.freshness.announce_change();
    }

    /// Nobody knows what it is: there is none until the keeper has read it.
    pub fn forget(&self) {
        let mut inner = self.inner();
        inner.value = None;
        inner.generation += 1;
        drop(inner);
        self.freshness.announce_change();
    }

    /// Reads it until it was not changed meanwhile.
    ///
    /// # Errors
    /// It cannot be read, or is changed all the time.
    pub async fn read<R>(&self, read: impl Fn() -> R) -> Result<(), StorageError>
    where
        R: Future<Output = Result<T, StorageError>>,
    {
        for _ in 0..READS_MAX {
            let generation = self.inner().generation;
            let value = read().await?;
            if self.set(value, generation) {
                return Ok(());
            }
        }
        Err(StorageError::Overloaded)
    }

    /// Takes what was read, unless it was changed since. False: it is to be read once more.
    fn set(&self, value: T, generation: u64) -> bool {
        let mut inner = self.inner();
        let is_current = inner.generation == generation;
        if is_current {
            inner.value = Some(Arc::new(value));
            inner.read_at = generation;
        }
        is_current
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn snapshot() -> Snapshot<u8> {
        Snapshot::new(Arc::new(Freshness::new()))
    }

    fn confirmed() -> Snapshot<u8> {
        let snapshot = snapshot();
        snapshot.freshness.confirm(snapshot.freshness.elapsed_ms());
        snapshot
    }

    async fn read(snapshot: &Snapshot<u8>, value: u8) {
        snapshot.read(async || Ok(value)).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_read_is_taken_only_if_nothing_was_changed_meanwhile() {
        let snapshot = confirmed();
        assert!(snapshot.value().is_err());
        let reads = AtomicU64::new(0);
        let changing = async || {
            let read = reads.fetch_add(1, Ordering::Relaxed);
            if read == 0 {
                snapshot.changed();
            }
            Ok(u8::try_from(read).unwrap())
        };
        snapshot.read(changing).await.unwrap();
        assert_eq!(*snapshot.value().unwrap(), 1);
        let always = async || {
            snapshot.changed();
            Ok(9)
        };
        assert!(snapshot.read(always).await.is_err());
        assert_eq!(*snapshot.value().unwrap(), 1);
    }

    #[tokio::test]
    async fn it_is_not_current_from_a_change_until_it_is_read_again() {
        let snapshot = confirmed();
        assert!(!snapshot.is_current());
        read(&snapshot, 1).await;
        assert!(snapshot.is_current());
        for change in [Snapshot::changed, Snapshot::changed_elsewhere, Snapshot::forget] {
            change(&snapshot);
            assert!(!snapshot.is_current());
            read(&snapshot, 2).await;
            assert!(snapshot.is_current());
        }
    }

    #[tokio::test]
    async fn what_is_forgotten_is_not_known_until_it_is_read_again() {
        let snapshot = confirmed();
        read(&snapshot, 1).await;
        snapshot.changed();
        assert_eq!(*snapshot.value().unwrap(), 1);
        snapshot.forget();
        assert!(snapshot.value().is_err());
        read(&snapshot, 2).await;
        assert_eq!(*snapshot.value().unwrap(), 2);
    }

    #[tokio::test]
    async fn nothing_is_believed_before_the_storage_was_heard_from() {
        let snapshot = snapshot();
        read(&snapshot, 1).await;
        assert!(matches!(snapshot.value(), Err(StorageError::Stale(_))));
        snapshot.freshness.confirm(snapshot.freshness.elapsed_ms());
        assert!(snapshot.value().is_ok());
    }
}
