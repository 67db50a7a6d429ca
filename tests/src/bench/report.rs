//! The report: `target/bench/report.json`, and tables of the same for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::decide::Decided;
use super::machine::{Machine, Versions};
use super::memory::Memory;
use super::scale::Scaled;
use super::scenario::Ratio;
use super::statistics::Spread;
use crate::report::Table;

/// Ratios by name.
pub type Ratios = BTreeMap<String, Spread>;

/// A run of everything.
pub const FULL: &str = "full";
/// A run of what the first five ratios need.
pub const QUICK: &str = "quick";
/// A run of some scenarios.
pub const PART: &str = "part";

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// When it began, in seconds since the epoch.
    pub began_at_s: i64,
    /// How long it took.
    pub took_s: f64,
    /// [`FULL`], [`QUICK`] or [`PART`].
    pub kind: String,
    /// How often each scenario had its turn.
    pub rounds: usize,
    /// Where.
    pub machine: Machine,
    /// With what.
    pub versions: Versions,
    /// What was measured, by scenario.
    pub scenarios: BTreeMap<String, Measured>,
    /// `Decide` alone, by the number of policies; empty in a quick run.
    #[serde(default)]
    pub decide: Vec<Decided>,
    /// What the last memory run left; it is of that run's date and commit.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// What the last run with many sessions left; empty: there was none.
    #[serde(default)]
    pub scale: Vec<Scaled>,
    /// What follows from it.
    pub ratios: Ratios,
}

/// One scenario's figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The scenario.
    pub id: String,
    /// What it is.
    pub comment: String,
    /// What its cost is a difference to.
    pub baseline: Option<String>,
    /// How often it had its turn.
    pub rounds: usize,
    /// How many requests a round had.
    pub requests_per_round: u64,
    /// Processor time of the Envoy process.
    pub cpu_us_per_request: Spread,
    /// The same, less that of the baseline in the same round.
    pub added_us_per_request: Option<Spread>,
    /// And in each round.
    pub added_us_in_each_round: Vec<f64>,
    /// Processor time of the policy service, or of who answers ext_authz.
    pub decider_cpu_us_per_request: Option<Spread>,
    /// As many as get answers.
    pub requests_per_second: Spread,
    /// At a rate far below that; `None`: not measured.
    pub p50_ms: Option<Spread>,
    /// The same.
    pub p99_ms: Option<Spread>,
    /// Resident memory of the Envoy process.
    pub rss_kib: Spread,
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// One that was written before.
    ///
    /// # Errors
    /// When there is none, or it is another version's.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("in `{}`", file.display()))
    }

    /// The scenarios, in the order of `ids`.
    pub fn scenario_table(&self, ids: &[String]) -> String {
        let heading = [
            "scenario",
            "Envoy us/request",
            "added us",
            "min",
            "max",
            "decider us",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "RSS MiB",
        ];
        let mut table = Table::new(&heading);
        for measured in ids.iter().filter_map(|id| self.scenarios.get(id)) {
            let or_none = |spread: Option<Spread>, pick: fn(Spread) -> f64, digits: usize| {
                spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.digits$}", pick(spread)))
            };
            table.push(vec![
                measured.id.clone(),
                format!("{:.1}", measured.cpu_us_per_request.median),
                or_none(measured.added_us_per_request, |spread| spread.median, 1),
                or_none(measured.added_us_per_request, |spread| spread.min, 1),
                or_none(measured.added_us_per_request, |spread| spread.max, 1),
                or_none(measured.decider_cpu_us_per_request, |spread| spread.median, 1),
                format!("{:.0}", measured.requests_per_second.median),
                or_none(measured.p50_ms, |spread| spread.median, 2),
                or_none(measured.p99_ms, |spread| spread.median, 2),
                format!("{:.0}", measured.rss_kib.median / 1024.0),
            ]);
        }
        table.to_text()
    }

    /// `Decide` alone.
    pub fn decide_table(&self) -> Table {
        let mut table = Table::new(&[
            "policies",
            "calls a second",
            "us of CPU each",
            "rate for p50, p99",
            "p50 ms",
            "p99 ms",
            "RSS MiB",
        ]);
        for decided in &self.decide {
            table.push(vec![
                decided.policies.to_string(),
                format!("{:.0}", decided.requests_per_second),
                format!("{:.1}", decided.cpu_us_per_request),
                format!("{:.0}", decided.rate),
                format!("{:.2}", decided.p50_ms),
                format!("{:.2}", decided.p99_ms),
                (decided.rss_kib / 1024).to_string(),
            ]);
        }
        table
    }

    /// The ratios, with what is aimed at.
    pub fn ratio_table(&self, wanted: &[Ratio]) -> String {
        let mut table = Table::new(&["ratio", "min", "median", "max", "aim", ""]);
        for ratio in wanted {
            let Some(spread) = self.ratios.get(&ratio.name) else {
                continue;
            };
            let verdict = if ratio.is_reached(*spread) {
                "reached"
            } else {
                "not reached"
            };
            table.push(vec![
                ratio.name.clone(),
                format!("{:.2}", spread.min),
                format!("{:.2}", spread.median),
                format!("{:.2}", spread.max),
                format!("{:.2}", ratio.aim_at_most),
                verdict.to_owned(),
            ]);
        }
        table.to_text()
    }
}
