//! Opaque tokens: whom the sidecar asks about them, what an answer makes of them, and for how long.

use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Notes, PendingIntrospection, Permit, Step, Verdict, Verification, reply};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_core::token::introspection::IntrospectionResult;
use picket_core::token::remote_keys::response::{FetchError, HttpResponse};
use picket_model::decision::Effect;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::possession::{self, proof, thumbprint};
use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";

/// Beside the provider with keys, one that looks tokens up from the same place.
fn document() -> Value {
    let mut document = configuration();
    let opaque = json!({
        "name": "opaque", "issuer": "https://as.example", "audiences": ["orders"],
        "introspection": {
            "uri": "https://as.example/introspect", "cluster": "as", "client_id": "orders", "secret_variable": "AS_SECRET",
        },
    });
    document["providers"].as_array_mut().unwrap().push(opaque);
    document
}

/// With these members of the second provider changed, or those of its `introspection`.
fn changed(provider: Value, introspection: Value) -> Value {
    let mut document = document();
    let merge = |into: &mut Value, changes: Value| {
        for (name, value) in changes.as_object().unwrap() {
            into[name] = value.clone();
        }
    };
    merge(&mut document["providers"][1], provider);
    merge(&mut document["providers"][1]["introspection"], introspection);
    document
}

fn with(document: &Value) -> Sidecar {
    Sidecar::with_environment(document, |name| (name == "AS_SECRET").then(|| "s3cret".to_owned()))
}

fn sidecar() -> Sidecar {
    with(&document())
}

fn caller() -> Caller {
    Caller::new().get("/local").bearer(TOKEN)
}

/// An answer about an active token for an hour, with these members changed; `null` takes one out.
fn active(changes: Value) -> String {
    let mut answer = json!({"active": true, "sub": "alice", "aud": "orders", "exp": NOW_S + 3600});
    let Value::Object(changes) = changes else {
        panic!("not an object")
    };
    for (name, value) in changes {
        let members = answer.as_object_mut().unwrap();
        match value.is_null() {
            true => drop(members.remove(&name)),
            false => drop(members.insert(name, value)),
        }
    }
    answer.to_string()
}

fn tells(sidecar: &mut Sidecar, pending: PendingIntrospection, body: &str, caller: &Caller) -> (Step, Notes) {
    let headers = [(":status", &b"200"[..])];
    let answer = HttpResponse {
        headers: &headers,
        body: body.as_bytes(),
    };
    sidecar.told(pending, Ok(answer), caller)
}

#[track_caller]
fn decided((step, notes): (Step, Notes)) -> (Verdict, Notes) {
    match step {
        Step::Decided(verdict) => (verdict, notes),
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
            panic!("expected a verdict, got {other:?}")
        }
    }
}

/// The caller's token is asked about, and this is the answer.
#[track_caller]
fn asks_and_hears(sidecar: &mut Sidecar, caller: &Caller, body: &str) -> (Verdict, Notes) {
    let pending = sidecar.introspects(caller).pending;
    decided(tells(sidecar, pending, body, caller))
}

#[track_caller]
fn passes(sidecar: &mut Sidecar, caller: &Caller, body: &str) -> Permit {
    asks_and_hears(sidecar, caller, body).0.unwrap()
}

