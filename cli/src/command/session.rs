//! `picket session`, `picket revoke`, `picket lockdown` and `picket whoami`: what operators do with a running policy service.

use std::fmt::Write as _;

use clap::Subcommand;
use picket_proto::v1;
use serde::Serialize;

use super::CommandError;
use super::listing::OfPrincipals;
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};
use crate::service::{ServiceArguments, ask};
use crate::time_text;

const LIST_EXAMPLES: &str = "\
Examples:
  picket session list --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket session list ... --tenant acme --output json | jq '.sessions[] | select(.status == \"live\")'
  picket session list ... --issuer https://issuer.example --subject alice";

const SHOW_EXAMPLES: &str = "\
Examples:
  picket session show ID --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const REVOKE_SESSION_EXAMPLES: &str = "\
Examples:
  picket session revoke ID \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const PRINCIPAL_EXAMPLES: &str = "\
Examples:
  picket revoke principal --issuer https://issuer.example --subject alice \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const TENANT_EXAMPLES: &str = "\
Examples:
  picket revoke tenant acme \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const EVERYTHING_EXAMPLES: &str = "\
Examples:
  picket revoke everything \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const LOCKDOWN_EXAMPLES: &str = "\
Examples:
  picket lockdown on --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket lockdown off ...
  picket lockdown show ...";

const WHOAMI_EXAMPLES: &str = "\
Examples:
  picket whoami --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

/// Look at sessions, and end them
#[derive(Subcommand)]
pub(super) enum Command {
    /// List sessions, those that are over included
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show one session
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(OneArguments),
    /// End one session for good
    #[command(after_long_help = REVOKE_SESSION_EXAMPLES)]
    Revoke(OneArguments),
}

/// Revoke what was issued up to now: tokens, and the sessions that were begun
///
/// What is issued within the service's `sessions.clock_skew_s` afterwards is refused too.
#[derive(Subcommand)]
pub(super) enum RevokeCommand {
    /// Revoke the tokens and sessions of one principal
    #[command(after_long_help = PRINCIPAL_EXAMPLES)]
    Principal(PrincipalArguments),
    /// Revoke the tokens and sessions of all principals of a tenant
    #[command(after_long_help = TENANT_EXAMPLES)]
    Tenant(TenantArguments),
    /// Revoke the tokens and sessions of everybody
    #[command(after_long_help = EVERYTHING_EXAMPLES)]
    Everything(EverythingArguments),
}

/// Refuse every request, or take that back
#[derive(Subcommand)]
pub(super) enum LockdownCommand {
    /// Refuse every request from now on
    #[command(after_long_help = LOCKDOWN_EXAMPLES)]
    On(EverythingArguments),
    /// Decide about requests again; what was revoked stays revoked
    #[command(after_long_help = LOCKDOWN_EXAMPLES)]
    Off(EverythingArguments),
    /// Say whether every request is refused
    #[command(after_long_help = LOCKDOWN_EXAMPLES)]
    Show(EverythingArguments),
}

