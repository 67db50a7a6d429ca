//! Rounds: all scenarios in turn, again and again, so that what disturbs the machine for a while disturbs all of them.

use anyhow::{Context, Result};

use super::report::{Measured, Ratios};
use super::scenario::{Ratio, Scenario};
use super::statistics::{Spread, count, number, percentile};
use super::subject::{Ground, Sample, Subject};

/// Requests that warm up a scenario, and those after them that tell how many make a round; a round has as many at least.
const WARM_UP_REQUESTS: u64 = 6_000;
const SAMPLE_REQUESTS: u64 = 2_000;
/// A round is so many requests that Envoy uses this much processor time, in seconds.
const ROUND_CPU_S: f64 = 1.0;
/// Requests for the latencies of one scenario.
const LATENCY_REQUESTS: u64 = 6_000;
/// How many of them are sent in a second, and the part of what a scenario can answer that this may be at most.
const LATENCY_RATE: f64 = 2_000.0;
const LATENCY_LOAD_MAX: f64 = 0.5;

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often each scenario has its turn.
    pub rounds: usize,
    /// Whether latencies are measured too.
    pub latencies: bool,
}

struct Entry {
    subject: Subject,
    requests: u64,
    samples: Vec<Sample>,
    /// p50 and p99 in milliseconds, of each round.
    latencies: Vec<(f64, f64)>,
}

impl Entry {
    fn turns(&self, plan: Plan) -> usize {
        self.subject.scenario.turns(plan.rounds)
    }
}

/// Starts `scenarios`, goes through the rounds, and ends them.
///
/// # Errors
/// When anything is not as it should be: a wrong answer fails the run.
pub async fn measure(ground: &Ground, scenarios: &[Scenario], plan: Plan) -> Result<Vec<Measured>> {
    let mut entries = Vec::new();
    for scenario in scenarios {
        eprintln!("  starting {}: {}", scenario.id, scenario.comment);
        entries.push(warmed_up(ground, scenario.clone()).await?);
    }
    for round in 1..=plan.rounds {
        eprintln!("  round {round} of {}", plan.rounds);
        for entry in entries.iter_mut().filter(|entry| entry.turns(plan) >= round) {
            let sample = entry.subject.round(entry.requests).await?;
            entry.samples.push(sample);
            if plan.latencies {
                let total = LATENCY_REQUESTS / u64::try_from(plan.rounds)?;
                entry
                    .latencies
                    .push(latencies(&mut entry.subject, total, sample.requests_per_second).await?);
            }
        }
    }
    let cost: Vec<(String, Vec<f64>)> = entries
        .iter()
        .map(|entry| {
            let cpu = entry.samples.iter().map(|sample| sample.cpu_us_per_request).collect();
            (entry.subject.scenario.id.clone(), cpu)
        })
        .collect();
    entries.iter().map(|entry| measured(entry, &cost)).collect()
}

async fn warmed_up(ground: &Ground, scenario: Scenario) -> Result<Entry> {
    let mut subject = Subject::start(ground, scenario).await?;
    // Once around the circle fills the caches; only then does the next part tell what a request costs.
    let counters = std::mem::take(&mut subject.scenario.counters);
    subject.round(subject.circle().max(WARM_UP_REQUESTS)).await?;
    let sample = subject.round(SAMPLE_REQUESTS).await?;
    subject.scenario.counters = counters;
    Ok(Entry {
        requests: count(ROUND_CPU_S * 1e6 / sample.cpu_us_per_request).max(SAMPLE_REQUESTS),
        subject,
        samples: Vec::new(),
        latencies: Vec::new(),
    })
}

async fn latencies(subject: &mut Subject, total: u64, most: f64) -> Result<(f64, f64)> {
    let rate = LATENCY_RATE.min(most * LATENCY_LOAD_MAX);
    let sorted = subject.latencies(total, rate).await?;
    let ms = |percent| percentile(&sorted, percent).map(|us| number(us) / 1e3);
    ms(50.0).zip(ms(99.0)).context("no latency was measured")
}

fn measured(entry: &Entry, cost: &[(String, Vec<f64>)]) -> Result<Measured> {
    let scenario = &entry.subject.scenario;
    let of = |value: fn(&Sample) -> f64| Spread::of(&entry.samples.iter().map(value).collect::<Vec<_>>());
    let baseline = scenario
        .baseline
        .as_ref()
        .and_then(|id| cost.iter().find(|(found, _)| found == id));
    let added: Vec<f64> = baseline
        .iter()
        .flat_map(|(_, baseline)| entry.samples.iter().zip(baseline))
        .map(|(sample, baseline)| sample.cpu_us_per_request - baseline)
        .collect();
    let decider: Vec<f64> = entry
        .samples
        .iter()
        .filter_map(|sample| sample.decider_cpu_us_per_request)
        .collect();
    let latency = |pick: fn(&(f64, f64)) -> f64| Spread::of(&entry.latencies.iter().map(pick).collect::<Vec<_>>());
    Ok(Measured {
        id: scenario.id.clone(),
        comment: scenario.comment.clone(),
        baseline: scenario.baseline.clone(),
        rounds: entry.samples.len(),
        requests_per_round: entry.requests,
        cpu_us_per_request: of(|sample| sample.cpu_us_per_request).context("no round")?,
        added_us_per_request: Spread::of(&added),
        added_us_in_each_round: added,
        decider_cpu_us_per_request: Spread::of(&decider),
        requests_per_second: of(|sample| sample.requests_per_second).context("no round")?,
        p50_ms: latency(|(p50, _)| *p50),
        p99_ms: latency(|(_, p99)| *p99),
        rss_kib: of(|sample| sample.rss_kib).context("no round")?,
    })
}

/// What one scenario adds, over what another adds, in the same rounds.
///
/// The median is that of the rounds' ratios; it is `None` where a scenario was not measured.
pub fn ratios(wanted: &[Ratio], measured: &[Measured]) -> Ratios {
    let added = |id: &str| {
        let found = measured.iter().find(|measured| measured.id == id)?;
        Some(&found.added_us_in_each_round)
    };
    wanted
        .iter()
        .filter_map(|ratio| {
            let each: Vec<f64> = added(&ratio.of)?
                .iter()
                .zip(added(&ratio.to)?)
                .map(|(of, to)| of / to)
                .collect();
            Some((ratio.name.clone(), Spread::of(&each)?))
        })
        .collect()
}
