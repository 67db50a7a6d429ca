//! The audit log: every decision, session and act of an operator, sealed and chained, durable before the decision leaves.
//!
//! Each record is sealed with AES-256-GCM under a data key that is made at each start and wrapped by the key-encryption
//! key. A record's hash covers the hash of the record before it, and a sealed head names the last record, so that
//! [`verify`] finds what was altered, taken out, moved or put in, and where. What it cannot find by itself is the whole
//! database put back to an older state: for that it takes the head that an operator has noted elsewhere.

mod chain;
mod device;
mod key;
mod record;
mod risk;
mod search;
mod store;
mod verify;
mod writer;

pub use chain::{HASH_BYTES, Hash};
pub use device::DeviceSeenRecord;
pub use key::{KeyEncryptionKey, KeyError};
pub(crate) use record::Answer;
pub use record::{
    Act, ActionRecord, AdministrationRecord, ChallengeRecord, ContextRecord, DecisionRecord, EffectRecord, Event,
    FurtherTokenRecord, ObservedRecord, Outcome, PrincipalRecord, Record, ResourceRecord, SessionChange, SessionRecord,
    SidecarRecord,
};
pub use risk::{RiskModeRecord, RiskRecord, SignalRecord};
pub(crate) use search::Searched;
pub use search::{SearchKind, SearchRecord};
pub use store::StoreError;
pub use verify::{Finding, Head, Problem, Report, VerifyError, find_decision, tail, verify};
pub use writer::{
    AppendError, AuditLog, AuditState, AuditWriter, BATCH_RECORDS_MAX, Commit, OpenError, QUEUE_RECORDS_MAX,
};

#[cfg(test)]
mod tests;
