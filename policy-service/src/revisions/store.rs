//! What revisions of policies need of a store.

use async_trait::async_trait;

use crate::state::StorageError;

/// How many revisions are held; none is ever removed, as the audit log names them. One each working day for forty years.
pub const REVISIONS_MAX: u64 = 10_000;
/// How many activations are held, those of older revisions included.
pub const ACTIVATIONS_MAX: u64 = 100_000;

/// A revision of policies, without its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number; the first is 1, and none is left out.
    pub number: u64,
    /// What decisions name it by: a digest of its policies.
    pub digest: String,
    /// The SPIFFE ID of whoever made it.
    pub author: String,
    /// What they said about it.
    pub comment: String,
    /// When, in microseconds since the epoch.
    pub created_us: i64,
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionFile {
    /// Its name, with `tests/` before it where it holds tests.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Who makes a revision the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Their SPIFFE ID.
    pub caller: String,
    /// What they say about it.
    pub comment: String,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
    /// Which revision they believe to be active (`Some(None)`: none); `None`: whichever.
    pub expected_active: Option<Option<u64>>,
}

/// What is made the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A new revision.
    New {
        /// Its digest.
        digest: String,
        /// Its files.
        files: Vec<RevisionFile>,
    },
    /// One that is there.
    Existing(u64),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// The revision of this number is active.
    Done(u64),
    /// Nothing was done: this one is active, and another was expected.
    OtherActive(Option<u64>),
    /// Nothing was done: there is no such revision.
    NoSuchRevision,
    /// Nothing was done: there are as many revisions or activations as there may be.
    TooMany,
}

/// That a revision became the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its place in the history; the first is 1.
    pub id: u64,
    /// Which became active.
    pub number: u64,
    /// Its digest.
    pub digest: String,
    /// Which was active before.
    pub previous: Option<u64>,
    /// Who did it.
    pub caller: String,
    /// What they said.
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
    async fn activate(&self, choice: Choice, order: Order) -> Result<Activated, StorageError>;

    /// One revision with its files, in the order of their names.
    async fn revision(&self, number: u64) -> Result<Option<(Revision, Vec<RevisionFile>)>, StorageError>;

    /// Revisions without their files, the newest first, before one of them.
    async fn revisions(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>, StorageError>;

    /// Activations, the latest first, before one of them.
    async fn activations(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>, StorageError>;
}
