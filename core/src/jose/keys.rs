//! Key sets (RFC 7517): the keys that a provider's tokens are verified with.

mod spki;

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use picket_model::problems::{Problem, Problems, shortened};
use serde_json::{Map, Value};

use super::algorithm::{Curve, Scheme, TokenAlgorithm};

/// A larger key set is refused.
pub const KEYS_MAX: usize = 100;
/// RFC 7518 §3.3 asks for 2048 bits at least; above 4096 a verification costs too much.
pub const RSA_MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// How many keys are tried for one token: callers choose its header, and each try costs a signature
/// check.
pub const KEYS_TRIED_MAX: usize = 4;
/// The members that only the owner of a key may have: RFC 7518 §6.2.2, §6.3.2 and §6.4.1, RFC 8037
/// §2, and `priv` of `AKP` keys (draft-ietf-cose-dilithium).
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];
/// RFC 7518 §3.2: at least as long as the hash; the shortest hash has 32 bytes.
const SECRET_BYTES_MIN: usize = 32;
const UNCOMPRESSED_POINT: u8 = 0x04;
const ED25519_BYTES: usize = 32;

/// Where a key set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The filter's configuration, which may hold secrets.
    Inline,
    /// A document that anyone can fetch: a secret in it is none.
    Published,
}

/// The usable keys of a key set; never empty.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Rc<VerificationKey>>,
}

/// The keys that a token may be signed with, in the order of their set: 1 to [`KEYS_TRIED_MAX`].
#[derive(Clone, Debug)]
pub struct MatchingKeys {
    keys: [Option<Rc<VerificationKey>>; KEYS_TRIED_MAX],
    /// Whether they have the token's `kid`. Otherwise a newer set may hold the one that the token
    /// means.
    pub have_key_id: bool,
    /// Whether the set holds more of them.
    pub are_cut: bool,
}

impl MatchingKeys {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<VerificationKey>> {
        self.keys.iter().flatten()
    }
}

/// A key with the algorithms that it may verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    id: Option<String>,
    /// The `alg` of the key; `None`: any that its material fits.
    algorithm: Option<TokenAlgorithm>,
    material: KeyMaterial,
    /// Written once, as each verification needs it.
    spki: Option<Box<[u8]>>,
}

/// The numbers of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// An RSA public key of 2048 to 4096 bits, both numbers big-endian without leading zeros.
    Rsa {
        /// `n`.
        modulus: Vec<u8>,
        /// `e`.
        exponent: Vec<u8>,
    },
    /// A point on a curve.
    Ec {
        /// Which one.
        curve: Curve,
        /// SEC 1 §2.3.3, uncompressed.
        point: Vec<u8>,
    },
    /// An Ed25519 public key (RFC 8032 §5.1.5) of no small order.
    Ed25519(VerifyingKey),
    /// A secret for HMAC, of 32 bytes at least.
    Secret(Secret),
}

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl KeySet {
    /// Reads a key set. Keys for another use or of a type that Picket does not verify are passed
    /// over (RFC 7517 §5).
    ///
    /// # Errors
    /// Each key that is private, weak, malformed or has the `kid` of another one; a set without a
    /// usable key.
    pub fn parse(document: &Value, path: &str, source: KeySource) -> Result<Self, Problems> {
        let (keys, mut problems) = read_members(document, path, source)?;
        if keys.is_empty() && problems.as_slice().is_empty() {
            problems.add(join(path, "keys"), no_usable_key());
        }
        problems.none_or(Some(Self { keys }))
    }

    /// Reads a key set that somebody else publishes. Beside what [`KeySet::parse`] passes over,
    /// each weak or malformed key is left out and reported: one bad key does not disable the
    /// others. Several keys may have one `kid`.
    ///
    /// # Errors
    /// A key that is private or a secret, whatever else is in the set; a set without a usable key.
    pub fn parse_published(document: &Value) -> Result<(Self, Problems), Problems> {
        let path = "";
        let members = members(document, path)?;
        let secret = members
            .iter()
            .position(|member| secret_member(member, KeySource::Published).is_some());
        if let Some(index) = secret {
            return Err(problem(format!("keys[{index}]"), private_key()));
        }
        let (keys, mut left_out) = read_members(document, path, KeySource::Published)?;
        if keys.is_empty() {
            left_out.add("keys", no_usable_key());
            return Err(left_out);
        }
        Ok((Self { keys }, left_out))
    }

    /// This set, with each key that is also in `other` being the very one of it
    /// ([`KeySet::contains`]).
    #[must_use]
    pub fn reusing_keys_of(mut self, other: &Self) -> Self {
        for key in &mut self.keys {
            if let Some(same) = other.keys.iter().find(|have| *have == key) {
                *key = Rc::clone(same);
            }
        }
        self
    }

    /// This set, with keys that are equal and none of them the very one that it was.
    #[must_use]
    pub fn with_new_identities(&self) -> Self {
        let keys = self.keys.iter();
        Self {
            keys: keys.map(|key| Rc::new(VerificationKey::clone(key))).collect(),
        }
    }

    /// Whether this very key is in it. An equal one that was read another time is not the very
    /// same.
    #[must_use]
    pub fn contains(&self, key: &Rc<VerificationKey>) -> bool {
        self.keys.iter().any(|have| Rc::ptr_eq(have, key))
    }

    /// Whether every key of it is in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.keys.iter().all(|key| other.contains(key))
    }

    /// How many keys it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys for a token's `kid` and `alg`. `None`: there is none.
    ///
    /// Those with the token's `kid`, and where no key has it, those without any: a `kid` is a hint
    /// (RFC 7515 §4.1.4), and an issuer may name it in its tokens alone. For a token without `kid`,
    /// all keys for the algorithm.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Option<MatchingKeys> {
        let keys = || self.keys.iter().filter(|key| key.supports(algorithm));
        if id.is_none() {
            return matching(keys(), false);
        }
        let with_id = keys().filter(|key| key.id.as_deref() == id);
        matching(with_id, true).or_else(|| matching(keys().filter(|key| key.id.is_none()), false))
    }

    /// Whether a key has this `alg`.
    #[must_use]
    pub fn declares(&self, algorithm: TokenAlgorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm == Some(algorithm))
    }

    /// Whether it has a key for the algorithm.
    #[must_use]
    pub fn supports(&self, algorithm: TokenAlgorithm) -> bool {
        self.keys.iter().any(|key| key.supports(algorithm))
    }
}

