//! AuthZEN's information model (§5) as an access request, by the rules in `docs/authzen.md`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use deserr::Deserr;
use picket_core::configuration::document::PathDelimiterDocument;
use picket_core::path::{self, Delimiters, TargetError};
use picket_model::access::{
    AccessRequest, Action, Context, Possession, Principal, Resource, Sidecar, USER_AGENT_BYTES_MAX,
};
use picket_model::problems::{self, Problems};
use picket_model::spiffe::SpiffeId;
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use serde_json::{Map, Value, json};

use super::CallContext;
use crate::clock::Stopwatch;

/// The longest method that is registered with IANA has 17 characters.
const METHOD_BYTES_MAX: usize = 32;
/// RFC 1035 §2.3.4.
const HOST_BYTES_MAX: usize = 255;

/// AuthZEN 1.0 §10.1.1: other fields are ignored.
#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct Evaluation {
    subject: Subject,
    action: ActionEntity,
    resource: ResourceEntity,
    #[deserr(default)]
    context: Option<ContextObject>,
}

#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct Subject {
    #[deserr(rename = "type")]
    kind: SubjectType,
    id: String,
    #[deserr(default)]
    properties: Option<SubjectProperties>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(rename_all = lowercase)]
enum SubjectType {
    User,
    Workload,
}

#[derive(Debug, Default, Deserr)]
#[deserr(error = Problems)]
struct SubjectProperties {
    #[deserr(default)]
    issuer: Option<String>,
    #[deserr(default)]
    tenant: Option<String>,
    #[deserr(default)]
    roles: Option<Vec<String>>,
    #[deserr(default)]
    scopes: Option<Vec<String>>,
    #[deserr(default)]
    acr: Option<String>,
    #[deserr(default)]
    amr: Option<Vec<String>>,
    #[deserr(default)]
    auth_time: Option<i64>,
    #[deserr(default)]
    issued_at: Option<i64>,
    #[deserr(default)]
    session_id: Option<String>,
    #[deserr(default)]
    ip_address: Option<String>,
}

#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct ActionEntity {
    name: String,
}

#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct ResourceEntity {
    #[deserr(rename = "type")]
    _kind: ResourceType,
    id: String,
    properties: ResourceProperties,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(rename_all = lowercase)]
enum ResourceType {
    Route,
}

#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct ResourceProperties {
    host: String,
    path: String,
    #[deserr(default)]
    classification: Option<String>,
    #[deserr(default)]
    security_zone: Option<String>,
    #[deserr(default)]
    tenant: Option<String>,
    #[deserr(default)]
    path_parameters: Option<BTreeMap<String, String>>,
    #[deserr(default)]
    allow_in_path: Option<Vec<PathDelimiterDocument>>,
}

#[derive(Debug, Default, Deserr)]
#[deserr(error = Problems)]
struct ContextObject {
    #[deserr(default)]
    source_address: Option<String>,
    #[deserr(default)]
    user_agent: Option<String>,
    #[deserr(default)]
    peer: Option<String>,
    #[deserr(default)]
    certificate_thumbprint: Option<String>,
    #[deserr(default)]
    key_thumbprint: Option<String>,
}

