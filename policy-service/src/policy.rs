//! Policies: loading a folder of Cedar policies, and evaluating access requests over them.

mod errors;
mod load;
mod model;

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, PolicyId, PolicySet, Response, Schema};
use picket_core::access::AccessRequest;
use picket_core::decision::Effect;

pub use errors::{PolicyError, PolicyErrors};
pub use load::{FILE_BYTES_MAX, FILES_MAX, load};
pub use model::{AMR_MAX, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
use model::{Model, ModelError};

/// How many evaluation errors a record names; the first one says enough.
const ERRORS_MAX: usize = 8;
/// How much of an evaluation error a record holds: it can quote the request.
const ERROR_CHARS_MAX: usize = 256;

/// Policies that were loaded and validated, ready to be evaluated.
#[derive(Clone)]
pub struct PolicyEngine(Arc<Loaded>);

struct Loaded {
    authorizer: Authorizer,
    policies: PolicySet,
    schema: Schema,
    entities: Entities,
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
        self.0.policies.num_of_policies()
    }

    /// What is suspicious but not wrong, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyError] {
        &self.0.warnings
    }

    /// Evaluates the policies over one request. It cannot fail: any error is a deny.
    #[must_use]
    pub fn evaluate(&self, request: &AccessRequest) -> Evaluation {
        match self.respond(request) {
            Ok(response) => self.conclude(&response),
            Err(error) => Evaluation {
                effect: Effect::Deny,
                policy_ids: Vec::new(),
                caller_reasons: Vec::new(),
                errors: vec![cut(&error.to_string())],
            },
        }
    }

    fn respond(&self, request: &AccessRequest) -> Result<Response, ModelError> {
        let loaded = &self.0;
        let asked = loaded.model.request(request, &loaded.schema)?;
        let entities = loaded.model.entities(request, &loaded.entities)?;
        Ok(loaded.authorizer.is_authorized(&asked, &loaded.policies, &entities))
    }

    fn conclude(&self, response: &Response) -> Evaluation {
        let diagnostics = response.diagnostics();
        let errors: Vec<String> = diagnostics
            .errors()
            .take(ERRORS_MAX)
            .map(|error| cut(&error.to_string()))
            .collect();
        // Cedar skips a policy that fails, and a skipped `forbid` would permit: any error is a deny.
        let effect = match response.decision() {
            Decision::Allow if errors.is_empty() => Effect::Permit,
            Decision::Allow | Decision::Deny => Effect::Deny,
        };
        // What permitted did not decide a deny that an error made.
        let overruled = response.decision() == Decision::Allow && effect == Effect::Deny;
        let mut determining: Vec<&PolicyId> = match overruled {
            true => Vec::new(),
            false => diagnostics.reason().collect(),
        };
        determining.sort_unstable();
        let annotation = |id: &&PolicyId| self.0.policies.annotation(id, "reason").map(str::to_owned);
        let caller_reasons = determining.iter().filter_map(annotation).collect();
        let failed = diagnostics.errors().map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        determining.extend(failed);
        Evaluation {
            effect,
            policy_ids: determining.iter().map(ToString::to_string).collect(),
            caller_reasons,
            errors,
        }
    }
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
