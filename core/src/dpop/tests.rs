//! Proofs: the examples of RFC 9449, and proofs of ours that are wrong in one thing each.

use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Map, Value, json};

use super::*;
use crate::jose::key_thumbprint;
use crate::jose::keys::{KeySource, VerificationKey};
use crate::jose::signature::SoftwareVerifier;

const NOW_S: i64 = 1_800_000_000;
const TOKEN: &str = "the.access.token";

fn settings() -> DpopSettings {
    DpopSettings {
        algorithms: TokenAlgorithm::ALL.to_vec(),
        schemes: vec![UriScheme::Https],
        proof_age_ms_max: 60_000,
        clock_skew_ms: 5_000,
        nonce: NonceRequirement::NotRequired,
        ledger_entries_max: 1024,
    }
}

fn checker(settings: DpopSettings) -> ProofChecker {
    let memory = ProofMemory::of_one_worker(SharedSecret::new([9; 32]), &settings);
    ProofChecker::new(settings, memory, Rc::new(SoftwareVerifier))
}

/// A request for `GET https://api.example.org/orders/7?x=1` with this proof.
fn ask(
    checker: &mut ProofChecker,
    proof: &str,
    binding: &KeyBinding,
    now: Timestamp,
) -> Result<AcceptedProof, ProofError> {
    let headers: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":authority", b"api.example.org"),
        (":path", b"/orders/7?x=1"),
        ("dpop", proof.as_bytes()),
    ];
    checker.check(&RequestHead::parse(&headers).unwrap(), binding, now)
}

fn key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

fn jwk(key: &SigningKey) -> Value {
    let point = key.verifying_key().to_encoded_point(false);
    json!({
        "kty": "EC", "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(point.x().unwrap()),
        "y": URL_SAFE_NO_PAD.encode(point.y().unwrap()),
    })
}

fn binding_to(jwk: &Value, token: &str) -> KeyBinding {
    let key = VerificationKey::parse(jwk, KeySource::Inline).unwrap().unwrap();
    KeyBinding {
        thumbprint: key_thumbprint(key.material()).unwrap(),
        access_token_hash: AccessTokenHash::of(token),
    }
}

fn binding() -> KeyBinding {
    binding_to(&jwk(&key()), TOKEN)
}

fn good_header() -> Value {
    json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&key())})
}

fn good_claims() -> Value {
    json!({
        "jti": "j-1", "htm": "GET", "htu": "https://api.example.org/orders/7", "iat": NOW_S,
        "ath": URL_SAFE_NO_PAD.encode(AccessTokenHash::of(TOKEN).0),
    })
}

/// With these members changed; `null` takes one out.
fn with(mut object: Value, changes: &[(&str, Value)]) -> Value {
    let members: &mut Map<String, Value> = object.as_object_mut().unwrap();
    for (name, value) in changes {
        match value.is_null() {
            true => drop(members.remove(*name)),
            false => drop(members.insert((*name).to_owned(), value.clone())),
        }
    }
    object
}

