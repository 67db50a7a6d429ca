//! Hints: what is no mistake in a filter's configuration, and may not be what its author means.

use std::collections::{BTreeMap, BTreeSet};

use picket_model::problems::{self, Problem};
use picket_model::strict_json;

use super::document::{FilterDocument, RuleDocument};
use crate::enforcement::FilterConfiguration;
use crate::enforcement::rule::{CredentialRequirement, Decider, PossessionRequirement, RouteRule};
use crate::peer::requirement::PeerRequirement;
use crate::route::{HostPattern, RuleIndex};

/// What the end of a path may be to a server that finds a format in it.
const FORMAT: &str = ".json";

/// The paths that many servers take for one of a rule, and that fall under another rule which asks
/// for less: other letter case, with or without a slash at the end, with a format. Empty for a
/// document with mistakes.
#[must_use]
pub fn hints(json: &[u8]) -> Vec<Problem> {
    let document = strict_json::parse(json)
        .ok()
        .and_then(|value| problems::read::<FilterDocument>(value).ok());
    let Some((document, configuration)) = document.zip(FilterConfiguration::parse(json).ok()) else {
        return Vec::new();
    };
    let named: BTreeSet<&str> = document.rules.iter().flat_map(methods).chain(Some("GET")).collect();
    let mut hints = Vec::new();
    for (index, rule) in document.rules.iter().enumerate() {
        for (at, template) in rule.paths.iter().enumerate() {
            for (weaker, paths) in weaker_rules(&configuration, &named, rule, index, template) {
                hints.push(Problem {
                    path: format!("rules[{index}].paths[{at}]"),
                    message: message(rule, template, weaker, &paths),
                });
            }
        }
    }
    hints
}

fn message(rule: &RuleDocument, template: &str, weaker: &RouteRule, paths: &BTreeSet<String>) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    format!(
        "a server that takes {} for `{template}` is reached under rule `{}`, which asks for less than rule `{}`; \
         name these spellings in rule `{}` where the upstream knows them",
        paths.join(" or "),
        weaker.id,
        rule.id,
        rule.id,
    )
}

fn methods(rule: &RuleDocument) -> impl Iterator<Item = &str> {
    rule.methods.iter().flatten().map(String::as_str)
}

/// The rules that ask for less, each with the spellings of this template's path that fall under it.
fn weaker_rules<'c>(
    configuration: &'c FilterConfiguration,
    named_methods: &BTreeSet<&str>,
    rule: &RuleDocument,
    index: RuleIndex,
    template: &str,
) -> Vec<(&'c RouteRule, BTreeSet<String>)> {
    let mut found: BTreeMap<RuleIndex, BTreeSet<String>> = BTreeMap::new();
    let methods: BTreeSet<&str> = match rule.methods {
        Some(_) => methods(rule).collect(),
        None => named_methods.clone(),
    };
    for host in rule.hosts.iter().filter_map(|host| example_host(host)) {
        for path in other_spellings(template) {
            for method in &methods {
                if let Some(other) = configuration.routes.find(&host, method, &path) {
                    found.entry(other.rule).or_default().insert(path.clone());
                }
            }
        }
    }
    let rules = &configuration.rules;
    let is_weaker = |other: &RouteRule| rules.get(index).is_some_and(|rule| requires_less(other, rule));
    found
        .into_iter()
        .filter_map(|(other, paths)| Some((rules.get(other)?, paths)))
        .filter(|(other, _)| is_weaker(other))
        .collect()
}

fn example_host(pattern: &str) -> Option<String> {
    Some(match pattern.parse().ok()? {
        HostPattern::Exact(host) => host,
        HostPattern::Suffix(suffix) => format!("host{suffix}"),
        HostPattern::Any => "host".to_owned(),
    })
}

