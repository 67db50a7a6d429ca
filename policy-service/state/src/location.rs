//! The location of the storage.

use std::path::PathBuf;

/// The database that the state is stored in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageLocation {
    /// A SQLite database, which one process owns.
    Sqlite {
        /// The file; created where it does not exist.
        file: PathBuf,
    },
    /// A PostgreSQL database, which replicas share.
    Postgres {
        /// The file with the connection string.
        url_file: PathBuf,
        /// The authorities that sign the server's certificate, PEM; `None`: the server is on this
        /// machine, and there is no TLS.
        ca_file: Option<PathBuf>,
    },
}
