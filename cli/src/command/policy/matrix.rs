//! `picket policy matrix`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_policy::testing::{self, MATRIX_FILE, MatrixReport};
use serde::Serialize;

use super::test::{Problem, mistakes};
use super::{CommandError, EvaluationArguments};
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};
use crate::{files, text_diff};

pub(super) const ABOUT: &str = "\
Prints what the policies decide about each of some principals, methods and resources, as a table for each resource.

What it is of is in the file matrix.yaml beside the policies, in the words of picket.v1.AccessRequest:

  peers:
    - { name: web, spiffe_id: spiffe://example.org/web }
  principals:                           # the rows; a principal without `principal` has no token
    - { name: reader, principal: { roles: [reader] }, peer: web }
    - { name: the workload web, peer: web }
  methods: [GET, POST]                  # the columns
  resources:                            # a table for each
    - { name: an order, route_rule: orders-read, resource: { path: /orders/7 }, methods: [GET] }

The text changes with decisions alone, so that it can be kept beside the policies and reviewed when they change: --check compares \
it with such a file, and exits with 1 where they differ.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket policy matrix policy-service/policies
  picket policy matrix policies > policies/matrix.txt
  picket policy matrix policies --check policies/matrix.txt";

#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The folder of policies
    directory: PathBuf,
    /// What the matrix is of, where it is not matrix.yaml beside the policies
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    /// A matrix that was printed before: compare, and print what differs
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    #[command(flatten)]
    evaluation: EvaluationArguments,
}

#[derive(Serialize)]
struct Answer<'a> {
    directory: &'a Path,
    problems: &'a [Problem],
    /// Of policies and a matrix without a mistake.
    #[serde(flatten)]
    report: Option<&'a MatrixReport>,
    /// With --check: what differs, as a unified diff; empty where nothing does.
    difference: Option<&'a str>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let engine = arguments.evaluation.load(&arguments.directory)?;
    let file = arguments
        .matrix
        .clone()
        .unwrap_or_else(|| arguments.directory.join(MATRIX_FILE));
    let matrix = testing::read_matrix(&file);
    let (report, problems) = match (engine, matrix) {
        (Ok(engine), Ok(matrix)) => (Some(matrix.evaluate(&engine)), Vec::new()),
        (engine, matrix) => (None, mistakes(engine.err().as_ref(), matrix.err().as_ref())),
    };
    let difference = match (&arguments.check, &report) {
        (Some(file), Some(report)) => {
            let (kept, now) = (files::read_text(file)?, report.to_string());
            Some(text_diff::unified((&file.display().to_string(), &kept), ("now", &now)))
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    let answer = Answer {
        directory: &arguments.directory,
        problems: &problems,
        report: report.as_ref(),
        difference: difference.as_deref(),
    };
    output.print(&text_of(&answer, arguments, output), &answer)?;
    Ok(match difference.is_some_and(|difference| !difference.is_empty()) {
        true => Exit::MistakeFound,
        false => Exit::of_check(&problems),
    })
}

fn text_of(answer: &Answer<'_>, arguments: &Arguments, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &printable(&problem.to_string())));
    }
    match (answer.difference, &arguments.check, answer.report) {
        (None, _, Some(report)) => text.push_str(&report.to_string()),
        (Some(""), Some(file), _) => {
            let verdict = output.paint(Paint::Good, "as it was");
            let _ = writeln!(text, "{}: {verdict}", file.display());
        }
        (Some(difference), _, _) => text.push_str(difference),
        (None, _, None) => {}
    }
    text
}
