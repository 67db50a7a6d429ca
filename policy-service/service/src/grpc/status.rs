//! The one table from what went wrong to what the caller is told.

use picket_audit::AppendError;
use picket_proto::WireError;
use picket_state::devices::EnrollmentRequestError;
use picket_state::revisions::RevisionError;
use picket_state::sessions::RevokeError;
use tonic::{Code, Status};

use crate::administration::AdminError;
use crate::decision::DecisionError;
use crate::ext_authz::CheckError;
use crate::transport::AdmissionError;

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

impl From<AdmissionError> for DecideError {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Refused(_) => Self::CallerRefused,
            AdmissionError::Overloaded => Self::Overloaded,
        }
    }
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
            AdminError::Revision(RevisionError::CheckFailed) => Code::Internal,
            AdminError::Field(_, _) | AdminError::Proof(_) | AdminError::Report { .. } => Code::InvalidArgument,
            AdminError::NoSuchSession | AdminError::NoSuchDevice | AdminError::NoSuchChallenge => Code::NotFound,
            AdminError::ThumbprintTaken => Code::AlreadyExists,
            AdminError::TooMany(_)
            | AdminError::TooManyReports
            | AdminError::TooManyRoles
            | AdminError::Invitation(EnrollmentRequestError::TooMany)
            | AdminError::Operation(RevokeError::TooManyRevocations) => Code::ResourceExhausted,
            AdminError::Invitation(EnrollmentRequestError::Storage(_)) => Code::Unavailable,
            AdminError::Invitation(EnrollmentRequestError::Random) => Code::Internal,
            AdminError::Operation(RevokeError::Storage(_)) | AdminError::Audit(_) | AdminError::AuditFails => {
                Code::Unavailable
            }
            AdminError::Interrupted => Code::Internal,
        };
        if let AdminError::Operation(RevokeError::Storage(storage))
        | AdminError::Revision(RevisionError::Storage(storage))
        | AdminError::Invitation(EnrollmentRequestError::Storage(storage)) = &error
        {
            // What the database says is for whoever runs the service.
            tracing::warn!(error = %storage, "an operator's call failed");
            return Self::new(code, format!("storage: {}", storage.reason()));
        }
        Self::new(code, error.to_string())
    }
}

/// The name of a code, for metrics; it covers every code that [`DecideError::status`] returns.
pub(super) fn code_name(code: Code) -> &'static str {
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
