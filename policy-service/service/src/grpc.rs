//! The gRPC front: `picket.v1.PolicyDecision`, `picket.v1.Admin` and its like (`DeviceAdmin`,
//! `PolicyAdmin`, `RoleAdmin`, `RiskAdmin`), `grpc.health.v1.Health`, and where it is configured
//! `envoy.service.auth.v3.Authorization`, over mutual TLS.

mod admin;
mod check;
mod decide;
mod device_admin;
mod interceptor;
mod metrics;
mod policy_admin;
mod risk_admin;
mod role_admin;
mod status;

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
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::administration::{AdminError, Administration};
use crate::decision::Decider;
use crate::ext_authz::Enforcement;
use crate::transport::{
    AdmissionControl, AdmittedCall, CallerDirectory, TlsServer, TransportMetrics, accept_connections,
};
use admin::AdminService;
use check::AuthorizationService;
pub(crate) use decide::DECIDE_TIMEOUT;
use decide::DecisionService;
use device_admin::DeviceAdminService;
use interceptor::{AdmissionInterceptor, admitted};
pub(crate) use metrics::GrpcMetrics;
use picket_service_configuration::{CallerRole, GrpcSettings};
use policy_admin::PolicyAdminService;
pub(crate) use risk_admin::REPORTS_MAX;
use risk_admin::RiskAdminService;
use role_admin::RoleAdminService;
use status::DecideError;

/// Concurrent calls of one connection; an Envoy worker holds one connection.
pub(crate) const STREAMS_MAX: u32 = 256;
/// Enough for gRPC's own headers and a trace context.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// A connection whose other end answers no ping for this long is dropped.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a call to its answer, so that a body that trickles in gives its slot
/// back.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent administrative calls. Operators have slots of their own, so that a revocation is
/// admitted however many requests there are.
pub(crate) const ADMIN_CONCURRENCY_MAX: u32 = 16;
/// Concurrent calls about policy revisions: each can hold one in memory.
pub(crate) const POLICY_CONCURRENCY_MAX: u32 = 4;
/// Concurrent reports and explanations of risk, which use no slot of operators.
pub(crate) const RISK_CONCURRENCY_MAX: u32 = 16;
/// Resets that wait to be accepted (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// The front with everything that it serves.
pub(crate) struct GrpcFront {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsServer,
    pub(crate) callers: CallerDirectory,
    pub(crate) decider: Arc<Decider>,
    pub(crate) administration: Arc<Administration>,
    /// `None`: Envoy's external authorization is not served.
    pub(crate) ext_authz: Option<ExtAuthzService>,
    pub(crate) health: HealthReporter,
    pub(crate) metrics: GrpcMetrics,
    pub(crate) transport_metrics: TransportMetrics,
}

type GrpcResult<T> = Result<Response<T>, Status>;

/// Makes the admission of each service.
struct Admission {
    metrics: GrpcMetrics,
    transport_metrics: TransportMetrics,
}

impl Admission {
    /// Slots for this many concurrent calls.
    fn up_to(&self, concurrency_max: u32) -> AdmissionControl {
        AdmissionControl::new(concurrency_max, self.transport_metrics.clone())
    }

    /// Admits callers that have one of these roles.
    fn of(&self, roles: &'static [CallerRole], control: AdmissionControl) -> AdmissionInterceptor {
        AdmissionInterceptor::new(roles, control, self.metrics.clone())
    }
}

/// Envoy's external authorization.
pub(crate) struct ExtAuthzService {
    pub(crate) enforcement: Enforcement,
    pub(crate) request_bytes_max: u32,
}

