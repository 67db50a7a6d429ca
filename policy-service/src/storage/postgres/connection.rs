//! Connections to the server, with TLS wherever it is on another machine.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{StorageError, backend};

/// A connection string is a line.
const URL_BYTES_MAX: u64 = 8 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection whose other end acknowledges nothing for this long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// Whatever the database's default is, a commit that is acknowledged is durable.
const OPTIONS: &str = "-c synchronous_commit=on -c statement_timeout=2000 -c lock_timeout=2000";

/// What makes connections.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// Reads the connection string.
pub(in crate::storage) fn read_url(file: &Path) -> Result<String, StorageError> {
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
        // The parser's own message may hold a part of the string.
        let mut config: Config = url.parse().map_err(|_| {
            StorageError::Url("expected a connection string such as `postgres://user:password@host/database`")
        })?;
        if config.get_hosts().is_empty() {
            return Err(StorageError::Url("the connection string names no host"));
        }
        if config.get_options().is_some() {
            return Err(StorageError::Url(
                "the connection string has `options`, which are Picket's",
            ));
        }
        config
            .options(OPTIONS)
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
                    "the server is not on this machine, so `storage.postgres_ca_file` is needed for TLS",
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
        hear: impl FnMut(&str) + Send + 'static,
    ) -> Result<(Client, tokio::task::JoinHandle<()>), StorageError> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(backend)?;
                Ok((client, tokio::spawn(drive(connection, hear))))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(backend)?;
                Ok((client, tokio::spawn(drive(connection, hear))))
            }
        }
    }
}

/// Moves a connection's bytes until it ends; whoever uses it is told of errors there.
async fn drive<S, T>(mut connection: Connection<S, T>, mut hear: impl FnMut(&str) + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            hear(notification.payload());
        }
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
