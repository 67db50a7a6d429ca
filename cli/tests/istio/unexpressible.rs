//! What cannot be expressed is named, and leaves a configuration that refuses more, or none.

use picket::istio::{Import, import};
use picket_core::enforcement::FilterConfiguration;
use serde_json::{Value, json};

use crate::sidecar::{imported, jwks, workload};

fn document(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": "p", "namespace": "foo"}, "spec": spec})
}

fn policy(action: &str, rule: &Value) -> Import {
    imported(
        &[document(
            "AuthorizationPolicy",
            &json!({"action": action, "rules": [rule]}),
        )],
        &workload("foo", &[]),
    )
}

fn jwt(rule: &Value) -> Import {
    let good = json!({"issuer": "https://good.example", "jwks": jwks()});
    imported(
        &[document("RequestAuthentication", &json!({"jwtRules": [good, rule]}))],
        &workload("foo", &[]),
    )
}

#[track_caller]
fn check_paths(import: &Import, expected: &[&str]) {
    let paths: Vec<&str> = import.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, expected, "{:?}", import.problems);
}

#[test]
fn a_rule_that_refuses_refuses_more_and_one_that_allows_allows_less() {
    let rule = json!({
        "from": [{"source": {"principals": ["a*b"], "namespaces": ["x"]}}],
        "to": [{"operation": {"paths": ["/a//b"]}}],
        "when": [{"key": "experimental.envoy.filters.a[b]", "values": ["c"]}],
    });
    let problems = [
        "spec.rules[0].from[0].source.principals[0]",
        "spec.rules[0].to[0].operation.paths[0]",
        "spec.rules[0].when[0].key",
    ];
    let denying = policy("DENY", &rule);
    check_paths(&denying, &problems);
    let expected = json!({"reject": [{"id": "foo.p.0", "from": [{"namespaces": ["x"]}]}]});
    assert_eq!(denying.configuration.unwrap()["access"], expected);
    let allowing = policy("ALLOW", &rule);
    check_paths(&allowing, &problems);
    assert_eq!(allowing.configuration.unwrap()["access"], json!({"accept": []}));
}

