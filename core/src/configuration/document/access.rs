//! The parts of a filter's configuration about access rules.

use deserr::Deserr;
use picket_model::problems::Problems;

/// Access rules. They are evaluated for each request, once its peer and token are known and before
/// its route rule decides. They mean what the rules of Istio's AuthorizationPolicy mean. The limit
/// of a list is for all lists together.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Access rules")
)]
pub struct AccessDocument {
    /// A request that matches one of these rules is refused. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::configuration::limits::ACCESS_RULES_MAX)))]
    pub reject: Option<Vec<AccessRuleDocument>>,
    /// A request that matches none of these rules is refused. An empty list refuses every request.
    /// Default: no rule needs to match.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::configuration::limits::ACCESS_RULES_MAX)))]
    pub accept: Option<Vec<AccessRuleDocument>>,
    /// A request that matches one of these rules is counted, with no other effect. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::configuration::limits::ACCESS_RULES_MAX)))]
    pub audit: Option<Vec<AccessRuleDocument>>,
    /// Rules on trial. The requests that they would refuse are counted, with no other effect.
    /// Default: none.
    #[deserr(default)]
    pub observe: Option<ObservedAccessDocument>,
}

/// Access rules on trial. The requests that they would refuse are counted, with no other effect.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Access rules on trial")
)]
pub struct ObservedAccessDocument {
    /// A request that matches one of these rules would be refused. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::configuration::limits::ACCESS_RULES_MAX)))]
    pub reject: Option<Vec<AccessRuleDocument>>,
    /// A request that matches neither one of these rules nor one of `access.accept` would be
    /// refused. Default: nothing is on trial.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::configuration::limits::ACCESS_RULES_MAX)))]
    pub accept: Option<Vec<AccessRuleDocument>>,
}

/// An access rule. It matches if one of `from`, one of `to` and all of `when` match. A rule without
/// any of the three matches every request.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "An access rule")
)]
pub struct AccessRuleDocument {
    /// A name that is unique among all access rules, of the characters `a-z A-Z 0-9 . - _`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::NAME_BYTES_MAX)))]
    pub id: String,
    /// The sources of which one must match. Default: any source.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub from: Option<Vec<AccessSourceDocument>>,
    /// The operations of which one must match. Default: any operation.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub to: Option<Vec<AccessOperationDocument>>,
    /// The conditions that must all match. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub when: Option<Vec<AccessConditionDocument>>,
}

/// A source. Every list that is present must match: by one of its entries, or by none of them for a
/// list with `not_`. In texts `*` at the beginning or the end stands for any rest, and `*` alone
/// for any text that is not empty. What a request does not have matches no entry.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "A source of an access rule")
)]
pub struct AccessSourceDocument {
    /// SPIFFE IDs of peers of `trust_domains`: `spiffe://example.org/ns/shop/sa/web`,
    /// `spiffe://example.org/ns/shop/*`, `*/sa/web`, or `*` for any. Default: any or none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub peers: Option<Vec<String>>,
    /// SPIFFE IDs that the peer must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_peers: Option<Vec<String>>,
    /// Kubernetes namespaces of peers. Default: any or none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub namespaces: Option<Vec<String>>,
    /// Kubernetes namespaces that the peer must not be in. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts of peers, as `NAMESPACE/SERVICE_ACCOUNT`, without `*`. Default:
    /// any or none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub service_accounts: Option<Vec<String>>,
    /// Kubernetes service accounts that the peer must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_service_accounts: Option<Vec<String>>,
    /// Principals of tokens, as `ISSUER/SUBJECT`, or `*` for any. The issuer is the longest issuer
    /// of a provider that a slash follows. The rest is the subject. Default: any or none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub principals: Option<Vec<String>>,
    /// Principals that the token must not name. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_principals: Option<Vec<String>>,
    /// Networks that the connection comes from: Envoy's `source.address`. That is the connection's
    /// own address where the listener has `use_remote_address: true`, `xff_num_trusted_hops: 0` and
    /// no `original_ip_detection_extensions`. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub connection_addresses: Option<Vec<String>>,
    /// Networks that the connection must not come from. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_connection_addresses: Option<Vec<String>>,
    /// Networks that the request comes from, by `forwarded_for_trusted_hops`. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub source_addresses: Option<Vec<String>>,
    /// Networks that the request must not come from. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_source_addresses: Option<Vec<String>>,
}

/// An operation. As in a source, every list that is present must match.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "An operation of an access rule")
)]
pub struct AccessOperationDocument {
    /// Authorities as they are sent, with the port where the request names one, without regard to
    /// case. `example.org` does not match `example.org:81`; `example.org:*` does. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub hosts: Option<Vec<String>>,
    /// Authorities that the request must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_hosts: Option<Vec<String>>,
    /// Destination ports of the connection. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub ports: Option<Vec<u16>>,
    /// Destination ports that the connection must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_ports: Option<Vec<u16>>,
    /// Methods, compared with regard to case. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub methods: Option<Vec<String>>,
    /// Methods that the request must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_methods: Option<Vec<String>>,
    /// Paths in normal form, without query. In a template `{*}` is one segment, and `{**}` the rest
    /// of the path or, before literal segments, any number of segments. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub paths: Option<Vec<String>>,
    /// Paths that the request must not have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_paths: Option<Vec<String>>,
}

/// A condition: exactly one of `header`, `claim` and `attribute`, and at least one of `values` and
/// `not_values`. What a request does not have matches no value.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "A condition of an access rule")
)]
pub struct AccessConditionDocument {
    /// A header, in lower case. `*` also matches an empty field. Repeated fields are compared so
    /// that no reading of them is missed: each field, and all fields as one text with commas.
    #[deserr(default)]
    pub header: Option<String>,
    /// A claim of the token: a name, or a JSON Pointer (RFC 6901). A value matches a text, or any
    /// text of an array. `scope`, `permission` and the provider's `space_delimited_claims` are
    /// split at spaces.
    #[deserr(default)]
    pub claim: Option<String>,
    /// An attribute of the request.
    #[deserr(default)]
    pub attribute: Option<AttributeDocument>,
    /// Values of which one must match.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub values: Option<Vec<String>>,
    /// Values of which none may match.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::ACCESS_ENTRIES_MAX)))]
    pub not_values: Option<Vec<String>>,
}

/// An attribute that a condition compares.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum AttributeDocument {
    /// The peer, as in `peers` of a source.
    #[deserr(rename = "peer")]
    Peer,
    /// The peer's namespace, as in `namespaces` of a source.
    #[deserr(rename = "namespace")]
    Namespace,
    /// The peer's service account, as in `service_accounts` of a source.
    #[deserr(rename = "service_account")]
    ServiceAccount,
    /// The principal, as in `principals` of a source.
    #[deserr(rename = "principal")]
    Principal,
    /// The address of the connection, as in `connection_addresses` of a source.
    #[deserr(rename = "connection_address")]
    ConnectionAddress,
    /// The address of the request, as in `source_addresses` of a source.
    #[deserr(rename = "source_address")]
    SourceAddress,
    /// Networks that the connection was made to.
    #[deserr(rename = "destination_address")]
    DestinationAddress,
    /// The port that the connection was made to, as in `ports` of an operation.
    #[deserr(rename = "destination_port")]
    DestinationPort,
    /// The server name (SNI) that the caller's TLS requested.
    #[deserr(rename = "server_name")]
    ServerName,
}
