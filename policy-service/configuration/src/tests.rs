use std::ffi::OsString;
use std::path::PathBuf;

use picket_model::device::DeviceState;
use picket_state::devices::{Compliance, OsName, OsVersion, TrustWeights};
use picket_state::sessions::{FingerprintPart, WithoutId};

use super::*;

/// A configuration of the filter with one rule, which decides alone.
const FILTER: &str = r#"{"workload": "orders", "rules": [
    {"id": "a", "hosts": ["*"], "paths": ["/"], "peer": "none", "credential": "none", "decision": "permit"}]}"#;
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const WHOLE: &str = r#"
[grpc]
listen = "127.0.0.1:9191"
certificate_file = "service.pem"
key_file = "service-key.pem"
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

/// A folder with everything that [`WHOLE`] names.
fn folder(organisation: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate(organisation);
    for (name, text) in [
        ("service.pem", certificate.as_str()),
        ("ca.pem", &certificate),
        ("service-key.pem", "key"),
        ("audit-key", KEY),
        ("filter.json", FILTER),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    folder
}

fn certificate(organisation: &str) -> String {
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, organisation);
    let key = rcgen::KeyPair::generate().unwrap();
    parameters.self_signed(&key).unwrap().pem()
}

fn write(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("service.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.as_slice().iter().map(ToString::to_string).collect()
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// Asserts that each mistake is told, and no other, by the beginnings of the lines.
fn check_mistakes(found: &[String], expected: &[&str], folder: &tempfile::TempDir) {
    let prefix = format!("{}/", folder.path().display());
    let found: Vec<String> = found.iter().map(|line| line.replace(&prefix, "")).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn a_whole_file_is_read_with_its_defaults_and_paths_beside_it() {
    let folder = folder("Example");
    let configuration = check(&write(&folder, WHOLE)).unwrap();
    assert_eq!(configuration.grpc.listen.to_string(), "127.0.0.1:9191");
    assert_eq!(configuration.grpc.certificate_file, folder.path().join("service.pem"));
    assert_eq!(configuration.grpc.concurrency_max, 1024);
    assert_eq!(configuration.grpc.request_bytes_max, 65_536);
    let policies = PolicySource::Folder(folder.path().join("policies"));
    assert_eq!(configuration.policies.source, policies);
    assert_eq!(configuration.audit.database_file, folder.path().join("audit.sqlite3"));
    assert_eq!(configuration.decisions.permit_valid_for_ms, 60_000);
    assert_eq!(configuration.decisions.deny_valid_for_ms, 5_000);
    assert_eq!(configuration.log.level, LogLevel::Info);
}

fn with_sessions(more: &str) -> String {
    format!("{WHOLE}\n{more}")
}

#[test]
fn sessions_are_kept_where_the_file_says_and_have_defaults() {
    let folder = folder("Example");
    assert_eq!(check(&write(&folder, WHOLE)).unwrap().sessions, None);
    let text = with_sessions("[sessions]\n[storage]\nsqlite_file = \"storage.sqlite3\"");
    let configuration = check(&write(&folder, &text)).unwrap();
    let settings = configuration.sessions.unwrap();
    let file = folder.path().join("storage.sqlite3");
    assert_eq!(configuration.storage, Some(StorageLocation::Sqlite { file }));
    let limits = settings.limits;
    assert_eq!(limits.idle_timeout_us, 1_800_000_000);
    assert_eq!(limits.absolute_timeout_us, 43_200_000_000);
    assert_eq!(limits.reauthentication_interval_us, None);
    assert_eq!(limits.concurrent_max, 100);
    assert_eq!(
        settings.fingerprint,
        [FingerprintPart::UserAgent, FingerprintPart::Peer]
    );
    assert_eq!(settings.without_id, WithoutId::Deny);
    assert_eq!(
        (settings.quota.sessions_max, settings.quota.per_tenant_max),
        (1_000_000, 250_000)
    );

    std::fs::write(folder.path().join("url"), "postgres://localhost/picket").unwrap();
    let text = with_sessions(
        "[sessions]\nidle_timeout_s = 10\nreauthentication_interval_s = 20\nfingerprint = [\"peer\"]\ntokens_without_id = \"permit\"\n\
         [storage]\npostgres_url_file = \"url\"\npostgres_ca_file = \"ca.pem\"",
    );
    let configuration = check(&write(&folder, &text)).unwrap();
    let settings = configuration.sessions.unwrap();
    let expected = StorageLocation::Postgres {
        url_file: folder.path().join("url"),
        ca_file: Some(folder.path().join("ca.pem")),
    };
    assert_eq!(configuration.storage, Some(expected));
    assert_eq!(settings.limits.reauthentication_interval_us, Some(20_000_000));
    assert_eq!(settings.fingerprint, [FingerprintPart::Peer]);
    assert_eq!(settings.without_id, WithoutId::Permit);
}

#[test]
fn policies_are_in_a_folder_or_in_the_store() {
    let folder = folder("Example");
    let policies = |section: &str| WHOLE.replace("directory = \"policies\"", section);
    let stored = format!("{}\n[storage]\nsqlite_file = \"s\"", policies("source = \"store\""));
    let configuration = check(&write(&folder, &stored)).unwrap();
    assert_eq!(configuration.policies.source, PolicySource::Store);
    assert_eq!(configuration.roles, RoleSource::Token);
    for (section, expected) in [
        (
            "source = \"store\"",
            "storage: is required where there is `policies.source = \"store\"`",
        ),
        (
            "source = \"store\"\ndirectory = \"policies\"",
            "policies.directory: is for `source = \"folder\"`",
        ),
        ("", "policies.directory: is required where `source` is `folder`"),
        (
            "source = \"folder\"",
            "policies.directory: is required where `source` is `folder`",
        ),
        ("source = \"database\"\ndirectory = \"policies\"", "policies.source: "),
    ] {
        let problems = check(&write(&folder, &policies(section))).unwrap_err();
        check_mistakes(&lines(&problems), &[expected], &folder);
    }
}

#[test]
fn sessions_without_a_place_and_timeouts_that_disagree_are_refused() {
    let folder = folder("Example");
    for (more, expected) in [
        ("[sessions]", "storage: is required where there is `[sessions]`"),
        (
            "[storage]\nsqlite_file = \"s\"",
            "storage: nothing is stored without `[sessions]` or `[devices]` or `policies.source = \"store\"` or `roles.source = \"token_and_store\"`",
        ),
        (
            "[roles]\nsource = \"token_and_store\"",
            "storage: is required where there is `roles.source = \"token_and_store\"`",
        ),
        ("[roles]\nsource = \"store\"", "roles.source: "),
        (
            "[sessions]\n[storage]",
            "storage: expected one of `sqlite_file` and `postgres_url_file`",
        ),
        (
            "[sessions]\n[storage]\nsqlite_file = \"s\"\npostgres_url_file = \"ca.pem\"",
            "storage: expected one of `sqlite_file` and `postgres_url_file`",
        ),
        (
            "[sessions]\n[storage]\nsqlite_file = \"s\"\npostgres_ca_file = \"ca.pem\"",
            "storage.postgres_ca_file: is for `postgres_url_file`",
        ),
        (
            "[sessions]\nidle_timeout_s = 61\nabsolute_timeout_s = 60\n[storage]\nsqlite_file = \"s\"",
            "sessions.idle_timeout_s: expected at most `sessions.absolute_timeout_s`, which is 60, found 61",
        ),
        (
            "[sessions]\nsessions_max = 10001\nsessions_per_tenant_max = 1\n[storage]\nsqlite_file = \"s\"",
            "sessions.sessions_per_tenant_max: expected 2 to 10001, as `sessions.sessions_max` is 10001, found 1",
        ),
        (
            "[sessions]\nsessions_max = 10\nsessions_per_tenant_max = 11\n[storage]\nsqlite_file = \"s\"",
            "sessions.sessions_per_tenant_max: expected 1 to 10, as `sessions.sessions_max` is 10, found 11",
        ),
        (
            "[sessions]\nconcurrent_max = 0\n[storage]\nsqlite_file = \"s\"",
            "sessions.concurrent_max: expected 1 to 10000, found 0",
        ),
        (
            "[sessions]\nfingerprint = [\"device\"]\n[storage]\nsqlite_file = \"s\"",
            "sessions.fingerprint[0]: ",
        ),
    ] {
        let problems = check(&write(&folder, &with_sessions(more))).unwrap_err();
        check_mistakes(&lines(&problems), &[expected], &folder);
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_path_and_expectation() {
    let folder = folder("Example");
    std::fs::write(folder.path().join("short-key"), "00").unwrap();
    let text = r#"
        [grpc]
        listen = "localhost:9191"
        certificate_file = "service-key.pem"
        client_ca_file = "none.pem"
        key_file = 7
        allowed_callers = ["spiffe://example.org/orders", "https://example.org", 4]
        concurrency_max = 0
        request_bytes_max = 9999999
        port = 1
        [http]
        listen = ""
        [policies]
        directory = "service.pem"
        [decisions]
        permit_valid_for_ms = -1
        deny_valid_for_ms = "5s"
        [audit]
        database_file = "none/audit.sqlite3"
        key_encryption_key_file = "short-key"
        [log]
        level = "loud"
        [extra]
    "#;
    let problems = check(&write(&folder, text)).unwrap_err();
    let expected = [
        "grpc.listen: `localhost:9191` is not an address, expected one such as `127.0.0.1:9191`",
        "grpc.certificate_file: `service-key.pem` holds no PEM certificate",
        "grpc.client_ca_file: cannot read `none.pem`",
        "grpc.key_file: expected a string, found an integer",
        "grpc.allowed_callers[1]: `https://example.org` is not a SPIFFE ID: expected a URI that begins",
        "grpc.allowed_callers[2]: expected a string, found an integer",
        "grpc.concurrency_max: expected 1 to 65536, found 0",
        "grpc.request_bytes_max: expected 1024 to 1048576, found 9999999",
        "grpc.port: unknown field, expected one of `listen`",
        "http.listen: `` is not an address",
        "policies.directory: `service.pem` is not a folder",
        "decisions.permit_valid_for_ms: expected 0 to 86400000, found -1",
        "decisions.deny_valid_for_ms: expected an integer, found a string",
        "audit.database_file: its folder `none` does not exist",
        "audit.key_encryption_key_file: expected a key of 64 hexadecimal characters",
        "log.level: unknown value `loud`, expected one of `trace`",
        "extra: unknown field, expected one of `grpc`",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn what_is_missing_is_named() {
    let folder = folder("Example");
    let problems = check(&write(&folder, "[grpc]\nallowed_callers = []\n[http]\n")).unwrap_err();
    let expected = [
        "grpc.listen: is required",
        "grpc.certificate_file: is required",
        "grpc.key_file: is required",
        "grpc.client_ca_file: is required",
        "grpc.allowed_callers: expected 1 to 10000 SPIFFE IDs, found 0",
        "http.listen: is required",
        "policies: is required",
        "audit: is required",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let folder = folder("Example");
    let problems = check(&write(&folder, "[grpc]\nlisten = \n")).unwrap_err();
    check_mistakes(&lines(&problems), &["line 2: not TOML: "], &folder);
    let problems = check(&folder.path().join("none.toml")).unwrap_err();
    check_mistakes(&lines(&problems), &["cannot read `none.toml`"], &folder);
}

#[test]
fn the_environment_overrides_the_file() {
    let folder = folder("Example");
    let file = write(&folder, WHOLE);
    let variables = environment(&[
        ("PICKET__GRPC__LISTEN", "127.0.0.1:1"),
        (
            "PICKET__GRPC__ALLOWED_CALLERS",
            r#"["spiffe://example.org/a", "spiffe://example.org/b"]"#,
        ),
        ("PICKET__GRPC__CONCURRENCY_MAX", "5"),
        ("PICKET__LOG__LEVEL", "warn"),
        ("PICKET__DECISIONS__DENY_VALID_FOR_MS", "0"),
        ("PATH", "/bin"),
    ]);
    let configuration = load(&file, variables).unwrap();
    assert_eq!(configuration.grpc.listen.port(), 1);
    assert_eq!(configuration.grpc.allowed_callers.len(), 2);
    assert_eq!(configuration.grpc.concurrency_max, 5);
    assert_eq!(configuration.log.level, LogLevel::Warn);
    assert_eq!(configuration.decisions.deny_valid_for_ms, 0);
    assert_eq!(check(&file).unwrap().grpc.listen.port(), 9191);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let folder = folder("Example");
    let variables = environment(&[
        ("PICKET__GRPC__LISTEN", "nowhere"),
        ("PICKET__GRPC__COLOUR", "red"),
        ("PICKET__LISTEN", "x"),
        ("PICKET__A__B__C", "x"),
    ]);
    let problems = load(&write(&folder, WHOLE), variables).unwrap_err();
    let expected = [
        "grpc.listen: `nowhere` is not an address, expected one such as `127.0.0.1:9191` or `[::1]:9191` (from environment variable `PICKET__GRPC__LISTEN`)",
        "grpc.colour: unknown field",
        "environment variable `PICKET__LISTEN`: expected `PICKET__SECTION__KEY`",
        "environment variable `PICKET__A__B__C`: expected `PICKET__SECTION__KEY`",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn a_development_certificate_serves_loopback_addresses_only() {
    let folder = folder(fields::DEVELOPMENT_ORGANISATION);
    check(&write(&folder, WHOLE)).unwrap();
    check(&write(&folder, &WHOLE.replace("127.0.0.1:9191", "[::1]:9191"))).unwrap();
    let problems = check(&write(&folder, &WHOLE.replace("127.0.0.1:9191", "0.0.0.0:9191"))).unwrap_err();
    let expected = [
        "grpc.certificate_file: a development certificate serves loopback addresses only, and `grpc.listen` is `0.0.0.0:9191`",
        "grpc.client_ca_file: a development certificate serves loopback addresses only",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn another_certificate_serves_any_address() {
    let folder = folder("Example");
    check(&write(&folder, &WHOLE.replace("127.0.0.1:9191", "0.0.0.0:9191"))).unwrap();
}

/// A file with this after it.
fn with(folder: &tempfile::TempDir, more: &str) -> Result<Configuration, Problems> {
    check(&write(folder, &format!("{WHOLE}\n{more}")))
}

#[test]
fn risk_is_off_where_it_is_absent_and_has_the_documented_defaults_where_it_is_there() {
    let folder = folder("Example");
    assert_eq!(with(&folder, "").unwrap().risk, None);
    let risk = with(&folder, "[risk]\nstate_file = \"risk.state\"")
        .unwrap()
        .risk
        .unwrap();
    assert_eq!(risk.state_file, folder.path().join("risk.state"));
    assert_eq!((risk.save_interval_s, risk.threat_list_interval_s), (300, 60));
    let settings = &risk.settings;
    assert_eq!(settings.mode, picket_risk::RiskMode::Effective);
    assert_eq!((settings.levels.medium_from, settings.levels.high_from), (20, 50));
    let valid = settings.valid_for_ms;
    assert_eq!((valid.low, valid.medium, valid.high), (300_000, 60_000, 0));
    let weights = [
        settings.location.as_ref().unwrap().weight,
        settings.device.as_ref().unwrap().weight,
        settings.behaviour.as_ref().unwrap().weight,
        settings.time.as_ref().unwrap().weight,
        settings.threat_list.as_ref().unwrap().weight,
        settings.authentication.as_ref().unwrap().weight,
        settings.token.as_ref().unwrap().weight,
        settings.dynamics.as_ref().unwrap().weight,
    ];
    assert_eq!(weights, [30, 25, 20, 15, 50, 20, 20, 20]);
    assert!(!settings.factors.are_enforced());
}

#[test]
fn each_kind_of_signal_can_be_switched_off_and_weighed() {
    let folder = folder("Example");
    let kinds = [
        "location",
        "device",
        "time",
        "behaviour",
        "threats",
        "authentication",
        "token",
        "dynamics",
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        let section = |value: &str| format!("[risk]\nstate_file = \"s\"\n[risk.{kind}]\n{value}\n");
        let off = with(&folder, &section("enabled = false"))
            .unwrap()
            .risk
            .unwrap()
            .settings;
        let is_off = [
            off.location.is_none(),
            off.device.is_none(),
            off.time.is_none(),
            off.behaviour.is_none(),
            off.threat_list.is_none(),
            off.authentication.is_none(),
            off.token.is_none(),
            off.dynamics.is_none(),
        ];
        assert_eq!(is_off, std::array::from_fn(|n| n == index), "{kind}");
        let weighed = with(&folder, &section("weight = 7")).unwrap().risk.unwrap().settings;
        let weights = [
            weighed.location.map(|kind| kind.weight),
            weighed.device.map(|kind| kind.weight),
            weighed.time.map(|kind| kind.weight),
            weighed.behaviour.map(|kind| kind.weight),
            weighed.threat_list.map(|kind| kind.weight),
            weighed.authentication.map(|kind| kind.weight),
            weighed.token.map(|kind| kind.weight),
            weighed.dynamics.map(|kind| kind.weight),
        ];
        assert_eq!(weights[index], Some(7), "{kind}");
        assert!(
            weights.iter().filter(|weight| **weight == Some(7)).count() == 1,
            "{kind}"
        );
    }
}

#[test]
fn mistakes_about_risk_are_told_with_their_paths() {
    let folder = folder("Example");
    std::fs::write(folder.path().join("a.netset"), "192.0.2.0/24\n").unwrap();
    let problems = with(
        &folder,
        r#"
        [risk]
        state_file = "none/risk.state"
        mode = "loud"
        principals_max = 10
        geoip_asn_file = "none.mmdb"
        [risk.location]
        weight = 101
        colour = "red"
        [risk.behaviour]
        denials_min = 33
        [[risk.threat_lists]]
        name = "a b"
        file = "a.netset"
        [[risk.threat_lists]]
        file = "none.netset"
        "#,
    )
    .unwrap_err();
    let expected = [
        "risk.state_file: its folder `none` does not exist",
        "risk.mode: unknown value `loud`, expected one of `learning`",
        "risk.principals_max: expected 1000 to 10000000, found 10",
        "risk.geoip_asn_file: cannot read `none.mmdb`",
        "risk.location.weight: expected 0 to 100, found 101",
        "risk.location.colour: unknown field, expected one of `enabled`",
        "risk.behaviour.denials_min: expected 1 to 32, found 33",
        "risk.threat_lists[0].name: expected a name of 1 to 64 letters",
        "risk.threat_lists[1].name: is required",
        "risk.threat_lists[1].file: cannot read `none.netset`",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
    let problems = with(
        &folder,
        r#"
        [risk]
        state_file = "risk.state"
        medium_from = 60
        threat_lists = [{ name = "a", file = "a.netset" }, { name = "a", file = "a.netset" }]
        "#,
    )
    .unwrap_err();
    let expected = [
        "risk.medium_from: expected at most `risk.high_from`, which is 50, found 60",
        "risk.threat_lists[1].name: the name `a` is taken by another list",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
    let problems = with(&folder, "[risk]\nmode = \"learning\"").unwrap_err();
    check_mistakes(&lines(&problems), &["risk.state_file: is required"], &folder);
}

#[test]
fn factors_are_enforced_from_a_level_on_and_by_values_that_a_challenge_can_carry() {
    let folder = folder("Example");
    let with_factors = |more: &str| {
        let section = format!("[risk]\nstate_file = \"s\"\n[risk.factors]\n{more}\n");
        with(&folder, &section).map(|configuration| configuration.risk.unwrap().settings.factors)
    };
    let enforced = with_factors("medium_acr_values = [\"mfa\"]\nhigh_acr_values = [\"hardware\", \"phr\"]").unwrap();
    assert!(enforced.are_enforced());
    let problems = with_factors("medium_acr_values = [\"mfa\"]").unwrap_err();
    let expected = ["risk.factors.high_acr_values: is required where `risk.factors.medium_acr_values` is given"];
    check_mistakes(&lines(&problems), &expected, &folder);
    let problems = with_factors("low_acr_values = [\"pw\"]\nhigh_acr_values = [\"a b\"]").unwrap_err();
    let expected = ["risk.factors.high_acr_values[0]: expected 1 to 128 letters, digits and signs"];
    check_mistakes(&lines(&problems), &expected, &folder);
    let many = "high_acr_values = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]";
    let expected = ["risk.factors.high_acr_values: expected at most 8 values, found 9"];
    check_mistakes(&lines(&with_factors(many).unwrap_err()), &expected, &folder);
    let section = "[risk]\nstate_file = \"s\"\n[risk.dynamics]\nanomaly_above = 51";
    let expected =
        ["risk.dynamics.anomaly_above: expected at most `risk.dynamics.challenge_above`, which is 50, found 51"];
    check_mistakes(&lines(&with(&folder, section).unwrap_err()), &expected, &folder);
}

#[test]
fn every_key_about_risk_is_in_the_reference() {
    let folder = folder("Example");
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/policy-service.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let mut keys = 0;
    for table in [
        "risk",
        "risk.location",
        "risk.device",
        "risk.time",
        "risk.behaviour",
        "risk.threats",
        "risk.authentication",
        "risk.token",
        "risk.dynamics",
        "risk.factors",
    ] {
        // The error about an unknown key names all that are known.
        let problems = with(&folder, &format!("[{table}]\nunknown = 1")).unwrap_err();
        let told = lines(&problems)
            .into_iter()
            .find(|line| line.contains("unknown field"))
            .unwrap();
        for key in told.split('`').skip(1).step_by(2) {
            let is_table = reference.contains(&format!("`{table}.{key}."));
            assert!(
                is_table || reference.contains(&format!("`{table}.{key}`")),
                "{table}.{key}"
            );
            keys += 1;
        }
    }
    assert!(keys > 35, "{keys}");
}

#[test]
fn external_authorization_is_off_without_its_section_and_has_defaults_in_it() {
    let folder = folder("Example");
    assert!(check(&write(&folder, WHOLE)).unwrap().ext_authz.is_none());
    let section = "[ext_authz]\nfilter_configuration_file = \"filter.json\"\npeer_ca_file = \"ca.pem\"\n";
    let configuration = check(&write(&folder, &format!("{WHOLE}{section}"))).unwrap();
    let front = configuration.ext_authz.unwrap();
    assert_eq!(front.filter_configuration_file, folder.path().join("filter.json"));
    assert_eq!(front.peer_ca_file, folder.path().join("ca.pem"));
    assert_eq!(front.request_bytes_max, 131_072);
}

#[test]
fn mistakes_in_the_filters_configuration_are_told_with_the_services() {
    let folder = folder("Example");
    std::fs::write(folder.path().join("other.json"), "{\"workload\": 1, \"rules\": []}").unwrap();
    let section = "[ext_authz]\nfilter_configuration_file = \"other.json\"\nrequest_bytes_max = 1\n";
    let problems = check(&write(&folder, &format!("{WHOLE}{section}"))).unwrap_err();
    let expected = [
        "ext_authz.filter_configuration_file: `other.json`: workload: expected a string, found an integer",
        "ext_authz.peer_ca_file: is required",
        "ext_authz.request_bytes_max: expected 1024 to 1048576, found 1",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn peers_of_a_development_authority_are_believed_on_loopback_addresses_only() {
    let folder = folder("Example");
    std::fs::write(
        folder.path().join("mesh.pem"),
        certificate(fields::DEVELOPMENT_ORGANISATION),
    )
    .unwrap();
    let section = "[ext_authz]\nfilter_configuration_file = \"filter.json\"\npeer_ca_file = \"mesh.pem\"\n";
    let text = format!("{WHOLE}{section}");
    check(&write(&folder, &text)).unwrap();
    let problems = check(&write(&folder, &text.replace("127.0.0.1:9191", "0.0.0.0:9191"))).unwrap_err();
    let expected = ["ext_authz.peer_ca_file: a development certificate serves loopback addresses only"];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn the_authzen_api_is_off_without_its_section_and_has_limits_in_it() {
    let folder = folder("Example");
    assert!(check(&write(&folder, WHOLE)).unwrap().authzen.is_none());
    let section = "[authzen]\nlisten = \"127.0.0.1:9193\"\npolicy_decision_point = \"https://pdp.example.org:8443\"\n\
                   resources_file = \"other.json\"\n";
    std::fs::write(folder.path().join("other.json"), "[]").unwrap();
    let front = check(&write(&folder, &format!("{WHOLE}{section}")))
        .unwrap()
        .authzen
        .unwrap();
    assert_eq!(front.policy_decision_point, "https://pdp.example.org:8443");
    assert_eq!(front.resources_file, Some(folder.path().join("other.json")));
    assert_eq!(
        (front.concurrency_max, front.request_bytes_max, front.evaluations_max),
        (256, 262_144, 100)
    );
    let section =
        "[authzen]\nlisten = \"here\"\npolicy_decision_point = \"https://pdp.example.org/a\"\nevaluations_max = 0\n";
    let problems = check(&write(&folder, &format!("{WHOLE}{section}"))).unwrap_err();
    let expected = [
        "authzen.listen: `here` is not an address",
        "authzen.policy_decision_point: `https://pdp.example.org/a` is not `https://` with a host",
        "authzen.evaluations_max: expected 1 to 1000, found 0",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn a_development_certificate_serves_the_authzen_api_on_loopback_addresses_only() {
    let folder = folder(fields::DEVELOPMENT_ORGANISATION);
    let section = "[authzen]\nlisten = \"0.0.0.0:9193\"\npolicy_decision_point = \"https://pdp.example.org\"\n";
    let problems = check(&write(&folder, &format!("{WHOLE}{section}"))).unwrap_err();
    let expected = [
        "grpc.certificate_file: a development certificate serves loopback addresses only, and `authzen.listen` is `0.0.0.0:9193`",
        "grpc.client_ca_file: a development certificate serves loopback addresses only, and `authzen.listen` is",
    ];
    check_mistakes(&lines(&problems), &expected, &folder);
}

#[test]
fn devices_have_defaults_and_every_weight_can_be_set() {
    let folder = folder("Example");
    assert_eq!(check(&write(&folder, WHOLE)).unwrap().devices, None);
    let kept = |devices: &str| {
        let text = format!("{WHOLE}\n{devices}\n[storage]\nsqlite_file = \"storage.sqlite3\"");
        check(&write(&folder, &text)).unwrap().devices.unwrap()
    };
    let settings = kept("[devices]");
    assert_eq!(settings.denied, [DeviceState::Suspended, DeviceState::Retired]);
    assert_eq!(settings.compliance, Compliance::default());
    assert_eq!(
        (settings.devices_max, settings.challenge_valid_for_us),
        (200_000, 600_000_000)
    );
    let weights = TrustWeights {
        trusted_points: 100,
        enrolled_points: 50,
        noncompliance_points: 30,
        age_points: 2,
        age_step_us: 86_400_000_000,
        age_points_max: 40,
        failure_points: 10,
        failure_points_max: 50,
        trusted_from: 60,
    };
    assert_eq!(settings.weights, weights);
    let settings = kept(
        "[devices]\ndeny = [\"enrolled\"]\naudience = \"pdp\"\n[devices.compliance]\nos_versions_min = { macos = \"14.2\" }\n\
         disk_encryption_required = true\nmanagement_required = true\nposture_age_s_max = 60\n\
         [devices.trust]\ntrusted_points = 9\nenrolled_points = 8\nnoncompliance_points = 7\nage_points = 6\nage_step_s = 61\n\
         age_points_max = 5\nfailure_points = 4\nfailure_points_max = 3\ntrusted_from = 2",
    );
    assert_eq!(
        (settings.denied.as_slice(), settings.audience.as_str()),
        ([DeviceState::Enrolled].as_slice(), "pdp")
    );
    let expected = Compliance {
        os_versions_min: [(OsName::new("macos").unwrap(), OsVersion::new("14.2").unwrap())].into(),
        disk_encryption_required: true,
        management_required: true,
        posture_age_us_max: Some(60_000_000),
    };
    assert_eq!(settings.compliance, expected);
    let weights = TrustWeights {
        trusted_points: 9,
        enrolled_points: 8,
        noncompliance_points: 7,
        age_points: 6,
        age_step_us: 61_000_000,
        age_points_max: 5,
        failure_points: 4,
        failure_points_max: 3,
        trusted_from: 2,
    };
    assert_eq!(settings.weights, weights);
}

#[test]
fn mistakes_about_devices_are_named() {
    let folder = folder("Example");
    for (more, expected) in [
        ("[devices]", "storage: is required where there is `[devices]`"),
        ("[devices]\ndeny = [\"trusted\"]", "devices.deny[0]: "),
        (
            "[devices]\naudience = \"\"",
            "devices.audience: expected a text of 1 to 256 bytes",
        ),
        (
            "[devices.compliance.os_versions_min]\nmacOS = \"14\"",
            "devices.compliance.os_versions_min.macOS: expected the name of an operating system",
        ),
        (
            "[devices.compliance.os_versions_min]\nmacos = \"fourteen\"",
            "devices.compliance.os_versions_min.macos: `fourteen` is not a version, expected one such as `14.2`",
        ),
        (
            "[devices.trust]\ntrusted_from = 101",
            "devices.trust.trusted_from: expected 0 to 100, found 101",
        ),
    ] {
        let problems = check(&write(&folder, &format!("{WHOLE}\n{more}")))
            .unwrap_err()
            .to_string();
        assert!(problems.contains(expected), "{more}: {problems}");
    }
}
