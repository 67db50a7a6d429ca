//! The filter's configuration as it is written: JSON, unknown fields refused. Its doc comments are the JSON Schema's.

mod access;
pub(super) mod dpop;
pub(super) mod introspection;
mod peers;
pub(super) mod providers;
pub(super) mod remote_keys;

use deserr::Deserr;
use picket_model::problems::Problems;
use serde_json::Value;

use crate::path::Delimiters;

pub use access::{
    AccessConditionDocument, AccessDocument, AccessOperationDocument, AccessRuleDocument, AccessSourceDocument,
    AttributeDocument, ObservedAccessDocument,
};
pub use dpop::{DpopDocument, PossessionDocument, SchemeDocument};
pub use introspection::IntrospectionDocument;
pub use peers::{ForwardedHeaderDocument, ForwardedPeerDocument, PeersDocument};
pub use providers::{
    ClaimEncodingDocument, ClaimHeaderDocument, ProviderDocument, RequiredClaimDocument, RolesFormDocument,
    SourceDocument,
};
pub use remote_keys::{DiscoveryDocument, RemoteKeysDocument};

/// Configuration of Picket's filter: the plugin configuration of Envoy's Wasm filter, as JSON or as a protobuf Struct.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Configuration of the Picket filter")
)]
pub struct FilterDocument {
    /// The workload that the sidecar protects. It is part of every record, and the realm of
    /// challenges. Visible ASCII characters without `"`.
    pub workload: String,
    /// The policy service, which is asked for decisions. Required unless every rule decides alone.
    #[deserr(default)]
    pub policy_service: Option<PolicyServiceDocument>,
    /// The SPIFFE trust domains whose peers may call. Required unless every rule has `peer: none`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub trust_domains: Option<Vec<String>>,
    /// Other names of the trust domains. Each maps to one of `trust_domains`, as in
    /// `{"old.example": "example.org"}`. A peer of the alias is treated as the peer with the same
    /// path in that trust domain: in rules, policies, records and headers. Default: none.
    #[deserr(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Option<std::collections::BTreeMap<String, String>>",
            extend("maxProperties" = super::limits::ALIASES_MAX)
        )
    )]
    pub trust_domain_aliases: Option<Value>,
    /// The proxies that end TLS and forward the identity of their own caller. Default: none, and no
    /// header names a peer.
    #[deserr(default)]
    pub forwarded_peer: Option<ForwardedPeerDocument>,
    /// The entry of `x-forwarded-for` that is the address of a request, counted from the right. 0
    /// is the address of the connection. An Envoy with `use_remote_address` has added the
    /// connection's address as the last entry, so 2 is the entry that its caller wrote. A port
    /// behind an address is ignored. An empty entry is counted.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = super::limits::FORWARDED_FOR_HOPS_MAX), extend("default" = 0)))]
    pub forwarded_for_trusted_hops: Option<u32>,
    /// The issuers whose tokens are accepted. Required unless every rule has `credential: none`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = crate::token::provider::PROVIDERS_MAX)))]
    pub providers: Option<Vec<ProviderDocument>>,
    /// The requirements for proofs of possession (DPoP, RFC 9449). Default: the default of each
    /// key.
    #[deserr(default)]
    pub dpop: Option<DpopDocument>,
    /// The route rules. The most specific rule that matches applies. A request that matches none is
    /// denied.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::RULES_MAX)))]
    pub rules: Vec<RuleDocument>,
    /// Methods in upper case that requests may have besides the methods registered with IANA and
    /// those that a rule names. A request with another method is refused. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = super::limits::FURTHER_METHODS_MAX)))]
    pub further_methods: Option<Vec<String>>,
    /// The spellings of paths that are refused. Default: the default of each key.
    #[deserr(default)]
    pub paths: Option<PathsDocument>,
    /// Access rules. They are evaluated before the route rule decides. Default: none.
    #[deserr(default)]
    pub access: Option<AccessDocument>,
    /// Whether the credential and its proof reach the upstream.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    pub forward_credential: Option<bool>,
    /// The identity headers that the upstream receives: a selection of `issuer`, `subject`,
    /// `tenant`, `roles`, `scopes`, `peer`, `route_rule` and `decision_id`. A client's copy of any
    /// `x-picket-` header is always removed. Default: all of them.
    #[deserr(default)]
    pub identity_headers: Option<Vec<String>>,
    /// A signed token for the upstream, in the header `txn-token`, that states what Picket has
    /// verified. Default: none.
    #[deserr(default)]
    pub transaction_token: Option<TransactionTokenDocument>,
    /// Whether permitted responses carry `x-picket-reason` and `x-picket-decided-by`. Refusals
    /// always do.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    pub explain_permits: Option<bool>,
    /// The largest token that is read. Default: the default of each key.
    #[deserr(default)]
    pub token_limits: Option<TokenLimitsDocument>,
    /// The capacity of the cache of verified tokens, per worker. Where `decision_cache_entries_max`
    /// is given, its value is the default, up to the maximum.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::limits::TOKEN_CACHE_ENTRIES_MAX), extend("default" = super::limits::DECISION_CACHE_ENTRIES_DEFAULT)))]
    pub token_cache_entries_max: Option<u32>,
    /// The capacity of the decision cache, per worker. Where `token_cache_entries_max` is larger,
    /// its value is the default.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::limits::DECISION_CACHE_ENTRIES_MAX), extend("default" = super::limits::DECISION_CACHE_ENTRIES_DEFAULT)))]
    pub decision_cache_entries_max: Option<u32>,
}

