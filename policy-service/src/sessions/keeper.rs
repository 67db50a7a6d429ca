//! The task beside the decisions: it writes uses, asks whether the storage is well, and forgets what is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::memory::Memory;
use super::rules::Limits;
use crate::clock;
use crate::storage::{SessionStore, StorageError};

/// How often uses are written and the storage is asked; [`super::STALE_MS_MAX`] leaves room for some that fail.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many turns pass between two in which sessions are counted and those that are over forgotten.
const TURNS_BETWEEN_CLEANING: u64 = 60;
/// How many sessions are forgotten in one transaction.
const FORGOTTEN_MAX: u32 = 1_000;
/// How many transactions a cleaning has at most: what is over faster than this fills the storage up to its limit.
const CLEANING_TRANSACTIONS_MAX: u32 = 200;
/// A first connection that listens is there within milliseconds.
const AT_START_ATTEMPTS: u32 = 50;
const AT_START_PAUSE: Duration = Duration::from_millis(100);
/// Operators' acts come one by one; this many while one is read are none of theirs.
const READS_MAX: u32 = 100;
/// Uses that are written in one transaction.
const USES_WRITTEN_MAX: usize = 5_000;

/// Whether the storage works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// It was heard from.
    Working,
    /// It was not, so no decision is given once what is remembered is too old.
    Failing(String),
}

/// The task. It ends when this is dropped.
pub(crate) struct Keeper {
    memory: Arc<Memory>,
    store: Arc<dyn SessionStore>,
    state: watch::Receiver<StorageState>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts the task once what stands is known.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub(crate) async fn start(
        store: Arc<dyn SessionStore>,
        memory: Arc<Memory>,
        limits: Limits,
    ) -> Result<Self, StorageError> {
        let (sender, state) = watch::channel(StorageState::Working);
        let turns = Turns {
            store: Arc::clone(&store),
            memory: Arc::clone(&memory),
            limits,
        };
        turns.read_standing().await?;
        turns.clean().await?;
        turns.confirm_at_start().await?;
        let task = tokio::spawn(turns.run(sender));
        Ok(Self {
            memory,
            store,
            state,
            task,
        })
    }

