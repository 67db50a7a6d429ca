//! What is stored: SQLite for one policy service, PostgreSQL for several, behind the ports of the parts that use them
//! ([`Store`]).
//!
//! What a method has acknowledged is durable. A failure says that nothing is known about what was to be written, never that it
//! was.

mod postgres;
mod sqlite;
mod target;

use std::sync::Arc;

pub use picket_sqlite::DatabaseFileError;
use picket_state::{ChangeObserver, StorageError, StorageLocation, Store};

pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// Opens a store, or creates it.
///
/// # Errors
/// It cannot be opened, is another program's, or is of a later version.
pub async fn open(location: &StorageLocation, observer: ChangeObserver) -> Result<Arc<dyn Store>, StorageError> {
    Ok(match location {
        StorageLocation::Sqlite { file } => Arc::new(SqliteStore::open(file)?),
        StorageLocation::Postgres { url_file, ca_file } => {
            let url = postgres::read_url(url_file)?;
            Arc::new(PostgresStore::connect(&url, ca_file.as_deref(), observer).await?)
        }
    })
}

/// The file of a database cannot be used.
fn unusable_file(error: DatabaseFileError) -> StorageError {
    StorageError::File(Arc::new(error))
}
