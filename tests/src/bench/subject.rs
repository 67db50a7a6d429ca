//! A scenario that runs: its Envoy, who decides beside it, and the requests that it gets.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bootstrap::{HOST, Sites, bootstrap, path};
use super::generator::{self, Requests, Target};
use super::policies::{self, Generated};
use super::scenario::{ConnectionKind, Decider, FOLDER, Lacking, Scenario, Tokens};
use super::statistics::number;
use super::tokens::{Algorithm, FurtherKeys, Mint, Prover};
use super::{h2load, processor_time};
use crate::client::tls::{Alpn, client_config};
use crate::envoy::{self, Envoy};
use crate::keys::Keys;
use crate::places::Places;
use crate::policy_service::{self, PolicyService};
use crate::process::{Bond, Process};
use crate::wait;

/// How many policies the policy service has.
const POLICIES: usize = 100;
/// How far a counter may be from what it should be: the first requests of a round may find an empty cache.
const COUNTER_TOLERANCE: f64 = 0.01;

/// What all scenarios share.
pub struct Ground {
    /// Envoy, the module, the binaries.
    pub places: Places,
    /// Certificates and token keys.
    pub keys: Keys,
    /// Token keys of algorithms that are seldom used.
    pub further: FurtherKeys,
    /// Where files go.
    pub folder: PathBuf,
    empty_module: PathBuf,
    program: PathBuf,
}

/// A scenario that runs.
pub struct Subject {
    /// What it is.
    pub scenario: Scenario,
    envoy: Envoy,
    decider: Running,
    target: Target,
    /// `None`: h2load cannot make this load.
    plain: Option<h2load::Load>,
    /// How many requests were sent, which is where the circle goes on.
    sent: u64,
}

enum Running {
    Nobody,
    PolicyService(Box<PolicyService>),
    Authorization(Process, SocketAddr),
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Processor time of Envoy for each request.
    pub cpu_us_per_request: f64,
    /// Processor time of who decides.
    pub decider_cpu_us_per_request: Option<f64>,
    /// Answers in a second.
    pub requests_per_second: f64,
    /// Envoy's resident memory at the end.
    pub rss_kib: f64,
}

impl Ground {
    /// Makes keys and the empty module in `folder`.
    ///
    /// # Errors
    /// When something is missing or cannot be written.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let places = Places::find()?;
        let keys = Keys::make(&folder.join("pki"))?;
        let empty_module = folder.join("empty.wasm");
        let module = wat::parse_file(places.root.join(FOLDER).join("empty.wat")).context("tests/bench/empty.wat")?;
        fs::write(&empty_module, module)?;
        Ok(Self {
            places,
            keys,
            further: FurtherKeys::make()?,
            folder: folder.to_owned(),
            empty_module,
            program: std::env::current_exe().context("this program does not know where it is")?,
        })
    }

    /// Starts a policy service with policies of its own, in a folder named `name`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn policy_service(
        &self,
        name: &str,
        generated: Generated,
        permit_valid_for_ms: u32,
        sections: &str,
    ) -> Result<PolicyService> {
        let folder = self.folder.join(name);
        policies::write(&self.places.policies, &folder.join("policies"), generated)?;
        PolicyService::start(policy_service::ServiceSettings {
            binary: self.places.policy_service.clone(),
            keys: self.keys.folder().to_owned(),
            policies: folder.join("policies"),
            folder,
            allowed_caller: "spiffe://example.org/orders".to_owned(),
            permit_valid_for_ms,
            deny_valid_for_ms: 0,
            filter_configuration: None,
            sections: sections.to_owned(),
            bond: Bond::Attached,
        })
        .await
    }

    async fn authorization(&self, name: &str) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.arg("authorization").arg(self.keys.folder());
        let output = self.folder.join(format!("{name}-authorization.log"));
        let mut process = Process::start("authorization", command, &output, Bond::Attached)?;
        let address = wait::until("the no-op authorization server listens", || {
            let found = process.ensure_running().map(|()| {
                let line: Value = serde_json::from_str(&process.output()).ok()?;
                line.get("address")?.as_str()?.parse::<SocketAddr>().ok()
            });
            std::future::ready(found)
        })
        .await?;
        Ok(Running::Authorization(process, address))
    }
}