/// Serves until `stop` completes and the calls in flight have ended.
pub(crate) async fn serve(
    front: GrpcFront,
    settings: &GrpcSettings,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let request_bytes_max = usize::try_from(settings.request_bytes_max).unwrap_or(usize::MAX);
    let admission = Admission {
        metrics: front.metrics,
        transport_metrics: front.transport_metrics.clone(),
    };
    let mut routes = RoutesBuilder::default();
    // Decisions and checks share their slots.
    let sidecars = admission.of(&[CallerRole::Sidecar], admission.up_to(settings.concurrency_max));
    let decisions = PolicyDecisionServer::new(DecisionService {
        decider: front.decider,
        metrics: admission.metrics.clone(),
    });
    routes.add_service(InterceptedService::new(
        decisions.max_decoding_message_size(request_bytes_max),
        sidecars.clone(),
    ));
    if let Some(ext_authz) = front.ext_authz {
        let bytes_max = usize::try_from(ext_authz.request_bytes_max).unwrap_or(usize::MAX);
        let checks = AuthorizationServer::new(AuthorizationService {
            enforcement: ext_authz.enforcement,
            metrics: admission.metrics.clone(),
        });
        routes.add_service(InterceptedService::new(
            checks.max_decoding_message_size(bytes_max),
            sidecars,
        ));
    }
    add_administration(&mut routes, &front.administration, &admission, request_bytes_max);
    let health = HealthServer::new(HealthService::from_health_reporter(front.health));
    routes.add_service(health.max_decoding_message_size(request_bytes_max));
    let connections = accept_connections(front.listener, front.tls, front.callers, front.transport_metrics);
    Server::builder()
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(connections, stop)
        .await
}

fn add_administration(
    routes: &mut RoutesBuilder,
    administration: &Arc<Administration>,
    admission: &Admission,
    request_bytes_max: usize,
) {
    let administration = || Arc::clone(administration);
    // Every role may ask `WhoAmI`; the other methods check their roles themselves.
    let admin_slots = admission
        .up_to(ADMIN_CONCURRENCY_MAX)
        .with_operator_slots(ADMIN_CONCURRENCY_MAX);
    let administrators = admission.of(&CallerRole::ALL, admin_slots);
    let admin = AdminServer::new(AdminService::new(administration()));
    let device_admin = DeviceAdminServer::new(DeviceAdminService::new(administration()));
    let role_admin = RoleAdminServer::new(RoleAdminService::new(administration()));
    let policy_slots = admission
        .up_to(POLICY_CONCURRENCY_MAX)
        .with_operator_slots(POLICY_CONCURRENCY_MAX);
    let policy_administrators = admission.of(&[CallerRole::Reader], policy_slots);
    let policy_admin = PolicyAdminServer::new(PolicyAdminService::new(administration()))
        .max_decoding_message_size(picket_policy::REVISION_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(picket_policy::REVISION_MESSAGE_BYTES_MAX);
    let reporters = admission.of(
        &[CallerRole::Reporter, CallerRole::Reader],
        admission.up_to(RISK_CONCURRENCY_MAX),
    );
    let risk_admin = RiskAdminServer::new(RiskAdminService::new(administration()));
    routes
        .add_service(InterceptedService::new(
            admin.max_decoding_message_size(request_bytes_max),
            administrators.clone(),
        ))
        .add_service(InterceptedService::new(
            device_admin.max_decoding_message_size(request_bytes_max),
            administrators.clone(),
        ))
        .add_service(InterceptedService::new(
            role_admin.max_decoding_message_size(request_bytes_max),
            administrators,
        ))
        .add_service(InterceptedService::new(policy_admin, policy_administrators))
        .add_service(InterceptedService::new(
            risk_admin.max_decoding_message_size(request_bytes_max),
            reporters,
        ));
}

/// The admitted call of a request that needs a role.
fn admitted_for<T>(request: &Request<T>, role: CallerRole) -> Result<AdmittedCall, AdminError> {
    admitted(request).map_err(|_: DecideError| AdminError::Role(role))
}

/// Reports to the health service's watchers whether decisions are given.
pub(crate) async fn report_health(health: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    health.set_service_status("", status).await;
    health.set_service_status(picket_proto::DECISION_SERVICE, status).await;
}
