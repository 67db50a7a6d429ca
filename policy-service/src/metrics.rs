//! The metrics, in the OpenMetrics text format.

use std::time::Duration;

use picket_core::enforcement::{CacheUse, Evictions, Notes, Verdict};
use picket_core::risk::RiskLevel;
use picket_core::time::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::audit::Commit;
use crate::decision::Outcome;

/// From 25 µs, an evaluation alone, to 1 s, a disk in trouble.
const SECONDS: [f64; 14] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
/// Up to a full batch.
const RECORDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Everything that is counted. Every label has a fixed set of values.
pub struct Metrics {
    registry: Registry,
    decisions: Family<EffectLabel, Counter>,
    failures: Family<CodeLabel, Counter>,
    refused_callers: Family<RefusalLabel, Counter>,
    checks: Family<CheckLabels, Counter>,
    check_cache: Family<ResultLabel, Counter>,
    check_token_evictions: Counter,
    check_decision_evictions: Counter,
    check_observed: Family<ResultLabel, Counter>,
    authzen: Family<EndpointLabels, Counter>,
    handshake_failures: Family<CauseLabel, Counter>,
    evaluation_errors: Counter,
    observed: Counter,
    decide_seconds: Histogram,
    commit_seconds: Histogram,
    commit_failures: Counter,
    batch_records: Histogram,
    queue_records: Gauge,
    log_lines_dropped: Gauge,
    session_refusals: Family<RefusalReasonLabel, Counter>,
    sessions: Gauge,
    device_refusals: Family<RefusalReasonLabel, Counter>,
    policies: PolicyMetrics,
    risk: RiskMetrics,
}

/// What is known of the policies that decide.
#[derive(Default)]
struct PolicyMetrics {
    count: Gauge,
    /// One of them is there at a time.
    revision: Family<PolicyLabels, Gauge>,
    number: Gauge,
    loads: Family<ResultLabel, Counter>,
}

/// What is counted where risk is assessed.
#[derive(Default)]
struct RiskMetrics {
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

/// The configuration names the lists, and bounds how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabel {
    list: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    effect: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    grpc_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    revision: String,
}

