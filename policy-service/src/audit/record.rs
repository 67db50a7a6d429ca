//! What a record says. The stored form has fields of its own, as core's types may change and what is written may not.

use std::collections::BTreeMap;

use picket_model::access::{
    AccessRequest, Action, Actor, Context, FurtherToken, Possession, Principal, Resource, Sidecar,
};
use picket_model::decision::{Effect, StepUp};
use picket_model::thumbprint::CertificateThumbprint;
use picket_model::thumbprint::KeyThumbprint;
use serde::{Deserialize, Serialize};

use super::chain::Hash;
use super::device::DeviceSeenRecord;
use super::risk::RiskRecord;
use super::search::SearchRecord;
use crate::policy::Observed;
use crate::sessions::EndReason;

/// A record that was opened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its number; the first is 1, and none is left out.
    pub seq: u64,
    /// When it was recorded, in microseconds since the epoch.
    pub time_us: i64,
    /// Its hash, which covers all records before it; in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    pub hash: Hash,
    /// What it says.
    pub content: Event,
}

/// The kinds of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The policy service answered an access request.
    Decision(Box<DecisionRecord>),
    /// A session was created, or ended by a rule.
    Session(Box<SessionRecord>),
    /// An operator did something.
    Administration(Box<AdministrationRecord>),
    /// Somebody asked what would be permitted.
    Search(Box<SearchRecord>),
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session's id, in hexadecimal.
    pub session: String,
    /// When, in microseconds since the epoch.
    pub time_us: i64,
    /// Whose request it was.
    pub issuer: String,
    /// Whose request it was.
    pub subject: String,
    /// The tenant of that request.
    pub tenant: Option<String>,
    /// What.
    #[serde(flatten)]
    pub change: SessionChange,
}

/// What happens to sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SessionChange {
    /// It was seen for the first time.
    Created,
    /// It is over.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// What an operator or a reporter did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdministrationRecord {
    /// When, in microseconds since the epoch.
    pub time_us: i64,
    /// The caller's SPIFFE ID, from its certificate.
    pub caller: String,
    /// What.
    pub act: Act,
    /// What it was done to: a session's id, [`picket_model::access::principal_name`], a tenant, a principal with a role, a device's id
    /// with what was done to it, the number and digest of a revision, or nothing; of reports about principals a list of whom they are
    /// about, with names cut at 256 bytes.
    pub target: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What operators and reporters do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the methods of `picket.v1.Admin` and its like")]
pub enum Act {
    RevokeSession,
    RevokePrincipal,
    RevokeTenant,
    RevokeEverything,
    LockdownOn,
    LockdownOff,
    BeginEnrollment,
    EnrollDevice,
    TrustDevice,
    SuspendDevice,
    RetireDevice,
    ReinstateDevice,
    AddDeviceThumbprint,
    RemoveDeviceThumbprint,
    ReportPosture,
    ReportAuthentication,
    ReportDynamics,
    ActivatePolicies,
    RollBackPolicies,
    AssignRole,
    WithdrawRole,
}

