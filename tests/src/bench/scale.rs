//! `Decide` at the size that a policy service is made for: many sessions and devices in SQLite, and every request assessed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_proto::v1;
use picket_state::StorageLocation;
use picket_state::devices::{ChallengeDigest, DeviceId, DeviceUpdate, NewDevice, PendingEnrollment};
use picket_state::{PrincipalId, Store};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::decide::{Amount, RequestSource, Sidecars, process_id, request};
use super::policies::Generated;
use super::processor_time;
use super::statistics::{number, percentile};
use super::subject::Ground;
use crate::clock::{self, Stopwatch};
use crate::report::Table;
use crate::token::ISSUER;

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

/// How many devices are enrolled at once.
const ENROLLED_AT_ONCE: u64 = 64;

/// What a policy service keeps while it decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled {
    /// In words.
    pub keeps: String,
    /// How many sessions.
    pub sessions: u64,
    /// How many devices.
    pub devices: u64,
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
    /// How many devices there are.
    devices: u64,
}

/// Measures a policy service that keeps nothing, one that keeps `sessions` sessions, and one that keeps `devices` devices and
/// assesses risk as well.
///
/// # Errors
/// When one does not start, or an answer is no permit.
pub async fn measure(ground: &Ground, sessions: u64, devices: u64) -> Result<Vec<Scaled>> {
    let file = ground.folder.join("storage.sqlite3");
    let storage = format!(
        "[sessions]\nsessions_max = {sessions}\nsessions_per_tenant_max = {sessions}\n\n[storage]\nsqlite_file = {}\n\n",
        serde_json::Value::from(file.display().to_string())
    );
    let all = format!("{storage}[devices]\ndevices_max = {devices}\n\n[risk]\nstate_file = \"risk-state\"\n\n");
    let nothing = Kept {
        words: "nothing",
        sections: String::new(),
        sessions: 0,
        is_filled: true,
        devices: 0,
    };
    let of_sessions = Kept {
        words: "sessions",
        sections: storage,
        sessions,
        is_filled: false,
        devices: 0,
    };
    let of_all = Kept {
        words: "sessions, devices and risk",
        sections: all,
        sessions,
        is_filled: true,
        devices,
    };
    let mut measured = Vec::new();
    for kept in [nothing, of_sessions, of_all] {
        eprintln!("  Decide with {} kept", kept.words);
        if kept.devices > 0 {
            enroll(&file, kept.devices).await?;
        }
        measured.push(measure_one(ground, &format!("scale-{}", measured.len()), kept).await?);
    }
    Ok(measured)
}

/// Enrols devices in the database of a policy service that does not run, as it would itself.
async fn enroll(file: &Path, devices: u64) -> Result<()> {
    let location = StorageLocation::Sqlite { file: file.to_owned() };
    let store = picket_storage::open(&location, Arc::new(|_| ())).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..ENROLLED_AT_ONCE {
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= devices {
                    return anyhow::Ok(());
                }
                enroll_one(&*store, number, devices).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("an enrolment ended early")??;
    }
    Ok(())
}

async fn enroll_one(store: &dyn Store, number: u64, devices_max: u64) -> Result<()> {
    let now_us = clock::now_s().saturating_mul(1_000_000);
    let subject = user(number);
    let enrollment = PendingEnrollment {
        challenge: ChallengeDigest::of(&number.to_string()),
        owner: PrincipalId::of(ISSUER, &subject),
        issuer: ISSUER.to_owned(),
        subject,
        tenant: None,
        label: String::new(),
        ends_us: now_us.saturating_add(600_000_000),
        caller: String::new(),
    };
    let new = NewDevice {
        challenge: enrollment.challenge,
        id: DeviceId::from_slice(&u128::from(number).to_be_bytes()).context("no id")?,
        thumbprint: DeviceThumbprint::Key(key(number)),
        now_us,
        devices_max,
    };
    let count_max = u32::try_from(ENROLLED_AT_ONCE)?;
    ensure!(
        store.begin_enrollment(enrollment, now_us, count_max).await?,
        "too many challenges"
    );
    let enrolled = store.enroll(new).await?;
    ensure!(
        matches!(enrolled, DeviceUpdate::Done(_)),
        "a device is not enrolled: {enrolled:?}"
    );
    Ok(())
}

fn user(number: u64) -> String {
    format!("user-{:06}", number % PRINCIPALS)
}

/// The thumbprint of a device's key.
fn key(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &number.to_be_bytes()).as_ref());
    bytes
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
    sidecars
        .run(&of_sessions(0, created, 0), Amount::Calls(created))
        .await?;
    let created_per_second = (created > 0).then(|| number(created) / watch.elapsed().as_secs_f64());
    let latencies = sidecars
        .run(
            &of_sessions(STRIDE, sessions, kept.devices),
            Amount::AtRate(CALLS_A_SECOND, AT_RATE),
        )
        .await?;
    let (watch, before) = (Stopwatch::start(), processor_time::used(pid)?);
    let most = sidecars
        .run(&of_sessions(STRIDE + 2, sessions, kept.devices), Amount::For(AT_MOST))
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
        devices: kept.devices,
        created_per_second,
        requests_per_second: calls / took.as_secs_f64(),
        p50_ms: ms(50.0).context("no call was answered")?,
        p99_ms: ms(99.0).context("no call was answered")?,
        cpu_us_per_request: after.saturating_sub(before).as_secs_f64() * 1e6 / calls,
        rss_kib,
    })
}

/// Requests in sessions, in their order where `stride` is 0, else far from each other; each from its session's device.
fn of_sessions(stride: u64, sessions: u64, devices: u64) -> RequestSource {
    let plain = request(POLICIES / 2);
    Arc::new(move |turn| {
        let session = match stride {
            0 => turn,
            stride => turn.wrapping_mul(stride) % sessions.max(1),
        };
        let mut request = plain.clone();
        let principal = request.principal.get_or_insert_with(v1::Principal::default);
        principal.subject = user(session);
        principal.session_id = format!("{session:016x}");
        if devices > 0 {
            let context = request.context.get_or_insert_with(v1::Context::default);
            context.key_thumbprint = key(session % devices).to_vec();
        }
        request
    })
}

/// The figures.
pub fn table(scaled: &[Scaled]) -> Table {
    let mut table = Table::new(&[
        "kept",
        "sessions",
        "devices",
        "created/s",
        "decisions/s",
        "us of CPU each",
        "p50 ms",
        "p99 ms",
        "RSS MiB",
    ]);
    for one in scaled {
        table.push(vec![
            one.keeps.clone(),
            one.sessions.to_string(),
            one.devices.to_string(),
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
