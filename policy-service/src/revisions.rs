//! Revisions of policies in the store: which one decides, and how another one comes to decide.
//!
//! A decision is made by one revision as a whole. A revision that was activated decides here from then on, and on each other
//! replica once it has heard of it; a replica that hears nothing gives no decision after [`crate::state::STALE_MS_MAX`].

mod check;
mod operations;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::policy::{self, PolicyEngine, PolicyErrors, PolicyFiles, TimeZone};
use crate::risk::Levels;
use crate::state::{CachedView, Change, Freshness, Snapshot, StorageError};
pub(crate) use check::{Mistake, Mistakes};
pub(crate) use operations::{Attempt, AttemptOutcome, RevisionError};
pub use store::{
    ACTIVATIONS_MAX, Activated, Activation, Choice, Order, PolicyStore, REVISIONS_MAX, Revision, RevisionFile,
};

/// The most bytes of a message with a revision: its files, their names, and what gRPC says of each.
pub const MESSAGE_BYTES_MAX: usize = policy::FILES_BYTES_MAX + 1024 * 1024;

/// How the service evaluates policies, whichever they are.
#[derive(Clone)]
pub(crate) struct Circumstances {
    /// Where clock and calendar are read.
    pub(crate) time_zone: TimeZone,
    /// Where the levels of risks begin that tests state.
    pub(crate) levels: Levels,
}

impl Circumstances {
    /// The same policies in them.
    pub(crate) fn of(&self, engine: PolicyEngine) -> PolicyEngine {
        engine
            .in_time_zone(self.time_zone.clone())
            .with_risk_levels(self.levels)
    }
}

/// The policies that decide.
pub(crate) enum ActivePolicies {
    /// Those of a folder, for the life of the process.
    Folder(PolicyEngine),
    /// The active revision in the store.
    Store(Arc<Revisions>),
}

/// Whether there are policies that decide, and the right ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyState {
    /// The active revision decides.
    Working,
    /// It cannot, or there is none.
    Failing(String),
}

/// The revisions in the store, and the one of them that decides here.
pub(crate) struct Revisions {
    store: Arc<dyn PolicyStore>,
    deciding: Snapshot<Deciding>,
    /// What was read last, so that what is loaded is not loaded again.
    last: Mutex<Deciding>,
    /// What was checked last, which is about to be read.
    checked: Mutex<Option<(u64, PolicyEngine)>>,
    /// One revision is read at a time, and one is activated.
    reading: tokio::sync::Mutex<()>,
    activating: tokio::sync::Mutex<()>,
    circumstances: Circumstances,
    metrics: Arc<Metrics>,
    state: watch::Sender<PolicyState>,
}

/// What decides.
#[derive(Clone, Default)]
struct Deciding {
    /// Which revision is active.
    active: Option<u64>,
    /// The last one that could be loaded, which decides where it is the active one.
    loaded: Option<(u64, PolicyEngine)>,
    /// Why it is another one, so that nothing is decided. It holds no text of a policy.
    failure: Option<String>,
}

impl ActivePolicies {
    /// The policies for one decision, to be asked for once. `None`: there are none, so it is a deny.
    ///
    /// # Errors
    /// The storage was not heard from, so others may decide by now.
    pub(crate) fn current(&self) -> Result<Option<PolicyEngine>, StorageError> {
        match self {
            Self::Folder(engine) => Ok(Some(engine.clone())),
            Self::Store(revisions) => revisions.current(),
        }
    }

    /// Where revisions are kept; `None`: the policies are those of a folder.
    pub(crate) fn revisions(&self) -> Option<&Arc<Revisions>> {
        match self {
            Self::Folder(_) => None,
            Self::Store(revisions) => Some(revisions),
        }
    }
}

impl Revisions {
    pub(crate) fn new(
        store: Arc<dyn PolicyStore>,
        freshness: Arc<Freshness>,
        circumstances: Circumstances,
        metrics: Arc<Metrics>,
    ) -> Self {
        let nothing = Deciding::default();
        Self {
            store,
            deciding: Snapshot::new(freshness),
            checked: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
            activating: tokio::sync::Mutex::new(()),
            circumstances,
            metrics,
            state: watch::Sender::new(nothing.state()),
            last: Mutex::new(nothing),
        }
    }

    fn current(&self) -> Result<Option<PolicyEngine>, StorageError> {
        let deciding = self.deciding.value()?;
        match &deciding.failure {
            // What is active was activated for a reason: older policies do not stand in for it.
            Some(_) => Err(StorageError::Malformed("policy_revision")),
            None => Ok(deciding.loaded.as_ref().map(|(_, engine)| engine.clone())),
        }
    }

    /// Whether the active revision decides, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<PolicyState> {
        self.state.subscribe()
    }

    /// What is to decide, by the storage.
    async fn read_deciding(&self) -> Result<Deciding, StorageError> {
        let active = self.store.active().await?;
        let last = lock(&self.last).clone();
        if active == last.active {
            return Ok(last);
        }
        let Some(number) = active else {
            return Ok(Deciding::default());
        };
        Ok(match self.load(number).await? {
            Ok(engine) => Deciding {
                active,
                loaded: Some((number, engine)),
                failure: None,
            },
            Err(failure) => Deciding {
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
        let circumstances = self.circumstances.clone();
        let load = move || in_revision(number, files).and_then(|files| policy::load_files(&files));
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|_| StorageError::NotDone)?;
        Ok(match loaded {
            // The audit log names what was activated by its digest.
            Ok(engine) if engine.revision() != revision.digest => {
                Err(format!("revision {number} is active, and {ALTERED}"))
            }
            Ok(engine) => Ok(circumstances.of(engine)),
            Err(errors) => {
                log_mistakes(number, &errors);
                Err(format!("revision {number} is active and cannot be loaded"))
            }
        })
    }

    /// Tells the log, the metrics and whoever asks for the state what decides from now on.
    fn tell(&self, deciding: &Deciding) {
        let (number, revision, policies) = match &deciding.loaded {
            Some((number, engine)) => (*number, engine.revision(), engine.policy_count()),
            None => (0, NO_REVISION, 0),
        };
        self.metrics.policies_decide(revision, policies, number);
        self.metrics.policies_loaded(deciding.failure.is_none());
        match &deciding.failure {
            None => tracing::info!(number, policy_revision = revision, "these policies decide"),
            Some(failure) => tracing::error!(number, policy_revision = revision, failure, "nothing is decided"),
        }
        self.state.send_replace(deciding.state());
    }
}

/// Said of a revision that somebody has changed in the database.
const ALTERED: &str = "it is not what was activated: its files have another digest";

/// What decisions name where no policies decide.
pub(crate) const NO_REVISION: &str = "none";

#[async_trait]
impl CachedView for Revisions {
    fn apply_change(&self, change: Change) {
        match change {
            Change::Policies => self.deciding.changed_elsewhere(),
            Change::Anything => self.deciding.forget(),
            Change::Session(_) | Change::Device(_) | Change::Standing | Change::Roles => {}
        }
    }

    fn is_current(&self) -> bool {
        self.deciding.is_current()
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        let _alone = self.reading.lock().await;
        self.deciding
            .read(async || {
                let deciding = self.read_deciding().await?;
                let was = std::mem::replace(&mut *lock(&self.last), deciding.clone());
                if was.active != deciding.active {
                    self.tell(&deciding);
                }
                Ok(deciding)
            })
            .await
    }
}

impl Deciding {
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

/// Tells the log where a revision is wrong. The mistake itself could quote a policy.
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