#[test]
fn each_thing_that_has_no_form_is_named() {
    for (rule, path) in [
        (json!({"from": [{"source": {}}]}), "spec.rules[0].from[0].source"),
        (json!({"from": [{}]}), "spec.rules[0].from[0].source"),
        (
            json!({"from": [{"source": {"principals": ["other.domain/ns/a/sa/b"]}}]}),
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (
            json!({"from": [{"source": {"requestPrincipals": ["https://a.ex*"]}}]}),
            "spec.rules[0].from[0].source.requestPrincipals[0]",
        ),
        (
            json!({"from": [{"source": {"notIpBlocks": ["10.0.0.0/99"]}}]}),
            "spec.rules[0].from[0].source.notIpBlocks[0]",
        ),
        (
            json!({"from": [{"source": {"serviceAccounts": ["a*"]}}]}),
            "spec.rules[0].from[0].source.serviceAccounts[0]",
        ),
        (
            json!({"to": [{"operation": {"paths": ["/a/{**}/{*}"]}}]}),
            "spec.rules[0].to[0].operation.paths[0]",
        ),
        (
            json!({"to": [{"operation": {"notPorts": ["http"]}}]}),
            "spec.rules[0].to[0].operation.notPorts[0]",
        ),
        (
            json!({"when": [{"key": "request.headers[:path]", "values": ["/a"]}]}),
            "spec.rules[0].when[0].key",
        ),
        (
            json!({"when": [{"key": "request.headers[Host]", "values": ["a"]}]}),
            "spec.rules[0].when[0].key",
        ),
        (
            json!({"when": [{"key": "request.headers[a]", "values": ["*/*"]}]}),
            "spec.rules[0].when[0].values[0]",
        ),
        (
            json!({"when": [{"key": "request.auth.claims[a", "values": ["b"]}]}),
            "spec.rules[0].when[0].key",
        ),
        (json!({"when": [{"key": "source.ip"}]}), "spec.rules[0].when[0]"),
    ] {
        let denying = policy("DENY", &rule);
        check_paths(&denying, &[path]);
        assert_eq!(
            denying.configuration.unwrap()["access"]["reject"],
            json!([{"id": "foo.p.0"}]),
            "{rule}"
        );
        let allowing = policy("ALLOW", &rule);
        check_paths(&allowing, &[path]);
        assert_eq!(allowing.configuration.unwrap()["access"]["accept"], json!([]), "{rule}");
    }
}

#[test]
fn custom_policies_refuse_and_target_references_are_left_out() {
    let spec = json!({"action": "CUSTOM", "provider": {"name": "z"}, "rules": [{"to": [{"operation": {"paths": ["/admin/*"]}}]}]});
    let custom = imported(&[document("AuthorizationPolicy", &spec)], &workload("foo", &[]));
    check_paths(&custom, &["spec.action"]);
    assert!(custom.problems[0].message.contains("`z`"), "{:?}", custom.problems);
    assert_eq!(
        custom.configuration.unwrap()["access"]["reject"][0]["to"],
        json!([{"paths": ["/admin/*"]}])
    );
    let spec = json!({"action": "DENY", "rules": [{}], "targetRefs": [{"kind": "Gateway", "name": "waypoint"}]});
    let target = imported(&[document("AuthorizationPolicy", &spec)], &workload("foo", &[]));
    check_paths(&target, &["spec.targetRefs"]);
    assert_eq!(target.configuration.unwrap().get("access"), None);
}

#[test]
fn a_provider_that_has_no_form_is_left_out_so_that_its_tokens_are_refused() {
    let of = |members: Value| {
        let mut rule = json!({"issuer": "https://a.example", "jwks": jwks()});
        for (name, value) in members.as_object().unwrap() {
            rule[name] = value.clone();
        }
        jwt(&rule)
    };
    for (members, path) in [
        (
            json!({"jwks": null, "jwksUri": "https://a.example/jwks"}),
            "spec.jwtRules[1].jwksUri",
        ),
        (json!({"jwks": null}), "spec.jwtRules[1].jwksUri"),
        (json!({"jwksUri": "https://a.example/jwks"}), "spec.jwtRules[1]"),
        (json!({"jwks": "{"}), "spec.jwtRules[1].jwks"),
        (json!({"issuer": null}), "spec.jwtRules[1].issuer"),
    ] {
        let import = of(members);
        check_paths(&import, &[path]);
        assert_eq!(import.configuration.unwrap()["providers"].as_array().unwrap().len(), 1);
    }
    let weak = of(json!({"jwks": "{\"keys\":[{\"kty\":\"oct\",\"k\":\"YQ\"}]}"}));
    assert_eq!(weak.problems[0].path, "spec.jwtRules[1]");
    assert_eq!(weak.configuration.unwrap()["providers"].as_array().unwrap().len(), 1);
    for (members, path) in [
        (json!({"failureMode": "IGNORE"}), "spec.jwtRules[1].failureMode"),
        (json!({"failureMode": "STRICT"}), "spec.jwtRules[1].failureMode"),
        (json!({"forwardOriginalToken": true}), "spec.jwtRules"),
        (
            json!({"fromHeaders": [{"name": "Authorization", "prefix": "Token "}, {"name": "X-A"}]}),
            "spec.jwtRules[1].fromHeaders",
        ),
    ] {
        let import = of(members);
        check_paths(&import, &[path]);
        assert_eq!(import.configuration.unwrap()["providers"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_token_in_a_place_that_nobody_looks_at_does_not_pass_for_none() {
    let lost = |members: Value| {
        let mut rule = json!({"issuer": "https://a.example", "jwksUri": "https://a.example/jwks"});
        for (name, value) in members.as_object().unwrap() {
            rule[name] = value.clone();
        }
        jwt(&rule).configuration
    };
    let guard = |header: &str, pattern: &str| json!([{"id": "istio-token-0", "when": [{"header": header, "values": [pattern]}]}]);
    // The other provider looks at the default places.
    assert_eq!(lost(json!({})).unwrap().get("access"), None);
    let by_header = lost(json!({"fromHeaders": [{"name": "X-A"}]})).unwrap();
    assert_eq!(by_header["access"]["reject"], guard("x-a", "*"));
    let by_prefix = lost(json!({"fromHeaders": [{"name": "Authorization", "prefix": "Token "}]})).unwrap();
    assert_eq!(by_prefix["access"]["reject"], guard("authorization", "Token *"));
    assert_eq!(lost(json!({"fromCookies": ["session"]})), None);
    assert_eq!(lost(json!({"fromParams": ["token"]})), None);
}

#[test]
fn a_provider_has_all_of_a_jwt_rule() {
    let rule = json!({
        "issuer": "https://a.example", "audiences": ["x"], "jwksUri": "http://keys.example/jwks", "timeout": "2s",
        "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}, {"name": "X-Token", "prefix": "T "}],
        "fromParams": ["token"], "fromCookies": ["session"], "forwardOriginalToken": true,
        "outputPayloadToHeader": "X-Payload", "outputClaimToHeaders": [{"header": "X-Group", "claim": "nested.group"}],
        "spaceDelimitedClaims": ["groups", "scope"],
    });
    let mut with_keys = workload("foo", &[]);
    with_keys.keys_cluster = Some("issuer".into());
    let import = imported(
        &[document("RequestAuthentication", &json!({"jwtRules": [rule]}))],
        &with_keys,
    );
    assert_eq!(import.problems, []);
    let configuration = import.configuration.unwrap();
    let expected = json!({
        "name": "foo.p.0", "issuer": "https://a.example", "audiences": ["x"], "expiry": "none",
        "remote_keys": {"uri": "http://keys.example/jwks", "cluster": "issuer", "allow_http": true, "timeout_ms": 2000},
        "sources": [{"header": "authorization"}, {"header": "x-token", "prefix": "T "}, {"query": "token"}, {"cookie": "session"}],
        "payload_header": "x-payload", "claim_headers": [{"claim": "/nested/group", "header": "x-group", "encoding": "raw"}],
        "space_delimited_claims": ["/groups"],
    });
    assert_eq!(configuration["providers"][0], expected);
    assert_eq!(
        (
            &configuration["forward_credential"],
            &configuration["rules"][0]["credential"]
        ),
        (&json!(true), &json!("optional"))
    );
    FilterConfiguration::from_value(configuration).unwrap();
}

#[test]
fn there_is_no_configuration_where_a_document_is_not_understood() {
    for (text, path) in [
        ("a: [", ""),
        ("a: 1\na: 2", ""),
        ("just text", ""),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}",
            "metadata",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec: {rules: [{form: []}]}",
            "rules[0].form",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec: {action: LOG}",
            "action",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec: {rules: [{to: [{operation: {ports: [80]}}]}]}",
            "rules[0].to[0].operation.ports[0]",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo, annotations: {istio.io/dry-run: 'True'}}",
            "metadata.annotations",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nrules: []",
            "rules",
        ),
    ] {
        let import = import(&[("f.yaml".to_owned(), text.to_owned())], &workload("foo", &[]));
        assert_eq!(import.configuration, None, "{text}");
        check_paths(&import, &[path]);
    }
    let lost = imported(
        &[document(
            "RequestAuthentication",
            &json!({"jwtRules": [{"issuer": "https://a.example", "jwksUri": "https://a.example/k"}]}),
        )],
        &workload("foo", &[]),
    );
    assert_eq!((lost.configuration, lost.problems.len()), (None, 2));
}

#[test]
fn yaml_is_read_as_kubernetes_writes_it() {
    let text = "
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1beta1
  kind: AuthorizationPolicy
  metadata:
    name: p
    namespace: foo
    uid: 1
  spec:
    rules:
    - to:
      - operation:
          ports: [\"80\"]
          paths: ['/a*', /b]
  status: {}
- apiVersion: v1
  kind: Service
  metadata: {name: s, namespace: foo}
---
# nothing
";
    let import = import(&[("f.yaml".to_owned(), text.to_owned())], &workload("foo", &[]));
    assert_eq!(import.problems, []);
    let notes: Vec<&str> = import.notes.iter().map(|note| note.document.as_str()).collect();
    assert_eq!(notes, ["Service foo/s"]);
    let expected = json!({"accept": [{"id": "foo.p.0", "to": [{"ports": [80], "paths": ["/a*", "/b"]}]}]});
    assert_eq!(import.configuration.unwrap()["access"], expected);
}