impl Running {
    fn port(&self) -> u16 {
        match self {
            Self::Nobody => 0,
            Self::PolicyService(service) => service.grpc().port(),
            Self::Authorization(_, address) => address.port(),
        }
    }

    fn used(&self) -> Result<Option<Duration>> {
        let pid = match self {
            Self::Nobody => None,
            Self::PolicyService(service) => service.process().and_then(Process::id),
            Self::Authorization(process, _) => process.id(),
        };
        pid.map(processor_time::used).transpose()
    }
}

impl Subject {
    /// Starts everything, and checks that the scenario permits and refuses what it should.
    ///
    /// # Errors
    /// When something does not start, or answers wrongly.
    pub async fn start(ground: &Ground, scenario: Scenario) -> Result<Self> {
        let what = format!("scenario `{}`", scenario.id);
        Self::try_start(ground, scenario).await.context(what)
    }

    async fn try_start(ground: &Ground, scenario: Scenario) -> Result<Self> {
        let decider = match scenario.decider {
            None => Running::Nobody,
            Some(Decider::NoOpAuthorization) => ground.authorization(&scenario.id).await?,
            Some(Decider::PolicyService) => {
                // The rule that the load matches is among those that the policies permit.
                let generated = Generated {
                    first_rule: (scenario.rules / 2).saturating_sub(POLICIES / 2),
                    policies: POLICIES,
                    read_path: scenario.paths > 1,
                };
                let service = ground.policy_service(&scenario.id, generated, scenario.permit_valid_for_ms, "");
                Running::PolicyService(Box::new(service.await?))
            }
        };
        let sites = Sites {
            root: &ground.places.root,
            keys: &ground.keys,
            further: &ground.further,
            module: &ground.places.module,
            empty_module: &ground.empty_module,
            decider_port: decider.port(),
        };
        let envoy = Envoy::start(&envoy::EnvoySettings {
            binary: &ground.places.envoy,
            name: &scenario.id,
            bootstrap: &bootstrap(&scenario, &sites)?,
            folder: &ground.folder,
            workers: u32::try_from(scenario.workers)?,
            bond: Bond::Attached,
        })
        .await?;
        let (target, plain) = load(ground, &scenario, envoy.listener())?;
        let mut subject = Self {
            scenario,
            envoy,
            decider,
            target,
            plain,
            sent: 0,
        };
        subject.check_answers(ground).await?;
        Ok(subject)
    }

    async fn check_answers(&mut self, ground: &Ground) -> Result<()> {
        let status = generator::once(&self.target).await?;
        ensure!(
            status == 200,
            "a good request was answered with {status}\n{}",
            self.envoy.process().tail()
        );
        for refused in &self.scenario.refused {
            let mut target = self.target.clone();
            match refused.without {
                Lacking::Token => {
                    let without = request(&path(&self.scenario, 0), &headers(None, 0));
                    target.requests = Requests::Circle(Arc::new(vec![without]));
                }
                Lacking::Peer => target.tls = Some(tls(&ground.keys, "billing")?),
            }
            let status = generator::once(&target).await?;
            ensure!(
                status == refused.status,
                "a request without {:?} was answered with {status} in place of {}",
                refused.without,
                refused.status
            );
        }
        Ok(())
    }

    /// Sends `total` requests as fast as answers come, checks every status and the scenario's counters, and measures.
    ///
    /// # Errors
    /// When an answer is wrong, or the requests did not take the path that the scenario is about.
    pub async fn round(&mut self, total: u64) -> Result<Sample> {
        let what = format!("scenario `{}`", self.scenario.id);
        self.try_round(total).await.context(what)
    }

