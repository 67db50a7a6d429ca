//! The service as a whole: it starts all parts with their settings, serves, and stops them in
//! order.

mod health;
mod parts;
mod signals;
mod stored;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use picket_audit::{AuditWriter, KeyError, OpenError};
use picket_model::problems::Problems;
use picket_policy::PolicyErrors;
use picket_state::{StorageError, StorageSync};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic_health::server::HealthReporter;

use crate::assessor::{RiskError, RiskMaintenance};
use crate::authzen;
use crate::decision::Decider;
use crate::ext_authz::{Enforcement, ExtAuthzError};
use crate::grpc;
use crate::http;
use crate::logging::{Logging, LoggingError};
use crate::metrics::Metrics;
use crate::transport::{ApplicationProtocol, CallerDirectory, TlsError, TlsServer};
use health::Dependencies;
use parts::Parts;
use picket_service_configuration::Configuration;

/// How long calls in flight may take to end once the service is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Why the service did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The policies have mistakes.
    #[error("{0}")]
    Policies(PolicyErrors),
    /// The audit log's key cannot be used.
    #[error("audit.key_encryption_key_file: {0}")]
    Key(#[from] KeyError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// The files of risk assessment cannot be used.
    #[error(transparent)]
    Risk(#[from] RiskError),
    /// The configuration has policies neither in a folder nor in a store, which reading it refuses.
    #[error("policies: there are none")]
    NoPolicies,
    /// The storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The machine gives no random numbers.
    #[error("no random numbers from the operating system")]
    Random,
    /// TLS cannot be served.
    #[error("grpc: {0}")]
    Tls(#[from] TlsError),
    /// Envoy's external authorization cannot be served.
    #[error(transparent)]
    ExtAuthz(#[from] ExtAuthzError),
    /// The resources that can be found have mistakes.
    #[error("authzen.resources_file: {0}")]
    Resources(#[from] Problems),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on `{address}`: {source}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The log cannot be written.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The operating system gives no threads or no signals.
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// The gRPC server ended by itself.
    #[error("the gRPC server ended: {0}")]
    Grpc(String),
}

/// Runs the service until SIGTERM or SIGINT; then it finishes the calls in flight and closes the
/// audit log. SIGHUP, SIGUSR1 and SIGUSR2 are logged, and nothing else.
///
/// # Errors
/// It could not start, or a part of it ended by itself.
pub fn run(configuration: &Configuration) -> Result<(), ServiceError> {
    let logging = Logging::start(configuration.log.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async { Service::start(configuration, &logging).await?.run().await });
    // Connections that outlived the limit end here; everything they were told is recorded.
    runtime.shutdown_background();
    result
}

struct Service {
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    http: JoinHandle<std::convert::Infallible>,
    /// `None`: the AuthZEN API is not served.
    authzen: Option<JoinHandle<()>>,
    health: HealthReporter,
    health_updates: JoinHandle<()>,
    stopping: watch::Sender<bool>,
    audit: AuditWriter,
    risk: Option<RiskMaintenance>,
    sync: Option<StorageSync>,
    terminate: Signal,
    interrupt: Signal,
}

impl Service {
    async fn start(configuration: &Configuration, logging: &Logging) -> Result<Self, ServiceError> {
        signals::ignore()?;
        let (folder, metrics) = stored::load_folder(configuration)?;
        let tls = TlsServer::new(&configuration.grpc, ApplicationProtocol::Http2)?;
        let parts = Parts::open(configuration, folder, &metrics, logging).await?;
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (grpc_listener, grpc_address) = listen("grpc.listen", configuration.grpc.listen).await?;
        let (http_listener, http_address) = listen("http.listen", configuration.http.listen).await?;
        let (stopping, stopped) = watch::channel(false);
        let health = HealthReporter::new();
        let mut dependencies = Dependencies::new(
            parts.audit.state(),
            parts.storage_state.clone(),
            parts.policy_state.clone(),
        );
        grpc::report_health(&health, dependencies.are_working()).await;
        let health_updates = tokio::spawn(dependencies.report_changes(health.clone()));
        let http_front = http::HttpFront {
            metrics: Arc::clone(&metrics),
            audit: parts.audit,
            storage: parts.storage_state,
            policies: parts.policy_state,
            stopping: stopped.clone(),
            log_dropped: logging.dropped(),
        };
        let authzen = authzen(configuration, &parts.decider, &metrics, stopped.clone()).await?;
        let (authzen_address, authzen) = authzen.unzip();
        let front = grpc::GrpcFront {
            listener: grpc_listener,
            tls,
            callers: callers(configuration),
            ext_authz: ext_authz(configuration, &parts.decider, &metrics).await?,
            decider: parts.decider,
            administration: parts.administration,
            health: health.clone(),
            metrics: metrics.grpc.clone(),
            transport_metrics: metrics.transport.clone(),
        };
        let settings = configuration.grpc.clone();
        let service = Self {
            grpc: tokio::spawn(async move { grpc::serve(front, &settings, until_true(stopped)).await }),
            http: tokio::spawn(http::serve(http_listener, http_front)),
            authzen,
            health,
            health_updates,
            stopping,
            audit: parts.audit_writer,
            risk: parts.risk,
            sync: parts.sync,
            terminate,
            interrupt,
        };
        let authzen_address = authzen_address.map(tracing::field::display);
        let policy_revision = parts.policy_revision;
        tracing::info!(%grpc_address, %http_address, authzen_address, policy_revision, "ready");
        Ok(service)
    }

    async fn run(mut self) -> Result<(), ServiceError> {
        let ended = tokio::select! {
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
            ended = &mut self.grpc => Some(ended),
        };
        let result = match ended {
            // It serves until the service stops, so any end before is a failure.
            Some(ended) => Err(ServiceError::Grpc(format!("{ended:?}"))),
            None => {
                self.drain().await;
                Ok(())
            }
        };
        self.http.abort();
        if let Some(risk) = self.risk {
            risk.stop().await;
        }
        if let Some(sync) = self.sync.take() {
            sync.close().await;
        }
        // Blocks until what waits is durable; nothing else is left to be served meanwhile.
        let closed = tokio::task::spawn_blocking(|| self.audit.close()).await;
        tracing::info!(audit_closed = closed.is_ok(), "stopped");
        result
    }

    /// Reports that the service stops, and waits for the calls in flight.
    async fn drain(&mut self) {
        tracing::info!("stopping");
        self.health_updates.abort();
        grpc::report_health(&self.health, false).await;
        self.stopping.send_replace(true);
        let calls = async {
            // Whether they ended well or not, they have ended.
            let _grpc = (&mut self.grpc).await;
            if let Some(authzen) = &mut self.authzen {
                let _authzen = authzen.await;
            }
        };
        if tokio::time::timeout(STOP_LIMIT, calls).await.is_err() {
            tracing::warn!(limit_s = STOP_LIMIT.as_secs(), "connections were cut at the limit");
            self.grpc.abort();
            self.authzen.iter().for_each(JoinHandle::abort);
        }
    }
}

/// Starts the front for the AuthZEN API, where it is configured, and returns its address.
async fn authzen(
    configuration: &Configuration,
    decider: &Arc<Decider>,
    metrics: &Metrics,
    stopped: watch::Receiver<bool>,
) -> Result<Option<(SocketAddr, JoinHandle<()>)>, ServiceError> {
    let Some(settings) = configuration.authzen.clone() else {
        return Ok(None);
    };
    let resources = settings.resources_file.as_deref().map(authzen::ResourceList::read);
    let resources = resources.transpose()?;
    let (listener, address) = listen("authzen.listen", settings.listen).await?;
    let front = authzen::AuthzenFront {
        listener,
        tls: TlsServer::new(&configuration.grpc, ApplicationProtocol::Http1)?,
        callers: callers(configuration),
        decider: Arc::clone(decider),
        resources,
        metrics: metrics.authzen.clone(),
        transport_metrics: metrics.transport.clone(),
    };
    let serving = tokio::spawn(authzen::serve(front, settings, stopped));
    Ok(Some((address, serving)))
}

fn callers(configuration: &Configuration) -> CallerDirectory {
    CallerDirectory::new(&configuration.grpc.allowed_callers, &configuration.grpc.callers)
}

/// Starts Envoy's external authorization, where it is configured.
async fn ext_authz(
    configuration: &Configuration,
    decider: &Arc<Decider>,
    metrics: &Metrics,
) -> Result<Option<grpc::ExtAuthzService>, ExtAuthzError> {
    let Some(settings) = configuration.ext_authz.clone() else {
        return Ok(None);
    };
    let request_bytes_max = settings.request_bytes_max;
    let enforcement = Enforcement::start(settings, Arc::clone(decider), metrics.ext_authz.clone()).await?;
    Ok(Some(grpc::ExtAuthzService {
        enforcement,
        request_bytes_max,
    }))
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServiceError> {
    let failed = |source| ServiceError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the service.
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}
