//! Records of decisions.

use picket_model::access::{AccessRequest, FurtherToken, Principal};
use picket_model::decision::{Decision, Effect, StepUp};
use picket_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::device::DeviceRecord;
use super::request::{
    ActionRecord, ContextRecord, FurtherTokenRecord, PrincipalRecord, ResourceRecord, SidecarRecord, read,
};
use super::risk::RiskRecord;

/// One decision: who asked about what, and what was answered. It holds neither tokens nor headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The id that the answer carries.
    pub decision_id: String,
    /// When it was made, in microseconds since the epoch.
    pub time_us: u64,
    /// The caller's SPIFFE ID, from its certificate.
    pub caller: String,
    /// The sidecar, as it named itself.
    pub sidecar: SidecarRecord,
    /// Envoy's request id.
    pub request_id: String,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
    /// The route rule that matched.
    pub route_rule: String,
    /// The authenticated party.
    pub principal: Option<PrincipalRecord>,
    /// The tokens beside the principal's. Absent in records from before they were kept.
    #[serde(default)]
    pub further_tokens: Vec<FurtherTokenRecord>,
    /// The SPIFFE ID that mutual TLS proved to the sidecar.
    pub peer: Option<String>,
    /// The action.
    pub action: ActionRecord,
    /// The resource.
    pub resource: ResourceRecord,
    /// The circumstances.
    pub context: ContextRecord,
    /// The effect.
    pub effect: EffectRecord,
    /// The revision of the policies that decided.
    pub policy_revision: String,
    /// The policies that decided; none for a deny because nothing permits.
    pub policy_ids: Vec<String>,
    /// Why the evaluation failed, which is a deny; mostly empty.
    pub evaluation_errors: Vec<String>,
    /// The reasons for the caller.
    pub caller_reasons: Vec<String>,
    /// How unusual the request was. Absent where it was not assessed, and in records from before it
    /// was.
    #[serde(default)]
    pub risk: Option<RiskRecord>,
    /// The device that it came from, as it was then. Absent where none was known, and in records
    /// from before there were devices.
    #[serde(default)]
    pub device: Option<DeviceRecord>,
    /// The roles that an operator has assigned and the token does not have. Absent in records from
    /// before roles.
    #[serde(default)]
    pub assigned_roles: Vec<String>,
    /// The obligations for the upstream. Absent in records from before they were kept, as are those
    /// below.
    #[serde(default)]
    pub obligations: Vec<String>,
    /// With a deny: how the same principal would have been permitted.
    #[serde(default)]
    pub challenge: Option<ChallengeRecord>,
    /// The different result if the policies in observe mode were enforced.
    #[serde(default)]
    pub observed: Option<ObservedRecord>,
    /// How long the sidecar may repeat the answer, in milliseconds.
    pub valid_for_ms: u32,
    /// How long the evaluation took, in microseconds.
    pub evaluation_us: u64,
}

/// The stronger authentication that a denied principal would have needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `StepUp`")]
pub struct ChallengeRecord {
    pub acr_values: Vec<String>,
    pub max_age_s: Option<u32>,
    pub bound_token: bool,
    /// Absent in records from before there were devices.
    #[serde(default)]
    pub trusted_device: bool,
}

/// The result if policies in observe mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedRecord {
    /// The other effect than the one that was decided.
    pub effect: EffectRecord,
    /// The policies in observe mode that would have decided, or that failed.
    pub policy_ids: Vec<String>,
}

/// The effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectRecord {
    /// The request may go on.
    Permit,
    /// It may not.
    Deny,
}

impl From<Effect> for EffectRecord {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Permit => Self::Permit,
            Effect::Deny => Self::Deny,
        }
    }
}

impl ObservedRecord {
    /// The result with these policies in observe mode.
    #[must_use]
    pub fn new(effect: Effect, policy_ids: Vec<String>) -> Self {
        Self {
            effect: effect.into(),
            policy_ids,
        }
    }
}

impl From<&StepUp> for ChallengeRecord {
    fn from(step_up: &StepUp) -> Self {
        Self {
            acr_values: step_up.acr_values().to_vec(),
            max_age_s: step_up.max_age_s(),
            bound_token: step_up.bound_token(),
            trusted_device: step_up.trusted_device(),
        }
    }
}

/// The content of a record besides the request and the decision.
#[derive(Clone, Debug)]
pub struct DecisionDetails {
    /// When the decision was made.
    pub time: Timestamp,
    /// The SPIFFE ID of the caller, from its certificate.
    pub caller: String,
    /// Why the evaluation failed; mostly empty.
    pub evaluation_errors: Vec<String>,
    /// The different result if the policies in observe mode were enforced.
    pub observed: Option<ObservedRecord>,
    /// How unusual the request was; `None`: it was not assessed.
    pub risk: Option<RiskRecord>,
    /// The device that the request came from; `None`: none is known.
    pub device: Option<DeviceRecord>,
    /// The roles that an operator has assigned, and the token has not.
    pub assigned_roles: Vec<String>,
    /// How long the evaluation took, in microseconds.
    pub evaluation_us: u64,
}

impl DecisionRecord {
    /// The record of a decision about a request.
    #[must_use]
    pub fn new(request: AccessRequest, decision: &Decision, details: DecisionDetails) -> Self {
        let AccessRequest {
            request_id,
            traceparent,
            sidecar,
            route_rule,
            principal,
            further_tokens,
            peer,
            action,
            resource,
            context,
        } = request;
        let Decision {
            effect,
            decision_id,
            policy_revision,
            valid_for_ms,
            policy_ids,
            caller_reasons,
            challenge,
            obligations,
            // The assessment in the details says more, also where scores do not count yet.
            risk: _,
            // How sidecars keep the answer follows from the policies and the request.
            vary: _,
            // It follows from the reasons.
            is_token_revoked: _,
        } = decision;
        Self {
            decision_id: decision_id.clone(),
            time_us: details.time.as_us(),
            caller: details.caller,
            sidecar: sidecar.into(),
            request_id,
            traceparent,
            route_rule,
            principal: principal.map(PrincipalRecord::from),
            further_tokens: further_tokens.into_iter().map(FurtherTokenRecord::from).collect(),
            peer: peer.map(|peer| peer.to_string()),
            action: action.into(),
            resource: resource.into(),
            context: context.into(),
            effect: (*effect).into(),
            policy_revision: policy_revision.clone(),
            policy_ids: policy_ids.clone(),
            evaluation_errors: details.evaluation_errors,
            caller_reasons: caller_reasons.clone(),
            risk: details.risk,
            device: details.device,
            assigned_roles: details.assigned_roles,
            obligations: obligations.clone(),
            challenge: challenge.as_deref().map(ChallengeRecord::from),
            observed: details.observed,
            valid_for_ms: *valid_for_ms,
            evaluation_us: details.evaluation_us,
        }
    }

    /// The request that was decided about; `None` where it holds what no request does, such as a
    /// peer that is none.
    #[must_use]
    pub fn request(&self) -> Option<AccessRequest> {
        Some(AccessRequest {
            request_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
            sidecar: self.sidecar.clone().into(),
            route_rule: self.route_rule.clone(),
            principal: self.principal.clone().map(Principal::from),
            further_tokens: self.further_tokens.iter().cloned().map(FurtherToken::from).collect(),
            peer: read(self.peer.as_deref(), |peer| peer.parse().ok())?,
            action: self.action.clone().into(),
            resource: self.resource.clone().into(),
            context: self.context.context()?,
        })
    }
}
