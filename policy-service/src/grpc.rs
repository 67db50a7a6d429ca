//! The gRPC front: `picket.v1.PolicyDecision`, `picket.v1.Admin` and its like (`DeviceAdmin`, `PolicyAdmin`, `RoleAdmin`, `RiskAdmin`),
//! `grpc.health.v1.Health`, and where it is configured
//! `envoy.service.auth.v3.Authorization`, over mutual TLS.

mod accept;
mod act;
mod admin;
mod budget;
mod caller;
mod check;
mod decide;
mod devices;
mod gate;
mod handshake_failure;
mod handshakes;
mod policy_admin;
mod risk_admin;
mod role_admin;
mod status;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use picket_proto::external::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use picket_proto::v1::admin_server::AdminServer;
use picket_proto::v1::device_admin_server::DeviceAdminServer;
use picket_proto::v1::policy_admin_server::PolicyAdminServer;
use picket_proto::v1::policy_decision_server::PolicyDecisionServer;
use picket_proto::v1::risk_admin_server::RiskAdminServer;
use picket_proto::v1::role_admin_server::RoleAdminServer;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::configuration::{self, Role};
use crate::decision::Decider;
use crate::ext_authz::Enforcement;
use crate::metrics::Metrics;
use crate::revisions;
pub(crate) use accept::{Incoming, incoming};
use admin::AdminCalls;
pub(crate) use caller::{Caller, Callers, Refusal, record_role_refusal};
use check::Checks;
use decide::Calls;
use devices::DeviceCalls;
use gate::Gate;
use policy_admin::PolicyCalls;
use risk_admin::RiskCalls;
use role_admin::RoleCalls;
pub use tls::TlsError;
pub(crate) use tls::{Protocol, Tls, authorities, provider};

/// How many calls one connection may have open; an Envoy worker holds one connection.
const STREAMS_MAX: u32 = 256;
/// Enough for gRPC's own headers and a trace context.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// A connection whose other end answers no ping for this long is dropped.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a call to its answer, so that a body that trickles in gives its slot back.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Operators' calls at once. They have places of their own, so that a revocation finds one however many requests there are.
const ADMIN_CONCURRENCY_MAX: u32 = 16;
/// Calls about revisions at once: each can hold one in memory.
const POLICY_CONCURRENCY_MAX: u32 = 4;
/// Reporters' calls at once, and readers' questions about risk. However many there are, operators have their places.
const RISK_CONCURRENCY_MAX: u32 = 16;
/// Resets that wait to be accepted (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// Everything that the front serves with.
pub(crate) struct Front {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Tls,
    pub(crate) decider: Arc<Decider>,
    /// `None`: Envoy's external authorization is not served.
    pub(crate) external: Option<External>,
    pub(crate) health: HealthReporter,
    pub(crate) metrics: Arc<Metrics>,
}

/// What serves Envoy's external authorization.
pub(crate) struct External {
    pub(crate) enforcement: Enforcement,
    pub(crate) request_bytes_max: u32,
}

/// Serves until `stop` completes and the calls in flight have ended.
pub(crate) async fn serve(
    front: Front,
    configuration: &configuration::Grpc,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let metrics = &front.metrics;
    let gate = Gate::new(&[Role::Sidecar], configuration.concurrency_max, Arc::clone(metrics));
    // Whoever has a role may ask who it is; the methods look at the rest.
    let admin_gate =
        Gate::new(&Role::ALL, ADMIN_CONCURRENCY_MAX, Arc::clone(metrics)).with_operator_slots(ADMIN_CONCURRENCY_MAX);
    let admin = AdminServer::new(AdminCalls {
        sessions: front.decider.sessions.clone(),
        audit: front.decider.audit.clone(),
    });
    let device_admin = DeviceAdminServer::new(DeviceCalls::new(&front.decider));
    let policy_gate = Gate::new(&[Role::Reader], POLICY_CONCURRENCY_MAX, Arc::clone(metrics))
        .with_operator_slots(POLICY_CONCURRENCY_MAX);
    let policies = PolicyAdminServer::new(PolicyCalls::new(&front.decider))
        .max_decoding_message_size(revisions::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(revisions::MESSAGE_BYTES_MAX);
    let roles = RoleAdminServer::new(RoleCalls::new(&front.decider));
    let role_gate = admin_gate.clone();
    let request_bytes_max = usize::try_from(configuration.request_bytes_max).unwrap_or(usize::MAX);
    let risk_gate = Gate::new(
        &[Role::Reporter, Role::Reader],
        RISK_CONCURRENCY_MAX,
        Arc::clone(metrics),
    );
    let risk = RiskCalls::new(front.decider.risk.clone(), front.decider.audit.clone());
    let risk = RiskAdminServer::new(risk).max_decoding_message_size(request_bytes_max);
    let decisions = PolicyDecisionServer::new(Calls {
        decider: front.decider,
        metrics: Arc::clone(&front.metrics),
    })
    .max_decoding_message_size(request_bytes_max);
    let checks = front.external.map(|external| {
        let checks = AuthorizationServer::new(Checks {
            enforcement: external.enforcement,
            metrics: Arc::clone(&front.metrics),
        });
        let bytes_max = usize::try_from(external.request_bytes_max).unwrap_or(usize::MAX);
        // One gate for both: all calls together are what there is room for.
        InterceptedService::new(checks.max_decoding_message_size(bytes_max), gate.clone())
    });
    let health = HealthServer::new(HealthService::from_health_reporter(front.health));
    let callers = Callers::new(&configuration.allowed_callers, &configuration.callers);
    let incoming = incoming(front.listener, front.tls, callers, front.metrics);
    Server::builder()
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .add_service(InterceptedService::new(decisions, gate))
        .add_optional_service(checks)
        .add_service(InterceptedService::new(
            admin.max_decoding_message_size(request_bytes_max),
            admin_gate.clone(),
        ))
        .add_service(InterceptedService::new(
            device_admin.max_decoding_message_size(request_bytes_max),
            admin_gate,
        ))
        .add_service(InterceptedService::new(policies, policy_gate))
        .add_service(InterceptedService::new(risk, risk_gate))
        .add_service(InterceptedService::new(
            roles.max_decoding_message_size(request_bytes_max),
            role_gate,
        ))
        .add_service(health.max_decoding_message_size(request_bytes_max))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

/// Tells the health service's watchers whether decisions are given.
pub(crate) async fn report_health(health: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    health.set_service_status("", status).await;
    health.set_service_status(picket_proto::DECISION_SERVICE, status).await;
}
