//! Why an administrative call fails.

use picket_audit::AppendError;
use picket_core::enrollment::EnrollmentError;
use picket_state::StorageError;
use picket_state::devices::EnrollmentRequestError;
use picket_state::revisions::RevisionError;
use picket_state::roles::ROLE_ASSIGNMENTS_MAX;
use picket_state::sessions::RevokeError;

use picket_service_configuration::CallerRole;

/// Why an administrative call fails. `Display` is for the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The caller may not do that.
    #[error("it needs the role `{}`", .0.as_str())]
    Role(CallerRole),
    /// There is nothing to look at or act on.
    #[error("this policy service keeps no sessions: its configuration has no `[sessions]`")]
    NoSessions,
    /// There are none to look at or act on.
    #[error("this policy service keeps no devices: its configuration has no `[devices]`")]
    NoDevices,
    /// There is no device of this id, or none that is known by this.
    #[error("there is no such device")]
    NoSuchDevice,
    /// It was never made, was answered or has ended.
    #[error("there is no such challenge, or it was answered, or it has ended")]
    NoSuchChallenge,
    /// A proof does not hold.
    #[error("field `proof`: {0}")]
    Proof(#[from] EnrollmentError),
    /// Two devices would be known by one.
    #[error("the thumbprint is another device's")]
    ThumbprintTaken,
    /// Nothing changes such a device.
    #[error("the device is retired")]
    DeviceRetired,
    /// There are as many as there may be.
    #[error("there are as many {0} as there may be")]
    TooMany(&'static str),
    /// A device could not be invited.
    #[error(transparent)]
    Invitation(#[from] EnrollmentRequestError),
    /// There are no scores.
    #[error("this policy service assesses no risk: its configuration has no `[risk]`")]
    NoRisk,
    /// As much was told as may be.
    #[error("more reports of this caller than are taken in a second")]
    TooManyReports,
    /// A field of a report is not what the contract says.
    #[error("field `reports[{index}].{field}`: expected {expected}")]
    Report {
        index: usize,
        field: &'static str,
        expected: &'static str,
    },
    /// A field of the request is not what the contract says.
    #[error("field `{0}`: expected {1}")]
    Field(&'static str, &'static str),
    /// There are no revisions to look at or to activate.
    #[error(
        "the policies of this policy service are those of a folder: its configuration has no `policies.source = \"store\"`"
    )]
    NoRevisions,
    /// There are no roles to look at or to assign.
    #[error(
        "this policy service takes roles from tokens alone: its configuration has no `roles.source = \"token_and_store\"`"
    )]
    NoRoles,
    /// There are as many as there may be.
    #[error("{ROLE_ASSIGNMENTS_MAX} role assignments are held")]
    TooManyRoles,
    /// It was not done, or nobody knows.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// There is no session of this id.
    #[error("there is no such session")]
    NoSuchSession,
    /// It was not done, or nobody knows.
    #[error(transparent)]
    Operation(#[from] RevokeError),
    /// It was done and is not recorded.
    #[error("it was done, but could not be recorded")]
    Audit(#[from] AppendError),
    /// It would not be recorded.
    #[error(
        "it was not done: the audit log cannot be written, and only what takes something away is done without a record"
    )]
    AuditFails,
    /// The task that performed it ended before its result was known.
    #[error("it is not known whether it was done")]
    Interrupted,
}

impl From<StorageError> for AdminError {
    fn from(error: StorageError) -> Self {
        Self::Operation(error.into())
    }
}
