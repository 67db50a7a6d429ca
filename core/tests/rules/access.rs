//! Access rules: what is refused or accepted before a route rule decides.

use std::slice::from_ref;

use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{CacheUse, ObservedAccess, Step};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::Effect;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration, decision};

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

fn sidecar(access: &Value) -> Sidecar {
    let mut document = configuration();
    document["access"] = access.clone();
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "optional", "decision": "permit"},
    ]);
    Sidecar::with(&document)
}

fn caller() -> Caller {
    Caller::new().get("/a").peer(WEB).no_bearer()
}

/// Why a request is refused; `None`: it is not.
fn refused(sidecar: &mut Sidecar, caller: &Caller) -> Option<DenyReason> {
    match sidecar.sends(caller).0 {
        Step::Decided(verdict) => verdict.err().map(|refusal| refusal.reason),
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
            panic!("expected a verdict, got {other:?}")
        }
    }
}

/// Checks which requests a rule matches, as one that rejects and as one that accepts.
#[track_caller]
fn check(rule: &Value, matching: &[Caller], others: &[Caller]) {
    let mut rule = rule.clone();
    rule["id"] = json!("r");
    let mut rejecting = sidecar(&json!({"reject": [rule]}));
    let mut accepting = sidecar(&json!({"accept": [rule]}));
    for (callers, expected) in [
        (matching, (Some(DenyReason::AccessRuleReject), None)),
        (others, (None, Some(DenyReason::AccessRuleNoAccept))),
    ] {
        for caller in callers {
            let got = (refused(&mut rejecting, caller), refused(&mut accepting, caller));
            assert_eq!(got, expected, "{rule} {caller:?}");
        }
    }
}

/// A caller whose token has these claims besides.
fn with_claims(claims: &[(&str, Value)]) -> Caller {
    caller().bearer(&Sidecar::new().token(claims))
}

#[test]
fn a_rule_without_conditions_matches_every_request() {
    check(&json!({}), &[caller(), caller().no_peer(), with_claims(&[])], &[]);
}

#[test]
fn one_source_one_operation_and_all_conditions_must_hold() {
    let rule = json!({
        "from": [{"peers": [WEB], "connection_addresses": ["10.0.0.0/8"]}, {"namespaces": ["ops"]}],
        "to": [{"methods": ["GET"], "paths": ["/a*"]}, {"paths": ["/b"]}],
        "when": [{"header": "x-a", "values": ["1"]}, {"header": "x-b", "not_values": ["1"]}],
    });
    let good = caller().header("x-a", "1");
    let ops = "spiffe://example.org/ns/ops/sa/x";
    check(
        &rule,
        &[
            good.clone(),
            good.clone().get("/b").method("PUT"),
            good.clone().peer(ops).from("11.0.0.1"),
            good.clone().header("x-b", "2"),
        ],
        &[
            caller(),
            good.clone().from("11.0.0.1"),
            good.clone().method("PUT"),
            good.clone().get("/c"),
            good.clone().no_peer(),
            good.header("x-b", "1"),
        ],
    );
}

/// A peer of a foreign trust domain is refused as one, whether a rule with this source rejects or
/// accepts.
#[track_caller]
fn check_foreign(source: &Value, foreign: &Caller) {
    for effect in ["reject", "accept"] {
        let mut sidecar = sidecar(&json!({effect: [{"id": "r", "from": [source]}]}));
        let refusal = sidecar.refuses(foreign);
        let told = (refusal.reason, refusal.decided_by);
        assert_eq!(told, (DenyReason::PeerNotAllowed, DecidedBy::Peer), "{effect} {source}");
    }
}

#[test]
fn peers_are_those_of_the_trust_domains() {
    let foreign = caller().peer("spiffe://other.org/ns/shop/sa/web");
    for source in [
        json!({"peers": ["*"]}),
        json!({"peers": ["*/sa/web"]}),
        json!({"namespaces": ["shop"]}),
        json!({"namespaces": ["*"]}),
        json!({"service_accounts": ["shop/web"]}),
    ] {
        check(&json!({"from": [source]}), &[caller()], &[caller().no_peer()]);
        check_foreign(&source, &foreign);
    }
    for source in [
        json!({"not_peers": ["spiffe://example.org/ns/shop/*"]}),
        json!({"not_namespaces": ["sh*"]}),
        json!({"not_service_accounts": ["shop/web"]}),
    ] {
        check(&json!({"from": [source]}), &[caller().no_peer()], &[caller()]);
        check_foreign(&source, &foreign);
    }
}

