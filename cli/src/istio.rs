//! Istio's RequestAuthentication and AuthorizationPolicy as a configuration of the filter.
//!
//! What they mean is taken from Istio's reference pages: AuthorizationPolicy
//! (<https://istio.io/latest/docs/reference/config/security/authorization-policy/>), its conditions
//! (<https://istio.io/latest/docs/reference/config/security/conditions/>), RequestAuthentication
//! (<https://istio.io/latest/docs/reference/config/security/request_authentication/>) and JWTRule
//! (<https://istio.io/latest/docs/reference/config/security/jwt/>).
//!
//! INVARIANT: what cannot be expressed is named, and leaves a configuration that refuses more than the documents do, never less;
//! where that cannot be, there is no configuration.

mod authentication;
mod authorization;
mod conditions;
mod documents;
mod specs;

use std::collections::{BTreeMap, BTreeSet};

use picket_core::configuration::limits::FURTHER_METHODS_MAX;
use picket_core::enforcement::FilterConfiguration;
use picket_core::request::{is_registered_method, is_upper_case_method};
use picket_model::problems::Problems;
use serde::Serialize;
use serde_json::{Map, Value, json};

use authentication::Authentication;
use authorization::Access;
use documents::{Document, Kind};

/// The workload whose sidecar is configured.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What the filter calls it.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its labels, which selectors look at.
    pub labels: BTreeMap<String, String>,
    /// The namespace whose policies hold in all namespaces.
    pub root_namespace: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The Envoy cluster that keys are fetched through; `None`: key sets that are fetched cannot be expressed.
    pub keys_cluster: Option<String>,
    /// How its listener tells where a connection comes from.
    pub connection_address: ConnectionAddress,
    /// Which address of `x-forwarded-for` is the request's (`forwarded_for_trusted_hops`); `None`: nobody knows.
    pub forwarded_for_trusted_hops: Option<u32>,
}

/// What Envoy takes for the address of a connection (`use_remote_address` and `xff_num_trusted_hops` of its HTTP connection
/// manager).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAddress {
    /// `true` and 0: the connection's own.
    Own,
    /// Anything else, or nobody knows: what `x-forwarded-for` says, where a request has that.
    Forwarded,
}

/// What was made of Istio's documents.
#[derive(Clone, Debug, Serialize)]
pub struct Import {
    /// The filter's configuration; `None`: there is none that is safe.
    pub configuration: Option<Value>,
    /// What cannot be expressed, and mistakes.
    pub problems: Vec<Finding>,
    /// What holds on a condition that only the operator can see to.
    pub notes: Vec<Finding>,
}

/// Something to say about a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which document: kind, namespace and name, or the file.
    pub document: String,
    /// The way to the field; empty: the whole document.
    pub path: String,
    /// What is to be said.
    pub message: String,
}

/// What is to be said, as it is found.
#[derive(Debug, Default)]
struct Findings {
    problems: Vec<Finding>,
    notes: Vec<Finding>,
}

impl Findings {
    fn problem(&mut self, document: &str, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(finding(document, path, message));
    }

    /// The same thing is said once of each document.
    fn note(&mut self, document: &str, path: impl Into<String>, message: impl Into<String>) {
        let note = finding(document, path, message);
        let is_known = |known: &Finding| known.document == note.document && known.message == note.message;
        if !self.notes.iter().any(is_known) {
            self.notes.push(note);
        }
    }
}

fn finding(document: &str, path: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding {
        document: document.to_owned(),
        path: path.into(),
        message: message.into(),
    }
}

/// Makes one configuration of all documents in these files: the name of each, and its YAML.
#[must_use]
pub fn import(files: &[(String, String)], workload: &Workload) -> Import {
    let mut findings = Findings::default();
    let configuration = configuration(files, workload, &mut findings);
    let Findings { problems, notes } = findings;
    Import {
        configuration,
        problems,
        notes,
    }
}

