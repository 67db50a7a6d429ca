//! Opening a log for reading: beside its writer, or as evidence that must stay as it is.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use picket_sqlite::{DatabaseFileError, WAL, disable_triggers};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::schema::check_version;
use super::{BUSY_TIMEOUT, head_file};
use crate::errors::{StoreError, VerifyError};

/// SQLite's file system layer without locks: it needs no file that is shared with other processes.
const WITHOUT_LOCKS: &std::ffi::CStr = c"unix-none";
/// What is encoded in the path of a URI.
const ENCODED_IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
const SHARED_MEMORY: &str = "-shm";
/// How often a log is read anew whose writer has started or ended meanwhile.
const ATTEMPTS: u32 = 5;

/// A log that is open for reading.
pub(crate) struct OpenLog {
    pub(crate) connection: Connection,
    /// What the file beside the database says, read before the database: a writer writes it after
    /// the records that it names.
    pub(crate) head_file: Option<Vec<u8>>,
}

/// Reads a log, once more where its writer has started or ended meanwhile. Nothing is written,
/// neither to the files nor beside them.
pub(crate) fn read<T>(
    database: &Path,
    mut read: impl FnMut(&mut OpenLog) -> Result<T, VerifyError>,
) -> Result<T, VerifyError> {
    for _ in 0..ATTEMPTS {
        let before = Files::of(database)?;
        let access = before.access(database)?;
        let result = OpenLog::open(database, access)
            .map_err(VerifyError::from)
            .and_then(|mut reading| read(&mut reading));
        // SQLite itself holds a reader and a writer apart, where both take its locks.
        if access == Access::BesideWriter || Files::of(database)? == before {
            return result;
        }
    }
    Err(VerifyError::Store(StoreError::Changing))
}

/// How SQLite reads the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// With SQLite's locks, as the writer takes them.
    BesideWriter,
    /// Nobody writes. The index of the write-ahead log is made in memory.
    WithWal,
    /// Nobody writes, and the database is all that there is.
    DatabaseAlone,
}

impl OpenLog {
    fn open(database: &Path, access: Access) -> Result<Self, StoreError> {
        let head_file = head_file::read(database)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match access {
            Access::BesideWriter => Connection::open_with_flags(database, flags)?,
            Access::WithWal => {
                let connection = Connection::open_with_flags_and_vfs(database, flags, WITHOUT_LOCKS)?;
                connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                connection
            }
            Access::DatabaseAlone => {
                Connection::open_with_flags(immutable(database), flags | OpenFlags::SQLITE_OPEN_URI)?
            }
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        disable_triggers(&connection)?;
        check_version(&connection)?;
        Ok(Self { connection, head_file })
    }
}

/// The files of a log, as they are at one moment.
#[derive(PartialEq, Eq)]
struct Files {
    database: FileState,
    wal: Option<FileState>,
    head: Option<FileState>,
}

#[derive(PartialEq, Eq)]
struct FileState {
    inode: (u64, u64),
    bytes: u64,
    modified_ns: (i64, i64),
}

impl Files {
    /// SQLite says of a missing database no more than that it cannot open it.
    fn of(database: &Path) -> Result<Self, DatabaseFileError> {
        let beside = |ending| picket_sqlite::beside(database, ending);
        Ok(Self {
            database: FileState::of(database).map_err(|source| picket_sqlite::failed(database, source))?,
            wal: FileState::of(&beside(WAL)?).ok(),
            head: FileState::of(&beside(head_file::ENDING)?).ok(),
        })
    }

    fn access(&self, database: &Path) -> Result<Access, DatabaseFileError> {
        // A write-ahead log that was removed under its writer is not made anew, nor is one without
        // content.
        if self.wal.as_ref().is_none_or(|wal| wal.bytes == 0) {
            return Ok(Access::DatabaseAlone);
        }
        let is_shared = picket_sqlite::beside(database, SHARED_MEMORY)?.exists();
        Ok(match is_shared && picket_sqlite::is_owned(database)? {
            true => Access::BesideWriter,
            false => Access::WithWal,
        })
    }
}

impl FileState {
    fn of(file: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        Ok(Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// SQLite's name for a file that nobody changes: it looks for no other file beside it
/// (<https://www.sqlite.org/uri.html>).
fn immutable(database: &Path) -> PathBuf {
    let path = percent_encode(database.as_os_str().as_bytes(), ENCODED_IN_PATHS);
    format!("file:{path}?immutable=1").into()
}
