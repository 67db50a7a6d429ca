//! `[storage]`: where is kept what several parts of the service keep.

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::Problems;

use super::fields::{DatabaseFile, ExistingFile};
use crate::storage::Location;

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = one_store -> Problems)]
pub(super) struct StorageSection {
    #[deserr(default)]
    sqlite_file: Option<DatabaseFile>,
    #[deserr(default)]
    postgres_url_file: Option<ExistingFile>,
    #[deserr(default)]
    postgres_ca_file: Option<ExistingFile>,
}

/// `None` for a storage of none or two kinds, which reading refuses.
pub(super) fn location(storage: StorageSection) -> Option<Location> {
    match (storage.sqlite_file, storage.postgres_url_file) {
        (Some(file), None) => Some(Location::Sqlite { file: file.0 }),
        (None, Some(url_file)) => Some(Location::Postgres {
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
