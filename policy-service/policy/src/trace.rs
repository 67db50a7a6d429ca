//! What each policy says about a request, clause by clause: to test policies and to explain
//! decisions. It decides nothing.

mod parts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::pst::{self, ActionConstraint, PrincipalConstraint, ResourceConstraint, StaticPolicy, Template};
use cedar_policy::{Effect, Policy, PolicyId, PolicySet};
use picket_model::access::AccessRequest;
use serde::Serialize;

use super::annotations::{Annotations, Mode};
use super::context::{EvaluationContext, ZonedContext};
use super::engine::PolicyEngine;
use super::errors::{ModelError, cedar_error, line_at, with_causes};
use super::index::Bucket;
use super::needs::Needs;
use super::source::{self, SourceLocation};
use super::syntax;
use parts::{Answers, Parts};

/// Looks at policies clause by clause, over the same request and entities as the engine that it was
/// made of.
///
/// Each part of a policy is a policy of its own here, which permits: those that Cedar finds
/// satisfied are true.
pub struct Tracer {
    engine: PolicyEngine,
    policies: Vec<TracedPolicy>,
    permits: PolicySet,
    forbids: PolicySet,
    /// Policies without their clauses.
    scopes: PolicySet,
    /// The first clause of each policy by itself, the second of each, and so on.
    clauses: Vec<PolicySet>,
}

/// A policy and its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedPolicy {
    /// Its `@id`.
    pub id: String,
    /// Its effect.
    pub kind: PolicyKind,
    /// Whether it is in observe mode, and decides nothing.
    pub is_observed: bool,
    /// Its `@tenant`.
    pub tenant: Option<String>,
    /// Where it was written.
    #[serde(flatten)]
    pub place: SourceLocation,
    /// Its text.
    #[serde(skip)]
    pub text: String,
    /// In their order; none for a policy of more than 16 KiB, which is looked at as a whole.
    pub clauses: Vec<Clause>,
}

/// The effect of a policy on a request that satisfies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Cedar's words")]
pub enum PolicyKind {
    Permit,
    Forbid,
}

/// A `when` or an `unless`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// Which of the two.
    pub kind: ClauseKind,
    /// As it was written, on one line.
    pub text: String,
    /// Where it was written, in the policy's file.
    pub line: usize,
}

/// The kinds of clauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Cedar's words")]
pub enum ClauseKind {
    When,
    Unless,
}

/// The value of a part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionValue {
    /// True.
    True,
    /// False.
    False,
    /// It has none, and why.
    Failed(String),
}

/// The results of all policies for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The principal as Cedar knows it.
    pub principal: String,
    /// The entities that the principal is in, directly or by the hierarchy of `entities.json`,
    /// sorted.
    pub principal_in: Vec<String>,
    /// The action as Cedar knows it.
    pub action: String,
    /// The resource as Cedar knows it.
    pub resource: String,
    /// One for each policy, in the order of [`Tracer::policies`].
    pub policies: Vec<PolicyTrace>,
}

/// The result of one policy for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyTrace {
    /// Whether the engine looks at it, or knows by tenant and route rule that it does not apply.
    pub is_candidate: bool,
    /// Principal, action and resource of its head, and its `@tenant`.
    pub scope: ConditionValue,
    /// The value of what is in each clause's braces; `None` where an earlier part has settled the
    /// policy.
    pub clauses: Vec<Option<ConditionValue>>,
    /// The policy as a whole: true where it applies.
    pub whole: ConditionValue,
}

/// Why there is no trace: the request cannot be put to Cedar, which is a deny.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TraceError(String);

impl From<ModelError> for TraceError {
    fn from(error: ModelError) -> Self {
        Self(with_causes(&error))
    }
}

impl Tracer {
    /// Takes the policies of an engine apart.
    ///
    /// # Errors
    /// Cedar does not take a part of a policy.
    pub fn new(engine: &PolicyEngine) -> Result<Self, TraceError> {
        let mut tracer = Self {
            engine: engine.clone(),
            policies: Vec::new(),
            permits: PolicySet::new(),
            forbids: PolicySet::new(),
            scopes: PolicySet::new(),
            clauses: Vec::new(),
        };
        for (policy, annotations) in engine.loaded.index.policies() {
            tracer.add(policy, annotations)?;
        }
        tracer
            .policies
            .sort_by(|one, other| (&one.place, &one.id).cmp(&(&other.place, &other.id)));
        Ok(tracer)
    }

    /// The engine whose policies these are.
    #[must_use]
    pub fn engine(&self) -> &PolicyEngine {
        &self.engine
    }

    /// The policies, in the order of files and lines.
    #[must_use]
    pub fn policies(&self) -> &[TracedPolicy] {
        &self.policies
    }

