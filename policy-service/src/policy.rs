//! Policies: loading a folder of Cedar policies, and evaluating access requests over them.

mod entities;
mod errors;
mod index;
mod load;
mod model;
mod needs;
mod syntax;

use std::sync::Arc;

use cedar_policy::authorization_errors::PolicyEvaluationError;
use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicyId, Response};
use picket_core::access::AccessRequest;
use picket_core::decision::{Effect, Vary};

use entities::LoadedEntities;
pub use errors::{PolicyError, PolicyErrors};
use index::{Bucket, Index};
pub use load::{FILE_BYTES_MAX, FILES_MAX, load};
pub use model::{AMR_MAX, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
use model::{Model, ModelError};
use needs::Needs;

use crate::risk::Assessment;

/// How many evaluation errors a record names; the first one says enough.
const ERRORS_MAX: usize = 8;
/// How much of an evaluation error a record holds: it can quote the request.
const ERROR_CHARS_MAX: usize = 256;

/// Policies that were loaded and validated, ready to be evaluated.
#[derive(Clone)]
pub struct PolicyEngine(Arc<Loaded>);

struct Loaded {
    authorizer: Authorizer,
    index: Index,
    entities: LoadedEntities,
    model: Model,
    revision: String,
    warnings: Vec<PolicyError>,
}

/// What the policies say about one access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Permit or deny. INVARIANT: deny where `errors` is not empty.
    pub effect: Effect,
    /// The `@id`s of the policies that decided, sorted; after an error also those that failed. None for a deny because
    /// nothing permits.
    pub policy_ids: Vec<String>,
    /// The `@reason`s of the policies that decided: what the caller may be told.
    pub caller_reasons: Vec<String>,
    /// Why the evaluation failed; for the record, not for the caller.
    pub errors: Vec<String>,
    /// What of the request besides route rule and token the policies could have looked at.
    pub vary: Vary,
}

impl PolicyEngine {
    /// The first 16 hexadecimal digits of a SHA-256 over the names and contents of all files.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.0.revision
    }

    /// How many policies there are.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.0.index.policy_count()
    }

    /// What is suspicious but not wrong, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyError] {
        &self.0.warnings
    }

    /// Evaluates the policies over one request, and its risk where that was assessed. It cannot fail: any error is a deny.
    #[must_use]
    pub fn evaluate(&self, request: &AccessRequest, risk: Option<&Assessment>) -> Evaluation {
        match self.respond(request, risk) {
            Ok((answers, needs)) => conclude(&answers, needs.attributes.vary(risk)),
            Err(error) => Evaluation {
                effect: Effect::Deny,
                policy_ids: Vec::new(),
                caller_reasons: Vec::new(),
                errors: vec![cut(&error.to_string())],
                vary: Vary::EVERYTHING,
            },
        }
    }

    fn respond(
        &self,
        request: &AccessRequest,
        risk: Option<&Assessment>,
    ) -> Result<(Vec<Answer<'_>>, Needs), ModelError> {
        let loaded = &self.0;
        let buckets: Vec<&Bucket> = loaded.index.candidates(&request.route_rule).collect();
        let needs = buckets.iter().map(|bucket| bucket.needs).fold(Needs::NONE, Needs::and);
        let (asked, entities) = loaded.model.read(request, risk, &loaded.entities, needs)?;
        let answer = |bucket: &'_ Bucket| loaded.authorizer.is_authorized(&asked, &bucket.policies, &entities);
        let answers = buckets.into_iter().map(|bucket| (bucket, answer(bucket))).collect();
        Ok((answers, needs))
    }
}

/// Some of the policies, and what Cedar says about them.
type Answer<'a> = (&'a Bucket, Response);

/// What all policies together say: Cedar's rule (any `forbid` denies, else any `permit` permits) does not look at how they
/// are split.
fn conclude(answers: &[Answer<'_>], vary: Vary) -> Evaluation {
    let mut failed: Vec<&PolicyEvaluationError> = answers
        .iter()
        .flat_map(|(_, response)| response.diagnostics().errors())
        .map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error,
        })
        .collect();
    failed.sort_by_key(|error| error.policy_id());
    let forbidding = determining(answers, Decision::Deny);
    // Cedar skips a policy that fails, and a skipped `forbid` would permit: any error is a deny, which no `permit` made.
    let permitting = match forbidding.is_empty() && failed.is_empty() {
        true => determining(answers, Decision::Allow),
        false => Vec::new(),
    };
    let effect = match permitting.is_empty() {
        true => Effect::Deny,
        false => Effect::Permit,
    };
    let determining = [forbidding, permitting].concat();
    let ids = determining.iter().map(|(id, _)| *id);
    Evaluation {
        effect,
        policy_ids: ids
            .chain(failed.iter().map(|error| error.policy_id()))
            .map(ToString::to_string)
            .collect(),
        caller_reasons: determining
            .iter()
            .filter_map(|(id, bucket)| bucket.reason(id).map(str::to_owned))
            .collect(),
        errors: failed
            .iter()
            .take(ERRORS_MAX)
            .map(|error| cut(&error.to_string()))
            .collect(),
        vary,
    }
}

/// The policies that gave this decision, sorted; Cedar names only those with the effect that won.
fn determining<'a>(answers: &'a [Answer<'a>], decision: Decision) -> Vec<(&'a PolicyId, &'a Bucket)> {
    let mut policies: Vec<(&PolicyId, &Bucket)> = answers
        .iter()
        .filter(|(_, response)| response.decision() == decision)
        .flat_map(|(bucket, response)| response.diagnostics().reason().map(move |id| (id, *bucket)))
        .collect();
    policies.sort_unstable_by_key(|(id, _)| *id);
    policies
}

impl std::fmt::Debug for PolicyEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyEngine")
            .field("revision", &self.revision())
            .field("policy_count", &self.policy_count())
            .finish_non_exhaustive()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
