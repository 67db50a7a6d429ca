//! What memory a worker's VM holds after minutes of load that fills its caches, and has its decisions asked again.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::machine::Versions;
use super::scenario::Scenario;
use super::subject::{Ground, Subject};
use crate::clock;
use crate::report::Table;

/// Moderate: all the Envoys together leave half of two cores idle.
const REQUESTS_PER_SECOND: u32 = 500;

/// A memory run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// When it began, in seconds since the epoch.
    pub began_at_s: i64,
    /// With what.
    pub versions: Versions,
    /// How long each Envoy had its load.
    pub minutes: u32,
    /// The load of each.
    pub requests_per_second: u32,
    /// By scenario, Envoy's resident memory before the load, and after each minute of it.
    pub rss_kib: BTreeMap<String, Vec<u64>>,
    /// One worker's VM: what the second worker adds to Envoy with Picket, less what it adds to Envoy without filters.
    pub worker_vm_kib: i64,
}

/// Gives all `scenarios` their load side by side for `minutes`.
///
/// # Errors
/// When one does not start, or an answer is wrong.
pub async fn measure(ground: &Ground, scenarios: Vec<Scenario>, minutes: u32) -> Result<Memory> {
    let began_at_s = clock::now_s();
    let versions = Versions::here(&ground.places).await?;
    let mut tasks = JoinSet::new();
    for scenario in scenarios {
        eprintln!("  starting {}: {}", scenario.id, scenario.comment);
        let subject = Subject::start(ground, scenario).await?;
        tasks.spawn(watched(subject, minutes));
    }
    eprintln!("  {minutes} minutes of load");
    let mut rss_kib = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (id, kib) = done.context("a load ended early")??;
        rss_kib.insert(id, kib);
    }
    let worker = |filter: &str| -> Result<i64> {
        let last = |workers: u32| -> Result<i64> {
            let kib = rss_kib.get(&format!("{filter}_{workers}")).and_then(|kib| kib.last());
            Ok(i64::try_from(*kib.with_context(|| {
                format!("`{filter}` was not measured with {workers} workers")
            })?)?)
        };
        Ok(last(2)?.saturating_sub(last(1)?))
    };
    Ok(Memory {
        began_at_s,
        versions,
        minutes,
        requests_per_second: REQUESTS_PER_SECOND,
        worker_vm_kib: worker("picket")?.saturating_sub(worker("bare")?),
        rss_kib,
    })
}

async fn watched(mut subject: Subject, minutes: u32) -> Result<(String, Vec<u64>)> {
    let mut kib = vec![subject.resident_kib()?];
    for _ in 0..minutes {
        subject
            .latencies(u64::from(REQUESTS_PER_SECOND) * 60, f64::from(REQUESTS_PER_SECOND))
            .await?;
        kib.push(subject.resident_kib()?);
    }
    Ok((subject.scenario.id, kib))
}

impl Memory {
    /// One worker's VM in MiB.
    #[expect(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^52")]
    pub fn worker_vm_mib(&self) -> f64 {
        self.worker_vm_kib as f64 / 1024.0
    }

    /// Resident memory in MiB: a row for each minute, a column for each scenario.
    pub fn table(&self) -> Table {
        let ids: Vec<&str> = self.rss_kib.keys().map(String::as_str).collect();
        let mut heading = vec!["minute"];
        heading.extend(ids);
        let mut table = Table::new(&heading);
        for minute in 0..=usize::try_from(self.minutes).unwrap_or_default() {
            let mut row = vec![minute.to_string()];
            let cell = |kib: &Vec<u64>| kib.get(minute).map_or_else(String::new, |kib| (kib / 1024).to_string());
            row.extend(self.rss_kib.values().map(cell));
            table.push(row);
        }
        table
    }
}
