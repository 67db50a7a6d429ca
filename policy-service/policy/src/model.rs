//! How an access request becomes Cedar's principal, action, resource and context.

mod samples;

use std::collections::BTreeSet;
use std::str::FromStr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use jiff::tz::TimeZone;
use picket_model::access::{self, AccessRequest, Action, Principal, Resource, principal_name};
use picket_model::device::DeviceFacts;
use picket_model::spiffe::SpiffeId;
use picket_model::time::Timestamp;
use picket_risk::Assessment;

use super::context::{EvaluationContext, ZonedContext};
use super::entities::LoadedEntities;
use super::errors::{ModelError, cedar_error, with_causes};
use super::needs::{Attribute, Attributes, Needs, TIME};

/// How many roles a token may bring. More is an error, never a shorter list: what is left out could
/// be what forbids.
pub const ROLES_MAX: usize = 256;
/// How many scopes a token may bring.
pub const SCOPES_MAX: usize = 256;
/// How many authentication methods a token may name.
pub const AMR_MAX: usize = 64;
/// How many path parameters a rule may capture.
pub const PATH_PARAMETERS_MAX: usize = 64;

/// The methods with an action of their own; every other one is [`OTHER_METHOD`]. Methods are
/// case-sensitive (RFC 9110 §9.1).
pub const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
const OTHER_METHOD: &str = "other";
/// The entity types that the service makes from each request.
const MADE_TYPES: [&str; 4] = [
    "Picket::User",
    "Picket::Workload",
    "Picket::Anonymous",
    "Picket::Resource",
];

/// The names, parsed once.
pub(super) struct Model {
    user: EntityTypeName,
    workload: EntityTypeName,
    anonymous: EntityTypeName,
    resource: EntityTypeName,
    role: EntityTypeName,
    trust_domain: EntityTypeName,
    actions: Vec<(&'static str, EntityUid)>,
    other: EntityUid,
}

impl Model {
    pub(super) fn new() -> Result<Self, ModelError> {
        let name = |name| EntityTypeName::from_str(name).map_err(cedar_error("entity type"));
        let action = name("Picket::Action")?;
        let uid = |method| uid(&action, method);
        Ok(Self {
            user: name("Picket::User")?,
            workload: name("Picket::Workload")?,
            anonymous: name("Picket::Anonymous")?,
            resource: name("Picket::Resource")?,
            role: name("Picket::Role")?,
            trust_domain: name("Picket::TrustDomain")?,
            actions: METHODS.iter().map(|method| (*method, uid(method))).collect(),
            other: uid(OTHER_METHOD),
        })
    }

    /// True for the entity types that are made from each request.
    pub(super) fn is_made_from_requests(name: &EntityTypeName) -> bool {
        MADE_TYPES.contains(&name.to_string().as_str())
    }

    /// The actions, of which each request has one.
    pub(super) fn actions(&self) -> impl Iterator<Item = &EntityUid> {
        self.actions.iter().map(|(_, uid)| uid).chain([&self.other])
    }

    /// The request as Cedar takes it, and the entities that it can reach, with what is needed of
    /// them. They are not checked against the schema again: [`Self::mistakes_in`] has shown that
    /// what is made here conforms to it, whatever the strings are and whichever optional parts are
    /// there.
    pub(super) fn read(
        &self,
        request: &AccessRequest,
        loaded: &LoadedEntities,
        needs: Needs,
        context: &ZonedContext,
    ) -> Result<(Request, Entities), ModelError> {
        let asked = self.request(request, needs.attributes, context, None)?;
        let made = self.entities(request, loaded, needs.attributes, context)?;
        let action = self.action(&request.action.method);
        Ok((asked, loaded.with(made, action, needs.reach)?))
    }

