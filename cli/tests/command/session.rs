//! `picket session`, `picket revoke`, `picket lockdown` and `picket whoami`, against the policy service itself.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use picket_policy_service::service;
use picket_service_configuration as configuration;
use picket_state::StorageLocation;
use picket_state::sessions::{ConcurrencyLimit, Session};
use picket_state::{Fingerprint, NamedBy, PrincipalId, SessionId};

use crate::support::{Answer, keys, picket, text};

const ISSUER: &str = "https://issuer.example";
const OF_ALICE: [&str; 8] = [
    "session",
    "list",
    "--issuer",
    ISSUER,
    "--subject",
    "alice",
    "--output",
    "json",
];

pub(crate) struct Service {
    _folder: tempfile::TempDir,
    pub(crate) keys: PathBuf,
    pub(crate) port: u16,
}

impl Service {
    /// Starts it on a thread of the test's process, where it stays. It can be one only, as it owns the process's log.
    fn start() -> Self {
        let (folder, keys) = keys();
        add_sessions(&keys);
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = free_port();
        let file = keys.join("service.toml");
        let document = format!(
            r#"
            [grpc]
            listen = "127.0.0.1:{port}"
            certificate_file = "orders.pem"
            key_file = "orders-key.pem"
            client_ca_file = "ca.pem"
            allowed_callers = ["spiffe://example.org/orders"]
            [[grpc.callers]]
            spiffe_id = "spiffe://example.org/web"
            roles = ["operator"]
            [[grpc.callers]]
            spiffe_id = "spiffe://example.org/orders"
            roles = ["reporter"]
            [http]
            listen = "127.0.0.1:{}"
            [policies]
            source = "store"
            [audit]
            database_file = "audit.sqlite3"
            key_encryption_key_file = "audit-key"
            [sessions]
            clock_skew_s = 0
            [roles]
            source = "token_and_store"
            [storage]
            sqlite_file = "storage.sqlite3"
            [risk]
            state_file = "risk.state"
            [log]
            level = "error"
            "#,
            free_port()
        );
        std::fs::write(&file, document).unwrap();
        let configuration = configuration::check(&file).unwrap();
        let risk = configuration.risk.clone().unwrap();
        crate::risk::save(&risk.state_file, risk.settings);
        std::thread::spawn(move || service::run(&configuration).unwrap());
        let service = Self {
            _folder: folder,
            keys,
            port,
        };
        let deadline = picket::clock::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(picket::clock::now() < deadline, "the service does not start");
            std::thread::yield_now();
        }
        service
    }

    pub(crate) fn picket_as(&self, workload: &str, command: &[&str]) -> Answer {
        let (ca, certificate, key) = (
            self.keys.join("ca.pem"),
            self.keys.join(format!("{workload}.pem")),
            self.keys.join(format!("{workload}-key.pem")),
        );
        let address = format!("localhost:{}", self.port);
        let service = [
            "--address",
            &address,
            "--ca",
            text(&ca),
            "--certificate",
            text(&certificate),
            "--key",
            text(&key),
        ];
        picket(&[command, &service].concat())
    }

    pub(crate) fn picket(&self, command: &[&str]) -> Answer {
        self.picket_as("web", command)
    }
}

fn id(name: &str) -> SessionId {
    SessionId::of(ISSUER, NamedBy::SessionId, name)
}

