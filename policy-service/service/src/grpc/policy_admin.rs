//! `picket.v1.PolicyAdmin`: policy revisions in the store.

use std::path::Path;
use std::sync::Arc;

use picket_audit::{Act, ActOutcome};
use picket_policy::PolicyFiles;
use picket_proto::v1;
use picket_proto::v1::policy_admin_server::PolicyAdmin;
use picket_state::revisions::{
    Activation, ActivationAttempt, ActivationOutcome, ActivationRequest, Revision, RevisionError, RevisionProblem,
    RevisionProblems, Revisions,
};
use tonic::{Request, Response};

use super::{GrpcResult, admitted_for};
use crate::administration::{AdminAction, AdminError, Administration, Performed, now_us};
use crate::transport::AdmittedCall;
use picket_service_configuration::CallerRole;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// A line for people.
const COMMENT_BYTES_MAX: usize = 1_000;

/// Serves `PolicyAdmin`.
#[derive(Clone)]
pub(super) struct PolicyAdminService {
    administration: Arc<Administration>,
}

impl PolicyAdminService {
    pub(super) fn new(administration: Arc<Administration>) -> Self {
        Self { administration }
    }

    /// The call and the revisions, where the caller has the role.
    fn authorized<T>(
        &self,
        request: &Request<T>,
        role: CallerRole,
    ) -> Result<(AdmittedCall, Arc<Revisions>), AdminError> {
        let call = admitted_for(request, role)?;
        let revisions = self.administration.revisions(&call, role)?;
        Ok((call, revisions))
    }

    async fn perform(
        &self,
        action: AdminAction,
        attempt: impl Future<Output = Result<ActivationAttempt, RevisionError>> + Send + 'static,
    ) -> GrpcResult<v1::ActivateResponse> {
        let work = async move {
            let attempt = attempt.await;
            let outcome = match &attempt {
                Ok(attempt) => match attempt.outcome {
                    ActivationOutcome::Activated => ActOutcome::Done,
                    ActivationOutcome::Unchanged | ActivationOutcome::Checked => ActOutcome::Unchanged,
                    ActivationOutcome::Refused(_) => ActOutcome::Refused,
                },
                Err(error) if error.is_refusal() => ActOutcome::Refused,
                Err(_) => ActOutcome::Failed,
            };
            let target = target_of(&attempt);
            Ok(Performed::new(outcome, attempt).with_target(target))
        };
        let attempt = self.administration.perform_audited(action, work).await?;
        Ok(Response::new(attempt_message(attempt.map_err(AdminError::from)?)))
    }
}

#[tonic::async_trait]
impl PolicyAdmin for PolicyAdminService {
    async fn list_revisions(
        &self,
        request: Request<v1::ListRevisionsRequest>,
    ) -> GrpcResult<v1::ListRevisionsResponse> {
        let (_call, revisions) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.into_inner();
        let count_max = count(message.count_max)?;
        let active = revisions.active().await.map_err(AdminError::from)?;
        let found = revisions.list(before(message.before), count_max).await;
        let found = found.map_err(AdminError::from)?;
        Ok(Response::new(v1::ListRevisionsResponse {
            next: next(&found, count_max, |revision| revision.number),
            revisions: found
                .into_iter()
                .map(|revision| revision_message(revision, active))
                .collect(),
        }))
    }