#[test]
fn a_token_is_asked_about_once_and_then_known() {
    let mut sidecar = sidecar();
    let (step, notes) = sidecar.sends(&caller());
    assert_eq!(notes, Notes::default());
    let Step::Introspect(introspection) = step else {
        panic!("{step:?}")
    };
    let request = &introspection.request;
    assert_eq!((request.cluster(), request.timeout_ms()), ("as", 1_000));
    let body = format!("token={TOKEN}&token_type_hint=access_token");
    assert_eq!(request.body(), body.as_bytes());
    assert!(
        request
            .headers()
            .contains(&("authorization", "Basic b3JkZXJzOnMzY3JldA=="))
    );
    assert!(!format!("{introspection:?}").contains(TOKEN));

    let answer = active(json!({"scope": "read write", "client_id": "web", "username": "Alice"}));
    let (verdict, notes) = decided(tells(&mut sidecar, introspection.pending, &answer, &caller()));
    assert_eq!(notes.introspection, Some(IntrospectionResult::Active));
    let permit = verdict.unwrap();
    assert_eq!(permit.headers_to_remove().collect::<Vec<_>>(), ["authorization"]);
    let told: Vec<_> = permit.headers_to_set().collect();
    for expected in [
        ("x-picket-issuer", "https://as.example"),
        ("x-picket-subject", "alice"),
        ("x-picket-scopes", "read,write"),
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
    let (_, notes) = sidecar.permits(&caller());
    assert_eq!(
        notes.verifications.iter().collect::<Vec<_>>(),
        [(Verification::Cached, true)]
    );
    assert_eq!(notes.introspection, None);
}

#[test]
fn only_what_no_provider_can_verify_is_asked_about() {
    let mut sidecar = sidecar();
    let good = sidecar.token(&[]);
    sidecar.permits(&Caller::new().get("/local").bearer(&good));
    let refused = |sidecar: &mut Sidecar, token: &str| sidecar.refuses(&caller().bearer(token)).reason;
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, claims) = signed.split_once('.').unwrap();
    // {"alg":"none"}, and {"alg":"ES256","crit":["exp"]}.
    let (none, critical) = ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiZXhwIl19");
    for (token, reason) in [
        (format!("{signed}.AAAA"), DenyReason::TokenSignatureInvalid),
        (format!("{signed}."), DenyReason::TokenSignatureInvalid),
        (format!("{none}.{claims}."), DenyReason::TokenAlgorithmRefused),
        (format!("{critical}.{claims}.{signature}"), DenyReason::TokenMalformed),
        (format!("bm90IGpzb24.{claims}.{signature}"), DenyReason::TokenMalformed),
        (
            sidecar.token(&[("aud", "other".into())]),
            DenyReason::TokenAudienceMismatch,
        ),
        (sidecar.token(&[("exp", (NOW_S - 61).into())]), DenyReason::TokenExpired),
        ("a b".to_owned(), DenyReason::CredentialMalformed),
        (String::new(), DenyReason::CredentialMalformed),
        ("a,b".to_owned(), DenyReason::CredentialMalformed),
        ("a".repeat(16_385), DenyReason::TokenMalformed),
    ] {
        assert_eq!(refused(&mut sidecar, &token), reason, "{token}");
    }
    for token in [
        sidecar.token(&[("iss", "https://as.example".into())]),
        sidecar.token(&[("iss", "https://other.example".into())]),
        sidecar.token(&[("iss", Value::Null)]),
        "a.b.c".to_owned(),
        "a.b.c.d.e".to_owned(),
        "==".to_owned(),
        "a".repeat(16_384),
    ] {
        sidecar.introspects(&caller().bearer(&token));
    }
}

#[test]
fn a_token_from_another_place_is_none_of_the_endpoints_business() {
    let document = changed(json!({"sources": [{"header": "x-opaque"}]}), json!({}));
    let mut sidecar = with(&document);
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::TokenMalformed);
    // Neither has it keys for a JWT that says that it is its own.
    let token = sidecar.token(&[("iss", "https://as.example".into())]);
    assert_eq!(
        sidecar.refuses(&caller().bearer(&token)).reason,
        DenyReason::TokenIssuerUnknown
    );
    let caller = Caller::new().get("/local").no_bearer().header("x-opaque", TOKEN);
    passes(&mut sidecar, &caller, &active(json!({})));
    sidecar.permits(&caller);
    // What is known is known of its own place alone.
    assert_eq!(sidecar.refuses(&self::caller()).reason, DenyReason::CredentialMisplaced);
}

#[track_caller]
fn check(document: &Value, changes: Value, expected: Result<(), DenyReason>) {
    let mut sidecar = with(document);
    let answer = active(changes);
    let (verdict, _) = asks_and_hears(&mut sidecar, &caller(), &answer);
    let got = verdict.map(|_| ()).map_err(|refusal| refusal.reason);
    assert_eq!(got, expected, "{answer}");
    // A good token that is only sent in the wrong way is known all the same.
    if expected.is_err_and(|reason| reason != DenyReason::TokenSentAsBearer) {
        sidecar.introspects(&caller());
    }
}

