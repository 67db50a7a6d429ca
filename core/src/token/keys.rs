//! Key sets (RFC 7517): the public keys that a provider signs with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::TokenAlgorithm;
use crate::configuration::problems::{Problems, shortened};

/// A larger key set is refused.
pub const KEYS_MAX: usize = 100;
/// RFC 7518 §3.3 asks for 2048 bits at least; above 4096 a verification costs too much.
pub const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
const P256_COORDINATE_BYTES: usize = 32;
const UNCOMPRESSED_POINT: u8 = 0x04;

/// The usable keys of a key set; never empty.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// A public key and the one algorithm it is used with.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    /// `kid`.
    pub id: Option<String>,
    /// What it verifies.
    pub algorithm: TokenAlgorithm,
    /// In jsonwebtoken's form.
    pub decoding_key: DecodingKey,
}

impl KeySet {
    /// Reads a key set. Keys for another use or of another type than RSA and P-256 are passed over (RFC 7517 §5).
    ///
    /// # Errors
    /// Each key that is private, weak, malformed or has the `kid` of another; a set without a usable key.
    pub fn parse(document: &Value, path: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let Some(members) = document.get("keys").and_then(Value::as_array) else {
            problems.add(
                path,
                "expected a JWK set, an object with the array `keys` (RFC 7517 §5)",
            );
            return Err(problems);
        };
        if members.len() > KEYS_MAX {
            problems.add(format!("{path}.keys"), format_args!("expected at most {KEYS_MAX} keys"));
            return Err(problems);
        }
        let mut keys: Vec<VerificationKey> = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let path = format!("{path}.keys[{index}]");
            match parse_key(member) {
                Ok(Some(key))
                    if keys
                        .iter()
                        .any(|other| other.id == key.id && other.algorithm == key.algorithm) =>
                {
                    problems.add(format!("{path}.kid"), "expected a `kid` of its own for each key");
                }
                Ok(key) => keys.extend(key),
                Err((field, message)) => problems.add(format!("{path}.{field}"), message),
            }
        }
        if keys.is_empty() && problems.as_slice().is_empty() {
            problems.add(
                format!("{path}.keys"),
                "expected at least one RSA or P-256 key for signatures",
            );
        }
        problems.none_or(Some(Self { keys }))
    }

    /// The one key for a token's `kid` and `alg`. Without a `kid` it must be the only one for the algorithm.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Option<&VerificationKey> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Whether it has a key for the algorithm.
    #[must_use]
    pub fn supports(&self, algorithm: TokenAlgorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm == algorithm)
    }
}

/// The field that is wrong, and what was expected.
type KeyProblem = (&'static str, String);

fn parse_key(member: &Value) -> Result<Option<VerificationKey>, KeyProblem> {
    let key = member.as_object().ok_or(("", "expected an object".to_owned()))?;
    if let Some(private) = ["d", "p", "q", "k"].into_iter().find(|name| key.contains_key(*name)) {
        return Err((
            private,
            "expected a public key; this one holds a secret, which must be replaced now".to_owned(),
        ));
    }
    let is_for_signatures = text(key, "use")?.is_none_or(|value| value == "sig");
    let may_verify = match key.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => return Err(("key_ops", "expected an array of strings".to_owned())),
    };
    let algorithm = match (text(key, "kty")?, text(key, "crv")?) {
        (Some("RSA"), _) => TokenAlgorithm::Rs256,
        (Some("EC"), Some("P-256")) => TokenAlgorithm::Es256,
        (Some(_), _) => return Ok(None),
        (None, _) => return Err(("kty", "is required".to_owned())),
    };
    let is_for_algorithm = text(key, "alg")?.is_none_or(|name| name == algorithm.name());
    if !is_for_signatures || !may_verify || !is_for_algorithm {
        return Ok(None);
    }
    let decoding_key = match algorithm {
        TokenAlgorithm::Rs256 => rsa_key(key)?,
        TokenAlgorithm::Es256 => p256_key(key)?,
    };
    Ok(Some(VerificationKey {
        id: text(key, "kid")?.map(str::to_owned),
        algorithm,
        decoding_key,
    }))
}

fn rsa_key(key: &Map<String, Value>) -> Result<DecodingKey, KeyProblem> {
    let modulus = bytes(key, "n")?;
    let exponent = bytes(key, "e")?;
    // RFC 7518 §6.3.1.1: without leading zeros, so the length is the size.
    if !RSA_MODULUS_BYTES.contains(&modulus.len()) || modulus.first().is_none_or(|byte| *byte < 0x80) {
        return Err((
            "n",
            "expected a modulus of 2048 to 4096 bits without leading zeros".to_owned(),
        ));
    }
    // NIST SP 800-56B: odd and above 65536 would also forbid 3, which some issuers still have; 1 and even ones are no keys.
    let is_sound = exponent.len() <= 4 && exponent.last().is_some_and(|byte| byte % 2 == 1) && exponent != [1];
    if !is_sound || exponent.first() == Some(&0) {
        return Err(("e", "expected an odd exponent above 1 of at most 32 bits".to_owned()));
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn p256_key(key: &Map<String, Value>) -> Result<DecodingKey, KeyProblem> {
    let mut point = vec![UNCOMPRESSED_POINT];
    for name in ["x", "y"] {
        let coordinate = bytes(key, name)?;
        if coordinate.len() != P256_COORDINATE_BYTES {
            return Err((name, format!("expected {P256_COORDINATE_BYTES} bytes")));
        }
        point.extend(coordinate);
    }
    p256::PublicKey::from_sec1_bytes(&point).map_err(|_| ("x", "expected a point on P-256".to_owned()))?;
    Ok(DecodingKey::from_ec_der(&point))
}

fn text<'k>(key: &'k Map<String, Value>, name: &'static str) -> Result<Option<&'k str>, KeyProblem> {
    match key.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err((name, "expected a string".to_owned())),
    }
}

fn bytes(key: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyProblem> {
    let encoded = text(key, name)?.ok_or((name, "is required".to_owned()))?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| {
        (
            name,
            format!("expected base64url without padding, found `{}`", shortened(encoded)),
        )
    })
}
