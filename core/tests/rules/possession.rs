//! Tokens that are bound to a key, as the state machine takes them: RFC 9449 §7, with the sidecar's
//! settings.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use picket_core::enforcement::{Notes, Refusal, Step, reply};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::access::Possession;
use picket_model::decision::Effect;
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const ALGORITHMS_BY_DEFAULT: &str = "RS256 RS384 RS512 ES256 ES384 ES512 EdDSA";

fn key() -> SigningKey {
    SigningKey::from_slice(&[5; 32]).unwrap()
}

fn coordinates() -> (String, String) {
    let point = key().verifying_key().to_encoded_point(false);
    let encode = |coordinate: Option<_>| URL_SAFE_NO_PAD.encode(coordinate.unwrap());
    (encode(point.x()), encode(point.y()))
}

/// RFC 7638.
pub(crate) fn thumbprint() -> String {
    let (x, y) = coordinates();
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// A token that is bound to [`key`].
fn bound_token(sidecar: &Sidecar) -> String {
    sidecar.token(&[("cnf", json!({"jkt": thumbprint()}))])
}

/// A proof for `GET https://orders.example.org/local`, with these claims changed.
pub(crate) fn proof(token: &str, changes: &[(&str, Value)]) -> String {
    let (x, y) = coordinates();
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
    let mut claims = json!({
        "jti": "j-1", "htm": "GET", "htu": "https://orders.example.org/local", "iat": NOW_S,
        "ath": URL_SAFE_NO_PAD.encode(Sha256::digest(token)),
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signing_input = format!("{}.{}", part(&header), part(&claims));
    let signature: Signature = key().sign(signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn with_id(token: &str, id: &str) -> String {
    proof(token, &[("jti", id.into())])
}

/// `GET /local` with the scheme `DPoP`.
pub(crate) fn caller(token: &str) -> Caller {
    Caller::new()
        .get("/local")
        .no_bearer()
        .header("authorization", &format!("DPoP {token}"))
}

fn challenge(refusal: &Refusal) -> String {
    let reply = reply(refusal, "orders");
    let header = reply.headers.iter().find(|(name, _)| *name == "www-authenticate");
    header.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn nonce(refusal: &Refusal) -> Option<String> {
    let reply = reply(refusal, "orders");
    let header = reply.headers.iter().find(|(name, _)| *name == "dpop-nonce");
    header.map(|(_, value)| value.clone())
}

#[track_caller]
fn check(refusal: &Refusal, reason: DenyReason, expected_challenge: &str) {
    assert_eq!((refusal.reason, refusal.decided_by), (reason, DecidedBy::Token));
    assert_eq!(challenge(refusal), expected_challenge);
}

fn required() -> Value {
    let mut document = configuration();
    document["rules"][1]["proof_of_possession"] = "required".into();
    document
}

#[test]
fn a_bound_token_is_taken_with_its_proof() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let caller = caller(&token).header("dpop", &proof(&token, &[]));
    let (permit, notes) = sidecar.permits(&caller);
    assert_eq!(notes.proof_passed, Some(true));
    assert_eq!(permit.next_nonce(), None);
    let removed: Vec<_> = permit.headers_to_remove().collect();
    assert_eq!(removed, ["authorization", "dpop"]);
}

#[test]
fn the_upstream_gets_the_proof_with_the_credential_or_not_at_all() {
    let removed = |document: &Value, caller: &Caller| {
        let (permit, _) = Sidecar::with(document).permits(caller);
        permit.headers_to_remove().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut forwards = configuration();
    forwards["forward_credential"] = true.into();
    let token = bound_token(&Sidecar::new());
    let with_proof = caller(&token).header("dpop", &proof(&token, &[]));
    assert_eq!(removed(&forwards, &with_proof), [""; 0]);
    // One that nobody asked for goes as well, unless the rule looks at no credential.
    let stray = Caller::new().header("dpop", "x");
    assert_eq!(
        removed(&configuration(), &stray.clone().get("/local")),
        ["authorization", "dpop"]
    );
    assert_eq!(removed(&configuration(), &stray.get("/open")), [""; 0]);
}

#[test]
fn a_bound_token_is_no_bearer_token() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let with_proof = Caller::new()
        .get("/local")
        .bearer(&token)
        .header("dpop", &proof(&token, &[]));
    let refusal = sidecar.refuses(&with_proof);
    check(
        &refusal,
        DenyReason::TokenSentAsBearer,
        &format!(
            "DPoP realm=\"orders\", error=\"invalid_token\", error_description=\"The token is bound to a key and must be sent \
             with a DPoP proof.\", algs=\"{ALGORITHMS_BY_DEFAULT}\""
        ),
    );
    // Nor is it in a place that knows no scheme.
    let mut document = configuration();
    document["providers"][0]["sources"] = json!([{"cookie": "session"}]);
    let mut sidecar = Sidecar::with(&document);
    let in_cookie = Caller::new()
        .get("/local")
        .no_bearer()
        .header("cookie", &format!("session={token}"))
        .header("dpop", &proof(&token, &[]));
    assert_eq!(sidecar.refuses(&in_cookie).reason, DenyReason::TokenSentAsBearer);
}

#[test]
fn the_scheme_needs_a_bound_token() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[]);
    let refusal = sidecar.refuses(&caller(&token).header("dpop", &proof(&token, &[])));
    check(
        &refusal,
        DenyReason::TokenNotBound,
        &format!(
            "DPoP realm=\"orders\", error=\"invalid_token\", error_description=\"The token is not bound to a key or a certificate.\", \
             algs=\"{ALGORITHMS_BY_DEFAULT}\""
        ),
    );
}

#[test]
fn each_thing_wrong_with_a_proof_has_its_reason_and_its_error() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let mut check_proof = |fields: &[&str], reason: DenyReason, error: &str| {
        let mut caller = caller(&token);
        for field in fields {
            caller = caller.one_more_header("dpop", field);
        }
        let refusal = sidecar.refuses(&caller);
        let expected = format!(
            "DPoP realm=\"orders\", error=\"{error}\", error_description=\"{}\", algs=\"{ALGORITHMS_BY_DEFAULT}\"",
            reason.title()
        );
        check(&refusal, reason, &expected);
        assert_eq!((refusal.reason.status(), nonce(&refusal)), (401, None));
    };
    let changed = |name, value: Value| proof(&token, &[(name, value)]);
    let good = proof(&token, &[]);
    let (proof_error, invalid) = ("invalid_dpop_proof", DenyReason::DpopProofInvalid);
    check_proof(&[], DenyReason::DpopProofMissing, proof_error);
    check_proof(&[&good, &good], invalid, proof_error);
    check_proof(&["x"], invalid, proof_error);
    check_proof(&[&changed("htm", "POST".into())], invalid, proof_error);
    check_proof(
        &[&changed("htu", "https://orders.example.org/".into())],
        invalid,
        proof_error,
    );
    check_proof(&[&changed("ath", thumbprint().into())], invalid, proof_error);
    check_proof(
        &[&changed("iat", (NOW_S - 60).into())],
        DenyReason::DpopProofStale,
        proof_error,
    );
    for (claim, seconds) in [("iat", NOW_S + 6), ("exp", NOW_S - 5), ("exp", 0), ("nbf", NOW_S + 6)] {
        check_proof(
            &[&changed(claim, seconds.into())],
            DenyReason::DpopProofStale,
            proof_error,
        );
    }
    check_proof(&[&changed("exp", "soon".into())], invalid, proof_error);
    let other = sidecar_token_bound_to_another_key();
    let refusal = Sidecar::new().refuses(&caller(&other).header("dpop", &proof(&other, &[])));
    // RFC 9449 figure 16.
    check(
        &refusal,
        DenyReason::DpopKeyMismatch,
        &format!(
            "DPoP realm=\"orders\", error=\"invalid_token\", error_description=\"{}\", algs=\"{ALGORITHMS_BY_DEFAULT}\"",
            DenyReason::DpopKeyMismatch.title()
        ),
    );
}

/// RFC 1034 §3.1: Envoy takes the dot off the request's host where it is told to.
#[test]
fn a_host_with_a_trailing_dot_is_the_same_host() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    for (id, htu, expected) in [
        ("a", "https://orders.example.org./local", Ok(())),
        ("b", "https://orders.example.org.:443/local", Ok(())),
        (
            "c",
            "https://orders.example.org../local",
            Err(DenyReason::DpopProofInvalid),
        ),
        (
            "d",
            "https://orders.example.org.evil/local",
            Err(DenyReason::DpopProofInvalid),
        ),
    ] {
        let caller = caller(&token).header("dpop", &proof(&token, &[("jti", id.into()), ("htu", htu.into())]));
        match expected {
            Ok(()) => drop(sidecar.permits(&caller)),
            Err(reason) => assert_eq!(sidecar.refuses(&caller).reason, reason, "{htu}"),
        }
    }
}

fn sidecar_token_bound_to_another_key() -> String {
    let other = URL_SAFE_NO_PAD.encode(Sha256::digest("another key"));
    Sidecar::new().token(&[("cnf", json!({"jkt": other}))])
}

#[test]
fn a_proof_is_looked_at_for_each_request_however_well_token_and_decision_are_known() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let send = |id: &str| {
        let for_orders = [
            ("jti", Value::from(id)),
            ("htu", "https://orders.example.org/orders/7".into()),
        ];
        caller(&token)
            .get("/orders/7")
            .header("dpop", &proof(&token, &for_orders))
    };
    let (request, pending) = sidecar.asks(&send("j-1"));
    assert!(request.principal.unwrap().is_bound);
    sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
    sidecar.permits(&send("j-2"));
    for id in ["j-1", "j-2"] {
        assert_eq!(sidecar.refuses(&send(id)).reason, DenyReason::DpopProofReplayed);
    }
    let without = caller(&token).get("/orders/7");
    assert_eq!(sidecar.refuses(&without).reason, DenyReason::DpopProofMissing);
    let elsewhere = caller(&token).get("/local").header("dpop", &with_id(&token, "j-3"));
    sidecar.permits(&elsewhere);
}