#[test]
fn an_active_token_must_fit_like_any_other() {
    let plain = document();
    for (changes, expected) in [
        (json!({}), Ok(())),
        (json!({"iss": "https://as.example"}), Ok(())),
        (
            json!({"iss": "https://issuer.example"}),
            Err(DenyReason::TokenIssuerUnknown),
        ),
        (
            json!({"iss": "https://as.example/"}),
            Err(DenyReason::TokenIssuerUnknown),
        ),
        (json!({"aud": ["x", "orders"]}), Ok(())),
        (json!({"aud": "x"}), Err(DenyReason::TokenAudienceMismatch)),
        (json!({"aud": []}), Err(DenyReason::TokenAudienceMismatch)),
        (json!({"aud": null}), Err(DenyReason::TokenAudienceMismatch)),
        (json!({"sub": null}), Err(DenyReason::TokenClaimMissing)),
        (json!({"sub": ""}), Err(DenyReason::TokenClaimMissing)),
        (json!({"exp": null}), Err(DenyReason::TokenClaimMissing)),
        (json!({"exp": NOW_S - 61}), Err(DenyReason::TokenExpired)),
        (json!({"nbf": NOW_S + 61}), Err(DenyReason::TokenNotYetValid)),
        (json!({"token_type": "bearer"}), Ok(())),
        (json!({"token_type": "mac"}), Err(DenyReason::TokenClaimRefused)),
        (json!({"token_type": "N_A"}), Err(DenyReason::TokenClaimRefused)),
        // These are no answers.
        (json!({"iss": 7}), Err(DenyReason::IntrospectionUnavailable)),
        (json!({"aud": 7}), Err(DenyReason::IntrospectionUnavailable)),
        (json!({"sub": ["alice"]}), Err(DenyReason::IntrospectionUnavailable)),
        (json!({"exp": "soon"}), Err(DenyReason::IntrospectionUnavailable)),
        (json!({"token_type": 7}), Err(DenyReason::IntrospectionUnavailable)),
        (json!({"token_type": "DPoP"}), Err(DenyReason::IntrospectionUnavailable)),
        // RFC 9449 §6.2: such an answer says `DPoP`, if it says a type.
        (
            json!({"token_type": "Bearer", "cnf": {"jkt": thumbprint()}}),
            Err(DenyReason::IntrospectionUnavailable),
        ),
        (json!({"cnf": {"kid": "k"}}), Err(DenyReason::IntrospectionUnavailable)),
        (
            json!({"cnf": {"jkt": thumbprint()}}),
            Err(DenyReason::TokenSentAsBearer),
        ),
        (
            json!({"token_type": "DPoP", "cnf": {"jkt": thumbprint()}}),
            Err(DenyReason::TokenSentAsBearer),
        ),
    ] {
        check(&plain, changes, expected);
    }
    let open = changed(json!({}), json!({"audience": "none"}));
    check(&open, json!({"aud": null}), Ok(()));
    check(&open, json!({"aud": "x"}), Err(DenyReason::TokenAudienceMismatch));
    check(&open, json!({"aud": []}), Err(DenyReason::TokenAudienceMismatch));
    let strict = changed(
        json!({"subjects": ["ci-*"], "required_claims": [{"claim": "token_use", "values": ["access_token"]}]}),
        json!({}),
    );
    check(&strict, json!({}), Err(DenyReason::TokenSubjectRefused));
    check(&strict, json!({"sub": "ci-7"}), Err(DenyReason::TokenClaimMissing));
    let refresh = json!({"sub": "ci-7", "token_use": "refresh_token"});
    check(&strict, refresh, Err(DenyReason::TokenClaimRefused));
    check(&strict, json!({"sub": "ci-7", "token_use": "access_token"}), Ok(()));
    let short = changed(json!({"lifetime_s_max": 600}), json!({}));
    check(&short, json!({}), Err(DenyReason::TokenLifetimeRefused));
}

