//! `Decide` at the size that a policy service is made for: many sessions in SQLite, and every request assessed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use picket_proto::v1;
use serde::{Deserialize, Serialize};

use super::decide::{Amount, Requests, Sidecars, process_id, request};
use super::policies::Generated;
use super::processor_time;
use super::statistics::{number, percentile};
use super::subject::Ground;
use crate::clock::Stopwatch;
use crate::report::Table;

/// As in what is aimed at for `Decide`.
const POLICIES: usize = 1_000;
/// Each of them has as many sessions as the others.
const PRINCIPALS: u64 = 100_000;
/// As fast as this, nobody waits for another's decision.
const CALLS_A_SECOND: f64 = 1_000.0;
const AT_RATE: Duration = Duration::from_secs(20);
const AT_MOST: Duration = Duration::from_secs(8);
/// Goes over all sessions before it comes to one again, and from one to another that lies far from it: odd, and no factor of
/// a power of ten.
const STRIDE: u64 = 7_919_317;

/// What a policy service keeps while it decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled {
    /// In words.
    pub keeps: String,
    /// How many sessions.
    pub sessions: u64,
    /// New sessions a second while they were made, each durable; `None`: they were there.
    pub created_per_second: Option<f64>,
    /// Decisions a second, about sessions at random.
    pub requests_per_second: f64,
    /// At 1,000 a second.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Processor time of the policy service for each decision, at the most.
    pub cpu_us_per_request: f64,
    /// Its resident memory at the end.
    pub rss_kib: u64,
}

/// What a policy service is started with.
struct Kept {
    /// In words.
    words: &'static str,
    /// Sections of its configuration.
    sections: String,
    /// How many sessions there are.
    sessions: u64,
    /// Whether they are there already.
    is_filled: bool,
}

/// Measures a policy service that keeps nothing, one that keeps `sessions` sessions, and one that assesses risk as well.
///
/// # Errors
/// When one does not start, or an answer is no permit.
pub async fn measure(ground: &Ground, sessions: u64) -> Result<Vec<Scaled>> {
    let storage = format!(
        "[sessions]\n\n[storage]\nsqlite_file = {}\n\n",
        serde_json::Value::from(ground.folder.join("storage.sqlite3").display().to_string())
    );
    let risk = format!("{storage}[risk]\nstate_file = \"risk-state\"\n\n");
    let all = [
        ("nothing", String::new(), 0),
        ("sessions", storage, sessions),
        ("sessions and risk", risk, sessions),
    ];
    let mut measured: Vec<Scaled> = Vec::new();
    for (words, sections, sessions) in all {
        eprintln!("  Decide with {words} kept");
        let is_filled = measured.iter().any(|before| before.sessions == sessions);
        let kept = Kept {
            words,
            sections,
            sessions,
            is_filled,
        };
        measured.push(measure_one(ground, &format!("scale-{}", measured.len()), kept).await?);
    }
    Ok(measured)
}

async fn measure_one(ground: &Ground, name: &str, kept: Kept) -> Result<Scaled> {
    let sessions = kept.sessions;
    let generated = Generated {
        first_rule: 0,
        policies: POLICIES,
        read_path: false,
    };
    let mut service = ground.policy_service(name, generated, 0, &kept.sections).await?;
    let pid = process_id(&service)?;
    let sidecars = Sidecars::connect(ground, &service).await?;
    let watch = Stopwatch::start();
    let created = if kept.is_filled { 0 } else { sessions };
    sidecars.run(&of_sessions(0, created), Amount::Calls(created)).await?;
    let created_per_second = (created > 0).then(|| number(created) / watch.elapsed().as_secs_f64());
    let latencies = sidecars
        .run(&of_sessions(STRIDE, sessions), Amount::AtRate(CALLS_A_SECOND, AT_RATE))
        .await?;
    let (watch, before) = (Stopwatch::start(), processor_time::used(pid)?);
    let most = sidecars
        .run(&of_sessions(STRIDE + 2, sessions), Amount::For(AT_MOST))
        .await?;
    let (took, after) = (watch.elapsed(), processor_time::used(pid)?);
    let calls = number(u64::try_from(most.len())?);
    let ms = |percent| percentile(&latencies, percent).map(|us| number(us) / 1e3);
    let rss_kib = processor_time::resident_kib(pid)?;
    // The next one opens the same storage.
    service.stop().await?;
    Ok(Scaled {
        keeps: kept.words.to_owned(),
        sessions,
        created_per_second,
        requests_per_second: calls / took.as_secs_f64(),
        p50_ms: ms(50.0).context("no call was answered")?,
        p99_ms: ms(99.0).context("no call was answered")?,
        cpu_us_per_request: after.saturating_sub(before).as_secs_f64() * 1e6 / calls,
        rss_kib,
    })
}

/// Requests in sessions: in their order where `stride` is 0, else far from each other.
fn of_sessions(stride: u64, sessions: u64) -> Requests {
    let plain = request(POLICIES / 2);
    Arc::new(move |turn| {
        let session = match stride {
            0 => turn,
            stride => turn.wrapping_mul(stride) % sessions.max(1),
        };
        let mut request = plain.clone();
        let principal = request.principal.get_or_insert_with(v1::Principal::default);
        principal.subject = format!("user-{:06}", session % PRINCIPALS);
        principal.session_id = format!("{session:016x}");
        request
    })
}

/// The figures.
pub fn table(scaled: &[Scaled]) -> Table {
    let mut table = Table::new(&[
        "kept",
        "sessions",
        "created a second",
        "decisions a second",
        "us of CPU each",
        "p50 ms",
        "p99 ms",
        "RSS MiB",
    ]);
    for one in scaled {
        table.push(vec![
            one.keeps.clone(),
            one.sessions.to_string(),
            one.created_per_second
                .map_or("-".to_owned(), |rate| format!("{rate:.0}")),
            format!("{:.0}", one.requests_per_second),
            format!("{:.1}", one.cpu_us_per_request),
            format!("{:.2}", one.p50_ms),
            format!("{:.2}", one.p99_ms),
            (one.rss_kib / 1024).to_string(),
        ]);
    }
    table
}
