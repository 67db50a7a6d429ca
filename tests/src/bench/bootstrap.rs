//! A scenario's bootstrap: `tests/bench/bootstrap.yaml` with its filters in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::scenario::{ConnectionKind, Decision, FOLDER, Scenario};
use super::tokens::FurtherKeys;
use crate::keys::Keys;
use crate::render::replaced;

/// The workload that the load comes from, in the certificate that it presents.
const PEER: &str = "spiffe://example.org/web";
/// The host that is asked.
pub const HOST: &str = "orders.example.org";

/// What a bootstrap names.
#[derive(Debug)]
pub struct Sites<'a> {
    /// The repository.
    pub root: &'a Path,
    /// Certificates and the key set.
    pub keys: &'a Keys,
    /// The issuer's keys that no stack has.
    pub further: &'a FurtherKeys,
    /// Picket's module.
    pub module: &'a Path,
    /// The module that does nothing.
    pub empty_module: &'a Path,
    /// Where who decides listens; 0: nobody does.
    pub decider_port: u16,
}

/// The bootstrap of `scenario`.
///
/// # Errors
/// When a fragment is missing, or lacks what is to be replaced.
pub fn bootstrap(scenario: &Scenario, sites: &Sites<'_>) -> Result<String> {
    let folder = sites.root.join(FOLDER);
    let mut filters = String::new();
    for name in &scenario.filters {
        filters.push_str(&text(&folder.join("filters").join(format!("{name}.yaml")))?);
    }
    let socket = match scenario.connection {
        ConnectionKind::Plain => String::new(),
        ConnectionKind::MutualTls => text(&folder.join("mutual_tls.yaml"))?,
    };
    let frame = text(&folder.join("bootstrap.yaml"))?;
    let frame = put_in(&put_in(&frame, "@FILTERS@", &filters)?, "@TRANSPORT_SOCKET@", &socket)?;
    let values: Vec<(String, String)> = values(scenario, sites)?
        .into_iter()
        .filter(|(name, _)| frame.contains(name.as_str()))
        .collect();
    replaced(&frame, &values)
}

fn values(scenario: &Scenario, sites: &Sites<'_>) -> Result<Vec<(String, String)>> {
    let values = [
        ("@KEY_SET@", sites.further.key_set(sites.keys)?),
        ("@PKI@", sites.keys.folder().display().to_string()),
        ("@MODULE@", sites.module.display().to_string()),
        ("@EMPTY_MODULE@", sites.empty_module.display().to_string()),
        ("@DECIDER_PORT@", sites.decider_port.to_string()),
        ("@PICKET_RULES@", picket_rules(scenario).to_string()),
        ("@RBAC_POLICIES@", rbac_policies(scenario).to_string()),
        ("@TOKEN_CACHE_ENTRIES@", scenario.token_cache_entries.to_string()),
        ("@IDENTITY_HEADERS@", serde_json::to_string(&scenario.identity_headers)?),
        // Room for all that the scenario asks, with the shipped limit as the least.
        ("@DECISION_CACHE_ENTRIES@", scenario.paths.max(10_000).to_string()),
    ];
    Ok(values.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// The path that matches the rule in the middle, so that a list of rules is gone through to its half.
pub fn path(scenario: &Scenario, number: usize) -> String {
    format!("{}{number}", prefix(scenario.rules / 2))
}

/// The rule's id, which the policies name.
pub fn rule_id(number: usize) -> String {
    format!("rule-{number:05}")
}

fn prefix(rule: usize) -> String {
    format!("/area-{rule:05}/items/")
}

fn picket_rules(scenario: &Scenario) -> Value {
    let rule = |number: usize| {
        let mut rule = json!({
            "id": rule_id(number),
            "hosts": [HOST],
            "methods": ["GET"],
            "paths": [format!("{}{{id}}", prefix(number))],
            "decision": match scenario.decision { Decision::PolicyService => "policy_service", Decision::Permit => "permit" },
        });
        let (name, value) = match scenario.connection {
            ConnectionKind::Plain => ("peer", json!("none")),
            ConnectionKind::MutualTls => ("peers", json!({ "spiffe_ids": [PEER] })),
        };
        if let Some(members) = rule.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
        rule
    };
    (0..scenario.rules).map(rule).collect()
}

fn rbac_policies(scenario: &Scenario) -> Value {
    let claim = |name: &str, value: Value| {
        json!({ "metadata": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [ { "key": "claims" }, { "key": name } ],
            "value": value,
        } })
    };
    let mut principals = vec![
        claim("tenant", json!({ "string_match": { "exact": "acme" } })),
        claim(
            "roles",
            json!({ "list_match": { "one_of": { "string_match": { "exact": "clerk" } } } }),
        ),
    ];
    if scenario.connection == ConnectionKind::MutualTls {
        principals.push(json!({ "authenticated": { "principal_name": { "exact": PEER } } }));
    }
    let policy = |number: usize| {
        let permissions = json!([
            { "header": { "name": ":method", "string_match": { "exact": "GET" } } },
            { "url_path": { "path": { "prefix": prefix(number) } } },
        ]);
        let policy = json!({
            "permissions": [ { "and_rules": { "rules": permissions } } ],
            "principals": [ { "and_ids": { "ids": principals } } ],
        });
        (rule_id(number), policy)
    };
    Value::Object((0..scenario.rules).map(policy).collect::<Map<_, _>>())
}

/// Puts a fragment in the place of the line that holds `mark` alone, as far to the right as that is.
fn put_in(frame: &str, mark: &str, fragment: &str) -> Result<String> {
    let line = frame
        .lines()
        .find(|line| line.trim() == mark)
        .with_context(|| format!("no line of the bootstrap is `{mark}`"))?;
    let indent = line.strip_suffix(mark).unwrap_or_default();
    let indented: Vec<String> = fragment.lines().map(|line| format!("{indent}{line}")).collect();
    Ok(frame.replace(line, &indented.join("\n")))
}

fn text(file: &PathBuf) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}
