//! `picket policy activate`, `rollback`, `history`, `list` and `show`: revisions in the store of a running policy service.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_policy::{PolicyErrors, PolicyFiles, TESTS_FOLDER};
use picket_proto::v1;
use serde::Serialize;

use super::CommandError;
use super::test::mistakes;
use crate::command::listing::Page;
use crate::exit::Exit;
use crate::files::{self, Access, Existing};
use crate::output::{Output, Paint, printable};
use crate::service::{ServiceArguments, ask_policies};
use crate::time_text;

pub(super) const ACTIVATE_ABOUT: &str = "\
Makes a folder of policies a new revision in the store of a running policy service, and lets it decide from then on.

It is taken whole or not at all: the service loads the policies strictly and runs the tests in the folder `tests` beside them, and \
refuses a revision with a mistake or a failed test. Its configuration needs `policies.source = \"store\"`, and the caller the role \
`operator`. It exits with 0 where the revision is active, and with 1 where it was refused.

Sidecars repeat what older policies decided until its validity is over (`decisions.permit_valid_for_ms`).";

pub(super) const ACTIVATE_EXAMPLES: &str = "\
Examples:
  picket policy activate policies --comment 'readers see orders' \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket policy activate policies --comment 'the same, if nobody was faster' --expected-active 3 ...
  picket policy activate policies --validate-only ...";

pub(super) const ROLLBACK_EXAMPLES: &str = "\
Examples:
  picket policy rollback 3 --comment 'orders were closed' \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

pub(super) const HISTORY_EXAMPLES: &str = "\
Examples:
  picket policy history --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket policy history ... -n 1 --output json | jq '.activations[0].number'";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  picket policy list --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

pub(super) const SHOW_EXAMPLES: &str = "\
Examples:
  picket policy show active \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket policy show 3 --into revision-3 ...";

/// What stands for the active revision where a number is asked for.
const ACTIVE: &str = "active";

