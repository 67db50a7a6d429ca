//! Counters in Envoy's stats. Names carry their labels as pairs, which Envoy's `stats_tags` turn
//! into tags; the set of names is fixed when the configuration is read, so a client cannot make it
//! grow.
//!
//! Requests add to counters in the VM. The host gets the sums once per [`FLUSH_PERIOD`].

use std::cell::{Cell, RefCell};
use std::time::Duration;

use picket_core::enforcement::{CacheUse, CallFailure, Evictions, Notes, ObservedAccess, PermitReason, Verification};
use picket_core::jose::TokenAlgorithm;
use picket_core::metrics::{self, FilterMetric, MetricKind};
use picket_core::reason::DenyReason;
use picket_core::token::introspection::IntrospectionResult;
use picket_core::token::remote_keys::response::FetchResult;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::host_crypto::{self, SignaturePath};

/// The age that Envoy's counters can have.
pub(crate) const FLUSH_PERIOD: Duration = Duration::from_millis(250);

/// The metrics of one VM. `define_metric` gives out a new id each time it is called, so it is
/// called once.
pub(crate) struct Metrics {
    permits: Vec<(PermitReason, Counter)>,
    denials: Vec<(DenyReason, Counter)>,
    cache_hit: Counter,
    cache_miss: Counter,
    token_evictions: Counter,
    decision_evictions: Counter,
    calls_answered: Counter,
    call_failures: Vec<(CallFailure, Counter)>,
    call_ms: u32,
    introspections: Vec<(IntrospectionResult, Counter)>,
    introspection_ms: u32,
    verifications: Vec<(VerificationLabels, Counter)>,
    proofs_passed: Counter,
    proofs_failed: Counter,
    access_would_reject: Counter,
    access_would_not_accept: Counter,
    access_audited: Counter,
    /// Of each provider whose keys are fetched; their number is bounded by the configuration's.
    key_sets: RefCell<Vec<KeySetMetrics>>,
}

/// The metrics of a provider's key set.
struct KeySetMetrics {
    provider: String,
    fetches: Vec<(FetchResult, Counter)>,
    /// Defined with the first key set: before, it has no age.
    age: Option<Gauge>,
}

/// A gauge of the host, with the value that was recorded last.
struct Gauge {
    id: u32,
    recorded: u64,
}

/// A counter of the host, with the sum that is not recorded yet.
struct Counter {
    id: u32,
    pending: Cell<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct VerificationLabels {
    /// `None`: from the cache of verified tokens.
    checked: Option<(TokenAlgorithm, SignaturePath)>,
    has_passed: bool,
}

thread_local! {
    static METRICS: RefCell<Option<&'static Metrics>> = const { RefCell::new(None) };
}

impl Metrics {
    /// The VM's metrics, defined on first use. They live as long as the VM.
    pub(crate) fn shared() -> &'static Self {
        METRICS.with(|shared| {
            *shared
                .borrow_mut()
                .get_or_insert_with(|| Box::leak(Box::new(Self::define())))
        })
    }

    fn define() -> Self {
        let request = |outcome: &str, reason: &str| Counter::define(&metrics::REQUESTS, &[outcome, reason]);
        let cache = |result: &str| Counter::define(&metrics::DECISION_CACHE, &[result]);
        let call = |result: &str| Counter::define(&metrics::POLICY_CALLS, &[result]);
        let access = |result: &str| Counter::define(&metrics::ACCESS_OBSERVED, &[result]);
        let introspection =
            |result: IntrospectionResult| (result, Counter::define(&metrics::INTROSPECTIONS, &[result.as_str()]));
        let proof = |result: &str| Counter::define(&metrics::DPOP_PROOFS, &[result]);
        Self {
            permits: PermitReason::ALL
                .iter()
                .map(|reason| (*reason, request("permit", reason.code())))
                .collect(),
            denials: DenyReason::ALL
                .iter()
                .map(|reason| {
                    let outcome = if reason.is_unavailable() { "unavailable" } else { "deny" };
                    (*reason, request(outcome, reason.code()))
                })
                .collect(),
            cache_hit: cache("hit"),
            cache_miss: cache("miss"),
            token_evictions: Counter::define(&metrics::TOKEN_CACHE_EVICTIONS, &[]),
            decision_evictions: Counter::define(&metrics::DECISION_CACHE_EVICTIONS, &[]),
            calls_answered: call(metrics::ANSWERED),
            call_failures: CallFailure::ALL
                .iter()
                .map(|failure| (*failure, call(failure.as_str())))
                .collect(),
            call_ms: define(&metrics::POLICY_CALL_MS, &[]),
            introspections: IntrospectionResult::ALL
                .iter()
                .map(|result| introspection(*result))
                .collect(),
            introspection_ms: define(&metrics::INTROSPECTION_MS, &[]),
            verifications: verification_labels().map(|labels| (labels, labels.define())).collect(),
            proofs_passed: proof("passed"),
            proofs_failed: proof("failed"),
            access_would_reject: access("would_reject"),
            access_would_not_accept: access("would_not_accept"),
            access_audited: access("audited"),
            key_sets: RefCell::default(),
        }
    }