#[derive(clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    which: OfPrincipals,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct OneArguments {
    /// The session's id, 64 hexadecimal digits
    id: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct PrincipalArguments {
    /// The issuer of the principal's tokens
    #[arg(long)]
    issuer: String,
    /// The principal, as its tokens' `sub`
    #[arg(long)]
    subject: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct TenantArguments {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct EverythingArguments {
    #[command(flatten)]
    service: ServiceArguments,
}

/// Say who the caller is to the policy service
#[derive(clap::Args)]
#[command(after_long_help = WHOAMI_EXAMPLES)]
pub(super) struct WhoAmIArguments {
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Serialize)]
struct SessionAnswer {
    id: String,
    status: &'static str,
    issuer: String,
    subject: String,
    tenant: Option<String>,
    named_by: String,
    name: String,
    first_seen: String,
    last_seen: String,
    ended: Option<String>,
    ended_by: Option<String>,
}

#[derive(Serialize)]
struct ListAnswer {
    sessions: Vec<SessionAnswer>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Changed {
    changed: bool,
}

#[derive(Serialize)]
struct LockdownAnswer {
    lockdown: bool,
    since: Option<String>,
    by: Option<String>,
}

#[derive(Serialize)]
struct WhoAmI {
    spiffe_id: String,
    roles: Vec<String>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::List(arguments) => list(arguments, output),
        Command::Show(arguments) => {
            let request = v1::ShowSessionRequest { id: arguments.id };
            let session = ask(&arguments.service, async |client| client.show_session(request).await)?;
            let session = answer(session.into_inner());
            output.print(&whole(&session, output), &session)?;
            Ok(Exit::Done)
        }
        Command::Revoke(arguments) => {
            let request = v1::RevokeSessionRequest { id: arguments.id };
            let done = ask(&arguments.service, async |client| client.revoke_session(request).await)?;
            said(done.into_inner().changed, "revoked", "it had ended before", output)
        }
    }
}

pub(super) fn revoke(command: RevokeCommand, output: Output) -> Result<Exit, CommandError> {
    let done = match command {
        RevokeCommand::Principal(arguments) => {
            let (issuer, subject) = (arguments.issuer, arguments.subject);
            let request = v1::RevokePrincipalRequest { issuer, subject };
            ask(&arguments.service, async |client| {
                client.revoke_principal(request).await
            })?
        }
        RevokeCommand::Tenant(arguments) => {
            let request = v1::RevokeTenantRequest {
                tenant: arguments.tenant,
            };
            ask(&arguments.service, async |client| client.revoke_tenant(request).await)?
        }
        RevokeCommand::Everything(arguments) => {
            let request = v1::RevokeEverythingRequest {};
            ask(&arguments.service, async |client| {
                client.revoke_everything(request).await
            })?
        }
    };
    said(done.into_inner().changed, "revoked", "it was so before", output)
}

pub(super) fn lockdown(command: LockdownCommand, output: Output) -> Result<Exit, CommandError> {
    let (arguments, mode, done) = match command {
        LockdownCommand::On(arguments) => (arguments, v1::LockdownMode::On, "every request is refused"),
        LockdownCommand::Off(arguments) => (arguments, v1::LockdownMode::Off, "requests are decided about again"),
        LockdownCommand::Show(arguments) => return show_lockdown(&arguments, output),
    };
    let request = v1::SetLockdownRequest { mode: mode.into() };
    let changed = ask(&arguments.service, async |client| client.set_lockdown(request).await)?;
    said(changed.into_inner().changed, done, "it was so before", output)
}

fn show_lockdown(arguments: &EverythingArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::ShowLockdownRequest {};
    let found = ask(&arguments.service, async |client| client.show_lockdown(request).await)?.into_inner();
    let answer = LockdownAnswer {
        lockdown: found.is_on,
        since: found.is_on.then(|| time_text::of_us(found.at_us)),
        by: found.is_on.then_some(found.caller),
    };
    let text = match (&answer.since, &answer.by) {
        (Some(since), Some(by)) => {
            let on = output.paint(Paint::Bad, "every request is refused");
            format!("{on} since {since}, by {}\n", printable(by))
        }
        (_, _) => format!("{}\n", output.paint(Paint::Good, "no lockdown")),
    };
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

pub(super) fn who_am_i(arguments: &WhoAmIArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::WhoAmIRequest {};
    let found = ask(&arguments.service, async |client| client.who_am_i(request).await)?.into_inner();
    let answer = WhoAmI {
        spiffe_id: found.spiffe_id,
        roles: found.roles,
    };
    let text = format!(
        "{}  {}\n",
        printable(&answer.spiffe_id),
        printable(&answer.roles.join(", "))
    );
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

fn list(arguments: ListArguments, output: Output) -> Result<Exit, CommandError> {
    let which = arguments.which;
    let request = v1::ListSessionsRequest {
        issuer: which.issuer.unwrap_or_default(),
        subject: which.subject.unwrap_or_default(),
        tenant: which.tenant.unwrap_or_default(),
        after: which.after.unwrap_or_default(),
        count_max: which.page.count_max,
    };
    let page = ask(&arguments.service, async |client| client.list_sessions(request).await)?.into_inner();
    let answer = ListAnswer {
        sessions: page.sessions.into_iter().map(answer).collect(),
        next: Some(page.next).filter(|next| !next.is_empty()),
    };
    let mut text: String = answer.sessions.iter().map(|session| line(session, output)).collect();
    if let Some(next) = &answer.next {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} --after {next}", output.paint(Paint::Dim, "more:"));
    }
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

fn said(changed: bool, done: &str, before: &str, output: Output) -> Result<Exit, CommandError> {
    let text = if changed {
        output.paint(Paint::Good, done)
    } else {
        format!("unchanged: {before}")
    };
    output.print(&format!("{text}\n"), &Changed { changed })?;
    Ok(Exit::Done)
}

fn answer(session: v1::Session) -> SessionAnswer {
    let status = match session.status() {
        v1::SessionStatus::Unspecified => "unknown",
        v1::SessionStatus::Live => "live",
        v1::SessionStatus::IdleTimeout => "idle_timeout",
        v1::SessionStatus::AbsoluteTimeout => "absolute_timeout",
        v1::SessionStatus::Superseded => "superseded",
        v1::SessionStatus::Compromised => "compromised",
        v1::SessionStatus::Revoked => "revoked",
    };
    let optional = |text: String| Some(text).filter(|text| !text.is_empty());
    SessionAnswer {
        id: session.id,
        status,
        issuer: session.issuer,
        subject: session.subject,
        tenant: optional(session.tenant),
        named_by: session.named_by,
        name: session.name,
        first_seen: time_text::of_us(session.first_seen_us),
        last_seen: time_text::of_us(session.last_seen_us),
        ended: session.ended_us.map(time_text::of_us),
        ended_by: optional(session.ended_by),
    }
}

fn status(session: &SessionAnswer, output: Output) -> String {
    let paint = if session.status == "live" {
        Paint::Good
    } else {
        Paint::Bad
    };
    output.paint(paint, &format!("{:<16}", session.status))
}

/// One session on one line.
fn line(session: &SessionAnswer, output: Output) -> String {
    format!(
        "{}  {}  {}  {}\n",
        printable(&session.id),
        status(session, output),
        session.last_seen,
        printable(&session.subject)
    )
}

fn whole(session: &SessionAnswer, output: Output) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("id", Some(&session.id)),
        ("issuer", Some(&session.issuer)),
        ("subject", Some(&session.subject)),
        ("tenant", session.tenant.as_ref()),
        (session.named_by.as_str(), Some(&session.name)),
        ("first seen", Some(&session.first_seen)),
        ("last seen", Some(&session.last_seen)),
        ("ended", session.ended.as_ref()),
        ("ended by", session.ended_by.as_ref()),
    ] {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<11}{}", printable(name), printable(value));
        }
    }
    let _ = writeln!(text, "{:<11}{}", "status", status(session, output).trim_end());
    text
}
