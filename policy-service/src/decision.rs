//! Decisions: one access request is evaluated, recorded and answered, whichever front it came through.

use std::sync::Arc;

use picket_core::access::AccessRequest;
use picket_core::configuration::problems::shortened;
use picket_core::decision::{Decision, Effect};
use picket_core::time::Timestamp as Time;
use uuid::{NoContext, Timestamp, Uuid};

use crate::assessor::Assessor;
use crate::audit::{Answer, AppendError, AuditLog, DecisionRecord, Event, RiskRecord};
use crate::clock::{self, Stopwatch};
use crate::configuration::Decisions;
use crate::logging::{DecisionLine, DecisionLines};
use crate::metrics::Metrics;
use crate::policy::{Evaluation, PolicyEngine};
use crate::risk::Assessment;

/// What a decision comes to, for the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Permit,
    Deny,
    Challenge,
}

impl Outcome {
    pub(crate) const ALL: [Self; 3] = [Self::Permit, Self::Deny, Self::Challenge];

    pub(crate) fn of(decision: &Decision) -> Self {
        match (decision.effect, &decision.challenge) {
            (Effect::Permit, _) => Self::Permit,
            (Effect::Deny, None) => Self::Deny,
            (Effect::Deny, Some(_)) => Self::Challenge,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
            Self::Challenge => "challenge",
        }
    }
}

const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// Decides about access requests.
pub(crate) struct Decider {
    pub(crate) policies: PolicyEngine,
    pub(crate) audit: AuditLog,
    pub(crate) validity: Decisions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lines: DecisionLines,
    /// `None`: nothing is scored.
    pub(crate) risk: Option<Arc<Assessor>>,
}

impl Decider {
    /// Decides about one request, which arrived when the stopwatch was started. The decision's record is durable when this
    /// returns.
    ///
    /// # Errors
    /// The decision was not recorded; then there is none.
    pub(crate) async fn decide(
        &self,
        request: AccessRequest,
        caller: &str,
        stopwatch: Stopwatch,
    ) -> Result<Decision, AppendError> {
        let time_us = clock::now_unix_us();
        let assessed = self.risk.as_ref().map(|risk| risk.assess(&request, to_ms(time_us)));
        let assessment = assessed.as_ref().map(|assessed| &assessed.assessment);
        let evaluation_time = Stopwatch::start();
        let evaluation = self.policies.evaluate_at_risk(&request, time_us, assessment);
        let evaluation_us = evaluation_time.elapsed_us();
        let failed = !evaluation.errors.is_empty();
        let would_change = evaluation.observed.is_some();
        let decision = self.decision(time_us, &evaluation, assessment);
        let line = Line::new(&request);
        let mut record = self.record(request, evaluation, &decision, caller, time_us, evaluation_us);
        record.risk = assessment.cloned().map(RiskRecord::from);
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(time_us, &Event::Decision(Box::new(record))).await?;
        if let (Some(risk), Some(assessed)) = (&self.risk, &assessed) {
            // Only what was given teaches.
            risk.learn(assessed, Outcome::of(&decision));
            self.metrics.assessed(assessed.assessment.risk.level);
        }
        self.metrics
            .decided(Outcome::of(&decision), failed, stopwatch.elapsed());
        if would_change {
            self.metrics.observed();
        }
        line.write(&self.lines, &decision, stopwatch.elapsed_us());
        Ok(decision)
    }

    fn decision(&self, time_us: u64, evaluation: &Evaluation, risk: Option<&Assessment>) -> Decision {
        let valid_for_ms = match evaluation.effect {
            // A failure is not repeated: the next evaluation may succeed.
            _ if !evaluation.errors.is_empty() => 0,
            Effect::Permit => self.validity.permit_valid_for_ms,
            Effect::Deny => self.validity.deny_valid_for_ms,
        };
        let same_for_ms = evaluation.same_for_ms.and_then(|ms| u32::try_from(ms).ok());
        Decision {
            effect: evaluation.effect,
            decision_id: decision_id(time_us),
            policy_revision: self.policies.revision().to_owned(),
            valid_for_ms: self.shrunk_by(risk, same_for_ms.map_or(valid_for_ms, |ms| valid_for_ms.min(ms))),
            policy_ids: evaluation.policy_ids.clone(),
            caller_reasons: evaluation.caller_reasons.clone(),
            vary: evaluation.vary,
            challenge: evaluation.challenge.clone().map(Box::new),
            obligations: evaluation.obligations.clone(),
            risk: risk.and_then(Assessment::counted),
        }
    }

    /// The more unusual a request is, the sooner it is looked at anew, whether or not a policy reads the risk.
    fn shrunk_by(&self, risk: Option<&Assessment>, valid_for_ms: u32) -> u32 {
        match (&self.risk, risk) {
            (Some(assessor), Some(risk)) => assessor.valid_for_ms(risk, valid_for_ms),
            (None, _) | (_, None) => valid_for_ms,
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
            obligations: evaluation.obligations,
            challenge: evaluation.challenge,
            observed: evaluation.observed,
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
            effect: Outcome::of(decision).as_str(),
            route_rule: &self.route_rule,
            policy_ids: &decision.policy_ids.join(","),
            policy_revision: &decision.policy_revision,
            duration_us,
            sidecar: &self.sidecar,
        });
    }
}

fn to_ms(time_us: u64) -> Time {
    Time::from_ms(time_us / 1000)
}

/// A UUID of version 7 (RFC 9562 §5.7): ids sort by time.
fn decision_id(time_us: u64) -> String {
    let seconds = time_us / MICROSECONDS_PER_SECOND;
    let nanoseconds = u32::try_from(time_us % MICROSECONDS_PER_SECOND * 1000).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanoseconds)).to_string()
}
