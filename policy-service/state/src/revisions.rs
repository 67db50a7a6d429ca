//! Revisions of the policies in the storage: which one is active, and how an operator activates
//! another one.
//!
//! A decision is made by one revision as a whole ([`ActivePolicies::current`]). A revision that was
//! activated decides here from then on, and on each other replica as soon as it is notified; a
//! replica without a confirmed database connection gives no decision after [`crate::STALE_MS_MAX`].
//! A revision is activated only if it loads strictly and passes its own tests.
//!
//! [`PolicyStore`] is the port to the storage.

mod administration;
mod check;
mod metrics;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use picket_policy::{PolicyEngine, PolicyErrors, PolicyFiles, TimeZone};
use picket_risk::Levels;
use tokio::sync::watch;

use crate::{CachedView, Change, Freshness, Snapshot, StorageError};
pub use administration::{ActivationAttempt, ActivationOutcome, RevisionError};
pub use check::{RevisionProblem, RevisionProblems};
pub use metrics::PolicyMetrics;
pub use store::{
    ACTIVATIONS_MAX, Activation, ActivationRequest, ActivationResult, ActivationSource, PolicyStore, REVISIONS_MAX,
    Revision, RevisionFile,
};

/// The settings of every evaluation, whichever policies are active.
#[derive(Clone)]
pub struct EvaluationSettings {
    /// The time zone of clock and calendar.
    pub time_zone: TimeZone,
    /// The limits of the risk levels in tests.
    pub levels: Levels,
}

impl EvaluationSettings {
    /// The same policies with these settings.
    pub fn apply_to(&self, engine: PolicyEngine) -> PolicyEngine {
        engine
            .in_time_zone(self.time_zone.clone())
            .with_risk_levels(self.levels)
    }
}

/// The policies that decide.
pub enum ActivePolicies {
    /// Those of a folder, for the life of the process.
    Folder(PolicyEngine),
    /// The active revision in the store.
    Store(Arc<Revisions>),
}

/// Whether there are policies that decide, and the right ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyState {
    /// The active revision decides.
    Working,
    /// It cannot, or there is none.
    Failing(String),
}

/// The revisions in the storage, and the one that decides here.
pub struct Revisions {
    store: Arc<dyn PolicyStore>,
    active_revision: Snapshot<ActiveRevision>,
    /// The revision that was read last, so that it is not loaded again.
    last: Mutex<ActiveRevision>,
    /// The revision that was checked last, which is about to be read.
    checked: Mutex<Option<(u64, PolicyEngine)>>,
    /// One revision is read at a time, and one is activated.
    reading: tokio::sync::Mutex<()>,
    activating: tokio::sync::Mutex<()>,
    evaluation: EvaluationSettings,
    metrics: PolicyMetrics,
    state: watch::Sender<PolicyState>,
}

/// The active revision, as far as it could be loaded.
#[derive(Clone, Default)]
struct ActiveRevision {
    /// Its number.
    active: Option<u64>,
    /// The last revision that could be loaded. It decides where it is the active one.
    loaded: Option<(u64, PolicyEngine)>,
    /// Why the active one could not be loaded, so that nothing is decided. It has no text of a
    /// policy.
    failure: Option<String>,
}

impl ActivePolicies {
    /// The policies for one decision, to be taken once. `None`: no revision is active, so the
    /// decision is a deny.
    ///
    /// # Errors
    /// The storage is not confirmed, so another revision may be active by now.
    pub fn current(&self) -> Result<Option<PolicyEngine>, StorageError> {
        match self {
            Self::Folder(engine) => Ok(Some(engine.clone())),
            Self::Store(revisions) => revisions.current(),
        }
    }

    /// Where revisions are kept; `None`: the policies are those of a folder.
    pub fn revisions(&self) -> Option<&Arc<Revisions>> {
        match self {
            Self::Folder(_) => None,
            Self::Store(revisions) => Some(revisions),
        }
    }
}

impl Revisions {
    /// Before anything is read from the storage.
    pub fn new(
        store: Arc<dyn PolicyStore>,
        freshness: Arc<Freshness>,
        evaluation: EvaluationSettings,
        metrics: PolicyMetrics,
    ) -> Self {
        let nothing = ActiveRevision::default();
        Self {
            store,
            active_revision: Snapshot::new(freshness),
            checked: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
            activating: tokio::sync::Mutex::new(()),
            evaluation,
            metrics,
            state: watch::Sender::new(nothing.state()),
            last: Mutex::new(nothing),
        }
    }

