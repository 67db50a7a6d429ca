//! Where a credential may be, what its provider and the rule ask of it, and what the upstream is
//! told.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, Header};
use picket_core::enforcement::{Permit, reply};
use picket_core::reason::DenyReason;
use picket_model::access::Actor;
use serde_json::{Value, json};

use crate::support::{Caller, NOW_S, Sidecar, configuration};

/// A sidecar whose provider is changed so, and whose rule `local` as well.
fn sidecar(provider: Value, rule: Value) -> Sidecar {
    let mut document = configuration();
    merge(&mut document["providers"][0], provider);
    merge(&mut document["rules"][1], rule);
    Sidecar::with(&document)
}

fn merge(into: &mut Value, changes: Value) {
    let Value::Object(changes) = changes else {
        panic!("not an object")
    };
    into.as_object_mut().unwrap().extend(changes);
}

fn local() -> Caller {
    Caller::new().get("/local")
}

/// What a token with these claims gets where the provider is changed so.
#[track_caller]
fn check_provider(provider: Value, claims: &[(&str, Value)], expected: Result<(), DenyReason>) {
    let mut sidecar = sidecar(provider, json!({}));
    let caller = local().bearer(&sidecar.token(claims));
    // The second time the token is known.
    for _ in 0..2 {
        match expected {
            Ok(()) => drop(sidecar.permits(&caller)),
            Err(reason) => assert_eq!(sidecar.refuses(&caller).reason, reason),
        }
    }
}

