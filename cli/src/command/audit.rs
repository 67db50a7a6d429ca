//! `picket audit`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use picket_audit::{
    Act, ActOutcome, AdministrationRecord, EffectRecord, Event, IntegrityProblem, KeyEncryptionKey, LogHead, Record,
    SearchRecord, SessionChange, SessionRecord, VerifyError,
};
use serde::Serialize;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::output::{Output, Paint, printable};
use crate::time_text;

/// More than a person reads; a program reads the whole log in another way.
pub(crate) const TAIL_RECORDS_MAX: i64 = 10_000;

const VERIFY_ABOUT: &str = "\
Verifies that the audit log is what the policy service wrote: every record is there, in its order, unaltered, and opens.

The file that ends in `-head` beside the database says up to which record the log was \
acknowledged: copy it along with the database and its `-wal`. While the service runs, copy \
`-head` first, then the database and `-wal`, best from one snapshot of the file system. Without \
`-head` a log that was not closed does not verify. A log whose service has ended in good order is \
the database alone.

It prints the head: the number and the hash of the last record. Keep it somewhere else. Given to a later run as \
--expect-head, it also finds that all files were put back to an older state or replaced, which no log can tell by itself.

It exits with 0 where the log verifies, with 1 where it does not (and names the first record that is wrong), and with 3 \
where it cannot be read. It writes nothing, and the service may be running.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  picket audit verify --database audit.sqlite3 --key keys/audit-key
  HEAD=$(picket audit verify --database audit.sqlite3 --key keys/audit-key --output json \\
      | jq -r .head)
  picket audit verify --database audit.sqlite3 --key keys/audit-key --expect-head \"$HEAD\"";

const TAIL_ABOUT: &str = "\
Prints the last records of the audit log, the latest one last: number, time, effect, who, what, route rule and policies.

It checks these records, not those before them, and not whether later ones are missing: that is what \
`picket audit verify` does. With --output json it prints everything that each record holds.";

const TAIL_EXAMPLES: &str = "\
Examples:
  picket audit tail --database audit.sqlite3 --key keys/audit-key
  picket audit tail --database audit.sqlite3 --key keys/audit-key -n 100 --output json \\
    | jq '.[].content | select(.effect == \"deny\")'";

/// Verify and read the audit log
#[derive(Subcommand)]
pub(super) enum Command {
    /// Verify that nothing in the audit log was altered, taken out or put in
    #[command(long_about = VERIFY_ABOUT, after_long_help = VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Print the last records of the audit log
    #[command(long_about = TAIL_ABOUT, after_long_help = TAIL_EXAMPLES)]
    Tail(TailArguments),
}

#[derive(clap::Args)]
struct LogArguments {
    /// The audit log's SQLite database
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// The key-encryption key: 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    log: LogArguments,
    /// A head that was printed before: the log must still hold this record with this hash
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    expect_head: Option<LogHead>,
}

#[derive(clap::Args)]
pub(super) struct TailArguments {
    #[command(flatten)]
    log: LogArguments,
    /// How many records
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TAIL_RECORDS_MAX))]
    records: u32,
}

#[derive(Serialize)]
struct Answer<'a> {
    database: &'a Path,
    verified: bool,
    /// Of a log that verified.
    records: Option<u64>,
    head: Option<String>,
    /// Of one that did not.
    problem: Option<&'a IntegrityProblem>,
    message: Option<String>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Verify(arguments) => verify(&arguments, output),
        Command::Tail(arguments) => tail(&arguments, output),
    }
}

fn verify(arguments: &VerifyArguments, output: Output) -> Result<Exit, CommandError> {
    let database = arguments.log.database.as_path();
    let key = read_key(&arguments.log.key)?;
    match picket_audit::verify(database, &key, arguments.expect_head) {
        Ok(report) => {
            let (records, head) = (report.records, format!("{}:{}", report.records, report.head_hash));
            let verdict = output.paint(Paint::Good, "verified");
            let text = format!("{}: {verdict}, {records} records\nhead {head}\n", database.display());
            let answer = Answer {
                database,
                verified: true,
                records: Some(records),
                head: Some(head),
                problem: None,
                message: None,
            };
            output.print(&text, &answer)?;
            Ok(Exit::Done)
        }
        Err(VerifyError::Broken(problem)) => broken(database, &problem, output),
        Err(VerifyError::Store(error)) => Err(CommandError::Audit(error)),
    }
}

fn broken(database: &Path, problem: &IntegrityProblem, output: Output) -> Result<Exit, CommandError> {
    let message = problem.to_string();
    let text = format!("{}: {}\n", database.display(), output.paint(Paint::Bad, &message));
    let answer = Answer {
        database,
        verified: false,
        records: None,
        head: None,
        problem: Some(problem),
        message: Some(message),
    };
    output.print(&text, &answer)?;
    Ok(Exit::MistakeFound)
}