#[test]
fn principals_are_issuer_and_subject() {
    let (alice, bob) = (with_claims(&[]), with_claims(&[("sub", json!("bob"))]));
    check(
        &json!({"from": [{"principals": ["https://issuer.example/alice"]}]}),
        from_ref(&alice),
        &[bob.clone(), caller()],
    );
    check(
        &json!({"from": [{"principals": ["*"]}]}),
        &[alice.clone(), bob.clone()],
        &[caller()],
    );
    check(
        &json!({"from": [{"not_principals": ["*"]}]}),
        &[caller()],
        &[alice.clone(), bob.clone()],
    );
    check(
        &json!({"when": [{"attribute": "principal", "values": ["*/alice"], "not_values": ["*/bob"]}]}),
        &[alice],
        &[bob, caller()],
    );
}

#[test]
fn a_subject_with_slashes_is_what_follows_the_issuer() {
    let of = |subject: &str| with_claims(&[("sub", json!(subject))]);
    let (nested, plain) = (of("users/7/alice"), of("alice"));
    for principal in [
        "https://issuer.example/users/7/alice",
        "https://issuer.example/users/*",
        "*/users/7/alice",
        "*.example/users/7/alice",
        "*7/alice",
    ] {
        for rule in [
            json!({"from": [{"principals": [principal]}]}),
            json!({"when": [{"attribute": "principal", "values": [principal]}]}),
        ] {
            check(&rule, from_ref(&nested), &[plain.clone(), caller()]);
        }
        for rule in [
            json!({"from": [{"not_principals": [principal]}]}),
            json!({"when": [{"attribute": "principal", "not_values": [principal]}]}),
        ] {
            check(&rule, &[plain.clone(), caller()], from_ref(&nested));
        }
    }
}

#[test]
fn a_principal_of_an_issuer_that_no_provider_has_is_a_mistake() {
    let mut document = configuration();
    document["access"] = json!({"reject": [
        {"id": "a", "from": [{"principals": ["https://other.example/a", "https://issuer.example/a/b"], "not_principals": ["a/b"]}]},
        {"id": "b", "when": [{"attribute": "principal", "values": ["https://other.example/*"], "not_values": ["*"]}]},
    ]});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    let lines: Vec<String> = problems.as_slice().iter().map(ToString::to_string).collect();
    let expected = "expected the issuer of a provider before a slash, as no other token can match";
    assert_eq!(
        lines,
        [
            format!("access.reject[0].from[0].principals[0]: {expected}, found `https://other.example/a`"),
            format!("access.reject[0].from[0].not_principals[0]: {expected}, found `a/b`"),
            format!("access.reject[1].when[0].values[0]: {expected}, found `https://other.example/*`"),
        ]
    );
}

#[test]
fn a_service_account_is_an_attribute_too() {
    check(
        &json!({"when": [{"attribute": "service_account", "values": ["shop/web"]}]}),
        &[caller()],
        &[caller().no_peer(), caller().peer("spiffe://example.org/ns/ops/sa/web")],
    );
    let mut document = configuration();
    document["trust_domains"] = json!(["example.org", "other.org"]);
    document["access"] = json!({"accept": [
        {"id": "a", "when": [{"attribute": "service_account", "values": ["shop/web"], "not_values": ["web"]}]},
    ]});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    let paths: Vec<&str> = problems
        .as_slice()
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "access.accept[0].when[0].values",
            "access.accept[0].when[0].not_values[0]"
        ]
    );
}

#[test]
fn operations_are_host_with_port_port_method_and_path() {
    check(
        &json!({"to": [{"hosts": ["Orders.example.org"]}]}),
        &[caller(), caller().header(":authority", "ORDERS.example.org")],
        &[
            caller().header(":authority", "orders.example.org:81"),
            caller().header(":authority", "example.org"),
        ],
    );
    check(
        &json!({"to": [{"not_hosts": ["orders.example.org:*"]}]}),
        &[caller()],
        &[caller().header(":authority", "orders.example.org:81")],
    );
    check(
        &json!({"to": [{"ports": [8080]}]}),
        &[caller()],
        &[caller().to("192.0.2.1:80")],
    );
    check(
        &json!({"to": [{"not_ports": [8080]}]}),
        &[caller().to("192.0.2.1:80")],
        &[caller()],
    );
    check(
        &json!({"to": [{"methods": ["GE*"]}]}),
        &[caller()],
        &[caller().method("PUT"), caller().method("DELETE")],
    );
    check(
        &json!({"to": [{"paths": ["/{*}/b/{**}"], "not_paths": ["*.txt"]}]}),
        &[
            caller().get("/a/b/"),
            caller().get("/a/b/c?d.txt"),
            caller().get("/a//./b/c"),
        ],
        &[caller().get("/a/b"), caller().get("/a/b/c.txt"), caller().get("/b/c/")],
    );
}

