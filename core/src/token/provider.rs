//! Providers: issuers of tokens, with the places and requirements of their tokens.

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::claim_path::ClaimPath;
use super::credential::SourceSet;
use super::introspection::{AudienceNeed, IntrospectionSettings};
use super::remote_keys::{MissingKey, RemoteKeys};
use crate::jose::TokenAlgorithm;
use crate::jose::keys::{KeySet, MatchingKeys};

/// A provider's place in the configuration, below [`PROVIDERS_MAX`].
pub type ProviderIndex = usize;

/// More providers are refused.
pub const PROVIDERS_MAX: usize = 64;

/// Some of the providers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderSet(u64);

/// An issuer of tokens, with the requirements on its tokens.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The name that the configuration gives it.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// The audiences of which `aud` must name one; never empty. `None`: any audience, or none.
    pub audiences: Option<Vec<String>>,
    /// The principal that a token names must be one of these; `None`: any.
    pub subjects: Option<Vec<TextPattern>>,
    /// A token's `typ` must be one of these, in lower case and without `application/`; `None`:
    /// none, `jwt` or `at+jwt`.
    pub types: Option<Vec<String>>,
    /// The requirements on other claims.
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
    /// The claim that names the principal; `None`: `sub`.
    pub principal_claim: Option<ClaimPath>,
    /// The claim that holds the tenant.
    pub tenant_claim: Option<ClaimPath>,
    /// The claim that holds the roles.
    pub roles_claim: Option<ClaimPath>,
    /// How it holds them.
    pub roles_form: RolesForm,
    /// Claims that the upstream gets as headers.
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims whose texts are lists to access rules, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<ClaimPath>,
    /// The header in which the upstream gets all claims, as they stand in the token.
    pub payload_header: Option<Rc<str>>,
    /// Where its tokens may be sent.
    pub sources: SourceSet,
}

/// The source of a provider's keys, or its introspection endpoint.
#[derive(Clone, Debug)]
pub enum ProviderKeys {
    /// In the configuration.
    Inline(KeySet),
    /// They are fetched.
    Remote(Box<RemoteKeys>),
    /// There are none: its tokens are opaque, and looked up.
    Introspection(Rc<IntrospectionSettings>),
}

/// The keys that a token may be signed with.
#[derive(Debug)]
pub struct FoundKeys {
    /// The keys.
    pub keys: MatchingKeys,
    /// Until when they serve, where they were fetched.
    pub fetched_until: Option<Timestamp>,
}

/// How a claim holds roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolesForm {
    /// A string, or an array of strings.
    List,
    /// The names of an object's members, as in Zitadel's tokens.
    ObjectKeys,
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
    /// As they are. A text that no header can hold makes no header.
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

impl ProviderSet {
    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn contains(self, index: ProviderIndex) -> bool {
        self.0 & bit(index) != 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them, in the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = ProviderIndex> {
        (0..PROVIDERS_MAX).filter(move |index| self.contains(*index))
    }
}

impl FromIterator<ProviderIndex> for ProviderSet {
    fn from_iter<I: IntoIterator<Item = ProviderIndex>>(indexes: I) -> Self {
        Self(indexes.into_iter().fold(0, |all, index| all | bit(index)))
    }
}

/// None where there can be no such provider.
fn bit(index: ProviderIndex) -> u64 {
    u32::try_from(index)
        .ok()
        .and_then(|index| 1_u64.checked_shl(index))
        .unwrap_or_default()
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

    /// Whether a token must have `aud`.
    #[must_use]
    pub fn requires_audience(&self) -> bool {
        let settings = self.keys.introspection();
        settings.is_none_or(|settings| settings.audience == AudienceNeed::Required)
    }
}

impl ProviderKeys {
    /// The keys that a token may be signed with.
    ///
    /// # Errors
    /// [`MissingKey`].
    pub fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm, now: Timestamp) -> Result<FoundKeys, MissingKey> {
        let found = match self {
            Self::Inline(keys) => keys
                .find(id, algorithm)
                .ok_or(MissingKey::Unknown)
                .map(|keys| (keys, None)),
            Self::Remote(keys) => keys.find(id, algorithm, now).map(|(keys, until)| (keys, Some(until))),
            Self::Introspection(_) => Err(MissingKey::Unknown),
        };
        found.map(|(keys, fetched_until)| FoundKeys { keys, fetched_until })
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
    /// Reads a pattern: `*` at its end matches any rest.
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
