//! What a request does, how often its principal makes one, and when.

use super::assessment::{DetectedSignal, Signal};
use super::baseline::Baseline;
use super::facts::RequestFacts;
use super::settings::{BehaviourSettings, RiskSettings, TimeSettings};
use super::sightings::{Novelty, NoveltyWindows};

pub(super) fn signals(
    settings: &RiskSettings,
    behaviour: &BehaviourSettings,
    baseline: &Baseline,
    facts: &RequestFacts,
) -> impl Iterator<Item = DetectedSignal> {
    let windows = NoveltyWindows {
        settles_after_s: behaviour.settles_after_s,
        remembered_for_s: settings.remembered_for_s,
    };
    let is_known = baseline.permits >= behaviour.observations_min;
    let method = is_known.then(|| baseline.methods.novelty(&facts.method, facts.now_s, windows));
    let route_rule = is_known.then(|| baseline.route_rules.novelty(&facts.route_rule, facts.now_s, windows));
    let new = |signal, novelty, what: String| {
        let explanation = match novelty {
            None | Some(Novelty::Settled) => return None,
            Some(Novelty::First) => format!("{what} in {} permitted requests", baseline.permits),
            Some(Novelty::Recent(age_s)) => format!("{what} until {age_s} s ago"),
        };
        Some(DetectedSignal { signal, explanation })
    };
    let method = new(
        Signal::NewMethod,
        method,
        format!("method `{}` was not used", facts.method_shown),
    );
    let route_rule = new(
        Signal::NewRouteRule,
        route_rule,
        format!("route rule `{}` was not used", facts.route_rule_shown),
    );
    [
        unusual_rate(behaviour, baseline, facts),
        method,
        route_rule,
        denial_burst(behaviour, baseline, facts),
    ]
    .into_iter()
    .flatten()
}

fn unusual_rate(settings: &BehaviourSettings, baseline: &Baseline, facts: &RequestFacts) -> Option<DetectedSignal> {
    let excess = baseline.rate.excess(facts.now_s, settings)?;
    Some(DetectedSignal {
        signal: Signal::UnusualRate,
        explanation: format!(
            "{} requests in this window of {} s; usual are {:.1} ± {:.1}, and at most {} deviations above",
            excess.requests, settings.rate_window_s, excess.mean, excess.deviation, settings.rate_deviations_max
        ),
    })
}

fn denial_burst(settings: &BehaviourSettings, baseline: &Baseline, facts: &RequestFacts) -> Option<DetectedSignal> {
    let is_recent = |at_s: &&u32| facts.now_s.saturating_sub(**at_s) < settings.denials_window_s;
    let denials = baseline.denials.iter().filter(is_recent).count();
    let is_burst = u32::try_from(denials).is_ok_and(|denials| denials >= settings.denials_min.max(1));
    is_burst.then(|| DetectedSignal {
        signal: Signal::DenialBurst,
        explanation: format!("{denials} denials in the last {} s", settings.denials_window_s),
    })
}

/// The principal's own hours.
pub(super) fn unusual_time(
    settings: &TimeSettings,
    baseline: &Baseline,
    facts: &RequestFacts,
) -> Option<DetectedSignal> {
    let share = baseline.hours.share(facts.now_s, settings);
    let percent = share.share * 100.0;
    let is_unusual =
        share.observations >= f64::from(settings.observations_min) && percent < f64::from(settings.share_min_percent);
    is_unusual.then(|| DetectedSignal {
        signal: Signal::UnusualTime,
        explanation: format!(
            "{percent:.1} % of the principal's hours are within one of {:02}:00 UTC, after {:.0} observations; usual are {} %",
            share.hour, share.observations, settings.share_min_percent
        ),
    })
}
