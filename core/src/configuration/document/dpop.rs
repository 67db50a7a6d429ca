//! Proofs of possession, as they are written.

use deserr::Deserr;
use picket_model::problems::Problems;

use super::NeedDocument;

pub(in crate::configuration) const PROOF_AGE_S_DEFAULT: u32 = 60;
/// RFC 9449 §11.1: "relatively brief period", on the order of seconds or minutes.
pub(in crate::configuration) const PROOF_AGE_S_MAX: u32 = 300;
pub(in crate::configuration) const CLOCK_SKEW_S_DEFAULT: u32 = 5;
pub(in crate::configuration) const CLOCK_SKEW_S_MAX: u32 = 60;
pub(in crate::configuration) const NONCE_WINDOW_S_DEFAULT: u32 = 60;
pub(in crate::configuration) const NONCE_WINDOW_S_MAX: u32 = 3_600;
/// 2 MiB of Envoy's memory, and room for some 1500 proofs a second that are remembered for a minute.
pub(in crate::configuration) const LEDGER_ENTRIES_DEFAULT: u32 = 131_072;
pub(in crate::configuration) const LEDGER_ENTRIES_MIN: u32 = 1_024;
/// 16 MiB.
pub(in crate::configuration) const LEDGER_ENTRIES_MAX: u32 = 1_048_576;

/// The requirements for proofs of possession (DPoP, RFC 9449).
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Proofs of possession")
)]
pub struct DpopDocument {
    /// The algorithms of proofs, all of them asymmetric. Challenges name them. Default: every
    /// asymmetric algorithm but `PS256`, `PS384` and `PS512`, which cost the sidecar the most.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub algorithms: Option<Vec<String>>,
    /// The schemes that `htu` may have. A sidecar behind another proxy does not see the scheme that
    /// the client used. Default: `https`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub schemes: Option<Vec<SchemeDocument>>,
    /// How long a proof is accepted after its `iat`, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = PROOF_AGE_S_MAX), extend("default" = PROOF_AGE_S_DEFAULT)))]
    pub proof_age_s_max: Option<u32>,
    /// How far `iat` and `nbf` may lie in the future, and `exp` in the past, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CLOCK_SKEW_S_MAX), extend("default" = CLOCK_SKEW_S_DEFAULT)))]
    pub clock_skew_s: Option<u32>,
    /// Whether a proof must contain a nonce of this sidecar.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "none")))]
    pub nonce: Option<NeedDocument>,
    /// How long one nonce is handed out, in seconds. It is accepted for twice as long. Only with
    /// `nonce: required`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = NONCE_WINDOW_S_MAX), extend("default" = NONCE_WINDOW_S_DEFAULT)))]
    pub nonce_window_s: Option<u32>,
    /// The number of used proofs that the sidecar remembers, at 16 bytes each.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = LEDGER_ENTRIES_MIN, max = LEDGER_ENTRIES_MAX), extend("default" = LEDGER_ENTRIES_DEFAULT)))]
    pub ledger_entries_max: Option<u32>,
}

/// A scheme of HTTP.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum SchemeDocument {
    /// HTTP over TLS.
    #[deserr(rename = "https")]
    Https,
    /// HTTP without TLS.
    #[deserr(rename = "http")]
    Http,
}

/// Which tokens need a proof of possession.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum PossessionDocument {
    /// Tokens that are bound to a key or a certificate.
    #[deserr(rename = "when_bound")]
    WhenBound,
    /// All tokens. A token that is not bound is refused.
    #[deserr(rename = "required")]
    Required,
}
