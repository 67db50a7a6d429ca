//! Each field of Istio's API is imported, or named.
//!
//! The fields are those of Istio 1.30: `security/v1beta1` of its API, and the keys of its conditions.

use picket::istio::{Import, Workload, import};
use picket_core::reason::DenyReason;
use serde_json::{Value, json};

use crate::sidecar::{Request, Sidecar, imported, jwks, workload};

const GOOD: &str = "https://good.example";
const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

fn document(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": "p", "namespace": "foo"}, "spec": spec})
}

/// A mesh whose trust domain has a name of its own.
fn of_example_org() -> Workload {
    Workload {
        trust_domain: "example.org".into(),
        ..workload("foo", &[])
    }
}

fn authentication(rules: &Value) -> Value {
    document("RequestAuthentication", &json!({"jwtRules": rules}))
}

fn policy(action: &str, rule: &Value) -> Import {
    let documents = [
        authentication(&json!([{"issuer": GOOD, "jwks": jwks()}])),
        document("AuthorizationPolicy", &json!({"action": action, "rules": [rule]})),
    ];
    imported(&documents, &of_example_org())
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("not{}{rest}", first.to_uppercase())
}

/// A field, its list in the filter, a value, and the same value there.
const SOURCES: &[(&str, &str, &str, &str)] = &[
    ("principals", "peers", "example.org/ns/shop/sa/web", WEB),
    ("principals", "peers", "cluster.local/ns/shop/sa/web", WEB),
    (
        "principals",
        "peers",
        "cluster.local/ns/shop/*",
        "spiffe://example.org/ns/shop/*",
    ),
    ("principals", "peers", "*/sa/web", "*/sa/web"),
    ("principals", "peers", "*", "*"),
    (
        "requestPrincipals",
        "principals",
        "https://good.example/team/7/alice",
        "https://good.example/team/7/alice",
    ),
    (
        "requestPrincipals",
        "principals",
        "https://good.example/team/*",
        "https://good.example/team/*",
    ),
    ("requestPrincipals", "principals", "*", "*"),
    ("namespaces", "namespaces", "sh*", "sh*"),
    ("serviceAccounts", "service_accounts", "web", "foo/web"),
    ("serviceAccounts", "service_accounts", "shop/web", "shop/web"),
    ("ipBlocks", "connection_addresses", "10.1.2.3/8", "10.0.0.0/8"),
    ("remoteIpBlocks", "source_addresses", "2001:db8::1", "2001:db8::1"),
    ("trustDomains", "peers", "example.org", "*"),
    ("trustDomains", "peers", "cluster.local", "*"),
    ("trustDomains", "peers", "*", "*"),
];

const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("hosts", "hosts", "example.org:8080", "example.org:8080"),
    ("methods", "methods", "GET", "GET"),
    ("paths", "paths", "/a/{*}/b/{**}", "/a/{*}/b/{**}"),
    ("paths", "paths", "/a/{**}/b", "/a/{**}/b"),
    ("paths", "paths", "/a/{**}/", "/a/{**}/"),
    ("paths", "paths", "*.txt", "*.txt"),
];