impl Act {
    /// Whether it can only withdraw access. Such an act is performed also while it cannot be recorded.
    #[must_use]
    pub fn is_restrictive(self) -> bool {
        match self {
            Self::RevokeSession
            | Self::RevokePrincipal
            | Self::RevokeTenant
            | Self::RevokeEverything
            | Self::LockdownOn
            | Self::SuspendDevice
            | Self::RetireDevice
            | Self::RemoveDeviceThumbprint
            | Self::WithdrawRole => true,
            Self::LockdownOff
            | Self::BeginEnrollment
            | Self::EnrollDevice
            | Self::TrustDevice
            | Self::ReinstateDevice
            | Self::AddDeviceThumbprint
            | Self::ReportPosture
            | Self::ReportAuthentication
            | Self::ReportDynamics
            | Self::ActivatePolicies
            | Self::RollBackPolicies
            | Self::AssignRole => false,
        }
    }
}

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was so before, or there is nothing that it could be done to, or something is in the way.
    Unchanged,
    /// It was not done, because what was asked for is not good.
    Refused,
    /// The storage failed; whether it was done is not known.
    Failed,
}

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
    /// What was to be done.
    pub action: ActionRecord,
    /// What it was to be done to.
    pub resource: ResourceRecord,
    /// The circumstances.
    pub context: ContextRecord,
    /// What was decided.
    pub effect: EffectRecord,
    /// The revision of the policies that decided.
    pub policy_revision: String,
    /// The policies that decided; none for a deny because nothing permits.
    pub policy_ids: Vec<String>,
    /// Why the evaluation failed, which is a deny; mostly empty.
    pub evaluation_errors: Vec<String>,
    /// What the caller may be told.
    pub caller_reasons: Vec<String>,
    /// How unusual the request was. Absent where it was not assessed, and in records from before it was.
    #[serde(default)]
    pub risk: Option<RiskRecord>,
    /// The device that it came from, as it was then. Absent where none was known, and in records from before there were devices.
    #[serde(default)]
    pub device: Option<DeviceSeenRecord>,
    /// Those of the principal's roles that an operator has assigned, and the token has not. Absent in records from before roles were.
    #[serde(default)]
    pub assigned_roles: Vec<String>,
    /// What the upstream was told to see to. Absent in records from before it was kept, as are those below.
    #[serde(default)]
    pub obligations: Vec<String>,
    /// With a deny: how the same principal would have been permitted.
    #[serde(default)]
    pub challenge: Option<ChallengeRecord>,
    /// What policies in observe mode would have changed.
    #[serde(default)]
    pub observed: Option<ObservedRecord>,
    /// How long the sidecar may repeat the answer, in milliseconds.
    pub valid_for_ms: u32,
    /// How long the evaluation took, in microseconds.
    pub evaluation_us: u64,
}

/// The enforcement point that asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SidecarRecord {
    /// Envoy's node id.
    pub node_id: String,
    /// The workload that it protects.
    pub workload: String,
}

/// The authenticated party.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `picket_model::access::Principal`")]
pub struct PrincipalRecord {
    pub issuer: String,
    pub subject: String,
    pub tenant: Option<String>,
    pub roles: Vec<String>,
    pub scopes: Vec<String>,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    pub auth_time_s: Option<i64>,
    pub session_id: Option<String>,
    pub token_id: Option<String>,
    pub issued_at_s: Option<i64>,
    pub expires_at_s: Option<i64>,
    /// Absent in records from before it was kept.
    #[serde(default)]
    pub actors: Vec<ActorRecord>,
    /// Absent in records from before it was kept.
    #[serde(default)]
    pub is_bound: bool,
}

/// A party that acted for the principal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// Its issuer; `None`: the token's.
    pub issuer: Option<String>,
    /// Who it is.
    pub subject: String,
}

/// A token beside the principal's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are those of `picket_model::access::FurtherToken`"
)]
pub struct FurtherTokenRecord {
    pub issuer: String,
    pub subject: String,
    pub tenant: Option<String>,
    pub session_id: Option<String>,
    pub token_id: Option<String>,
    pub issued_at_s: Option<i64>,
}

/// What was to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The request's method.
    pub method: String,
}

/// What it was to be done to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecord {
    /// Lower case, without port.
    pub host: String,
    /// Normalised, without query.
    pub path: String,
    /// What the rule's path template captured.
    pub path_parameters: BTreeMap<String, String>,
    /// From the route rule.
    pub classification: Option<String>,
    /// From the route rule. Absent in records from before it was kept, as are those below.
    #[serde(default)]
    pub security_zone: Option<String>,
    /// The tenant that owns it, from the route rule.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// The circumstances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextRecord {
    /// Where the connection came from.
    pub source_address: Option<String>,
    /// As sent, cut short.
    pub user_agent: Option<String>,
    /// The thumbprint of the peer's certificate in base64url (`x5t#S256`). Absent in records from before it was kept, as is the
    /// one below.
    #[serde(default)]
    pub certificate_thumbprint: Option<String>,
    /// The thumbprint of the key that the caller has proved to hold, in base64url (`jkt`).
    #[serde(default)]
    pub key_thumbprint: Option<String>,
}