/// Paths that some servers take for one of the template's: each has another letter case, another
/// end, or a format.
fn other_spellings(template: &str) -> Vec<String> {
    // An example of the template's paths: `{id}` is `id`, `{**}` is nothing.
    let path = template.replace("{**}", "").replace(['{', '}'], "");
    let is_literal = |segment: &&str| !segment.starts_with('{') && !segment.is_empty();
    let capitalised = template
        .split('/')
        .map(|segment| match is_literal(&segment) {
            true => capitalised(segment),
            false => segment.replace("{**}", "").replace(['{', '}'], ""),
        })
        .collect::<Vec<_>>()
        .join("/");
    let ends_in_literal = template.rsplit('/').next().as_ref().is_some_and(is_literal);
    let other_end = match path.strip_suffix('/') {
        Some("") => None,
        Some(without) => Some(without.to_owned()),
        None => Some(format!("{path}/")),
    };
    let with_format = ends_in_literal.then(|| format!("{path}{FORMAT}"));
    let is_other = |spelling: &String| *spelling != path;
    [Some(capitalised), other_end, with_format]
        .into_iter()
        .flatten()
        .filter(is_other)
        .collect()
}

/// With the first letter in the other case; one within an encoding stays.
fn capitalised(segment: &str) -> String {
    let mut letters = segment.chars();
    match letters.next() {
        Some(first) if first.is_ascii_uppercase() => first.to_ascii_lowercase().to_string() + letters.as_str(),
        Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
        None => String::new(),
    }
}

/// Whether a rule asks for nothing that the other one does not, and the other one for something
/// that it does not.
fn requires_less(rule: &RouteRule, other: &RouteRule) -> bool {
    match (rule.decider, other.decider) {
        (Decider::Deny, _) => false,
        (_, Decider::Deny) => true,
        (Decider::Permit | Decider::PolicyService, Decider::Permit | Decider::PolicyService) => {
            let lacks =
                |one: &RouteRule, other: &RouteRule| other.scopes.iter().any(|scope| !one.scopes.contains(scope));
            let pairs = demands(rule).into_iter().zip(demands(other));
            let never_asks_for_more = pairs.clone().all(|(one, other)| one <= other) && !lacks(other, rule);
            never_asks_for_more && (pairs.into_iter().any(|(one, other)| one < other) || lacks(rule, other))
        }
    }
}

