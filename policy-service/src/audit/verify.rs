//! Verifying a log, and reading its last records.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use picket_sqlite::DatabaseFileError;
use rusqlite::Connection;
use serde::Serialize;

use super::chain::{End, Hash, SealedHead, Writing, head_associated_data};
use super::key::{KeyEncryptionKey, KeyId, Opener};
use super::record::{DecisionRecord, Event, Record};
use super::store::{self, RecordRow, StoreError, head_file, rows};

/// A log that verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many records there are.
    pub records: u64,
    /// The number of the first one, 1; `None` where there is none.
    pub first_seq: Option<u64>,
    /// The number of the last one; `None` where there is none.
    pub last_seq: Option<u64>,
    /// The hash of the last one, which covers all of them, in hexadecimal.
    #[serde(serialize_with = "as_text")]
    pub head_hash: Hash,
}

/// A head that was noted elsewhere: the log must still hold this record with this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The record's number; 0 for the empty log.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Where a log is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The first record that is not what it was; `None` where the head is at fault.
    pub seq: Option<i64>,
    /// What is wrong with it.
    pub finding: Finding,
}

/// What can be wrong with a record or with the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
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
    /// The file beside the database that names the last acknowledged record is not there, and the log was not closed.
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
    Broken(Problem),
}

impl From<DatabaseFileError> for VerifyError {
    fn from(error: DatabaseFileError) -> Self {
        Self::Store(error.into())
    }
}

