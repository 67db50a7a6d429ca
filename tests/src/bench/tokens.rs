//! Many tokens, quickly: signed by ring, which is many times faster at RSA than what the command line uses.

use std::fs;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{self, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::keys::CLIENT_KEY;
use crate::keys::{Keys, TokenKey};
use crate::token::{AUDIENCE, ISSUER, merge};

/// Longer than any benchmark.
const VALID_FOR_S: i64 = 6 * 60 * 60;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// With the issuer's RSA key.
    Rs256,
    /// With the same key, and a salt as long as the hash.
    Ps256,
    /// With the issuer's P-256 key.
    Es256,
    /// With its Ed25519 key.
    EdDsa,
    /// With its secret.
    Hs256,
}

/// The keys of the issuer that no stack has: those of algorithms that are measured and seldom used.
#[derive(Debug)]
pub struct FurtherKeys {
    ed25519_seed: [u8; 32],
    secret: [u8; 32],
}

enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Ed25519KeyPair),
    Hs256(hmac::Key),
}

/// What makes tokens.
pub struct Mint {
    signer: Signer,
    header: String,
    claims: Map<String, Value>,
    random: SystemRandom,
}

impl FurtherKeys {
    /// Makes them.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn make() -> Result<Self> {
        let random = SystemRandom::new();
        let bytes = || {
            rand::generate(&random)
                .map(rand::Random::expose)
                .map_err(|_| anyhow!("no randomness"))
        };
        Ok(Self {
            ed25519_seed: bytes()?,
            secret: bytes()?,
        })
    }

    fn ed25519(&self) -> Result<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&self.ed25519_seed).map_err(|error| anyhow!("the Ed25519 key: {error}"))
    }

    /// The issuer's key set, with these in it, and its RSA key once more for PS256.
    ///
    /// # Errors
    /// When the key set cannot be read.
    pub fn key_set(&self, keys: &Keys) -> Result<String> {
        let mut set: Value = serde_json::from_str(&keys.key_set()?)?;
        let all = set.get_mut("keys").and_then(Value::as_array_mut).context("no keys")?;
        let rsa = all
            .iter()
            .find(|key| key.get("kty") == Some(&json!("RSA")))
            .context("no RSA key")?;
        let mut ps256 = rsa.clone();
        for (name, value) in [("alg", "PS256"), ("kid", kid(Algorithm::Ps256))] {
            merge(&mut ps256, &Map::from_iter([(name.to_owned(), value.into())]));
        }
        all.push(ps256);
        let point = encoded(self.ed25519()?.public_key().as_ref());
        all.push(json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid(Algorithm::EdDsa), "x": point }));
        all.push(json!({ "kty": "oct", "alg": "HS256", "kid": kid(Algorithm::Hs256), "k": encoded(&self.secret) }));
        Ok(set.to_string())
    }
}

impl Mint {
    /// Signs with the issuer's key for `algorithm`.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn new(keys: &Keys, further: &FurtherKeys, algorithm: Algorithm) -> Result<Self> {
        let key = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => Some(TokenKey::Rs256),
            Algorithm::Es256 => Some(TokenKey::Es256),
            Algorithm::EdDsa | Algorithm::Hs256 => None,
        };
        let thumbprint = key
            .map(|key| keys.token_key(key))
            .transpose()?
            .map(|key| key.public().thumbprint());
        let random = SystemRandom::new();
        let (name, signer) = match algorithm {
            Algorithm::Rs256 => ("RS256", Signer::Rsa(Box::new(rsa_key(keys)?), &RSA_PKCS1_SHA256)),
            Algorithm::Ps256 => ("PS256", Signer::Rsa(Box::new(rsa_key(keys)?), &RSA_PSS_SHA256)),
            Algorithm::Es256 => (
                "ES256",
                Signer::Es256(Box::new(p256_key(keys, TokenKey::Es256, &random)?)),
            ),
            Algorithm::EdDsa => ("EdDSA", Signer::EdDsa(further.ed25519()?)),
            Algorithm::Hs256 => (
                "HS256",
                Signer::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &further.secret)),
            ),
        };
        let kid = match (algorithm, &thumbprint) {
            (Algorithm::Rs256 | Algorithm::Es256, Some(thumbprint)) => thumbprint.as_str(),
            (algorithm, _) => kid(algorithm),
        };
        Ok(Self {
            signer,
            header: encoded(json!({ "typ": "JWT", "alg": name, "kid": kid }).to_string().as_bytes()),
            claims: Map::new(),
            random,
        })
    }

    /// The same, with these claims besides.
    #[must_use]
    pub fn with_claims(mut self, claims: Map<String, Value>) -> Self {
        self.claims = claims;
        self
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
        merge(&mut claims, &self.claims);
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
            Signer::Rsa(key, padding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*padding, &self.random, text.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("cannot sign with RSA"))?;
                signature
            }
            Signer::Es256(key) => sign_p256(key, &self.random, text.as_bytes())?,
            Signer::EdDsa(key) => key.sign(text.as_bytes()).as_ref().to_vec(),
            Signer::Hs256(key) => hmac::sign(key, text.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{text}.{}", encoded(&signature)))
    }
}

