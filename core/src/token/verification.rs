//! Verification of a token, and the cache of those that passed.

mod candidates;
mod fetched_keys;
mod introspected;

use std::borrow::{Borrow, Cow};
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::rc::Rc;

use super::claim_path::ClaimPath;
use super::credential::{Credential, b64token};
use super::introspection::IntrospectionRequest;
use super::provider::{Provider, ProviderIndex, ProviderSet};
use super::{TokenError, VerifiedToken, claims};
use crate::cache::Cache;
use crate::identity_headers::IdentityHeaders;
use crate::jose::TokenAlgorithm;
use crate::jose::jws::Jws;
use crate::jose::limits::TokenLimits;
use crate::jose::signature::SignatureVerifier;
use crate::reason::DenyReason;
use candidates::AcceptedToken;
use introspected::Endpoint;
use picket_model::strict_json::Json;
use picket_model::time::Timestamp;

pub use introspected::IntrospectionQuery;

/// How many inactive tokens are cached, each of at most [`TokenLimits::bytes_max`]: 4 MiB in all by
/// default.
const INACTIVE_ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How long a token is cached as one provider's while an earlier provider of its issuer has no keys
/// yet.
const UNSETTLED_MS: u64 = 1_000;

/// Verifies tokens with the keys of the providers, and caches those that pass.
#[derive(Debug)]
pub struct TokenVerifier {
    providers: Vec<Provider>,
    /// The providers that share their issuer with another one.
    sharing: ProviderSet,
    limits: TokenLimits,
    /// Bounded by the number of entries and [`TokenLimits::bytes_max`].
    verified: Cache<CachedToken, Rc<VerifiedToken>>,
    /// Hashed whole, as callers choose them.
    inactive: Cache<Box<[u8]>, ()>,
    identity_headers: IdentityHeaders,
    /// The claims that access rules use.
    condition_claims: Vec<ClaimPath>,
    signatures: Rc<dyn SignatureVerifier>,
    serial: u64,
}

/// The outcome of a verification that found no reason for a refusal.
#[derive(Debug)]
pub enum VerificationOutcome {
    /// The token is valid.
    Verified(Rc<VerifiedToken>),
    /// The token's issuer must be asked about it.
    NeedsIntrospection(IntrospectionLookup),
}

/// The introspection of a token.
#[derive(Debug)]
pub struct IntrospectionLookup {
    /// The provider to ask.
    pub provider: ProviderIndex,
    /// See [`TokenVerifier::candidates`].
    pub(crate) candidates: ProviderSet,
    /// The request.
    pub request: IntrospectionRequest,
}

/// A token that passed.
#[derive(Debug)]
struct CachedToken {
    /// Stored beside the bytes, so that an eviction does not read these.
    tail: u64,
    bytes: Box<[u8]>,
    candidates: ProviderSet,
}

/// A token of a request.
#[derive(Clone, Copy)]
struct SentToken<'t> {
    bytes: &'t [u8],
    candidates: ProviderSet,
}

/// A token as the key of the cache. Its last eight bytes are hashed: they belong to the signature,
/// which no caller can choose for a token that passes. All bytes are compared.
///
/// INVARIANT: a token is found only for the same candidates, as it was verified with the settings
/// of one of them.
trait TokenKey {
    fn tail(&self) -> u64;
    fn bytes(&self) -> &[u8];
    fn candidates(&self) -> ProviderSet;
}

/// How a token was verified, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The signature had been verified before.
    Cached,
    /// The signature was checked now.
    Checked(TokenAlgorithm),
}

impl Hash for dyn TokenKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tail().hash(state);
    }
}

impl PartialEq for dyn TokenKey + '_ {
    /// Eight bytes at a time: `memcmp` in a VM goes one by one.
    fn eq(&self, other: &Self) -> bool {
        let ((left, left_rest), (right, right_rest)) = (self.bytes().as_chunks(), other.bytes().as_chunks());
        let same = |(left, right): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*left) == u64::from_ne_bytes(*right);
        self.candidates() == other.candidates()
            && left.len() == right.len()
            && left_rest == right_rest
            && left.iter().zip(right).all(same)
    }
}

impl Eq for dyn TokenKey + '_ {}

