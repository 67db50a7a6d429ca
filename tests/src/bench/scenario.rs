//! Scenarios as data.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use picket_core::identity_headers;
use serde::Deserialize;

use super::statistics::Spread;

/// The folder of scenarios and Envoy fragments, in the repository.
pub const FOLDER: &str = "tests/bench";

/// One Envoy, and the load that it gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What reports call it.
    pub id: String,
    /// What it is, for people.
    pub comment: String,
    /// Files of `tests/bench/filters`, without their ending, in the order in which a request meets them.
    #[serde(default)]
    pub filters: Vec<String>,
    /// What its cost is a difference to; absent: it is one of those itself.
    pub baseline: Option<String>,
    /// How clients connect.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// What tokens the requests carry.
    #[serde(default)]
    pub tokens: Tokens,
    /// How many different ones, where there are many.
    #[serde(default = "tokens_count")]
    pub tokens_count: usize,
    /// How many tokens either side remembers: fewer than there are, and each is verified again when it comes again.
    #[serde(default = "token_cache_entries")]
    pub token_cache_entries: usize,
    /// How long a token is at least.
    #[serde(default)]
    pub token_bytes: usize,
    /// How many different paths are asked for, in a circle.
    #[serde(default = "one")]
    pub paths: usize,
    /// Headers besides those that every request has.
    #[serde(default)]
    pub extra_headers: usize,
    /// Route rules, and policies of RBAC.
    #[serde(default = "rules")]
    pub rules: usize,
    /// What Picket tells the upstream.
    #[serde(default = "identity_headers")]
    pub identity_headers: Vec<String>,
    /// Who decides, in Picket's rules.
    #[serde(default)]
    pub decision: Decision,
    /// Who is asked.
    pub decider: Option<Decider>,
    /// How long the policy service lets a permit be remembered.
    #[serde(default = "permit_valid_for_ms")]
    pub permit_valid_for_ms: u32,
    /// Envoy's worker threads.
    #[serde(default = "one")]
    pub workers: usize,
    /// In how many rounds it has its turn at most; absent: in all of them.
    pub rounds: Option<usize>,
    /// Whether the quick run has it.
    #[serde(default)]
    pub quick: bool,
    /// Requests that have to be refused: a scenario that lets everything through measures nothing.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// Envoy's counters that prove that the requests took the path which the scenario is about.
    #[serde(default)]
    pub counters: Vec<Counter>,
}

impl Scenario {
    /// In how many of `rounds` rounds it has its turn: in the first ones.
    pub fn turns(&self, rounds: usize) -> usize {
        self.rounds.map_or(rounds, |most| most.min(rounds))
    }
}

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionKind {
    /// In the clear.
    #[default]
    Plain,
    /// With the certificate of the workload `web`.
    MutualTls,
}

/// What tokens the requests carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// The same in each.
    #[default]
    One,
    /// Many, in a circle, signed with RS256.
    ManyRs256,
    /// Many, in a circle, signed with ES256.
    ManyEs256,
    /// Many, in a circle, signed with PS256.
    ManyPs256,
    /// Many, in a circle, signed with EdDSA.
    ManyEdDsa,
    /// Many, in a circle, signed with HS256.
    ManyHs256,
    /// The same in each, bound to a key, with another DPoP proof in each.
    OneWithProofs,
}

/// Who decides, in Picket's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The policy service.
    #[default]
    PolicyService,
    /// The rule itself permits.
    Permit,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// Picket's policy service with 100 policies.
    PolicyService,
    /// A server of `envoy.service.auth.v3` that permits everything.
    NoOpAuthorization,
}

/// A request that lacks something.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// What it lacks.
    pub without: Lacking,
    /// How it has to be answered.
    pub status: u16,
}

/// What a request can lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lacking {
    /// It carries no token.
    Token,
    /// It comes from a workload that may not call.
    Peer,
}

/// How often the counters whose name contains `name` have to count, all together.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Part of their names.
    pub name: String,
    /// For each request; a percent of the requests may differ.
    pub per_request: f64,
}

