//! Tokens as an attacker makes them: any header, any claims, signed with any key under any algorithm, and altered after.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use p256::ecdsa::signature::Signer as _;
use picket_core::jose::TokenAlgorithm;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::EncodePublicKey;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::keys::{Keys, TokenKey};
use picket::keys::PrivateKey;

/// The issuer whose keys are all known here.
pub const ISSUER: &str = "https://forge.example";
/// The `kid` of each key is its name.
const KEY_NAMES: [KeyName; 6] = [
    KeyName::Rsa,
    KeyName::P256,
    KeyName::P384,
    KeyName::P521,
    KeyName::Ed25519,
    KeyName::Secret,
];
/// As long as the hash of HS512.
const SECRET_BYTES: usize = 64;

/// The keys of an issuer, made anew for each run.
pub struct Forge {
    rsa: rsa::RsaPrivateKey,
    p256: p256::ecdsa::SigningKey,
    p384: p384::ecdsa::SigningKey,
    p521: p521::ecdsa::SigningKey,
    ed25519: ed25519_dalek::SigningKey,
    secret: Vec<u8>,
}

/// A key of the issuer, or something that an attacker signs with in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyName {
    /// The RSA key.
    Rsa,
    /// The P-256 key.
    #[default]
    P256,
    /// The P-384 key.
    P384,
    /// The P-521 key.
    P521,
    /// The Ed25519 key.
    Ed25519,
    /// The secret for HMAC.
    Secret,
    /// Nothing: HMAC with an empty secret.
    EmptySecret,
    /// The RSA public key in PEM as a secret.
    RsaPublicPem,
    /// The RSA public key in DER as a secret.
    RsaPublicDer,
    /// The modulus of the RSA public key as a secret.
    RsaModulus,
    /// The P-256 public key in DER as a secret.
    P256PublicDer,
    /// The point of the P-256 public key as a secret.
    P256Point,
    /// The Ed25519 public key as a secret.
    Ed25519Public,
}

/// What is done to a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alteration {
    /// Nothing.
    #[default]
    None,
    /// It goes, and the dot before it stays.
    Removed,
    /// It goes with its dot.
    RemovedWithDot,
    /// Its last byte goes.
    Truncated,
    /// A zero byte follows it.
    Extended,
    /// A zero byte stands before it.
    LedByZero,
    /// All of its bytes are zero.
    Zeros,
    /// `r` is zero.
    RZero,
    /// `s` is zero.
    SZero,
    /// `r` is the order of the group.
    ROrder,
    /// `s` is the order of the group.
    SOrder,
    /// `s` is the order less `s`: valid by FIPS 186, and another signature.
    SNegated,
    /// Written in ASN.1 DER.
    Der,
    /// With the padding of base64.
    Padded,
    /// Its last character has bits that stand for nothing.
    NotCanonical,
    /// In the alphabet of base64, not of base64url.
    OtherAlphabet,
    /// Two of its bits are other ones.
    TwoBits,
}

/// A token to be made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForgedToken {
    /// The algorithm that signs; the header says the same unless it is changed.
    pub algorithm: Option<String>,
    /// The key that signs; absent: the one that fits the algorithm.
    pub key: Option<KeyName>,
    /// Header parameters to add or to replace; `null` removes one. `$RSA_JWK` and `$P256_JWK` stand for public keys.
    pub header: Map<String, Value>,
    /// The header's text, in place of the above; `$DEEP` stands for 2,000 arrays in each other, `$WIDE` for 1,200 members.
    pub header_text: Option<String>,
    /// Claims to add or to replace; `null` removes one. `$NOW+5` stands for a time.
    pub claims: Map<String, Value>,
    /// The claims' text, in place of the above. `$EXP` stands for a time in five minutes, `$CLIENTS` for the roles of 125 clients.
    pub claims_text: Option<String>,
    /// What is done to the signature.
    pub signature: Alteration,
    /// What is done to the whole token: `$T` stands for it.
    pub wrap: Option<String>,
}

impl Forge {
    /// Keys of one's own; the RSA key is the one that the stack has made already.
    ///
    /// # Errors
    /// When there is no randomness, or no RSA key.
    pub fn new(keys: &Keys) -> Result<Self> {
        let mut seed = [0_u8; 66];
        fastrand::Rng::new().fill(&mut seed);
        // Below the order of each curve: the orders begin with a byte of ones, P-521's with 0x01.
        let [first, _, third, ..] = &mut seed;
        (*first, *third) = (0, 0x7f);
        let bytes = |from: usize, length: usize| seed.get(from..from.saturating_add(length)).unwrap_or_default();
        let PrivateKey::Rs256(rsa) = keys.token_key(TokenKey::Rs256)? else {
            bail!("the RS256 key is no RSA key");
        };
        Ok(Self {
            rsa: *rsa,
            p256: p256::ecdsa::SigningKey::from_slice(bytes(2, 32))?,
            p384: p384::ecdsa::SigningKey::from_slice(bytes(2, 48))?,
            p521: p521::ecdsa::SigningKey::from_slice(bytes(0, 66))?,
            ed25519: ed25519_dalek::SigningKey::from_bytes(bytes(3, 32).try_into()?),
            secret: bytes(1, SECRET_BYTES).to_vec(),
        })
    }

