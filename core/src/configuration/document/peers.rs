//! The parts of a filter's configuration about peers.

use deserr::Deserr;
use picket_model::problems::Problems;

/// The peers of a rule. A peer in one of the `not_` lists may not call. Of the others, a peer in
/// one of the lists without `not_` may call, or every peer of the trust domains where there is no
/// such list.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Peers of a rule")
)]
pub struct PeersDocument {
    /// Exact SPIFFE IDs. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub spiffe_ids: Option<Vec<String>>,
    /// Patterns of SPIFFE IDs: `*` is one whole segment, and `**` at the end is one or more, as in
    /// `spiffe://example.org/ns/*/sa/web` and `spiffe://example.org/ns/shop/**`. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub spiffe_id_patterns: Option<Vec<String>>,
    /// Trust domains, of the filter's `trust_domains`. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub trust_domains: Option<Vec<String>>,
    /// Kubernetes namespaces, as in `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`. Only
    /// where the filter has one trust domain. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts, as `NAMESPACE/SERVICE_ACCOUNT`. Only where the filter has one
    /// trust domain. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub service_accounts: Option<Vec<String>>,
    /// Exact SPIFFE IDs that may not call. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub not_spiffe_ids: Option<Vec<String>>,
    /// Patterns of SPIFFE IDs that may not call. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub not_spiffe_id_patterns: Option<Vec<String>>,
    /// Trust domains whose peers may not call. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub not_trust_domains: Option<Vec<String>>,
    /// Kubernetes namespaces, of any trust domain, whose peers may not call. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub not_namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts, of any trust domain, that may not call. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub not_service_accounts: Option<Vec<String>>,
}

/// Trusted hops: peers that end TLS and name their own caller in a header. That caller is then the
/// peer of the request. On other connections the header is ignored. It never reaches the upstream.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Trusted hops")
)]
pub struct ForwardedPeerDocument {
    /// The SPIFFE IDs of the trusted hops, of `trust_domains`. Each of them can speak for every
    /// peer.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::PEER_ENTRIES_MAX)))]
    pub hop_spiffe_ids: Vec<String>,
    /// The header that the hops write, and that they accept from no caller.
    pub header: ForwardedHeaderDocument,
    /// The number of trusted hops that a request passes. More than 1 only with
    /// `x-forwarded-client-cert`, to which each hop appends an element. The peer is in the element
    /// with this number, counted from the right. The elements behind it must name trusted hops.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::configuration::limits::HOPS_MAX), extend("default" = 1)))]
    pub hops: Option<u32>,
}

/// A header that carries the identity of a client certificate.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case")
)]
pub enum ForwardedHeaderDocument {
    /// The header that Envoy writes, as text or as JSON.
    #[deserr(rename = "x-forwarded-client-cert")]
    XForwardedClientCert,
    /// The header of RFC 9440: the certificate as a byte sequence.
    #[deserr(rename = "client-cert")]
    ClientCert,
}