#[test]
fn no_failure_lets_a_request_go_on_and_none_is_remembered() {
    let status = |status| FetchError::EndpointStatus(status);
    for (error, result) in [
        (FetchError::HostRefused, IntrospectionResult::Unavailable),
        (FetchError::EndpointUnreachable, IntrospectionResult::Unavailable),
        (status(504), IntrospectionResult::Unavailable),
        (status(401), IntrospectionResult::Rejected),
        (FetchError::AnswerTooLarge, IntrospectionResult::Invalid),
    ] {
        let mut sidecar = sidecar();
        // The second time it is asked again.
        for _ in 0..2 {
            let pending = sidecar.introspects(&caller()).pending;
            let (verdict, notes) = decided(sidecar.told(pending, Err(error.clone()), &caller()));
            let refusal = verdict.unwrap_err();
            assert_eq!(notes.introspection, Some(result));
            assert_eq!(
                (refusal.reason, refusal.decided_by),
                (DenyReason::IntrospectionUnavailable, DecidedBy::Token)
            );
            let reply = reply(&refusal, "orders");
            assert_eq!(reply.status, 503);
            assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
            assert!(reply.body.contains("r-1"), "{}", reply.body);
        }
    }
}

#[test]
fn an_answer_with_another_status_is_none_whatever_it_says() {
    let mut sidecar = sidecar();
    for (status, result) in [
        (&b"401"[..], IntrospectionResult::Rejected),
        (b"302", IntrospectionResult::Rejected),
        (b"201", IntrospectionResult::Rejected),
        (b"500", IntrospectionResult::Unavailable),
    ] {
        let pending = sidecar.introspects(&caller()).pending;
        let (headers, body) = ([(":status", status)], active(json!({})));
        let answer = HttpResponse {
            headers: &headers,
            body: body.as_bytes(),
        };
        let (verdict, notes) = decided(sidecar.told(pending, Ok(answer), &caller()));
        assert_eq!(verdict.unwrap_err().reason, DenyReason::IntrospectionUnavailable);
        assert_eq!(notes.introspection, Some(result));
    }
}

#[test]
fn a_token_is_known_from_the_question_on_until_the_limit_or_its_end() {
    // What is known for how long, where the answer takes 400 ms.
    let known_ms = |introspection: Value, changes: Value| {
        let mut sidecar = with(&changed(json!({"expiry": "none"}), introspection));
        let pending = sidecar.introspects(&caller()).pending;
        sidecar.later_ms(400);
        decided(tells(&mut sidecar, pending, &active(changes), &caller()))
            .0
            .unwrap();
        (400..7_300_000)
            .step_by(100)
            .take_while(|_| {
                let is_known = matches!(sidecar.sends(&caller()).0, Step::Decided(Ok(_)));
                sidecar.later_ms(100);
                is_known
            })
            .last()
            .map(|ms| ms + 100)
    };
    assert_eq!(known_ms(json!({}), json!({})), Some(60_000));
    assert_eq!(known_ms(json!({"cache_s_max": 3600}), json!({})), Some(3_600_000));
    assert_eq!(known_ms(json!({"cache_s_max": 2}), json!({"exp": null})), Some(2_000));
    assert_eq!(known_ms(json!({"cache_s_max": 0}), json!({})), None);
    // Of its end the skew is no part: the issuer knows better whether the token is still good.
    assert_eq!(known_ms(json!({}), json!({"exp": NOW_S + 10})), Some(10_000));
    assert_eq!(known_ms(json!({}), json!({"exp": NOW_S - 10})), None);
}

