//! A real service in a folder of its own, with certificates of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use picket_proto::v1;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tonic::transport::{Channel, Endpoint};

/// Long enough for a slow machine; every wait ends with what it waits for.
const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A certificate authority of the test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, "Picket development only");
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(parameters, key),
            pem,
        }
    }

    pub(crate) fn identity(&self, spiffe_id: &str) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters
            .subject_alt_names
            .push(SanType::URI(spiffe_id.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client's TLS configuration, with or without a certificate.
    pub(crate) fn client(
        &self,
        identity: Option<&Identity>,
        version: &'static SupportedProtocolVersion,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The files that a service needs.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let server = authority.identity("spiffe://example.org/policy-service");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", &authority.pem);
        write("service.pem", &server.certificate);
        write("service-key.pem", &server.key);
        write("audit-key", KEY);
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")).unwrap() {
            let entry = entry.unwrap();
            // Their tests and examples are no part of them.
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), policies.join(entry.file_name())).unwrap();
            }
        }
        write(
            "service.toml",
            r#"
            [grpc]
            listen = "127.0.0.1:0"
            certificate_file = "service.pem"
            key_file = "service-key.pem"
            client_ca_file = "ca.pem"
            allowed_callers = ["spiffe://example.org/orders"]
            [http]
            listen = "127.0.0.1:0"
            [policies]
            directory = "policies"
            [decisions]
            permit_valid_for_ms = 60000
            deny_valid_for_ms = 5000
            [audit]
            database_file = "audit.sqlite3"
            key_encryption_key_file = "audit-key"
            "#,
        );
        Self { folder, authority }
    }

    /// With more sections in the configuration.
    pub(crate) fn with(more: &str) -> Self {
        let setup = Self::new();
        let file = setup.path("service.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{text}\n{more}")).unwrap();
        setup
    }

    /// The same, with its policies in the store.
    pub(crate) fn with_stored_policies(more: &str) -> Self {
        let setup = Self::with(more);
        let file = setup.path("service.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let stored = text.replace("directory = \"policies\"", "source = \"store\"");
        assert_ne!(stored, text);
        std::fs::write(file, stored).unwrap();
        setup
    }

    /// Starts a service once nobody holds the lock of its storage: what a test opened itself is closed a moment after it is dropped.
    pub(crate) fn start_when_free(&self) -> Service {
        let lock = std::fs::File::open(self.path("storage.sqlite3.lock")).unwrap();
        lock.lock().unwrap();
        drop(lock);
        self.start()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket-policy-service"));
        command.arg("--config").arg(self.path("service.toml"));
        command
    }

    /// Starts a service that is expected to fail, and returns its exit status and what it said.
    pub(crate) fn start_in_vain(&self) -> (ExitStatus, String) {
        let output = self.command().output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(crate) fn start(&self) -> Service {
        let mut child = self.command().stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut service = Service {
            child,
            killer: None,
            lines,
            grpc: ([0, 0, 0, 0], 0).into(),
            http: ([0, 0, 0, 0], 0).into(),
            authzen: None,
        };
        let ready = service.line("ready");
        service.grpc = ready["grpc_address"].as_str().unwrap().parse().unwrap();
        service.http = ready["http_address"].as_str().unwrap().parse().unwrap();
        service.authzen = ready["authzen_address"]
            .as_str()
            .map(|address| address.parse().unwrap());
        service
    }

    /// A channel whose connection is made with this TLS configuration.
    pub(crate) async fn channel(
        &self,
        service: &Service,
        config: ClientConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        self.channel_from(Ipv4Addr::LOCALHOST, service, config).await
    }

    /// The same from this address.
    pub(crate) async fn channel_from(
        &self,
        own: Ipv4Addr,
        service: &Service,
        config: ClientConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        let address = service.grpc;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let socket = tokio::net::TcpSocket::new_v4()?;
                socket.bind((own, 0).into())?;
                let stream = socket.connect(address).await?;
                // Without it, a call waits 40 ms for the acknowledgement of its first packet.
                stream.set_nodelay(true)?;
                let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://localhost")
            .timeout(DEADLINE)
            .connect_with_connector(connector)
            .await
    }
}

/// A service that runs; it is killed where a test ends early.
pub(crate) struct Service {
    child: Child,
    killer: Option<Child>,
    lines: Receiver<serde_json::Value>,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) authzen: Option<SocketAddr>,
}

impl Service {
    /// The next log line with this message.
    pub(crate) fn line(&self, message: &str) -> serde_json::Value {
        self.line_that(|line| line["message"] == message)
    }

    /// The next log line of which this is true.
    pub(crate) fn line_that(&self, is_it: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap();
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Status line and headers, and the body, of a page of the HTTP front.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Has it killed in a moment: this returns while it still runs.
    pub(crate) fn kill_soon(&mut self) {
        let kill = Command::new("kill")
            .args(["-KILL", &self.child.id().to_string()])
            .spawn();
        self.killer = Some(kill.unwrap());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if let Some(killer) = &mut self.killer {
            let _status = killer.wait();
        }
    }
}

pub(crate) fn request(roles: &[&str], method: &str, route_rule: &str, classification: &str) -> v1::AccessRequest {
    v1::AccessRequest {
        request_id: "request-1".into(),
        sidecar: Some(v1::Sidecar {
            node_id: "node".into(),
            workload: "orders".into(),
        }),
        route_rule: route_rule.into(),
        principal: Some(v1::Principal {
            issuer: "https://issuer.example".into(),
            subject: "a-private-subject".into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            expires_at_s: Some(4_000_000_000),
            actors: vec![],
            is_bound: false,
            ..Default::default()
        }),
        peer: Some(v1::PeerIdentity {
            spiffe_id: "spiffe://example.org/web".into(),
        }),
        action: Some(v1::Action { method: method.into() }),
        resource: Some(v1::Resource {
            host: "orders.example.org".into(),
            path: "/orders/7".into(),
            path_parameters: [("id".to_owned(), "7".to_owned())].into(),
            classification: classification.into(),
            ..v1::Resource::default()
        }),
        context: Some(v1::Context {
            source_address: "10.0.0.1".into(),
            user_agent: "test".into(),
            ..v1::Context::default()
        }),
        ..Default::default()
    }
}
