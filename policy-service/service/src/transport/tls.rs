//! The server side of TLS: version 1.3 only, with a client certificate always.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use picket_service_configuration::GrpcSettings;
use tokio_rustls::TlsAcceptor;

/// A TLS server configuration that accepts handshakes.
#[derive(Clone)]
pub(crate) struct TlsServer(pub(super) TlsAcceptor);

/// The protocol above TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplicationProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl ApplicationProtocol {
    /// Its ALPN id, RFC 7301 §6.
    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds no PEM of the expected kind.
    #[error("{key}: `{file}`: expected {expected} in PEM: {source}")]
    Pem {
        /// The key of the configuration that names the file.
        key: &'static str,
        /// What should be in it.
        expected: &'static str,
        /// The file.
        file: String,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{key}: `{file}`: expected a certificate in PEM, found none")]
    NoCertificate {
        /// The key of the configuration that names the file.
        key: &'static str,
        /// The file.
        file: String,
    },
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    #[error("grpc.certificate_file: `{certificate}`, with grpc.key_file: `{key}`: {source}")]
    Certificate {
        /// The file with the certificate.
        certificate: String,
        /// The file with the key.
        key: String,
        /// Why.
        source: rustls::Error,
    },
    /// TLS 1.3 is not available.
    #[error("TLS 1.3: {0}")]
    Version(#[source] rustls::Error),
    /// A client authority is not usable.
    #[error("{key}: `{file}`: a certificate in it cannot be an authority: {source}")]
    ClientAuthority {
        /// The key of the configuration that names the file.
        key: &'static str,
        /// The file.
        file: String,
        /// Why.
        source: rustls::Error,
    },
    /// The verifier of client certificates cannot be made.
    #[error("client authorities: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

impl TlsServer {
    /// Reads the files that the configuration names.
    pub(crate) fn new(settings: &GrpcSettings, protocol: ApplicationProtocol) -> Result<Self, TlsError> {
        let provider = crypto_provider();
        let roots = certificate_authorities("grpc.client_ca_file", &settings.client_ca_file)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let chain = certificates("grpc.certificate_file", &settings.certificate_file)?;
        let key = PrivateKeyDer::from_pem_file(&settings.key_file)
            .map_err(|source| pem_error("grpc.key_file", "a private key", &settings.key_file, source))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Version)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Certificate {
                certificate: settings.certificate_file.display().to_string(),
                key: settings.key_file.display().to_string(),
                source,
            })?;
        server.alpn_protocols = vec![protocol.name().to_vec()];
        // Without resumption, every connection proves its certificate anew.
        server.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(server))))
    }
}

/// The cryptography of TLS and certificates.
pub(crate) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate authorities in a PEM file that `key` of the configuration names.
pub(crate) fn certificate_authorities(key: &'static str, file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(key, file)? {
        let refused = |source| TlsError::ClientAuthority {
            key,
            file: file.display().to_string(),
            source,
        };
        roots.add(authority).map_err(refused)?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| pem_error(key, "a certificate", file, source))?;
    if certificates.is_empty() {
        let file = file.display().to_string();
        return Err(TlsError::NoCertificate { key, file });
    }
    Ok(certificates)
}

fn pem_error(key: &'static str, expected: &'static str, file: &Path, source: pem::Error) -> TlsError {
    let file = file.display().to_string();
    TlsError::Pem {
        key,
        expected,
        file,
        source,
    }
}
