//! What is stored: SQLite for one policy service, PostgreSQL for several.
//!
//! Each need has a small trait of its own, which both stores implement. What is read from a store is remembered in a [`Snapshot`],
//! and a [`Keeper`] holds the snapshots and the storage together.
//!
//! What a method has acknowledged is durable. A failure says that nothing is known about what was to be written, never that it
//! was.

mod devices;
mod keeper;
mod policies;
mod postgres;
mod roles;
mod sessions;
mod snapshot;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
pub use picket_sqlite::DatabaseFileError;

use crate::devices::Thumbprint;
use crate::sessions::SessionId;
pub use devices::{DeviceChange, DeviceStore, NewDevice};
pub use keeper::StorageState;
pub(crate) use keeper::{Keeper, Part, Storage};
pub use policies::{
    ACTIVATIONS_MAX, Activated, Activation, Choice, Order, PolicyStore, REVISIONS_MAX, Revision, RevisionFile,
};
pub use postgres::PostgresStore;
pub use roles::{Assigned, ROLE_ASSIGNMENTS_MAX, RoleAssignment, RoleFilter, RoleKey, RoleStore};
pub use sessions::{Concurrency, Counts, Creation, Filter, Forgotten, Revocation, SessionStore, Since};
pub use snapshot::STALE_MS_MAX;
pub(crate) use snapshot::{Freshness, Snapshot};
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
    /// The database refuses what was asked of it.
    #[error("storage: {0}")]
    Statement(String),
    /// The database cannot be reached, has ended the connection, or takes no writes.
    #[error("storage: connection: {0}")]
    Connection(String),
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
    /// The database has something that could change or discard a write.
    #[error("storage: {database}: {object} is not Picket's, and could change or discard what is written: remove it")]
    Altered {
        /// Which.
        database: String,
        /// A trigger, rule, view, table or index.
        object: String,
    },
    /// Another connection's notification did not reach the one that listens.
    #[error(
        "storage: notifications of the database do not arrive, so changes by other replicas are not known: connect to \
         PostgreSQL itself, or to a connection pooler in session mode (PgBouncer's `pool_mode = session`)"
    )]
    Unheard,
    /// A row is not what this program writes.
    #[error("storage: a row of `{0}` is malformed")]
    Malformed(&'static str),
    /// It was not heard from for too long, so nothing is known of revocations.
    #[error("storage: not confirmed for {0} ms")]
    Stale(u64),
}

impl StorageError {
    /// What callers and probes are told: stable, and nothing of the database's own words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Statement(_) => "statement_failed",
            Self::Connection(_) => "unreachable",
            Self::File(_) => "file_unusable",
            Self::Foreign(_) => "foreign",
            Self::Newer { .. } => "schema_newer",
            Self::Url(_) => "connection_string_invalid",
            Self::Authorities(_) => "authorities_invalid",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::NotDone => "not_written",
            Self::Altered { .. } => "schema_altered",
            Self::Unheard => "notifications_lost",
            Self::Malformed(_) => "row_malformed",
            Self::Stale(_) => "not_confirmed",
        }
    }
}

/// What another replica has changed, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session was ended.
    Session(SessionId),
    /// The device that is known by a thumbprint, or was, or is now.
    Device(Thumbprint),
    /// Something was revoked, or lockdown is on or off.
    Standing,
    /// Another revision of the policies is active.
    Policies,
    /// A role was assigned or withdrawn.
    Roles,
    /// Anything: the store could not tell for a while.
    Anything,
}

/// Who is told of changes. It must not block.
pub type Observer = Arc<dyn Fn(Change) + Send + Sync>;

/// What every store can say of itself.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Confirms that changes can be written here, and that those of others have been told up to now.
    async fn probe(&self) -> Result<(), StorageError>;
}

/// Everything that is stored, each need with a trait of its own.
pub trait Store: SessionStore + DeviceStore + PolicyStore + RoleStore + Probe {}

impl<S: SessionStore + DeviceStore + PolicyStore + RoleStore + Probe> Store for S {}

/// Opens a store, or creates it.
///
/// # Errors
/// It cannot be opened, is another program's, or is of a later version.
pub async fn open(location: &Location, observer: Observer) -> Result<Arc<dyn Store>, StorageError> {
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
