//! The file of a SQLite database that one process owns: private, locked, and noticed when it is
//! replaced.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The ending of the file that the owner locks.
const LOCK: &str = ".lock";
/// The ending of SQLite's write-ahead log. It has what was committed last, also after the owner was
/// killed.
pub const WAL: &str = "-wal";

/// Why a database's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFileError {
    /// The file system says no.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("`{0}` is written by another process")]
    Locked(String),
    /// The file at the path is no longer the one that was opened, so what is written would be lost.
    #[error("`{0}` was moved, removed or replaced while it was open")]
    Replaced(String),
}

/// A process that only asks whether somebody writes has the lock for some microseconds
/// ([`is_owned`]).
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A database's file, owned for as long as this lives; the operating system gives the lock back
/// when the process dies.
pub struct DatabaseFile {
    file: PathBuf,
    /// The database and the files beside it that must stay what they are.
    watched: Vec<(PathBuf, Identity)>,
    _lock: File,
}

impl DatabaseFile {
    /// Creates the file where there is none, and locks it.
    ///
    /// # Errors
    /// It cannot be created or read, or another process has the lock.
    pub fn own(file: &Path) -> Result<Self, DatabaseFileError> {
        create_private(file)?;
        let lock = lock(file)?;
        Ok(Self {
            file: file.to_owned(),
            watched: vec![(file.to_owned(), Identity::of(file)?)],
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// From now on the file beside the database with this ending must stay what it is, too.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn watch(&mut self, ending: &str) -> Result<(), DatabaseFileError> {
        let path = beside(&self.file, ending)?;
        let identity = Identity::of(&path)?;
        self.watched.push((path, identity));
        Ok(())
    }

    /// Fails where a path leads to another file by now.
    ///
    /// # Errors
    /// [`DatabaseFileError::Replaced`].
    pub fn check(&self) -> Result<(), DatabaseFileError> {
        for (path, expected) in &self.watched {
            match Identity::of(path) {
                Ok(identity) if identity == *expected => {}
                Ok(_) | Err(_) => return Err(DatabaseFileError::Replaced(path.display().to_string())),
            }
        }
        Ok(())
    }
}

/// The file beside a database with this ending. It is the same one by whichever link the database
/// is reached.
///
/// # Errors
/// The database is not there, or cannot be read.
pub fn beside(file: &Path, ending: &str) -> Result<PathBuf, DatabaseFileError> {
    let mut path = file
        .canonicalize()
        .map_err(|source| failed(file, source))?
        .into_os_string();
    path.push(ending);
    Ok(PathBuf::from(path))
}

/// Whether a process owns the database at this moment.
///
/// # Errors
/// The database is not there, or cannot be read.
pub fn is_owned(file: &Path) -> Result<bool, DatabaseFileError> {
    // A copy has no lock beside it, and what cannot be opened is locked by nobody who could be
    // asked.
    let Ok(lock) = File::open(beside(file, LOCK)?) else {
        return Ok(false);
    };
    Ok(matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// A lock beside the database: closing any handle of the database itself would release SQLite's own
/// locks.
fn lock(file: &Path) -> Result<File, DatabaseFileError> {
    let path = beside(file, LOCK)?;
    create_private(&path)?;
    let lock = File::open(&path).map_err(|source| failed(&path, source))?;
    for _ in 0..LOCK_ATTEMPTS {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
        }
    }
    Err(DatabaseFileError::Locked(file.display().to_string()))
}

/// Creates a file that nobody else may read, where there is none. SQLite gives its WAL the same
/// permissions.
///
/// # Errors
/// It cannot be created or opened.
pub fn create_private(file: &Path) -> Result<(), DatabaseFileError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop).map_err(|source| failed(file, source))
}

/// An error that names the file.
#[must_use]
pub fn failed(file: &Path, source: io::Error) -> DatabaseFileError {
    DatabaseFileError::File {
        path: file.display().to_string(),
        source,
    }
}

/// Which file a path leads to. On Linux a deleted database can still be written to, and everything
/// in it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(file: &Path) -> Result<Self, DatabaseFileError> {
        let metadata = std::fs::metadata(file).map_err(|source| failed(file, source))?;
        Ok(Self::of_metadata(&metadata))
    }

    #[cfg(unix)]
    fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(not(unix))]
    fn of_metadata(_metadata: &std::fs::Metadata) -> Self {
        Self(0, 0)
    }
}
