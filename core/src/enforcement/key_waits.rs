//! Requests that wait for newer keys: a provider has replaced its keys, or the first set is not
//! there yet.
//!
//! A request waits until a set is there that was asked for after its arrival, or for a bounded
//! time. Each set that comes in the meantime is tried.

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::introspection::Knowledge;
use super::possession::CredentialCheck;
use super::{Arrival, Enforcer, Notes, Refusal, Step, check_provider};
use crate::reason::{DecidedBy, DenyReason};
use crate::token::credential::Credential;
use crate::token::provider::ProviderIndex;
use crate::token::remote_keys::KeyWait;
use crate::token::{Sighting, TokenError};

/// How many requests of a worker wait for keys at once, each with its headers in memory: as many as
/// Envoy lets wait for the policy service. Callers choose key ids, so without it they could fill
/// the memory.
pub(super) const KEY_WAITS_MAX: usize = 1024;

/// A request that waits for newer keys of a provider.
#[derive(Debug)]
pub struct PendingKeys {
    provider: ProviderIndex,
    wait: KeyWait,
    _place: Rc<()>,
}

/// The places of those that wait.
#[derive(Debug, Default)]
pub(super) struct KeyWaitPlaces(Rc<()>);

impl KeyWaitPlaces {
    /// A place until it is dropped. `None`: all are taken.
    fn take(&self) -> Option<Rc<()>> {
        let taken = Rc::strong_count(&self.0) - 1;
        (taken < KEY_WAITS_MAX).then(|| Rc::clone(&self.0))
    }
}

impl Enforcer {
    /// Whether a request that waits for keys can be decided now. To be asked after
    /// [`Enforcer::tick`] and [`Enforcer::key_set_answered`].
    #[must_use]
    pub fn is_key_wait_over(&self, pending: &PendingKeys, now: Timestamp) -> bool {
        self.tokens.is_key_wait_over(pending.provider, &pending.wait, now)
    }

    /// Decides about a request that waited for keys, or says what to ask, or to wait on. `arrival`
    /// is the request as it arrived, with the time that it is now: everything is looked at again.
    pub fn key_wait_over(&mut self, pending: PendingKeys, arrival: &Arrival<'_>) -> (Step, Notes) {
        let since = pending.wait.since;
        // Its place is free for what it may have to wait for next.
        drop(pending);
        let mut notes = Notes::default();
        let step = self.step(arrival, since, Knowledge::Own, &mut notes);
        (step, notes)
    }
}

impl CredentialCheck<'_> {
    /// Verifies a credential's token. Where newer keys might verify it, the request is to wait for
    /// them.
    pub(super) fn verify(&mut self, credential: &Credential<'_>, notes: &mut Notes) -> Result<Sighting, Refusal> {
        let mut how = None;
        let of = self.rule.credential.providers();
        let result = self.tokens.verify(credential, of, self.now, &mut how);
        let has_passed = matches!(result, Ok(Sighting::Verified(_)));
        notes.verifications.extend(how.map(|how| (how, has_passed)));
        result.map_err(|error| self.not_verified(error))
    }

    fn not_verified(&mut self, error: TokenError) -> Refusal {
        let mut first = None;
        for provider in error.newer_keys_of.iter() {
            // Nobody waits for the keys of a provider whose tokens the rule does not take.
            if check_provider(self.rule, provider).is_err() {
                continue;
            }
            // All of them are fetched again. The request waits for the first one's, and then for the next.
            let wait = self.tokens.want_keys(provider, self.since, self.now);
            first = first.or(wait.map(|wait| (provider, wait)));
        }
        let Some((provider, wait)) = first else {
            return error.into();
        };
        let Some(place) = self.key_waits.take() else {
            let detail = "too many requests wait for the provider's keys";
            return Refusal::new(DenyReason::KeySetUnavailable, DecidedBy::Token).because(detail);
        };
        self.awaited = Some(PendingKeys {
            provider,
            wait,
            _place: place,
        });
        error.into()
    }
}
