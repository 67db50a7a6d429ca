//! AuthorizationPolicy: access rules.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::authentication::{Authentication, pointer};
use super::conditions::{self, Context, Leaning, Lists, Reader, ValueKind};
use super::documents::Document;
use super::specs::{ActionName, AuthorizationPolicySpec, Operation, Rule, Source, When};
use super::{Findings, Workload, unique_name};

/// The access rules of all AuthorizationPolicies of a workload.
#[derive(Debug, Default)]
pub(super) struct Access {
    reject: Vec<Value>,
    /// `None`: no policy allows anything, so that all is allowed.
    accept: Option<Vec<Value>>,
    audit: Vec<Value>,
    observed_reject: Vec<Value>,
    observed_accept: Option<Vec<Value>>,
    names: BTreeSet<String>,
}

impl Access {
    /// Adds rules that are no policy's.
    pub(super) fn reject(&mut self, rules: Vec<Value>) {
        self.reject.extend(rules);
    }

    pub(super) fn add(
        &mut self,
        document: &Document,
        spec: &AuthorizationPolicySpec,
        workload: &Workload,
        authentication: &Authentication,
        findings: &mut Findings,
    ) {
        let action = spec.action.unwrap_or(ActionName::Allow);
        if action == ActionName::Custom {
            custom(document, spec, findings);
        }
        let leaning = match (action, document.is_dry_run) {
            (ActionName::Deny | ActionName::Custom, false) => Leaning::Wider,
            (ActionName::Deny | ActionName::Custom, true) | (ActionName::Allow | ActionName::Audit, _) => {
                Leaning::Narrower
            }
        };
        if action != ActionName::Custom && spec.provider.is_some() {
            let message = "is for the action `CUSTOM` alone, and not looked at";
            findings.note(&document.title, "spec.provider", message);
        }
        let context = Context {
            workload,
            namespace: &document.namespace,
            issuers: &authentication.issuers,
        };
        let mut policy = Policy {
            document,
            reader: Reader {
                title: &document.title,
                leaning,
                context,
                findings,
            },
        };
        let rules = spec.rules.as_deref().unwrap_or_default().iter().enumerate();
        let rules: Vec<Value> = rules
            .filter_map(|(index, rule)| policy.rule(rule, &format!("spec.rules[{index}]"), index, &mut self.names))
            .collect();
        match (action, document.is_dry_run) {
            (ActionName::Deny | ActionName::Custom, false) => self.reject.extend(rules),
            (ActionName::Deny | ActionName::Custom, true) => self.observed_reject.extend(rules),
            (ActionName::Allow, false) => self.accept.get_or_insert_default().extend(rules),
            (ActionName::Allow, true) => self.observed_accept.get_or_insert_default().extend(rules),
            (ActionName::Audit, _) => self.audit.extend(rules),
        }
    }

    /// The member `access`, of what there is.
    pub(super) fn into_value(self) -> Value {
        let some = |list: Vec<Value>| (!list.is_empty()).then_some(list);
        let object = |members: [(&str, Option<Value>); 4]| {
            let members = members.into_iter();
            let members = members.filter_map(|(name, value)| Some((name.to_owned(), value?)));
            members.collect::<Map<_, _>>()
        };
        let list = |list: Option<Vec<Value>>| list.map(Value::Array);
        let observe = object([
            ("reject", list(some(self.observed_reject))),
            ("accept", list(self.observed_accept)),
            ("", None),
            ("", None),
        ]);
        let observe = (!observe.is_empty()).then_some(Value::Object(observe));
        Value::Object(object([
            ("reject", list(some(self.reject))),
            ("accept", list(self.accept)),
            ("audit", list(some(self.audit))),
            ("observe", observe),
        ]))
    }
}

fn custom(document: &Document, spec: &AuthorizationPolicySpec, findings: &mut Findings) {
    let provider = spec
        .provider
        .as_ref()
        .and_then(|provider| provider.get("name")?.as_str());
    let outcome = match document.is_dry_run {
        true => "counted as if it were refused",
        false => "refused",
    };
    let message = format!(
        "`CUSTOM` leaves the decision to the provider `{}`, which cannot be expressed: what its rules match is {outcome}",
        provider.unwrap_or_default()
    );
    findings.problem(&document.title, "spec.action", message);
}

struct Policy<'p> {
    document: &'p Document,
    reader: Reader<'p>,
}

/// A part of a rule.
enum Part {
    /// It holds for every request.
    Always,
    /// It holds for none.
    Never,
    Some(Value),
}

