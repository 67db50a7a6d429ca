//! Revisions of policies in the store: which one decides, and how another one comes to decide.
//!
//! A decision is made by one revision as a whole. A revision that was activated decides here from then on, and on each other
//! replica once it has heard of it; a replica that hears nothing gives no decision after [`crate::storage::STALE_MS_MAX`].

mod check;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::policy::{self, PolicyEngine, PolicyErrors, PolicyFiles, TimeZone};
use crate::risk::Levels;
use crate::storage::{
    Activated, Activation, Change, Choice, Freshness, Order, Part, PolicyStore, Revision, RevisionFile, Snapshot,
    StorageError,
};
use check::Checked;
pub(crate) use check::{Mistake, Mistakes};

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

/// What became of an attempt to activate a revision.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The number and digest of the revision; the number is not there where none was made.
    pub(crate) number: Option<u64>,
    pub(crate) digest: String,
    pub(crate) outcome: AttemptOutcome,
    pub(crate) policies: usize,
    /// How many of its own tests passed.
    pub(crate) cases: usize,
    pub(crate) warnings: Vec<Mistake>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum AttemptOutcome {
    /// It decides from now on.
    Activated,
    /// It was active before.
    Unchanged,
    /// It is good, and was only to be checked.
    Checked,
    /// It is not good. Nothing was changed.
    Refused(Mistakes),
}

/// Why nothing is known of an attempt, or nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevisionError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{} is active, and {} was expected", active_text(*.active), active_text(*.expected))]
    OtherActive { active: Option<u64>, expected: Option<u64> },
    #[error("there is no such revision")]
    NoSuchRevision,
    #[error("as many revisions or activations are held as there may be")]
    TooMany,
    /// The check ended in the middle.
    #[error("the policies could not be checked")]
    Cut,
}

