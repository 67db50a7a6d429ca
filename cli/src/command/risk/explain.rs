//! `picket risk explain`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use picket_model::access::principal_name;
use picket_proto::v1;
use picket_proto::v1::risk_admin_client::RiskAdminClient;
use picket_risk::{AssessmentPeriod, Baseline, Factor, PrincipalKey, StateError};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::CommandError;
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};
use crate::service::{OptionalServiceArguments, ServiceArguments, ask_over};

/// An hour with a smaller share is not worth a word.
const SHARE_SHOWN_MIN: f64 = 0.005;

pub(super) const ABOUT: &str = "\
Shows what the policy service has learnt about one principal, and how its requests were scored.

It asks a running service, whose role `reader` it needs, or reads the file that `risk.state_file` names, which the service \
writes every `risk.save_interval_s` and when it stops. Several services learn each for itself. What is learnt holds digests in \
place of names, so the principal has to be given as the service knows it: by the issuer and the subject of its tokens, or a \
workload without a token by its SPIFFE ID.

The score is that of the last request, with the factors that its level asks for. Why each signal was there is in the \
audit record of each decision, in words and figures: `picket audit tail --output json`.

It exits with 0 where the principal is remembered, with 1 where it is not, and with 3 where the service cannot be asked, or the \
file cannot be read or is damaged.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket risk explain --state-file risk.state --issuer https://issuer.example alice
  picket risk explain --state-file risk.state --workload spiffe://example.org/web --output json \\
      | jq .history
  picket risk explain --issuer https://issuer.example alice \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The file that `risk.state_file` names, where no service is asked
    #[arg(long, value_name = "FILE", required_unless_present = "ca")]
    #[arg(conflicts_with_all = ["address", "ca", "certificate", "key", "server_name"])]
    state_file: Option<PathBuf>,
    /// The issuer of the principal's tokens
    #[arg(long, value_name = "ISSUER", requires = "subject")]
    issuer: Option<String>,
    /// The subject of the principal's tokens
    #[arg(value_name = "SUBJECT", requires = "issuer", required_unless_present = "workload")]
    subject: Option<String>,
    /// A workload, by its SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID", conflicts_with_all = ["issuer", "subject"])]
    workload: Option<String>,
    #[command(flatten)]
    service: OptionalServiceArguments,
}

#[derive(Serialize)]
struct Answer {
    principal: String,
    /// Whether anything is remembered about it; nothing below is there where not.
    remembered: bool,
    #[serde(flatten)]
    learnt: Option<Learnt>,
}

#[derive(Serialize)]
struct Learnt {
    score: Option<u32>,
    level: Option<String>,
    factors: Vec<String>,
    signals: Vec<String>,
    permitted_requests: u32,
    usual_rate: f64,
    usual_rate_deviation: f64,
    /// The share of each hour of the day, UTC, 0 to 1.
    hours: Vec<f64>,
    locations: Vec<Seen>,
    devices: Vec<Seen>,
    /// The latest first.
    history: Vec<Spell>,
}

#[derive(Serialize)]
struct Seen {
    name: String,
    /// `None`: the principal's own from the start.
    first_seen: Option<String>,
    last_seen: String,
}

/// Requests in a row that were scored alike.
#[derive(Serialize)]
struct Spell {
    from: String,
    to: String,
    requests: u32,
    score: u32,
    level: String,
    signals: Vec<String>,
}

pub(super) fn run(arguments: Arguments, output: Output) -> Result<Exit, CommandError> {
    let (principal, key, question) = match (arguments.workload, arguments.issuer, arguments.subject) {
        (Some(workload), _, _) => {
            let key = PrincipalKey::of_workload(&workload);
            (
                workload.clone(),
                key,
                v1::ExplainRiskRequest {
                    workload,
                    ..Default::default()
                },
            )
        }
        (None, Some(issuer), Some(subject)) => {
            let key = PrincipalKey::of_user(&issuer, &subject);
            let workload = String::new();
            (
                principal_name(&issuer, &subject),
                key,
                v1::ExplainRiskRequest {
                    issuer,
                    subject,
                    workload,
                },
            )
        }
        // The grammar of the command line leaves none of these.
        (None, _, _) => {
            return Err(CommandError::Usage(
                "expected --issuer and SUBJECT, or --workload".into(),
            ));
        }
    };
    let learnt = match arguments.service.given() {
        Some(service) => asked(&service, question)?,
        None => saved(arguments.state_file.as_deref().unwrap_or(Path::new("")), key)?,
    };
    let answer = Answer {
        principal,
        remembered: learnt.is_some(),
        learnt,
    };
    output.print(&text_of(&answer, output), &answer)?;
    Ok(match answer.remembered {
        true => Exit::Done,
        false => Exit::MistakeFound,
    })
}

/// What a running service says.
fn asked(service: &ServiceArguments, question: v1::ExplainRiskRequest) -> Result<Option<Learnt>, CommandError> {
    let found = ask_over(service, async |channel| {
        RiskAdminClient::new(channel).explain_risk(question).await
    })?;
    let found = found.into_inner();
    Ok(found.remembered.then(|| Learnt::told(found)))
}

/// What the file of a service says.
fn saved(file: &Path, key: PrincipalKey) -> Result<Option<Learnt>, CommandError> {
    let found = read(file, key).map_err(|source| CommandError::RiskState {
        file: file.display().to_string(),
        source,
    })?;
    Ok(found.as_ref().map(Learnt::of))
}