impl Policy<'_> {
    /// `None`: it can never match.
    fn rule(&mut self, rule: &Rule, path: &str, index: usize, names: &mut BTreeSet<String>) -> Option<Value> {
        let mut members = Map::new();
        members.insert("id".to_owned(), json!(unique_name(self.document, index, names)));
        let from = rule.from.as_deref().unwrap_or_default().iter().enumerate();
        let from = from.map(|(index, from)| {
            let path = format!("{path}.from[{index}].source");
            self.source(from.source.as_ref().unwrap_or(&Source::default()), &path)
        });
        let from = alternatives(from.collect());
        let to = rule.to.as_deref().unwrap_or_default().iter().enumerate();
        let to = to.map(|(index, to)| {
            let path = format!("{path}.to[{index}].operation");
            self.operation(to.operation.as_ref().unwrap_or(&Operation::default()), &path)
        });
        let to = alternatives(to.collect());
        let mut when = Vec::new();
        for (index, condition) in rule.when.as_deref().unwrap_or_default().iter().enumerate() {
            match self.condition(condition, &format!("{path}.when[{index}]")) {
                Part::Always => {}
                Part::Never => return None,
                Part::Some(condition) => when.push(condition),
            }
        }
        let when = match when.is_empty() {
            true => Part::Always,
            false => Part::Some(Value::Array(when)),
        };
        for (name, part) in [("from", from), ("to", to), ("when", when)] {
            match part {
                Part::Always => {}
                Part::Never => return None,
                Part::Some(list) => drop(members.insert(name.to_owned(), list)),
            }
        }
        Some(Value::Object(members))
    }

    fn source(&mut self, source: &Source, path: &str) -> Part {
        use ValueKind::{ConnectionAddress, Peer, Principal, RequestAddress, ServiceAccount, Text, TrustDomain};
        let s = source;
        let mut fields = Fields::new(&mut self.reader, path);
        // Trust domains are peers to the filter: they come behind them.
        fields.add("principals", "peers", Peer, &s.principals, &s.not_principals);
        fields.add(
            "trustDomains",
            "peers",
            TrustDomain,
            &s.trust_domains,
            &s.not_trust_domains,
        );
        let (list, not) = (&s.request_principals, &s.not_request_principals);
        fields.add("requestPrincipals", "principals", Principal, list, not);
        fields.add("namespaces", "namespaces", Text, &s.namespaces, &s.not_namespaces);
        let (list, not) = (&s.service_accounts, &s.not_service_accounts);
        fields.add("serviceAccounts", "service_accounts", ServiceAccount, list, not);
        let (list, not) = (&s.ip_blocks, &s.not_ip_blocks);
        fields.add("ipBlocks", "connection_addresses", ConnectionAddress, list, not);
        let (list, not) = (&s.remote_ip_blocks, &s.not_remote_ip_blocks);
        fields.add("remoteIpBlocks", "source_addresses", RequestAddress, list, not);
        fields.finish()
    }

    fn operation(&mut self, operation: &Operation, path: &str) -> Part {
        let o = operation;
        let mut fields = Fields::new(&mut self.reader, path);
        fields.add("hosts", "hosts", ValueKind::Host, &o.hosts, &o.not_hosts);
        fields.add("methods", "methods", ValueKind::Method, &o.methods, &o.not_methods);
        fields.add("paths", "paths", ValueKind::Path, &o.paths, &o.not_paths);
        fields.add("ports", "ports", ValueKind::Port, &o.ports, &o.not_ports);
        fields.finish()
    }

    fn condition(&mut self, condition: &When, path: &str) -> Part {
        if condition.values.is_empty() && condition.not_values.is_empty() {
            self.reader.problem(path, "expected `values` or `notValues`");
            return self.left_out();
        }
        let Some((member, name, kind)) = self.key(&condition.key, path) else {
            return self.left_out();
        };
        let (values, not_values) = (format!("{path}.values"), format!("{path}.notValues"));
        let lists = (&*condition.values, &*values);
        match self.reader.lists(kind, lists, (&condition.not_values, &not_values)) {
            Lists::Absent => Part::Always,
            Lists::Never => Part::Never,
            Lists::Some(any_of, none_of) => {
                let mut object = Map::new();
                object.insert(member.to_owned(), json!(name));
                conditions::insert(&mut object, "values", "not_values", &any_of, &none_of);
                Part::Some(Value::Object(object))
            }
        }
    }

    /// The member of a condition that says what it looks at, and what its values are. `None`: it cannot be expressed.
    fn key(&mut self, key: &str, path: &str) -> Option<(&'static str, String, ValueKind)> {
        let attribute = |name: &str, kind| Some(("attribute", name.to_owned(), kind));
        let claim = |name: &str| Some(("claim", name.to_owned(), ValueKind::Claim));
        match key {
            "source.ip" => attribute("connection_address", ValueKind::ConnectionAddress),
            "remote.ip" => attribute("source_address", ValueKind::RequestAddress),
            "source.namespace" => attribute("namespace", ValueKind::Text),
            "source.principal" => attribute("peer", ValueKind::Peer),
            "source.serviceAccount" => attribute("service_account", ValueKind::ServiceAccount),
            "source.trustDomain" => attribute("peer", ValueKind::TrustDomain),
            "request.auth.principal" => attribute("principal", ValueKind::Principal),
            "request.auth.audiences" => claim("aud"),
            "request.auth.presenter" => claim("azp"),
            "destination.ip" => attribute("destination_address", ValueKind::DestinationAddress),
            "destination.port" => attribute("destination_port", ValueKind::Port),
            "connection.sni" => attribute("server_name", ValueKind::Text),
            _ => match (bracketed(key, "request.headers"), bracketed(key, "request.auth.claims")) {
                (Some(names), None) => self.header(&names, path),
                (None, Some(names)) => self.claim(&names, path),
                (_, _) => {
                    self.reader
                        .problem(&format!("{path}.key"), format!("`{key}` cannot be expressed"));
                    None
                }
            },
        }
    }

    fn header(&mut self, names: &[&str], path: &str) -> Option<(&'static str, String, ValueKind)> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let name = names.join("][").to_ascii_lowercase();
        if name == "host" || name.starts_with("x-picket-") || !name.bytes().all(is_token) {
            let message =
                format!("the header `{name}` cannot be looked at; hosts, methods and paths have fields of their own");
            self.reader.problem(&format!("{path}.key"), message);
            return None;
        }
        Some(("header", name, ValueKind::Text))
    }

    fn claim(&mut self, names: &[&str], path: &str) -> Option<(&'static str, String, ValueKind)> {
        let claim = pointer(names.iter().copied());
        if claim.parse::<picket_core::token::claim_path::ClaimPath>().is_err() {
            self.reader
                .problem(&format!("{path}.key"), "the claim cannot be looked at");
            return None;
        }
        Some(("claim", claim, ValueKind::Claim))
    }

    /// What is left of something that cannot be expressed.
    fn left_out(&self) -> Part {
        match self.reader.leaning {
            Leaning::Wider => Part::Always,
            Leaning::Narrower => Part::Never,
        }
    }
}

