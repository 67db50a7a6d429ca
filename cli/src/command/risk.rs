//! `picket risk`.

mod explain;
mod report;

use clap::Subcommand;

use super::CommandError;
use crate::exit::Exit;
use crate::output::Output;

/// Look into risk scores, and tell what they are made with
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show a principal's score, signals and history
    #[command(long_about = explain::ABOUT, after_long_help = explain::EXAMPLES)]
    Explain(explain::Arguments),
    /// Tell a running service how an authentication elsewhere ended
    #[command(long_about = report::AUTHENTICATION_ABOUT, after_long_help = report::AUTHENTICATION_EXAMPLES)]
    ReportAuthentication(report::AuthenticationArguments),
    /// Tell a running service how a session's client is handled
    #[command(long_about = report::DYNAMICS_ABOUT, after_long_help = report::DYNAMICS_EXAMPLES)]
    ReportDynamics(report::DynamicsArguments),
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Explain(arguments) => explain::run(arguments, output),
        Command::ReportAuthentication(arguments) => report::authentication(arguments, output),
        Command::ReportDynamics(arguments) => report::dynamics(arguments, output),
    }
}