    /// What a schema does not take of what the service makes: each principal with each action, with
    /// all optional parts and with none.
    pub(super) fn mistakes_in(&self, schema: &Schema) -> BTreeSet<String> {
        let mut mistakes = BTreeSet::new();
        let loaded = LoadedEntities::none();
        let device = DeviceFacts::trusted(None);
        let in_context = |risk: Option<&Assessment>, device| {
            let context = EvaluationContext {
                now: Timestamp::EPOCH,
                risk,
                device,
            };
            ZonedContext::new(&context, &TimeZone::UTC)
        };
        let [without_country, with_country] = samples::risks();
        let contexts = [
            in_context(None, None),
            in_context(Some(&without_country), Some(&device)),
            in_context(Some(&with_country), Some(&device)),
        ];
        let [plain, risky @ ..] = match contexts {
            [Ok(plain), Ok(one), Ok(other)] => [plain, one, other],
            [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => return BTreeSet::from([error.to_string()]),
        };
        for sample in samples::all() {
            // The optional parts of a request, and what else may be known of it as others, which
            // have optional parts themselves.
            let contexts = match sample.context.user_agent {
                Some(_) => risky.as_slice(),
                None => std::slice::from_ref(&plain),
            };
            for context in contexts {
                mistakes.extend(self.mistakes_about(sample.clone(), &loaded, context, schema));
            }
        }
        mistakes
    }

    fn mistakes_about(
        &self,
        mut sample: AccessRequest,
        loaded: &LoadedEntities,
        context: &ZonedContext,
        schema: &Schema,
    ) -> Vec<String> {
        let made = self.entities(&sample, loaded, Attributes::ALL, context);
        let mut mistakes: Vec<String> = match made {
            Ok(made) => {
                let refused = Entities::from_entities(made, Some(schema)).err();
                refused.map(|error| with_causes(&error)).into_iter().collect()
            }
            Err(error) => vec![error.to_string()],
        };
        for method in METHODS.iter().chain([&OTHER_METHOD]) {
            (*method).clone_into(&mut sample.action.method);
            let request = self.request(&sample, Attributes::ALL, context, Some(schema));
            mistakes.extend(request.err().map(|error| error.to_string()));
        }
        mistakes
    }

    fn request(
        &self,
        request: &AccessRequest,
        needed: Attributes,
        context: &ZonedContext,
        schema: Option<&Schema>,
    ) -> Result<Request, ModelError> {
        Request::new(
            self.principal_uid(request),
            self.action(&request.action.method).clone(),
            self.resource_uid(request),
            cedar_context(request, needed, context)?,
            schema,
        )
        .map_err(cedar_error("request"))
    }

    fn action(&self, method: &str) -> &EntityUid {
        let known = self.actions.iter().find(|(name, _)| *name == method);
        known.map_or(&self.other, |(_, uid)| uid)
    }

    fn principal_uid(&self, request: &AccessRequest) -> EntityUid {
        match (&request.principal, &request.peer) {
            (Some(principal), _) => uid(&self.user, &principal_name(&principal.issuer, &principal.subject)),
            (None, Some(peer)) => uid(&self.workload, peer.as_str()),
            (None, None) => uid(&self.anonymous, "anonymous"),
        }
    }

    fn resource_uid(&self, request: &AccessRequest) -> EntityUid {
        uid(
            &self.resource,
            &[request.resource.host.as_str(), &request.resource.path].concat(),
        )
    }

    fn entities(
        &self,
        request: &AccessRequest,
        loaded: &LoadedEntities,
        needed: Attributes,
        context: &ZonedContext,
    ) -> Result<Vec<Entity>, ModelError> {
        let AccessRequest {
            route_rule,
            principal,
            peer,
            resource,
            // The context has these.
            action: _,
            context: _,
            // Policies do not see these.
            request_id: _,
            traceparent: _,
            sidecar: _,
            further_tokens: _,
        } = request;
        let principal = match (principal, peer) {
            (Some(principal), _) => self.user(principal, loaded, needed, context)?,
            (None, Some(peer)) => self.workload(peer, loaded, needed)?,
            (None, None) => Entity::with_uid(self.principal_uid(request)),
        };
        let resource = Self::resource(self.resource_uid(request), resource, route_rule, needed)?;
        Ok(vec![principal, resource])
    }

    fn user(
        &self,
        principal: &Principal,
        loaded: &LoadedEntities,
        needed: Attributes,
        context: &ZonedContext,
    ) -> Result<Entity, ModelError> {
        let Principal {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            actors,
            is_bound,
            // Policies do not see these.
            session_id: _,
            token_id: _,
            issued_at_s: _,
            expires_at_s: _,
        } = principal;
        at_most("principal.roles", roles.len(), ROLES_MAX)?;
        at_most("principal.scopes", scopes.len(), SCOPES_MAX)?;
        at_most("principal.amr", amr.len(), AMR_MAX)?;
        let text = |text: &Option<String>| text.as_deref().map(string);
        let attributes = [
            pair(needed, Attribute::Issuer, || Some(string(issuer))),
            pair(needed, Attribute::Subject, || Some(string(subject))),
            pair(needed, Attribute::Tenant, || text(tenant)),
            pair(needed, Attribute::Scopes, || Some(strings(scopes))),
            pair(needed, Attribute::Amr, || Some(strings(amr))),
            pair(needed, Attribute::Acr, || text(acr)),
            pair(needed, Attribute::AuthTime, || {
                auth_time_s.map(RestrictedExpression::new_long)
            }),
            pair(needed, Attribute::AuthAge, || {
                let age_s = context.age_s((*auth_time_s)?);
                Some(RestrictedExpression::new_long(age_s))
            }),
            pair(needed, Attribute::Actors, || {
                let subjects = actors.iter().map(|actor| string(&actor.subject));
                Some(RestrictedExpression::new_set(subjects))
            }),
            pair(needed, Attribute::IsBound, || {
                Some(RestrictedExpression::new_bool(*is_bound))
            }),
        ];
        let roles = loaded.closure(roles.iter().map(|role| uid(&self.role, role)));
        let attributes = attributes.into_iter().flatten().collect();
        Entity::new(uid(&self.user, &principal_name(issuer, subject)), attributes, roles)
            .map_err(cedar_error("principal"))
    }

    fn workload(&self, peer: &SpiffeId, loaded: &LoadedEntities, needed: Attributes) -> Result<Entity, ModelError> {
        let parents = loaded.closure(std::iter::once(uid(&self.trust_domain, peer.trust_domain())));
        let attributes = identity(peer, needed).collect();
        Entity::new(uid(&self.workload, peer.as_str()), attributes, parents).map_err(cedar_error("principal"))
    }

    fn resource(
        uid: EntityUid,
        resource: &Resource,
        route_rule: &str,
        needed: Attributes,
    ) -> Result<Entity, ModelError> {
        let Resource {
            host,
            path,
            path_parameters,
            classification,
            security_zone,
            tenant,
        } = resource;
        at_most("resource.path_parameters", path_parameters.len(), PATH_PARAMETERS_MAX)?;
        let text = |text: &Option<String>| text.as_deref().map(string);
        let attributes = [
            pair(needed, Attribute::Host, || Some(string(host))),
            pair(needed, Attribute::Path, || Some(string(path))),
            pair(needed, Attribute::RouteRule, || Some(string(route_rule))),
            pair(needed, Attribute::Classification, || text(classification)),
            pair(needed, Attribute::SecurityZone, || text(security_zone)),
            pair(needed, Attribute::Tenant, || text(tenant)),
        ];
        let tags = needed.contain_tags().then_some(path_parameters).into_iter();
        Entity::new_with_tags(
            uid,
            attributes.into_iter().flatten(),
            [],
            tags.flatten().map(|(name, value)| (name.clone(), string(value))),
        )
        .map_err(cedar_error("resource"))
    }
}

fn cedar_context(request: &AccessRequest, needed: Attributes, context: &ZonedContext) -> Result<Context, ModelError> {
    let AccessRequest {
        peer,
        action: Action { method },
        context:
            access::Context {
                source_address,
                user_agent,
                // A device is found by it; policies see the device.
                possession: _,
            },
        // Entities have these.
        route_rule: _,
        principal: _,
        resource: _,
        // Policies do not see these.
        request_id: _,
        traceparent: _,
        sidecar: _,
        further_tokens: _,
    } = request;
    let peer = peer
        .as_ref()
        .filter(|_| needed.contain(Attribute::Peer))
        // A policy may take the record as a whole.
        .map(|peer| RestrictedExpression::new_record(identity(peer, Attributes::ALL)))
        .transpose()
        .map_err(cedar_error("context"))?;
    let pairs = [
        pair(needed, Attribute::Method, || Some(string(method))),
        // Cedar takes no IPv4 address in IPv6 form, and a policy about 10.0.0.0/8 means both.
        pair(needed, Attribute::SourceAddress, || {
            let address = (*source_address)?.to_canonical().to_string();
            Some(RestrictedExpression::new_ip(address))
        }),
        pair(needed, Attribute::UserAgent, || user_agent.as_deref().map(string)),
        pair(needed, Attribute::Peer, || peer),
        time(needed, context)?,
        risk(needed, context)?,
        device(needed, context)?,
    ];
    Context::from_pairs(pairs.into_iter().flatten()).map_err(cedar_error("context"))
}

/// What clock and calendar show, if any of it is needed: the record is always there, and an
/// attribute that nobody looks at is missed by nobody.
fn time(needed: Attributes, context: &ZonedContext) -> Result<Option<(String, RestrictedExpression)>, ModelError> {
    if !needed.contain_time() {
        return Ok(None);
    }
    let wall_time = context.wall_time();
    let members = [
        (Attribute::Hour, wall_time.hour),
        (Attribute::Minute, wall_time.minute),
        (Attribute::Weekday, wall_time.weekday),
        (Attribute::Date, wall_time.date),
    ];
    let members =
        members.map(|(attribute, value)| (attribute.name().to_owned(), RestrictedExpression::new_long(value)));
    let record = RestrictedExpression::new_record(members).map_err(cedar_error("time"))?;
    Ok(Some((TIME.to_owned(), record)))
}

/// The risk, if it is needed and was assessed. A policy may take the record as a whole.
fn risk(needed: Attributes, context: &ZonedContext) -> Result<Option<(String, RestrictedExpression)>, ModelError> {
    let Some(risk) = context.risk().filter(|_| needed.contain(Attribute::Risk)) else {
        return Ok(None);
    };
    let signals = risk.signals.iter().map(|signal| string(signal));
    let members = [
        Some(("score", RestrictedExpression::new_long(risk.score))),
        Some(("level", string(risk.level))),
        Some(("signals", RestrictedExpression::new_set(signals))),
        risk.country.as_deref().map(|country| ("country", string(country))),
    ];
    let members = members
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value));
    let record = RestrictedExpression::new_record(members).map_err(cedar_error("risk"))?;
    Ok(Some((Attribute::Risk.name().to_owned(), record)))
}

