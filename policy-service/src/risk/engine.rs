//! Assessing requests, and learning from what became of them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::assessment::{Assessment, Fired, Signal};
use super::baseline::Baseline;
use super::facts::{Facts, PrincipalKey};
use super::settings::RiskSettings;
use super::threats::Listing;
use super::{behaviour, device, location};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on.
    Permitted,
    /// It may come back with a stronger authentication; nobody is suspected for being asked.
    Challenged,
    /// It did not go on.
    Denied,
}

/// The baselines of a bounded number of principals, and the rules over them. The same requests in the same order give the
/// same assessments.
#[derive(Debug)]
pub struct RiskEngine {
    settings: Arc<RiskSettings>,
    baselines: LruCache<PrincipalKey, Baseline>,
}

impl RiskEngine {
    /// Knows nobody, and will remember at most `principals_max`.
    #[must_use]
    pub fn new(settings: Arc<RiskSettings>, principals_max: NonZeroUsize) -> Self {
        Self {
            settings,
            baselines: LruCache::new(principals_max),
        }
    }

    /// Says how risky a request is. It changes nothing: what became of the request is told to [`Self::learn`].
    #[must_use]
    pub fn assess(&self, facts: &Facts, listing: Option<&Listing<'_>>) -> Assessment {
        let settings = &self.settings;
        let mut found: Vec<Fired> = Vec::new();
        // Of nobody there is nothing to compare with, and whoever is not known yet has nothing unusual.
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
        }
        if settings.threat_list.is_some() {
            found.extend(listing.map(|listing| Fired {
                signal: Signal::ListedAddress,
                explanation: listing.explanation(facts.now_s),
            }));
        }
        Assessment::new(settings, found)
    }

    /// Takes note of a request that was assessed. What was not permitted teaches only how often the principal asks, and is
    /// refused.
    pub fn learn(&mut self, facts: &Facts, assessment: &Assessment, outcome: Outcome) {
        let Some(principal) = facts.principal else {
            return;
        };
        let baseline = self.baselines.get_or_insert_mut(principal, Baseline::default);
        baseline.learn_any(&self.settings, facts, assessment);
        match outcome {
            Outcome::Permitted => baseline.learn_permitted(&self.settings, facts),
            Outcome::Challenged => {}
            Outcome::Denied => baseline.denials.push(facts.now_s),
        }
    }

    /// How many principals are remembered.
    #[must_use]
    pub fn principals(&self) -> usize {
        self.baselines.len()
    }

    /// What is remembered about a principal.
    #[must_use]
    pub fn baseline(&self, principal: &PrincipalKey) -> Option<&Baseline> {
        self.baselines.peek(principal)
    }

    /// Everything that is remembered, the least recently seen principal first.
    pub fn baselines(&self) -> impl Iterator<Item = (PrincipalKey, &Baseline)> {
        self.baselines
            .iter()
            .rev()
            .map(|(principal, baseline)| (*principal, baseline))
    }

    /// Takes a baseline back that was saved. Those of [`Self::baselines`] are given in its order.
    pub fn restore(&mut self, principal: PrincipalKey, baseline: Baseline) {
        self.baselines.put(principal, baseline);
    }
}
