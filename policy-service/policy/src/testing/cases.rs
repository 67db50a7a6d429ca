//! The cases, and the files that hold them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use deserr::Deserr;
use picket_model::decision::{ACR_VALUES_MAX, Effect, StepUp};
use picket_model::problems::{self, Problems, shortened};
use serde_json::Value;

use super::document::{DocumentErrors, defaults_of, lay_under, parse_yaml, read_yaml};
use super::request::{RequestDocument, TestRequest, Text, texts};
use crate::is_test_file;

/// How many files of tests a folder may hold.
pub const FILES_MAX: usize = 1000;
/// How many cases all of its files may hold; each one is held in memory.
pub const CASES_MAX: usize = 100_000;

/// A file of cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFile {
    /// The file.
    pub file: PathBuf,
    /// Its cases, in its order.
    pub cases: Vec<TestCase>,
}

/// A request with what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// Its name, unique in its file.
    pub name: String,
    /// The request.
    pub request: TestRequest,
    /// The expected result.
    pub expected: Expectation,
}

/// The expected result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Permit or deny.
    pub effect: Effect,
    /// The policies that decide, in any order; `None`: not checked.
    pub policy_ids: Option<Vec<String>>,
    /// The reasons for the caller, in any order; `None`: not checked.
    pub reasons: Option<Vec<String>>,
    /// The expected challenge (`Some(None)`: no challenge); `None`: not checked.
    pub challenge: Option<Option<StepUp>>,
    /// The obligations, in any order; `None`: not checked.
    pub obligations: Option<Vec<String>>,
    /// The effect with policies in observe mode enforced (`Some(None)`: the same); `None`: not
    /// checked.
    pub observed: Option<Option<Effect>>,
    /// A part of the error with which a policy fails; `None`: none fails.
    pub error: Option<String>,
}

/// One file. `defaults` are laid under each case's request.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct FileDocument {
    #[deserr(default)]
    #[expect(
        dead_code,
        reason = "it is laid under the cases before; here its own mistakes are found"
    )]
    defaults: Option<RequestDocument>,
    cases: Vec<CaseDocument>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct CaseDocument {
    name: Text,
    request: RequestDocument,
    expect: ExpectDocument,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ExpectDocument {
    effect: EffectDocument,
    #[deserr(default)]
    policy_ids: Option<Vec<Text>>,
    #[deserr(default)]
    reasons: Option<Vec<Text>>,
    #[deserr(default)]
    challenge: Option<ChallengeDocument>,
    #[deserr(default)]
    obligations: Option<Vec<Text>>,
    #[deserr(default)]
    observed: Option<ObservedDocument>,
    #[deserr(default)]
    error: Option<Text>,
}

/// A challenge that asks for nothing is none.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ChallengeDocument {
    #[deserr(default)]
    acr_values: Vec<Text>,
    #[deserr(default)]
    max_age_s: Option<u32>,
    #[deserr(default)]
    bound_token: bool,
    #[deserr(default)]
    trusted_device: bool,
}

#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(error = Problems, rename_all = lowercase)]
enum ObservedDocument {
    Permit,
    Deny,
    None,
}

#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(error = Problems, rename_all = lowercase)]
enum EffectDocument {
    Permit,
    Deny,
}

/// Reads all files of tests in a folder (`*.yaml`, `*.yml`), in the order of their names.
///
/// # Errors
/// Every mistake of every file, with the way to the field: first those of names and types, and in a
/// file without them those of meaning.
pub fn read_cases(folder: &Path) -> Result<Vec<TestFile>, DocumentErrors> {
    let mut found = DocumentErrors::default();
    let mut all = AllCases::default();
    for file in names(folder, &mut found) {
        let document = read_yaml(&file, &mut found);
        if let Some(cases) = document.and_then(|document| found.take(&file, cases(document))) {
            all.add(file, cases, CASES_MAX, &mut found);
        }
    }
    found.none_or(all.files)
}

/// Does the same with files that are in memory, and have no more than so many cases.
///
/// # Errors
/// Every mistake of every file, in the same way.
pub fn parse_cases(files: &[(PathBuf, &str)], cases_max: usize) -> Result<Vec<TestFile>, DocumentErrors> {
    let mut found = DocumentErrors::default();
    let mut all = AllCases::default();
    for (file, text) in files {
        let document = parse_yaml(file, text, &mut found);
        if let Some(cases) = document.and_then(|document| found.take(file, cases(document))) {
            all.add(file.clone(), cases, cases_max, &mut found);
        }
    }
    found.none_or(all.files)
}

