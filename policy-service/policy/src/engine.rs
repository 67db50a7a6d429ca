//! The policy engine: loaded policies, and the evaluation of access requests over them.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{Authorizer, Entities, PolicyId, PolicySet, Request};
use jiff::tz::TimeZone;
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Effect};
use picket_risk::{Assessment, HypotheticalRisk, Levels};

use super::compared::Compared;
use super::context::{EvaluationContext, ZonedContext};
use super::entities::LoadedEntities;
use super::errors::{ModelError, PolicyError};
use super::evaluation::{BucketResponse, CombinedResponse, Evaluation, observed_difference};
use super::index::{Bucket, Index};
use super::model::Model;
use super::needs::Needs;
use super::roles::NamedRoles;
use super::source::SourceLocation;
use super::{step_up, user_agent};

/// Policies that were loaded and validated, ready to be evaluated.
#[derive(Clone)]
pub struct PolicyEngine {
    pub(super) loaded: Arc<Loaded>,
    pub(super) time_zone: TimeZone,
    pub(super) levels: Levels,
}

pub(super) struct Loaded {
    pub(super) authorizer: Authorizer,
    pub(super) index: Index,
    pub(super) entities: LoadedEntities,
    pub(super) model: Model,
    /// Where each policy was written.
    pub(super) places: HashMap<PolicyId, SourceLocation>,
    pub(super) revision: String,
    pub(super) warnings: Vec<PolicyError>,
    pub(super) roles: NamedRoles,
}

impl PolicyEngine {
    /// The same policies, which see the time of this zone.
    #[must_use]
    pub fn in_time_zone(self, time_zone: TimeZone) -> Self {
        Self { time_zone, ..self }
    }

    /// The same policies, tried with risks whose levels begin there.
    #[must_use]
    pub fn with_risk_levels(self, levels: Levels) -> Self {
        Self { levels, ..self }
    }

    /// The assessment of an assumed risk by a service with these policies.
    #[must_use]
    pub fn assessment(&self, stated: &HypotheticalRisk) -> Assessment {
        stated.assessment(self.levels)
    }

