//! Several providers of one issuer: each token is one provider's, by its keys and settings and no
//! other's, and under a rule it is one that the rule names.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::EncodePrivateKey;
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Step, Verification};
use picket_core::jose::TokenAlgorithm;
use picket_core::reason::DenyReason;
use picket_core::token::remote_keys::response::HttpResponse;
use serde_json::{Value, json};

use crate::key_sets::{jwk, signing_key};
use crate::support::{Caller, NOW_S, Sidecar, configuration};

const ISSUER: &str = "https://issuer.example";

/// `a` and `b` have one issuer and differ in everything else. A rule for each, and one for both.
fn document() -> Value {
    let mut document = configuration();
    let provider = |name: &str, key: u8, sources: Value| {
        json!({
            "name": name, "issuer": ISSUER, "audiences": [format!("aud-{name}")], "keys": {"keys": [jwk(key)]},
            "sources": sources, "roles_claim": format!("roles-{name}"),
            "claim_headers": [{"claim": "name", "header": format!("x-{name}-name")}],
        })
    };
    document["providers"] = json!([
        provider("a", 1, json!([{"header": "authorization"}, {"header": "x-both"}])),
        provider(
            "b",
            2,
            json!([{"header": "authorization"}, {"header": "x-b"}, {"header": "x-both"}])
        ),
    ]);
    let rule = |id: &str, path: &str, providers: Value| json!({"id": id, "hosts": ["*"], "paths": [path], "providers": providers, "decision": "permit"});
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/any"], "decision": "permit"},
        {"id": "asked", "hosts": ["*"], "paths": ["/asked"]},
        rule("both", "/both", json!(["b", "a"])),
        rule("only-a", "/a", json!(["a"])),
        rule("only-b", "/b", json!(["b"])),
    ]);
    document
}

/// With this member of the provider `b` changed; null takes it out.
fn with_b(member: &str, value: Value) -> Value {
    let mut document = document();
    let provider = document["providers"][1].as_object_mut().unwrap();
    match value.is_null() {
        true => drop(provider.remove(member)),
        false => drop(provider.insert(member.to_owned(), value)),
    }
    document
}

