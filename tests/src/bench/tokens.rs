//! Many tokens, quickly: signed by ring, which is many times faster at RSA than what the command line uses.

use std::fs;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use crate::clock;
use crate::keys::{Keys, TokenKey};
use crate::token::{AUDIENCE, ISSUER};

/// Longer than any benchmark.
const VALID_FOR_S: i64 = 6 * 60 * 60;

enum Signer {
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
}

/// What makes tokens.
pub struct Mint {
    signer: Signer,
    header: String,
    random: SystemRandom,
}

impl Mint {
    /// Signs with the issuer's `key`.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn new(keys: &Keys, key: TokenKey) -> Result<Self> {
        let private = keys.token_key(key)?;
        let file = match key {
            TokenKey::Rs256 => picket::pki::RS256_KEY_FILE,
            TokenKey::Es256 => picket::pki::ES256_KEY_FILE,
            TokenKey::StrangerRs256 | TokenKey::StrangerEs256 => anyhow::bail!("a stranger's tokens are refused"),
        };
        let pem = fs::read(keys.folder().join(file))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| anyhow!("`{file}`: {error}"))?;
        let random = SystemRandom::new();
        let signer = match private.algorithm() {
            "RS256" => Signer::Rs256(Box::new(
                RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|error| anyhow!("the RSA key: {error}"))?,
            )),
            _ => Signer::Es256(Box::new(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
                    .map_err(|error| anyhow!("the P-256 key: {error}"))?,
            )),
        };
        let header = json!({ "typ": "JWT", "alg": private.algorithm(), "kid": private.public().thumbprint() });
        Ok(Self {
            signer,
            header: encoded(header.to_string().as_bytes()),
            random,
        })
    }

    /// A token of alice, a clerk of acme; `number` makes it another one, and it has at least `bytes` bytes.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, number: usize, bytes: usize) -> Result<String> {
        let now = clock::now_s();
        let mut claims = json!({
            "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": now, "exp": now.saturating_add(VALID_FOR_S),
            "jti": format!("{number:016x}"), "tenant": "acme", "roles": ["clerk"], "scope": "orders.read orders.write",
        });
        let token = self.signed(&claims.to_string())?;
        let missing = bytes.saturating_sub(token.len());
        if missing == 0 {
            return Ok(token);
        }
        if let Some(members) = claims.as_object_mut() {
            // Base64 makes four characters of three.
            members.insert("filler".to_owned(), "x".repeat(missing * 3 / 4).into());
        }
        self.signed(&claims.to_string())
    }

    fn signed(&self, claims: &str) -> Result<String> {
        let text = format!("{}.{}", self.header, encoded(claims.as_bytes()));
        let signature = match &self.signer {
            Signer::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &self.random, text.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("cannot sign with RSA"))?;
                signature
            }
            Signer::Es256(key) => {
                let signature = key
                    .sign(&self.random, text.as_bytes())
                    .map_err(|_| anyhow!("cannot sign with P-256"))?;
                signature.as_ref().to_vec()
            }
        };
        Ok(format!("{text}.{}", encoded(&signature)))
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