impl TokenKey for CachedToken {
    fn tail(&self) -> u64 {
        self.tail
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn candidates(&self) -> ProviderSet {
        self.candidates
    }
}

impl TokenKey for SentToken<'_> {
    fn tail(&self) -> u64 {
        self.bytes.last_chunk().map_or(0, |tail| u64::from_ne_bytes(*tail))
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn candidates(&self) -> ProviderSet {
        self.candidates
    }
}

impl From<SentToken<'_>> for CachedToken {
    fn from(token: SentToken<'_>) -> Self {
        Self {
            tail: token.tail(),
            bytes: Box::from(token.bytes),
            candidates: token.candidates,
        }
    }
}

impl<'t> Borrow<dyn TokenKey + 't> for CachedToken {
    fn borrow(&self) -> &(dyn TokenKey + 't) {
        self
    }
}

impl Hash for CachedToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key: &dyn TokenKey = self;
        key.hash(state);
    }
}

impl PartialEq for CachedToken {
    fn eq(&self, other: &Self) -> bool {
        let (one, other): (&dyn TokenKey, &dyn TokenKey) = (self, other);
        one == other
    }
}

impl Eq for CachedToken {}

impl TokenVerifier {
    /// A verifier with an empty cache. It caches the texts of `condition_claims` with each token.
    #[must_use]
    pub fn new(
        providers: Vec<Provider>,
        identity_headers: IdentityHeaders,
        condition_claims: Vec<ClaimPath>,
        limits: TokenLimits,
        entries_max: NonZeroUsize,
        seed: u64,
        signatures: Rc<dyn SignatureVerifier>,
    ) -> Self {
        Self {
            signatures,
            sharing: candidates::sharing(&providers),
            providers,
            limits,
            verified: Cache::new(entries_max, seed),
            inactive: Cache::new(INACTIVE_ENTRIES_MAX, seed),
            identity_headers,
            condition_claims,
            serial: 0,
        }
    }

    /// How many verified tokens were evicted before they expired, since the last call.
    pub fn take_evictions(&mut self) -> u64 {
        self.verified.take_evictions()
    }

    /// Verifies a token at `now`. `of` are the providers whose tokens the rule accepts; `None`:
    /// all. `how` is set where a signature was checked or found in the cache, whatever the result.
    ///
    /// Where several providers have one issuer, the token belongs to the first one that accepts it,
    /// of those that the rule accepts and that accept tokens from its place.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn verify(
        &mut self,
        credential: &Credential<'_>,
        of: Option<&[ProviderIndex]>,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<VerificationOutcome, TokenError> {
        let token = SentToken {
            bytes: credential.token,
            candidates: self.candidates(credential.source, of),
        };
        // A cached token has passed every check but those of time and place.
        if let Some(known) = self.verified.get(&token as &dyn TokenKey, now) {
            *how = Some(Verification::Cached);
            claims::check_times(known.starts_at, known.ends_at, now)?;
            return check_source(known, credential).map(|()| VerificationOutcome::Verified(Rc::clone(known)));
        }
        let text = b64token(token.bytes)?;
        let endpoint = self.endpoint(credential.source, text, token.candidates)?;
        if let Endpoint::Alone(provider) = endpoint {
            return self.start_introspection(provider, text, token.candidates, now);
        }
        match (self.verify_new(text, token.candidates, now, how), endpoint) {
            (Ok(accepted), _) => {
                let verified = self.remember(token, accepted, now);
                check_source(&verified, credential).map(|()| VerificationOutcome::Verified(verified))
            }
            (Err(error), Endpoint::AfterKeys(provider)) => {
                // The endpoint answers this request; the next ones find the keys.
                for provider in error.newer_keys_of.iter() {
                    let _no_wait = self.request_newer_keys(provider, now, now);
                }
                self.start_introspection(provider, text, token.candidates, now)
            }
            (Err(error), Endpoint::None | Endpoint::Alone(_)) => Err(error),
        }
    }