/// What a denied principal would have needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `picket_model::decision::StepUp`")]
pub struct ChallengeRecord {
    pub acr_values: Vec<String>,
    pub max_age_s: Option<u32>,
    pub bound_token: bool,
    /// Absent in records from before there were devices.
    #[serde(default)]
    pub trusted_device: bool,
}

/// What would have been decided if policies in observe mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedRecord {
    /// The other effect than the one that was decided.
    pub effect: EffectRecord,
    /// Those of these policies that would have decided, or that failed.
    pub policy_ids: Vec<String>,
}

/// What was decided.
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

impl From<StepUp> for ChallengeRecord {
    fn from(step_up: StepUp) -> Self {
        Self {
            acr_values: step_up.acr_values().to_vec(),
            max_age_s: step_up.max_age_s(),
            bound_token: step_up.bound_token(),
            trusted_device: step_up.trusted_device(),
        }
    }
}

impl From<Observed> for ObservedRecord {
    fn from(observed: Observed) -> Self {
        Self {
            effect: observed.effect.into(),
            policy_ids: observed.policy_ids,
        }
    }
}

impl From<Principal> for PrincipalRecord {
    fn from(principal: Principal) -> Self {
        Self {
            issuer: principal.issuer,
            subject: principal.subject,
            tenant: principal.tenant,
            roles: principal.roles,
            scopes: principal.scopes,
            acr: principal.acr,
            amr: principal.amr,
            auth_time_s: principal.auth_time_s,
            session_id: principal.session_id,
            token_id: principal.token_id,
            issued_at_s: principal.issued_at_s,
            expires_at_s: principal.expires_at_s,
            actors: principal.actors.into_iter().map(ActorRecord::from).collect(),
            is_bound: principal.is_bound,
        }
    }
}

impl From<FurtherToken> for FurtherTokenRecord {
    fn from(token: FurtherToken) -> Self {
        Self {
            issuer: token.issuer,
            subject: token.subject,
            tenant: token.tenant,
            session_id: token.session_id,
            token_id: token.token_id,
            issued_at_s: token.issued_at_s,
        }
    }
}

impl From<FurtherTokenRecord> for FurtherToken {
    fn from(record: FurtherTokenRecord) -> Self {
        Self {
            issuer: record.issuer,
            subject: record.subject,
            tenant: record.tenant,
            session_id: record.session_id,
            token_id: record.token_id,
            issued_at_s: record.issued_at_s,
        }
    }
}

impl From<Action> for ActionRecord {
    fn from(action: Action) -> Self {
        Self { method: action.method }
    }
}

impl From<Resource> for ResourceRecord {
    fn from(resource: Resource) -> Self {
        Self {
            host: resource.host,
            path: resource.path,
            path_parameters: resource.path_parameters,
            classification: resource.classification,
            security_zone: resource.security_zone,
            tenant: resource.tenant,
        }
    }
}

impl From<Context> for ContextRecord {
    fn from(context: Context) -> Self {
        let possession = context.possession;
        Self {
            source_address: context.source_address.map(|address| address.to_string()),
            user_agent: context.user_agent,
            certificate_thumbprint: possession.certificate.map(CertificateThumbprint::to_base64url),
            key_thumbprint: possession.key.map(KeyThumbprint::to_base64url),
        }
    }
}

impl From<Actor> for ActorRecord {
    fn from(actor: Actor) -> Self {
        Self {
            issuer: actor.issuer,
            subject: actor.subject,
        }
    }
}

/// What the answer adds to the request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) decision_id: String,
    pub(crate) time_us: u64,
    pub(crate) caller: String,
    pub(crate) effect: Effect,
    pub(crate) policy_revision: String,
    pub(crate) policy_ids: Vec<String>,
    pub(crate) evaluation_errors: Vec<String>,
    pub(crate) caller_reasons: Vec<String>,
    pub(crate) obligations: Vec<String>,
    pub(crate) challenge: Option<StepUp>,
    pub(crate) observed: Option<Observed>,
    pub(crate) valid_for_ms: u32,
    pub(crate) evaluation_us: u64,
}

