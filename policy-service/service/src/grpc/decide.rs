//! `picket.v1.PolicyDecision`: access requests of sidecars.

use std::sync::Arc;
use std::time::Duration;

use picket_model::access::AccessRequest;
use picket_proto::v1;
use picket_proto::v1::policy_decision_server::PolicyDecision;
use picket_state::sessions::SessionAccess;
use tonic::{Request, Response, Status};

use super::GrpcMetrics;
use super::interceptor::admitted;
use super::status::DecideError;
use crate::clock::Stopwatch;
use crate::decision::Decider;

/// No sidecar waits this long; it bounds how long a call holds its slot while the disk is slow.
pub(crate) const DECIDE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `PolicyDecision`.
pub(super) struct DecisionService {
    pub(super) decider: Arc<Decider>,
    pub(super) metrics: GrpcMetrics,
}

#[tonic::async_trait]
impl PolicyDecision for DecisionService {
    async fn decide(&self, request: Request<v1::AccessRequest>) -> Result<Response<v1::Decision>, Status> {
        let stopwatch = Stopwatch::start();
        let decided = async {
            let call = admitted(&request)?;
            let request = AccessRequest::try_from(request.into_inner())?;
            let decided = self
                .decider
                .decide(request, SessionAccess::Update, call.caller(), stopwatch);
            Ok(decided.await?)
        };
        let decided = tokio::time::timeout(DECIDE_TIMEOUT, decided).await;
        match decided.unwrap_or(Err(DecideError::TimedOut)) {
            Ok(decision) => Ok(Response::new(decision.into())),
            Err(error) => {
                let status = error.status();
                self.metrics.count_failure(status.code());
                tracing::debug!(%error, "no decision");
                Err(status)
            }
        }
    }
}
