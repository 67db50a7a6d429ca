//! Where sessions and revocations are kept: SQLite for one policy service, PostgreSQL for several.
//!
//! What a method has acknowledged is durable. A failure says that nothing is known about what was to be written, never that it
//! was.

pub(crate) mod database_file;
mod postgres;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::sessions::{Ended, Lockdown, PrincipalId, Session, SessionId, Standing, Target, TenantId};
pub use database_file::DatabaseFileError;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// Which store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite database, which one process owns.
    Sqlite {
        /// The file; created where it does not exist.
        file: PathBuf,
    },
    /// A PostgreSQL database, which replicas share.
    Postgres {
        /// The file with the connection string.
        url_file: PathBuf,
        /// The authorities that sign the server's certificate, PEM; `None`: the server is on this machine, and there is no TLS.
        ca_file: Option<PathBuf>,
    },
}

/// Why the store cannot be opened, read or written. No variant holds a credential.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The database says no.
    #[error("storage: {0}")]
    Backend(String),
    /// The file of the database cannot be used.
    #[error("storage: database {0}")]
    File(Arc<DatabaseFileError>),
    /// It is a database of something else.
    #[error("storage: {0} holds something else than Picket's storage")]
    Foreign(String),
    /// It was written by a version that this one does not know.
    #[error("storage: {database} has schema version {found}, and this program knows up to {known}")]
    Newer {
        /// Which.
        database: String,
        /// There.
        found: i64,
        /// Here.
        known: i64,
    },
    /// The connection string cannot be used. It is not shown, as it holds a password.
    #[error("storage.postgres_url_file: {0}")]
    Url(&'static str),
    /// The authorities of the server's certificate cannot be used.
    #[error("storage.postgres_ca_file: {0}")]
    Authorities(String),
    /// Too much waits to be written.
    #[error("storage: too many writes wait")]
    Overloaded,
    /// No answer in time.
    #[error("storage: no answer in time")]
    TimedOut,
    /// The store has ended, or a write beside this one failed.
    #[error("storage: it was not written")]
    NotDone,
    /// A row is not what this program writes.
    #[error("storage: a row of `{0}` is malformed")]
    Malformed(&'static str),
    /// It was not heard from for too long, so nothing is known of revocations.
    #[error("storage: not confirmed for {0} ms")]
    Stale(u64),
}

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

/// Which sessions are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those of a principal.
    Principal(PrincipalId),
    /// Those of a tenant, by its name.
    Tenant(String),
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Sessions.
    pub sessions: u64,
    /// Revocations.
    pub revocations: u64,
}

/// What another replica has changed, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session was ended.
    Session(SessionId),
    /// Something was revoked, or lockdown is on or off.
    Standing,
    /// Anything: the store could not tell for a while.
    Anything,
}

/// Who is told of changes. It must not block.
pub type Observer = Arc<dyn Fn(Change) + Send + Sync>;

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

    /// How many sessions are held.
    async fn count(&self) -> Result<u64, StorageError>;

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

    /// Confirms that changes can be written here, and that those of others have been told up to now.
    async fn probe(&self) -> Result<(), StorageError>;
}

/// Opens a store, or creates it.
///
/// # Errors
/// It cannot be opened, is another program's, or is of a later version.
pub async fn open(location: &Location, observer: Observer) -> Result<Arc<dyn SessionStore>, StorageError> {
    Ok(match location {
        Location::Sqlite { file } => Arc::new(SqliteStore::open(file)?),
        Location::Postgres { url_file, ca_file } => {
            let url = postgres::read_url(url_file)?;
            Arc::new(PostgresStore::connect(&url, ca_file.as_deref(), observer).await?)
        }
    })
}

impl From<DatabaseFileError> for StorageError {
    fn from(error: DatabaseFileError) -> Self {
        Self::File(Arc::new(error))
    }
}

impl Target {
    /// The kind and the bytes under which it is stored.
    fn key(&self) -> (&'static str, &[u8]) {
        match self {
            Self::Principal(id) => ("principal", id.as_bytes()),
            Self::Tenant(id) => ("tenant", id.as_bytes()),
            Self::Everything => ("everything", &[]),
        }
    }

    fn of_key(kind: &str, bytes: &[u8]) -> Option<Self> {
        match kind {
            "principal" => PrincipalId::from_slice(bytes).map(Self::Principal),
            "tenant" => TenantId::from_slice(bytes).map(Self::Tenant),
            "everything" => Some(Self::Everything),
            _ => None,
        }
    }
}