    /// The first 16 hexadecimal digits of a SHA-256 over the names and contents of all files.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.loaded.revision
    }

    /// The number of policies.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.loaded.index.policy_count()
    }

    /// Suspicious parts that are no mistakes, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyError] {
        &self.loaded.warnings
    }

    /// The roles of policies that nothing else names: neither `entities.json`, nor these, which
    /// tests have.
    #[must_use]
    pub fn role_warnings(&self, tested: &BTreeSet<String>) -> Vec<PolicyError> {
        self.loaded.roles.warnings(tested)
    }

    /// Evaluates the policies over one request. It cannot fail: any error is a deny.
    #[must_use]
    pub fn evaluate(&self, request: &AccessRequest, context: &EvaluationContext<'_>) -> Evaluation {
        ZonedContext::new(context, &self.time_zone)
            .and_then(|context| self.evaluate_readings(request, &context))
            .unwrap_or_else(|error| Evaluation::failed(&error))
    }

    /// A user agent that may be several fields must be permitted as a whole and as each of them.
    /// What is between commas in a comment is seldom a field, so nothing has to permit it, but
    /// nothing may forbid it either.
    fn evaluate_readings(&self, request: &AccessRequest, context: &ZonedContext) -> Result<Evaluation, ModelError> {
        let evaluation = self.evaluate_reading(request, context)?;
        if evaluation.effect == Effect::Deny || !evaluation.vary.contains(Attribute::UserAgent) {
            return Ok(evaluation);
        }
        let agent = request.context.user_agent.as_deref();
        let reading = |field: &str| {
            let mut reading = request.clone();
            reading.context.user_agent = Some(field.to_owned());
            reading
        };
        let fields = user_agent::possible_fields(agent)?;
        for field in &fields {
            let of_field = self.evaluate_reading(&reading(field), context)?;
            if of_field.effect == Effect::Deny {
                return Ok(of_field);
            }
        }
        for part in user_agent::possible_parts(agent)? {
            if !fields.contains(&part) && self.is_forbidden(&reading(part), context)? {
                return self.evaluate_reading(&reading(part), context);
            }
        }
        Ok(evaluation)
    }

    /// Evaluates a request as it is, with one user agent.
    fn evaluate_reading(&self, request: &AccessRequest, context: &ZonedContext) -> Result<Evaluation, ModelError> {
        let candidates = Candidates::of(&self.loaded.index, request);
        let cedar_request = self.cedar_request(&candidates, request, context)?;
        let enforced = self.responses(&candidates.buckets, |bucket| &bucket.enforced, &cedar_request);
        let combined = CombinedResponse::of(enforced.iter());
        let attributes = candidates.needs.attributes;
        let compared = candidates.compared();
        let auth_time_s = request.principal.as_ref().and_then(|principal| principal.auth_time_s);
        let search = || {
            step_up::Search {
                request,
                context,
                read_attributes: attributes,
                compared: &compared,
                evaluations: Cell::new(0),
                evaluate: |request: &AccessRequest, context: &ZonedContext| self.effect(&candidates, request, context),
            }
            .run()
        };
        let is_plain_deny = combined.effect == Effect::Deny && combined.failed.is_empty();
        let with_observed = candidates.buckets.iter().copied();
        let with_observed: Vec<&Bucket> = with_observed.filter(|bucket| !bucket.observed.is_empty()).collect();
        let observed = self.responses(&with_observed, |bucket| &bucket.observed, &cedar_request);
        Ok(Evaluation {
            challenge: is_plain_deny.then(search).flatten(),
            observed: observed_difference(&enforced, &observed, combined.effect),
            vary: attributes.vary(context.risk().map(|risk| risk.vary)),
            same_for_ms: context.same_for_ms(attributes, &compared.ages, auth_time_s),
            ..combined.into_evaluation()
        })
    }

    /// Whether a `forbid` matches or a policy fails; not where nothing permits.
    fn is_forbidden(&self, request: &AccessRequest, context: &ZonedContext) -> Result<bool, ModelError> {
        let candidates = Candidates::of(&self.loaded.index, request);
        let cedar_request = self.cedar_request(&candidates, request, context)?;
        let enforced = self.responses(&candidates.buckets, |bucket| &bucket.enforced, &cedar_request);
        let combined = CombinedResponse::of(enforced.iter());
        Ok(combined.effect == Effect::Deny && !(combined.determining.is_empty() && combined.failed.is_empty()))
    }

    /// What the enforced policies would decide about another request that has the same candidates.
    fn effect(&self, candidates: &Candidates<'_>, request: &AccessRequest, context: &ZonedContext) -> Effect {
        let Ok(cedar_request) = self.cedar_request(candidates, request, context) else {
            return Effect::Deny;
        };
        let enforced = self.responses(&candidates.buckets, |bucket| &bucket.enforced, &cedar_request);
        CombinedResponse::of(enforced.iter()).effect
    }

    /// The request as Cedar takes it, with what the candidates read of it.
    fn cedar_request(
        &self,
        candidates: &Candidates<'_>,
        request: &AccessRequest,
        context: &ZonedContext,
    ) -> Result<CedarRequest, ModelError> {
        let loaded = &self.loaded;
        loaded.model.read(request, &loaded.entities, candidates.needs, context)
    }

    /// Cedar's response about a set of policies of each bucket.
    fn responses<'a>(
        &self,
        buckets: &[&'a Bucket],
        policies: impl Fn(&'a Bucket) -> &'a PolicySet,
        (request, entities): &CedarRequest,
    ) -> Vec<BucketResponse<'a>> {
        let authorizer = &self.loaded.authorizer;
        buckets
            .iter()
            .map(|bucket| (*bucket, authorizer.is_authorized(request, policies(bucket), entities)))
            .collect()
    }
}

/// The policies that can apply to a request.
struct Candidates<'a> {
    buckets: Vec<&'a Bucket>,
    needs: Needs,
}

impl<'a> Candidates<'a> {
    fn of(index: &'a Index, request: &AccessRequest) -> Self {
        let buckets: Vec<&Bucket> = index.candidates(request).collect();
        let needs = buckets.iter().map(|bucket| bucket.needs).fold(Needs::NONE, Needs::and);
        Self { buckets, needs }
    }

    /// What all of them compare the strength of an authentication with; nothing, if they do not
    /// look at it.
    fn compared(&self) -> Compared {
        let mut compared = Compared::default();
        if self.needs.attributes.contain_strength() {
            self.buckets.iter().for_each(|bucket| compared.and(&bucket.compared));
        }
        compared
    }
}

/// A request as Cedar takes it, and the entities that it can reach.
type CedarRequest = (Request, Entities);

impl std::fmt::Debug for PolicyEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyEngine")
            .field("revision", &self.revision())
            .field("policy_count", &self.policy_count())
            .finish_non_exhaustive()
    }
}