#[test]
fn a_condition_on_what_is_absent_holds_only_for_values_that_must_not_fit() {
    let absent = caller().no_peer();
    for what in [
        json!({"header": "x-a"}),
        json!({"claim": "/a/b"}),
        json!({"attribute": "peer"}),
        json!({"attribute": "namespace"}),
        json!({"attribute": "server_name"}),
    ] {
        let with = |name: &str| {
            let mut condition = what.clone();
            condition[name] = json!(["*"]);
            json!({"when": [condition]})
        };
        check(&with("values"), &[], from_ref(&absent));
        check(&with("not_values"), from_ref(&absent), &[]);
    }
}

#[test]
fn headers_may_be_empty() {
    let one = |value: &str| caller().header("x-a", value);
    check(
        &json!({"when": [{"header": "x-a", "values": ["a", "b*", "*c"]}]}),
        &[one("a"), one("b,a"), one("a,c"), caller().header_bytes("x-a", b"b\xff")],
        &[one("A"), one("a,d"), one("")],
    );
    check(
        &json!({"when": [{"header": "x-a", "values": ["*"]}]}),
        &[one(""), one("a")],
        &[caller()],
    );
}

#[test]
fn claims_are_texts_or_arrays_of_texts() {
    let claims = |value: Value| with_claims(&[("a", value)]);
    let rule = json!({"when": [{"claim": "a", "values": ["x", "y*"]}]});
    check(
        &rule,
        &[
            claims(json!("x")),
            claims(json!("yes")),
            claims(json!(["z", "x"])),
            claims(json!([1, {"a": "x"}, "y"])),
        ],
        &[
            claims(json!("x y")),
            claims(json!(["z"])),
            claims(json!([["x"]])),
            claims(json!({"x": "x"})),
            claims(json!(true)),
            with_claims(&[]),
        ],
    );
    check(
        &json!({"when": [{"claim": "/a/b", "values": ["x"]}, {"claim": "aud", "values": ["orders"]}]}),
        &[claims(json!({"b": "x"})), claims(json!({"b": ["x"]}))],
        &[claims(json!([{"b": "x"}])), claims(json!({"b": {"c": "x"}})), caller()],
    );
    check(
        &json!({"when": [{"claim": "scope", "values": ["read"]}]}),
        &[
            with_claims(&[("scope", json!("write read"))]),
            with_claims(&[("scope", json!("read"))]),
        ],
        &[
            with_claims(&[("scope", json!("reads"))]),
            with_claims(&[("/a/scope", json!("read"))]),
        ],
    );
    check(
        &json!({"when": [{"claim": "/a/scope", "values": ["read"]}]}),
        &[claims(json!({"scope": "read"}))],
        &[claims(json!({"scope": "read write"}))],
    );
}

#[test]
fn a_claim_is_split_at_spaces_where_its_provider_says_so() {
    let mut document = configuration();
    document["access"] = json!({"reject": [{"id": "r", "when": [{"claim": "/groups", "values": ["admin"]}]}]});
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "optional", "decision": "permit"},
    ]);
    let mut plain = Sidecar::with(&document);
    document["providers"][0]["space_delimited_claims"] = json!(["groups", "/a/b"]);
    let mut split = Sidecar::with(&document);
    for (groups, is_plain, is_split) in [
        ("admin", true, true),
        ("staff admin", false, true),
        ("staff  administrator", false, false),
    ] {
        let caller = with_claims(&[("groups", json!(groups))]);
        let got = (refused(&mut plain, &caller), refused(&mut split, &caller));
        let rejected = |is: bool| is.then_some(DenyReason::AccessRuleReject);
        assert_eq!(got, (rejected(is_plain), rejected(is_split)), "{groups}");
    }
    document["providers"][0]["space_delimited_claims"] = json!(["a", ""]);
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    assert_eq!(problems.as_slice()[0].path, "providers[0].space_delimited_claims");
}

