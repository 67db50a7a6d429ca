//! The files of a TLS connection, and why one failed: HTTP/2 says of a certificate that the other side refuses no more than that
//! the call was cancelled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_tls::Names;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ServiceArguments, ServiceError};

/// How long the other side may take to refuse a certificate.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the files that the arguments name, and checks that they fit each other.
pub(super) fn read(arguments: &ServiceArguments) -> Result<ClientConfig, ServiceError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("--ca", &arguments.ca)? {
        roots
            .add(authority)
            .map_err(|error| unusable("--ca", &arguments.ca, &error))?;
    }
    let chain = certificates("--certificate", &arguments.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&arguments.key).map_err(|error| {
        unusable(
            "--key",
            &arguments.key,
            &format!("expected a private key in PEM: {error}"),
        )
    })?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("--ca", &arguments.ca, &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| {
            let certificate = arguments.certificate.display();
            unusable(
                "--key",
                &arguments.key,
                &format!("it does not belong to `--certificate {certificate}`: {error}"),
            )
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(flag: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ServiceError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|error| unusable(flag, file, &format!("expected a certificate in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(unusable(flag, file, &"expected a certificate in PEM, found none"));
    }
    Ok(certificates)
}

fn unusable(flag: &'static str, file: &Path, problem: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::Credentials {
        flag,
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

/// Connects once more, after a failure, and waits for what the other side says of the certificate. `None` where TLS is not the
/// cause.
pub(super) async fn find_failure(arguments: &ServiceArguments, config: ClientConfig) -> Option<String> {
    let authorities = format!("`--ca {}`", arguments.ca.display());
    let own_certificate = format!("the certificate in `--certificate {}`", arguments.certificate.display());
    let names = Names {
        server: "the policy service",
        authorities: &authorities,
        name: "the host of `--address` or the name of `--server-name`",
        own_certificate: &own_certificate,
        server_authorities: "its `grpc.client_ca_file`",
    };
    let (host, port) = arguments.host_and_port()?;
    let name = ServerName::try_from(arguments.name(host).to_owned()).ok()?;
    let answer = async {
        let stream = TcpStream::connect((host, port.parse().ok()?)).await.ok()?;
        let mut first = [0];
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            // Only then does the other side look at the certificate, in TLS 1.3; it speaks first in HTTP/2 (RFC 9113 §3.4).
            Ok(mut stream) => stream.read(&mut first).await.err(),
            Err(error) => Some(error),
        }
    };
    let error = tokio::time::timeout(REFUSAL_TIMEOUT, answer).await.ok()??;
    picket_tls::describe(&error, &names)
}
