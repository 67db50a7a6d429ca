//! The metrics of the filter: names, labels, and what they count. The filter defines no others.

use crate::enforcement::{CallFailure, PermitReason};
use crate::jose::TokenAlgorithm;
use crate::reason::DenyReason;
use crate::token::introspection::IntrospectionResult;
use crate::token::remote_keys::response::FetchResult;

/// A metric of the filter. Envoy's interface for modules knows no labels: the name of a statistic
/// carries them as pairs, of which the `stats_tags` of Envoy's bootstrap make labels.
#[derive(Clone, Copy, Debug)]
pub struct FilterMetric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its labels, in the order of the statistic's name.
    pub labels: &'static [MetricLabel],
    /// What it counts or measures.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A label of a metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricLabel {
    /// Its name, without the prefix `picket_` that the `stats_tags` add.
    pub name: &'static str,
    /// Its values; `None`: names from the configuration.
    pub values: Option<fn() -> Vec<&'static str>>,
}

impl FilterMetric {
    /// The name of the statistic with these values of the labels, in their order.
    #[must_use]
    pub fn statistic(&self, values: &[&str]) -> String {
        let pairs = self.labels.iter().zip(values);
        pairs.fold(self.name.to_owned(), |name, (label, value)| {
            format!("{name}.{}.{value}", label.name)
        })
    }
}

/// Requests.
pub const REQUESTS: FilterMetric = FilterMetric {
    name: "picket_requests",
    kind: MetricKind::Counter,
    labels: &[
        MetricLabel {
            name: "outcome",
            values: Some(|| vec!["permit", "deny", "unavailable"]),
        },
        MetricLabel {
            name: "reason",
            values: Some(reasons),
        },
    ],
    help: "Requests, by outcome and reason.",
};

/// Look-ups in the decision cache.
pub const DECISION_CACHE: FilterMetric = FilterMetric {
    name: "picket_decision_cache",
    kind: MetricKind::Counter,
    labels: &[result(|| vec!["hit", "miss"])],
    help: "Look-ups in the decision cache.",
};

/// Evictions from the cache of verified tokens.
pub const TOKEN_CACHE_EVICTIONS: FilterMetric = FilterMetric {
    name: "picket_token_cache_evictions",
    kind: MetricKind::Counter,
    labels: &[],
    help: "Verified tokens that were evicted before they had ended. See `token_cache_entries_max`.",
};

/// Evictions from the decision cache.
pub const DECISION_CACHE_EVICTIONS: FilterMetric = FilterMetric {
    name: "picket_decision_cache_evictions",
    kind: MetricKind::Counter,
    labels: &[],
    help: "Decisions that were evicted before they had ended. See `decision_cache_entries_max`.",
};

/// Calls to the policy service.
pub const POLICY_CALLS: FilterMetric = FilterMetric {
    name: "picket_policy_calls",
    kind: MetricKind::Counter,
    labels: &[result(|| {
        let failures = CallFailure::ALL.iter().map(|failure| failure.as_str());
        std::iter::once(ANSWERED).chain(failures).collect()
    })],
    help: "Calls to the policy service, by result.",
};

/// The result of a call to the policy service that was answered.
pub const ANSWERED: &str = "answered";

/// Latency of calls to the policy service.
pub const POLICY_CALL_MS: FilterMetric = FilterMetric {
    name: "picket_policy_call_ms",
    kind: MetricKind::Histogram,
    labels: &[],
    help: "The latency of calls to the policy service, in milliseconds.",
};

/// Verifications of tokens.
pub const TOKEN_VERIFICATIONS: FilterMetric = FilterMetric {
    name: "picket_token_verifications",
    kind: MetricKind::Counter,
    labels: &[
        MetricLabel {
            name: "algorithm",
            values: Some(|| {
                let algorithms = TokenAlgorithm::ALL.iter().map(|algorithm| algorithm.name());
                algorithms.chain(["any"]).collect()
            }),
        },
        MetricLabel {
            name: "path",
            values: Some(|| vec!["host", "module", "cache"]),
        },
        result(|| vec!["passed", "failed"]),
    ],
    help: "Verifications of tokens. The path says who checked the signature: Envoy (`host`), the module itself, or \
           neither, as the token was cached (`cache`, with the algorithm `any`).",
};