/// The largest token, or introspection answer, that is read. A larger one is refused.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Limits of tokens")
)]
pub struct TokenLimitsDocument {
    /// The bytes of a token as it is sent, or of an introspection answer.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = crate::jose::TokenLimits::FLOOR.bytes_max, max = crate::jose::TokenLimits::CEILING.bytes_max), extend("default" = crate::jose::TokenLimits::DEFAULT.bytes_max)))]
    pub bytes_max: Option<u32>,
    /// The members of the header, of the claims and of an introspection answer, including those of
    /// nested objects.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = crate::jose::TokenLimits::FLOOR.members_max, max = crate::jose::TokenLimits::CEILING.members_max), extend("default" = crate::jose::TokenLimits::DEFAULT.members_max)))]
    pub members_max: Option<u32>,
    /// The levels of nesting.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = crate::jose::TokenLimits::FLOOR.depth_max, max = crate::jose::TokenLimits::CEILING.depth_max), extend("default" = crate::jose::TokenLimits::DEFAULT.depth_max)))]
    pub depth_max: Option<u32>,
}

/// Transaction tokens (draft-ietf-oauth-transaction-tokens), signed with HMAC-SHA-256.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Transaction tokens")
)]
pub struct TransactionTokenDocument {
    /// The name of the environment variable of the VM that holds the key: at least 32 bytes in
    /// base64. The variable is set in `vm_config.environment_variables`.
    pub key_variable: String,
    /// The lifetime of a token, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::limits::TRANSACTION_LIFETIME_S_MAX), extend("default" = super::limits::TRANSACTION_LIFETIME_S_DEFAULT)))]
    pub lifetime_s: Option<u32>,
    /// The audience (`aud`). Default: `workload`.
    #[deserr(default)]
    pub audience: Option<String>,
}

/// The connection to the policy service.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Policy service")
)]
pub struct PolicyServiceDocument {
    /// The name of an Envoy cluster that speaks HTTP/2 to the policy service, in visible ASCII
    /// characters. Its existence is not checked: with an unknown name every question is answered
    /// 503 `policy_service_unavailable`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::CLUSTER_BYTES_MAX)))]
    pub cluster: String,
    /// The longest wait for a decision, in milliseconds. After it the answer is 503.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::limits::POLICY_TIMEOUT_MS_MAX), extend("default" = super::limits::POLICY_TIMEOUT_MS_DEFAULT)))]
    pub timeout_ms: Option<u32>,
}

