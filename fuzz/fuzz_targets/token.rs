//! Bearer tokens: no signature, no permit; and what is permitted says what the provider asks for.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Enforcer, Step};
use picket_fuzz::{FixedVerifier, From, NOW_S, enforcer, json_part, jws_of, send};
use picket_model::time::Timestamp;
use serde_json::Value;

const CONFIGURATION: &str = include_str!("token.json");
/// Of `seeds/token/known.txt`.
const KNOWN_SIGNING_INPUT: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYifQ",
    ".eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJvcmRlcnMiLCJleHAiOjE4MDAwMDAzMDB9"
);
const KNOWN_SIGNATURE: &[u8] = b"known";
/// The widest clock skew of the providers.
const CLOCK_SKEW_S: i64 = 60;

struct Sidecars {
    always: Enforcer,
    never: Enforcer,
    only: Enforcer,
}

thread_local! {
    static SIDECARS: RefCell<Sidecars> = RefCell::new(Sidecars {
        always: sidecar(FixedVerifier::Always),
        never: sidecar(FixedVerifier::Never),
        only: sidecar(FixedVerifier::Only(KNOWN_SIGNING_INPUT, KNOWN_SIGNATURE)),
    });
}

fn sidecar(answer: FixedVerifier) -> Enforcer {
    let configuration = FilterConfiguration::parse(CONFIGURATION.as_bytes()).expect("a configuration");
    enforcer(configuration, Rc::new(answer))
}

/// Whether a request with this token goes on.
fn permits(sidecar: &mut Enforcer, authorization: &[u8]) -> bool {
    let headers: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":path", b"/"),
        (":authority", b"orders.example.org"),
        ("authorization", authorization),
    ];
    match send(sidecar, &headers, &From::nobody(), Timestamp::from_s(NOW_S)) {
        Step::Decided(Ok(permit)) => {
            assert!(permit.headers_to_remove().any(|name| name == "authorization"));
            true
        }
        Step::Decided(Err(_)) => false,
        Step::Ask(question) => panic!("the rule decides alone: {question:?}"),
        asked @ (Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("nobody is to be asked: {asked:?}"),
    }
}

/// What every accepted token says, read by another reader.
fn check_accepted(token: &str) {
    let header = json_part(token, 0).expect("a header of JSON");
    let claims = json_part(token, 1).expect("claims of JSON");
    let algorithm = header["alg"].as_str().expect("an algorithm");
    assert!(
        ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"].contains(&algorithm),
        "{algorithm}"
    );
    assert!(["crit", "b64", "zip"].iter().all(|name| header.get(name).is_none()));
    let audience = &claims["aud"];
    let is_ours = |value: &Value| value == "orders";
    assert!(
        is_ours(audience) || audience.as_array().is_some_and(|all| all.iter().any(is_ours)),
        "{claims}"
    );
    match claims["iss"].as_str() {
        Some("https://issuer.example") => assert!(claims.get("exp").is_some(), "{claims}"),
        Some("joe") => assert_eq!(claims["realm"]["env"], "prod"),
        _ => panic!("of no provider: {claims}"),
    }
    if let Some(exp) = claims.get("exp") {
        let exp = exp.as_f64().expect("a time");
        assert!(exp > (NOW_S - CLOCK_SKEW_S - 1) as f64, "{claims}");
    }
    // It came without a proof and without a certificate.
    assert!(claims.get("cnf").is_none_or(Value::is_null), "{claims}");
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    let known = format!("Bearer {}", jws_of(include_str!("../seeds/token/known.txt")));
    let full = format!("Bearer {}", jws_of(include_str!("../seeds/token/full.txt")));
    let joe = format!("Bearer {}", jws_of(include_str!("../seeds/token/joe.txt")));
    SIDECARS.with_borrow_mut(|sidecars| {
        assert!(permits(&mut sidecars.only, known.as_bytes()));
        assert!(!permits(&mut sidecars.only, full.as_bytes()));
        assert!(permits(&mut sidecars.always, full.as_bytes()));
        assert!(permits(&mut sidecars.always, joe.as_bytes()));
    });
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    let token = std::str::from_utf8(data).map(jws_of);
    let sent = token.as_ref().map_or(data, |token| token.as_bytes());
    let authorization = [b"Bearer ", sent].concat();
    SIDECARS.with_borrow_mut(|sidecars| {
        assert!(!permits(&mut sidecars.never, &authorization));
        if permits(&mut sidecars.only, &authorization) {
            let token = token.as_deref().expect("text");
            let (signing_input, _) = token.trim().rsplit_once('.').expect("three parts");
            assert_eq!(signing_input, KNOWN_SIGNING_INPUT);
        }
        let is_permitted = permits(&mut sidecars.always, &authorization);
        if is_permitted {
            check_accepted(token.as_deref().expect("text").trim());
        }
        assert_eq!(
            permits(&mut sidecars.always, &authorization),
            is_permitted,
            "the cache's answer is another one"
        );
    });
});