#[test]
fn a_server_name_is_what_tls_asked_for() {
    check(
        &json!({"when": [{"attribute": "server_name", "values": ["A.example.org"]}]}),
        &[
            caller().server_name("a.example.org"),
            caller().server_name("A.EXAMPLE.ORG"),
        ],
        &[caller().server_name("b.example.org")],
    );
    check(
        &json!({"when": [{"attribute": "server_name", "values": ["*.example.org"]}]}),
        &[
            caller().server_name("a.example.org"),
            caller().server_name("A.Example.ORG"),
        ],
        &[caller().server_name("a.example.com"), caller()],
    );
}

#[test]
fn addresses_are_the_connections_and_the_requests() {
    let mut document = configuration();
    document["forwarded_for_trusted_hops"] = json!(1);
    document["access"] = json!({"accept": [
        {"id": "r", "from": [{"connection_addresses": ["10.0.0.0/8"], "source_addresses": ["192.0.2.0/24"]}]},
    ]});
    let mut sidecar = Sidecar::with(&document);
    let open = Caller::new().get("/open").no_bearer();
    sidecar.permits(&open.clone().header("x-forwarded-for", "192.0.2.9"));
    for caller in [
        open.clone(),
        open.clone().header("x-forwarded-for", "10.0.0.1"),
        open.header("x-forwarded-for", "192.0.2.9").from("11.0.0.1"),
    ] {
        assert_eq!(sidecar.refuses(&caller).reason, DenyReason::AccessRuleNoAccept);
    }
}

#[test]
fn rejection_comes_before_acceptance_and_an_empty_list_accepts_nothing() {
    let all = json!([{"id": "all"}]);
    let mut both = sidecar(&json!({"reject": [{"id": "a", "to": [{"paths": ["/a"]}]}], "accept": all}));
    let refusal = both.refuses(&caller());
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::AccessRuleReject, DecidedBy::Local)
    );
    assert_eq!(refusal.detail, None);
    assert_eq!(refused(&mut both, &caller().get("/b")), None);
    assert_eq!(
        refused(&mut sidecar(&json!({"accept": []})), &caller()),
        Some(DenyReason::AccessRuleNoAccept)
    );
    assert_eq!(
        refused(&mut sidecar(&json!({"reject": [], "audit": []})), &caller()),
        None
    );
}

#[test]
fn what_is_observed_refuses_nothing() {
    let a = json!([{"id": "a", "to": [{"paths": ["/a"]}]}]);
    let b = json!([{"id": "b", "to": [{"paths": ["/b"]}]}]);
    let observed = |access: &Value, path: &str| {
        let (_, notes) = sidecar(access).permits(&caller().get(path));
        let ObservedAccess {
            would_reject,
            would_not_accept,
            is_audited,
        } = notes.access;
        (would_reject, would_not_accept, is_audited)
    };
    assert_eq!(observed(&json!({"audit": a}), "/a"), (false, false, true));
    assert_eq!(observed(&json!({"audit": a}), "/b"), (false, false, false));
    assert_eq!(observed(&json!({"observe": {"reject": a}}), "/a"), (true, false, false));
    assert_eq!(
        observed(&json!({"observe": {"accept": a}}), "/a"),
        (false, false, false)
    );
    assert_eq!(observed(&json!({"observe": {"accept": a}}), "/b"), (false, true, false));
    assert_eq!(
        observed(&json!({"observe": {"accept": []}}), "/b"),
        (false, true, false)
    );
    assert_eq!(
        observed(&json!({"observe": {"accept": a}, "accept": b}), "/b"),
        (false, false, false)
    );
}

#[test]
fn a_cached_permit_does_not_pass_by_a_rule() {
    let mut document = configuration();
    document["access"] = json!({"reject": [{"id": "r", "when": [{"header": "x-a", "values": ["1"]}]}]});
    let mut sidecar = Sidecar::with(&document);
    let caller = Caller::new().get("/orders/1");
    let (_, pending) = sidecar.asks(&caller);
    sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
    assert_eq!(sidecar.permits(&caller).1.cache, Some(CacheUse::Hit));
    let refusal = sidecar.refuses(&caller.clone().header("x-a", "1"));
    assert_eq!(refusal.reason, DenyReason::AccessRuleReject);
    assert_eq!(sidecar.permits(&caller).1.cache, Some(CacheUse::Hit));
}

