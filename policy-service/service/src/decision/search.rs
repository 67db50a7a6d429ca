//! Searches: which requests would be permitted. A search changes nothing: no session begins or
//! ends, nothing is learnt, and no decision is cached. One record says that it was made.

use picket_audit::{Event, SearchRecord};
use picket_model::access::AccessRequest;
use picket_model::decision::Effect;
use picket_model::time::Timestamp;
use picket_policy::{EvaluationContext, PolicyEngine};
use picket_state::revisions::NO_REVISION;
use picket_state::sessions::{SessionAccess, SessionRefusal};

use super::{Decider, DecisionError};

/// One search: the same revision of the policies evaluates all of it.
pub(crate) struct Search<'d> {
    decider: &'d Decider,
    policies: Option<PolicyEngine>,
}

impl Decider {
    /// The refusal of a principal's session, which denies every request.
    ///
    /// # Errors
    /// Nothing is known of it.
    pub(crate) async fn session_refusal(
        &self,
        request: &AccessRequest,
        now: Timestamp,
    ) -> Result<Option<SessionRefusal>, DecisionError> {
        Ok(self.check_session(request, SessionAccess::ReadOnly, now).await?.refusal)
    }

    /// Begins a search with the active policies.
    ///
    /// # Errors
    /// Nothing is known of the policies that decide.
    pub(crate) fn search(&self) -> Result<Search<'_>, DecisionError> {
        Ok(Search {
            decider: self,
            policies: self.policies.current().map_err(DecisionError::Policies)?,
        })
    }

    /// Records a search. Its results may leave when this returns.
    ///
    /// # Errors
    /// It was not recorded.
    pub(crate) async fn record_search(&self, record: SearchRecord) -> Result<(), DecisionError> {
        let time = Timestamp::from_us(record.time_us);
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(time, &Event::Search(Box::new(record))).await?;
        Ok(())
    }
}

impl Search<'_> {
    /// Whether device, roles, policies and risk would permit this request.
    ///
    /// # Errors
    /// Nothing is known of its device, or of the roles that were assigned.
    pub(crate) async fn would_permit(&self, mut request: AccessRequest, now: Timestamp) -> Result<bool, DecisionError> {
        let device = self.decider.check_device(&request, now).await?;
        if device.refusal.is_some() {
            return Ok(false);
        }
        self.decider.assign_roles(&mut request, now)?;
        let Some(policies) = &self.policies else {
            return Ok(false);
        };
        let assessed = self.decider.assess(&request, &device, now);
        let context = EvaluationContext {
            now,
            risk: assessed.as_ref().map(|assessed| &assessed.assessment),
            device: device.device.as_ref(),
        };
        let evaluation = self.decider.evaluate(policies, &request, &context);
        Ok(evaluation.effect == Effect::Permit)
    }

    /// The revision of the policies.
    pub(crate) fn policy_revision(&self) -> &str {
        self.policies.as_ref().map_or(NO_REVISION, PolicyEngine::revision)
    }
}
