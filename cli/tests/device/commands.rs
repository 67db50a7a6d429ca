use std::net::TcpListener;
use std::path::{Path, PathBuf};

use picket_policy_service::service;
use picket_service_configuration as configuration;

use crate::support::{Answer, keys, picket, text};

const ISSUER: &str = "https://issuer.example";

struct Service {
    _folder: tempfile::TempDir,
    keys: PathBuf,
    port: u16,
}

impl Service {
    /// Starts it on a thread of the test's process, where it stays. It can be one only, as it owns the process's log.
    fn start() -> Self {
        let (folder, keys) = keys();
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = free_port();
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-service/policies");
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
            roles = ["operator", "reporter"]
            [http]
            listen = "127.0.0.1:{}"
            [policies]
            directory = "{}"
            [audit]
            database_file = "audit.sqlite3"
            key_encryption_key_file = "audit-key"
            [devices.compliance]
            management_required = true
            [storage]
            sqlite_file = "storage.sqlite3"
            [log]
            level = "error"
            "#,
            free_port(),
            policies.display()
        );
        std::fs::write(&file, document).unwrap();
        let configuration = configuration::check(&file).unwrap();
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

    fn picket_as(&self, workload: &str, command: &[&str]) -> Answer {
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
        picket(&[&["device"], command, &service].concat())
    }

    fn picket(&self, command: &[&str]) -> Answer {
        self.picket_as("web", command)
    }

    fn prove(&self, key: &str, challenge: &str) -> Answer {
        let key = self.keys.join(key);
        picket(&["device", "prove", "--device-key", text(&key), "--challenge", challenge])
    }

    fn invite(&self, label: &str) -> String {
        let command = ["invite", "--issuer", ISSUER, "--subject", "alice", "--label", label];
        let answer = self
            .picket(&[command.as_slice(), &["--output", "json"]].concat())
            .json();
        assert_eq!(answer["audience"], "picket-policy-service");
        answer["challenge"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_device_is_enrolled_reported_trusted_and_retired() {
    let service = Service::start();
    let challenge = service.invite("the laptop\u{1b}[2J");
    let proof = service.prove("token-es256-key.pem", &challenge);
    proof.expect(0);
    let proof = proof.stdout.trim();
    let enrolled = service.picket(&["enroll", proof, "--output", "json"]).json();
    let id = enrolled["id"].as_str().unwrap();
    assert_eq!(
        (&enrolled["state"], &enrolled["trust"]["score"]),
        (&"enrolled".into(), &0.into())
    );
    // The proof is used up.
    let again = service.picket(&["enroll", proof]);
    again.expect(3);
    assert!(again.stderr.contains("there is no such challenge"), "{}", again.stderr);
    // An RSA key is another device.
    let challenge = service.invite("the phone");
    let proof = service.prove("token-rs256-key.pem", &challenge).stdout;
    service.picket(&["enroll", proof.trim()]).expect(0);
    is_reported_and_trusted(&service, id);
    ends(&service, id);
}

fn is_reported_and_trusted(service: &Service, id: &str) {
    for (command, said) in [
        (vec!["trust", id], "trusted"),
        (vec!["trust", id], "unchanged: it was so before"),
        (
            vec![
                "report",
                id,
                "--os",
                "macos",
                "--os-version",
                "14.5",
                "--managed",
                "--failures",
                "1",
            ],
            "reported",
        ),
    ] {
        let answer = service.picket(&command);
        answer.expect(0);
        assert_eq!(answer.stdout, format!("{said}\n"), "{command:?}");
    }
    let certificate = format!("certificate:{}", "0a".repeat(32));
    service.picket(&["add-thumbprint", id, &certificate]).expect(0);
    let shown = service.picket(&["show", &certificate]);
    shown.expect(0);
    for expected in [
        format!("id         {id}\n"),
        format!("known by   {certificate}\n"),
        "posture    macos 14.5, not encrypted, managed, 1 failures\n".to_owned(),
        "state      trusted\n".to_owned(),
        "trust      90, trusted, compliant\n".to_owned(),
        "           +100  the device is trusted\n".to_owned(),
        "            -10  1 checks failed\n".to_owned(),
    ] {
        assert!(shown.stdout.contains(&expected), "{expected}: {}", shown.stdout);
    }
    // What comes from elsewhere moves no cursor.
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
    let list = service.picket(&["list", "--issuer", ISSUER, "--subject", "alice", "--output", "json"]);
    let list = list.json();
    assert_eq!(list["devices"].as_array().unwrap().len(), 2);
    assert_eq!(list["devices"][0]["thumbprints"].as_array().unwrap().len(), 2);
    service.picket(&["remove-thumbprint", id, &certificate]).expect(0);
    service.picket(&["show", &certificate]).expect(3);
}

fn ends(service: &Service, id: &str) {
    for state in ["suspend", "reinstate", "retire"] {
        service.picket(&[state, id]).expect(0);
    }
    let refused = service.picket(&["trust", id]);
    refused.expect(3);
    assert!(refused.stderr.contains("the device is retired"), "{}", refused.stderr);
    let stranger = service.picket_as("orders", &["list"]);
    stranger.expect(3);
    assert!(
        stranger.stderr.contains("it needs the role `reader`"),
        "{}",
        stranger.stderr
    );
    let bad = service.picket(&["add-thumbprint", id, "certificate:0a"]);
    bad.expect(2);
}
