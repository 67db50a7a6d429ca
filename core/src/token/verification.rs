//! Verification of a token, and the cache of those that passed.

mod fetched_keys;
mod introspected;

use std::borrow::{Borrow, Cow};
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::rc::Rc;

use super::claim_path::ClaimPath;
use super::credential::{Credential, b64token};
use super::introspection::IntrospectionRequest;
use super::jws::{Jws, malformed};
use super::provider::{FoundKey, Provider, ProviderIndex};
use super::{TokenAlgorithm, TokenError, VerifiedToken, claims};
use crate::cache::Cache;
use crate::identity_headers::IdentityHeaders;
use crate::reason::DenyReason;
use crate::signature::SignatureVerifier;
use crate::strict_json::Json;
use crate::time::Timestamp;

pub use introspected::Asked;

/// How many tokens are remembered as inactive, each of [`TOKEN_BYTES_MAX`] at most: 2 MiB in all.
const INACTIVE_ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Verifies tokens with the keys of the providers, and remembers the ones that passed.
#[derive(Debug)]
pub struct TokenVerifier {
    providers: Vec<Provider>,
    /// Bounded by the number of entries and [`TOKEN_BYTES_MAX`].
    verified: Cache<KnownToken, Rc<VerifiedToken>>,
    /// Hashed whole, as callers choose them.
    inactive: Cache<Box<[u8]>, ()>,
    identity_headers: IdentityHeaders,
    /// What is kept of the claims for access rules.
    condition_claims: Vec<ClaimPath>,
    signatures: Rc<dyn SignatureVerifier>,
    serial: u64,
}

/// What is known of a token when it arrives.
#[derive(Debug)]
pub enum Sighting {
    /// It is good.
    Verified(Rc<VerifiedToken>),
    /// Its issuer is to be asked about it.
    Unknown(Lookup),
}

/// What is to be asked about a token.
#[derive(Debug)]
pub struct Lookup {
    /// Whose token it would be.
    pub provider: ProviderIndex,
    /// The request.
    pub request: IntrospectionRequest,
}

/// A token that passed.
#[derive(Debug)]
struct KnownToken {
    /// Kept beside the bytes, so that these need not be read when the entry makes room.
    tail: u64,
    bytes: Box<[u8]>,
}

/// A token as a key. Its last eight bytes are hashed: they are of its signature, which no caller can choose for a token
/// that passes. All of it is compared.
trait TokenKey {
    fn tail(&self) -> u64;
    fn bytes(&self) -> &[u8];
}

/// How a token's verification went, for metrics.
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
        left.len() == right.len() && left_rest == right_rest && left.iter().zip(right).all(same)
    }
}

impl Eq for dyn TokenKey + '_ {}

