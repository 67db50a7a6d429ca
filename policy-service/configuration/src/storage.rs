//! `[storage]`: where is kept what several parts of the service keep.

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::Problems;
use picket_state::StorageLocation;

use super::fields::{DatabaseFile, ExistingFile};

/// The storage. Exactly one of `sqlite_file` and `postgres_url_file`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = one_store -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Storage")
)]
pub(super) struct StorageSection {
    /// A SQLite database for one policy service. It is created with mode 0600, with `-wal`, `-shm`
    /// and `.lock` beside it. Its folder must exist. Default: none.
    #[deserr(default)]
    sqlite_file: Option<DatabaseFile>,
    /// A file with the connection string of a PostgreSQL database that replicas share, such as
    /// `postgres://user:password@host/database`, with `@` in a password as `%40` and `%` as `%25`.
    /// It is never shown. A connection pooler must be in session mode. Picket creates its tables in
    /// the schema `picket`. Default: none.
    #[deserr(default)]
    postgres_url_file: Option<ExistingFile>,
    /// The authorities that sign the certificate of the PostgreSQL server, in PEM. The connection
    /// is then TLS, and the name of the server is checked. Default: none, and the server must be on
    /// this machine (a Unix socket, `localhost` or a loopback address).
    #[deserr(default)]
    postgres_ca_file: Option<ExistingFile>,
}

/// `None` for a storage of none or two kinds, which reading refuses.
pub(super) fn location(storage: StorageSection) -> Option<StorageLocation> {
    match (storage.sqlite_file, storage.postgres_url_file) {
        (Some(file), None) => Some(StorageLocation::Sqlite { file: file.0 }),
        (None, Some(url_file)) => Some(StorageLocation::Postgres {
            url_file: url_file.0,
            ca_file: storage.postgres_ca_file.map(|file| file.0),
        }),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn one_store(storage: StorageSection, _location: ValuePointerRef<'_>) -> Result<StorageSection, Problems> {
    let mut problems = Problems::default();
    if storage.sqlite_file.is_some() == storage.postgres_url_file.is_some() {
        problems.add("storage", "expected one of `sqlite_file` and `postgres_url_file`");
    }
    if storage.postgres_ca_file.is_some() && storage.postgres_url_file.is_none() {
        problems.add("storage.postgres_ca_file", "is for `postgres_url_file`");
    }
    problems.none_or(Some(storage))
}