fn upstream(permit: &Permit) -> BTreeMap<String, String> {
    permit
        .headers_to_set()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn subjects_are_named_or_begin_so() {
    let provider = || json!({"subjects": ["alice", "ci-*"]});
    for (subject, expected) in [
        ("alice", Ok(())),
        ("ci-", Ok(())),
        ("ci-7", Ok(())),
        ("alice2", Err(DenyReason::TokenSubjectRefused)),
        ("Alice", Err(DenyReason::TokenSubjectRefused)),
        ("ci", Err(DenyReason::TokenSubjectRefused)),
    ] {
        check_provider(provider(), &[("sub", subject.into())], expected);
    }
}

#[test]
fn required_claims_have_one_of_the_values() {
    let provider = || {
        json!({"required_claims": [
            {"claim": "/realm/groups", "values": ["ops", "7", "true"]},
            {"claim": "client_id"},
        ]})
    };
    let check = |groups: Value, expected| {
        let claims = [("realm", json!({"groups": groups})), ("client_id", "web".into())];
        check_provider(provider(), &claims, expected);
    };
    check("ops".into(), Ok(()));
    check(json!(["dev", "ops"]), Ok(()));
    check(json!(7), Ok(()));
    check(json!([true]), Ok(()));
    check("Ops".into(), Err(DenyReason::TokenClaimRefused));
    check(json!([]), Err(DenyReason::TokenClaimRefused));
    check(json!([["ops"]]), Err(DenyReason::TokenClaimRefused));
    check(json!({"ops": "ops"}), Err(DenyReason::TokenClaimRefused));
    check(Value::Null, Err(DenyReason::TokenClaimMissing));
    let missing = Err(DenyReason::TokenClaimMissing);
    check_provider(provider(), &[("client_id", "web".into())], missing);
    check_provider(provider(), &[("realm", json!({"groups": "ops"}))], missing);
    check_provider(
        provider(),
        &[("/realm/groups", "ops".into()), ("client_id", "web".into())],
        missing,
    );
}

#[test]
fn a_life_is_no_longer_than_the_provider_allows() {
    let provider = || json!({"lifetime_s_max": 600});
    let check = |iat: Value, exp: i64, expected| {
        check_provider(provider(), &[("iat", iat), ("exp", exp.into())], expected);
    };
    check((NOW_S - 60).into(), NOW_S + 540, Ok(()));
    check((NOW_S - 60).into(), NOW_S + 541, Err(DenyReason::TokenLifetimeRefused));
    check(Value::Null, NOW_S + 600, Ok(()));
    check(Value::Null, NOW_S + 601, Err(DenyReason::TokenLifetimeRefused));
}

#[test]
fn a_token_ends_unless_the_provider_says_otherwise() {
    check_provider(json!({"expiry": "none"}), &[("exp", Value::Null)], Ok(()));
    let expired = [("exp", (NOW_S - 61).into())];
    check_provider(json!({"expiry": "none"}), &expired, Err(DenyReason::TokenExpired));
    check_provider(json!({}), &[("exp", Value::Null)], Err(DenyReason::TokenClaimMissing));
}

#[test]
fn types_are_what_the_provider_says() {
    let check = |types: Option<Value>, typ: Option<&str>, expected: Result<(), DenyReason>| {
        let provider = types.map_or(json!({}), |types| json!({"types": types}));
        let mut sidecar = sidecar(provider, json!({}));
        let header = Header {
            typ: typ.map(str::to_owned),
            kid: Some("k1".into()),
            ..Header::new(Algorithm::ES256)
        };
        let caller = local().bearer(&sidecar.token_with_header(&header, &[]));
        match expected {
            Ok(()) => drop(sidecar.permits(&caller)),
            Err(reason) => assert_eq!(sidecar.refuses(&caller).reason, reason, "{typ:?}"),
        }
    };
    let malformed = Err(DenyReason::TokenMalformed);
    check(None, None, Ok(()));
    check(None, Some("dpop+jwt"), malformed);
    // RFC 9068 §4: such a token says `at+jwt`, with or without `application/`.
    let rfc_9068 = || Some(json!(["at+JWT"]));
    check(rfc_9068(), Some("at+jwt"), Ok(()));
    check(rfc_9068(), Some("Application/AT+jwt"), Ok(()));
    check(rfc_9068(), Some("JWT"), malformed);
    check(rfc_9068(), None, malformed);
    check(Some(json!(["secevent+jwt"])), Some("secevent+jwt"), Ok(()));
}

#[test]
fn tokens_count_in_their_providers_places_only() {
    let places = || json!({"sources": [{"cookie": "session"}, {"query": "access_token"}, {"header": "x-token", "prefix": "t "}]});
    let mut sidecar = sidecar(places(), json!({}));
    let token = sidecar.token(&[]);
    let caller = || local().no_bearer();
    let (permit, _) = sidecar.permits(&caller().header("cookie", &format!("a=1; session={token}; b=2")));
    assert_eq!(upstream(&permit).get("cookie").map(String::as_str), Some("a=1; b=2"));
    assert!(permit.headers_to_remove().any(|name| name == "cookie"));
    let (permit, _) = sidecar.permits(&caller().get(&format!("/local?a=1&access_token={token}")));
    assert_eq!(permit.rewritten_path(), Some("/local?a=1"));
    let (permit, _) = sidecar.permits(&caller().get(&format!("/local?access_token={token}")));
    assert_eq!(permit.rewritten_path(), Some("/local"));
    let (permit, _) = sidecar.permits(&caller().header("x-token", &format!("t {token}")));
    assert_eq!(permit.headers_to_remove().collect::<Vec<_>>(), ["x-token"]);
    // Not one of its places: nobody looks there, though another place has shown the token to be
    // good.
    let refusal = sidecar.refuses(&local().bearer(&token));
    assert_eq!(refusal.reason, DenyReason::CredentialMissing);
    let twice = caller()
        .header("x-token", &format!("t {token}"))
        .get(&format!("/local?access_token={token}"));
    assert_eq!(sidecar.refuses(&twice).reason, DenyReason::CredentialMalformed);
}

#[test]
fn a_place_of_one_provider_is_none_of_another() {
    let mut document = configuration();
    let mut other = document["providers"][0].clone();
    merge(
        &mut other,
        json!({"name": "other", "issuer": "https://other.example", "sources": [{"query": "t"}]}),
    );
    document["providers"].as_array_mut().unwrap().push(other);
    let mut sidecar = Sidecar::with(&document);
    let ours = sidecar.token(&[]);
    let others = sidecar.token(&[("iss", "https://other.example".into())]);
    sidecar.permits(&local().bearer(&ours));
    sidecar.permits(&local().no_bearer().get(&format!("/local?t={others}")));
    for caller in [
        local().no_bearer().get(&format!("/local?t={ours}")),
        local().bearer(&others),
    ] {
        assert_eq!(sidecar.refuses(&caller).reason, DenyReason::CredentialMisplaced);
    }
    document["rules"][1]["providers"] = json!(["other"]);
    let mut sidecar = Sidecar::with(&document);
    // Where only tokens of `other` are taken, nobody looks at the place of ours.
    assert_eq!(
        sidecar.refuses(&local().bearer(&ours)).reason,
        DenyReason::CredentialMissing
    );
    sidecar.permits(&local().no_bearer().get(&format!("/local?t={others}")));
}

#[test]
fn an_optional_credential_may_be_absent_but_not_bad() {
    let mut sidecar = sidecar(json!({}), json!({"credential": "optional"}));
    let (permit, _) = sidecar.permits(&local().no_bearer());
    assert!(!upstream(&permit).contains_key("x-picket-subject"));
    let (permit, _) = sidecar.permits(&local());
    assert_eq!(upstream(&permit)["x-picket-subject"], "alice");
    assert!(permit.headers_to_remove().any(|name| name == "authorization"));
    let expired = sidecar.token(&[("exp", (NOW_S - 61).into())]);
    assert_eq!(
        sidecar.refuses(&local().bearer(&expired)).reason,
        DenyReason::TokenExpired
    );
    assert_eq!(sidecar.refuses(&local().bearer("x")).reason, DenyReason::TokenMalformed);
}

#[test]
fn a_rule_asks_for_scopes() {
    let mut sidecar = sidecar(json!({}), json!({"scopes": ["a", "b"]}));
    let mut refusal = |claims: &[(&str, Value)]| {
        let token = sidecar.token(claims);
        let refusal = sidecar.refuses(&local().bearer(&token));
        assert_eq!(refusal.reason, DenyReason::TokenScopeInsufficient);
        refusal
    };
    refusal(&[]);
    let refusal = refusal(&[("scope", "a bb".into())]);
    let headers = reply(&refusal, "orders").headers;
    // RFC 6750 §3.1.
    let challenge = headers.iter().find(|(name, _)| *name == "www-authenticate").unwrap();
    assert_eq!(
        challenge.1,
        "Bearer realm=\"orders\", error=\"insufficient_scope\", \
         error_description=\"The token lacks a required scope.\", scope=\"a b\""
    );
    let token = sidecar.token(&[("scope", "b c a".into())]);
    sidecar.permits(&local().bearer(&token));
}

#[test]
fn claims_within_objects_name_tenant_and_roles() {
    let provider = json!({"tenant_claim": "/org/id", "roles_claim": "/realm/roles"});
    let mut sidecar = sidecar(provider, json!({}));
    let claims = [("org", json!({"id": "acme"})), ("realm", json!({"roles": ["a", "b"]}))];
    let token = sidecar.token(&claims);
    let (permit, _) = sidecar.permits(&local().bearer(&token));
    let upstream = upstream(&permit);
    assert_eq!(
        (
            upstream["x-picket-tenant"].as_str(),
            upstream["x-picket-roles"].as_str()
        ),
        ("acme", "a,b")
    );
    let wrong = sidecar.token(&[("org", json!({"id": 7}))]);
    assert_eq!(
        sidecar.refuses(&local().bearer(&wrong)).reason,
        DenyReason::TokenMalformed
    );
}

#[test]
fn claims_become_headers_that_no_client_can_forge() {
    let provider = json!({
        "claim_headers": [
            {"claim": "email", "header": "x-user-email"},
            {"claim": "/realm/groups", "header": "x-user-groups"},
            {"claim": "level", "header": "x-user-level"},
            {"claim": "absent", "header": "x-user-absent"},
            {"claim": "realm", "header": "x-user-realm"},
        ],
        "payload_header": "x-jwt-payload",
    });
    let mut sidecar = sidecar(provider, json!({"credential": "optional"}));
    let token = sidecar.token(&[
        ("email", "a\r\nx-admin: 1".into()),
        ("realm", json!({"groups": ["a,b", "c"]})),
        ("level", 7.into()),
    ]);
    let payload = token.split('.').nth(1).unwrap();
    let forged = local()
        .header("x-user-email", "root")
        .header("x_user_absent", "root")
        .header("X-Jwt.Payload", "root")
        .header("x-user-emails", "mine");
    let (permit, _) = sidecar.permits(&forged.clone().bearer(&token));
    let upstream = upstream(&permit);
    assert_eq!(upstream["x-user-email"], "a%0D%0Ax-admin:%201");
    assert_eq!(upstream["x-user-groups"], "a%2Cb,c");
    assert_eq!(
        (upstream["x-user-level"].as_str(), upstream["x-jwt-payload"].as_str()),
        ("7", payload)
    );
    assert!(!upstream.contains_key("x-user-absent") && !upstream.contains_key("x-user-realm"));
    // With or without a token.
    for caller in [forged.clone().bearer(&token), forged.no_bearer()] {
        let (permit, _) = sidecar.permits(&caller);
        let mut removed: Vec<_> = permit
            .headers_to_remove()
            .filter(|name| *name != "authorization")
            .collect();
        removed.sort_unstable();
        assert_eq!(removed, ["X-Jwt.Payload", "x-user-email", "x_user_absent"]);
    }
}

#[test]
fn a_claim_can_be_a_header_as_it_is_where_a_header_can_hold_it() {
    let provider = json!({"claim_headers": [{"claim": "name", "header": "x-name", "encoding": "raw"}]});
    let mut sidecar = sidecar(provider, json!({}));
    for (name, expected) in [
        (json!("Ada Lovelace"), Some("Ada Lovelace")),
        (json!("50%, Zoë"), Some("50%, Zoë")),
        (json!(["a b", "c"]), Some("a b,c")),
        (json!(7), Some("7")),
        (json!(true), Some("true")),
        (json!("a\r\nx-admin: 1"), None),
        (json!("a\0b"), None),
        (json!(" a"), None),
        (json!(["a,b", "c"]), None),
        (json!({"a": 1}), None),
    ] {
        let token = sidecar.token(&[("name", name.clone())]);
        let caller = local().bearer(&token).header("x-name", "root");
        let (permit, _) = sidecar.permits(&caller);
        assert_eq!(upstream(&permit).get("x-name").map(String::as_str), expected, "{name}");
        assert!(permit.headers_to_remove().any(|removed| removed == "x-name"), "{name}");
    }
}

#[test]
fn a_preflight_needs_no_credential_where_the_rule_says_so() {
    let both = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ];
    let preflight = |headers: &[(&str, &str)]| {
        let caller = local().method("OPTIONS");
        headers
            .iter()
            .fold(caller, |caller, (name, value)| caller.header(name, value))
    };
    for credential in ["required", "optional"] {
        let of = |preflights: &str| json!({"credential": credential, "preflight_credential": preflights});
        let mut exempt = sidecar(json!({}), of("none"));
        let mut held = sidecar(json!({}), of("required"));
        for caller in [preflight(&both).bearer("bad"), preflight(&both).no_bearer()] {
            let (permit, _) = exempt.permits(&caller);
            assert!(!upstream(&permit).contains_key("x-picket-subject"), "{credential}");
        }
        // A good token is nobody's either.
        let token = exempt.token(&[]);
        let (permit, _) = exempt.permits(&preflight(&both).bearer(&token));
        assert!(!upstream(&permit).contains_key("x-picket-subject"), "{credential}");
        held.refuses(&preflight(&both).bearer("bad"));
        for other in [
            preflight(&both[..1]),
            preflight(&both[1..]),
            preflight(&[("origin", ""), both[1]]),
            preflight(&both).method("GET"),
            preflight(&both).method("options"),
        ] {
            exempt.refuses(&other.bearer("bad"));
        }
    }
}

