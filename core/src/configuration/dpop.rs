//! Proofs of possession in the configuration: as they are written, and the checks that make [`DpopSettings`] of it.

use deserr::Deserr;
use picket_model::problems::{Problems, shortened};

use super::document::{CredentialDocument, NeedDocument, RuleDocument};
use super::filter::{PossessionRequirement, in_range};
use crate::dpop::{DpopSettings, NonceRequirement, UriScheme};
use crate::jose::TokenAlgorithm;
use crate::jose::algorithm::Scheme;

const PROOF_AGE_S_DEFAULT: u32 = 60;
/// RFC 9449 §11.1: "relatively brief period", on the order of seconds or minutes.
const PROOF_AGE_S_MAX: u32 = 300;
const CLOCK_SKEW_S_DEFAULT: u32 = 5;
const CLOCK_SKEW_S_MAX: u32 = 60;
const NONCE_WINDOW_S_DEFAULT: u32 = 60;
const NONCE_WINDOW_S_MAX: u32 = 3_600;
/// 2 MiB of Envoy's memory, and room for some 1500 proofs a second that are remembered for a minute.
const LEDGER_ENTRIES_DEFAULT: u32 = 131_072;
const LEDGER_ENTRIES_MIN: u32 = 1_024;
/// 16 MiB.
const LEDGER_ENTRIES_MAX: u32 = 1_048_576;

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

pub(super) fn check_dpop(document: Option<DpopDocument>, check: &mut Problems) -> DpopSettings {
    let document = document.unwrap_or_default();
    let mut seconds = |value, range, default, name: &str| {
        let seconds = in_range(value, range, default, &format!("dpop.{name}"), check);
        u64::from(seconds) * 1000
    };
    let (age, skew) = (document.proof_age_s_max, document.clock_skew_s);
    let proof_age_ms_max = seconds(age, 1..=PROOF_AGE_S_MAX, PROOF_AGE_S_DEFAULT, "proof_age_s_max");
    let clock_skew_ms = seconds(skew, 0..=CLOCK_SKEW_S_MAX, CLOCK_SKEW_S_DEFAULT, "clock_skew_s");
    let window = document.nonce_window_s;
    let window_ms = seconds(window, 1..=NONCE_WINDOW_S_MAX, NONCE_WINDOW_S_DEFAULT, "nonce_window_s");
    let nonce = match document.nonce {
        Some(NeedDocument::Required) => NonceRequirement::Required { window_ms },
        Some(NeedDocument::None) | None => {
            if window.is_some() {
                check.add(
                    "dpop.nonce_window_s",
                    "expected no window where `nonce` is not `required`",
                );
            }
            NonceRequirement::NotRequired
        }
    };
    let (range, path) = (LEDGER_ENTRIES_MIN..=LEDGER_ENTRIES_MAX, "dpop.ledger_entries_max");
    DpopSettings {
        algorithms: check_algorithms(document.algorithms.as_deref(), check),
        schemes: check_schemes(document.schemes.as_deref(), check),
        proof_age_ms_max,
        clock_skew_ms,
        nonce,
        ledger_entries_max: in_range(document.ledger_entries_max, range, LEDGER_ENTRIES_DEFAULT, path, check),
    }
}

pub(super) fn check_possession(document: &RuleDocument, path: &str, check: &mut Problems) -> PossessionRequirement {
    if document.proof_of_possession.is_some() && document.credential == Some(CredentialDocument::None) {
        check.add(
            format!("{path}.proof_of_possession"),
            "expected none beside `credential: none`",
        );
    }
    match document.proof_of_possession {
        Some(PossessionDocument::WhenBound) | None => PossessionRequirement::WhenBound,
        Some(PossessionDocument::Required) => PossessionRequirement::Required,
    }
}

/// A shared secret proves nothing about who has it.
fn asymmetric() -> impl Iterator<Item = TokenAlgorithm> {
    let all = TokenAlgorithm::ALL.iter().copied();
    all.filter(|algorithm| algorithm.scheme() != Scheme::Hmac)
}

fn check_algorithms(names: Option<&[String]>, check: &mut Problems) -> Vec<TokenAlgorithm> {
    // A module checks PSS itself, with whatever key the caller has made: nobody is to choose that unless it is wanted.
    let Some(names) = names else {
        return asymmetric()
            .filter(|algorithm| algorithm.scheme() != Scheme::RsaPss)
            .collect();
    };
    let known = || {
        let names: Vec<_> = asymmetric()
            .map(|algorithm| format!("`{}`", algorithm.name()))
            .collect();
        names.join(", ")
    };
    if names.is_empty() {
        check.add("dpop.algorithms", format_args!("expected at least one of {}", known()));
    }
    let mut algorithms = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match TokenAlgorithm::from_name(name) {
            Some(algorithm) if algorithm.scheme() != Scheme::Hmac => algorithms.push(algorithm),
            Some(_) | None => check.add(
                format!("dpop.algorithms[{index}]"),
                format_args!("unknown value `{}`, expected one of {}", shortened(name), known()),
            ),
        }
    }
    algorithms
}

fn check_schemes(schemes: Option<&[SchemeDocument]>, check: &mut Problems) -> Vec<UriScheme> {
    let schemes = schemes.unwrap_or(&[SchemeDocument::Https]);
    if schemes.is_empty() {
        check.add("dpop.schemes", "expected at least one of `https`, `http`");
    }
    let scheme = |scheme: &SchemeDocument| match scheme {
        SchemeDocument::Https => UriScheme::Https,
        SchemeDocument::Http => UriScheme::Http,
    };
    schemes.iter().map(scheme).collect()
}
