use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use picket_model::access::{Action, Context, Principal, Resource, Sidecar};
use picket_risk::Signal;
use serde_json::json;

use super::*;
use picket_service_configuration::{GeoipFiles, ThreatListFile};

mod mmdb;

const START_MS: u64 = 1_700_000_000_000;

/// The section with its defaults, as the configuration makes it.
fn configuration(folder: &Path) -> AssessorSettings {
    AssessorSettings {
        settings: picket_risk::RiskSettings::defaults(),
        state_file: folder.join("risk.state"),
        save_interval_s: 300,
        threat_lists: vec![],
        threat_list_interval_s: 60,
        geoip: GeoipFiles::default(),
    }
}

fn request(subject: &str, address: &str) -> AccessRequest {
    AccessRequest {
        request_id: "r".into(),
        sidecar: Sidecar {
            workload: "orders".into(),
            ..Sidecar::default()
        },
        route_rule: "orders-read".into(),
        principal: Some(Principal {
            issuer: "https://issuer.example".into(),
            subject: subject.into(),
            ..Principal::default()
        }),
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

fn assess(assessor: &Assessor, subject: &str, address: &str) -> Assessed {
    assessor.assess(&request(subject, address), None, Timestamp::from_ms(START_MS))
}

fn permit(assessor: &Assessor, subject: &str, address: &str) {
    assessor.learn(&assess(assessor, subject, address), RequestOutcome::Permitted);
}

fn signals(assessor: &Assessor, subject: &str, address: &str) -> Vec<Signal> {
    let assessed = assess(assessor, subject, address);
    assessed.assessment.signals.iter().map(|fired| fired.signal).collect()
}

#[test]
fn baselines_survive_a_restart_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path());
    let assessor = Assessor::open(&configuration).unwrap();
    for n in 0..200 {
        permit(&assessor, &n.to_string(), "192.0.2.1");
    }
    assessor.save().unwrap();
    let mode = fs::metadata(&configuration.state_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let restarted = Assessor::open(&configuration).unwrap();
    assert_eq!(restarted.principals(), 200);
    assert_eq!(signals(&restarted, "7", "192.0.2.1"), []);
    assert_eq!(signals(&restarted, "7", "198.51.100.1"), [Signal::NewLocation]);
    assert_eq!(signals(&restarted, "unknown", "198.51.100.1"), []);
}

#[test]
fn a_state_file_is_replaced_whole_and_never_written_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path());
    let assessor = Assessor::open(&configuration).unwrap();
    permit(&assessor, "alice", "192.0.2.1");
    let precious = folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, folder.path().join("risk.state.new")).unwrap();
    assessor.save().unwrap();
    assessor.save().unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "nothing is left beside it");
    // What cannot be saved leaves the old state.
    let before = fs::read(&configuration.state_file).unwrap();
    fs::create_dir_all(folder.path().join("risk.state.new/x")).unwrap();
    assert!(assessor.save().is_err());
    assert_eq!(fs::read(&configuration.state_file).unwrap(), before);
}

#[test]
fn a_state_file_that_is_damaged_or_newer_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path());
    let assessor = Assessor::open(&configuration).unwrap();
    permit(&assessor, "alice", "192.0.2.1");
    assessor.save().unwrap();
    let whole = fs::read_to_string(&configuration.state_file).unwrap();
    let refused = |text: &str| {
        fs::write(&configuration.state_file, text).unwrap();
        let error = Assessor::open(&configuration).map(|_| ()).unwrap_err().to_string();
        let prefix = format!("risk.state_file: `{}` ", configuration.state_file.display());
        error.strip_prefix(&prefix).unwrap_or(&error).to_owned()
    };
    assert_eq!(
        refused(&whole.replace("\"version\":2", "\"version\":7")),
        "has version 7, and this program reads versions up to 2"
    );
    assert_eq!(
        refused(&whole.replace("\"permits\":1", "\"permits\":2")),
        "is damaged at line 3: the checksum is another"
    );
    assert_eq!(refused("something else\n"), "holds no risk baselines");
    let cut = whole.lines().next().unwrap();
    assert_eq!(refused(&format!("{cut}\n")), "is cut off after line 1");
}

