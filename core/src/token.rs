//! Bearer tokens: JWTs (RFC 7519) in JWS compact serialization (RFC 7515), verified against a provider's keys.

pub mod algorithm;
mod claims;
pub mod jws;
pub mod keys;
pub mod provider;
mod verification;

use std::rc::Rc;

use crate::access::Principal;
use crate::reason::DenyReason;
use crate::time::Timestamp;

pub use algorithm::TokenAlgorithm;
pub use jws::TOKEN_BYTES_MAX;
pub use verification::{TokenVerifier, Verification};

/// A token whose signature and claims have been verified.
#[derive(Debug)]
pub struct VerifiedToken {
    /// Distinct for each verification within a verifier's life: a key for what depends on this token.
    pub serial: u64,
    /// Who it authenticates.
    pub principal: Rc<Principal>,
    /// The headers that name the principal to the upstream.
    pub identity_headers: Vec<(&'static str, String)>,
    /// Not before this time, skew included.
    pub starts_at: Timestamp,
    /// Not at or after this time, skew included.
    pub ends_at: Timestamp,
}

/// Why a token is refused: the reason for the caller, and what exactly was wrong, which names no value of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct TokenError {
    /// The stable reason.
    pub reason: DenyReason,
    /// What exactly was wrong.
    pub detail: &'static str,
}

impl TokenError {
    fn new(reason: DenyReason, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

/// What an `authorization` header offers as a token (RFC 6750 §2.1); whether it is one, [`b64token`] says.
fn bearer_credential(authorization: Option<&[u8]>) -> Result<&[u8], TokenError> {
    const SCHEME: &[u8] = b"bearer";
    // RFC 9110 §11.1: the scheme is compared without regard to case.
    let behind_scheme = authorization
        .and_then(|value| value.split_at_checked(SCHEME.len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
        .map(|(_, rest)| rest)
        .ok_or(TokenError::new(
            DenyReason::CredentialMissing,
            "no bearer token was sent",
        ))?;
    let spaces = behind_scheme.iter().take_while(|b| **b == b' ').count();
    behind_scheme
        .get(spaces..)
        .filter(|_| spaces > 0)
        .ok_or_else(not_a_bearer_token)
}

/// RFC 6750 §2.1.
fn b64token(credential: &[u8]) -> Result<&str, TokenError> {
    let is_b64token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    std::str::from_utf8(credential)
        .ok()
        .filter(|token| !token.is_empty() && token.bytes().all(is_b64token))
        .ok_or_else(not_a_bearer_token)
}

fn not_a_bearer_token() -> TokenError {
    TokenError::new(
        DenyReason::CredentialMalformed,
        "the Authorization header is not one bearer token",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_one_bearer_token() {
        let check = |value: &[u8], expected: Result<&str, DenyReason>| {
            let got = bearer_credential(Some(value))
                .and_then(b64token)
                .map_err(|error| error.reason);
            assert_eq!(got, expected, "{}", String::from_utf8_lossy(value));
        };
        check(b"Bearer abc.def.ghi", Ok("abc.def.ghi"));
        check(b"bEARER  a", Ok("a"));
        check(b"Basic abc", Err(DenyReason::CredentialMissing));
        check(b"", Err(DenyReason::CredentialMissing));
        for bad in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearerabc",
            b"Bearer a b",
            b"Bearer a,Bearer b",
            b"Bearer a\xff",
            b"Bearer a\0",
        ] {
            check(bad, Err(DenyReason::CredentialMalformed));
        }
        assert_eq!(
            bearer_credential(None).unwrap_err().reason,
            DenyReason::CredentialMissing
        );
    }
}
