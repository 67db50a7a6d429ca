//! Providers: whose tokens are accepted, and what they must say.

use super::TokenAlgorithm;
use super::keys::KeySet;

/// An issuer of tokens and what is expected of them.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The name that the configuration gives it.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// A token's `aud` must name one of these; never empty.
    pub audiences: Vec<String>,
    /// The allowed algorithms; never empty.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The keys.
    pub keys: KeySet,
    /// Tolerance for `exp`, `nbf` and `iat`, in milliseconds.
    pub clock_skew_ms: u64,
    /// The claim that holds the tenant.
    pub tenant_claim: Option<String>,
    /// The claim that holds the roles.
    pub roles_claim: Option<String>,
}
