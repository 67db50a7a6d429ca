//! Checking single records against the chain, and the end of a log against its heads.

use std::collections::HashMap;

use rusqlite::Connection;

use super::chain::{ChainEnd, SealedHead, WriterState, head_associated_data};
use super::database::{RecordRow, head_file, rows};
use super::errors::{IntegrityFinding, IntegrityProblem, VerifyError};
use super::key::{KeyEncryptionKey, KeyId, Opener};
use super::record::{Event, Record};

/// Checks the last record against the sealed head and the file beside the database, and returns the
/// end of the chain.
pub(super) fn end_of(
    connection: &Connection,
    key: &KeyEncryptionKey,
    head_file: Option<&[u8]>,
) -> Result<ChainEnd, VerifyError> {
    let mut keys = DataKeys::new(connection, key);
    let head = open_head(&mut keys)?;
    let acknowledged = acknowledged(head, head_file, key)?.unwrap_or(ChainEnd::EMPTY);
    let mut end = ChainEnd::EMPTY;
    for row in rows::last_records(connection, 1)? {
        end = follow(&mut keys, assumed_before(&row), row)?.0;
    }
    check_end(end, head.end)?;
    if acknowledged.seq > end.seq {
        let through = acknowledged.seq;
        return Err(broken(end.seq + 1, IntegrityFinding::Missing { through }));
    }
    if acknowledged.seq > 0 && rows::hash(connection, acknowledged.seq)? != Some(acknowledged.hash) {
        return Err(broken(acknowledged.seq, IntegrityFinding::NotTheHead));
    }
    Ok(end)
}

/// Checks that a row is the record that follows `before`, and opens it.
pub(super) fn follow(
    keys: &mut DataKeys<'_>,
    before: ChainEnd,
    row: Result<RecordRow, i64>,
) -> Result<(ChainEnd, Record), VerifyError> {
    let malformed = |seq: i64| {
        VerifyError::Broken(IntegrityProblem {
            seq: Some(seq),
            finding: IntegrityFinding::Malformed,
        })
    };
    let row = row.map_err(malformed)?;
    let seq = row.place.seq;
    let expected = before.seq + 1;
    if seq < expected {
        return Err(broken(seq, IntegrityFinding::Malformed));
    }
    if seq > expected {
        return Err(broken(expected, IntegrityFinding::Missing { through: seq - 1 }));
    }
    if row.place.prev_hash != before.hash {
        return Err(broken(seq, IntegrityFinding::NotLinked));
    }
    if row.place.hash(&row.sealed) != row.hash {
        return Err(broken(seq, IntegrityFinding::HashMismatch));
    }
    let opener = keys
        .opener(&row.place.key_id)?
        .map_err(|finding| broken(seq, finding))?;
    let content = opener
        .open(&row.place.associated_data(), &row.sealed)
        .ok_or_else(|| broken(seq, IntegrityFinding::SealBroken))?;
    let content: Event = serde_json::from_slice(&content).map_err(|_| broken(seq, IntegrityFinding::ContentUnknown))?;
    let record = Record {
        seq,
        time_us: row.place.time_us,
        hash: row.hash,
        content,
    };
    Ok((ChainEnd { seq, hash: row.hash }, record))
}

/// For a record whose predecessor is not read: the one that it names.
pub(super) fn assumed_before(row: &Result<RecordRow, i64>) -> ChainEnd {
    row.as_ref().map_or(ChainEnd::EMPTY, |row| ChainEnd {
        seq: row.place.seq.saturating_sub(1),
        hash: row.place.prev_hash,
    })
}

pub(super) fn open_head(keys: &mut DataKeys<'_>) -> Result<SealedHead, VerifyError> {
    let broken = |finding| VerifyError::Broken(IntegrityProblem { seq: None, finding });
    let (key_id, sealed) = rows::head(keys.connection)?.ok_or_else(|| broken(IntegrityFinding::HeadMissing))?;
    let key_id = KeyId::from_slice(&key_id).ok_or_else(|| broken(IntegrityFinding::Malformed))?;
    let opener = keys.opener(&key_id)?.map_err(broken)?;
    opener
        .open(&head_associated_data(&key_id), &sealed)
        .and_then(|bytes| SealedHead::from_bytes(&bytes))
        .ok_or_else(|| broken(IntegrityFinding::SealBroken))
}

/// The last acknowledged record that the file beside the database names; `None` where there is no
/// such file, and none is needed.
pub(super) fn acknowledged(
    head: SealedHead,
    head_file: Option<&[u8]>,
    key: &KeyEncryptionKey,
) -> Result<Option<ChainEnd>, VerifyError> {
    let broken = |finding| VerifyError::Broken(IntegrityProblem { seq: None, finding });
    match (head_file, head.writing) {
        (Some(content), _) => head_file::acknowledged(content, key)
            .map(Some)
            .ok_or_else(|| broken(IntegrityFinding::HeadFileBroken)),
        (None, WriterState::Open) => Err(broken(IntegrityFinding::HeadFileMissing)),
        (None, WriterState::Closed) => Ok(None),
    }
}

pub(super) fn check_end(end: ChainEnd, head: ChainEnd) -> Result<(), VerifyError> {
    match end.seq.cmp(&head.seq) {
        std::cmp::Ordering::Less => Err(broken(end.seq + 1, IntegrityFinding::Missing { through: head.seq })),
        std::cmp::Ordering::Greater => Err(broken(head.seq + 1, IntegrityFinding::AfterHead)),
        std::cmp::Ordering::Equal if end.hash != head.hash => Err(broken(end.seq, IntegrityFinding::NotTheHead)),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

pub(super) fn broken(seq: u64, finding: IntegrityFinding) -> VerifyError {
    VerifyError::Broken(IntegrityProblem {
        seq: Some(i64::try_from(seq).unwrap_or(i64::MAX)),
        finding,
    })
}

/// The data keys, unwrapped when first needed.
pub(super) struct DataKeys<'a> {
    connection: &'a Connection,
    key: &'a KeyEncryptionKey,
    openers: HashMap<KeyId, Result<Opener, IntegrityFinding>>,
}

impl<'a> DataKeys<'a> {
    pub(super) fn new(connection: &'a Connection, key: &'a KeyEncryptionKey) -> Self {
        Self {
            connection,
            key,
            openers: HashMap::new(),
        }
    }

    /// The outer error is the database's, the inner one says what is wrong with the key.
    fn opener(&mut self, id: &KeyId) -> Result<Result<&Opener, IntegrityFinding>, VerifyError> {
        if !self.openers.contains_key(id) {
            let opener = match rows::wrapped_key(self.connection, id)? {
                Some(wrapped) => self.key.open_data_key(id, &wrapped).ok_or(IntegrityFinding::KeyRefused),
                None => Err(IntegrityFinding::KeyMissing),
            };
            self.openers.insert(*id, opener);
        }
        Ok(match self.openers.get(id) {
            Some(Ok(opener)) => Ok(opener),
            Some(Err(finding)) => Err(*finding),
            None => Err(IntegrityFinding::KeyMissing),
        })
    }
}
