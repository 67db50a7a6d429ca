//! The errors of the AuthZEN front, and the one table from an error to its HTTP status (AuthZEN 1.0
//! §10.1.2).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use picket_audit::AppendError;
use picket_state::StorageError;
use serde_json::{Value, json};

use crate::decision::DecisionError;

const RETRY_AFTER_S: &str = "1";

/// Why a call, or one of its evaluations, ends without a decision. `Display` is for the caller.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthzenError {
    /// The body, or a field of it, is not as the API specifies.
    #[error("{0}")]
    Malformed(String),
    /// The body has more than this many bytes.
    #[error("the body cannot be read, or has more than {0} bytes")]
    TooLarge(usize),
    /// The client's certificate names nobody.
    #[error("the client certificate is no X.509-SVID")]
    CallerUnknown,
    /// The caller is not on the list.
    #[error("the caller's SPIFFE ID may not ask for this")]
    CallerRefused,
    /// This service has no candidates for the search.
    #[error("this search is not served")]
    NotServed,
    /// The limit of concurrent calls or searches is reached.
    #[error("too many calls at once")]
    Overloaded,
    /// The decision was made but not recorded.
    #[error("the decision could not be recorded")]
    Unrecorded(#[source] AppendError),
    /// Nothing is known of the session.
    #[error("the session or the device could not be looked up")]
    SessionUnknown(#[source] StorageError),
    /// Nothing is known of the policies that decide.
    #[error("the policies could not be looked up")]
    PoliciesUnknown(#[source] StorageError),
    /// Nothing is known of the principal's roles.
    #[error("the roles could not be looked up")]
    RolesUnknown(#[source] StorageError),
    /// The time limit of a call.
    #[error("the decision took too long")]
    TimedOut,
    /// The task of an evaluation ended without a result.
    #[error("the evaluation ended without a decision")]
    Interrupted,
}

impl From<DecisionError> for AuthzenError {
    fn from(error: DecisionError) -> Self {
        match error {
            DecisionError::Audit(AppendError::QueueFull) => Self::Overloaded,
            DecisionError::Audit(error @ (AppendError::Failed(_) | AppendError::Closed | AppendError::Encoding(_))) => {
                Self::Unrecorded(error)
            }
            DecisionError::Storage(error) => Self::SessionUnknown(error),
            DecisionError::Policies(error) => Self::PoliciesUnknown(error),
            DecisionError::Roles(error) => Self::RolesUnknown(error),
        }
    }
}

impl AuthzenError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::CallerUnknown => StatusCode::UNAUTHORIZED,
            Self::CallerRefused => StatusCode::FORBIDDEN,
            Self::NotServed => StatusCode::NOT_FOUND,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unrecorded(_)
            | Self::SessionUnknown(_)
            | Self::PoliciesUnknown(_)
            | Self::RolesUnknown(_)
            | Self::TimedOut
            | Self::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One of several evaluations: a deny that says why (AuthZEN 1.0 §7.3).
    pub(super) fn to_evaluation(&self) -> Value {
        json!({
            "decision": false,
            "context": { "error": { "status": self.status().as_u16(), "message": self.to_string() } },
        })
    }
}

impl IntoResponse for AuthzenError {
    /// The body is the message.
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let mut response = (self.status(), content_type, self.to_string()).into_response();
        if matches!(self, Self::Overloaded) {
            let value = header::HeaderValue::from_static(RETRY_AFTER_S);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
