//! What fetched keys mean for verification: they come, they go, and what was verified with them
//! goes with them.

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::{CachedToken, TokenVerifier};
use crate::cache::Cache;
use crate::reason::DenyReason;
use crate::token::provider::{Provider, ProviderIndex, ProviderKeys};
use crate::token::remote_keys::response::{FetchError, HttpResponse};
use crate::token::remote_keys::shared_memory::SharedMemory;
use crate::token::remote_keys::{Fetch, FetchProgress, KeyChange, KeyWait, MissingKey, RemoteKeys};
use crate::token::{TokenError, VerifiedToken};

impl TokenVerifier {
    /// The providers whose keys are fetched.
    pub fn remote_providers(&self) -> impl Iterator<Item = (ProviderIndex, &Provider, &RemoteKeys)> {
        let providers = self.providers.iter().enumerate();
        providers.filter_map(|(index, provider)| Some((index, provider, provider.keys.remote()?)))
    }

    /// Takes over the keys that other workers have posted.
    pub fn start_key_sets(&mut self, now: Timestamp, memory: &dyn SharedMemory) {
        for (index, keys) in remote(&mut self.providers) {
            let change = keys.start(now, memory);
            remove_verified_with_removed_keys(&mut self.verified, index, keys, change);
        }
    }

    /// Takes over the keys that other workers have posted, and says what this one is to fetch.
    pub fn tick_key_sets(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> Vec<(ProviderIndex, Fetch)> {
        let mut fetches = Vec::new();
        for (index, keys) in remote(&mut self.providers) {
            let (fetch, change) = keys.tick(now, memory);
            remove_verified_with_removed_keys(&mut self.verified, index, keys, change);
            fetches.extend(fetch.map(|fetch| (index, fetch)));
        }
        fetches
    }

    /// Takes the answer to a fetch of this number and provider.
    pub fn on_key_set(
        &mut self,
        (provider, fetch): (ProviderIndex, u64),
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> FetchProgress {
        let Some((index, keys)) = remote(&mut self.providers).find(|(index, _)| *index == provider) else {
            return FetchProgress::Late;
        };
        let (progress, change) = keys.on_response(fetch, answer, now, memory);
        remove_verified_with_removed_keys(&mut self.verified, index, keys, change);
        progress
    }

    /// Has a provider's keys fetched again for a request that arrived at `since`, as
    /// [`RemoteKeys::request_newer`].
    pub fn request_newer_keys(&mut self, provider: ProviderIndex, since: Timestamp, now: Timestamp) -> Option<KeyWait> {
        let keys = self.providers.get_mut(provider)?.keys.remote_mut()?;
        keys.request_newer(since, now)
    }

    /// Whether a request need not wait on for a provider's keys, as [`RemoteKeys::is_over`].
    #[must_use]
    pub fn is_key_wait_over(&self, provider: ProviderIndex, wait: &KeyWait, now: Timestamp) -> bool {
        let keys = self.providers.get(provider).and_then(|provider| provider.keys.remote());
        keys.is_none_or(|keys| keys.is_over(wait, now))
    }

    /// Whether the key that verified a token still serves, as the token's request may have waited.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn check_key(&self, token: &VerifiedToken, now: Timestamp) -> Result<(), TokenError> {
        let Some(key) = &token.fetched_key else {
            return Ok(());
        };
        let keys = self
            .providers
            .get(token.provider)
            .and_then(|provider| provider.keys.remote());
        keys.ok_or(MissingKey::Unavailable)
            .and_then(|keys| keys.check_serving(key, now))
            .map_err(refusal)
    }
}

/// What is wrong with a token that a provider's keys do not verify; where they are fetched, newer
/// ones might.
pub(super) fn not_verified(error: TokenError, keys: &ProviderKeys, provider: ProviderIndex) -> TokenError {
    match keys.remote() {
        Some(_) => error.with_newer_keys_of(provider),
        None => error,
    }
}

pub(super) fn refusal(error: MissingKey) -> TokenError {
    match error {
        MissingKey::Unknown => TokenError::new(DenyReason::TokenKeyUnknown, "no key fits `kid` and `alg`"),
        MissingKey::Unavailable => TokenError::new(
            DenyReason::KeySetUnavailable,
            "the provider's keys have not been fetched, or too long ago",
        ),
    }
}

fn remote(providers: &mut [Provider]) -> impl Iterator<Item = (ProviderIndex, &mut RemoteKeys)> {
    let providers = providers.iter_mut().enumerate();
    providers.filter_map(|(index, provider)| Some((index, provider.keys.remote_mut()?)))
}

/// INVARIANT: no token in the cache was verified with a fetched key that is not in its provider's
/// set. Those whose key is gone end here; those whose key is still there stay, at no cost to the
/// requests that bring them.
fn remove_verified_with_removed_keys(
    verified: &mut Cache<CachedToken, Rc<VerifiedToken>>,
    provider: ProviderIndex,
    keys: &RemoteKeys,
    change: KeyChange,
) {
    match change {
        KeyChange::NoneRemoved => {}
        KeyChange::SomeRemoved => verified.remove_where(|_, token| {
            let is_gone = token.fetched_key.as_ref().is_some_and(|key| !keys.contains(key));
            token.provider == provider && is_gone
        }),
    }
}
