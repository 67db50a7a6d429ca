//! The configuration that an [`Enforcer`](super::Enforcer) enforces. It is read by
//! [`crate::configuration::filter`].

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::rc::Rc;

use super::rule::RouteRule;
use crate::access_rules::AccessRules;
use crate::dpop::DpopSettings;
use crate::identity_headers::IdentityHeaders;
use crate::jose::TokenLimits;
use crate::peer::resolution::PeerResolution;
use crate::request::{self, AUTHORIZATION, COOKIE, RequestHead};
use crate::route::RouteTable;
use crate::token::credential::{CredentialSources, SourceSet};
use crate::token::provider::Provider;
use crate::transaction_token::TransactionTokens;

/// A valid configuration of a filter.
#[derive(Debug)]
pub struct FilterConfiguration {
    /// The workload that the sidecar protects.
    pub workload: String,
    /// Where decisions are asked for; present if any rule asks.
    pub policy_service: Option<PolicyServiceSettings>,
    /// How a request's peer is found.
    pub peers: PeerResolution,
    /// Which address of X-Forwarded-For counts, from the right; 0: the connection's.
    pub forwarded_for_trusted_hops: u32,
    /// The providers whose tokens are accepted, by [`crate::token::provider::ProviderIndex`].
    pub providers: Vec<Provider>,
    /// Where tokens may be sent.
    pub credential_sources: CredentialSources,
    /// The headers beside [`IdentityHeaders`] of which no copy that came with the request reaches
    /// the upstream: those that providers make of claims, that of transaction tokens, and that of
    /// trusted hops.
    pub owned_headers: BTreeSet<Rc<str>>,
    /// The requirements on proofs of possession.
    pub dpop: DpopSettings,
    /// The rules, by [`crate::route::RuleIndex`].
    pub rules: Vec<RouteRule>,
    /// The patterns by which a request finds its rule.
    pub routes: RouteTable,
    /// The methods that requests may have beside the registered ones.
    pub further_methods: BTreeSet<Box<str>>,
    /// Whether a path that is encoded twice is refused.
    pub refuses_double_encoding: bool,
    /// The access rules, which apply before a route rule decides.
    pub access: AccessRules,
    /// Whether the credential and its proof reach the upstream.
    pub forward_credential: bool,
    /// The headers that name principal, peer and decision to the upstream.
    pub identity_headers: IdentityHeaders,
    /// The signed token that the upstream gets; `None`: it gets none.
    pub transaction_tokens: Option<Rc<TransactionTokens>>,
    /// Whether responses to permitted requests name reason and decider.
    pub explain_permits: bool,
    /// How large a token may be.
    pub token_limits: TokenLimits,
    /// Bound of the token cache.
    pub token_cache_entries_max: NonZeroUsize,
    /// Bound of the decision cache.
    pub decision_cache_entries_max: NonZeroUsize,
}

/// Where decisions are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServiceSettings {
    /// An Envoy cluster's name, of 1 to 125 visible ASCII characters.
    pub cluster: String,
    /// How long to wait.
    pub timeout_ms: u32,
}

impl FilterConfiguration {
    /// Whether a header or trailer of this name could pass for one that Picket sets.
    #[must_use]
    pub fn owns_header(&self, name: &str) -> bool {
        request::is_owned(name)
            || self
                .owned_headers
                .iter()
                .any(|wanted| request::is_spelling_of(name, wanted))
    }

    /// Whether a trailer of this name goes: one of Picket's own, or one that could pass for a
    /// credential to a server that takes trailers for headers. RFC 9110 §6.5.1: no sender may make
    /// such a trailer.
    #[must_use]
    pub fn removes_trailer(&self, name: &str) -> bool {
        let mut credentials = self
            .credential_sources
            .headers(SourceSet::ALL)
            .chain([AUTHORIZATION, COOKIE]);
        self.owns_header(name) || credentials.any(|wanted| request::is_spelling_of(name, wanted))
    }

    /// The names of a request's headers that could pass for one that a provider makes.
    pub fn forged_headers<'h>(&self, head: &RequestHead<'h>) -> impl Iterator<Item = &'h str> {
        let names = &self.owned_headers;
        // Most configurations have none, and look at no header.
        let headers = if names.is_empty() { &[] } else { head.headers };
        let is_forged = |name: &&str| names.iter().any(|wanted| request::is_spelling_of(name, wanted));
        headers.iter().map(|(name, _)| *name).filter(is_forged)
    }
}
