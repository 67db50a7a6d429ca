//! Decisions: one access request is decided, recorded and answered, whichever front it came
//! through.
//!
//! [`Decider::decide`] collects the facts about a request ([`facts`]), evaluates the policies with
//! them ([`evaluation`]), makes the decision with its validity, appends its record to the audit
//! log, and only then returns it. Nothing here knows a front: a front reads an [`AccessRequest`]
//! from its own protocol and converts the [`Decision`].
//!
//! The result has one form for each reader: [`picket_policy::Evaluation`] is what the policies say,
//! [`Decision`] is what the caller gets, and [`DecisionRecord`] is what the audit log keeps.

mod evaluation;
mod facts;
mod log_line;
mod metrics;
mod search;

use std::sync::Arc;
use std::time::Duration;

use picket_audit::{
    AppendError, AuditLog, DecisionDetails, DecisionRecord, DeviceRecord, Event, ObservedRecord, RiskRecord,
};
use picket_model::access::AccessRequest;
use picket_model::decision::{Decision, Effect, Vary};
use picket_model::session::EndReason;
use picket_model::time::Timestamp;
use picket_policy::{Evaluation, PolicyEngine};
use picket_risk::Assessment;
use picket_state::StorageError;
use picket_state::devices::Devices;
use picket_state::revisions::{ActivePolicies, NO_REVISION};
use picket_state::roles::Roles;
use picket_state::sessions::{SessionAccess, SessionRefusal, Sessions};
use uuid::{NoContext, Uuid};

use crate::assessor::{Assessor, AssessorMetrics};
use crate::clock::{self, Stopwatch};
use crate::logging::DecisionLines;
use facts::Facts;
use log_line::RequestLine;
pub(crate) use metrics::DecisionMetrics;
use picket_service_configuration::DecisionSettings;
pub(crate) use search::Search;

/// Decides access requests.
pub(crate) struct Decider {
    pub(crate) policies: ActivePolicies,
    pub(crate) audit: AuditLog,
    pub(crate) validity: DecisionSettings,
    pub(crate) metrics: DecisionMetrics,
    pub(crate) risk_metrics: AssessorMetrics,
    pub(crate) lines: DecisionLines,
    /// `None`: nothing is scored.
    pub(crate) risk: Option<Arc<Assessor>>,
    /// `None`: sessions are not kept.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// `None`: devices are not kept.
    pub(crate) devices: Option<Arc<Devices>>,
    /// `None`: the roles are those of the token alone.
    pub(crate) roles: Option<Arc<Roles>>,
}

/// The kinds of decisions, for the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecisionOutcome {
    Permit,
    Deny,
    Challenge,
}

