//! The parts of a filter's configuration about access rules.

use deserr::Deserr;

use crate::configuration::problems::Problems;

/// Access rules: looked at for each request, once its peer and its token are known, and before its route rule decides. They
/// mean what the rules of Istio's AuthorizationPolicy mean.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct AccessDocument {
    /// A request that matches one of these is refused. This list and the others have at most 1000 rules in all.
    #[deserr(default)]
    pub reject: Option<Vec<AccessRuleDocument>>,
    /// A request that matches none of these is refused; with an empty list, every request. Default: it need match none.
    #[deserr(default)]
    pub accept: Option<Vec<AccessRuleDocument>>,
    /// A request that matches one of these is counted, and nothing else.
    #[deserr(default)]
    pub audit: Option<Vec<AccessRuleDocument>>,
    /// Rules on trial: what they would refuse is counted, and nothing else.
    #[deserr(default)]
    pub observe: Option<ObservedAccessDocument>,
}

/// Access rules on trial.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct ObservedAccessDocument {
    /// A request that matches one of these would be refused.
    #[deserr(default)]
    pub reject: Option<Vec<AccessRuleDocument>>,
    /// A request that matches neither one of these nor of `access.accept` would be refused. Default: there is nothing to try.
    #[deserr(default)]
    pub accept: Option<Vec<AccessRuleDocument>>,
}

/// An access rule: it matches where one of `from`, one of `to` and all of `when` do. One without any of the three matches every
/// request.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct AccessRuleDocument {
    /// A name of its own, 1 to 64 of the characters `a-z A-Z 0-9 . - _`.
    pub id: String,
    /// Where the request comes from, 1 to 1000. Default: anywhere.
    #[deserr(default)]
    pub from: Option<Vec<AccessSourceDocument>>,
    /// What it asks for, 1 to 1000. Default: anything.
    #[deserr(default)]
    pub to: Option<Vec<AccessOperationDocument>>,
    /// What must hold besides, 1 to 1000. Default: nothing.
    #[deserr(default)]
    pub when: Option<Vec<AccessConditionDocument>>,
}

/// A source: each list that is there must hold, those with `not_` by none of their entries. A list has 1 to 1000 entries. In
/// texts `*` stands, at the beginning or the end, for any rest, and alone for any that is not empty.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct AccessSourceDocument {
    /// SPIFFE IDs of peers of the filter's `trust_domains`: `spiffe://example.org/ns/shop/sa/web`,
    /// `spiffe://example.org/ns/shop/*`, `*/sa/web`, or `*` for any.
    #[deserr(default)]
    pub peers: Option<Vec<String>>,
    /// SPIFFE IDs that the peer does not have.
    #[deserr(default)]
    pub not_peers: Option<Vec<String>>,
    /// Kubernetes namespaces of peers.
    #[deserr(default)]
    pub namespaces: Option<Vec<String>>,
    /// Kubernetes namespaces that the peer is not in.
    #[deserr(default)]
    pub not_namespaces: Option<Vec<String>>,
    /// Kubernetes service accounts of peers, as `NAMESPACE/SERVICE_ACCOUNT`, without `*`.
    #[deserr(default)]
    pub service_accounts: Option<Vec<String>>,
    /// Kubernetes service accounts that the peer does not have.
    #[deserr(default)]
    pub not_service_accounts: Option<Vec<String>>,
    /// Principals of tokens, as `ISSUER/SUBJECT`, or `*` for any. The issuer is the longest one of a provider that a slash
    /// follows; the rest is the subject.
    #[deserr(default)]
    pub principals: Option<Vec<String>>,
    /// Principals that the token does not name.
    #[deserr(default)]
    pub not_principals: Option<Vec<String>>,
    /// Networks that the connection comes from: Envoy's `source.address`. That is the connection's own address where the
    /// listener has `use_remote_address: true`, `xff_num_trusted_hops: 0` and no `original_ip_detection_extensions`.
    #[deserr(default)]
    pub connection_addresses: Option<Vec<String>>,
    /// Networks that the connection does not come from.
    #[deserr(default)]
    pub not_connection_addresses: Option<Vec<String>>,
    /// Networks that the request comes from, as `forwarded_for_trusted_hops` says.
    #[deserr(default)]
    pub source_addresses: Option<Vec<String>>,
    /// Networks that the request does not come from.
    #[deserr(default)]
    pub not_source_addresses: Option<Vec<String>>,
}

/// An operation: as a source, each list that is there must hold.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct AccessOperationDocument {
    /// Authorities as they are sent, with the port where they name one, without regard to case.
    #[deserr(default)]
    pub hosts: Option<Vec<String>>,
    /// Authorities that it does not have.
    #[deserr(default)]
    pub not_hosts: Option<Vec<String>>,
    /// Ports that the connection was made to.
    #[deserr(default)]
    pub ports: Option<Vec<u16>>,
    /// Ports that it was not made to.
    #[deserr(default)]
    pub not_ports: Option<Vec<u16>>,
    /// Methods, with their case.
    #[deserr(default)]
    pub methods: Option<Vec<String>>,
    /// Methods that it does not have.
    #[deserr(default)]
    pub not_methods: Option<Vec<String>>,
    /// Paths in normal form, without query; or templates in which `{*}` is one segment and `{**}` any number of them. Behind
    /// `{**}` there can be literal segments.
    #[deserr(default)]
    pub paths: Option<Vec<String>>,
    /// Paths that it does not have.
    #[deserr(default)]
    pub not_paths: Option<Vec<String>>,
}

/// A condition: exactly one of `header`, `claim` and `attribute`, and at least one of `values` and `not_values`. What a request
/// does not have fits no value.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct AccessConditionDocument {
    /// A header, in lower case. Several fields of one name are one text with commas between; `*` fits one that is empty too.
    #[deserr(default)]
    pub header: Option<String>,
    /// A claim of the token: a name, or a JSON Pointer (RFC 6901). A value fits a text or any text of an array; `scope` and
    /// `permission` are arrays that are separated by spaces.
    #[deserr(default)]
    pub claim: Option<String>,
    /// Something else.
    #[deserr(default)]
    pub attribute: Option<AttributeDocument>,
    /// One of these must fit, 1 to 1000.
    #[deserr(default)]
    pub values: Option<Vec<String>>,
    /// None of these may fit, 1 to 1000.
    #[deserr(default)]
    pub not_values: Option<Vec<String>>,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum AttributeDocument {
    /// As `peers` of a source.
    #[deserr(rename = "peer")]
    Peer,
    /// As `namespaces` of a source.
    #[deserr(rename = "namespace")]
    Namespace,
    /// As `service_accounts` of a source.
    #[deserr(rename = "service_account")]
    ServiceAccount,
    /// As `principals` of a source.
    #[deserr(rename = "principal")]
    Principal,
    /// As `connection_addresses` of a source.
    #[deserr(rename = "connection_address")]
    ConnectionAddress,
    /// As `source_addresses` of a source.
    #[deserr(rename = "source_address")]
    SourceAddress,
    /// Networks that the connection was made to.
    #[deserr(rename = "destination_address")]
    DestinationAddress,
    /// As `ports` of an operation.
    #[deserr(rename = "destination_port")]
    DestinationPort,
    /// The server name that the caller's TLS asked for.
    #[deserr(rename = "server_name")]
    ServerName,
}
