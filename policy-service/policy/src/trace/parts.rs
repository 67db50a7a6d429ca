//! What Cedar says about the parts of all policies, put together for each.

use std::collections::{HashMap, HashSet};

use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicyId, PolicySet, Request};

use super::{Clause, ConditionValue, PolicyKind, PolicyTrace, TracedPolicy};
use crate::errors::cut;

/// The answers about all parts of all policies.
pub(super) struct Parts<'a> {
    pub(super) permits: Answers,
    pub(super) forbids: Answers,
    pub(super) scopes: Answers,
    pub(super) clauses: Vec<Answers>,
    /// The principal's.
    pub(super) tenant: Option<&'a str>,
    /// The policies that the engine looks at.
    pub(super) candidates: HashSet<&'a PolicyId>,
}

impl Parts<'_> {
    /// The result of one policy.
    pub(super) fn of(&self, policy: &TracedPolicy) -> PolicyTrace {
        let id = PolicyId::new(&policy.id);
        if policy.tenant.is_some() && policy.tenant.as_deref() != self.tenant {
            return PolicyTrace {
                is_candidate: false,
                scope: ConditionValue::False,
                clauses: vec![None; policy.clauses.len()],
                whole: ConditionValue::False,
            };
        }
        let whole = match policy.kind {
            PolicyKind::Permit => self.permits.outcome(&id),
            PolicyKind::Forbid => self.forbids.outcome(&id),
        };
        let scope = match policy.clauses.is_empty() {
            // Also where the policy was not taken apart.
            true => whole.clone(),
            false => self.scopes.outcome(&id),
        };
        // Cedar evaluates the scope, then clause after clause, up to the first that does not hold.
        let mut is_reached = scope == ConditionValue::True;
        let clause = |(clause, answers): (&Clause, &Answers)| {
            let outcome = is_reached.then(|| answers.outcome(&id));
            is_reached = outcome.as_ref().is_some_and(|outcome| clause.is_satisfied(outcome));
            outcome
        };
        PolicyTrace {
            is_candidate: self.candidates.contains(&id),
            clauses: policy.clauses.iter().zip(&self.clauses).map(clause).collect(),
            scope,
            whole,
        }
    }
}

/// Cedar's response about policies of one effect: the satisfied ones and the failed ones.
pub(super) struct Answers {
    satisfied: HashSet<PolicyId>,
    failed: HashMap<PolicyId, String>,
}

impl Answers {
    /// Asks Cedar.
    pub(super) fn of(authorizer: &Authorizer, asked: &Request, set: &PolicySet, entities: &Entities) -> Self {
        let response = authorizer.is_authorized(asked, set, entities);
        let diagnostics = response.diagnostics();
        let failed = diagnostics.errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => (error.policy_id().clone(), cut(&error.to_string())),
        });
        Self {
            satisfied: diagnostics.reason().cloned().collect(),
            failed: failed.collect(),
        }
    }

    fn outcome(&self, id: &PolicyId) -> ConditionValue {
        match self.failed.get(id) {
            Some(error) => ConditionValue::Failed(error.clone()),
            None if self.satisfied.contains(id) => ConditionValue::True,
            None => ConditionValue::False,
        }
    }
}