/// Questions to introspection endpoints.
pub const INTROSPECTIONS: FilterMetric = FilterMetric {
    name: "picket_introspections",
    kind: MetricKind::Counter,
    labels: &[result(|| {
        IntrospectionResult::ALL.iter().map(|result| result.as_str()).collect()
    })],
    help: "Questions about opaque tokens, by result. `rejected` is a status below 500 other than 200, such as 401 for a \
           wrong client secret. Cached tokens are in `picket_token_verifications` only.",
};

/// Latency of questions to introspection endpoints.
pub const INTROSPECTION_MS: FilterMetric = FilterMetric {
    name: "picket_introspection_ms",
    kind: MetricKind::Histogram,
    labels: &[],
    help: "The latency of questions about opaque tokens, in milliseconds.",
};

/// Fetches of key sets.
pub const KEY_SET_FETCHES: FilterMetric = FilterMetric {
    name: "picket_key_set_fetches",
    kind: MetricKind::Counter,
    // The name of a provider may hold dots, so it comes last.
    labels: &[
        result(|| FetchResult::ALL.iter().map(|result| result.as_str()).collect()),
        PROVIDER,
    ],
    help: "Attempts to fetch the keys of a provider, by result.",
};

/// Age of key sets.
pub const KEY_SET_AGE_S: FilterMetric = FilterMetric {
    name: "picket_key_set_age_s",
    kind: MetricKind::Gauge,
    labels: &[PROVIDER],
    help: "The seconds since the keys of a provider were requested. It is absent before the first key set.",
};

/// Requests that access rules on trial would refuse, or that are audited.
pub const ACCESS_OBSERVED: FilterMetric = FilterMetric {
    name: "picket_access_observed",
    kind: MetricKind::Counter,
    labels: &[result(|| vec!["would_reject", "would_not_accept", "audited"])],
    help: "Requests that access rules on trial would refuse, and those that match `access.audit`.",
};

/// Proofs of possession.
pub const DPOP_PROOFS: FilterMetric = FilterMetric {
    name: "picket_dpop_proofs",
    kind: MetricKind::Counter,
    labels: &[result(|| vec!["passed", "failed"])],
    help: "Proofs of possession that were checked.",
};

/// Configurations that were read.
pub const CONFIGURATIONS: FilterMetric = FilterMetric {
    name: "picket_configurations",
    kind: MetricKind::Counter,
    labels: &[result(|| vec!["accepted", "refused"])],
    help: "Configurations that were read, once for each VM.",
};

/// All metrics of the filter.
pub const FILTER_METRICS: &[FilterMetric] = &[
    REQUESTS,
    DECISION_CACHE,
    TOKEN_CACHE_EVICTIONS,
    DECISION_CACHE_EVICTIONS,
    POLICY_CALLS,
    POLICY_CALL_MS,
    TOKEN_VERIFICATIONS,
    INTROSPECTIONS,
    INTROSPECTION_MS,
    KEY_SET_FETCHES,
    KEY_SET_AGE_S,
    ACCESS_OBSERVED,
    DPOP_PROOFS,
    CONFIGURATIONS,
];

const PROVIDER: MetricLabel = MetricLabel {
    name: "provider",
    values: None,
};

const fn result(values: fn() -> Vec<&'static str>) -> MetricLabel {
    MetricLabel {
        name: "result",
        values: Some(values),
    }
}

fn reasons() -> Vec<&'static str> {
    let permits = PermitReason::ALL.iter().map(|reason| reason.code());
    permits
        .chain(DenyReason::ALL.iter().map(|reason| reason.code()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_has_its_labels_as_pairs_in_their_order() {
        assert_eq!(
            REQUESTS.statistic(&["deny", "no_rule"]),
            "picket_requests.outcome.deny.reason.no_rule"
        );
        assert_eq!(
            KEY_SET_FETCHES.statistic(&["fetched", "main.example"]),
            "picket_key_set_fetches.result.fetched.provider.main.example"
        );
        assert_eq!(POLICY_CALL_MS.statistic(&[]), "picket_policy_call_ms");
    }
}
