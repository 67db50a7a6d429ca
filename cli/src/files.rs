//! Reading and writing files, with errors that name the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No file that a command reads whole (a key, a certificate, a configuration) has a reason to be larger.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mode 0600: keys.
    Owner,
    /// Mode 0644: certificates and public keys.
    Everyone,
}

/// What to do about files that exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse, and change nothing.
    Keep,
    /// Replace them.
    Replace,
}

/// What could not be done with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// It, or its folder, could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// It exists and may not be replaced.
    #[error("`{}` exists; it is not overwritten without --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is over [`FILE_BYTES_MAX`].
    #[error("`{}` is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a whole text file of at most [`FILE_BYTES_MAX`] bytes.
///
/// # Errors
/// It cannot be opened or read, is not UTF-8, or is too large.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let read = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(read)?;
    let mut text = String::new();
    let length = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
    if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(FileError::TooLarge { path: path.to_owned() })
    }
}

/// Fails unless this is a folder that can be listed.
///
/// # Errors
/// It is not there, is no folder, or may not be listed.
pub fn check_folder(path: &Path) -> Result<(), FileError> {
    match fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(FileError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Creates a folder and its parents where they do not exist.
///
/// # Errors
/// It cannot be created.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Fails if one of the files exists, so that several files are written all or not at all.
///
/// # Errors
/// [`FileError::Exists`] for the first of them.
pub fn check_absent<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), FileError> {
    match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(FileError::Exists { path: path.clone() }),
        None => Ok(()),
    }
}

/// Writes a file. An existing one is removed first, never written through: a link is not followed, and the mode of
/// the new file holds from its first byte.
///
/// # Errors
/// It exists and is to be kept, or it cannot be written.
pub fn write(path: &Path, content: &str, access: Access, existing: Existing) -> Result<(), FileError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            FileError::Exists { path }
        } else {
            FileError::Write { path, source }
        }
    };
    if existing == Existing::Replace && path.symlink_metadata().is_ok() {
        fs::remove_file(path).map_err(failed)?;
    }
    let mode = match access {
        Access::Owner => 0o600,
        Access::Everyone => 0o644,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(content.as_bytes()).map_err(failed)
}

/// Writes a report: what is there is replaced, and a link or a device is written through.
///
/// # Errors
/// It cannot be written.
pub fn overwrite(path: &Path, content: &str) -> Result<(), FileError> {
    fs::write(path, content).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}