/// A route rule: which requests it is for, what they must prove, and who decides about them.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Route rules")
)]
pub struct RuleDocument {
    /// A unique name, of the characters `a-z A-Z 0-9 . - _`. Policies see it as
    /// `resource.route_rule`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::NAME_BYTES_MAX)))]
    pub id: String,
    /// Hosts in lower case without port: an exact name, `*.example.org` for all names below it, or
    /// `*`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub hosts: Vec<String>,
    /// Methods in upper case. Requests may have each method that a rule names, as with
    /// `further_methods`. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub methods: Option<Vec<String>>,
    /// Path templates of whole segments, such as `/orders/{id}`. `{**}` at the end matches the rest
    /// of the path, including nothing, and captures it as `rest`, as in `/files/{**}`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub paths: Vec<String>,
    /// The delimiters that are data in this rule's paths, because the upstream treats them as data.
    /// Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub allow_in_path: Option<Vec<PathDelimiterDocument>>,
    /// The networks that requests may come from, such as `10.0.0.0/8`. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::PEER_ENTRIES_MAX)))]
    pub source_addresses: Option<Vec<String>>,
    /// The networks that requests may not come from. It is evaluated before `source_addresses`.
    /// Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::PEER_ENTRIES_MAX)))]
    pub not_source_addresses: Option<Vec<String>>,
    /// Whether a validated client certificate is required. With `none`, the policy service is still
    /// not asked about a certificate that names a workload and is not valid: such a request is
    /// refused with the reason of the peer.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub peer: Option<NeedDocument>,
    /// The peers that may call. Default: every peer of `trust_domains`.
    #[deserr(default)]
    pub peers: Option<PeersDocument>,
    /// Whether a token is required.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub credential: Option<CredentialDocument>,
    /// Whether a CORS preflight needs the credential. A preflight is `OPTIONS` with `origin` and
    /// `access-control-request-method`. With `none` a token in it is neither read nor removed, so
    /// it has no principal for access rules and policies. `none` is for rules with
    /// `credential: required` or `credential: optional`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub preflight_credential: Option<NeedDocument>,
    /// The names of the providers whose tokens are accepted. With `credential: all`, the 2 to 4
    /// providers of each of which a token must come. Default: all.
    #[deserr(default)]
    pub providers: Option<Vec<String>>,
    /// Scopes that the token must have, all of them, in `scope` or `scp`. With `credential: all`,
    /// the first provider's token. Otherwise the answer is 403 with `insufficient_scope`. Default:
    /// none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::SCOPES_MAX)))]
    pub scopes: Option<Vec<String>>,
    /// Which tokens need a proof that the caller holds their key.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "when_bound")))]
    pub proof_of_possession: Option<PossessionDocument>,
    /// Who decides, once peer and credential are accepted.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "policy_service")))]
    pub decision: Option<DecisionDocument>,
    /// The classification of the resource, such as `internal` or `secret`. Policies see it as
    /// `resource.classification`. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::LABEL_BYTES_MAX)))]
    pub classification: Option<String>,
    /// The security zone of the resource, such as `dmz`. Policies see it as
    /// `resource.security_zone`. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::LABEL_BYTES_MAX)))]
    pub security_zone: Option<String>,
    /// The tenant that owns the resource. Policies see it as `resource.tenant`. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::LABEL_BYTES_MAX)))]
    pub tenant: Option<String>,
}

/// Spellings of paths.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Paths")
)]
pub struct PathsDocument {
    /// Whether a path that changes when it is decoded a second time, such as `/a%252Fb`, is
    /// refused.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "allow")))]
    pub double_encoding: Option<DoubleEncodingDocument>,
}

/// The treatment of a path that is encoded twice.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum DoubleEncodingDocument {
    /// The path is decoded once. No server behind Picket may decode it twice.
    #[deserr(rename = "allow")]
    Allow,
    /// The request is refused.
    #[deserr(rename = "refuse")]
    Refuse,
}

/// A delimiter that servers interpret differently.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum PathDelimiterDocument {
    /// `%2F`, a slash within a segment.
    #[deserr(rename = "encoded_slash")]
    EncodedSlash,
    /// `;` and `%3B`.
    #[deserr(rename = "semicolon")]
    Semicolon,
    /// `%3F`.
    #[deserr(rename = "encoded_question_mark")]
    EncodedQuestionMark,
    /// `%23`.
    #[deserr(rename = "encoded_hash")]
    EncodedHash,
}

impl From<PathDelimiterDocument> for Delimiters {
    fn from(document: PathDelimiterDocument) -> Self {
        match document {
            PathDelimiterDocument::EncodedSlash => Self::ENCODED_SLASH,
            PathDelimiterDocument::Semicolon => Self::SEMICOLON,
            PathDelimiterDocument::EncodedQuestionMark => Self::ENCODED_QUESTION_MARK,
            PathDelimiterDocument::EncodedHash => Self::ENCODED_HASH,
        }
    }
}

/// Whether something is required.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum NeedDocument {
    /// Without it the request or token is refused.
    #[deserr(rename = "required")]
    Required,
    /// Not required.
    #[deserr(rename = "none")]
    None,
}

/// Whether a token is required.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum CredentialDocument {
    /// A request without a token is refused.
    #[deserr(rename = "required")]
    Required,
    /// A request needs exactly one token of each of `providers`. The first provider's token names
    /// the principal.
    #[deserr(rename = "all")]
    All,
    /// A request may come without a token. A token that is sent must be valid.
    #[deserr(rename = "optional")]
    Optional,
    /// A token that is sent is neither read nor removed.
    #[deserr(rename = "none")]
    None,
}

/// Who decides about a request whose peer and credential are accepted.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum DecisionDocument {
    /// The policy service, or its cached decision.
    #[deserr(rename = "policy_service")]
    PolicyService,
    /// The rule permits, without a policy decision.
    #[deserr(rename = "permit")]
    Permit,
    /// The rule denies.
    #[deserr(rename = "deny")]
    Deny,
}
