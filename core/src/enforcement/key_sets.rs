//! Fetching key sets: the requests for the host to send, and their responses.

use picket_model::time::Timestamp;

use super::Enforcer;
use crate::token::provider::ProviderIndex;
use crate::token::remote_keys::response::{FetchError, HttpResponse};
use crate::token::remote_keys::shared_memory::SharedMemory;
use crate::token::remote_keys::{Fetch, FetchProgress};

/// A request for a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetch {
    /// The provider of the keys.
    pub provider: ProviderIndex,
    /// The request.
    pub fetch: Fetch,
}

impl Enforcer {
    /// The providers whose keys are fetched, each with its name.
    pub fn remote_providers(&self) -> impl Iterator<Item = (ProviderIndex, &str)> {
        let providers = self.tokens.remote_providers();
        providers.map(|(index, provider, _)| (index, provider.name.as_str()))
    }

    /// The age of each key set in milliseconds, without those that have never been fetched.
    pub fn key_set_ages_ms(&self, now: Timestamp) -> impl Iterator<Item = (ProviderIndex, u64)> {
        self.tokens.remote_providers().filter_map(move |(index, _, keys)| {
            let asked_at = keys.asked_at()?;
            Some((index, now.as_ms().saturating_sub(asked_at.as_ms())))
        })
    }

    /// Adopts the key sets that other workers have published, at the start of a worker.
    pub fn start_key_sets(&mut self, now: Timestamp, memory: &dyn SharedMemory) {
        self.tokens.start_key_sets(now, memory);
    }

    /// Adopts the key sets that other workers have published, and returns the fetches that are due.
    ///
    /// The host calls it several times a second.
    pub fn tick(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> Vec<KeyFetch> {
        let fetches = self.tokens.tick_key_sets(now, memory).into_iter();
        fetches.map(|(provider, fetch)| KeyFetch { provider, fetch }).collect()
    }

    /// Takes the response to a fetch, or the failure of it.
    pub fn on_key_set(
        &mut self,
        fetch: &KeyFetch,
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> FetchProgress {
        let number = (fetch.provider, fetch.fetch.number);
        self.tokens.on_key_set(number, answer, now, memory)
    }
}
