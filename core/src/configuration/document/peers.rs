//! The parts of a filter's configuration about peers.

use deserr::Deserr;

use crate::configuration::problems::Problems;

/// The peers of a rule. One that any of the `not_` lists names may not call; of the others one that any of the lists
/// without `not_` names may, or every one of the trust domains where there is no such list.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct PeersDocument {
    /// Exact SPIFFE IDs. This list, like the others, has 1 to 1000 entries.
    #[deserr(default)]
    pub spiffe_ids: Option<Vec<String>>,
    /// SPIFFE IDs in which `*` stands for one whole segment and `**`, as the last one, for one or more:
    /// `spiffe://example.org/ns/*/sa/web`, `spiffe://example.org/ns/shop/**`.
    #[deserr(default)]
    pub spiffe_id_patterns: Option<Vec<String>>,
    /// Trust domains, out of the filter's `trust_domains`.
    #[deserr(default)]
    pub trust_domains: Option<Vec<String>>,
    /// Kubernetes namespaces, as in `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. Only where the filter has
    /// one trust domain.
    #[deserr(default)]
    pub namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts, as `NAMESPACE/SERVICE_ACCOUNT`. Only where the filter has one trust domain.
    #[deserr(default)]
    pub service_accounts: Option<Vec<String>>,
    /// Exact SPIFFE IDs that may not call.
    #[deserr(default)]
    pub not_spiffe_ids: Option<Vec<String>>,
    /// Patterns of SPIFFE IDs that may not call.
    #[deserr(default)]
    pub not_spiffe_id_patterns: Option<Vec<String>>,
    /// Trust domains whose peers may not call.
    #[deserr(default)]
    pub not_trust_domains: Option<Vec<String>>,
    /// Kubernetes namespaces, of any trust domain, whose peers may not call.
    #[deserr(default)]
    pub not_namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts, of any trust domain, that may not call.
    #[deserr(default)]
    pub not_service_accounts: Option<Vec<String>>,
}

/// Trusted hops: peers that end TLS and say in a header who their own caller is, who then is the request's peer. On other
/// connections the header is not read.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct ForwardedPeerDocument {
    /// The SPIFFE IDs of the trusted hops, of the filter's `trust_domains`, 1 to 1000. Each can speak for every peer.
    pub hop_spiffe_ids: Vec<String>,
    /// The header that they write, and let no caller of theirs write.
    pub header: ForwardedHeaderDocument,
    /// How many hops a request passes, 1 to 8; more than 1 only with `x-forwarded-client-cert`, where each adds an element at
    /// the end. The peer is in the element so far from the right; those behind it must be about trusted hops. Default: 1.
    #[deserr(default)]
    pub hops: Option<u32>,
}

/// A header that tells of a client certificate.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case")
)]
pub enum ForwardedHeaderDocument {
    /// Envoy's, as text or as JSON.
    #[deserr(rename = "x-forwarded-client-cert")]
    XForwardedClientCert,
    /// RFC 9440.
    #[deserr(rename = "client-cert")]
    ClientCert,
}
