//! Appending to a log: the one writer's side of its database.

use std::path::Path;
use std::time::Duration;

use picket_model::time::Timestamp;
use picket_sqlite::{DatabaseFile, DatabaseSchema, WAL, disable_triggers};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::chain::{ChainEnd, RecordPosition, WriterState};
use super::check;
use super::database::head_file::{self, HeadFile, HeadFileError};
use super::database::{BUSY_TIMEOUT, schema};
use super::errors::StoreError;
use super::key::{KeyEncryptionKey, Sealer};

/// How many pages of the write-ahead log are moved into the database at once, within a commit.
/// SQLite's own thousand take 10 ms on a disk that takes half of one for these, and every call
/// behind that commit would wait for them.
const CHECKPOINT_PAGES: u32 = 128;
/// How often the start tries to move the open head into the database. SQLite waits for readers
/// within each; the pause is for somebody else's checkpoint, for which it does not.
const CHECKPOINT_ATTEMPTS: u32 = 3;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

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
    pub(super) time: Timestamp,
    pub(super) content: Vec<u8>,
}

/// The writer's database. INVARIANT: `end` is what the database's head and the file beside it say,
/// or `None` while that is not known.
pub(super) struct Store {
    connection: Connection,
    schema: DatabaseSchema,
    key: KeyEncryptionKey,
    sealer: Sealer,
    end: Option<ChainEnd>,
    head: HeadFile,
    file: DatabaseFile,
}

impl Store {
    /// Opens the log for writing: locks it, brings it to the current schema, checks its end and
    /// adds a data key.
    pub(super) fn open(file: &Path, key: KeyEncryptionKey, now: Timestamp) -> Result<Self, StoreError> {
        let mut owned = DatabaseFile::own(file)?;
        let mut connection = Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure(&connection)?;
        let (mut sealer, wrapped) = key.new_data_key()?;
        schema::migrate(&mut connection, &mut sealer, &wrapped, stored_us(now))?;
        let mut schema = DatabaseSchema::of(&schema::MIGRATIONS)?;
        schema.check(&connection)?;
        let acknowledged = head_file::read(file)?;
        let end = check::end_of(&connection, &key, acknowledged.as_deref())?;
        schema::add_data_key(&connection, &sealer, &wrapped, stored_us(now))?;
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

    /// Writes all entries in one transaction, which is durable and named in the file beside the
    /// database when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.append_as(entries, WriterState::Open)
    }

    /// Writes the head anew, to see whether writing works again.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        self.append(&[])
    }

    /// Says in the database that it has everything. Dropping the store moves the write-ahead log
    /// into it.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.append_as(&[], WriterState::Closed)
    }

    fn append_as(&mut self, entries: &[Entry], writing: WriterState) -> Result<(), StoreError> {
        let from = self.known_end()?;
        // A failed commit may still have reached the disk, so after any failure the end is read
        // anew.
        self.end = None;
        let end = self.write(from, entries, writing)?;
        // Afterwards: what it names is there, also where the machine fails in between.
        self.head.write(&mut self.sealer, end)?;
        self.end = Some(end);
        Ok(())
    }

    fn known_end(&self) -> Result<ChainEnd, StoreError> {
        self.file.check()?;
        match self.end {
            Some(end) => Ok(end),
            None => {
                let acknowledged = head_file::read(self.file.path())?;
                Ok(check::end_of(&self.connection, &self.key, acknowledged.as_deref())?)
            }
        }
    }

    fn write(&mut self, from: ChainEnd, entries: &[Entry], writing: WriterState) -> Result<ChainEnd, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut end = from;
        for entry in entries {
            let seq = end.seq.checked_add(1).ok_or(StoreError::Full)?;
            let place = RecordPosition {
                seq,
                time_us: stored_us(entry.time),
                prev_hash: end.hash,
                key_id: self.sealer.id(),
            };
            let sealed = self.sealer.seal(&place.associated_data(), &entry.content)?;
            let hash = place.hash(&sealed);
            schema::insert(&transaction, &place, &sealed, hash)?;
            end = ChainEnd { seq, hash };
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

/// A time as the log stores it: SQLite's integers are signed.
fn stored_us(time: Timestamp) -> i64 {
    i64::try_from(time.as_us()).unwrap_or(i64::MAX)
}

/// SQLite's settings. FULL makes each commit in WAL mode wait for the disk; NORMAL would lose the
/// last ones with the power.
fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    disable_triggers(connection)?;
    Ok(())
}
