//! What operators do with revisions. What is acknowledged is durable, and decides here from then on.

use super::check::{self, Checked, Mistake, Mistakes};
use super::{ALTERED, Revisions, in_revision, lock};
use super::{Activated, Activation, Choice, Order, Revision, RevisionFile};
use crate::policy::PolicyFiles;
use crate::state::{CachedView, StorageError};

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

impl Revisions {
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
        if let Err(error) = self.refresh().await {
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

fn active_text(number: Option<u64>) -> String {
    match number {
        Some(number) => format!("revision {number}"),
        None => "none".to_owned(),
    }
}