#[test]
fn memory_is_bounded_over_all_shards() {
    let folder = tempfile::tempdir().unwrap();
    let mut configuration = configuration(folder.path());
    configuration.settings.principals_max = 1000;
    let assessor = Assessor::open(&configuration).unwrap();
    for n in 0..20_000 {
        permit(&assessor, &n.to_string(), "192.0.2.1");
    }
    assert!(
        (900..=1000).contains(&assessor.principals()),
        "{}",
        assessor.principals()
    );
}

fn with_lists(folder: &Path, lists: &[(&str, &str)]) -> AssessorSettings {
    let mut configuration = configuration(folder);
    for (name, text) in lists {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        configuration.threat_lists.push(ThreatListFile {
            name: (*name).to_owned(),
            file,
        });
    }
    configuration
}

#[test]
fn threat_lists_are_read_again_when_they_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = with_lists(folder.path(), &[("a", "192.0.2.0/24\n"), ("b", "198.51.100.1\n")]);
    let assessor = Assessor::open(&configuration).unwrap();
    let listed = |address| signals(&assessor, "alice", address) == [Signal::ListedAddress];
    assert!(listed("192.0.2.9") && listed("198.51.100.1") && !listed("203.0.113.1"));
    assert!(assessor.reload_threat_lists().is_empty());
    // Other lengths, so that the clock's resolution does not matter.
    fs::write(folder.path().join("a"), "203.0.113.0/24\n2001:db8::/32\n").unwrap();
    let reloads = assessor.reload_threat_lists();
    assert_eq!(reloads.len(), 1);
    assert_eq!(
        (reloads[0].name.as_str(), *reloads[0].networks.as_ref().unwrap()),
        ("a", 2)
    );
    assert!(listed("203.0.113.1") && listed("2001:db8::1") && listed("198.51.100.1") && !listed("192.0.2.9"));
    assert!(assessor.reload_threat_lists().is_empty());
}

#[test]
fn a_threat_list_that_is_broken_leaves_the_old_one_in_place_and_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = with_lists(folder.path(), &[("a", "192.0.2.0/24\n")]);
    let assessor = Assessor::open(&configuration).unwrap();
    let file = folder.path().join("a");
    let listed = || signals(&assessor, "alice", "192.0.2.9") == [Signal::ListedAddress];
    let told = |change: &dyn Fn()| {
        change();
        let reloads = assessor.reload_threat_lists();
        assert!(listed());
        assert!(assessor.reload_threat_lists().is_empty(), "told once");
        reloads[0].networks.as_ref().unwrap_err().to_string()
    };
    let error = told(&|| fs::write(&file, "198.51.100.0/24\n<html>\n").unwrap());
    assert!(
        error.contains("line 2: `<html>`: expected a network such as"),
        "{error}"
    );
    let error = told(&|| fs::write(&file, "").unwrap());
    assert!(error.ends_with("`: the file is empty"), "{error}");
    let error = told(&|| fs::remove_file(&file).unwrap());
    assert!(error.contains("cannot read: "), "{error}");
    fs::write(&file, "# none any more\n").unwrap();
    assert_eq!(*assessor.reload_threat_lists()[0].networks.as_ref().unwrap(), 0);
    assert!(!listed());
}

#[test]
fn a_threat_list_that_is_broken_at_the_start_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = with_lists(folder.path(), &[("a", "192.0.2.0/24\nx\n")]);
    let error = Assessor::open(&configuration).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("risk.threat_lists: `"), "{error}");
    assert!(error.contains("line 2: `x`"), "{error}");
}

