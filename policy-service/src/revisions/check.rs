//! Whether a revision is good: it loads, and passes its own tests.

use std::path::Path;

use picket_model::problems::shortened;

use super::Circumstances;
use crate::policy::{self, PolicyEngine, PolicyErrors, PolicyFiles};
use crate::policy_tests::{self, DocumentErrors, Report};

/// How many cases the tests of a revision may have: they are run while an operator waits.
const CASES_MAX: usize = 10_000;
/// How many mistakes are told; the others are counted.
const MISTAKES_MAX: usize = 100;
/// How much of each is told: it can quote a policy.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// One thing that is wrong with a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The file; empty for the revision as a whole.
    pub(crate) file: String,
    /// Counted from 1, where it is known.
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
}

/// What is wrong with a revision; never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistakes {
    /// The first of them.
    pub(crate) first: Vec<Mistake>,
    /// How many there are.
    pub(crate) count: usize,
}

/// A revision that is good.
pub(super) struct Checked {
    pub(super) engine: PolicyEngine,
    /// How many of its cases passed.
    pub(super) cases: usize,
    /// What is suspicious, but not wrong.
    pub(super) warnings: Vec<Mistake>,
}

/// Loads the policies strictly and runs their tests.
pub(super) fn check(files: &PolicyFiles, circumstances: &Circumstances) -> Result<Checked, Mistakes> {
    let engine = policy::load_files(files).map(|engine| circumstances.of(engine));
    let cases = policy_tests::read_texts(&files.tests(), CASES_MAX);
    let (engine, cases) = match (engine, cases) {
        (Ok(engine), Ok(cases)) => (engine, cases),
        (engine, cases) => {
            let (policies, tests) = (engine.err(), cases.err());
            let mistakes = of_policies(files.origin(), policies.as_ref());
            return Err(Mistakes::from(mistakes.chain(of_tests(files.origin(), tests.as_ref()))));
        }
    };
    let report = policy_tests::run(&engine, &cases).map_err(|error| {
        let mistake = Mistake::new(Path::new(""), files.origin(), None, &error.to_string());
        Mistakes::from(std::iter::once(mistake))
    })?;
    if report.failed > 0 {
        return Err(Mistakes::from(failures(files.origin(), &report)));
    }
    let warnings = engine.warnings().iter().take(MISTAKES_MAX);
    let warning =
        |warning: &policy::PolicyError| Mistake::new(&warning.file, files.origin(), warning.line, &warning.message);
    Ok(Checked {
        warnings: warnings.map(warning).collect(),
        cases: report.passed,
        engine,
    })
}

impl Mistakes {
    /// Those of files that cannot be taken at all.
    pub(crate) fn of(errors: &PolicyErrors) -> Self {
        Self::from(of_policies(Path::new(""), Some(errors)))
    }

    /// One of the revision as a whole.
    pub(super) fn of_all(message: &str) -> Self {
        Self::from(std::iter::once(Mistake::new(
            Path::new(""),
            Path::new(""),
            None,
            message,
        )))
    }

    fn from(mistakes: impl Iterator<Item = Mistake>) -> Self {
        let mut first: Vec<Mistake> = Vec::new();
        let mut count = 0;
        for mistake in mistakes {
            count += 1;
            if first.len() < MISTAKES_MAX {
                first.push(mistake);
            }
        }
        Self { first, count }
    }
}

impl Mistake {
    fn new(file: &Path, origin: &Path, line: Option<usize>, message: &str) -> Self {
        let name = file.strip_prefix(origin).unwrap_or(file);
        Self {
            file: name.display().to_string(),
            line,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        }
    }
}

fn of_policies<'a>(origin: &'a Path, errors: Option<&'a PolicyErrors>) -> impl Iterator<Item = Mistake> + 'a {
    let errors = errors.into_iter().flat_map(PolicyErrors::as_slice);
    errors.map(move |error| Mistake::new(&error.file, origin, error.line, &error.message))
}

fn of_tests<'a>(origin: &'a Path, errors: Option<&'a DocumentErrors>) -> impl Iterator<Item = Mistake> + 'a {
    let errors = errors.into_iter().flat_map(DocumentErrors::as_slice);
    errors.map(move |error| {
        let message = match error.path.as_str() {
            "" => error.message.clone(),
            path => format!("{path}: {}", error.message),
        };
        Mistake::new(&error.file, origin, None, &message)
    })
}

/// The cases that failed, each with all that came out otherwise.
fn failures<'a>(origin: &'a Path, report: &'a Report) -> impl Iterator<Item = Mistake> + 'a {
    report.files.iter().flat_map(move |file| {
        let failed = file.cases.iter().filter(|case| !case.is_passed());
        failed.map(move |case| {
            let mismatches: Vec<String> = case.mismatches.iter().map(ToString::to_string).collect();
            let message = format!("case `{}` failed: {}", shortened(&case.name), mismatches.join("; "));
            Mistake::new(&file.file, origin, None, &message)
        })
    })
}
