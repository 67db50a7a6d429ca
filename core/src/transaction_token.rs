//! Transaction tokens: what Picket has verified, in a short-lived signed token for the upstream.
//!
//! The form is that of the IETF's draft-ietf-oauth-transaction-tokens: a JWT of type `txntoken+jwt`
//! in the header `txn-token`, here with HMAC-SHA-256 under a key that sidecar and application
//! share. An application that checks it need not trust that every request came through its sidecar.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use picket_model::access::Principal;
use picket_model::spiffe::SpiffeId;
use picket_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::jose::keys::Secret;

/// The header that carries the token.
pub const HEADER: &str = "txn-token";
/// `typ`.
pub const TYPE: &str = "txntoken+jwt";
/// A shorter key is refused: RFC 7518 §3.2 asks for the hash's length.
pub const KEY_BYTES_MIN: usize = 32;

/// How transaction tokens are made.
#[derive(Clone, Debug)]
pub struct TransactionTokens {
    /// `iss`: the workload that the sidecar protects.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// How long one is good for.
    pub lifetime_s: u32,
    /// The environment variable that holds the key, in base64 or base64url.
    pub key_variable: String,
    key: Option<Secret>,
}

/// The content of one request's token beside its times.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// `txn`: the request's id.
    pub request_id: &'a str,
    /// The authenticated party; `None`: there was no token.
    pub principal: Option<&'a Principal>,
    /// The calling workload; `None`: the rule did not ask for it.
    pub peer: Option<&'a SpiffeId>,
    /// The route rule that matched.
    pub route_rule: &'a str,
    /// The policy service's decision; `None`: the rule permits by itself.
    pub decision_id: Option<&'a str>,
}

/// The claims of a transaction token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionClaims {
    /// The workload whose sidecar made it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// When it was made, in seconds since the epoch.
    pub iat: i64,
    /// From when on it is no good.
    pub exp: i64,
    /// The request's id.
    pub txn: String,
    /// The principal's subject, or the calling workload where there is no principal; absent:
    /// neither is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The calling workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub req_wl: Option<String>,
    /// What was verified of the principal; absent: there was no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tctx: Option<TransactionContext>,
    /// What decided.
    pub rctx: RequesterContext,
}

/// What was verified of the principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionContext {
    /// Who authenticated it.
    pub issuer: String,
    /// Its tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}

/// What decided about the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequesterContext {
    /// The route rule.
    pub route_rule: String,
    /// The policy service's decision, as in its audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
}

/// Why a key cannot be used. `Display` shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at least {KEY_BYTES_MIN} bytes in base64 or base64url")]
pub struct KeyError;

/// Why a text is no transaction token under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// It has not three parts, or one of them is not base64url.
    #[error("not a JWS in compact serialization")]
    Form,
    /// Its header is not that of a transaction token.
    #[error("not a transaction token: `typ` is not `{TYPE}`, or `alg` not `HS256`")]
    Type,
    /// Its claims are not those of a transaction token.
    #[error("the claims are not those of a transaction token")]
    Claims,
}

impl TransactionTokens {
    /// Without a key, which comes from the environment ([`TransactionTokens::with_key`]).
    #[must_use]
    pub fn new(issuer: String, audience: String, lifetime_s: u32, key_variable: String) -> Self {
        Self {
            issuer,
            audience,
            lifetime_s,
            key_variable,
            key: None,
        }
    }

    /// The same, with this key.
    #[must_use]
    pub fn with_key(self, key: Secret) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Makes the token of a request. `None`: there is no key.
    #[must_use]
    pub fn mint(&self, transaction: &Transaction<'_>, now: Timestamp) -> Option<String> {
        let key = self.key.as_ref()?;
        let claims = self.claims(transaction, now);
        let header = format!("{{\"alg\":\"HS256\",\"typ\":\"{TYPE}\"}}");
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&claims).ok()?, &mut token);
        let signature = mac(key, token.as_bytes())?.finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    fn claims(&self, transaction: &Transaction<'_>, now: Timestamp) -> TransactionClaims {
        let Transaction {
            request_id,
            principal,
            peer,
            route_rule,
            decision_id,
        } = transaction;
        let peer = peer.map(SpiffeId::as_str);
        TransactionClaims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            iat: now.as_s(),
            exp: now.as_s().saturating_add(i64::from(self.lifetime_s)),
            txn: (*request_id).to_owned(),
            sub: principal
                .map(|principal| principal.subject.as_str())
                .or(peer)
                .map(str::to_owned),
            req_wl: peer.map(str::to_owned),
            tctx: principal.map(TransactionContext::from),
            rctx: RequesterContext {
                route_rule: (*route_rule).to_owned(),
                decision_id: decision_id.map(str::to_owned),
            },
        }
    }
}