impl DecisionRecord {
    /// The request that was decided about; `None` where it holds what no request does, such as a peer that is none.
    #[must_use]
    pub fn request(&self) -> Option<AccessRequest> {
        Some(AccessRequest {
            request_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
            sidecar: Sidecar {
                node_id: self.sidecar.node_id.clone(),
                workload: self.sidecar.workload.clone(),
            },
            route_rule: self.route_rule.clone(),
            principal: self.principal.clone().map(Principal::from),
            further_tokens: self.further_tokens.iter().cloned().map(FurtherToken::from).collect(),
            peer: self.peer.as_deref().map(str::parse).transpose().ok()?,
            action: Action {
                method: self.action.method.clone(),
            },
            resource: Resource {
                host: self.resource.host.clone(),
                path: self.resource.path.clone(),
                path_parameters: self.resource.path_parameters.clone(),
                classification: self.resource.classification.clone(),
                security_zone: self.resource.security_zone.clone(),
                tenant: self.resource.tenant.clone(),
            },
            context: Context {
                source_address: self
                    .context
                    .source_address
                    .as_deref()
                    .map(str::parse)
                    .transpose()
                    .ok()?,
                user_agent: self.context.user_agent.clone(),
                possession: self.context.possession()?,
            },
        })
    }

    pub(crate) fn new(request: AccessRequest, answer: Answer) -> Self {
        Self {
            decision_id: answer.decision_id,
            time_us: answer.time_us,
            caller: answer.caller,
            sidecar: SidecarRecord {
                node_id: request.sidecar.node_id,
                workload: request.sidecar.workload,
            },
            request_id: request.request_id,
            traceparent: request.traceparent,
            route_rule: request.route_rule,
            principal: request.principal.map(PrincipalRecord::from),
            further_tokens: request
                .further_tokens
                .into_iter()
                .map(FurtherTokenRecord::from)
                .collect(),
            peer: request.peer.map(|peer| peer.to_string()),
            action: request.action.into(),
            resource: request.resource.into(),
            context: request.context.into(),
            effect: answer.effect.into(),
            policy_revision: answer.policy_revision,
            policy_ids: answer.policy_ids,
            evaluation_errors: answer.evaluation_errors,
            caller_reasons: answer.caller_reasons,
            risk: None,
            device: None,
            assigned_roles: Vec::new(),
            obligations: answer.obligations,
            challenge: answer.challenge.map(ChallengeRecord::from),
            observed: answer.observed.map(ObservedRecord::from),
            valid_for_ms: answer.valid_for_ms,
            evaluation_us: answer.evaluation_us,
        }
    }
}

impl ContextRecord {
    /// `None`: it holds what is no thumbprint.
    fn possession(&self) -> Option<Possession> {
        let certificate = self
            .certificate_thumbprint
            .as_deref()
            .map(CertificateThumbprint::from_base64url);
        let key = self.key_thumbprint.as_deref().map(KeyThumbprint::from_base64url);
        Some(Possession {
            certificate: match certificate {
                None => None,
                Some(thumbprint) => Some(thumbprint?),
            },
            key: match key {
                None => None,
                Some(thumbprint) => Some(thumbprint?),
            },
        })
    }
}

impl From<PrincipalRecord> for Principal {
    fn from(record: PrincipalRecord) -> Self {
        let actor = |actor: ActorRecord| Actor {
            issuer: actor.issuer,
            subject: actor.subject,
        };
        Self {
            issuer: record.issuer,
            subject: record.subject,
            tenant: record.tenant,
            roles: record.roles,
            scopes: record.scopes,
            acr: record.acr,
            amr: record.amr,
            auth_time_s: record.auth_time_s,
            session_id: record.session_id,
            token_id: record.token_id,
            issued_at_s: record.issued_at_s,
            expires_at_s: record.expires_at_s,
            actors: record.actors.into_iter().map(actor).collect(),
            is_bound: record.is_bound,
        }
    }
}

fn as_hex<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}