#[test]
fn a_full_ledger_refuses_for_now() {
    let mut document = configuration();
    document["dpop"] = json!({"ledger_entries_max": 1024});
    let mut sidecar = Sidecar::with(&document);
    let token = bound_token(&sidecar);
    // A bucket holds one: soon two proofs fall into the same.
    let refusal = (0..1024).find_map(|number: u32| {
        let caller = caller(&token).header("dpop", &with_id(&token, &number.to_string()));
        match sidecar.sends(&caller).0 {
            Step::Decided(verdict) => verdict.err(),
            other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                panic!("expected a verdict, got {other:?}")
            }
        }
    });
    let refusal = refusal.unwrap();
    assert_eq!(refusal.reason, DenyReason::DpopLedgerFull);
    let reply = reply(&refusal, "orders");
    assert!(reply.status == 503 && reply.headers.contains(&("retry-after", "1".to_owned())));
    assert_eq!(challenge(&refusal), "");
}

#[test]
fn a_rule_can_take_bound_tokens_alone() {
    let mut sidecar = Sidecar::with(&required());
    let unbound = sidecar.refuses(&Caller::new().get("/local"));
    assert_eq!(unbound.reason, DenyReason::TokenNotBound);
    assert!(challenge(&unbound).starts_with("DPoP realm=\"orders\", error=\"invalid_token\""));
    // RFC 9449 §7.1: without a credential the challenge names no error.
    let none = sidecar.refuses(&Caller::new().get("/local").no_bearer());
    check(
        &none,
        DenyReason::CredentialMissing,
        &format!("DPoP realm=\"orders\", algs=\"{ALGORITHMS_BY_DEFAULT}\""),
    );
    let token = bound_token(&sidecar);
    sidecar.permits(&caller(&token).header("dpop", &proof(&token, &[])));
    // Other rules do not.
    sidecar.asks(&Caller::new().get("/orders/7"));
}

