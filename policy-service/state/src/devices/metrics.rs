//! Metrics of devices.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::DeviceRefusal;

/// The number of requests that were denied for their device. Clones share their counters.
#[derive(Clone, Default)]
pub struct DeviceMetrics {
    refusals: Family<RefusalLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    reason: &'static str,
}

impl DeviceMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "device_refusals",
            "Decisions that are a deny because of the state of the request's device",
            self.refusals.clone(),
        );
    }

    pub(super) fn count_refusal(&self, refusal: DeviceRefusal) {
        let reason = refusal.code();
        self.refusals.get_or_create(&RefusalLabel { reason }).inc();
    }
}
