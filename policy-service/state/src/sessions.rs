//! Sessions: requests that belong to one login, how long that login is valid, and how it ends.
//!
//! [`Sessions::check`] answers for one request whether its session is valid, and for how long the
//! answer may be repeated. It creates the session of a new login, and ends one that has timed out
//! or was used by another client; each such change is a [`SessionEvent`], which the caller records.
//! Operators read and revoke sessions through the other methods.
//!
//! `rules` decides and does no I/O. [`SessionStore`] is the port to the storage. Sessions that were
//! read are cached, and so are the [`Restrictions`] that operators have ordered. Both are trusted
//! only while the database connection is confirmed ([`crate::STALE_MS_MAX`]): a check knows every
//! revocation that was acknowledged before it, on any replica, or it fails.
//!
//! AuthZEN and secondary tokens read sessions without changing them (`read_only`).

mod administration;
mod cache;
mod check;
mod creation_locks;
mod event;
mod maintenance;
mod metrics;
mod model;
mod quota;
mod read_only;
mod rules;
mod store;
mod token_claims;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::Freshness;
pub use administration::{ActivePrincipal, RevokeError, SessionStatus};
use cache::SessionCache;
pub use check::{SessionAccess, SessionCheck};
use creation_locks::CreationLocks;
pub use event::{SessionChange, SessionEvent};
pub use metrics::SessionMetrics;
pub use model::{Session, SessionEnd};
pub use quota::QuotaLimits;
pub use quota::TENANTS_COUNTED_MAX;
pub use rules::{Lockdown, Restrictions, RevocationTarget, Revocations, SessionLimits, SessionRefusal};
pub use store::{ConcurrencyLimit, DeletedRows, LiveSince, Revocation, SessionCounts, SessionCreation, SessionStore};
pub use token_claims::TokenClaims;

/// How sessions are kept, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// How long they last.
    pub limits: SessionLimits,
    /// The attributes of a client that a session is bound to.
    pub fingerprint: Vec<FingerprintPart>,
    /// What becomes of a token without `sid` and `jti`.
    pub without_id: WithoutId,
    /// How many sessions are stored.
    pub quota: QuotaLimits,
    /// How many of them are cached in the process's memory.
    pub cache_entries_max: u32,
}

/// An attribute of a client that a session is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FingerprintPart {
    /// The `user-agent`.
    UserAgent,
    /// The SPIFFE ID of the peer.
    Peer,
}

/// What becomes of a token that names no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutId {
    /// It is denied.
    Deny,
    /// It is accepted; no timeout applies to it, revocations of its principal do.
    Permit,
}

/// The sessions of one policy service.
pub struct Sessions {
    store: Arc<dyn SessionStore>,
    cache: SessionCache,
    settings: SessionSettings,
    metrics: SessionMetrics,
    /// Slots for checks that ask the storage.
    lookups: Arc<Semaphore>,
    creation_locks: CreationLocks,
}

/// How many checks ask the storage at once, those included whose caller has gone away. More are
/// refused.
const LOOKUPS_MAX: usize = 1024;

impl Sessions {
    /// `seed` is random: clients choose parts of what is cached.
    pub fn new(
        store: Arc<dyn SessionStore>,
        freshness: Arc<Freshness>,
        seed: u64,
        settings: SessionSettings,
        metrics: SessionMetrics,
    ) -> Self {
        Self {
            store,
            cache: SessionCache::new(settings.cache_entries_max, seed, freshness),
            settings,
            metrics,
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            creation_locks: CreationLocks::default(),
        }
    }
}
