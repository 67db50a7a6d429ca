//! `picket config check` and `picket config schema`.

use std::fs;

use serde_json::json;

use crate::support::{keys, picket, text};

/// A configuration of the filter that spells out every field.
fn filter_document() -> serde_json::Value {
    json!({
        "workload": "orders",
        "policy_service": {"cluster": "policy_service", "timeout_ms": 500},
        "trust_domains": ["example.org"],
        "providers": [],
        "rules": [{
            "id": "health", "hosts": ["*"], "methods": ["GET"], "paths": ["/health"], "peer": "none", "peers": null,
            "credential": "none", "decision": "permit", "classification": null,
        }],
        "forward_credential": false,
        "explain_permits": false,
        "token_cache_entries_max": 10,
        "decision_cache_entries_max": 10,
    })
}

const SERVICE_DOCUMENT: &str = r#"
[grpc]
listen = "127.0.0.1:9191"
certificate_file = "web.pem"
key_file = "web-key.pem"
client_ca_file = "ca.pem"
allowed_callers = ["spiffe://example.org/orders"]
[http]
listen = "127.0.0.1:9192"
[policies]
directory = "policies"
[audit]
database_file = "audit.sqlite3"
key_encryption_key_file = "audit-key"
"#;

#[test]
fn a_filter_configuration_without_a_mistake_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.json");
    fs::write(&file, filter_document().to_string()).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(0);
    assert_eq!(answer.stdout, format!("{}: no mistake\n", file.display()));
    let answer = picket(&["config", "check", text(&file), "--output", "json"]).json();
    assert_eq!(answer, json!({"file": text(&file), "kind": "filter", "problems": []}));
}

#[test]
fn a_hint_is_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.json");
    let mut document = filter_document();
    let mut admin = document["rules"][0].clone();
    admin["id"] = json!("admin");
    admin["paths"] = json!(["/admin/{**}"]);
    admin["decision"] = json!("deny");
    document["rules"][0]["paths"] = json!(["/{**}"]);
    document["rules"].as_array_mut().unwrap().push(admin);
    fs::write(&file, document.to_string()).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(0);
    let [hint, end] = answer.stdout.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", answer.stdout);
    };
    let expected =
        "rules[1].paths[0]: a server that takes `/Admin/` or `/admin` for `/admin/{**}` is reached under rule `health`";
    assert!(hint.contains(expected) && hint.ends_with("(a hint)"), "{hint}");
    assert!(end.ends_with("no mistake"), "{end}");
    let answer = picket(&["config", "check", text(&file), "--output", "json"]).json();
    assert_eq!(answer["problems"], json!([]));
    assert_eq!(answer["hints"][0]["path"], "rules[1].paths[0]");
}

#[test]
fn what_has_a_default_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.json");
    let rule = json!({
        "id": "health", "hosts": ["*"], "paths": ["/health"], "peer": "none", "credential": "none", "decision": "permit",
    });
    fs::write(&file, json!({"workload": "orders", "rules": [rule]}).to_string()).unwrap();
    picket(&["config", "check", text(&file)]).expect(0);
}

#[test]
fn every_mistake_of_a_filter_configuration_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.json");
    let mut document = filter_document();
    document["rules"][0]["peer"] = json!("nobody");
    document["workloads"] = json!(["orders"]);
    fs::write(&file, document.to_string()).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(1);
    assert_eq!(answer.stdout.lines().count(), 2, "{}", answer.stdout);
    for expected in ["rules[0].peer: unknown value `nobody`", "workloads: unknown field"] {
        let line = format!("{}: {expected}", file.display());
        assert!(answer.stdout.contains(&line), "{}", answer.stdout);
    }
    let answer = picket(&["config", "check", text(&file), "--output", "json"]);
    answer.expect(1);
    let found: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let paths: Vec<&str> = found["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|problem| problem["path"].as_str())
        .collect();
    assert_eq!(paths.len(), 2);
    assert!(paths.contains(&"rules[0].peer") && paths.contains(&"workloads"));
}

#[test]
fn the_policy_services_configuration_is_checked_by_its_own_rules() {
    let (_folder, directory) = keys();
    let file = directory.join("service.toml");
    fs::create_dir(directory.join("policies")).unwrap();
    fs::write(&file, SERVICE_DOCUMENT).unwrap();
    picket(&["config", "check", text(&file)]).expect(0);
    fs::remove_file(directory.join("audit-key")).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("audit.key_encryption_key_file: cannot read"),
        "{}",
        answer.stdout
    );
    fs::write(&file, SERVICE_DOCUMENT.replace("[policies]", "color = 3\n[policies]")).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(1);
    assert!(answer.stdout.contains("http.color: unknown field"), "{}", answer.stdout);
    fs::write(&file, "[grpc\n").unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(1);
    assert!(answer.stdout.contains("line 1: not TOML"), "{}", answer.stdout);
}

#[test]
fn the_kind_can_be_said_where_the_name_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings");
    fs::write(&file, filter_document().to_string()).unwrap();
    let answer = picket(&["config", "check", text(&file)]);
    answer.expect(2);
    assert!(answer.stderr.contains("--kind"), "{}", answer.stderr);
    picket(&["config", "check", text(&file), "--kind", "filter"]).expect(0);
    picket(&["config", "check", text(&file), "--kind", "policy-service"]).expect(1);
}

#[test]
fn a_file_that_cannot_be_read_is_no_mistake_of_the_file() {
    let (_folder, directory) = keys();
    for name in ["absent.json", "absent.toml"] {
        let answer = picket(&["config", "check", text(&directory.join(name))]);
        answer.expect(3);
        assert_eq!(answer.stdout, "");
        assert!(answer.stderr.contains(name), "{}", answer.stderr);
    }
}

#[test]
fn the_schema_names_the_fields_of_the_filters_configuration() {
    let schema = picket(&["config", "schema"]).json();
    for field in filter_document().as_object().unwrap().keys() {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
    assert_eq!(schema["additionalProperties"], false);
}
