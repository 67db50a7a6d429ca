//! The filter's configuration as it is written: JSON, unknown fields refused. Its doc comments are the JSON Schema's.

mod access;
mod peers;

use deserr::Deserr;
use serde_json::Value;

use super::dpop::{DpopDocument, PossessionDocument};
use super::problems::Problems;
use super::providers::ProviderDocument;
use crate::path::Delimiters;

pub use access::{
    AccessConditionDocument, AccessDocument, AccessOperationDocument, AccessRuleDocument, AccessSourceDocument,
    AttributeDocument, ObservedAccessDocument,
};
pub use peers::{ForwardedHeaderDocument, ForwardedPeerDocument, PeersDocument};

/// Configuration of Picket's filter: the plugin configuration of Envoy's Wasm filter, as JSON or as a protobuf Struct.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Configuration of the Picket filter")
)]
pub struct FilterDocument {
    /// The workload that this sidecar protects; part of every record, and the realm of challenges.
    pub workload: String,
    /// Where decisions are asked for. Required unless every rule decides alone.
    #[deserr(default)]
    pub policy_service: Option<PolicyServiceDocument>,
    /// The SPIFFE trust domains whose peers may call. Required unless every rule has `peer: none`.
    #[deserr(default)]
    pub trust_domains: Option<Vec<String>>,
    /// Other names of the trust domains, each with the one of `trust_domains` that it stands for, such as
    /// `{"old.example": "example.org"}`: a peer from the first is taken for one from the second, in rules, policies, records
    /// and headers. At most 100. Default: none.
    #[deserr(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<std::collections::BTreeMap<String, String>>")
    )]
    pub trust_domain_aliases: Option<Value>,
    /// Which peers are proxies that end TLS, and whose word on who their own caller is counts. Default: none.
    #[deserr(default)]
    pub forwarded_peer: Option<ForwardedPeerDocument>,
    /// Which address of `x-forwarded-for` is where a request comes from, counted from the right, 0 to 32; 0 is the
    /// connection's own. An Envoy with `use_remote_address` has added the connection's as the last one, so 2 is what
    /// the caller itself wrote there. A port behind an address does not count; an empty entry does. Default: 0.
    #[deserr(default)]
    pub forwarded_for_trusted_hops: Option<u32>,
    /// The issuers whose tokens are accepted. Required unless every rule has `credential: none`.
    #[deserr(default)]
    pub providers: Option<Vec<ProviderDocument>>,
    /// What proofs of possession must be like (DPoP, RFC 9449). Default: the default of each of its fields.
    #[deserr(default)]
    pub dpop: Option<DpopDocument>,
    /// The route rules; the most specific one wins. A request that matches none is denied.
    pub rules: Vec<RuleDocument>,
    /// Methods in upper case that requests may have beside those that are registered with IANA and those that a rule names, at
    /// most 100. A request with another method is refused. Default: none.
    #[deserr(default)]
    pub further_methods: Option<Vec<String>>,
    /// Which spellings of paths are refused. Default: the default of each of its fields.
    #[deserr(default)]
    pub paths: Option<PathsDocument>,
    /// What is refused or accepted whatever the route rule, looked at before it decides. Default: nothing.
    #[deserr(default)]
    pub access: Option<AccessDocument>,
    /// Whether the credential and its proof reach the upstream. Default: false.
    #[deserr(default)]
    pub forward_credential: Option<bool>,
    /// The identity headers that the upstream gets, of `issuer`, `subject`, `tenant`, `roles`, `scopes`, `peer`, `route_rule`
    /// and `decision_id`. A client's copy of any `x-picket-` header is removed all the same. Default: all of them.
    #[deserr(default)]
    pub identity_headers: Option<Vec<String>>,
    /// A signed token for the upstream that says what Picket has verified, in the header `txn-token`. Default: none.
    #[deserr(default)]
    pub transaction_token: Option<TransactionTokenDocument>,
    /// Whether permitted responses tell the caller who decided (`x-picket-reason`, `x-picket-decided-by`), as refusals
    /// always do. Default: false.
    #[deserr(default)]
    pub explain_permits: Option<bool>,
    /// How large a token may be. Default: the default of each of its fields.
    #[deserr(default)]
    pub token_limits: Option<TokenLimitsDocument>,
    /// How many verified tokens a worker remembers, 1 to 100000. Default: `decision_cache_entries_max`, at most 100000.
    #[deserr(default)]
    pub token_cache_entries_max: Option<u32>,
    /// How many decisions a worker remembers, 1 to 1000000. Default: 10000, or `token_cache_entries_max` where that is more.
    #[deserr(default)]
    pub decision_cache_entries_max: Option<u32>,
}

/// How large a token, or an introspection answer about one, may be. A larger one is refused.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct TokenLimitsDocument {
    /// The bytes of the token as it is sent, or of the answer, 1024 to 65536. Default: 16384.
    #[deserr(default)]
    pub bytes_max: Option<u32>,
    /// The members of the claims, those of objects within them counted, 32 to 8192. Default: 1024.
    #[deserr(default)]
    pub members_max: Option<u32>,
    /// How deep the claims nest, 2 to 64. Default: 16.
    #[deserr(default)]
    pub depth_max: Option<u32>,
}