/// Signed by [`key`], whatever it says.
fn signed(header: &str, claims: &str) -> String {
    let signing_input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature: Signature = key().sign(signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn proof(header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
    signed(
        &with(good_header(), header).to_string(),
        &with(good_claims(), claims).to_string(),
    )
}

fn check_with(settings: DpopSettings, proof: &str, ms_later: u64) -> Result<(), ProofError> {
    let now = Timestamp::from_s(NOW_S).plus_ms(ms_later);
    ask(&mut checker(settings), proof, &binding(), now).map(|_| ())
}

#[track_caller]
fn check(proof: &str, expected: Result<(), ProofError>) {
    assert_eq!(check_with(settings(), proof, 0), expected, "{proof}");
}

#[track_caller]
fn check_header(changes: &[(&str, Value)], expected: Result<(), ProofError>) {
    check(&proof(changes, &[]), expected);
}

#[track_caller]
fn check_claims(changes: &[(&str, Value)], expected: Result<(), ProofError>) {
    check(&proof(&[], changes), expected);
}

/// RFC 9449 figures 12 and 13 (§7.1), the token of figure 12 bound to the key of figure 9 (§6.1).
#[test]
fn the_example_of_rfc_9449_section_7_1() {
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let of_request = |method: &'static [u8], path: &'static [u8], token: &str, at_s: i64| {
        let headers: [(&str, &[u8]); 4] = [
            (":method", method),
            (":authority", b"resource.example.org"),
            (":path", path),
            ("dpop", PROOF.as_bytes()),
        ];
        let binding = KeyBinding {
            thumbprint: KeyThumbprint::from_base64url("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap(),
            access_token_hash: AccessTokenHash::of(token),
        };
        let head = RequestHead::parse(&headers).unwrap();
        checker(settings())
            .check(&head, &binding, Timestamp::from_s(at_s))
            .map(|_| ())
    };
    let (path, token, at_s) = (
        &b"/protectedresource"[..],
        "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        1_562_262_618,
    );
    assert_eq!(of_request(b"GET", path, token, at_s), Ok(()));
    assert_eq!(of_request(b"POST", path, token, at_s), Err(ProofError::Method));
    assert_eq!(of_request(b"GET", b"/other", token, at_s), Err(ProofError::Uri));
    assert_eq!(
        of_request(b"GET", path, "other", at_s),
        Err(ProofError::AccessTokenHash)
    );
    assert_eq!(of_request(b"GET", path, token, at_s + 60), Err(ProofError::TooOld));
}

/// RFC 9449 figures 2 and 3 (§4.2): a proof for the token endpoint. It is about no token, and so
/// not for us.
#[test]
fn the_example_of_rfc_9449_section_4_2() {
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    check(PROOF, Err(ProofError::Claim("ath")));
}

#[test]
fn one_header_field_with_one_proof() {
    let good = proof(&[], &[]);
    check(&good, Ok(()));
    let check_fields = |fields: &[&str], expected: ProofError| {
        let headers: Vec<(&str, &[u8])> = [
            (":method", &b"GET"[..]),
            (":authority", b"api.example.org"),
            (":path", b"/orders/7"),
        ]
        .into_iter()
        .chain(fields.iter().map(|field| ("dpop", field.as_bytes())))
        .collect();
        let head = RequestHead::parse(&headers).unwrap();
        let result = checker(settings()).check(&head, &binding(), Timestamp::from_s(NOW_S));
        assert_eq!(result, Err(expected), "{fields:?}");
    };
    check_fields(&[], ProofError::Missing);
    check_fields(&[&good, &good], ProofError::Repeated);
    check_fields(&[&good, ""], ProofError::Repeated);
    check_fields(&[&format!("{good}, {good}")], ProofError::NotJws);
    check_fields(&[&format!(" {good}")], ProofError::NotJws);
    check_fields(&[""], ProofError::NotJws);
}

#[test]
fn what_is_not_a_jws_of_two_objects_is_refused() {
    let good = proof(&[], &[]);
    let parts: Vec<&str> = good.split('.').collect();
    for bad in [
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        signed("[]", "{}"),
        signed(&good_header().to_string(), "[]"),
        signed(&good_header().to_string(), "{"),
        signed(
            &good_header().to_string(),
            &good_claims().to_string().replacen('{', r#"{"htm":"POST","#, 1),
        ),
        signed(
            &good_header()
                .to_string()
                .replacen(r#""kty""#, r#""d":"x","d":"y","kty""#, 1),
            &good_claims().to_string(),
        ),
        proof(&[("crit", json!(["jwk"]))], &[]),
        proof(&[("b64", false.into())], &[]),
        proof(&[], &[("x", "x".repeat(8192).into())]),
    ] {
        check(&bad, Err(ProofError::NotJws));
    }
}

#[test]
fn the_type_is_exactly_that_of_a_proof() {
    for typ in [
        json!("JWT"),
        json!("at+jwt"),
        json!("DPoP+JWT"),
        json!("application/dpop+jwt"),
        json!("dpop+jwt "),
        json!(["dpop+jwt"]),
        Value::Null,
    ] {
        check_header(&[("typ", typ)], Err(ProofError::Type));
    }
}

#[test]
fn the_algorithm_is_asymmetric_and_allowed() {
    for alg in ["none", "None", "", "HS256", "HS512", "ES256K", "es256", "RSA-OAEP"] {
        check_header(&[("alg", alg.into())], Err(ProofError::Algorithm));
    }
    check_header(&[("alg", Value::Null)], Err(ProofError::Algorithm));
    check_header(&[("alg", json!(["ES256"]))], Err(ProofError::Algorithm));
    let only = |algorithm| DpopSettings {
        algorithms: vec![algorithm],
        ..settings()
    };
    let good = proof(&[], &[]);
    assert_eq!(check_with(only(TokenAlgorithm::Es256), &good, 0), Ok(()));
    assert_eq!(
        check_with(only(TokenAlgorithm::EdDsa), &good, 0),
        Err(ProofError::Algorithm)
    );
}

#[test]
fn the_key_is_public_sound_and_fits_the_algorithm() {
    let with_member = |name, value: Value| with(jwk(&key()), &[(name, value)]);
    for bad in [
        Value::Null,
        json!("key"),
        json!([jwk(&key())]),
        json!({}),
        with_member("d", "AA".into()),
        with_member("d", json!(false)),
        with_member("k", "AA".into()),
        with_member("dp", "AA".into()),
        with_member("oth", json!([])),
        with_member("kty", "RSA".into()),
        with_member("kty", "oct".into()),
        with_member("crv", "P-384".into()),
        with_member("crv", "secp256k1".into()),
        with_member("y", URL_SAFE_NO_PAD.encode([1; 32]).into()),
        with_member("use", "enc".into()),
        with_member("key_ops", json!(["sign"])),
        with_member("alg", "ES384".into()),
        json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 32])}),
    ] {
        check_header(&[("jwk", bad)], Err(ProofError::Key));
    }
    check_header(&[("alg", "ES384".into())], Err(ProofError::Key));
    // `kid` and the like are neither needed nor followed.
    check_header(
        &[
            ("jwk", with_member("kid", "k".into())),
            ("kid", "../x".into()),
            ("jku", "https://evil.example".into()),
        ],
        Ok(()),
    );
}

#[test]
fn an_ed25519_key_makes_proofs_as_well() {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes())});
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}).to_string();
    let signing_input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(good_claims().to_string())
    );
    let signature = key.sign(signing_input.as_bytes()).to_bytes();
    let proof = format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature));
    let now = Timestamp::from_s(NOW_S);
    let result = ask(&mut checker(settings()), &proof, &binding_to(&jwk, TOKEN), now);
    assert_eq!(result, Ok(AcceptedProof { next_nonce: None }));
}