impl RevisionError {
    /// Whether it is known that nothing was done.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::OtherActive { .. } | Self::NoSuchRevision | Self::TooMany => true,
            Self::Storage(_) | Self::Cut => false,
        }
    }
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

    /// The number of the active revision.
    pub(crate) async fn active(&self) -> Result<Option<u64>, StorageError> {
        self.store.active().await
    }

    /// Revisions without their files, the newest first.
    pub(crate) async fn list(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>, StorageError> {
        self.store.revisions(before, count_max).await
    }

    /// One revision; `None`: the active one.
    pub(crate) async fn show(&self, number: Option<u64>) -> Result<(Revision, Vec<RevisionFile>), RevisionError> {
        let number = match number {
            Some(number) => number,
            None => self.store.active().await?.ok_or(RevisionError::NoSuchRevision)?,
        };
        let found = self.store.revision(number).await?;
        found.ok_or(RevisionError::NoSuchRevision)
    }

    /// Activations, the latest first.
    pub(crate) async fn history(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>, StorageError> {
        self.store.activations(before, count_max).await
    }

    /// Checks files, and nothing else.
    pub(crate) async fn validate(&self, files: PolicyFiles) -> Result<Attempt, RevisionError> {
        // Each takes a processor for as long as it takes.
        let _alone = self.activating.lock().await;
        Ok(match self.check(files).await? {
            Ok(checked) => checked.attempt(None, AttemptOutcome::Checked),
            Err(mistakes) => Attempt::refused(mistakes),
        })
    }

    /// Makes a new revision of these files the active one, if they are good.
    pub(crate) async fn activate(&self, files: PolicyFiles, order: Order) -> Result<Attempt, RevisionError> {
        let _alone = self.activating.lock().await;
        let checked = match self.check(files.clone()).await? {
            Ok(checked) => checked,
            Err(mistakes) => return Ok(Attempt::refused(mistakes)),
        };
        let active = self.expect(&order).await?;
        if let Some(number) = active
            && let Some((_, held)) = self.store.revision(number).await?
            && in_revision(number, held).is_ok_and(|held| held.holds_the_same(&files))
        {
            return Ok(checked.attempt(Some(number), AttemptOutcome::Unchanged));
        }
        let file = |(name, text): (String, &str)| RevisionFile {
            name,
            text: text.to_owned(),
        };
        let choice = Choice::New {
            digest: checked.engine.revision().to_owned(),
            files: files.iter().map(file).collect(),
        };
        self.put(choice, order, checked).await
    }

    /// Makes an older revision the active one, if it is still good.
    pub(crate) async fn roll_back(&self, number: u64, order: Order) -> Result<Attempt, RevisionError> {
        let _alone = self.activating.lock().await;
        let (revision, held) = self.show(Some(number)).await?;
        let checked = match in_revision(number, held) {
            Ok(files) => self.check(files).await?,
            Err(errors) => Err(Mistakes::of(&errors)),
        };
        let checked = match checked {
            Ok(checked) if checked.engine.revision() != revision.digest => {
                return Ok(Attempt::refused(Mistakes::of_all(ALTERED)));
            }
            Ok(checked) => checked,
            Err(mistakes) => return Ok(Attempt::refused(mistakes)),
        };
        if self.expect(&order).await? == Some(number) {
            return Ok(checked.attempt(Some(number), AttemptOutcome::Unchanged));
        }
        self.put(Choice::Existing(number), order, checked).await
    }

    /// Which revision is active, where it is the one that is expected.
    async fn expect(&self, order: &Order) -> Result<Option<u64>, RevisionError> {
        let active = self.store.active().await?;
        match order.expected_active {
            Some(expected) if expected != active => Err(RevisionError::OtherActive { active, expected }),
            Some(_) | None => Ok(active),
        }
    }

    async fn put(&self, choice: Choice, order: Order, checked: Checked) -> Result<Attempt, RevisionError> {
        let expected = order.expected_active.flatten();
        let number = match self.store.activate(choice, order).await? {
            Activated::Done(number) => number,
            Activated::OtherActive(active) => return Err(RevisionError::OtherActive { active, expected }),
            Activated::NoSuchRevision => return Err(RevisionError::NoSuchRevision),
            Activated::TooMany => return Err(RevisionError::TooMany),
        };
        *lock(&self.checked) = Some((number, checked.engine.clone()));
        self.deciding.changed();
        // It is active whatever comes now, and nothing is decided here before it is read.
        if let Err(error) = self.read().await {
            tracing::warn!(%error, number, "the revision that was activated is not read yet");
        }
        Ok(checked.attempt(Some(number), AttemptOutcome::Activated))
    }

    /// Beside the decisions: it takes as long as there are policies and tests.
    async fn check(&self, files: PolicyFiles) -> Result<Result<Checked, Mistakes>, RevisionError> {
        let circumstances = self.circumstances.clone();
        let checked = tokio::task::spawn_blocking(move || check::check(&files, &circumstances)).await;
        checked.map_err(|_| RevisionError::Cut)
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
            Err(errors) => Err(failure_text(number, &errors)),
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
impl Part for Revisions {
    fn changed(&self, change: Change) {
        match change {
            Change::Policies => self.deciding.changed_elsewhere(),
            Change::Anything => self.deciding.forget(),
            Change::Session(_) | Change::Standing | Change::Roles => {}
        }
    }

    fn is_current(&self) -> bool {
        self.deciding.is_current()
    }

    async fn read(&self) -> Result<(), StorageError> {
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

impl Attempt {
    /// It is not good.
    pub(crate) fn refused(mistakes: Mistakes) -> Self {
        Self {
            number: None,
            digest: String::new(),
            outcome: AttemptOutcome::Refused(mistakes),
            policies: 0,
            cases: 0,
            warnings: Vec::new(),
        }
    }
}

impl Checked {
    fn attempt(self, number: Option<u64>, outcome: AttemptOutcome) -> Attempt {
        Attempt {
            number,
            digest: self.engine.revision().to_owned(),
            outcome,
            policies: self.engine.policy_count(),
            cases: self.cases,
            warnings: self.warnings,
        }
    }
}

fn in_revision(number: u64, files: Vec<RevisionFile>) -> Result<PolicyFiles, PolicyErrors> {
    let files = files.into_iter().map(|file| (file.name, file.text));
    PolicyFiles::of(&PathBuf::from(format!("revision {number}")), files)
}

/// Where a revision is wrong. The mistake itself could quote a policy.
fn failure_text(number: u64, errors: &PolicyErrors) -> String {
    let count = errors.as_slice().len();
    let line = |line: Option<usize>| line.map(|line| format!(":{line}")).unwrap_or_default();
    let first = errors.as_slice().first();
    let first = first.map(|error| format!(", the first in {}{}", error.file.display(), line(error.line)));
    let first = first.unwrap_or_default();
    format!("revision {number} is active and cannot be loaded: {count} mistakes{first}")
}

fn active_text(number: Option<u64>) -> String {
    match number {
        Some(number) => format!("revision {number}"),
        None => "none".to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
