//! Requests that wait for the introspection of their token (RFC 7662).

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::{Arrival, Enforcer, Notes, Refusal, Step};
use crate::jose::keys::Secret;
use crate::token::credential::Credential;
use crate::token::introspection::IntrospectionRequest;
use crate::token::provider::{ProviderIndex, ProviderSet};
use crate::token::remote_keys::response::{FetchError, HttpResponse};
use crate::token::{IntrospectionLookup, IntrospectionQuery, TokenError, VerifiedToken};

/// The introspection request to send, and the state to keep until its response.
#[derive(Debug)]
pub struct Introspection {
    /// The request to its endpoint.
    pub request: IntrospectionRequest,
    /// The request that waits.
    pub pending: PendingIntrospection,
}

/// A request that waits for an introspection of its token. `Debug` does not show the token.
#[derive(Debug)]
pub struct PendingIntrospection {
    token: Secret,
    provider: ProviderIndex,
    candidates: ProviderSet,
    asked_at: Timestamp,
}

/// Whether a request has waited for an introspection of its token, and the result.
pub(super) enum IntrospectionState {
    /// No introspection: the caches and keys of this sidecar count.
    NotAsked,
    /// The result for this very token.
    Answered(Secret, Result<Rc<VerifiedToken>, TokenError>),
}

impl Introspection {
    pub(super) fn new(lookup: IntrospectionLookup, credential: &Credential<'_>, now: Timestamp) -> Self {
        Self {
            request: lookup.request,
            pending: PendingIntrospection {
                token: Secret::new(credential.token.to_vec()),
                provider: lookup.provider,
                candidates: lookup.candidates,
                asked_at: now,
            },
        }
    }
}

impl Enforcer {
    /// Decides about a request that waited for the introspection of its token. `arrival` is the
    /// request as it arrived, with the present time: every check is repeated.
    ///
    /// The result counts for this request alone; a proof of possession is checked here for the
    /// first time. The step is never another [`Step::Introspect`].
    pub fn on_introspection(
        &mut self,
        pending: PendingIntrospection,
        answer: Result<HttpResponse<'_>, FetchError>,
        arrival: &Arrival<'_>,
    ) -> (Step, Notes) {
        let PendingIntrospection {
            token,
            provider,
            candidates,
            asked_at,
        } = pending;
        let query = IntrospectionQuery {
            token: token.as_bytes(),
            provider,
            candidates,
            at: asked_at,
        };
        let (token_result, result) = self.tokens.on_introspection(&query, answer, arrival.now);
        let mut notes = Notes {
            introspection: Some(result),
            ..Notes::default()
        };
        let step = self.step(
            arrival,
            asked_at,
            IntrospectionState::Answered(token, token_result),
            &mut notes,
        );
        (step, notes)
    }
}

impl IntrospectionState {
    /// Checks that no issuer was asked, for a rule that asks none.
    ///
    /// # Errors
    /// When one was asked: the request is not the one that waited.
    pub(super) fn check_not_asked(self) -> Result<(), Refusal> {
        match self {
            Self::NotAsked => Ok(()),
            Self::Answered(_, _) => Err(Refusal::host_failure(crate::request::Caller::default())),
        }
    }

    /// The result for this credential. `None`: no issuer was asked.
    ///
    /// # Errors
    /// When the result is for another credential: the request is not the one that waited.
    pub(super) fn result_for(
        self,
        credential: &Credential<'_>,
    ) -> Result<Option<Result<Rc<VerifiedToken>, TokenError>>, Refusal> {
        match self {
            Self::NotAsked => Ok(None),
            Self::Answered(token, result) if token.as_bytes() == credential.token => Ok(Some(result)),
            Self::Answered(_, _) => Err(Refusal::host_failure(crate::request::Caller::default())),
        }
    }
}
