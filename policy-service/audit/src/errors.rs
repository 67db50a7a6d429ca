//! Why a log cannot be read, written or trusted.

use std::fmt;

use picket_sqlite::{DatabaseFileError, SchemaError};
use serde::Serialize;

use super::key::KeyError;

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
    /// A table that was altered, or an index or a trigger on one, that could change or discard what
    /// is written.
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

/// Where a log is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IntegrityProblem {
    /// The first record that is not what it was; `None` where the head is at fault.
    pub seq: Option<i64>,
    /// The defect.
    pub finding: IntegrityFinding,
}

/// The ways in which a record or the head can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IntegrityFinding {
    /// This record and those after it up to `through` are not there.
    #[error("missing, with all up to record {through}")]
    Missing {
        /// The last one that is missing.
        through: u64,
    },
    /// The row holds something that the log never writes.
    #[error("malformed: not written by the audit log")]
    Malformed,
    /// The hash of the record before it is another one.
    #[error("does not follow the record before it: one of them was altered, moved or put in")]
    NotLinked,
    /// Its hash is not that of its columns.
    #[error("altered: its hash does not match")]
    HashMismatch,
    /// Its data key is not in the database.
    #[error("its data key is missing")]
    KeyMissing,
    /// Its data key does not open.
    #[error("its data key does not open: another key-encryption key, or altered")]
    KeyRefused,
    /// The seal does not open.
    #[error("altered: its seal does not open")]
    SealBroken,
    /// The seal opens, but the content is no event that this version knows.
    #[error("its content is not an event that this version knows")]
    ContentUnknown,
    /// The sealed head ends before this record.
    #[error("put in: the sealed head ends before it")]
    AfterHead,
    /// The sealed head names this record with another hash.
    #[error("altered: the sealed head names another hash for it")]
    NotTheHead,
    /// There is no head.
    #[error("missing")]
    HeadMissing,
    /// The file beside the database that names the last acknowledged record is not there, and the
    /// log was not closed.
    #[error(
        "the file with the ending `-head` beside the database is missing. It says up to which record the log was \
         acknowledged, and the log was not closed: copy it together with the database and its `-wal`"
    )]
    HeadFileMissing,
    /// That file does not open.
    #[error(
        "the file with the ending `-head` beside the database does not open: altered, or of a log with another key"
    )]
    HeadFileBroken,
    /// The head that was noted elsewhere is of another history.
    #[error("has another hash than the one that was noted: the log was replaced")]
    NotTheNoted,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what was written.
    #[error("{0}")]
    Broken(IntegrityProblem),
}

impl From<DatabaseFileError> for VerifyError {
    fn from(error: DatabaseFileError) -> Self {
        Self::Store(error.into())
    }
}

impl fmt::Display for IntegrityProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "record {seq}: {}", self.finding),
            None => write!(f, "head: {}", self.finding),
        }
    }
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
