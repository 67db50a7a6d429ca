//! Verification of a token, and the cache of those that passed.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;

use super::provider::Provider;
use super::{TokenAlgorithm, TokenError, VerifiedToken, b64token, bearer_credential, claims};
use crate::cache::Cache;
use crate::identity_headers::IdentityHeaders;
use crate::reason::DenyReason;
use crate::strict_json::{self, Json, Members};
use crate::time::Timestamp;

/// A longer token is refused before it is looked at.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// Verifies tokens with the keys of the providers, and remembers the ones that passed.
#[derive(Debug)]
pub struct TokenVerifier {
    providers: Vec<Provider>,
    /// Bounded by the number of entries and [`TOKEN_BYTES_MAX`].
    verified: Cache<KnownToken, Rc<VerifiedToken>>,
    identity_headers: IdentityHeaders,
    serial: u64,
}

/// A token that passed.
#[derive(Debug)]
struct KnownToken {
    /// Kept beside the bytes, so that these need not be read when the entry makes room.
    tail: u64,
    bytes: Box<[u8]>,
}

/// A token as a key. Its last eight bytes are hashed: they are of its signature, which no caller can choose for a token
/// that passes. All of it is compared.
trait TokenKey {
    fn tail(&self) -> u64;
    fn bytes(&self) -> &[u8];
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
    /// JSON, not read yet.
    claims: Vec<u8>,
    signing_input: &'t str,
    signature: &'t str,
}

impl Hash for dyn TokenKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tail().hash(state);
    }
}

impl PartialEq for dyn TokenKey + '_ {
    /// Eight bytes at a time: `memcmp` in a VM goes one by one.
    fn eq(&self, other: &Self) -> bool {
        let ((left, left_rest), (right, right_rest)) = (self.bytes().as_chunks(), other.bytes().as_chunks());
        let same = |(left, right): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*left) == u64::from_ne_bytes(*right);
        left.len() == right.len() && left_rest == right_rest && left.iter().zip(right).all(same)
    }
}

impl Eq for dyn TokenKey + '_ {}

impl TokenKey for KnownToken {
    fn tail(&self) -> u64 {
        self.tail
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl TokenKey for &[u8] {
    fn tail(&self) -> u64 {
        self.last_chunk().map_or(0, |tail| u64::from_ne_bytes(*tail))
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl<'t> Borrow<dyn TokenKey + 't> for KnownToken {
    fn borrow(&self) -> &(dyn TokenKey + 't) {
        self
    }
}

impl Hash for KnownToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key: &dyn TokenKey = self;
        key.hash(state);
    }
}

impl PartialEq for KnownToken {
    fn eq(&self, other: &Self) -> bool {
        let (one, other): (&dyn TokenKey, &dyn TokenKey) = (self, other);
        one == other
    }
}

impl Eq for KnownToken {}

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
        if let Some(known) = self.verified.get(&credential as &dyn TokenKey, now) {
            *how = Some(Verification::Cached);
            return claims::check_times(known.starts_at, known.ends_at, now).map(|()| Rc::clone(known));
        }
        let verified = self.verify_new(b64token(credential)?, now, how)?;
        let known = KnownToken {
            tail: credential.tail(),
            bytes: Box::from(credential),
        };
        self.verified.put(known, Rc::clone(&verified), verified.ends_at);
        Ok(verified)
    }

    fn verify_new(
        &mut self,
        token: &str,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<Rc<VerifiedToken>, TokenError> {
        let jws = Jws::parse(token)?;
        let claims = object(&jws.claims).ok_or(malformed("the claims are not a JSON object in base64url"))?;
        let issuer = match claims.get("iss") {
            Some(Json::String(issuer)) => issuer.as_ref(),
            Some(_) | None => "",
        };
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
        let claims = claims::check(&claims, provider, now)?;
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
        let header = URL_SAFE_NO_PAD.decode(header).ok();
        let header = header
            .as_deref()
            .and_then(object)
            .ok_or(malformed("the header is not a JSON object in base64url"))?;
        let claims = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| malformed("the claims are not a JSON object in base64url"))?;
        refuse_extensions(&header)?;
        refuse_other_types(&header)?;
        let algorithm = header
            .get("alg")
            .and_then(|algorithm| match algorithm {
                Json::String(name) => TokenAlgorithm::from_name(name),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
            })
            .ok_or(TokenError::new(
                DenyReason::TokenAlgorithmRefused,
                "`alg` is none that Picket verifies",
            ))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::String(id)) => Some(id.to_string()),
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

fn object(text: &[u8]) -> Option<Members<'_>> {
    match strict_json::borrow(text).ok()? {
        Json::Object(members) => Some(members),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => None,
    }
}

/// RFC 7515 §4.1.11: extensions that are not understood, and none is, must lead to a refusal. RFC 7797 and JWE's
/// compression change what is signed.
fn refuse_extensions(header: &Members<'_>) -> Result<(), TokenError> {
    match ["crit", "b64", "zip"].iter().any(|name| header.get(name).is_some()) {
        true => Err(malformed("the header holds `crit`, `b64` or `zip`")),
        false => Ok(()),
    }
}

/// RFC 8725 §3.11: a token of another kind (`dpop+jwt`, `logout+jwt`) is no access token.
fn refuse_other_types(header: &Members<'_>) -> Result<(), TokenError> {
    let is_jwt = match header.get("typ") {
        None => true,
        Some(Json::String(typ)) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_one_key_only_if_they_are_the_same_to_the_last_byte() {
        let token = b"header.claims.signature";
        let known = KnownToken {
            tail: token.as_slice().tail(),
            bytes: Box::from(token.as_slice()),
        };
        let is_known = |other: &[u8]| (&known as &dyn TokenKey) == (&other as &dyn TokenKey);
        assert!(is_known(token));
        for index in 0..token.len() {
            let mut other = *token;
            other[index] ^= 1;
            assert!(!is_known(&other), "{index}");
            assert!(!is_known(&token[index..]) || index == 0, "{index}");
            assert!(!is_known(&token[..index]), "{index}");
        }
    }
}
