//! The access request: everything that a decision may depend on, in the words of `picket.v1`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::spiffe::SpiffeId;
use crate::thumbprint::{CertificateThumbprint, KeyThumbprint};

/// One request, as the policy service is asked about it. It holds neither headers nor credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRequest {
    /// Envoy's `x-request-id`.
    pub request_id: String,
    /// W3C Trace Context, as received.
    pub traceparent: Option<String>,
    /// Who asks.
    pub sidecar: Sidecar,
    /// The id of the route rule that matched.
    pub route_rule: String,
    /// The authenticated party; `None` where the rule asks for no credential.
    pub principal: Option<Principal>,
    /// The tokens beside the principal's, where the rule asks for several; at most [`FURTHER_TOKENS_MAX`].
    pub further_tokens: Vec<FurtherToken>,
    /// What mutual TLS proved; `None` where the rule asks for no peer and none was there.
    pub peer: Option<SpiffeId>,
    /// What is to be done.
    pub action: Action,
    /// What it is to be done to.
    pub resource: Resource,
    /// The circumstances.
    pub context: Context,
}

/// The enforcement point that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sidecar {
    /// Envoy's node id; empty where Envoy has none.
    pub node_id: String,
    /// The workload that the sidecar protects, from the filter's configuration.
    pub workload: String,
}

/// The authenticated party, from a verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The claim that the provider names for tenants.
    pub tenant: Option<String>,
    /// The claim that the provider names for roles.
    pub roles: Vec<String>,
    /// `scope` (RFC 8693 §4.2) or `scp`.
    pub scopes: Vec<String>,
    /// `acr`: authentication context class.
    pub acr: Option<String>,
    /// `amr`: authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// `auth_time`, in seconds since the epoch.
    pub auth_time_s: Option<i64>,
    /// `sid`.
    pub session_id: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`, in seconds since the epoch.
    pub issued_at_s: Option<i64>,
    /// `exp`, in seconds since the epoch; `None`: the provider's tokens need none.
    pub expires_at_s: Option<i64>,
    /// Who acts for the subject (`act`, RFC 8693 §4.1): the one that acts now first, then the ones before; at most 8.
    pub actors: Vec<Actor>,
    /// Whether the token is bound to a key or a certificate that the caller has proved to hold (`cnf`, RFC 7800).
    pub is_bound: bool,
}

/// `<issuer>|<subject>`: how a principal is named in one text, to policies as in records. No two principals share one: what could be
/// taken for the separator is escaped in the issuer.
#[must_use]
pub fn principal_name(issuer: &str, subject: &str) -> String {
    let issuer = issuer.replace('%', "%25").replace('|', "%7C");
    format!("{issuer}|{subject}")
}

/// How many tokens there are beside the principal's: a rule names at most four providers.
pub const FURTHER_TOKENS_MAX: usize = 3;

/// What a revocation or the end of a session knows a verified token by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherToken {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The claim that the provider names for tenants.
    pub tenant: Option<String>,
    /// `sid`.
    pub session_id: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`, in seconds since the epoch.
    pub issued_at_s: Option<i64>,
}

impl From<&Principal> for FurtherToken {
    fn from(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            tenant: principal.tenant.clone(),
            session_id: principal.session_id.clone(),
            token_id: principal.token_id.clone(),
            issued_at_s: principal.issued_at_s,
        }
    }
}

/// A party that acts for a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `iss`; `None`: the issuer of the token.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// The request's method, as sent.
    pub method: String,
}

/// What it is to be done to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Lower case, without port.
    pub host: String,
    /// Normalised, without query.
    pub path: String,
    /// What the rule's path template captured.
    pub path_parameters: BTreeMap<String, String>,
    /// From the route rule.
    pub classification: Option<String>,
    /// From the route rule.
    pub security_zone: Option<String>,
    /// The tenant that owns it, from the route rule.
    pub tenant: Option<String>,
}

/// The circumstances of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The address that the request came from, as `forwarded_for_trusted_hops` says.
    pub source_address: Option<IpAddr>,
    /// `user-agent`, whole, of at most [`USER_AGENT_BYTES_MAX`] bytes as they were sent; never empty.
    pub user_agent: Option<String>,
    /// What the sender has proved to hold.
    pub possession: Possession,
}

/// What the sender of a request has proved to hold, on the connection or for the token. A device is known by this, and by
/// nothing that a client merely says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Possession {
    /// The peer's certificate (RFC 8705 §3.1), or the one that a trusted hop speaks of.
    pub certificate: Option<CertificateThumbprint>,
    /// The key that the token is bound to, proved for this very request (RFC 9449).
    pub key: Option<KeyThumbprint>,
}

/// A longer `user-agent` is refused where the policy service decides: its length is the client's choice, and a policy that saw a
/// part of it would decide about another value than the upstream reads. Those of browsers have up to some 500 bytes.
pub const USER_AGENT_BYTES_MAX: usize = 1024;
/// The bytes of a `user-agent` by which a client is recognized: remembered hashes are of so many.
const USER_AGENT_PREFIX_BYTES: usize = 256;

impl Context {
    /// The beginning of `user-agent` by which a client is recognized: whole characters of its first 256 bytes.
    #[must_use]
    pub fn user_agent_prefix(&self) -> Option<&str> {
        let agent = self.user_agent.as_deref()?;
        agent.get(..agent.floor_char_boundary(USER_AGENT_PREFIX_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_principals_have_one_name() {
        let names = [
            ("a", "b|c"),
            ("a|b", "c"),
            ("a%7Cb", "c"),
            ("a%257Cb", "c"),
            ("a%", "b|c"),
        ];
        let names: std::collections::BTreeSet<_> =
            names.map(|(issuer, subject)| principal_name(issuer, subject)).into();
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(
            principal_name("https://issuer.example", "alice|1"),
            "https://issuer.example|alice|1"
        );
    }
}
