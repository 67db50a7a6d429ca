//! One call of `Decide`: read, decide, answer.

use std::sync::Arc;
use std::time::Duration;

use picket_core::access::AccessRequest;
use picket_core::decision::Decision;
use picket_proto::v1;
use picket_proto::v1::policy_decision_server::PolicyDecision;
use tonic::{Request, Response, Status};

use super::gate::Admitted;
use super::status::{DecideError, label};
use crate::clock::Stopwatch;
use crate::decision::Decider;
use crate::metrics::Metrics;
use crate::sessions::Presence;

/// No sidecar waits this long; it bounds how long a call holds its slot while the disk is slow.
const DECIDE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers the sidecars' calls.
pub(super) struct Calls {
    pub(super) decider: Arc<Decider>,
    pub(super) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl PolicyDecision for Calls {
    async fn decide(&self, request: Request<v1::AccessRequest>) -> Result<Response<v1::Decision>, Status> {
        let stopwatch = Stopwatch::start();
        let decided = tokio::time::timeout(DECIDE_TIMEOUT, self.answer(request, stopwatch)).await;
        match decided.unwrap_or(Err(DecideError::TimedOut)) {
            Ok(decision) => Ok(Response::new(decision.into())),
            Err(error) => {
                let status = error.status();
                self.metrics.failed(label(status.code()));
                tracing::debug!(%error, "no decision");
                Err(status)
            }
        }
    }
}

impl Calls {
    async fn answer(&self, request: Request<v1::AccessRequest>, stopwatch: Stopwatch) -> Result<Decision, DecideError> {
        let admitted = Admitted::of(request.extensions())?;
        let request = AccessRequest::try_from(request.into_inner())?;
        let decided = self
            .decider
            .decide(request, Presence::Client, admitted.caller(), stopwatch);
        Ok(decided.await?)
    }
}
