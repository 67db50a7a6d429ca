//! The file of a SQLite database that one process owns: private, locked, and noticed when it is replaced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

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
    #[error("`{0}` was moved or replaced while it was open")]
    Replaced(String),
}

/// A database's file, owned for as long as this lives; the operating system gives the lock back when the process dies.
pub(crate) struct DatabaseFile {
    file: PathBuf,
    identity: Identity,
    _lock: File,
}

impl DatabaseFile {
    /// Creates the file where there is none, and locks it.
    pub(crate) fn own(file: &Path) -> Result<Self, DatabaseFileError> {
        create_private(file)?;
        let lock = lock(file)?;
        Ok(Self {
            file: file.to_owned(),
            identity: Identity::of(file)?,
            _lock: lock,
        })
    }

    /// Fails where the path leads to another file by now.
    pub(crate) fn check(&self) -> Result<(), DatabaseFileError> {
        match Identity::of(&self.file) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) | Err(_) => Err(DatabaseFileError::Replaced(self.file.display().to_string())),
        }
    }
}

/// A lock beside the database: closing any handle of the database itself would release SQLite's own locks. It is the same one
/// by whichever link the database is reached.
fn lock(file: &Path) -> Result<File, DatabaseFileError> {
    let real = file.canonicalize().map_err(|source| failed(file, source))?;
    let mut path = real.into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    create_private(&path)?;
    let lock = File::open(&path).map_err(|source| failed(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(DatabaseFileError::Locked(file.display().to_string())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

/// Creates a file that nobody else may read, where there is none. SQLite gives its WAL the same permissions.
fn create_private(file: &Path) -> Result<(), DatabaseFileError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop).map_err(|source| failed(file, source))
}

/// An error that names the file.
pub(crate) fn failed(file: &Path, source: io::Error) -> DatabaseFileError {
    DatabaseFileError::File {
        path: file.display().to_string(),
        source,
    }
}

/// Which file a path leads to. On Linux a deleted database can still be written to, and everything in it is lost.
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
