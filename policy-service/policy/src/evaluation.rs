//! What policies decide about a request: Cedar's responses about several sets of policies,
//! combined.

use std::collections::BTreeSet;

use cedar_policy::authorization_errors::PolicyEvaluationError;
use cedar_policy::{AuthorizationError, Decision, PolicyId, Response};
use picket_model::decision::{Effect, StepUp, Vary};

use super::errors::{ModelError, cut};
use super::index::Bucket;

/// How many evaluation errors a record names; the first one says enough.
const ERRORS_MAX: usize = 8;

/// The result of all policies for one access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Permit or deny. INVARIANT: deny where `errors` is not empty.
    pub effect: Effect,
    /// The `@id`s of the policies that decided, sorted; after an error also those that failed. None
    /// for a deny because nothing permits.
    pub policy_ids: Vec<String>,
    /// The `@reason`s of the policies that decided: what the caller may be told.
    pub caller_reasons: Vec<String>,
    /// The `@obligation`s of the policies that permitted, sorted, each once.
    pub obligations: Vec<String>,
    /// With a deny: the stronger authentication or device with which the same principal would be
    /// permitted.
    pub challenge: Option<StepUp>,
    /// Why the evaluation failed; for the record, not for the caller.
    pub errors: Vec<String>,
    /// The attributes of the request, besides route rule and token, that the policies could have
    /// read.
    pub vary: Vary,
    /// For how many milliseconds the time changes nothing; `None`: for ever.
    pub same_for_ms: Option<u64>,
    /// The different result if the policies in observe mode were enforced; `None`: the result would
    /// be the same.
    pub observed: Option<Observed>,
}

/// The decision that there would be if policies in observe mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Permit or deny, the other one than was decided.
    pub effect: Effect,
    /// The policies in observe mode that would have decided, or that failed.
    pub policy_ids: Vec<String>,
}

/// Policies that are evaluated together, and Cedar's response about them.
pub(super) type BucketResponse<'a> = (&'a Bucket, Response);

/// The result if the policies in observe mode were enforced, where it differs.
pub(super) fn observed_difference(
    enforced: &[BucketResponse<'_>],
    observed: &[BucketResponse<'_>],
    effect: Effect,
) -> Option<Observed> {
    if observed.is_empty() {
        return None;
    }
    let combined = CombinedResponse::of(enforced.iter().chain(observed));
    let determining = combined.determining.iter();
    let of_observed = determining.filter(|(id, bucket)| bucket.observed.policy(id).is_some());
    let failed = observed.iter().flat_map(|(_, response)| errors_of(response));
    let ids = of_observed
        .map(|(id, _)| id.to_string())
        .chain(failed.map(|error| error.policy_id().to_string()));
    (combined.effect != effect).then(|| Observed {
        effect: combined.effect,
        policy_ids: ids.collect(),
    })
}

/// Cedar's responses about several sets of policies as one: its rule (any `forbid` denies, else any
/// `permit` permits) does not depend on how policies are split.
pub(super) struct CombinedResponse<'a> {
    pub(super) effect: Effect,
    pub(super) determining: Vec<(&'a PolicyId, &'a Bucket)>,
    pub(super) failed: Vec<&'a PolicyEvaluationError>,
}

impl<'a> CombinedResponse<'a> {
    pub(super) fn of(responses: impl Iterator<Item = &'a BucketResponse<'a>> + Clone) -> Self {
        let mut failed: Vec<_> = responses
            .clone()
            .flat_map(|(_, response)| errors_of(response))
            .collect();
        failed.sort_by_key(|error| error.policy_id());
        let forbidding = determining(responses.clone(), Decision::Deny);
        // Cedar skips a policy that fails, and a skipped `forbid` would permit: any error is a
        // deny, which no `permit` made.
        let permitting = match forbidding.is_empty() && failed.is_empty() {
            true => determining(responses, Decision::Allow),
            false => Vec::new(),
        };
        Self {
            effect: match permitting.is_empty() {
                true => Effect::Deny,
                false => Effect::Permit,
            },
            determining: [forbidding, permitting].concat(),
            failed,
        }
    }

    /// The part of an evaluation that follows from it.
    pub(super) fn into_evaluation(self) -> Evaluation {
        let annotations = || {
            self.determining
                .iter()
                .filter_map(|(id, bucket)| bucket.annotations(id))
        };
        let ids = self.determining.iter().map(|(id, _)| *id);
        let obligations: BTreeSet<String> = annotations().flat_map(|of| of.obligations.iter().cloned()).collect();
        Evaluation {
            effect: self.effect,
            policy_ids: ids
                .chain(self.failed.iter().map(|error| error.policy_id()))
                .map(ToString::to_string)
                .collect(),
            caller_reasons: annotations().filter_map(|of| of.reason.clone()).collect(),
            obligations: obligations.into_iter().collect(),
            errors: self
                .failed
                .iter()
                .take(ERRORS_MAX)
                .map(|error| cut(&error.to_string()))
                .collect(),
            challenge: None,
            vary: Vary::EVERYTHING,
            same_for_ms: None,
            observed: None,
        }
    }
}

impl Evaluation {
    /// A request that could not be put to Cedar.
    pub(super) fn failed(error: &ModelError) -> Self {
        Self {
            effect: Effect::Deny,
            policy_ids: Vec::new(),
            caller_reasons: Vec::new(),
            obligations: Vec::new(),
            challenge: None,
            errors: vec![cut(&error.to_string())],
            vary: Vary::EVERYTHING,
            same_for_ms: Some(0),
            observed: None,
        }
    }
}

fn errors_of(response: &Response) -> impl Iterator<Item = &PolicyEvaluationError> {
    response.diagnostics().errors().map(|error| match error {
        AuthorizationError::PolicyEvaluationError(error) => error,
    })
}

/// The policies that gave this decision, sorted; Cedar names only those with the effect that won.
fn determining<'a>(
    responses: impl Iterator<Item = &'a BucketResponse<'a>>,
    decision: Decision,
) -> Vec<(&'a PolicyId, &'a Bucket)> {
    let mut policies: Vec<(&PolicyId, &Bucket)> = responses
        .filter(|(_, response)| response.decision() == decision)
        .flat_map(|(bucket, response)| response.diagnostics().reason().map(move |id| (id, *bucket)))
        .collect();
    policies.sort_unstable_by_key(|(id, _)| *id);
    policies
}