impl TokenKey for KnownToken {
    fn tail(&self) -> u64 {
        self.tail
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl TokenKey for &[u8] {
    fn tail(&self) -> u64 {
        self.last_chunk().map_or(0, |tail| u64::from_ne_bytes(*tail))
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl<'t> Borrow<dyn TokenKey + 't> for KnownToken {
    fn borrow(&self) -> &(dyn TokenKey + 't) {
        self
    }
}

impl Hash for KnownToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key: &dyn TokenKey = self;
        key.hash(state);
    }
}

impl PartialEq for KnownToken {
    fn eq(&self, other: &Self) -> bool {
        let (one, other): (&dyn TokenKey, &dyn TokenKey) = (self, other);
        one == other
    }
}

impl Eq for KnownToken {}

impl TokenVerifier {
    /// A verifier with an empty cache, which keeps of each token what `condition_claims` say.
    #[must_use]
    pub fn new(
        providers: Vec<Provider>,
        identity_headers: IdentityHeaders,
        condition_claims: Vec<ClaimPath>,
        entries_max: NonZeroUsize,
        seed: u64,
        signatures: Rc<dyn SignatureVerifier>,
    ) -> Self {
        Self {
            signatures,
            providers,
            verified: Cache::new(entries_max, seed),
            inactive: Cache::new(INACTIVE_ENTRIES_MAX, seed),
            identity_headers,
            condition_claims,
            serial: 0,
        }
    }

    /// How many verified tokens made room for others before they had ended, since this was asked last.
    pub fn take_evictions(&mut self) -> u64 {
        self.verified.take_evictions()
    }

    /// Verifies a token at `now`, and says in `how` whether a signature was checked, whatever its outcome; or says whom to ask
    /// about it.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn verify(
        &mut self,
        credential: &Credential<'_>,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<Sighting, TokenError> {
        let token = credential.token;
        // What is in the cache has passed every check but those of the time and the place: no byte is looked at again.
        if let Some(known) = self.verified.get(&token as &dyn TokenKey, now) {
            *how = Some(Verification::Cached);
            claims::check_times(known.starts_at, known.ends_at, now)?;
            return check_source(known, credential).map(|()| Sighting::Verified(Rc::clone(known)));
        }
        let text = b64token(token)?;
        if let Some(lookup) = self.lookup(credential, text, now)? {
            return Ok(Sighting::Unknown(lookup));
        }
        let (verified, keys_end_at) = self.verify_new(text, now, how)?;
        let known = KnownToken {
            tail: token.tail(),
            bytes: Box::from(token),
        };
        // INVARIANT: no entry outlives the fetched keys as they are now; see also `fetched_keys::end_gone`.
        let ends_at = keys_end_at.map_or(verified.ends_at, |end| end.min(verified.ends_at));
        self.verified.put(known, Rc::clone(&verified), ends_at, now);
        check_source(&verified, credential).map(|()| Sighting::Verified(verified))
    }

    /// The token, and until when its key serves, where that was fetched.
    fn verify_new(
        &mut self,
        token: &str,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<(Rc<VerifiedToken>, Option<Timestamp>), TokenError> {
        let jws = Jws::parse(token)?;
        let members = jws.header()?;
        let header = members.read()?;
        let claims = jws.claims()?;
        let issuer = match claims.get("iss") {
            Some(Json::String(issuer)) => issuer.as_ref(),
            Some(_) | None => "",
        };
        let (index, provider) = self
            .providers
            .iter()
            .enumerate()
            .find(|(_, provider)| provider.verifies_jws_of(issuer))
            .ok_or(TokenError::new(
                DenyReason::TokenIssuerUnknown,
                "`iss` is no provider's",
            ))?;
        check_type(header.typ.as_deref(), provider)?;
        if !provider.algorithms.contains(&header.algorithm) {
            return Err(TokenError::new(
                DenyReason::TokenAlgorithmRefused,
                "the provider does not allow `alg`",
            ));
        }
        let not_verified = |error| fetched_keys::not_verified(error, &provider.keys, index);
        let FoundKey { key, fetched_until } = fetched_keys::find(&provider.keys, &header, now).map_err(not_verified)?;
        *how = Some(Verification::Checked(header.algorithm));
        let is_valid = jws.signature().is_some_and(|signature| {
            let message = jws.signing_input.as_bytes();
            self.signatures.is_valid(header.algorithm, &key, message, &signature)
        });
        if !is_valid {
            let error = TokenError::new(DenyReason::TokenSignatureInvalid, "the signature is not the key's");
            return Err(match header.key_id {
                Some(_) => error,
                // Without a `kid` a new key shows by this alone.
                None => not_verified(error),
            });
        }
        let checked = claims::check(&claims, provider, now)?;
        self.serial = self.serial.saturating_add(1);
        let mut identity_headers = self.identity_headers.of_principal(&checked.principal);
        let principal_headers = identity_headers.len();
        identity_headers.extend(checked.headers);
        if let Some(name) = &provider.payload_header {
            identity_headers.push((Cow::Owned(name.to_string()), jws.payload_text().to_owned()));
        }
        let token = VerifiedToken {
            serial: self.serial,
            provider: index,
            sources: provider.sources,
            identity_headers,
            principal_headers,
            principal: Rc::new(checked.principal),
            confirmation: checked.confirmation,
            condition_claims: self
                .condition_claims
                .iter()
                .map(|path| claims::texts_of(path, &claims, provider))
                .collect(),
            fetched_key: fetched_until.is_some().then_some(key),
            starts_at: checked.starts_at,
            ends_at: checked.ends_at,
        };
        Ok((Rc::new(token), fetched_until))
    }
}

/// A token that a provider's clients send in a header counts in no other place, where others could put it.
fn check_source(token: &VerifiedToken, credential: &Credential<'_>) -> Result<(), TokenError> {
    match token.sources.contains(credential.source) {
        true => Ok(()),
        false => Err(TokenError::new(
            DenyReason::CredentialMisplaced,
            "the provider's tokens are not taken from this place",
        )),
    }
}

/// RFC 8725 §3.11: a token of another kind (`dpop+jwt`, `logout+jwt`) is no access token.
fn check_type(typ: Option<&str>, provider: &Provider) -> Result<(), TokenError> {
    let is_allowed = match (&provider.types, typ) {
        (None, None | Some("jwt" | "at+jwt")) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(allowed), Some(typ)) => allowed.iter().any(|allowed| allowed == typ),
    };
    match is_allowed {
        true => Ok(()),
        false => Err(malformed("`typ` is none that the provider allows")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_one_key_only_if_they_are_the_same_to_the_last_byte() {
        let token = b"header.claims.signature";
        let known = KnownToken {
            tail: token.as_slice().tail(),
            bytes: Box::from(token.as_slice()),
        };
        let is_known = |other: &[u8]| (&known as &dyn TokenKey) == (&other as &dyn TokenKey);
        assert!(is_known(token));
        for index in 0..token.len() {
            let mut other = *token;
            other[index] ^= 1;
            assert!(!is_known(&other), "{index}");
            assert!(!is_known(&token[index..]) || index == 0, "{index}");
            assert!(!is_known(&token[..index]), "{index}");
        }
    }
}
