//! The enforcer, on a thread of its own: each request changes its state, and it is not shared
//! between threads.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{
    Arrival, CallFailure, Connection, Enforcer, PeerResult, PolicyQuery, Refusal, Step, Verdict,
};
use picket_core::request::Caller;
use picket_model::access::AccessRequest;
use picket_model::decision::Decision;
use picket_model::problems::Problems;
use picket_model::time::Timestamp;
use picket_proto::external::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use picket_state::sessions::SessionAccess;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::{self, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

use super::ExtAuthzMetrics;
use super::peers::Peers;
use super::request::{ExternalRequest, RequestError};
use super::response::{self, Explanations};
use super::signatures::NativeVerifier;
use crate::clock::{self, Stopwatch};
use crate::decision::{Decider, DecisionError};
use crate::transport::TlsError;
use picket_service_configuration::{ExtAuthzSettings, read_filter_configuration};

/// Concurrent checks, including those that wait for a decision: as many as calls by default. More
/// are rejected.
pub(crate) const CHECKS_MAX: usize = 1024;
/// The time limit of a decision where the filter's configuration has none, because no rule needs a
/// decision.
const DECISION_TIMEOUT_MS: u32 = 500;

/// Why external authorization cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExtAuthzError {
    /// The filter's configuration has mistakes, or asks for what only the filter can do.
    #[error("ext_authz.filter_configuration_file: {0}")]
    Configuration(#[from] Problems),
    /// The mesh's authorities cannot be used.
    #[error(transparent)]
    PeerAuthorities(#[from] TlsError),
    /// The system gives no random bytes.
    #[error("ext_authz: the system gave no random bytes")]
    Random,
    /// The system gives no thread.
    #[error("ext_authz: {0}")]
    Thread(#[from] io::Error),
    /// The thread ended before it could serve.
    #[error("ext_authz: its thread has ended")]
    Ended,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    /// Envoy's message lacks a part.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The limit of concurrent checks is reached.
    #[error("too many checks at once")]
    Overloaded,
    /// The service stops.
    #[error("the service stops")]
    Stopping,
}

/// A handle to the enforcer's thread, which ends with the last clone.
#[derive(Clone)]
pub(crate) struct Enforcement {
    checks: mpsc::Sender<Check>,
    slots: Arc<Semaphore>,
}

/// A request that waits for its verdict.
struct Check {
    request: ExternalRequest,
    /// The SPIFFE ID of the Envoy that asks.
    caller: Arc<str>,
    stopwatch: Stopwatch,
    response: oneshot::Sender<CheckResponse>,
    _slot: OwnedSemaphorePermit,
}

impl Enforcement {
    /// Starts the thread, and returns when it serves. Decisions are made on the runtime that this
    /// is called on.
    pub(crate) async fn start(
        settings: ExtAuthzSettings,
        decider: Arc<Decider>,
        metrics: ExtAuthzMetrics,
    ) -> Result<Self, ExtAuthzError> {
        let (sender, checks) = mpsc::channel(CHECKS_MAX);
        let (started, start) = oneshot::channel();
        let handle = Handle::current();
        std::thread::Builder::new()
            .name("ext-authz".to_owned())
            .spawn(move || {
                let made = Worker::new(&settings, decider, metrics, handle).and_then(|worker| {
                    let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
                    Ok((worker, runtime))
                });
                match made {
                    Ok((worker, runtime)) => {
                        // The starter is gone, and so is the sender of checks.
                        let _gone = started.send(Ok(()));
                        LocalSet::new().block_on(&runtime, serve(Rc::new(worker), checks));
                    }
                    Err(error) => {
                        let _gone = started.send(Err(error));
                    }
                }
            })?;
        start.await.unwrap_or(Err(ExtAuthzError::Ended))?;
        Ok(Self {
            checks: sender,
            slots: Arc::new(Semaphore::new(CHECKS_MAX)),
        })
    }

    /// Checks the request of a message of Envoy's.
    pub(crate) async fn check(
        &self,
        message: CheckRequest,
        caller: Arc<str>,
        stopwatch: Stopwatch,
    ) -> Result<CheckResponse, CheckError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| CheckError::Overloaded)?;
        let request = ExternalRequest::try_from(message)?;
        let (response, verdict) = oneshot::channel();
        let check = Check {
            request,
            caller,
            stopwatch,
            response,
            _slot: slot,
        };
        self.checks.try_send(check).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CheckError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => CheckError::Stopping,
        })?;
        verdict.await.map_err(|_| CheckError::Stopping)
    }
}

async fn serve(worker: Rc<Worker>, mut checks: mpsc::Receiver<Check>) {
    while let Some(check) = checks.recv().await {
        match worker.arrived(&check.request) {
            Step::Decided(verdict) => worker.respond(check.response, &verdict),
            Step::Ask(question) => {
                tokio::task::spawn_local(Rc::clone(&worker).ask(*question, check));
            }
            // No provider of a configuration that is accepted has such tokens, or keys that are
            // fetched.
            Step::Introspect(_) | Step::AwaitKeys(_) => {
                let caller = Caller::of(&check.request.headers());
                worker.respond(check.response, &Err(Refusal::host_failure(caller)));
            }
        }
    }
}

struct Worker {
    enforcer: RefCell<Enforcer>,
    peers: Peers,
    /// The workload's name, for challenges.
    realm: String,
    explanations: Explanations,
    decision_timeout: Duration,
    decider: Arc<Decider>,
    metrics: ExtAuthzMetrics,
    /// Where decisions are made: on all processors.
    runtime: Handle,
}

