//! Connections to the server, with TLS wherever it is on another machine.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_state::StorageError;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::backend;

/// A connection string is a line.
const URL_BYTES_MAX: u64 = 8 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection whose other end acknowledges nothing for this long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// Whatever the database's default is, a commit that is acknowledged is durable. It is a statement
/// and no startup parameter: connection poolers refuse those, or leave them out.
const SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = 2000; SET lock_timeout = 2000";

/// What makes connections.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// Reads the connection string.
pub(crate) fn read_url(file: &Path) -> Result<String, StorageError> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(URL_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= URL_BYTES_MAX) => Ok(text.trim().to_owned()),
        Ok(_) => Err(StorageError::Url("the file is larger than a connection string")),
        Err(_) => Err(StorageError::Url("the file cannot be read")),
    }
}

impl Connector {
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, StorageError> {
        check_credentials(url)?;
        // The parser's own message may hold a part of the string.
        let mut config: Config = url.parse().map_err(|_| {
            StorageError::Url(
                "expected a connection string such as `postgres://user:password@host/database`, or `host=… password='…'` \
                 with values that have spaces in quotes",
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(StorageError::Url("the connection string names no host"));
        }
        if config.get_options().is_some() {
            return Err(StorageError::Url(
                "the connection string has `options`: they could make a commit less durable, so they are not accepted",
            ));
        }
        config
            .application_name("picket-policy-service")
            // A standby may not know yet what was ended.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(USER_TIMEOUT);
        let tls = match ca_file {
            Some(file) => {
                config.ssl_mode(SslMode::Require);
                Some(tls(file)?)
            }
            None if is_local(&config) => {
                config.ssl_mode(SslMode::Disable);
                None
            }
            None => {
                return Err(StorageError::Url(
                    "the host is not on this machine, so `storage.postgres_ca_file` is needed for TLS",
                ));
            }
        };
        Ok(Self { config, tls })
    }

    /// A connection that listens to nothing.
    pub(super) async fn connect(&self) -> Result<Client, StorageError> {
        self.connect_hearing(|_| ()).await.map(|(client, _)| client)
    }

    /// A connection whose notifications are told to `hear`, and what ends with it.
    pub(super) async fn connect_hearing(
        &self,
        hear: impl FnMut(&Notification) + Send + 'static,
    ) -> Result<(Client, tokio::task::JoinHandle<()>), StorageError> {
        let (client, driver) = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(backend)?;
                (client, tokio::spawn(drive(connection, hear)))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(handshake)?;
                (client, tokio::spawn(drive(connection, hear)))
            }
        };
        client.batch_execute(SETTINGS).await.map_err(backend)?;
        Ok((client, driver))
    }
}

/// Moves a connection's bytes until it ends; whoever uses it is told of errors there.
async fn drive<S, T>(mut connection: Connection<S, T>, mut hear: impl FnMut(&Notification) + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            hear(&notification);
        }
    }
}

/// Refuses a user name or password with an `@` in it: the parser takes the first one for the end of
/// the password, and what is left of it for the host. Every other character is read as it is meant
/// (RFC 3986 §3.2.1 asks for more).
fn check_credentials(url: &str) -> Result<(), StorageError> {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let Some((_credentials, rest)) = rest.and_then(|rest| rest.split_once('@')) else {
        return Ok(());
    };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let mut keys = parameters
        .split('&')
        .map(|parameter| parameter.split_once('=').map_or(parameter, |(key, _)| key));
    if place.contains('@') || keys.any(|key| key.contains('@')) {
        return Err(StorageError::Url(
            "there is more than one `@`: in a user name or password it must be written as `%40`, and `%` as `%25`",
        ));
    }
    Ok(())
}

/// A connection that failed, with the side and the certificate where TLS is the cause.
fn handshake(error: tokio_postgres::Error) -> StorageError {
    let names = picket_tls::Names {
        server: "the database server",
        authorities: "`storage.postgres_ca_file`",
        name: "the host of the connection string",
        own_certificate: "a connection without a certificate",
        server_authorities: "its own list",
    };
    match picket_tls::describe(&error, &names) {
        Some(meaning) => StorageError::Connection(meaning),
        None => backend(error),
    }
}

/// A Unix socket, or an address of this machine. A name could lead anywhere.
fn is_local(config: &Config) -> bool {
    let hosts = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    });
    hosts && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn tls(ca_file: &Path) -> Result<MakeRustlsConnect, StorageError> {
    let refused = |error: String| StorageError::Authorities(format!("`{}`: {error}", ca_file.display()));
    let authorities = CertificateDer::pem_file_iter(ca_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refused(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("expected a certificate in PEM, found none".to_owned()));
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let error = Connector::new(url, None).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_string_that_cannot_be_used_is_refused_without_being_shown() {
        check("postgres://user:secret@[::1/picket", "expected a connection string");
        check("secret", "expected a connection string");
        check("postgres://user:secret@/picket", "names no host");
        check(
            "postgres://user:secret@localhost/picket?options=-csynchronous_commit%3Doff",
            "has `options`",
        );
    }

    /// Of each, a part of the password would be taken for the host.
    #[test]
    fn an_unescaped_at_sign_in_the_credentials_is_named_as_such() {
        for password in [
            "se@cret", "@secret", "secret@", "se@c@ret", "se@c/ret", "se/c@ret", "se@c?ret", "se?c@ret", "se@c#ret",
            "se@c:ret",
        ] {
            for host in [
                "127.0.0.1/picket",
                "db.example:5432/picket?connect_timeout=3",
                "a,b:1/picket",
            ] {
                for scheme in ["postgres", "postgresql"] {
                    let url = format!("{scheme}://user:{password}@{host}");
                    let error = Connector::new(&url, None).err().unwrap().to_string();
                    assert!(error.contains("must be written as `%40`"), "{url}: {error}");
                    assert!(!error.contains("cret"), "{error}");
                }
            }
        }
        check("postgres://us@er:secret@localhost/picket", "must be written as `%40`");
    }

    #[test]
    fn every_other_character_of_a_password_is_read_as_it_is_meant() {
        for (url, password) in [
            (
                "postgres://user:se%40%2F%3F%23%25%20cret@localhost/picket",
                "se@/?#% cret",
            ),
            (
                "postgres://user:se:/?#[] !$&'()*+,;=-._~\\|cret@localhost/picket",
                "se:/?#[] !$&'()*+,;=-._~\\|cret",
            ),
            ("postgres://user@localhost/picket?password=se@cret", "se@cret"),
            ("host=localhost user=user password='se@cr/et %'", "se@cr/et %"),
        ] {
            let connector = Connector::new(url, None).map_err(|error| error.to_string()).unwrap();
            assert_eq!(connector.config.get_password(), Some(password.as_bytes()), "{url}");
        }
        assert!(Connector::new("postgres://localhost/picket", None).is_ok());
    }

    #[test]
    fn a_server_elsewhere_needs_tls() {
        for host in ["db.example", "10.0.0.1", "localhost,db.example"] {
            check(&format!("postgres://user:secret@{host}/picket"), "postgres_ca_file");
        }
        check("host=localhost hostaddr=10.0.0.1 password=secret", "postgres_ca_file");
        for host in ["127.0.0.1", "localhost", "%2Frun%2Fpostgresql"] {
            assert!(Connector::new(&format!("postgres://user:secret@{host}/picket"), None).is_ok());
        }
    }
}
