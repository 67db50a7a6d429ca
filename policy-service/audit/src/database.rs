//! The SQLite database of a log and the file beside it: tables, rows, and opening them for reading.
//! Nothing here judges what they say.

pub(super) mod head_file;
mod reading;
pub(super) mod schema;

use std::time::Duration;

pub(super) use reading::read;
pub(super) use schema::{RecordRow, rows};

/// How long a statement waits for another process's lock; readers do not lock the writer out in WAL
/// mode.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
