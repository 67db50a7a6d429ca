//! Why the storage does not answer, in words that every back end shares.

use std::sync::Arc;

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
    File(Arc<dyn std::error::Error + Send + Sync>),
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
