//! `envoy.service.auth.v3.Authorization`: checks of Envoys without the filter.

use picket_proto::external::envoy::service::auth::v3::authorization_server::Authorization;
use picket_proto::external::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use tonic::{Request, Response, Status};

use super::GrpcMetrics;
use super::interceptor::admitted;
use super::status::DecideError;
use crate::clock::Stopwatch;
use crate::ext_authz::Enforcement;

/// Serves `Authorization`.
pub(super) struct AuthorizationService {
    pub(super) enforcement: Enforcement,
    pub(super) metrics: GrpcMetrics,
}

#[tonic::async_trait]
impl Authorization for AuthorizationService {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let stopwatch = Stopwatch::start();
        self.answer(request, stopwatch)
            .await
            .map(Response::new)
            .map_err(|error| {
                let status = error.status();
                self.metrics.count_failure(status.code());
                tracing::debug!(%error, "no verdict");
                status
            })
    }
}

impl AuthorizationService {
    async fn answer(&self, request: Request<CheckRequest>, stopwatch: Stopwatch) -> Result<CheckResponse, DecideError> {
        let caller = admitted(&request)?.shared_caller();
        Ok(self.enforcement.check(request.into_inner(), caller, stopwatch).await?)
    }
}
