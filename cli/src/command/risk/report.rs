//! `picket risk report-authentication` and `picket risk report-dynamics`.

use std::net::IpAddr;

use clap::ValueEnum;
use picket_proto::v1;
use picket_proto::v1::dynamics_report::Session;
use picket_proto::v1::risk_admin_client::RiskAdminClient;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::CommandError;
use crate::exit::Exit;
use crate::output::{Output, Paint};
use crate::service::{ServiceArguments, ask_over};

const NS_PER_US: i128 = 1000;

pub(super) const AUTHENTICATION_ABOUT: &str = "\
Tells a running policy service how an authentication elsewhere ended, such as one at the identity provider.

Failures within `risk.authentication.window_s` are the signal `failed_authentications` where there are `failures_min` of them. What \
was told is recorded in the audit log. The certificate needs the role `reporter`. Several services learn each for itself: tell each.";

pub(super) const AUTHENTICATION_EXAMPLES: &str = "\
Examples:
  picket risk report-authentication --issuer https://issuer.example alice --outcome failed \\
      --source-address 203.0.113.7 \\
      --ca keys/ca.pem --certificate keys/reporter.pem --key keys/reporter-key.pem
  picket risk report-authentication ... alice --outcome succeeded --time 2026-01-05T12:00:00Z";

pub(super) const DYNAMICS_ABOUT: &str = "\
Tells a running policy service how the client of a session is handled, as the client measures it itself.

Each measure is a number from 0 to 1,000,000, in a unit that stays the same for the principal, with whose own it is compared. The \
answer is the anomaly score (`[risk.dynamics]`). What was told is recorded in the audit log. The certificate needs the role `reporter`.

It exits with 0 where the service knows the principal, and with 1 where it does not, or does not look at dynamics.";

pub(super) const DYNAMICS_EXAMPLES: &str = "\
Examples:
  picket risk report-dynamics --issuer https://issuer.example alice --session-id 4f9c \\
      --mouse-velocity 840 --keystroke-variance 0.21 \\
      --ca keys/ca.pem --certificate keys/reporter.pem --key keys/reporter-key.pem";

#[derive(clap::Args)]
pub(in crate::command) struct AuthenticationArguments {
    /// The issuer of the principal's tokens
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
    /// The subject of the principal's tokens
    subject: String,
    /// How it ended
    #[arg(long, value_enum, value_name = "OUTCOME")]
    outcome: Outcome,
    /// When, by RFC 3339, at most a day ago; now where it is not given
    #[arg(long, value_name = "TIME", value_parser = unix_us)]
    time: Option<i64>,
    /// Where it came from
    #[arg(long, value_name = "ADDRESS")]
    source_address: Option<IpAddr>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Outcome {
    /// The party was not taken for the principal
    Failed,
    /// It was
    Succeeded,
}

#[derive(clap::Args)]
pub(in crate::command) struct DynamicsArguments {
    /// The issuer of the principal's tokens
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
    /// The subject of the principal's tokens
    subject: String,
    /// The session: its tokens' `sid`
    #[arg(
        long,
        value_name = "SID",
        required_unless_present = "token_id",
        conflicts_with = "token_id"
    )]
    session_id: Option<String>,
    /// The `jti` of a token without a session
    #[arg(long, value_name = "JTI")]
    token_id: Option<String>,
    /// How fast the mouse moves
    #[arg(long, value_name = "NUMBER")]
    mouse_velocity: Option<f64>,
    /// The variance of the intervals between keystrokes
    #[arg(long, value_name = "NUMBER")]
    keystroke_variance: Option<f64>,
    /// How hard the screen is touched
    #[arg(long, value_name = "NUMBER")]
    touch_pressure: Option<f64>,
    /// How large the touches are
    #[arg(long, value_name = "NUMBER")]
    touch_area: Option<f64>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Serialize)]
struct AuthenticationAnswer {
    /// What became of the report.
    noted: &'static str,
}

#[derive(Serialize)]
struct DynamicsAnswer {
    /// `None`: nothing is known of the principal, or dynamics are not looked at.
    anomaly_score: Option<u32>,
}

pub(super) fn authentication(arguments: AuthenticationArguments, output: Output) -> Result<Exit, CommandError> {
    let outcome = match arguments.outcome {
        Outcome::Failed => v1::AuthenticationOutcome::Failed,
        Outcome::Succeeded => v1::AuthenticationOutcome::Succeeded,
    };
    let report = v1::AuthenticationReport {
        issuer: arguments.issuer,
        subject: arguments.subject,
        outcome: outcome.into(),
        time_us: arguments.time.unwrap_or_default(),
        source_address: arguments
            .source_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
    };
    let request = v1::ReportAuthenticationRequest { reports: vec![report] };
    let found = ask_over(&arguments.service, async |channel| {
        RiskAdminClient::new(channel).report_authentication(request).await
    })?;
    let found = found.into_inner();
    let (noted, text) = match (found.remembered, found.kept_aside) {
        (0, 0) => ("dropped", "dropped: nothing is known of the principal".to_owned()),
        (0, _) => (
            "kept_aside",
            "kept aside, until the principal's first request".to_owned(),
        ),
        (_, _) => ("remembered", output.paint(Paint::Good, "remembered")),
    };
    output.print(&format!("{text}\n"), &AuthenticationAnswer { noted })?;
    Ok(Exit::Done)
}

pub(super) fn dynamics(arguments: DynamicsArguments, output: Output) -> Result<Exit, CommandError> {
    let session = match (arguments.session_id, arguments.token_id) {
        (Some(id), _) => Some(Session::SessionId(id)),
        (None, id) => id.map(Session::TokenId),
    };
    let report = v1::DynamicsReport {
        issuer: arguments.issuer,
        subject: arguments.subject,
        session,
        mouse_velocity: arguments.mouse_velocity,
        keystroke_variance: arguments.keystroke_variance,
        touch_pressure: arguments.touch_pressure,
        touch_area: arguments.touch_area,
    };
    let request = v1::ReportDynamicsRequest { reports: vec![report] };
    let found = ask_over(&arguments.service, async |channel| {
        RiskAdminClient::new(channel).report_dynamics(request).await
    })?;
    let anomaly_score = found
        .into_inner()
        .results
        .first()
        .and_then(|result| result.anomaly_score);
    let (text, exit) = match anomaly_score {
        Some(score) => (format!("anomaly score {score}\n"), Exit::Done),
        None => ("nothing is known of the principal\n".to_owned(), Exit::MistakeFound),
    };
    output.print(&text, &DynamicsAnswer { anomaly_score })?;
    Ok(exit)
}

fn unix_us(text: &str) -> Result<i64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a time such as `2026-01-05T12:00:00Z`".to_owned())?;
    i64::try_from(time.unix_timestamp_nanos() / NS_PER_US).map_err(|_| "no calendar has this time".to_owned())
}
