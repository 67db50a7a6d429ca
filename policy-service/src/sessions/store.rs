//! What sessions and revocations need of a store.

use async_trait::async_trait;

use super::{Ended, Lockdown, Session, Standing, Target};
use crate::state::{Filter, PrincipalId, SessionId, StorageError};

/// How many sessions a principal may have, and which of them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// How many, the new one included; at least 1.
    pub max: u32,
    /// Sessions of this first sight or an earlier one have reached their absolute timeout.
    pub first_seen_after_us: i64,
    /// Sessions of this last use or an earlier one are idle.
    pub last_seen_after_us: i64,
}

/// What became of a session that was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It was, and these sessions of its principal were ended for it.
    Created {
        /// The oldest of those that counted.
        superseded: Vec<SessionId>,
    },
    /// It was there already.
    Existing(Box<Session>),
}

/// Whose tokens and sessions from before its time are no longer good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub target: Target,
    /// Its name, for people.
    pub label: String,
    /// Up to when, in microseconds since the epoch.
    pub until_us: i64,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

/// Which sessions have not timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Those of this first sight or an earlier one have reached their absolute timeout.
    pub first_seen_after_us: i64,
    /// Those of this last use or an earlier one are idle.
    pub last_seen_after_us: i64,
}

/// How many sessions are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In all.
    pub all: u64,
    /// Of principals without a tenant.
    pub without_tenant: u64,
    /// Of tenants, by their stored name; those that hold the most come first.
    pub tenants: Vec<(String, u64)>,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
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

    /// Creates a session where there is none of this id, and ends the oldest ones of its principal that are too many.
    async fn create(&self, session: Session, concurrency: Concurrency) -> Result<Creation, StorageError>;

    /// Ends a session that has not ended and was not used after `seen_until_us`. False: it is not there, has ended, or was used.
    async fn end(&self, id: SessionId, ended: Ended, seen_until_us: i64) -> Result<bool, StorageError>;

    /// Notes the last uses of sessions. A use earlier than one that is known changes nothing.
    async fn touch(&self, seen: Vec<(SessionId, i64)>) -> Result<(), StorageError>;

    /// Sessions in order of their ids, after one of them.
    async fn sessions(
        &self,
        filter: Filter,
        after: Option<SessionId>,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError>;

    /// Of each principal that has sessions which have not ended, and were seen first and last after these times, the one that was
    /// used last; in order of the principals, after one of them.
    async fn last_sessions(
        &self,
        after: Option<PrincipalId>,
        since: Since,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError>;

    /// How many sessions are held, and how many of these the tenants have that hold the most. It may take seconds.
    async fn counts(&self, tenants_max: u32) -> Result<Counts, StorageError>;

    /// Forgets at most `count_max` sessions that were last used before a time, and the revocations from before another.
    async fn forget(
        &self,
        seen_before_us: i64,
        revoked_before_us: i64,
        count_max: u32,
    ) -> Result<Forgotten, StorageError>;

    /// What an operator has ordered.
    async fn standing(&self) -> Result<Standing, StorageError>;

    /// Revokes. An earlier time than one that is there changes nothing.
    async fn revoke(&self, revocation: Revocation) -> Result<(), StorageError>;

    /// Sets or takes back lockdown. False: it was so before.
    async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError>;
}