impl Metrics {
    /// Registers all metrics, with the revision and the number of policies that decide at first.
    #[must_use]
    pub fn new(policy_revision: &str, policy_count: usize) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("picket_policy_service"),
            decisions: Family::default(),
            failures: Family::default(),
            refused_callers: Family::default(),
            checks: Family::default(),
            check_cache: Family::default(),
            check_token_evictions: Counter::default(),
            check_decision_evictions: Counter::default(),
            check_observed: Family::default(),
            authzen: Family::default(),
            handshake_failures: Family::default(),
            evaluation_errors: Counter::default(),
            observed: Counter::default(),
            decide_seconds: Histogram::new(SECONDS),
            commit_seconds: Histogram::new(SECONDS),
            commit_failures: Counter::default(),
            batch_records: Histogram::new(RECORDS),
            queue_records: Gauge::default(),
            log_lines_dropped: Gauge::default(),
            risk: RiskMetrics::default(),
            session_refusals: Family::default(),
            sessions: Gauge::default(),
            device_refusals: Family::default(),
            policies: PolicyMetrics::default(),
        };
        metrics.register_decisions();
        metrics.register_checks();
        metrics.register_audit();
        metrics.register_risk();
        metrics.register_sessions();
        metrics.register_policies();
        metrics.policies_decide(policy_revision, policy_count, 0);
        // All exist from the start, so that a rate over them is never missing.
        for outcome in Outcome::ALL {
            drop(metrics.decisions.get_or_create(&label(outcome)));
        }
        metrics
    }

    fn register_decisions(&mut self) {
        let registry = &mut self.registry;
        registry.register("decisions", "Decisions that were given", self.decisions.clone());
        registry.register(
            "decide_failures",
            "Calls of Decide and Check that ended without an answer",
            self.failures.clone(),
        );
        registry.register_with_unit(
            "decide_duration",
            "From a request's arrival to its decision, with its record durable",
            Unit::Seconds,
            self.decide_seconds.clone(),
        );
        registry.register(
            "evaluation_errors",
            "Decisions that are a deny because the evaluation failed",
            self.evaluation_errors.clone(),
        );
        registry.register(
            "observed",
            "Decisions that policies in observe mode would have changed",
            self.observed.clone(),
        );
        registry.register(
            "callers_refused",
            "Calls whose caller may not ask",
            self.refused_callers.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Connections without a good TLS handshake",
            self.handshake_failures.clone(),
        );
    }

    fn register_checks(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "ext_authz_checks",
            "Requests that Envoys asked about, by what became of them",
            self.checks.clone(),
        );
        registry.register(
            "ext_authz_decision_cache",
            "Whether the decision cache of external authorization had the answer",
            self.check_cache.clone(),
        );
        registry.register(
            "ext_authz_token_cache_evictions",
            "Verified tokens of external authorization that made room before they had ended",
            self.check_token_evictions.clone(),
        );
        registry.register(
            "ext_authz_decision_cache_evictions",
            "Decisions of external authorization that made room before they had ended",
            self.check_decision_evictions.clone(),
        );
        registry.register(
            "ext_authz_access_observed",
            "What access rules say that do not decide",
            self.check_observed.clone(),
        );
        registry.register(
            "authzen_requests",
            "Calls of the AuthZEN API by their answer's status",
            self.authzen.clone(),
        );
    }

    fn register_audit(&mut self) {
        let registry = &mut self.registry;
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
        registry.register(
            "log_lines_dropped",
            "Log lines that were dropped because nobody read them fast enough",
            self.log_lines_dropped.clone(),
        );
    }

    fn register_risk(&mut self) {
        let (registry, risk) = (&mut self.registry, &self.risk);
        registry.register(
            "risk_assessments",
            "Requests by their risk level",
            risk.assessments.clone(),
        );
        registry.register(
            "risk_principals",
            "Principals whose habits are remembered",
            risk.principals.clone(),
        );
        registry.register(
            "risk_saves",
            "Times that the risk baselines were saved",
            risk.saves.clone(),
        );
        registry.register(
            "threat_list_reads",
            "Times that a threat list was read because its file had changed",
            risk.list_reads.clone(),
        );
        registry.register(
            "threat_list_networks",
            "Networks in a threat list",
            risk.list_networks.clone(),
        );
        registry.register_with_unit(
            "threat_list_changed_timestamp",
            "When the file of a threat list was changed last, in seconds since the epoch",
            Unit::Seconds,
            risk.list_changes.clone(),
        );
    }

    fn register_sessions(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "session_refusals",
            "Decisions that are a deny because of the request's session",
            self.session_refusals.clone(),
        );
        registry.register("sessions", "Sessions that are held, about", self.sessions.clone());
        registry.register(
            "device_refusals",
            "Decisions that are a deny because of the state of the request's device",
            self.device_refusals.clone(),
        );
    }

    fn register_policies(&mut self) {
        let (registry, policies) = (&mut self.registry, &self.policies);
        registry.register("policies", "Policies that are loaded", policies.count.clone());
        registry.register(
            "policy_revision_info",
            "The revision of the policies that decide",
            policies.revision.clone(),
        );
        registry.register(
            "policy_revision_number",
            "The number of that revision in the store; 0: it is not from there",
            policies.number.clone(),
        );
        registry.register(
            "policy_loads",
            "Times that the active revision in the store was another one, by whether it could be loaded",
            policies.loads.clone(),
        );
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "The program", Info::new(BuildLabels { version }));
    }

    /// These policies decide from now on.
    pub(crate) fn policies_decide(&self, revision: &str, count: usize, number: u64) {
        self.policies.count.set(gauge(count));
        self.policies.number.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.policies.revision.clear();
        let revision = revision.to_owned();
        self.policies.revision.get_or_create(&PolicyLabels { revision }).set(1);
    }

    pub(crate) fn policies_loaded(&self, succeeded: bool) {
        self.policies.loads.get_or_create(&result(succeeded)).inc();
    }

    pub(crate) fn decided(&self, outcome: Outcome, failed: bool, duration: Duration) {
        self.decisions.get_or_create(&label(outcome)).inc();
        if failed {
            self.evaluation_errors.inc();
        }
        self.decide_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn observed(&self) {
        self.observed.inc();
    }

    pub(crate) fn failed(&self, grpc_code: &'static str) {
        self.failures.get_or_create(&CodeLabel { grpc_code }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused_callers.get_or_create(&RefusalLabel { reason }).inc();
    }

    /// A request that an Envoy asked about is decided.
    pub(crate) fn checked(&self, verdict: &Verdict) {
        let (outcome, reason) = match verdict {
            Ok(permit) => ("permit", permit.reason().code()),
            Err(refusal) if refusal.reason.is_unavailable() => ("unavailable", refusal.reason.code()),
            Err(refusal) => ("deny", refusal.reason.code()),
        };
        self.checks.get_or_create(&CheckLabels { outcome, reason }).inc();
    }

    /// A call of the AuthZEN API was answered.
    pub(crate) fn authzen(&self, endpoint: &'static str, status: u16) {
        let status = u32::from(status);
        self.authzen.get_or_create(&EndpointLabels { endpoint, status }).inc();
    }

    /// What happened on the way.
    pub(crate) fn checked_with(&self, notes: &Notes) {
        let count = |family: &Family<ResultLabel, Counter>, result| {
            family.get_or_create(&ResultLabel { result }).inc();
        };
        match notes.cache {
            Some(CacheUse::Hit) => count(&self.check_cache, "hit"),
            Some(CacheUse::Miss) => count(&self.check_cache, "miss"),
            None => {}
        }
        for (is_so, result) in [
            (notes.access.would_reject, "would_reject"),
            (notes.access.would_not_accept, "would_not_accept"),
            (notes.access.is_audited, "audited"),
        ] {
            if is_so {
                count(&self.check_observed, result);
            }
        }
    }

    /// Cache entries of external authorization that made room before they had ended.
    pub(crate) fn check_evictions(&self, evictions: Evictions) {
        self.check_token_evictions.inc_by(evictions.tokens);
        self.check_decision_evictions.inc_by(evictions.decisions);
    }

    pub(crate) fn session_refused(&self, reason: &'static str) {
        self.session_refusals
            .get_or_create(&RefusalReasonLabel { reason })
            .inc();
    }

    pub(crate) fn device_refused(&self, reason: &'static str) {
        self.device_refusals.get_or_create(&RefusalReasonLabel { reason }).inc();
    }

    /// Without sessions it is not told, and stays 0.
    pub(crate) fn sessions_held(&self, sessions: u64) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    pub(crate) fn handshake_failed(&self, cause: &'static str) {
        self.handshake_failures.get_or_create(&CauseLabel { cause }).inc();
    }

    pub(crate) fn committed(&self, commit: Commit) {
        self.commit_seconds.observe(commit.duration.as_secs_f64());
        if commit.succeeded {
            let records = u32::try_from(commit.records).unwrap_or(u32::MAX);
            self.batch_records.observe(f64::from(records));
        } else {
            self.commit_failures.inc();
        }
    }

    pub(crate) fn assessed(&self, level: RiskLevel) {
        let level = level.name();
        self.risk.assessments.get_or_create(&LevelLabel { level }).inc();
    }

    pub(crate) fn risk_principals(&self, principals: usize) {
        self.risk.principals.set(gauge(principals));
    }

    pub(crate) fn risk_saved(&self, succeeded: bool) {
        self.risk.saves.get_or_create(&result(succeeded)).inc();
    }

    pub(crate) fn threat_list_read(&self, succeeded: bool) {
        self.risk.list_reads.get_or_create(&result(succeeded)).inc();
    }

    pub(crate) fn threat_list(&self, name: &str, networks: usize, changed_at: Timestamp) {
        let label = ListLabel { list: name.to_owned() };
        self.risk.list_networks.get_or_create(&label).set(gauge(networks));
        self.risk.list_changes.get_or_create(&label).set(changed_at.as_s());
    }

    /// All metrics as text, with the two that are read when asked for.
    pub(crate) fn encode(&self, queue_records: usize, log_lines_dropped: usize) -> Result<String, std::fmt::Error> {
        self.queue_records.set(gauge(queue_records));
        self.log_lines_dropped.set(gauge(log_lines_dropped));
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
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

fn label(outcome: Outcome) -> EffectLabel {
    EffectLabel {
        effect: outcome.as_str(),
    }
}
