//! `picket explain`.

use std::fs;
use std::path::{Path, PathBuf};

use picket_audit::{AuditLog, Event, KeyEncryptionKey};
use picket_model::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{picket, text};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-service/policies")
}

#[test]
fn a_permit_is_explained_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let (request, policies) = (folder.path().join("request.yaml"), shipped());
    fs::write(&request, "route_rule: orders-read\nprincipal: { roles: [clerk] }\n").unwrap();
    let arguments = ["explain", text(&request), "--policies", text(&policies)];
    let answer = picket(&arguments);
    answer.expect(0);
    let file = policies.join("orders.cedar");
    let expected = format!(
        "\
request    GET service.example/, route rule orders-read, at 2026-01-05T12:00:00Z
principal  Picket::User::\"https://issuer.example|someone\"
  in       Picket::Role::\"clerk\"
  in       Picket::Role::\"reader\"
action     Picket::Action::\"GET\"
resource   Picket::Resource::\"service.example/\"
{file}:3: orders-read (permit) applies, and decides
  scope: true
  when {{ resource.route_rule == \"orders-read\" }}: true
{file}:39: secret-needs-auditor (forbid) does not apply
  scope: true
  when {{ resource has classification && resource.classification == \"secret\" }}: false
  unless {{ principal in Picket::Role::\"auditor\" }}: not reached
not looked at, as they are about other route rules or tenants: orders-write, orders-refund, stock-read
decision   permit by orders-read, revision ",
        file = file.display()
    );
    assert!(answer.stdout.starts_with(&expected), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .contains("\ndepends on route rule, token, method\nvalid      as "),
        "{}",
        answer.stdout
    );
    let answer = picket(&[&arguments[..], &["--output", "json"]].concat()).json();
    assert_eq!(
        (&answer["effect"], &answer["vary"]),
        (&json!("permit"), &json!(["method"]))
    );
    let policies = answer["trace"]["policies"].as_array().unwrap();
    assert_eq!(policies[0]["policy"]["id"], "orders-read");
    assert_eq!(policies[0]["clauses"], json!(["true"]));
    assert_eq!(policies[4]["clauses"], json!(["false", null]));
    assert_eq!(policies[1]["is_candidate"], false);
}

#[test]
fn a_failing_policy_and_a_reason_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let policies = "@id(\"breaks\") permit (principal is Picket::User, action, resource)\n\
                    when { principal has auth_time && principal.auth_time + 9223372036854775807 > 0 };\n\
                    @id(\"closed\") @reason(\"closed today\") forbid (principal, action, resource);\n";
    fs::write(folder.path().join("p.cedar"), policies).unwrap();
    let request = folder.path().join("request.yaml");
    fs::write(&request, "route_rule: a\nprincipal: { auth_time_s: 1 }\n").unwrap();
    let answer = picket(&["explain", text(&request), "--policies", text(folder.path())]);
    answer.expect(0);
    for expected in [
        "p.cedar:1: breaks (permit) fails, which is a deny\n",
        "> 0 }: fails: ",
        "decision   deny by closed, breaks, revision ",
        "\n  reason   closed today\n",
        "\n  error    ",
        "valid      not at all",
    ] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
}

#[test]
fn challenges_obligations_time_and_observe_mode_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let policies = "@id(\"pay\") @obligation(\"log\") permit (principal is Picket::User, action, resource)\n\
                    when { principal has acr && principal.acr == \"gold\" } when { context.time.hour == 11 };\n\
                    @id(\"tried\") @mode(\"observe\") forbid (principal, action, resource);\n\
                    @id(\"foreign\") @tenant(\"acme\") permit (principal, action, resource);\n";
    fs::write(folder.path().join("p.cedar"), policies).unwrap();
    let request = folder.path().join("request.yaml");
    let explain = |acr: &str| {
        let time = "2026-01-05T10:30:00Z";
        let text_of = format!("route_rule: a\nprincipal: {{ acr: {acr} }}\ncontext: {{ time: \"{time}\" }}\n");
        fs::write(&request, text_of).unwrap();
        let arguments = [
            "explain",
            text(&request),
            "--policies",
            text(folder.path()),
            "--time-zone",
            "Europe/Berlin",
        ];
        let answer = picket(&arguments);
        answer.expect(0);
        answer.stdout
    };
    let permitted = explain("gold");
    for expected in [
        ", at 2026-01-05T10:30:00Z\n",
        ": pay (permit) applies, and decides\n",
        ": tried (forbid, in observe mode) applies\n",
        "\nnot looked at, as they are about other route rules or tenants: foreign\n",
        "\ndecision   permit by pay, revision ",
        "\n  obliges  log\n",
        ", and no longer than 1800000 ms, when the time can change it\n",
        "\nobserved   deny by tried, if they were not in observe mode\n",
    ] {
        assert!(permitted.contains(expected), "{expected}\n{permitted}");
    }
    let denied = explain("silver");
    for expected in [
        "\ndecision   challenge by no policy, revision ",
        "\n  needs    acr gold\n",
    ] {
        assert!(denied.contains(expected), "{expected}\n{denied}");
    }
    let arguments = [
        "explain",
        text(&request),
        "--policies",
        text(folder.path()),
        "--time-zone",
        "Mars/Olympus",
    ];
    picket(&arguments).expect(2);
}

#[test]
fn a_case_is_found_by_its_name() {
    let policies = shipped();
    let cases = policies.join("tests/orders.yaml");
    let arguments = ["explain", text(&cases), "--policies", text(&policies)];
    let answer = picket(&arguments);
    answer.expect(2);
    assert!(
        answer.stderr.contains("has 15 requests: name one of them with --name"),
        "{}",
        answer.stderr
    );
    picket(&[&arguments[..], &["--name", "nothing like it"]].concat()).expect(2);
    let answer = picket(&[&arguments[..], &["--name", "a reader writes none"]].concat());
    answer.expect(0);
    assert!(
        answer.stdout.contains("decision   deny by no policy, revision "),
        "{}",
        answer.stdout
    );
}

#[test]
fn a_stated_risk_is_what_policies_see_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.yaml");
    let said = "route_rule: records\nprincipal: { roles: [staff] }\nrisk: { score: 25, signals: [new_device] }\n";
    fs::write(&request, said).unwrap();
    let policies = shipped().join("examples/risk");
    let explain = |more: &[&str]| picket(&[&["explain", text(&request), "--policies", text(&policies)], more].concat());
    let answer = explain(&[]);
    answer.expect(0);
    for expected in [
        "\nrisk       25 (medium)\n  signal   new_device: stated\n",
        "\n  when { context has risk && context.risk.level == \"medium\" }: true\n",
        "\ndecision   challenge by risk-medium-second-factor, revision ",
        "\ndepends on route rule, token, peer, method, source_address, user_agent\n",
    ] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
    let json = explain(&["--risk-medium-from", "26", "--output", "json"]).json();
    assert_eq!(
        (&json["risk"]["level"], &json["effect"]),
        (&json!("low"), &json!("permit"))
    );
    explain(&["--risk-medium-from", "51"]).expect(2);
    explain(&["--risk-high-from", "101"]).expect(2);
}

/// A log with one decision, about a permit that another revision has given.
fn log(folder: &Path) -> (PathBuf, PathBuf) {
    log_with(folder, &Value::Null)
}

/// The same, with this risk in its record.
fn log_with(folder: &Path, risk: &Value) -> (PathBuf, PathBuf) {
    let (database, key) = (folder.join("audit.sqlite3"), folder.join("audit-key"));
    fs::write(&key, KEY).unwrap();
    let content = json!({
        "event": "decision", "decision_id": "d-1", "time_us": 1, "caller": "spiffe://example.org/orders",
        "sidecar": {"node_id": "", "workload": "orders"}, "request_id": "r", "traceparent": null,
        "route_rule": "orders-write",
        "principal": {
            "issuer": "https://issuer.example", "subject": "alice", "tenant": null, "roles": ["reader"], "scopes": [],
            "acr": null, "amr": [], "auth_time_s": null, "session_id": null, "token_id": null, "issued_at_s": null,
            "expires_at_s": null,
        },
        "peer": "spiffe://example.org/web", "action": {"method": "POST"},
        "resource": {"host": "orders.example.org", "path": "/orders", "path_parameters": {}, "classification": null},
        "context": {"source_address": "10.1.2.3", "user_agent": null},
        "effect": "permit", "policy_revision": "0123456789abcdef", "policy_ids": ["readers-write"],
        "evaluation_errors": [], "caller_reasons": [], "risk": risk, "valid_for_ms": 1, "evaluation_us": 1,
    });
    let event: Event = serde_json::from_value(content).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (log, writer) = AuditLog::open(&database, KeyEncryptionKey::from_hex(KEY).unwrap(), |_| {}).unwrap();
    runtime.block_on(log.append(Timestamp::from_us(1), &event)).unwrap();
    writer.close();
    (database, key)
}

#[test]
fn a_recorded_decision_is_explained_by_the_policies_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let (database, key) = log(folder.path());
    let policies = shipped();
    let arguments = |id: &'static str| -> Vec<String> {
        [
            "explain",
            id,
            "--database",
            text(&database),
            "--key",
            text(&key),
            "--policies",
            text(&policies),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let run = |arguments: &[String]| picket(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = run(&arguments("d-1"));
    answer.expect(0);
    for expected in [
        "request    POST orders.example.org/orders, route rule orders-write, at 1970-01-01T00:00:00.000001Z\n",
        "\ndecision   deny by no policy, revision ",
        "\nrecorded   permit by readers-write, another revision, 0123456789abcdef\n",
    ] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
    let answer = run(&arguments("d-2"));
    answer.expect(3);
    assert!(answer.stderr.contains("no decision `d-2`"), "{}", answer.stderr);
    let mut arguments = arguments("d-1");
    arguments.extend(["--output", "json"].map(str::to_owned));
    let json: Value = run(&arguments).json();
    assert_eq!(json["recorded"]["effect"], "permit");
    assert_eq!(json["effect"], "deny");
}

#[test]
fn a_recorded_decision_has_the_risk_of_its_record() {
    let recorded = |mode: &str, signal: &str| {
        let signals = json!([{"signal": signal, "explanation": "192.0.2.0/24 is new"}]);
        json!({"score": 30, "level": "medium", "mode": mode, "factors": ["password"], "signals": signals, "country": "DE"})
    };
    let policies = tempfile::tempdir().unwrap();
    let policy = "@id(\"usual\") permit (principal, action, resource) when { context has risk && context.risk.score < 30 };\n\
                  @id(\"unusual\") permit (principal, action, resource) when { context has risk && context.risk.score == 30\n\
                  && context.risk has country && context.risk.country == \"DE\" && context.risk.level == \"medium\" && context.risk.signals == [\"new_location\"] };\n";
    fs::write(policies.path().join("p.cedar"), policy).unwrap();
    let explain = |risk: &Value| {
        let folder = tempfile::tempdir().unwrap();
        let (database, key) = log_with(folder.path(), risk);
        let of_log = ["--database", text(&database), "--key", text(&key)];
        picket(&[&["explain", "d-1", "--policies", text(policies.path())], &of_log[..]].concat())
    };
    let answer = explain(&recorded("effective", "new_location"));
    answer.expect(0);
    for expected in [
        "\nrisk       30 (medium), from DE\n  signal   new_location: 192.0.2.0/24 is new\n",
        "\ndecision   permit by unusual, revision ",
    ] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
    let learnt = explain(&recorded("learning", "new_location"));
    for expected in [
        "\nrisk       30 (medium), from DE, which was only learnt: policies see 0\n",
        "\ndecision   permit by usual, revision ",
    ] {
        assert!(learnt.stdout.contains(expected), "{expected}\n{}", learnt.stdout);
    }
    // Policies would see another risk than they saw then.
    let newer = explain(&recorded("effective", "of_a_newer_version"));
    newer.expect(3);
}

#[test]
fn mistakes_of_file_and_policies_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.yaml");
    fs::write(&request, "rule: orders-read\n").unwrap();
    let answer = picket(&["explain", text(&request), "--policies", text(&shipped())]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("request.yaml: rule: unknown field"),
        "{}",
        answer.stdout
    );
    fs::write(&request, "{}\n").unwrap();
    let answer = picket(&["explain", text(&request), "--policies", text(&shipped())]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("request.yaml: route_rule: is required"),
        "{}",
        answer.stdout
    );
    picket(&["explain", text(&request), "--policies", "/no/such/folder"]).expect(3);
    picket(&["explain", "d-1", "--database", "x", "--policies", text(&shipped())]).expect(2);
}
