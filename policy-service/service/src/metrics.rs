//! The registry of metrics, and its page in the OpenMetrics text format. Each part of the service
//! has metrics of its own, which are registered here; no part knows those of another.

use picket_audit::Commit;
use picket_state::devices::DeviceMetrics;
use picket_state::revisions::PolicyMetrics;
use picket_state::sessions::SessionMetrics;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::assessor::AssessorMetrics;
use crate::authzen::AuthzenMetrics;
use crate::decision::DecisionMetrics;
use crate::ext_authz::ExtAuthzMetrics;
use crate::grpc::GrpcMetrics;
use crate::transport::TransportMetrics;

/// From 25 µs to 1 s, a disk in trouble.
const SECONDS: [f64; 14] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
/// Up to a full batch.
const RECORDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Everything that is counted. Every label has a fixed set of values.
pub struct Metrics {
    registry: Registry,
    pub(crate) decisions: DecisionMetrics,
    pub(crate) grpc: GrpcMetrics,
    pub(crate) transport: TransportMetrics,
    pub(crate) ext_authz: ExtAuthzMetrics,
    pub(crate) authzen: AuthzenMetrics,
    pub(crate) risk: AssessorMetrics,
    /// The audit log knows no metrics; it reports its commits.
    pub(crate) audit: AuditMetrics,
    log_lines_dropped: Gauge,
    pub(crate) sessions: SessionMetrics,
    pub(crate) devices: DeviceMetrics,
    pub(crate) policies: PolicyMetrics,
}

/// Durations and sizes of the audit log's transactions. Clones share their counters.
#[derive(Clone)]
pub(crate) struct AuditMetrics {
    commit_seconds: Histogram,
    commit_failures: Counter,
    batch_records: Histogram,
    queue_records: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Metrics {
    /// Registers all metrics, with the revision and the number of policies that decide at first.
    #[must_use]
    pub fn new(policy_revision: &str, policy_count: usize) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("picket_policy_service"),
            decisions: DecisionMetrics::default(),
            grpc: GrpcMetrics::default(),
            transport: TransportMetrics::default(),
            ext_authz: ExtAuthzMetrics::default(),
            authzen: AuthzenMetrics::default(),
            risk: AssessorMetrics::default(),
            audit: AuditMetrics::default(),
            log_lines_dropped: Gauge::default(),
            sessions: SessionMetrics::default(),
            devices: DeviceMetrics::default(),
            policies: PolicyMetrics::default(),
        };
        let registry = &mut metrics.registry;
        metrics.decisions.register(registry);
        metrics.grpc.register(registry);
        metrics.transport.register(registry);
        metrics.ext_authz.register(registry);
        metrics.authzen.register(registry);
        metrics.audit.register(registry);
        metrics.risk.register(registry);
        registry.register(
            "log_lines_dropped",
            "Log lines that were dropped because nobody read them fast enough",
            metrics.log_lines_dropped.clone(),
        );
        metrics.sessions.register(registry);
        metrics.devices.register(registry);
        metrics.policies.register(registry);
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "The program", Info::new(BuildLabels { version }));
        metrics.policies.set_active(policy_revision, policy_count, 0);
        metrics
    }

    /// All metrics as text, with every series that there can be, for the reference. A value in
    /// angle brackets stands for names that the configuration or a revision has.
    ///
    /// # Errors
    /// None that a text can have.
    #[cfg(feature = "schema")]
    pub fn every_series() -> Result<String, std::fmt::Error> {
        let metrics = Self::new("<revision>", 0);
        metrics.grpc.create_series();
        crate::transport::create_series(&metrics.transport);
        metrics.ext_authz.create_series();
        metrics.authzen.create_series();
        metrics.risk.create_series();
        metrics.sessions.create_series();
        metrics.devices.create_series();
        metrics.policies.create_series();
        metrics.encode(0, 0)
    }

    /// All metrics as text, with the two that are read when asked for.
    pub(crate) fn encode(&self, queue_records: usize, log_lines_dropped: usize) -> Result<String, std::fmt::Error> {
        self.audit.queue_records.set(gauge(queue_records));
        self.log_lines_dropped.set(gauge(log_lines_dropped));
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl Default for AuditMetrics {
    fn default() -> Self {
        Self {
            commit_seconds: Histogram::new(SECONDS),
            commit_failures: Counter::default(),
            batch_records: Histogram::new(RECORDS),
            queue_records: Gauge::default(),
        }
    }
}

impl AuditMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "audit_commit_duration",
            "A transaction of the audit log",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register(
            "audit_commit_failures",
            "Transactions of the audit log that failed",
            self.commit_failures.clone(),
        );
        registry.register(
            "audit_batch_records",
            "Records that shared a transaction",
            self.batch_records.clone(),
        );
        registry.register(
            "audit_queue_records",
            "Records that wait to be written",
            self.queue_records.clone(),
        );
    }

    /// A transaction of the audit log has ended.
    pub(crate) fn observe_commit(&self, commit: Commit) {
        self.commit_seconds.observe(commit.duration.as_secs_f64());
        if commit.succeeded {
            let records = u32::try_from(commit.records).unwrap_or(u32::MAX);
            self.batch_records.observe(f64::from(records));
        } else {
            self.commit_failures.inc();
        }
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_series_in_the_reference() {
        let registered = format!("{:?}", Metrics::new("", 0).registry)
            .matches("Descriptor {")
            .count();
        let shown = Metrics::every_series().unwrap().matches("# TYPE ").count();
        assert_eq!(registered, shown);
    }
}