    async fn try_round(&mut self, total: u64) -> Result<Sample> {
        let counted_before = self.counters().await?;
        let pid = self.pid()?;
        let (envoy_before, decider_before) = (processor_time::used(pid)?, self.decider.used()?);
        let elapsed = self.load(total).await?;
        let (envoy_after, decider_after) = (processor_time::used(pid)?, self.decider.used()?);
        self.check_counters(&counted_before, total).await?;
        let per_request =
            |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / number(total);
        Ok(Sample {
            cpu_us_per_request: per_request(envoy_before, envoy_after),
            decider_cpu_us_per_request: decider_before
                .zip(decider_after)
                .map(|(before, after)| per_request(before, after)),
            requests_per_second: number(total) / elapsed.as_secs_f64(),
            rss_kib: number(processor_time::resident_kib(pid)?),
        })
    }

    /// Waits until Envoy counted what `total` requests on the path that is measured make. Picket's workers hand over their
    /// counters a few times a second.
    async fn check_counters(&self, before: &[u64], total: u64) -> Result<()> {
        let wrong = std::cell::RefCell::new(String::new());
        let arrived = wait::until("the requests are counted", || async {
            let after = self.counters().await?;
            let counted = before
                .iter()
                .zip(&after)
                .map(|(before, after)| number(after.saturating_sub(*before)));
            let mismatch = self
                .scenario
                .counters
                .iter()
                .zip(counted)
                .find_map(|(counter, counted)| {
                    let expected = counter.per_request * number(total);
                    let is_near = (counted - expected).abs() <= COUNTER_TOLERANCE * number(total);
                    (!is_near).then(|| format!("`{}` counted {counted} in place of {expected}", counter.name))
                });
            let fits = mismatch.is_none();
            wrong.replace(mismatch.unwrap_or_default());
            Ok(fits.then_some(()))
        });
        arrived.await.with_context(|| {
            let wrong = wrong.borrow();
            format!("{wrong}: the requests did not take the path that is measured")
        })
    }

    async fn load(&mut self, total: u64) -> Result<Duration> {
        if let Some(plain) = &self.plain {
            return h2load::run(plain, total).await;
        }
        let outcome = generator::run(self.target.clone(), self.sent, total, None).await?;
        self.sent = self.sent.saturating_add(total);
        ensure_all_good(&outcome)?;
        Ok(outcome.elapsed)
    }

    /// Sends requests at a rate, and returns how long each took in microseconds, sorted.
    ///
    /// # Errors
    /// When an answer is wrong.
    pub async fn latencies(&mut self, total: u64, rate: f64) -> Result<Vec<u64>> {
        let outcome = generator::run(self.target.clone(), self.sent, total, Some(rate)).await?;
        self.sent = self.sent.saturating_add(total);
        ensure_all_good(&outcome).with_context(|| format!("scenario `{}`", self.scenario.id))?;
        Ok(outcome.latencies_us)
    }

    /// How many requests fill the caches.
    pub fn circle(&self) -> u64 {
        u64::try_from(self.target.requests.circle()).unwrap_or(u64::MAX)
    }

    /// Envoy's resident memory.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_kib(&mut self) -> Result<u64> {
        processor_time::resident_kib(self.pid()?)
    }

    async fn counters(&self) -> Result<Vec<u64>> {
        if self.scenario.counters.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.envoy.stats(|_| true).await?;
        let sum = |part: &str| {
            all.iter()
                .filter(|(name, _)| name.contains(part))
                .map(|(_, value)| value)
                .sum()
        };
        Ok(self
            .scenario
            .counters
            .iter()
            .map(|counter| sum(&counter.name))
            .collect())
    }

    fn pid(&mut self) -> Result<u32> {
        self.envoy.process().id().context("Envoy has ended")
    }
}

fn ensure_all_good(outcome: &generator::LoadOutcome) -> Result<()> {
    let is_good = outcome.statuses.keys().all(|status| *status == 200);
    ensure!(is_good, "answers by status: {:?}", outcome.statuses);
    Ok(())
}

