//! `picket policy`.

mod check;
mod diff;
mod matrix;
mod test;

use std::path::Path;

use clap::Subcommand;
use picket_policy_service::policy::{self, PolicyEngine, PolicyErrors, TimeZone};
use picket_policy_service::risk::Levels;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::output::Output;

pub(crate) use test::{Problem, mistakes};

/// Check and test policies
#[derive(Subcommand)]
pub(super) enum Command {
    /// Check a folder of Cedar policies
    #[command(long_about = check::ABOUT, after_long_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Tell what changed from one folder of policies to another
    #[command(long_about = diff::ABOUT, after_long_help = diff::EXAMPLES)]
    Diff(diff::Arguments),
    /// Print what the policies decide about principals, methods and resources
    #[command(long_about = matrix::ABOUT, after_long_help = matrix::EXAMPLES)]
    Matrix(matrix::Arguments),
    /// Run the tests of a folder of Cedar policies
    #[command(long_about = test::ABOUT, after_long_help = test::EXAMPLES)]
    Test(test::Arguments),
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Diff(arguments) => diff::run(&arguments, output),
        Command::Matrix(arguments) => matrix::run(&arguments, output),
        Command::Test(arguments) => test::run(&arguments, output),
    }
}

/// How policies are evaluated, where the folder does not say it.
#[derive(clap::Args)]
pub(super) struct EvaluationArguments {
    /// The time zone of clock and calendar: `policies.time_zone` of the service
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = policy::time_zone)]
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
        let loaded = load(directory)?;
        Ok(loaded.map(|engine| engine.in_time_zone(self.time_zone.clone()).with_risk_levels(levels)))
    }
}

/// Loads a folder as the policy service would. A folder that cannot be read is not a folder with a mistake.
fn load(directory: &Path) -> Result<Result<PolicyEngine, PolicyErrors>, CommandError> {
    files::check_folder(directory)?;
    Ok(policy::load(directory))
}
