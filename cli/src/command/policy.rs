//! `picket policy`.

mod check;
mod diff;
mod matrix;
mod revision;
mod test;

use std::path::Path;

use clap::Subcommand;
use picket_policy::{PolicyEngine, PolicyErrors, PolicyFiles, TimeZone};
use picket_risk::Levels;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::output::Output;

pub(crate) use test::{Problem, mistakes};

const SCHEMA_ABOUT: &str = "\
Prints the policy service's own Cedar schema: what policies can look at, with a comment at each attribute.

Editors take it for completion. A folder of policies needs it only where it adds to it, such as an attribute of its roles: \
then it goes into the folder as schema.cedarschema, and a later version of the service may ask for more in it.";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  picket policy schema > policies/schema.cedarschema";

/// Check and test policies
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a folder of policies the active revision of a policy service
    #[command(long_about = revision::ACTIVATE_ABOUT, after_long_help = revision::ACTIVATE_EXAMPLES)]
    Activate(revision::ActivateArguments),
    /// Check a folder of Cedar policies
    #[command(long_about = check::ABOUT, after_long_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Tell what changed from some policies to others
    #[command(long_about = diff::ABOUT, after_long_help = diff::EXAMPLES)]
    Diff(diff::Arguments),
    /// List which revisions were activated, when and by whom
    #[command(after_long_help = revision::HISTORY_EXAMPLES)]
    History(revision::PageArguments),
    /// List the revisions of a policy service
    #[command(after_long_help = revision::LIST_EXAMPLES)]
    List(revision::PageArguments),
    /// Print what the policies decide about principals, methods and resources
    #[command(long_about = matrix::ABOUT, after_long_help = matrix::EXAMPLES)]
    Matrix(matrix::Arguments),
    /// Make an older revision the active one
    #[command(after_long_help = revision::ROLLBACK_EXAMPLES)]
    Rollback(revision::RollbackArguments),
    /// Print the schema that policies are checked against, with a comment at each attribute
    #[command(long_about = SCHEMA_ABOUT, after_long_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Show a revision, or write its files into a folder
    #[command(after_long_help = revision::SHOW_EXAMPLES)]
    Show(revision::ShowArguments),
    /// Run the tests of a folder of Cedar policies
    #[command(long_about = test::ABOUT, after_long_help = test::EXAMPLES)]
    Test(test::Arguments),
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Activate(arguments) => revision::activate(arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Diff(arguments) => diff::run(&arguments, output),
        Command::History(arguments) => revision::history(&arguments, output),
        Command::List(arguments) => revision::list(&arguments, output),
        Command::Matrix(arguments) => matrix::run(&arguments, output),
        Command::Rollback(arguments) => revision::roll_back(arguments, output),
        Command::Schema => schema(output),
        Command::Show(arguments) => revision::show(&arguments, output),
        Command::Test(arguments) => test::run(&arguments, output),
    }
}

fn schema(output: Output) -> Result<Exit, CommandError> {
    output.print(picket_policy::SCHEMA, &picket_policy::SCHEMA)?;
    Ok(Exit::Done)
}

/// How policies are evaluated, where the folder does not say it.
#[derive(clap::Args)]
pub(super) struct EvaluationArguments {
    /// The time zone of clock and calendar: `policies.time_zone` of the service
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = picket_policy::time_zone)]
    time_zone: TimeZone,
    /// The least score that is a medium risk: `risk.medium_from` of the service
    #[arg(long, value_name = "SCORE", default_value_t = Levels::DEFAULT.medium_from)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    risk_medium_from: u8,
    /// The least score that is a high risk: `risk.high_from` of the service
    #[arg(long, value_name = "SCORE", default_value_t = Levels::DEFAULT.high_from)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    risk_high_from: u8,
}

impl EvaluationArguments {
    /// Loads a folder as [`load`] does.
    pub(super) fn load(&self, directory: &Path) -> Result<Result<PolicyEngine, PolicyErrors>, CommandError> {
        let levels = self.levels()?;
        Ok(load(directory)?.map(|engine| self.applied_to(engine, levels)))
    }

    /// Loads files that were read.
    pub(super) fn load_files(&self, files: &PolicyFiles) -> Result<Result<PolicyEngine, PolicyErrors>, CommandError> {
        let levels = self.levels()?;
        Ok(picket_policy::load_files(files).map(|engine| self.applied_to(engine, levels)))
    }

    fn applied_to(&self, engine: PolicyEngine, levels: Levels) -> PolicyEngine {
        engine.in_time_zone(self.time_zone.clone()).with_risk_levels(levels)
    }

    fn levels(&self) -> Result<Levels, CommandError> {
        let levels = Levels {
            medium_from: self.risk_medium_from,
            high_from: self.risk_high_from,
        };
        if levels.medium_from > levels.high_from {
            return Err(CommandError::Usage(format!(
                "expected --risk-medium-from at most --risk-high-from, found {} and {}",
                levels.medium_from, levels.high_from
            )));
        }
        Ok(levels)
    }
}

/// Loads a folder as the policy service would. A folder that cannot be read is not a folder with a mistake.
fn load(directory: &Path) -> Result<Result<PolicyEngine, PolicyErrors>, CommandError> {
    files::check_folder(directory)?;
    Ok(picket_policy::load(directory))
}
