//! Decisions: one access request is evaluated, recorded and answered, whichever front it came through.

mod metrics;
mod search;

use std::sync::Arc;

use picket_core::access::AccessRequest;
use picket_core::configuration::problems::shortened;
use picket_core::decision::{Decision, Effect, Vary};
use picket_core::time::Timestamp as Time;
use uuid::{NoContext, Timestamp, Uuid};

use crate::assessor::{Assessor, AssessorMetrics};
use crate::audit::{Answer, AppendError, AuditLog, DecisionRecord, DeviceSeenRecord, Event, RiskRecord};
use crate::clock::{self, Stopwatch};
use crate::configuration::DecisionSettings;
use crate::devices::{self, Devices};
use crate::logging::{DecisionLine, DecisionLines};
use crate::policy::{Evaluation, Known, PolicyEngine};
use crate::revisions::{ActivePolicies, NO_REVISION};
use crate::risk::{self, Assessment, KnownDevice, MissingFactors, Standing};
use crate::roles::{Added, Roles};
use crate::sessions::{EndReason, Judgement, Presence, Refusal, Sessions};
use crate::storage::StorageError;
pub(crate) use metrics::DecisionMetrics;
pub(crate) use search::Search;

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

const MICROSECONDS_PER_SECOND: u64 = 1_000_000;
/// The reason where no revision of the policies is active.
pub(crate) const NO_ACTIVE_POLICIES: &str = "no_active_policies";

