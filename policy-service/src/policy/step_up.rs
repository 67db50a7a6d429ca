//! Challenges: what a denied principal would need to be permitted, found by evaluating again as if it had it.
//!
//! No policy says anything about challenges: the evaluation is the one of the request, with another authentication.

use std::cell::Cell;

use picket_core::access::{AccessRequest, Principal};
use picket_core::decision::{ACR_VALUES_MAX, Effect, StepUp, is_acr_value};

use super::compared::{Ages, Compared};
use super::moment::Moment;
use super::needs::{Attribute, Attributes};

/// How many ages are tried; each is an evaluation.
const AGES_MAX: usize = 16;
/// How many evaluations one denial may cost besides its own. Where they are used up, it stays a plain one.
const EVALUATIONS_MAX: u32 = 64;

/// A way to be stronger. Cheaper ones come first: another authentication of the same user, a fresh one, and a token that is
/// bound, for which the client must be another.
#[derive(Clone, Copy)]
struct Strength {
    acr: bool,
    fresh: bool,
    bound: bool,
}

const STRENGTHS: [Strength; 7] = [
    strength(true, false, false),
    strength(false, true, false),
    strength(false, false, true),
    strength(true, true, false),
    strength(true, false, true),
    strength(false, true, true),
    strength(true, true, true),
];

const fn strength(acr: bool, fresh: bool, bound: bool) -> Strength {
    Strength { acr, fresh, bound }
}

impl Strength {
    fn is_within(self, most: Self) -> bool {
        (!self.acr || most.acr) && (!self.fresh || most.fresh) && (!self.bound || most.bound)
    }
}

/// The search for one denied request.
pub(super) struct Search<'a, E> {
    pub(super) request: &'a AccessRequest,
    pub(super) moment: &'a Moment,
    /// What the policies for it look at.
    pub(super) looked_at: Attributes,
    /// What they compare it with.
    pub(super) compared: &'a Compared,
    /// Evaluates a request.
    pub(super) evaluate: E,
    /// How many evaluations there were.
    pub(super) evaluations: Cell<u32>,
}

/// An authentication to try.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    acr: Option<&'a str>,
    age_s: Option<i64>,
    bound: bool,
}

impl<E: Fn(&AccessRequest) -> Effect> Search<'_, E> {
    /// The least that would be permitted. `None`: nothing would, or there is no user who could authenticate.
    pub(super) fn run(&self) -> Option<StepUp> {
        let principal = self.request.principal.as_ref()?;
        let most = self.most(principal);
        let own_acr = Strength { acr: false, ..most };
        let mut sensible = STRENGTHS.into_iter().filter(|strength| strength.is_within(most));
        // Where all of it is not enough, less is not tried: most denials end here, after an evaluation or a few.
        let is_enough = |strength| self.attempt(strength, principal).is_some();
        let is_worth_it = sensible.clone().next().is_some() && (is_enough(most) || is_enough(own_acr));
        is_worth_it
            .then(|| sensible.find_map(|strength| self.attempt(strength, principal)))
            .flatten()
    }

    /// All that policies look at, and that the principal does not have.
    fn most(&self, principal: &Principal) -> Strength {
        let looks = |attribute| self.looked_at.contain(attribute);
        strength(
            looks(Attribute::Acr) && !self.compared.acr_values.is_empty(),
            looks(Attribute::AuthAge) || looks(Attribute::AuthTime),
            looks(Attribute::IsBound) && !principal.is_bound,
        )
    }

    fn attempt(&self, strength: Strength, principal: &Principal) -> Option<StepUp> {
        let bound = strength.bound;
        let permits = |acr, age_s| self.permits(principal, Attempt { acr, age_s, bound });
        let now = strength.fresh.then_some(0);
        let mut acr_values: Vec<Option<&str>> = match strength.acr {
            true => self.acr_values().map(Some).collect(),
            false => vec![None],
        };
        acr_values.retain(|acr| permits(*acr, now));
        let first = *acr_values.first()?;
        let max_age_s = match strength.fresh {
            true => self.ages().find(|age_s| *age_s == 0 || permits(first, Some(*age_s))),
            false => None,
        };
        acr_values.retain(|acr| *acr == first || permits(*acr, max_age_s));
        let acr_values = acr_values.into_iter().flatten().map(str::to_owned).collect();
        let max_age_s = max_age_s.map(|age_s| u32::try_from(age_s).unwrap_or(u32::MAX));
        StepUp::new(acr_values, max_age_s, bound)
    }

    /// Those that a challenge can name.
    fn acr_values(&self) -> impl Iterator<Item = &str> {
        let values = self.compared.acr_values.iter().map(String::as_str);
        values.filter(|value| is_acr_value(value)).take(ACR_VALUES_MAX)
    }

    /// The ages that could be the oldest one to be permitted, oldest first; a new authentication at last.
    fn ages(&self) -> impl Iterator<Item = i64> {
        let compared = match &self.compared.ages {
            Ages::Compared(ages) => Some(ages),
            Ages::Anyhow => None,
        };
        let oldest_first = compared.into_iter().flatten().rev();
        oldest_first
            .flat_map(|age_s| [*age_s, age_s.saturating_sub(1)])
            .filter(|age_s| *age_s > 0)
            .take(AGES_MAX)
            .chain([0])
    }

    fn permits(&self, principal: &Principal, attempt: Attempt<'_>) -> bool {
        self.evaluations.set(self.evaluations.get().saturating_add(1));
        if self.evaluations.get() > EVALUATIONS_MAX {
            return false;
        }
        let stronger = Principal {
            acr: attempt.acr.map(str::to_owned).or_else(|| principal.acr.clone()),
            auth_time_s: attempt
                .age_s
                .map(|age_s| self.moment.ago(age_s))
                .or(principal.auth_time_s),
            is_bound: attempt.bound || principal.is_bound,
            ..principal.clone()
        };
        let request = AccessRequest {
            principal: Some(stronger),
            ..self.request.clone()
        };
        (self.evaluate)(&request) == Effect::Permit
    }
}