/// A key, what a condition of the filter looks at, a value, and the same value there.
const CONDITIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("request.headers[X-Env]", "header", "x-env", "test", "test"),
    (
        "source.ip",
        "attribute",
        "connection_address",
        "10.1.2.3/8",
        "10.0.0.0/8",
    ),
    ("remote.ip", "attribute", "source_address", "10.1.2.3", "10.1.2.3"),
    ("source.namespace", "attribute", "namespace", "shop", "shop"),
    (
        "source.principal",
        "attribute",
        "peer",
        "cluster.local/ns/shop/sa/web",
        WEB,
    ),
    (
        "source.serviceAccount",
        "attribute",
        "service_account",
        "shop/web",
        "shop/web",
    ),
    (
        "source.serviceAccount",
        "attribute",
        "service_account",
        "web",
        "foo/web",
    ),
    ("source.trustDomain", "attribute", "peer", "cluster.local", "*"),
    ("source.trustDomain", "attribute", "peer", "example.org", "*"),
    (
        "request.auth.principal",
        "attribute",
        "principal",
        "https://good.example/a/b",
        "https://good.example/a/b",
    ),
    ("request.auth.audiences", "claim", "aud", "orders", "orders"),
    ("request.auth.presenter", "claim", "azp", "web*", "web*"),
    ("request.auth.claims[group]", "claim", "/group", "staff", "staff"),
    ("request.auth.claims[a][b]", "claim", "/a/b", "staff", "staff"),
    (
        "request.auth.claims[https://e.org/roles]",
        "claim",
        "/https:~1~1e.org~1roles",
        "staff",
        "staff",
    ),
    (
        "destination.ip",
        "attribute",
        "destination_address",
        "10.1.2.3",
        "10.1.2.3",
    ),
    ("destination.port", "attribute", "destination_port", "8080", "8080"),
    (
        "connection.sni",
        "attribute",
        "server_name",
        "*.example.org",
        "*.example.org",
    ),
];

#[test]
fn each_field_of_a_rule_is_a_list_of_the_filter() {
    let parts = [("from", "source", SOURCES), ("to", "operation", OPERATIONS)];
    for (part, inner, fields) in parts {
        for (istio, ours, value, written) in fields {
            for (istio, ours) in [
                ((*istio).to_owned(), (*ours).to_owned()),
                (capital(istio), format!("not_{ours}")),
            ] {
                let import = policy("DENY", &json!({part: [{inner: {istio.as_str(): [value]}}]}));
                assert_eq!(import.problems, [], "{istio}");
                assert_eq!(
                    import.configuration.unwrap()["access"]["reject"][0][part],
                    json!([{ours: [written]}]),
                    "{istio}"
                );
            }
        }
    }
    let ports = policy(
        "DENY",
        &json!({"to": [{"operation": {"ports": ["80"], "notPorts": ["81"]}}]}),
    );
    assert_eq!(
        ports.configuration.unwrap()["access"]["reject"][0]["to"],
        json!([{"ports": [80], "not_ports": [81]}])
    );
}

#[test]
fn each_condition_is_one_of_the_filter() {
    for (key, member, name, value, written) in CONDITIONS {
        for (istio, ours) in [("values", "values"), ("notValues", "not_values")] {
            let import = policy("DENY", &json!({"when": [{"key": key, istio: [value]}]}));
            assert_eq!(import.problems, [], "{key}");
            assert_eq!(
                import.configuration.unwrap()["access"]["reject"][0]["when"],
                json!([{*member: name, ours: [written]}]),
                "{key}"
            );
        }
    }
}

/// Each of these is Istio's, and was once passed over without a word, or ended the import of all documents.
#[test]
fn what_a_field_cannot_say_is_named_and_refuses_more() {
    for (rule, path) in [
        (
            json!({"from": [{"source": {"trustDomains": ["other.org"]}}]}),
            "from[0].source.trustDomains[0]",
        ),
        (
            json!({"from": [{"source": {"notTrustDomains": ["other.org"]}}]}),
            "from[0].source.notTrustDomains[0]",
        ),
        (
            json!({"when": [{"key": "source.trustDomain", "values": ["ex*"]}]}),
            "when[0].values[0]",
        ),
        (
            json!({"from": [{"source": {"requestPrincipals": ["https://other.example/a/b"]}}]}),
            "from[0].source.requestPrincipals[0]",
        ),
        (
            json!({"from": [{"source": {"notRequestPrincipals": ["alice"]}}]}),
            "from[0].source.notRequestPrincipals[0]",
        ),
        (
            json!({"when": [{"key": "request.auth.principal", "values": ["https://other.example/a"]}]}),
            "when[0].values[0]",
        ),
        (
            json!({"when": [{"key": "source.serviceAccount", "values": ["a*"]}]}),
            "when[0].values[0]",
        ),
        (
            json!({"when": [{"key": "request.headers[a][b]", "values": ["c"]}]}),
            "when[0].key",
        ),
        (
            json!({"when": [{"key": "source.unheardOf", "values": ["c"]}]}),
            "when[0].key",
        ),
        (
            json!({"to": [{"operation": {"paths": ["/{**}/{*}"]}}]}),
            "to[0].operation.paths[0]",
        ),
    ] {
        let expected = format!("spec.rules[0].{path}");
        let denying = policy("DENY", &rule);
        let paths: Vec<&str> = denying.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [expected.as_str()], "{rule}");
        assert_eq!(
            denying.configuration.unwrap()["access"]["reject"],
            json!([{"id": "foo.p.0"}]),
            "{rule}"
        );
        let allowing = policy("ALLOW", &rule);
        assert_eq!(allowing.problems.len(), 1, "{rule}");
        assert_eq!(allowing.configuration.unwrap()["access"]["accept"], json!([]), "{rule}");
    }
}