    /// The token that a provider has accepted, by its keys.
    fn verify_new(
        &mut self,
        token: &str,
        candidates: ProviderSet,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<AcceptedToken, TokenError> {
        let jws = Jws::parse(token, &self.limits)?;
        let members = jws.header()?;
        let header = members.read()?;
        let claims = jws.claims()?;
        let issuer = match claims.get("iss") {
            Some(Json::String(issuer)) => issuer.as_ref(),
            Some(_) | None => "",
        };
        let of_issuer = self.verifying_jws_of(issuer);
        if of_issuer.is_empty() {
            return Err(unknown_issuer());
        }
        // Without a candidate the refusal comes after the checks, as with an issuer of one
        // provider.
        let tried = Some(of_issuer.intersection(candidates)).filter(|some| !some.is_empty());
        let (key, checked) = self.first_accepting(tried.unwrap_or(of_issuer), &jws, &header, &claims, now, how)?;
        self.serial = self.serial.saturating_add(1);
        let mut identity_headers = self.identity_headers.of_principal(&checked.principal);
        let principal_headers = identity_headers.len();
        identity_headers.extend(checked.headers);
        let provider = self.providers.get(key.provider).ok_or_else(unknown_issuer)?;
        if let Some(name) = &provider.payload_header {
            identity_headers.push((Cow::Owned(name.to_string()), jws.payload_text().to_owned()));
        }
        let token = VerifiedToken {
            serial: self.serial,
            provider: key.provider,
            sources: provider.sources,
            identity_headers,
            principal_headers,
            principal: Rc::new(checked.principal),
            confirmation: checked.confirmation,
            unread_claims: checked.unread.into_boxed_slice(),
            condition_claims: self
                .condition_claims
                .iter()
                .map(|path| claims::texts_of(path, &claims, provider))
                .collect(),
            fetched_key: key.fetched_until.is_some().then_some(key.key),
            starts_at: checked.starts_at,
            ends_at: checked.ends_at,
        };
        Ok(AcceptedToken {
            token: Rc::new(token),
            keys_end_at: key.fetched_until,
            is_lasting: key.is_lasting,
        })
    }

    fn remember(&mut self, token: SentToken<'_>, accepted: AcceptedToken, now: Timestamp) -> Rc<VerifiedToken> {
        let verified = accepted.token;
        // INVARIANT: no entry outlives the fetched keys as they are now; see also
        // `fetched_keys::remove_verified_with_removed_keys`.
        let unsettled_until = (!accepted.is_lasting).then(|| now.plus_ms(UNSETTLED_MS));
        let ends = accepted.keys_end_at.into_iter().chain(unsettled_until);
        let ends_at = ends.fold(verified.ends_at, Ord::min);
        self.verified.put(token.into(), Rc::clone(&verified), ends_at, now);
        verified
    }
}

fn unknown_issuer() -> TokenError {
    TokenError::new(DenyReason::TokenIssuerUnknown, "`iss` is no provider's")
}

/// Checks the place of a token: a header's token does not count in a cookie, where other sites
/// could put it.
fn check_source(token: &VerifiedToken, credential: &Credential<'_>) -> Result<(), TokenError> {
    match token.sources.contains(credential.source) {
        true => Ok(()),
        false => Err(TokenError::new(
            DenyReason::CredentialMisplaced,
            "the provider's tokens are not taken from this place",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: &[u8]) -> SentToken<'_> {
        SentToken {
            bytes,
            candidates: ProviderSet::from_iter([1]),
        }
    }

    #[test]
    fn tokens_are_one_key_only_if_they_are_the_same_to_the_last_byte() {
        let token = b"header.claims.signature";
        let known = CachedToken::from(sent(token.as_slice()));
        let is_known = |other: &[u8]| (&known as &dyn TokenKey) == (&sent(other) as &dyn TokenKey);
        assert!(is_known(token));
        for index in 0..token.len() {
            let mut other = *token;
            other[index] ^= 1;
            assert!(!is_known(&other), "{index}");
            assert!(!is_known(&token[index..]) || index == 0, "{index}");
            assert!(!is_known(&token[..index]), "{index}");
        }
        let of_others = SentToken {
            candidates: ProviderSet::from_iter([0, 1]),
            ..sent(token.as_slice())
        };
        assert!((&known as &dyn TokenKey) != (&of_others as &dyn TokenKey));
    }
}
