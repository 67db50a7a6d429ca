//! The state machine as its users see it: requests and answers in, verdicts out. Time is a number
//! here.

use picket_core::enforcement::{CacheUse, CallFailure, Verification};
use picket_core::jose::TokenAlgorithm;
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::{Attribute, Decision, Effect, Vary};

use crate::support::{Caller, NOW_S, Sidecar, decision, refused};

#[test]
fn a_permit_of_the_policy_service_is_given_again_from_the_cache() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/orders/7");
    let (request, pending) = sidecar.asks(&caller);
    assert_eq!(request.route_rule, "orders-read");
    assert_eq!(request.principal.as_ref().unwrap().subject, "alice");
    assert_eq!(request.resource.path_parameters["id"], "7");
    let permit = sidecar.answers(pending, Ok(decision(Effect::Permit, 1000))).unwrap();
    assert_eq!(permit.decided_by(), DecidedBy::PolicyService);

    let (permit, notes) = sidecar.permits(&caller);
    assert_eq!(permit.decided_by(), DecidedBy::Cache);
    assert_eq!(notes.cache, Some(CacheUse::Hit));
    assert_eq!(
        notes.verifications.iter().collect::<Vec<_>>(),
        [(Verification::Cached, true)]
    );
    sidecar.later_ms(999);
    assert_eq!(sidecar.permits(&caller).0.decided_by(), DecidedBy::Cache);
    sidecar.later_ms(1);
    sidecar.asks(&caller);
}

#[test]
fn a_deny_is_cached_as_well_and_says_what_the_caller_may_see() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/orders/7");
    let (_, pending) = sidecar.asks(&caller);
    let mut deny = decision(Effect::Deny, 1000);
    deny.caller_reasons = vec!["because".into()];
    let refusal = sidecar.answers(pending, Ok(deny)).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::PolicyDeny, DecidedBy::PolicyService)
    );
    assert_eq!(refusal.caller_reasons, ["because"]);
    let refusal = sidecar.refuses(&caller);
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::PolicyDeny, DecidedBy::Cache)
    );
    assert_eq!(refusal.caller_reasons, ["because"]);
}

#[test]
fn a_failed_call_is_unavailable_and_is_not_cached() {
    for (failure, reason) in [
        (CallFailure::Unavailable, DenyReason::PolicyServiceUnavailable),
        (CallFailure::AnswerInvalid, DenyReason::PolicyServiceAnswerInvalid),
    ] {
        let mut sidecar = Sidecar::new();
        let caller = Caller::new().get("/orders/7");
        let (_, pending) = sidecar.asks(&caller);
        assert_eq!(sidecar.answers(pending, Err(failure)).unwrap_err().reason, reason);
        sidecar.asks(&caller);
    }
}

#[test]
fn a_decision_without_validity_is_not_cached() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/orders/7");
    let (_, pending) = sidecar.asks(&caller);
    sidecar.answers(pending, Ok(decision(Effect::Permit, 0))).unwrap();
    sidecar.asks(&caller);
}

#[test]
fn a_decision_about_a_very_long_path_is_not_cached() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get(&format!("/orders/{}", "7".repeat(3000)));
    let (_, pending) = sidecar.asks(&caller);
    sidecar.answers(pending, Ok(decision(Effect::Permit, 1000))).unwrap();
    sidecar.asks(&caller);
}

#[test]
fn a_cached_permit_ends_with_its_token() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[("exp", (NOW_S + 10).into())]);
    let caller = Caller::new().get("/orders/7").bearer(&token);
    let (_, pending) = sidecar.asks(&caller);
    sidecar
        .answers(pending, Ok(decision(Effect::Permit, u32::MAX)))
        .unwrap();
    // 60 s of clock skew are the default.
    sidecar.later_ms(69_999);
    assert_eq!(sidecar.permits(&caller).0.decided_by(), DecidedBy::Cache);
    sidecar.later_ms(1);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::TokenExpired);
}

