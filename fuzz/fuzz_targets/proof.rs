//! DPoP proofs: what is not signed proves nothing, what holds says what RFC 9449 §4.3 asks for, and
//! holds once.

#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use picket_core::dpop::{
    AcceptedProof, AccessTokenHash, DpopSettings, KeyBinding, NonceRequirement, ProofChecker, ProofError, ProofMemory,
    SharedSecret, UriScheme,
};
use picket_core::jose::TokenAlgorithm;
use picket_core::jose::key_thumbprint;
use picket_core::jose::keys::{KeySource, VerificationKey};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use picket_core::request::RequestHead;
use picket_fuzz::{FixedVerifier, json_part, jws_of};
use picket_model::thumbprint::KeyThumbprint;
use picket_model::time::Timestamp;
use serde_json::{Value, json};

/// RFC 9449 figures 12 and 13: the token, the time of the proof, and the proof.
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const NOW_S: i64 = 1_562_262_618;
const SIGNED: &str = include_str!("../seeds/proof/rfc-9449-7-1.txt");
const ACCESS_TOKEN_HASH: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
const AGE_S_MAX: i64 = 60;
const CLOCK_SKEW_S: i64 = 5;
const NONCE_WINDOW_MS: u64 = 30_000;

fn checker(nonce: NonceRequirement, signatures: impl SignatureVerifier + 'static) -> ProofChecker {
    let asymmetric = |algorithm: &TokenAlgorithm| !algorithm.name().starts_with("HS");
    let settings = DpopSettings {
        algorithms: TokenAlgorithm::ALL.iter().copied().filter(asymmetric).collect(),
        schemes: vec![UriScheme::Https],
        proof_age_ms_max: AGE_S_MAX.unsigned_abs() * 1000,
        clock_skew_ms: CLOCK_SKEW_S.unsigned_abs() * 1000,
        nonce,
        ledger_entries_max: 1024,
    };
    let memory = ProofMemory::of_one_worker(SharedSecret::new([9; SharedSecret::BYTES]), &settings);
    ProofChecker::new(settings, memory, Rc::new(signatures))
}

fn ask(checker: &mut ProofChecker, proof: &[u8], thumbprint: KeyThumbprint) -> Result<AcceptedProof, ProofError> {
    let headers: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":authority", b"resource.example.org"),
        (":path", b"/protectedresource?x=1"),
        ("dpop", proof),
    ];
    let binding = KeyBinding {
        thumbprint,
        access_token_hash: AccessTokenHash::of(TOKEN),
    };
    let head = RequestHead::parse(&headers).expect("a request");
    checker.check(&head, &binding, Timestamp::from_s(NOW_S))
}

/// Of the key in the proof: whoever makes a proof has a token that is bound to a key of his.
fn own_thumbprint(proof: &str) -> Option<KeyThumbprint> {
    let header = json_part(proof, 0)?;
    let key = VerificationKey::parse(header.get("jwk")?, KeySource::Published).ok()??;
    key_thumbprint(key.material())
}

fn signing_input(proof: &str) -> Option<&str> {
    proof.rsplit_once('.').map(|(text, _)| text)
}

fn check_held(proof: &str) {
    let header = json_part(proof, 0).expect("a header of JSON");
    let claims = json_part(proof, 1).expect("claims of JSON");
    assert_eq!(header["typ"], "dpop+jwt");
    assert!(
        header["alg"]
            .as_str()
            .is_some_and(|name| !name.starts_with("HS") && name != "none")
    );
    let jwk = header["jwk"].as_object().expect("a key");
    assert!(
        ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
            .iter()
            .all(|name| !jwk.contains_key(*name))
    );
    assert_eq!(claims["htm"], "GET");
    assert_eq!(claims["ath"], ACCESS_TOKEN_HASH);
    let uri = claims["htu"].as_str().expect("a URI").to_ascii_lowercase();
    assert!(uri.starts_with("https://resource.example.org"), "{uri}");
    assert!(
        claims["jti"]
            .as_str()
            .is_some_and(|id| !id.is_empty() && id.len() <= 256)
    );
    let issued_at = claims["iat"].as_f64().expect("a time");
    assert!(
        issued_at < (NOW_S + CLOCK_SKEW_S + 1) as f64 && issued_at >= (NOW_S - AGE_S_MAX) as f64,
        "{claims}"
    );
}

fn check_nonce(proof: &str, checker: &ProofChecker) {
    let nonce = json_part(proof, 1).map(|claims| claims["nonce"].clone());
    let now = Timestamp::from_s(NOW_S);
    let before = Timestamp::from_ms(now.as_ms() - NONCE_WINDOW_MS);
    let good = [now, before].map(|time| Value::from(checker.nonce(time)));
    assert!(nonce.is_some_and(|nonce| good.contains(&nonce)));
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    let thumbprint = own_thumbprint(SIGNED).expect("a key");
    let mut software = checker(NonceRequirement::NotRequired, SoftwareVerifier);
    assert_eq!(
        ask(&mut software, SIGNED.as_bytes(), thumbprint),
        Ok(AcceptedProof { next_nonce: None })
    );
    for text in [
        include_str!("../seeds/proof/ed25519.txt"),
        include_str!("../seeds/proof/rsa.txt"),
        include_str!("../seeds/proof/p521.txt"),
    ] {
        let proof = jws_of(text);
        let thumbprint = own_thumbprint(&proof).expect("a key");
        let mut always = checker(NonceRequirement::NotRequired, FixedVerifier::Always);
        assert_eq!(
            ask(&mut always, proof.as_bytes(), thumbprint),
            Ok(AcceptedProof { next_nonce: None })
        );
    }
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    let text = std::str::from_utf8(data).map(jws_of);
    let proof = text.as_deref().unwrap_or_default();
    let sent = if text.is_ok() { proof.as_bytes() } else { data };
    let rfc_key = json!({
        "kty": "EC", "crv": "P-256", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    });
    let other = VerificationKey::parse(&rfc_key, KeySource::Published).ok().flatten();
    let other = other
        .and_then(|key| key_thumbprint(key.material()))
        .expect("a thumbprint");
    let thumbprint = own_thumbprint(proof).unwrap_or(other);

    let mut always = checker(NonceRequirement::NotRequired, FixedVerifier::Always);
    let held = ask(&mut always, sent, thumbprint);
    if held.is_ok() {
        check_held(proof);
        assert_eq!(ask(&mut always, sent, thumbprint), Err(ProofError::Replayed));
        // No key but the proof's own, however good the signature.
        if thumbprint != other {
            assert_eq!(ask(&mut always, sent, other), Err(ProofError::OtherKey));
        }
    }
    let mut never = checker(NonceRequirement::NotRequired, FixedVerifier::Never);
    assert!(ask(&mut never, sent, thumbprint).is_err());
    // Whatever key the sender has put there is used here.
    let mut software = checker(NonceRequirement::NotRequired, SoftwareVerifier);
    if ask(&mut software, sent, thumbprint).is_ok() {
        assert_eq!(signing_input(proof), signing_input(SIGNED), "nobody has signed this");
    }
    let required = NonceRequirement::Required {
        window_ms: NONCE_WINDOW_MS,
    };
    let mut with_nonces = checker(required, FixedVerifier::Always);
    if ask(&mut with_nonces, sent, thumbprint).is_ok() {
        assert!(held.is_ok());
        check_nonce(proof, &with_nonces);
    }
});
