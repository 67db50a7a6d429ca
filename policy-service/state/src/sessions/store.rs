//! The port of sessions and revocations to the storage.

use async_trait::async_trait;

use super::{Lockdown, Restrictions, RevocationTarget, Session, SessionEnd};
use crate::{ListFilter, PrincipalId, SessionId, StorageError};

/// How many sessions a principal may have at once, and which of its sessions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// The number of sessions, the new one included; at least 1.
    pub max: u32,
    /// Sessions with this first request or an earlier one have reached their absolute timeout.
    pub first_seen_after_us: i64,
    /// Sessions with this last use or an earlier one are idle.
    pub last_seen_after_us: i64,
}

/// The result of [`SessionStore::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCreation {
    /// The session was created, and these sessions of its principal were ended for it.
    Created {
        /// The oldest of those that counted.
        superseded: Vec<SessionId>,
    },
    /// A session of this id exists.
    Existing(Box<Session>),
}

/// Tokens and sessions from before a time are no longer accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens and sessions.
    pub target: RevocationTarget,
    /// The name of the target, for people.
    pub label: String,
    /// The time, in microseconds since the epoch.
    pub until_us: i64,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

/// Which sessions have not timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSince {
    /// Sessions with this first request or an earlier one have reached their absolute timeout.
    pub first_seen_after_us: i64,
    /// Sessions with this last use or an earlier one are idle.
    pub last_seen_after_us: i64,
}

/// How many sessions are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Of all principals.
    pub all: u64,
    /// Of principals without a tenant.
    pub without_tenant: u64,
    /// Of tenants, by their stored name; those with the most come first.
    pub tenants: Vec<(String, u64)>,
}

/// How many rows [`SessionStore::delete_expired`] has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedRows {
    /// Sessions.
    pub sessions: u64,
    /// Revocations.
    pub revocations: u64,
}

/// Sessions and revocations, durable.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// One session.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StorageError>;

    /// Creates a session where there is none of this id, and ends the oldest sessions of its
    /// principal beyond the limit.
    async fn create(&self, session: Session, limit: ConcurrencyLimit) -> Result<SessionCreation, StorageError>;

    /// Ends a session that has not ended and was not used after `used_until_us`. False: it does not
    /// exist, has ended, or was used.
    async fn end(&self, id: SessionId, end: SessionEnd, used_until_us: i64) -> Result<bool, StorageError>;

    /// Records the last uses of sessions, in microseconds since the epoch. A use earlier than the
    /// stored one changes nothing.
    async fn record_uses(&self, uses: Vec<(SessionId, i64)>) -> Result<(), StorageError>;

    /// Sessions in order of their ids, after one of them.
    async fn sessions(
        &self,
        filter: ListFilter,
        after: Option<SessionId>,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError>;

    /// Of each principal that has live sessions, the session that was used last; in order of the
    /// principals, after one of them.
    async fn last_sessions(
        &self,
        after: Option<PrincipalId>,
        live: LiveSince,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError>;

    /// How many sessions are stored, in all and of each tenant with the most. It may take seconds.
    async fn counts(&self, tenants_max: u32) -> Result<SessionCounts, StorageError>;

    /// Deletes at most `count_max` sessions that were last used before a time, and the revocations
    /// from before another.
    async fn delete_expired(
        &self,
        seen_before_us: i64,
        revoked_before_us: i64,
        count_max: u32,
    ) -> Result<DeletedRows, StorageError>;

    /// What operators have ordered.
    async fn restrictions(&self) -> Result<Restrictions, StorageError>;

    /// Revokes. An earlier time than the stored one changes nothing.
    async fn revoke(&self, revocation: Revocation) -> Result<(), StorageError>;

    /// Sets or takes back lockdown. False: it was so before.
    async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError>;
}
