//! One call of `Decide`: read, evaluate, record, answer.

use std::sync::Arc;
use std::time::Duration;

use picket_core::access::AccessRequest;
use picket_core::configuration::problems::shortened;
use picket_core::decision::{Decision, Effect};
use picket_proto::v1;
use picket_proto::v1::policy_decision_server::PolicyDecision;
use tonic::{Request, Response, Status};
use uuid::{NoContext, Timestamp, Uuid};

use super::gate::Admitted;
use super::status::{DecideError, label};
use crate::audit::{Answer, AuditLog, DecisionRecord, Event};
use crate::clock::{self, Stopwatch};
use crate::configuration::Decisions;
use crate::logging::{DecisionLine, DecisionLines};
use crate::metrics::Metrics;
use crate::policy::{Evaluation, PolicyEngine};

/// No sidecar waits this long; it bounds how long a call holds its slot while the disk is slow.
const DECIDE_TIMEOUT: Duration = Duration::from_secs(5);
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// Answers access requests.
pub(crate) struct Decider {
    pub(crate) policies: PolicyEngine,
    pub(crate) audit: AuditLog,
    pub(crate) validity: Decisions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lines: DecisionLines,
}

#[tonic::async_trait]
impl PolicyDecision for Decider {
    async fn decide(&self, request: Request<v1::AccessRequest>) -> Result<Response<v1::Decision>, Status> {
        let stopwatch = Stopwatch::start();
        let decided = tokio::time::timeout(DECIDE_TIMEOUT, self.answer(request, stopwatch)).await;
        match decided.unwrap_or(Err(DecideError::TimedOut)) {
            Ok(decision) => Ok(Response::new(decision.into())),
            Err(error) => {
                let status = error.status();
                self.metrics.failed(label(status.code()));
                tracing::debug!(%error, "no decision");
                Err(status)
            }
        }
    }
}

impl Decider {
    async fn answer(&self, request: Request<v1::AccessRequest>, stopwatch: Stopwatch) -> Result<Decision, DecideError> {
        let admitted = Admitted::of(request.extensions())?;
        let time_us = clock::now_unix_us();
        let request = AccessRequest::try_from(request.into_inner())?;
        let evaluation_time = Stopwatch::start();
        let evaluation = self.policies.evaluate(&request);
        let evaluation_us = evaluation_time.elapsed_us();
        let failed = !evaluation.errors.is_empty();
        let decision = self.decision(time_us, &evaluation);
        let line = Line::new(&request);
        let record = self.record(
            request,
            evaluation,
            &decision,
            admitted.caller(),
            time_us,
            evaluation_us,
        );
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(time_us, &Event::Decision(Box::new(record))).await?;
        self.metrics.decided(decision.effect, failed, stopwatch.elapsed());
        line.write(&self.lines, &decision, stopwatch.elapsed_us());
        Ok(decision)
    }

    fn decision(&self, time_us: u64, evaluation: &Evaluation) -> Decision {
        let valid_for_ms = match evaluation.effect {
            // A failure is not repeated: the next evaluation may succeed.
            _ if !evaluation.errors.is_empty() => 0,
            Effect::Permit => self.validity.permit_valid_for_ms,
            Effect::Deny => self.validity.deny_valid_for_ms,
        };
        Decision {
            effect: evaluation.effect,
            decision_id: decision_id(time_us),
            policy_revision: self.policies.revision().to_owned(),
            valid_for_ms,
            policy_ids: evaluation.policy_ids.clone(),
            caller_reasons: evaluation.caller_reasons.clone(),
            vary: evaluation.vary,
        }
    }

    fn record(
        &self,
        request: AccessRequest,
        evaluation: Evaluation,
        decision: &Decision,
        caller: &str,
        time_us: u64,
        evaluation_us: u64,
    ) -> DecisionRecord {
        let answer = Answer {
            decision_id: decision.decision_id.clone(),
            time_us,
            caller: caller.to_owned(),
            effect: decision.effect,
            policy_revision: decision.policy_revision.clone(),
            policy_ids: evaluation.policy_ids,
            evaluation_errors: evaluation.errors,
            caller_reasons: evaluation.caller_reasons,
            valid_for_ms: decision.valid_for_ms,
            evaluation_us,
        };
        DecisionRecord::new(request, answer)
    }
}

/// The log line of a decision. It holds neither subject nor path: those are in the audit record, which is sealed.
struct Line {
    request_id: String,
    route_rule: String,
    sidecar: String,
}

impl Line {
    fn new(request: &AccessRequest) -> Self {
        Self {
            request_id: shortened(&request.request_id),
            route_rule: shortened(&request.route_rule),
            sidecar: shortened(&request.sidecar.workload),
        }
    }

    fn write(&self, lines: &DecisionLines, decision: &Decision, duration_us: u64) {
        lines.write(&DecisionLine {
            decision_id: &decision.decision_id,
            request_id: &self.request_id,
            effect: match decision.effect {
                Effect::Permit => "permit",
                Effect::Deny => "deny",
            },
            route_rule: &self.route_rule,
            policy_ids: &decision.policy_ids.join(","),
            policy_revision: &decision.policy_revision,
            duration_us,
            sidecar: &self.sidecar,
        });
    }
}

/// A UUID of version 7 (RFC 9562 §5.7): ids sort by time.
fn decision_id(time_us: u64) -> String {
    let seconds = time_us / MICROSECONDS_PER_SECOND;
    let nanoseconds = u32::try_from(time_us % MICROSECONDS_PER_SECOND * 1000).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanoseconds)).to_string()
}
