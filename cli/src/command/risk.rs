//! `picket risk`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use picket_core::access::principal_name;
use picket_policy_service::risk::{self, Baseline, Factor, Past, PrincipalKey, StateError};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::CommandError;
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};

/// An hour with a smaller share is not worth a word.
const SHARE_SHOWN_MIN: f64 = 0.005;

const EXPLAIN_ABOUT: &str = "\
Shows what the policy service has learnt about one principal, and how its requests were scored.

It reads the file that `risk.state_file` names, which the service writes every `risk.save_interval_s` and when it stops; \
the service may be running. The file holds digests in place of names, so the principal has to be given as the service \
knows it: by the issuer and the subject of its tokens, or a workload without a token by its SPIFFE ID.

The score is that of the last request, with the factors that its level asks for. Why each signal was there is in the \
audit record of each decision, in words and figures: `picket audit tail --output json`.

It exits with 0 where the principal is remembered, with 1 where it is not, and with 3 where the file cannot be read or is \
damaged.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  picket risk explain --state-file risk.state --issuer https://issuer.example alice
  picket risk explain --state-file risk.state --workload spiffe://example.org/web --output json | jq .history";

/// Look into risk scores
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show a principal's score, signals and history
    #[command(long_about = EXPLAIN_ABOUT, after_long_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
}

#[derive(clap::Args)]
pub(super) struct ExplainArguments {
    /// The file that `risk.state_file` names
    #[arg(long, value_name = "FILE")]
    state_file: PathBuf,
    /// The issuer of the principal's tokens
    #[arg(long, value_name = "ISSUER", requires = "subject")]
    issuer: Option<String>,
    /// The subject of the principal's tokens
    #[arg(value_name = "SUBJECT", requires = "issuer", required_unless_present = "workload")]
    subject: Option<String>,
    /// A workload, by its SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID", conflicts_with_all = ["issuer", "subject"])]
    workload: Option<String>,
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
    score: Option<u8>,
    level: Option<&'static str>,
    factors: Vec<&'static str>,
    signals: Vec<&'static str>,
    permitted_requests: u32,
    usual_rate: f64,
    usual_rate_deviation: f64,
    /// The share of each hour of the day, UTC, 0 to 1.
    hours: [f64; 24],
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
    score: u8,
    level: &'static str,
    signals: Vec<&'static str>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Explain(arguments) => explain(&arguments, output),
    }
}

fn explain(arguments: &ExplainArguments, output: Output) -> Result<Exit, CommandError> {
    let (principal, key) = match (&arguments.workload, &arguments.issuer, &arguments.subject) {
        (Some(workload), _, _) => (workload.clone(), PrincipalKey::of_workload(workload)),
        (None, Some(issuer), Some(subject)) => {
            let name = principal_name(issuer, subject);
            (name, PrincipalKey::of_user(issuer, subject))
        }
        // The grammar of the command line leaves none of these.
        (None, _, _) => {
            return Err(CommandError::Usage(
                "expected --issuer and SUBJECT, or --workload".into(),
            ));
        }
    };
    let found = read(&arguments.state_file, key).map_err(|source| CommandError::RiskState {
        file: arguments.state_file.display().to_string(),
        source,
    })?;
    let answer = Answer {
        principal,
        remembered: found.is_some(),
        learnt: found.as_ref().map(Learnt::of),
    };
    output.print(&text_of(&answer, output), &answer)?;
    Ok(match answer.remembered {
        true => Exit::Done,
        false => Exit::MistakeFound,
    })
}

/// Reads the whole file, as only its end says that it is whole.
fn read(file: &Path, key: PrincipalKey) -> Result<Option<Baseline>, StateError> {
    let mut found = None;
    let mut input = BufReader::new(File::open(file)?);
    risk::read_state(&mut input, |principal, baseline| {
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
            score: last.map(|past| past.score),
            level: last.map(|past| past.level.name()),
            factors: factors.iter().map(|factor| factor.name()).collect(),
            signals: last.map_or_else(Vec::new, signals),
            permitted_requests: baseline.permits(),
            usual_rate,
            usual_rate_deviation,
            hours: baseline.hours(),
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
    fn of(past: &Past) -> Self {
        Self {
            from: time_text(past.first_s),
            to: time_text(past.last_s),
            requests: past.requests,
            score: past.score,
            level: past.level.name(),
            signals: signals(past),
        }
    }
}

fn signals(past: &Past) -> Vec<&'static str> {
    past.signals().map(risk::Signal::name).collect()
}

fn text_of(answer: &Answer, output: Output) -> String {
    let principal = printable(&answer.principal);
    let Some(learnt) = &answer.learnt else {
        return format!("{principal}: {}\n", output.paint(Paint::Bad, "not remembered"));
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let (Some(score), Some(level)) = (learnt.score, learnt.level) {
        let paint = match level {
            "low" => Paint::Good,
            _ => Paint::Bad,
        };
        let score = output.paint(paint, &format!("score {score} ({level})"));
        let _ = writeln!(text, "{principal}: {score}, asks for {}", learnt.factors.join(", "));
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
            let _ = writeln!(text, "{title}  {}  {first} to {}", seen.name, seen.last_seen);
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
            spell.level,
            listed(&spell.signals)
        );
    }
    text
}

fn hours_text(hours: &[f64; 24]) -> String {
    let shown = hours.iter().enumerate().filter(|(_, share)| **share >= SHARE_SHOWN_MIN);
    let shown: Vec<String> = shown
        .map(|(hour, share)| format!("{hour:02} h {:.0} %", share * 100.0))
        .collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => format!("{} (UTC)", shown.join(", ")),
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn time_text(seconds: u32) -> String {
    OffsetDateTime::from_unix_timestamp(seconds.into())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s"))
}
