//! Which policies and conditions the cases have tried.

use serde::Serialize;

use crate::{Clause, ConditionValue, Evaluation, PolicyTrace, Trace, TracedPolicy};

/// The coverage of a set of policies by test cases.
///
/// Each policy counts once, as applied or not, and each of its conditions twice: that it was seen
/// true, and that it was seen false. A condition is seen where Cedar would have come to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The share that was exercised, in whole percent, rounded down.
    pub percent: u8,
    /// The number of exercised items.
    pub seen: usize,
    /// The number of items.
    pub total: usize,
    /// One for each policy, in the order of files and lines.
    pub policies: Vec<PolicyCoverage>,
}

/// The coverage of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyCoverage {
    /// The policy.
    #[serde(flatten)]
    pub policy: TracedPolicy,
    /// Whether it applied to the request of some case.
    pub is_satisfied: bool,
    /// Whether it decided about one: a `permit` that applies does not, where a `forbid` does too.
    pub is_determining: bool,
    /// One for each of its clauses.
    pub conditions: Vec<ConditionCoverage>,
}

/// The coverage of one condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConditionCoverage {
    /// It was true.
    pub is_seen_true: bool,
    /// It was false.
    pub is_seen_false: bool,
    /// It failed, which counts for neither.
    pub is_seen_failed: bool,
}

/// The coverage so far.
pub(super) struct Tried(Vec<PolicyCoverage>);

impl Tried {
    pub(super) fn nothing_of(policies: &[TracedPolicy]) -> Self {
        let untried = |policy: &TracedPolicy| PolicyCoverage {
            policy: policy.clone(),
            is_satisfied: false,
            is_determining: false,
            conditions: vec![ConditionCoverage::default(); policy.clauses.len()],
        };
        Self(policies.iter().map(untried).collect())
    }

    pub(super) fn add(&mut self, trace: &Trace, evaluation: &Evaluation) {
        for (coverage, policy) in self.0.iter_mut().zip(&trace.policies) {
            coverage.add(policy, evaluation);
        }
    }

    pub(super) fn into_coverage(self) -> Coverage {
        let seen = self.0.iter().map(PolicyCoverage::seen).sum();
        let total: usize = self.0.iter().map(PolicyCoverage::total).sum();
        Coverage {
            percent: percent(seen, total),
            seen,
            total,
            policies: self.0,
        }
    }
}

impl PolicyCoverage {
    fn add(&mut self, trace: &PolicyTrace, evaluation: &Evaluation) {
        let is_satisfied = trace.whole == ConditionValue::True;
        self.is_satisfied |= is_satisfied;
        self.is_determining |= is_satisfied && evaluation.policy_ids.contains(&self.policy.id);
        for (condition, outcome) in self.conditions.iter_mut().zip(&trace.clauses) {
            match outcome {
                Some(ConditionValue::True) => condition.is_seen_true = true,
                Some(ConditionValue::False) => condition.is_seen_false = true,
                Some(ConditionValue::Failed(_)) => condition.is_seen_failed = true,
                None => {}
            }
        }
    }

    /// The clauses with what was seen of them.
    pub fn clauses(&self) -> impl Iterator<Item = (&Clause, &ConditionCoverage)> {
        self.policy.clauses.iter().zip(&self.conditions)
    }

    /// The number of exercised items.
    #[must_use]
    pub fn seen(&self) -> usize {
        let conditions = self
            .conditions
            .iter()
            .flat_map(|one| [one.is_seen_true, one.is_seen_false]);
        conditions.chain([self.is_satisfied]).filter(|is_seen| *is_seen).count()
    }

    /// The number of items.
    #[must_use]
    pub fn total(&self) -> usize {
        1 + 2 * self.conditions.len()
    }
}

fn percent(seen: usize, total: usize) -> u8 {
    // Never more than 100, so the conversion holds.
    let percent = seen.saturating_mul(100).checked_div(total).unwrap_or(100);
    u8::try_from(percent).unwrap_or(100)
}
