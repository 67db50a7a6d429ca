//! DPoP proofs (RFC 9449) as data: good ones, and ones with exactly one thing wrong.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::keys::{CLIENT_KEY, Keys, TokenKey};
use crate::token::merge;

/// The request that a proof is for.
#[derive(Debug, Clone, Copy)]
pub struct ProofTarget<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its host.
    pub host: &'r str,
    /// Its target, with the query.
    pub path: &'r str,
}

/// How a proof differs from a good one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProofSpec {
    /// Who signs, and whose public key is in the header.
    pub key: TokenKey,
    /// Claims to add or to replace; `null` removes one.
    pub claims: Map<String, Value>,
    /// Header parameters to add or to replace; `null` removes one.
    pub header: Map<String, Value>,
    /// `iat`, from now.
    pub issued_in_s: i64,
    /// How many `DPoP` header fields hold it.
    pub fields: usize,
}

impl Default for ProofSpec {
    fn default() -> Self {
        Self {
            key: CLIENT_KEY,
            claims: Map::new(),
            header: Map::new(),
            issued_in_s: 0,
            fields: 1,
        }
    }
}

impl ProofSpec {
    /// With this claim instead.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the proof for a request with this token.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn make(&self, keys: &Keys, request: &ProofTarget<'_>, token: &str) -> Result<String> {
        let key = keys.token_key(self.key)?;
        let jwk = serde_json::to_value(key.public().jwk())?;
        let mut header = json!({ "typ": "dpop+jwt", "alg": key.algorithm(), "jwk": jwk });
        merge(&mut header, &self.header);
        let path = request.path.split('?').next().unwrap_or_default();
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut claims = json!({
            "jti": format!("{:032x}", fastrand::u128(..)),
            "htm": request.method,
            "htu": format!("https://{}{path}", request.host),
            "iat": clock::now_s().saturating_add(self.issued_in_s),
            "ath": URL_SAFE_NO_PAD.encode(hash),
        });
        merge(&mut claims, &self.claims);
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = key.sign(signed.as_bytes()).context("no signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
