//! The SQLite database that holds the log, and its one writer's side of it.

mod schema;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::chain::{End, Place, head_associated_data};
use super::key::{KeyEncryptionKey, KeyError, Sealer};
use super::verify::{self, VerifyError};
use crate::storage::database_file::{self, DatabaseFile, DatabaseFileError};
use schema::check_version;
pub(super) use schema::{RecordRow, rows};

/// How many pages of the write-ahead log are moved into the database at once, within a commit. SQLite's own thousand take 10 ms
/// on a disk that takes half of one for these, and every call behind that commit would wait for them.
const CHECKPOINT_PAGES: u32 = 128;
/// How long a write waits for another process's lock; readers do not lock the writer out in WAL mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no: no space, no permission, a damaged file.
    #[error("audit database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its file cannot be used.
    #[error("audit database {0}")]
    File(#[from] DatabaseFileError),
    /// The file is a SQLite database, but not an audit log.
    #[error("not an audit log of Picket")]
    Foreign,
    /// The log was written by a version that this one does not know.
    #[error("the audit log has schema version {found}, and this program knows up to {known}")]
    Newer {
        /// In the file.
        found: i64,
        /// Here.
        known: i64,
    },
    /// Sealing failed.
    #[error("audit key: {0}")]
    Key(#[from] KeyError),
    /// A number does not fit SQLite's integers.
    #[error("the audit log is full: sequence numbers are used up")]
    Full,
    /// What is in the database does not verify, so nothing may be added to it.
    #[error("the audit log does not verify: {0}")]
    Unverified(Box<VerifyError>),
}

impl StoreError {
    /// What probes are told: stable, and nothing of the database's own words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "statement_failed",
            Self::File(_) => "file_unusable",
            Self::Foreign => "foreign",
            Self::Newer { .. } => "schema_newer",
            Self::Key(_) => "sealing_failed",
            Self::Full => "full",
            Self::Unverified(_) => "unverified",
        }
    }
}

/// One record to write.
pub(super) struct Entry {
    pub(super) time_us: i64,
    pub(super) content: Vec<u8>,
}

/// The writer's database. INVARIANT: `end` is what the database's head says, or `None` while that is not known.
pub(super) struct Store {
    connection: Connection,
    key: KeyEncryptionKey,
    sealer: Sealer,
    end: Option<End>,
    file: DatabaseFile,
}

impl Store {
    /// Opens the log for writing: locks it, brings it to the current schema, checks its end and adds a data key.
    pub(super) fn open(file: &Path, key: KeyEncryptionKey, now_us: i64) -> Result<Self, StoreError> {
        let owned = DatabaseFile::own(file)?;
        let mut connection = Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure(&connection)?;
        let (mut sealer, wrapped) = key.new_data_key()?;
        schema::migrate(&mut connection, &mut sealer, &wrapped, now_us)?;
        let end = verify::end_of(&connection, &key).map_err(|error| StoreError::Unverified(Box::new(error)))?;
        schema::add_data_key(&connection, &sealer, &wrapped, now_us)?;
        Ok(Self {
            connection,
            key,
            sealer,
            end: Some(end),
            file: owned,
        })
    }

    /// Writes all entries in one transaction, which is durable when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let from = self.known_end()?;
        // A failed commit may still have reached the disk, so after any failure the end is read anew.
        self.end = None;
        let end = self.write(from, entries)?;
        self.end = Some(end);
        Ok(())
    }

    /// Writes the head anew, to see whether writing works again.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        self.append(&[])
    }

    fn known_end(&self) -> Result<End, StoreError> {
        self.file.check()?;
        match self.end {
            Some(end) => Ok(end),
            None => {
                verify::end_of(&self.connection, &self.key).map_err(|error| StoreError::Unverified(Box::new(error)))
            }
        }
    }

    fn write(&mut self, from: End, entries: &[Entry]) -> Result<End, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut end = from;
        for entry in entries {
            let seq = end.seq.checked_add(1).ok_or(StoreError::Full)?;
            let place = Place {
                seq,
                time_us: entry.time_us,
                prev_hash: end.hash,
                key_id: self.sealer.id(),
            };
            let sealed = self.sealer.seal(&place.associated_data(), &entry.content)?;
            let hash = place.hash(&sealed);
            schema::insert(&transaction, &place, &sealed, hash)?;
            end = End { seq, hash };
        }
        let key_id = self.sealer.id();
        let sealed = self.sealer.seal(&head_associated_data(&key_id), &end.to_bytes())?;
        schema::set_head(&transaction, &key_id, &sealed)?;
        transaction.commit()?;
        Ok(end)
    }
}

/// Opens a log for reading, beside a running writer or not.
pub(super) fn open_read_only(file: &Path) -> Result<Connection, StoreError> {
    // SQLite says of a missing file no more than that it cannot open it.
    std::fs::metadata(file).map_err(|source| database_file::failed(file, source))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    check_version(&connection)?;
    Ok(connection)
}

/// SQLite's settings. FULL makes each commit in WAL mode wait for the disk; NORMAL would lose the last ones with the power.
fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}