#[test]
fn a_refused_token_of_the_scheme_is_told_in_the_scheme() {
    let mut sidecar = Sidecar::new();
    let expired = sidecar.token(&[("cnf", json!({"jkt": thumbprint()})), ("exp", (NOW_S - 60).into())]);
    let refusal = sidecar.refuses(&caller(&expired).header("dpop", &proof(&expired, &[])));
    assert_eq!(refusal.reason, DenyReason::TokenExpired);
    assert!(challenge(&refusal).starts_with("DPoP realm=\"orders\", error=\"invalid_token\""));
    let mut document = configuration();
    document["rules"][1]["scopes"] = json!(["orders.read"]);
    let mut sidecar = Sidecar::with(&document);
    let token = bound_token(&sidecar);
    let refusal = sidecar.refuses(&caller(&token).header("dpop", &proof(&token, &[])));
    check(
        &refusal,
        DenyReason::TokenScopeInsufficient,
        &format!(
            "DPoP realm=\"orders\", error=\"insufficient_scope\", error_description=\"The token lacks a required scope.\", \
             scope=\"orders.read\", algs=\"{ALGORITHMS_BY_DEFAULT}\""
        ),
    );
    // A bearer token is told as ever.
    let refusal = sidecar.refuses(&Caller::new().get("/local").bearer("x"));
    assert!(challenge(&refusal).starts_with("Bearer realm=\"orders\", error=\"invalid_token\""));
}