/// A ratio of two costs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// What reports call it.
    pub name: String,
    /// The scenario above the line.
    pub of: String,
    /// The one below it.
    pub to: String,
    /// What is aimed at.
    pub aim_at_most: f64,
}

impl Ratio {
    /// Whether what was measured is what is aimed at.
    pub fn is_reached(&self, measured: Spread) -> bool {
        measured.median <= self.aim_at_most
    }
}

/// How a cost grows with one thing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Part of the plot's file name.
    pub name: String,
    /// What grows, for people.
    pub title: String,
    /// Whether the plot has the logarithm of what grows.
    #[serde(default)]
    pub logarithmic: bool,
    /// Native filters, and Picket.
    pub lines: Vec<Line>,
}

/// One side's costs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Whose they are.
    pub side: Side,
    /// How much of it there is, and the scenario that measures that.
    pub points: Vec<(u32, String)>,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Envoy's own filters.
    Native,
    /// Picket's.
    Picket,
}

fn one() -> usize {
    1
}

/// More than either side remembers.
fn tokens_count() -> usize {
    3_000
}

/// What Picket remembers when its configuration does not say.
/// All of them, as by default.
fn identity_headers() -> Vec<String> {
    identity_headers::short_names().collect()
}

fn token_cache_entries() -> usize {
    1_000
}

fn rules() -> usize {
    11
}

fn permit_valid_for_ms() -> u32 {
    3_600_000
}

/// All scenarios.
///
/// # Errors
/// When the file is not as it should be.
pub fn scenarios(root: &Path) -> Result<Vec<Scenario>> {
    let all: Vec<Scenario> = read(root, "scenarios.json")?;
    let mut ids = HashSet::new();
    for scenario in &all {
        ensure!(
            ids.insert(scenario.id.as_str()),
            "two scenarios are called `{}`",
            scenario.id
        );
    }
    for scenario in &all {
        let Some(baseline) = &scenario.baseline else {
            continue;
        };
        let found = all.iter().find(|other| other.id == *baseline);
        let found = found.with_context(|| format!("`{}`: there is no `{baseline}`", scenario.id))?;
        ensure!(
            found.quick || !scenario.quick,
            "`{}` is quick and `{baseline}` is not",
            scenario.id
        );
        ensure!(
            found.turns(usize::MAX) >= scenario.turns(usize::MAX),
            "`{}` has more rounds than `{baseline}`",
            scenario.id
        );
    }
    Ok(all)
}

/// The scenarios of the memory run, which has no rounds.
///
/// # Errors
/// When the file is not as it should be.
pub fn memory(root: &Path) -> Result<Vec<Scenario>> {
    read(root, "memory.json")
}

/// What is drawn and listed as it grows.
///
/// # Errors
/// When the file is not as it should be.
pub fn growths(root: &Path) -> Result<Vec<Growth>> {
    read(root, "growth.json")
}

/// All ratios.
///
/// # Errors
/// When the file is not as it should be.
pub fn ratios(root: &Path) -> Result<Vec<Ratio>> {
    read(root, "ratios.json")
}

fn read<T: for<'de> Deserialize<'de>>(root: &Path, name: &str) -> Result<T> {
    let file = root.join(FOLDER).join(name);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{growths, memory, ratios, scenarios};

    #[test]
    fn what_is_compared_is_measured() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = scenarios(root).unwrap();
        let has_a_cost = |id: &str| {
            let found = all.iter().find(|scenario| scenario.id == *id);
            assert!(found.is_some_and(|found| found.baseline.is_some()), "`{id}`");
        };
        for ratio in ratios(root).unwrap() {
            has_a_cost(&ratio.of);
            has_a_cost(&ratio.to);
        }
        for growth in growths(root).unwrap() {
            for (_, id) in growth.lines.iter().flat_map(|line| &line.points) {
                has_a_cost(id);
            }
        }
        memory(root).unwrap();
    }
}
