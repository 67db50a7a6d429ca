//! The log line of a decision. It has neither subject nor path: those are in the audit record,
//! which is sealed.

use picket_model::access::AccessRequest;
use picket_model::decision::Decision;
use picket_model::problems::shortened;

use super::DecisionOutcome;
use crate::logging::{DecisionLine, DecisionLines};

/// The request's part of the line.
pub(super) struct RequestLine {
    request_id: String,
    route_rule: String,
    sidecar: String,
}

impl RequestLine {
    pub(super) fn new(request: &AccessRequest) -> Self {
        Self {
            request_id: shortened(&request.request_id),
            route_rule: shortened(&request.route_rule),
            sidecar: shortened(&request.sidecar.workload),
        }
    }

    pub(super) fn write(&self, lines: &DecisionLines, decision: &Decision, duration_us: u64) {
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
