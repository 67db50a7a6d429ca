//! Policies: loading a folder of Cedar policies, and evaluating access requests over them.

mod annotations;
mod changes;
mod compared;
mod entities;
mod errors;
mod files;
mod index;
mod load;
mod model;
mod moment;
mod needs;
mod occurrence;
mod roles;
mod schema;
mod source;
mod step_up;
mod syntax;
mod trace;
mod user_agent;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::authorization_errors::PolicyEvaluationError;
use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities, PolicyId, PolicySet, Request, Response};
pub use jiff::tz::TimeZone;
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Effect, StepUp, Vary};

pub use changes::{ChangeKind, PolicyChange, changes};
use compared::Compared;
use entities::LoadedEntities;
use errors::ModelError;
pub use errors::{PolicyError, PolicyErrors};
pub(crate) use files::is_test_file;
pub use files::{FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, PolicyFiles, TESTS_FOLDER};
use index::{Bucket, Index};
pub use load::{load, load_files};
use model::Model;
pub use model::{AMR_MAX, METHODS, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
use moment::Moment;
pub use moment::time_zone;
use needs::Needs;
use roles::NamedRoles;
pub use schema::SCHEMA;
pub use trace::{Clause, ClauseKind, Outcome, Place, PolicyKind, PolicyTrace, Trace, TraceError, TracedPolicy, Tracer};

use crate::devices::SeenDevice;
use crate::risk::{Assessment, Levels, StatedRisk};

/// How many evaluation errors a record names; the first one says enough.
const ERRORS_MAX: usize = 8;
/// How much of an evaluation error a record holds: it can quote the request.
const ERROR_CHARS_MAX: usize = 256;

/// Policies that were loaded and validated, ready to be evaluated.
#[derive(Clone)]
pub struct PolicyEngine {
    loaded: Arc<Loaded>,
    time_zone: TimeZone,
    levels: Levels,
}

struct Loaded {
    authorizer: Authorizer,
    index: Index,
    entities: LoadedEntities,
    model: Model,
    /// Where each policy was written.
    places: HashMap<PolicyId, Place>,
    revision: String,
    warnings: Vec<PolicyError>,
    roles: NamedRoles,
}

/// What is known of a request besides what it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// How unusual it is; `None`: that was not assessed.
    pub risk: Option<&'a Assessment>,
    /// Which device it comes from; `None`: none that is known.
    pub device: Option<&'a SeenDevice>,
}

impl Known<'_> {
    /// For how many milliseconds time alone changes nothing of the risk: as long as nothing of the device that was looked at for it.
    /// `None`: for ever.
    pub(crate) fn risk_same_for_ms(&self) -> Option<u64> {
        let looked_at_device = self.risk.is_some_and(|risk| risk.vary.contains(Attribute::Device));
        self.device.filter(|_| looked_at_device)?.same_for_ms
    }
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
    /// The `@obligation`s of the policies that permitted, sorted, each once.
    pub obligations: Vec<String>,
    /// How the same principal would be permitted, where it is not.
    pub challenge: Option<StepUp>,
    /// Why the evaluation failed; for the record, not for the caller.
    pub errors: Vec<String>,
    /// What of the request besides route rule and token the policies could have looked at.
    pub vary: Vary,
    /// For how many milliseconds the time changes nothing; `None`: for ever.
    pub same_for_ms: Option<u64>,
    /// What policies in observe mode would have changed; `None`: nothing.
    pub observed: Option<Observed>,
}

