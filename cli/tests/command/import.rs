//! `picket import istio`.

use std::fs;

use serde_json::{Value, json};

use crate::support::{picket, text};

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: orders } }
  rules:
  - from:
    - source: { principals: [ example.org/ns/shop/sa/web ] }
";

#[test]
fn a_configuration_goes_to_standard_output_and_is_without_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let (policies, filter) = (folder.path().join("policies.yaml"), folder.path().join("filter.json"));
    fs::write(&policies, POLICY).unwrap();
    let workload = [
        "--namespace",
        "shop",
        "--labels",
        "app=orders,v=1",
        "--trust-domain",
        "example.org",
    ];
    let arguments = [&["import", "istio", text(&policies)][..], &workload].concat();
    let answer = picket(&arguments);
    answer.expect(0);
    assert_eq!(answer.stderr, "");
    let configuration: Value = serde_json::from_str(&answer.stdout).unwrap();
    let expected = json!([{"id": "shop.web.0", "from": [{"peers": ["spiffe://example.org/ns/shop/sa/web"]}]}]);
    assert_eq!(configuration["access"]["accept"], expected);
    fs::write(&filter, &answer.stdout).unwrap();
    picket(&["config", "check", text(&filter)]).expect(0);
    let answer = picket(&["import", "istio", text(&policies), "--namespace", "shop"]);
    answer.expect(0);
    let other: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(other.get("access"), None);
}

#[test]
fn what_cannot_be_expressed_is_named_and_the_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies.yaml");
    fs::write(&policies, POLICY).unwrap();
    let arguments = [
        "import",
        "istio",
        text(&policies),
        "--namespace",
        "shop",
        "--labels",
        "app=orders",
    ];
    let answer = picket(&arguments);
    answer.expect(1);
    let path = "AuthorizationPolicy shop/web: spec.rules[0].from[0].source.principals[0]";
    assert!(
        answer.stderr.starts_with(&format!("cannot express: {path}: ")),
        "{}",
        answer.stderr
    );
    let configuration: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(configuration["access"], json!({"accept": []}));
    let answer = picket(&[&arguments[..], &["--output", "json"]].concat());
    answer.expect(1);
    let import: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(import["configuration"], configuration);
    assert_eq!(import["problems"][0]["document"], "AuthorizationPolicy shop/web");
}

/// Each of these could pass for a policy that holds: the command must not say that all is well.
#[test]
fn what_would_mean_something_else_or_nothing_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies.yaml");
    let head = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: shop }
spec:
  action: DENY
";
    let run = |spec: &str, further: &[&str]| {
        fs::write(&policies, format!("{head}{spec}")).unwrap();
        let arguments = ["import", "istio", text(&policies), "--namespace", "shop"];
        picket(&[&arguments[..], further].concat())
    };
    let by_address = "  rules: [ { from: [ { source: { ipBlocks: [ 10.0.0.0/8 ] } } ] } ]\n";
    let answer = run(by_address, &[]);
    answer.expect(1);
    assert!(answer.stderr.contains("--use-remote-address"), "{}", answer.stderr);
    let answer = run(by_address, &["--use-remote-address"]);
    answer.expect(0);
    assert!(
        answer
            .stderr
            .starts_with("note: AuthorizationPolicy shop/web: spec.rules[0].from[0].source.ipBlocks[0]: "),
        "{}",
        answer.stderr
    );
    assert_eq!(answer.stderr.lines().count(), 1);
    let by_request = "  rules: [ { from: [ { source: { remoteIpBlocks: [ 10.0.0.0/8 ] } } ] } ]\n";
    for listener in [&[][..], &["--use-remote-address"]] {
        let answer = run(by_request, listener);
        answer.expect(1);
        assert!(
            answer.stderr.contains("--forwarded-for-trusted-hops"),
            "{}",
            answer.stderr
        );
    }
    let answer = run(by_request, &["--forwarded-for-trusted-hops", "2"]);
    answer.expect(0);
    assert_eq!(answer.stderr, "");
    let configuration: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(configuration["forwarded_for_trusted_hops"], 2);
    run(by_request, &["--forwarded-for-trusted-hops", "33"]).expect(2);
    let of_nobody = "  rules: [ { from: [ { source: { requestPrincipals: [ https://issuer.example/a/b ] } } ] } ]\n";
    let answer = run(of_nobody, &[]);
    answer.expect(1);
    assert!(
        answer
            .stderr
            .contains("requestPrincipals[0]: expected the issuer of a provider"),
        "{}",
        answer.stderr
    );
    let lower_case = "  rules: [ { to: [ { operation: { methods: [ get ] } } ] } ]\n";
    let answer = run(lower_case, &[]);
    answer.expect(0);
    assert!(answer.stderr.starts_with("note: "), "{}", answer.stderr);
    let for_a_gateway = "  rules: [ {} ]\n  targetRefs: [ { kind: Gateway, name: waypoint } ]\n";
    let answer = run(for_a_gateway, &["--use-remote-address"]);
    answer.expect(1);
    assert!(
        answer
            .stderr
            .contains("AuthorizationPolicy shop/web: spec.targetRefs: "),
        "{}",
        answer.stderr
    );
    assert!(answer.stderr.contains("left out"), "{}", answer.stderr);
}

#[test]
fn a_file_that_is_not_understood_leaves_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies.yaml");
    fs::write(&policies, format!("{POLICY}  unknown: 1\n")).unwrap();
    let answer = picket(&["import", "istio", text(&policies), "--namespace", "shop"]);
    answer.expect(1);
    assert_eq!(answer.stdout, "");
    picket(&["import", "istio", "/no/such/file", "--namespace", "shop"]).expect(3);
    picket(&["import", "istio", text(&policies)]).expect(2);
    picket(&[
        "import",
        "istio",
        text(&policies),
        "--namespace",
        "shop",
        "--labels",
        "app",
    ])
    .expect(2);
}
