//! Keys in every form that issuers write them in: `tests/vectors/key_sets.json`, as keys of the
//! configuration and as fetched ones; and which of several keys verifies a token.

use std::cell::Cell;
use std::rc::Rc;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::EncodePrivateKey;
use picket_core::jose::TokenAlgorithm;
use picket_core::jose::keys::{KEYS_TRIED_MAX, KeySet, KeySource, VerificationKey};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use picket_core::reason::DenyReason;
use picket_model::problems::Problems;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::key_sets::{jwk, signing_key};
use crate::support::{Caller, NOW_S, Sidecar, configuration};

const VECTORS: &str = include_str!("../../../tests/vectors/key_sets.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    keys: Vec<KeyCase>,
    signed: Vec<SignedCase>,
}

/// `used`, `passed_over`, `bad:` or `secret:` and the member that is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyCase {
    id: String,
    #[serde(rename = "comment")]
    _comment: String,
    jwk: Value,
    /// In the configuration.
    inline: String,
    /// In a set that is fetched: there `bad` keys are left out, and `secret` ones refuse the set.
    published: String,
}

/// A token that others signed with a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedCase {
    id: String,
    #[serde(rename = "comment")]
    _comment: String,
    alg: String,
    jwk: Value,
    token: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

/// What the problems of a set say of the key at this place.
fn outcome(problems: &Problems, index: usize) -> String {
    let prefix = format!("keys[{index}].");
    let [problem] = problems.as_slice() else {
        panic!("{problems}");
    };
    match problem.path.strip_prefix(&prefix) {
        None if problem.path == "keys" => "passed_over".to_owned(),
        Some(field) if problem.message.contains("holds a secret") => format!("secret:{field}"),
        Some(field) => format!("bad:{field}"),
        None => problems.to_string(),
    }
}

#[test]
fn keys_of_the_configuration_are_read_as_the_vectors_say() {
    for case in vectors().keys {
        let got = match KeySet::parse(&json!({"keys": [case.jwk]}), "", KeySource::Inline) {
            Ok(set) => {
                assert_eq!(set.len(), 1, "{}", case.id);
                "used".to_owned()
            }
            Err(problems) => outcome(&problems, 0),
        };
        assert_eq!(got, case.inline, "{}", case.id);
    }
}

#[test]
fn published_keys_are_read_as_the_vectors_say_and_no_bad_one_takes_the_good_one_with_it() {
    for case in vectors().keys {
        for (good_at, other_at) in [(0, 1), (1, 0)] {
            let mut keys = vec![case.jwk.clone()];
            keys.insert(good_at, jwk(1));
            let got = match KeySet::parse_published(&json!({"keys": keys})) {
                Ok((set, left_out)) => {
                    assert!(set.find(Some("k1"), TokenAlgorithm::Es256).is_some(), "{}", case.id);
                    match (set.len(), left_out.as_slice()) {
                        (2, []) => "used".to_owned(),
                        (1, []) => "passed_over".to_owned(),
                        (1, _) => outcome(&left_out, other_at),
                        (other, _) => panic!("{}: {other} keys, {left_out}", case.id),
                    }
                }
                Err(problems) => {
                    assert!(
                        problems.to_string().contains("holds a secret"),
                        "{}: {problems}",
                        case.id
                    );
                    assert!(case.published.starts_with("secret:"), "{}: {problems}", case.id);
                    continue;
                }
            };
            assert_eq!(got, case.published, "{}", case.id);
        }
    }
}

