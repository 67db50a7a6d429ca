//! Assessing requests, and learning from what became of them.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use picket_model::risk::{Risk, SCORE_MAX};
use picket_model::time::Timestamp;

use super::assessment::{Assessment, DetectedSignal, Signal, SignalKind};
use super::authentication::{AuthenticationOutcome, AuthenticationReport, Failures};
use super::baseline::Baseline;
use super::dynamics::Measurements;
use super::factors::Factor;
use super::facts::RequestFacts;
use super::keys::{PrincipalKey, SessionKey};
use super::numbers::seconds;
use super::places::Country;
use super::settings::RiskSettings;
use super::threats::ThreatListMatch;
use super::{behaviour, device, location};

/// For each so many principals there is a place for one that only reports name.
const PRINCIPALS_PER_UNSEEN: usize = 16;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It went on.
    Permitted,
    /// It may come back with a stronger authentication; nobody is suspected for being asked.
    Challenged,
    /// It did not go on.
    Denied,
    /// It did not go on, because its session was revoked or stolen.
    SessionRefused,
    /// Nobody's would have gone on, or its session was over: it says nothing about the principal.
    Closed,
}

/// How a report about a principal was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportOutcome {
    /// Added to the principal's baseline.
    Learned,
    /// Kept for a while: the principal has made no request yet.
    KeptAside,
    /// Without effect.
    Ignored,
}

/// The baselines of a bounded number of principals, and the rules over them. The same requests in
/// the same order give the same assessments.
#[derive(Debug)]
pub struct RiskEngine {
    settings: Arc<RiskSettings>,
    baselines: LruCache<PrincipalKey, Baseline>,
    /// Of principals that only reports name. They have places of their own: whoever makes up names
    /// pushes no baseline out.
    unseen: LruCache<PrincipalKey, Failures>,
}

impl RiskEngine {
    /// An engine without baselines, for at most `principals_max` principals.
    #[must_use]
    pub fn new(settings: Arc<RiskSettings>, principals_max: NonZeroUsize) -> Self {
        Self {
            settings,
            baselines: LruCache::new(principals_max),
            unseen: LruCache::new(unseen_max(principals_max)),
        }
    }

    /// Assesses a request. It changes nothing: [`Self::learn`] records the outcome.
    #[must_use]
    pub fn assess(&self, facts: &RequestFacts, listing: Option<&ThreatListMatch<'_>>) -> Assessment {
        let settings = &self.settings;
        let mut found: Vec<DetectedSignal> = Vec::new();
        let mut score_min = 0;
        // Of nobody there is nothing to compare with, and whoever is not known yet has nothing
        // unusual.
        if let Some(baseline) = facts.principal.and_then(|principal| self.baselines.peek(&principal)) {
            if let Some(location) = &settings.location {
                found.extend(location::signals(settings, location, baseline, facts));
            }
            if let Some(device) = &settings.device {
                found.extend(device::signals(settings, device, baseline, facts));
            }
            if let Some(time) = &settings.time {
                found.extend(behaviour::unusual_time(time, baseline, facts));
            }
            if let Some(behaviour) = &settings.behaviour {
                found.extend(behaviour::signals(settings, behaviour, baseline, facts));
            }
            if let Some(token) = &settings.token {
                found.extend(baseline.tokens.signal(token, facts));
            }
            if let Some(dynamics) = &settings.dynamics
                && let Some(anomaly) = baseline.dynamics.anomaly(dynamics, facts)
            {
                found.push(anomaly.fired);
                // The factors of a high risk are what there is to ask for.
                score_min = match anomaly.is_to_be_challenged {
                    true => settings.levels.high_from,
                    false => 0,
                };
            }
        }
        if let Some(device) = &settings.device {
            found.extend(device::trust_signals(device, facts));
        }
        if let (Some(authentication), Some(failures)) = (&settings.authentication, self.failures(facts.principal)) {
            found.extend(failures.signal(authentication, facts));
        }
        if settings.threat_list.is_some() {
            found.extend(listing.map(|listing| DetectedSignal {
                signal: Signal::ListedAddress,
                explanation: listing.explanation(facts.now_s),
            }));
        }
        // With the kind that looks at it, as answers then vary with the address.
        let country = settings.location.as_ref().and_then(|_| facts.place?.country());
        assessment_of(settings, found, score_min, country)
    }

