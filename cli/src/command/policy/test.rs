//! `picket policy test`.

mod junit;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_policy::testing::{
    self, Coverage, DocumentError, DocumentErrors, FileReport, PolicyCoverage, TestFile, TestReport,
};
use picket_policy::{PolicyError, PolicyErrors, TESTS_FOLDER};
use serde::Serialize;

use super::{CommandError, EvaluationArguments};
use crate::exit::Exit;
use crate::files;
use crate::output::{Output, Paint, printable};

pub(super) const ABOUT: &str = "\
Runs the tests of a folder of policies: requests with what is expected of them, evaluated as the policy service would.

The tests are YAML files in the folder `tests` beside the policies. They are no part of the policies and of their revision:

  defaults:                             # laid under each request; may be left out
    peer: { spiffe_id: spiffe://example.org/web }
  cases:
    - name: a reader reads an order
      request:                          # in the words of picket.v1.AccessRequest
        route_rule: orders-read         # required; method and path are optional
        principal: { roles: [reader] }  # left out: there is no token
      expect: { effect: permit, policy_ids: [orders-read] }

`expect` names an `effect`, and if wanted `policy_ids` (those that decide), `reasons` (what the caller is told), `challenge` ({} for \
none), `obligations`, `observed` (what policies in observe mode would have decided) and `error` (a part of the error with which a policy \
fails; without it, a policy that fails is not expected). It is noon of a Monday unless `context.time` says otherwise.

It also tells what no case has tried: policies that never applied, and conditions (`when`, `unless`) that were never true or never \
false where Cedar came to them. It exits with 0 where all is as expected, and with 1 where a case is not, or a file has a mistake.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket policy test policy-service/policies
  picket policy test policies --fail-on-empty --coverage-min 100 --junit report.xml
  picket policy test policies --output json \\
      | jq -r '.files[].cases[] | select(.mismatches != []) | .name'";

#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The folder of policies
    directory: PathBuf,
    /// The folder of tests, where it is not `tests` beside the policies
    #[arg(long, value_name = "DIRECTORY")]
    tests: Option<PathBuf>,
    /// Write what came out as JUnit XML into this file, in place of what is there
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail where there is no case at all
    #[arg(long)]
    fail_on_empty: bool,
    /// Fail where less was tried of policies and conditions, 0 to 100
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    coverage_min: Option<u8>,
    #[command(flatten)]
    evaluation: EvaluationArguments,
}

#[derive(Serialize)]
struct Answer<'a> {
    directory: &'a Path,
    problems: &'a [Problem],
    /// Of policies and tests without a mistake.
    #[serde(flatten)]
    report: Option<&'a TestReport>,
}

/// What is wrong besides cases that fail.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Problem {
    Policies(PolicyError),
    Tests(DocumentError),
    /// Something that was asked for is not so.
    Demand {
        message: String,
    },
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let mut problems = Vec::new();
    let engine = arguments.evaluation.load(&arguments.directory)?;
    let cases = read_cases(arguments)?;
    let report = match (engine, cases) {
        (Ok(engine), Ok(cases)) => Some(testing::run(&engine, &cases)?),
        (engine, cases) => {
            problems.extend(mistakes(engine.err().as_ref(), cases.err().as_ref()));
            None
        }
    };
    problems.extend(
        report
            .as_ref()
            .into_iter()
            .flat_map(|report| demands(arguments, report)),
    );
    if let Some(file) = &arguments.junit {
        files::overwrite(file, &junit::document(report.as_ref(), &problems))?;
    }
    let answer = Answer {
        directory: &arguments.directory,
        problems: &problems,
        report: report.as_ref(),
    };
    output.print(&text_of(&answer, output), &answer)?;
    let has_failed = report.is_some_and(|report| report.failed > 0);
    Ok(match has_failed {
        true => Exit::MistakeFound,
        false => Exit::of_check(&problems),
    })
}

