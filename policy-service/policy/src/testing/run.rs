//! Running the cases.

use std::fmt;
use std::path::PathBuf;

use picket_model::decision::{Effect, StepUp};
use serde::Serialize;

use super::cases::{Expectation, TestCase, TestFile};
use super::coverage::{Coverage, Tried};
use crate::{Evaluation, PolicyEngine, TraceError, Tracer};

/// The result of all cases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// The revision of the policies.
    pub revision: String,
    /// The number of cases with the expected result.
    pub passed: usize,
    /// The number of cases with another result.
    pub failed: usize,
    /// The cases by file.
    pub files: Vec<FileReport>,
    /// The coverage of the policies.
    pub coverage: Coverage,
}

/// The cases of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Its cases, in its order.
    pub cases: Vec<CaseReport>,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The differences from the expected result; empty where the case passed.
    pub mismatches: Vec<Mismatch>,
}

/// One difference from the expected result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The field of `expect`.
    pub field: &'static str,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub found: String,
}

impl CaseReport {
    /// Whether all came out as expected.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

/// Evaluates each case's request as the service would, and compares.
///
/// # Errors
/// The policies cannot be looked at clause by clause.
pub fn run(engine: &PolicyEngine, files: &[TestFile]) -> Result<TestReport, TraceError> {
    let tracer = Tracer::new(engine)?;
    let mut tried = Tried::nothing_of(tracer.policies());
    let mut case = |case: &TestCase| {
        let evaluation = case.request.evaluate(engine);
        let risk = case.request.assessment(engine);
        // What cannot be put to Cedar is a deny with an error, and tries no policy.
        if let Ok(trace) = tracer.trace(&case.request.request, &case.request.context(risk.as_ref())) {
            tried.add(&trace, &evaluation);
        }
        CaseReport {
            name: case.name.clone(),
            mismatches: mismatches(&case.expected, &evaluation),
        }
    };
    let mut reports = Vec::new();
    for file in files {
        reports.push(FileReport {
            file: file.file.clone(),
            cases: file.cases.iter().map(&mut case).collect(),
        });
    }
    let cases = || reports.iter().flat_map(|file| &file.cases);
    Ok(TestReport {
        revision: engine.revision().to_owned(),
        passed: cases().filter(|case| case.is_passed()).count(),
        failed: cases().filter(|case| !case.is_passed()).count(),
        coverage: tried.into_coverage(),
        files: reports,
    })
}

fn mismatches(expected: &Expectation, found: &Evaluation) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let mut compare = |field, expected: String, found: String| {
        if expected != found {
            mismatches.push(Mismatch { field, expected, found });
        }
    };
    compare(
        "effect",
        word(expected.effect).to_owned(),
        word(found.effect).to_owned(),
    );
    if let Some(policy_ids) = &expected.policy_ids {
        compare("policy_ids", list(policy_ids), list(&found.policy_ids));
    }
    if let Some(reasons) = &expected.reasons {
        compare("reasons", list(reasons), list(&found.caller_reasons));
    }
    if let Some(challenge) = &expected.challenge {
        compare(
            "challenge",
            asks_for(challenge.as_ref()),
            asks_for(found.challenge.as_ref()),
        );
    }
    if let Some(obligations) = &expected.obligations {
        compare("obligations", list(obligations), list(&found.obligations));
    }
    if let Some(observed) = expected.observed {
        let observed_word = |effect: Option<Effect>| effect.map_or("none", word).to_owned();
        let effect = found.observed.as_ref().map(|observed| observed.effect);
        compare("observed", observed_word(observed), observed_word(effect));
    }
    // A policy that fails is never a deny that somebody has thought of, unless the case says so.
    match &expected.error {
        None => compare("error", list(&[]), list(&found.errors)),
        Some(part) if found.errors.iter().any(|error| error.contains(part)) => {}
        Some(part) => compare("error", format!("`{part}`"), list(&found.errors)),
    }
    mismatches
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Deny => "deny",
    }
}

/// The requirements of a challenge, as a text.
fn asks_for(challenge: Option<&StepUp>) -> String {
    let Some(challenge) = challenge else {
        return "none".to_owned();
    };
    let acr_values =
        (!challenge.acr_values().is_empty()).then(|| format!("acr_values {}", list(challenge.acr_values())));
    let max_age_s = challenge.max_age_s().map(|max_age_s| format!("max_age_s {max_age_s}"));
    let bound_token = challenge.bound_token().then(|| "bound_token".to_owned());
    let trusted_device = challenge.trusted_device().then(|| "trusted_device".to_owned());
    let parts: Vec<String> = [acr_values, max_age_s, bound_token, trusted_device]
        .into_iter()
        .flatten()
        .collect();
    parts.join(" and ")
}

/// Sorted, as neither policies nor reasons have an order that anybody relies on.
fn list(texts: &[String]) -> String {
    let mut texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
    texts.sort_unstable();
    match texts.is_empty() {
        true => "none".to_owned(),
        false => texts.join(", "),
    }
}
