//! The checks of proofs of possession in the configuration, which become [`DpopSettings`].

use picket_model::problems::{Problems, shortened};

use super::document::dpop::{
    CLOCK_SKEW_S_DEFAULT, CLOCK_SKEW_S_MAX, LEDGER_ENTRIES_DEFAULT, LEDGER_ENTRIES_MAX, LEDGER_ENTRIES_MIN,
    NONCE_WINDOW_S_DEFAULT, NONCE_WINDOW_S_MAX, PROOF_AGE_S_DEFAULT, PROOF_AGE_S_MAX,
};
use super::document::{
    CredentialDocument, DpopDocument, NeedDocument, PossessionDocument, RuleDocument, SchemeDocument,
};
use super::values::in_range;
use crate::dpop::{DpopSettings, NonceRequirement, UriScheme};
use crate::enforcement::rule::PossessionRequirement;
use crate::jose::TokenAlgorithm;
use crate::jose::algorithm::Scheme;

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
    // A module checks PSS itself, with whatever key the caller has made: nobody is to choose that
    // unless it is wanted.
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
