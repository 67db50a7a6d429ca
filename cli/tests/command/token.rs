//! `picket token mint` and `picket jwks`, with jsonwebtoken as the judge.

use std::fs;
use std::path::Path;

use crate::support::{Answer, keys, picket, text};
use jsonwebtoken::jwk::{JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use picket::keys::PrivateKey;
use serde_json::{Value, json};

fn mint(directory: &Path, key: &str, further: &[&str]) -> Answer {
    let key = directory.join(key);
    let arguments = [
        "token",
        "mint",
        "--key",
        text(&key),
        "--issuer",
        "https://issuer.example",
        "--subject",
        "alice",
        "--audience",
        "orders",
    ];
    picket(&[&arguments[..], further].concat())
}

/// Verifies a token against a key set as a resource server would, and returns its claims.
fn verify(token: &str, set: &Value, algorithm: Algorithm) -> Result<Value, jsonwebtoken::errors::Error> {
    let set: JwkSet = serde_json::from_value(set.clone()).unwrap();
    let header = jsonwebtoken::decode_header(token)?;
    assert_eq!(header.alg, algorithm);
    assert_eq!(header.typ.as_deref(), Some("JWT"));
    let jwk = set
        .find(&header.kid.unwrap())
        .expect("the set has no key with the token's id");
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["orders"]);
    validation.set_issuer(&["https://issuer.example"]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).map(|data| data.claims)
}

fn jwks_file(directory: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join("jwks.json")).unwrap()).unwrap()
}

#[test]
fn a_minted_token_verifies_against_the_key_set() {
    let (_folder, directory) = keys();
    for (key, algorithm) in [
        ("token-rs256-key.pem", Algorithm::RS256),
        ("token-es256-key.pem", Algorithm::ES256),
    ] {
        let answer = mint(
            &directory,
            key,
            &["--claim", "roles=[\"reader\"]", "--claim", "tenant=acme"],
        );
        answer.expect(0);
        assert_eq!(answer.stderr, "");
        let token = answer.stdout.strip_suffix('\n').unwrap();
        let claims = verify(token, &jwks_file(&directory), algorithm).unwrap();
        assert_eq!(claims["roles"], json!(["reader"]));
        assert_eq!(claims["tenant"], "acme");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);
        assert!(claims["jti"].as_str().is_some_and(|id| id.len() >= 16));
    }
}

#[test]
fn one_changed_character_of_a_minted_token_does_not_verify() {
    let (_folder, directory) = keys();
    let token = mint(&directory, "token-es256-key.pem", &[]).stdout;
    let (message, signature) = token.trim().rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let changed: String = std::iter::once(first).chain(signature.chars().skip(1)).collect();
    let changed = format!("{message}.{changed}");
    assert!(verify(token.trim(), &jwks_file(&directory), Algorithm::ES256).is_ok());
    assert!(verify(&changed, &jwks_file(&directory), Algorithm::ES256).is_err());
}

#[test]
fn an_aged_token_has_expired_and_a_future_one_is_not_yet_valid() {
    use jsonwebtoken::errors::ErrorKind;
    let (_folder, directory) = keys();
    for (further, expected) in [
        (
            ["--issued-ago", "1h", "--expires-in", "5m"],
            ErrorKind::ExpiredSignature,
        ),
        (
            ["--not-before", "2m", "--expires-in", "5m"],
            ErrorKind::ImmatureSignature,
        ),
    ] {
        let token = mint(&directory, "token-es256-key.pem", &further).stdout;
        let error = verify(token.trim(), &jwks_file(&directory), Algorithm::ES256).unwrap_err();
        assert_eq!(*error.kind(), expected);
    }
}

#[test]
fn the_json_answer_has_the_token_and_its_claims() {
    let (_folder, directory) = keys();
    let answer = mint(&directory, "token-es256-key.pem", &["--output", "json"]).json();
    let claims = verify(
        answer["token"].as_str().unwrap(),
        &jwks_file(&directory),
        Algorithm::ES256,
    )
    .unwrap();
    assert_eq!(answer["claims"], claims);
    assert_eq!(answer["algorithm"], "ES256");
    assert_eq!(answer["key_id"], jwks_file(&directory)["keys"][1]["kid"]);
}

#[test]
fn jwks_prints_what_pki_init_wrote_and_no_private_member() {
    let (_folder, directory) = keys();
    let (rs256, es256) = (
        directory.join("token-rs256-key.pem"),
        directory.join("token-es256-key.pem"),
    );
    for format in ["text", "json"] {
        let answer = picket(&["jwks", text(&rs256), text(&es256), "--output", format]).json();
        assert_eq!(answer, jwks_file(&directory));
    }
    let set = jwks_file(&directory);
    let members: Vec<Vec<&str>> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let mut names: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            names
        })
        .collect();
    assert_eq!(members[0], ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!(members[1], ["alg", "crv", "kid", "kty", "use", "x", "y"]);
}

#[test]
fn the_key_ids_are_the_thumbprints_that_another_library_computes() {
    let (_folder, directory) = keys();
    let set: JwkSet = serde_json::from_value(jwks_file(&directory)).unwrap();
    assert_eq!(set.keys.len(), 2);
    for jwk in set.keys {
        assert_eq!(jwk.common.key_id, Some(jwk.thumbprint(ThumbprintHash::SHA256).unwrap()));
    }
}