    fn current(&self) -> Result<Option<PolicyEngine>, StorageError> {
        let active = self.active_revision.value()?;
        match &active.failure {
            // What is active was activated for a reason: older policies do not stand in for it.
            Some(_) => Err(StorageError::Malformed("policy_revision")),
            None => Ok(active.loaded.as_ref().map(|(_, engine)| engine.clone())),
        }
    }

    /// Whether the active revision decides, and its changes.
    pub fn state(&self) -> watch::Receiver<PolicyState> {
        self.state.subscribe()
    }

    /// The active revision in the storage.
    async fn read_active(&self) -> Result<ActiveRevision, StorageError> {
        let active = self.store.active().await?;
        let last = lock(&self.last).clone();
        if active == last.active {
            return Ok(last);
        }
        let Some(number) = active else {
            return Ok(ActiveRevision::default());
        };
        Ok(match self.load(number).await? {
            Ok(engine) => ActiveRevision {
                active,
                loaded: Some((number, engine)),
                failure: None,
            },
            Err(failure) => ActiveRevision {
                active,
                loaded: last.loaded,
                failure: Some(failure),
            },
        })
    }

    async fn load(&self, number: u64) -> Result<Result<PolicyEngine, String>, StorageError> {
        if let Some((_, engine)) = lock(&self.checked).take_if(|(checked, _)| *checked == number) {
            return Ok(Ok(engine));
        }
        let Some((revision, files)) = self.store.revision(number).await? else {
            return Err(StorageError::Malformed("policy_revision"));
        };
        let evaluation = self.evaluation.clone();
        let load = move || in_revision(number, files).and_then(|files| picket_policy::load_files(&files));
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|_| StorageError::NotDone)?;
        Ok(match loaded {
            // The audit log names what was activated by its digest.
            Ok(engine) if engine.revision() != revision.digest => {
                Err(format!("revision {number} is active, and {ALTERED}"))
            }
            Ok(engine) => Ok(evaluation.apply_to(engine)),
            Err(errors) => {
                log_mistakes(number, &errors);
                Err(format!("revision {number} is active and cannot be loaded"))
            }
        })
    }

    /// Publishes the active revision to the log, the metrics and readers of the state.
    fn publish(&self, active: &ActiveRevision) {
        let (number, revision, policies) = match &active.loaded {
            Some((number, engine)) => (*number, engine.revision(), engine.policy_count()),
            None => (0, NO_REVISION, 0),
        };
        self.metrics.set_active(revision, policies, number);
        self.metrics.count_load(active.failure.is_none());
        match &active.failure {
            None => tracing::info!(number, policy_revision = revision, "these policies decide"),
            Some(failure) => tracing::error!(number, policy_revision = revision, failure, "nothing is decided"),
        }
        self.state.send_replace(active.state());
    }
}

/// The failure of a revision that was changed in the database.
const ALTERED: &str = "it is not what was activated: its files have another digest";

/// The revision in decisions where no revision is active.
pub const NO_REVISION: &str = "none";

#[async_trait]
impl CachedView for Revisions {
    fn apply_change(&self, change: Change) {
        match change {
            Change::Policies => self.active_revision.changed_elsewhere(),
            Change::Anything => self.active_revision.forget(),
            Change::Session(_) | Change::Device(_) | Change::Restrictions | Change::Roles => {}
        }
    }

    fn is_current(&self) -> bool {
        self.active_revision.is_current()
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        let _alone = self.reading.lock().await;
        self.active_revision
            .read(async || {
                let active = self.read_active().await?;
                let was = std::mem::replace(&mut *lock(&self.last), active.clone());
                if was.active != active.active {
                    self.publish(&active);
                }
                Ok(active)
            })
            .await
    }
}

impl ActiveRevision {
    fn state(&self) -> PolicyState {
        match (&self.failure, &self.loaded) {
            (Some(failure), _) => PolicyState::Failing(failure.clone()),
            (None, Some(_)) => PolicyState::Working,
            (None, None) => PolicyState::Failing("no revision of the policies is active".to_owned()),
        }
    }
}

fn in_revision(number: u64, files: Vec<RevisionFile>) -> Result<PolicyFiles, PolicyErrors> {
    let files = files.into_iter().map(|file| (file.name, file.text));
    PolicyFiles::of(&PathBuf::from(format!("revision {number}")), files)
}

/// Logs where a revision has problems. A problem itself could quote a policy.
fn log_mistakes(number: u64, errors: &PolicyErrors) {
    let count = errors.as_slice().len();
    if let Some(first) = errors.as_slice().first() {
        let (file, line) = (first.file.display(), first.line);
        tracing::error!(number, mistakes = count, %file, line, "a revision cannot be loaded");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