fn matching<'k>(mut keys: impl Iterator<Item = &'k Rc<VerificationKey>>, have_key_id: bool) -> Option<MatchingKeys> {
    let first = keys.next()?;
    let mut tried = [const { None }; KEYS_TRIED_MAX];
    for (place, key) in tried.iter_mut().zip(std::iter::once(first).chain(keys.by_ref())) {
        *place = Some(Rc::clone(key));
    }
    Some(MatchingKeys {
        keys: tried,
        have_key_id,
        are_cut: keys.next().is_some(),
    })
}

/// The usable keys of a set, and the problems of the others.
fn read_members(
    document: &Value,
    path: &str,
    source: KeySource,
) -> Result<(Vec<Rc<VerificationKey>>, Problems), Problems> {
    let mut problems = Problems::default();
    let mut keys: Vec<Rc<VerificationKey>> = Vec::new();
    for (index, member) in members(document, path)?.iter().enumerate() {
        let path = join(path, format_args!("keys[{index}]"));
        match (VerificationKey::parse(member, source), source) {
            // Of an operator's own keys a token could mean either; an issuer may keep its `kid`
            // when it changes its key.
            (Ok(Some(key)), KeySource::Inline) if keys.iter().any(|other| other.is_confused_with(&key)) => {
                problems.add(format!("{path}.kid"), "expected a `kid` of its own for each key");
            }
            (Ok(Some(key)), KeySource::Published) if keys.iter().any(|other| **other == key) => {}
            (Ok(key), _) => keys.extend(key.map(Rc::new)),
            (Err((field, message)), _) => problems.add(format!("{path}.{field}"), message),
        }
    }
    Ok((keys, problems))
}

fn members<'d>(document: &'d Value, path: &str) -> Result<&'d [Value], Problems> {
    let members = document.get("keys").and_then(Value::as_array).ok_or_else(|| {
        problem(
            path.to_owned(),
            "expected a JWK set, an object with the array `keys` (RFC 7517 §5)".to_owned(),
        )
    })?;
    match members.len() <= KEYS_MAX {
        true => Ok(members),
        false => Err(problem(join(path, "keys"), format!("expected at most {KEYS_MAX} keys"))),
    }
}

/// The member that makes a JWK a private key, or a secret where there may be none. One that is null
/// is not there.
fn secret_member(jwk: &Value, source: KeySource) -> Option<&'static str> {
    let is_secret = jwk.get("kty").is_some_and(|kind| kind == "oct");
    if is_secret && source == KeySource::Published {
        return Some("k");
    }
    let is_private = |name: &&str| !(is_secret && *name == "k") && jwk.get(*name).is_some_and(|value| !value.is_null());
    PRIVATE_MEMBERS.into_iter().find(is_private)
}