#[test]
fn a_token_that_expires_while_its_request_waits_gets_no_permit() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[("exp", (NOW_S - 59).into())]);
    let (_, pending) = sidecar.asks(&Caller::new().get("/orders/7").bearer(&token));
    sidecar.later_ms(1_000);
    let verdict = sidecar.answers(pending, Ok(decision(Effect::Permit, 1000)));
    assert_eq!(refused(verdict), DenyReason::TokenExpired);
}

#[test]
fn a_decision_is_given_again_to_exactly_the_same_question_only() {
    let base = || Caller::new().get("/orders/7");
    let mut sidecar = Sidecar::new();
    let other_token = sidecar.token(&[("sub", "bob".into())]);
    let (_, pending) = sidecar.asks(&base());
    sidecar.answers(pending, Ok(decision(Effect::Permit, 100_000))).unwrap();
    sidecar.permits(&base());
    // The query and the ids of a request are told to nobody.
    sidecar.permits(&base().get("/orders/7?all=1"));
    sidecar.permits(&base().header("x-request-id", "another"));
    for (what, other) in [
        ("path", base().get("/orders/8")),
        ("method", base().method("HEAD")),
        ("host", base().header(":authority", "other.example.org")),
        ("token", base().bearer(&other_token)),
        ("peer", base().peer("spiffe://example.org/admin")),
        ("address", base().from("10.0.0.9")),
        ("user agent", base().header("user-agent", "other")),
    ] {
        let (request, _) = sidecar.asks(&other);
        assert_eq!(request.route_rule, "orders-read", "{what}");
    }
}

#[test]
fn a_local_rule_decides_alone() {
    let mut sidecar = Sidecar::new();
    let (permit, notes) = sidecar.permits(&Caller::new().get("/local"));
    assert_eq!(
        (permit.decided_by(), permit.reason().code()),
        (DecidedBy::Local, "local_permit")
    );
    assert_eq!(
        notes.verifications.iter().collect::<Vec<_>>(),
        [(Verification::Checked(TokenAlgorithm::Es256), true)]
    );
    assert_eq!(
        sidecar.refuses(&Caller::new().get("/forbidden")).reason,
        DenyReason::RuleDeny
    );
    assert_eq!(
        sidecar.refuses(&Caller::new().get("/nothing")).reason,
        DenyReason::NoRule
    );
    assert_eq!(
        sidecar.refuses(&Caller::new().get("/local").no_bearer()).reason,
        DenyReason::CredentialMissing
    );
    sidecar.permits(&Caller::new().get("/open").no_bearer().no_peer());
}

#[test]
fn peers_are_checked_before_credentials() {
    let mut sidecar = Sidecar::new();
    let caller = || Caller::new().get("/orders/7").no_bearer();
    assert_eq!(sidecar.refuses(&caller().no_peer()).reason, DenyReason::PeerMissing);
    assert_eq!(
        sidecar.refuses(&caller().peer("spiffe://example.org/batch")).reason,
        DenyReason::PeerNotAllowed
    );
    assert_eq!(
        sidecar.refuses(&caller().peer("spiffe://other.org/web")).reason,
        DenyReason::PeerNotAllowed
    );
    assert_eq!(sidecar.refuses(&caller()).reason, DenyReason::CredentialMissing);
    // A rule without a list takes every peer of the trust domains, and no other.
    sidecar.permits(&Caller::new().get("/local").peer("spiffe://example.org/any"));
    assert_eq!(
        sidecar
            .refuses(&Caller::new().get("/local").peer("spiffe://other.org/any"))
            .reason,
        DenyReason::PeerNotAllowed
    );
}