/// The access request that an evaluation is about.
///
/// # Errors
/// Every mistake in it, each with the path to the field and what was expected.
pub(super) fn access_request(document: Map<String, Value>, call: &CallContext) -> Result<AccessRequest, Problems> {
    let Evaluation {
        subject,
        action,
        resource,
        context,
    } = problems::read(Value::Object(document))?;
    let mut check = Problems::default();
    let context = context.unwrap_or_default();
    let ip_address = subject
        .properties
        .as_ref()
        .and_then(|properties| properties.ip_address.as_deref());
    let source_address = match (context.source_address.as_deref(), ip_address) {
        (Some(address), _) => read_address(address, "context.source_address", &mut check),
        (None, Some(address)) => read_address(address, "subject.properties.ip_address", &mut check),
        (None, None) => None,
    };
    let peer = context
        .peer
        .as_deref()
        .and_then(|id| read_spiffe_id(id, "context.peer", &mut check));
    let (principal, peer) = match subject.kind {
        SubjectType::User => (Some(user(subject, &mut check)), peer),
        SubjectType::Workload => (None, workload(&subject, peer, &mut check)),
    };
    let possession = possession(&context, &mut check);
    check_method(&action.name, &mut check);
    let route_rule = not_empty(resource.id, "resource.id", &mut check);
    let request = AccessRequest {
        request_id: call.request_id.clone(),
        traceparent: call.traceparent.clone(),
        sidecar: Sidecar {
            node_id: String::new(),
            workload: call.caller.to_string(),
        },
        route_rule,
        principal,
        further_tokens: Vec::new(),
        peer,
        action: Action { method: action.name },
        resource: read_resource(resource.properties, &mut check),
        context: Context {
            source_address,
            user_agent: read_user_agent(context.user_agent, &mut check),
            possession,
        },
    };
    check.none_or(Some(request))
}

/// Whether the subject or the resource is of a type that this service does not know. A missing type
/// is a mistake of its own.
pub(super) fn has_unknown_type(document: &Map<String, Value>) -> bool {
    let is_unknown = |member: &str, known: &[&str]| {
        let kind = document.get(member).and_then(|entity| entity.get("type"));
        kind.and_then(Value::as_str).is_some_and(|kind| !known.contains(&kind))
    };
    is_unknown("subject", &["user", "workload"]) || is_unknown("resource", &["route"])
}

/// The access request in the record of a search about entities of unknown types.
pub(super) fn unknown_entities(call: &CallContext) -> AccessRequest {
    AccessRequest {
        request_id: call.request_id.clone(),
        traceparent: call.traceparent.clone(),
        sidecar: Sidecar {
            node_id: String::new(),
            workload: call.caller.to_string(),
        },
        route_rule: String::new(),
        principal: None,
        further_tokens: Vec::new(),
        peer: None,
        action: Action::default(),
        resource: Resource::default(),
        context: Context::default(),
    }
}

/// The mistakes of a resource by itself; each path begins with `resource`.
pub(super) fn check_resource(resource: Value) -> Problems {
    let call = CallContext {
        caller: Arc::from(""),
        request_id: String::new(),
        traceparent: None,
        stopwatch: Stopwatch::start(),
    };
    let document = [
        (
            "subject",
            json!({ "type": "workload", "id": "spiffe://example.org/any" }),
        ),
        ("action", json!({ "name": "GET" })),
        ("resource", resource),
    ];
    let document = document.into_iter().map(|(name, value)| (name.to_owned(), value));
    access_request(document.collect(), &call).err().unwrap_or_default()
}

fn user(subject: Subject, check: &mut Problems) -> Principal {
    let properties = subject.properties.unwrap_or_default();
    if properties.issuer.is_none() {
        let message = "is required where `subject.type` is `user`";
        check.add("subject.properties.issuer", message);
    }
    let issuer = properties.issuer.unwrap_or_else(|| "-".to_owned());
    Principal {
        issuer: not_empty(issuer, "subject.properties.issuer", check),
        subject: not_empty(subject.id, "subject.id", check),
        tenant: present(properties.tenant),
        roles: properties.roles.unwrap_or_default(),
        scopes: properties.scopes.unwrap_or_default(),
        acr: present(properties.acr),
        amr: properties.amr.unwrap_or_default(),
        auth_time_s: properties.auth_time,
        session_id: present(properties.session_id),
        token_id: None,
        issued_at_s: properties.issued_at,
        expires_at_s: None,
        actors: Vec::new(),
        // Nobody here has seen a proof.
        is_bound: false,
    }
}