    /// The provider of these keys in a filter's configuration.
    ///
    /// # Errors
    /// Never, with keys that were made here.
    pub fn provider(&self) -> Result<Value> {
        let keys = KEY_NAMES
            .iter()
            .map(|name| self.jwk(*name))
            .collect::<Result<Vec<_>>>()?;
        Ok(json!({
            "name": "forge", "issuer": ISSUER, "audiences": ["orders"],
            "keys": { "keys": keys }, "roles_claim": "roles",
            "algorithms": TokenAlgorithm::ALL.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
            "subjects": ["alice", "root-*"],
            "lifetime_s_max": 3600,
            "required_claims": [{ "claim": "/realm/env", "values": ["prod"] }],
            "sources": [
                { "header": "authorization" }, { "header": "x-forge-token", "prefix": "Token " },
                { "cookie": "session" }, { "query": "access_token" },
            ],
            "claim_headers": [{ "claim": "email", "header": "x-user-email" }],
        }))
    }

    /// Another provider of the same issuer, which differs in all that a provider says, and whose keys have no `kid`: that of a
    /// stranger first.
    ///
    /// # Errors
    /// Never, with keys that were made here.
    pub fn second_provider(&self) -> Result<Value> {
        let keys = [
            Ok(Self::stranger_jwk()),
            self.jwk(KeyName::P256),
            self.jwk(KeyName::Rsa),
        ];
        let without_id = keys.into_iter().map(|key| {
            let mut key = key?;
            key.as_object_mut().context("not an object")?.remove("kid");
            Ok(key)
        });
        Ok(json!({
            "name": "forge-two", "issuer": ISSUER, "audiences": ["stock"],
            "keys": { "keys": without_id.collect::<Result<Vec<_>>>()? },
            "principal_claim": "client_id", "roles_claim": "urn:roles", "roles_form": "object_keys",
            "sources": [{ "header": "authorization" }],
            "claim_headers": [{ "claim": "email", "header": "x-two-email" }],
        }))
    }

    /// A public key of nobody here: the example of RFC 7515 §A.3.1.
    pub fn stranger_jwk() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "kid": "main",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the description makes no sense.
    pub fn mint(&self, token: &ForgedToken) -> Result<String> {
        let algorithm = token.algorithm.as_deref().unwrap_or("ES256");
        let key = token.key.unwrap_or(fitting(algorithm));
        let header = match &token.header_text {
            Some(text) => expanded(text),
            None => self.header(algorithm, key, &token.header)?.to_string(),
        };
        let claims = match &token.claims_text {
            Some(text) => expanded(text),
            None => claims(&token.claims)?.to_string(),
        };
        let text = format!("{}.{}", encoded(header.as_bytes()), encoded(claims.as_bytes()));
        let signature = self.sign(algorithm, key, text.as_bytes())?;
        let signed = if token.signature == Alteration::RemovedWithDot {
            text
        } else {
            format!("{text}.{}", altered(token.signature, algorithm, signature)?)
        };
        Ok(match &token.wrap {
            None => signed,
            Some(wrap) => wrap.replace("$T", &signed),
        })
    }

    fn header(&self, algorithm: &str, key: KeyName, changes: &Map<String, Value>) -> Result<Value> {
        let mut header = json!({ "alg": algorithm, "kid": kid(key) });
        for (name, value) in changes {
            let value = match value.as_str() {
                Some("$RSA_JWK") => self.jwk(KeyName::Rsa)?,
                Some("$P256_JWK") => self.jwk(KeyName::P256)?,
                _ => value.clone(),
            };
            put(&mut header, name, value);
        }
        Ok(header)
    }