/// Policies without tests have none; tests that were named must be there.
fn read_cases(arguments: &Arguments) -> Result<Result<Vec<TestFile>, DocumentErrors>, CommandError> {
    let beside = arguments.directory.join(TESTS_FOLDER);
    match &arguments.tests {
        Some(folder) => files::check_folder(folder)?,
        None if beside.symlink_metadata().is_err() => return Ok(Ok(Vec::new())),
        None => {}
    }
    Ok(testing::read_cases(arguments.tests.as_ref().unwrap_or(&beside)))
}

/// The mistakes of policies and of what stands beside them.
pub(crate) fn mistakes(policies: Option<&PolicyErrors>, tests: Option<&DocumentErrors>) -> Vec<Problem> {
    let policies = policies.into_iter().flat_map(PolicyErrors::as_slice);
    let tests = tests.into_iter().flat_map(DocumentErrors::as_slice);
    policies
        .map(|error| Problem::Policies(error.clone()))
        .chain(tests.map(|error| Problem::Tests(error.clone())))
        .collect()
}

fn demands(arguments: &Arguments, report: &TestReport) -> Vec<Problem> {
    let mut problems = Vec::new();
    if arguments.fail_on_empty && report.passed + report.failed == 0 {
        let message = "there is no case, and --fail-on-empty asks for one".to_owned();
        problems.push(Problem::Demand { message });
    }
    if let Some(min) = arguments.coverage_min.filter(|min| report.coverage.percent < *min) {
        let message = format!(
            "{} % was tried, and --coverage-min asks for {min} %",
            report.coverage.percent
        );
        problems.push(Problem::Demand { message });
    }
    problems
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policies(error) => error.fmt(f),
            Self::Tests(error) => error.fmt(f),
            Self::Demand { message } => f.write_str(message),
        }
    }
}

fn text_of(answer: &Answer<'_>, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(report) = answer.report {
        for file in &report.files {
            add_file(&mut text, file, output);
        }
        add_coverage(&mut text, &report.coverage, output);
    }
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &printable(&problem.to_string())));
    }
    if let Some(report) = answer.report {
        let passed = output.paint(Paint::Good, &format!("{} passed", report.passed));
        let failed = match report.failed {
            0 => String::new(),
            failed => format!(", {}", output.paint(Paint::Bad, &format!("{failed} failed"))),
        };
        let (directory, revision) = (answer.directory.display(), &report.revision);
        let _ = writeln!(text, "{directory}: {passed}{failed}, revision {revision}");
    }
    text
}

fn add_file(text: &mut String, report: &FileReport, output: Output) {
    for case in report.cases.iter().filter(|case| !case.is_passed()) {
        let failed = output.paint(Paint::Bad, "failed");
        let _ = writeln!(text, "{}: {failed}: {}", report.file.display(), printable(&case.name));
        for mismatch in &case.mismatches {
            let _ = writeln!(text, "  {}", printable(&mismatch.to_string()));
        }
    }
}

fn add_coverage(text: &mut String, coverage: &Coverage, output: Output) {
    for policy in &coverage.policies {
        for (line, untried) in untried(policy) {
            let place = format!("{}:{line}: {}", policy.policy.place.file.display(), policy.policy.id);
            let _ = writeln!(
                text,
                "{place}: {} {}",
                printable(&untried),
                output.paint(Paint::Dim, "(not tried)")
            );
        }
    }
    let Coverage {
        percent, seen, total, ..
    } = coverage;
    let _ = writeln!(
        text,
        "{percent} % tried: {seen} of {total}, which are each policy applied and each condition true and false"
    );
}

/// What no case has tried of a policy, each with its line.
fn untried(coverage: &PolicyCoverage) -> Vec<(usize, String)> {
    let mut untried = Vec::new();
    if !coverage.is_satisfied {
        untried.push((coverage.policy.place.line, "never applied".to_owned()));
    }
    for (clause, seen) in coverage.clauses() {
        let never = match (seen.is_seen_true, seen.is_seen_false) {
            (true, true) => continue,
            (true, false) => "never false",
            (false, true) => "never true",
            (false, false) => "never true and never false",
        };
        untried.push((clause.line, format!("{never}: `{}`", clause.text)));
    }
    untried
}