#[test]
fn an_inactive_token_is_refused_and_that_is_known_for_a_while() {
    let mut sidecar = sidecar();
    let (verdict, notes) = asks_and_hears(&mut sidecar, &caller(), r#"{"active":false}"#);
    let refusal = verdict.unwrap_err();
    assert_eq!(refusal.reason, DenyReason::TokenInactive);
    assert_eq!(notes.introspection, Some(IntrospectionResult::Inactive));
    let answer = reply(&refusal, "orders");
    let challenge = answer.headers.iter().find(|(name, _)| *name == "www-authenticate");
    assert!(challenge.unwrap().1.contains("error=\"invalid_token\""));
    sidecar.later_ms(4_999);
    let (step, notes) = sidecar.sends(&caller());
    assert!(matches!(step, Step::Decided(Err(refusal)) if refusal.reason == DenyReason::TokenInactive));
    assert_eq!(notes.introspection, None);
    // Another one is not.
    sidecar.introspects(&caller().bearer("other"));
    sidecar.later_ms(1);
    sidecar.introspects(&caller());
    let mut forgetful = with(&changed(json!({}), json!({"cache_inactive_s": 0})));
    asks_and_hears(&mut forgetful, &caller(), r#"{"active":false}"#)
        .0
        .unwrap_err();
    forgetful.introspects(&caller());
}

#[test]
fn inactive_tokens_of_any_number_take_bounded_room_and_none_of_the_good_ones() {
    let mut sidecar = sidecar();
    passes(&mut sidecar, &caller(), &active(json!({})));
    let inactive = |number: u32| caller().bearer(&format!("{number}-same-end"));
    for number in 0..300 {
        asks_and_hears(&mut sidecar, &inactive(number), r#"{"active":false}"#)
            .0
            .unwrap_err();
    }
    // Some made room.
    let is_remembered = |number: &u32| matches!(sidecar.sends(&inactive(*number)).0, Step::Decided(Err(_)));
    let remembered = (0..300).filter(is_remembered).count();
    assert_eq!(remembered, 256);
    assert_eq!(sidecar.refuses(&inactive(299)).reason, DenyReason::TokenInactive);
    sidecar.permits(&caller());
}

#[test]
fn a_token_does_not_come_back_to_life() {
    let mut sidecar = sidecar();
    let [first, second, third] = [(); 3].map(|()| sidecar.introspects(&caller()).pending);
    decided(tells(&mut sidecar, first, &active(json!({})), &caller()))
        .0
        .unwrap();
    let (verdict, _) = decided(tells(&mut sidecar, second, r#"{"active":false}"#, &caller()));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenInactive);
    // What was known before is forgotten, and an older answer that was overtaken does not count.
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::TokenInactive);
    let (verdict, _) = decided(tells(&mut sidecar, third, &active(json!({})), &caller()));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenInactive);
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::TokenInactive);
}

/// Does not compile for a type that can be cloned, as it could not tell which of the two is meant.
trait Unrepeatable<Marker> {
    const HOLDS: bool = true;
}
impl<T> Unrepeatable<()> for T {}
impl<T: Clone> Unrepeatable<u8> for T {}

#[test]
fn a_waiting_request_is_answered_once_and_about_its_own_token() {
    // Its answer consumes it, and there is no second one of it.
    const { assert!(<PendingIntrospection as Unrepeatable<_>>::HOLDS && <Permit as Unrepeatable<_>>::HOLDS) };
    let mut sidecar = sidecar();
    let pending = sidecar.introspects(&caller()).pending;
    let other = caller().bearer("another");
    let (verdict, _) = decided(tells(&mut sidecar, pending, &active(json!({})), &other));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::HostFailure);
    sidecar.introspects(&other);
}

#[test]
fn the_answer_may_lead_to_a_question_to_the_policy_service() {
    let mut sidecar = sidecar();
    let caller = caller().get("/orders/7");
    let pending = sidecar.introspects(&caller).pending;
    let (step, _) = tells(&mut sidecar, pending, &active(json!({"scope": "read"})), &caller);
    let Step::Ask(question) = step else { panic!("{step:?}") };
    let principal = question.request.principal.as_ref().unwrap();
    assert_eq!(
        (principal.issuer.as_str(), principal.subject.as_str()),
        ("https://as.example", "alice")
    );
    assert_eq!(question.request.request_id, "r-1");
    let permit = sidecar
        .answers(question.pending, Ok(decision(Effect::Permit, 120_000)))
        .unwrap();
    assert_eq!(permit.decided_by(), DecidedBy::PolicyService);
    assert_eq!(sidecar.permits(&caller).0.decided_by(), DecidedBy::Cache);
    // The decision goes with the token that it was about.
    sidecar.later_ms(60_000);
    let pending = sidecar.introspects(&caller).pending;
    assert!(matches!(
        tells(&mut sidecar, pending, &active(json!({})), &caller).0,
        Step::Ask(_)
    ));
}

#[test]
fn a_token_that_ends_while_the_policy_service_thinks_is_refused() {
    let mut sidecar = with(&changed(json!({"clock_skew_s": 0}), json!({})));
    let caller = caller().get("/orders/7");
    let pending = sidecar.introspects(&caller).pending;
    let answer = active(json!({"exp": NOW_S + 1}));
    let (Step::Ask(question), _) = tells(&mut sidecar, pending, &answer, &caller) else {
        panic!("no question")
    };
    sidecar.later_ms(1_000);
    let verdict = sidecar.answers(question.pending, Ok(decision(Effect::Permit, 1_000)));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenExpired);
}

