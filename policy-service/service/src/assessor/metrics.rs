//! Metrics of risk assessment.

use picket_model::risk::RiskLevel;
use picket_model::time::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Counts of assessments, and the state of the files. Clones share their counters.
#[derive(Clone, Default)]
pub(crate) struct AssessorMetrics {
    assessments: Family<LevelLabel, Counter>,
    principals: Gauge,
    saves: Family<ResultLabel, Counter>,
    list_reads: Family<ResultLabel, Counter>,
    list_networks: Family<ListLabel, Gauge>,
    list_changes: Family<ListLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The configuration names the lists, and bounds how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabel {
    list: String,
}

impl AssessorMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "risk_assessments",
            "Requests by their risk level",
            self.assessments.clone(),
        );
        registry.register(
            "risk_principals",
            "Principals whose habits are remembered",
            self.principals.clone(),
        );
        registry.register(
            "risk_saves",
            "Times that the risk baselines were saved",
            self.saves.clone(),
        );
        registry.register(
            "threat_list_reads",
            "Times that a threat list was read because its file had changed",
            self.list_reads.clone(),
        );
        registry.register(
            "threat_list_networks",
            "Networks in a threat list",
            self.list_networks.clone(),
        );
        registry.register_with_unit(
            "threat_list_changed_timestamp",
            "When the file of a threat list was changed last, in seconds since the epoch",
            Unit::Seconds,
            self.list_changes.clone(),
        );
    }

    /// Creates every series, for the reference.
    #[cfg(feature = "schema")]
    pub(crate) fn create_series(&self) {
        for level in [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High] {
            self.count_assessment(level);
        }
        for succeeded in [true, false] {
            self.count_save(succeeded);
            self.count_threat_list_read(succeeded);
        }
        self.set_threat_list("<list>", 0, Timestamp::from_ms(0));
    }

    /// A request of this level was decided.
    pub(crate) fn count_assessment(&self, level: RiskLevel) {
        let level = level.name();
        self.assessments.get_or_create(&LevelLabel { level }).inc();
    }

    pub(super) fn set_principals(&self, principals: usize) {
        self.principals.set(gauge(principals));
    }

    pub(super) fn count_save(&self, succeeded: bool) {
        self.saves.get_or_create(&result(succeeded)).inc();
    }

    pub(super) fn count_threat_list_read(&self, succeeded: bool) {
        self.list_reads.get_or_create(&result(succeeded)).inc();
    }

    pub(super) fn set_threat_list(&self, name: &str, networks: usize, changed_at: Timestamp) {
        let label = ListLabel { list: name.to_owned() };
        self.list_networks.get_or_create(&label).set(gauge(networks));
        self.list_changes.get_or_create(&label).set(changed_at.as_s());
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn result(succeeded: bool) -> ResultLabel {
    ResultLabel {
        result: match succeeded {
            true => "succeeded",
            false => "failed",
        },
    }
}
