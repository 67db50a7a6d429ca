//! Bounds and defaults of the filter's configuration. The checks and the JSON Schema read them
//! here.

/// The bytes of a document. A larger one is refused.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The number of route rules.
pub const RULES_MAX: usize = 20_000;
/// The bytes of a name. Names go into headers and metrics.
pub const NAME_BYTES_MAX: usize = 64;
/// The number of scopes of a rule.
pub const SCOPES_MAX: usize = 64;
/// The bytes of a cluster's name. Up to here a serialized `GrpcService` with the name is ASCII,
/// which the SDK's `&str` parameter needs.
pub const CLUSTER_BYTES_MAX: usize = 125;
/// The number of methods in `further_methods`.
pub const FURTHER_METHODS_MAX: usize = 100;
/// The bytes of a text of a rule that policies see.
pub const LABEL_BYTES_MAX: usize = 256;
/// How long to wait for a decision by default.
pub const POLICY_TIMEOUT_MS_DEFAULT: u32 = 500;
/// The longest wait for a decision that can be configured.
pub const POLICY_TIMEOUT_MS_MAX: u32 = 60_000;
/// How long a transaction token is valid by default.
pub const TRANSACTION_LIFETIME_S_DEFAULT: u32 = 30;
/// The longest validity of a transaction token.
pub const TRANSACTION_LIFETIME_S_MAX: u32 = 300;
/// The largest capacity of the cache of verified tokens.
pub const TOKEN_CACHE_ENTRIES_MAX: u32 = 100_000;
/// The capacity of the decision cache by default.
pub const DECISION_CACHE_ENTRIES_DEFAULT: u32 = 10_000;
/// The largest capacity of the decision cache.
pub const DECISION_CACHE_ENTRIES_MAX: u32 = 1_000_000;
/// The entries of a list of peers or networks. Patterns and networks are tried one by one, so
/// their number bounds a request's cost.
pub const PEER_ENTRIES_MAX: usize = 1_000;
/// The number of aliases of trust domains.
pub const ALIASES_MAX: usize = 100;
/// The number of trusted hops that a request passes.
pub const HOPS_MAX: u32 = 8;
/// The entries of `x-forwarded-for` that may be counted off. More proxies in a row would be a loop.
pub const FORWARDED_FOR_HOPS_MAX: u32 = 32;
/// The number of access rules in all lists together. They are tried one by one, as their entries.
pub const ACCESS_RULES_MAX: usize = 1_000;
/// The entries of a list in an access rule.
pub const ACCESS_ENTRIES_MAX: usize = 1_000;