    /// Whether the storage works, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<StorageState> {
        self.state.clone()
    }

    /// Writes the uses that wait, and ends the task.
    pub(crate) async fn close(self) {
        self.task.abort();
        if let Err(error) = write_uses(&*self.store, &self.memory).await {
            tracing::warn!(%error, "the last uses of sessions were not written");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Turns {
    store: Arc<dyn SessionStore>,
    memory: Arc<Memory>,
    limits: Limits,
}

impl Turns {
    async fn run(self, state: watch::Sender<StorageState>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn: u64 = 0;
        loop {
            let is_tick = tokio::select! {
                _ = ticks.tick() => true,
                () = self.memory.wake.notified() => false,
            };
            let done = if is_tick {
                turn = turn.wrapping_add(1);
                self.turn(turn).await
            } else {
                self.read_standing().await
            };
            tell(&state, done.err().as_ref());
        }
    }

    async fn turn(&self, turn: u64) -> Result<(), StorageError> {
        let asked_ms = self.memory.elapsed_ms();
        self.store.probe().await?;
        // Whatever was heard of and could not be read stays to be read: nothing is confirmed without it.
        if !self.memory.is_standing_current() {
            self.read_standing().await?;
        }
        self.memory.confirm(asked_ms);
        write_uses(&*self.store, &self.memory).await?;
        if turn.is_multiple_of(TURNS_BETWEEN_CLEANING) {
            self.clean().await?;
        }
        Ok(())
    }

    /// A listener may need a moment to be there; a store that is not asked in vain is confirmed at once.
    async fn confirm_at_start(&self) -> Result<(), StorageError> {
        let mut last = StorageError::TimedOut;
        for _ in 0..AT_START_ATTEMPTS {
            match self.turn(1).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            tokio::time::sleep(AT_START_PAUSE).await;
        }
        Err(last)
    }

    async fn read_standing(&self) -> Result<(), StorageError> {
        read_standing(&*self.store, &self.memory).await
    }

    async fn clean(&self) -> Result<(), StorageError> {
        let now_us = i64::try_from(clock::now_unix_us()).unwrap_or(i64::MAX);
        let forgettable_us = self.limits.idle_timeout_us.saturating_add(self.limits.retention_us);
        let seen_before_us = now_us.saturating_sub(forgettable_us);
        // A session from before a revocation has reached its absolute timeout by then.
        let revoked_before_us = now_us.saturating_sub(forgettable_us.saturating_add(self.limits.absolute_timeout_us));
        for _ in 0..CLEANING_TRANSACTIONS_MAX {
            let forgotten = self
                .store
                .forget(seen_before_us, revoked_before_us, FORGOTTEN_MAX)
                .await?;
            if forgotten.revocations > 0 {
                self.read_standing().await?;
            }
            if forgotten.sessions < u64::from(FORGOTTEN_MAX) {
                break;
            }
        }
        self.memory.set_held(self.store.count().await?);
        Ok(())
    }
}

/// Reads what stands until nothing was ordered meanwhile.
pub(super) async fn read_standing(store: &dyn SessionStore, memory: &Memory) -> Result<(), StorageError> {
    for _ in 0..READS_MAX {
        let generation = memory.standing_generation();
        let standing = store.standing().await?;
        if memory.set_standing(standing, generation) {
            return Ok(());
        }
    }
    Err(StorageError::Overloaded)
}

pub(super) async fn write_uses(store: &dyn SessionStore, memory: &Memory) -> Result<(), StorageError> {
    let mut uses = memory.take_uses();
    while !uses.is_empty() {
        let part: Vec<_> = uses
            .iter()
            .take(USES_WRITTEN_MAX)
            .map(|(id, use_us)| (*id, *use_us))
            .collect();
        if let Err(error) = store.touch(part.clone()).await {
            memory.put_back_uses(uses);
            return Err(error);
        }
        for (id, _) in part {
            uses.remove(&id);
        }
    }
    Ok(())
}

fn tell(state: &watch::Sender<StorageState>, error: Option<&StorageError>) {
    let new = error.map_or(StorageState::Working, |error| StorageState::Failing(error.to_string()));
    state.send_if_modified(|current| {
        let changed = *current != new;
        if changed {
            match &new {
                StorageState::Working => tracing::info!("the storage works again"),
                StorageState::Failing(reason) => tracing::error!(reason, "the storage fails"),
            }
            *current = new;
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::sessions::{Ended, Lockdown, Session, SessionId, Standing};
    use crate::storage::{Change, Concurrency, Creation, Filter, Forgotten, Revocation};

    const LIMITS: Limits = Limits {
        idle_timeout_us: 1,
        absolute_timeout_us: 1,
        reauthentication_interval_us: None,
        concurrent_max: 1,
        retention_us: 1,
    };

    /// A store under lockdown, which fails to say so once it is told to.
    #[derive(Default)]
    struct Store {
        fails: AtomicBool,
    }

    #[async_trait]
    impl SessionStore for Store {
        async fn session(&self, _: SessionId) -> Result<Option<Session>, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn create(&self, _: Session, _: Concurrency) -> Result<Creation, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn end(&self, _: SessionId, _: Ended, _: i64) -> Result<bool, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn touch(&self, _: Vec<(SessionId, i64)>) -> Result<(), StorageError> {
            Err(StorageError::NotDone)
        }

        async fn sessions(&self, _: Filter, _: Option<SessionId>, _: u32) -> Result<Vec<Session>, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn count(&self) -> Result<u64, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn forget(&self, _: i64, _: i64, _: u32) -> Result<Forgotten, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn standing(&self) -> Result<Standing, StorageError> {
            if self.fails.swap(false, Ordering::Relaxed) {
                return Err(StorageError::TimedOut);
            }
            Ok(Standing {
                lockdown: Some(Lockdown {
                    at_us: 1,
                    caller: "spiffe://example.org/operator".to_owned(),
                }),
                ..Standing::default()
            })
        }

        async fn revoke(&self, _: Revocation) -> Result<(), StorageError> {
            Err(StorageError::NotDone)
        }

        async fn set_lockdown(&self, _: Option<Lockdown>) -> Result<bool, StorageError> {
            Err(StorageError::NotDone)
        }

        async fn probe(&self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_order_that_was_heard_of_and_could_not_be_read_is_read_before_anything_is_confirmed() {
        let (store, memory) = (Arc::new(Store::default()), Arc::new(Memory::new(10, 1)));
        let turns = Turns {
            store: Arc::<Store>::clone(&store),
            memory: Arc::clone(&memory),
            limits: LIMITS,
        };
        assert!(memory.set_standing(Standing::default(), memory.standing_generation()));
        memory.confirm(memory.elapsed_ms());
        memory.changed(Change::Standing);
        store.fails.store(true, Ordering::Relaxed);
        assert!(turns.read_standing().await.is_err());
        turns.turn(1).await.unwrap();
        assert!(memory.standing().unwrap().lockdown.is_some());
    }
}
