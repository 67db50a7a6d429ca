//! Metrics of the AuthZEN front.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[cfg(feature = "schema")]
use super::Endpoint;

/// Counts of calls. Clones share their counters.
#[derive(Clone, Default)]
pub(crate) struct AuthzenMetrics {
    requests: Family<EndpointLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
    status: u32,
}

impl AuthzenMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "authzen_requests",
            "Calls of the AuthZEN API by their answer's status",
            self.requests.clone(),
        );
    }

    /// Creates every series, for the reference.
    #[cfg(feature = "schema")]
    pub(crate) fn create_series(&self) {
        for endpoint in Endpoint::POSTED.into_iter().chain([Endpoint::Metadata]) {
            self.count_request(endpoint.as_str(), 200);
        }
    }

    /// A call of this endpoint was answered.
    pub(super) fn count_request(&self, endpoint: &'static str, status: u16) {
        let status = u32::from(status);
        self.requests.get_or_create(&EndpointLabels { endpoint, status }).inc();
    }
}
