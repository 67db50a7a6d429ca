//! Requests that wait for newer keys: a provider has replaced its keys, or the first set is not
//! there yet.
//!
//! A request waits for a key set that was requested after its arrival, for a bounded time. Each set
//! that arrives in the meantime is tried.

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::introspection::IntrospectionState;
use super::{Arrival, Enforcer, Notes, Step};
use crate::token::provider::ProviderIndex;
use crate::token::remote_keys::KeyWait;

/// How many requests of a worker may wait for keys at once, each with its headers in memory: as
/// many as may wait for the policy service by Envoy's default. Callers choose key ids, so without a
/// limit they could fill the memory.
pub(crate) const KEY_WAITS_MAX: usize = 1024;

/// A request that waits for newer keys of a provider.
#[derive(Debug)]
pub struct PendingKeys {
    provider: ProviderIndex,
    wait: KeyWait,
    _place: Rc<()>,
}

/// The places for requests that wait.
#[derive(Debug, Default)]
pub(super) struct KeyWaitPlaces(Rc<()>);

impl KeyWaitPlaces {
    /// Reserves a place for a request, until the wait is dropped. `None`: all are reserved.
    pub(super) fn reserve(&self, provider: ProviderIndex, wait: KeyWait) -> Option<PendingKeys> {
        let reserved = Rc::strong_count(&self.0) - 1;
        (reserved < KEY_WAITS_MAX).then(|| PendingKeys {
            provider,
            wait,
            _place: Rc::clone(&self.0),
        })
    }
}

impl Enforcer {
    /// Whether a request that waits for keys can be decided now. It changes with [`Enforcer::tick`]
    /// and [`Enforcer::on_key_set`] alone.
    #[must_use]
    pub fn is_key_wait_over(&self, pending: &PendingKeys, now: Timestamp) -> bool {
        self.tokens.is_key_wait_over(pending.provider, &pending.wait, now)
    }

    /// Decides about a request that waited for keys. `arrival` is the request as it arrived, with
    /// the present time: every check is repeated.
    pub fn on_keys(&mut self, pending: PendingKeys, arrival: &Arrival<'_>) -> (Step, Notes) {
        let since = pending.wait.since;
        // It may have to wait again, and needs a place for that.
        drop(pending);
        let mut notes = Notes::default();
        let step = self.step(arrival, since, IntrospectionState::NotAsked, &mut notes);
        (step, notes)
    }
}
