//! Verification of a token, and the cache of those that passed.

use std::num::NonZeroUsize;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use serde_json::{Map, Value};

use super::provider::Provider;
use super::{TokenAlgorithm, TokenError, VerifiedToken, b64token, bearer_credential, claims};
use crate::cache::Cache;
use crate::identity_headers::IdentityHeaders;
use crate::reason::DenyReason;
use crate::strict_json;
use crate::time::Timestamp;

/// A longer token is refused before it is looked at.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// Verifies tokens with the keys of the providers, and remembers the ones that passed.
#[derive(Debug)]
pub struct TokenVerifier {
    providers: Vec<Provider>,
    /// By the token's bytes; bounded by the number of entries and [`TOKEN_BYTES_MAX`].
    verified: Cache<Box<[u8]>, Rc<VerifiedToken>>,
    identity_headers: IdentityHeaders,
    serial: u64,
}

/// How a token's verification went, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The signature had been verified before.
    Cached,
    /// The signature was checked now.
    Checked(TokenAlgorithm),
}

/// A JWS in compact serialization, parsed and not yet verified: nothing in it is true before its signature is checked.
struct Jws<'t> {
    algorithm: TokenAlgorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    signing_input: &'t str,
    signature: &'t str,
}

impl TokenVerifier {
    /// A verifier with an empty cache.
    #[must_use]
    pub fn new(
        providers: Vec<Provider>,
        identity_headers: IdentityHeaders,
        entries_max: NonZeroUsize,
        seed: u64,
    ) -> Self {
        Self {
            providers,
            verified: Cache::new(entries_max, seed),
            identity_headers,
            serial: 0,
        }
    }

    /// Verifies the token in an `authorization` header at `now`, and says in `how` whether a signature was checked,
    /// whatever its outcome.
    ///
    /// # Errors
    /// [`TokenError`] with the reason for the caller.
    pub fn verify(
        &mut self,
        authorization: Option<&[u8]>,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<Rc<VerifiedToken>, TokenError> {
        let credential = bearer_credential(authorization)?;
        // What is in the cache has passed every check but that of the time: no byte is looked at again.
        if let Some(known) = self.verified.get(credential, now) {
            *how = Some(Verification::Cached);
            return claims::check_times(known.starts_at, known.ends_at, now).map(|()| Rc::clone(known));
        }
        let verified = self.verify_new(b64token(credential)?, now, how)?;
        self.verified
            .put(Box::from(credential), Rc::clone(&verified), verified.ends_at);
        Ok(verified)
    }

    fn verify_new(
        &mut self,
        token: &str,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<Rc<VerifiedToken>, TokenError> {
        let jws = Jws::parse(token)?;
        let issuer = jws.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let provider = self
            .providers
            .iter()
            .find(|provider| provider.issuer == issuer)
            .ok_or(TokenError::new(
                DenyReason::TokenIssuerUnknown,
                "`iss` is no provider's",
            ))?;
        if !provider.algorithms.contains(&jws.algorithm) {
            return Err(TokenError::new(
                DenyReason::TokenAlgorithmRefused,
                "the provider does not allow `alg`",
            ));
        }
        let key = provider
            .keys
            .find(jws.key_id.as_deref(), jws.algorithm)
            .ok_or(TokenError::new(
                DenyReason::TokenKeyUnknown,
                "no key fits `kid` and `alg`",
            ))?;
        *how = Some(Verification::Checked(jws.algorithm));
        // A wrong answer of the crypto provider (a key that it cannot read, say) is a refusal like a wrong signature.
        let is_signed = verify(
            jws.signature,
            jws.signing_input.as_bytes(),
            &key.decoding_key,
            jws.algorithm.into(),
        );
        if !is_signed.unwrap_or(false) {
            return Err(TokenError::new(
                DenyReason::TokenSignatureInvalid,
                "the signature is not the key's",
            ));
        }
        let claims = claims::check(&jws.claims, provider, now)?;
        self.serial = self.serial.saturating_add(1);
        Ok(Rc::new(VerifiedToken {
            serial: self.serial,
            identity_headers: self.identity_headers.of_principal(&claims.principal),
            principal: Rc::new(claims.principal),
            starts_at: claims.starts_at,
            ends_at: claims.ends_at,
        }))
    }
}

impl<'t> Jws<'t> {
    fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("the token is longer than 8192 bytes"));
        }
        // RFC 7515 §7.1: exactly three parts.
        let not_compact = malformed("not a JWS in compact serialization");
        let (signing_input, signature) = token.rsplit_once('.').ok_or(not_compact.clone())?;
        let (header, payload) = signing_input.split_once('.').ok_or(not_compact.clone())?;
        if payload.contains('.') {
            return Err(not_compact);
        }
        let header = object(header).ok_or(malformed("the header is not a JSON object in base64url"))?;
        let claims = object(payload).ok_or(malformed("the claims are not a JSON object in base64url"))?;
        refuse_extensions(&header)?;
        refuse_other_types(&header)?;
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(TokenAlgorithm::from_name)
            .ok_or(TokenError::new(
                DenyReason::TokenAlgorithmRefused,
                "`alg` is none that Picket verifies",
            ))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(malformed("`kid` is not a string")),
        };
        Ok(Self {
            algorithm,
            key_id,
            claims,
            signing_input,
            signature,
        })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match strict_json::parse(&bytes).ok()? {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// RFC 7515 §4.1.11: extensions that are not understood, and none is, must lead to a refusal. RFC 7797 and JWE's
/// compression change what is signed.
fn refuse_extensions(header: &Map<String, Value>) -> Result<(), TokenError> {
    match ["crit", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
        true => Err(malformed("the header holds `crit`, `b64` or `zip`")),
        false => Ok(()),
    }
}

/// RFC 8725 §3.11: a token of another kind (`dpop+jwt`, `logout+jwt`) is no access token.
fn refuse_other_types(header: &Map<String, Value>) -> Result<(), TokenError> {
    let is_jwt = match header.get("typ") {
        None => true,
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
        }
        Some(_) => false,
    };
    if is_jwt {
        Ok(())
    } else {
        Err(malformed("`typ` is neither `JWT` nor `at+jwt`"))
    }
}

fn malformed(detail: &'static str) -> TokenError {
    TokenError::new(DenyReason::TokenMalformed, detail)
}
