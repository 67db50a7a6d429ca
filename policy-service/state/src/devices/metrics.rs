//! Metrics of devices.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{DeviceRefusal, DeviceState};

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

    /// Creates every series, for the reference.
    pub fn create_series(&self) {
        // A trusted device is not refused for its state.
        for state in [DeviceState::Enrolled, DeviceState::Suspended, DeviceState::Retired] {
            self.count_refusal(DeviceRefusal(state));
        }
    }

    pub(super) fn count_refusal(&self, refusal: DeviceRefusal) {
        let reason = refusal.code();
        self.refusals.get_or_create(&RefusalLabel { reason }).inc();
    }
}
