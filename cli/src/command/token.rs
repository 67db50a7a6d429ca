//! `picket token`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use picket_core::jose::keys::Secret;
use picket_core::transaction_token::{self, TransactionClaims};
use serde::Serialize;
use serde_json::Value;

use super::CommandError;
use crate::exit::Exit;
use crate::keys::PrivateKey;
use crate::output::{Output, Paint, printable};
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

const INSPECT_ABOUT: &str = "\
Reads a transaction token, which a sidecar with `transaction_token` in its configuration puts into the header `txn-token`.

With the key's environment variable its signature is checked. It exits with 1 where the signature is not valid or the \
token has expired.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  PICKET_TRANSACTION_KEY=... picket token inspect --key-variable PICKET_TRANSACTION_KEY \"$TOKEN\"
  echo \"$TOKEN\" | picket token inspect - --output json | jq .claims";

/// Make and read tokens
#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a token and print it
    #[command(long_about = MINT_ABOUT, after_long_help = MINT_EXAMPLES)]
    Mint(MintArguments),
    /// Read a transaction token, and check it where its key is given
    #[command(long_about = INSPECT_ABOUT, after_long_help = INSPECT_EXAMPLES)]
    Inspect(InspectArguments),
}

#[derive(clap::Args)]
pub(super) struct InspectArguments {
    /// The token, or `-` for standard input
    token: String,
    /// The environment variable that holds the key of the sidecar's `transaction_token.key_variable`
    #[arg(long, value_name = "NAME")]
    key_variable: Option<String>,
}

const VALID: &str = "valid";

/// What `picket token inspect` found.
#[derive(Serialize)]
struct Inspection {
    claims: TransactionClaims,
    /// Absent: no key was given.
    signature: Option<&'static str>,
    is_expired: bool,
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
        Command::Inspect(arguments) => inspect(arguments, output),
    }
}

fn inspect(arguments: InspectArguments, output: Output) -> Result<Exit, CommandError> {
    let key = arguments.key_variable.as_deref().map(key_of_environment).transpose()?;
    let token = match arguments.token.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| CommandError::Usage(format!("cannot read standard input: {error}")))?,
        _ => arguments.token,
    };
    let inspected = transaction_token::inspect(token.trim(), key.as_ref())
        .map_err(|error| CommandError::Usage(format!("the token: {error}")))?;
    let inspection = Inspection {
        is_expired: u64::try_from(inspected.claims.exp).is_ok_and(|exp| clock::unix_seconds(clock::now()) >= exp),
        signature: inspected
            .is_signed
            .map(|is_signed| if is_signed { VALID } else { "invalid" }),
        claims: inspected.claims,
    };
    let is_good = inspected.is_signed != Some(false) && !inspection.is_expired;
    output.print(&text_of(&inspection, output), &inspection)?;
    Ok(if is_good { Exit::Done } else { Exit::MistakeFound })
}

fn key_of_environment(name: &str) -> Result<Secret, CommandError> {
    let text = std::env::var(name)
        .map_err(|_| CommandError::Usage(format!("the environment variable `{name}` is not set, or is no text")))?;
    transaction_token::read_key(&text)
        .map_err(|error| CommandError::Usage(format!("the environment variable `{name}`: {error}")))
}

fn text_of(inspection: &Inspection, output: Output) -> String {
    let claims = &inspection.claims;
    let signature = match inspection.signature {
        None => output.paint(Paint::Bad, "not checked: name its key by --key-variable"),
        Some(VALID) => output.paint(Paint::Good, VALID),
        Some(other) => output.paint(Paint::Bad, other),
    };
    let expiry = match inspection.is_expired {
        true => output.paint(Paint::Bad, "expired"),
        false => output.paint(Paint::Good, "not expired"),
    };
    let principal = claims.tctx.as_ref();
    let made = format!("at {}, ends at {}, in seconds since the epoch", claims.iat, claims.exp);
    let rows: [(&str, Option<String>); 11] = [
        ("made", Some(made)),
        ("from", Some(claims.iss.clone())),
        ("for", Some(claims.aud.clone())),
        ("request", Some(claims.txn.clone())),
        ("subject", claims.sub.clone()),
        ("issuer", principal.map(|principal| principal.issuer.clone())),
        ("tenant", principal.and_then(|principal| principal.tenant.clone())),
        ("roles", principal.map(|principal| principal.roles.join(" "))),
        ("scopes", principal.map(|principal| principal.scopes.join(" "))),
        ("peer", claims.req_wl.clone()),
        ("decided by", Some(decided_by(claims))),
    ];
    let mut text = format!("{:<11} {signature}\n{:<11} {expiry}\n", "signature", "expiry");
    for (name, value) in rows {
        // Text from a token is not the terminal's to obey.
        let value = value.as_deref().map_or("-".to_owned(), printable);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11} {value}");
    }
    text
}

fn decided_by(claims: &TransactionClaims) -> String {
    match &claims.rctx.decision_id {
        Some(id) => format!("decision {id}, route rule {}", claims.rctx.route_rule),
        None => format!("route rule {}", claims.rctx.route_rule),
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
