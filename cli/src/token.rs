//! Tokens for development and tests: JSON Web Tokens signed with RS256 or ES256.

use std::time::{Duration, SystemTime};

use rsa::rand_core::{OsRng, RngCore};
use serde_json::{Map, Value, json};

use crate::clock::unix_seconds;
use crate::keys::{KeyError, PrivateKey, base64url};

/// A random token id has as many bytes as a UUID: enough that two are never the same.
const TOKEN_ID_BYTES: usize = 16;

/// What a token says.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`: a string where there is one, an array where there are several.
    pub audiences: Vec<String>,
    /// `exp` is this long after `iat`.
    pub expires_in: Duration,
    /// `nbf` is this long after `iat`.
    pub not_before: Duration,
    /// `iat` is this long before now, to make a token that has aged or expired.
    pub issued_ago: Duration,
    /// Further claims. One with the name of a claim above replaces it.
    pub claims: Map<String, Value>,
}

/// A signed token and what is in it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Token {
    /// The token in compact form: a credential.
    pub token: String,
    /// `alg` of its header.
    pub algorithm: &'static str,
    /// `kid` of its header: the key's RFC 7638 thumbprint.
    pub key_id: String,
    /// Its payload.
    pub claims: Map<String, Value>,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key cannot sign.
    #[error("cannot sign the token")]
    Key(#[from] KeyError),
    /// The system's source of randomness failed.
    #[error("the system gave no random bytes for the token id")]
    Random(#[source] rsa::rand_core::Error),
}

impl TokenOptions {
    /// A token that is valid from now on, for five minutes, without further claims.
    #[must_use]
    pub fn new(issuer: &str, subject: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audiences: vec![audience.to_owned()],
            expires_in: Duration::from_secs(5 * 60),
            not_before: Duration::ZERO,
            issued_ago: Duration::ZERO,
            claims: Map::new(),
        }
    }

    /// The same token with one more claim.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }
}

/// Signs a token with the claims of RFC 7519 §4.1 and those of the options.
///
/// # Errors
/// The key cannot sign, or the system gives no random bytes for `jti`.
pub fn mint(key: &PrivateKey, options: &TokenOptions, now: SystemTime) -> Result<Token, TokenError> {
    let issued_at = unix_seconds(now).saturating_sub(options.issued_ago.as_secs());
    let audience = match options.audiences.as_slice() {
        [audience] => json!(audience),
        audiences => json!(audiences),
    };
    let mut claims = Map::new();
    for (name, value) in [
        ("iss", json!(options.issuer)),
        ("sub", json!(options.subject)),
        ("aud", audience),
        ("iat", json!(issued_at)),
        ("nbf", json!(issued_at.saturating_add(options.not_before.as_secs()))),
        ("exp", json!(issued_at.saturating_add(options.expires_in.as_secs()))),
        ("jti", json!(random_token_id()?)),
    ] {
        claims.insert(name.to_owned(), value);
    }
    claims.extend(options.claims.clone());
    let (algorithm, key_id) = (key.algorithm(), key.public().thumbprint());
    let header = json!({"alg": algorithm, "kid": key_id, "typ": "JWT"});
    let token = sign(key, &header, &Value::Object(claims.clone()))?;
    Ok(Token {
        token,
        algorithm,
        key_id,
        claims,
    })
}

/// Signs any header and payload, also such as no issuer would: for tests of what must be refused.
///
/// # Errors
/// The key cannot sign.
pub fn sign(key: &PrivateKey, header: &Value, payload: &Value) -> Result<String, KeyError> {
    // RFC 7515 §5.1: the signing input is both parts in base64url, with a dot between them.
    let message = format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(payload.to_string().as_bytes())
    );
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{}", base64url(&signature)))
}

fn random_token_id() -> Result<String, TokenError> {
    let mut bytes = [0; TOKEN_ID_BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(TokenError::Random)?;
    Ok(base64url(&bytes))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const NOW_S: u64 = 1_700_000_000;

    fn mint_at_now(options: &TokenOptions) -> Token {
        let key = PrivateKey::Es256(Box::new(p256::SecretKey::random(&mut OsRng)));
        mint(&key, options, UNIX_EPOCH + Duration::from_secs(NOW_S)).unwrap()
    }

    #[test]
    fn the_times_are_those_that_were_asked_for() {
        let mut options = TokenOptions::new("i", "s", "a");
        options.issued_ago = Duration::from_secs(100);
        options.not_before = Duration::from_secs(7);
        options.expires_in = Duration::from_secs(60);
        let claims = mint_at_now(&options).claims;
        assert_eq!(claims["iat"], NOW_S - 100);
        assert_eq!(claims["nbf"], NOW_S - 93);
        assert_eq!(claims["exp"], NOW_S - 40);
    }

    #[test]
    fn a_further_claim_replaces_one_of_the_same_name() {
        let options = TokenOptions::new("i", "s", "a")
            .with_claim("iss", json!("other"))
            .with_claim("roles", json!(["reader"]));
        let claims = mint_at_now(&options).claims;
        assert_eq!(claims["iss"], "other");
        assert_eq!(claims["roles"], json!(["reader"]));
    }

    #[test]
    fn several_audiences_are_an_array_and_one_is_a_string() {
        let mut options = TokenOptions::new("i", "s", "a");
        assert_eq!(mint_at_now(&options).claims["aud"], "a");
        options.audiences.push("b".to_owned());
        assert_eq!(mint_at_now(&options).claims["aud"], json!(["a", "b"]));
    }

    #[test]
    fn two_tokens_have_two_ids() {
        let options = TokenOptions::new("i", "s", "a");
        assert_ne!(mint_at_now(&options).claims["jti"], mint_at_now(&options).claims["jti"]);
    }
}
