//! What is stored: SQLite for one policy service, PostgreSQL for several, behind the ports of the parts that use them
//! ([`Store`]).
//!
//! What a method has acknowledged is durable. A failure says that nothing is known about what was to be written, never that it
//! was.

mod postgres;
mod sqlite;
mod target;

use std::path::PathBuf;
use std::sync::Arc;

pub use picket_sqlite::DatabaseFileError;
use picket_state::{ChangeObserver, StorageError, Store};

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

/// Opens a store, or creates it.
///
/// # Errors
/// It cannot be opened, is another program's, or is of a later version.
pub async fn open(location: &Location, observer: ChangeObserver) -> Result<Arc<dyn Store>, StorageError> {
    Ok(match location {
        Location::Sqlite { file } => Arc::new(SqliteStore::open(file)?),
        Location::Postgres { url_file, ca_file } => {
            let url = postgres::read_url(url_file)?;
            Arc::new(PostgresStore::connect(&url, ca_file.as_deref(), observer).await?)
        }
    })
}

/// The file of a database cannot be used.
fn unusable_file(error: DatabaseFileError) -> StorageError {
    StorageError::File(Arc::new(error))
}