#[test]
fn any_header_and_payload_can_be_signed_for_tests() {
    let (_folder, directory) = keys();
    let pem = fs::read_to_string(directory.join("token-es256-key.pem")).unwrap();
    let key = PrivateKey::from_pem(&pem).unwrap();
    let header = json!({"alg": "ES256", "kid": key.public().thumbprint(), "typ": "JWT"});
    let token = picket::token::sign(&key, &header, &json!({"sub": "alice"})).unwrap();
    let error = verify(&token, &jwks_file(&directory), Algorithm::ES256).unwrap_err();
    assert!(error.to_string().starts_with("Missing required claim"), "{error}");
}

#[test]
fn what_cannot_sign_is_named_and_exits_with_3() {
    let (_folder, directory) = keys();
    fs::write(directory.join("text"), "not a key").unwrap();
    fs::write(directory.join("bytes"), [0xff, 0xfe]).unwrap();
    for (file, expected) in [
        ("absent", "cannot read"),
        ("bytes", "cannot read"),
        ("text", "expected an RSA or P-256 private key in PEM"),
        ("web.pem", "expected an RSA or P-256 private key in PEM"),
    ] {
        let answer = mint(&directory, file, &[]);
        answer.expect(3);
        assert_eq!(answer.stdout, "");
        assert!(
            answer.stderr.contains(expected) && answer.stderr.contains(file),
            "{}",
            answer.stderr
        );
    }
    let answer = picket(&["jwks", text(&directory.join("text"))]);
    answer.expect(3);
    assert!(
        answer.stderr.contains("expected an RSA or P-256 key in PEM"),
        "{}",
        answer.stderr
    );
}

#[test]
fn a_bad_claim_or_duration_is_a_usage_error() {
    let (_folder, directory) = keys();
    for (further, expected) in [
        (["--claim", "tenant"], "expected NAME=VALUE"),
        (["--expires-in", "5"], "expected a whole number and a unit"),
        (
            ["--not-before=-5m", "--expires-in=5m"],
            "expected a whole number and a unit",
        ),
    ] {
        let answer = mint(&directory, "token-es256-key.pem", &further);
        answer.expect(2);
        assert!(answer.stderr.contains(expected), "{}", answer.stderr);
    }
}

mod inspect {
    use picket_core::transaction_token::{Transaction, TransactionTokens, read_key};
    use picket_model::time::Timestamp;

    use super::*;
    use crate::support::picket_with;

    const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const OTHER_KEY: &str = "Y2FuIGJlIGFueXRoaW5nIG9mIGEgZ29vZCBsZW5ndGgsIGxpa2UgdGhpcw";

    fn now_s() -> i64 {
        picket::clock::unix_seconds(picket::clock::now()).try_into().unwrap()
    }

    /// A token that was made at this time, whose route rule would clear a terminal.
    fn token(made_at_s: i64) -> String {
        let tokens = TransactionTokens::new("orders".into(), "orders".into(), 300, "KEY".into());
        let peer = "spiffe://example.org/web".parse().unwrap();
        let transaction = Transaction {
            request_id: "r-1",
            principal: None,
            peer: Some(&peer),
            route_rule: "orders\u{1b}[2J",
            decision_id: None,
        };
        let tokens = tokens.with_key(read_key(KEY).unwrap());
        tokens.mint(&transaction, Timestamp::from_s(made_at_s)).unwrap()
    }

    fn inspect(token: &str, key: &str) -> Answer {
        let arguments = ["token", "inspect", "--key-variable", "TXN_KEY", token];
        picket_with(&arguments, &[("TXN_KEY", key)])
    }

    #[test]
    fn a_token_is_read_and_its_signature_checked() {
        let good = inspect(&token(now_s()), KEY);
        assert_eq!(good.code, 0, "{}", good.stderr);
        assert!(good.stdout.contains("signature   valid\n"), "{}", good.stdout);
        assert!(
            good.stdout.contains("peer        spiffe://example.org/web\n"),
            "{}",
            good.stdout
        );
        assert!(good.stdout.contains(r"route rule orders\u{1b}[2J"), "{}", good.stdout);
        let other = inspect(&token(now_s()), OTHER_KEY);
        assert_eq!(
            (other.code, other.stdout.contains("signature   invalid\n")),
            (1, true),
            "{}",
            other.stdout
        );
        let expired = inspect(&token(now_s() - 301), KEY);
        assert_eq!(
            (expired.code, expired.stdout.contains("expiry      expired\n")),
            (1, true),
            "{}",
            expired.stdout
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (token, key, expected) in [
            ("a.b.c", KEY, "the token: not a JWS in compact serialization"),
            (
                token(0).as_str(),
                "short",
                "the environment variable `TXN_KEY`: expected at least 32 bytes",
            ),
        ] {
            let answer = inspect(token, key);
            assert_eq!(answer.code, 2);
            assert!(answer.stderr.contains(expected), "{}", answer.stderr);
        }
        let without_key = picket(&["token", "inspect", &token(now_s())]);
        assert!(
            without_key.stdout.contains("signature   not checked"),
            "{}",
            without_key.stdout
        );
    }
}
