//! Proofs by which devices enrol their keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use picket_core::enrollment::{EnrollmentError, EnrollmentProof};
use picket_core::jose::signature::SoftwareVerifier;
use picket_model::thumbprint::KeyThumbprint;
use picket_model::time::Timestamp;
use proptest::prelude::{any, prop_assert, proptest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::NOW_S;

const AUDIENCE: &str = "https://pdp.example.org";
const CHALLENGE: &str = "1f2e3d";

fn key(secret: u8) -> SigningKey {
    SigningKey::from_slice(&[secret; 32]).unwrap()
}

fn jwk(key: &SigningKey) -> Value {
    let point = key.verifying_key().to_encoded_point(false);
    let encode = |coordinate: Option<_>| URL_SAFE_NO_PAD.encode(coordinate.unwrap());
    json!({"crv": "P-256", "kty": "EC", "x": encode(point.x()), "y": encode(point.y())})
}

/// A proof by key 5, after these changes of its header and its claims.
fn proof(header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
    let mut head = json!({"typ": "picket-device+jwt", "alg": "ES256", "jwk": jwk(&key(5))});
    let mut body = json!({"aud": AUDIENCE, "iat": NOW_S, "nonce": CHALLENGE});
    for (object, changes) in [(&mut head, header), (&mut body, claims)] {
        for (name, value) in changes {
            object[*name] = value.clone();
        }
    }
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signing_input = format!("{}.{}", part(&head), part(&body));
    let signature: Signature = key(5).sign(signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn check(proof: &str) -> Result<EnrollmentProof, EnrollmentError> {
    EnrollmentProof::check(proof, AUDIENCE, Timestamp::from_s(NOW_S), &SoftwareVerifier)
}

#[test]
fn a_proof_says_which_key_answered_which_challenge() {
    let proved = check(&proof(&[], &[])).unwrap();
    assert_eq!(proved.challenge, CHALLENGE);
    // RFC 7638, of the members in their order.
    let expected = Sha256::digest(jwk(&key(5)).to_string());
    assert_eq!(proved.thumbprint, KeyThumbprint(expected.into()));
}

#[test]
fn what_a_proof_has_to_say_it_says() {
    let of_header = |name: &str, value: Value| check(&proof(&[(name, value)], &[])).unwrap_err();
    assert_eq!(of_header("typ", "dpop+jwt".into()), EnrollmentError::Type);
    assert_eq!(of_header("typ", "JWT".into()), EnrollmentError::Type);
    for algorithm in ["none", "HS256"] {
        assert_eq!(of_header("alg", algorithm.into()), EnrollmentError::Algorithm);
    }
    assert_eq!(of_header("alg", "EdDSA".into()), EnrollmentError::Key);
    let mut private = jwk(&key(5));
    private["d"] = "AQ".into();
    for jwk in [private, json!({"kty": "oct", "k": "AQ"}), json!("key"), Value::Null] {
        assert_eq!(of_header("jwk", jwk), EnrollmentError::Key);
    }
    // The key of somebody else, who did not sign.
    assert_eq!(of_header("jwk", jwk(&key(6))), EnrollmentError::Signature);
    let of_claim = |name: &str, value: Value| check(&proof(&[], &[(name, value)])).unwrap_err();
    assert_eq!(
        of_claim("aud", "https://other.example.org".into()),
        EnrollmentError::Audience
    );
    for name in ["aud", "iat", "nonce"] {
        assert!(matches!(of_claim(name, Value::Null), EnrollmentError::Claim(found) if found == name));
    }
    assert_eq!(
        of_claim("nonce", "n".repeat(257).into()),
        EnrollmentError::Claim("nonce")
    );
    assert_eq!(of_claim("iat", (NOW_S - 300).into()), EnrollmentError::TooOld);
    assert_eq!(
        of_claim("iat", (NOW_S + 61).into()),
        EnrollmentError::InTheFuture("iat")
    );
    assert_eq!(of_claim("exp", (NOW_S - 60).into()), EnrollmentError::Expired);
    assert_eq!(
        of_claim("nbf", (NOW_S + 61).into()),
        EnrollmentError::InTheFuture("nbf")
    );
    assert_eq!(of_claim("exp", "soon".into()), EnrollmentError::Claim("exp"));
    for iat in [NOW_S - 299, NOW_S + 60] {
        assert!(check(&proof(&[], &[("iat", iat.into())])).is_ok());
    }
}

#[test]
fn a_proof_that_was_altered_does_not_hold() {
    let whole = proof(&[], &[]);
    let (rest, signature) = whole.rsplit_once('.').unwrap();
    let other = proof(&[], &[("nonce", "another".into())]);
    let (other_rest, _) = other.rsplit_once('.').unwrap();
    assert_eq!(
        check(&format!("{other_rest}.{signature}")),
        Err(EnrollmentError::Signature)
    );
    for text in ["", "a.b", rest, &format!("{whole}.x"), &format!("{whole}=")] {
        assert!(check(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_a_proof(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>(), raw in "\\PC{0,200}", is_raw: bool) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let text = if is_raw { raw } else { format!("{}.{}.{}", part(&header), part(&claims), part(&header)) };
        prop_assert!(check(&text).is_err());
    }
}
