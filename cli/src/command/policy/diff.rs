//! `picket policy diff`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_audit::{ChallengeRecord, ObservedRecord};
use picket_model::decision::Effect;
use picket_policy::testing::{self, DocumentErrors, NamedRequest};
use picket_policy::{ChangeKind, Evaluation, PolicyChange, PolicyEngine, PolicyErrors, PolicyFiles, Tracer};
use serde::Serialize;

use super::test::{Problem, mistakes};
use super::{CommandError, EvaluationArguments, revision};
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};
use crate::service::OptionalServiceArguments;
use crate::{files, text_diff};

/// Before the number of a revision, where a folder would be named.
const REVISION_PREFIX: &str = "revision:";
/// What else makes a revision, besides policies.
const OTHER_FILES: [&str; 2] = ["schema.cedarschema", "entities.json"];

pub(super) const ABOUT: &str = "\
Tells what changed from some policies to others: policies by their @id, the schema, and entities.

Each side is a folder, or a revision in the store of a running policy service: `revision:3` by its number, or `revision:active`.

With --requests it also tells which decisions change: the requests of a file of policy tests, of a matrix, or of one request are \
evaluated over both. It exits with 0 whatever changed, and with 1 where a folder or a file has a mistake; with --same-decisions \
also where a decision changed.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket policy diff policies new-policies
  picket policy diff policies new-policies --requests policies/matrix.yaml \\
      --requests policies/tests/orders.yaml
  picket policy diff revision:active policies \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket policy diff revision:2 revision:3 \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  git worktree add old HEAD && picket policy diff old/policies policies \\
      --requests policies/matrix.yaml --same-decisions";

#[derive(clap::Args)]
pub(in crate::command) struct Arguments {
    /// The policies as they were: a folder, or a revision such as `revision:3` or `revision:active`
    old: PathBuf,
    /// The policies as they are to be, in the same way
    new: PathBuf,
    /// A file of policy tests, a matrix or one request, whose decisions are compared; may be given several times
    #[arg(long, value_name = "FILE")]
    requests: Vec<PathBuf>,
    /// Fail where a decision changes
    #[arg(long, requires = "requests")]
    same_decisions: bool,
    #[command(flatten)]
    evaluation: EvaluationArguments,
    #[command(flatten)]
    service: OptionalServiceArguments,
}

/// One side.
type Side = Result<(PolicyEngine, PolicyFiles), PolicyErrors>;

#[derive(Serialize)]
struct Answer<'a> {
    old: &'a Path,
    new: &'a Path,
    problems: &'a [Problem],
    /// Of folders and files without a mistake.
    #[serde(flatten)]
    comparison: Option<&'a Comparison>,
}

#[derive(Serialize)]
struct Comparison {
    old_revision: String,
    new_revision: String,
    policies: Vec<PolicyChange>,
    files: Vec<FileChange>,
    /// How many requests were evaluated.
    requests: usize,
    decisions: Vec<DecisionChange>,
}

#[derive(Serialize)]
struct FileChange {
    file: &'static str,
    /// A unified diff.
    difference: String,
}

#[derive(Serialize)]
struct DecisionChange {
    file: PathBuf,
    name: String,
    old: Decision,
    new: Decision,
}

#[derive(PartialEq, Eq, Serialize)]
struct Decision {
    effect: &'static str,
    policy_ids: Vec<String>,
    reasons: Vec<String>,
    obligations: Vec<String>,
    challenge: Option<ChallengeRecord>,
    observed: Option<ObservedRecord>,
    errors: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let (old, new) = (side(arguments, &arguments.old)?, side(arguments, &arguments.new)?);
    let requests: Vec<(&Path, Result<Vec<NamedRequest>, DocumentErrors>)> = arguments
        .requests
        .iter()
        .map(|file| (file.as_path(), testing::read_requests(file)))
        .collect();
    let mut problems: Vec<Problem> = [&old, &new]
        .into_iter()
        .flat_map(|loaded| mistakes(loaded.as_ref().err(), None))
        .collect();
    problems.extend(
        requests
            .iter()
            .flat_map(|(_, read)| mistakes(None, read.as_ref().err())),
    );
    let comparison = match (&old, &new) {
        (Ok(old), Ok(new)) if problems.is_empty() => Some(compare((old, new), &requests)?),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => None,
    };
    let answer = Answer {
        old: &arguments.old,
        new: &arguments.new,
        problems: &problems,
        comparison: comparison.as_ref(),
    };
    output.print(&text_of(&answer, output), &answer)?;
    let has_changed = comparison.is_some_and(|comparison| !comparison.decisions.is_empty());
    Ok(match arguments.same_decisions && has_changed {
        true => Exit::MistakeFound,
        false => Exit::of_check(&problems),
    })
}