#[test]
fn every_claim_is_there_and_of_its_kind() {
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        let expected = Err(ProofError::Claim(name));
        check_claims(&[(name, Value::Null)], expected);
        check_claims(&[(name, json!([NOW_S]))], expected);
        check_claims(&[(name, json!({}))], expected);
        check_claims(&[(name, json!(true))], expected);
        check_claims(&[(name, json!(""))], expected);
    }
    for name in ["jti", "htm", "htu", "ath", "nonce"] {
        check_claims(&[(name, json!(1))], Err(ProofError::Claim(name)));
    }
    for iat in [
        json!(NOW_S.to_string()),
        json!(-1),
        json!(1e300),
        json!(253_402_300_800_i64),
    ] {
        check_claims(&[("iat", iat)], Err(ProofError::Claim("iat")));
    }
    check_claims(&[("jti", "j".repeat(256).into())], Ok(()));
    check_claims(&[("jti", "j".repeat(257).into())], Err(ProofError::Claim("jti")));
    check_claims(&[("jti", "\0é\u{1F511}".into()), ("other", json!({"a": []}))], Ok(()));
}

#[test]
fn method_and_uri_are_those_of_the_request() {
    for method in ["get", "Get", "POST", "GET ", "HEAD"] {
        check_claims(&[("htm", method.into())], Err(ProofError::Method));
    }
    // More spellings in `target_uri`.
    check_claims(
        &[("htu", "HTTPS://API.example.org:443/x/../orders/%37?y#z".into())],
        Ok(()),
    );
    for uri in [
        "https://api.example.org/orders/8",
        "https://other.example.org/orders/7",
        "http://api.example.org/orders/7",
        "/orders/7",
    ] {
        check_claims(&[("htu", uri.into())], Err(ProofError::Uri));
    }
}

#[test]
fn a_proof_is_good_for_a_minute_and_not_before_it_is_made() {
    let made_at = |offset_s: i64| proof(&[], &[("iat", (NOW_S + offset_s).into())]);
    let check_at = |offset_s, ms_later| check_with(settings(), &made_at(offset_s), ms_later);
    assert_eq!(check_at(-59, 999), Ok(()));
    assert_eq!(check_at(-60, 0), Err(ProofError::TooOld));
    assert_eq!(check_at(-59, 1000), Err(ProofError::TooOld));
    assert_eq!(check_at(5, 0), Ok(()));
    assert_eq!(check_at(6, 0), Err(ProofError::InTheFuture("iat")));
    assert_eq!(check_at(6, 999), Err(ProofError::InTheFuture("iat")));
    assert_eq!(check_at(6, 1000), Ok(()));
    check_claims(&[("iat", json!(1_800_000_000.9))], Ok(()));
}