#[test]
fn who_does_not_hold_the_token_learns_nothing_of_what_it_allows() {
    let mut document = configuration();
    document["rules"][1]["scopes"] = json!(["orders.read"]);
    let mut sidecar = Sidecar::with(&document);
    let token = bound_token(&sidecar);
    assert_eq!(sidecar.refuses(&caller(&token)).reason, DenyReason::DpopProofMissing);
}

#[test]
fn a_required_nonce_is_told_and_renewed() {
    let mut document = configuration();
    document["dpop"] = json!({"nonce": "required", "nonce_window_s": 30, "algorithms": ["ES256"]});
    let mut sidecar = Sidecar::with(&document);
    let token = bound_token(&sidecar);
    let mut ids = 0..;
    let mut send = |nonce: Option<&str>, later_s: i64| {
        let id = ids.next().unwrap().to_string();
        let mut claims = vec![("jti", Value::from(id)), ("iat", (NOW_S + later_s).into())];
        claims.extend(nonce.map(|nonce| ("nonce", Value::from(nonce))));
        caller(&token).header("dpop", &proof(&token, &claims))
    };
    let refusal = sidecar.refuses(&send(None, 0));
    check(
        &refusal,
        DenyReason::DpopNonceRequired,
        "DPoP realm=\"orders\", error=\"use_dpop_nonce\", error_description=\"The DPoP proof needs the nonce in this answer.\", \
         algs=\"ES256\"",
    );
    let first = nonce(&refusal).unwrap();
    assert_eq!(sidecar.permits(&send(Some(&first), 0)).0.next_nonce(), None);
    sidecar.later_ms(30_000);
    let (permit, _) = sidecar.permits(&send(Some(&first), 30));
    let second = permit.next_nonce().unwrap().to_owned();
    assert_ne!(first, second);
    sidecar.later_ms(30_000);
    let refusal = sidecar.refuses(&send(Some(&first), 60));
    assert_eq!(refusal.reason, DenyReason::DpopNonceRequired);
    assert!(nonce(&refusal).is_some_and(|third| third != first && third != second));
    sidecar.permits(&send(Some(&second), 60));
    // Who comes without a credential is not told: the rule does not say that a proof is needed.
    assert_eq!(nonce(&sidecar.refuses(&Caller::new().get("/local").no_bearer())), None);
}

#[test]
fn the_scheme_of_htu_is_as_configured() {
    let mut document = configuration();
    let verdict = |document: &Value| {
        let mut sidecar = Sidecar::with(document);
        let token = bound_token(&sidecar);
        let plain = proof(&token, &[("htu", "http://orders.example.org/local".into())]);
        let (step, Notes { proof_passed, .. }) = sidecar.sends(&caller(&token).header("dpop", &plain));
        drop(step);
        proof_passed
    };
    assert_eq!(verdict(&document), Some(false));
    document["dpop"] = json!({"schemes": ["https", "http"]});
    assert_eq!(verdict(&document), Some(true));
}

#[test]
fn a_grpc_caller_is_challenged_in_metadata() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let refusal = sidecar.refuses(&caller(&token).header("content-type", "application/grpc"));
    assert_eq!(reply(&refusal, "orders").grpc_status, Some(16));
    assert!(challenge(&refusal).contains("invalid_dpop_proof"));
}