fn configuration(files: &[(String, String)], workload: &Workload, findings: &mut Findings) -> Option<Value> {
    // A document that was not understood might have been one that refuses.
    let documents = documents::read(files, findings)?;
    let documents: Vec<Document> = documents
        .into_iter()
        .filter(|document| document.applies_to(workload, findings))
        .collect();
    if !documents
        .iter()
        .any(|document| matches!(document.kind, Kind::AuthorizationPolicy(_)))
    {
        let message = "no AuthorizationPolicy is about the workload (--namespace, --labels): nothing is denied";
        findings.note("", "", message);
    }
    let mut authentication = Authentication::default();
    let mut access = Access::default();
    for document in &documents {
        if let Kind::RequestAuthentication(spec) = &document.kind {
            authentication.add(document, spec, workload, findings);
        }
    }
    if authentication.is_lost() {
        findings.problem(
            "",
            "",
            "no RequestAuthentication can be expressed, so that no token could be told from a forged one",
        );
        return None;
    }
    access.reject(authentication.guards(findings)?);
    for document in &documents {
        if let Kind::AuthorizationPolicy(spec) = &document.kind {
            access.add(document, spec, workload, &authentication, findings);
        }
    }
    let whole = whole(workload, &authentication, access, findings);
    checked(whole, findings)
}

fn whole(workload: &Workload, authentication: &Authentication, access: Access, findings: &mut Findings) -> Value {
    let mut configuration = Map::new();
    configuration.insert("workload".to_owned(), json!(workload.name));
    configuration.insert("trust_domains".to_owned(), json!([workload.trust_domain]));
    if !authentication.providers.is_empty() {
        configuration.insert("providers".to_owned(), json!(authentication.providers));
        configuration.insert("forward_credential".to_owned(), json!(authentication.forwards()));
    }
    if let Some(hops) = workload.forwarded_for_trusted_hops {
        configuration.insert("forwarded_for_trusted_hops".to_owned(), json!(hops));
    }
    let mut rule = json!({
        "id": "istio", "hosts": ["*"], "paths": ["/{**}"], "peer": "none",
        "credential": authentication.credential(), "decision": "permit",
    });
    if let (Some(members), false) = (rule.as_object_mut(), authentication.providers.is_empty()) {
        // Istio has its JWT filter pass preflights by (`bypass_cors_preflight`).
        members.insert("preflight_credential".to_owned(), json!("none"));
    }
    configuration.insert("rules".to_owned(), json!([rule]));
    let access = access.into_value();
    let methods = further_methods(&access, findings);
    if !methods.is_empty() {
        configuration.insert("further_methods".to_owned(), json!(methods));
    }
    if access.as_object().is_some_and(|members| !members.is_empty()) {
        configuration.insert("access".to_owned(), access);
    }
    Value::Object(configuration)
}

/// The methods that a rule names and IANA does not know: the filter takes no other ones.
fn further_methods<'a>(access: &'a Value, findings: &mut Findings) -> BTreeSet<&'a str> {
    // A `*` could be part of a method, but is a pattern's here.
    let is_further =
        |method: &&str| !method.contains('*') && is_upper_case_method(method) && !is_registered_method(method);
    let lists = access.as_object().into_iter().flat_map(|lists| lists.values());
    let rules = lists.filter_map(Value::as_array).flatten();
    let operations = rules.filter_map(|rule| rule.get("to")?.as_array()).flatten();
    let methods = operations.filter_map(|operation| operation.get("methods")?.as_array());
    let named: BTreeSet<&str> = methods.flatten().filter_map(Value::as_str).filter(is_further).collect();
    if let Some(first) = named.iter().nth(FURTHER_METHODS_MAX) {
        let message = format!(
            "expected at most {FURTHER_METHODS_MAX} methods that are not registered with IANA, found {}: from `{first}` \
             on, in alphabetical order, requests with them are refused",
            named.len()
        );
        findings.problem("", "", message);
    }
    named.into_iter().take(FURTHER_METHODS_MAX).collect()
}

/// A configuration that the filter would refuse is none.
fn checked(configuration: Value, findings: &mut Findings) -> Option<Value> {
    match FilterConfiguration::from_value(configuration.clone()) {
        Ok(_) => Some(configuration),
        Err(problems) => {
            add_all(findings, "", &problems);
            None
        }
    }
}

fn add_all(findings: &mut Findings, document: &str, problems: &Problems) {
    for problem in problems.as_slice() {
        findings.problem(document, problem.path.as_str(), &problem.message);
    }
}

/// A name of its own for a part of the configuration that is made of a part of a document.
fn unique_name(document: &Document, index: usize, used: &mut BTreeSet<String>) -> String {
    const NAME_BYTES_MAX: usize = 64;
    let full = format!("{}.{}.{index}", document.namespace, document.name);
    let is_name = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let name = match full.len() <= NAME_BYTES_MAX && is_name(&full) && !used.contains(&full) {
        true => full,
        false => format!("istio-{}", used.len()),
    };
    used.insert(name.clone());
    name
}
