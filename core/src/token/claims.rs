//! The claims of a token whose signature is verified: times, audience, and the principal that they name.

use super::TokenError;
use super::provider::Provider;
use crate::access::Principal;
use crate::reason::DenyReason;
use crate::strict_json::{Json, Members};
use crate::time::Timestamp;

/// What the claims say, and for how long.
pub(super) struct CheckedClaims {
    pub(super) principal: Principal,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
}

/// Checks audience and times at `now` and reads the principal. The issuer is the provider's already.
pub(super) fn check(claims: &Members<'_>, provider: &Provider, now: Timestamp) -> Result<CheckedClaims, TokenError> {
    let expires_at_s =
        number(claims, "exp")?.ok_or(TokenError::new(DenyReason::TokenClaimMissing, "`exp` is required"))?;
    let subject = text(claims, "sub")?
        .filter(|subject| !subject.is_empty())
        .ok_or(TokenError::new(DenyReason::TokenClaimMissing, "`sub` is required"))?;
    check_audience(claims, provider)?;
    let skew_ms = provider.clock_skew_ms;
    let issued_at_s = number(claims, "iat")?;
    // RFC 7519 §4.1.5; a token issued in the future is refused too, as its issuer's clock or word is wrong.
    let starts_at_s = [number(claims, "nbf")?, issued_at_s].into_iter().flatten().max();
    let starts_at = starts_at_s.map_or(Timestamp::from_ms(0), |s| earlier(Timestamp::from_s(s), skew_ms));
    let ends_at = Timestamp::from_s(expires_at_s).plus_ms(skew_ms);
    check_times(starts_at, ends_at, now)?;
    let principal = Principal {
        issuer: provider.issuer.clone(),
        subject: subject.to_owned(),
        tenant: provider
            .tenant_claim
            .as_deref()
            .map(|name| text(claims, name))
            .transpose()?
            .flatten()
            .map(str::to_owned),
        roles: provider
            .roles_claim
            .as_deref()
            .map(|name| owned_texts(claims, name))
            .transpose()?
            .unwrap_or_default(),
        scopes: scopes(claims)?,
        acr: text(claims, "acr")?.map(str::to_owned),
        amr: owned_texts(claims, "amr")?,
        auth_time_s: number(claims, "auth_time")?,
        session_id: text(claims, "sid")?.map(str::to_owned),
        token_id: text(claims, "jti")?.map(str::to_owned),
        issued_at_s,
        expires_at_s,
    };
    Ok(CheckedClaims {
        principal,
        starts_at,
        ends_at,
    })
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
    let ours = texts(claims, "aud")?
        .iter()
        .any(|audience| provider.audiences.iter().any(|ours| ours == audience));
    if ours {
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

fn malformed(detail: &'static str) -> TokenError {
    TokenError::new(DenyReason::TokenMalformed, detail)
}

fn text<'c>(claims: &'c Members<'_>, name: &str) -> Result<Option<&'c str>, TokenError> {
    match claims.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed("a claim that must be a string is not")),
    }
}

/// A string, or an array of strings. Anything else is refused: a role that is dropped might be one that a policy forbids.
fn texts<'c>(claims: &'c Members<'_>, name: &str) -> Result<Vec<&'c str>, TokenError> {
    let not_texts = malformed("a claim that must be a string or an array of strings is not");
    match claims.get(name) {
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

fn owned_texts(claims: &Members<'_>, name: &str) -> Result<Vec<String>, TokenError> {
    Ok(texts(claims, name)?.into_iter().map(str::to_owned).collect())
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
