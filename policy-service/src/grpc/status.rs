//! The one table from what went wrong to what the caller is told.

use picket_proto::WireError;
use tonic::{Code, Status};

use crate::audit::AppendError;
use crate::ext_authz::CheckError;

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
    /// The decision was made but not recorded.
    #[error(transparent)]
    Audit(#[from] AppendError),
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
            Self::Overloaded | Self::Audit(AppendError::QueueFull) | Self::Check(CheckError::Overloaded) => {
                Status::resource_exhausted("too many calls at once")
            }
            Self::RequestInvalid(error) => Status::invalid_argument(error.to_string()),
            Self::Check(CheckError::Request(error)) => Status::invalid_argument(error.to_string()),
            Self::Check(CheckError::Stopping) => Status::unavailable(self.to_string()),
            Self::Audit(AppendError::Failed(_) | AppendError::Closed) => {
                Status::unavailable("the decision could not be recorded")
            }
            Self::Audit(AppendError::Encoding(_)) => Status::internal("the decision could not be recorded"),
            Self::TimedOut => Status::deadline_exceeded(self.to_string()),
        }
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