/// RFC 7519 §4.1.4 and §4.1.5; the times themselves are tried in `token::own_key`.
#[test]
fn a_proof_is_good_no_longer_than_it_says_of_itself() {
    for (claim, value, expected) in [
        ("exp", json!(NOW_S - 5), Err(ProofError::Expired)),
        ("exp", json!(NOW_S - 4), Ok(())),
        ("exp", json!(NOW_S + 3600), Ok(())),
        ("nbf", json!(NOW_S + 5), Ok(())),
        ("nbf", json!(NOW_S + 6), Err(ProofError::InTheFuture("nbf"))),
        ("nbf", json!(1_800_000_005.1), Err(ProofError::InTheFuture("nbf"))),
        ("exp", json!("soon"), Err(ProofError::Claim("exp"))),
        ("nbf", json!([NOW_S]), Err(ProofError::Claim("nbf"))),
    ] {
        check_claims(&[(claim, value)], expected);
    }
}

#[test]
fn a_proof_is_about_one_token_and_its_key() {
    let other = AccessTokenHash::of("other.access.token").0;
    for ath in [
        URL_SAFE_NO_PAD.encode(other),
        URL_SAFE_NO_PAD.encode(&other[..31]),
        TOKEN.to_owned(),
        format!("{}=", URL_SAFE_NO_PAD.encode(AccessTokenHash::of(TOKEN).0)),
    ] {
        check_claims(&[("ath", ath.into())], Err(ProofError::AccessTokenHash));
    }
    // A thief's own key makes a proof that holds, but not for this token.
    let thief = SigningKey::from_slice(&[8; 32]).unwrap();
    let bound_to_thief = binding_to(&jwk(&thief), TOKEN);
    let now = Timestamp::from_s(NOW_S);
    let result = ask(&mut checker(settings()), &proof(&[], &[]), &bound_to_thief, now);
    assert_eq!(result, Err(ProofError::OtherKey));
    // The owner's public key in the header, and a signature by the thief's.
    let header = with(good_header(), &[("jwk", jwk(&thief))]).to_string();
    let forged = signed(&header, &good_claims().to_string());
    let result = ask(&mut checker(settings()), &forged, &bound_to_thief, now);
    assert_eq!(result, Err(ProofError::Signature));
}

#[test]
fn nothing_but_the_signed_bytes_passes() {
    let good = proof(&[], &[]);
    let (signing_input, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let resigned = |bytes: &[u8]| format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(bytes));
    for index in [0, 31, 32, 63] {
        let mut changed = signature.clone();
        changed[index] ^= 1;
        check(&resigned(&changed), Err(ProofError::Signature));
    }
    for bad in [&signature[..63], &[signature.as_slice(), &[0]].concat(), &[0; 64], &[]] {
        check(&resigned(bad), Err(ProofError::Signature));
    }
    check(&format!("{good}="), Err(ProofError::Signature));
    let (header, claims) = (good_header().to_string(), good_claims());
    let other = signed(&header, &with(claims, &[("jti", "j-2".into())]).to_string());
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    check(
        &format!("{signing_input}.{other_signature}"),
        Err(ProofError::Signature),
    );
}

#[test]
fn a_proof_is_taken_once_whatever_its_bytes() {
    let mut checker = checker(settings());
    let mut check = |proof: &str, s| ask(&mut checker, proof, &binding(), Timestamp::from_s(NOW_S + s)).map(|_| ());
    let first = proof(&[], &[]);
    assert_eq!(check(&first, 0), Ok(()));
    for s in [0, 1, 59] {
        assert_eq!(check(&first, s), Err(ProofError::Replayed));
    }
    assert_eq!(check(&first, 60), Err(ProofError::TooOld));
    // (r, n - s) is as good a signature as (r, s).
    let (signing_input, signature) = first.rsplit_once('.').unwrap();
    let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let mirrored = Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
    let twin = format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(mirrored.to_bytes()));
    assert_ne!(twin, first);
    assert_eq!(check(&twin, 0), Err(ProofError::Replayed));
    // Written otherwise, made later, for another spelling of the URI: the same `jti` of the same
    // key.
    let rewritten = proof(
        &[("kid", "k".into())],
        &[
            ("iat", (NOW_S + 3).into()),
            ("htu", "https://api.example.org/x/../orders/7".into()),
        ],
    );
    assert_eq!(check(&rewritten, 3), Err(ProofError::Replayed));
    assert_eq!(check(&proof(&[], &[("jti", "j-2".into())]), 0), Ok(()));
}

