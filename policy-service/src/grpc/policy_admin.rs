//! `picket.v1.PolicyAdmin`: revisions of policies in the store.

use std::path::Path;
use std::sync::Arc;

use picket_proto::v1;
use picket_proto::v1::policy_admin_server::PolicyAdmin;
use tonic::{Request, Response, Status};

use super::act::{self, Caller, Done, now_us};
use super::status::AdminError;
use crate::audit::{Act, AuditLog, Outcome};
use crate::configuration::Role;
use crate::decision::Decider;
use crate::policy::PolicyFiles;
use crate::revisions::{Attempt, AttemptOutcome, Mistake, Mistakes, RevisionError, Revisions};
use crate::storage::{Activation, Order, Revision};

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// A line for people.
const COMMENT_BYTES_MAX: usize = 1_000;

type Answer<T> = Result<Response<T>, Status>;

/// Answers the calls.
#[derive(Clone)]
pub(super) struct PolicyCalls {
    /// `None`: the policies are those of a folder.
    revisions: Option<Arc<Revisions>>,
    audit: AuditLog,
}

impl PolicyCalls {
    pub(super) fn new(decider: &Decider) -> Self {
        Self {
            revisions: decider.policies.revisions().cloned(),
            audit: decider.audit.clone(),
        }
    }

    /// The caller and the revisions, if it has the role.
    fn admit<T>(&self, request: &Request<T>, role: Role) -> Result<(Caller, Arc<Revisions>), AdminError> {
        let caller = act::admit(request, role)?;
        let revisions = self.revisions.clone().ok_or(AdminError::NoRevisions)?;
        Ok((caller, revisions))
    }

    async fn carry_out(
        &self,
        (caller, act, target): (Caller, Act, String),
        attempt: impl Future<Output = Result<Attempt, RevisionError>> + Send + 'static,
    ) -> Answer<v1::ActivateResponse> {
        let order = act::Order { caller, act, target };
        let work = async move {
            let answer = attempt.await;
            let outcome = match &answer {
                Ok(attempt) => match attempt.outcome {
                    AttemptOutcome::Activated => Outcome::Done,
                    AttemptOutcome::Unchanged | AttemptOutcome::Checked => Outcome::Unchanged,
                    AttemptOutcome::Refused(_) => Outcome::Refused,
                },
                Err(error) if error.is_refusal() => Outcome::Refused,
                Err(_) => Outcome::Failed,
            };
            Ok(Done { outcome, answer })
        };
        let attempt = act::carry_out_naming(&self.audit, order, target_of, work).await?;
        Ok(Response::new(told(attempt.map_err(AdminError::from)?)))
    }
}

#[tonic::async_trait]
impl PolicyAdmin for PolicyCalls {
    async fn list_revisions(&self, request: Request<v1::ListRevisionsRequest>) -> Answer<v1::ListRevisionsResponse> {
        let (_caller, revisions) = self.admit(&request, Role::Reader)?;
        let asked = request.into_inner();
        let count_max = count(asked.count_max)?;
        let active = revisions.active().await.map_err(AdminError::from)?;
        let found = revisions.list(before(asked.before), count_max).await;
        let found = found.map_err(AdminError::from)?;
        Ok(Response::new(v1::ListRevisionsResponse {
            next: next(&found, count_max, |revision| revision.number),
            revisions: found.into_iter().map(|revision| shown(revision, active)).collect(),
        }))
    }

