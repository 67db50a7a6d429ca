//! The HTTP front without TLS: probes and metrics. Its pages have nothing about requests or
//! principals.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use picket_audit::{AuditLog, AuditState};
use picket_state::StorageState;
use picket_state::revisions::PolicyState;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::metrics::Metrics;
use tracing_appender::non_blocking::ErrorCounter;

/// A few probes and scrapers.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// A connection is closed after this time, however it is used, so that slow clients free their
/// slots.
pub(crate) const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The format that `prometheus-client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The front with the parts that its pages report.
#[derive(Clone)]
pub(crate) struct HttpFront {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: AuditLog,
    /// `None`: nothing is stored.
    pub(crate) storage: Option<watch::Receiver<StorageState>>,
    /// `None`: the policies are those of a folder, which are loaded.
    pub(crate) policies: Option<watch::Receiver<PolicyState>>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) log_dropped: ErrorCounter,
}

/// The page `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    parts: PartStates,
}

/// `ok`, or the cause in a word: everybody who can reach the page may read it. The log says more.
#[derive(Serialize)]
struct PartStates {
    audit: &'static str,
    grpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<&'static str>,
}

/// Serves for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, front: HttpFront) -> Infallible {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(front);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Over the limit, dropping the stream closes it.
                if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                    tokio::spawn(serve_connection(stream, router.clone(), slot));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, _slot: OwnedSemaphorePermit) {
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_AGE_MAX, connection).await {
        tracing::debug!(%error, "HTTP connection failed");
    }
}

async fn readyz(State(front): State<HttpFront>) -> Response {
    let (audit, audit_works) = match &*front.audit.state().borrow() {
        AuditState::Working => ("ok", true),
        AuditState::Failing(reason) => (*reason, false),
    };
    let storage = front.storage.as_ref().map(|state| match &*state.borrow() {
        StorageState::Working => ("ok", true),
        StorageState::Failing(reason) => (*reason, false),
    });
    let policies = front.policies.as_ref().map(|state| match &*state.borrow() {
        PolicyState::Working => ("ok".to_owned(), true),
        PolicyState::Failing(reason) => (reason.clone(), false),
    });
    let policies_work = policies.as_ref().is_none_or(|(_, work)| *work);
    let storage_works = storage.as_ref().is_none_or(|(_, works)| *works);
    let stopping = *front.stopping.borrow();
    let readiness = Readiness {
        ready: audit_works && storage_works && policies_work && !stopping,
        parts: PartStates {
            audit,
            grpc: if stopping { "stopping" } else { "ok" },
            policies: policies.map(|(state, _)| state),
            storage: storage.map(|(state, _)| state),
        },
    };
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(&readiness) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(front): State<HttpFront>) -> Response {
    match front
        .metrics
        .encode(front.audit.waiting(), front.log_dropped.dropped_lines())
    {
        Ok(page) => ([(header::CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
