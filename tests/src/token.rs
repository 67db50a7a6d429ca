//! Tokens as data: good ones, and ones with exactly one thing wrong.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::keys::{CLIENT_KEY, Keys, TokenKey};

/// The issuer that the sidecar's configuration names.
pub const ISSUER: &str = "https://issuer.example";
/// The audience that it names.
pub const AUDIENCE: &str = "orders";

/// How a token differs from a good one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSpec {
    /// Who signs.
    pub key: TokenKey,
    /// Claims to add or to replace; `null` removes one.
    pub claims: Map<String, Value>,
    /// Header parameters to add or to replace; `null` removes one.
    pub header: Map<String, Value>,
    /// The key that it is bound to (RFC 9449 §6.1); absent: none.
    pub bound_to: Option<TokenKey>,
    /// The workload whose certificate it is bound to (RFC 8705 §3.1); absent: none.
    pub bound_to_certificate: Option<String>,
    /// `exp`, from now.
    pub expires_in_s: i64,
    /// `nbf`, from now; absent: no `nbf`.
    pub not_before_in_s: Option<i64>,
    /// `iat`, from now.
    pub issued_in_s: i64,
    /// What happens to it after it was made.
    pub defect: Defect,
}

/// What is done to a token that was made well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// Nothing.
    #[default]
    None,
    /// One bit of the signature is another.
    SignatureByte,
    /// One bit of the claims is another.
    ClaimsByte,
    /// The signature is gone.
    SignatureMissing,
    /// `alg` is `none`, and there is no signature (RFC 8725 §2.1).
    AlgorithmNone,
    /// `alg` is `HS256`, and the secret is the RSA public key (RFC 8725 §2.1).
    Hs256WithPublicKey,
    /// The header says the other algorithm than the one that signed.
    AlgorithmSwapped,
    /// The claims are no JSON.
    ClaimsNotJson,
}

impl Default for TokenSpec {
    fn default() -> Self {
        Self {
            key: TokenKey::Rs256,
            claims: Map::new(),
            header: Map::new(),
            bound_to: None,
            bound_to_certificate: None,
            expires_in_s: 300,
            not_before_in_s: None,
            issued_in_s: 0,
            defect: Defect::None,
        }
    }
}

impl TokenSpec {
    /// A good token of `subject`.
    pub fn of(subject: &str) -> Self {
        let mut spec = Self::default();
        spec.claims.insert("sub".to_owned(), Value::from(subject));
        spec
    }

    /// Bound to the key that clients hold.
    #[must_use]
    pub fn bound(mut self) -> Self {
        self.bound_to = Some(CLIENT_KEY);
        self
    }

    /// Makes the token.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn mint(&self, keys: &Keys) -> Result<String> {
        let key = keys.token_key(self.key)?;
        let mut header = json!({ "typ": "JWT", "alg": key.algorithm(), "kid": key.public().thumbprint() });
        match self.defect {
            Defect::AlgorithmNone => set(&mut header, "alg", "none"),
            Defect::Hs256WithPublicKey => set(&mut header, "alg", "HS256"),
            Defect::AlgorithmSwapped if key.algorithm() == "RS256" => set(&mut header, "alg", "ES256"),
            Defect::AlgorithmSwapped => set(&mut header, "alg", "RS256"),
            Defect::None
            | Defect::SignatureByte
            | Defect::ClaimsByte
            | Defect::SignatureMissing
            | Defect::ClaimsNotJson => {}
        }
        merge(&mut header, &self.header);
        let claims = match self.defect {
            Defect::ClaimsNotJson => "{not json".to_owned(),
            Defect::None
            | Defect::SignatureByte
            | Defect::ClaimsByte
            | Defect::SignatureMissing
            | Defect::AlgorithmNone
            | Defect::Hs256WithPublicKey
            | Defect::AlgorithmSwapped => self.claims_set(keys)?.to_string(),
        };
        let signed = format!(
            "{}.{}",
            encoded(header.to_string().as_bytes()),
            encoded(claims.as_bytes())
        );
        let signature = match self.defect {
            Defect::AlgorithmNone | Defect::SignatureMissing => Vec::new(),
            Defect::Hs256WithPublicKey => hmac_sha256(keys.rsa_public_key_pem()?.as_bytes(), signed.as_bytes()),
            Defect::SignatureByte => altered(key.sign(signed.as_bytes())?),
            Defect::None | Defect::ClaimsByte | Defect::AlgorithmSwapped | Defect::ClaimsNotJson => {
                key.sign(signed.as_bytes())?
            }
        };
        let signed = if self.defect == Defect::ClaimsByte {
            with_altered_claims(&signed)?
        } else {
            signed
        };
        Ok(format!("{signed}.{}", encoded(&signature)))
    }

    fn claims_set(&self, keys: &Keys) -> Result<Value> {
        let now = clock::now_s();
        let mut claims = json!({
            "iss": ISSUER,
            "sub": "alice",
            "aud": AUDIENCE,
            "iat": now.saturating_add(self.issued_in_s),
            "exp": now.saturating_add(self.expires_in_s),
            "jti": format!("{:016x}", fastrand::u64(..)),
            "tenant": "acme",
            "roles": ["clerk"],
        });
        if let Some(offset) = self.not_before_in_s {
            merge(
                &mut claims,
                &Map::from_iter([("nbf".to_owned(), Value::from(now.saturating_add(offset)))]),
            );
        }
        if let Some(key) = self.bound_to {
            let thumbprint = keys.token_key(key)?.public().thumbprint();
            let confirmation = json!({ "cnf": { "jkt": thumbprint } });
            merge(&mut claims, confirmation.as_object().context("not an object")?);
        }
        if let Some(workload) = &self.bound_to_certificate {
            let identity = keys.identity(workload)?;
            let certificate = identity.chain.first().context("no certificate")?;
            let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
            let confirmation = json!({ "cnf": { "x5t#S256": encoded(digest.as_ref()) } });
            merge(&mut claims, confirmation.as_object().context("not an object")?);
        }
        merge(&mut claims, &self.claims);
        Ok(claims)
    }
}

fn set(object: &mut Value, name: &str, value: &str) {
    merge(object, &Map::from_iter([(name.to_owned(), Value::from(value))]));
}

pub(crate) fn merge(object: &mut Value, changes: &Map<String, Value>) {
    if let Some(members) = object.as_object_mut() {
        for (name, value) in changes {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
    }
}

fn altered(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes
}

fn with_altered_claims(signed: &str) -> Result<String> {
    let (header, claims) = signed.split_once('.').context("a token without a dot")?;
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(format!(
        "{header}.{}",
        encoded(claims.replace("acme", "acmf").as_bytes())
    ))
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hmac_sha256(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, text).as_ref().to_vec()
}
