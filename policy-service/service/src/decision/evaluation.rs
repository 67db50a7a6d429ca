//! The evaluation of a request: what the policies say, and whether the principal has shown the
//! factors that its risk requires.

use picket_model::access::AccessRequest;
use picket_model::decision::{Effect, Vary};
use picket_policy::{Evaluation, EvaluationContext, PolicyEngine};
use picket_risk::MissingFactors;

use super::Decider;

/// The reason where no revision of the policies is active.
const NO_ACTIVE_POLICIES: &str = "no_active_policies";

impl Decider {
    /// Evaluates the policies, and then the factors of the risk where they are enforced.
    pub(super) fn evaluate(
        &self,
        policies: &PolicyEngine,
        request: &AccessRequest,
        context: &EvaluationContext<'_>,
    ) -> Evaluation {
        let mut evaluation = policies.evaluate(request, context);
        // Where no devices are kept, nobody can come back with a trusted one.
        let keeps_devices = self.devices.is_some();
        evaluation.challenge = evaluation
            .challenge
            .filter(|challenge| keeps_devices || !challenge.trusted_device());
        let (Some(assessor), Some(assessment), Some(principal)) = (&self.risk, context.risk, &request.principal) else {
            return evaluation;
        };
        if !assessor.factors_are_enforced() {
            return evaluation;
        }
        let missing = match evaluation.effect {
            Effect::Permit => assessor.missing_factors(assessment, principal),
            Effect::Deny => None,
        };
        let evaluation = Evaluation {
            vary: assessment.vary.attributes().fold(evaluation.vary, Vary::with),
            same_for_ms: [evaluation.same_for_ms, context.risk_same_for_ms()]
                .into_iter()
                .flatten()
                .min(),
            ..evaluation
        };
        match missing {
            Some(missing) => challenge(missing, evaluation),
            None => evaluation,
        }
    }
}

/// A challenge in the place of a permit: the policies would have permitted another authentication
/// of the same principal.
fn challenge(missing: MissingFactors, evaluation: Evaluation) -> Evaluation {
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

/// A deny because no policies are active. It is not repeated: the next request may find some.
pub(super) fn without_policies() -> Evaluation {
    Evaluation {
        same_for_ms: Some(0),
        ..deny(NO_ACTIVE_POLICIES)
    }
}

/// A deny that no policy has made.
pub(super) fn deny(reason: &str) -> Evaluation {
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
