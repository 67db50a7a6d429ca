//! The port of policy revisions to the storage.

use async_trait::async_trait;

use crate::StorageError;

/// How many revisions are stored: one each working day for forty years. None is ever deleted, as
/// the audit log names them.
pub const REVISIONS_MAX: u64 = 10_000;
/// How many activations are stored, those of older revisions included.
pub const ACTIVATIONS_MAX: u64 = 100_000;

/// A revision of policies, without its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number, counted from 1 without gaps.
    pub number: u64,
    /// Its name in decisions: a digest of its policies.
    pub digest: String,
    /// The SPIFFE ID of its author.
    pub author: String,
    /// The author's comment.
    pub comment: String,
    /// When, in microseconds since the epoch.
    pub created_us: i64,
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionFile {
    /// Its name, with `tests/` before it where it holds tests.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// An operator's request to make a revision the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationRequest {
    /// The operator's SPIFFE ID.
    pub caller: String,
    /// The operator's comment.
    pub comment: String,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// The revision that has to be active before (`Some(None)`: none); `None`: any.
    pub expected_active: Option<Option<u64>>,
}

/// The revision to be activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivationSource {
    /// A new revision.
    New {
        /// Its digest.
        digest: String,
        /// Its files.
        files: Vec<RevisionFile>,
    },
    /// A stored revision, by its number.
    Existing(u64),
}

/// The result of [`PolicyStore::activate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationResult {
    /// The revision of this number is active.
    Done(u64),
    /// Nothing was done: this one is active, and another was expected.
    OtherActive(Option<u64>),
    /// Nothing was done: there is no such revision.
    NoSuchRevision,
    /// Nothing was done: the limit of revisions or activations is reached.
    TooMany,
}

/// An entry of the history: a revision became the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its number in the history, counted from 1.
    pub id: u64,
    /// The revision that became active.
    pub number: u64,
    /// Its digest.
    pub digest: String,
    /// The revision that was active before.
    pub previous: Option<u64>,
    /// The operator's SPIFFE ID.
    pub caller: String,
    /// The operator's comment.
    pub comment: String,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
}

/// Revisions of policies, durable and never changed, and which one of them is active.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// The number of the active revision.
    async fn active(&self) -> Result<Option<u64>, StorageError>;

    /// Makes a revision the active one, whole or not at all.
    async fn activate(
        &self,
        source: ActivationSource,
        request: ActivationRequest,
    ) -> Result<ActivationResult, StorageError>;

    /// One revision with its files, in the order of their names.
    async fn revision(&self, number: u64) -> Result<Option<(Revision, Vec<RevisionFile>)>, StorageError>;

    /// Revisions without their files, the newest first, before one of them.
    async fn revisions(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>, StorageError>;

    /// Activations, the latest first, before one of them.
    async fn activations(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>, StorageError>;
}
