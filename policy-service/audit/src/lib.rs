//! The audit log: every decision, session event, administrative act and search, durable before its
//! result leaves.
//!
//! An [`AuditLog`] appends an [`Event`] and returns once the record is committed. One thread writes
//! all records, many in one commit. Records cannot be changed without a trace:
//! - Each record is sealed with AES-256-GCM under a data key. A data key is made at each start and
//!   wrapped by the [`KeyEncryptionKey`].
//! - The hash of a record covers the hash of the record before it. A sealed head names the last one.
//! - A file beside the database names the last acknowledged record, also where SQLite's write-ahead
//!   log is lost.
//!
//! [`verify()`] finds records that were altered, removed, moved or inserted, and names the first. It
//! cannot detect by itself that the whole database was replaced by an older state: for that, it
//! compares with a [`LogHead`] that an operator has noted elsewhere.
//!
//! The stored form has types of its own, such as [`DecisionRecord`]. Types of other crates are
//! converted into them, so that a rename elsewhere changes no stored byte; a test holds the bytes
//! of every kind of record.

mod administration;
mod chain;
mod check;
mod database;
mod decision;
mod device;
mod errors;
mod key;
mod record;
mod request;
mod risk;
mod search;
mod session;
mod store;
mod verify;
mod writer;

pub use administration::{Act, ActOutcome, AdministrationRecord};
pub use chain::{HASH_BYTES, Hash};
pub use decision::{ChallengeRecord, DecisionDetails, DecisionRecord, EffectRecord, ObservedRecord};
pub use device::{DeviceRecord, DeviceStateRecord};
pub use errors::{IntegrityFinding, IntegrityProblem, StoreError, VerifyError};
pub use key::{KeyEncryptionKey, KeyError};
pub use picket_sqlite::DatabaseFileError;
pub use record::{Event, Record};
pub use request::{
    ActionRecord, ActorRecord, ContextRecord, FurtherTokenRecord, PrincipalRecord, ResourceRecord, SidecarRecord,
};
pub use risk::{RiskModeRecord, RiskRecord, SignalRecord};
pub use search::{SearchKind, SearchRecord, SearchSummary};
pub use session::{EndReasonRecord, SessionChange, SessionRecord};
pub use verify::{LogHead, VerificationReport, find_decision, tail, verify};
pub use writer::{
    AppendError, AuditLog, AuditState, AuditWriter, BATCH_RECORDS_MAX, Commit, OpenError, QUEUE_RECORDS_MAX,
};

#[cfg(test)]
mod tests;