/// What may mean something else than its author expects is said on standard error, and imported.
#[test]
fn what_is_imported_with_another_meaning_than_it_seems_is_noted() {
    let operation = |field: &str, value: &str| json!({"to": [{"operation": {field: [value]}}]});
    let claim = |value: &str| json!({"when": [{"key": "request.auth.claims[verified]", "values": [value]}]});
    for (rule, path) in [
        (operation("methods", "get"), Some("to[0].operation.methods[0]")),
        (operation("notMethods", "Get"), Some("to[0].operation.notMethods[0]")),
        (operation("methods", "p*"), Some("to[0].operation.methods[0]")),
        (operation("methods", "GET"), None),
        (operation("hosts", "example.org"), Some("to[0].operation.hosts[0]")),
        (
            operation("notHosts", "*.example.org"),
            Some("to[0].operation.notHosts[0]"),
        ),
        (operation("hosts", "[::1]"), Some("to[0].operation.hosts[0]")),
        (operation("hosts", "example.org:*"), None),
        (operation("hosts", "example.org:80"), None),
        (operation("hosts", "*"), None),
        (claim("true"), Some("when[0].values[0]")),
        (claim("false"), Some("when[0].values[0]")),
        (claim("7"), Some("when[0].values[0]")),
        (claim("yes"), None),
    ] {
        let import = policy("DENY", &rule);
        assert_eq!(import.problems, [], "{rule}");
        let notes: Vec<&str> = import.notes.iter().map(|note| note.path.as_str()).collect();
        let expected: Vec<String> = path.iter().map(|path| format!("spec.rules[0].{path}")).collect();
        assert_eq!(notes, expected, "{rule}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases, made of JSON")]
fn each_field_of_a_jwt_rule_is_a_member_of_the_provider_or_named() {
    let with_keys = Workload {
        keys_cluster: Some("issuer".into()),
        ..of_example_org()
    };
    let inline = json!({"issuer": "https://a.example", "jwks": jwks()});
    let fetched = json!({"issuer": "https://a.example"});
    // The rest of a rule, its field; the problem's path within the rule, notes, and the provider's member.
    for (rest, field, problem, notes, member) in [
        (
            &inline,
            json!({"audiences": ["x"]}),
            None,
            0,
            json!({"audiences": ["x"]}),
        ),
        (
            &inline,
            json!({"fromHeaders": [{"name": "X-A"}]}),
            None,
            0,
            json!({"sources": [{"header": "x-a"}]}),
        ),
        (
            &inline,
            json!({"fromParams": ["t"]}),
            None,
            0,
            json!({"sources": [{"query": "t"}]}),
        ),
        (
            &inline,
            json!({"fromCookies": ["t"]}),
            None,
            0,
            json!({"sources": [{"cookie": "t"}]}),
        ),
        (
            &inline,
            json!({"outputPayloadToHeader": "X-P"}),
            None,
            0,
            json!({"payload_header": "x-p"}),
        ),
        (
            &inline,
            json!({"outputClaimToHeaders": [{"header": "X-C", "claim": "c"}]}),
            None,
            1,
            json!({"claim_headers": [{"claim": "/c", "header": "x-c", "encoding": "raw"}]}),
        ),
        (
            &inline,
            json!({"outputClaimToHeaders": [{"header": "X-C", "claim": "https://e.org/c"}]}),
            None,
            2,
            json!({"claim_headers": [{"claim": "/https:~1~1e/org~1c", "header": "x-c", "encoding": "raw"}]}),
        ),
        (
            &inline,
            json!({"spaceDelimitedClaims": ["a/b", "scope"]}),
            None,
            0,
            json!({"space_delimited_claims": ["/a~1b"]}),
        ),
        (&inline, json!({"forwardOriginalToken": true}), None, 0, json!({})),
        (&inline, json!({"timeout": "2s"}), None, 0, json!({})),
        (
            &inline,
            json!({"failureMode": "STRICT"}),
            Some("failureMode"),
            0,
            json!({}),
        ),
        (
            &fetched,
            json!({"jwksUri": "https://a.example/k", "timeout": "2s"}),
            None,
            0,
            json!({"remote_keys": {"uri": "https://a.example/k", "cluster": "issuer", "allow_http": false, "timeout_ms": 2000}}),
        ),
        (
            &fetched,
            json!({"jwks_uri": "https://a.example/k"}),
            None,
            0,
            json!({"remote_keys": {"uri": "https://a.example/k", "cluster": "issuer", "allow_http": false}}),
        ),
        (
            &fetched,
            json!({"jwksUri": "https://a.example/k", "timeout": "1h"}),
            Some("timeout"),
            0,
            json!({}),
        ),
    ] {
        let mut rule = rest.clone();
        for (name, value) in field.as_object().unwrap() {
            rule[name] = value.clone();
        }
        let good =
            json!({"issuer": GOOD, "jwks": jwks(), "forwardOriginalToken": rule["forwardOriginalToken"] == true});
        let mut import = imported(&[authentication(&json!([good, rule]))], &with_keys);
        let paths: Vec<&str> = import.problems.iter().map(|problem| problem.path.as_str()).collect();
        let expected: Vec<String> = problem
            .iter()
            .map(|field| format!("spec.jwtRules[1].{field}"))
            .collect();
        assert_eq!(paths, expected, "{field}");
        import.notes.retain(|note| !note.document.is_empty());
        assert_eq!(import.notes.len(), notes, "{field}: {:?}", import.notes);
        let provider = &import.configuration.as_ref().unwrap()["providers"][1];
        for (name, value) in member.as_object().unwrap() {
            assert_eq!(&provider[name], value, "{field}");
        }
    }
}

#[test]
fn key_sets_of_certificates_are_named() {
    let with_keys = Workload {
        keys_cluster: Some("issuer".into()),
        ..of_example_org()
    };
    for (uri, is_named) in [
        (
            "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com",
            true,
        ),
        ("https://www.googleapis.com/oauth2/v1/certs", true),
        ("https://www.googleapis.com/oauth2/v3/certs", false),
        ("https://a.example/realms/r/protocol/openid-connect/certs", false),
        ("https://a.example/keys.PEM?v=1", true),
        ("https://a.example/x509", true),
        ("https://a.example/jwks.json", false),
    ] {
        let import = imported(
            &[authentication(&json!([{"issuer": GOOD, "jwksUri": uri}]))],
            &with_keys,
        );
        let paths: Vec<&str> = import.problems.iter().map(|problem| problem.path.as_str()).collect();
        let expected: &[&str] = if is_named { &["spec.jwtRules[0].jwksUri"] } else { &[] };
        assert_eq!(paths, expected, "{uri}");
    }
}

#[test]
fn key_sets_of_several_hosts_are_noted_as_they_share_a_cluster() {
    let with_keys = Workload {
        keys_cluster: Some("issuer".into()),
        ..of_example_org()
    };
    let rule = |issuer: &str, uri: &str| json!({"issuer": issuer, "jwksUri": uri});
    for (second, is_noted) in [("https://A.example/two", false), ("https://b.example/two", true)] {
        let rules = json!([
            rule("https://one.example", "https://a.example/one"),
            rule("https://two.example", second)
        ]);
        let import = imported(&[authentication(&rules)], &with_keys);
        assert_eq!(import.problems, []);
        let notes = import.notes.iter().filter(|note| note.path == "spec.jwtRules");
        let notes: Vec<&str> = notes.map(|note| note.message.as_str()).collect();
        let expected = "one cluster (--keys-cluster) has to reach all key sets: a.example, b.example";
        assert_eq!(notes, if is_noted { vec![expected] } else { vec![] }, "{second}");
    }
}

#[test]
fn an_unknown_field_is_named_wherever_it_is() {
    for (kind, spec, path) in [
        ("AuthorizationPolicy", json!({"actions": "DENY"}), "actions"),
        ("AuthorizationPolicy", json!({"rules": [{"form": []}]}), "rules[0].form"),
        (
            "AuthorizationPolicy",
            json!({"rules": [{"from": [{"sources": {}}]}]}),
            "rules[0].from[0].sources",
        ),
        (
            "AuthorizationPolicy",
            json!({"rules": [{"from": [{"source": {"trustDomain": []}}]}]}),
            "rules[0].from[0].source.trustDomain",
        ),
        (
            "AuthorizationPolicy",
            json!({"rules": [{"to": [{"operation": {"method": ["GET"]}}]}]}),
            "rules[0].to[0].operation.method",
        ),
        (
            "AuthorizationPolicy",
            json!({"rules": [{"when": [{"key": "source.ip", "value": ["a"]}]}]}),
            "rules[0].when[0].value",
        ),
        (
            "AuthorizationPolicy",
            json!({"selector": {"labels": {}}}),
            "selector.labels",
        ),
        (
            "RequestAuthentication",
            json!({"jwtRules": [{"issuers": []}]}),
            "jwtRules[0].issuers",
        ),
        (
            "RequestAuthentication",
            json!({"jwtRules": [{"fromHeaders": [{"name": "a", "value": "b"}]}]}),
            "jwtRules[0].fromHeaders[0].value",
        ),
    ] {
        let import = imported(&[document(kind, &spec)], &of_example_org());
        assert_eq!(import.configuration, None, "{spec}");
        let paths: Vec<&str> = import.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [path], "{spec}");
    }
}

