//! Verifying a log, and reading its last records.

use std::path::Path;

use serde::Serialize;

use super::chain::{ChainEnd, Hash};
use super::check::{DataKeys, acknowledged, assumed_before, broken, check_end, follow, open_head};
use super::database::{self, rows};
use super::decision::DecisionRecord;
use super::errors::{IntegrityFinding, VerifyError};
use super::key::KeyEncryptionKey;
use super::record::{Event, Record};

/// A log that verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerificationReport {
    /// The number of records.
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
pub struct LogHead {
    /// The record's number; 0 for the empty log.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Verifies a whole log, beside a running service or not; it writes nothing.
///
/// With `expected_head` it also finds that the whole database was put back to an older state or
/// replaced.
///
/// # Errors
/// The database cannot be read, or the first place where it is not what was written.
pub fn verify(
    database: &Path,
    key: &KeyEncryptionKey,
    expected_head: Option<LogHead>,
) -> Result<VerificationReport, VerifyError> {
    walk(database, key, expected_head, |_| {})
}

/// The record of a decision, from a log that verifies as a whole; `None` where there is none with
/// this id.
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
    expected_head: Option<LogHead>,
    mut each: impl FnMut(Record),
) -> Result<VerificationReport, VerifyError> {
    database::read(database, |log| {
        // One transaction sees one state, however much is appended meanwhile.
        let snapshot = log.connection.transaction()?;
        let mut keys = DataKeys::new(&snapshot, key);
        // First of all, as a wrong key would else be told as a fault of the first record.
        let head = open_head(&mut keys)?;
        let acknowledged = acknowledged(head, log.head_file.as_deref(), key)?;
        let mut end = ChainEnd::EMPTY;
        let noted = expected_head.map(|head| ChainEnd {
            seq: head.seq,
            hash: head.hash,
        });
        let mut expected = [
            (noted, IntegrityFinding::NotTheNoted),
            (acknowledged, IntegrityFinding::NotTheHead),
        ];
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
            return Err(broken(end.seq + 1, IntegrityFinding::Missing { through }));
        }
        Ok(VerificationReport {
            records: end.seq,
            first_seq: (end.seq > 0).then_some(1),
            last_seq: (end.seq > 0).then_some(end.seq),
            head_hash: end.hash,
        })
    })
}

/// The last `count` records, opened, the earliest of them first. It does not verify what comes
/// before them.
///
/// # Errors
/// The database cannot be read, or one of these records is not what was written.
pub fn tail(database: &Path, key: &KeyEncryptionKey, count: u32) -> Result<Vec<Record>, VerifyError> {
    database::read(database, |log| {
        let snapshot = log.connection.transaction()?;
        let mut keys = DataKeys::new(&snapshot, key);
        let mut before: Option<ChainEnd> = None;
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

fn as_text<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}