fn tail(arguments: &TailArguments, output: Output) -> Result<Exit, CommandError> {
    let database = arguments.log.database.as_path();
    let key = read_key(&arguments.log.key)?;
    match picket_audit::tail(database, &key, arguments.records) {
        Ok(records) => {
            let text: String = records.iter().map(|record| line(record, output)).collect();
            output.print(&text, &records)?;
            Ok(Exit::Done)
        }
        Err(VerifyError::Broken(problem)) => broken(database, &problem, output),
        Err(VerifyError::Store(error)) => Err(CommandError::Audit(error)),
    }
}

/// Reads the key-encryption key.
pub(super) fn read_key(file: &Path) -> Result<KeyEncryptionKey, CommandError> {
    let text = files::read_text(file)?;
    KeyEncryptionKey::from_hex(text.trim_end()).map_err(|source| CommandError::AuditKey {
        file: file.display().to_string(),
        source,
    })
}

/// One record on one line. What came from the network is shown without control characters.
fn line(record: &Record, output: Output) -> String {
    let (seq, time) = (record.seq, time_text::of_us(record.time_us));
    let mut line = format!("{seq:>6}  {time}  ");
    match &record.content {
        Event::Decision(decision) => {
            let effect = match (decision.effect, &decision.challenge) {
                (EffectRecord::Permit, _) => output.paint(Paint::Good, "permit   "),
                (EffectRecord::Deny, None) => output.paint(Paint::Bad, "deny     "),
                (EffectRecord::Deny, Some(_)) => output.paint(Paint::Bad, "challenge"),
            };
            let who = decision.principal.as_ref().map_or("-", |principal| &principal.subject);
            let policies = match decision.policy_ids.as_slice() {
                [] => "-".to_owned(),
                ids => ids.join(","),
            };
            // Writing to a String cannot fail.
            let _ = write!(
                line,
                "{effect}  {}  {} {}{}  {}  {}",
                printable(who),
                printable(&decision.action.method),
                printable(&decision.resource.host),
                printable(&decision.resource.path),
                printable(&decision.route_rule),
                printable(&policies),
            );
        }
        Event::Session(record) => line.push_str(&session_line(record)),
        Event::Administration(record) => line.push_str(&administration_line(record)),
        Event::Search(record) => line.push_str(&search_line(record)),
    }
    line.push('\n');
    line
}

fn session_line(record: &SessionRecord) -> String {
    let what = match record.change {
        SessionChange::Created => "session created".to_owned(),
        SessionChange::Ended { reason } => format!("session ended: {}", reason.as_str()),
    };
    format!("{what}  {}  {}", printable(&record.subject), printable(&record.session))
}

fn search_line(record: &SearchRecord) -> String {
    let (kind, caller) = (record.kind.as_str(), printable(&record.caller));
    format!(
        "search {kind}  {} of {} found  by {caller}",
        record.found, record.evaluated
    )
}

fn administration_line(record: &AdministrationRecord) -> String {
    let act = match record.act {
        Act::RevokeSession => "revoke session",
        Act::RevokePrincipal => "revoke principal",
        Act::RevokeTenant => "revoke tenant",
        Act::RevokeEverything => "revoke everything",
        Act::LockdownOn => "lockdown on",
        Act::LockdownOff => "lockdown off",
        Act::BeginEnrollment => "invite a device of",
        Act::EnrollDevice => "enroll device",
        Act::TrustDevice => "trust device",
        Act::SuspendDevice => "suspend device",
        Act::RetireDevice => "retire device",
        Act::ReinstateDevice => "reinstate device",
        Act::AddDeviceThumbprint => "add thumbprint",
        Act::RemoveDeviceThumbprint => "remove thumbprint",
        Act::ReportPosture => "report posture",
        Act::ReportAuthentication => "report authentication",
        Act::ReportDynamics => "report dynamics",
        Act::ActivatePolicies => "activate policies",
        Act::RollBackPolicies => "roll back policies",
        Act::AssignRole => "assign role",
        Act::WithdrawRole => "withdraw role",
    };
    let outcome = match record.outcome {
        ActOutcome::Done => "done",
        ActOutcome::Unchanged => "unchanged",
        ActOutcome::Refused => "refused",
        ActOutcome::Failed => "failed",
    };
    let (target, caller) = (printable(&record.target), printable(&record.caller));
    format!("{act} {target}  {outcome}  by {caller}")
}

fn head(text: &str) -> Result<LogHead, String> {
    let expected = || "expected SEQ:HASH, as `picket audit verify` prints it after `head`".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(expected)?;
    Ok(LogHead {
        seq: seq.parse().map_err(|_| expected())?,
        hash: hash.parse().map_err(|_| expected())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        let read = head(&format!("12:{hash}")).unwrap();
        assert_eq!((read.seq, read.hash.to_string()), (12, hash.clone()));
        for text in ["", "12", &hash, &format!("-1:{hash}"), &format!("12:{hash}0"), "12:xy"] {
            assert!(head(text).is_err(), "{text}");
        }
    }
}