#[test]
fn who_acts_for_the_subject_is_told_from_the_last_to_the_first() {
    let mut sidecar = Sidecar::new();
    // RFC 8693 §4.1, the second example.
    let act = json!({"sub": "https://service16.example.com", "act": {"iss": "https://i.example", "sub": "https://service77.example.com"}});
    let token = sidecar.token(&[("act", act)]);
    let (request, _) = sidecar.asks(&Caller::new().get("/orders/7").bearer(&token));
    let actor = |issuer: Option<&str>, subject: &str| Actor {
        issuer: issuer.map(str::to_owned),
        subject: subject.to_owned(),
    };
    assert_eq!(
        request.principal.unwrap().actors,
        [
            actor(None, "https://service16.example.com"),
            actor(Some("https://i.example"), "https://service77.example.com")
        ]
    );
    let (permit, _) = sidecar.permits(&local().bearer(&token));
    assert_eq!(upstream(&permit)["x-picket-actor"], "https://service16.example.com");
    let chain = |length: usize| (0..length).fold(Value::Null, |act, n| json!({"sub": n.to_string(), "act": act}));
    let without_null = |length| {
        let text = chain(length)
            .to_string()
            .replace(",\"act\":null", "")
            .replace("\"act\":null,", "");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    for (act, is_taken) in [(without_null(8), true), (without_null(9), false)] {
        let token = sidecar.token(&[("act", act)]);
        let caller = local().bearer(&token);
        match is_taken {
            true => drop(sidecar.permits(&caller)),
            false => assert_eq!(sidecar.refuses(&caller).reason, DenyReason::TokenMalformed),
        }
    }
}

#[test]
fn a_token_that_is_bound_in_an_unknown_way_is_refused() {
    for cnf in [
        json!({}),
        json!("x"),
        json!({"jwk": {}}),
        json!({"jkt": 7}),
        json!({"jkt": "AA"}),
        json!({"jkt": "A".repeat(44)}),
        json!({"x5t#S256": "AA"}),
        json!({"x5t#S256": format!("{}=", "A".repeat(43))}),
    ] {
        check_provider(json!({}), &[("cnf", cnf)], Err(DenyReason::TokenMalformed));
    }
}

mod transaction_tokens {
    use picket_core::enforcement::FilterConfiguration;
    use picket_core::transaction_token::{inspect, read_key};
    use picket_model::decision::Effect;

    use super::*;
    use crate::support::decision;

    const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    fn document() -> Value {
        let mut document = configuration();
        document["transaction_token"] = json!({"key_variable": "PICKET_KEY", "lifetime_s": 20});
        document
    }

    fn sidecar() -> Sidecar {
        Sidecar::with_environment(&document(), |name| (name == "PICKET_KEY").then(|| KEY.to_owned()))
    }

    #[test]
    fn the_upstream_gets_what_was_verified_and_no_copy_of_the_clients() {
        let mut sidecar = sidecar();
        let caller = Caller::new()
            .get("/orders/7")
            .header("txn-token", "forged")
            .header("txn_token", "forged");
        let (_, pending) = sidecar.asks(&caller);
        let permit = sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
        let (cached, _) = sidecar.permits(&caller);
        for permit in [permit, cached] {
            let token = upstream(&permit)["txn-token"].clone();
            let inspected = inspect(&token, Some(&read_key(KEY).unwrap())).unwrap();
            assert_eq!(inspected.is_signed, Some(true));
            let claims = inspected.claims;
            assert_eq!(
                (claims.iss.as_str(), claims.aud.as_str(), claims.txn.as_str()),
                ("orders", "orders", "r-1")
            );
            assert_eq!((claims.iat, claims.exp), (NOW_S, NOW_S + 20));
            assert_eq!(claims.sub.as_deref(), Some("alice"));
            assert_eq!(claims.req_wl.as_deref(), Some("spiffe://example.org/web"));
            assert_eq!(claims.tctx.unwrap().issuer, "https://issuer.example");
            assert_eq!(
                (claims.rctx.route_rule.as_str(), claims.rctx.decision_id.as_deref()),
                ("orders-read", Some("d-1"))
            );
            let removed: Vec<_> = permit.headers_to_remove().collect();
            assert!(
                removed.contains(&"txn-token") && removed.contains(&"txn_token"),
                "{removed:?}"
            );
        }
    }

    #[test]
    fn a_rule_that_asks_for_nobody_vouches_for_nobody() {
        let (permit, _) = sidecar().permits(&Caller::new().get("/open"));
        let claims = inspect(&upstream(&permit)["txn-token"], None).unwrap().claims;
        assert_eq!((claims.sub, claims.req_wl, claims.tctx), (None, None, None));
        assert_eq!(
            (claims.rctx.route_rule.as_str(), claims.rctx.decision_id),
            ("open", None)
        );
    }

    #[test]
    fn without_its_key_a_configuration_is_not_taken_and_nothing_goes_on() {
        let read = |value: Option<&str>| {
            let mut configuration = FilterConfiguration::parse(document().to_string().as_bytes()).unwrap();
            configuration
                .read_environment(|_| value.map(str::to_owned))
                .map_err(|problems| problems.to_string())
        };
        assert_eq!(read(Some(KEY)), Ok(()));
        assert_eq!(
            read(None).unwrap_err(),
            "transaction_token.key_variable: the environment variable `PICKET_KEY` is not set in `vm_config.environment_variables`"
        );
        assert_eq!(
            read(Some("c2hvcnQ")).unwrap_err(),
            "transaction_token.key_variable: the environment variable `PICKET_KEY`: expected at least 32 bytes in base64 or base64url"
        );
        let refusal = Sidecar::with(&document()).refuses(&local());
        assert_eq!(refusal.reason, DenyReason::HostFailure);
    }
}
