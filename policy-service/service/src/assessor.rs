//! Risk assessment: the files and the locks around the pure rules of [`picket_risk`].

mod geoip;
mod maintenance;
mod metrics;
mod state_file;
mod threat_files;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use picket_model::access::{AccessRequest, Principal};
use picket_model::device::DeviceFacts;
use picket_model::risk::RiskLevel;
use picket_model::time::Timestamp;
use picket_risk::{
    Assessment, AuthenticationOutcome, AuthenticationReport, Baseline, Measurements, MissingFactors, Place,
    PrincipalKey, ReportOutcome, RequestFacts, RequestOutcome, RiskEngine, RiskSettings, SessionKey, StateError,
    ThreatLists,
};

use geoip::Geoip;
pub use geoip::GeoipError;
pub(crate) use maintenance::RiskMaintenance;
pub(crate) use metrics::AssessorMetrics;
use picket_service_configuration::AssessorSettings;
use threat_files::ThreatFiles;
pub use threat_files::ThreatListError;
pub(crate) use threat_files::ThreatListReload;

/// Principals are spread over as many locks, so that decisions about different ones seldom wait for
/// each other.
const SHARDS: usize = 16;

/// Why risk assessment cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// The baselines cannot be read.
    #[error("risk.state_file: `{}` {source}", file.display())]
    State {
        /// The file.
        file: PathBuf,
        /// Why.
        source: StateError,
    },
    /// A threat list cannot be read.
    #[error("risk.threat_lists: {0}")]
    ThreatList(#[from] ThreatListError),
    /// A database of addresses cannot be read.
    #[error("{0}")]
    Geoip(#[from] GeoipError),
}

/// Assesses requests, and learns from their decisions.
pub(crate) struct Assessor {
    settings: Arc<RiskSettings>,
    shards: Shards,
    threats: RwLock<Arc<ThreatLists>>,
    threat_files: Mutex<ThreatFiles>,
    geoip: Geoip,
    state_file: PathBuf,
    /// Held while the state is written.
    saving: Mutex<()>,
}

/// One engine for each part of the principals. Requests without a principal, of which nothing is
/// remembered, use the first one.
struct Shards {
    first: Mutex<RiskEngine>,
    others: Vec<Mutex<RiskEngine>>,
}

/// An assessment of a request, with the facts that it is learnt with.
pub(crate) struct Assessed {
    facts: RequestFacts,
    pub(crate) assessment: Assessment,
}

impl Assessor {
    /// Reads all files. A state file that does not exist is no mistake: nothing was learnt yet.
    pub(crate) fn open(configuration: &AssessorSettings) -> Result<Self, RiskError> {
        let settings = Arc::new(configuration.settings.clone());
        let principals_max = NonZeroUsize::new(settings.principals_max / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let engine = || Mutex::new(RiskEngine::new(Arc::clone(&settings), principals_max));
        let (threat_files, threats) = ThreatFiles::open(&configuration.threat_lists)?;
        let assessor = Self {
            shards: Shards {
                first: engine(),
                others: (1..SHARDS).map(|_| engine()).collect(),
            },
            threats: RwLock::new(Arc::new(threats)),
            threat_files: Mutex::new(threat_files),
            geoip: Geoip::open(&configuration.geoip)?,
            state_file: configuration.state_file.clone(),
            saving: Mutex::new(()),
            settings,
        };
        let restore = |principal, baseline| assessor.restore(principal, baseline);
        state_file::read(&assessor.state_file, restore).map_err(|source| RiskError::State {
            file: assessor.state_file.clone(),
            source,
        })?;
        Ok(assessor)
    }

    /// Assesses a request that comes from this device, where one is known.
    pub(crate) fn assess(&self, request: &AccessRequest, device: Option<&DeviceFacts>, now: Timestamp) -> Assessed {
        let address = request.context.source_address;
        let facts = RequestFacts::new(request, self.geoip.look_up(address), now).from_device(device);
        let threats = self.threats();
        let listing = facts.address().and_then(|address| threats.find(address));
        let assessment = lock(self.shards.of(facts.principal())).assess(&facts, listing.as_ref());
        Assessed { facts, assessment }
    }

    /// Learns from the decision of a request.
    pub(crate) fn learn(&self, assessed: &Assessed, outcome: RequestOutcome) {
        let mut engine = lock(self.shards.of(assessed.facts.principal()));
        engine.learn(&assessed.facts, &assessed.assessment, outcome);
    }

    /// The factors that the principal has not shown and this risk requires; `None`: none, or that
    /// is left to the policies.
    pub(crate) fn missing_factors(&self, assessment: &Assessment, principal: &Principal) -> Option<MissingFactors> {
        let risk = assessment.effective_risk()?;
        self.settings.factors.missing(risk.level, principal)
    }

    /// Whether a decision depends on the risk though no policy reads it.
    pub(crate) fn factors_are_enforced(&self) -> bool {
        self.settings.factors.are_enforced()
    }

    /// The validity of a decision at this risk, in milliseconds, given that without risk.
    pub(crate) fn valid_for_ms(&self, assessment: &Assessment, configured_ms: u32) -> u32 {
        let at = |level: RiskLevel| self.settings.valid_for_ms.at(level).min(configured_ms);
        assessment.effective_risk().map_or(configured_ms, |risk| at(risk.level))
    }

    /// Replaces the state file by the present baselines.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        state_file::write(&self.state_file, self.shards.all().map(snapshot))
    }

    /// Reads the threat lists whose files have changed; one that is broken leaves the old one in
    /// place.
    pub(crate) fn reload_threat_lists(&self) -> Vec<ThreatListReload> {
        let mut files = self.threat_files.lock().unwrap_or_else(PoisonError::into_inner);
        let (lists, reloads) = files.reload(&self.threats());
        if let Some(lists) = lists {
            *self.threats.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lists);
        }
        reloads
    }

    /// The threat lists as they are now.
    pub(crate) fn threats(&self) -> Arc<ThreatLists> {
        Arc::clone(&self.threats.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Learns from an authentication elsewhere.
    pub(crate) fn report_authentication(
        &self,
        principal: PrincipalKey,
        outcome: AuthenticationOutcome,
        at: Timestamp,
        source: Option<IpAddr>,
    ) -> ReportOutcome {
        let source = source.map(|source| source.to_canonical());
        let report = AuthenticationReport {
            outcome,
            at,
            place: Place::of(source, self.geoip.look_up(source)),
        };
        lock(self.shards.of(Some(principal))).report_authentication(principal, &report)
    }

    /// Learns from how a client is handled, and returns its anomaly score where the principal is
    /// known.
    pub(crate) fn report_dynamics(
        &self,
        principal: PrincipalKey,
        session: SessionKey,
        at: Timestamp,
        measured: Measurements,
    ) -> Option<u32> {
        lock(self.shards.of(Some(principal))).report_dynamics(principal, session, at, measured)
    }

    /// The baseline of a principal.
    pub(crate) fn baseline(&self, principal: PrincipalKey) -> Option<Baseline> {
        lock(self.shards.of(Some(principal))).baseline(&principal).cloned()
    }

    /// The number of principals with a baseline.
    pub(crate) fn principals(&self) -> usize {
        self.shards.all().map(|shard| lock(shard).principals()).sum()
    }

    fn restore(&self, principal: PrincipalKey, baseline: Baseline) {
        lock(self.shards.of(Some(principal))).restore(principal, baseline);
    }
}

impl Shards {
    fn all(&self) -> impl Iterator<Item = &Mutex<RiskEngine>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn of(&self, principal: Option<PrincipalKey>) -> &Mutex<RiskEngine> {
        let index = principal.map_or(0, |principal| principal.shard(SHARDS));
        let other = index.checked_sub(1).and_then(|index| self.others.get(index));
        other.unwrap_or(&self.first)
    }
}

/// A thread that ended while it held the lock has left a baseline that lacks at most its own
/// request.
fn lock(shard: &Mutex<RiskEngine>) -> MutexGuard<'_, RiskEngine> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one shard knows. The lock is held for as long as that is copied, and not while it is
/// written.
fn snapshot(shard: &Mutex<RiskEngine>) -> Vec<(PrincipalKey, Baseline)> {
    let engine = lock(shard);
    engine
        .baselines()
        .map(|(key, baseline)| (key, baseline.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