    fn jwk(&self, name: KeyName) -> Result<Value> {
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point.split_at_checked(point.len() / 2)?;
            Some(json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) }))
        };
        let mut jwk = match name {
            KeyName::Rsa => {
                json!({ "kty": "RSA", "n": encoded(&self.rsa.n().to_bytes_be()), "e": encoded(&self.rsa.e().to_bytes_be()) })
            }
            KeyName::P256 => {
                ec("P-256", coordinates(&self.p256.verifying_key().to_encoded_point(false))).context("P-256")?
            }
            KeyName::P384 => {
                ec("P-384", coordinates(&self.p384.verifying_key().to_encoded_point(false))).context("P-384")?
            }
            KeyName::P521 => {
                let key = p521::ecdsa::VerifyingKey::from(&self.p521);
                ec("P-521", coordinates(&key.to_encoded_point(false))).context("P-521")?
            }
            KeyName::Ed25519 => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(self.ed25519.verifying_key().as_bytes()) })
            }
            KeyName::Secret => json!({ "kty": "oct", "k": encoded(&self.secret) }),
            KeyName::EmptySecret
            | KeyName::RsaPublicPem
            | KeyName::RsaPublicDer
            | KeyName::RsaModulus
            | KeyName::P256PublicDer
            | KeyName::P256Point
            | KeyName::Ed25519Public => bail!("{name:?} is no key of the issuer"),
        };
        put(&mut jwk, "kid", Value::from(kid(name)));
        Ok(jwk)
    }

    fn sign(&self, algorithm: &str, key: KeyName, text: &[u8]) -> Result<Vec<u8>> {
        use jsonwebtoken::Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        let rsa = |algorithm| {
            let der = self.rsa.to_pkcs1_der()?;
            let signature = jsonwebtoken::crypto::sign(text, &EncodingKey::from_rsa_der(der.as_bytes()), algorithm)?;
            Ok(URL_SAFE_NO_PAD.decode(signature)?)
        };
        match (algorithm, key) {
            ("RS256", KeyName::Rsa) => rsa(RS256),
            ("RS384", KeyName::Rsa) => rsa(RS384),
            ("RS512", KeyName::Rsa) => rsa(RS512),
            ("PS256", KeyName::Rsa) => rsa(PS256),
            ("PS384", KeyName::Rsa) => rsa(PS384),
            ("PS512", KeyName::Rsa) => rsa(PS512),
            ("ES256", KeyName::P256) => {
                let signature: p256::ecdsa::Signature = self.p256.sign(text);
                Ok(signature.to_bytes().to_vec())
            }
            ("ES384", KeyName::P384) => {
                let signature: p384::ecdsa::Signature = self.p384.sign(text);
                Ok(signature.to_bytes().to_vec())
            }
            ("ES512", KeyName::P521) => {
                let signature: p521::ecdsa::Signature = self.p521.sign(text);
                Ok(signature.to_bytes().to_vec())
            }
            ("EdDSA", KeyName::Ed25519) => Ok(self.ed25519.sign(text).to_bytes().to_vec()),
            (name, key) => self.hmac(name, key, text),
        }
    }

    fn hmac(&self, algorithm: &str, key: KeyName, text: &[u8]) -> Result<Vec<u8>> {
        let function = match algorithm {
            "HS384" => ring::hmac::HMAC_SHA384,
            "HS512" => ring::hmac::HMAC_SHA512,
            // Also where an attacker names an algorithm that has no key of his: he has to sign with something.
            _ => ring::hmac::HMAC_SHA256,
        };
        let secret = match key {
            KeyName::EmptySecret => Vec::new(),
            KeyName::RsaPublicPem => self
                .rsa
                .to_public_key()
                .to_public_key_pem(rsa::pkcs8::LineEnding::LF)?
                .into_bytes(),
            KeyName::RsaPublicDer => self.rsa.to_public_key().to_public_key_der()?.into_vec(),
            KeyName::RsaModulus => self.rsa.n().to_bytes_be(),
            KeyName::P256PublicDer => {
                let public = p256::PublicKey::from(self.p256.verifying_key());
                p256::pkcs8::EncodePublicKey::to_public_key_der(&public)?.into_vec()
            }
            KeyName::P256Point => self.p256.verifying_key().to_encoded_point(false).as_bytes().to_vec(),
            KeyName::Ed25519Public => self.ed25519.verifying_key().as_bytes().to_vec(),
            KeyName::Secret | KeyName::Rsa | KeyName::P256 | KeyName::P384 | KeyName::P521 | KeyName::Ed25519 => {
                self.secret.clone()
            }
        };
        let key = ring::hmac::Key::new(function, &secret);
        Ok(ring::hmac::sign(&key, text).as_ref().to_vec())
    }
}

