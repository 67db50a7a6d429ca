//! The examples of Istio's reference page for AuthorizationPolicy, and what the page says about them.

use picket_core::reason::DenyReason;
use serde_json::{Value, json};

use crate::sidecar::{Request, Sidecar, imported, jwks, workload};

const SLEEP: &str = "spiffe://cluster.local/ns/default/sa/sleep";

fn policy(namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": namespace}, "spec": spec})
}

fn authentication(rule: &Value) -> Value {
    let mut rule = rule.clone();
    rule["jwks"] = json!(jwks());
    json!({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": "a", "namespace": "foo"}, "spec": {"jwtRules": [rule]}})
}

fn sidecar(documents: &[Value], namespace: &str, labels: &[(&str, &str)]) -> Sidecar {
    let import = imported(documents, &workload(namespace, labels));
    assert_eq!(import.problems, [], "{documents:?}");
    Sidecar::new(&import.configuration.unwrap())
}

#[track_caller]
fn check(sidecar: &mut Sidecar, request: &Request, expected: Option<DenyReason>) {
    assert_eq!(sidecar.refuses(request).0, expected, "{request:?}");
}

fn request(method: &str, path: &str) -> Request {
    Request {
        method: method.into(),
        path: path.into(),
        ..Request::default()
    }
}

fn from(peer: &str, claims: Option<Value>, request: Request) -> Request {
    Request {
        peer: Some(peer.to_owned()),
        claims,
        ..request
    }
}

#[test]
fn the_first_example() {
    let google = "https://accounts.google.com";
    let documents = [
        authentication(&json!({"issuer": google})),
        authentication(&json!({"issuer": "https://other.example"})),
        policy(
            "foo",
            &json!({"action": "ALLOW", "rules": [{
                "from": [{"source": {"principals": ["cluster.local/ns/default/sa/sleep"]}}, {"source": {"namespaces": ["test"]}}],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/info*"]}}, {"operation": {"methods": ["POST"], "paths": ["/data"]}}],
                "when": [{"key": "request.auth.claims[iss]", "values": [google]}],
            }]}),
        ),
    ];
    let mut sidecar = sidecar(&documents, "foo", &[]);
    let token = || Some(json!({"iss": google, "sub": "a"}));
    let no = Some(DenyReason::AccessRuleNoAccept);
    check(&mut sidecar, &from(SLEEP, token(), request("GET", "/info")), None);
    check(
        &mut sidecar,
        &from(SLEEP, token(), request("GET", "/information/x?y")),
        None,
    );
    check(&mut sidecar, &from(SLEEP, token(), request("POST", "/data")), None);
    check(
        &mut sidecar,
        &from(
            "spiffe://cluster.local/ns/test/sa/any",
            token(),
            request("POST", "/data"),
        ),
        None,
    );
    check(&mut sidecar, &from(SLEEP, token(), request("POST", "/info")), no);
    check(&mut sidecar, &from(SLEEP, token(), request("GET", "/data")), no);
    check(&mut sidecar, &from(SLEEP, None, request("GET", "/info")), no);
    check(
        &mut sidecar,
        &from(
            SLEEP,
            Some(json!({"iss": "https://other.example", "sub": "a"})),
            request("GET", "/info"),
        ),
        no,
    );
    check(
        &mut sidecar,
        &from(
            "spiffe://cluster.local/ns/default/sa/other",
            token(),
            request("GET", "/info"),
        ),
        no,
    );
    check(
        &mut sidecar,
        &Request {
            claims: token(),
            ..request("GET", "/info")
        },
        no,
    );
}

#[test]
fn deny_by_namespace_and_by_port() {
    let mut by_namespace = sidecar(
        &[policy(
            "foo",
            &json!({"action": "DENY", "rules": [{
                "from": [{"source": {"namespaces": ["dev"]}}], "to": [{"operation": {"methods": ["POST"]}}],
            }]}),
        )],
        "foo",
        &[],
    );
    let dev = "spiffe://cluster.local/ns/dev/sa/x";
    check(
        &mut by_namespace,
        &from(dev, None, request("POST", "/")),
        Some(DenyReason::AccessRuleReject),
    );
    check(&mut by_namespace, &from(dev, None, request("GET", "/")), None);
    check(&mut by_namespace, &from(SLEEP, None, request("POST", "/")), None);
    let mut by_port = sidecar(
        &[policy(
            "foo",
            &json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"], "ports": ["8080"]}}]}]}),
        )],
        "foo",
        &[],
    );
    check(
        &mut by_port,
        &Request {
            port: 8080,
            ..request("POST", "/")
        },
        Some(DenyReason::AccessRuleReject),
    );
    check(
        &mut by_port,
        &Request {
            port: 8081,
            ..request("POST", "/")
        },
        None,
    );
}

#[test]
fn audit_and_dry_run_refuse_nothing_and_are_noted() {
    let audit = policy(
        "ns1",
        &json!({"selector": {"matchLabels": {"app": "myapi"}}, "action": "AUDIT", "rules": [
        {"to": [{"operation": {"methods": ["GET"], "paths": ["/user/profile/*"]}}]}]}),
    );
    let mut dry_run = policy(
        "ns1",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/headers"]}}]}]}),
    );
    dry_run["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    let mut sidecar = sidecar(&[audit, dry_run], "ns1", &[("app", "myapi")]);
    let (refused, notes) = sidecar.refuses(&request("GET", "/user/profile/1"));
    assert_eq!(
        (refused, notes.access.is_audited, notes.access.would_reject),
        (None, true, false)
    );
    let (refused, notes) = sidecar.refuses(&request("GET", "/headers"));
    assert_eq!(
        (refused, notes.access.is_audited, notes.access.would_reject),
        (None, false, true)
    );
}

#[test]
fn allow_nothing_and_allow_all_and_who_is_selected() {
    let no = Some(DenyReason::AccessRuleNoAccept);
    let nothing = |namespace: &str, labels: &Value| policy(namespace, &json!({"selector": {"matchLabels": labels}}));
    for (document, expected) in [
        (policy("foo", &json!({})), no),
        (policy("foo", &json!({"rules": []})), no),
        (policy("foo", &json!({"rules": [{}]})), None),
        (policy("bar", &json!({})), None),
        (policy("istio-system", &json!({})), no),
        (nothing("foo", &json!({"app": "httpbin"})), no),
        (nothing("foo", &json!({"app": "httpbin", "version": "v2"})), None),
        (nothing("istio-system", &json!({"version": "v1"})), no),
        (nothing("istio-system", &json!({"version": "v2"})), None),
        (policy("foo", &json!({"action": "DENY"})), None),
        (
            policy("foo", &json!({"action": "DENY", "rules": [{}]})),
            Some(DenyReason::AccessRuleReject),
        ),
    ] {
        let mut sidecar = sidecar(
            std::slice::from_ref(&document),
            "foo",
            &[("app", "httpbin"), ("version", "v1")],
        );
        assert_eq!(sidecar.refuses(&Request::default()).0, expected, "{document}");
    }
}

#[test]
fn a_request_without_a_token_passes_and_one_with_a_bad_token_does_not() {
    let jwt = authentication(&json!({"issuer": "https://a.example", "audiences": ["x", "y"]}));
    let mut sidecar = sidecar(&[jwt], "foo", &[]);
    let with = |claims: Value| Request {
        claims: Some(claims),
        ..Request::default()
    };
    check(&mut sidecar, &Request::default(), None);
    check(
        &mut sidecar,
        &with(json!({"iss": "https://a.example", "sub": "a", "aud": "y"})),
        None,
    );
    check(
        &mut sidecar,
        &with(json!({"iss": "https://a.example", "sub": "a", "aud": "z"})),
        Some(DenyReason::TokenAudienceMismatch),
    );
    check(
        &mut sidecar,
        &with(json!({"iss": "https://b.example", "sub": "a"})),
        Some(DenyReason::TokenIssuerUnknown),
    );
    let expired = json!({"iss": "https://a.example", "sub": "a", "aud": "y", "exp": 1});
    check(&mut sidecar, &with(expired), Some(DenyReason::TokenExpired));
}

/// The task "JWT Token" of Istio's documentation: a token is required, of a group.
#[test]
fn the_task_about_tokens() {
    let issuer = "testing@secure.istio.io";
    let documents = [
        authentication(&json!({"issuer": issuer})),
        policy(
            "foo",
            &json!({"action": "ALLOW", "rules": [{
                "from": [{"source": {"requestPrincipals": ["testing@secure.istio.io/testing@secure.istio.io"]}}],
                "when": [{"key": "request.auth.claims[groups]", "values": ["group1"]}],
            }]}),
        ),
    ];
    let mut sidecar = sidecar(&documents, "foo", &[]);
    let with = |groups: Value| Request {
        claims: Some(json!({"iss": issuer, "sub": issuer, "groups": groups})),
        ..Request::default()
    };
    check(&mut sidecar, &with(json!(["group1", "group2"])), None);
    check(&mut sidecar, &with(json!("group1")), None);
    check(
        &mut sidecar,
        &with(json!(["group2"])),
        Some(DenyReason::AccessRuleNoAccept),
    );
    check(&mut sidecar, &Request::default(), Some(DenyReason::AccessRuleNoAccept));
}
