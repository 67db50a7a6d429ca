//! The one table from what went wrong to what the caller is told.

use picket_core::enrollment::EnrollmentError;
use picket_proto::WireError;
use tonic::{Code, Status};

use crate::audit::AppendError;
use crate::configuration::Role;
use crate::decision::DecisionError;
use crate::devices::InvitationError;
use crate::ext_authz::CheckError;
use crate::revisions::RevisionError;
use crate::sessions::OperationError;
use crate::storage::{ROLE_ASSIGNMENTS_MAX, StorageError};

/// Why a call ends without a decision.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecideError {
    /// The caller's certificate names nobody who may ask.
    #[error("the caller's SPIFFE ID may not ask for decisions")]
    CallerRefused,
    /// As many calls as there may be are being served.
    #[error("too many calls at once")]
    Overloaded,
    /// The request is not what the contract says.
    #[error(transparent)]
    RequestInvalid(#[from] WireError),
    /// It was not made, or not recorded.
    #[error(transparent)]
    Undecided(#[from] DecisionError),
    /// Envoy's external authorization has no verdict.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It took longer than any sidecar waits.
    #[error("the decision took too long")]
    TimedOut,
}

impl DecideError {
    /// The status, whose message tells the caller no more than it can act upon.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::CallerRefused => Status::permission_denied(self.to_string()),
            Self::Overloaded
            | Self::Undecided(DecisionError::Audit(AppendError::QueueFull))
            | Self::Check(CheckError::Overloaded) => Status::resource_exhausted("too many calls at once"),
            Self::RequestInvalid(error) => Status::invalid_argument(error.to_string()),
            Self::Check(CheckError::Request(error)) => Status::invalid_argument(error.to_string()),
            Self::Check(CheckError::Stopping) => Status::unavailable(self.to_string()),
            Self::Undecided(DecisionError::Audit(AppendError::Failed(_) | AppendError::Closed)) => {
                Status::unavailable("the decision could not be recorded")
            }
            Self::Undecided(DecisionError::Audit(AppendError::Encoding(_))) => {
                Status::internal("the decision could not be recorded")
            }
            Self::Undecided(DecisionError::Storage(_)) => {
                Status::unavailable("the session or the device could not be looked up")
            }
            Self::Undecided(DecisionError::Roles(_)) => Status::unavailable("the roles could not be looked up"),
            Self::Undecided(DecisionError::Policies(_)) => Status::unavailable("the policies could not be looked up"),
            Self::TimedOut => Status::deadline_exceeded(self.to_string()),
        }
    }
}

/// Why an operator's call fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// The caller may not do that.
    #[error("it needs the role `{}`", .0.as_str())]
    Role(Role),
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
    Invitation(#[from] InvitationError),
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
    Operation(#[from] OperationError),
    /// It was done and is not recorded.
    #[error("it was done, but could not be recorded")]
    Audit(#[from] AppendError),
    /// It would not be recorded.
    #[error(
        "it was not done: the audit log cannot be written, and only what takes something away is done without a record"
    )]
    AuditFails,
    /// It ended in the middle.
    #[error("it is not known whether it was done")]
    Cut,
}

impl From<StorageError> for AdminError {
    fn from(error: StorageError) -> Self {
        Self::Operation(error.into())
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let code = match &error {
            AdminError::Role(_) => Code::PermissionDenied,
            AdminError::NoSessions
            | AdminError::NoDevices
            | AdminError::NoRevisions
            | AdminError::NoRoles
            | AdminError::NoRisk
            | AdminError::DeviceRetired => Code::FailedPrecondition,
            AdminError::Revision(RevisionError::OtherActive { .. }) => Code::Aborted,
            AdminError::Revision(RevisionError::NoSuchRevision) => Code::NotFound,
            AdminError::Revision(RevisionError::TooMany) => Code::ResourceExhausted,
            AdminError::Revision(RevisionError::Storage(_)) => Code::Unavailable,
            AdminError::Revision(RevisionError::Cut) => Code::Internal,
            AdminError::Field(_, _) | AdminError::Proof(_) | AdminError::Report { .. } => Code::InvalidArgument,
            AdminError::NoSuchSession | AdminError::NoSuchDevice | AdminError::NoSuchChallenge => Code::NotFound,
            AdminError::ThumbprintTaken => Code::AlreadyExists,
            AdminError::TooMany(_)
            | AdminError::TooManyReports
            | AdminError::TooManyRoles
            | AdminError::Invitation(InvitationError::TooMany)
            | AdminError::Operation(OperationError::TooManyRevocations) => Code::ResourceExhausted,
            AdminError::Invitation(InvitationError::Storage(_)) => Code::Unavailable,
            AdminError::Invitation(InvitationError::Random) => Code::Internal,
            AdminError::Operation(OperationError::Storage(_)) | AdminError::Audit(_) | AdminError::AuditFails => {
                Code::Unavailable
            }
            AdminError::Cut => Code::Internal,
        };
        if let AdminError::Operation(OperationError::Storage(storage))
        | AdminError::Revision(RevisionError::Storage(storage))
        | AdminError::Invitation(InvitationError::Storage(storage)) = &error
        {
            // What the database says is for whoever runs the service.
            tracing::warn!(error = %storage, "an operator's call failed");
            return Self::new(code, format!("storage: {}", storage.reason()));
        }
        Self::new(code, error.to_string())
    }
}

/// The label of a code in metrics; it covers every code that [`DecideError::status`] gives.
pub(super) fn label(code: Code) -> &'static str {
    match code {
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::Unavailable => "UNAVAILABLE",
        Code::Internal => "INTERNAL",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => "OTHER",
    }
}