#[test]
fn what_has_changed_while_the_issuer_was_asked_counts() {
    let mut sidecar = sidecar();
    let caller = caller().get("/orders/7").peer_valid(NOW_S - 10, NOW_S + 1);
    let pending = sidecar.introspects(&caller).pending;
    sidecar.later_ms(1_000);
    let (verdict, _) = decided(tells(&mut sidecar, pending, &active(json!({})), &caller));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::PeerExpired);
}

#[test]
fn the_rule_has_its_say() {
    let mut document = document();
    document["rules"][1]["providers"] = json!(["main"]);
    let mut sidecar = with(&document);
    // Whatever the answer would be.
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::TokenProviderRefused);
    document["rules"][1]["providers"] = json!(["opaque"]);
    document["rules"][1]["scopes"] = json!(["write"]);
    let mut sidecar = with(&document);
    let (verdict, _) = asks_and_hears(&mut sidecar, &caller(), &active(json!({"scope": "read"})));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenScopeInsufficient);
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::TokenScopeInsufficient);
    document["rules"][1]["credential"] = json!("optional");
    document["rules"][1].as_object_mut().unwrap().remove("scopes");
    let mut sidecar = with(&document);
    sidecar.permits(&caller().no_bearer());
    let (verdict, _) = asks_and_hears(&mut sidecar, &caller(), r#"{"active":false}"#);
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenInactive);
    // Nobody is asked where no token is looked at, no rule matches, or the peer may not call.
    sidecar.permits(&caller().get("/open"));
    assert_eq!(sidecar.refuses(&caller().get("/nowhere")).reason, DenyReason::NoRule);
    assert_eq!(sidecar.refuses(&caller().no_peer()).reason, DenyReason::PeerMissing);
}

#[test]
fn access_rules_look_at_what_the_issuer_says() {
    let mut document = document();
    document["access"] = json!({"accept": [{"id": "staff", "when": [{"claim": "/realm/roles", "values": ["staff"]}]}]});
    let mut sidecar = with(&document);
    let (verdict, _) = asks_and_hears(&mut sidecar, &caller(), &active(json!({"realm": {"roles": ["guest"]}})));
    assert_eq!(verdict.unwrap_err().reason, DenyReason::AccessRuleNoAccept);
    let other = caller().bearer("another");
    passes(&mut sidecar, &other, &active(json!({"realm": {"roles": ["staff"]}})));
    // And again, from what is remembered.
    sidecar.permits(&other);
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::AccessRuleNoAccept);
}

#[test]
fn a_proof_is_looked_at_once_after_the_answer() {
    let mut sidecar = sidecar();
    let bound = active(json!({"token_type": "DPoP", "cnf": {"jkt": thumbprint()}}));
    let caller = possession::caller(TOKEN).header("dpop", &proof(TOKEN, &[]));
    let (step, notes) = sidecar.sends(&caller);
    assert_eq!(notes.proof_passed, None);
    let Step::Introspect(introspection) = step else {
        panic!("{step:?}")
    };
    let (verdict, notes) = decided(tells(&mut sidecar, introspection.pending, &bound, &caller));
    assert_eq!(notes.proof_passed, Some(true));
    let removed: Vec<String> = verdict.unwrap().headers_to_remove().map(str::to_owned).collect();
    assert_eq!(removed, ["authorization", "dpop"]);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::DpopProofReplayed);
    let again = possession::caller(TOKEN).header("dpop", &proof(TOKEN, &[("jti", "j-2".into())]));
    sidecar.permits(&again);
    assert_eq!(sidecar.refuses(&self::caller()).reason, DenyReason::TokenSentAsBearer);
}

#[test]
fn two_requests_with_one_proof_that_wait_at_once_get_one_permit() {
    let mut sidecar = sidecar();
    let bound = active(json!({"cnf": {"jkt": thumbprint()}}));
    let caller = possession::caller(TOKEN).header("dpop", &proof(TOKEN, &[]));
    let waiting = [(); 2].map(|()| sidecar.introspects(&caller).pending);
    let verdicts = waiting.map(|pending| decided(tells(&mut sidecar, pending, &bound, &caller)).0);
    let reasons = verdicts.map(|verdict| verdict.map(|_| ()).map_err(|refusal| refusal.reason));
    assert_eq!(reasons, [Ok(()), Err(DenyReason::DpopProofReplayed)]);
}

