//! Counters in Envoy's stats. Names carry their labels as pairs, which Envoy's `stats_tags` turn into tags; the set of
//! names is fixed when the configuration is read, so a client cannot make it grow.

use std::cell::RefCell;

use picket_core::enforcement::{CacheUse, CallFailure, Notes, PermitReason, Verification};
use picket_core::reason::DenyReason;
use picket_core::token::TokenAlgorithm;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::host_crypto::{self, SignaturePath};

/// The ids of the metrics of one VM. `define_metric` gives out a new id each time it is called, so it is called once.
pub(crate) struct Metrics {
    permits: Vec<(PermitReason, u32)>,
    denials: Vec<(DenyReason, u32)>,
    cache_hit: u32,
    cache_miss: u32,
    calls_answered: u32,
    calls_unavailable: u32,
    calls_invalid: u32,
    call_ms: u32,
    verifications: Vec<(VerificationLabels, u32)>,
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
        let request =
            |outcome: &str, reason: &str| counter(&format!("picket_requests.outcome.{outcome}.reason.{reason}"));
        let cache = |result: &str| counter(&format!("picket_decision_cache.result.{result}"));
        let call = |result: &str| counter(&format!("picket_policy_calls.result.{result}"));
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
            calls_answered: call("answered"),
            calls_unavailable: call("unavailable"),
            calls_invalid: call("invalid"),
            call_ms: define(MetricType::Histogram, "picket_policy_call_ms"),
            verifications: verification_labels()
                .map(|labels| (labels, counter(&labels.name())))
                .collect(),
        }
    }

    pub(crate) fn count_permit(&self, reason: PermitReason) {
        increment(lookup(&self.permits, reason));
    }

    pub(crate) fn count_denial(&self, reason: DenyReason) {
        increment(lookup(&self.denials, reason));
    }

    pub(crate) fn count_notes(&self, notes: Notes) {
        match notes.cache {
            Some(CacheUse::Hit) => increment(Some(self.cache_hit)),
            Some(CacheUse::Miss) => increment(Some(self.cache_miss)),
            None => {}
        }
        if let Some((verification, has_passed)) = notes.verification {
            let checked = match verification {
                Verification::Cached => None,
                Verification::Checked(algorithm) => Some((algorithm, host_crypto::path(algorithm))),
            };
            increment(lookup(&self.verifications, VerificationLabels { checked, has_passed }));
        }
    }

    /// Counts a call to the policy service; `took_ms` is unknown where none was sent.
    pub(crate) fn count_call(&self, failure: Option<CallFailure>, took_ms: Option<u64>) {
        increment(Some(match failure {
            None => self.calls_answered,
            Some(CallFailure::Unavailable) => self.calls_unavailable,
            Some(CallFailure::AnswerInvalid) => self.calls_invalid,
        }));
        if let (Some(took_ms), true) = (took_ms, self.call_ms != UNDEFINED) {
            let _ = hostcalls::record_metric(self.call_ms, took_ms);
        }
    }
}

/// Counts a configuration that was read.
pub(crate) fn count_configuration(is_accepted: bool) {
    increment(Some(counter(match is_accepted {
        true => "picket_configurations.result.accepted",
        false => "picket_configurations.result.refused",
    })));
}

impl VerificationLabels {
    fn name(self) -> String {
        let (algorithm, path) = match self.checked {
            None => ("any", "cache"),
            Some((algorithm, path)) => (algorithm.name(), path.as_str()),
        };
        let result = if self.has_passed { "passed" } else { "failed" };
        format!("picket_token_verifications.algorithm.{algorithm}.path.{path}.result.{result}")
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

fn lookup<K: Copy + PartialEq>(table: &[(K, u32)], key: K) -> Option<u32> {
    table.iter().find(|(have, _)| *have == key).map(|(_, id)| *id)
}

/// The id of a metric that the host refused to define; it is never touched.
const UNDEFINED: u32 = u32::MAX;

fn counter(name: &str) -> u32 {
    define(MetricType::Counter, name)
}

fn define(metric_type: MetricType, name: &str) -> u32 {
    hostcalls::define_metric(metric_type, name).unwrap_or(UNDEFINED)
}

fn increment(id: Option<u32>) {
    if let Some(id) = id.filter(|id| *id != UNDEFINED) {
        // The trait's wrappers panic on an error; a metric that is not counted harms nobody.
        let _ = hostcalls::increment_metric(id, 1);
    }
}
