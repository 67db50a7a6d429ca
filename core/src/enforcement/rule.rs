//! A route rule as it is enforced, without the patterns by which a request finds it.

use std::rc::Rc;

use crate::path::Delimiters;
use crate::peer::requirement::PeerRequirement;
use crate::source_address::SourceRequirement;
use crate::token::credential::SourceSet;
use crate::token::provider::ProviderIndex;

/// What a request must fulfil that a rule matches. The patterns are in the
/// [`crate::route::RouteTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// Its name.
    pub id: Rc<str>,
    /// The delimiters that are data in its paths.
    pub allow_in_path: Delimiters,
    /// From where requests may come.
    pub source: SourceRequirement,
    /// Who may call.
    pub peers: PeerRequirement,
    /// Whether a token is required, and whose.
    pub credential: CredentialRequirement,
    /// Where its providers' tokens may be sent. Other places hold no credential under this rule.
    pub credential_sources: SourceSet,
    /// Whether `credential` applies to CORS preflights.
    pub preflights: PreflightCredential,
    /// The scopes that the token must all have.
    pub scopes: Vec<String>,
    /// Which tokens need a proof of possession.
    pub possession: PossessionRequirement,
    /// Who decides.
    pub decider: Decider,
    /// The classification of the resource, for policies.
    pub classification: Option<String>,
    /// The security zone of the resource, for policies.
    pub security_zone: Option<String>,
    /// The tenant that owns the resource, for policies.
    pub tenant: Option<String>,
}

/// Whether a token is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialRequirement {
    /// Yes, one of these providers'; `None`: any provider's.
    Required(Option<Vec<ProviderIndex>>),
    /// Yes, and one of each of these providers, of which there are 2 to [`CREDENTIALS_MAX`], none
    /// of them twice. The first one's names the principal.
    ///
    /// [`CREDENTIALS_MAX`]: crate::token::credential::CREDENTIALS_MAX
    All(Vec<ProviderIndex>),
    /// No; but one that is sent must be good, and one of these providers'.
    Optional(Option<Vec<ProviderIndex>>),
    /// No; one that is sent is ignored.
    NotRequired,
}

impl CredentialRequirement {
    /// The providers whose tokens are accepted. `None`: any provider.
    #[must_use]
    pub fn providers(&self) -> Option<&[ProviderIndex]> {
        match self {
            Self::Required(of) | Self::Optional(of) => of.as_deref(),
            Self::All(of) => Some(of),
            Self::NotRequired => None,
        }
    }
}

/// Whether a rule's credential requirement applies to CORS preflights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightCredential {
    /// Yes, as to every other request.
    AsRule,
    /// No: a token in it is ignored.
    NotRequired,
}

/// Which tokens need a proof that the caller holds what they are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PossessionRequirement {
    /// Those that are bound.
    WhenBound,
    /// All: one that is not bound is refused.
    Required,
}

/// Who decides about a request whose peer and credential passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The policy service, or its cached decision.
    PolicyService,
    /// The rule permits.
    Permit,
    /// The rule denies.
    Deny,
}