impl From<&Principal> for TransactionContext {
    fn from(principal: &Principal) -> Self {
        // Exhaustive, so that another attribute is in the token, or in a line here.
        let Principal {
            issuer,
            tenant,
            roles,
            scopes,
            // The token's `sub`.
            subject: _,
            acr: _,
            amr: _,
            auth_time_s: _,
            session_id: _,
            token_id: _,
            issued_at_s: _,
            expires_at_s: _,
            actors: _,
            is_bound: _,
        } = principal;
        Self {
            issuer: issuer.clone(),
            tenant: tenant.clone(),
            roles: roles.clone(),
            scopes: scopes.clone(),
        }
    }
}

/// Reads a key in the form of the environment variable.
///
/// # Errors
/// [`KeyError`] when it is too short or not base64.
pub fn read_key(text: &str) -> Result<Secret, KeyError> {
    let text: String = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError)?;
    match key.len() >= KEY_BYTES_MIN {
        true => Ok(Secret::new(key)),
        false => Err(KeyError),
    }
}

/// A transaction token that was read. The reader checks its validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedToken {
    /// Its claims.
    pub claims: TransactionClaims,
    /// Whether the signature is the key's; `None`: no key was given.
    pub is_signed: Option<bool>,
}

/// Reads a transaction token, as an application would.
///
/// # Errors
/// [`InspectError`] when it is none.
pub fn inspect(token: &str, key: Option<&Secret>) -> Result<InspectedToken, InspectError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        typ: String,
    }
    let (text, signature) = token.rsplit_once('.').ok_or(InspectError::Form)?;
    let (header, claims) = text.split_once('.').ok_or(InspectError::Form)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| InspectError::Form);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| InspectError::Type)?;
    if header.alg != "HS256" || header.typ != TYPE {
        return Err(InspectError::Type);
    }
    let signature = decode(signature)?;
    Ok(InspectedToken {
        claims: serde_json::from_slice(&decode(claims)?).map_err(|_| InspectError::Claims)?,
        is_signed: key.map(|key| mac(key, text.as_bytes()).is_some_and(|mac| mac.verify_slice(&signature).is_ok())),
    })
}

fn mac(key: &Secret, text: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(text);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    fn tokens() -> TransactionTokens {
        let tokens = TransactionTokens::new("orders".into(), "orders".into(), 30, "KEY".into());
        tokens.with_key(read_key(KEY).unwrap())
    }

    fn transaction<'a>(peer: Option<&'a SpiffeId>) -> Transaction<'a> {
        Transaction {
            request_id: "r-1",
            principal: None,
            peer,
            route_rule: "orders-read",
            decision_id: Some("d-1"),
        }
    }

    #[test]
    fn what_was_minted_is_read_under_the_same_key_and_no_other() {
        let peer: SpiffeId = "spiffe://example.org/web".parse().unwrap();
        let token = tokens()
            .mint(&transaction(Some(&peer)), Timestamp::from_s(100))
            .unwrap();
        let inspected = inspect(&token, Some(&read_key(KEY).unwrap())).unwrap();
        assert_eq!(inspected.is_signed, Some(true));
        let claims = inspected.claims;
        assert_eq!((claims.iat, claims.exp, claims.txn.as_str()), (100, 130, "r-1"));
        assert_eq!(claims.sub.as_deref(), Some("spiffe://example.org/web"));
        assert_eq!(claims.rctx.decision_id.as_deref(), Some("d-1"));
        let other = Secret::new(vec![7; 32]);
        assert_eq!(inspect(&token, Some(&other)).unwrap().is_signed, Some(false));
        assert_eq!(inspect(&token, None).unwrap().is_signed, None);
        let (text, _) = token.rsplit_once('.').unwrap();
        let unsigned = inspect(&format!("{text}."), Some(&read_key(KEY).unwrap()));
        assert_eq!(unsigned.unwrap().is_signed, Some(false));
    }

    #[test]
    fn nothing_is_minted_without_a_key() {
        let tokens = TransactionTokens::new("orders".into(), "orders".into(), 30, "KEY".into());
        assert_eq!(tokens.mint(&transaction(None), Timestamp::from_s(100)), None);
    }

    #[test]
    fn other_tokens_are_none() {
        // RFC 7515 §A.1.
        let jwt = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UifQ.dBjf";
        assert_eq!(inspect(jwt, None), Err(InspectError::Type));
        assert_eq!(inspect("a", None), Err(InspectError::Form));
        assert_eq!(inspect("a.b.c.d", None), Err(InspectError::Form));
    }

    #[test]
    fn keys_are_base64_of_32_bytes_at_least() {
        let bytes = |length: usize| base64::engine::general_purpose::STANDARD.encode(vec![0xfb; length]);
        assert!(read_key(&bytes(32)).is_ok());
        assert!(read_key(&format!(" {}\n", bytes(33))).is_ok());
        for bad in ["", "not base64!", &bytes(31)] {
            assert_eq!(read_key(bad).map(|_| ()), Err(KeyError));
        }
    }
}
