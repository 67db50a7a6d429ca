//! Searches (AuthZEN 1.0 §8): the subjects, resources or actions that would be permitted.
//!
//! The service has no directory. It finds subjects that have a session, resources of a list that
//! the operator writes, and HTTP methods as actions. Each candidate is read and evaluated like the
//! evaluation of the same request.

use std::time::Duration;

use picket_audit::{SearchKind, SearchRecord, SearchSummary};
use picket_model::access::AccessRequest;
use picket_policy::METHODS;
use picket_state::sessions::{ActivePrincipal, Sessions, TokenClaims};
use serde_json::{Map, Value, json};

use super::error::AuthzenError;
use super::paging::{OTHER_SEARCH, Page};
use super::resources::ResourceList;
use super::{AuthzenService, CallContext, information};
use crate::clock;
use crate::decision::{DecisionError, Search, new_id};

/// The candidates of one page at most: each is an evaluation.
pub(crate) const CANDIDATES_MAX: u32 = 1_000;
/// A page that has taken this long ends there; the next one continues.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(2);
/// Candidates that are read together; after so many evaluations the task yields.
const CHUNK: u32 = 64;

/// The source of candidates.
pub(super) enum CandidateSource<'a> {
    /// Principals that have a session.
    Subjects(&'a Sessions),
    /// The operator's list.
    Resources(&'a ResourceList),
    /// HTTP methods.
    Actions,
}

/// An entity that may be found.
struct Candidate {
    /// The position at which the next candidates begin.
    position: String,
    /// `None`: it is skipped without an evaluation.
    entity: Option<Value>,
}

/// The content of a page.
#[derive(Default)]
struct SearchResults {
    results: Vec<Value>,
    seen: u32,
    evaluated: u32,
    /// Empty: it is the last page.
    next_token: String,
}

/// One page of a search.
pub(super) async fn search(
    service: &AuthzenService,
    call: &CallContext,
    source: CandidateSource<'_>,
    mut document: Map<String, Value>,
) -> Result<Value, AuthzenError> {
    let _slot = service.searches.try_acquire().map_err(|_| AuthzenError::Overloaded)?;
    let decider = &*service.decider;
    let kind = source.kind();
    let page = Page::extract(kind.as_str(), &call.caller, &mut document)?;
    // Entities of other types may exist for other services: nothing is permitted about them here
    // (§8).
    let template = match information::has_unknown_type(&document) {
        true => None,
        false => Some(source.template(&document, call)?),
    };
    let now = clock::now();
    // A search for subjects checks the session of each one.
    let refusal = match (kind, &template) {
        (SearchKind::Subject, _) | (_, None) => None,
        (SearchKind::Resource | SearchKind::Action, Some(template)) => decider.session_refusal(template, now).await?,
    };
    let search = decider.search()?;
    let found = match (&template, refusal) {
        (None, _) | (_, Some(_)) => SearchResults::default(),
        (Some(_), None) => evaluate_candidates(&search, call, &source, &document, &page).await?,
    };
    let searched = SearchSummary {
        search_id: new_id(now),
        time: now,
        kind,
        policy_revision: search.policy_revision().to_owned(),
        evaluated: found.evaluated,
        found: u32::try_from(found.results.len()).unwrap_or(u32::MAX),
    };
    let mut context = json!({ "search_id": searched.search_id, "policy_revision": searched.policy_revision });
    if let (Some(refusal), Some(context)) = (refusal, context.as_object_mut()) {
        context.insert("reasons".to_owned(), json!([refusal.code()]));
    }
    let about = template.unwrap_or_else(|| information::unknown_entities(call));
    decider.record_search(SearchRecord::new(about, searched)).await?;
    Ok(json!({
        "page": { "next_token": found.next_token, "count": found.results.len() },
        "context": context,
        "results": found.results,
    }))
}

/// Evaluates candidates until the page is full or a limit of its work is reached.
async fn evaluate_candidates(
    search: &Search<'_>,
    call: &CallContext,
    source: &CandidateSource<'_>,
    document: &Map<String, Value>,
    page: &Page,
) -> Result<SearchResults, AuthzenError> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut found = SearchResults::default();
    // A page without results would be followed by itself.
    if limit == 0 {
        return Ok(found);
    }
    let mut position = page.position.clone();
    loop {
        let candidates = source.candidates(position.as_deref(), document).await?;
        if candidates.is_empty() {
            return Ok(found);
        }
        for candidate in candidates {
            let is_late = call.stopwatch.elapsed() >= TIME_MAX;
            if found.results.len() >= limit || found.seen >= CANDIDATES_MAX || is_late {
                found.next_token = page.token(position.as_deref());
                return Ok(found);
            }
            position = Some(candidate.position);
            found.seen += 1;
            if let Some(entity) = candidate.entity {
                found.evaluated += 1;
                if source.is_permitted(search, call, document, &entity).await? {
                    found.results.push(entity);
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

impl CandidateSource<'_> {
    fn kind(&self) -> SearchKind {
        match self {
            Self::Subjects(_) => SearchKind::Subject,
            Self::Resources(_) => SearchKind::Resource,
            Self::Actions => SearchKind::Action,
        }
    }

    /// The member of an evaluation that is searched for.
    fn member(&self) -> &'static str {
        self.kind().as_str()
    }

    /// The search as an evaluation of something that is well-formed, so that all mistakes in the
    /// rest of it are told.
    fn template(&self, document: &Map<String, Value>, call: &CallContext) -> Result<AccessRequest, AuthzenError> {
        let mut document = document.clone();
        if let Some(given) = document.get(self.member()).and_then(Value::as_object) {
            // What is given is ignored besides the type (§8.4 to §8.6), and of a subject what is
            // assumed of everyone.
            let mut placeholder = Map::new();
            if let Some(kind) = given.get("type") {
                if kind == "workload" {
                    let expected = "subject.type: expected `user`, as it is not known which workloads there are";
                    return Err(AuthzenError::Malformed(expected.to_owned()));
                }
                placeholder.insert("type".to_owned(), kind.clone());
            }
            placeholder.insert("id".to_owned(), json!("-"));
            let properties = match self {
                Self::Subjects(_) => with_members(given.get("properties"), &json!({ "issuer": "-" })),
                Self::Resources(_) | Self::Actions => json!({ "host": "-", "path": "/" }),
            };
            placeholder.insert("properties".to_owned(), properties);
            document.insert(self.member().to_owned(), Value::Object(placeholder));
        }
        if let Self::Actions = self {
            document.insert(self.member().to_owned(), json!({ "name": "GET" }));
        }
        read(document, call)
    }

    /// The next ones.
    async fn candidates(
        &self,
        position: Option<&str>,
        document: &Map<String, Value>,
    ) -> Result<Vec<Candidate>, AuthzenError> {
        let other_search = || AuthzenError::Malformed(OTHER_SEARCH.to_owned());
        let chunk = usize::try_from(CHUNK).unwrap_or(usize::MAX);
        let place = || -> Result<usize, AuthzenError> {
            let place = position.map(str::parse).transpose();
            Ok(place.map_err(|_| other_search())?.unwrap_or(0))
        };
        let listed = |place: usize, entities: Vec<Value>| {
            let entities = entities.into_iter().enumerate();
            entities.map(move |(index, entity)| Candidate {
                position: place.saturating_add(index).saturating_add(1).to_string(),
                entity: Some(entity),
            })
        };
        Ok(match self {
            Self::Subjects(sessions) => {
                let after = position.map(str::parse).transpose().map_err(|_| other_search())?;
                let now_us = i64::try_from(clock::now().as_us()).unwrap_or(i64::MAX);
                let known = sessions.active_principals(after, CHUNK, now_us).await;
                let known = known.map_err(AuthzenError::SessionUnknown)?;
                let given = document.get("subject").and_then(|subject| subject.get("properties"));
                let candidate = |(id, known): (_, Option<ActivePrincipal>)| Candidate {
                    position: ToString::to_string(&id),
                    entity: known.and_then(|known| subject(&known, given)),
                };
                known.into_iter().map(candidate).collect()
            }
            Self::Resources(resources) => {
                let place = place()?;
                let entities = resources.starting_at(place).iter().take(chunk).cloned().collect();
                listed(place, entities).collect()
            }
            Self::Actions => {
                let place = place()?;
                let methods = METHODS.into_iter().skip(place).take(chunk);
                listed(place, methods.map(|method| json!({ "name": method })).collect()).collect()
            }
        })
    }

    /// Whether an evaluation with this entity would be permitted.
    async fn is_permitted(
        &self,
        search: &Search<'_>,
        call: &CallContext,
        document: &Map<String, Value>,
        entity: &Value,
    ) -> Result<bool, DecisionError> {
        let mut document = document.clone();
        let entity = match self {
            Self::Subjects(_) => assumed(document.get("subject"), entity),
            Self::Resources(_) | Self::Actions => entity.clone(),
        };
        document.insert(self.member().to_owned(), entity);
        // What cannot be read is no request that could be permitted.
        match read(document, call) {
            Ok(request) => search.would_permit(request, clock::now()).await,
            Err(_) => Ok(false),
        }
    }
}

fn read(document: Map<String, Value>, call: &CallContext) -> Result<AccessRequest, AuthzenError> {
    information::access_request(document, call).map_err(|problems| AuthzenError::Malformed(problems.to_string()))
}

/// A principal as a subject, unless the search is about another issuer's or tenant's.
fn subject(known: &ActivePrincipal, given: Option<&Value>) -> Option<Value> {
    let is_wanted = |name: &str, own: Option<&str>| {
        let wanted = given.and_then(|given| given.get(name)).and_then(Value::as_str);
        wanted.is_none_or(|wanted| own == Some(wanted))
    };
    let tenant = known.tenant.as_deref();
    if !is_wanted("issuer", Some(&known.issuer)) || !is_wanted("tenant", tenant) {
        return None;
    }
    let mut properties = Map::new();
    if let Some(claims) = known.claims.as_deref() {
        add_claims(&mut properties, claims, given);
    }
    properties.insert("issuer".to_owned(), json!(known.issuer));
    properties.extend(tenant.map(|tenant| ("tenant".to_owned(), json!(tenant))));
    Some(json!({ "type": "user", "id": known.subject, "properties": properties }))
}

/// The claims of a principal's last token, except those that the search assumes of every subject.
fn add_claims(properties: &mut Map<String, Value>, claims: &TokenClaims, given: Option<&Value>) {
    let mut add = |name: &str, value: Value| {
        if given.is_none_or(|given| given.get(name).is_none()) {
            properties.insert(name.to_owned(), value);
        }
    };
    for (name, values) in [
        ("roles", &claims.roles),
        ("scopes", &claims.scopes),
        ("amr", &claims.amr),
    ] {
        if !values.is_empty() {
            add(name, json!(values));
        }
    }
    if let Some(acr) = &claims.acr {
        add("acr", json!(acr));
    }
    if let Some(auth_time_s) = claims.auth_time_s {
        add("auth_time", json!(auth_time_s));
    }
}

/// The subject with the properties that the search assumes of every subject, such as roles.
fn assumed(given: Option<&Value>, entity: &Value) -> Value {
    let given = given.and_then(|given| given.get("properties"));
    let mut entity = entity.clone();
    if let Some(properties) = entity.get_mut("properties") {
        *properties = with_members(given, properties);
    }
    entity
}

/// The members of both objects; of a member that both have, the latter's value.
fn with_members(given: Option<&Value>, more: &Value) -> Value {
    let members = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    match given {
        None | Some(Value::Object(_) | Value::Null) => {
            let mut all = members(given);
            all.extend(members(Some(more)));
            Value::Object(all)
        }
        // Reading it reports the mistake.
        Some(other) => other.clone(),
    }
}
