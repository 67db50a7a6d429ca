//! Providers: whose tokens are accepted, where they are sent, and what they must say.

use std::rc::Rc;

use super::TokenAlgorithm;
use super::claim_path::ClaimPath;
use super::credential::SourceSet;
use super::introspection::{AudienceNeed, IntrospectionSettings};
use super::keys::{KeySet, VerificationKey};
use super::remote_keys::{NoKey, RemoteKeys};
use crate::time::Timestamp;

/// A provider's place in the configuration.
pub type ProviderIndex = usize;

/// An issuer of tokens and what is expected of them.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The name that the configuration gives it.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// A token's `aud` must name one of these, never empty; `None`: it may name anybody, or nobody.
    pub audiences: Option<Vec<String>>,
    /// A token's `sub` must be one of these; `None`: any.
    pub subjects: Option<Vec<TextPattern>>,
    /// A token's `typ` must be one of these, in lower case and without `application/`; `None`: none, `jwt` or `at+jwt`.
    pub types: Option<Vec<String>>,
    /// What other claims must say.
    pub required_claims: Vec<RequiredClaim>,
    /// Whether a token must end.
    pub expiry: Expiry,
    /// The longest life from `iat`, or from now where there is no `iat`; in seconds.
    pub lifetime_s_max: Option<i64>,
    /// The allowed algorithms; never empty, but where tokens are looked up.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The keys.
    pub keys: ProviderKeys,
    /// Tolerance for `exp`, `nbf` and `iat`, in milliseconds.
    pub clock_skew_ms: u64,
    /// The claim that holds the tenant.
    pub tenant_claim: Option<ClaimPath>,
    /// The claim that holds the roles.
    pub roles_claim: Option<ClaimPath>,
    /// Claims that the upstream gets as headers.
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims whose texts are lists to access rules, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<ClaimPath>,
    /// The header in which the upstream gets all claims, as they stand in the token.
    pub payload_header: Option<Rc<str>>,
    /// Where its tokens may be sent.
    pub sources: SourceSet,
}

/// Where a provider's keys are, or what stands in for them.
#[derive(Clone, Debug)]
pub enum ProviderKeys {
    /// In the configuration.
    Inline(KeySet),
    /// They are fetched.
    Remote(Box<RemoteKeys>),
    /// There are none: its tokens are opaque, and looked up.
    Introspection(Rc<IntrospectionSettings>),
}

/// A key for a token.
#[derive(Debug)]
pub struct FoundKey {
    /// The key.
    pub key: Rc<VerificationKey>,
    /// Until when it serves, where it was fetched.
    pub fetched_until: Option<Timestamp>,
}

/// Whether a token must have `exp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Yes.
    Required,
    /// No. A token without it is good until its key is gone.
    Optional,
}

/// A claim that a token must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Which one.
    pub claim: ClaimPath,
    /// It must be one of these, or an array that holds one of them; empty: any value but null.
    pub values: Vec<String>,
}

/// A claim that the upstream gets as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    /// Which one.
    pub claim: ClaimPath,
    /// The header's name, in lower case.
    pub header: Rc<str>,
    /// How its texts are written.
    pub encoding: ClaimEncoding,
}

/// How the texts of a claim are written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimEncoding {
    /// Percent-encoded outside visible ASCII.
    Percent,
    /// As they are; what no header can hold makes none.
    Raw,
}

/// A text, or a beginning of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    /// This very text.
    Exact(String),
    /// Whatever begins so.
    Prefix(String),
}

impl Provider {
    /// The names of the headers that it makes of claims.
    pub(crate) fn headers(&self) -> impl Iterator<Item = Rc<str>> {
        let claims = self.claim_headers.iter().map(|claim| &claim.header);
        claims.chain(&self.payload_header).map(Rc::clone)
    }

    /// Whether tokens of this issuer are JWTs that its keys verify.
    #[must_use]
    pub fn verifies_jws_of(&self, issuer: &str) -> bool {
        self.issuer == issuer && self.keys.introspection().is_none()
    }

    /// Whether a token must say whom it is for.
    #[must_use]
    pub fn requires_audience(&self) -> bool {
        let settings = self.keys.introspection();
        settings.is_none_or(|settings| settings.audience == AudienceNeed::Required)
    }
}

impl ProviderKeys {
    /// The key for a token.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm, now: Timestamp) -> Result<FoundKey, NoKey> {
        let found = match self {
            Self::Inline(keys) => keys.find(id, algorithm).ok_or(NoKey::Unknown).map(|key| (key, None)),
            Self::Remote(keys) => keys.find(id, algorithm, now).map(|(key, until)| (key, Some(until))),
            Self::Introspection(_) => Err(NoKey::Unknown),
        };
        found.map(|(key, fetched_until)| FoundKey {
            key: Rc::clone(key),
            fetched_until,
        })
    }

    /// The keys, where they are fetched.
    #[must_use]
    pub fn remote(&self) -> Option<&RemoteKeys> {
        match self {
            Self::Inline(_) | Self::Introspection(_) => None,
            Self::Remote(keys) => Some(keys),
        }
    }

    /// As [`ProviderKeys::remote`].
    pub fn remote_mut(&mut self) -> Option<&mut RemoteKeys> {
        match self {
            Self::Inline(_) | Self::Introspection(_) => None,
            Self::Remote(keys) => Some(keys),
        }
    }
}

impl ProviderKeys {
    /// How tokens are looked up, where they are.
    #[must_use]
    pub fn introspection(&self) -> Option<&Rc<IntrospectionSettings>> {
        match self {
            Self::Introspection(settings) => Some(settings),
            Self::Inline(_) | Self::Remote(_) => None,
        }
    }
}

impl TextPattern {
    /// Reads a pattern: a `*` at its end stands for any rest.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// Whether it fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}
