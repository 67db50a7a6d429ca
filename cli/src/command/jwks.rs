//! `picket jwks`.

use std::path::PathBuf;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::keys::{PublicJwkSet, PublicKey};
use crate::output::Output;

const ABOUT: &str = "\
Prints the public halves of keys as a JSON Web Key Set, as it is put into the filter's `providers[].keys`.

A key may be private or public (PEM, RSA of 2048 bits or more, or P-256). Nothing private is printed. Each key's `kid` \
is its RFC 7638 thumbprint.";

const EXAMPLES: &str = "\
Examples:
  picket jwks keys/token-rs256-key.pem keys/token-es256-key.pem > jwks.json
  picket jwks issuer-public.pem | jq -r '.keys[].kid'";

/// Print the public halves of keys as a JSON Web Key Set
#[derive(clap::Args)]
#[command(long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The keys, in PEM
    #[arg(value_name = "KEY.pem", required = true)]
    keys: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let mut keys = Vec::new();
    for file in &arguments.keys {
        let pem = files::read_text(file)?;
        keys.push(PublicKey::from_pem(&pem).map_err(|source| CommandError::Key {
            file: file.display().to_string(),
            source,
        })?);
    }
    let set: PublicJwkSet = keys.into_iter().collect();
    output.print(&set.to_string(), &set)?;
    Ok(Exit::Done)
}
