//! The commands: what is read from the command line, and what each does with it.

mod audit;
mod config;
mod device;
mod explain;
mod import;
mod jwks;
mod listing;
mod pki;
mod policy;
mod risk;
mod role;
mod session;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use picket_audit::{KeyError as AuditKeyError, StoreError};
use picket_policy::{PolicyErrors, TraceError};
use picket_risk::StateError;

use crate::exit::{EXIT_CODES_HELP, Exit};
use crate::files::FileError;
use crate::keys::KeyError;
use crate::output::{Color, Format, Output, OutputError, report_error};
use crate::pki::PkiError;
use crate::service::ServiceError;
use crate::token::TokenError;

pub(crate) use audit::TAIL_RECORDS_MAX;

const LONG_ABOUT: &str = "\
Picket's command line.

It makes the keys and tokens with which Picket is tried on one machine, and checks what an operator writes and keeps: \
configurations, policies and the audit log. With an operator's certificate it looks at the sessions and devices of a running policy \
service, ends the former and enrols the latter.

Data goes to standard output and messages to standard error, so that an answer can be piped or kept in a variable.";

const EXAMPLES: &str = "\
A first try:
  picket pki init keys --trust-domain example.org --workload web --workload orders
  TOKEN=$(picket token mint --key keys/token-es256-key.pem --issuer https://issuer.example \\
            --subject alice --audience orders --claim roles='[\"reader\"]')
  picket <COMMAND> --help    says more about each, with examples";

#[derive(Parser)]
#[command(name = "picket", version, about = "Keys, tokens and checks for Picket", long_about = LONG_ABOUT)]
#[command(after_help = EXIT_CODES_HELP, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Global {
    /// The form of the answer
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        help_heading = "Output"
    )]
    output: Format,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Output"
    )]
    color: Color,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Pki(pki::Command),
    #[command(subcommand)]
    Token(token::Command),
    Jwks(jwks::Arguments),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Import(import::Command),
    #[command(subcommand)]
    Policy(policy::Command),
    /// Explain a decision step by step
    #[command(long_about = explain::ABOUT, after_long_help = explain::EXAMPLES)]
    Explain(explain::Arguments),
    #[command(subcommand)]
    Audit(audit::Command),
    #[command(subcommand)]
    Risk(risk::Command),
    #[command(subcommand)]
    Role(role::Command),
    #[command(subcommand)]
    Session(session::Command),
    #[command(subcommand)]
    Device(device::Command),
    #[command(subcommand)]
    Revoke(session::RevokeCommand),
    #[command(subcommand)]
    Lockdown(session::LockdownCommand),
    #[command(name = "whoami")]
    WhoAmI(session::WhoAmIArguments),
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The command line is wrong in a way that its grammar does not know.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot use the key `{file}`")]
    Key {
        file: String,
        #[source]
        source: KeyError,
    },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Audit(StoreError),
    #[error("the audit log has no decision `{0}`")]
    DecisionUnknown(String),
    #[error("the record of decision `{0}` holds what no request does")]
    DecisionUnreadable(String),
    #[error("cannot use the audit key `{file}`")]
    AuditKey {
        file: String,
        #[source]
        source: AuditKeyError,
    },
    #[error("the risk baselines in `{file}`")]
    RiskState {
        file: String,
        #[source]
        source: StateError,
    },
    #[error("cannot look at the policies clause by clause")]
    Trace(#[from] TraceError),
    #[error("the service sent files that no revision has")]
    Revision(#[source] PolicyErrors),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The tree of all commands, for the reference.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name (the first is the program's own name), and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = Cli::command().color(help_color(&arguments));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version come this way too; a closed pipe is not worth a word.
            let _ = message.print();
            return if message.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let output = Output::new(cli.global.output, cli.global.color);
    match carry_out(cli.command, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report_error(cli.global.color, &error);
            exit_for(&error).into()
        }
    }
}

fn carry_out(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Pki(command) => pki::run(command, output),
        Command::Token(command) => token::run(command, output),
        Command::Jwks(arguments) => jwks::run(&arguments, output),
        Command::Config(command) => config::run(command, output),
        Command::Import(command) => import::run(command, output),
        Command::Policy(command) => policy::run(command, output),
        Command::Explain(arguments) => explain::run(&arguments, output),
        Command::Audit(command) => audit::run(command, output),
        Command::Risk(command) => risk::run(command, output),
        Command::Role(command) => role::run(command, output),
        Command::Session(command) => session::run(command, output),
        Command::Device(command) => device::run(command, output),
        Command::Revoke(command) => session::revoke(command, output),
        Command::Lockdown(command) => session::lockdown(command, output),
        Command::WhoAmI(arguments) => session::who_am_i(&arguments, output),
    }
}

/// The one table from errors to exit codes.
fn exit_for(error: &CommandError) -> Exit {
    match error {
        CommandError::Usage(_)
        | CommandError::Pki(
            PkiError::Workload { .. }
            | PkiError::WorkloadSlash { .. }
            | PkiError::WorkloadCollides { .. }
            | PkiError::TooManyWorkloads,
        ) => Exit::Usage,
        CommandError::Pki(
            PkiError::File(_)
            | PkiError::AuthorityKey { .. }
            | PkiError::Certificate { .. }
            | PkiError::TokenKey { .. }
            | PkiError::Random(_),
        )
        | CommandError::File(_)
        | CommandError::Key { .. }
        | CommandError::Token(_)
        | CommandError::Audit(_)
        | CommandError::DecisionUnknown(_)
        | CommandError::DecisionUnreadable(_)
        | CommandError::AuditKey { .. }
        | CommandError::RiskState { .. }
        | CommandError::Trace(_)
        | CommandError::Revision(_)
        | CommandError::Service(_)
        | CommandError::Output(_) => Exit::Failed,
    }
}

/// The colour of help and usage messages, which are made before `--color` has been read in earnest.
fn help_color(arguments: &[OsString]) -> ColorChoice {
    let value = arguments.iter().enumerate().find_map(|(index, argument)| {
        let argument = argument.to_str()?;
        match argument.strip_prefix("--color=") {
            Some(value) => Some(value),
            None if argument == "--color" => arguments.get(index + 1)?.to_str(),
            None => None,
        }
    });
    match value {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        Some(_) | None => ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Each command, with the words that call it.
    fn commands(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let mut found = vec![(words.to_owned(), command.clone())];
        for inner in command.get_subcommands() {
            found.extend(commands(inner, &format!("{words} {}", inner.get_name())));
        }
        found
    }

    #[test]
    fn every_command_and_argument_is_explained_and_every_command_that_acts_has_an_example() {
        for (words, command) in commands(&Cli::command(), "picket") {
            assert!(command.get_about().is_some(), "{words}: no explanation");
            if !command.has_subcommands() {
                let examples = command
                    .get_after_long_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(examples.contains(&words), "{words}: no example");
            }
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{words} {}: not explained",
                    argument.get_id()
                );
            }
        }
    }
}