#[test]
fn a_modulus_may_have_every_size_between_the_limits() {
    let jwk = |bits: usize| {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = 0xff >> (8 * bits.div_ceil(8) - bits);
        json!({"kty": "RSA", "e": "AQAB", "n": base64_of(&modulus)})
    };
    for (bits, is_taken) in [
        (1024, false),
        (2040, false),
        (2047, false),
        (2048, true),
        (2049, true),
        (2050, true),
        (2055, true),
        (2056, true),
        (3071, true),
        (4088, true),
        (4095, true),
        (4096, true),
        (4097, false),
        (8192, false),
    ] {
        let parsed = VerificationKey::parse(&jwk(bits), KeySource::Published);
        assert_eq!(parsed.is_ok(), is_taken, "{bits}");
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn tokens_of_unusual_keys_pass_and_no_changed_one_does() {
    for case in vectors().signed {
        let mut document = configuration();
        document["providers"][0]["keys"] = json!({"keys": [case.jwk]});
        for algorithms in [None, Some(json!([case.alg]))] {
            if let Some(algorithms) = algorithms {
                document["providers"][0]["algorithms"] = algorithms;
            }
            let mut sidecar = Sidecar::with(&document);
            let caller = |token: &str| Caller::new().get("/local").bearer(token);
            sidecar.permits(&caller(&case.token));
            let (input, signature) = case.token.rsplit_once('.').unwrap();
            let (first, rest) = signature.split_at(1);
            let changed = format!("{input}.{}{rest}", if first == "A" { "B" } else { "A" });
            assert_eq!(
                sidecar.refuses(&caller(&changed)).reason,
                DenyReason::TokenSignatureInvalid,
                "{}",
                case.id
            );
        }
    }
}

/// RFC 9864: `EdDSA` and `Ed25519` are two names of one algorithm, in the configuration as well.
#[test]
fn either_name_of_ed25519_allows_both() {
    for name in ["EdDSA", "Ed25519"] {
        for case in vectors().signed.iter().filter(|case| case.id.starts_with("ed25519-")) {
            let mut document = configuration();
            document["providers"][0]["keys"] = json!({"keys": [case.jwk]});
            document["providers"][0]["algorithms"] = json!([name]);
            document["dpop"] = json!({"algorithms": [name]});
            Sidecar::with(&document).permits(&Caller::new().get("/local").bearer(&case.token));
        }
    }
}

/// SPIFFE Trust Domain and Bundle, with a key of each use.
#[test]
fn a_spiffe_bundle_is_a_key_set() {
    let mut for_x509 = jwk(2);
    for_x509.as_object_mut().unwrap().remove("kid");
    for_x509["use"] = "x509-svid".into();
    for_x509["x5c"] = json!(["MIIB"]);
    let mut for_jwt = jwk(1);
    for_jwt["use"] = "jwt-svid".into();
    let bundle = json!({"keys": [for_x509, for_jwt], "spiffe_sequence": 12, "spiffe_refresh_hint": 300});
    let (set, left_out) = KeySet::parse_published(&bundle).unwrap();
    assert_eq!((set.len(), left_out.as_slice().len()), (1, 0));
    assert!(set.find(Some("k1"), TokenAlgorithm::Es256).is_some());
    // A key for certificates signs no tokens.
    assert!(set.find(None, TokenAlgorithm::Es256).unwrap().iter().count() == 1);
}

#[derive(Debug, Default)]
struct Counting(Cell<usize>);

impl SignatureVerifier for Counting {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        self.0.set(self.0.get() + 1);
        SoftwareVerifier.is_valid(algorithm, key, message, signature)
    }
}

/// A token that the key of this number signed.
fn token(number: u8, id: Option<&str>) -> String {
    let header = Header {
        kid: id.map(str::to_owned),
        ..Header::new(Algorithm::ES256)
    };
    let claims = json!({
        "iss": "https://issuer.example", "sub": "alice", "aud": "orders", "exp": NOW_S + 3600,
    });
    let key = EncodingKey::from_ec_der(signing_key(number).to_pkcs8_der().unwrap().as_bytes());
    encode(&header, &claims, &key).unwrap()
}

/// Keys by number and `kid`; a token by number and `kid`; what comes of it, and how many signatures
/// are checked at most.
type Choice<'c> = (
    &'c [(u8, Option<&'c str>)],
    (u8, Option<&'c str>),
    Result<(), DenyReason>,
    usize,
);

