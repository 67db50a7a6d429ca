//! Metrics of connections and callers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts of callers and connections that were refused. Clones share their counters.
#[derive(Clone, Default)]
pub(crate) struct TransportMetrics {
    callers_refused: Family<ReasonLabel, Counter>,
    handshakes_failed: Family<CauseLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

impl TransportMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "callers_refused",
            "Calls whose caller may not ask",
            self.callers_refused.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Connections without a good TLS handshake",
            self.handshakes_failed.clone(),
        );
    }

    pub(super) fn count_refused_caller(&self, reason: &'static str) {
        self.callers_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn count_failed_handshake(&self, cause: &'static str) {
        self.handshakes_failed.get_or_create(&CauseLabel { cause }).inc();
    }
}
