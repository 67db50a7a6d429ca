//! Metrics of the gRPC front.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::status::code_name;

/// Counts of calls without a decision. Clones share their counters.
#[derive(Clone, Default)]
pub(crate) struct GrpcMetrics {
    failures: Family<CodeLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    grpc_code: &'static str,
}

impl GrpcMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "decide_failures",
            "Calls of Decide and Check that ended without an answer",
            self.failures.clone(),
        );
    }

    /// Creates every series, for the reference.
    #[cfg(feature = "schema")]
    pub(crate) fn create_series(&self) {
        // Every code but OK.
        (1..=16).for_each(|code| self.count_failure(Code::from_i32(code)));
    }

    /// A call ended with this code.
    pub(super) fn count_failure(&self, code: Code) {
        let grpc_code = code_name(code);
        self.failures.get_or_create(&CodeLabel { grpc_code }).inc();
    }
}
