use picket_reference::service;
use picket_service_configuration as configuration;
use serde_json::{Value, json};

use crate::contract::Contract;

/// A configuration of the filter that decides alone.
const FILTER: &str = r#"{"workload": "orders", "rules": [
    {"id": "a", "hosts": ["*"], "paths": ["/"], "peer": "none", "credential": "none", "decision": "permit"}]}"#;

#[test]
fn the_policy_service_takes_the_keys_of_the_reference_with_their_bounds_and_defaults() {
    let folder = folder();
    let file = folder.path().join("service.toml");
    let parse = |document: &Value| {
        std::fs::write(&file, toml_of(document)).unwrap();
        configuration::check(&file).map(|configuration| format!("{configuration:?}"))
    };
    let contract = Contract {
        sections: service::sections().unwrap(),
        examples: vec![with_sqlite(), with_postgres()],
        parse: &parse,
        dependent_bounds: &[
            "sessions.idle_timeout_s",
            "sessions.absolute_timeout_s",
            "sessions.sessions_max",
            "sessions.sessions_per_tenant_max",
            "risk.medium_from",
            "risk.high_from",
            "risk.dynamics.anomaly_above",
            "risk.dynamics.challenge_above",
        ],
    };
    contract.check();
}

/// A folder with the files that the examples name, which are relative to it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    for (name, text) in [
        ("service.pem", certificate.as_str()),
        ("ca.pem", &certificate),
        ("service-key.pem", "key"),
        (
            "audit-key",
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        ),
        ("filter.json", FILTER),
        ("resources.json", "[]"),
        ("postgres-url", "postgres://user@localhost/picket"),
        ("threats.netset", "192.0.2.0/24"),
        ("geo.mmdb", ""),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    folder
}

fn with_sqlite() -> Value {
    json!({
        "grpc": {
            "listen": "127.0.0.1:9191",
            "certificate_file": "service.pem",
            "key_file": "service-key.pem",
            "client_ca_file": "ca.pem",
            "allowed_callers": ["spiffe://example.org/orders"],
            "callers": [{"spiffe_id": "spiffe://example.org/operator", "roles": ["operator"]}],
            "concurrency_max": 100,
            "request_bytes_max": 2048,
        },
        "http": {"listen": "127.0.0.1:9192"},
        "authzen": {
            "listen": "127.0.0.1:9193",
            "policy_decision_point": "https://pdp.example.org",
            "concurrency_max": 100,
            "request_bytes_max": 2048,
            "evaluations_max": 10,
            "resources_file": "resources.json",
        },
        "ext_authz": {
            "filter_configuration_file": "filter.json",
            "peer_ca_file": "ca.pem",
            "request_bytes_max": 2048,
        },
        "policies": {"source": "folder", "directory": "policies", "time_zone": "Europe/Berlin"},
        "roles": {"source": "token_and_store"},
        "decisions": {"permit_valid_for_ms": 1000, "deny_valid_for_ms": 1000},
        "audit": {"database_file": "audit.sqlite3", "key_encryption_key_file": "audit-key"},
        "sessions": {
            "idle_timeout_s": 600,
            "absolute_timeout_s": 7200,
            "reauthentication_interval_s": 3600,
            "concurrent_max": 5,
            "fingerprint": ["peer"],
            "tokens_without_id": "permit",
            "retention_s": 86400,
            "clock_skew_s": 10,
            "sessions_max": 1000,
            "sessions_per_tenant_max": 1000,
            "cache_entries_max": 1000,
        },
        "devices": {
            "deny": ["retired"],
            "audience": "devices",
            "challenge_valid_for_s": 60,
            "devices_max": 1000,
            "cache_entries_max": 1000,
            "compliance": {
                "os_versions_min": {"macos": "14.2"},
                "disk_encryption_required": true,
                "management_required": true,
                "posture_age_s_max": 86400,
            },
            "trust": {
                "trusted_points": 90,
                "enrolled_points": 40,
                "noncompliance_points": 20,
                "age_points": 3,
                "age_step_s": 3600,
                "age_points_max": 30,
                "failure_points": 5,
                "failure_points_max": 40,
                "trusted_from": 70,
            },
        },
        "storage": {"sqlite_file": "storage.sqlite3"},
        "log": {"level": "warn"},
        "risk": risk(),
    })
}

fn risk() -> Value {
    json!({
        "state_file": "risk.state",
        "mode": "learning",
        "save_interval_s": 60,
        "principals_max": 2000,
        "remembered_for_days": 30,
        "medium_from": 10,
        "high_from": 60,
        "low_valid_for_ms": 1000,
        "medium_valid_for_ms": 1000,
        "high_valid_for_ms": 1000,
        "location": {
            "enabled": true, "weight": 5, "settles_after_s": 60, "speed_kmh_max": 900, "distance_km_min": 50,
        },
        "device": {
            "enabled": true, "weight": 5, "settles_after_s": 60, "trust_score_min": 10, "compliance": false,
        },
        "time": {
            "enabled": true, "weight": 5, "half_life_days": 7, "observations_min": 10, "share_min_percent": 3,
        },
        "behaviour": {
            "enabled": true,
            "weight": 5,
            "rate_window_s": 30,
            "rate_windows_min": 20,
            "rate_requests_min": 50,
            "rate_deviations_max": 5,
            "observations_min": 40,
            "settles_after_s": 60,
            "denials_min": 4,
            "denials_window_s": 30,
        },
        "threats": {"enabled": true, "weight": 5},
        "authentication": {
            "enabled": true, "weight": 5, "window_s": 60, "failures_min": 4, "challenges_min": 10,
        },
        "token": {"enabled": true, "weight": 5, "window_s": 60, "peers_max": 3, "locations_max": 3},
        "dynamics": {
            "enabled": true,
            "weight": 5,
            "window_s": 60,
            "observations_min": 10,
            "deviations_max": 2,
            "keystroke_variance_max_hundredths": 20,
            "mouse_velocity_adds": 5,
            "keystroke_variance_adds": 5,
            "touch_pressure_adds": 5,
            "touch_area_adds": 5,
            "anomaly_above": 20,
            "challenge_above": 60,
        },
        "factors": {"low_acr_values": ["low"], "medium_acr_values": ["medium"], "high_acr_values": ["high"]},
        "threat_lists": [{"name": "listed", "file": "threats.netset"}],
        "threat_list_interval_s": 30,
        "geoip_country_file": "geo.mmdb",
        "geoip_city_file": "geo.mmdb",
        "geoip_asn_file": "geo.mmdb",
    })
}

fn with_postgres() -> Value {
    let mut document = with_sqlite();
    document["risk"]["factors"] = json!({"low_acr_values": [], "medium_acr_values": [], "high_acr_values": []});
    document["storage"] = json!({"postgres_url_file": "postgres-url", "postgres_ca_file": "ca.pem"});
    document
}

/// A document as TOML: its tables inline, as texts, numbers, lists and booleans are those of JSON.
fn toml_of(document: &Value) -> String {
    let members = document.as_object().unwrap().iter();
    members
        .map(|(name, value)| format!("{name} = {}\n", inline(value)))
        .collect()
}

fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| format!("{name} = {}", inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(elements) => format!("[{}]", elements.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