fn join(path: &str, field: impl fmt::Display) -> String {
    match path {
        "" => field.to_string(),
        path => format!("{path}.{field}"),
    }
}

fn problem(path: String, message: String) -> Problems {
    Problems::from(Problem { path, message })
}

fn no_usable_key() -> &'static str {
    "expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret"
}

/// The field with the mistake, and the expectation.
pub type KeyProblem = (&'static str, String);

impl VerificationKey {
    /// Reads a JWK. `None`: it is for another use, or of a type that Picket does not verify.
    ///
    /// # Errors
    /// The field that makes it private, weak or malformed, and what was expected.
    pub fn parse(jwk: &Value, source: KeySource) -> Result<Option<Self>, KeyProblem> {
        let key = jwk.as_object().ok_or(("kty", "expected an object".to_owned()))?;
        if let Some(secret) = secret_member(jwk, source) {
            return Err((secret, private_key()));
        }
        // First, as mistakes in a key for another use do not matter.
        if !is_for_signatures(key)? || !may_verify(key)? {
            return Ok(None);
        }
        let Some(material) = KeyMaterial::parse(key, source)? else {
            return Ok(None);
        };
        let algorithm = match text(key, "alg")?.map(TokenAlgorithm::from_name) {
            // `RSA-OAEP`, `ES256K` or the like: none of ours.
            Some(None) => return Ok(None),
            Some(Some(algorithm)) => Some(algorithm),
            None => None,
        };
        let is_coherent = algorithm.is_none_or(|algorithm| material.supports(algorithm));
        let key = Self {
            id: text(key, "kid")?.map(str::to_owned),
            algorithm,
            spki: spki::encode(&material),
            material,
        };
        Ok(is_coherent.then_some(key))
    }

    /// Whether it may verify signatures of this algorithm: type, curve and length fit, and so does
    /// the key's own `alg`.
    #[must_use]
    pub fn supports(&self, algorithm: TokenAlgorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.supports(algorithm)
    }

    /// Its numbers.
    #[must_use]
    pub fn material(&self) -> &KeyMaterial {
        &self.material
    }

    /// `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1.2.7). `None`: not an RSA or EC key.
    #[must_use]
    pub fn spki(&self) -> Option<&[u8]> {
        self.spki.as_deref()
    }

    /// Whether a token could mean either: same `kid`, and an algorithm that both fit.
    fn is_confused_with(&self, other: &Self) -> bool {
        self.id == other.id
            && self.id.is_some()
            && TokenAlgorithm::ALL
                .iter()
                .any(|algorithm| self.supports(*algorithm) && other.supports(*algorithm))
    }
}

impl KeyMaterial {
    /// Reads the numbers of a JWK. `None`: of a type that Picket does not verify.
    fn parse(key: &Map<String, Value>, source: KeySource) -> Result<Option<Self>, KeyProblem> {
        let curve = text(key, "crv")?;
        match (text(key, "kty")?.ok_or(("kty", "is required".to_owned()))?, source) {
            ("RSA", _) => rsa_key(key).map(Some),
            ("EC", _) => curve
                .and_then(Curve::from_name)
                .map(|curve| ec_key(key, curve))
                .transpose(),
            ("OKP", _) if curve == Some("Ed25519") => ed25519_key(key).map(Some),
            ("oct", KeySource::Inline) => secret_key(key).map(Some),
            _ => Ok(None),
        }
    }

    fn supports(&self, algorithm: TokenAlgorithm) -> bool {
        match (self, algorithm.scheme()) {
            (Self::Rsa { .. }, Scheme::RsaPkcs1 | Scheme::RsaPss) | (Self::Ed25519(_), Scheme::Ed25519) => true,
            (Self::Ec { curve, .. }, Scheme::Ecdsa(wanted)) => *curve == wanted,
            // RFC 7518 §3.2: a secret shorter than the hash must not be used.
            (Self::Secret(secret), Scheme::Hmac) => secret.as_bytes().len() >= algorithm.hash_function().bytes(),
            (Self::Rsa { .. } | Self::Ec { .. } | Self::Ed25519(_) | Self::Secret(_), _) => false,
        }
    }
}

/// RFC 7517 §4.2; `jwt-svid` is what bundles have for it (SPIFFE Trust Domain and Bundle, Public
/// Key Use).
fn is_for_signatures(key: &Map<String, Value>) -> Result<bool, KeyProblem> {
    Ok(text(key, "use")?.is_none_or(|value| value == "sig" || value == "jwt-svid"))
}

/// RFC 7517 §4.3: strings, none of them twice.
fn may_verify(key: &Map<String, Value>) -> Result<bool, KeyProblem> {
    let operations = match key.get("key_ops") {
        None | Some(Value::Null) => return Ok(true),
        Some(Value::Array(operations)) => operations,
        Some(_) => return Err(("key_ops", "expected an array of strings".to_owned())),
    };
    let names: BTreeSet<&str> = operations.iter().filter_map(Value::as_str).collect();
    match names.len() == operations.len() {
        true => Ok(names.contains("verify")),
        false => Err(("key_ops", "expected strings, none of them twice".to_owned())),
    }
}

fn private_key() -> String {
    "expected a public key; this one holds a secret, which must be replaced now".to_owned()
}

fn rsa_key(key: &Map<String, Value>) -> Result<KeyMaterial, KeyProblem> {
    let modulus = bytes(key, "n")?;
    let exponent = bytes(key, "e")?;
    // RFC 7518 §6.3.1.1: without leading zero bytes; the first byte of a size that is no multiple
    // of 8 has leading zero bits.
    let unused_bits = modulus.first().map_or(8, |first| first.leading_zeros());
    let bits = usize::try_from(unused_bits).map_or(0, |unused| (modulus.len() * 8).saturating_sub(unused));
    if unused_bits == 8 || !RSA_MODULUS_BITS.contains(&bits) {
        return Err((
            "n",
            "expected a modulus of 2048 to 4096 bits without leading zeros".to_owned(),
        ));
    }
    // An even modulus has no inverse for Montgomery's method, and is no product of two large
    // primes.
    if modulus.last().is_some_and(|byte| byte % 2 == 0) {
        return Err(("n", "expected an odd modulus".to_owned()));
    }
    // NIST SP 800-56B: odd and above 65536 would also forbid 3, which some issuers still have; 1
    // and even ones are no keys.
    let is_sound = exponent.len() <= 4 && exponent.last().is_some_and(|byte| byte % 2 == 1) && exponent != [1];
    if !is_sound || exponent.first() == Some(&0) {
        return Err(("e", "expected an odd exponent above 1 of at most 32 bits".to_owned()));
    }
    Ok(KeyMaterial::Rsa { modulus, exponent })
}

fn ec_key(key: &Map<String, Value>, curve: Curve) -> Result<KeyMaterial, KeyProblem> {
    let mut point = vec![UNCOMPRESSED_POINT];
    for name in ["x", "y"] {
        let coordinate = bytes(key, name)?;
        if coordinate.len() != curve.coordinate_bytes() {
            return Err((name, format!("expected {} bytes", curve.coordinate_bytes())));
        }
        point.extend(coordinate);
    }
    let is_on_curve = match curve {
        Curve::P256 => p256::PublicKey::from_sec1_bytes(&point).is_ok(),
        Curve::P384 => p384::PublicKey::from_sec1_bytes(&point).is_ok(),
        Curve::P521 => p521::PublicKey::from_sec1_bytes(&point).is_ok(),
    };
    if !is_on_curve {
        return Err(("x", format!("expected a point on {}", curve.name())));
    }
    Ok(KeyMaterial::Ec { curve, point })
}

fn ed25519_key(key: &Map<String, Value>) -> Result<KeyMaterial, KeyProblem> {
    let point = <[u8; ED25519_BYTES]>::try_from(bytes(key, "x")?)
        .map_err(|_| ("x", format!("expected {ED25519_BYTES} bytes")))?;
    // A point of small order verifies forged signatures.
    VerifyingKey::from_bytes(&point)
        .ok()
        .filter(|key| !key.is_weak())
        .map(KeyMaterial::Ed25519)
        .ok_or_else(|| ("x", "expected an Ed25519 public key of no small order".to_owned()))
}

fn secret_key(key: &Map<String, Value>) -> Result<KeyMaterial, KeyProblem> {
    let secret = bytes(key, "k")?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(("k", format!("expected a secret of at least {SECRET_BYTES_MIN} bytes")));
    }
    Ok(KeyMaterial::Secret(Secret::new(secret)))
}

fn text<'k>(key: &'k Map<String, Value>, name: &'static str) -> Result<Option<&'k str>, KeyProblem> {
    match key.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err((name, "expected a string".to_owned())),
    }
}

/// The bytes of a member in base64url. The problem does not repeat the value, which may be a
/// secret.
fn bytes(key: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyProblem> {
    let encoded = text(key, name)?.ok_or((name, "is required".to_owned()))?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| {
        let expected = "expected base64url without padding";
        match name {
            "k" => (name, expected.to_owned()),
            _ => (name, format!("{expected}, found `{}`", shortened(encoded))),
        }
    })
}
