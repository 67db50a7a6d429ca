//! Operators' access to revisions. An activation that was acknowledged is durable, and decides here
//! from then on.

use picket_policy::PolicyFiles;

use super::check::{self, Checked, RevisionProblem, RevisionProblems};
use super::{ALTERED, Revisions, in_revision, lock};
use super::{Activation, ActivationRequest, ActivationResult, ActivationSource, Revision, RevisionFile};
use crate::{CachedView, StorageError};

/// An attempt to activate a revision, and its result.
#[derive(Debug)]
pub struct ActivationAttempt {
    /// The number of the revision; `None`: none was made.
    pub number: Option<u64>,
    /// The digest of the revision.
    pub digest: String,
    /// The result.
    pub outcome: ActivationOutcome,
    /// The number of its policies.
    pub policies: usize,
    /// How many of its own tests passed.
    pub cases: usize,
    /// Warnings about its policies.
    pub warnings: Vec<RevisionProblem>,
}

/// The result of an attempt.
#[derive(Debug)]
pub enum ActivationOutcome {
    /// It decides from now on.
    Activated,
    /// It was active before.
    Unchanged,
    /// It is valid, and was only to be checked.
    Checked,
    /// It has problems. Nothing was changed.
    Refused(RevisionProblems),
}

/// Why an attempt has no result, or nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another revision is active than the expected one.
    #[error("{} is active, and {} was expected", active_text(*.active), active_text(*.expected))]
    OtherActive {
        /// The active revision.
        active: Option<u64>,
        /// The expected one.
        expected: Option<u64>,
    },
    /// No revision has the number.
    #[error("there is no such revision")]
    NoSuchRevision,
    /// The limit of revisions or activations is reached.
    #[error("as many revisions or activations are held as there may be")]
    TooMany,
    /// The check did not end.
    #[error("the policies could not be checked")]
    CheckFailed,
}

impl RevisionError {
    /// Whether it is known that nothing was done.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::OtherActive { .. } | Self::NoSuchRevision | Self::TooMany => true,
            Self::Storage(_) | Self::CheckFailed => false,
        }
    }
}

impl Revisions {
    /// The number of the active revision.
    pub async fn active(&self) -> Result<Option<u64>, StorageError> {
        self.store.active().await
    }

    /// Revisions without their files, the newest first.
    pub async fn list(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>, StorageError> {
        self.store.revisions(before, count_max).await
    }

    /// One revision; `None`: the active one.
    pub async fn show(&self, number: Option<u64>) -> Result<(Revision, Vec<RevisionFile>), RevisionError> {
        let number = match number {
            Some(number) => number,
            None => self.store.active().await?.ok_or(RevisionError::NoSuchRevision)?,
        };
        let found = self.store.revision(number).await?;
        found.ok_or(RevisionError::NoSuchRevision)
    }

    /// Activations, the latest first.
    pub async fn history(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>, StorageError> {
        self.store.activations(before, count_max).await
    }

    /// Checks files, and changes nothing.
    pub async fn validate(&self, files: PolicyFiles) -> Result<ActivationAttempt, RevisionError> {
        // Each takes a processor for as long as it takes.
        let _alone = self.activating.lock().await;
        Ok(match self.check(files).await? {
            Ok(checked) => checked.attempt(None, ActivationOutcome::Checked),
            Err(problems) => ActivationAttempt::refused(problems),
        })
    }

    /// Makes a new revision of these files the active one, if they are valid.
    pub async fn activate(
        &self,
        files: PolicyFiles,
        request: ActivationRequest,
    ) -> Result<ActivationAttempt, RevisionError> {
        let _alone = self.activating.lock().await;
        let checked = match self.check(files.clone()).await? {
            Ok(checked) => checked,
            Err(problems) => return Ok(ActivationAttempt::refused(problems)),
        };
        let active = self.check_expected(&request).await?;
        if let Some(number) = active
            && let Some((_, held)) = self.store.revision(number).await?
            && in_revision(number, held).is_ok_and(|held| held.has_same_content(&files))
        {
            return Ok(checked.attempt(Some(number), ActivationOutcome::Unchanged));
        }
        let file = |(name, text): (String, &str)| RevisionFile {
            name,
            text: text.to_owned(),
        };
        let source = ActivationSource::New {
            digest: checked.engine.revision().to_owned(),
            files: files.iter().map(file).collect(),
        };
        self.activate_checked(source, request, checked).await
    }

    /// Makes an older revision the active one, if it is still valid.
    pub async fn roll_back(&self, number: u64, request: ActivationRequest) -> Result<ActivationAttempt, RevisionError> {
        let _alone = self.activating.lock().await;
        let (revision, held) = self.show(Some(number)).await?;
        let checked = match in_revision(number, held) {
            Ok(files) => self.check(files).await?,
            Err(errors) => Err(RevisionProblems::of(&errors)),
        };
        let checked = match checked {
            Ok(checked) if checked.engine.revision() != revision.digest => {
                return Ok(ActivationAttempt::refused(RevisionProblems::of_all(ALTERED)));
            }
            Ok(checked) => checked,
            Err(problems) => return Ok(ActivationAttempt::refused(problems)),
        };
        if self.check_expected(&request).await? == Some(number) {
            return Ok(checked.attempt(Some(number), ActivationOutcome::Unchanged));
        }
        self.activate_checked(ActivationSource::Existing(number), request, checked)
            .await
    }

    /// The active revision, where it is the expected one.
    async fn check_expected(&self, request: &ActivationRequest) -> Result<Option<u64>, RevisionError> {
        let active = self.store.active().await?;
        match request.expected_active {
            Some(expected) if expected != active => Err(RevisionError::OtherActive { active, expected }),
            Some(_) | None => Ok(active),
        }
    }

    async fn activate_checked(
        &self,
        source: ActivationSource,
        request: ActivationRequest,
        checked: Checked,
    ) -> Result<ActivationAttempt, RevisionError> {
        let expected = request.expected_active.flatten();
        let number = match self.store.activate(source, request).await? {
            ActivationResult::Done(number) => number,
            ActivationResult::OtherActive(active) => return Err(RevisionError::OtherActive { active, expected }),
            ActivationResult::NoSuchRevision => return Err(RevisionError::NoSuchRevision),
            ActivationResult::TooMany => return Err(RevisionError::TooMany),
        };
        *lock(&self.checked) = Some((number, checked.engine.clone()));
        self.active_revision.changed();
        // It is active whatever comes now, and nothing is decided here before it is read.
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, number, "the revision that was activated is not read yet");
        }
        Ok(checked.attempt(Some(number), ActivationOutcome::Activated))
    }

    /// On a thread of its own: the time grows with the policies and their tests.
    async fn check(&self, files: PolicyFiles) -> Result<Result<Checked, RevisionProblems>, RevisionError> {
        let evaluation = self.evaluation.clone();
        let checked = tokio::task::spawn_blocking(move || check::check(&files, &evaluation)).await;
        checked.map_err(|_| RevisionError::CheckFailed)
    }
}

impl ActivationAttempt {
    /// An attempt with a revision that has problems.
    pub fn refused(problems: RevisionProblems) -> Self {
        Self {
            number: None,
            digest: String::new(),
            outcome: ActivationOutcome::Refused(problems),
            policies: 0,
            cases: 0,
            warnings: Vec::new(),
        }
    }
}

impl Checked {
    fn attempt(self, number: Option<u64>, outcome: ActivationOutcome) -> ActivationAttempt {
        ActivationAttempt {
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