#[test]
fn forged_headers_and_the_credential_are_stripped_and_ours_set() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[
        ("roles", serde_json::json!(["reader", "a,b"])),
        ("scope", "read write".into()),
        ("sub", "al\r\nice".into()),
    ]);
    let caller = Caller::new()
        .get("/local")
        .bearer(&token)
        .header("x-picket-subject", "root")
        .header("x_picket_roles", "admin")
        .header("x-picket-anything", "1");
    let (permit, _) = sidecar.permits(&caller);
    let removed: Vec<_> = permit.headers_to_remove().collect();
    assert_eq!(
        removed,
        [
            "x-picket-subject",
            "x_picket_roles",
            "x-picket-anything",
            "authorization"
        ]
    );
    let set: Vec<_> = permit.headers_to_set().collect();
    assert_eq!(
        set,
        [
            ("x-picket-issuer", "https://issuer.example"),
            ("x-picket-subject", "al%0D%0Aice"),
            ("x-picket-roles", "reader,a%2Cb"),
            ("x-picket-scopes", "read,write"),
            ("x-picket-peer", "spiffe://example.org/web"),
            ("x-picket-route-rule", "local"),
        ]
    );
}

#[test]
fn the_path_that_was_decided_is_the_path_that_is_forwarded() {
    let mut sidecar = Sidecar::new();
    let (permit, _) = sidecar.permits(&Caller::new().get("/x/../%6cocal?q=%2e"));
    assert_eq!(permit.rewritten_path(), Some("/local?q=%2e"));
    let (permit, _) = sidecar.permits(&Caller::new().get("/local?q=%2e"));
    assert_eq!(permit.rewritten_path(), None);
}

#[test]
fn a_malformed_request_is_refused_before_anything_else() {
    let mut sidecar = Sidecar::new();
    let refusal = sidecar.refuses(&Caller::new().get("/a%2fb").no_peer());
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::RequestMalformed, DecidedBy::Request)
    );
    assert_eq!(refusal.caller.request_id, "r-1");
    assert!(refusal.detail.unwrap().contains("encoded slash"));
}

#[test]
fn what_servers_decode_before_they_route_has_one_spelling() {
    let mut configuration = crate::support::configuration();
    let rule = |id: &str, hosts: &str, path: &str, decision: &str| {
        serde_json::json!({"id": id, "hosts": [hosts], "paths": [path], "peer": "none", "credential": "none",
                           "decision": decision})
    };
    let rules = configuration["rules"].as_array_mut().unwrap();
    rules.push(rule("any", "app.example.org", "/v1/{name}", "permit"));
    rules.push(rule("purge", "app.example.org", "/v1/orders:purge", "deny"));
    rules.push(rule("loop", "[::1]", "/{**}", "deny"));
    rules.push(rule("all", "*", "/v2/{**}", "permit"));
    let mut sidecar = Sidecar::with(&configuration);
    let app = |host: &str, path: &str| Caller::new().header(":authority", host).get(path);
    for (host, path) in [
        ("app.example.org", "/v1/orders:purge"),
        ("app.example.org", "/v1/orders%3Apurge"),
        ("app.example.org", "/v1/%6frders%3apurge"),
        ("[::1]", "/v2/a"),
        ("[0:0:0:0:0:0:0:1]:8080", "/v2/a"),
        ("[::0001]", "/v2/a"),
    ] {
        assert_eq!(
            sidecar.refuses(&app(host, path)).reason,
            DenyReason::RuleDeny,
            "{host}{path}"
        );
    }
    sidecar.permits(&app("app.example.org", "/v1/orders%2Bpurge"));
    sidecar.permits(&app("[::2]", "/v2/a"));
}

