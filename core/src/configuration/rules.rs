//! The checks of route rules, which become [`RouteRule`]s and a [`RouteTable`].

use std::collections::BTreeSet;
use std::rc::Rc;

use picket_model::problems::Problems;
use picket_model::spiffe::TrustDomain;

use super::credentials::{check_credential, check_preflights, places_of};
use super::document::{CredentialDocument, DecisionDocument, RuleDocument};
use super::dpop::check_possession;
use super::limits::{LABEL_BYTES_MAX, RULES_MAX, SCOPES_MAX};
use super::peers::{check_peers, check_source};
use super::values::{check_name, parse_each};
use crate::enforcement::rule::{Decider, RouteRule};
use crate::path::Delimiters;
use crate::route::{HostPattern, PathTemplate, RouteTable};
use crate::token::provider::Provider;

pub(super) fn check_rules(
    documents: Vec<RuleDocument>,
    trust_domains: &BTreeSet<TrustDomain>,
    providers: &[Provider],
    check: &mut Problems,
) -> (Vec<RouteRule>, RouteTable) {
    let (mut rules, mut routes) = (Vec::new(), RouteTable::default());
    if documents.is_empty() || documents.len() > RULES_MAX {
        check.add("rules", format_args!("expected 1 to {RULES_MAX} rules"));
        return (rules, routes);
    }
    let mut ids = BTreeSet::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("rules[{index}]");
        check_name(&document.id, &mut ids, &format!("{path}.id"), check);
        let allow_in_path = check_allow_in_path(&document, &path, check);
        add_routes(&document, allow_in_path, &path, &rules, &mut routes, check);
        let credential = check_credential(&document, &path, providers, check);
        rules.push(RouteRule {
            allow_in_path,
            source: check_source(&document, &path, check),
            peers: check_peers(&document, &path, trust_domains, check),
            credential_sources: places_of(&credential, providers),
            credential,
            preflights: check_preflights(&document, &path, check),
            scopes: check_scopes(&document, &path, check),
            possession: check_possession(&document, &path, check),
            decider: decider(&document),
            id: Rc::from(document.id),
            classification: check_label(document.classification, || format!("{path}.classification"), check),
            security_zone: check_label(document.security_zone, || format!("{path}.security_zone"), check),
            tenant: check_label(document.tenant, || format!("{path}.tenant"), check),
        });
    }
    (rules, routes)
}

fn check_allow_in_path(document: &RuleDocument, path: &str, check: &mut Problems) -> Delimiters {
    let Some(names) = document.allow_in_path.as_deref() else {
        return Delimiters::NONE;
    };
    if names.is_empty() {
        check.add(format!("{path}.allow_in_path"), "expected at least one, or no field");
    }
    names
        .iter()
        .fold(Delimiters::NONE, |all, name| all.with(Delimiters::from(*name)))
}

/// What policies see of a rule. An empty text would be none to them.
fn check_label(label: Option<String>, path: impl FnOnce() -> String, check: &mut Problems) -> Option<String> {
    if label
        .as_ref()
        .is_some_and(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX)
    {
        check.add(path(), format_args!("expected 1 to {LABEL_BYTES_MAX} bytes"));
    }
    label
}

/// RFC 6749 §3.3: visible ASCII without `"` and `\\`.
fn check_scopes(document: &RuleDocument, path: &str, check: &mut Problems) -> Vec<String> {
    let Some(scopes) = document.scopes.as_deref() else {
        return Vec::new();
    };
    let is_scope = |scope: &String| {
        !scope.is_empty()
            && scope
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    if scopes.is_empty() || scopes.len() > SCOPES_MAX || !scopes.iter().all(is_scope) {
        let expected = "scopes of visible ASCII without `\"` and `\\`";
        check.add(
            format!("{path}.scopes"),
            format_args!("expected 1 to {SCOPES_MAX} {expected}"),
        );
    }
    if matches!(
        document.credential,
        Some(CredentialDocument::Optional | CredentialDocument::None)
    ) {
        check.add(
            format!("{path}.scopes"),
            "expected no scopes where no credential is required",
        );
    }
    scopes.to_vec()
}

/// Enters each host, method and path of a rule into the table; a rule that repeats itself is a
/// mistake as well.
fn add_routes(
    document: &RuleDocument,
    allowed: Delimiters,
    path: &str,
    rules: &[RouteRule],
    routes: &mut RouteTable,
    check: &mut Problems,
) {
    for (name, list) in [("hosts", &document.hosts), ("paths", &document.paths)] {
        if list.is_empty() {
            check.add(format!("{path}.{name}"), "expected at least one");
        }
    }
    let methods: Vec<Option<&str>> = match document.methods.as_deref() {
        None => vec![None],
        Some(methods) => methods.iter().map(|method| Some(method.as_str())).collect(),
    };
    if methods.is_empty() {
        check.add(
            format!("{path}.methods"),
            "expected at least one, or no field for any method",
        );
    }
    for (index, method) in methods.iter().enumerate() {
        if method.is_some_and(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')) {
            check.add(format!("{path}.methods[{index}]"), "expected a method in upper case");
        }
    }
    let hosts: Vec<_> = parse_each::<HostPattern>(&document.hosts, &format!("{path}.hosts"), check);
    let paths: Vec<_> = parse_each::<PathTemplate>(&document.paths, &format!("{path}.paths"), check);
    for (index, template) in &paths {
        if template
            .delimiters()
            .without(allowed)
            .intersects(Delimiters::ENCODED_SLASH)
        {
            let expected = "expected `allow_in_path` to name `encoded_slash`, as the path holds `%2F`";
            check.add(format!("{path}.paths[{index}]"), expected);
        }
    }
    for (host, (index, template)) in hosts
        .iter()
        .flat_map(|(_, host)| paths.iter().map(move |path| (host, path)))
    {
        for method in &methods {
            if let Err(tie) = routes.insert(host, *method, template, rules.len()) {
                let other = rules.get(tie.with).map_or("itself", |rule| &*rule.id);
                let message =
                    format!("`{template}` ties with rule `{other}`: both match the same requests equally well");
                check.add(format!("{path}.paths[{index}]"), message);
            }
        }
    }
}

pub(super) fn decider(document: &RuleDocument) -> Decider {
    match document.decision {
        Some(DecisionDocument::PolicyService) | None => Decider::PolicyService,
        Some(DecisionDocument::Permit) => Decider::Permit,
        Some(DecisionDocument::Deny) => Decider::Deny,
    }
}
