//! `picket policy check`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_policy::testing;
use picket_policy::{PolicyEngine, PolicyError, PolicyErrors};
use serde::Serialize;

use super::{CommandError, load};
use crate::exit::Exit;
use crate::output::{Output, Paint};

pub(super) const ABOUT: &str = "\
Loads a folder of policies as the policy service would, and tells every mistake with its file and line.

The folder holds any number of *.cedar and, if wanted, entities.json. Every policy is checked against the schema: one that \
does not type-check is refused. The schema is the service's own (`picket policy schema`), or the folder's \
schema.cedarschema. It exits with 0 where the service would load the folder, and with 1 where it would not. A warning is not a mistake.

Warnings are about names that no request can have, each with the nearest one that it can: an attribute behind `has` that the schema \
does not have there, an action that is a group and compared with `==`, and a role that is in neither entities.json, nor a test that \
it makes a difference to, nor matrix.yaml.

Printed with the answer is the policy revision, which is also in each decision and each audit record.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket policy check policy-service/policies
  picket policy check policies --output json | jq -r '.problems[] | \"\\(.file):\\(.line) \\(.message)\"'";

#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The folder of policies
    directory: PathBuf,
}

#[derive(Serialize)]
struct Answer<'a> {
    directory: &'a Path,
    /// Of policies without a mistake.
    revision: Option<&'a str>,
    policies: Option<usize>,
    problems: &'a [PolicyError],
    warnings: &'a [PolicyError],
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let directory = arguments.directory.as_path();
    let loaded = load(directory)?;
    let (engine, problems) = match &loaded {
        Ok(engine) => (Some(engine), &[][..]),
        Err(errors) => (None, PolicyErrors::as_slice(errors)),
    };
    let answer = Answer {
        directory,
        revision: engine.map(PolicyEngine::revision),
        policies: engine.map(PolicyEngine::policy_count),
        problems,
        warnings: &engine.map(|engine| warnings(engine, directory)).unwrap_or_default(),
    };
    output.print(&text_of(&answer, output), &answer)?;
    Ok(Exit::of_check(problems))
}

/// Those of the service, and those about roles, which tests may name. Tests with a mistake name none that would count.
fn warnings(engine: &PolicyEngine, directory: &Path) -> Vec<PolicyError> {
    let roles = testing::tested_roles(directory).map(|tested| engine.role_warnings(&tested));
    let mut warnings = engine.warnings().to_vec();
    warnings.extend(roles.unwrap_or_default());
    warnings.sort();
    warnings
}

fn text_of(answer: &Answer<'_>, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &problem.to_string()));
    }
    for warning in answer.warnings {
        let _ = writeln!(text, "{warning} {}", output.paint(Paint::Dim, "(a warning)"));
    }
    if let (Some(policies), Some(revision)) = (answer.policies, answer.revision) {
        let verdict = output.paint(Paint::Good, "no mistake");
        let directory = answer.directory.display();
        let _ = writeln!(
            text,
            "{directory}: {verdict} in {policies} policies, revision {revision}"
        );
    }
    text
}