    async fn show_revision(&self, request: Request<v1::ShowRevisionRequest>) -> GrpcResult<v1::ShowRevisionResponse> {
        let (_call, revisions) = self.authorized(&request, CallerRole::Reader)?;
        let number = before(request.get_ref().number);
        let (revision, files) = revisions.show(number).await.map_err(AdminError::from)?;
        let active = revisions.active().await.map_err(AdminError::from)?;
        let file = |file: picket_state::revisions::RevisionFile| v1::PolicyFile {
            name: file.name,
            text: file.text,
        };
        Ok(Response::new(v1::ShowRevisionResponse {
            revision: Some(revision_message(revision, active)),
            files: files.into_iter().map(file).collect(),
        }))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> GrpcResult<v1::HistoryResponse> {
        let (_call, revisions) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.into_inner();
        let count_max = count(message.count_max)?;
        let found = revisions.history(before(message.before), count_max).await;
        let found = found.map_err(AdminError::from)?;
        Ok(Response::new(v1::HistoryResponse {
            next: next(&found, count_max, |activation| activation.id),
            activations: found.into_iter().map(activation_message).collect(),
        }))
    }

    async fn activate(&self, request: Request<v1::ActivateRequest>) -> GrpcResult<v1::ActivateResponse> {
        let (call, revisions) = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        let files = message.files.into_iter().map(|file| (file.name, file.text));
        let files = PolicyFiles::of(Path::new(""), files).map_err(|errors| RevisionProblems::of(&errors));
        if message.validate_only {
            let attempt = match files {
                Ok(files) => revisions.validate(files).await.map_err(AdminError::from)?,
                Err(mistakes) => ActivationAttempt::refused(mistakes),
            };
            return Ok(Response::new(attempt_message(attempt)));
        }
        let order = order(call.caller(), message.comment, message.expected_active)?;
        let attempt = async move {
            match files {
                Ok(files) => revisions.activate(files, order).await,
                Err(mistakes) => Ok(ActivationAttempt::refused(mistakes)),
            }
        };
        let action = AdminAction {
            call,
            act: Act::ActivatePolicies,
            target: String::new(),
        };
        self.perform(action, attempt).await
    }

    async fn roll_back(&self, request: Request<v1::RollBackRequest>) -> GrpcResult<v1::ActivateResponse> {
        let (call, revisions) = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        let number = before(message.number).ok_or(AdminError::Field("number", "the number of a revision"))?;
        let order = order(call.caller(), message.comment, message.expected_active)?;
        let attempt = async move { revisions.roll_back(number, order).await };
        let action = AdminAction {
            call,
            act: Act::RollBackPolicies,
            target: number.to_string(),
        };
        self.perform(action, attempt).await
    }
}

/// The revision that an attempt is about, for the audit record.
fn target_of(attempt: &Result<ActivationAttempt, RevisionError>) -> Option<String> {
    let attempt = attempt.as_ref().ok()?;
    Some(format!("{} {}", attempt.number?, attempt.digest))
}

fn order(caller: &str, comment: String, expected_active: Option<u64>) -> Result<ActivationRequest, AdminError> {
    let is_line = (1..=COMMENT_BYTES_MAX).contains(&comment.len()) && !comment.contains(char::is_control);
    if !is_line {
        return Err(AdminError::Field(
            "comment",
            "1 to 1000 bytes without control characters",
        ));
    }
    Ok(ActivationRequest {
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

fn revision_message(revision: Revision, active: Option<u64>) -> v1::PolicyRevision {
    v1::PolicyRevision {
        is_active: active == Some(revision.number),
        number: revision.number,
        digest: revision.digest,
        author: revision.author,
        comment: revision.comment,
        created_us: revision.created_us,
    }
}

fn activation_message(activation: Activation) -> v1::PolicyActivation {
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

fn attempt_message(attempt: ActivationAttempt) -> v1::ActivateResponse {
    let (outcome, mistakes) = match attempt.outcome {
        ActivationOutcome::Activated => (v1::ActivationOutcome::Activated, None),
        ActivationOutcome::Unchanged => (v1::ActivationOutcome::Unchanged, None),
        ActivationOutcome::Checked => (v1::ActivationOutcome::Valid, None),
        ActivationOutcome::Refused(mistakes) => (v1::ActivationOutcome::Refused, Some(mistakes)),
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

fn mistake(mistake: RevisionProblem) -> v1::PolicyMistake {
    v1::PolicyMistake {
        file: mistake.file,
        line: mistake.line.map_or(0, count_of),
        message: mistake.message,
    }
}

fn count_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