/// Transaction tokens (draft-ietf-oauth-transaction-tokens), signed with HMAC-SHA-256.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct TransactionTokenDocument {
    /// The environment variable of the VM that holds the key: at least 32 bytes in base64.
    pub key_variable: String,
    /// How long a token is good for, 1 to 300 seconds. Default: 30.
    #[deserr(default)]
    pub lifetime_s: Option<u32>,
    /// Whom it is for (`aud`). Default: the workload.
    #[deserr(default)]
    pub audience: Option<String>,
}

/// The policy service.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct PolicyServiceDocument {
    /// The name of an Envoy cluster that speaks HTTP/2 to the policy service, 1 to 125 visible characters.
    pub cluster: String,
    /// How long to wait for a decision, 1 to 60000 milliseconds. Default: 500.
    #[deserr(default)]
    pub timeout_ms: Option<u32>,
}

/// A route rule.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct RuleDocument {
    /// A name of its own, 1 to 64 of the characters `a-z A-Z 0-9 . - _`.
    pub id: String,
    /// Hosts in lower case without port: exact, `*.example.org`, or `*`.
    pub hosts: Vec<String>,
    /// Methods, compared with their case. Default: any.
    #[deserr(default)]
    pub methods: Option<Vec<String>>,
    /// Path templates such as `/orders/{id}` and `/files/{**}`.
    pub paths: Vec<String>,
    /// The delimiters that are data in this rule's paths, as its upstream takes them for data.
    /// Default: none.
    #[deserr(default)]
    pub allow_in_path: Option<Vec<PathDelimiterDocument>>,
    /// From which networks requests may come, such as `10.0.0.0/8`, 1 to 1000. Default: any.
    #[deserr(default)]
    pub source_addresses: Option<Vec<String>>,
    /// From which networks they may not, 1 to 1000: looked at first. Default: none.
    #[deserr(default)]
    pub not_source_addresses: Option<Vec<String>>,
    /// Whether a validated client certificate is required. Default: `required`.
    #[deserr(default)]
    pub peer: Option<NeedDocument>,
    /// Which peers may call. Default: every one of the trust domains.
    #[deserr(default)]
    pub peers: Option<PeersDocument>,
    /// Whether a token is required. Default: `required`.
    #[deserr(default)]
    pub credential: Option<CredentialDocument>,
    /// Whether a CORS preflight (`OPTIONS` with `origin` and `access-control-request-method`) is held to `credential`. With
    /// `none` a token in it is not looked at, so that it is nobody's to access rules and policies. Default: `required`.
    #[deserr(default)]
    pub preflight_credential: Option<NeedDocument>,
    /// The names of the providers whose tokens are accepted; with `credential: all` 2 to 4, of each of which a token must come.
    /// Default: all.
    #[deserr(default)]
    pub providers: Option<Vec<String>>,
    /// The scopes that the token must all have; with `credential: all` that of the first provider. Default: none.
    #[deserr(default)]
    pub scopes: Option<Vec<String>>,
    /// Which tokens need a proof that the caller holds their key. Default: `when_bound`.
    #[deserr(default)]
    pub proof_of_possession: Option<PossessionDocument>,
    /// Who decides. Default: `policy_service`.
    #[deserr(default)]
    pub decision: Option<DecisionDocument>,
    /// What policies know the resource as, such as `internal` or `secret`. Default: none.
    #[deserr(default)]
    pub classification: Option<String>,
    /// The security zone that policies see the resource in, such as `dmz`. Default: none.
    #[deserr(default)]
    pub security_zone: Option<String>,
    /// The tenant that policies see as the resource's owner. Default: none.
    #[deserr(default)]
    pub tenant: Option<String>,
}

/// Spellings of paths.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct PathsDocument {
    /// What becomes of a path that is another one once it is decoded again, such as `/a%252Fb`.
    /// Default: `allow`.
    #[deserr(default)]
    pub double_encoding: Option<DoubleEncodingDocument>,
}

/// What becomes of a path that is encoded twice.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum DoubleEncodingDocument {
    /// It is read as one that is encoded once: no server behind Picket decodes twice.
    #[deserr(rename = "allow")]
    Allow,
    /// It is refused.
    #[deserr(rename = "refuse")]
    Refuse,
}

/// A delimiter that servers read differently.
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

/// Whether something is needed.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum NeedDocument {
    /// A request without it is refused.
    #[deserr(rename = "required")]
    Required,
    /// It is not asked for.
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
    /// A request without one is refused.
    #[deserr(rename = "required")]
    Required,
    /// A request without exactly one of each of `providers` is refused. The first one's says who the principal is.
    #[deserr(rename = "all")]
    All,
    /// A request may come without one; one that is sent must be good.
    #[deserr(rename = "optional")]
    Optional,
    /// One that is sent is neither looked at nor removed.
    #[deserr(rename = "none")]
    None,
}

/// Who decides about a request that got so far.
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
