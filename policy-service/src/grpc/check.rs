//! One call of Envoy's `Check`: read, decide, answer.

use std::sync::Arc;

use picket_proto::external::envoy::service::auth::v3::authorization_server::Authorization;
use picket_proto::external::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use tonic::{Request, Response, Status};

use super::gate::Admitted;
use super::status::{DecideError, label};
use crate::clock::Stopwatch;
use crate::ext_authz::Enforcement;
use crate::metrics::Metrics;

/// Answers the calls of Envoys.
pub(super) struct Checks {
    pub(super) enforcement: Enforcement,
    pub(super) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let stopwatch = Stopwatch::start();
        self.answer(request, stopwatch)
            .await
            .map(Response::new)
            .map_err(|error| {
                let status = error.status();
                self.metrics.failed(label(status.code()));
                tracing::debug!(%error, "no verdict");
                status
            })
    }
}

impl Checks {
    async fn answer(&self, request: Request<CheckRequest>, stopwatch: Stopwatch) -> Result<CheckResponse, DecideError> {
        let admitted = Admitted::of(request.extensions())?;
        let caller = admitted.shared_caller();
        Ok(self.enforcement.check(request.into_inner(), caller, stopwatch).await?)
    }
}
