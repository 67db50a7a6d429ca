//! The claims of a token whose signature is verified: times, audience, what the provider asks for
//! besides, and the principal that they name.

use std::borrow::Cow;

use picket_model::access::{Actor, Principal};
use picket_model::strict_json::{Json, Members};
use picket_model::time::Timestamp;

use super::TokenError;
use super::claim_path::ClaimPath;
use super::confirmation::Confirmation;
use super::malformed;
use super::provider::{ClaimEncoding, Expiry, Provider, RequiredClaim, RolesForm};
use crate::header_value;
use crate::reason::DenyReason;

/// A longer chain of delegation is refused.
const ACTORS_MAX: usize = 8;
/// The claims that hold scopes.
const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];
const END_OF_TIME: Timestamp = Timestamp::from_ms(u64::MAX);

/// The checked claims, with the times of their validity.
pub(super) struct CheckedClaims {
    pub(super) principal: Principal,
    pub(super) confirmation: Confirmation,
    /// The headers that the provider makes of claims.
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    /// See [`super::VerifiedToken::unread_claims`].
    pub(super) unread: Vec<&'static str>,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
}

/// A claim has another form than its specification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WrongForm;

/// Claims that no rule and no setting asks for. One in a form of its issuer's own does not refuse
/// the token: it counts as absent, and its name is kept for whoever would have needed it.
#[derive(Default)]
struct OptionalClaims(Vec<&'static str>);

impl OptionalClaims {
    fn take<T: Default>(&mut self, name: &'static str, value: Result<T, WrongForm>) -> T {
        value.unwrap_or_else(|WrongForm| {
            self.0.push(name);
            T::default()
        })
    }

    fn text(&mut self, claims: &Members<'_>, name: &'static str) -> Option<String> {
        self.take(name, text(claims.get(name))).map(str::to_owned)
    }
}

/// Checks all that the provider asks for at `now` and reads the principal. The issuer is the
/// provider's already.
pub(super) fn check(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> Result<CheckedClaims, TokenError> {
    let subject = subject(claims, provider)?;
    check_audience(claims, provider)?;
    let times = Times::read(claims, provider, now)?;
    if provider
        .subjects
        .as_ref()
        .is_some_and(|ours| !ours.iter().any(|pattern| pattern.matches(subject)))
    {
        let detail = format!("the provider does not allow `{}`", principal_claim_name(provider));
        return Err(TokenError::new(DenyReason::TokenSubjectRefused, detail));
    }
    provider
        .required_claims
        .iter()
        .try_for_each(|required| check_required(claims, required))?;
    let confirmation = Confirmation::of(claims)?;
    let mut optional = OptionalClaims::default();
    let principal = Principal {
        issuer: provider.issuer.clone(),
        subject: subject.to_owned(),
        tenant: tenant(claims, provider)?,
        roles: roles(claims, provider)?,
        scopes: scopes(claims, &mut optional),
        acr: optional.text(claims, "acr"),
        amr: owned(&optional.take("amr", texts(claims.get("amr")))),
        auth_time_s: optional.take("auth_time", date_or_null(claims.get("auth_time"))),
        session_id: optional.text(claims, "sid"),
        token_id: optional.text(claims, "jti"),
        issued_at_s: times.issued_at_s,
        expires_at_s: times.expires_at_s,
        actors: optional.take("act", actors(claims)?),
        is_bound: confirmation.is_bound(),
    };
    Ok(CheckedClaims {
        principal,
        confirmation,
        headers: headers(claims, provider)?,
        unread: optional.0,
        starts_at: times.starts_at,
        ends_at: times.ends_at,
    })
}

fn principal_claim_name(provider: &Provider) -> Cow<'static, str> {
    let claim = provider.principal_claim.as_ref();
    claim.map_or("sub".into(), |claim| claim.to_string().into())
}

/// The principal, by the claim that the provider names for it.
fn subject<'c>(claims: &'c Members<'_>, provider: &Provider) -> Result<&'c str, TokenError> {
    let claim = match &provider.principal_claim {
        None => claims.get("sub"),
        Some(claim) => claim.find(claims),
    };
    match text(claim) {
        Ok(Some(subject)) if !subject.is_empty() => Ok(subject),
        Ok(_) => Err(TokenError::new(
            DenyReason::TokenClaimMissing,
            format!("`{}` is required", principal_claim_name(provider)),
        )),
        Err(WrongForm) => Err(malformed(format!(
            "`{}` is not a string",
            principal_claim_name(provider)
        ))),
    }
}

fn tenant(claims: &Members<'_>, provider: &Provider) -> Result<Option<String>, TokenError> {
    let Some(claim) = &provider.tenant_claim else {
        return Ok(None);
    };
    let tenant = text(claim.find(claims)).map_err(|WrongForm| malformed(format!("`{claim}` is not a string")))?;
    Ok(tenant.map(str::to_owned))
}

/// Anything else than what the provider's setting says is refused: a role that is dropped might be
/// one that a policy forbids.
fn roles(claims: &Members<'_>, provider: &Provider) -> Result<Vec<String>, TokenError> {
    let Some(claim) = &provider.roles_claim else {
        return Ok(Vec::new());
    };
    let (roles, expected) = match provider.roles_form {
        RolesForm::List => (texts(claim.find(claims)), "a string or an array of strings"),
        RolesForm::ObjectKeys => (
            names(claim.find(claims)),
            "an object, none of whose members is null or false",
        ),
    };
    let roles = roles.map_err(|WrongForm| malformed(format!("`{claim}` is not {expected}")))?;
    Ok(owned(&roles))
}

struct Times {
    issued_at_s: Option<i64>,
    expires_at_s: Option<i64>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Times {
    /// Those of a token that is valid at `now`.
    fn read(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> Result<Self, TokenError> {
        let expires_at_s = date(claims, "exp", Rounding::Down)?;
        if expires_at_s.is_none() && provider.expiry == Expiry::Required {
            return Err(TokenError::new(DenyReason::TokenClaimMissing, "`exp` is required"));
        }
        // What is revoked before a time is what was issued before it: a fraction must not make a
        // token younger.
        let issued_at_s = date(claims, "iat", Rounding::Down)?;
        let skew_ms = provider.clock_skew_ms;
        // RFC 7519 §4.1.5; a token issued in the future is refused too, as its issuer's clock or
        // word is wrong.
        let from_s = [date(claims, "nbf", Rounding::Up)?, date(claims, "iat", Rounding::Up)?];
        let starts_at_s = from_s.into_iter().flatten().max();
        if let (Some(expires_at_s), Some(lifetime_s_max)) = (expires_at_s, provider.lifetime_s_max) {
            let from_s = issued_at_s.unwrap_or(now.as_s());
            if expires_at_s.saturating_sub(from_s) > lifetime_s_max {
                let detail = "the token lives longer than the provider allows";
                return Err(TokenError::new(DenyReason::TokenLifetimeRefused, detail));
            }
        }
        let times = Self {
            issued_at_s,
            expires_at_s,
            starts_at: starts_at_s.map_or(Timestamp::from_ms(0), |s| earlier(Timestamp::from_s(s), skew_ms)),
            ends_at: expires_at_s.map_or(END_OF_TIME, |s| Timestamp::from_s(s).plus_ms(skew_ms)),
        };
        check_times(times.starts_at, times.ends_at, now)?;
        Ok(times)
    }
}

/// Whether a token is valid at `now`; asked again each time it is used.
pub(super) fn check_times(starts_at: Timestamp, ends_at: Timestamp, now: Timestamp) -> Result<(), TokenError> {
    // RFC 7519 §4.1.4: on or after `exp` it must not be accepted.
    if now >= ends_at {
        return Err(TokenError::new(DenyReason::TokenExpired, "`exp` has passed"));
    }
    if now < starts_at {
        return Err(TokenError::new(
            DenyReason::TokenNotYetValid,
            "`nbf` or `iat` lies in the future",
        ));
    }
    Ok(())
}

/// Checks audience and times, which do not depend on the key.
pub(super) fn are_refused(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> bool {
    check_audience(claims, provider).is_err() || Times::read(claims, provider, now).is_err()
}

/// RFC 7519 §4.1.3: one string, or an array of them; one must be ours.
fn check_audience(claims: &Members<'_>, provider: &Provider) -> Result<(), TokenError> {
    let Some(ours) = &provider.audiences else {
        return Ok(());
    };
    let is_absent = matches!(claims.get("aud"), None | Some(Json::Null));
    if is_absent && !provider.requires_audience() {
        return Ok(());
    }
    let named =
        texts(claims.get("aud")).map_err(|WrongForm| malformed("`aud` is neither a string nor an array of strings"))?;
    if named.iter().any(|audience| ours.iter().any(|ours| ours == audience)) {
        Ok(())
    } else {
        Err(TokenError::new(
            DenyReason::TokenAudienceMismatch,
            "`aud` names none of our audiences",
        ))
    }
}

/// RFC 8693 §4.2 `scope`, and `scp` as some issuers write it: a text with spaces, or an array of
/// such texts.
fn scopes(claims: &Members<'_>, optional: &mut OptionalClaims) -> Vec<String> {
    let mut scopes = Vec::new();
    for name in SCOPE_CLAIMS {
        for list in optional.take(name, texts(claims.get(name))) {
            scopes.extend(list.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned));
        }
    }
    scopes
}

fn check_required(claims: &Members<'_>, required: &RequiredClaim) -> Result<(), TokenError> {
    let value = match required.claim.find(claims) {
        None | Some(Json::Null) => {
            let detail = format!("`{}` is required", required.claim);
            return Err(TokenError::new(DenyReason::TokenClaimMissing, detail));
        }
        Some(value) => value,
    };
    let is_ours = |value: &Json<'_>| scalar(value).is_some_and(|value| required.values.contains(&value));
    let has_passed = required.values.is_empty()
        || match value {
            Json::Array(elements) => elements.iter().any(is_ours),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => is_ours(value),
        };
    match has_passed {
        true => Ok(()),
        false => Err(TokenError::new(
            DenyReason::TokenClaimRefused,
            format!("`{}` has none of the values that the provider requires", required.claim),
        )),
    }
}

/// RFC 8693 §4.1: who acts for the subject, the one that acts now first, then the ones before. A
/// chain with an actor that nobody can name is no chain.
///
/// # Errors
/// When there are more of them than [`ACTORS_MAX`].
fn actors(claims: &Members<'_>) -> Result<Result<Vec<Actor>, WrongForm>, TokenError> {
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    while let Some(actor) = next.filter(|actor| **actor != Json::Null) {
        let Json::Object(members) = actor else {
            return Ok(Err(WrongForm));
        };
        let (Ok(issuer), Ok(Some(subject))) = (text(members.get("iss")), text(members.get("sub"))) else {
            return Ok(Err(WrongForm));
        };
        actors.push(Actor {
            issuer: issuer.map(str::to_owned),
            subject: subject.to_owned(),
        });
        if actors.len() > ACTORS_MAX {
            return Err(malformed("`act` nests deeper than 8 actors"));
        }
        next = members.get("act");
    }
    Ok(Ok(actors))
}

/// The headers that the provider makes of claims; a claim that is absent or an object makes none.
fn headers(claims: &Members<'_>, provider: &Provider) -> Result<Vec<(Cow<'static, str>, String)>, TokenError> {
    let mut headers = Vec::new();
    for claim_header in &provider.claim_headers {
        let elements = match claim_header.claim.find(claims) {
            None | Some(Json::Null | Json::Object(_)) => continue,
            Some(Json::Array(elements)) => {
                let elements: Option<Vec<String>> = elements.iter().map(scalar).collect();
                elements.ok_or_else(|| {
                    malformed(format!(
                        "`{}` makes a header, and holds objects or arrays",
                        claim_header.claim
                    ))
                })?
            }
            Some(value) => vec![scalar(value).unwrap_or_default()],
        };
        let value = match claim_header.encoding {
            ClaimEncoding::Percent => Some(header_value::encode_list(&elements)),
            ClaimEncoding::Raw => header_value::raw_list(&elements),
        };
        headers.extend(value.map(|value| (Cow::Owned(claim_header.header.to_string()), value)));
    }
    Ok(headers)
}

/// The texts of a claim for access rules: a string, or the strings of an array; other values are no
/// texts. The strings of `SPACE_DELIMITED` and of the provider's `space_delimited_claims` are
/// arrays. Source: Istio's conditions, and `spaceDelimitedClaims` of its JWTRule.
pub(super) fn texts_of(path: &ClaimPath, claims: &Members<'_>, provider: &Provider) -> Box<[Box<str>]> {
    /// RFC 8693 §4.2 `scope`, and what some issuers write for it.
    const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];
    let is_list = || {
        path.name().is_some_and(|name| SPACE_DELIMITED.contains(&name))
            || provider.space_delimited_claims.contains(path)
    };
    let text = |value: &Json<'_>| match value {
        Json::String(text) => Some(Box::from(text.as_ref())),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
    };
    match path.find(claims) {
        Some(Json::String(list)) if is_list() => {
            list.split(' ').filter(|item| !item.is_empty()).map(Box::from).collect()
        }
        Some(Json::Array(elements)) => elements.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Box::default(),
    }
}

/// A text as it is, a number or a boolean as JSON has it.
fn scalar(value: &Json<'_>) -> Option<String> {
    match value {
        Json::String(text) => Some(text.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(boolean) => Some(boolean.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn text<'c>(claim: Option<&'c Json<'_>>) -> Result<Option<&'c str>, WrongForm> {
    match claim {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(WrongForm),
    }
}

/// A string, or an array of strings, all of which are read or none.
fn texts<'c>(claim: Option<&'c Json<'_>>) -> Result<Vec<&'c str>, WrongForm> {
    match claim {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::String(text)) => Ok(vec![text]),
        Some(Json::Array(elements)) => elements
            .iter()
            .map(|element| match element {
                Json::String(text) => Ok(text.as_ref()),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => Err(WrongForm),
            })
            .collect(),
        Some(_) => Err(WrongForm),
    }
}

/// The names of an object's members. A member that is null or false may say that its name does not
/// count.
fn names<'c>(claim: Option<&'c Json<'_>>) -> Result<Vec<&'c str>, WrongForm> {
    match claim {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Object(members)) => members
            .iter()
            .map(|(name, value)| match value {
                Json::Null | Json::Bool(false) => Err(WrongForm),
                Json::Bool(true) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => Ok(name),
            })
            .collect(),
        Some(_) => Err(WrongForm),
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The rounding of fractions of a second, which is never to the token's advantage.
#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Up,
}

/// A date of the token's validity. One that is present must be well-formed.
fn date(claims: &Members<'_>, name: &str, rounding: Rounding) -> Result<Option<i64>, TokenError> {
    let date = claims.get(name).map(|value| seconds(value, rounding)).transpose();
    date.map_err(|WrongForm| malformed(format!("`{name}` is not a date in seconds since the epoch")))
}

fn date_or_null(claim: Option<&Json<'_>>) -> Result<Option<i64>, WrongForm> {
    let claim = claim.filter(|value| **value != Json::Null);
    claim.map(|value| seconds(value, Rounding::Down)).transpose()
}

/// RFC 7519 §2 NumericDate, in whole seconds. What no clock shows is none.
fn seconds(value: &Json<'_>, rounding: Rounding) -> Result<i64, WrongForm> {
    /// The year 9999: later dates are mistakes, and far from overflow.
    const NUMERIC_DATE_S_MAX: i64 = 253_402_300_799;
    let Json::Number(number) = value else {
        return Err(WrongForm);
    };
    let seconds = number.as_i64().or_else(|| {
        // A negative fraction would round up to the epoch.
        let fractional = number.as_f64().filter(|seconds| *seconds >= 0.0)?;
        let whole = match rounding {
            Rounding::Down => fractional.floor(),
            Rounding::Up => fractional.ceil(),
        };
        format!("{whole:.0}").parse().ok()
    });
    seconds
        .filter(|s| (0..=NUMERIC_DATE_S_MAX).contains(s))
        .ok_or(WrongForm)
}

fn earlier(time: Timestamp, ms: u64) -> Timestamp {
    Timestamp::from_ms(time.as_ms().saturating_sub(ms))
}
