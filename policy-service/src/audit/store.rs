//! The SQLite database that holds the log, and its one writer's side of it.

pub(super) mod head_file;
mod reading;
mod schema;

use std::path::Path;
use std::time::Duration;

use picket_sqlite::{DatabaseFile, DatabaseFileError, DatabaseSchema, SchemaError, WAL, disable_triggers};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::chain::{End, Place, Writing};
use super::key::{KeyEncryptionKey, KeyError, Sealer};
use super::verify::{self, VerifyError};
use head_file::{HeadFile, HeadFileError};
pub(super) use reading::read;
pub(super) use schema::{RecordRow, rows};

/// How many pages of the write-ahead log are moved into the database at once, within a commit. SQLite's own thousand take 10 ms
/// on a disk that takes half of one for these, and every call behind that commit would wait for them.
const CHECKPOINT_PAGES: u32 = 128;
/// How long a write waits for another process's lock; readers do not lock the writer out in WAL mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the start tries to move the open head into the database. SQLite waits for readers
/// within each; the pause is for somebody else's checkpoint, for which it does not.
const CHECKPOINT_ATTEMPTS: u32 = 3;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

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
    /// A table that was altered, or an index or a trigger on one, that could change or discard what is written.
    #[error("the audit database: {0}, and could change or discard what is written")]
    Altered(String),
    /// The file that names the last acknowledged record cannot be written.
    #[error("the audit log's `-head` file: {0}")]
    HeadFile(#[source] std::io::Error),
    /// Somebody who reads an older state keeps the head that says that the log is open out of the
    /// database.
    #[error(
        "somebody reads the audit log and keeps what is written at the start out of the database \
         itself: let that reader end, then start again"
    )]
    HeldBack,
    /// The files were written each time that they were read.
    #[error("the audit log was changed while it was read: try again")]
    Changing,
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
            Self::Altered(_) => "schema_altered",
            Self::HeadFile(_) => "head_file_failed",
            Self::HeldBack => "held_back",
            Self::Changing => "changing",
            Self::Unverified(_) => "unverified",
        }
    }
}

impl From<VerifyError> for StoreError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => error,
            VerifyError::Broken(_) => Self::Unverified(Box::new(error)),
        }
    }
}

impl From<SchemaError> for StoreError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Sqlite(error) => Self::Sqlite(error),
            SchemaError::Altered(_) => Self::Altered(error.to_string()),
        }
    }
}

impl From<HeadFileError> for StoreError {
    fn from(error: HeadFileError) -> Self {
        match error {
            HeadFileError::Write(error) => Self::HeadFile(error),
            HeadFileError::Key(error) => Self::Key(error),
        }
    }
}

/// One record to write.
pub(super) struct Entry {
    pub(super) time_us: i64,
    pub(super) content: Vec<u8>,
}

/// The writer's database. INVARIANT: `end` is what the database's head and the file beside it say, or `None` while that is not
/// known.
pub(super) struct Store {
    connection: Connection,
    schema: DatabaseSchema,
    key: KeyEncryptionKey,
    sealer: Sealer,
    end: Option<End>,
    head: HeadFile,
    file: DatabaseFile,
}

impl Store {
    /// Opens the log for writing: locks it, brings it to the current schema, checks its end and adds a data key.
    pub(super) fn open(file: &Path, key: KeyEncryptionKey, now_us: i64) -> Result<Self, StoreError> {
        let mut owned = DatabaseFile::own(file)?;
        let mut connection = Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure(&connection)?;
        let (mut sealer, wrapped) = key.new_data_key()?;
        schema::migrate(&mut connection, &mut sealer, &wrapped, now_us)?;
        let mut schema = DatabaseSchema::of(&schema::MIGRATIONS)?;
        schema.check(&connection)?;
        let acknowledged = head_file::read(file)?;
        let end = verify::end_of(&connection, &key, acknowledged.as_deref())?;
        schema::add_data_key(&connection, &sealer, &wrapped, now_us)?;
        // The file is there before the head asks for it.
        let mut head = HeadFile::open(file, wrapped)?;
        head.write(&mut sealer, end)?;
        owned.watch(WAL)?;
        owned.watch(head_file::ENDING)?;
        let mut store = Self {
            connection,
            schema,
            key,
            sealer,
            end: Some(end),
            head,
            file: owned,
        };
        store.append(&[])?;
        store.checkpoint()?;
        Ok(store)
    }

    /// Writes all entries in one transaction, which is durable and named in the file beside the database when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.append_as(entries, Writing::Open)
    }

    /// Writes the head anew, to see whether writing works again.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        self.append(&[])
    }

    /// Says in the database that it has everything. Dropping the store moves the write-ahead log into it.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.append_as(&[], Writing::Closed)
    }

    fn append_as(&mut self, entries: &[Entry], writing: Writing) -> Result<(), StoreError> {
        let from = self.known_end()?;
        // A failed commit may still have reached the disk, so after any failure the end is read anew.
        self.end = None;
        let end = self.write(from, entries, writing)?;
        // Afterwards: what it names is there, also where the machine fails in between.
        self.head.write(&mut self.sealer, end)?;
        self.end = Some(end);
        Ok(())
    }

    fn known_end(&self) -> Result<End, StoreError> {
        self.file.check()?;
        match self.end {
            Some(end) => Ok(end),
            None => {
                let acknowledged = head_file::read(self.file.path())?;
                Ok(verify::end_of(&self.connection, &self.key, acknowledged.as_deref())?)
            }
        }
    }

    fn write(&mut self, from: End, entries: &[Entry], writing: Writing) -> Result<End, StoreError> {
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
        schema::set_head(&transaction, &mut self.sealer, end, writing)?;
        self.schema.check(&transaction)?;
        transaction.commit()?;
        Ok(end)
    }

    /// Moves the head that says `Open` into the database, so that it is there without the
    /// write-ahead log: with an older head the database alone would verify without what is
    /// acknowledged from now on.
    fn checkpoint(&self) -> Result<(), StoreError> {
        for attempt in 1..=CHECKPOINT_ATTEMPTS {
            if self.is_moved()? {
                return Ok(());
            }
            tracing::warn!(attempt, "somebody reads the audit log: the start waits for that");
            std::thread::sleep(CHECKPOINT_PAUSE);
        }
        Err(StoreError::HeldBack)
    }

    /// Moves what the write-ahead log holds, and whether that was all of it. The log itself may
    /// stay.
    fn is_moved(&self) -> Result<bool, StoreError> {
        let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (is_busy, frames, moved): (bool, i64, i64) =
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], columns)?;
        // Both are -1 where it did not come to be.
        Ok(moved >= frames && !(is_busy && frames < 0))
    }
}

/// SQLite's settings. FULL makes each commit in WAL mode wait for the disk; NORMAL would lose the last ones with the power.
fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    disable_triggers(connection)?;
    Ok(())
}