/// Sessions that the service finds when it starts.
fn add_sessions(keys: &Path) {
    let now_us = i64::try_from(picket::clock::unix_seconds(picket::clock::now())).unwrap() * 1_000_000;
    let file = keys.join("storage.sqlite3");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = picket_storage::open(&StorageLocation::Sqlite { file }, std::sync::Arc::new(|_| ()))
            .await
            .unwrap();
        for (name, subject) in [("1", "alice"), ("2", "alice"), ("3", "bob\u{1b}[2J")] {
            let session = Session {
                id: id(name),
                principal: PrincipalId::of(ISSUER, subject),
                issuer: ISSUER.to_owned(),
                subject: subject.to_owned(),
                tenant: Some("acme".to_owned()),
                named_by: NamedBy::SessionId,
                name: name.to_owned(),
                fingerprint: Fingerprint::of(&[]),
                first_seen_us: now_us,
                last_seen_us: now_us,
                ended: None,
            };
            let concurrency = ConcurrencyLimit {
                max: 10,
                first_seen_after_us: 0,
                last_seen_after_us: 0,
            };
            store.create(session, concurrency).await.unwrap();
        }
    });
    drop(runtime);
    // The lock is given back when the writer has closed the database.
    let lock = std::fs::File::open(keys.join("storage.sqlite3.lock")).unwrap();
    lock.lock().unwrap();
}

