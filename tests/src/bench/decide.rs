//! `Decide` alone: how many decisions a policy service gives in a second, each with its durable audit record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::{self, Effect};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::bootstrap::{HOST, rule_id};
use super::policies::Generated;
use super::processor_time;
use super::statistics::{count, number, percentile};
use super::subject::Ground;
use crate::clock::{self, Stopwatch};
use crate::keys::Keys;
use crate::policy_service::PolicyService;
use crate::token::ISSUER;

/// Sidecars, each with one connection.
const CHANNELS: usize = 4;
/// Calls under way on all of them together.
const CALLS: usize = 256;
const SEARCH: Duration = Duration::from_secs(5);
const FIXED: Duration = Duration::from_secs(8);
/// The part of the most at which latencies are measured.
const LOAD: f64 = 0.85;

/// The figures for one number of policies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decided {
    /// How many policies.
    pub policies: usize,
    /// As many as get answers.
    pub requests_per_second: f64,
    /// The rate of the latencies.
    pub rate: f64,
    /// At that rate.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Processor time of the policy service for each call, at the most.
    pub cpu_us_per_request: f64,
    /// Its resident memory at the end.
    pub rss_kib: u64,
}

/// Makes the request of a turn.
pub type RequestSource = Arc<dyn Fn(u64) -> v1::AccessRequest + Send + Sync>;

/// The sidecars of one policy service.
#[derive(Clone)]
pub struct Sidecars(Vec<PolicyDecisionClient<Channel>>);

/// How much is asked.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// As much as gets answers, for so long.
    For(Duration),
    /// So many calls a second, for so long.
    AtRate(f64, Duration),
    /// So many calls, as fast as they are answered.
    Calls(u64),
}

struct Load {
    requests: RequestSource,
    next: AtomicU64,
    amount: Amount,
}

/// Measures a policy service with `policies` policies, the middle one of which permits.
///
/// # Errors
/// When it does not start, or an answer is no permit.
pub async fn measure(ground: &Ground, policies: usize) -> Result<Decided> {
    let generated = Generated {
        first_rule: 0,
        policies,
        read_path: false,
    };
    let service = ground
        .policy_service(&format!("decide-{policies}"), generated, 0, "")
        .await?;
    let pid = process_id(&service)?;
    let sidecars = Sidecars::connect(ground, &service).await?;
    let request = request(policies / 2);
    let requests: RequestSource = Arc::new(move |_| request.clone());
    sidecars.run(&requests, Amount::For(SEARCH / 5)).await?;
    let (watch, before) = (Stopwatch::start(), processor_time::used(pid)?);
    let most = sidecars.run(&requests, Amount::For(SEARCH)).await?;
    let calls = number(u64::try_from(most.len())?);
    let (took, after) = (watch.elapsed(), processor_time::used(pid)?);
    let requests_per_second = calls / took.as_secs_f64();
    let rate = requests_per_second * LOAD;
    let latencies = sidecars.run(&requests, Amount::AtRate(rate, FIXED)).await?;
    let ms = |percent| percentile(&latencies, percent).map(|us| number(us) / 1e3);
    Ok(Decided {
        policies,
        requests_per_second,
        rate,
        p50_ms: ms(50.0).context("no call was answered")?,
        p99_ms: ms(99.0).context("no call was answered")?,
        cpu_us_per_request: after.saturating_sub(before).as_secs_f64() * 1e6 / calls,
        rss_kib: processor_time::resident_kib(pid)?,
    })
}

/// The process of a policy service that runs.
///
/// # Errors
/// When it has ended.
pub fn process_id(service: &PolicyService) -> Result<u32> {
    let process = service.process().and_then(crate::process::Process::id);
    process.context("it has ended")
}

impl Sidecars {
    /// Connects them.
    ///
    /// # Errors
    /// When the policy service does not take them.
    pub async fn connect(ground: &Ground, service: &PolicyService) -> Result<Self> {
        let uri = format!("https://{}", service.grpc());
        let mut clients = Vec::new();
        for _ in 0..CHANNELS {
            let endpoint = Endpoint::from_shared(uri.clone())?.tls_config(tls(&ground.keys)?)?;
            clients.push(PolicyDecisionClient::new(endpoint.connect().await?));
        }
        Ok(Self(clients))
    }

