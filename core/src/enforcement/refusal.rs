//! Refusals: the reason, the details that the caller may see, and the challenge for its next
//! request.

use std::rc::Rc;

use picket_model::decision::StepUp;

use super::call_failure::CallFailure;
use crate::dpop::ProofError;
use crate::peer::PeerError;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::{AUTHORIZATION, Caller, RequestError};
use crate::token::credential::CredentialError;
use crate::token::{TokenError, VerifiedToken};

/// Why a request is refused, and how the caller is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub reason: DenyReason,
    /// Which step had the last word.
    pub decided_by: DecidedBy,
    /// The exact mistake, fit for the caller.
    pub detail: Option<String>,
    /// The reasons of policies that the caller may see.
    pub caller_reasons: Vec<String>,
    /// The policy service's decision, if there was one.
    pub decision_id: Option<String>,
    /// What a credential needs to be accepted.
    pub challenge: Option<Box<Challenge>>,
    /// How the caller is to be answered.
    pub caller: Caller,
}

/// The challenge for the next request of the client (RFC 9110 §11.6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scopes that a token needs (RFC 6750 §3).
    pub scopes: Vec<String>,
    /// The scheme by which the token must be sent.
    pub scheme: ChallengeScheme,
    /// The step-up that policies ask for.
    pub step_up: Option<Box<StepUp>>,
}

/// The scheme of a challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChallengeScheme {
    /// RFC 6750.
    #[default]
    Bearer,
    /// RFC 9449 §7.1.
    Dpop {
        /// The algorithms for proofs, separated by spaces.
        algorithms: Rc<str>,
        /// The nonce for the next proof; `None`: none is needed.
        nonce: Option<String>,
    },
    /// RFC 9449 §7.2: either. The error is named with `Bearer`.
    BearerOrDpop {
        /// The algorithms for proofs, separated by spaces.
        algorithms: Rc<str>,
    },
}

impl Refusal {
    /// A refusal because a call of the host failed.
    #[must_use]
    pub fn host_failure(caller: Caller) -> Self {
        Self {
            caller,
            ..Self::new(DenyReason::HostFailure, DecidedBy::Local)
        }
    }

    /// A refusal of a request that cannot be read, or could be read in several ways.
    pub(super) fn malformed(error: impl std::fmt::Display) -> Self {
        Self::new(DenyReason::RequestMalformed, DecidedBy::Request).with_detail(error)
    }

    pub(super) fn new(reason: DenyReason, decided_by: DecidedBy) -> Self {
        Self {
            reason,
            decided_by,
            detail: None,
            caller_reasons: Vec::new(),
            decision_id: None,
            challenge: None,
            caller: Caller::default(),
        }
    }

    /// Names the claims that count as absent, as their form is not that of their specification.
    /// With another form the result could have been another one.
    pub(super) fn with_unread_claims(self, token: &VerifiedToken) -> Self {
        match &*token.unread_claims {
            [] => self,
            unread => {
                let names: Vec<_> = unread.iter().map(|name| format!("`{name}`")).collect();
                let names = names.join(", ");
                self.with_detail(format_args!(
                    "claims of the token count as absent for their form: {names}"
                ))
            }
        }
    }

    pub(super) fn with_detail(self, detail: impl std::fmt::Display) -> Self {
        Self {
            detail: Some(detail.to_string()),
            ..self
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let reason = match error {
            // RFC 6750 §3.1: as where a proxy has joined the two by a comma.
            RequestError::Repeated(AUTHORIZATION) => DenyReason::CredentialMalformed,
            RequestError::Repeated(_)
            | RequestError::TooManyHeaders
            | RequestError::Missing(_)
            | RequestError::Method
            | RequestError::UnknownMethod(_)
            | RequestError::UserAgentTooLong
            | RequestError::Authority
            | RequestError::AuthorityTrailingDot
            | RequestError::HostDiffers
            | RequestError::Target(_) => DenyReason::RequestMalformed,
        };
        Self::new(reason, DecidedBy::Request).with_detail(error)
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::new(error.reason, DecidedBy::Token).with_detail(error)
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        Self::new(DenyReason::CredentialMalformed, DecidedBy::Token).with_detail(error)
    }
}

impl From<PeerError> for Refusal {
    fn from(error: PeerError) -> Self {
        let reason = match error {
            PeerError::Missing | PeerError::NotForwarded => DenyReason::PeerMissing,
            PeerError::Unverified | PeerError::Untrusted(_) => DenyReason::PeerUnverified,
            PeerError::Malformed(_) | PeerError::Forwarded(_) => DenyReason::PeerMalformed,
            PeerError::NotYetValid => DenyReason::PeerNotYetValid,
            PeerError::Expired => DenyReason::PeerExpired,
        };
        Self::new(reason, DecidedBy::Peer).with_detail(error)
    }
}

impl From<CallFailure> for Refusal {
    fn from(failure: CallFailure) -> Self {
        let reason = match failure {
            CallFailure::Unavailable
            | CallFailure::Unreachable
            | CallFailure::ClusterUnusable
            | CallFailure::TlsFailed
            | CallFailure::ConnectionClosed
            | CallFailure::TimedOut
            | CallFailure::Refused
            | CallFailure::Overloaded => DenyReason::PolicyServiceUnavailable,
            CallFailure::AnswerInvalid => DenyReason::PolicyServiceAnswerInvalid,
        };
        Self::new(reason, DecidedBy::PolicyService)
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        let reason = match error {
            ProofError::Missing => DenyReason::DpopProofMissing,
            ProofError::Repeated
            | ProofError::NotJws
            | ProofError::Claim(_)
            | ProofError::Type
            | ProofError::Algorithm
            | ProofError::Key
            | ProofError::Signature
            | ProofError::Method
            | ProofError::Uri
            | ProofError::AccessTokenHash => DenyReason::DpopProofInvalid,
            ProofError::TooOld | ProofError::InTheFuture(_) | ProofError::Expired => DenyReason::DpopProofStale,
            ProofError::OtherKey => DenyReason::DpopKeyMismatch,
            ProofError::Nonce => DenyReason::DpopNonceRequired,
            ProofError::Replayed => DenyReason::DpopProofReplayed,
            ProofError::LedgerFull => DenyReason::DpopLedgerFull,
            ProofError::LedgerUnavailable => DenyReason::HostFailure,
        };
        Self::new(reason, DecidedBy::Token).with_detail(error)
    }
}
