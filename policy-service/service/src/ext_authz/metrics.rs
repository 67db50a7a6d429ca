//! Metrics of external authorization.

use picket_core::enforcement::{CacheUse, Evictions, Notes, Verdict};
#[cfg(feature = "schema")]
use picket_core::enforcement::{ObservedAccess, PermitReason};
use picket_core::reason::DenyReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts of verdicts and of the enforcer's caches. Clones share their counters.
#[derive(Clone, Default)]
pub(crate) struct ExtAuthzMetrics {
    checks: Family<VerdictLabels, Counter>,
    decision_cache: Family<ResultLabel, Counter>,
    token_evictions: Counter,
    decision_evictions: Counter,
    observed: Family<ResultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl ExtAuthzMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "ext_authz_checks",
            "Requests that Envoys asked about, by what became of them",
            self.checks.clone(),
        );
        registry.register(
            "ext_authz_decision_cache",
            "Whether the decision cache of external authorization had the answer",
            self.decision_cache.clone(),
        );
        registry.register(
            "ext_authz_token_cache_evictions",
            "Verified tokens of external authorization that made room before they had ended",
            self.token_evictions.clone(),
        );
        registry.register(
            "ext_authz_decision_cache_evictions",
            "Decisions of external authorization that made room before they had ended",
            self.decision_evictions.clone(),
        );
        registry.register(
            "ext_authz_access_observed",
            "What access rules say that do not decide",
            self.observed.clone(),
        );
    }

    /// Creates every series, for the reference.
    #[cfg(feature = "schema")]
    pub(crate) fn create_series(&self) {
        let permits = PermitReason::ALL.iter().map(|reason| ("permit", reason.code()));
        let denials = DenyReason::ALL.iter().map(|reason| (outcome(*reason), reason.code()));
        for (outcome, reason) in permits.chain(denials) {
            drop(self.checks.get_or_create(&VerdictLabels { outcome, reason }));
        }
        let access = ObservedAccess {
            would_reject: true,
            would_not_accept: true,
            is_audited: true,
        };
        for cache in [CacheUse::Hit, CacheUse::Miss] {
            self.count_notes(&Notes {
                cache: Some(cache),
                access,
                ..Notes::default()
            });
        }
    }

    pub(super) fn count_verdict(&self, verdict: &Verdict) {
        let (outcome, reason) = match verdict {
            Ok(permit) => ("permit", permit.reason().code()),
            Err(refusal) => (outcome(refusal.reason), refusal.reason.code()),
        };
        self.checks.get_or_create(&VerdictLabels { outcome, reason }).inc();
    }

    /// Counts cache use and the results of access rules in observe mode.
    pub(super) fn count_notes(&self, notes: &Notes) {
        let count = |family: &Family<ResultLabel, Counter>, result| {
            family.get_or_create(&ResultLabel { result }).inc();
        };
        match notes.cache {
            Some(CacheUse::Hit) => count(&self.decision_cache, "hit"),
            Some(CacheUse::Miss) => count(&self.decision_cache, "miss"),
            None => {}
        }
        for (is_so, result) in [
            (notes.access.would_reject, "would_reject"),
            (notes.access.would_not_accept, "would_not_accept"),
            (notes.access.is_audited, "audited"),
        ] {
            if is_so {
                count(&self.observed, result);
            }
        }
    }

    /// Counts cache entries that were evicted before they had ended.
    pub(super) fn count_evictions(&self, evictions: Evictions) {
        self.token_evictions.inc_by(evictions.tokens);
        self.decision_evictions.inc_by(evictions.decisions);
    }
}

fn outcome(reason: DenyReason) -> &'static str {
    if reason.is_unavailable() { "unavailable" } else { "deny" }
}