/// The lists of a source or an operation.
struct Fields<'f, 'r> {
    reader: &'f mut Reader<'r>,
    path: &'f str,
    members: Map<String, Value>,
    asks: bool,
    is_never: bool,
}

impl<'f, 'r> Fields<'f, 'r> {
    fn new(reader: &'f mut Reader<'r>, path: &'f str) -> Self {
        Self {
            reader,
            path,
            members: Map::new(),
            asks: false,
            is_never: false,
        }
    }

    fn add(&mut self, istio: &str, ours: &str, kind: ValueKind, values: &[String], not_values: &[String]) {
        self.asks |= !values.is_empty() || !not_values.is_empty();
        let mut letters = istio.chars();
        let capital: String = letters
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(letters)
            .collect();
        let (path, not_path) = (format!("{}.{istio}", self.path), format!("{}.not{capital}", self.path));
        match self.reader.lists(kind, (values, &path), (not_values, &not_path)) {
            Lists::Absent => {}
            Lists::Never => self.is_never = true,
            Lists::Some(any_of, none_of) if ours == "ports" => {
                let numbers = |list: &[String]| {
                    list.iter()
                        .filter_map(|port| port.parse::<u16>().ok())
                        .collect::<Vec<_>>()
                };
                for (name, list) in [("ports", numbers(&any_of)), ("not_ports", numbers(&none_of))] {
                    if !list.is_empty() {
                        self.members.insert(name.to_owned(), json!(list));
                    }
                }
            }
            Lists::Some(any_of, none_of) => {
                conditions::insert(&mut self.members, ours, &format!("not_{ours}"), &any_of, &none_of);
            }
        }
    }

    fn finish(self) -> Part {
        if !self.asks {
            // Istio's own validation refuses it.
            self.reader.problem(self.path, "expected at least one field");
            return match self.reader.leaning {
                Leaning::Wider => Part::Always,
                Leaning::Narrower => Part::Never,
            };
        }
        match (self.is_never, self.members.is_empty()) {
            (true, _) => Part::Never,
            (false, true) => Part::Always,
            (false, false) => Part::Some(Value::Object(self.members)),
        }
    }
}

/// One of them must hold; without any, nothing need.
fn alternatives(parts: Vec<Part>) -> Part {
    if parts.is_empty() || parts.iter().any(|part| matches!(part, Part::Always)) {
        return Part::Always;
    }
    let some: Vec<Value> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Some(value) => Some(value),
            Part::Always | Part::Never => None,
        })
        .collect();
    match some.is_empty() {
        true => Part::Never,
        false => Part::Some(Value::Array(some)),
    }
}

/// The names in `prefix[a][b]`.
fn bracketed<'k>(key: &'k str, prefix: &str) -> Option<Vec<&'k str>> {
    let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    (!names.iter().any(|name| name.is_empty() || name.contains(['[', ']']))).then_some(names)
}
