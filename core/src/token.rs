//! Bearer tokens: JWTs (RFC 7519) in JWS compact serialization (RFC 7515), verified against a
//! provider's keys, and opaque ones, about which their issuer is asked (RFC 7662).

pub mod claim_path;
mod claims;
pub mod confirmation;
pub mod credential;
pub mod introspection;
pub mod provider;
pub mod remote_keys;
mod verification;

use std::borrow::Cow;
use std::rc::Rc;

use crate::jose::jws::JwsError;
use crate::jose::keys::VerificationKey;
use crate::reason::DenyReason;

use confirmation::Confirmation;
use credential::SourceSet;
use picket_model::access::Principal;
use picket_model::time::Timestamp;
use provider::{ProviderIndex, ProviderSet};
pub use verification::{IntrospectionLookup, IntrospectionQuery, TokenVerifier, Verification, VerificationOutcome};

/// A token whose signature, or its issuer's word on it, and claims have been verified.
#[derive(Debug)]
pub struct VerifiedToken {
    /// Distinct for each verification within a verifier's life: a key for what depends on this
    /// token.
    pub serial: u64,
    /// The principal that it authenticates.
    pub principal: Rc<Principal>,
    /// The provider that it belongs to.
    pub provider: ProviderIndex,
    /// The places where tokens of the provider may be sent.
    pub sources: SourceSet,
    /// The headers for the upstream: first those that name the principal, then those of claims.
    pub identity_headers: Vec<(Cow<'static, str>, String)>,
    /// How many of them name the principal.
    pub principal_headers: usize,
    /// The key or certificate that it is bound to.
    pub confirmation: Confirmation,
    /// The key that signed it, where it was fetched: the token is verified again when the key is
    /// removed. `None`: the key is configured.
    pub fetched_key: Option<Rc<VerificationKey>>,
    /// The claims that count as absent, as their form is not that of their specification.
    pub unread_claims: Box<[&'static str]>,
    /// The texts of the claims that access rules use, by [`crate::access_rules::ClaimIndex`].
    pub condition_claims: Box<[Box<[Box<str>]>]>,
    /// Not before this time, skew included.
    pub starts_at: Timestamp,
    /// Not at or after this time, skew included.
    pub ends_at: Timestamp,
}

impl VerifiedToken {
    /// The headers that its provider makes of claims, for a token that does not name the principal.
    #[must_use]
    pub fn claim_headers(&self) -> &[(Cow<'static, str>, String)] {
        self.identity_headers.get(self.principal_headers..).unwrap_or_default()
    }
}

/// Why a token is refused: the reason for the caller, and what exactly was wrong, which names no
/// value of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct TokenError {
    /// The stable reason.
    pub reason: DenyReason,
    /// What exactly was wrong.
    pub detail: Cow<'static, str>,
    /// The providers whose newer keys might verify it; empty: no key would.
    pub newer_keys_of: ProviderSet,
}

impl TokenError {
    fn new(reason: DenyReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            newer_keys_of: ProviderSet::default(),
        }
    }

    /// The same, where newer keys of this provider might verify the token.
    fn with_newer_keys_of(self, provider: ProviderIndex) -> Self {
        Self {
            newer_keys_of: ProviderSet::from_iter([provider]),
            ..self
        }
    }

    /// No credential was sent where one is required.
    #[must_use]
    pub fn missing() -> Self {
        Self::new(DenyReason::CredentialMissing, "no token was sent")
    }
}

impl From<JwsError> for TokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::Malformed(detail) => malformed(detail),
            JwsError::UnsupportedAlgorithm => Self::new(DenyReason::TokenAlgorithmRefused, error.to_string()),
        }
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(DenyReason::TokenMalformed, detail)
}
