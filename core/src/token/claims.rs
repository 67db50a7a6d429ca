//! The claims of a token whose signature is verified: times, audience, what the provider asks for besides, and the principal
//! that they name.

use std::borrow::Cow;

use super::TokenError;
use super::claim_path::ClaimPath;
use super::confirmation::Confirmation;
use super::jws::malformed;
use super::provider::{ClaimEncoding, Expiry, Provider, RequiredClaim};
use crate::access::{Actor, Principal};
use crate::header_value;
use crate::reason::DenyReason;
use crate::strict_json::{Json, Members};
use crate::time::Timestamp;

/// A longer chain of delegation is refused.
const ACTORS_MAX: usize = 8;
const END_OF_TIME: Timestamp = Timestamp::from_ms(u64::MAX);

/// What the claims say, and for how long.
pub(super) struct CheckedClaims {
    pub(super) principal: Principal,
    pub(super) confirmation: Confirmation,
    /// The headers that the provider makes of claims.
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
}

/// Checks all that the provider asks for at `now` and reads the principal. The issuer is the provider's already.
pub(super) fn check(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> Result<CheckedClaims, TokenError> {
    let subject = text(claims, "sub")?
        .filter(|subject| !subject.is_empty())
        .ok_or(TokenError::new(DenyReason::TokenClaimMissing, "`sub` is required"))?;
    check_audience(claims, provider)?;
    let times = Times::read(claims, provider, now)?;
    check_times(times.starts_at, times.ends_at, now)?;
    if provider
        .subjects
        .as_ref()
        .is_some_and(|ours| !ours.iter().any(|pattern| pattern.matches(subject)))
    {
        return Err(TokenError::new(
            DenyReason::TokenSubjectRefused,
            "the provider does not allow `sub`",
        ));
    }
    provider
        .required_claims
        .iter()
        .try_for_each(|required| check_required(claims, required))?;
    let confirmation = Confirmation::of(claims)?;
    let principal = Principal {
        issuer: provider.issuer.clone(),
        subject: subject.to_owned(),
        tenant: provider
            .tenant_claim
            .as_ref()
            .map(|claim| one_text(claim.find(claims)))
            .transpose()?
            .flatten()
            .map(str::to_owned),
        roles: provider
            .roles_claim
            .as_ref()
            .map(|claim| owned(several_texts(claim.find(claims))))
            .transpose()?
            .unwrap_or_default(),
        scopes: scopes(claims)?,
        acr: text(claims, "acr")?.map(str::to_owned),
        amr: owned(texts(claims, "amr"))?,
        auth_time_s: number(claims, "auth_time")?,
        session_id: text(claims, "sid")?.map(str::to_owned),
        token_id: text(claims, "jti")?.map(str::to_owned),
        issued_at_s: times.issued_at_s,
        expires_at_s: times.expires_at_s,
        actors: actors(claims)?,
        is_bound: confirmation.is_bound(),
    };
    Ok(CheckedClaims {
        principal,
        confirmation,
        headers: headers(claims, provider)?,
        starts_at: times.starts_at,
        ends_at: times.ends_at,
    })
}

struct Times {
    issued_at_s: Option<i64>,
    expires_at_s: Option<i64>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Times {
    fn read(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> Result<Self, TokenError> {
        let expires_at_s = number(claims, "exp")?;
        if expires_at_s.is_none() && provider.expiry == Expiry::Required {
            return Err(TokenError::new(DenyReason::TokenClaimMissing, "`exp` is required"));
        }
        let issued_at_s = number(claims, "iat")?;
        let skew_ms = provider.clock_skew_ms;
        // RFC 7519 §4.1.5; a token issued in the future is refused too, as its issuer's clock or word is wrong.
        let starts_at_s = [number(claims, "nbf")?, issued_at_s].into_iter().flatten().max();
        if let (Some(expires_at_s), Some(lifetime_s_max)) = (expires_at_s, provider.lifetime_s_max) {
            let from_s = issued_at_s.unwrap_or(now.as_s());
            if expires_at_s.saturating_sub(from_s) > lifetime_s_max {
                let detail = "the token lives longer than the provider allows";
                return Err(TokenError::new(DenyReason::TokenLifetimeRefused, detail));
            }
        }
        Ok(Self {
            issued_at_s,
            expires_at_s,
            starts_at: starts_at_s.map_or(Timestamp::from_ms(0), |s| earlier(Timestamp::from_s(s), skew_ms)),
            ends_at: expires_at_s.map_or(END_OF_TIME, |s| Timestamp::from_s(s).plus_ms(skew_ms)),
        })
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

/// RFC 7519 §4.1.3: one string, or an array of them; one must be ours.
fn check_audience(claims: &Members<'_>, provider: &Provider) -> Result<(), TokenError> {
    let is_absent = matches!(claims.get("aud"), None | Some(Json::Null));
    if is_absent && !provider.requires_audience() {
        return Ok(());
    }
    let named = texts(claims, "aud")?;
    let is_ours = |ours: &Vec<String>| named.iter().any(|audience| ours.iter().any(|ours| ours == audience));
    if provider.audiences.as_ref().is_none_or(is_ours) {
        Ok(())
    } else {
        Err(TokenError::new(
            DenyReason::TokenAudienceMismatch,
            "`aud` names none of our audiences",
        ))
    }
}

/// RFC 8693 §4.2 `scope`, separated by spaces; or `scp`, as some issuers write it, as an array.
fn scopes(claims: &Members<'_>) -> Result<Vec<String>, TokenError> {
    let scope = text(claims, "scope")?.unwrap_or_default();
    let mut scopes: Vec<String> = scope
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    for scp in texts(claims, "scp")? {
        scopes.extend(scp.split(' ').filter(|name| !name.is_empty()).map(str::to_owned));
    }
    Ok(scopes)
}

fn check_required(claims: &Members<'_>, required: &RequiredClaim) -> Result<(), TokenError> {
    let missing = TokenError::new(
        DenyReason::TokenClaimMissing,
        "a claim that the provider requires is not there",
    );
    let value = match required.claim.find(claims) {
        None | Some(Json::Null) => return Err(missing),
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
            "a claim has none of the values that the provider requires",
        )),
    }
}

/// RFC 8693 §4.1: who acts for the subject, the one that acts now first, then the ones before.
fn actors(claims: &Members<'_>) -> Result<Vec<Actor>, TokenError> {
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    while let Some(actor) = next {
        let Json::Object(members) = actor else {
            return Err(malformed("`act` is not an object"));
        };
        let subject = text(members, "sub")?.ok_or(malformed("`act` has no `sub`"))?;
        actors.push(Actor {
            issuer: text(members, "iss")?.map(str::to_owned),
            subject: subject.to_owned(),
        });
        if actors.len() > ACTORS_MAX {
            return Err(malformed("`act` nests deeper than 8 actors"));
        }
        next = members.get("act");
    }
    Ok(actors)
}

/// The headers that the provider makes of claims; a claim that is absent or an object makes none.
fn headers(claims: &Members<'_>, provider: &Provider) -> Result<Vec<(Cow<'static, str>, String)>, TokenError> {
    let mut headers = Vec::new();
    for claim_header in &provider.claim_headers {
        let elements = match claim_header.claim.find(claims) {
            None | Some(Json::Null | Json::Object(_)) => continue,
            Some(Json::Array(elements)) => {
                let elements: Option<Vec<String>> = elements.iter().map(scalar).collect();
                elements.ok_or(malformed("an array that makes a header holds objects or arrays"))?
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

/// The texts of a claim for access rules: a string, or the strings of an array; other values are no texts. The strings of
/// [`SPACE_DELIMITED`] and of the provider's `space_delimited_claims` are arrays. Source: Istio's conditions, and
/// `spaceDelimitedClaims` of its JWTRule.
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

fn text<'c>(claims: &'c Members<'_>, name: &str) -> Result<Option<&'c str>, TokenError> {
    one_text(claims.get(name))
}

fn texts<'c>(claims: &'c Members<'_>, name: &str) -> Result<Vec<&'c str>, TokenError> {
    several_texts(claims.get(name))
}

fn one_text<'c>(claim: Option<&'c Json<'_>>) -> Result<Option<&'c str>, TokenError> {
    match claim {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed("a claim that must be a string is not")),
    }
}

/// A string, or an array of strings. Anything else is refused: a role that is dropped might be one that a policy forbids.
fn several_texts<'c>(claim: Option<&'c Json<'_>>) -> Result<Vec<&'c str>, TokenError> {
    let not_texts = malformed("a claim that must be a string or an array of strings is not");
    match claim {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::String(text)) => Ok(vec![text]),
        Some(Json::Array(elements)) => elements
            .iter()
            .map(|element| match element {
                Json::String(text) => Some(text.as_ref()),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
            })
            .collect::<Option<_>>()
            .ok_or(not_texts),
        Some(_) => Err(not_texts),
    }
}

fn owned(texts: Result<Vec<&str>, TokenError>) -> Result<Vec<String>, TokenError> {
    Ok(texts?.into_iter().map(str::to_owned).collect())
}

/// RFC 7519 §2 NumericDate, in whole seconds. Fractions are cut off; what no clock shows is refused.
fn number(claims: &Members<'_>, name: &str) -> Result<Option<i64>, TokenError> {
    /// The year 9999: later dates are mistakes, and far from overflow.
    const NUMERIC_DATE_S_MAX: i64 = 253_402_300_799;
    let not_a_date = malformed("a claim that must be a date in seconds since the epoch is not");
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(Json::Number(number)) => number.as_i64().or_else(|| {
            let whole = number.as_f64()?.floor();
            format!("{whole:.0}").parse().ok()
        }),
        Some(_) => None,
    };
    seconds
        .filter(|s| (0..=NUMERIC_DATE_S_MAX).contains(s))
        .map(Some)
        .ok_or(not_a_date)
}

fn earlier(time: Timestamp, ms: u64) -> Timestamp {
    Timestamp::from_ms(time.as_ms().saturating_sub(ms))
}
