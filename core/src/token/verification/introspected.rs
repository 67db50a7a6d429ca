//! Opaque tokens: which issuer to ask, the verified token by its response, and the cache of that.

use std::borrow::Cow;
use std::rc::Rc;

use picket_model::strict_json::{Json, Members};
use picket_model::time::Timestamp;

use super::{IntrospectionLookup, SentToken, TokenKey, TokenVerifier, VerificationOutcome, claims};
use crate::jose::jws::{Jws, check_length};
use crate::reason::DenyReason;
use crate::token::introspection::{self, Activity, IntrospectionError, IntrospectionResult};
use crate::token::provider::{Provider, ProviderIndex, ProviderSet};
use crate::token::remote_keys::response::{FetchError, HttpResponse};
use crate::token::{TokenError, VerifiedToken, malformed};

/// The state of an introspection until its response.
#[derive(Clone, Copy, Debug)]
pub struct IntrospectionQuery<'t> {
    /// The whole token.
    pub token: &'t [u8],
    /// The provider whose endpoint was asked.
    pub provider: ProviderIndex,
    /// See [`TokenVerifier::candidates`].
    pub(crate) candidates: ProviderSet,
    /// The time of the request.
    pub at: Timestamp,
}

impl<'t> IntrospectionQuery<'t> {
    fn sent(&self) -> SentToken<'t> {
        SentToken {
            bytes: self.token,
            candidates: self.candidates,
        }
    }
}

/// Whether an introspection endpoint must be asked about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// No: a provider with keys is responsible, or no provider introspects tokens from this place.
    None,
    /// This provider's, without trying keys.
    Alone(ProviderIndex),
    /// This provider's, unless a provider with keys of the same issuer accepts the token.
    AfterKeys(ProviderIndex),
}

impl TokenVerifier {
    /// Whether an introspection endpoint must be asked about a token from this place.
    ///
    /// # Errors
    /// When the token is too long.
    pub(super) fn endpoint(&self, source: usize, token: &str, candidates: ProviderSet) -> Result<Endpoint, TokenError> {
        let mut providers = self.providers.iter().enumerate();
        let looks_up = |(_, provider): &(ProviderIndex, &Provider)| {
            provider.keys.introspection().is_some() && provider.sources.contains(source)
        };
        let Some((index, provider)) = providers.find(looks_up) else {
            return Ok(Endpoint::None);
        };
        check_length(token, &self.limits)?;
        // A JWT of a provider with keys is checked by that provider. The endpoint of another issuer
        // cannot overrule it.
        let Some((with_keys, is_own_issuer)) = self.issuer_with_keys(token, &provider.issuer) else {
            return Ok(Endpoint::Alone(index));
        };
        Ok(match is_own_issuer && candidates.contains(index) {
            true if with_keys.intersection(candidates).is_empty() => Endpoint::Alone(index),
            true => Endpoint::AfterKeys(index),
            false => Endpoint::None,
        })
    }

    /// The providers with keys of the issuer that a token says of itself, and whether that is this
    /// issuer. `None`: it is no JWT of such a provider.
    fn issuer_with_keys(&self, token: &str, own: &str) -> Option<(ProviderSet, bool)> {
        let jws = Jws::parse(token, &self.limits).ok()?;
        let claims = jws.claims().ok()?;
        let Some(Json::String(issuer)) = claims.get("iss") else {
            return None;
        };
        let with_keys = self.verifying_jws_of(issuer);
        (!with_keys.is_empty()).then(|| (with_keys, *issuer == own))
    }

    /// Begins the introspection of a token.
    ///
    /// # Errors
    /// When the token is cached as inactive, or the client has no secret.
    pub(super) fn start_introspection(
        &mut self,
        provider: ProviderIndex,
        token: &str,
        candidates: ProviderSet,
        now: Timestamp,
    ) -> Result<VerificationOutcome, TokenError> {
        if self.inactive.get(token.as_bytes(), now).is_some() {
            return Err(inactive());
        }
        let settings = self.providers.get(provider).and_then(|one| one.keys.introspection());
        let request = settings.and_then(|settings| settings.request(token));
        let request = request.ok_or_else(|| unavailable("the client has no secret"))?;
        Ok(VerificationOutcome::NeedsIntrospection(IntrospectionLookup {
            provider,
            candidates,
            request,
        }))
    }

