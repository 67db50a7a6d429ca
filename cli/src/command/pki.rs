//! `picket pki`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use picket_model::spiffe::TrustDomain;

use super::CommandError;
use crate::exit::Exit;
use crate::files::Existing;
use crate::output::{Output, Paint};
use crate::{clock, duration, pki};

const INIT_ABOUT: &str = "\
Makes a development PKI: a certificate authority, a certificate for each workload, token signing keys and the audit \
log's key.

It writes into DIRECTORY:
  ca.pem, ca-key.pem                        the authority (ECDSA P-256)
  <workload>.pem, <workload>-key.pem        an X.509-SVID, spiffe://<trust domain>/<workload>
  token-rs256-key.pem, token-es256-key.pem  token signing keys
  jwks.json                                 their public halves
  audit-key                                 the key that seals the audit log

The certificates are valid for localhost. Private files have mode 0600. A file that exists is not overwritten without --force, and then nothing is written.

These keys are for development only: every certificate says \"Picket development only\" in its issuer, and a server can \
refuse it by that.";

const INIT_EXAMPLES: &str = "\
Examples:
  picket pki init keys --trust-domain example.org --workload web --workload orders
  picket pki init keys --trust-domain example.org --workload web --valid-for 7d --force
  picket pki init keys --trust-domain example.org --workload web --output json | jq -r .ca_file";

/// Make keys and certificates for development
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a development authority, certificates for workloads, token keys and the audit log's key
    #[command(long_about = INIT_ABOUT, after_long_help = INIT_EXAMPLES)]
    Init(InitArguments),
}

#[derive(clap::Args)]
pub(super) struct InitArguments {
    /// The folder to write into; it is created where it does not exist
    directory: PathBuf,
    /// The trust domain of every SPIFFE ID, such as `example.org`
    #[arg(long, value_name = "NAME")]
    trust_domain: TrustDomain,
    /// A workload to make a certificate for; give it once for each
    #[arg(long = "workload", value_name = "NAME", required = true)]
    workloads: Vec<String>,
    /// How long the certificates are valid
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "90d")]
    valid_for: Duration,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Init(arguments) => init(arguments, output),
    }
}

fn init(arguments: InitArguments, output: Output) -> Result<Exit, CommandError> {
    let existing = if arguments.force {
        Existing::Replace
    } else {
        Existing::Keep
    };
    let options = pki::PkiOptions {
        trust_domain: arguments.trust_domain,
        workloads: arguments.workloads,
        valid_for: arguments.valid_for,
        existing,
    };
    let made = pki::create(&arguments.directory, &options, clock::now())?;
    output.print(&text(&made, output), &made)?;
    Ok(Exit::Done)
}

fn text(made: &pki::Pki, output: Output) -> String {
    let [rs256, es256] = &made.token_key_files;
    let mut rows = vec![(&made.ca_file, "development authority".to_owned())];
    for workload in &made.workloads {
        rows.push((&workload.certificate_file, workload.spiffe_id.clone()));
    }
    rows.extend([
        (rs256, "token signing key, RS256".to_owned()),
        (es256, "token signing key, ES256".to_owned()),
        (&made.jwks_file, "public token keys".to_owned()),
        (&made.audit_key_file, "audit log key".to_owned()),
    ]);
    let width = rows
        .iter()
        .map(|(path, _)| path.display().to_string().chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (path, meaning) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {}",
            path.display().to_string(),
            output.paint(Paint::Dim, &meaning)
        );
    }
    text
}