    async fn show_revision(&self, request: Request<v1::ShowRevisionRequest>) -> Answer<v1::ShowRevisionResponse> {
        let (_caller, revisions) = self.admit(&request, Role::Reader)?;
        let number = before(request.get_ref().number);
        let (revision, files) = revisions.show(number).await.map_err(AdminError::from)?;
        let active = revisions.active().await.map_err(AdminError::from)?;
        let file = |file: crate::storage::RevisionFile| v1::PolicyFile {
            name: file.name,
            text: file.text,
        };
        Ok(Response::new(v1::ShowRevisionResponse {
            revision: Some(shown(revision, active)),
            files: files.into_iter().map(file).collect(),
        }))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Answer<v1::HistoryResponse> {
        let (_caller, revisions) = self.admit(&request, Role::Reader)?;
        let asked = request.into_inner();
        let count_max = count(asked.count_max)?;
        let found = revisions.history(before(asked.before), count_max).await;
        let found = found.map_err(AdminError::from)?;
        Ok(Response::new(v1::HistoryResponse {
            next: next(&found, count_max, |activation| activation.id),
            activations: found.into_iter().map(shown_activation).collect(),
        }))
    }

    async fn activate(&self, request: Request<v1::ActivateRequest>) -> Answer<v1::ActivateResponse> {
        let (caller, revisions) = self.admit(&request, Role::Operator)?;
        let asked = request.into_inner();
        let files = asked.files.into_iter().map(|file| (file.name, file.text));
        let files = PolicyFiles::of(Path::new(""), files).map_err(|errors| Mistakes::of(&errors));
        if asked.validate_only {
            let attempt = match files {
                Ok(files) => revisions.validate(files).await.map_err(AdminError::from)?,
                Err(mistakes) => Attempt::refused(mistakes),
            };
            return Ok(Response::new(told(attempt)));
        }
        let order = order(&caller, asked.comment, asked.expected_active)?;
        let attempt = async move {
            match files {
                Ok(files) => revisions.activate(files, order).await,
                Err(mistakes) => Ok(Attempt::refused(mistakes)),
            }
        };
        self.carry_out((caller, Act::ActivatePolicies, String::new()), attempt)
            .await
    }

    async fn roll_back(&self, request: Request<v1::RollBackRequest>) -> Answer<v1::ActivateResponse> {
        let (caller, revisions) = self.admit(&request, Role::Operator)?;
        let asked = request.into_inner();
        let number = before(asked.number).ok_or(AdminError::Field("number", "the number of a revision"))?;
        let order = order(&caller, asked.comment, asked.expected_active)?;
        let attempt = async move { revisions.roll_back(number, order).await };
        self.carry_out((caller, Act::RollBackPolicies, number.to_string()), attempt)
            .await
    }
}

/// What an act was done to, where that is known.
fn target_of(attempt: &Result<Attempt, RevisionError>) -> Option<String> {
    let attempt = attempt.as_ref().ok()?;
    Some(format!("{} {}", attempt.number?, attempt.digest))
}

fn order(caller: &str, comment: String, expected_active: Option<u64>) -> Result<Order, AdminError> {
    let is_line = (1..=COMMENT_BYTES_MAX).contains(&comment.len()) && !comment.contains(char::is_control);
    if !is_line {
        return Err(AdminError::Field(
            "comment",
            "1 to 1000 bytes without control characters",
        ));
    }
    Ok(Order {
        caller: caller.to_owned(),
        comment,
        at_us: now_us(),
        expected_active: expected_active.map(before),
    })
}

fn count(count_max: u32) -> Result<u32, AdminError> {
    match count_max {
        0 => Ok(PAGE_DEFAULT),
        count_max @ 1..=PAGE_MAX => Ok(count_max),
        _ => Err(AdminError::Field("count_max", "1 to 1000")),
    }
}

/// 0 stands for none.
fn before(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number > 0)
}

/// Where the next page begins. There is none before the first.
fn next<T>(page: &[T], count_max: u32, number: impl Fn(&T) -> u64) -> u64 {
    let is_full = u32::try_from(page.len()).is_ok_and(|count| count >= count_max);
    let last = page.last().filter(|_| is_full).map_or(0, number);
    if last == 1 { 0 } else { last }
}

fn shown(revision: Revision, active: Option<u64>) -> v1::PolicyRevision {
    v1::PolicyRevision {
        is_active: active == Some(revision.number),
        number: revision.number,
        digest: revision.digest,
        author: revision.author,
        comment: revision.comment,
        created_us: revision.created_us,
    }
}

fn shown_activation(activation: Activation) -> v1::PolicyActivation {
    v1::PolicyActivation {
        id: activation.id,
        number: activation.number,
        previous: activation.previous.unwrap_or(0),
        digest: activation.digest,
        caller: activation.caller,
        comment: activation.comment,
        at_us: activation.at_us,
    }
}

fn told(attempt: Attempt) -> v1::ActivateResponse {
    let (outcome, mistakes) = match attempt.outcome {
        AttemptOutcome::Activated => (v1::ActivationOutcome::Activated, None),
        AttemptOutcome::Unchanged => (v1::ActivationOutcome::Unchanged, None),
        AttemptOutcome::Checked => (v1::ActivationOutcome::Valid, None),
        AttemptOutcome::Refused(mistakes) => (v1::ActivationOutcome::Refused, Some(mistakes)),
    };
    v1::ActivateResponse {
        outcome: outcome.into(),
        number: attempt.number.unwrap_or(0),
        digest: attempt.digest,
        mistakes_count: mistakes.as_ref().map_or(0, |mistakes| count_of(mistakes.count)),
        mistakes: mistakes
            .into_iter()
            .flat_map(|mistakes| mistakes.first)
            .map(mistake)
            .collect(),
        warnings: attempt.warnings.into_iter().map(mistake).collect(),
        policies: count_of(attempt.policies),
        tests_passed: count_of(attempt.cases),
    }
}

fn mistake(mistake: Mistake) -> v1::PolicyMistake {
    v1::PolicyMistake {
        file: mistake.file,
        line: mistake.line.map_or(0, count_of),
        message: mistake.message,
    }
}

fn count_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