/// Decides about access requests.
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
    /// Decides about one request, which arrived when the stopwatch was started. The decision's record is durable when this
    /// returns.
    ///
    /// # Errors
    /// Its session could not be looked up, or the decision was not recorded; then there is none.
    pub(crate) async fn decide(
        &self,
        mut request: AccessRequest,
        presence: Presence,
        caller: &str,
        stopwatch: Stopwatch,
    ) -> Result<Decision, DecisionError> {
        let time_us = clock::now_unix_us();
        let mut judgement = self.judge_session(&request, presence, time_us).await?;
        if let (Some(sessions), Some(principal), Presence::Client, None) =
            (&self.sessions, &request.principal, presence, judgement.refusal)
        {
            sessions.record_claims(principal);
        }
        let device = self.judge_device(&request, time_us).await?;
        // From here on the request has the roles that count, for the policies and for the record.
        let assigned = self.assign_roles(&mut request, time_us)?;
        judgement.valid_for_ms_max = judgement.valid_for_ms_max.min(assigned.valid_for_ms_max);
        // INVARIANT: one revision makes the whole decision, whichever is activated meanwhile.
        let policies = self.policies.current().map_err(DecisionError::Policies)?;
        let assessed = self
            .risk
            .as_ref()
            .map(|risk| risk.assess(&request, known(&device), to_ms(time_us)));
        let assessment = assessed.as_ref().map(|assessed| &assessed.assessment);
        let evaluation_time = Stopwatch::start();
        let evaluation = match (refused(&judgement, &device), &policies) {
            (Some(refused), _) => refused,
            (None, Some(policies)) => {
                let known = Known {
                    risk: assessment,
                    device: device.device.as_ref(),
                };
                self.evaluate(policies, &request, time_us, known)
            }
            (None, None) => denied_without_policies(),
        };
        let evaluation_us = evaluation_time.elapsed_us();
        let failed = !evaluation.errors.is_empty();
        let would_change = evaluation.observed.is_some();
        let revision = policies.as_ref().map_or(NO_REVISION, PolicyEngine::revision);
        let decision = self.decision(time_us, revision, &evaluation, (&judgement, &device), assessment);
        let line = Line::new(&request);
        let mut record = self.record(request, evaluation, &decision, caller, time_us, evaluation_us);
        record.assigned_roles = assigned.roles;
        record.risk = assessment.cloned().map(RiskRecord::from);
        record.device = device.device.map(DeviceSeenRecord::from);
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(time_us, &Event::Decision(Box::new(record))).await?;
        if let (Some(assessor), Some(assessed)) = (&self.risk, &assessed) {
            // Only what was given teaches, and where there are no policies nothing says anything about the principal.
            let lesson = match (judgement.refusal, &policies) {
                (None, None) => risk::Outcome::Closed,
                (refusal, _) => lesson(DecisionOutcome::of(&decision), refusal),
            };
            // And only what a client did: what somebody tells of a principal could be anything.
            match presence {
                Presence::Client => assessor.learn(assessed, lesson),
                Presence::Told => {}
            }
            self.risk_metrics.count_assessment(assessed.assessment.risk.level);
        }
        self.metrics
            .count_decision(DecisionOutcome::of(&decision), stopwatch.elapsed());
        if failed {
            self.metrics.count_evaluation_error();
        }
        if would_change {
            self.metrics.count_observed();
        }
        line.write(&self.lines, &decision, stopwatch.elapsed_us());
        Ok(decision)
    }

    /// What the policies say, and then whether the principal has shown the factors of its risk, where they are enforced.
    fn evaluate(&self, policies: &PolicyEngine, request: &AccessRequest, time_us: u64, known: Known<'_>) -> Evaluation {
        let evaluation = self.policies_say(policies, request, time_us, known);
        let assessment = known.risk;
        let asked = (&self.risk, assessment, &request.principal);
        let (Some(risk), Some(assessment), Some(principal)) = asked else {
            return evaluation;
        };
        if !risk.factors_are_enforced() {
            return evaluation;
        }
        let missing = match evaluation.effect {
            Effect::Permit => risk.missing_factors(assessment, principal),
            Effect::Deny => None,
        };
        let evaluation = Evaluation {
            vary: assessment.vary.attributes().fold(evaluation.vary, Vary::with),
            same_for_ms: [evaluation.same_for_ms, known.risk_same_for_ms()]
                .into_iter()
                .flatten()
                .min(),
            ..evaluation
        };
        match missing {
            Some(missing) => asked_for(missing, evaluation),
            None => evaluation,
        }
    }

    /// Whether an operator can change what is decided while the service runs, so that an answer is not to be kept where nobody is
    /// told of that.
    pub(crate) fn answers_can_change(&self) -> bool {
        self.sessions.is_some() || self.roles.is_some() || self.devices.is_some() || self.policies.revisions().is_some()
    }

    /// Adds the roles that were assigned to the principal, which is in each sidecar's key: an answer that is repeated goes to nobody
    /// else.
    fn assign_roles(&self, request: &mut AccessRequest, time_us: u64) -> Result<Added, DecisionError> {
        match (&self.roles, &mut request.principal) {
            (Some(roles), Some(principal)) => {
                let now_us = signed(time_us);
                roles.add_to(principal, now_us).map_err(DecisionError::Roles)
            }
            (None, _) | (_, None) => Ok(Added::nothing()),
        }
    }

    async fn judge_session(
        &self,
        request: &AccessRequest,
        presence: Presence,
        time_us: u64,
    ) -> Result<Judgement, DecisionError> {
        let Some(sessions) = &self.sessions else {
            return Ok(Judgement::none());
        };
        let now_us = signed(time_us);
        if let Some(judgement) = sessions.remembered(request, presence, now_us)? {
            return Ok(judgement);
        }
        let place = sessions.place()?;
        let (sessions, audit, request) = (Arc::clone(sessions), self.audit.clone(), request.clone());
        // On its own, so that it is carried to its end when the caller goes away: what happens to a session is recorded.
        let judged = tokio::spawn(async move {
            let _place = place;
            let mut changes = Vec::new();
            let judgement = sessions.judge(&request, presence, now_us, &mut changes).await;
            // Each is recorded, whatever becomes of the others.
            let mut recorded = Ok(());
            for change in changes {
                let appended = audit.append(time_us, &Event::Session(Box::new(change))).await;
                recorded = recorded.and(appended);
            }
            recorded?;
            Ok(judgement?)
        });
        judged.await.unwrap_or(Err(StorageError::NotDone.into()))
    }

    async fn judge_device(&self, request: &AccessRequest, time_us: u64) -> Result<devices::Judgement, DecisionError> {
        let Some(devices) = &self.devices else {
            return Ok(devices::Judgement::none());
        };
        let now_us = signed(time_us);
        match devices.remembered(request, now_us)? {
            Some(judgement) => Ok(judgement),
            None => Ok(devices.judge(request, now_us).await?),
        }
    }

    /// What the policies say of a request of which this is known.
    fn policies_say(
        &self,
        policies: &PolicyEngine,
        request: &AccessRequest,
        time_us: u64,
        known: Known<'_>,
    ) -> Evaluation {
        let mut evaluation = policies.evaluate_knowing(request, time_us, known);
        // Where none is kept, nobody can come back with one that is trusted.
        let keeps_devices = self.devices.is_some();
        evaluation.challenge = evaluation
            .challenge
            .filter(|challenge| keeps_devices || !challenge.trusted_device());
        evaluation
    }

    fn decision(
        &self,
        time_us: u64,
        revision: &str,
        evaluation: &Evaluation,
        (judgement, device): (&Judgement, &devices::Judgement),
        risk: Option<&Assessment>,
    ) -> Decision {
        let valid_for_ms = match evaluation.effect {
            // A failure is not repeated: the next evaluation may succeed.
            _ if !evaluation.errors.is_empty() => 0,
            Effect::Permit => self.validity.permit_valid_for_ms,
            Effect::Deny => self.validity.deny_valid_for_ms,
        };
        let same_for_ms = evaluation.same_for_ms.and_then(|ms| u32::try_from(ms).ok());
        Decision {
            effect: evaluation.effect,
            decision_id: made_up_id(time_us),
            policy_revision: revision.to_owned(),
            valid_for_ms: self
                .shrunk_by(risk, same_for_ms.map_or(valid_for_ms, |ms| valid_for_ms.min(ms)))
                .min(judgement.valid_for_ms_max),
            policy_ids: evaluation.policy_ids.clone(),
            caller_reasons: evaluation.caller_reasons.clone(),
            vary: judgement
                .vary
                .attributes()
                .chain(device.vary.attributes())
                .fold(evaluation.vary, Vary::with),
            challenge: evaluation.challenge.clone().map(Box::new),
            is_token_revoked: judgement.refusal.is_some_and(Refusal::revokes_token),
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

/// A challenge in the place of a permit: the policies would have taken another authentication of the same principal.
fn asked_for(missing: MissingFactors, evaluation: Evaluation) -> Evaluation {
    let reasons = missing.factors.iter().map(|factor| factor.reason().to_owned());
    Evaluation {
        effect: Effect::Deny,
        policy_ids: Vec::new(),
        caller_reasons: reasons.collect(),
        obligations: Vec::new(),
        challenge: Some(missing.step_up),
        // What policies in observe mode would have denied is denied.
        observed: None,
        ..evaluation
    }
}

/// What risk looks at of a request's device.
fn known(judgement: &devices::Judgement) -> Option<KnownDevice<'_>> {
    judgement.device.as_ref().map(|device| KnownDevice {
        id: &device.id,
        standing: Standing {
            trust_score: device.trust_score,
            is_compliant: device.is_compliant,
        },
    })
}

/// What a decision teaches about its principal.
fn lesson(outcome: DecisionOutcome, refusal: Option<Refusal>) -> risk::Outcome {
    match (outcome, refusal) {
        (DecisionOutcome::Permit, _) => risk::Outcome::Permitted,
        (DecisionOutcome::Challenge, _) => risk::Outcome::Challenged,
        (DecisionOutcome::Deny, None) => risk::Outcome::Denied,
        (
            DecisionOutcome::Deny,
            Some(Refusal::Revoked | Refusal::Ended(EndReason::Revoked | EndReason::Compromised)),
        ) => risk::Outcome::SessionRefused,
        (
            DecisionOutcome::Deny,
            Some(
                Refusal::Ended(EndReason::IdleTimeout | EndReason::AbsoluteTimeout | EndReason::Superseded)
                | Refusal::Lockdown
                | Refusal::ReauthenticationRequired
                | Refusal::IdMissing
                | Refusal::LimitReached,
            ),
        ) => risk::Outcome::Closed,
    }
}

/// A deny for the sake of the session or the device, where one of them is in the way: no policy is asked.
fn refused(judgement: &Judgement, device: &devices::Judgement) -> Option<Evaluation> {
    let of_session = |refusal: Refusal| Evaluation {
        challenge: judgement.challenge.clone(),
        ..denied(refusal.code())
    };
    let of_device = || device.refusal.map(|refusal| denied(refusal.code()));
    judgement.refusal.map(of_session).or_else(of_device)
}

/// A deny because there are no policies. It is not repeated: the next request may find some.
fn denied_without_policies() -> Evaluation {
    Evaluation {
        same_for_ms: Some(0),
        ..denied(NO_ACTIVE_POLICIES)
    }
}

/// A deny that no policy has made.
fn denied(reason: &str) -> Evaluation {
    Evaluation {
        effect: Effect::Deny,
        policy_ids: Vec::new(),
        caller_reasons: vec![reason.to_owned()],
        obligations: Vec::new(),
        challenge: None,
        errors: Vec::new(),
        vary: Vary::NOTHING,
        same_for_ms: None,
        observed: None,
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
            effect: DecisionOutcome::of(decision).as_str(),
            route_rule: &self.route_rule,
            policy_ids: &decision.policy_ids.join(","),
            policy_revision: &decision.policy_revision,
            duration_us,
            sidecar: &self.sidecar,
        });
    }
}

/// As sessions, devices and roles count microseconds.
fn signed(time_us: u64) -> i64 {
    i64::try_from(time_us).unwrap_or(i64::MAX)
}

fn to_ms(time_us: u64) -> Time {
    Time::from_ms(time_us / 1000)
}

/// A UUID of version 7 (RFC 9562 §5.7): ids sort by time.
pub(crate) fn made_up_id(time_us: u64) -> String {
    let seconds = time_us / MICROSECONDS_PER_SECOND;
    let nanoseconds = u32::try_from(time_us % MICROSECONDS_PER_SECOND * 1000).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanoseconds)).to_string()
}