#[test]
fn each_key_that_fits_is_tried_up_to_the_limit() {
    let (k1, k2) = (Some("k1"), Some("k2"));
    let many: Vec<(u8, Option<&str>)> = (1..=6).map(|number| (number, None)).collect();
    let invalid = Err(DenyReason::TokenSignatureInvalid);
    let unknown = Err(DenyReason::TokenKeyUnknown);
    let choices: &[Choice<'_>] = &[
        // The rollover of an issuer whose tokens name no key.
        (&[(1, k1), (2, k2)], (1, None), Ok(()), 1),
        (&[(1, k1), (2, k2)], (2, None), Ok(()), 2),
        (&[(1, k1), (2, k2)], (3, None), invalid, 2),
        (&[(1, None), (2, None)], (2, None), Ok(()), 2),
        (&[(1, k1), (2, None)], (2, None), Ok(()), 2),
        (&many, (4, None), Ok(()), 4),
        (&many, (5, None), invalid, KEYS_TRIED_MAX),
        (&many, (9, None), invalid, KEYS_TRIED_MAX),
        // A `kid` chooses, where a key has it.
        (&[(1, k1), (2, k2)], (2, k2), Ok(()), 1),
        (&[(1, k1), (2, k2)], (2, k1), invalid, 1),
        (&[(1, k1), (2, None)], (2, k1), invalid, 1),
        (&[(1, k1), (2, k2)], (2, Some("k3")), unknown, 0),
        // Where none has it, the keys without a `kid` are tried.
        (&[(1, None)], (1, k1), Ok(()), 1),
        (&[(1, k1), (2, None)], (2, k2), Ok(()), 1),
        (&[(1, None), (2, None)], (2, k2), Ok(()), 2),
        (&[(1, k1), (2, None)], (1, k2), unknown, 1),
        (&[(1, None)], (2, k1), unknown, 1),
        (&many, (5, k1), unknown, KEYS_TRIED_MAX),
    ];
    for (keys, (signer, id), expected, checks_max) in choices {
        let keys: Vec<Value> = keys
            .iter()
            .map(|(number, id)| {
                let mut key = jwk(*number);
                key["kid"] = id.map_or(Value::Null, Value::from);
                key
            })
            .collect();
        let mut document = configuration();
        document["providers"][0]["keys"] = json!({"keys": keys});
        let counting = Rc::new(Counting::default());
        let mut sidecar = Sidecar::with_signatures(&document, Rc::clone(&counting) as Rc<dyn SignatureVerifier>);
        let caller = Caller::new().get("/local").bearer(&token(*signer, *id));
        let what = format!("{keys:?} {signer} {id:?}");
        match expected {
            Ok(()) => drop(sidecar.permits(&caller)),
            Err(reason) => assert_eq!(sidecar.refuses(&caller).reason, *reason, "{what}"),
        }
        assert_eq!(counting.0.get(), *checks_max, "{what}");
    }
}

#[test]
fn the_limit_is_named_where_it_cut() {
    let mut document = configuration();
    let keys: Vec<_> = (1..=6).map(jwk).collect();
    document["providers"][0]["keys"] = json!({"keys": keys});
    let mut sidecar = Sidecar::with(&document);
    let refusal = sidecar.refuses(&Caller::new().get("/local").bearer(&token(5, None)));
    assert!(refusal.detail.unwrap().contains("the first 4 keys'"));
    sidecar.permits(&Caller::new().get("/local").bearer(&token(5, Some("k5"))));
}

/// Some issuers keep their `kid` when they change their key.
#[test]
fn published_keys_may_have_one_key_id() {
    let same = |number: u8| {
        let mut key = jwk(number);
        key["kid"] = "same".into();
        key
    };
    let (set, left_out) = KeySet::parse_published(&json!({"keys": [same(1), same(2), same(1)]})).unwrap();
    assert_eq!((set.len(), left_out.as_slice().len()), (2, 0));
    assert_eq!(set.find(Some("same"), TokenAlgorithm::Es256).unwrap().iter().count(), 2);
    // An operator's own are a mistake.
    let problems = KeySet::parse(&json!({"keys": [same(1), same(2)]}), "", KeySource::Inline).unwrap_err();
    assert_eq!(problems.as_slice()[0].path, "keys[1].kid");
}
