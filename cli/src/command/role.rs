//! `picket role`: roles that operators assign to principals of a running policy service.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use picket_proto::v1;
use serde::Serialize;

use super::CommandError;
use super::listing::Page;
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};
use crate::service::{ServiceArguments, ask_roles};
use crate::{clock, duration, time_text};

const ABOUT: &str = "\
Assigns a role to a principal, besides those of its tokens. It holds until it is withdrawn, or for a time.

With --tenant it counts only where the principal's token says this tenant. Assigning the same role again gives it another end. The \
service's configuration needs `roles.source = \"token_and_store\"`, and the caller the role `operator`.

Sidecars repeat what was decided before until its validity is over, but never longer than to the end of an assigned role.";

const ASSIGN_EXAMPLES: &str = "\
Examples:
  picket role assign reader --issuer https://issuer.example --subject alice \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket role assign on-call --issuer https://issuer.example --subject alice --tenant acme \\
      --for 8h ...";

const WITHDRAW_EXAMPLES: &str = "\
Examples:
  picket role withdraw reader --issuer https://issuer.example --subject alice \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const LIST_EXAMPLES: &str = "\
Examples:
  picket role list --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket role list ... --role auditor --output json | jq '.assignments[].subject'";

/// Assign roles to principals, and withdraw them
#[derive(Subcommand)]
pub(super) enum Command {
    /// Assign a role to a principal
    #[command(long_about = ABOUT, after_long_help = ASSIGN_EXAMPLES)]
    Assign(AssignArguments),
    /// Withdraw a role that was assigned
    #[command(after_long_help = WITHDRAW_EXAMPLES)]
    Withdraw(WithdrawArguments),
    /// List the roles that were assigned
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListArguments),
}

#[derive(clap::Args)]
struct KeyArguments {
    /// The role, as policies name it
    role: String,
    /// The issuer of the principal's tokens
    #[arg(long)]
    issuer: String,
    /// The principal, as its tokens' `sub`
    #[arg(long)]
    subject: String,
    /// Only where the principal's token says this tenant
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct AssignArguments {
    #[command(flatten)]
    key: KeyArguments,
    /// For how long, such as `8h` or `30d`; without it until it is withdrawn
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct WithdrawArguments {
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct ListArguments {
    /// Only those of principals of this issuer
    #[arg(long)]
    issuer: Option<String>,
    /// Only those of principals of this name
    #[arg(long)]
    subject: Option<String>,
    /// Only those of this role
    #[arg(long)]
    role: Option<String>,
    /// Only those for this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Begin after this one: the `next` of the page before
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Serialize)]
struct Changed {
    changed: bool,
}

#[derive(Serialize)]
struct AssignmentAnswer {
    issuer: String,
    subject: String,
    role: String,
    tenant: Option<String>,
    until: Option<String>,
    has_ended: bool,
    by: String,
    at: String,
}

#[derive(Serialize)]
struct ListAnswer {
    assignments: Vec<AssignmentAnswer>,
    next: Option<u64>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Assign(arguments) => assign(arguments, clock::now(), output),
        Command::Withdraw(arguments) => {
            let key = arguments.key;
            let request = v1::WithdrawRoleRequest {
                issuer: key.issuer,
                subject: key.subject,
                role: key.role,
                tenant: key.tenant.unwrap_or_default(),
            };
            let done = ask_roles(&arguments.service, async |client| client.withdraw_role(request).await)?;
            said(done.into_inner().changed, "withdrawn", "it was not assigned", output)
        }
        Command::List(arguments) => list(arguments, clock::now(), output),
    }
}

fn assign(arguments: AssignArguments, now: SystemTime, output: Output) -> Result<Exit, CommandError> {
    let key = arguments.key;
    let request = v1::AssignRoleRequest {
        issuer: key.issuer,
        subject: key.subject,
        role: key.role,
        tenant: key.tenant.unwrap_or_default(),
        until_us: arguments.duration.map(|duration| us_of(now + duration)),
    };
    let done = ask_roles(&arguments.service, async |client| client.assign_role(request).await)?;
    said(done.into_inner().changed, "assigned", "it was assigned before", output)
}

fn list(arguments: ListArguments, now: SystemTime, output: Output) -> Result<Exit, CommandError> {
    let request = v1::ListRolesRequest {
        issuer: arguments.issuer.unwrap_or_default(),
        subject: arguments.subject.unwrap_or_default(),
        role: arguments.role.unwrap_or_default(),
        tenant: arguments.tenant.unwrap_or_default(),
        after: arguments.after,
        count_max: arguments.page.count_max,
    };
    let page = ask_roles(&arguments.service, async |client| client.list_roles(request).await)?.into_inner();
    let now_us = us_of(now);
    let assignment = |assignment: v1::RoleAssignment| AssignmentAnswer {
        issuer: assignment.issuer,
        subject: assignment.subject,
        role: assignment.role,
        tenant: Some(assignment.tenant).filter(|tenant| !tenant.is_empty()),
        until: assignment.until_us.map(time_text::of_us),
        has_ended: assignment.until_us.is_some_and(|until_us| until_us <= now_us),
        by: assignment.author,
        at: time_text::of_us(assignment.at_us),
    };
    let answer = ListAnswer {
        assignments: page.assignments.into_iter().map(assignment).collect(),
        next: Some(page.next).filter(|next| *next > 0),
    };
    let mut text: String = answer.assignments.iter().map(|one| line(one, output)).collect();
    if let Some(next) = answer.next {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} --after {next}", output.paint(Paint::Dim, "more:"));
    }
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

fn line(assignment: &AssignmentAnswer, output: Output) -> String {
    let tenant = assignment.tenant.as_deref();
    let tenant = tenant
        .map(|tenant| format!(" in {}", printable(tenant)))
        .unwrap_or_default();
    let end = match (&assignment.until, assignment.has_ended) {
        (None, _) => String::new(),
        (Some(until), false) => format!("  until {until}"),
        (Some(until), true) => format!("  {}", output.paint(Paint::Bad, &format!("ended {until}"))),
    };
    format!(
        "{}|{}  {}{tenant}{end}  by {}\n",
        printable(&assignment.issuer),
        printable(&assignment.subject),
        printable(&assignment.role),
        printable(&assignment.by)
    )
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

fn us_of(time: SystemTime) -> i64 {
    i64::try_from(clock::unix_seconds(time)).map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000_000))
}