/// What makes a DPoP proof for each request (RFC 9449 §4.2).
pub struct Prover {
    key: EcdsaKeyPair,
    header: String,
    random: SystemRandom,
}

impl Prover {
    /// Signs with the key that clients hold.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(keys: &Keys) -> Result<Self> {
        let random = SystemRandom::new();
        let jwk = serde_json::to_value(keys.token_key(CLIENT_KEY)?.public().jwk())?;
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        Ok(Self {
            key: p256_key(keys, CLIENT_KEY, &random)?,
            header: encoded(header.to_string().as_bytes()),
            random,
        })
    }

    /// The claims that bind a token to the key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn confirmation(keys: &Keys) -> Result<Map<String, Value>> {
        let thumbprint = keys.token_key(CLIENT_KEY)?.public().thumbprint();
        Ok(Map::from_iter([("cnf".to_owned(), json!({ "jkt": thumbprint }))]))
    }

    /// A proof for a GET of `uri` with `token`, another one each time.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn proof(&self, uri: &str, token: &str) -> Result<String> {
        let hash = digest(&SHA256, token.as_bytes());
        let claims = json!({
            "jti": format!("{:032x}", fastrand::u128(..)), "htm": "GET", "htu": uri, "iat": clock::now_s(),
            "ath": encoded(hash.as_ref()),
        });
        let text = format!("{}.{}", self.header, encoded(claims.to_string().as_bytes()));
        let signature = sign_p256(&self.key, &self.random, text.as_bytes())?;
        Ok(format!("{text}.{}", encoded(&signature)))
    }
}

fn kid(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => "rs256",
        Algorithm::Ps256 => "ps256",
        Algorithm::Es256 => "es256",
        Algorithm::EdDsa => "eddsa",
        Algorithm::Hs256 => "hs256",
    }
}

fn rsa_key(keys: &Keys) -> Result<RsaKeyPair> {
    let der = pkcs8(keys, TokenKey::Rs256)?;
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|error| anyhow!("the RSA key: {error}"))
}

fn p256_key(keys: &Keys, key: TokenKey, random: &SystemRandom) -> Result<EcdsaKeyPair> {
    let der = pkcs8(keys, key)?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), random)
        .map_err(|error| anyhow!("the P-256 key: {error}"))
}

fn pkcs8(keys: &Keys, key: TokenKey) -> Result<PrivatePkcs8KeyDer<'static>> {
    let file = keys.token_key_file(key);
    let pem = fs::read(&file)?;
    PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| anyhow!("`{}`: {error}", file.display()))
}

fn sign_p256(key: &EcdsaKeyPair, random: &SystemRandom, text: &[u8]) -> Result<Vec<u8>> {
    let signature = key.sign(random, text).map_err(|_| anyhow!("cannot sign with P-256"))?;
    Ok(signature.as_ref().to_vec())
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
