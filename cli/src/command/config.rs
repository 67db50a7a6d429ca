//! `picket config`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use picket_core::configuration::document::FilterDocument;
use picket_core::configuration::hints;
use picket_core::enforcement::FilterConfiguration;
use picket_model::problems::{Problem, Problems};
use serde::Serialize;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::output::{Output, Paint};

const CHECK_ABOUT: &str = "\
Reads a configuration as the filter or the policy service would, and tells every mistake with the path to the field: first those of names and types, and where there are none those of meaning.

The name says whose it is: `.json` is the filter's (what stands under `configuration` in Envoy's Wasm filter, or under \
`pluginConfig` in Istio's WasmPlugin), `.toml` is the policy service's. It exits with 0 where there is no mistake, and \
with 1 where there is one.

A hint is not a mistake: of the filter's configuration it names the paths that many servers take for one of a rule (other \
letter case, with or without a slash at the end, with `.json`), and that fall under another rule which asks for less.

The files and folders that the policy service's configuration names must be there; the policies in them are checked by \
`picket policy check`, and whether a key and its certificate belong together shows when the service starts. Overrides \
from the environment are not read. What only Envoy knows, such as the names of its clusters, is not checked.";

const CHECK_EXAMPLES: &str = "\
Examples:
  picket config check filter.json
  picket config check policy-service.toml
  picket config check settings.txt --kind policy-service
  picket config check filter.json --output json | jq -r '.problems[].path'";

const SCHEMA_ABOUT: &str = "\
Prints the JSON Schema of the filter's configuration, for editors and for checks in CI.

The schema knows names and types; `picket config check` knows the rest.";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  picket config schema > filter.schema.json";

/// Check configurations
#[derive(Subcommand)]
pub(super) enum Command {
    /// Check a configuration of the filter or of the policy service
    #[command(long_about = CHECK_ABOUT, after_long_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Print the JSON Schema of the filter's configuration
    #[command(long_about = SCHEMA_ABOUT, after_long_help = SCHEMA_EXAMPLES)]
    Schema,
}

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    /// The configuration
    file: PathBuf,
    /// Whose configuration it is, where the name does not say it
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// Whose configuration a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The filter's: JSON
    Filter,
    /// The policy service's: TOML
    PolicyService,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: &'a Path,
    kind: Kind,
    problems: &'a [Problem],
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    hints: &'a [Problem],
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Check(arguments) => check(&arguments, output),
        Command::Schema => schema(output),
    }
}

fn check(arguments: &CheckArguments, output: Output) -> Result<Exit, CommandError> {
    let file = arguments.file.as_path();
    let kind = arguments.kind.or_else(|| kind_by_name(file)).ok_or_else(|| {
        CommandError::Usage(format!(
            "`{}`: expected a name that ends in `.json` (the filter's configuration) or `.toml` (the policy service's), \
             or --kind",
            file.display()
        ))
    })?;
    // A file that cannot be read is not a file with a mistake.
    let text = files::read_text(file)?;
    let problems = match kind {
        Kind::Filter => FilterConfiguration::parse(text.as_bytes()).err(),
        Kind::PolicyService => picket_service_configuration::check(file).err(),
    };
    let problems: &[Problem] = problems.as_ref().map_or(&[], Problems::as_slice);
    let hints = match kind {
        Kind::Filter => hints::hints(text.as_bytes()),
        Kind::PolicyService => Vec::new(),
    };
    let answer = Answer {
        file,
        kind,
        problems,
        hints: &hints,
    };
    output.print(&text_of(&answer, output), &answer)?;
    Ok(Exit::of_check(problems))
}

fn schema(output: Output) -> Result<Exit, CommandError> {
    let schema = schemars::schema_for!(FilterDocument);
    output.print_json(&schema)?;
    Ok(Exit::Done)
}

fn kind_by_name(file: &Path) -> Option<Kind> {
    match file.extension()?.to_str()? {
        "json" => Some(Kind::Filter),
        "toml" => Some(Kind::PolicyService),
        _ => None,
    }
}

fn text_of(answer: &Answer<'_>, output: Output) -> String {
    let file = answer.file.display();
    let mut text = String::new();
    // Writing to a String cannot fail.
    for hint in answer.hints {
        let _ = writeln!(text, "{file}: {hint} {}", output.paint(Paint::Dim, "(a hint)"));
    }
    if answer.problems.is_empty() {
        let _ = writeln!(text, "{file}: {}", output.paint(Paint::Good, "no mistake"));
    }
    for problem in answer.problems {
        let _ = writeln!(text, "{file}: {}", output.paint(Paint::Bad, &problem.to_string()));
    }
    text
}