    /// Records the outcome of a request that was assessed. A request that was not permitted changes
    /// only the rate, and is refused.
    pub fn learn(&mut self, facts: &RequestFacts, assessment: &Assessment, outcome: RequestOutcome) {
        let Some(principal) = facts.principal else {
            return;
        };
        let unseen = &mut self.unseen;
        let baseline = self.baselines.get_or_insert_mut(principal, || Baseline {
            failures: unseen.pop(&principal).unwrap_or_default(),
            ..Baseline::default()
        });
        baseline.learn_any(&self.settings, facts, assessment);
        match outcome {
            RequestOutcome::Permitted => baseline.learn_permitted(&self.settings, facts),
            RequestOutcome::Challenged => baseline.failures.challenged(facts.now_s),
            RequestOutcome::Denied => baseline.denials.push(facts.now_s),
            RequestOutcome::SessionRefused => baseline.failures.refused(facts.now_s, facts.place),
            RequestOutcome::Closed => {}
        }
    }

    /// Records an authentication elsewhere. It does not count as a request of the principal.
    pub fn report_authentication(&mut self, principal: PrincipalKey, report: &AuthenticationReport) -> ReportOutcome {
        if let Some(baseline) = self.baselines.peek_mut(&principal) {
            baseline.failures.report(report);
            return ReportOutcome::Learned;
        }
        match report.outcome {
            AuthenticationOutcome::Succeeded => ReportOutcome::Ignored,
            AuthenticationOutcome::Failed => {
                self.unseen
                    .get_or_insert_mut(principal, Failures::default)
                    .report(report);
                ReportOutcome::KeptAside
            }
        }
    }

    /// Records how a client is handled, and returns its anomaly score. `None`: this is switched
    /// off, or there is no baseline of the principal, with which it could be compared.
    pub fn report_dynamics(
        &mut self,
        principal: PrincipalKey,
        session: SessionKey,
        at: Timestamp,
        measured: Measurements,
    ) -> Option<u32> {
        let settings = self.settings.dynamics.as_ref()?;
        let baseline = self.baselines.peek_mut(&principal)?;
        Some(baseline.dynamics.report(settings, session.0, seconds(at), measured))
    }

    fn failures(&self, principal: Option<PrincipalKey>) -> Option<&Failures> {
        let principal = principal?;
        let baseline = self.baselines.peek(&principal);
        baseline.map_or_else(|| self.unseen.peek(&principal), |baseline| Some(&baseline.failures))
    }

    /// The number of baselines.
    #[must_use]
    pub fn principals(&self) -> usize {
        self.baselines.len()
    }

    /// The number of principals that only reports have named.
    #[must_use]
    pub fn unseen_principals(&self) -> usize {
        self.unseen.len()
    }

    /// The baseline of a principal.
    #[must_use]
    pub fn baseline(&self, principal: &PrincipalKey) -> Option<&Baseline> {
        self.baselines.peek(principal)
    }

    /// All baselines, the least recently used first.
    pub fn baselines(&self) -> impl Iterator<Item = (PrincipalKey, &Baseline)> {
        self.baselines
            .iter()
            .rev()
            .map(|(principal, baseline)| (*principal, baseline))
    }

    /// Restores a saved baseline. They must come in the order of [`Self::baselines`].
    pub fn restore(&mut self, principal: PrincipalKey, baseline: Baseline) {
        self.baselines.put(principal, baseline);
    }
}

/// Adds up the weights of the kinds of signals; the score is no less than `score_min`.
fn assessment_of(
    settings: &RiskSettings,
    mut signals: Vec<DetectedSignal>,
    score_min: u8,
    country: Option<Country>,
) -> Assessment {
    signals.sort_by_key(|fired| fired.signal);
    let kinds: BTreeSet<SignalKind> = signals.iter().map(|fired| fired.signal.kind()).collect();
    let sum: u32 = kinds.into_iter().map(|kind| u32::from(settings.weight(kind))).sum();
    let score = u8::try_from(sum).map_or(SCORE_MAX, |sum| sum.max(score_min).min(SCORE_MAX));
    let level = settings.levels.of(score);
    Assessment {
        risk: Risk { score, level },
        factors: Factor::required_at(level),
        signals,
        country,
        vary: settings.vary(),
        mode: settings.mode,
    }
}

fn unseen_max(principals_max: NonZeroUsize) -> NonZeroUsize {
    NonZeroUsize::new(principals_max.get() / PRINCIPALS_PER_UNSEEN).unwrap_or(NonZeroUsize::MIN)
}
