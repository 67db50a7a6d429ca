//! `picket risk explain`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use picket_model::access::{AccessRequest, Action, Context, Principal, Resource, Sidecar};
use picket_model::time::Timestamp;
use picket_risk::{AddressInfo, RequestFacts, RequestOutcome, RiskEngine, RiskSettings, write_state};
use picket_service_configuration as configuration;
use serde_json::json;

use crate::support::{keys, picket, text};

const START_S: u64 = 1_700_000_000;

fn request(subject: Option<&str>, address: &str) -> AccessRequest {
    AccessRequest {
        request_id: "r".into(),
        sidecar: Sidecar {
            workload: "orders".into(),
            ..Sidecar::default()
        },
        route_rule: "orders-read".into(),
        principal: subject.map(|subject| Principal {
            issuer: "https://issuer.example".into(),
            subject: subject.into(),
            ..Principal::default()
        }),
        peer: "spiffe://example.org/web".parse().ok(),
        action: Action { method: "GET".into() },
        resource: Resource {
            host: "orders.example.org".into(),
            path: "/".into(),
            ..Resource::default()
        },
        context: Context {
            source_address: address.parse().ok(),
            ..Context::default()
        },
        ..AccessRequest::default()
    }
}

/// What a service with the defaults saves after these requests.
fn saved(folder: &tempfile::TempDir) -> PathBuf {
    let file = folder.path().join("risk.state");
    save(&file, settings(folder));
    file
}

/// Writes what a service with these settings saves after these requests.
pub(crate) fn save(file: &Path, settings: RiskSettings) {
    let mut engine = RiskEngine::new(Arc::new(settings), NonZeroUsize::new(10).unwrap());
    let home = request(Some("alice"), "192.0.2.1");
    let away = request(Some("alice"), "198.51.100.1");
    let workload = request(None, "192.0.2.1");
    for (after_s, request) in [(0, &home), (60, &home), (120, &away), (180, &away), (240, &workload)] {
        let facts = RequestFacts::new(
            request,
            AddressInfo::default(),
            Timestamp::from_ms((START_S + after_s) * 1000),
        );
        let assessment = engine.assess(&facts, None);
        engine.learn(&facts, &assessment, RequestOutcome::Permitted);
    }
    let mut bytes = Vec::new();
    write_state(&mut bytes, engine.baselines()).unwrap();
    fs::write(file, bytes).unwrap();
}

/// The defaults, by way of a configuration.
fn settings(folder: &tempfile::TempDir) -> RiskSettings {
    let (_keys, keys) = keys();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("audit-key"), "00".repeat(32)).unwrap();
    let keys = keys.display();
    let service = format!(
        r#"
        [grpc]
        listen = "127.0.0.1:0"
        certificate_file = "{keys}/orders.pem"
        key_file = "{keys}/orders-key.pem"
        client_ca_file = "{keys}/ca.pem"
        allowed_callers = ["spiffe://example.org/orders"]
        [http]
        listen = "127.0.0.1:0"
        [policies]
        directory = "policies"
        [audit]
        database_file = "audit.sqlite3"
        key_encryption_key_file = "audit-key"
        [risk]
        state_file = "risk.state"
        "#
    );
    let file = folder.path().join("service.toml");
    fs::write(&file, service).unwrap();
    configuration::check(&file).unwrap().risk.unwrap().settings
}

#[test]
fn shows_score_signals_and_history_of_a_subject() {
    let folder = tempfile::tempdir().unwrap();
    let file = saved(&folder);
    let explain = ["risk", "explain", "--state-file", text(&file)];
    let alice = [&explain[..], &["--issuer", "https://issuer.example", "alice"]].concat();
    let answer = picket(&alice);
    answer.expect(0);
    for line in [
        "https://issuer.example|alice: score 30 (medium), asks for password, one_time_code",
        "signals    new_location",
        "permitted  4 requests",
        "hours      22 h 100 % (UTC)",
        "location   192.0.2.0/24  from the start to 2023-11-14T22:14:20Z",
        "location   198.51.100.0/24  2023-11-14T22:15:20Z to 2023-11-14T22:16:20Z",
        "history    2023-11-14T22:15:20Z to 2023-11-14T22:16:20Z  2 requests  30 (medium)  new_location",
        "history    2023-11-14T22:13:20Z to 2023-11-14T22:14:20Z  2 requests  0 (low)  none",
    ] {
        assert!(
            answer.stdout.lines().any(|found| found == line),
            "{line}\n{}",
            answer.stdout
        );
    }
    let answer = picket(&[&alice[..], &["--output", "json"]].concat()).json();
    assert_eq!(answer["score"], 30);
    assert_eq!(answer["factors"], json!(["password", "one_time_code"]));
    assert_eq!(answer["history"][0]["signals"], json!(["new_location"]));
    let workload = [
        &explain[..],
        &["--workload", "spiffe://example.org/web", "--output", "json"],
    ]
    .concat();
    assert_eq!(picket(&workload).json()["score"], 0);
}

#[test]
fn a_principal_that_is_not_remembered_and_a_file_that_is_damaged_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = saved(&folder);
    let explain = |file: &PathBuf, subject: &str| {
        let arguments = [
            "--state-file",
            text(file),
            "--issuer",
            "https://issuer.example",
            subject,
        ];
        picket(&[&["risk", "explain"], &arguments[..]].concat())
    };
    let answer = explain(&file, "bob");
    answer.expect(1);
    assert_eq!(answer.stdout, "https://issuer.example|bob: not remembered\n");
    let altered = fs::read_to_string(&file)
        .unwrap()
        .replace("\"permits\":4", "\"permits\":5");
    fs::write(&file, altered).unwrap();
    let answer = explain(&file, "alice");
    answer.expect(3);
    assert!(
        answer.stderr.contains("is damaged at line 4: the checksum is another"),
        "{}",
        answer.stderr
    );
    explain(&folder.path().join("none"), "alice").expect(3);
    picket(&["risk", "explain", "--state-file", text(&file), "alice"]).expect(2);
    picket(&["risk", "explain", "--state-file", text(&file)]).expect(2);
}
