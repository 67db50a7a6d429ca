//! Searches: what would be permitted. Nothing follows from it: no session begins or ends, nothing is learnt, and nobody remembers
//! an answer. One record says that somebody asked.

use picket_core::access::AccessRequest;
use picket_core::decision::Effect;

use super::{Decider, DecisionError, to_ms};
use crate::audit::{Event, SearchRecord};
use crate::sessions::{Presence, Refusal};

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

    /// Whether policies and risk would permit this request.
    pub(crate) fn would_permit(&self, request: &AccessRequest, time_us: u64) -> bool {
        let assessed = self.risk.as_ref().map(|risk| risk.assess(request, to_ms(time_us)));
        let assessment = assessed.as_ref().map(|assessed| &assessed.assessment);
        self.evaluate(request, time_us, assessment).effect == Effect::Permit
    }

    /// Which policies are asked.
    pub(crate) fn policy_revision(&self) -> String {
        self.policies.revision().to_owned()
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
