//! What a process remembers of sessions, so that few decisions ask the storage.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_core::cache::Cache;
use picket_model::time::Timestamp;

use super::held::Held;
use super::rules::{SessionState, Standing};
use super::token_claims::LastClaims;
use crate::state::{Change, Freshness, SessionId, Snapshot};

/// Uses that wait to be written. Above it the oldest known use stays the last one, so a session may be ended too early.
const USES_MAX: usize = 262_144;

/// The memory.
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    /// What an operator has ordered.
    pub(super) standing: Snapshot<Standing>,
    pub(super) held: Held,
    pub(super) claims: LastClaims,
}

struct Inner {
    sessions: Cache<SessionId, Remembered>,
    /// Counts what was forgotten: something read before is not remembered after.
    generation: u64,
    /// Uses that are to be written.
    uses: HashMap<SessionId, i64>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    state: SessionState,
    /// The last use that is written or waits to be.
    noted_us: i64,
}

impl Memory {
    /// `seed` is random: clients choose parts of what is remembered.
    pub(crate) fn new(entries_max: u32, seed: u64, freshness: Arc<Freshness>) -> Self {
        let entries_max = usize::try_from(entries_max).ok().and_then(NonZeroUsize::new);
        Self {
            inner: Mutex::new(Inner {
                sessions: Cache::new(entries_max.unwrap_or(NonZeroUsize::MIN), seed),
                generation: 0,
                uses: HashMap::new(),
            }),
            standing: Snapshot::new(freshness),
            held: Held::default(),
            claims: LastClaims::new(seed),
        }
    }

    /// Takes in what the storage says that others have changed.
    pub(crate) fn changed(&self, change: Change) {
        match change {
            Change::Session(id) => self.forget(id),
            Change::Standing => self.standing.changed_elsewhere(),
            Change::Device(_) | Change::Policies | Change::Roles => {}
            Change::Anything => {
                let mut inner = self.inner();
                inner.generation += 1;
                inner.sessions.end_where(|_, _| true);
                drop(inner);
                self.standing.forget();
            }
        }
    }

    /// A session that is remembered.
    pub(super) fn session(&self, id: SessionId) -> Option<SessionState> {
        let inner = self.inner();
        inner
            .sessions
            .get(&id, Timestamp::from_ms(0))
            .map(|remembered| remembered.state)
    }

    /// To be asked for before a session is read.
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// Remembers a session that was read, unless something was forgotten since: it could be this one.
    pub(super) fn keep(&self, id: SessionId, mut state: SessionState, generation: u64) -> SessionState {
        let mut inner = self.inner();
        if let Some(waiting_us) = inner.uses.get(&id) {
            state.last_seen_us = state.last_seen_us.max(*waiting_us);
        }
        if inner.generation == generation {
            let noted_us = state.last_seen_us;
            inner.sessions.keep(id, Remembered { state, noted_us });
        }
        state
    }

    /// Forgets a session, so that it is read anew.
    pub(super) fn forget(&self, id: SessionId) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.sessions.remove(&id);
    }

    /// Notes a use. It is written once in an interval; what is lost with the process makes a session end earlier.
    pub(super) fn used(&self, id: SessionId, state: &SessionState, now_us: i64, write_interval_us: i64) {
        let mut inner = self.inner();
        let remembered = inner.sessions.get(&id, Timestamp::from_ms(0)).copied();
        let mut noted_us = remembered.map_or(state.last_seen_us, |remembered| remembered.noted_us);
        let has_room = inner.uses.len() < USES_MAX || inner.uses.contains_key(&id);
        if now_us.saturating_sub(noted_us) >= write_interval_us && has_room {
            inner.uses.insert(id, now_us);
            noted_us = now_us;
        }
        if let Some(mut remembered) = remembered {
            remembered.noted_us = noted_us;
            remembered.state.last_seen_us = remembered.state.last_seen_us.max(now_us);
            inner.sessions.keep(id, remembered);
        }
    }

    /// The uses that wait; they are the caller's to write.
    pub(super) fn take_uses(&self) -> HashMap<SessionId, i64> {
        std::mem::take(&mut self.inner().uses)
    }

    /// Uses that were not written wait again.
    pub(super) fn put_back_uses(&self, uses: HashMap<SessionId, i64>) {
        let mut inner = self.inner();
        for (id, use_us) in uses {
            if inner.uses.len() < USES_MAX {
                let waiting_us = inner.uses.entry(id).or_insert(use_us);
                *waiting_us = use_us.max(*waiting_us);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Fingerprint, NamedBy, PrincipalId};

    fn id() -> SessionId {
        SessionId::of("https://issuer.example", NamedBy::SessionId, "1")
    }

    fn state() -> SessionState {
        SessionState {
            principal: PrincipalId::of("https://issuer.example", "alice"),
            fingerprint: Fingerprint::of(&[]),
            first_seen_us: 0,
            last_seen_us: 0,
            ended: None,
        }
    }

    fn memory() -> Memory {
        Memory::new(10, 1, Arc::new(Freshness::new()))
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        for change in [Change::Session(id()), Change::Anything] {
            let memory = memory();
            let generation = memory.generation();
            memory.changed(change);
            memory.keep(id(), state(), generation);
            assert_eq!(memory.session(id()), None, "{change:?}");
            memory.keep(id(), state(), memory.generation());
            assert_eq!(memory.session(id()), Some(state()));
            memory.changed(change);
            assert_eq!(memory.session(id()), None, "{change:?}");
        }
    }

    #[tokio::test]
    async fn what_stands_is_to_be_read_after_an_order_elsewhere() {
        for change in [Change::Standing, Change::Anything] {
            let memory = memory();
            memory.standing.read(async || Ok(Standing::default())).await.unwrap();
            assert!(memory.standing.is_current());
            memory.changed(Change::Session(id()));
            assert!(memory.standing.is_current());
            memory.changed(change);
            assert!(!memory.standing.is_current(), "{change:?}");
        }
    }

    #[test]
    fn a_use_is_written_once_in_an_interval_and_always_remembered() {
        let memory = memory();
        memory.keep(id(), state(), memory.generation());
        memory.used(id(), &state(), 9, 10);
        assert!(memory.take_uses().is_empty());
        assert_eq!(memory.session(id()).unwrap().last_seen_us, 9);
        memory.used(id(), &state(), 10, 10);
        memory.used(id(), &state(), 19, 10);
        assert_eq!(memory.take_uses(), HashMap::from([(id(), 10)]));
        memory.used(id(), &state(), 20, 10);
        memory.put_back_uses(HashMap::from([(id(), 10)]));
        assert_eq!(memory.take_uses(), HashMap::from([(id(), 20)]));
    }

    #[test]
    fn a_use_that_waits_counts_for_a_session_that_is_read() {
        let memory = memory();
        memory.used(id(), &state(), 50, 10);
        assert_eq!(memory.keep(id(), state(), memory.generation()).last_seen_us, 50);
    }
}