/// What a rule demands: of each kind, more is a higher number.
fn demands(rule: &RouteRule) -> [u8; 5] {
    let asks_for_token = rule.credential != CredentialRequirement::NotRequired;
    [
        match rule.decider {
            Decider::Permit => 0,
            Decider::PolicyService => 1,
            Decider::Deny => 2,
        },
        match &rule.peers {
            PeerRequirement::NotRequired => 0,
            PeerRequirement::OneOf { allowed, refused } if !allowed.trust_domains.is_empty() && refused.is_empty() => 1,
            PeerRequirement::OneOf { .. } => 2,
        },
        match &rule.credential {
            CredentialRequirement::NotRequired => 0,
            CredentialRequirement::Optional(_) => 1,
            CredentialRequirement::Required(None) => 2,
            CredentialRequirement::Required(Some(_)) => 3,
            CredentialRequirement::All(_) => 4,
        },
        u8::from(!rule.source.is_any()),
        u8::from(asks_for_token && rule.possession == PossessionRequirement::Required),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Each hint as its place and what it says of paths and the weaker rule.
    fn found(rules: &[Value]) -> Vec<String> {
        let document = json!({
            "workload": "w", "policy_service": {"cluster": "p"}, "trust_domains": ["example.org"],
            "providers": [{"name": "main", "issuer": "https://i.example", "audiences": ["w"], "keys": {"keys": [{
                "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}],
            "rules": rules,
        });
        let json = document.to_string();
        FilterConfiguration::parse(json.as_bytes()).unwrap();
        let short = |hint: &Problem| {
            let (paths, rest) = hint.message.split_once(" is reached under ").unwrap();
            let weaker = rest.split(',').next().unwrap();
            let paths = paths.split(" for `").next().unwrap();
            format!(
                "{}: {} {weaker}",
                hint.path,
                paths.trim_start_matches("a server that takes ")
            )
        };
        hints(json.as_bytes()).iter().map(short).collect()
    }

    fn rule(id: &str, paths: &[&str], more: &Value) -> Value {
        let mut rule = json!({"id": id, "hosts": ["h.example"], "paths": paths, "peer": "none", "credential": "none",
                              "decision": "permit"});
        let members = more.as_object().unwrap().clone();
        rule.as_object_mut().unwrap().extend(members);
        rule
    }

    #[test]
    fn a_weaker_rule_around_a_stricter_one_is_named_with_the_spellings_that_fall_under_it() {
        let open = rule("open", &["/{**}"], &json!({}));
        let deny = json!({"decision": "deny"});
        for (paths, expected) in [
            (&["/admin"][..], "`/Admin` or `/admin.json` or `/admin/`"),
            (&["/admin", "/admin/"], "`/Admin` or `/admin.json`"),
            (&["/admin/{**}"], "`/Admin/` or `/admin`"),
            (&["/admin/{id}"], "`/Admin/id` or `/admin/id/`"),
            (&["/Admin/"], "`/Admin` or `/admin/`"),
        ] {
            let hints = found(&[open.clone(), rule("strict", paths, &deny)]);
            assert_eq!(
                hints.first(),
                Some(&format!("rules[1].paths[0]: {expected} rule `open`")),
                "{paths:?}"
            );
        }
    }

    #[test]
    fn only_a_rule_that_asks_for_less_is_named() {
        let inner = json!({"decision": "policy_service"});
        let scopes = json!({"decision": "policy_service", "credential": "required", "scopes": ["a"]});
        for (outer, inner, is_hinted) in [
            (json!({}), &inner, true),
            (json!({"decision": "policy_service"}), &inner, false),
            (json!({"decision": "deny"}), &inner, false),
            (
                json!({"decision": "policy_service", "credential": "required"}),
                &inner,
                false,
            ),
            (
                json!({"decision": "policy_service", "credential": "required"}),
                &scopes,
                true,
            ),
            (
                json!({"decision": "policy_service", "credential": "optional"}),
                &scopes,
                true,
            ),
            (scopes.clone(), &scopes, false),
            // Neither asks for less than the other.
            (json!({"peer": "required"}), &scopes, false),
            (json!({"source_addresses": ["10.0.0.0/8"]}), &inner, false),
            (json!({}), &json!({"source_addresses": ["10.0.0.0/8"]}), true),
            (json!({}), &json!({"peer": "required"}), true),
            (
                json!({"peer": "required"}),
                &json!({"peer": "required", "peers": {"spiffe_ids": ["spiffe://example.org/web"]}}),
                true,
            ),
            (
                json!({"credential": "required"}),
                &json!({"credential": "required", "proof_of_possession": "required"}),
                true,
            ),
        ] {
            let hints = found(&[rule("outer", &["/{**}"], &outer), rule("inner", &["/a"], inner)]);
            assert_eq!(!hints.is_empty(), is_hinted, "{outer} {inner} {hints:?}");
        }
    }

    #[test]
    fn host_and_method_must_be_the_same() {
        let inner = rule("inner", &["/a"], &json!({"decision": "deny"}));
        let get = json!({"methods": ["GET"]});
        let post = json!({"methods": ["POST"]});
        let elsewhere = json!({"hosts": ["other.example"]});
        assert_eq!(found(&[rule("outer", &["/{**}"], &post), inner.clone()]).len(), 1);
        assert_eq!(found(&[rule("outer", &["/{**}"], &elsewhere), inner.clone()]).len(), 0);
        let mut inner_of_get = inner;
        inner_of_get["methods"] = get["methods"].clone();
        assert_eq!(
            found(&[rule("outer", &["/{**}"], &post), inner_of_get.clone()]).len(),
            0
        );
        assert_eq!(found(&[rule("outer", &["/{**}"], &get), inner_of_get]).len(), 1);
        // A rule of any host surrounds one of every host.
        let any = json!({"hosts": ["*"]});
        let suffix = json!({"hosts": ["*.example"], "decision": "deny"});
        assert_eq!(
            found(&[rule("outer", &["/{**}"], &any), rule("inner", &["/a"], &suffix)]).len(),
            1
        );
    }

    #[test]
    fn no_other_rule_is_no_hint() {
        assert!(
            found(&[
                rule("a", &["/a"], &json!({"decision": "deny"})),
                rule("b", &["/b"], &json!({}))
            ])
            .is_empty()
        );
        assert!(hints(b"{}").is_empty() && hints(b"").is_empty());
    }
}
