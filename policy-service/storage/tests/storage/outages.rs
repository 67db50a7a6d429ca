//! What PostgreSQL does to its clients, and what they make of it.

use picket_model::session::EndReason;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_state::StorageLocation;
use picket_state::sessions::{ConcurrencyLimit, Session, SessionEnd};
use picket_state::{Change, Fingerprint, NamedBy, PrincipalId, SessionId, StorageError, StoreProbe};

use crate::postgres::Server;
use crate::{confirm, open, postgres_at};

const ISSUER: &str = "https://issuer.example";
const MANY: ConcurrencyLimit = ConcurrencyLimit {
    max: 100,
    first_seen_after_us: 0,
    last_seen_after_us: 0,
};

fn session(name: &str, tenant: &str) -> Session {
    Session {
        id: SessionId::of(ISSUER, NamedBy::SessionId, name),
        principal: PrincipalId::of(ISSUER, "alice"),
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
        tenant: Some(tenant.to_owned()),
        named_by: NamedBy::SessionId,
        name: name.to_owned(),
        fingerprint: Fingerprint::of(&[]),
        first_seen_us: 1,
        last_seen_us: 1,
        ended: None,
    }
}

/// The first column of what a query finds.
async fn query_texts(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Does what must not be done in a transaction, one by one.
async fn execute_each(server: &Server, statements: &[&str]) {
    let url = server.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    for sql in statements {
        client.batch_execute(sql).await.unwrap();
    }
    drop(client);
    driver.await.unwrap().unwrap();
}

/// The server's processes for the program under test on this database.
async fn processes(url: &str) -> BTreeSet<String> {
    let sql = "SELECT pid::text FROM pg_stat_activity
               WHERE application_name = 'picket-policy-service' AND datname = current_database()";
    query_texts(url, sql).await.into_iter().collect()
}

/// Returns once a probe fails, with the reason.
async fn until_it_fails(store: &dyn StoreProbe) -> StorageError {
    for _ in 0..500 {
        if let Err(error) = store.probe().await {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the storage goes on");
}

pub(crate) async fn a_statement_that_is_refused_costs_no_connection(server: &Server, folder: &Path) {
    let url = server.database().await;
    let store = open(&postgres_at(folder, &url)).await;
    confirm(&*store).await;
    store.create(session("1", "acme"), MANY).await.unwrap();
    let before = processes(&url).await;
    for number in 0..20 {
        // PostgreSQL's texts hold no NUL.
        let refused = store.create(session(&number.to_string(), "a\0b"), MANY).await;
        assert!(matches!(refused, Err(StorageError::Statement(_))), "{refused:?}");
        let found = store.session(session("1", "").id).await.unwrap();
        assert_eq!(found, Some(session("1", "acme")));
    }
    assert_eq!(processes(&url).await, before);
}

pub(crate) async fn where_nothing_can_be_written_nothing_is_confirmed(server: &Server, folder: &Path) {
    let url = server.database().await;
    let store = open(&postgres_at(folder, &url)).await;
    confirm(&*store).await;
    // What a standby is, and a server that somebody has set so: it reads and does not write.
    execute_each(
        server,
        &[
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        ],
    )
    .await;
    let error = until_it_fails(&*store).await;
    assert_eq!(error.reason(), "unreachable", "{error}");
    assert!(store.create(session("1", "acme"), MANY).await.is_err());
    let ended = SessionEnd {
        at_us: 1,
        reason: EndReason::Revoked,
        caller: None,
    };
    assert!(store.end(session("1", "").id, ended, i64::MAX).await.is_err());
    assert!(store.probe().await.is_err());
    // Nor does another process start on it.
    assert!(
        picket_storage::open(&postgres_at(folder, &url), Arc::new(|_| ()))
            .await
            .is_err()
    );
    execute_each(
        server,
        &[
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        ],
    )
    .await;
    confirm(&*store).await;
    store.create(session("1", "acme"), MANY).await.unwrap();
}

/// A process of the server that is stopped: its connection is there and says nothing.
struct Stopped(String);

impl Stopped {
    fn stop(pid: &str) -> Self {
        signal("-STOP", pid);
        Self(pid.to_owned())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) {
    let sent = std::process::Command::new("kill").args([signal, pid]).status();
    assert!(sent.unwrap().success());
}

pub(crate) async fn a_connection_that_says_nothing_is_made_anew(server: &Server, folder: &Path) {
    let url = server.database().await;
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&changes);
    let observer = Arc::new(move |change| told.lock().unwrap().push(change));
    let store = picket_storage::open(&postgres_at(folder, &url), observer)
        .await
        .unwrap();
    confirm(&*store).await;
    assert_eq!(*changes.lock().unwrap(), [Change::Anything]);
    // Nobody else says this.
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()";
    let listening = query_texts(&url, sql).await;
    let [pid] = listening.as_slice() else {
        panic!("one connection listens: {listening:?}");
    };
    let stopped = Stopped::stop(pid);
    assert_eq!(store.probe().await.unwrap_err().reason(), "notifications_lost");
    // Each that fails for the silence takes seconds; a new connection is there within milliseconds.
    let mut confirmed = Err(StorageError::TimedOut);
    for _ in 0..100 {
        confirmed = store.probe().await;
        if !matches!(confirmed, Err(StorageError::Connection(_))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    confirmed.unwrap();
    assert_eq!(*changes.lock().unwrap(), [Change::Anything, Change::Anything]);
    assert!(!query_texts(&url, sql).await.is_empty());
    drop(stopped);
}

pub(crate) async fn a_new_session_costs_the_same_however_many_have_ended(server: &Server, folder: &Path) {
    let url = server.database().await;
    let store = open(&postgres_at(folder, &url)).await;
    let principal = hex::encode(PrincipalId::of(ISSUER, "alice").as_bytes());
    let ended = format!(
        "INSERT INTO picket.session
         SELECT sha256(n::text::bytea), decode('{principal}', 'hex'), '', 'alice', NULL, 'sid', '', '', n, n, n, 'revoked', NULL
         FROM generate_series(1, 20000) AS n;
         ANALYZE picket.session"
    );
    crate::postgres::execute(&url, &ended).await;
    store.create(session("1", "acme"), MANY).await.unwrap();
    let sql = "SELECT indexrelname::text FROM pg_stat_user_indexes
               WHERE indexrelname LIKE 'session_by_principal%' AND idx_scan > 0";
    // Counted a moment after the transaction.
    for _ in 0..500 {
        let used = query_texts(&url, sql).await;
        if !used.is_empty() {
            assert_eq!(used, ["session_by_principal_live"]);
            return;
        }
        store.create(session("1", "acme"), MANY).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no index was used");
}

/// A server with a certificate for `localhost`, by an authority of its own.
pub(crate) async fn tls_is_spoken_and_the_server_is_who_it_says(folder: &Path) {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.server("localhost");
    let files = [("server.pem", certificate.as_str()), ("server-key.pem", &key)];
    let settings = [
        "ssl=on",
        "ssl_cert_file=../server.pem",
        "ssl_key_file=../server-key.pem",
    ];
    let server = Server::start_with(&files, &settings);
    let database = server.database().await;
    let at = |host: &str, ca: &str| {
        let url = database.replace("127.0.0.1", host);
        let StorageLocation::Postgres { url_file, .. } = postgres_at(folder, &url) else {
            panic!("not PostgreSQL");
        };
        let ca_file = tempfile::Builder::new().tempfile_in(folder).unwrap();
        let ca_file = ca_file.into_temp_path().keep().unwrap();
        std::fs::write(&ca_file, ca).unwrap();
        StorageLocation::Postgres {
            url_file,
            ca_file: Some(ca_file),
        }
    };
    let ours = authority.certificate.pem();
    let store = open(&at("localhost", &ours)).await;
    confirm(&*store).await;
    store.create(session("1", "acme"), MANY).await.unwrap();
    let sql = "SELECT DISTINCT ssl::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name = 'picket-policy-service'";
    assert_eq!(query_texts(&database, sql).await, ["true"]);
    let other = Authority::new("another").certificate.pem();
    for (host, ca, expected) in [
        (
            "localhost",
            &other,
            "the certificate of the database server is signed by no authority in `storage.postgres_ca_file`",
        ),
        (
            "127.0.0.1",
            &ours,
            "the certificate of the database server is for another name than the host of the connection string",
        ),
    ] {
        let refused = picket_storage::open(&at(host, ca), Arc::new(|_| ()))
            .await
            .err()
            .unwrap();
        assert!(refused.to_string().contains(expected), "{host}: {refused}");
    }
    // A server without TLS is none.
    let plain = Server::start();
    let url = plain.database().await.replace("127.0.0.1", "localhost");
    let StorageLocation::Postgres { ca_file, .. } = at("localhost", &ours) else {
        panic!("not PostgreSQL");
    };
    let StorageLocation::Postgres { url_file, .. } = postgres_at(folder, &url) else {
        panic!("not PostgreSQL");
    };
    let refused = picket_storage::open(&StorageLocation::Postgres { url_file, ca_file }, Arc::new(|_| ())).await;
    assert!(
        refused
            .err()
            .unwrap()
            .to_string()
            .contains("server does not support TLS")
    );
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, key);
        Self { certificate, issuer }
    }

    /// A certificate for this name and its key, PEM.
    fn server(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