fn load(ground: &Ground, scenario: &Scenario, address: SocketAddr) -> Result<(Target, Option<h2load::Load>)> {
    let tls = match scenario.connection {
        ConnectionKind::Plain => None,
        ConnectionKind::MutualTls => Some(tls(&ground.keys, "web")?),
    };
    let (algorithm, count) = match scenario.tokens {
        Tokens::One => (Algorithm::Rs256, 1),
        Tokens::ManyRs256 => (Algorithm::Rs256, scenario.tokens_count),
        Tokens::ManyEs256 => (Algorithm::Es256, scenario.tokens_count),
        Tokens::ManyPs256 => (Algorithm::Ps256, scenario.tokens_count),
        Tokens::ManyEdDsa => (Algorithm::EdDsa, scenario.tokens_count),
        Tokens::ManyHs256 => (Algorithm::Hs256, scenario.tokens_count),
        Tokens::OneWithProofs => {
            let requests = requests_with_proofs(ground, scenario)?;
            return Ok((Target { address, tls, requests }, None));
        }
    };
    let mint = Mint::new(&ground.keys, &ground.further, algorithm)?;
    let tokens: Vec<String> = (0..count)
        .map(|number| mint.token(number, scenario.token_bytes))
        .collect::<Result<_>>()?;
    let first = tokens.first().context("no token")?;
    let requests: Vec<Vec<u8>> = tokens
        .iter()
        .cycle()
        .zip((0..scenario.paths).cycle())
        .take(tokens.len().max(scenario.paths))
        .map(|(token, number)| request(&path(scenario, number), &headers(Some(token), scenario.extra_headers)))
        .collect();
    let is_plain = requests.len() == 1 && scenario.connection == ConnectionKind::Plain;
    let plain = is_plain.then(|| h2load::Load {
        address,
        path: path(scenario, 0),
        headers: headers(Some(first), scenario.extra_headers),
    });
    let requests = Requests::Circle(Arc::new(requests));
    Ok((Target { address, tls, requests }, plain))
}

/// One token that is bound to a key, and another proof by it in each request.
fn requests_with_proofs(ground: &Ground, scenario: &Scenario) -> Result<Requests> {
    let mint = Mint::new(&ground.keys, &ground.further, Algorithm::Es256)?;
    let mint = mint.with_claims(Prover::confirmation(&ground.keys)?);
    let token = mint.token(0, scenario.token_bytes)?;
    let prover = Prover::new(&ground.keys)?;
    let path = path(scenario, 0);
    let uri = format!("https://{HOST}{path}");
    let headers = headers(None, scenario.extra_headers);
    let make = move || {
        let mut headers = headers.clone();
        headers.push(("authorization".to_owned(), format!("DPoP {token}")));
        headers.push(("dpop".to_owned(), prover.proof(&uri, &token)?));
        Ok(request(&path, &headers))
    };
    Ok(Requests::Made(Arc::new(make)))
}

fn tls(keys: &Keys, workload: &str) -> Result<Arc<rustls::ClientConfig>> {
    Ok(Arc::new(client_config(
        keys,
        Some(&keys.identity(workload)?),
        Alpn::Http1,
    )?))
}

/// What a browser or a service sends, and on top of it a forged copy of a header that each side sets itself.
fn headers(token: Option<&String>, extra: usize) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = [
        ("host", HOST),
        ("user-agent", "picket-bench/1"),
        ("accept", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-jwt-subject", "mallory"),
        ("x-picket-subject", "mallory"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    if let Some(token) = token {
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    headers.extend((0..extra).map(|number| (format!("x-more-{number:03}"), "a value of some length".to_owned())));
    headers
}

fn request(path: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        for part in [name, ": ", value, "\r\n"] {
            text.push_str(part);
        }
    }
    text.push_str("\r\n");
    text.into_bytes()
}