    /// Reports the result of each policy for a request.
    ///
    /// # Errors
    /// The request cannot be put to Cedar.
    pub fn trace(&self, request: &AccessRequest, context: &EvaluationContext<'_>) -> Result<Trace, TraceError> {
        let loaded = &self.engine.loaded;
        let context = ZonedContext::new(context, &self.engine.time_zone)?;
        let (asked, entities) = loaded.model.read(request, &loaded.entities, Needs::ALL, &context)?;
        let answers = |set: &PolicySet| Answers::of(&loaded.authorizer, &asked, set, &entities);
        let parts = Parts {
            permits: answers(&self.permits),
            forbids: answers(&self.forbids),
            scopes: answers(&self.scopes),
            clauses: self.clauses.iter().map(answers).collect(),
            tenant: request
                .principal
                .as_ref()
                .and_then(|principal| principal.tenant.as_deref()),
            candidates: loaded
                .index
                .candidates(request)
                .flat_map(Bucket::policies)
                .map(|(policy, _)| policy.id())
                .collect(),
        };
        let named = |uid: Option<&cedar_policy::EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let ancestors = asked.principal().and_then(|principal| entities.ancestors(principal));
        let principal_in: BTreeSet<String> = ancestors.into_iter().flatten().map(ToString::to_string).collect();
        Ok(Trace {
            principal: named(asked.principal()),
            principal_in: principal_in.into_iter().collect(),
            action: named(asked.action()),
            resource: named(asked.resource()),
            policies: self.policies.iter().map(|policy| parts.of(policy)).collect(),
        })
    }

    fn add(&mut self, policy: &Policy, annotations: &Annotations) -> Result<(), ModelError> {
        let (set, kind) = match policy.effect() {
            Effect::Permit => (&mut self.permits, PolicyKind::Permit),
            Effect::Forbid => (&mut self.forbids, PolicyKind::Forbid),
        };
        set.add(policy.clone()).map_err(cedar_error("policies"))?;
        let places = &self.engine.loaded.places;
        let place = places.get(policy.id()).cloned().unwrap_or(SourceLocation {
            file: PathBuf::new(),
            line: 1,
        });
        let text = policy.to_cedar().unwrap_or_default();
        let clauses = match syntax::body_of(policy) {
            Some(body) => {
                self.add_parts(policy.id(), &body)?;
                clauses_of(&body, &text, &place)
            }
            None => Vec::new(),
        };
        self.policies.push(TracedPolicy {
            id: policy.id().to_string(),
            kind,
            is_observed: match annotations.mode {
                Mode::Observe => true,
                Mode::Enforce => false,
            },
            tenant: annotations.tenant.clone(),
            place,
            text,
            clauses,
        });
        Ok(())
    }

    fn add_parts(&mut self, id: &PolicyId, body: &Template) -> Result<(), ModelError> {
        let (principal, action, resource) = (body.principal.clone(), body.action.clone(), body.resource.clone());
        let scope = Template::new(body.id.clone(), pst::Effect::Permit, principal, action, resource);
        self.scopes.add(part(id, scope)?).map_err(cedar_error("policies"))?;
        for (index, clause) in body.clauses().iter().enumerate() {
            let (pst::Clause::When(expression) | pst::Clause::Unless(expression)) = clause;
            let alone = Template::new(
                body.id.clone(),
                pst::Effect::Permit,
                PrincipalConstraint::Any,
                ActionConstraint::Any,
                ResourceConstraint::Any,
            )
            .try_with_clauses([pst::Clause::When(Arc::clone(expression))])
            .map_err(cedar_error("policies"))?;
            let alone = part(id, alone)?;
            match self.clauses.get_mut(index) {
                Some(set) => set.add(alone),
                None => PolicySet::from_policies([alone]).map(|set| self.clauses.push(set)),
            }
            .map_err(cedar_error("policies"))?;
        }
        Ok(())
    }
}

impl PolicyKind {
    /// Cedar's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        }
    }
}

impl ConditionValue {
    fn is(&self, value: bool) -> bool {
        match self {
            Self::True => value,
            Self::False => !value,
            Self::Failed(_) => false,
        }
    }
}

impl Clause {
    /// Whether a clause whose braces have this value lets its policy apply.
    #[must_use]
    pub fn is_satisfied(&self, outcome: &ConditionValue) -> bool {
        match self.kind {
            ClauseKind::When => outcome.is(true),
            ClauseKind::Unless => outcome.is(false),
        }
    }
}

fn part(id: &PolicyId, template: Template) -> Result<Policy, ModelError> {
    let body = StaticPolicy::try_from(template).map_err(cedar_error("policies"))?;
    let policy = Policy::from_pst(pst::Policy::Static(body)).map_err(cedar_error("policies"))?;
    Ok(policy.new_id(id.clone()))
}

/// The clauses with what was written, or with what Cedar writes for them.
fn clauses_of(body: &Template, text: &str, place: &SourceLocation) -> Vec<Clause> {
    let written = source::clauses(text);
    let is_known = written.len() == body.clauses().len();
    let clause = |(index, clause): (usize, &pst::Clause)| {
        let written = written.get(index).filter(|_| is_known);
        let kind = match clause {
            pst::Clause::When(_) => ClauseKind::When,
            pst::Clause::Unless(_) => ClauseKind::Unless,
        };
        let shown = written.map_or_else(|| clause.to_string(), |written| written.text.to_owned());
        Clause {
            kind,
            text: shown.split_whitespace().collect::<Vec<_>>().join(" "),
            line: written.map_or(place.line, |written| {
                place.line + line_at(text, written.offset).saturating_sub(1)
            }),
        }
    };
    body.clauses().iter().enumerate().map(clause).collect()
}