#[test]
fn documents_that_are_about_something_else_are_named_too() {
    let peer = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "foo"}, "spec": {"mtls": {"mode": "STRICT"}}});
    let import = imported(&[peer], &of_example_org());
    assert_eq!(import.problems.len(), 1, "{:?}", import.problems);
    assert_eq!(import.problems[0].document, "PeerAuthentication foo/p");
    let elsewhere = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "other"}, "spec": {"action": "DENY", "rules": [{}]}});
    let import = imported(&[elsewhere], &of_example_org());
    assert_eq!(import.problems, []);
    assert!(
        import.notes[0].message.contains("no AuthorizationPolicy"),
        "{:?}",
        import.notes
    );
    let provider = document(
        "AuthorizationPolicy",
        &json!({"action": "DENY", "provider": {"name": "z"}, "rules": [{}]}),
    );
    let import = imported(&[provider], &of_example_org());
    assert_eq!(import.notes[0].path, "spec.provider");
}

fn sidecar_of(action: &str, rule: &Value) -> Sidecar {
    let documents = [
        authentication(&json!([
            {"issuer": GOOD, "jwks": jwks(), "spaceDelimitedClaims": ["groups"], "fromParams": ["token"],
             "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}]},
            {"issuer": "https://good.example/team", "jwks": jwks()},
        ])),
        document("AuthorizationPolicy", &json!({"action": action, "rules": [rule]})),
    ];
    let import = imported(&documents, &of_example_org());
    assert_eq!(import.problems, []);
    Sidecar::new(&import.configuration.unwrap())
}

#[track_caller]
fn check(rule: &Value, cases: &[(Request, bool)]) {
    let mut sidecar = sidecar_of("DENY", rule);
    for (request, is_denied) in cases {
        let expected = is_denied.then_some(DenyReason::AccessRuleReject);
        assert_eq!(sidecar.refuses(request).0, expected, "{rule} {request:?}");
    }
}

fn with_token(issuer: &str, subject: &str) -> Request {
    Request {
        claims: Some(json!({"iss": issuer, "sub": subject})),
        ..Request::default()
    }
}

fn from(peer: &str) -> Request {
    Request {
        peer: Some(peer.to_owned()),
        ..Request::default()
    }
}

#[test]
fn a_subject_with_slashes_is_denied_by_its_text() {
    let source = |list: &str, value: &str| json!({"from": [{"source": {list: [value]}}]});
    let (alice, nested) = (with_token(GOOD, "users/7/alice"), with_token(GOOD, "team/alice"));
    let team = with_token("https://good.example/team", "alice");
    check(
        &source("requestPrincipals", "https://good.example/users/7/alice"),
        &[
            (alice.clone(), true),
            (nested.clone(), false),
            (Request::default(), false),
        ],
    );
    check(
        &source("requestPrincipals", "https://good.example/users/*"),
        &[(alice.clone(), true), (nested.clone(), false)],
    );
    check(
        &source("requestPrincipals", "https://good.example/team/alice"),
        &[(team.clone(), true), (nested.clone(), true), (alice.clone(), false)],
    );
    check(
        &source("notRequestPrincipals", "https://good.example/users/7/alice"),
        &[(alice.clone(), false), (nested, true), (Request::default(), true)],
    );
    check(
        &json!({"when": [{"key": "request.auth.principal", "values": ["*/users/7/alice"]}]}),
        &[(alice, true), (team, false)],
    );
}

#[test]
fn a_principal_is_one_text_where_a_policy_denies_and_two_where_it_allows() {
    let of_team = "https://good.example/team";
    for (entry, issuer, subject, fits_split) in [
        ("*/alice", GOOD, "alice", true),
        ("*/alice", GOOD, "team/alice", false),
        ("https://good.example/*", GOOD, "alice", true),
        ("https://good.example/*", of_team, "alice", false),
        ("https://good.example/team/alice", of_team, "alice", true),
        ("https://good.example/team/alice", GOOD, "team/alice", false),
        ("*.example/team/alice", of_team, "alice", true),
        ("*.example/team/alice", GOOD, "team/alice", false),
    ] {
        let (denied, not_allowed) = (DenyReason::AccessRuleReject, DenyReason::AccessRuleNoAccept);
        for (action, list, expected) in [
            ("DENY", "requestPrincipals", Some(denied)),
            ("DENY", "notRequestPrincipals", (!fits_split).then_some(denied)),
            ("ALLOW", "requestPrincipals", (!fits_split).then_some(not_allowed)),
            ("ALLOW", "notRequestPrincipals", Some(not_allowed)),
        ] {
            let rule = json!({"from": [{"source": {list: [entry]}}]});
            let got = sidecar_of(action, &rule).refuses(&with_token(issuer, subject)).0;
            assert_eq!(got, expected, "{action} {list} {entry} {issuer} {subject}");
        }
    }
}

#[test]
fn peers_are_denied_by_the_meshs_own_trust_domain_and_service_account() {
    let (web, other) = (from(WEB), from("spiffe://example.org/ns/foo/sa/other"));
    let source = |source: Value| json!({"from": [{"source": source}]});
    let nobody = Request::default;
    check(
        &source(json!({"principals": ["cluster.local/ns/shop/sa/web"]})),
        &[(web.clone(), true), (other.clone(), false), (nobody(), false)],
    );
    check(
        &source(json!({"trustDomains": ["cluster.local"]})),
        &[(web.clone(), true), (other.clone(), true), (nobody(), false)],
    );
    check(
        &source(json!({"trustDomains": ["example.org"], "principals": ["*/sa/web"]})),
        &[(web.clone(), true), (other.clone(), false), (nobody(), false)],
    );
    check(
        &source(json!({"notTrustDomains": ["example.org"], "notPrincipals": ["*/sa/web"]})),
        &[(web.clone(), false), (other.clone(), false), (nobody(), true)],
    );
    check(
        &json!({"when": [{"key": "source.serviceAccount", "values": ["shop/web"]}]}),
        &[(web.clone(), true), (other.clone(), false), (nobody(), false)],
    );
    check(
        &json!({"when": [{"key": "source.serviceAccount", "notValues": ["other"]}]}),
        &[(web, true), (other, false), (nobody(), true)],
    );
}

#[test]
fn paths_and_claims_are_denied_as_istio_splits_them() {
    let path = |path: &str| Request {
        path: path.into(),
        ..Request::default()
    };
    check(
        &json!({"to": [{"operation": {"paths": ["/files/{**}/secret"]}}]}),
        &[
            (path("/files/a/secret"), true),
            (path("/files/a/b/secret?x"), true),
            (path("/files/secret"), false),
            (path("/files/a/secret/"), false),
        ],
    );
    let groups = |groups: Value| Request {
        claims: Some(json!({"iss": GOOD, "sub": "a", "groups": groups})),
        ..Request::default()
    };
    check(
        &json!({"when": [{"key": "request.auth.claims[groups]", "values": ["admin"]}]}),
        &[
            (groups(json!("staff admin")), true),
            (groups(json!(["staff", "admin"])), true),
            (groups(json!("staff")), false),
        ],
    );
}

/// Istio has its JWT filter pass preflights by.
#[test]
fn a_preflight_with_a_bad_token_passes_and_is_nobodys() {
    let preflight = |headers: &[(&str, &str)]| Request {
        method: "OPTIONS".into(),
        path: "/?token=bad".into(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Request::default()
    };
    let both = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ];
    let documents = |action: &str| {
        [
            authentication(&json!([{"issuer": GOOD, "jwks": jwks(), "fromParams": ["token"]}])),
            document(
                "AuthorizationPolicy",
                &json!({"action": action, "rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}),
            ),
        ]
    };
    let sidecar = |action: &str| Sidecar::new(&imported(&documents(action), &of_example_org()).configuration.unwrap());
    let mut denying = sidecar("DENY");
    assert_eq!(denying.refuses(&preflight(&both)).0, None);
    for headers in [&both[..1], &both[1..], &[("origin", ""), both[1]], &[]] {
        assert_eq!(
            denying.refuses(&preflight(headers)).0,
            Some(DenyReason::TokenMalformed),
            "{headers:?}"
        );
    }
    let get = Request {
        method: "GET".into(),
        ..preflight(&both)
    };
    assert_eq!(denying.refuses(&get).0, Some(DenyReason::TokenMalformed));
    let mut allowing = sidecar("ALLOW");
    assert_eq!(
        allowing.refuses(&preflight(&both)).0,
        Some(DenyReason::AccessRuleNoAccept)
    );
}

#[test]
fn one_document_with_a_new_field_does_not_end_the_import_of_the_others() {
    let text = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: a, namespace: foo }
spec: { action: DENY, rules: [ { from: [ { source: { notTrustDomains: [ cluster.local ] } } ] } ] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: b, namespace: foo }
spec: { action: DENY, rules: [ { when: [ { key: source.trustDomain, notValues: [ example.org ] } ] } ] }
";
    let import = import(&[("f.yaml".to_owned(), text.to_owned())], &of_example_org());
    assert_eq!(import.problems, []);
    let expected = json!([
        {"id": "foo.a.0", "from": [{"not_peers": ["*"]}]},
        {"id": "foo.b.0", "when": [{"attribute": "peer", "not_values": ["*"]}]},
    ]);
    assert_eq!(import.configuration.unwrap()["access"]["reject"], expected);
}

#[test]
fn a_method_that_only_the_policies_know_is_one_to_the_filter() {
    let methods = json!({"to": [{"operation": {"methods": ["PURGE", "GET", "DEL*"]}}]});
    let import = policy("ALLOW", &methods);
    let configuration = import.configuration.unwrap();
    assert_eq!(configuration["further_methods"], json!(["PURGE"]));
    let mut sidecar = Sidecar::new(&configuration);
    for (method, expected) in [
        ("PURGE", None),
        ("DELETE", None),
        ("BAN", Some(DenyReason::RequestMalformed)),
        ("POST", Some(DenyReason::AccessRuleNoAccept)),
    ] {
        let request = Request {
            method: method.into(),
            ..Request::default()
        };
        assert_eq!(sidecar.refuses(&request).0, expected, "{method}");
    }
    let import = policy("ALLOW", &json!({"to": [{"operation": {"methods": ["GET"]}}]}));
    assert_eq!(import.configuration.unwrap().get("further_methods"), None);
    let methods = json!(["V2GET", "MA1", "M.X", "purge", "V2*", "A B"]);
    let import = policy("ALLOW", &json!({"to": [{"operation": {"methods": methods}}]}));
    assert_eq!(import.problems, []);
    let further = &import.configuration.unwrap()["further_methods"];
    assert_eq!(further, &json!(["M.X", "MA1", "V2GET"]));
}

#[test]
fn further_methods_are_counted_once_each_and_named_above_a_hundred() {
    let further = |methods: &[String]| {
        let operation = |method: &String| json!({"operation": {"methods": [method]}});
        let to: Vec<Value> = methods.iter().map(operation).collect();
        let import = policy("ALLOW", &json!({"to": to}));
        let further = import.configuration.unwrap()["further_methods"].clone();
        (further, import.problems)
    };
    let mut repeated = vec!["PURGE".to_owned(); 120];
    repeated.push("BAN".to_owned());
    assert_eq!(further(&repeated), (json!(["BAN", "PURGE"]), vec![]));
    let distinct: Vec<String> = (100..=200).map(|number| format!("M{number}")).collect();
    assert_eq!(further(&distinct[..100]), (json!(distinct[..100]), vec![]));
    let (taken, problems) = further(&distinct);
    assert_eq!(taken, json!(distinct[..100]));
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let expected = "expected at most 100 methods that are not registered with IANA, found 101: from `M200` on, in \
                    alphabetical order, requests with them are refused";
    assert_eq!(messages, [expected]);
}

#[test]
fn two_rules_of_one_issuer_are_two_providers() {
    let rule = |audience: &str, parameter: &str| {
        json!({
            "issuer": GOOD, "jwks": jwks(), "audiences": [audience], "fromParams": [parameter],
            "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}],
        })
    };
    let documents = [authentication(&json!([rule("a", "t"), rule("b", "u")]))];
    let import = imported(&documents, &of_example_org());
    assert_eq!(import.problems, []);
    let mut sidecar = Sidecar::new(&import.configuration.unwrap());
    for (audience, expected) in [("a", None), ("b", None), ("c", Some(DenyReason::TokenAudienceMismatch))] {
        let request = Request {
            claims: Some(json!({"iss": GOOD, "sub": "alice", "aud": audience})),
            ..Request::default()
        };
        assert_eq!(sidecar.refuses(&request).0, expected, "{audience}");
    }
}