#[test]
fn the_scheme_promises_a_bound_token_and_its_challenge_says_how() {
    let mut sidecar = sidecar();
    let caller = possession::caller(TOKEN).header("dpop", &proof(TOKEN, &[]));
    for (answer, reason) in [
        (r#"{"active":false}"#.to_owned(), DenyReason::TokenInactive),
        (
            active(json!({"token_type": "bearer", "cnf": {"jkt": thumbprint()}})),
            DenyReason::IntrospectionUnavailable,
        ),
        (active(json!({})), DenyReason::TokenNotBound),
    ] {
        let (verdict, _) = asks_and_hears(&mut sidecar, &caller, &answer);
        let refusal = verdict.unwrap_err();
        assert_eq!(refusal.reason, reason);
        let reply = reply(&refusal, "orders");
        let challenge = reply.headers.iter().find(|(name, _)| *name == "www-authenticate");
        let scheme = challenge.and_then(|(_, value)| value.split(' ').next());
        assert_eq!(scheme, (reply.status == 401).then_some("DPoP"), "{reply:?}");
        sidecar.later_ms(5_000);
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_needs_its_connection() {
    let mut sidecar = sidecar();
    // SHA-256 of nothing in particular, in base64url.
    let bound = active(json!({"cnf": {"x5t#S256": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}}));
    let (verdict, _) = asks_and_hears(&mut sidecar, &caller(), &bound);
    assert_eq!(verdict.unwrap_err().reason, DenyReason::TokenCertificateMismatch);
    sidecar.permits(&caller().certificate([7; 32]));
    assert_eq!(
        sidecar.refuses(&caller().certificate([8; 32])).reason,
        DenyReason::TokenCertificateMismatch
    );
}

#[track_caller]
fn mistakes(document: &Value) -> Vec<String> {
    match FilterConfiguration::parse(document.to_string().as_bytes()) {
        Ok(_) => vec![],
        Err(problems) => problems.as_slice().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    let at = |introspection: Value| mistakes(&changed(json!({}), introspection));
    let prefix = "providers[1].introspection";
    for (change, expected) in [
        (json!({"timeout_ms": 0}), "timeout_ms: expected 1 to 60000, found 0"),
        (
            json!({"cache_s_max": 3601}),
            "cache_s_max: expected 0 to 3600, found 3601",
        ),
        (
            json!({"cache_inactive_s": 61}),
            "cache_inactive_s: expected 0 to 60, found 61",
        ),
        (
            json!({"client_id": ""}),
            "client_id: expected 1 to 256 visible ASCII characters",
        ),
        (
            json!({"client_id": "a\n"}),
            "client_id: expected 1 to 256 visible ASCII characters",
        ),
        (
            json!({"cluster": ""}),
            "cluster: expected 1 to 125 visible ASCII characters",
        ),
        (
            json!({"secret_variable": "A=B"}),
            "secret_variable: expected the name of an environment variable: letters, digits and `_`",
        ),
        (
            json!({"uri": "http://as.example/introspect"}),
            "uri: expected an absolute https URI of at most 2048 bytes, with a host and without user or fragment",
        ),
    ] {
        assert_eq!(at(change), [format!("{prefix}.{expected}")]);
    }
    for name in ["algorithms", "types", "payload_header"] {
        let value = match name {
            "payload_header" => json!("x-payload"),
            _ => json!(["RS256"]),
        };
        let found = mistakes(&changed(json!({name: value}), json!({})));
        assert!(
            found.contains(&format!("providers[1].{name}: expected none beside `introspection`")),
            "{found:?}"
        );
    }
    let keys = configuration()["providers"][0]["keys"].clone();
    assert_eq!(
        mistakes(&changed(json!({"keys": keys}), json!({}))),
        ["providers[1]: expected exactly one of `keys`, `remote_keys`, `introspection`"]
    );
}

#[test]
fn two_providers_that_could_both_be_asked_are_a_mistake() {
    let mut document = document();
    let mut third = document["providers"][1].clone();
    third["name"] = "third".into();
    third["issuer"] = "https://third.example".into();
    document["providers"].as_array_mut().unwrap().push(third);
    let expected = "providers[2].sources: expected places that provider `opaque` does not take opaque tokens from";
    assert_eq!(mistakes(&document), [expected]);
    document["providers"][2]["sources"] = json!([{"cookie": "session"}, {"header": "authorization"}]);
    assert_eq!(mistakes(&document), [expected]);
    document["providers"][2]["sources"] = json!([{"cookie": "session"}]);
    assert_eq!(mistakes(&document), [""; 0]);
}

#[test]
fn the_clients_secret_is_in_the_environment_and_nowhere_else() {
    let read = |value: Option<&str>| {
        let mut configuration = FilterConfiguration::parse(document().to_string().as_bytes()).unwrap();
        configuration
            .read_environment(|_| value.map(str::to_owned))
            .map_err(|problems| problems.to_string())
    };
    let name = "providers[1].introspection.secret_variable: the environment variable `AS_SECRET`";
    assert_eq!(
        read(None).unwrap_err(),
        format!("{name} is not set in `vm_config.environment_variables`")
    );
    for bad in ["", "s3cret\n"] {
        assert_eq!(
            read(Some(bad)).unwrap_err(),
            format!("{name}: expected 1 to 1024 bytes without control characters")
        );
    }
    assert!(read(Some("s3cret")).is_ok());
    // Who forgets to read it asks nobody.
    let refusal = Sidecar::with(&document()).refuses(&caller());
    assert_eq!(refusal.reason, DenyReason::IntrospectionUnavailable);
}

/// Answers near a good one: its members spoilt, doubled, left out, or wrapped.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        Just(json!("true")),
        Just(json!(1)),
        Just(Value::Null),
        Just(json!("orders")),
        Just(json!("alice")),
        Just(json!(NOW_S + 60)),
        Just(json!(["orders"])),
    ];
    let name = prop_oneof![
        Just("active"),
        Just("sub"),
        Just("aud"),
        Just("exp"),
        Just("iss"),
        Just("cnf"),
        Just("Active")
    ];
    let members = vec((name, value), 0..8).prop_map(|members| {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{name:?}:{value}"))
            .collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    let good = Just(active(json!({})).into_bytes());
    let altered = (good.clone(), any::<Index>(), any::<u8>()).prop_map(|(mut body, at, byte)| {
        let at = at.index(body.len());
        body[at] = byte;
        body
    });
    let cut = (good.clone(), any::<Index>()).prop_map(|(body, at)| body[..at.index(body.len())].to_vec());
    prop_oneof![members, altered, cut, good, vec(any::<u8>(), 0..80)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_answer_permits_unless_it_says_active_and_fits(body in body(), status in prop_oneof![Just("200"), Just("200"), Just("401"), Just("")]) {
        let mut sidecar = sidecar();
        let pending = sidecar.introspects(&caller()).pending;
        let headers = [(":status", status.as_bytes())];
        let (verdict, notes) = decided(sidecar.told(pending, Ok(HttpResponse { headers: &headers, body: &body }), &caller()));
        // A second reading, by another parser: of members with one name it takes the last, so these
        // are counted besides.
        let read: Option<Value> = serde_json::from_slice(&body).ok();
        let is_good = read.is_some_and(|it| {
            it["active"] == json!(true)
                && it["sub"].as_str().is_some_and(|sub| !sub.is_empty())
                && (it["aud"] == json!("orders") || it["aud"] == json!(["orders"]))
                && it["exp"].as_i64().is_some_and(|exp| exp > NOW_S - 60)
        });
        match verdict {
            Ok(_) => {
                prop_assert!(is_good && status == "200", "{:?}", String::from_utf8_lossy(&body));
                prop_assert_eq!(notes.introspection, Some(IntrospectionResult::Active));
            }
            Err(refusal) => {
                prop_assert!(matches!(refusal.reason.status(), 401 | 503));
                let text = format!("{refusal:?}{:?}", reply(&refusal, "orders"));
                prop_assert!(!text.contains(TOKEN));
                // And it is not known afterwards.
                prop_assert!(!matches!(sidecar.sends(&caller()).0, Step::Decided(Ok(_))));
            }
        }
    }
}
