//! `picket token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::CommandError;
use crate::exit::Exit;
use crate::keys::PrivateKey;
use crate::output::Output;
use crate::{clock, duration, files, token};

const MINT_ABOUT: &str = "\
Signs a JSON Web Token and prints it.

The algorithm follows from the key: RS256 for RSA, ES256 for P-256. The key id (`kid`) is the key's RFC 7638 \
thumbprint, as in the set that `picket jwks` prints. The claims iss, sub, aud, iat, nbf, exp and jti are always set.

The token is a credential: with it, anybody is the subject until it expires.";

const MINT_EXAMPLES: &str = "\
Examples:
  TOKEN=$(picket token mint --key keys/token-es256-key.pem --issuer https://issuer.example \\
            --subject alice --audience orders --claim roles='[\"reader\"]' --claim tenant=acme)
  curl -H \"authorization: Bearer $TOKEN\" ...

  A token that expired 55 minutes ago:
  picket token mint --key keys/token-rs256-key.pem --issuer https://issuer.example --subject alice \\
            --audience orders --issued-ago 1h --expires-in 5m

  What is in it:
  picket token mint ... --output json | jq .claims";

/// Make tokens for development and tests
#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a token and print it
    #[command(long_about = MINT_ABOUT, after_long_help = MINT_EXAMPLES)]
    Mint(MintArguments),
}

#[derive(clap::Args)]
pub(super) struct MintArguments {
    /// The private key to sign with (PEM; RSA of 2048 bits or more, or P-256)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Who issued it (`iss`)
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Whom it is about (`sub`)
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// Whom it is for (`aud`); give it once for each
    #[arg(long = "audience", value_name = "NAME", required = true)]
    audiences: Vec<String>,
    /// How long after its issue it expires (`exp`)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5m")]
    expires_in: Duration,
    /// How long after its issue it begins to be valid (`nbf`)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "0s")]
    not_before: Duration,
    /// How long ago it was issued (`iat`), to see what an aged or expired token does
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "0s")]
    issued_ago: Duration,
    /// A further claim; the value is read as JSON, and is a string where it is not JSON. It replaces a claim above of
    /// the same name
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Mint(arguments) => mint(arguments, output),
    }
}

fn mint(arguments: MintArguments, output: Output) -> Result<Exit, CommandError> {
    let pem = files::read_text(&arguments.key)?;
    let key = PrivateKey::from_pem(&pem).map_err(|source| CommandError::Key {
        file: arguments.key.display().to_string(),
        source,
    })?;
    let options = token::TokenOptions {
        issuer: arguments.issuer,
        subject: arguments.subject,
        audiences: arguments.audiences,
        expires_in: arguments.expires_in,
        not_before: arguments.not_before,
        issued_ago: arguments.issued_ago,
        claims: arguments.claims.into_iter().collect(),
    };
    let minted = token::mint(&key, &options, clock::now())?;
    output.print(&format!("{}\n", minted.token), &minted)?;
    Ok(Exit::Done)
}

fn claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.to_owned(), value))
        }
        Some(_) | None => Err("expected NAME=VALUE, such as `tenant=acme` or `roles=[\"reader\"]`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_json_where_it_can_be_and_else_a_string() {
        assert_eq!(claim(r#"roles=["a"]"#), Ok(("roles".to_owned(), json!(["a"]))));
        assert_eq!(claim("level=3"), Ok(("level".to_owned(), json!(3))));
        assert_eq!(claim("tenant=acme"), Ok(("tenant".to_owned(), json!("acme"))));
        assert_eq!(claim("level=\"3\""), Ok(("level".to_owned(), json!("3"))));
        assert_eq!(claim("formula=a=b"), Ok(("formula".to_owned(), json!("a=b"))));
        assert_eq!(claim("empty="), Ok(("empty".to_owned(), json!(""))));
        assert!(claim("tenant").is_err());
        assert!(claim("=acme").is_err());
    }
}