#[test]
fn a_proof_that_does_not_hold_is_not_remembered() {
    let mut checker = checker(settings());
    let mut check =
        |proof: &str, binding: &KeyBinding| ask(&mut checker, proof, binding, Timestamp::from_s(NOW_S)).map(|_| ());
    let good = proof(&[], &[]);
    let (signing_input, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    assert_eq!(check(&forged, &binding()), Err(ProofError::Signature));
    let other_token = binding_to(&jwk(&key()), "other");
    assert_eq!(check(&good, &other_token), Err(ProofError::AccessTokenHash));
    assert_eq!(check(&good, &binding()), Ok(()));
}

/// Gives the same answer to everything, and counts the questions.
#[derive(Debug)]
struct Constant(LedgerError, Rc<Cell<u32>>);

impl ProofLedger for Constant {
    fn remember(&mut self, _: ProofId, _: Timestamp, _: Timestamp) -> Result<(), LedgerError> {
        self.1.set(self.1.get() + 1);
        Err(self.0)
    }
}

#[test]
fn a_proof_that_cannot_be_remembered_is_refused() {
    for (answer, expected) in [
        (LedgerError::Known, ProofError::Replayed),
        (LedgerError::Full, ProofError::LedgerFull),
        (LedgerError::Unavailable, ProofError::LedgerUnavailable),
    ] {
        let asked = Rc::new(Cell::new(0));
        let memory = ProofMemory {
            secret: SharedSecret::new([9; 32]),
            ledger: Box::new(Constant(answer, Rc::clone(&asked))),
        };
        let mut checker = ProofChecker::new(settings(), memory, Rc::new(SoftwareVerifier));
        let result = ask(&mut checker, &proof(&[], &[]), &binding(), Timestamp::from_s(NOW_S));
        assert_eq!((result, asked.get()), (Err(expected), 1));
    }
}

#[test]
fn a_required_nonce_is_one_of_the_last_two() {
    let settings = DpopSettings {
        nonce: NonceRequirement::Required { window_ms: 30_000 },
        ..settings()
    };
    // At the start of a window.
    let start = Timestamp::from_s(NOW_S);
    let nonce = checker(settings.clone()).nonce(start).unwrap();
    let with_nonce = |nonce: Value| proof(&[], &[("nonce", nonce)]);
    let check_at = |proof: &str, ms| {
        let mut checker = checker(settings.clone());
        let now = start.plus_ms(ms);
        let result = ask(&mut checker, proof, &binding(), now);
        result.map(|proven| proven.next_nonce.map(|next| Some(next) == checker.nonce(now)))
    };
    let good = with_nonce(nonce.clone().into());
    assert_eq!(check_at(&good, 0), Ok(None));
    assert_eq!(check_at(&good, 29_999), Ok(None));
    assert_eq!(check_at(&good, 30_000), Ok(Some(true)));
    assert_eq!(check_at(&good, 59_999), Ok(Some(true)));
    let late = proof(&[], &[("nonce", nonce.into()), ("iat", (NOW_S + 60).into())]);
    assert_eq!(check_at(&late, 60_000), Err(ProofError::Nonce));
    assert_eq!(check_at(&with_nonce(Value::Null), 0), Err(ProofError::Nonce));
    assert_eq!(check_at(&with_nonce("x".into()), 0), Err(ProofError::Nonce));
    assert_eq!(check_at(&with_nonce("".into()), 0), Err(ProofError::Nonce));
}

#[test]
fn without_the_requirement_no_nonce_is_given_or_looked_at() {
    let checker = checker(settings());
    assert_eq!(checker.nonce(Timestamp::from_s(NOW_S)), None);
    check_claims(&[("nonce", "of somebody else".into())], Ok(()));
}

#[test]
fn the_challenge_names_the_algorithms() {
    let two = vec![TokenAlgorithm::Es256, TokenAlgorithm::EdDsa];
    let settings = DpopSettings {
        algorithms: two,
        ..settings()
    };
    assert_eq!(&**checker(settings).algorithm_names(), "ES256 EdDSA");
}