/// A token by the key of this number, with these claims beside the times.
fn token(number: u8, claims: &Value) -> String {
    let header = Header {
        kid: Some(format!("k{number}")),
        ..Header::new(Algorithm::ES256)
    };
    let mut all = json!({"iss": ISSUER, "sub": "alice", "iat": NOW_S, "exp": NOW_S + 3600, "name": "Alice"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let key = EncodingKey::from_ec_der(signing_key(number).to_pkcs8_der().unwrap().as_bytes());
    encode(&header, &all, &key).unwrap()
}

fn of_a() -> String {
    token(1, &json!({"aud": "aud-a", "roles-a": ["reader"], "roles-b": ["admin"]}))
}

fn of_b() -> String {
    token(2, &json!({"aud": "aud-b", "roles-a": ["reader"], "roles-b": ["admin"]}))
}

/// The name of the provider whose header the upstream gets, or the reason of the refusal. The
/// second time it may come from the cache.
#[track_caller]
fn check(sidecar: &mut Sidecar, path: &str, place: &str, token: &str, expected: Result<&str, DenyReason>) {
    let caller = match place {
        "authorization" => Caller::new().get(path).bearer(token),
        place => Caller::new().get(path).no_bearer().header(place, token),
    };
    for time in ["first", "again"] {
        let got = match sidecar.sends(&caller).0 {
            Step::Decided(Ok(permit)) => {
                let names = permit.headers_to_set().map(|(name, _)| name.to_owned());
                let mine: Vec<_> = names.filter(|name| name.ends_with("-name")).collect();
                Ok(mine.join(" "))
            }
            Step::Decided(Err(refusal)) => Err(refusal.reason),
            other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("{other:?}"),
        };
        let expected = expected.map(|name| format!("x-{name}-name"));
        assert_eq!(got, expected, "{path} {place} {time}");
    }
}

#[test]
fn a_token_is_the_one_providers_whose_keys_and_audience_it_has() {
    let mut sidecar = Sidecar::with(&document());
    let wrong_key = token(1, &json!({"aud": "aud-b"}));
    for (path, place, token, expected) in [
        ("/any", "authorization", of_a(), Ok("a")),
        ("/any", "authorization", of_b(), Ok("b")),
        ("/both", "authorization", of_a(), Ok("a")),
        ("/both", "authorization", of_b(), Ok("b")),
        ("/any", "x-b", of_b(), Ok("b")),
        // No key of one with the audience of the other.
        (
            "/any",
            "authorization",
            wrong_key.clone(),
            Err(DenyReason::TokenAudienceMismatch),
        ),
        (
            "/any",
            "authorization",
            token(2, &json!({"aud": "aud-a"})),
            Err(DenyReason::TokenAudienceMismatch),
        ),
        ("/any", "x-b", wrong_key, Err(DenyReason::TokenKeyUnknown)),
        // The place is one provider's.
        ("/any", "x-b", of_a(), Err(DenyReason::TokenKeyUnknown)),
        // The rule takes one provider's.
        ("/a", "authorization", of_a(), Ok("a")),
        ("/b", "authorization", of_b(), Ok("b")),
        ("/a", "authorization", of_b(), Err(DenyReason::TokenKeyUnknown)),
        ("/b", "authorization", of_a(), Err(DenyReason::TokenKeyUnknown)),
        // What stands in the other one's place is no token to the rule.
        ("/a", "x-b", of_b(), Err(DenyReason::CredentialMissing)),
        ("/a", "x-b", of_a(), Err(DenyReason::CredentialMissing)),
        // Nobody's.
        (
            "/any",
            "authorization",
            token(3, &json!({"aud": "aud-a"})),
            Err(DenyReason::TokenKeyUnknown),
        ),
        (
            "/any",
            "authorization",
            token(1, &json!({"aud": "aud-a", "iss": "x"})),
            Err(DenyReason::TokenIssuerUnknown),
        ),
        (
            "/any",
            "authorization",
            token(1, &json!({"aud": "aud-a", "exp": NOW_S - 99})),
            Err(DenyReason::TokenExpired),
        ),
    ] {
        check(&mut sidecar, path, place, &token, expected);
    }
}

#[test]
fn roles_are_read_by_the_setting_of_the_tokens_own_provider() {
    let mut sidecar = Sidecar::with(&document());
    for (token, role) in [(of_a(), "reader"), (of_b(), "admin")] {
        let (request, _) = sidecar.asks(&Caller::new().get("/asked").bearer(&token));
        assert_eq!(request.principal.unwrap().roles, [role]);
    }
}

/// With one key for both, the audience decides alone; a token that is for both is the first one's,
/// whatever was known before.
#[test]
fn a_token_for_both_is_the_first_ones_of_those_that_the_rule_takes() {
    let for_both = token(1, &json!({"aud": ["aud-a", "aud-b"]}));
    let document = with_b("keys", json!({"keys": [jwk(1)]}));
    let ways = [
        ("/b", "authorization", "b"),
        ("/any", "x-b", "b"),
        ("/any", "authorization", "a"),
        ("/a", "authorization", "a"),
        ("/both", "x-both", "a"),
    ];
    // In each order: what one rule has taken as `b`'s, another one does not.
    for first in 0..ways.len() {
        let mut sidecar = Sidecar::with(&document);
        for step in 0..ways.len() * 2 {
            let (path, place, name) = ways[(first + step * 3) % ways.len()];
            check(&mut sidecar, path, place, &for_both, Ok(name));
        }
    }
}

#[test]
fn the_signature_is_checked_once_for_each_key_and_then_known() {
    let document = with_b("keys", json!({"keys": [jwk(1)]}));
    let mut sidecar = Sidecar::with(&document);
    let token = token(1, &json!({"aud": "aud-b"}));
    let caller = Caller::new().get("/any").bearer(&token);
    let verifications = |sidecar: &mut Sidecar| -> Vec<_> { sidecar.permits(&caller).1.verifications.iter().collect() };
    assert_eq!(
        verifications(&mut sidecar),
        [(Verification::Checked(TokenAlgorithm::Es256), true)]
    );
    assert_eq!(verifications(&mut sidecar), [(Verification::Cached, true)]);
}

#[test]
fn the_refusal_that_says_most_is_told() {
    let one_key = with_b("keys", json!({"keys": [jwk(1)]}));
    let mut typed = one_key.clone();
    typed["providers"][0]["types"] = json!(["at+jwt"]);
    let detail = |document: &Value, claims: Value| {
        let mut sidecar = Sidecar::with(document);
        let refusal = sidecar.refuses(&Caller::new().get("/any").bearer(&token(1, &claims)));
        (refusal.reason, refusal.detail.unwrap())
    };
    // Of `a` by the audience, of `b` by what comes after it.
    let (reason, _) = detail(&one_key, json!({"aud": "aud-b", "exp": NOW_S - 99}));
    assert_eq!(reason, DenyReason::TokenExpired);
    let (reason, detail_of_b) = detail(&one_key, json!({"aud": "aud-b", "roles-b": 7}));
    assert_eq!(reason, DenyReason::TokenMalformed);
    assert!(detail_of_b.contains("`roles-b`"), "{detail_of_b}");
    // Of `a` by its type, of `b` by the audience.
    let (reason, _) = detail(&typed, json!({"aud": "nobody"}));
    assert_eq!(reason, DenyReason::TokenAudienceMismatch);
}

/// The keys of one come later: nobody is told that a token is bad which may be good.
#[test]
fn without_the_keys_of_one_the_caller_is_told_to_come_again() {
    let mut document = with_b("keys", Value::Null);
    document["providers"][1]["remote_keys"] = json!({"uri": "https://issuer.example/jwks", "cluster": "issuer"});
    let mut sidecar = Sidecar::with(&document);
    check(&mut sidecar, "/any", "authorization", &of_a(), Ok("a"));
    // It waits for the keys, which do not come.
    let caller = Caller::new().get("/any").bearer(&of_b());
    let pending = sidecar.awaits_keys(&caller);
    sidecar.later_ms(60_000);
    let Step::Decided(Err(refusal)) = sidecar.keys_awaited(pending, &caller).0 else {
        panic!("expected a refusal");
    };
    assert_eq!(refusal.reason, DenyReason::KeySetUnavailable);
    check(
        &mut sidecar,
        "/a",
        "authorization",
        &of_b(),
        Err(DenyReason::TokenKeyUnknown),
    );
}

/// `b` looks its tokens up.
fn with_introspection() -> Value {
    let mut document = with_b("keys", Value::Null);
    document["providers"][1]["introspection"] =
        json!({"uri": "https://as.example/i", "cluster": "as", "client_id": "c", "secret_variable": "S"});
    document
}

fn sidecar_with_introspection() -> Sidecar {
    Sidecar::with_environment(&with_introspection(), |_| Some("s3cret".to_owned()))
}

/// The endpoint answers about the token of this caller, which must be asked about.
fn told(sidecar: &mut Sidecar, caller: &Caller, answer: &Value) -> Step {
    let pending = sidecar.introspects(caller).pending;
    let headers = [(":status", &b"200"[..])];
    let body = answer.to_string();
    let answer = HttpResponse {
        headers: &headers,
        body: body.as_bytes(),
    };
    sidecar.told(pending, Ok(answer), caller).0
}

#[test]
fn one_with_keys_and_one_that_looks_up_share_an_issuer() {
    let active =
        json!({"active": true, "sub": "alice", "aud": "aud-b", "exp": NOW_S + 60, "name": "A", "roles-b": ["x"]});
    let mut sidecar = sidecar_with_introspection();
    // A JWT that the keys verify costs no question.
    check(&mut sidecar, "/any", "authorization", &of_a(), Ok("a"));
    // One that they refuse, and an opaque one, are asked about, and known then.
    for (path, token) in [
        ("/any", of_b()),
        ("/any", "opaque".to_owned()),
        ("/b", of_a()),
        ("/b", "opaque".to_owned()),
    ] {
        let caller = Caller::new().get(path).bearer(&token);
        let step = told(&mut sidecar, &caller, &active);
        assert!(matches!(step, Step::Decided(Ok(_))), "{path}: {step:?}");
        check(&mut sidecar, path, "authorization", &token, Ok("b"));
    }
    // What the endpoint said under one rule says nothing under another.
    check(
        &mut sidecar,
        "/a",
        "authorization",
        &of_b(),
        Err(DenyReason::TokenKeyUnknown),
    );
    check(&mut sidecar, "/a", "authorization", &of_a(), Ok("a"));
    check(
        &mut sidecar,
        "/a",
        "authorization",
        "opaque",
        Err(DenyReason::TokenProviderRefused),
    );
    check(&mut sidecar, "/any", "authorization", &of_a(), Ok("a"));
}

#[test]
fn a_token_that_became_inactive_is_so_under_every_rule() {
    let active = json!({"active": true, "sub": "alice", "aud": "aud-b", "exp": NOW_S + 6000, "name": "A"});
    let mut document = with_introspection();
    document["rules"].as_array_mut().unwrap().push(json!({
        "id": "b-too", "hosts": ["*"], "paths": ["/b-too"], "providers": ["a", "b"], "decision": "permit",
    }));
    document["providers"][1]["introspection"]["cache_s_max"] = 3600.into();
    let mut sidecar = Sidecar::with_environment(&document, |_| Some("s3cret".to_owned()));
    let by = |path: &str| Caller::new().get(path).bearer("opaque");
    assert!(matches!(told(&mut sidecar, &by("/b"), &active), Step::Decided(Ok(_))));
    check(&mut sidecar, "/b", "authorization", "opaque", Ok("b"));
    let step = told(&mut sidecar, &by("/b-too"), &json!({"active": false}));
    assert!(matches!(step, Step::Decided(Err(_))));
    check(
        &mut sidecar,
        "/b",
        "authorization",
        "opaque",
        Err(DenyReason::TokenInactive),
    );
}

/// The providers of a rule that asks for a token of each, and where these may be.
fn all_of(places_a: Value, places_b: Value) -> Value {
    let mut document = document();
    document["providers"][0]["sources"] = places_a;
    document["providers"][1]["sources"] = places_b;
    document["rules"].as_array_mut().unwrap().push(json!({
        "id": "all", "hosts": ["*"], "paths": ["/all"], "credential": "all", "providers": ["a", "b"],
        "decision": "permit",
    }));
    document
}

#[test]
fn a_token_of_each_is_assigned_by_its_place() {
    let document = all_of(json!([{"header": "authorization"}]), json!([{"header": "x-b"}]));
    let mut sidecar = Sidecar::with(&document);
    let caller = |a: &str, b: &str| Caller::new().get("/all").bearer(a).header("x-b", b);
    sidecar.permits(&caller(&of_a(), &of_b()));
    for (a, b) in [(of_b(), of_a()), (of_a(), of_a()), (of_b(), of_b())] {
        let refusal = sidecar.refuses(&caller(&a, &b));
        assert_eq!(refusal.reason, DenyReason::TokenKeyUnknown);
    }
}

#[test]
fn places_that_leave_the_assignment_open_are_a_mistake() {
    let (authorization, header) = (json!({"header": "authorization"}), json!({"header": "x-b"}));
    let mistake = |a: Value, b: Value| {
        let parsed = FilterConfiguration::parse(all_of(a, b).to_string().as_bytes());
        parsed.err().map(|problems| problems.to_string())
    };
    assert_eq!(mistake(json!([authorization]), json!([header])), None);
    for (a, b) in [
        (json!([authorization, header]), json!([header])),
        (json!([authorization]), json!([header, authorization])),
        (json!([authorization, header]), json!([authorization, header])),
    ] {
        let found = mistake(a, b).unwrap();
        assert!(found.contains("no place in common"), "{found}");
    }
}