impl Worker {
    fn new(
        settings: &ExtAuthzSettings,
        decider: Arc<Decider>,
        metrics: ExtAuthzMetrics,
        runtime: Handle,
    ) -> Result<Self, ExtAuthzError> {
        let mut configuration = read_filter_configuration(&settings.filter_configuration_file)?;
        configuration.read_environment(|name| std::env::var(name).ok())?;
        let [seed, peers_seed] = [u64::from_le_bytes(random()?), u64::from_le_bytes(random()?)];
        // No other process has the ledger or the secret of nonces: this service accepts a proof
        // once.
        let proofs = ProofMemory::of_one_worker(SharedSecret::new(random()?), &configuration.dpop);
        Ok(Self {
            peers: Peers::new(&settings.peer_ca_file, peers_seed)?,
            realm: configuration.workload.clone(),
            explanations: match configuration.explain_permits {
                true => Explanations::Given,
                false => Explanations::Withheld,
            },
            decision_timeout: decision_timeout(&configuration),
            // A message of Envoy's does not hold its node's id; the record has the SPIFFE ID of the
            // Envoy that asks.
            enforcer: RefCell::new(Enforcer::new(
                configuration,
                String::new(),
                seed,
                Rc::new(NativeVerifier),
                proofs,
            )),
            decider,
            metrics,
            runtime,
        })
    }

    fn arrived(&self, request: &ExternalRequest) -> Step {
        let now = clock::now();
        let mut enforcer = self.enforcer.borrow_mut();
        let (step, notes) = enforcer.on_request(&Arrival {
            headers: &request.headers(),
            connection: &EnvoyConnection {
                request,
                peers: &self.peers,
                now,
            },
            now,
        });
        self.metrics.count_notes(&notes);
        self.metrics.count_evictions(enforcer.take_evictions());
        step
    }

    async fn ask(self: Rc<Self>, question: PolicyQuery, check: Check) {
        let PolicyQuery { request, pending } = question;
        let Check {
            caller,
            stopwatch,
            mut response,
            _slot,
            ..
        } = check;
        let decision = tokio::select! {
            decision = self.decision(request, caller, stopwatch) => decision,
            // Envoy does not wait any more.
            () = response.closed() => return,
        };
        let verdict = self.enforcer.borrow_mut().on_decision(pending, decision, clock::now());
        self.respond(response, &verdict);
    }

    async fn decision(
        &self,
        request: AccessRequest,
        caller: Arc<str>,
        stopwatch: Stopwatch,
    ) -> Result<Decision, CallFailure> {
        let decider = Arc::clone(&self.decider);
        // Ends with this set, whatever it is at.
        let mut call = JoinSet::new();
        call.spawn_on(
            async move {
                let decision = decider
                    .decide(request, SessionAccess::Update, &caller, stopwatch)
                    .await?;
                // A revocation or activation applies from the next request on, and the enforcer's
                // cache is not notified of it.
                let valid_for_ms = match decider.decisions_can_change() {
                    true => 0,
                    false => decision.valid_for_ms,
                };
                Ok::<_, DecisionError>(Decision {
                    valid_for_ms,
                    ..decision
                })
            },
            &self.runtime,
        );
        match tokio::time::timeout(self.decision_timeout, call.join_next()).await {
            Ok(Some(Ok(Ok(decision)))) => Ok(decision),
            Ok(Some(Ok(Err(error)))) => {
                tracing::debug!(%error, "no decision");
                Err(CallFailure::Unavailable)
            }
            Ok(Some(Err(_)) | None) | Err(_) => Err(CallFailure::Unavailable),
        }
    }

    fn respond(&self, sender: oneshot::Sender<CheckResponse>, verdict: &Verdict) {
        self.metrics.count_verdict(verdict);
        let response = match verdict {
            Ok(permit) => {
                let is_wanted = permit.owns_nonces() && permit.next_nonce().is_none();
                let nonce = is_wanted.then(|| self.enforcer.borrow().nonce(clock::now())).flatten();
                response::permitted(permit, self.explanations, nonce.as_deref())
            }
            Err(refusal) => response::refused(refusal, &self.realm),
        };
        // An error means that Envoy does not wait any more: it has refused the request itself.
        let _gone = sender.send(response);
    }
}

/// A request's connection, as Envoy describes it.
struct EnvoyConnection<'a> {
    request: &'a ExternalRequest,
    peers: &'a Peers,
    now: Timestamp,
}

impl Connection for EnvoyConnection<'_> {
    fn peer(&self) -> Rc<PeerResult> {
        self.peers.identify(&self.request.certificate, self.now)
    }

    fn source_address(&self) -> Option<std::net::IpAddr> {
        self.request.source
    }

    fn destination(&self) -> Option<std::net::SocketAddr> {
        self.request.destination
    }

    fn server_name(&self) -> Option<String> {
        self.request.server_name.clone()
    }
}

fn decision_timeout(configuration: &FilterConfiguration) -> Duration {
    let settings = configuration.policy_service.as_ref();
    let timeout_ms = settings.map_or(DECISION_TIMEOUT_MS, |settings| settings.timeout_ms);
    Duration::from_millis(u64::from(timeout_ms))
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], ExtAuthzError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ExtAuthzError::Random)?;
    Ok(bytes)
}