fn compare(
    ((old, old_files), (new, new_files)): (&(PolicyEngine, PolicyFiles), &(PolicyEngine, PolicyFiles)),
    requests: &[(&Path, Result<Vec<NamedRequest>, DocumentErrors>)],
) -> Result<Comparison, CommandError> {
    let mut changed_files = Vec::new();
    for file in OTHER_FILES {
        // Policies without such a file have an empty one.
        let (was, is) = (
            old_files.text(file).unwrap_or_default(),
            new_files.text(file).unwrap_or_default(),
        );
        if was != is {
            let difference = text_diff::unified((file, was), (file, is));
            changed_files.push(FileChange { file, difference });
        }
    }
    let named = requests.iter().flat_map(|(file, read)| {
        let requests = read.as_deref().unwrap_or_default();
        requests.iter().map(move |request| (*file, request))
    });
    let mut decisions = Vec::new();
    for (file, NamedRequest { name, request }) in named.clone() {
        let change = DecisionChange {
            file: file.to_owned(),
            name: name.clone(),
            old: Decision::from(request.evaluate(old)),
            new: Decision::from(request.evaluate(new)),
        };
        if change.old != change.new {
            decisions.push(change);
        }
    }
    Ok(Comparison {
        old_revision: old.revision().to_owned(),
        new_revision: new.revision().to_owned(),
        policies: picket_policy::changes(&Tracer::new(old)?, &Tracer::new(new)?),
        files: changed_files,
        requests: named.count(),
        decisions,
    })
}

/// Reads and loads a folder or a revision.
fn side(arguments: &Arguments, place: &Path) -> Result<Side, CommandError> {
    let name = place.to_str().and_then(|place| place.strip_prefix(REVISION_PREFIX));
    let files = match name {
        Some(name) => revision::files(name, arguments.service.given())?,
        None => {
            files::check_folder(place)?;
            PolicyFiles::read(place)
        }
    };
    let files = match files {
        Ok(files) => files,
        Err(errors) => return Ok(Err(errors)),
    };
    Ok(arguments.evaluation.load_files(&files)?.map(|engine| (engine, files)))
}

impl From<Evaluation> for Decision {
    fn from(evaluation: Evaluation) -> Self {
        Self {
            effect: match (evaluation.effect, &evaluation.challenge) {
                (Effect::Permit, _) => "permit",
                (Effect::Deny, Some(_)) => "challenge",
                (Effect::Deny, None) => "deny",
            },
            policy_ids: evaluation.policy_ids,
            reasons: evaluation.caller_reasons,
            obligations: evaluation.obligations,
            challenge: evaluation.challenge.as_ref().map(ChallengeRecord::from),
            observed: evaluation
                .observed
                .map(|observed| ObservedRecord::new(observed.effect, observed.policy_ids)),
            errors: evaluation.errors,
        }
    }
}

impl Decision {
    /// In a line: what and by which policies.
    fn line(&self) -> String {
        let by = match self.policy_ids.as_slice() {
            [] => "no policy".to_owned(),
            ids => ids.join(", "),
        };
        let error = self.errors.first().map(|error| format!(" ({error})"));
        format!("{} by {by}{}", self.effect, error.unwrap_or_default())
    }
}

fn text_of(answer: &Answer<'_>, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &printable(&problem.to_string())));
    }
    let Some(comparison) = answer.comparison else {
        return text;
    };
    for change in &comparison.policies {
        add_policy(&mut text, change, output);
    }
    for change in &comparison.files {
        let _ = write!(text, "{}: changed\n{}", change.file, change.difference);
    }
    for change in &comparison.decisions {
        let place = match change.name.as_str() {
            "" => change.file.display().to_string(),
            name => format!("{}: {}", change.file.display(), printable(name)),
        };
        let paint = if change.new.effect == "permit" {
            Paint::Good
        } else {
            Paint::Bad
        };
        let new = output.paint(paint, &printable(&change.new.line()));
        let _ = writeln!(text, "{place}: was {}, is {new}", printable(&change.old.line()));
    }
    let (old, new) = (&comparison.old_revision, &comparison.new_revision);
    let (policies, decisions, requests) = (
        comparison.policies.len(),
        comparison.decisions.len(),
        comparison.requests,
    );
    let _ = writeln!(
        text,
        "revision {old} to {new}: {policies} policies and {decisions} of {requests} decisions change"
    );
    text
}

fn add_policy(text: &mut String, change: &PolicyChange, output: Output) {
    let (old, new) = (
        change.old.as_deref().unwrap_or_default(),
        change.new.as_deref().unwrap_or_default(),
    );
    let word = match change.kind {
        ChangeKind::Added => output.paint(Paint::Good, "added"),
        ChangeKind::Removed => output.paint(Paint::Bad, "removed"),
        ChangeKind::Changed => "changed".to_owned(),
    };
    // Cedar keeps a policy's text without the end of its last line.
    let (old, new) = (lines(old), lines(new));
    let _ = write!(
        text,
        "{}: {word}\n{}",
        change.id,
        text_diff::unified(("old", &old), ("new", &new))
    );
}

fn lines(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}