    pub(crate) fn count_permit(&self, reason: PermitReason) {
        count(&self.permits, reason);
    }

    pub(crate) fn count_denial(&self, reason: DenyReason) {
        count(&self.denials, reason);
    }

    pub(crate) fn count_notes(&self, notes: Notes) {
        match notes.cache {
            Some(CacheUse::Hit) => self.cache_hit.add_one(),
            Some(CacheUse::Miss) => self.cache_miss.add_one(),
            None => {}
        }
        if let Some(result) = notes.introspection {
            count(&self.introspections, result);
        }
        match notes.proof_passed {
            Some(true) => self.proofs_passed.add_one(),
            Some(false) => self.proofs_failed.add_one(),
            None => {}
        }
        let ObservedAccess {
            would_reject,
            would_not_accept,
            is_audited,
        } = notes.access;
        for (is_so, counter) in [
            (would_reject, &self.access_would_reject),
            (would_not_accept, &self.access_would_not_accept),
            (is_audited, &self.access_audited),
        ] {
            if is_so {
                counter.add_one();
            }
        }
        for (verification, has_passed) in notes.verifications.iter() {
            let checked = match verification {
                Verification::Cached => None,
                Verification::Checked(algorithm) => Some((
                    algorithm,
                    // What is checked nowhere fails here.
                    host_crypto::path(algorithm).unwrap_or(SignaturePath::Module),
                )),
            };
            count(&self.verifications, VerificationLabels { checked, has_passed });
        }
    }

    pub(crate) fn count_evictions(&self, evictions: Evictions) {
        self.token_evictions.add(evictions.tokens);
        self.decision_evictions.add(evictions.decisions);
    }

    /// Counts a call to the policy service; `took_ms` is unknown where none was sent.
    pub(crate) fn count_call(&self, failure: Option<CallFailure>, took_ms: Option<u64>) {
        match failure {
            None => self.calls_answered.add_one(),
            Some(failure) => count(&self.call_failures, failure),
        }
        if let Some(took_ms) = took_ms {
            record(self.call_ms, took_ms);
        }
    }

    /// Records how long a call to an introspection endpoint took.
    pub(crate) fn record_introspection(&self, took_ms: u64) {
        record(self.introspection_ms, took_ms);
    }

    /// Defines the metrics of a provider's key set, if this is the first time.
    pub(crate) fn define_key_set(&self, provider: &str) {
        let mut key_sets = self.key_sets.borrow_mut();
        if key_sets.iter().any(|known| known.provider == provider) {
            return;
        }
        let counter = |result: FetchResult| {
            let values = [result.as_str(), provider];
            (result, Counter::define(&metrics::KEY_SET_FETCHES, &values))
        };
        key_sets.push(KeySetMetrics {
            provider: provider.to_owned(),
            fetches: FetchResult::ALL.iter().map(|result| counter(*result)).collect(),
            age: None,
        });
    }

    pub(crate) fn count_key_set_fetch(&self, provider: &str, result: FetchResult) {
        if let Some(known) = self.key_sets.borrow().iter().find(|known| known.provider == provider) {
            count(&known.fetches, result);
        }
    }

