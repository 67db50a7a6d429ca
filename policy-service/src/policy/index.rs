//! Which policies can apply to a request, so that its cost does not grow with policies about other route rules.

use std::collections::HashMap;

use cedar_policy::{Policy, PolicyId, PolicySet};

use super::model::{ModelError, refused};
use super::needs::Needs;
use super::syntax;

/// All policies, split by the route rule that they ask for.
///
/// INVARIANT: a policy in a bucket is false, without an error, for each request about another route rule.
pub(super) struct Index {
    common: Bucket,
    by_rule: HashMap<String, Bucket>,
}

/// Policies that are evaluated together.
pub(super) struct Bucket {
    pub(super) policies: PolicySet,
    /// What the policies look at.
    pub(super) needs: Needs,
    /// What the caller may be told about each, where there is something.
    reasons: HashMap<PolicyId, String>,
}

impl Index {
    /// Splits a set. A policy that is not understood is evaluated for every request.
    pub(super) fn new(policies: &PolicySet) -> Result<Self, ModelError> {
        let mut index = Self {
            common: Bucket::empty(),
            by_rule: HashMap::new(),
        };
        for policy in policies.policies() {
            let traits = syntax::traits_of(policy);
            let bucket = match traits.route_rule {
                Some(rule) => index.by_rule.entry(rule).or_insert_with(Bucket::empty),
                None => &mut index.common,
            };
            bucket.add(policy, traits.needs)?;
        }
        Ok(index)
    }

    /// Everything in one bucket: what the split is compared to.
    #[cfg(test)]
    pub(super) fn undivided(&self) -> Self {
        let mut common = Bucket::empty();
        for policy in self.policies() {
            common.add(policy, Needs::ALL).unwrap();
        }
        Self {
            common,
            by_rule: HashMap::new(),
        }
    }

    /// The policies that can apply to a request about this route rule; there may be none.
    pub(super) fn candidates(&self, route_rule: &str) -> impl Iterator<Item = &Bucket> {
        let common = (!self.common.policies.is_empty()).then_some(&self.common);
        common.into_iter().chain(self.by_rule.get(route_rule))
    }

    /// All policies, in no order.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.buckets().flat_map(|bucket| bucket.policies.policies())
    }

    /// How many policies there are.
    pub(super) fn policy_count(&self) -> usize {
        self.buckets().map(|bucket| bucket.policies.num_of_policies()).sum()
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        std::iter::once(&self.common).chain(self.by_rule.values())
    }
}

impl Bucket {
    fn empty() -> Self {
        Self {
            policies: PolicySet::new(),
            needs: Needs::NONE,
            reasons: HashMap::new(),
        }
    }

    fn add(&mut self, policy: &Policy, needs: Needs) -> Result<(), ModelError> {
        self.policies.add(policy.clone()).map_err(refused("policies"))?;
        self.needs = self.needs.and(needs);
        if let Some(reason) = policy.annotation("reason") {
            self.reasons.insert(policy.id().clone(), reason.to_owned());
        }
        Ok(())
    }

    /// What the caller may be told about a policy.
    pub(super) fn reason(&self, id: &PolicyId) -> Option<&str> {
        self.reasons.get(id).map(String::as_str)
    }
}