/// The device, if it is needed and one is known. A policy may take the record as a whole.
fn device(needed: Attributes, context: &ZonedContext) -> Result<Option<(String, RestrictedExpression)>, ModelError> {
    let Some(device) = context.device().filter(|_| needed.contain(Attribute::Device)) else {
        return Ok(None);
    };
    let DeviceFacts {
        id,
        state,
        is_trusted,
        is_compliant,
        trust_score,
        is_owner,
        // How long an answer is valid follows from it.
        same_for_ms: _,
    } = device;
    let members = [
        ("id", string(id)),
        ("state", string(state.as_str())),
        ("is_trusted", RestrictedExpression::new_bool(*is_trusted)),
        ("is_compliant", RestrictedExpression::new_bool(*is_compliant)),
        ("trust_score", RestrictedExpression::new_long((*trust_score).into())),
        ("is_owner", RestrictedExpression::new_bool(*is_owner)),
    ];
    let members = members.map(|(name, value)| (name.to_owned(), value));
    let record = RestrictedExpression::new_record(members).map_err(cedar_error("device"))?;
    Ok(Some((Attribute::Device.name().to_owned(), record)))
}

/// An attribute, if it is needed and there.
fn pair(
    needed: Attributes,
    attribute: Attribute,
    value: impl FnOnce() -> Option<RestrictedExpression>,
) -> Option<(String, RestrictedExpression)> {
    let value = needed.contain(attribute).then(value)??;
    Some((attribute.name().to_owned(), value))
}

fn identity(peer: &SpiffeId, needed: Attributes) -> impl Iterator<Item = (String, RestrictedExpression)> {
    [
        pair(needed, Attribute::SpiffeId, || Some(string(peer.as_str()))),
        pair(needed, Attribute::TrustDomain, || Some(string(peer.trust_domain()))),
    ]
    .into_iter()
    .flatten()
}

fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

fn string(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn strings(values: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| string(value)))
}

fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), ModelError> {
    if found > max {
        return Err(ModelError::TooMany { field, found, max });
    }
    Ok(())
}
