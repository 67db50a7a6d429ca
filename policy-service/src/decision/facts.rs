//! The facts that a decision depends on besides the request itself: session, device, assigned
//! roles, active policies, and risk.

use std::sync::Arc;

use picket_model::access::AccessRequest;
use picket_model::decision::Attribute;
use picket_model::time::Timestamp;

use super::evaluation::deny;
use super::{Decider, DecisionError};
use crate::assessor::Assessed;
use crate::audit::Event;
use crate::devices;
use crate::policy::{Evaluation, Known, PolicyEngine};
use crate::risk::{Assessment, KnownDevice, Standing};
use crate::roles::Added;
use crate::sessions::{self, Presence};
use crate::state::StorageError;

/// The facts about one request at one time.
pub(super) struct Facts {
    pub(super) session: sessions::Judgement,
    pub(super) device: devices::Judgement,
    pub(super) assigned_roles: Added,
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

    /// What policies see besides the request.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
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
        presence: Presence,
        time_us: u64,
    ) -> Result<Facts, DecisionError> {
        let session = self.check_session(request, presence, time_us).await?;
        if let (Some(sessions), Some(principal), Presence::Client, None) =
            (&self.sessions, &request.principal, presence, session.refusal)
        {
            sessions.record_claims(principal);
        }
        let device = self.check_device(request, time_us).await?;
        // From here on the request has the roles that count, for the policies and for the record.
        let assigned_roles = self.assign_roles(request, time_us)?;
        // INVARIANT: one revision makes the whole decision, whichever is activated meanwhile.
        let policies = self.policies.current().map_err(DecisionError::Policies)?;
        let risk = self.assess(request, &device, time_us);
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
        presence: Presence,
        time_us: u64,
    ) -> Result<sessions::Judgement, DecisionError> {
        let Some(sessions) = &self.sessions else {
            return Ok(sessions::Judgement::none());
        };
        let now_us = signed(time_us);
        if let Some(judgement) = sessions.remembered(request, presence, now_us)? {
            return Ok(judgement);
        }
        let place = sessions.place()?;
        let (sessions, audit, request) = (Arc::clone(sessions), self.audit.clone(), request.clone());
        // On its own, so that it is carried to its end when the caller goes away: what happens to a
        // session is recorded.
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

    pub(super) async fn check_device(
        &self,
        request: &AccessRequest,
        time_us: u64,
    ) -> Result<devices::Judgement, DecisionError> {
        let Some(devices) = &self.devices else {
            return Ok(devices::Judgement::none());
        };
        let now_us = signed(time_us);
        match devices.remembered(request, now_us)? {
            Some(judgement) => Ok(judgement),
            None => Ok(devices.judge(request, now_us).await?),
        }
    }

    /// Adds the roles that were assigned to the principal. The principal is part of each sidecar's
    /// cache key: a cached decision is given to nobody else.
    pub(super) fn assign_roles(&self, request: &mut AccessRequest, time_us: u64) -> Result<Added, DecisionError> {
        match (&self.roles, &mut request.principal) {
            (Some(roles), Some(principal)) => roles.add_to(principal, signed(time_us)).map_err(DecisionError::Roles),
            (None, _) | (_, None) => Ok(Added::nothing()),
        }
    }

    /// `None`: risk is not assessed.
    pub(super) fn assess(
        &self,
        request: &AccessRequest,
        device: &devices::Judgement,
        time_us: u64,
    ) -> Option<Assessed> {
        let device = device.device.as_ref().map(|device| KnownDevice {
            id: &device.id,
            standing: Standing {
                trust_score: device.trust_score,
                is_compliant: device.is_compliant,
            },
        });
        let now = Timestamp::from_ms(time_us / 1000);
        let assessor = self.risk.as_ref()?;
        Some(assessor.assess(request, device, now))
    }
}

/// As sessions, devices and roles count microseconds.
fn signed(time_us: u64) -> i64 {
    i64::try_from(time_us).unwrap_or(i64::MAX)
}
