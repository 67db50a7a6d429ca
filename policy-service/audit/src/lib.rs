//! The audit log: every decision, session and act of an operator, sealed and chained, durable before the decision leaves.
//!
//! Each record is sealed with AES-256-GCM under a data key that is made at each start and wrapped by the key-encryption
//! key. A record's hash covers the hash of the record before it, and a sealed head names the last record, so that
//! [`verify`] finds what was altered, taken out, moved or put in, and where. What it cannot find by itself is the whole
//! database put back to an older state: for that it takes the head that an operator has noted elsewhere.

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

pub use administration::{Act, AdministrationRecord, Outcome};
pub use chain::{HASH_BYTES, Hash};
pub use decision::{ChallengeRecord, DecisionDetails, DecisionRecord, EffectRecord, ObservedRecord};
pub use device::{DeviceSeenRecord, DeviceStateRecord};
pub use errors::{Finding, Problem, StoreError, VerifyError};
pub use key::{KeyEncryptionKey, KeyError};
pub use record::{Event, Record};
pub use request::{
    ActionRecord, ActorRecord, ContextRecord, FurtherTokenRecord, PrincipalRecord, ResourceRecord, SidecarRecord,
};
pub use risk::{RiskModeRecord, RiskRecord, SignalRecord};
pub use search::{SearchKind, SearchRecord, SearchSummary};
pub use session::{EndReasonRecord, SessionChange, SessionRecord};
pub use verify::{Head, Report, find_decision, tail, verify};
pub use writer::{
    AppendError, AuditLog, AuditState, AuditWriter, BATCH_RECORDS_MAX, Commit, OpenError, QUEUE_RECORDS_MAX,
};

#[cfg(test)]
mod tests;
