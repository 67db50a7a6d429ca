//! Challenges: what a denied principal would need to be permitted, found by evaluating again as if
//! it had it.
//!
//! No policy says anything about challenges: the evaluation is the one of the request, with another
//! authentication.

use std::cell::Cell;

use picket_model::access::{AccessRequest, Principal};
use picket_model::decision::{ACR_VALUES_MAX, Effect, StepUp, is_acr_value};
use picket_model::device::DeviceFacts;

use super::compared::{Ages, Compared};
use super::context::ZonedContext;
use super::needs::{Attribute, Attributes};

/// How many ages are tried; each is an evaluation.
const AGES_MAX: usize = 16;
/// How many evaluations one denial may cost besides its own. Where they are used up, it stays a
/// plain one.
const EVALUATIONS_MAX: u32 = 64;

/// A way to be stronger. Cheaper ones come first: another authentication of the same user, a fresh
/// one, a token that is bound, for which the client must be another, and a trusted device, for
/// which the user must have one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Strength(u8);

const STRENGTHS: [Strength; 15] = [
    Strength::ACR,
    Strength::FRESH,
    Strength::BOUND,
    Strength::ACR.and(Strength::FRESH),
    Strength::ACR.and(Strength::BOUND),
    Strength::FRESH.and(Strength::BOUND),
    Strength::ACR.and(Strength::FRESH).and(Strength::BOUND),
    Strength::DEVICE,
    Strength::DEVICE.and(Strength::ACR),
    Strength::DEVICE.and(Strength::FRESH),
    Strength::DEVICE.and(Strength::BOUND),
    Strength::DEVICE.and(Strength::ACR).and(Strength::FRESH),
    Strength::DEVICE.and(Strength::ACR).and(Strength::BOUND),
    Strength::DEVICE.and(Strength::FRESH).and(Strength::BOUND),
    Strength::DEVICE
        .and(Strength::ACR)
        .and(Strength::FRESH)
        .and(Strength::BOUND),
];

impl Strength {
    const NONE: Self = Self(0);
    const ACR: Self = Self(1);
    const FRESH: Self = Self(2);
    const BOUND: Self = Self(4);
    const DEVICE: Self = Self(8);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn has(self, part: Self) -> bool {
        part.without(self) == Self::NONE
    }
}

/// The search for one denied request.
pub(super) struct Search<'a, E> {
    pub(super) request: &'a AccessRequest,
    pub(super) context: &'a ZonedContext,
    /// The attributes that its policies read.
    pub(super) read_attributes: Attributes,
    /// The values that its policies compare.
    pub(super) compared: &'a Compared,
    /// Evaluates a request in a context.
    pub(super) evaluate: E,
    /// The number of evaluations so far.
    pub(super) evaluations: Cell<u32>,
}

/// An authentication to try.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    acr: Option<&'a str>,
    age_s: Option<i64>,
    bound: bool,
    device: bool,
}

impl<E: Fn(&AccessRequest, &ZonedContext) -> Effect> Search<'_, E> {
    /// The least that would be permitted. `None`: nothing would, or there is no user who could
    /// authenticate.
    pub(super) fn run(&self) -> Option<StepUp> {
        let principal = self.request.principal.as_ref()?;
        let most = self.most(principal);
        let own_acr = most.without(Strength::ACR);
        let mut sensible = STRENGTHS.into_iter().filter(|strength| most.has(*strength));
        // Where all of it is not enough, less is not tried: most denials end here, after an
        // evaluation or a few.
        let is_enough = |strength| self.attempt(strength, principal).is_some();
        let is_worth_it = sensible.clone().next().is_some() && (is_enough(most) || is_enough(own_acr));
        is_worth_it
            .then(|| sensible.find_map(|strength| self.attempt(strength, principal)))
            .flatten()
    }

    /// All that policies look at, and that the principal does not have.
    fn most(&self, principal: &Principal) -> Strength {
        let looks = |attribute| self.read_attributes.contain(attribute);
        let has_best = self.context.device().is_some_and(DeviceFacts::is_best);
        let lacking = [
            (
                Strength::ACR,
                looks(Attribute::Acr) && !self.compared.acr_values.is_empty(),
            ),
            (Strength::FRESH, looks(Attribute::AuthAge) || looks(Attribute::AuthTime)),
            (Strength::BOUND, looks(Attribute::IsBound) && !principal.is_bound),
            (Strength::DEVICE, looks(Attribute::Device) && !has_best),
        ];
        let lacking = lacking.into_iter().filter(|(_, is_lacking)| *is_lacking);
        lacking.fold(Strength::NONE, |most, (strength, _)| most.and(strength))
    }

    fn attempt(&self, strength: Strength, principal: &Principal) -> Option<StepUp> {
        let (bound, device) = (strength.has(Strength::BOUND), strength.has(Strength::DEVICE));
        let permits = |acr, age_s| {
            let attempt = Attempt {
                acr,
                age_s,
                bound,
                device,
            };
            self.permits(principal, attempt)
        };
        let is_fresh = strength.has(Strength::FRESH);
        let now = is_fresh.then_some(0);
        let mut acr_values: Vec<Option<&str>> = match strength.has(Strength::ACR) {
            true => self.acr_values().map(Some).collect(),
            false => vec![None],
        };
        acr_values.retain(|acr| permits(*acr, now));
        let first = *acr_values.first()?;
        let max_age_s = match is_fresh {
            true => self.ages().find(|age_s| *age_s == 0 || permits(first, Some(*age_s))),
            false => None,
        };
        acr_values.retain(|acr| *acr == first || permits(*acr, max_age_s));
        let acr_values = acr_values.into_iter().flatten().map(str::to_owned).collect();
        let max_age_s = max_age_s.map(|age_s| u32::try_from(age_s).unwrap_or(u32::MAX));
        StepUp::new(acr_values, max_age_s, bound, device)
    }

    /// The classes that a challenge can name.
    fn acr_values(&self) -> impl Iterator<Item = &str> {
        let values = self.compared.acr_values.iter().map(String::as_str);
        values.filter(|value| is_acr_value(value)).take(ACR_VALUES_MAX)
    }

    /// The ages that could be the oldest one to be permitted, oldest first; a new authentication at
    /// last.
    fn ages(&self) -> impl Iterator<Item = i64> {
        let compared = match &self.compared.ages {
            Ages::Compared(ages) => Some(ages),
            Ages::Unknown => None,
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
                .map(|age_s| self.context.ago(age_s))
                .or(principal.auth_time_s),
            is_bound: attempt.bound || principal.is_bound,
            ..principal.clone()
        };
        let request = AccessRequest {
            principal: Some(stronger),
            ..self.request.clone()
        };
        if !attempt.device {
            return (self.evaluate)(&request, self.context) == Effect::Permit;
        }
        let trusted = DeviceFacts::trusted(self.context.device());
        (self.evaluate)(&request, &self.context.on_device(trusted)) == Effect::Permit
    }
}