#[test]
fn a_segment_parameter_that_the_rules_make_a_difference_of_is_refused() {
    let mut configuration = crate::support::configuration();
    let open = |id: &str, path: &str, decision: &str| {
        serde_json::json!({"id": id, "hosts": ["app.example.org"], "paths": [path], "peer": "none",
                           "credential": "none", "decision": decision})
    };
    let rules = configuration["rules"].as_array_mut().unwrap();
    rules.push(open("app", "/{**}", "permit"));
    rules.push(open("app-admin", "/admin/{**}", "deny"));
    rules.push(open("app-item", "/items/{id}", "permit"));
    rules.push(
        serde_json::json!({"id": "policy", "hosts": ["policy.example.org"], "paths": ["/{**}"], "peer": "none",
                                  "credential": "none", "decision": "policy_service"}),
    );
    let mut sidecar = Sidecar::with(&configuration);
    let app = |path: &str| Caller::new().header(":authority", "app.example.org").get(path);
    // Tomcat and Jetty read `/admin/users` and `/items/7` here.
    for path in ["/admin;x/users", "/;x/admin/users", "/admin;/users", "/items;x/7"] {
        assert_eq!(
            sidecar.refuses(&app(path)).reason,
            DenyReason::RequestMalformed,
            "{path}"
        );
    }
    // What `{id}` captures is read by policies alone, and none is asked here.
    for path in ["/docs;v=1/a", "/docs/a;jsessionid=1", "/docs/a?b;c", "/items/7;x"] {
        sidecar.permits(&app(path));
    }
    // A policy would see another path than such a server.
    let policy = |path: &str| Caller::new().header(":authority", "policy.example.org").get(path);
    for path in ["/;/admin/users", "/admin;x/users", "/docs/a;jsessionid=1"] {
        assert_eq!(
            sidecar.refuses(&policy(path)).reason,
            DenyReason::RequestMalformed,
            "{path}"
        );
    }
    assert_eq!(sidecar.asks(&policy("/docs/a?b;c")).0.resource.path, "/docs/a");
    assert_eq!(sidecar.refuses(&app("/admin/a;x")).reason, DenyReason::RuleDeny);
}

#[test]
fn the_upstream_gets_the_identity_headers_that_the_configuration_names() {
    let mut configuration = crate::support::configuration();
    configuration["identity_headers"] = serde_json::json!(["subject", "route_rule"]);
    let mut sidecar = Sidecar::with(&configuration);
    let forged = Caller::new().get("/local").header("x-picket-issuer", "forged");
    let (permit, _) = sidecar.permits(&forged);
    let set: Vec<_> = permit.headers_to_set().collect();
    assert_eq!(set, [("x-picket-subject", "alice"), ("x-picket-route-rule", "local")]);
    // What is not set is removed all the same.
    assert!(permit.headers_to_remove().any(|name| name == "x-picket-issuer"));
}

#[test]
fn a_peer_that_the_rule_did_not_check_is_not_named_to_the_upstream() {
    let (permit, _) = Sidecar::new().permits(&Caller::new().get("/open"));
    let set: Vec<_> = permit.headers_to_set().collect();
    assert_eq!(set, [("x-picket-route-rule", "open")]);
}

#[test]
fn an_answer_that_depended_on_the_method_alone_is_given_to_every_path_and_peer() {
    let mut sidecar = Sidecar::new();
    let first = Caller::new().get("/orders/1");
    let (_, pending) = sidecar.asks(&first);
    let answer = Decision {
        vary: Vary::NOTHING.with(Attribute::Method),
        risk: None,
        ..decision(Effect::Permit, 1000)
    };
    sidecar.answers(pending, Ok(answer)).unwrap();
    let other = Caller::new().get("/orders/2").peer("spiffe://example.org/admin");
    let (permit, notes) = sidecar.permits(&other.clone().from("10.9.9.9"));
    assert_eq!(
        (permit.decided_by(), notes.cache),
        (DecidedBy::Cache, Some(CacheUse::Hit))
    );
    // Another method, another token and another rule are other questions.
    sidecar.asks(&other.clone().method("HEAD"));
    let bob = sidecar.token(&[("sub", "bob".into())]);
    sidecar.asks(&other.bearer(&bob));
}

#[test]
fn a_connection_is_asked_for_what_the_answer_depends_on_alone() {
    let mut configuration = crate::support::configuration();
    configuration["rules"][0]["peers"] = serde_json::Value::Null;
    configuration["rules"][0]["peer"] = "none".into();
    let mut sidecar = Sidecar::with(&configuration);
    let caller = Caller::new().get("/orders/1");
    let (_, pending) = sidecar.asks(&caller);
    let answer = Decision {
        vary: Vary::NOTHING,
        risk: None,
        ..decision(Effect::Permit, 1000)
    };
    sidecar.answers(pending, Ok(answer)).unwrap();
    sidecar.permits(&caller.with_connection_that_may_not_be_asked());
}
