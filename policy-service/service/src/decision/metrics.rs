//! Metrics of decisions.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::DecisionOutcome;

/// From 25 µs, an evaluation alone, to 1 s, a disk in trouble.
const SECONDS: [f64; 14] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// Counts and durations of decisions. Clones share their counters.
#[derive(Clone)]
pub(crate) struct DecisionMetrics {
    decisions: Family<EffectLabel, Counter>,
    evaluation_errors: Counter,
    observed: Counter,
    duration: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    effect: &'static str,
}

impl Default for DecisionMetrics {
    fn default() -> Self {
        let decisions = Family::default();
        // All exist from the start, so that a rate over them is never missing.
        for outcome in DecisionOutcome::ALL {
            drop(decisions.get_or_create(&label(outcome)));
        }
        Self {
            decisions,
            evaluation_errors: Counter::default(),
            observed: Counter::default(),
            duration: Histogram::new(SECONDS),
        }
    }
}

impl DecisionMetrics {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions that were given", self.decisions.clone());
        registry.register_with_unit(
            "decide_duration",
            "From a request's arrival to its decision, with its record durable",
            Unit::Seconds,
            self.duration.clone(),
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
    }

    pub(super) fn count_decision(&self, outcome: DecisionOutcome, duration: Duration) {
        self.decisions.get_or_create(&label(outcome)).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    pub(super) fn count_evaluation_error(&self) {
        self.evaluation_errors.inc();
    }

    /// Policies in observe mode would have changed a decision.
    pub(super) fn count_observed(&self) {
        self.observed.inc();
    }
}

fn label(outcome: DecisionOutcome) -> EffectLabel {
    EffectLabel {
        effect: outcome.as_str(),
    }
}