#[test]
fn no_change_of_a_byte_passes() {
    let mut sidecar = Sidecar::new();
    let token = bound_token(&sidecar);
    let good = proof(&token, &[]);
    for index in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[index] ^= 1;
        let changed = String::from_utf8(changed).unwrap();
        let refusal = sidecar.refuses(&caller(&token).header("dpop", &changed));
        assert_ne!(refusal.reason, DenyReason::DpopProofReplayed, "{changed}");
    }
    sidecar.permits(&caller(&token).header("dpop", &good));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is sent as a proof, the answer is a refusal and not a panic.
    #[test]
    fn no_bytes_are_a_proof(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>(), raw in any::<Vec<u8>>(), is_raw: bool) {
        let mut sidecar = Sidecar::new();
        let token = bound_token(&sidecar);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let value = match is_raw {
            true => raw,
            false => format!("{}.{}.{}", part(&header), part(&claims), part(&raw)).into_bytes(),
        };
        let refusal = sidecar.refuses(&caller(&token).header_bytes("dpop", &value));
        prop_assert_eq!(refusal.reason, DenyReason::DpopProofInvalid);
    }
}

mod certificates {
    use super::*;

    fn token(sidecar: &Sidecar, digest: [u8; 32]) -> String {
        sidecar.token(&[("cnf", json!({"x5t#S256": URL_SAFE_NO_PAD.encode(digest)}))])
    }

    #[test]
    fn a_token_is_taken_on_a_connection_of_its_certificate_alone() {
        let mut sidecar = Sidecar::new();
        let token = token(&sidecar, [7; 32]);
        // `/open` asks for no peer and no token, `/local` for both.
        let caller = Caller::new().get("/local").bearer(&token);
        // The second time the token is known.
        for _ in 0..2 {
            sidecar.permits(&caller.clone().certificate([7; 32]));
            for other in [caller.clone().certificate([8; 32]), caller.clone()] {
                let refusal = sidecar.refuses(&other);
                assert_eq!(
                    (refusal.reason, refusal.decided_by),
                    (DenyReason::TokenCertificateMismatch, DecidedBy::Token)
                );
                // RFC 8705 §3: as RFC 6750 has it for a token that is no good.
                let headers = reply(&refusal, "orders").headers;
                let challenge = headers.iter().find(|(name, _)| *name == "www-authenticate").unwrap();
                assert!(
                    challenge
                        .1
                        .starts_with("Bearer realm=\"orders\", error=\"invalid_token\""),
                    "{}",
                    challenge.1
                );
            }
        }
        sidecar.permits(&Caller::new().get("/open").bearer(&token));
    }

    #[test]
    fn a_rule_without_peers_holds_a_bound_token_to_its_certificate_all_the_same() {
        let mut document = configuration();
        document["rules"][1]["peer"] = "none".into();
        let mut sidecar = Sidecar::with(&document);
        let caller = Caller::new().get("/local").bearer(&token(&sidecar, [7; 32]));
        sidecar.permits(&caller.clone().certificate([7; 32]));
        assert_eq!(
            sidecar.refuses(&caller.clone().no_peer()).reason,
            DenyReason::TokenCertificateMismatch
        );
    }

    #[test]
    fn a_rule_that_requires_possession_takes_a_certificate_for_it() {
        let mut document = configuration();
        document["rules"][1]["proof_of_possession"] = "required".into();
        let mut sidecar = Sidecar::with(&document);
        let bound = token(&sidecar, [7; 32]);
        let caller = Caller::new().get("/local").certificate([7; 32]);
        sidecar.permits(&caller.clone().bearer(&bound));
        assert_eq!(sidecar.refuses(&caller).reason, DenyReason::TokenNotBound);
    }

