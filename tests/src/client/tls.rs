//! Connections to a listener: as a workload over TLS, or in the clear.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::BoxedIo;
use crate::keys::{Identity, Keys};

/// What the client offers in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// Connects without TLS.
///
/// # Errors
/// When nothing listens there.
pub async fn connect_plain(address: SocketAddr) -> Result<BoxedIo> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Connects as `identity`, or without a certificate.
///
/// # Errors
/// When nothing listens there, or the handshake fails. A server that refuses the certificate says so only later in TLS 1.3.
pub async fn connect_tls(keys: &Keys, identity: Option<&Identity>, alpn: Alpn, address: SocketAddr) -> Result<BoxedIo> {
    connect_with(Arc::new(client_config(keys, identity, alpn)?), address).await
}

/// Connects with a configuration that may remember sessions of earlier connections.
///
/// # Errors
/// As [`connect_tls`].
pub async fn connect_with(config: Arc<ClientConfig>, address: SocketAddr) -> Result<BoxedIo> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config)
        .connect(ServerName::try_from("localhost")?, stream)
        .await
        .with_context(|| format!("the TLS handshake with {address} failed"))?;
    Ok(Box::new(stream))
}

/// The configuration of a client that presents `identity`. It remembers sessions, and resumes them where the server lets it.
///
/// # Errors
/// When a certificate or key cannot be read.
pub fn client_config(keys: &Keys, identity: Option<&Identity>, alpn: Alpn) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(keys.authority()?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match alpn {
        Alpn::Http1 => b"http/1.1".to_vec(),
        Alpn::Http2 => b"h2".to_vec(),
    }];
    Ok(config)
}
