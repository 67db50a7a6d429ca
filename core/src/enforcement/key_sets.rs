//! The key sets that are fetched: what the edge is to send, and what it brings back.

use picket_model::time::Timestamp;

use super::Enforcer;
use crate::token::provider::ProviderIndex;
use crate::token::remote_keys::answer::{Answer, FetchError};
use crate::token::remote_keys::board::SharedBoard;
use crate::token::remote_keys::{Fetch, Progress};

/// A key set that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetch {
    /// Whose keys.
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

    /// How old each fetched key set is, in milliseconds; those that are not there yet are left out.
    pub fn key_set_ages_ms(&self, now: Timestamp) -> impl Iterator<Item = (ProviderIndex, u64)> {
        self.tokens.remote_providers().filter_map(move |(index, _, keys)| {
            let asked_at = keys.asked_at()?;
            Some((index, now.as_ms().saturating_sub(asked_at.as_ms())))
        })
    }

    /// Takes over the key sets that other workers have fetched: a new worker starts on them.
    pub fn start_key_sets(&mut self, now: Timestamp, board: &dyn SharedBoard) {
        self.tokens.start_key_sets(now, board);
    }

    /// Takes over the key sets that other workers have fetched, and says what this one is to fetch.
    ///
    /// To be called a few times a second; where nothing is due it costs next to nothing.
    pub fn tick(&mut self, now: Timestamp, board: &dyn SharedBoard) -> Vec<KeyFetch> {
        let fetches = self.tokens.tick_key_sets(now, board).into_iter();
        fetches.map(|(provider, fetch)| KeyFetch { provider, fetch }).collect()
    }

    /// Takes the answer to a fetch, or what became of it.
    pub fn key_set_answered(
        &mut self,
        fetch: &KeyFetch,
        answer: Result<Answer<'_>, FetchError>,
        now: Timestamp,
        board: &dyn SharedBoard,
    ) -> Progress {
        let number = (fetch.provider, fetch.fetch.number);
        self.tokens.key_set_answered(number, answer, now, board)
    }
}