/// The decision that there would be if policies in observe mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Permit or deny, the other one than was decided.
    pub effect: Effect,
    /// Those of the policies in observe mode that would have decided, or that failed.
    pub policy_ids: Vec<String>,
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

    /// What a service with these policies would have made of a risk that is stated.
    #[must_use]
    pub fn assessment(&self, stated: &StatedRisk) -> Assessment {
        stated.assessment(self.levels)
    }

    /// The first 16 hexadecimal digits of a SHA-256 over the names and contents of all files.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.loaded.revision
    }

    /// How many policies there are.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.loaded.index.policy_count()
    }

    /// What is suspicious but not wrong, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyError] {
        &self.loaded.warnings
    }

    /// The roles of policies that nothing else names: neither `entities.json`, nor these, which tests have.
    #[must_use]
    pub fn role_warnings(&self, tested: &BTreeSet<String>) -> Vec<PolicyError> {
        self.loaded.roles.warnings(tested)
    }

    /// Evaluates the policies over one request, so many microseconds after the epoch. It cannot fail: any error is a deny.
    #[must_use]
    pub fn evaluate(&self, request: &AccessRequest, now_us: u64) -> Evaluation {
        self.evaluate_knowing(request, now_us, Known::default())
    }

    /// The same for a request whose risk was assessed, where it was.
    #[must_use]
    pub fn evaluate_at_risk(&self, request: &AccessRequest, now_us: u64, risk: Option<&Assessment>) -> Evaluation {
        self.evaluate_knowing(request, now_us, Known { risk, device: None })
    }

    /// The same for a request of which more is known than it says.
    #[must_use]
    pub fn evaluate_knowing(&self, request: &AccessRequest, now_us: u64, known: Known<'_>) -> Evaluation {
        Moment::new(now_us, &self.time_zone)
            .map(|moment| moment.knowing(known))
            .and_then(|moment| self.evaluate_readings(request, &moment))
            .unwrap_or_else(|error| Evaluation::failed(&error))
    }

    /// A user agent that may be several fields must be permitted as a whole and as each of them.
    /// What is between commas in a comment is seldom a field, so nothing has to permit it, but
    /// nothing may forbid it either.
    fn evaluate_readings(&self, request: &AccessRequest, moment: &Moment) -> Result<Evaluation, ModelError> {
        let evaluation = self.evaluate_at(request, moment)?;
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
            let of_field = self.evaluate_at(&reading(field), moment)?;
            if of_field.effect == Effect::Deny {
                return Ok(of_field);
            }
        }
        for part in user_agent::possible_parts(agent)? {
            if !fields.contains(&part) && self.is_forbidden(&reading(part), moment)? {
                return self.evaluate_at(&reading(part), moment);
            }
        }
        Ok(evaluation)
    }

    /// Whether a `forbid` matches or a policy fails; not where nothing permits.
    fn is_forbidden(&self, request: &AccessRequest, moment: &Moment) -> Result<bool, ModelError> {
        let candidates = Candidates::of(&self.loaded.index, request);
        let asked = self.asked(&candidates, request, moment)?;
        let enforced = self.enforced(&candidates, &asked);
        let verdict = Verdict::of(enforced.iter());
        Ok(verdict.effect == Effect::Deny && !(verdict.determining.is_empty() && verdict.failed.is_empty()))
    }

    fn evaluate_at(&self, request: &AccessRequest, moment: &Moment) -> Result<Evaluation, ModelError> {
        let candidates = Candidates::of(&self.loaded.index, request);
        let asked = self.asked(&candidates, request, moment)?;
        let enforced = self.enforced(&candidates, &asked);
        let verdict = Verdict::of(enforced.iter());
        let attributes = candidates.needs.attributes;
        let compared = candidates.compared();
        let auth_time_s = request.principal.as_ref().and_then(|principal| principal.auth_time_s);
        let search = || {
            step_up::Search {
                request,
                moment,
                looked_at: attributes,
                compared: &compared,
                evaluations: Cell::new(0),
                evaluate: |request: &AccessRequest, moment: &Moment| self.effect(&candidates, request, moment),
            }
            .run()
        };
        let is_plain_deny = verdict.effect == Effect::Deny && verdict.failed.is_empty();
        Ok(Evaluation {
            challenge: is_plain_deny.then(search).flatten(),
            observed: observed(&enforced, &self.observed(&candidates, &asked), verdict.effect),
            vary: attributes.vary(moment.risk().map(|risk| risk.vary)),
            same_for_ms: moment.same_for_ms(attributes, &compared.ages, auth_time_s),
            ..verdict.into_evaluation()
        })
    }

    /// What the enforced policies would decide about another request that has the same candidates.
    fn effect(&self, candidates: &Candidates<'_>, request: &AccessRequest, moment: &Moment) -> Effect {
        match self.asked(candidates, request, moment) {
            Ok(asked) => Verdict::of(self.enforced(candidates, &asked).iter()).effect,
            Err(_) => Effect::Deny,
        }
    }

    fn asked(
        &self,
        candidates: &Candidates<'_>,
        request: &AccessRequest,
        moment: &Moment,
    ) -> Result<Asked, ModelError> {
        let loaded = &self.loaded;
        loaded.model.read(request, &loaded.entities, candidates.needs, moment)
    }

    fn enforced<'a>(&self, candidates: &Candidates<'a>, asked: &Asked) -> Vec<Answer<'a>> {
        let answer = |bucket: &&'a Bucket| (*bucket, self.answer(&bucket.enforced, asked));
        candidates.buckets.iter().map(answer).collect()
    }

    fn observed<'a>(&self, candidates: &Candidates<'a>, asked: &Asked) -> Vec<Answer<'a>> {
        let watched = candidates.buckets.iter().filter(|bucket| !bucket.observed.is_empty());
        let answer = |bucket: &&'a Bucket| (*bucket, self.answer(&bucket.observed, asked));
        watched.map(answer).collect()
    }

    fn answer(&self, policies: &PolicySet, (request, entities): &Asked) -> Response {
        self.loaded.authorizer.is_authorized(request, policies, entities)
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

    /// What all of them compare the strength of an authentication with; nothing, if they do not look at it.
    fn compared(&self) -> Compared {
        let mut compared = Compared::default();
        if self.needs.attributes.contain_strength() {
            self.buckets.iter().for_each(|bucket| compared.and(&bucket.compared));
        }
        compared
    }
}