/// The proofs that the enforcement point has verified, on its word, as everything that it states
/// about its subject.
fn possession(context: &ContextObject, check: &mut Problems) -> Possession {
    let expected = "expected a SHA-256 hash in base64url without padding";
    let certificate = context.certificate_thumbprint.as_deref().and_then(|text| {
        let thumbprint = CertificateThumbprint::from_base64url(text).ok_or(expected);
        check.take("context.certificate_thumbprint", thumbprint)
    });
    let key = context.key_thumbprint.as_deref().and_then(|text| {
        let thumbprint = KeyThumbprint::from_base64url(text).ok_or(expected);
        check.take("context.key_thumbprint", thumbprint)
    });
    Possession { certificate, key }
}

/// A workload asks for itself: it is its own peer.
fn workload(subject: &Subject, peer: Option<SpiffeId>, check: &mut Problems) -> Option<SpiffeId> {
    let id = read_spiffe_id(&subject.id, "subject.id", check)?;
    if peer.is_some_and(|peer| peer != id) {
        check.add("context.peer", "expected the same as `subject.id`, or none");
    }
    Some(id)
}

fn read_resource(properties: ResourceProperties, check: &mut Problems) -> Resource {
    let ResourceProperties {
        host,
        path,
        classification,
        security_zone,
        tenant,
        path_parameters,
        allow_in_path,
    } = properties;
    let is_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !(is_ipv6 || host.bytes().all(is_host)) {
        let expected = "expected a host in lower case, without a port";
        check.add("resource.properties.host", expected);
    }
    check_path(&path, &allow_in_path.unwrap_or_default(), check);
    Resource {
        host,
        path,
        path_parameters: path_parameters.unwrap_or_default(),
        classification: present(classification),
        security_zone: present(security_zone),
        tenant: present(tenant),
    }
}

/// By the filter's rules for requests that a policy decides.
fn check_path(path: &str, allowed: &[PathDelimiterDocument], check: &mut Problems) {
    const PLACE: &str = "resource.properties.path";
    let allowed = allowed
        .iter()
        .fold(Delimiters::NONE, |all, one| all.with(Delimiters::from(*one)));
    match path::parse_target(path.as_bytes()) {
        Ok(target) if target.query.is_some() || target.path != path => check.add(
            PLACE,
            format_args!("expected the normal form without a query, `{}`", target.path),
        ),
        Ok(target) => match target.delimiters.without(allowed) {
            left if left.is_empty() => {}
            left if left.intersects(Delimiters::ENCODED_SLASH) => check.add(PLACE, TargetError::EncodedSlash),
            _ => check.add(PLACE, TargetError::Delimiter),
        },
        Err(error) => check.add(PLACE, error),
    }
}

/// RFC 9110 §9.1 and §5.6.2. Which methods there are is known to the enforcement point; a policy
/// knows them in upper case.
fn check_method(name: &str, check: &mut Problems) {
    let token = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > METHOD_BYTES_MAX || !name.bytes().all(token) {
        let expected = "expected an HTTP method in upper case: a token of at most";
        check.add("action.name", format_args!("{expected} {METHOD_BYTES_MAX} characters"));
    }
}

fn read_address(text: &str, path: &str, check: &mut Problems) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().map_err(|_| "expected an IP address");
    check.take(path, address).map(|address| address.to_canonical())
}

fn read_spiffe_id(text: &str, path: &str, check: &mut Problems) -> Option<SpiffeId> {
    check.take(path, text.parse::<SpiffeId>())
}

/// An empty text means absent, as on the wire between filter and service.
fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn not_empty(text: String, path: &str, check: &mut Problems) -> String {
    if text.is_empty() {
        check.add(path, "expected a text that is not empty");
    }
    text
}

/// By the filter's limit: the whole text, or a mistake.
fn read_user_agent(agent: Option<String>, check: &mut Problems) -> Option<String> {
    let agent = present(agent.map(|agent| agent.trim_matches([' ', '\t']).to_owned()))?;
    if agent.len() > USER_AGENT_BYTES_MAX {
        check.add(
            "context.user_agent",
            format_args!("expected at most {USER_AGENT_BYTES_MAX} bytes"),
        );
    }
    Some(agent)
}