    /// Asks, and returns how long each call took in microseconds, sorted.
    ///
    /// # Errors
    /// When an answer is no permit.
    pub async fn run(&self, requests: &RequestSource, amount: Amount) -> Result<Vec<u64>> {
        let load = Arc::new(Load {
            requests: Arc::clone(requests),
            next: AtomicU64::new(0),
            amount,
        });
        let watch = Stopwatch::start();
        let mut tasks = JoinSet::new();
        for number in 0..CALLS {
            let client = self.0.get(number % CHANNELS).context("no channel")?.clone();
            tasks.spawn(calls(client, Arc::clone(&load), watch));
        }
        let mut all = Vec::new();
        while let Some(part) = tasks.join_next().await {
            all.extend(part.context("a caller ended early")??);
        }
        all.sort_unstable();
        Ok(all)
    }
}

async fn calls(mut client: PolicyDecisionClient<Channel>, load: Arc<Load>, watch: Stopwatch) -> Result<Vec<u64>> {
    let mut took_us = Vec::new();
    loop {
        let turn = load.next.fetch_add(1, Ordering::Relaxed);
        let mut sent_at = watch.elapsed();
        let is_over = match load.amount {
            Amount::Calls(calls) => turn >= calls,
            Amount::For(until) => sent_at >= until,
            Amount::AtRate(rate, until) => {
                // A call that is due while all callers wait counts as sent when it was due.
                let due_at = Duration::from_secs_f64(number(turn) / rate);
                if sent_at < due_at {
                    tokio::time::sleep(due_at.saturating_sub(sent_at)).await;
                    sent_at = watch.elapsed();
                } else {
                    sent_at = due_at;
                }
                sent_at >= until
            }
        };
        if is_over {
            return Ok(took_us);
        }
        let mut request = (load.requests)(turn);
        request.request_id = format!("bench-{turn}");
        let decision = client.decide(request).await?.into_inner();
        ensure!(
            decision.effect == i32::from(Effect::Permit),
            "a decision is no permit: {decision:?}"
        );
        took_us.push(count(watch.elapsed().saturating_sub(sent_at).as_secs_f64() * 1e6));
    }
}

fn tls(keys: &Keys) -> Result<ClientTlsConfig> {
    let read = |name: &str| std::fs::read(keys.folder().join(name));
    Ok(ClientTlsConfig::new()
        .domain_name("localhost")
        .identity(Identity::from_pem(read("orders.pem")?, read("orders-key.pem")?))
        .ca_certificate(Certificate::from_pem(read(picket::pki::CA_FILE)?)))
}

/// What a clerk of acme asks about an item under a rule.
pub fn request(rule: usize) -> v1::AccessRequest {
    v1::AccessRequest {
        sidecar: Some(v1::Sidecar {
            node_id: "benchmark".to_owned(),
            workload: "orders".to_owned(),
        }),
        route_rule: rule_id(rule),
        principal: Some(v1::Principal {
            issuer: ISSUER.to_owned(),
            subject: "alice".to_owned(),
            tenant: "acme".to_owned(),
            roles: vec!["clerk".to_owned()],
            expires_at_s: Some(clock::now_s().saturating_add(3600)),
            actors: Vec::new(),
            is_bound: false,
            ..v1::Principal::default()
        }),
        action: Some(v1::Action {
            method: "GET".to_owned(),
        }),
        resource: Some(v1::Resource {
            host: HOST.to_owned(),
            path: "/items/1".to_owned(),
            ..v1::Resource::default()
        }),
        context: Some(v1::Context {
            source_address: "127.0.0.1".to_owned(),
            user_agent: "picket-bench/1".to_owned(),
            ..v1::Context::default()
        }),
        ..v1::AccessRequest::default()
    }
}