/// Some of the policies, and what Cedar says about them.
type Answer<'a> = (&'a Bucket, Response);

/// A request as Cedar takes it, and the entities that it can reach.
type Asked = (Request, Entities);

/// What would be decided if the policies in observe mode were enforced, where that is not what was.
fn observed(enforced: &[Answer<'_>], watched: &[Answer<'_>], effect: Effect) -> Option<Observed> {
    if watched.is_empty() {
        return None;
    }
    let verdict = Verdict::of(enforced.iter().chain(watched));
    let determining = verdict.determining.iter();
    let of_watched = determining.filter(|(id, bucket)| bucket.observed.policy(id).is_some());
    let failed = watched.iter().flat_map(|(_, response)| errors_of(response));
    let ids = of_watched
        .map(|(id, _)| id.to_string())
        .chain(failed.map(|error| error.policy_id().to_string()));
    (verdict.effect != effect).then(|| Observed {
        effect: verdict.effect,
        policy_ids: ids.collect(),
    })
}

/// What policies together say: Cedar's rule (any `forbid` denies, else any `permit` permits) does not look at how they are
/// split.
struct Verdict<'a> {
    effect: Effect,
    determining: Vec<(&'a PolicyId, &'a Bucket)>,
    failed: Vec<&'a PolicyEvaluationError>,
}

impl<'a> Verdict<'a> {
    fn of(answers: impl Iterator<Item = &'a Answer<'a>> + Clone) -> Self {
        let mut failed: Vec<_> = answers.clone().flat_map(|(_, response)| errors_of(response)).collect();
        failed.sort_by_key(|error| error.policy_id());
        let forbidding = determining(answers.clone(), Decision::Deny);
        // Cedar skips a policy that fails, and a skipped `forbid` would permit: any error is a deny, which no `permit` made.
        let permitting = match forbidding.is_empty() && failed.is_empty() {
            true => determining(answers, Decision::Allow),
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
    fn into_evaluation(self) -> Evaluation {
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
    fn failed(error: &ModelError) -> Self {
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
    answers: impl Iterator<Item = &'a Answer<'a>>,
    decision: Decision,
) -> Vec<(&'a PolicyId, &'a Bucket)> {
    let mut policies: Vec<(&PolicyId, &Bucket)> = answers
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