#[test]
fn a_segment_parameter_that_makes_a_difference_is_refused() {
    let mut sidecar = sidecar(&json!({"reject": [{"id": "r", "to": [{"paths": ["/admin", "/x/*"]}]}]}));
    let mut check = |path: &str, expected| assert_eq!(refused(&mut sidecar, &caller().get(path)), expected, "{path}");
    check("/admin", Some(DenyReason::AccessRuleReject));
    check("/admin;v=1", Some(DenyReason::RequestMalformed));
    check("/x;v=1/a", Some(DenyReason::RequestMalformed));
    // What is cut leaves an empty segment behind, and servers merge those.
    check("/;v=1/admin", Some(DenyReason::RequestMalformed));
    check("/;/x/a", Some(DenyReason::RequestMalformed));
    check("/x/;v=1/a", Some(DenyReason::AccessRuleReject));
    check("/other;v=1", None);
    check("/x/a;v=1", Some(DenyReason::AccessRuleReject));
}

#[test]
fn the_connection_is_asked_only_where_a_rule_asks() {
    let mut document = configuration();
    let open = Caller::new()
        .get("/open")
        .no_bearer()
        .with_connection_that_may_not_be_asked();
    // The method decides before the other conditions are looked at.
    let port = json!({"attribute": "destination_port", "values": ["1"]});
    document["access"] = json!({"reject": [{"id": "r", "to": [{"methods": ["PUT"]}], "when": [port]}]});
    Sidecar::with(&document).permits(&open);
    document["access"] = json!({});
    Sidecar::with(&document).permits(&open);
}

#[test]
fn every_mistake_is_told_with_its_path() {
    let mut document = configuration();
    document["trust_domains"] = json!(["example.org", "other.org"]);
    document["access"] = json!({
        "reject": [
            {"id": "a", "from": [{"not_namespaces": ["x"], "namespaces": ["x"]}, {}]},
            {"id": "a", "to": [{"ports": [], "paths": ["x", "/a//"]}]},
            {"id": "b", "from": [], "when": [{"header": "Host", "values": ["x"]}, {"claim": "a"}, {"values": ["x"]}]},
        ],
        "accept": [
            {"id": "c", "from": [{"namespaces": ["x"], "not_namespaces": ["x"], "service_accounts": ["x"]}]},
            {"id": "d", "when": [
                {"attribute": "destination_port", "values": ["080", "70000"]},
                {"attribute": "namespace", "values": ["x"]},
                {"header": "x", "claim": "y", "values": [""]},
                {"attribute": "source_address", "not_values": ["10.0.0.1/8"]},
            ]},
        ],
        "observe": {"accept": [{"id": "e", "from": [{"principals": ["alice"], "peers": ["web"]}]}]},
    });
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    let paths: Vec<&str> = problems
        .as_slice()
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "access.reject[0].from[0].not_namespaces",
            "access.reject[0].from[1]",
            "access.reject[1].id",
            "access.reject[1].to[0].ports",
            "access.reject[1].to[0].paths[0]",
            "access.reject[1].to[0].paths[1]",
            "access.reject[2].from",
            "access.reject[2].when[0].header",
            "access.reject[2].when[1]",
            "access.reject[2].when[2]",
            "access.accept[0].from[0].namespaces",
            "access.accept[0].from[0].service_accounts",
            "access.accept[0].from[0].service_accounts[0]",
            "access.accept[1].when[0].values[0]",
            "access.accept[1].when[0].values[1]",
            "access.accept[1].when[1].values",
            "access.accept[1].when[2]",
            "access.accept[1].when[3].not_values[0]",
            "access.observe.accept[0].from[0].peers[0]",
            "access.observe.accept[0].from[0].principals[0]",
        ]
    );
    document["access"] = json!({"reject": [{"id": "a", "form": []}]});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    assert_eq!(problems.as_slice()[0].path, "access.reject[0].form");
    let many: Vec<Value> = (0..1001).map(|n| json!({"id": n.to_string()})).collect();
    document["access"] = json!({"reject": many});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    assert_eq!(problems.to_string(), "access: expected at most 1000 rules in all");
}

#[test]
fn peers_can_be_named_only_where_there_are_trust_domains() {
    let mut document = configuration();
    document.as_object_mut().unwrap().remove("trust_domains");
    document["rules"] = json!([{"id": "a", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "none", "decision": "permit"}]);
    document["access"] = json!({"reject": [
        {"id": "a", "from": [{"peers": ["*"]}]},
        {"id": "b", "when": [{"attribute": "peer", "values": ["*"]}]},
        {"id": "c", "from": [{"principals": ["*"]}]},
    ]});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    let paths: Vec<&str> = problems
        .as_slice()
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(paths, ["access.reject[0].from[0]", "access.reject[1].when[0]"]);
}
