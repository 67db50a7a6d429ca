//! Opaque tokens: who is to be asked about one, what an answer makes of it, and for how long that is remembered.

use std::rc::Rc;

use super::{KnownToken, Lookup, TokenKey, TokenVerifier, claims};
use crate::reason::DenyReason;
use crate::strict_json::{Json, Members};
use crate::time::Timestamp;
use crate::token::credential::Credential;
use crate::token::introspection::{self, Activity, IntrospectionResult};
use crate::token::jws::{Jws, TOKEN_BYTES_MAX, malformed};
use crate::token::provider::{Provider, ProviderIndex};
use crate::token::remote_keys::answer::{Answer, FetchError};
use crate::token::{TokenError, VerifiedToken};

/// What of a question is kept until its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'t> {
    /// The whole token.
    pub token: &'t [u8],
    /// Whose endpoint was asked.
    pub provider: ProviderIndex,
    /// When.
    pub at: Timestamp,
}

impl TokenVerifier {
    /// What is to be asked about a token that nobody here can verify. `None`: it is a JWT of a provider with keys, or comes from
    /// a place from which no provider looks tokens up.
    ///
    /// # Errors
    /// When it is known to be inactive, too long, or there is nothing to ask with.
    pub(super) fn lookup(
        &mut self,
        credential: &Credential<'_>,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<Lookup>, TokenError> {
        let mut providers = self.providers.iter().enumerate();
        let looked_up = providers.find_map(|(index, provider)| {
            let settings = provider.keys.introspection()?;
            provider
                .sources
                .contains(credential.source)
                .then_some((index, settings))
        });
        let Some((provider, settings)) = looked_up else {
            return Ok(None);
        };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("the token is longer than 8192 bytes"));
        }
        if is_jws_of_one_of(&self.providers, token) {
            return Ok(None);
        }
        if self.inactive.get(token.as_bytes(), now).is_some() {
            return Err(inactive());
        }
        let request = settings.request(token).ok_or(unavailable("the client has no secret"))?;
        Ok(Some(Lookup { provider, request }))
    }

    /// Takes the answer to a question about a token, or what became of it; also says how it went.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn introspection_answered(
        &mut self,
        asked: &Asked<'_>,
        answer: Result<Answer<'_>, FetchError>,
        now: Timestamp,
    ) -> (Result<Rc<VerifiedToken>, TokenError>, IntrospectionResult) {
        match introspection::read(answer) {
            Ok(Activity::Active(members)) => self.activated(asked, &members, now),
            Ok(Activity::Inactive) => {
                self.remember_inactive(asked);
                (Err(inactive()), IntrospectionResult::Inactive)
            }
            Err(result) => {
                let error = unavailable("its issuer gave no valid answer about it");
                (Err(error), result)
            }
        }
    }

    fn activated(
        &mut self,
        asked: &Asked<'_>,
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

    /// The token that an answer speaks of, if it is good by the provider's rules; it is remembered from the question on, until
    /// its end or the provider's limit, whichever comes first.
    fn accept(
        &mut self,
        asked: &Asked<'_>,
        members: &Members<'_>,
        now: Timestamp,
    ) -> Result<Rc<VerifiedToken>, TokenError> {
        let provider = self.providers.get(asked.provider);
        let (provider, settings) = provider
            .and_then(|provider| Some((provider, provider.keys.introspection()?)))
            .ok_or(unavailable("its provider looks no tokens up"))?;
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
            let known = KnownToken {
                tail: asked.token.tail(),
                bytes: Box::from(asked.token),
            };
            self.verified.put(known, Rc::clone(&token), remembered_until, now);
        }
        Ok(token)
    }

    fn remember_inactive(&mut self, asked: &Asked<'_>) {
        self.verified.remove(&asked.token as &dyn TokenKey);
        let provider = self.providers.get(asked.provider);
        let settings = provider.and_then(|provider| provider.keys.introspection());
        let remembered_ms = settings.map_or(0, |settings| settings.cache_inactive_ms);
        if remembered_ms > 0 {
            let ends_at = asked.at.plus_ms(remembered_ms);
            self.inactive.put(Box::from(asked.token), (), ends_at, asked.at);
        }
    }
}

/// Whether a token says of itself that a provider with keys has issued it. What is wrong with it besides, that provider's checks
/// find: no endpoint is asked to overrule them.
fn is_jws_of_one_of(providers: &[Provider], token: &str) -> bool {
    let Ok(jws) = Jws::parse(token) else {
        return false;
    };
    let Ok(claims) = jws.claims() else {
        return false;
    };
    let Some(Json::String(issuer)) = claims.get("iss") else {
        return false;
    };
    providers
        .iter()
        .any(|provider| provider.verifies_jws_of(issuer.as_ref()))
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

/// RFC 7662 §2.2 `token_type`, where it is said: a type that asks for a proof which nobody here checks is refused. RFC 9449 §6.2:
/// with `cnf.jkt` it must be `DPoP`.
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

fn unavailable(detail: &'static str) -> TokenError {
    TokenError::new(DenyReason::IntrospectionUnavailable, detail)
}
