//! The facts that a decision depends on besides the request itself: session, device, assigned
//! roles, active policies, and risk.

use picket_audit::{Event, SessionRecord};
use picket_model::access::AccessRequest;
use picket_model::decision::Attribute;
use picket_model::time::Timestamp;
use picket_policy::{Evaluation, EvaluationContext, PolicyEngine};
use picket_risk::Assessment;
use picket_state::devices::DeviceCheck;
use picket_state::roles::AssignedRoles;
use picket_state::sessions::{SessionAccess, SessionChange, SessionCheck, SessionEvent};

use super::evaluation::deny;
use super::{Decider, DecisionError};
use crate::assessor::Assessed;

/// The facts about one request at one time.
pub(super) struct Facts {
    pub(super) session: SessionCheck,
    pub(super) device: DeviceCheck,
    pub(super) assigned_roles: AssignedRoles,
    /// `None`: no revision is active.
    pub(super) policies: Option<PolicyEngine>,
    /// `None`: risk is not assessed.
    pub(super) risk: Option<Assessed>,
}

impl Facts {
    /// The deny of a session or a device that refuses the request. No policy is asked then.
    pub(super) fn refusal(&self) -> Option<Evaluation> {
        let of_session = self.session.refusal.map(|refusal| Evaluation {
            challenge: self.session.challenge.clone(),
            ..deny(refusal.code())
        });
        of_session.or_else(|| self.device.refusal.map(|refusal| deny(refusal.code())))
    }

    pub(super) fn assessment(&self) -> Option<&Assessment> {
        self.risk.as_ref().map(|assessed| &assessed.assessment)
    }

    /// What the policies are evaluated with besides the request.
    pub(super) fn evaluation_context(&self, now: Timestamp) -> EvaluationContext<'_> {
        EvaluationContext {
            now,
            risk: self.assessment(),
            device: self.device.device.as_ref(),
        }
    }

    /// The attributes of the request that session and device were looked up by.
    pub(super) fn vary(&self) -> impl Iterator<Item = Attribute> {
        self.session.vary.attributes().chain(self.device.vary.attributes())
    }
}

impl Decider {
    /// Collects the facts, and gives the principal its assigned roles.
    pub(super) async fn facts(
        &self,
        request: &mut AccessRequest,
        access: SessionAccess,
        now: Timestamp,
    ) -> Result<Facts, DecisionError> {
        let session = self.check_session(request, access, now).await?;
        if let (Some(sessions), Some(principal), SessionAccess::Update, None) =
            (&self.sessions, &request.principal, access, session.refusal)
        {
            sessions.cache_claims(principal);
        }
        let device = self.check_device(request, now).await?;
        // From here on the request has the roles that count, for the policies and for the record.
        let assigned_roles = self.assign_roles(request, now)?;
        // INVARIANT: one revision makes the whole decision, whichever is activated meanwhile.
        let policies = self.policies.current().map_err(DecisionError::Policies)?;
        let risk = self.assess(request, &device, now);
        Ok(Facts {
            session,
            device,
            assigned_roles,
            policies,
            risk,
        })
    }

    pub(super) async fn check_session(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        now: Timestamp,
    ) -> Result<SessionCheck, DecisionError> {
        let Some(sessions) = &self.sessions else {
            return Ok(SessionCheck::none());
        };
        let audit = self.audit.clone();
        let record = async move |events: Vec<SessionEvent>| {
            // Each event is recorded, whether or not the others are.
            let mut recorded = Ok(());
            for event in events {
                let event = Event::Session(Box::new(session_record(event)));
                recorded = recorded.and(audit.append(now, &event).await);
            }
            Ok(recorded?)
        };
        sessions.check(request, access, unix_us(now), record).await
    }

    pub(super) async fn check_device(
        &self,
        request: &AccessRequest,
        now: Timestamp,
    ) -> Result<DeviceCheck, DecisionError> {
        let Some(devices) = &self.devices else {
            return Ok(DeviceCheck::none());
        };
        Ok(devices.check(request, unix_us(now)).await?)
    }

    /// Adds the roles that were assigned to the principal. The principal is part of each sidecar's
    /// cache key: a cached decision is given to nobody else.
    pub(super) fn assign_roles(
        &self,
        request: &mut AccessRequest,
        now: Timestamp,
    ) -> Result<AssignedRoles, DecisionError> {
        match (&self.roles, &mut request.principal) {
            (Some(roles), Some(principal)) => roles.add_to(principal, unix_us(now)).map_err(DecisionError::Roles),
            (None, _) | (_, None) => Ok(AssignedRoles::none()),
        }
    }

    /// `None`: risk is not assessed.
    pub(super) fn assess(&self, request: &AccessRequest, device: &DeviceCheck, now: Timestamp) -> Option<Assessed> {
        let assessor = self.risk.as_ref()?;
        Some(assessor.assess(request, device.device.as_ref(), now))
    }
}

/// Microseconds since the epoch, in the form of sessions, devices and roles.
fn unix_us(time: Timestamp) -> i64 {
    i64::try_from(time.as_us()).unwrap_or(i64::MAX)
}

fn session_record(event: SessionEvent) -> SessionRecord {
    SessionRecord {
        session: event.session.to_string(),
        time_us: event.time_us,
        issuer: event.issuer,
        subject: event.subject,
        tenant: event.tenant,
        change: match event.change {
            SessionChange::Created => picket_audit::SessionChange::Created,
            SessionChange::Ended { reason } => picket_audit::SessionChange::Ended { reason: reason.into() },
        },
    }
}