impl fmt::Display for Problem {
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

/// Verifies a whole log, beside a running service or not; it writes nothing.
///
/// With `expected_head` it also finds that the whole database was put back to an older state or replaced.
///
/// # Errors
/// The database cannot be read, or the first place where it is not what was written.
pub fn verify(database: &Path, key: &KeyEncryptionKey, expected_head: Option<Head>) -> Result<Report, VerifyError> {
    walk(database, key, expected_head, |_| {})
}

/// The record of a decision, from a log that verifies as a whole; `None` where there is none with this id.
///
/// # Errors
/// Those of [`verify`].
pub fn find_decision(
    database: &Path,
    key: &KeyEncryptionKey,
    decision_id: &str,
) -> Result<Option<DecisionRecord>, VerifyError> {
    let mut found = None;
    walk(database, key, None, |record| match record.content {
        Event::Decision(decision) if decision.decision_id == decision_id => found = Some(*decision),
        Event::Decision(_) | Event::Session(_) | Event::Administration(_) | Event::Search(_) => {}
    })?;
    Ok(found)
}

/// Verifies a whole log, and shows each record that is what was written.
fn walk(
    database: &Path,
    key: &KeyEncryptionKey,
    expected_head: Option<Head>,
    mut each: impl FnMut(Record),
) -> Result<Report, VerifyError> {
    store::read(database, |log| {
        // One transaction sees one state, however much is appended meanwhile.
        let snapshot = log.connection.transaction()?;
        let mut keys = Keys::new(&snapshot, key);
        // First of all, as a wrong key would else be told as a fault of the first record.
        let head = open_head(&mut keys)?;
        let acknowledged = acknowledged(head, log.head_file.as_deref(), key)?;
        let mut end = End::EMPTY;
        let noted = expected_head.map(|head| End {
            seq: head.seq,
            hash: head.hash,
        });
        let mut expected = [(noted, Finding::NotTheNoted), (acknowledged, Finding::NotTheHead)];
        rows::each_record(&snapshot, |row| {
            let (next, record) = follow(&mut keys, end, row)?;
            end = next;
            each(record);
            for (expected, finding) in &mut expected {
                match expected.take_if(|expected| expected.seq == end.seq) {
                    Some(expected) if expected != end => return Err(broken(end.seq, *finding)),
                    Some(_) | None => {}
                }
            }
            Ok::<_, VerifyError>(())
        })?;
        check_end(end, head.end)?;
        let missing = expected.iter().filter_map(|(expected, _)| *expected);
        if let Some(through) = missing.map(|expected| expected.seq).max().filter(|seq| *seq > 0) {
            return Err(broken(end.seq + 1, Finding::Missing { through }));
        }
        Ok(Report {
            records: end.seq,
            first_seq: (end.seq > 0).then_some(1),
            last_seq: (end.seq > 0).then_some(end.seq),
            head_hash: end.hash,
        })
    })
}

/// The last `count` records, opened, the earliest of them first. It does not verify what comes before them.
///
/// # Errors
/// The database cannot be read, or one of these records is not what was written.
pub fn tail(database: &Path, key: &KeyEncryptionKey, count: u32) -> Result<Vec<Record>, VerifyError> {
    store::read(database, |log| {
        let snapshot = log.connection.transaction()?;
        let mut keys = Keys::new(&snapshot, key);
        let mut before: Option<End> = None;
        let mut records = Vec::new();
        for row in rows::last_records(&snapshot, count)? {
            let from = before.unwrap_or_else(|| assumed_before(&row));
            let (end, record) = follow(&mut keys, from, row)?;
            before = Some(end);
            records.push(record);
        }
        Ok(records)
    })
}

/// Checks the last record against the sealed head and the file beside the database, and returns the end of the chain.
pub(super) fn end_of(
    connection: &Connection,
    key: &KeyEncryptionKey,
    head_file: Option<&[u8]>,
) -> Result<End, VerifyError> {
    let mut keys = Keys::new(connection, key);
    let head = open_head(&mut keys)?;
    let acknowledged = acknowledged(head, head_file, key)?.unwrap_or(End::EMPTY);
    let mut end = End::EMPTY;
    for row in rows::last_records(connection, 1)? {
        end = follow(&mut keys, assumed_before(&row), row)?.0;
    }
    check_end(end, head.end)?;
    if acknowledged.seq > end.seq {
        let through = acknowledged.seq;
        return Err(broken(end.seq + 1, Finding::Missing { through }));
    }
    if acknowledged.seq > 0 && rows::hash(connection, acknowledged.seq)? != Some(acknowledged.hash) {
        return Err(broken(acknowledged.seq, Finding::NotTheHead));
    }
    Ok(end)
}

/// Checks that a row is the record that follows `before`, and opens it.
fn follow(keys: &mut Keys<'_>, before: End, row: Result<RecordRow, i64>) -> Result<(End, Record), VerifyError> {
    let malformed = |seq: i64| {
        VerifyError::Broken(Problem {
            seq: Some(seq),
            finding: Finding::Malformed,
        })
    };
    let row = row.map_err(malformed)?;
    let seq = row.place.seq;
    let expected = before.seq + 1;
    if seq < expected {
        return Err(broken(seq, Finding::Malformed));
    }
    if seq > expected {
        return Err(broken(expected, Finding::Missing { through: seq - 1 }));
    }
    if row.place.prev_hash != before.hash {
        return Err(broken(seq, Finding::NotLinked));
    }
    if row.place.hash(&row.sealed) != row.hash {
        return Err(broken(seq, Finding::HashMismatch));
    }
    let opener = keys
        .opener(&row.place.key_id)?
        .map_err(|finding| broken(seq, finding))?;
    let content = opener
        .open(&row.place.associated_data(), &row.sealed)
        .ok_or_else(|| broken(seq, Finding::SealBroken))?;
    let content: Event = serde_json::from_slice(&content).map_err(|_| broken(seq, Finding::ContentUnknown))?;
    let record = Record {
        seq,
        time_us: row.place.time_us,
        hash: row.hash,
        content,
    };
    Ok((End { seq, hash: row.hash }, record))
}

/// For a record whose predecessor is not read: the one that it names.
fn assumed_before(row: &Result<RecordRow, i64>) -> End {
    row.as_ref().map_or(End::EMPTY, |row| End {
        seq: row.place.seq.saturating_sub(1),
        hash: row.place.prev_hash,
    })
}

fn open_head(keys: &mut Keys<'_>) -> Result<SealedHead, VerifyError> {
    let broken = |finding| VerifyError::Broken(Problem { seq: None, finding });
    let (key_id, sealed) = rows::head(keys.connection)?.ok_or_else(|| broken(Finding::HeadMissing))?;
    let key_id = KeyId::from_slice(&key_id).ok_or_else(|| broken(Finding::Malformed))?;
    let opener = keys.opener(&key_id)?.map_err(broken)?;
    opener
        .open(&head_associated_data(&key_id), &sealed)
        .and_then(|bytes| SealedHead::from_bytes(&bytes))
        .ok_or_else(|| broken(Finding::SealBroken))
}

/// The last acknowledged record that the file beside the database names; `None` where there is no such file, and none is needed.
fn acknowledged(
    head: SealedHead,
    head_file: Option<&[u8]>,
    key: &KeyEncryptionKey,
) -> Result<Option<End>, VerifyError> {
    let broken = |finding| VerifyError::Broken(Problem { seq: None, finding });
    match (head_file, head.writing) {
        (Some(content), _) => head_file::acknowledged(content, key)
            .map(Some)
            .ok_or_else(|| broken(Finding::HeadFileBroken)),
        (None, Writing::Open) => Err(broken(Finding::HeadFileMissing)),
        (None, Writing::Closed) => Ok(None),
    }
}

fn check_end(end: End, head: End) -> Result<(), VerifyError> {
    match end.seq.cmp(&head.seq) {
        std::cmp::Ordering::Less => Err(broken(end.seq + 1, Finding::Missing { through: head.seq })),
        std::cmp::Ordering::Greater => Err(broken(head.seq + 1, Finding::AfterHead)),
        std::cmp::Ordering::Equal if end.hash != head.hash => Err(broken(end.seq, Finding::NotTheHead)),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn broken(seq: u64, finding: Finding) -> VerifyError {
    VerifyError::Broken(Problem {
        seq: Some(i64::try_from(seq).unwrap_or(i64::MAX)),
        finding,
    })
}

/// The data keys, unwrapped when first needed.
struct Keys<'a> {
    connection: &'a Connection,
    key: &'a KeyEncryptionKey,
    openers: HashMap<KeyId, Result<Opener, Finding>>,
}

impl<'a> Keys<'a> {
    fn new(connection: &'a Connection, key: &'a KeyEncryptionKey) -> Self {
        Self {
            connection,
            key,
            openers: HashMap::new(),
        }
    }

    /// The outer error is the database's, the inner one says what is wrong with the key.
    fn opener(&mut self, id: &KeyId) -> Result<Result<&Opener, Finding>, VerifyError> {
        if !self.openers.contains_key(id) {
            let opener = match rows::wrapped_key(self.connection, id)? {
                Some(wrapped) => self.key.open_data_key(id, &wrapped).ok_or(Finding::KeyRefused),
                None => Err(Finding::KeyMissing),
            };
            self.openers.insert(*id, opener);
        }
        Ok(match self.openers.get(id) {
            Some(Ok(opener)) => Ok(opener),
            Some(Err(finding)) => Err(*finding),
            None => Err(Finding::KeyMissing),
        })
    }
}

fn as_text<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}