fn altered(alteration: Alteration, algorithm: &str, mut signature: Vec<u8>) -> Result<String> {
    let half = signature.len() / 2;
    let (r, s) = signature.split_at_mut_checked(half).context("a signature")?;
    match alteration {
        Alteration::None | Alteration::RemovedWithDot => {}
        Alteration::Removed => signature.clear(),
        Alteration::Truncated => drop(signature.pop()),
        Alteration::Extended => signature.push(0),
        Alteration::LedByZero => signature.insert(0, 0),
        Alteration::Zeros => signature.fill(0),
        Alteration::RZero => r.fill(0),
        Alteration::SZero => s.fill(0),
        Alteration::ROrder => r.copy_from_slice(order(algorithm)?),
        Alteration::SOrder => s.copy_from_slice(order(algorithm)?),
        Alteration::SNegated => subtract_from(order(algorithm)?, s),
        Alteration::Der => {
            signature = p256::ecdsa::Signature::from_slice(&signature)?
                .to_der()
                .as_bytes()
                .to_vec();
        }
        Alteration::TwoBits => signature.iter_mut().take(2).for_each(|byte| *byte ^= 1),
        Alteration::Padded => return Ok(base64::engine::general_purpose::URL_SAFE.encode(signature)),
        Alteration::OtherAlphabet => {
            return Ok(base64::engine::general_purpose::STANDARD_NO_PAD
                .encode(signature)
                .replace(['-', '_'], "+")
                + "+");
        }
        Alteration::NotCanonical => return not_canonical(&encoded(&signature)),
    }
    Ok(encoded(&signature))
}

fn kid(key: KeyName) -> &'static str {
    match key {
        KeyName::Rsa | KeyName::RsaPublicPem | KeyName::RsaPublicDer | KeyName::RsaModulus => "rsa",
        KeyName::P256 | KeyName::P256PublicDer | KeyName::P256Point => "p256",
        KeyName::P384 => "p384",
        KeyName::P521 => "p521",
        KeyName::Ed25519 | KeyName::Ed25519Public => "ed25519",
        KeyName::Secret | KeyName::EmptySecret => "secret",
    }
}

fn fitting(algorithm: &str) -> KeyName {
    match algorithm {
        "ES256" => KeyName::P256,
        "ES384" => KeyName::P384,
        "ES512" => KeyName::P521,
        "EdDSA" => KeyName::Ed25519,
        name if name.starts_with("HS") => KeyName::Secret,
        _ => KeyName::Rsa,
    }
}

/// Without the byte that says that a point is not compressed.
fn coordinates(point: &impl AsRef<[u8]>) -> &[u8] {
    point.as_ref().get(1..).unwrap_or_default()
}

/// The order of the group, from FIPS 186-4 §D.1.2.3 and §D.1.2.4.
fn order(algorithm: &str) -> Result<&'static [u8]> {
    const P256: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    match algorithm {
        "ES256" => Ok(&P256),
        other => bail!("no order of {other}'s group is written here"),
    }
}

/// `number` becomes `from` less itself, both big-endian.
fn subtract_from(from: &[u8], number: &mut [u8]) {
    let mut borrow = 0;
    for (from, byte) in from.iter().zip(number).rev() {
        let difference = i16::from(*from) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap_or_default();
    }
}

/// The same bytes for a reader that does not look: the last character's bits that stand for nothing are ones.
fn not_canonical(text: &str) -> Result<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (last, rest) = text.as_bytes().split_last().context("a signature")?;
    let value = ALPHABET
        .iter()
        .position(|character| character == last)
        .context("base64url")?;
    let other = ALPHABET.get(value | 1).context("base64url")?;
    let mut text = String::from_utf8(rest.to_vec())?;
    text.push(char::from(*other));
    Ok(text)
}

fn claims(changes: &Map<String, Value>) -> Result<Value> {
    let now = clock::now_s();
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": "orders", "iat": now, "exp": now.saturating_add(300), "realm": { "env": "prod" },
    });
    for (name, value) in changes {
        let value = match value.as_str().and_then(|text| text.strip_prefix("$NOW")) {
            Some(offset) => Value::from(now.saturating_add(offset.parse::<i64>().context("a time")?)),
            None => value.clone(),
        };
        put(&mut claims, name, value);
    }
    Ok(claims)
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        match value.is_null() {
            true => drop(members.remove(name)),
            false => drop(members.insert(name.to_owned(), value)),
        }
    }
}

fn expanded(text: &str) -> String {
    const DEPTH: usize = 2000;
    let mut wide = String::new();
    for number in 0..1200 {
        let _ = write!(wide, "\"{number}\":0,");
    }
    let clients: Vec<String> = (0..125)
        .map(|number| format!(r#""team-{number:03}-service-api":{{"roles":["manage-account","view-profile"]}}"#))
        .collect();
    let expires_at_s = clock::now_s().saturating_add(300).to_string();
    text.replace("$DEEP", &format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH)))
        .replace("$WIDE", &wide)
        .replace("$CLIENTS", &clients.join(","))
        .replace("$EXP", &expires_at_s)
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
