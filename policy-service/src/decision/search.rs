//! Searches: what would be permitted. Nothing follows from it: no session begins or ends, nothing is learnt, and nobody remembers
//! an answer. One record says that somebody asked.

use picket_core::access::AccessRequest;
use picket_core::decision::Effect;

use super::{Decider, DecisionError, to_ms};
use crate::audit::{Event, SearchRecord};
use crate::policy::PolicyEngine;
use crate::revisions::NO_REVISION;
use crate::sessions::{Presence, Refusal};

/// Evaluates without an effect.
pub(crate) struct Searching<'a> {
    decider: &'a Decider,
    /// `None`: no revision is active, and nothing would be permitted.
    policies: Option<PolicyEngine>,
}

impl Decider {
    /// Why a principal's session refuses everything, if it does.
    ///
    /// # Errors
    /// Nothing is known of it.
    pub(crate) async fn session_refusal(
        &self,
        request: &AccessRequest,
        time_us: u64,
    ) -> Result<Option<Refusal>, DecisionError> {
        Ok(self.judge_session(request, Presence::Told, time_us).await?.refusal)
    }

    /// What a search evaluates by: one revision of the policies, whichever is activated meanwhile.
    ///
    /// # Errors
    /// Nothing is known of the policies that decide.
    pub(crate) fn searching(&self) -> Result<Searching<'_>, DecisionError> {
        Ok(Searching {
            decider: self,
            policies: self.policies.current().map_err(DecisionError::Policies)?,
        })
    }

    /// Records a search; what was found is told when this returns.
    ///
    /// # Errors
    /// It was not recorded.
    pub(crate) async fn searched(&self, record: SearchRecord) -> Result<(), DecisionError> {
        let time_us = record.time_us;
        // INVARIANT: nothing leaves before its record is durable.
        self.audit.append(time_us, &Event::Search(Box::new(record))).await?;
        Ok(())
    }
}

impl Searching<'_> {
    /// Whether policies and risk would permit this request.
    pub(crate) fn would_permit(&self, request: &AccessRequest, time_us: u64) -> bool {
        let Some(policies) = &self.policies else {
            return false;
        };
        let risk = self.decider.risk.as_ref();
        let assessed = risk.map(|risk| risk.assess(request, to_ms(time_us)));
        let assessment = assessed.as_ref().map(|assessed| &assessed.assessment);
        let evaluation = self.decider.evaluate(policies, request, time_us, assessment);
        evaluation.effect == Effect::Permit
    }

    /// The revision.
    pub(crate) fn policy_revision(&self) -> String {
        let revision = self.policies.as_ref().map_or(NO_REVISION, PolicyEngine::revision);
        revision.to_owned()
    }
}