    /// Takes the response to an introspection, or the failure of it. Also returns the result for
    /// metrics.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn on_introspection(
        &mut self,
        asked: &IntrospectionQuery<'_>,
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
    ) -> (Result<Rc<VerifiedToken>, TokenError>, IntrospectionResult) {
        match introspection::read(answer, &self.limits) {
            Ok(Activity::Active(members)) => self.activated(asked, &members, now),
            Ok(Activity::Inactive) => {
                self.remember_inactive(asked);
                (Err(inactive()), IntrospectionResult::Inactive)
            }
            Err(IntrospectionError { result, detail }) => (Err(unavailable(detail)), result),
        }
    }

    fn activated(
        &mut self,
        asked: &IntrospectionQuery<'_>,
        members: &Members<'_>,
        now: Timestamp,
    ) -> (Result<Rc<VerifiedToken>, TokenError>, IntrospectionResult) {
        // Answers may overtake each other, and an inactive token does not come back to life.
        if self.inactive.get(asked.token, now).is_some() {
            return (Err(inactive()), IntrospectionResult::Active);
        }
        match self.accept(asked, members, now) {
            Ok(token) => (Ok(token), IntrospectionResult::Active),
            // Here it is the answer that is malformed: of the token nobody knows anything.
            Err(error) if error.reason == DenyReason::TokenMalformed => {
                (Err(unavailable(error.detail)), IntrospectionResult::Invalid)
            }
            Err(error) => (Err(error), IntrospectionResult::Active),
        }
    }

    /// The token that an answer speaks of, if it is good by the provider's rules; it is remembered
    /// from the question on, until its end or the provider's limit, whichever comes first.
    fn accept(
        &mut self,
        asked: &IntrospectionQuery<'_>,
        members: &Members<'_>,
        now: Timestamp,
    ) -> Result<Rc<VerifiedToken>, TokenError> {
        let provider = self.providers.get(asked.provider);
        let (provider, settings) = provider
            .and_then(|provider| Some((provider, provider.keys.introspection()?)))
            .ok_or_else(|| unavailable("its provider looks no tokens up"))?;
        check_issuer(members, provider)?;
        check_kind(members)?;
        let checked = claims::check(members, provider, now)?;
        let mut identity_headers = self.identity_headers.of_principal(&checked.principal);
        let principal_headers = identity_headers.len();
        identity_headers.extend(checked.headers);
        // Without the skew: it is for the checks of others' clocks, not for what is remembered.
        let expires_at = checked.principal.expires_at_s.map(Timestamp::from_s);
        let limit = asked.at.plus_ms(settings.cache_ms_max);
        let remembered_until = expires_at.map_or(limit, |end| end.min(limit));
        self.serial = self.serial.saturating_add(1);
        let token = Rc::new(VerifiedToken {
            serial: self.serial,
            provider: asked.provider,
            sources: provider.sources,
            identity_headers,
            principal_headers,
            principal: Rc::new(checked.principal),
            confirmation: checked.confirmation,
            unread_claims: checked.unread.into_boxed_slice(),
            condition_claims: self
                .condition_claims
                .iter()
                .map(|path| claims::texts_of(path, members, provider))
                .collect(),
            fetched_key: None,
            starts_at: checked.starts_at,
            ends_at: checked.ends_at,
        });
        if now < remembered_until {
            self.verified
                .put(asked.sent().into(), Rc::clone(&token), remembered_until, now);
        }
        Ok(token)
    }

    fn remember_inactive(&mut self, asked: &IntrospectionQuery<'_>) {
        match self.sharing.is_empty() {
            true => self.verified.remove(&asked.sent() as &dyn TokenKey),
            // Other rules may have taken it among other candidates.
            false => self
                .verified
                .remove_where(|token, verified| *token.bytes == *asked.token && verified.provider == asked.provider),
        }
        let provider = self.providers.get(asked.provider);
        let settings = provider.and_then(|provider| provider.keys.introspection());
        let remembered_ms = settings.map_or(0, |settings| settings.cache_inactive_ms);
        if remembered_ms > 0 {
            let ends_at = asked.at.plus_ms(remembered_ms);
            self.inactive.put(Box::from(asked.token), (), ends_at, asked.at);
        }
    }
}

/// RFC 7662 §2.2: optional, as the endpoint is one issuer's; one that is there says the same.
fn check_issuer(members: &Members<'_>, provider: &Provider) -> Result<(), TokenError> {
    match members.get("iss") {
        None | Some(Json::Null) => Ok(()),
        Some(Json::String(issuer)) if *issuer == provider.issuer => Ok(()),
        Some(Json::String(_)) => Err(TokenError::new(
            DenyReason::TokenIssuerUnknown,
            "`iss` is not the provider's",
        )),
        Some(_) => Err(malformed("`iss` is not a string")),
    }
}

/// RFC 7662 §2.2 `token_type`, where it is said: a type that asks for a proof which nobody here
/// checks is refused. RFC 9449 §6.2: with `cnf.jkt` it must be `DPoP`.
fn check_kind(members: &Members<'_>) -> Result<(), TokenError> {
    let kind = match members.get("token_type") {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::String(kind)) => kind,
        Some(_) => return Err(malformed("`token_type` is not a string")),
    };
    let names_key = matches!(members.get("cnf"), Some(Json::Object(cnf)) if cnf.get("jkt").is_some());
    // RFC 6749 §5.1: compared without regard to case.
    match () {
        () if kind.eq_ignore_ascii_case("bearer") => match names_key {
            false => Ok(()),
            true => Err(malformed("`token_type` is `Bearer`, and `cnf` names a key")),
        },
        () if kind.eq_ignore_ascii_case("dpop") => match names_key {
            true => Ok(()),
            false => Err(malformed("`token_type` is `DPoP`, and `cnf` names no key")),
        },
        () => Err(TokenError::new(
            DenyReason::TokenClaimRefused,
            "`token_type` is neither `Bearer` nor `DPoP`",
        )),
    }
}

fn inactive() -> TokenError {
    TokenError::new(
        DenyReason::TokenInactive,
        "its issuer says that the token is not active",
    )
}

fn unavailable(detail: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(DenyReason::IntrospectionUnavailable, detail)
}
