//! The check of a revision: it loads, and passes its own tests.

use std::path::Path;

use picket_model::problems::shortened;
use picket_policy::testing::{self, DocumentErrors, TestReport};
use picket_policy::{PolicyEngine, PolicyErrors, PolicyFiles};

use super::EvaluationSettings;

/// How many cases the tests of a revision may have: they are run while an operator waits.
const CASES_MAX: usize = 10_000;
/// How many problems are listed; the others are counted.
const PROBLEMS_MAX: usize = 100;
/// The most of each that is shown: it can quote a policy.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// A problem of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionProblem {
    /// The file; empty for the revision as a whole.
    pub file: String,
    /// Counted from 1, where it is known.
    pub line: Option<usize>,
    /// The problem, cut short.
    pub message: String,
}

/// The problems of a revision; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionProblems {
    /// The first of them.
    pub first: Vec<RevisionProblem>,
    /// How many there are.
    pub count: usize,
}

/// A valid revision.
pub(super) struct Checked {
    pub(super) engine: PolicyEngine,
    /// How many of its cases passed.
    pub(super) cases: usize,
    /// Warnings, which make nothing invalid.
    pub(super) warnings: Vec<RevisionProblem>,
}

/// Loads the policies strictly and runs their tests.
pub(super) fn check(files: &PolicyFiles, evaluation: &EvaluationSettings) -> Result<Checked, RevisionProblems> {
    let engine = picket_policy::load_files(files).map(|engine| evaluation.apply_to(engine));
    let cases = testing::parse_cases(&files.tests(), CASES_MAX);
    let (engine, cases) = match (engine, cases) {
        (Ok(engine), Ok(cases)) => (engine, cases),
        (engine, cases) => {
            let (policies, tests) = (engine.err(), cases.err());
            let problems = of_policies(files.origin(), policies.as_ref());
            return Err(RevisionProblems::from(
                problems.chain(of_tests(files.origin(), tests.as_ref())),
            ));
        }
    };
    let report = testing::run(&engine, &cases).map_err(|error| {
        let problem = RevisionProblem::new(Path::new(""), files.origin(), None, &error.to_string());
        RevisionProblems::from(std::iter::once(problem))
    })?;
    if report.failed > 0 {
        return Err(RevisionProblems::from(failures(files.origin(), &report)));
    }
    let warnings = engine.warnings().iter().take(PROBLEMS_MAX);
    let warning = |warning: &picket_policy::PolicyError| {
        RevisionProblem::new(&warning.file, files.origin(), warning.line, &warning.message)
    };
    Ok(Checked {
        warnings: warnings.map(warning).collect(),
        cases: report.passed,
        engine,
    })
}

impl RevisionProblems {
    /// The problems of files that cannot be read as policies.
    pub fn of(errors: &PolicyErrors) -> Self {
        Self::from(of_policies(Path::new(""), Some(errors)))
    }

    /// A problem of the revision as a whole.
    pub(super) fn of_all(message: &str) -> Self {
        Self::from(std::iter::once(RevisionProblem::new(
            Path::new(""),
            Path::new(""),
            None,
            message,
        )))
    }

    fn from(problems: impl Iterator<Item = RevisionProblem>) -> Self {
        let mut first: Vec<RevisionProblem> = Vec::new();
        let mut count = 0;
        for problem in problems {
            count += 1;
            if first.len() < PROBLEMS_MAX {
                first.push(problem);
            }
        }
        Self { first, count }
    }
}

impl RevisionProblem {
    fn new(file: &Path, origin: &Path, line: Option<usize>, message: &str) -> Self {
        let name = file.strip_prefix(origin).unwrap_or(file);
        Self {
            file: name.display().to_string(),
            line,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        }
    }
}

fn of_policies<'a>(origin: &'a Path, errors: Option<&'a PolicyErrors>) -> impl Iterator<Item = RevisionProblem> + 'a {
    let errors = errors.into_iter().flat_map(PolicyErrors::as_slice);
    errors.map(move |error| RevisionProblem::new(&error.file, origin, error.line, &error.message))
}

fn of_tests<'a>(origin: &'a Path, errors: Option<&'a DocumentErrors>) -> impl Iterator<Item = RevisionProblem> + 'a {
    let errors = errors.into_iter().flat_map(DocumentErrors::as_slice);
    errors.map(move |error| {
        let message = match error.path.as_str() {
            "" => error.message.clone(),
            path => format!("{path}: {}", error.message),
        };
        RevisionProblem::new(&error.file, origin, None, &message)
    })
}

/// The cases that failed, each with all that came out otherwise.
fn failures<'a>(origin: &'a Path, report: &'a TestReport) -> impl Iterator<Item = RevisionProblem> + 'a {
    report.files.iter().flat_map(move |file| {
        let failed = file.cases.iter().filter(|case| !case.is_passed());
        failed.map(move |case| {
            let mismatches: Vec<String> = case.mismatches.iter().map(ToString::to_string).collect();
            let message = format!("case `{}` failed: {}", shortened(&case.name), mismatches.join("; "));
            RevisionProblem::new(&file.file, origin, None, &message)
        })
    })
}
