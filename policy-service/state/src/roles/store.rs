//! The port of role assignments to the storage.

use async_trait::async_trait;

use crate::StorageError;

/// How many role assignments are stored; each replica caches all of them.
pub const ROLE_ASSIGNMENTS_MAX: u64 = 100_000;

/// A role of a principal, and where it counts. There is at most one assignment of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleKey {
    /// The issuer of the principal's tokens.
    pub issuer: String,
    /// The principal, as its tokens' `sub`.
    pub subject: String,
    /// The role, as policies name it.
    pub role: String,
    /// Only where the principal's token says this tenant; `None`: wherever.
    pub tenant: Option<String>,
}

/// A role that an operator has assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Which, to whom.
    pub key: RoleKey,
    /// When it ends, in microseconds since the epoch; `None`: when it is withdrawn.
    pub until_us: Option<i64>,
    /// The SPIFFE ID of the operator who assigned it last.
    pub author: String,
    /// When, in microseconds since the epoch.
    pub at_us: i64,
}

/// The result of [`RoleStore::assign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentResult {
    /// The role is assigned.
    Done,
    /// It was assigned before, with the same end.
    Unchanged,
    /// Nothing was done: the limit of assignments is reached.
    TooMany,
}

/// Which assignments are listed; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFilter {
    /// Of principals of this issuer.
    pub issuer: Option<String>,
    /// Of principals of this name.
    pub subject: Option<String>,
    /// Of this role.
    pub role: Option<String>,
    /// For this tenant alone.
    pub tenant: Option<String>,
}

/// Role assignments, durable.
#[async_trait]
pub trait RoleStore: Send + Sync {
    /// All of them, those that have ended included.
    async fn roles(&self) -> Result<Vec<RoleAssignment>, StorageError>;

    /// Assigns a role, or gives an assignment another end. Assignments that have ended make room.
    async fn assign(&self, assignment: RoleAssignment) -> Result<AssignmentResult, StorageError>;

    /// Withdraws a role. False: it was not assigned.
    async fn withdraw(&self, key: RoleKey) -> Result<bool, StorageError>;

    /// Assignments with their places in the order in which they were made, after one of them.
    async fn roles_page(
        &self,
        filter: RoleFilter,
        after: u64,
        count_max: u32,
    ) -> Result<Vec<(u64, RoleAssignment)>, StorageError>;
}