impl DecisionOutcome {
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

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecisionError {
    /// It was made but not recorded.
    #[error(transparent)]
    Audit(#[from] AppendError),
    /// Nothing is known of the request's session, or of its device.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nothing is known of the policies that decide.
    #[error(transparent)]
    Policies(StorageError),
    /// Nothing is known of the roles that were assigned.
    #[error(transparent)]
    Roles(StorageError),
}

impl Decider {
    /// Decides one request, which arrived when the stopwatch was started. The decision's record is
    /// durable when this returns.
    ///
    /// # Errors
    /// A fact is not known, or the decision was not recorded; then there is none.
    pub(crate) async fn decide(
        &self,
        mut request: AccessRequest,
        access: SessionAccess,
        caller: &str,
        stopwatch: Stopwatch,
    ) -> Result<Decision, DecisionError> {
        let now = clock::now();
        let facts = self.facts(&mut request, access, now).await?;
        let evaluation_time = Stopwatch::start();
        let evaluation = match (facts.refusal(), &facts.policies) {
            (Some(refusal), _) => refusal,
            (None, Some(policies)) => {
                let context = facts.evaluation_context(now);
                self.evaluate(policies, &request, &context)
            }
            (None, None) => evaluation::without_policies(),
        };
        let evaluation_us = evaluation_time.elapsed_us();
        let (failed, would_change) = (!evaluation.errors.is_empty(), evaluation.observed.is_some());
        let decision = self.decision(&evaluation, &facts, now);
        let line = RequestLine::new(&request);
        let details = DecisionDetails {
            time: now,
            caller: caller.to_owned(),
            evaluation_errors: evaluation.errors,
            observed: evaluation
                .observed
                .map(|observed| ObservedRecord::new(observed.effect, observed.policy_ids)),
            risk: facts.assessment().cloned().map(RiskRecord::from),
            device: facts.device.device.clone().map(DeviceRecord::from),
            assigned_roles: facts.assigned_roles.roles.clone(),
            evaluation_us,
        };
        let record = DecisionRecord::new(request, &decision, details);
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(now, &Event::Decision(Box::new(record))).await?;
        let outcome = DecisionOutcome::of(&decision);
        self.learn(&facts, access, outcome);
        self.metrics.count_decision(outcome, stopwatch.elapsed());
        if failed {
            self.metrics.count_evaluation_error();
        }
        if would_change {
            self.metrics.count_observed();
        }
        line.write(&self.lines, &decision, stopwatch.elapsed_us());
        Ok(decision)
    }

    /// Whether an operator can change decisions while the service runs. Then a caller that is not
    /// notified of changes must not keep them.
    pub(crate) fn decisions_can_change(&self) -> bool {
        self.sessions.is_some() || self.roles.is_some() || self.devices.is_some() || self.policies.revisions().is_some()
    }

    fn decision(&self, evaluation: &Evaluation, facts: &Facts, now: Timestamp) -> Decision {
        let revision = facts.policies.as_ref().map_or(NO_REVISION, PolicyEngine::revision);
        Decision {
            effect: evaluation.effect,
            decision_id: new_id(now),
            policy_revision: revision.to_owned(),
            valid_for_ms: self.valid_for_ms(evaluation, facts),
            policy_ids: evaluation.policy_ids.clone(),
            caller_reasons: evaluation.caller_reasons.clone(),
            vary: facts.vary().fold(evaluation.vary, Vary::with),
            challenge: evaluation.challenge.clone().map(Box::new),
            is_token_revoked: facts.session.refusal.is_some_and(SessionRefusal::revokes_token),
            obligations: evaluation.obligations.clone(),
            risk: facts.assessment().and_then(Assessment::effective_risk),
        }
    }

    /// The shortest of the validities that the configuration, the policies, the risk, the session
    /// and the assigned roles allow.
    fn valid_for_ms(&self, evaluation: &Evaluation, facts: &Facts) -> u32 {
        let configured_ms = match evaluation.effect {
            // A failure is not repeated: the next evaluation may succeed.
            _ if !evaluation.errors.is_empty() => 0,
            Effect::Permit => self.validity.permit_valid_for_ms,
            Effect::Deny => self.validity.deny_valid_for_ms,
        };
        let same_for_ms = evaluation.same_for_ms.and_then(|ms| u32::try_from(ms).ok());
        let valid_for_ms = same_for_ms.map_or(configured_ms, |ms| configured_ms.min(ms));
        // The higher the risk, the sooner a request is decided anew, whether or not a policy reads
        // the risk.
        let valid_for_ms = match (&self.risk, facts.assessment()) {
            (Some(assessor), Some(assessment)) => assessor.valid_for_ms(assessment, valid_for_ms),
            (None, _) | (_, None) => valid_for_ms,
        };
        valid_for_ms
            .min(facts.session.valid_for_ms_max)
            .min(facts.assigned_roles.valid_for_ms_max)
    }

    /// Lets the risk baselines learn from a decision, and counts its risk level.
    fn learn(&self, facts: &Facts, access: SessionAccess, outcome: DecisionOutcome) {
        let (Some(assessor), Some(assessed)) = (&self.risk, &facts.risk) else {
            return;
        };
        // A deny without policies says nothing about the principal.
        let lesson = match (facts.session.refusal, &facts.policies) {
            (None, None) => picket_risk::RequestOutcome::Closed,
            (refusal, _) => lesson(outcome, refusal),
        };
        match access {
            SessionAccess::Update => assessor.learn(assessed, lesson),
            // Another enforcement point's description of a principal could be anything.
            SessionAccess::ReadOnly => {}
        }
        self.risk_metrics.count_assessment(assessed.assessment.risk.level);
    }
}

/// What the risk baselines learn from a decision.
fn lesson(outcome: DecisionOutcome, refusal: Option<SessionRefusal>) -> picket_risk::RequestOutcome {
    match (outcome, refusal) {
        (DecisionOutcome::Permit, _) => picket_risk::RequestOutcome::Permitted,
        (DecisionOutcome::Challenge, _) => picket_risk::RequestOutcome::Challenged,
        (DecisionOutcome::Deny, None) => picket_risk::RequestOutcome::Denied,
        (
            DecisionOutcome::Deny,
            Some(SessionRefusal::Revoked | SessionRefusal::Ended(EndReason::Revoked | EndReason::Compromised)),
        ) => picket_risk::RequestOutcome::SessionRefused,
        (
            DecisionOutcome::Deny,
            Some(
                SessionRefusal::Ended(EndReason::IdleTimeout | EndReason::AbsoluteTimeout | EndReason::Superseded)
                | SessionRefusal::Lockdown
                | SessionRefusal::ReauthenticationRequired
                | SessionRefusal::IdMissing
                | SessionRefusal::LimitReached,
            ),
        ) => picket_risk::RequestOutcome::Closed,
    }
}

/// A UUID of version 7 (RFC 9562 §5.7): ids sort by time.
pub(crate) fn new_id(now: Timestamp) -> String {
    let since_epoch = Duration::from_micros(now.as_us());
    let time = uuid::Timestamp::from_unix(NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    Uuid::new_v7(time).to_string()
}