    /// Records the age of a key set if it has changed.
    pub(crate) fn record_key_set_age(&self, provider: &str, age_s: u64) {
        let mut key_sets = self.key_sets.borrow_mut();
        let Some(known) = key_sets.iter_mut().find(|known| known.provider == provider) else {
            return;
        };
        let gauge = known.age.get_or_insert_with(|| Gauge {
            id: define(&metrics::KEY_SET_AGE_S, &[provider]),
            recorded: u64::MAX,
        });
        if gauge.recorded != age_s && gauge.id != UNDEFINED {
            gauge.recorded = age_s;
            let _ = hostcalls::record_metric(gauge.id, age_s);
        }
    }

    /// Records the sums since the last call.
    pub(crate) fn flush(&self) {
        let call_failures = self.call_failures.iter().map(|(_, counter)| counter);
        let proofs = [&self.proofs_passed, &self.proofs_failed];
        let access = [
            &self.access_would_reject,
            &self.access_would_not_accept,
            &self.access_audited,
        ];
        let evictions = [&self.token_evictions, &self.decision_evictions];
        let single = [&self.cache_hit, &self.cache_miss, &self.calls_answered]
            .into_iter()
            .chain(evictions)
            .chain(call_failures)
            .chain(proofs)
            .chain(access);
        let permits = self.permits.iter().map(|(_, counter)| counter);
        let denials = self.denials.iter().map(|(_, counter)| counter);
        let verifications = self.verifications.iter().map(|(_, counter)| counter);
        let introspections = self.introspections.iter().map(|(_, counter)| counter);
        single
            .chain(introspections)
            .chain(permits)
            .chain(denials)
            .chain(verifications)
            .for_each(Counter::flush);
        let key_sets = self.key_sets.borrow();
        let fetches = key_sets.iter().flat_map(|known| &known.fetches);
        fetches.for_each(|(_, counter)| counter.flush());
    }
}

/// Counts a configuration that was read, at once: a VM whose configuration was refused lives no
/// longer.
pub(crate) fn count_configuration(is_accepted: bool) {
    let result = if is_accepted { "accepted" } else { "refused" };
    let counter = Counter::define(&metrics::CONFIGURATIONS, &[result]);
    counter.add_one();
    counter.flush();
}

impl Counter {
    fn define(metric: &FilterMetric, values: &[&str]) -> Self {
        Self {
            id: define(metric, values),
            pending: Cell::new(0),
        }
    }

    fn add_one(&self) {
        self.add(1);
    }

    fn add(&self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.pending.set(self.pending.get().saturating_add(count));
    }

    fn flush(&self) {
        let pending = self.pending.replace(0);
        // The host takes no zero.
        if pending > 0 && self.id != UNDEFINED {
            // No decision depends on a metric.
            let _ = hostcalls::increment_metric(self.id, pending);
        }
    }
}

impl VerificationLabels {
    fn define(self) -> Counter {
        let (algorithm, path) = match self.checked {
            None => ("any", "cache"),
            Some((algorithm, path)) => (algorithm.name(), path.as_str()),
        };
        let result = if self.has_passed { "passed" } else { "failed" };
        Counter::define(&metrics::TOKEN_VERIFICATIONS, &[algorithm, path, result])
    }
}

fn verification_labels() -> impl Iterator<Item = VerificationLabels> {
    let paths = [SignaturePath::Host, SignaturePath::Module];
    let checked = TokenAlgorithm::ALL
        .iter()
        .flat_map(move |algorithm| paths.map(|path| Some((*algorithm, path))));
    let kinds: Vec<_> = checked.chain([None]).collect();
    kinds
        .into_iter()
        .flat_map(|checked| [true, false].map(|has_passed| VerificationLabels { checked, has_passed }))
}

fn count<K: Copy + PartialEq>(table: &[(K, Counter)], key: K) {
    if let Some((_, counter)) = table.iter().find(|(have, _)| *have == key) {
        counter.add_one();
    }
}

fn record(histogram: u32, value: u64) {
    if histogram != UNDEFINED {
        let _ = hostcalls::record_metric(histogram, value);
    }
}

/// The id of a metric that the host refused to define; it is never touched.
const UNDEFINED: u32 = u32::MAX;

fn define(metric: &FilterMetric, values: &[&str]) -> u32 {
    let metric_type = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
    };
    hostcalls::define_metric(metric_type, &metric.statistic(values)).unwrap_or(UNDEFINED)
}
