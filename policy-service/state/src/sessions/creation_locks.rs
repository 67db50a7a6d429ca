//! One lock per principal, so that its new sessions are created one at a time. The storage creates
//! them one after another in any case, and a creation that waits in the storage keeps a connection
//! from all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::{PrincipalId, StorageError};

/// How many creations of one principal hold its lock or wait for it; more are refused, so that one
/// principal does not take the slots of all.
const WAITING_MAX: usize = 32;

/// The locks of principals that create sessions now.
#[derive(Default)]
pub(super) struct CreationLocks {
    /// INVARIANT: each count is the number of [`CreationLock`]s of the principal, and none is zero.
    entries: Mutex<HashMap<PrincipalId, Entry>>,
}

#[derive(Default)]
struct Entry {
    count: usize,
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// A place in a principal's queue, and its lock once it was acquired.
pub(super) struct CreationLock<'l> {
    locks: &'l CreationLocks,
    principal: PrincipalId,
    _guard: Option<OwnedMutexGuard<()>>,
}

impl CreationLocks {
    /// Waits for the principal's lock, which is released when the result is dropped.
    ///
    /// # Errors
    /// Too many creations wait.
    pub(super) async fn acquire(&self, principal: PrincipalId) -> Result<CreationLock<'_>, StorageError> {
        let lock = {
            let mut entries = self.entries();
            let entry = entries.entry(principal).or_default();
            if entry.count >= WAITING_MAX {
                return Err(StorageError::Overloaded);
            }
            entry.count += 1;
            Arc::clone(&entry.lock)
        };
        // Before anything is awaited: a caller that goes away leaves the queue.
        let mut acquired = CreationLock {
            locks: self,
            principal,
            _guard: None,
        };
        acquired._guard = Some(lock.lock_owned().await);
        Ok(acquired)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<PrincipalId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CreationLock<'_> {
    fn drop(&mut self) {
        let mut entries = self.locks.entries();
        if let Some(entry) = entries.get_mut(&self.principal) {
            entry.count = entry.count.saturating_sub(1);
            if entry.count == 0 {
                entries.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn principal(subject: &str) -> PrincipalId {
        PrincipalId::of("https://issuer.example", subject)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_principal_waits_for_itself_and_for_nobody_else() {
        let locks = CreationLocks::default();
        let mut first = Box::pin(locks.acquire(principal("alice")));
        let Poll::Ready(Ok(held)) = poll(first.as_mut()) else {
            panic!("nobody was before it");
        };
        let mut second = pin!(locks.acquire(principal("alice")));
        assert!(poll(second.as_mut()).is_pending());
        let mut other = pin!(locks.acquire(principal("bob")));
        assert!(matches!(poll(other.as_mut()), Poll::Ready(Ok(_))));
        drop(held);
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn so_many_wait_and_whoever_goes_away_makes_room() {
        let locks = CreationLocks::default();
        let mut all: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(locks.acquire(principal("alice"))))
            .collect();
        let mut acquired = None;
        for one in &mut all {
            match poll(one.as_mut()) {
                Poll::Ready(Ok(held)) if acquired.is_none() => acquired = Some(held),
                Poll::Ready(_) => panic!("only one has the lock"),
                Poll::Pending => {}
            }
        }
        let refused = |locks: &CreationLocks| {
            let one_more = poll(pin!(locks.acquire(principal("alice"))));
            matches!(one_more, Poll::Ready(Err(StorageError::Overloaded)))
        };
        assert!(acquired.is_some() && refused(&locks));
        all.pop();
        assert!(!refused(&locks));
        drop((acquired, all));
        assert!(locks.entries().is_empty());
    }
}
