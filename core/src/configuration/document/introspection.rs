//! Token introspection, as it is written.

use deserr::Deserr;
use picket_model::problems::Problems;

use super::NeedDocument;

pub(in crate::configuration) const TIMEOUT_MS_DEFAULT: u32 = 1_000;
pub(in crate::configuration) const TIMEOUT_MS_MAX: u32 = 60_000;
pub(in crate::configuration) const CACHE_S_MAX_DEFAULT: u32 = 60;
pub(in crate::configuration) const CACHE_S_MAX_MAX: u32 = 3_600;
pub(in crate::configuration) const CACHE_INACTIVE_S_DEFAULT: u32 = 5;
pub(in crate::configuration) const CACHE_INACTIVE_S_MAX: u32 = 60;
pub(in crate::configuration) const CLIENT_ID_BYTES_MAX: usize = 256;

/// The introspection endpoint of an issuer of opaque tokens (RFC 7662). It is asked about each
/// token that is not cached.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Opaque tokens")
)]
pub struct IntrospectionDocument {
    /// The https URI of the endpoint.
    pub uri: String,
    /// The name of the Envoy cluster that the requests go through, whatever host the URI names, in
    /// visible ASCII characters. Its existence is not checked: with an unknown name no opaque token
    /// is accepted.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::CLUSTER_BYTES_MAX)))]
    pub cluster: String,
    /// The longest wait for an answer, in milliseconds. After it the answer is 503.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = TIMEOUT_MS_MAX), extend("default" = TIMEOUT_MS_DEFAULT)))]
    pub timeout_ms: Option<u32>,
    /// The id of a client of the issuer (RFC 6749 §2.3.1), in visible ASCII characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = CLIENT_ID_BYTES_MAX)))]
    pub client_id: String,
    /// The name of the environment variable of the VM that holds the client's secret. The variable
    /// is set in `vm_config.environment_variables`.
    pub secret_variable: String,
    /// The longest time that an active token is cached, in seconds, and never beyond its `exp`. A
    /// revoked token is accepted for as long. 0: the issuer is asked for each request.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CACHE_S_MAX_MAX), extend("default" = CACHE_S_MAX_DEFAULT)))]
    pub cache_s_max: Option<u32>,
    /// How long an inactive token is cached, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CACHE_INACTIVE_S_MAX), extend("default" = CACHE_INACTIVE_S_DEFAULT)))]
    pub cache_inactive_s: Option<u32>,
    /// Whether an answer must have `aud`. An `aud` that is present must name one of `audiences` in
    /// either case. `none` accepts every token of an issuer that does not send `aud`, including
    /// tokens for other services.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub audience: Option<NeedDocument>,
}