    #[test]
    fn the_policy_service_is_told_what_was_proved_and_no_more() {
        let mut sidecar = Sidecar::new();
        let cnf = json!({"jkt": thumbprint(), "x5t#S256": URL_SAFE_NO_PAD.encode([7; 32])});
        let bound = sidecar.token(&[("cnf", cnf)]);
        let possession = |sidecar: &mut Sidecar, caller: &Caller| sidecar.asks(caller).0.context.possession;
        let proof = proof(&bound, &[("htu", "https://orders.example.org/orders/7".into())]);
        let both = caller(&bound).get("/orders/7").header("dpop", &proof);
        let proved = possession(&mut sidecar, &both.certificate([7; 32]));
        assert_eq!(proved.certificate, Some(CertificateThumbprint([7; 32])));
        assert_eq!(proved.key, KeyThumbprint::from_base64url(&thumbprint()));
        let bearer = Caller::new().get("/orders/7").certificate([8; 32]);
        let proved = possession(&mut sidecar, &bearer);
        assert_eq!(proved.certificate, Some(CertificateThumbprint([8; 32])));
        assert_eq!(proved.key, None);
        // A name alone is no certificate.
        assert_eq!(
            possession(&mut sidecar, &Caller::new().get("/orders/8")),
            Possession::default()
        );
    }

    #[test]
    fn a_cached_decision_is_for_nobody_but_the_holder() {
        let mut sidecar = Sidecar::new();
        let caller = Caller::new()
            .get("/orders/7")
            .bearer(&token(&sidecar, [7; 32]))
            .certificate([7; 32]);
        let (_, pending) = sidecar.asks(&caller);
        sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
        sidecar.permits(&caller);
        let thief = caller.certificate([8; 32]);
        assert_eq!(sidecar.refuses(&thief).reason, DenyReason::TokenCertificateMismatch);
    }

    #[test]
    fn a_token_that_is_bound_twice_needs_both() {
        let mut sidecar = Sidecar::new();
        let cnf = json!({"jkt": thumbprint(), "x5t#S256": URL_SAFE_NO_PAD.encode([7; 32])});
        let token = sidecar.token(&[("cnf", cnf)]);
        let with_proof = |id: &str| caller(&token).header("dpop", &with_id(&token, id));
        sidecar.permits(&with_proof("j-1").certificate([7; 32]));
        assert_eq!(
            sidecar.refuses(&with_proof("j-2")).reason,
            DenyReason::TokenCertificateMismatch
        );
        let bearer = Caller::new().get("/local").bearer(&token).certificate([7; 32]);
        assert_eq!(sidecar.refuses(&bearer).reason, DenyReason::TokenSentAsBearer);
    }

    #[test]
    fn the_detail_names_the_member_that_is_no_hash() {
        let mut sidecar = Sidecar::new();
        let hash = URL_SAFE_NO_PAD.encode([7; 32]);
        for (member, value) in [
            ("x5t#S256", json!(format!("{hash}="))),
            ("x5t#S256", json!(hash.get(1..))),
            ("x5t#S256", json!(7)),
            ("jkt", json!(format!("{hash}="))),
            ("jkt", json!("")),
        ] {
            let token = sidecar.token(&[("cnf", json!({member: value}))]);
            let refusal = sidecar.refuses(&Caller::new().get("/local").bearer(&token));
            assert_eq!(refusal.reason, DenyReason::TokenMalformed);
            let detail = format!("`cnf.{member}` is not a SHA-256 hash in base64url without padding");
            assert_eq!(refusal.detail, Some(detail), "{value}");
        }
    }

    #[test]
    fn a_mismatch_says_why_the_connection_has_no_certificate() {
        let mut document = configuration();
        document["rules"] = json!([
            {"id": "a", "hosts": ["*"], "paths": ["/a"], "peer": "none", "decision": "permit"},
        ]);
        let mut sidecar = Sidecar::with(&document);
        let caller = Caller::new()
            .get("/a")
            .bearer(&token(&sidecar, [7; 32]))
            .certificate([7; 32]);
        sidecar.permits(&caller);
        for (caller, detail) in [
            (
                caller.clone().peer_valid(0, NOW_S),
                Some("the client certificate has expired"),
            ),
            (caller.clone().no_peer(), Some("no client certificate was presented")),
            (caller.certificate([8; 32]), None),
        ] {
            let refusal = sidecar.refuses(&caller);
            assert_eq!(refusal.reason, DenyReason::TokenCertificateMismatch);
            assert_eq!(refusal.detail.as_deref(), detail);
        }
    }
}