#[derive(clap::Args)]
pub(in crate::command) struct ActivateArguments {
    /// The folder of policies
    directory: PathBuf,
    /// Why; it is kept with the revision
    #[arg(long, value_name = "TEXT", required_unless_present = "validate_only")]
    comment: Option<String>,
    /// Do it only if this revision is active; 0: if none is
    #[arg(long, value_name = "NUMBER")]
    expected_active: Option<u64>,
    /// Only ask whether the service would take it
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(in crate::command) struct RollbackArguments {
    /// The revision
    number: u64,
    /// Why; it is kept in the history
    #[arg(long, value_name = "TEXT")]
    comment: String,
    /// Do it only if this revision is active
    #[arg(long, value_name = "NUMBER")]
    expected_active: Option<u64>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(in crate::command) struct PageArguments {
    /// Begin before this one: the `next` of the page before
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    before: u64,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(in crate::command) struct ShowArguments {
    /// The number of the revision, or `active`
    revision: String,
    /// Write its files into this folder, where none of them is yet
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Serialize)]
struct AttemptAnswer {
    outcome: &'static str,
    number: Option<u64>,
    digest: Option<String>,
    policies: u32,
    tests_passed: u32,
    mistakes: Vec<Mistake>,
    mistakes_count: u32,
    warnings: Vec<Mistake>,
}

#[derive(Serialize)]
struct Mistake {
    file: String,
    line: Option<u32>,
    message: String,
}

#[derive(Serialize)]
struct RevisionAnswer {
    number: u64,
    digest: String,
    author: String,
    comment: String,
    created: String,
    is_active: bool,
}

#[derive(Serialize)]
struct ListAnswer {
    revisions: Vec<RevisionAnswer>,
    next: Option<u64>,
}

#[derive(Serialize)]
struct ShowAnswer {
    #[serde(flatten)]
    revision: RevisionAnswer,
    files: Vec<FileAnswer>,
}

#[derive(Serialize)]
struct FileAnswer {
    name: String,
    text: String,
}

#[derive(Serialize)]
struct ActivationAnswer {
    id: u64,
    number: u64,
    previous: Option<u64>,
    digest: String,
    at: String,
    by: String,
    comment: String,
}

#[derive(Serialize)]
struct HistoryAnswer {
    activations: Vec<ActivationAnswer>,
    next: Option<u64>,
}

pub(super) fn activate(arguments: ActivateArguments, output: Output) -> Result<Exit, CommandError> {
    files::check_folder(&arguments.directory)?;
    let files = match PolicyFiles::read(&arguments.directory) {
        Ok(files) => files,
        Err(errors) => {
            let problems = mistakes(Some(&errors), None);
            let lines = problems
                .iter()
                .map(|problem| format!("{}\n", printable(&problem.to_string())));
            output.print(&lines.collect::<String>(), &problems)?;
            return Ok(Exit::MistakeFound);
        }
    };
    let file = |(name, text): (String, &str)| v1::PolicyFile {
        name,
        text: text.to_owned(),
    };
    let request = v1::ActivateRequest {
        files: files.iter().map(file).collect(),
        comment: arguments.comment.unwrap_or_default(),
        expected_active: arguments.expected_active,
        validate_only: arguments.validate_only,
    };
    let answer = ask_policies(&arguments.service, async |client| client.activate(request).await)?;
    said(answer.into_inner(), &arguments.directory, output)
}

pub(super) fn roll_back(arguments: RollbackArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::RollBackRequest {
        number: arguments.number,
        comment: arguments.comment,
        expected_active: arguments.expected_active,
    };
    let answer = ask_policies(&arguments.service, async |client| client.roll_back(request).await)?;
    said(answer.into_inner(), Path::new(""), output)
}

pub(super) fn history(arguments: &PageArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::HistoryRequest {
        before: arguments.before,
        count_max: arguments.page.count_max,
    };
    let page = ask_policies(&arguments.service, async |client| client.history(request).await)?.into_inner();
    let activation = |activation: v1::PolicyActivation| ActivationAnswer {
        id: activation.id,
        number: activation.number,
        previous: some(activation.previous),
        digest: activation.digest,
        at: time_text::of_us(activation.at_us),
        by: activation.caller,
        comment: activation.comment,
    };
    let answer = HistoryAnswer {
        activations: page.activations.into_iter().map(activation).collect(),
        next: some(page.next),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    for activation in &answer.activations {
        let ActivationAnswer { number, at, .. } = activation;
        let previous = activation
            .previous
            .map_or("none".to_owned(), |previous| previous.to_string());
        let (digest, by) = (printable(&activation.digest), printable(&activation.by));
        let comment = printable(&activation.comment);
        let _ = writeln!(text, "{at}  {previous} to {number}  {digest}  by {by}  {comment}");
    }
    add_next(&mut text, answer.next, output);
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

pub(super) fn list(arguments: &PageArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::ListRevisionsRequest {
        before: arguments.before,
        count_max: arguments.page.count_max,
    };
    let page = ask_policies(&arguments.service, async |client| client.list_revisions(request).await)?.into_inner();
    let answer = ListAnswer {
        revisions: page.revisions.into_iter().map(revision_answer).collect(),
        next: some(page.next),
    };
    let mut text: String = answer.revisions.iter().map(|revision| line(revision, output)).collect();
    add_next(&mut text, answer.next, output);
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

pub(super) fn show(arguments: &ShowArguments, output: Output) -> Result<Exit, CommandError> {
    let found = fetch(number(&arguments.revision)?, &arguments.service)?;
    let answer = ShowAnswer {
        revision: revision_answer(found.revision.unwrap_or_default()),
        files: found
            .files
            .into_iter()
            .map(|file| FileAnswer {
                name: file.name,
                text: file.text,
            })
            .collect(),
    };
    if let Some(folder) = &arguments.into {
        write(folder, &answer.files)?;
    }
    let mut text = line(&answer.revision, output);
    // Writing to a String cannot fail.
    for file in &answer.files {
        let _ = writeln!(text, "{:>8} bytes  {}", file.text.len(), printable(&file.name));
    }
    output.print(&text, &answer)?;
    Ok(Exit::Done)
}

/// The files of a revision, named by its number or as the active one.
pub(super) fn files(
    name: &str,
    service: Option<ServiceArguments>,
) -> Result<Result<PolicyFiles, PolicyErrors>, CommandError> {
    let number = number(name)?;
    let service = service.ok_or_else(|| {
        CommandError::Usage(
            "a revision is asked for from the service: --ca, --certificate and --key are needed".to_owned(),
        )
    })?;
    let found = fetch(number, &service)?;
    let origin = format!("revision:{}", found.revision.unwrap_or_default().number);
    let files = found.files.into_iter().map(|file| (file.name, file.text));
    Ok(PolicyFiles::of(Path::new(&origin), files))
}

/// 0 is the active one.
fn number(name: &str) -> Result<u64, CommandError> {
    let expected = || CommandError::Usage(format!("`{name}`: expected the number of a revision, or `{ACTIVE}`"));
    match name {
        ACTIVE => Ok(0),
        name => name.parse().ok().filter(|number| *number > 0).ok_or_else(expected),
    }
}

fn fetch(number: u64, service: &ServiceArguments) -> Result<v1::ShowRevisionResponse, CommandError> {
    let request = v1::ShowRevisionRequest { number };
    let found = ask_policies(service, async |client| client.show_revision(request).await)?;
    Ok(found.into_inner())
}

/// Writes the files of a revision, all or none. Their names are checked here as well: they come from elsewhere.
fn write(folder: &Path, found: &[FileAnswer]) -> Result<(), CommandError> {
    let named = found.iter().map(|file| (file.name.clone(), file.text.clone()));
    let checked = PolicyFiles::of(folder, named);
    let checked = checked.map_err(CommandError::Revision)?;
    let paths: Vec<PathBuf> = checked.iter().map(|(name, _)| folder.join(name)).collect();
    files::check_absent(&paths)?;
    files::create_folder(folder)?;
    if !checked.tests().is_empty() {
        files::create_folder(&folder.join(TESTS_FOLDER))?;
    }
    for (name, text) in checked.iter() {
        files::write(&folder.join(name), text, Access::Everyone, Existing::Keep)?;
    }
    Ok(())
}

fn said(response: v1::ActivateResponse, directory: &Path, output: Output) -> Result<Exit, CommandError> {
    let (outcome, exit) = match response.outcome() {
        v1::ActivationOutcome::Activated => ("activated", Exit::Done),
        v1::ActivationOutcome::Unchanged => ("unchanged", Exit::Done),
        v1::ActivationOutcome::Valid => ("valid", Exit::Done),
        v1::ActivationOutcome::Refused => ("refused", Exit::MistakeFound),
        v1::ActivationOutcome::Unspecified => ("unknown", Exit::Failed),
    };
    let answer = AttemptAnswer {
        outcome,
        number: some(response.number),
        digest: Some(response.digest).filter(|digest| !digest.is_empty()),
        policies: response.policies,
        tests_passed: response.tests_passed,
        mistakes: response.mistakes.into_iter().map(mistake).collect(),
        mistakes_count: response.mistakes_count,
        warnings: response.warnings.into_iter().map(mistake).collect(),
    };
    output.print(&text_of(&answer, directory, output), &answer)?;
    Ok(exit)
}

fn text_of(answer: &AttemptAnswer, directory: &Path, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (mistakes, paint) in [(&answer.warnings, Paint::Dim), (&answer.mistakes, Paint::Bad)] {
        for mistake in mistakes {
            let file = match mistake.file.as_str() {
                "" => directory.to_owned(),
                file => directory.join(file),
            };
            let line = mistake.line.map(|line| format!(":{line}")).unwrap_or_default();
            let told = format!("{}{line}: {}", file.display(), mistake.message);
            let _ = writeln!(text, "{}", output.paint(paint, &printable(&told)));
        }
    }
    let revision = match (answer.number, &answer.digest) {
        (Some(number), Some(digest)) => format!(" revision {number}, {}", printable(digest)),
        (None, Some(digest)) => format!(" revision {}", printable(digest)),
        (_, None) => String::new(),
    };
    let paint = match answer.mistakes_count {
        0 => Paint::Good,
        _ => Paint::Bad,
    };
    let (outcome, counted) = (output.paint(paint, answer.outcome), counted(answer));
    let _ = writeln!(text, "{outcome}{revision}: {counted}");
    text
}

fn counted(answer: &AttemptAnswer) -> String {
    match answer.mistakes_count {
        0 => format!("{} policies, {} tests passed", answer.policies, answer.tests_passed),
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    }
}

fn mistake(mistake: v1::PolicyMistake) -> Mistake {
    Mistake {
        file: mistake.file,
        line: Some(mistake.line).filter(|line| *line > 0),
        message: mistake.message,
    }
}

fn revision_answer(revision: v1::PolicyRevision) -> RevisionAnswer {
    RevisionAnswer {
        number: revision.number,
        digest: revision.digest,
        author: revision.author,
        comment: revision.comment,
        created: time_text::of_us(revision.created_us),
        is_active: revision.is_active,
    }
}

fn line(revision: &RevisionAnswer, output: Output) -> String {
    let active = match revision.is_active {
        true => format!("  {}", output.paint(Paint::Good, ACTIVE)),
        false => String::new(),
    };
    let RevisionAnswer { number, created, .. } = revision;
    let (digest, author) = (printable(&revision.digest), printable(&revision.author));
    let comment = printable(&revision.comment);
    format!("{number}  {digest}  {created}  by {author}  {comment}{active}\n")
}

fn add_next(text: &mut String, next: Option<u64>, output: Output) {
    if let Some(next) = next {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} --before {next}", output.paint(Paint::Dim, "more:"));
    }
}

/// 0 stands for none.
fn some(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number > 0)
}