/// The files so far, and how many cases they have.
#[derive(Default)]
struct AllCases {
    files: Vec<TestFile>,
    count: usize,
}

impl AllCases {
    fn add(&mut self, file: PathBuf, cases: Vec<TestCase>, cases_max: usize, found: &mut DocumentErrors) {
        self.count += cases.len();
        if self.count > cases_max {
            found.add(&file, "", format!("more than {cases_max} cases in all files"));
            return;
        }
        self.files.push(TestFile { file, cases });
    }
}

fn names(folder: &Path, found: &mut DocumentErrors) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            found.add(folder, "", format!("cannot read the folder: {error}"));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_test_file(path))
        .collect();
    if files.len() > FILES_MAX {
        found.add(folder, "", format!("more than {FILES_MAX} files"));
        return Vec::new();
    }
    files.sort();
    files
}

/// The cases of one file.
pub(super) fn cases(mut document: Value) -> Result<Vec<TestCase>, Problems> {
    let defaults = defaults_of(&document);
    // Defaults with a mistake are told once, and not again in each case.
    if let Some(defaults) = defaults.filter(|defaults| problems::read::<RequestDocument>(defaults.clone()).is_ok())
        && let Some(Value::Array(cases)) = document.get_mut("cases")
    {
        for request in cases.iter_mut().filter_map(|case| case.get_mut("request")) {
            lay_under(request, &defaults);
        }
    }
    let document: FileDocument = problems::read(document)?;
    let mut problems = Problems::default();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut cases = Vec::new();
    for (index, case) in document.cases.into_iter().enumerate() {
        let path = format!("cases[{index}]");
        let name = case.name.0;
        if let Some(other) = names.insert(name.clone(), index) {
            let message = format!("`{}` is the name of `cases[{other}]`", shortened(&name));
            problems.add(format!("{path}.name"), message);
        }
        let request = case.request.complete(&name, &format!("{path}.request"), &mut problems);
        if case.expect.error.is_some() && matches!(case.expect.effect, EffectDocument::Permit) {
            problems.add(
                format!("{path}.expect.effect"),
                "where a policy fails the effect is `deny`",
            );
        }
        if case
            .expect
            .challenge
            .as_ref()
            .is_some_and(|challenge| !challenge.is_possible())
        {
            let message = format!(
                "no challenge is like this: at most {ACR_VALUES_MAX} `acr_values` without spaces and quotation marks"
            );
            problems.add(format!("{path}.expect.challenge"), message);
        }
        cases.extend(request.map(|request| TestCase {
            name,
            request,
            expected: case.expect.into(),
        }));
    }
    problems.none_or(Some(cases))
}

impl ChallengeDocument {
    fn step_up(&self) -> Option<StepUp> {
        StepUp::new(
            texts(self.acr_values.clone()),
            self.max_age_s,
            self.bound_token,
            self.trusted_device,
        )
    }

    /// What cannot be told to a client would else be taken for no challenge.
    fn is_possible(&self) -> bool {
        let is_of_device = self.bound_token || self.trusted_device;
        let is_none = self.acr_values.is_empty() && self.max_age_s.is_none() && !is_of_device;
        is_none || self.step_up().is_some()
    }
}

impl From<ExpectDocument> for Expectation {
    fn from(document: ExpectDocument) -> Self {
        Self {
            effect: match document.effect {
                EffectDocument::Permit => Effect::Permit,
                EffectDocument::Deny => Effect::Deny,
            },
            policy_ids: document.policy_ids.map(texts),
            reasons: document.reasons.map(texts),
            challenge: document.challenge.map(|challenge| challenge.step_up()),
            obligations: document.obligations.map(texts),
            observed: document.observed.map(|observed| match observed {
                ObservedDocument::Permit => Some(Effect::Permit),
                ObservedDocument::Deny => Some(Effect::Deny),
                ObservedDocument::None => None,
            }),
            error: document.error.map(|text| text.0),
        }
    }
}