/// Reads the whole file, as only its end says that it is whole.
fn read(file: &Path, key: PrincipalKey) -> Result<Option<Baseline>, StateError> {
    let mut found = None;
    let mut input = BufReader::new(File::open(file)?);
    picket_risk::read_state(&mut input, |principal, baseline| {
        if principal == key {
            found = Some(baseline);
        }
    })?;
    Ok(found)
}

impl Learnt {
    fn of(baseline: &Baseline) -> Self {
        let last = baseline.history().next_back();
        let (usual_rate, usual_rate_deviation) = baseline.usual_rate();
        let factors = last.map_or(&[][..], |past| Factor::required_at(past.level));
        Self {
            score: last.map(|past| past.score.into()),
            level: last.map(|past| past.level.name().to_owned()),
            factors: factors.iter().map(|factor| factor.name().to_owned()).collect(),
            signals: last.map_or_else(Vec::new, signals),
            permitted_requests: baseline.permits(),
            usual_rate,
            usual_rate_deviation,
            hours: baseline.hours().to_vec(),
            locations: baseline
                .places()
                .map(|(place, first_s, last_s)| Seen::new(place.to_string(), first_s, last_s))
                .collect(),
            devices: baseline
                .devices()
                .map(|(device, first_s, last_s)| Seen::new(device, first_s, last_s))
                .collect(),
            history: baseline.history().rev().map(Spell::of).collect(),
        }
    }
}

impl Learnt {
    /// As a running service tells it.
    fn told(found: v1::RiskExplanation) -> Self {
        let seen = |seen: v1::SeenBefore| Seen::new(seen.name, seen.first_seen_s, seen.last_seen_s);
        let spell = |spell: v1::RiskSpell| Spell {
            from: time_text(spell.first_s),
            to: time_text(spell.last_s),
            requests: spell.requests,
            score: spell.score,
            level: spell.level,
            signals: spell.signals,
        };
        Self {
            score: found.score,
            level: Some(found.level).filter(|level| !level.is_empty()),
            factors: found.factors,
            signals: found.signals,
            permitted_requests: found.permitted_requests,
            usual_rate: found.usual_rate,
            usual_rate_deviation: found.usual_rate_deviation,
            hours: found.hours,
            locations: found.locations.into_iter().map(seen).collect(),
            devices: found.devices.into_iter().map(seen).collect(),
            history: found.history.into_iter().map(spell).collect(),
        }
    }
}

impl Seen {
    fn new(name: String, first_s: Option<u32>, last_s: u32) -> Self {
        Self {
            name,
            first_seen: first_s.map(time_text),
            last_seen: time_text(last_s),
        }
    }
}

impl Spell {
    fn of(past: &AssessmentPeriod) -> Self {
        Self {
            from: time_text(past.first_s),
            to: time_text(past.last_s),
            requests: past.requests,
            score: past.score.into(),
            level: past.level.name().to_owned(),
            signals: signals(past),
        }
    }
}

fn signals(past: &AssessmentPeriod) -> Vec<String> {
    past.signals().map(|signal| signal.name().to_owned()).collect()
}

fn text_of(answer: &Answer, output: Output) -> String {
    let principal = printable(&answer.principal);
    let Some(learnt) = &answer.learnt else {
        return format!("{principal}: {}\n", output.paint(Paint::Bad, "not remembered"));
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let (Some(score), Some(level)) = (learnt.score, &learnt.level) {
        let paint = match level.as_str() {
            "low" => Paint::Good,
            _ => Paint::Bad,
        };
        let score = output.paint(paint, &format!("score {score} ({})", printable(level)));
        let _ = writeln!(
            text,
            "{principal}: {score}, asks for {}",
            printable(&learnt.factors.join(", "))
        );
    }
    let _ = writeln!(text, "signals    {}", listed(&learnt.signals));
    let _ = writeln!(text, "permitted  {} requests", learnt.permitted_requests);
    let _ = writeln!(
        text,
        "rate       {:.1} ± {:.1} requests in a window",
        learnt.usual_rate, learnt.usual_rate_deviation
    );
    let _ = writeln!(text, "hours      {}", hours_text(&learnt.hours));
    for (title, seen) in [("location ", &learnt.locations), ("device   ", &learnt.devices)] {
        for seen in seen {
            let first = seen.first_seen.as_deref().unwrap_or("from the start");
            let _ = writeln!(
                text,
                "{title}  {}  {first} to {}",
                printable(&seen.name),
                seen.last_seen
            );
        }
    }
    for spell in &learnt.history {
        let _ = writeln!(
            text,
            "history    {} to {}  {} requests  {} ({})  {}",
            spell.from,
            spell.to,
            spell.requests,
            spell.score,
            printable(&spell.level),
            listed(&spell.signals)
        );
    }
    text
}

fn hours_text(hours: &[f64]) -> String {
    let shown = hours.iter().enumerate().filter(|(_, share)| **share >= SHARE_SHOWN_MIN);
    let shown: Vec<String> = shown
        .map(|(hour, share)| format!("{hour:02} h {:.0} %", share * 100.0))
        .collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => format!("{} (UTC)", shown.join(", ")),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => printable(&names.join(", ")),
    }
}

fn time_text(seconds: u32) -> String {
    OffsetDateTime::from_unix_timestamp(seconds.into())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s"))
}
