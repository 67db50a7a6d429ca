//! Fetched key sets, as they are written.

use deserr::Deserr;
use picket_model::problems::Problems;

pub(in crate::configuration) const TIMEOUT_MS_DEFAULT: u32 = 5_000;
pub(in crate::configuration) const TIMEOUT_MS_MAX: u32 = 60_000;
pub(in crate::configuration) const CACHE_S_DEFAULT: u32 = 600;
pub(in crate::configuration) const CACHE_S_MAX: u32 = 86_400;
pub(in crate::configuration) const MAX_STALE_S_DEFAULT: u32 = 3_600;
pub(in crate::configuration) const MAX_STALE_S_MAX: u32 = 604_800;
pub(in crate::configuration) const REFETCH_INTERVAL_S_DEFAULT: u32 = 30;

/// Keys that are fetched. Exactly one of `uri` and `discovery` locates them.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Fetched keys")
)]
pub struct RemoteKeysDocument {
    /// The https URI of the JWK set (RFC 7517 §5).
    #[deserr(default)]
    pub uri: Option<String>,
    /// The metadata of `issuer` that name the JWK set in `jwks_uri`. `issuer` must then be an https
    /// URI without query, and the metadata must name exactly it.
    #[deserr(default)]
    pub discovery: Option<DiscoveryDocument>,
    /// The name of the Envoy cluster that all these requests go through, whatever host the URIs
    /// name, in visible ASCII characters. Its existence is not checked: with an unknown name no key
    /// is ever fetched.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::CLUSTER_BYTES_MAX)))]
    pub cluster: String,
    /// The longest wait for an answer, in milliseconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = TIMEOUT_MS_MAX), extend("default" = TIMEOUT_MS_DEFAULT)))]
    pub timeout_ms: Option<u32>,
    /// The lifetime of a key set, in seconds. It is refreshed after four fifths of it.
    /// `Cache-Control` can shorten it, down to `refetch_interval_s`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = CACHE_S_MAX), extend("default" = CACHE_S_DEFAULT)))]
    pub cache_s: Option<u32>,
    /// How long a key set is used after it was fetched when later fetches fail, in seconds. At
    /// least `cache_s`, which is the default where it is longer.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_STALE_S_MAX), extend("default" = MAX_STALE_S_DEFAULT)))]
    pub max_stale_s: Option<u32>,
    /// The shortest lifetime of a key set, in seconds. At most `cache_s`, which is the default
    /// where it is shorter. An unknown key triggers a fetch at most once in this time or in 2
    /// seconds, whichever is less.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = CACHE_S_MAX), extend("default" = REFETCH_INTERVAL_S_DEFAULT)))]
    pub refetch_interval_s: Option<u32>,
    /// Whether `uri`, `issuer` and `jwks_uri` may be http. For keys within a trusted network.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    pub allow_http: Option<bool>,
}

/// The metadata of an issuer.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case")
)]
pub enum DiscoveryDocument {
    /// OpenID Connect Discovery 1.0 §4: `/.well-known/openid-configuration` after the issuer.
    #[deserr(rename = "openid-configuration")]
    OpenidConfiguration,
    /// RFC 8414 §3: `/.well-known/oauth-authorization-server` before the path of the issuer.
    #[deserr(rename = "oauth-authorization-server")]
    OauthAuthorizationServer,
}