#[test]
fn addresses_are_looked_up_in_the_databases_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, database: Vec<u8>| {
        let file = folder.path().join(name);
        fs::write(&file, database).unwrap();
        Some(file)
    };
    let country = [("192.0.2.0/24", json!({"country": {"iso_code": "DE"}, "x": [1, "y"]}))];
    let city = [
        (
            "192.0.2.0/25",
            json!({"country": {"iso_code": "AT"}, "location": {"latitude": 52.5, "longitude": 13.25}}),
        ),
        (
            "2001:db8::/32",
            json!({"country": {"iso_code": "FR"}, "location": {"latitude": 95.0, "longitude": 2.0}}),
        ),
    ];
    let asn = [("192.0.0.0/16", json!({"autonomous_system_number": 3320}))];
    let files = GeoipFiles {
        country: write("country.mmdb", mmdb::database("Test-Country", &country)),
        city: write("city.mmdb", mmdb::database("Test-City", &city)),
        asn: write("asn.mmdb", mmdb::database("Test-ASN", &asn)),
    };
    let geoip = Geoip::open(&files).unwrap();
    let look_up = |address: &str| {
        let found = geoip.look_up(address.parse().ok());
        (
            found.country.map(|country| country.to_string()),
            found.autonomous_system,
            found.coordinates,
        )
    };
    let coordinates = picket_risk::Coordinates::new(52.5, 13.25);
    assert_eq!(look_up("192.0.2.1"), (Some("DE".into()), Some(3320), coordinates));
    assert_eq!(
        look_up("::ffff:192.0.2.1"),
        (Some("DE".into()), Some(3320), coordinates)
    );
    assert_eq!(look_up("192.0.2.200"), (Some("DE".into()), Some(3320), None));
    assert_eq!(look_up("192.0.77.1"), (None, Some(3320), None));
    // What is not on the globe is not known.
    assert_eq!(look_up("2001:db8::1"), (Some("FR".into()), None, None));
    assert_eq!(look_up("203.0.113.1"), (None, None, None));
    assert_eq!(look_up("not an address"), (None, None, None));
    let bad = GeoipFiles {
        asn: write("bad.mmdb", b"no database".to_vec()),
        ..files
    };
    let error = Geoip::open(&bad).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("risk.geoip_asn_file: `"), "{error}");
    assert!(error.contains("bad.mmdb` is no MaxMind database: "), "{error}");
}

#[test]
fn a_database_makes_countries_and_travel_of_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let place = |country: &str, north: f64, east: f64| json!({"country": {"iso_code": country}, "location": {"latitude": north, "longitude": east}});
    let city = [
        ("192.0.2.0/24", place("DE", 52.5, 13.4)),
        ("198.51.100.0/24", place("JP", 35.7, 139.7)),
    ];
    let file = folder.path().join("city.mmdb");
    fs::write(&file, mmdb::database("Test-City", &city)).unwrap();
    let mut configuration = configuration(folder.path());
    configuration.geoip.city = Some(file);
    let assessor = Assessor::open(&configuration).unwrap();
    permit(&assessor, "alice", "192.0.2.1");
    let found = signals(&assessor, "alice", "198.51.100.1");
    assert_eq!(found, [Signal::NewLocation, Signal::ImpossibleTravel]);
}

#[test]
fn validity_shrinks_with_risk_and_never_grows() {
    let folder = tempfile::tempdir().unwrap();
    let mut configuration = with_lists(folder.path(), &[("a", "192.0.2.0/24\n")]);
    let valid = |configuration: &AssessorSettings, address: &str, configured_ms| {
        let assessor = Assessor::open(configuration).unwrap();
        permit(&assessor, "alice", "203.0.113.1");
        let assessed = assess(&assessor, "alice", address);
        assessor.valid_for_ms(&assessed.assessment, configured_ms)
    };
    assert_eq!(valid(&configuration, "203.0.113.1", 900_000), 300_000);
    assert_eq!(valid(&configuration, "203.0.113.1", 5_000), 5_000);
    assert_eq!(valid(&configuration, "198.51.100.1", 900_000), 60_000);
    assert_eq!(valid(&configuration, "198.51.100.1", 5_000), 5_000);
    assert_eq!(valid(&configuration, "192.0.2.1", 900_000), 0);
    configuration.settings.mode = picket_risk::RiskMode::Learning;
    assert_eq!(valid(&configuration, "192.0.2.1", 900_000), 900_000);
}
