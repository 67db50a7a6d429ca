//! Metrics of the policies that decide.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The active revision, and how often one was loaded. Clones share their counters.
#[derive(Clone, Default)]
pub struct PolicyMetrics {
    count: Gauge,
    /// One of them is there at a time.
    revision: Family<RevisionLabel, Gauge>,
    number: Gauge,
    loads: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl PolicyMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("policies", "Policies that are loaded", self.count.clone());
        registry.register(
            "policy_revision_info",
            "The revision of the policies that decide",
            self.revision.clone(),
        );
        registry.register(
            "policy_revision_number",
            "The number of that revision in the store; 0: it is not from there",
            self.number.clone(),
        );
        registry.register(
            "policy_loads",
            "Times that the active revision in the store was another one, by whether it could be loaded",
            self.loads.clone(),
        );
    }

    /// A revision of `count` policies decides from now on; `number` is 0 where it is not from the
    /// store.
    pub fn set_active(&self, revision: &str, count: usize, number: u64) {
        self.count.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.number.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.revision.clear();
        let revision = revision.to_owned();
        self.revision.get_or_create(&RevisionLabel { revision }).set(1);
    }

    /// Creates every series, for the reference.
    pub fn create_series(&self) {
        self.count_load(true);
        self.count_load(false);
    }

    pub(super) fn count_load(&self, succeeded: bool) {
        let result = match succeeded {
            true => "succeeded",
            false => "failed",
        };
        self.loads.get_or_create(&ResultLabel { result }).inc();
    }
}
