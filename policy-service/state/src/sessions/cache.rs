//! What this process caches of sessions, so that few checks ask the storage.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_core::cache::Cache;
use picket_model::time::Timestamp;

use super::quota::SessionQuota;
use super::rules::{Restrictions, SessionState};
use super::token_claims::ClaimsCache;
use crate::{Change, Freshness, SessionId, Snapshot};

/// Uses that wait to be written. Above it no further session's use is noted, so a session may be
/// ended too early.
const USES_MAX: usize = 262_144;

/// What this process knows of sessions.
pub(super) struct SessionCache {
    inner: Mutex<Inner>,
    /// What operators have ordered.
    pub(super) restrictions: Snapshot<Restrictions>,
    pub(super) quota: SessionQuota,
    pub(super) claims: ClaimsCache,
}

struct Inner {
    sessions: Cache<SessionId, CachedSession>,
    /// Counts removals: a session that was read before one of them is not cached after it.
    generation: u64,
    /// Uses that wait to be written, in microseconds since the epoch.
    uses: HashMap<SessionId, i64>,
}

#[derive(Clone, Copy, Debug)]
struct CachedSession {
    state: SessionState,
    /// The last use that is written or waits to be.
    noted_us: i64,
}

impl SessionCache {
    /// `seed` is random: clients choose parts of what is cached.
    pub(super) fn new(entries_max: u32, seed: u64, freshness: Arc<Freshness>) -> Self {
        let entries_max = usize::try_from(entries_max).ok().and_then(NonZeroUsize::new);
        Self {
            inner: Mutex::new(Inner {
                sessions: Cache::new(entries_max.unwrap_or(NonZeroUsize::MIN), seed),
                generation: 0,
                uses: HashMap::new(),
            }),
            restrictions: Snapshot::new(freshness),
            quota: SessionQuota::default(),
            claims: ClaimsCache::new(seed),
        }
    }

    /// Drops what another replica has changed.
    pub(super) fn apply_change(&self, change: Change) {
        match change {
            Change::Session(id) => self.remove(id),
            Change::Restrictions => self.restrictions.changed_elsewhere(),
            Change::Device(_) | Change::Policies | Change::Roles => {}
            Change::Anything => {
                let mut inner = self.inner();
                inner.generation += 1;
                inner.sessions.remove_where(|_, _| true);
                drop(inner);
                self.restrictions.forget();
            }
        }
    }

    /// The cached session.
    pub(super) fn session(&self, id: SessionId) -> Option<SessionState> {
        let inner = self.inner();
        inner
            .sessions
            .get(&id, Timestamp::from_ms(0))
            .map(|cached| cached.state)
    }

    /// To be taken before a session is read, for [`Self::insert`].
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// Caches a session that was read, unless anything was removed since: it could be this one.
    /// Returns it with its last known use.
    pub(super) fn insert(&self, id: SessionId, mut state: SessionState, generation: u64) -> SessionState {
        let mut inner = self.inner();
        if let Some(waiting_us) = inner.uses.get(&id) {
            state.last_seen_us = state.last_seen_us.max(*waiting_us);
        }
        if inner.generation == generation {
            let noted_us = state.last_seen_us;
            inner.sessions.put_without_end(id, CachedSession { state, noted_us });
        }
        state
    }

    /// Drops a session, so that it is read anew.
    pub(super) fn remove(&self, id: SessionId) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.sessions.remove(&id);
    }

    /// Notes a use, to be written once in an interval. What is lost with the process makes a
    /// session end earlier.
    pub(super) fn note_use(&self, id: SessionId, state: &SessionState, now_us: i64, write_interval_us: i64) {
        let mut inner = self.inner();
        let cached = inner.sessions.get(&id, Timestamp::from_ms(0)).copied();
        let mut noted_us = cached.map_or(state.last_seen_us, |cached| cached.noted_us);
        let has_capacity = inner.uses.len() < USES_MAX || inner.uses.contains_key(&id);
        if now_us.saturating_sub(noted_us) >= write_interval_us && has_capacity {
            inner.uses.insert(id, now_us);
            noted_us = now_us;
        }
        if let Some(mut cached) = cached {
            cached.noted_us = noted_us;
            cached.state.last_seen_us = cached.state.last_seen_us.max(now_us);
            inner.sessions.put_without_end(id, cached);
        }
    }

    /// Takes the uses that wait, to be written by the caller.
    pub(super) fn take_uses(&self) -> HashMap<SessionId, i64> {
        std::mem::take(&mut self.inner().uses)
    }

    /// Puts back uses that were not written.
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
    use crate::{Fingerprint, NamedBy, PrincipalId};

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

    fn cache() -> SessionCache {
        SessionCache::new(10, 1, Arc::new(Freshness::new()))
    }

    #[test]
    fn what_was_read_before_a_change_is_not_cached_after_it() {
        for change in [Change::Session(id()), Change::Anything] {
            let cache = cache();
            let generation = cache.generation();
            cache.apply_change(change);
            cache.insert(id(), state(), generation);
            assert_eq!(cache.session(id()), None, "{change:?}");
            cache.insert(id(), state(), cache.generation());
            assert_eq!(cache.session(id()), Some(state()));
            cache.apply_change(change);
            assert_eq!(cache.session(id()), None, "{change:?}");
        }
    }

    #[tokio::test]
    async fn restrictions_are_read_again_after_a_change_elsewhere() {
        for change in [Change::Restrictions, Change::Anything] {
            let cache = cache();
            cache
                .restrictions
                .read(async || Ok(Restrictions::default()))
                .await
                .unwrap();
            assert!(cache.restrictions.is_current());
            cache.apply_change(Change::Session(id()));
            assert!(cache.restrictions.is_current());
            cache.apply_change(change);
            assert!(!cache.restrictions.is_current(), "{change:?}");
        }
    }

    #[test]
    fn a_use_is_written_once_in_an_interval_and_always_cached() {
        let cache = cache();
        cache.insert(id(), state(), cache.generation());
        cache.note_use(id(), &state(), 9, 10);
        assert!(cache.take_uses().is_empty());
        assert_eq!(cache.session(id()).unwrap().last_seen_us, 9);
        cache.note_use(id(), &state(), 10, 10);
        cache.note_use(id(), &state(), 19, 10);
        assert_eq!(cache.take_uses(), HashMap::from([(id(), 10)]));
        cache.note_use(id(), &state(), 20, 10);
        cache.put_back_uses(HashMap::from([(id(), 10)]));
        assert_eq!(cache.take_uses(), HashMap::from([(id(), 20)]));
    }

    #[test]
    fn a_use_that_waits_counts_for_a_session_that_is_read() {
        let cache = cache();
        cache.note_use(id(), &state(), 50, 10);
        assert_eq!(cache.insert(id(), state(), cache.generation()).last_seen_us, 50);
    }
}
