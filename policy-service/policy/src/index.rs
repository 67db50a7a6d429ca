//! Which policies can apply to a request, so that its cost does not grow with policies about other
//! route rules, and no request meets a policy of another tenant.

use std::collections::HashMap;

use cedar_policy::{Policy, PolicyId, PolicySet};
use picket_model::access::AccessRequest;

use super::annotations::{Annotations, Mode};
use super::compared::Compared;
use super::errors::{ModelError, cedar_error};
use super::needs::Needs;
use super::syntax::{self, Traits};

/// All policies, split by the tenant that they are about and the route rule that they ask for.
///
/// INVARIANT: a policy in a bucket is false, without an error, for each request about another route
/// rule.
#[derive(Default)]
pub(super) struct Index {
    of_all_tenants: ByRule,
    by_tenant: HashMap<String, ByRule>,
}

#[derive(Default)]
struct ByRule {
    common: Bucket,
    by_rule: HashMap<String, Bucket>,
}

/// Policies that are evaluated together.
pub(super) struct Bucket {
    /// The enforced policies.
    pub(super) enforced: PolicySet,
    /// The policies in observe mode.
    pub(super) observed: PolicySet,
    /// The attributes and entities that the policies read.
    pub(super) needs: Needs,
    /// The values that they compare the strength of an authentication with.
    pub(super) compared: Compared,
    annotations: HashMap<PolicyId, Annotations>,
}

impl Index {
    /// Splits a set. A policy that is not understood is evaluated for every request of its tenant.
    pub(super) fn new(policies: &PolicySet, annotations: &HashMap<PolicyId, Annotations>) -> Result<Self, ModelError> {
        let mut index = Self::default();
        for policy in policies.policies() {
            let traits = syntax::traits_of(policy);
            // Each policy that was loaded has some.
            let Some(annotations) = annotations.get(policy.id()) else {
                continue;
            };
            let of_tenant = match &annotations.tenant {
                Some(tenant) => index.by_tenant.entry(tenant.clone()).or_default(),
                None => &mut index.of_all_tenants,
            };
            of_tenant
                .bucket(traits.route_rule.as_deref())
                .add(policy, annotations, &traits)?;
        }
        Ok(index)
    }

    /// Everything of a tenant in one bucket: what the split is compared to.
    #[cfg(test)]
    pub(super) fn undivided(&self) -> Self {
        Self {
            of_all_tenants: self.of_all_tenants.undivided(),
            by_tenant: self
                .by_tenant
                .iter()
                .map(|(tenant, by_rule)| (tenant.clone(), by_rule.undivided()))
                .collect(),
        }
    }

    /// The policies that can apply to a request; there may be none.
    pub(super) fn candidates(&self, request: &AccessRequest) -> impl Iterator<Item = &Bucket> {
        let tenant = request
            .principal
            .as_ref()
            .and_then(|principal| principal.tenant.as_ref());
        let of_tenant = tenant.and_then(|tenant| self.by_tenant.get(tenant));
        let of_both = [Some(&self.of_all_tenants), of_tenant].into_iter().flatten();
        of_both.flat_map(|by_rule| by_rule.candidates(&request.route_rule))
    }

    /// All policies with what they say about themselves, in no order.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&Policy, &Annotations)> {
        self.buckets().flat_map(Bucket::policies)
    }

    /// The number of policies.
    pub(super) fn policy_count(&self) -> usize {
        self.buckets().map(|bucket| bucket.annotations.len()).sum()
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        let all = std::iter::once(&self.of_all_tenants).chain(self.by_tenant.values());
        all.flat_map(ByRule::buckets)
    }
}

impl ByRule {
    fn bucket(&mut self, route_rule: Option<&str>) -> &mut Bucket {
        match route_rule {
            Some(rule) => self.by_rule.entry(rule.to_owned()).or_default(),
            None => &mut self.common,
        }
    }

    fn candidates(&self, route_rule: &str) -> impl Iterator<Item = &Bucket> {
        let common = (!self.common.annotations.is_empty()).then_some(&self.common);
        common.into_iter().chain(self.by_rule.get(route_rule))
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        std::iter::once(&self.common).chain(self.by_rule.values())
    }

    #[cfg(test)]
    fn undivided(&self) -> Self {
        let mut whole = Self::default();
        for bucket in self.buckets() {
            let everything = Traits {
                route_rule: None,
                needs: Needs::ALL,
                compared: bucket.compared.clone(),
            };
            for policy in bucket.enforced.policies().chain(bucket.observed.policies()) {
                let annotations = bucket.annotations(policy.id()).unwrap();
                whole.common.add(policy, annotations, &everything).unwrap();
            }
        }
        whole
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            enforced: PolicySet::new(),
            observed: PolicySet::new(),
            needs: Needs::NONE,
            compared: Compared::default(),
            annotations: HashMap::new(),
        }
    }
}

impl Bucket {
    /// All of its policies, in no order.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&Policy, &Annotations)> {
        let all = self.enforced.policies().chain(self.observed.policies());
        all.filter_map(|policy| Some((policy, self.annotations(policy.id())?)))
    }

    fn add(&mut self, policy: &Policy, annotations: &Annotations, traits: &Traits) -> Result<(), ModelError> {
        let set = match annotations.mode {
            Mode::Enforce => &mut self.enforced,
            Mode::Observe => &mut self.observed,
        };
        set.add(policy.clone()).map_err(cedar_error("policies"))?;
        self.needs = self.needs.and(traits.needs);
        self.compared.and(&traits.compared);
        self.annotations.insert(policy.id().clone(), annotations.clone());
        Ok(())
    }

    /// The annotations of a policy.
    pub(super) fn annotations(&self, id: &PolicyId) -> Option<&Annotations> {
        self.annotations.get(id)
    }
}
