//! SQLite databases that one process owns, for the audit log and for the storage of sessions.
//!
//! [`DatabaseFile`] holds the lock on a database and notices when its file is replaced.
//! [`DatabaseSchema`] notices objects that could change or discard a write. Neither knows any
//! table.

mod file;
mod schema;

pub use file::{DatabaseFile, DatabaseFileError, WAL, beside, create_private, failed, is_owned};
pub use schema::{DatabaseSchema, SchemaError, disable_triggers, one_row};
