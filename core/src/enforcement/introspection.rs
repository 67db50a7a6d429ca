//! Requests that wait for the word of a token's issuer: what they leave behind, and how they go on.

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::{Arrival, Enforcer, Notes, Refusal, Step};
use crate::jose::keys::Secret;
use crate::token::credential::Credential;
use crate::token::introspection::IntrospectionRequest;
use crate::token::provider::{ProviderIndex, ProviderSet};
use crate::token::remote_keys::answer::{Answer, FetchError};
use crate::token::{Asked, Lookup, TokenError, VerifiedToken};

/// What a token's issuer is to be asked, and what to keep until it answers.
#[derive(Debug)]
pub struct Introspection {
    /// The request to its endpoint.
    pub request: IntrospectionRequest,
    /// The request that waits.
    pub pending: PendingIntrospection,
}

/// A request that waits for the word of its token's issuer. `Debug` does not show the token.
#[derive(Debug)]
pub struct PendingIntrospection {
    token: Secret,
    provider: ProviderIndex,
    candidates: ProviderSet,
    asked_at: Timestamp,
}

/// What a request's credential is checked with.
pub(super) enum Knowledge {
    /// What this sidecar knows.
    Own,
    /// What the issuer has just said of this very token.
    Told(Secret, Result<Rc<VerifiedToken>, TokenError>),
}

impl Introspection {
    pub(super) fn new(lookup: Lookup, credential: &Credential<'_>, now: Timestamp) -> Self {
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
    /// Decides about a request that waited for the word of its token's issuer, or says what to ask the policy service.
    /// `arrival` is the request as it arrived, with the time that it is now: everything is looked at again.
    ///
    /// The token counts in this one request only; a proof of possession is looked at here for the first time. The step is
    /// never another [`Step::Introspect`].
    pub fn introspection_answered(
        &mut self,
        pending: PendingIntrospection,
        answer: Result<Answer<'_>, FetchError>,
        arrival: &Arrival<'_>,
    ) -> (Step, Notes) {
        let PendingIntrospection {
            token,
            provider,
            candidates,
            asked_at,
        } = pending;
        let asked = Asked {
            token: token.as_bytes(),
            provider,
            candidates,
            at: asked_at,
        };
        let (told, result) = self.tokens.introspection_answered(&asked, answer, arrival.now);
        let mut notes = Notes {
            introspection: Some(result),
            ..Notes::default()
        };
        let step = self.step(arrival, asked_at, Knowledge::Told(token, told), &mut notes);
        (step, notes)
    }
}

impl Knowledge {
    /// For a rule under which no issuer is asked.
    ///
    /// # Errors
    /// When one was: the request is not the one that waited.
    pub(super) fn check_own(self) -> Result<(), Refusal> {
        match self {
            Self::Own => Ok(()),
            Self::Told(_, _) => Err(Refusal::host_failure(crate::request::Caller::default())),
        }
    }

    /// What was told of this credential. `None`: nothing was, and the sidecar's own knowledge counts.
    ///
    /// # Errors
    /// When it was about another one: the request is not the one that waited.
    pub(super) fn about(
        self,
        credential: &Credential<'_>,
    ) -> Result<Option<Result<Rc<VerifiedToken>, TokenError>>, Refusal> {
        match self {
            Self::Own => Ok(None),
            Self::Told(token, told) if token.as_bytes() == credential.token => Ok(Some(told)),
            Self::Told(_, _) => Err(Refusal::host_failure(crate::request::Caller::default())),
        }
    }
}
