//! When the storage was last heard from: what is remembered of it is believed for so long.

use std::sync::atomic::{AtomicU64, Ordering};

use picket_clock::Stopwatch;
use tokio::sync::watch;

use super::StorageError;

/// What is remembered is believed for this long after the storage was last heard from. A replica
/// that is cut off gives no permits after it; the storage is asked each second, and may be slow for
/// some.
pub const STALE_MS_MAX: u64 = 5_000;

/// When the storage was last heard from.
pub struct Freshness {
    clock: Stopwatch,
    /// When it was, by `clock`, and 1; 0: never.
    confirmed_ms: AtomicU64,
    /// Tells the keeper's tasks that something is to be read.
    changes: watch::Sender<()>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self::new()
    }
}

impl Freshness {
    /// The storage was never confirmed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Stopwatch::start(),
            confirmed_ms: AtomicU64::new(0),
            changes: watch::Sender::new(()),
        }
    }

    /// Whenever something is to be read, from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Something is to be read.
    pub(super) fn announce_change(&self) {
        self.changes.send_replace(());
    }

    /// The time by which [`Self::confirm`] is told when the storage was asked.
    pub fn elapsed_ms(&self) -> u64 {
        // Never 0, which stands for never.
        u64::try_from(self.clock.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// The storage has answered to what it was asked then, and every snapshot has what was changed
    /// before.
    pub fn confirm(&self, asked_ms: u64) {
        self.confirmed_ms.store(asked_ms, Ordering::Release);
    }

    /// Whether what is remembered may be believed.
    ///
    /// # Errors
    /// The storage was not heard from for too long.
    pub fn check(&self) -> Result<(), StorageError> {
        match self.since_ms() {
            (_, true) => Ok(()),
            (since_ms, false) => Err(StorageError::Stale(since_ms)),
        }
    }

    /// For how long it was not heard from, and whether that is short enough.
    pub(super) fn since_ms(&self) -> (u64, bool) {
        let confirmed_ms = self.confirmed_ms.load(Ordering::Acquire);
        let since_ms = self.elapsed_ms().saturating_sub(confirmed_ms);
        (since_ms, confirmed_ms > 0 && since_ms <= STALE_MS_MAX)
    }
}