fn statuses(answer: &Answer) -> Vec<String> {
    let answer = answer.json();
    let sessions = answer["sessions"].as_array().unwrap();
    sessions
        .iter()
        .map(|session| session["status"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_operator_looks_revokes_and_locks_down() {
    let service = Service::start();
    crate::revision::activates_and_rolls_back(&service);
    crate::role::assigns_and_withdraws(&service);
    crate::tls::names_the_side_and_the_certificate(&service);
    looks(&service);
    reports_and_explains_risk(&service);
    revokes(&service);
    locks_down(&service);
}

fn looks(service: &Service) {
    let answer = service.picket(&["whoami"]);
    answer.expect(0);
    assert_eq!(answer.stdout, "spiffe://example.org/web  operator\n");
    assert_eq!(
        service.picket_as("orders", &["whoami", "--output", "json"]).json()["roles"][0],
        "sidecar"
    );
    let refused = service.picket_as("orders", &["session", "list"]);
    refused.expect(3);
    assert!(
        refused.stderr.contains("it needs the role `reader`"),
        "{}",
        refused.stderr
    );

    let list = service.picket(&["session", "list"]);
    list.expect(0);
    assert_eq!(list.stdout.lines().count(), 3, "{}", list.stdout);
    assert!(list.stdout.contains("bob\\u{1b}[2J"), "{}", list.stdout);
    let page = service
        .picket(&["session", "list", "-n", "2", "--output", "json"])
        .json();
    let next = page["next"].as_str().unwrap();
    let rest = service.picket(&["session", "list", "--after", next, "--output", "json"]);
    assert_eq!(statuses(&rest), ["live"]);
    assert_eq!(statuses(&service.picket(&OF_ALICE)), ["live", "live"]);
}

fn reports_and_explains_risk(service: &Service) {
    let alice = ["--issuer", ISSUER, "alice"];
    let report = |what: &str, more: &[&str]| service.picket_as("orders", &[&["risk", what], &alice[..], more].concat());
    let failed = report(
        "report-authentication",
        &["--outcome", "failed", "--source-address", "203.0.113.7"],
    );
    failed.expect(0);
    assert_eq!(failed.stdout, "remembered\n");
    let old = report(
        "report-authentication",
        &["--outcome", "failed", "--time", "2020-01-05T12:00:00Z"],
    );
    old.expect(3);
    assert!(
        old.stderr.contains("field `reports[0].time_us`: expected a time"),
        "{}",
        old.stderr
    );
    report("report-authentication", &["--outcome", "failed", "--time", "yesterday"]).expect(2);
    let off = report(
        "report-dynamics",
        &["--session-id", "1", "--keystroke-variance", "0.5", "--output", "json"],
    );
    assert_eq!(off.json()["anomaly_score"], 15);
    report("report-dynamics", &["--keystroke-variance", "0.5"]).expect(2);
    let unknown = [
        "risk",
        "report-dynamics",
        "--issuer",
        ISSUER,
        "nobody",
        "--token-id",
        "t",
        "--touch-area",
        "1",
    ];
    service.picket_as("orders", &unknown).expect(1);
    // Whoever may look may not tell.
    let refused = service.picket(&[&["risk", "report-authentication", "--outcome", "failed"], &alice[..]].concat());
    refused.expect(3);
    assert!(
        refused.stderr.contains("it needs the role `reporter`"),
        "{}",
        refused.stderr
    );

    // The service says what its file says.
    let file = service.keys.join("risk.state");
    let explain = [&["risk", "explain", "--output", "json"], &alice[..]].concat();
    let saved = picket(&[&explain[..], &["--state-file", text(&file)]].concat()).json();
    let asked = service.picket(&explain).json();
    assert_eq!(asked["remembered"], true);
    assert_eq!(asked, saved);
    service
        .picket(&["risk", "explain", "--issuer", ISSUER, "nobody"])
        .expect(1);
    service.picket_as("orders", &explain).expect(3);
    // One of the two is asked.
    picket(&explain).expect(2);
    service
        .picket(&[&explain[..], &["--state-file", text(&file)]].concat())
        .expect(2);
}

fn revokes(service: &Service) {
    let one = id("1").to_string();
    let revoked = service.picket(&["session", "revoke", &one, "--output", "json"]);
    assert_eq!(revoked.json()["changed"], true);
    let shown = service.picket(&["session", "show", &one]);
    shown.expect(0);
    for line in [
        "subject    alice",
        "sid        1",
        "ended by   spiffe://example.org/web",
        "status     revoked",
    ] {
        assert!(
            shown.stdout.lines().any(|found| found == line),
            "{line}\n{}",
            shown.stdout
        );
    }
    let again = service.picket(&["session", "revoke", &one]);
    assert_eq!(again.stdout, "unchanged: it had ended before\n");
    let unknown = service.picket(&["session", "show", "00"]);
    unknown.expect(3);
    assert!(unknown.stderr.contains("64 hexadecimal digits"), "{}", unknown.stderr);

    service
        .picket(&["revoke", "principal", "--issuer", ISSUER, "--subject", "alice"])
        .expect(0);
    assert_eq!(statuses(&service.picket(&OF_ALICE)), ["revoked", "revoked"]);
    let of_acme = ["session", "list", "--tenant", "acme", "--output", "json"];
    assert!(statuses(&service.picket(&of_acme)).contains(&"live".to_owned()));
    service.picket(&["revoke", "tenant", "acme"]).expect(0);
    assert_eq!(statuses(&service.picket(&of_acme)), ["revoked"; 3]);
    service.picket(&["revoke", "everything"]).expect(0);
}

fn locks_down(service: &Service) {
    for (mode, expected) in [("on", true), ("off", false)] {
        service.picket(&["lockdown", mode]).expect(0);
        let shown = service.picket(&["lockdown", "show", "--output", "json"]).json();
        assert_eq!(shown["lockdown"], expected);
    }
    let (log, key) = (service.keys.join("audit.sqlite3"), service.keys.join("audit-key"));
    let tail = picket(&[
        "audit",
        "tail",
        "--database",
        text(&log),
        "--key",
        text(&key),
        "-n",
        "3",
    ]);
    tail.expect(0);
    for expected in ["revoke everything", "lockdown on", "lockdown off"] {
        assert!(tail.stdout.contains(expected), "{}", tail.stdout);
    }
}

#[test]
fn a_service_that_is_not_there_is_named() {
    let (_folder, keys) = keys();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("localhost:{port}");
    let (ca, certificate, key) = (keys.join("ca.pem"), keys.join("web.pem"), keys.join("web-key.pem"));
    let files = [
        "--ca",
        text(&ca),
        "--certificate",
        text(&certificate),
        "--key",
        text(&key),
    ];
    let answer = picket(&[&["whoami", "--address", address.as_str()], &files[..]].concat());
    answer.expect(3);
    assert!(answer.stderr.contains(&address), "{}", answer.stderr);
    let answer = picket(&[&["whoami", "--address", "nowhere"], &files[..]].concat());
    answer.expect(3);
    assert!(
        answer.stderr.contains("`nowhere` is not an address"),
        "{}",
        answer.stderr
    );
}
